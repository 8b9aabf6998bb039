"""What comes before content, frame by frame, in every dialect."""

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


STARTUP = {
    "chat": [
        chunk({"role": "assistant"}), chunk({"role": "assistant", "content": ""}), chunk({}), chunk(None),
        chunk({"content": None, "tool_calls": [], "refusal": None}), data({"choices": []}),
        data({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), b": OPENROUTER PROCESSING\n\n",
    ],
    "messages": [
        data({"type": "message_start", "message": {"model": "m", "content": []}}), PING, b": x\n\n",
        block(type="text", text=""), block(type="thinking", thinking="", signature=""),
        block(type="tool_use", id="t", name="f", input={}), PING + block(type="text", text=""),
    ],
    "responses": [
        data({"type": "response.created", "response": {}}), data({"type": "response.queued", "response": {}}),
        data({"type": "response.in_progress", "response": {"instructions": "x" * 99}}),
        item(type="message", content=[]), item(type="reasoning", summary=[]), item(type="function_call", arguments=""),
        item(type="custom_tool_call", input=""), part(type="output_text", text=""),
        part("reasoning_summary_part", type="summary_text", text=""), part(type="refusal", refusal=""), b": x\n\n",
    ],
}  # fmt: skip
CONTENT = {
    "chat": [
        chunk({"content": "x"}), chunk({"reasoning_content": "x"}), chunk({"refusal": "x"}), chunk({"audio": {"id": "a"}}),
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
        chunk({}, finish_reason="stop"), b"data: [DONE]\n\n", b"data: {]\n\n", data({"usage": {}}), data([1]),
        chunk({"role": "assistant"}) + chunk({"content": "x"}), b"data: \xff\n\n",
    ],
    "messages": [
        data({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}),
        data({"type": "content_block_stop", "index": 0}), data({"type": "message_delta", "delta": {}}),
        block(type="text", text="x"), block(type="thinking", thinking="x"), block(type="redacted_thinking", data="x"),
        block(type="server_tool_use", id="s", name="web_search"), block(type="web_search_tool_result", content=[]),
        data({"type": "content_block_start"}), data({"type": "something_new"}), b"data: {]\n\n", PING + data({"type": "x"}),
    ],
    "responses": [
        data({"type": "response.output_text.delta", "delta": "x"}), item(type="web_search_call"), item(type="new"),
        data({"type": "response.output_item.added"}), data({"type": "response.content_part.added"}),
        part(type="output_text", text="x"), data({"type": "response.completed", "response": {}}),
        data({"type": "response.function_call_arguments.delta", "delta": "{"}), b"data: {]\n\n", data({"type": "new"}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("dialect", STARTUP)
def test_startup_says_nothing_of_the_answer(dialect: str) -> None:
    is_startup = caller_side(dialect).is_startup
    for frame in STARTUP[dialect]:
        assert is_startup(frame), frame
    assert is_startup(b"".join(STARTUP[dialect]))
    assert is_startup(b"")


@pytest.mark.parametrize("dialect", CONTENT)
def test_content_does(dialect: str) -> None:
    is_startup = caller_side(dialect).is_startup
    for frame in CONTENT[dialect]:
        assert not is_startup(frame), frame
        assert not is_startup(STARTUP[dialect][0] + frame), frame
