"""Signatures that stand on tool calls, as Google's Chat endpoint gives them: they find their way back to their call."""

import json
from typing import Any

import pytest

from penstock.core.dialects.chat.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.chat.passthrough import Passthrough
from penstock.core.dialects.lanes import ObservedPassthrough
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import Thought, ToolCall
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningCache, ReasoningRecorder, ReasoningScope
from penstock.core.reasoning.tool_call_signatures import SKIPPED, carried_signature, extra_of
from tests.core.dialects.chat_grammar import check_messages, frames

GEMINI = Profile(call_signatures=True)
EXTRA = {"google": {"thought_signature": "c2ln"}}
LOST = json.loads(bytes(SKIPPED))
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def call(index: int, **members: Any) -> dict[str, Any]:
    return {
        "index": index,
        "id": f"c{index}",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps({"a": index})},
        **members,
    }


CALLS = [call(0, extra_content=EXTRA), call(1)]


def stream() -> bytes:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "tool_calls": [CALLS[0]]},
        {"tool_calls": [CALLS[1]]},
    ]
    chunks = [{"id": "x", "model": "up", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"id": "x", "model": "up", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return (
        b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in [*chunks, end])
        + b"data: [DONE]\n\n"
    )


def sent(
    rows: list[dict[str, Any]], caller: str, recall: ReasoningScope | None = None
) -> list[dict[str, Any]]:
    """The calls as they go upstream."""
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "go"}, *rows]}
    envelope = read_envelope(json.dumps(body).encode(), "messages" if caller == "messages" else "chat")
    prepared = prepare(envelope, caller=caller, upstream="chat", model="up", profile=GEMINI, reasoning=recall)
    return json.loads(prepared.body)["messages"][1]["tool_calls"]


@pytest.mark.parametrize("size", [1, 30, 10_000])
def test_a_messages_caller_brings_them_back(size: int) -> None:
    data = stream()
    reader = ResponseDecoder(profile=GEMINI)
    events = [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]
    thought, *calls = fold([*events, *reader.finish()]).parts
    assert isinstance(thought, Thought)
    assert json.loads(bytes(extra_of(thought) or b"")) == EXTRA
    assert [part.id for part in calls if isinstance(part, ToolCall)] == ["c0", "c1"]
    writer = caller_side("messages").ResponseEncoder(
        model="m", reply_id="r", created=1, include_usage=True, input_estimate=1
    )
    out = writer.write(events)
    check_messages(out)
    deltas = [event["delta"] for event in frames(out) if event["type"] == "content_block_delta"]
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "", "signature": deltas[0]["signature"]},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 0}},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    ]
    results = [{"type": "tool_result", "tool_use_id": f"c{at}", "content": "done"} for at in (0, 1)]
    rows: list[dict[str, Any]] = [
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": results},
    ]
    assert [row.get("extra_content") for row in sent(rows, "messages")] == [EXTRA, None]
    rows[0]["content"] = blocks[1:]
    assert [row.get("extra_content") for row in sent(rows, "messages")] == [LOST, None]


def test_a_whole_answer_has_them_too() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": CALLS}
    whole = {
        "id": "x",
        "model": "up",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
    }
    thought = fold(decode_response(json.dumps(whole).encode(), GEMINI)).parts[0]
    assert isinstance(thought, Thought)
    assert json.loads(bytes(extra_of(thought) or b"")) == EXTRA


def test_they_are_kept_for_a_chat_caller_that_drops_them() -> None:
    recall = ReasoningScope(ReasoningCache(1 << 20), "user", "provider")
    lane = ObservedPassthrough(
        Passthrough(model=None, withhold_usage=False),
        ResponseDecoder(profile=GEMINI),
        ReasoningRecorder(recall),
    )
    assert lane.feed(stream()) + lane.finish() == stream()
    dropped: list[dict[str, Any]] = [call(0), call(1)]
    rows: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": dropped}]
    rows += ({"role": "tool", "tool_call_id": f"c{at}", "content": "done"} for at in (0, 1))
    assert [row.get("extra_content") for row in sent(rows, "chat", recall)] == [EXTRA, None]
    forgotten = ReasoningScope(ReasoningCache(0), "user", "provider")
    assert [row.get("extra_content") for row in sent(rows, "chat", forgotten)] == [LOST, None]
    own = [call(0, extra_content={"x": 1}), call(1)]
    rows[0]["tool_calls"] = own
    assert sent(rows, "chat", recall) == own
    offering = {"model": "m", "messages": [{"role": "user", "content": "go"}], "tools": TOOLS}
    envelope = read_envelope(json.dumps(offering).encode(), "chat")
    assert (
        prepare(
            envelope, caller="chat", upstream="chat", model="m", profile=GEMINI, reasoning=recall
        ).reasoning
        is recall
    )


def test_what_is_none_of_them_says_nothing() -> None:
    for thought in (
        Thought("x"),
        Thought("", "EuSig"),
        Thought("", "gw1.WyJ1cCIsIltdIl0"),
        Thought("", "gw1.WyJ1cCIsInt9Il0"),
    ):
        assert extra_of(thought) is None
    assert extra_of(Thought("", carried_signature("up", SKIPPED))) == SKIPPED
