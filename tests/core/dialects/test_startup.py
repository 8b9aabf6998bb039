"""What has no content, frame by frame, in every dialect: beginnings, and ends that explain nothing."""

import msgspec
import pytest

from penstock.core.dialects.registry import caller_side

PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def data(value: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)


def chunk(delta: object, **rest: object) -> bytes:
    return data({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **rest}]})


def block(**fields: object) -> bytes:
    return data({"type": "content_block_start", "index": 0, "content_block": fields})


def item(**fields: object) -> bytes:
    return data({"type": "response.output_item.added", "output_index": 0, "item": fields})


def part(kind: str = "content_part", **fields: object) -> bytes:
    return data({"type": f"response.{kind}.added", "part": fields})


SILENT = {"type": "message", "content": [{"type": "output_text", "text": ""}]}


def ended(*items: object) -> bytes:
    return data({"type": "response.completed", "response": {"status": "completed", "output": items}})


def item_done(item: object) -> bytes:
    return data({"type": "response.output_item.done", "item": item})


STARTUP = {
    "chat": [
        chunk({"role": "assistant"}), chunk({"role": "assistant", "content": ""}), chunk({}), chunk(None),
        chunk({"content": None, "tool_calls": [], "refusal": None}), data({"choices": []}),
        data({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), b": OPENROUTER PROCESSING\n\n",
        chunk({}, finish_reason="stop"), b"data: [DONE]\n\n",
    ],
    "messages": [
        data({"type": "message_start", "message": {"model": "m", "content": []}}), PING, b": x\n\n",
        block(type="text", text=""), block(type="thinking", thinking="", signature=""),
        block(type="tool_use", id="t", name="f", input={}), PING + block(type="text", text=""),
        data({"type": "content_block_stop", "index": 0}), data({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        data({"type": "message_stop"}),
    ],
    "responses": [
        data({"type": "response.created", "response": {}}), data({"type": "response.queued", "response": {}}),
        data({"type": "response.in_progress", "response": {"instructions": "x" * 99}}),
        item(type="message", content=[]), item(type="reasoning", summary=[]), item(type="function_call", arguments=""),
        item(type="custom_tool_call", input=""), part(type="output_text", text=""),
        part("reasoning_summary_part", type="summary_text", text=""), part(type="refusal", refusal=""), b": x\n\n",
        data({"type": "response.content_part.done", "part": {"type": "output_text", "text": ""}}),
        data({"type": "response.output_text.done", "text": ""}), ended(), ended(SILENT), item_done(SILENT),
    ],
}  # fmt: skip
CONTENT = {
    "chat": [
        chunk({"content": "x"}), chunk({"reasoning_content": "x"}), chunk({"refusal": "x"}), chunk({"audio": {"id": "a"}}),
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
        chunk({}, finish_reason="length"), chunk({}, finish_reason="content_filter"), b"data: {]\n\n", data({"usage": {}}),
        data([1]),
        chunk({"role": "assistant"}) + chunk({"content": "x"}), b"data: \xff\n\n",
    ],
    "messages": [
        data({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}),
        data({"type": "message_delta", "delta": {}}), data({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}),
        block(type="text", text="x"), block(type="thinking", thinking="x"), block(type="redacted_thinking", data="x"),
        block(type="server_tool_use", id="s", name="web_search"), block(type="web_search_tool_result", content=[]),
        data({"type": "content_block_start"}), data({"type": "something_new"}), b"data: {]\n\n", PING + data({"type": "x"}),
    ],
    "responses": [
        data({"type": "response.output_text.delta", "delta": "x"}), item(type="web_search_call"), item(type="new"),
        data({"type": "response.output_item.added"}), data({"type": "response.content_part.added"}),
        part(type="output_text", text="x"), data({"type": "response.completed", "response": {}}),
        ended({"type": "reasoning"}), ended({**SILENT, "content": [{"type": "output_text", "text": "x"}]}),
        ended({**SILENT, "content": [{"type": "refusal", "refusal": "x"}]}), item_done({"type": "function_call"}),
        data({"type": "response.incomplete", "response": {"output": []}}),
        data({"type": "response.output_text.done", "text": "x"}),
        data({"type": "response.function_call_arguments.delta", "delta": "{"}), b"data: {]\n\n", data({"type": "new"}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("dialect", STARTUP)
def test_startup_says_nothing_of_the_answer(dialect: str) -> None:
    says_nothing = caller_side(dialect).says_nothing
    for frame in STARTUP[dialect]:
        assert says_nothing(frame), frame
    assert says_nothing(b"".join(STARTUP[dialect]))
    assert says_nothing(b"")


@pytest.mark.parametrize("dialect", CONTENT)
def test_content_does(dialect: str) -> None:
    says_nothing = caller_side(dialect).says_nothing
    for frame in CONTENT[dialect]:
        assert not says_nothing(frame), frame
        assert not says_nothing(STARTUP[dialect][0] + frame), frame
