"""A tool loop of a caller that drops reasoning, which its provider wants to see again."""

from typing import Any

import msgspec
import pytest

from tests.service.running_service import House

_TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
_CALL = {"id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
_LOOP: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "toolu_1", "content": "2"},
]

_BLOCKS = [
    {"type": "thinking", "thinking": "I add.", "signature": "c2ln"},
    {"type": "text", "text": "Let me see."},
    {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
]
_REPLY: dict[str, Any] = {
    "id": "msg_up",
    "type": "message",
    "role": "assistant",
    "model": "up-messages",
    "content": _BLOCKS,
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 5},
}
_DELTAS = (
    ("thinking", {"thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "I add."}),
    ("thinking", None, {"type": "signature_delta", "signature": "c2ln"}),
    ("text", {"text": ""}, {"type": "text_delta", "text": "Let me see."}),
    (
        "tool_use",
        {"id": "toolu_1", "name": "add", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"a":1}'},
    ),
)


def _frame(kind: str, **data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **data}))


def _stream() -> bytes:
    begun: dict[str, Any] = {**_REPLY, "content": [], "stop_reason": None}
    out = [_frame("message_start", message=begun)]
    index = -1
    for kind, start, delta in _DELTAS:
        if start is not None:
            if index >= 0:
                out.append(_frame("content_block_stop", index=index))
            index += 1
            out.append(_frame("content_block_start", index=index, content_block={"type": kind, **start}))
        out.append(_frame("content_block_delta", index=index, delta=delta))
    out.append(_frame("content_block_stop", index=index))
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    return b"".join(
        [*out, _frame("message_delta", delta=end, usage={"output_tokens": 5}), _frame("message_stop")]
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_gets_the_thought_and_its_signature_back(house: House, stream: bool) -> None:
    user, other = await house.user(), await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: (
        asked.stream(_stream()) if stream else asked.answer(msgspec.json.encode(_REPLY))
    )
    fields: dict[str, Any] = {"tools": _TOOLS, "stream": stream, "reasoning_effort": "low"}
    first = await house.ask("chat", "wire-messages", user, **fields)
    assert first.status == 200
    await wire.next()
    await house.ask("chat", "wire-messages", user, messages=_LOOP, **fields)
    asked: Any = (await wire.next()).json
    assert asked["messages"][1]["content"] == [
        *_BLOCKS[:2],
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
    ]
    assert asked["thinking"]["type"] == "enabled"
    await house.ask("chat", "wire-messages", other, messages=_LOOP, **fields)
    strange: Any = (await wire.next()).json
    assert [block["type"] for block in strange["messages"][1]["content"]] == ["text", "tool_use"]
    assert "thinking" not in strange


@pytest.mark.parametrize("stream", [False, True])
async def test_deepseek_gets_reasoning_content_back(house: House, stream: bool) -> None:
    user, other = await house.user(), await house.user()
    wire = house.wires["wire-chat"]
    said = {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "I add.",
        "tool_calls": [_CALL],
    }
    choice: dict[str, Any] = {"index": 0, "finish_reason": "tool_calls"}
    head: dict[str, Any] = {
        "id": "x",
        "created": 7,
        "model": "up-chat",
        "usage": {"prompt_tokens": 11, "completion_tokens": 5},
    }
    whole: dict[str, Any] = {**head, "object": "chat.completion", "choices": [{**choice, "message": said}]}
    chunk: dict[str, Any] = {
        **head,
        "object": "chat.completion.chunk",
        "choices": [{**choice, "delta": said}],
    }
    frames = b"data: %b\n\ndata: [DONE]\n\n" % msgspec.json.encode(chunk)
    wire.script = lambda asked: asked.stream(frames) if stream else asked.answer(msgspec.json.encode(whole))
    fields: dict[str, Any] = {"tools": _TOOLS, "stream": stream}
    answer = await house.ask("chat", "deep-chat", user, **fields)
    assert b"I add." in answer.body
    await wire.next()
    await house.ask("chat", "deep-chat", user, messages=_LOOP, **fields)
    asked: Any = (await wire.next()).json
    assert asked["messages"] == [_LOOP[0], {**_LOOP[1], "reasoning_content": "I add."}, _LOOP[2]]
    await house.ask("chat", "deep-chat", other, messages=_LOOP, **fields)
    strange: Any = (await wire.next()).json
    assert strange["messages"] == [_LOOP[0], {**_LOOP[1], "reasoning_content": ""}, _LOOP[2]]


async def test_none_is_kept_where_the_operator_wants_none(house: House) -> None:
    await house.restart(thoughts_kept=0)
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(msgspec.json.encode(_REPLY))
    for messages in (_LOOP[:1], _LOOP):
        await house.ask("chat", "wire-messages", user, messages=messages, tools=_TOOLS)
    await wire.next()
    asked: Any = (await wire.next()).json
    assert [block["type"] for block in asked["messages"][1]["content"]] == ["text", "tool_use"]


@pytest.mark.parametrize("stream", [False, True])
async def test_who_asks_for_no_text_of_thoughts_gets_none(house: House, stream: bool) -> None:
    user = await house.user()
    said = {"role": "assistant", "content": "Hello.", "reasoning_content": "I ponder."}
    head: dict[str, Any] = {"id": "x", "created": 7, "model": "up-chat"}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    whole = msgspec.json.encode({**head, "choices": [{**choice, "message": said}]})
    frames = b"data: %b\n\ndata: [DONE]\n\n" % msgspec.json.encode(
        {**head, "choices": [{**choice, "delta": said}]}
    )
    house.wires["wire-chat"].script = lambda asked: asked.stream(frames) if stream else asked.answer(whole)
    for display, seen in (("omitted", False), ("summarized", True)):
        thinking = {"type": "adaptive", "display": display}
        answer = await house.ask("messages", "wire-chat", user, stream=stream, thinking=thinking)
        assert b"Hello." in answer.body
        assert (b"I ponder." in answer.body) is seen
        assert b'"thinking"' in answer.body
