"""Thoughts that a caller leaves out: kept by the calls that came of them, and put back where they stood."""

import json
from typing import Any

import pytest

from penstock.core.dialects.chat.decode_response import ResponseDecoder
from penstock.core.dialects.chat.passthrough import Passthrough
from penstock.core.dialects.chat.request_schema import CALL_ID_LIMIT as CHAT_LIMIT
from penstock.core.dialects.lanes import ObservedPassthrough
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import read_envelope
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Failed,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.request import AnyPart, Request, Text, Thought, ToolCall, ToolResult, Turn
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import (
    PlacedReasoning,
    ReasoningCache,
    ReasoningRecorder,
    ReasoningScope,
    restore_reasoning,
)
from penstock.core.tools.call_ids import inward, outward

NATIVE = Profile(native_anthropic=True)
DEEPSEEK = Profile(reasoning_field="reasoning_content", reasoning_required=True)


def heard(*events: AnyEvent, most: int = 1 << 20, limit: int | None = CHAT_LIMIT) -> ReasoningScope:
    recall = ReasoningScope(ReasoningCache(most), "user", "provider", limit)
    hear(recall, *events)
    return recall


def hear(recall: ReasoningScope, *events: AnyEvent) -> None:
    listener = ReasoningRecorder(recall)
    for event in (Started("", ""), *events, Stopped("tool_use")):
        listener.take(event)


def given_back(recall: ReasoningScope, *parts: AnyPart) -> tuple[AnyPart, ...]:
    turns = (Turn("user", (Text("go"),)), Turn("assistant", parts))
    return restore_reasoning(Request("m", turns), recall).turns[1].parts


CALL = ToolCall("c1", "f", '{"a":1}')
THOUGHT = Thought("hm", "sig")
EVENTS = (
    ThoughtDelta("h"),
    ThoughtDelta("m"),
    ThoughtSigned("sig"),
    CallOpened("c1", "f"),
    CallArgs('{"a":1}'),
)


def test_a_thought_comes_back_before_its_call() -> None:
    assert given_back(heard(*EVENTS), CALL) == (THOUGHT, CALL)


def test_it_is_known_by_id_name_and_arguments_however_these_are_written() -> None:
    recall = heard(*EVENTS)
    written = ToolCall("c1", "f", '{ "a" : 1 }')
    assert given_back(recall, written) == (THOUGHT, written)
    for other in (
        ToolCall("c2", "f", '{"a":1}'),
        ToolCall("c1", "g", '{"a":1}'),
        ToolCall("c1", "f", '{"a":2}'),
    ):
        assert given_back(recall, other) == (other,)


@pytest.mark.parametrize("arguments", ["", "{}", " "])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    recall = heard(ThoughtDelta("hm"), CallOpened("c1", "f"))
    call = ToolCall("c1", "f", arguments)
    assert given_back(recall, call) == (Thought("hm"), call)


@pytest.mark.parametrize("arguments", ['{"a":', "[" * 5000])
def test_arguments_that_are_no_json_are_known_by_their_text(arguments: str) -> None:
    recall = heard(ThoughtDelta("hm"), CallOpened("c1", "f"), CallArgs(arguments))
    call = ToolCall("c1", "f", arguments)
    assert given_back(recall, call) == (Thought("hm"), call)


def test_calls_that_are_counted_anew_in_every_turn_keep_their_own_thoughts() -> None:
    recall = heard(ThoughtDelta("one"), CallOpened("call_0", "f"), CallArgs('{"a":1}'))
    hear(recall, ThoughtDelta("two"), CallOpened("call_0", "f"), CallArgs('{"a":2}'))
    first, second = ToolCall("call_0", "f", '{"a":1}'), ToolCall("call_0", "f", '{"a":2}')
    assert given_back(recall, first) == (Thought("one"), first)
    assert given_back(recall, second) == (Thought("two"), second)


@pytest.mark.parametrize("id", ["functions.add:0", "x" * 39, "y" * 200, "gwh_" + "0" * 24])
def test_ids_are_known_as_the_caller_sends_them(id: str) -> None:
    recall = heard(ThoughtDelta("hm"), CallOpened(id, "f"))
    call = ToolCall(inward(outward(id, CHAT_LIMIT)), "f", "{}")
    assert given_back(recall, call) == (Thought("hm"), call)


def test_thoughts_stand_in_the_text_where_they_stood() -> None:
    recall = heard(
        ThoughtDelta("1"),
        ThoughtSigned("s1"),
        TextDelta("abc"),
        ThoughtDelta("2"),
        ThoughtSigned("s2"),
        TextDelta("def"),
        ThoughtRedacted("r"),
        CallOpened("c1", "f"),
        ThoughtSigned("s3"),
        CallOpened("c2", "f"),
        CallOpened("c3", "f"),
    )
    calls = [ToolCall(id, "f", "{}") for id in ("c1", "c2", "c3")]
    assert given_back(recall, Text("abcdef"), *calls) == (
        Thought("1", "s1"),
        Text("abc"),
        Thought("2", "s2"),
        Text("def"),
        Thought(redacted="r"),
        calls[0],
        Thought("", "s3"),
        *calls[1:],
    )
    assert given_back(recall, Text("ab"), Text("cde"), calls[0]) == (
        Thought("1", "s1"),
        Text("ab"),
        Text("c"),
        Thought("2", "s2"),
        Text("de"),
        Thought(redacted="r"),
        calls[0],
    )


def test_what_the_caller_sends_back_itself_stays() -> None:
    recall = heard(*EVENTS)
    own = Thought("hm", "own")
    assert given_back(recall, own, CALL) == (own, CALL)
    assert given_back(recall, Thought(redacted="r"), CALL) == (Thought(redacted="r"), CALL)
    assert given_back(recall, Thought("hm"), CALL) == (THOUGHT, CALL), "without its signature it is no good"
    other = ToolCall("other", "f", "{}")
    assert given_back(recall, Thought("hm"), other) == (Thought("hm"), other)


def test_nothing_is_kept_of_a_reply_that_broke_off() -> None:
    recall = ReasoningScope(ReasoningCache(1 << 20), "user", "provider", CHAT_LIMIT)
    listener = ReasoningRecorder(recall)
    for event in (Started("", ""), *EVENTS, Failed("api_error", "cut")):
        listener.take(event)
    assert not len(recall.thoughts)


def test_nobody_else_gets_it() -> None:
    thoughts = heard(*EVENTS).thoughts
    for user, provider in (("other", "provider"), ("user", "other"), ("userp", "rovider")):
        assert given_back(ReasoningScope(thoughts, user, provider, CHAT_LIMIT), CALL) == (CALL,)


def test_memory_is_bounded_and_the_least_used_goes_first() -> None:
    thoughts = ReasoningCache(3 * 1400)
    placed = {key: (PlacedReasoning(Thought(key * 1000), 0),) for key in "abcd"}
    for key in "abc":
        thoughts.keep(key.encode(), placed[key])
    thoughts.keep(b"c", placed["c"])
    assert thoughts.find(b"a") == placed["a"]
    thoughts.keep(b"d", placed["d"])
    assert [bool(thoughts.find(key.encode())) for key in "abcd"] == [True, False, True, True]
    thoughts.keep(b"e", (PlacedReasoning(Thought("e" * 1000, "s" * 1000, "r" * 1000), 0),))
    assert [bool(thoughts.find(key.encode())) for key in "acde"] == [False, False, False, True]
    thoughts.keep(b"f", (PlacedReasoning(Thought("é" * 1100), 0),))
    assert [bool(thoughts.find(key.encode())) for key in "ef"] == [True, False], "too large by itself"
    nothing = ReasoningCache(0)
    nothing.keep(b"a", placed["a"])
    assert not len(nothing)


# ---- requests

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SENT: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "done"}


def chat(*rows: dict[str, Any], **fields: Any) -> bytes:
    messages = [{"role": "user", "content": "go"}, *rows]
    return json.dumps({"model": "m", "messages": messages, "tools": TOOLS, **fields}).encode()


def sent(body: bytes, upstream: str, profile: Profile, recall: ReasoningScope | None) -> dict[str, Any]:
    prepared = prepare(
        read_envelope(body, "chat"),
        caller="chat",
        upstream=upstream,
        model="m",
        profile=profile,
        reasoning=recall,
    )
    return json.loads(prepared.body)


def test_a_chat_caller_keeps_reasoning_on_at_anthropic() -> None:
    """Without its thought the last turn would switch reasoning off; with it the request is as Anthropic wants it."""
    body = chat(SENT, RESULT, reasoning_effort="low")
    without = sent(body, "messages", NATIVE, None)
    assert "thinking" not in without
    found = sent(body, "messages", NATIVE, heard(*EVENTS))
    assert found["thinking"]["type"] == "enabled"
    thinking, call = found["messages"][1]["content"]
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": "sig"}
    assert call["id"] == "c1"
    assert sent(body, "messages", NATIVE, heard(*EVENTS)) == found


def test_chat_upstreams_get_it_in_the_callers_own_bytes() -> None:
    body = chat({**SENT, "x": 1.50}, RESULT, seed=1)
    found = sent(body, "chat", DEEPSEEK, heard(*EVENTS))
    expected = json.loads(body)
    expected["messages"][1]["reasoning_content"] = "hm"
    assert found == expected
    assert (
        prepare(
            read_envelope(body, "chat"),
            caller="chat",
            upstream="chat",
            model="m",
            profile=Profile(),
            reasoning=heard(*EVENTS),
        ).body
        is read_envelope(body, "chat").body
    )


def test_what_was_forgotten_is_empty_where_it_must_be_there() -> None:
    """Row 8: DeepSeek refuses calls without their reasoning; a restart must not end a conversation."""
    forgotten = heard()
    assert sent(chat(SENT, RESULT), "chat", DEEPSEEK, forgotten)["messages"][1]["reasoning_content"] == ""
    for own in (
        {"reasoning_content": "mine"},
        {"reasoning_content": ""},
        {"reasoning_details": [{"text": "x"}]},
    ):
        row = {**SENT, **own}
        assert sent(chat(row, RESULT), "chat", DEEPSEEK, forgotten)["messages"][1] == row
    optional = Profile(reasoning_field="reasoning_content")
    assert sent(chat(SENT, RESULT), "chat", optional, forgotten)["messages"][1] == SENT
    odd = {**SENT, "tool_calls": [1]}
    assert sent(chat(odd, RESULT), "chat", DEEPSEEK, forgotten)["messages"][1] == odd


def test_a_stream_of_bytes_is_overheard_at_any_split() -> None:
    chunks: list[dict[str, Any]] = [
        {"reasoning_content": "h"},
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "m", "signature": "s"}]},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    frames: list[dict[str, Any]] = [
        {"id": "x", "model": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in chunks
    ]
    frames.append(
        {"id": "x", "model": "up", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    )
    stream = (
        b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames) + b"data: [DONE]\n\n"
    )
    for size in (1, 10, len(stream)):
        recall = ReasoningScope(ReasoningCache(1 << 20), "user", "provider")
        lane = ObservedPassthrough(
            Passthrough(model=None, withhold_usage=False), ResponseDecoder(), ReasoningRecorder(recall)
        )
        out = (
            b"".join(lane.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + lane.finish()
        )
        assert out == stream
        assert (lane.done, lane.ended, lane.started, lane.failure, lane.stop) == (
            True,
            True,
            True,
            None,
            "tool_use",
        )
        assert (lane.sequence, lane.usage.output, lane.output_bytes > 0) == (0, None, True)
        row = sent(chat(SENT, RESULT), "chat", DEEPSEEK, recall)["messages"][1]
        assert row["reasoning_content"] == "hm"
        assert row["reasoning_details"] == [
            {"type": "reasoning.text", "index": 0, "text": "m", "signature": "s"}
        ]


def test_only_a_request_that_offers_tools_is_listened_to() -> None:
    recall = heard()
    for body, upstream, profile, kept in (
        (chat(), "chat", DEEPSEEK, True),
        (chat(), "chat", Profile(), False),
        (chat(tools=None), "messages", NATIVE, False),
        (chat(), "messages", NATIVE, True),
    ):
        prepared = prepare(
            read_envelope(body, "chat"),
            caller="chat",
            upstream=upstream,
            model="m",
            profile=profile,
            reasoning=recall,
        )
        assert (prepared.reasoning is not None) is kept
    messages = json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    prepared = prepare(
        read_envelope(messages, "messages"),
        caller="messages",
        upstream="chat",
        model="m",
        profile=DEEPSEEK,
        reasoning=recall,
    )
    assert prepared.reasoning is None, "callers of Messages send thinking back"


def test_user_turns_and_results_are_left_alone() -> None:
    recall = heard(*EVENTS)
    request = Request("m", (Turn("user", (Text("go"),)), Turn("user", (ToolResult("c1"),))))
    assert restore_reasoning(request, recall) is request


def test_of_a_turn_that_is_longer_than_the_cache_nothing_is_kept_meanwhile() -> None:
    recall = ReasoningScope(ReasoningCache(1000), "user", "provider", CHAT_LIMIT)
    listener = ReasoningRecorder(recall)
    for event in (*EVENTS, CallOpened("c2", "f"), CallArgs("x" * 999)):
        listener.take(event)
    assert not listener._arguments
    assert not listener._calls
    for event in (ThoughtDelta("more"), CallOpened("c3", "f"), Stopped("tool_use")):
        listener.take(event)
    assert len(recall.thoughts) == 0
    assert not listener._pieces
