"""Thoughts without their text: the caller does not see it, and the model gets it back all the same."""

import json
from typing import Any

import pytest

from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.events import (
    CallOpened,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.request import Thought
from penstock.core.profile import Profile
from penstock.core.reasoning.redact import Redaction, unhidden
from penstock.core.reasoning.signature import ReasoningOrigin, read_signature, sign_reasoning
from tests.core.dialects.chat_grammar import check_messages

DEEPSEEK = Profile(reasoning_field="reasoning_content", thinking_switch="thinking")


def ask(display: str, *turns: dict[str, Any]) -> Any:
    rows = [{"role": "user", "content": "hi"}, *turns]
    body = {
        "model": "m",
        "max_tokens": 99,
        "messages": rows,
        "thinking": {"type": "adaptive", "display": display},
    }
    envelope = read_envelope(json.dumps(body).encode(), "messages")
    return prepare(envelope, caller="messages", upstream="chat", model="up", profile=DEEPSEEK)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_text_travels_in_the_signature_and_goes_back(size: int) -> None:
    deltas = [{"reasoning_content": "I "}, {"reasoning_content": "think"}, {"content": "Hello"}]
    frames = [{"id": "x", "model": "up", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"id": "x", "model": "up", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    stream = (
        b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in [*frames, end])
        + b"data: [DONE]\n\n"
    )
    prepared = ask("omitted")
    assert prepared.losses == ()
    writer = caller_side("messages").ResponseEncoder(
        model="m", reply_id="r", created=1, include_usage=True, input_estimate=1
    )
    lane = Translation(
        upstream_side("chat").ResponseDecoder(profile=DEEPSEEK),
        writer,
        hides_reasoning=prepared.hides_reasoning,
    )
    out = b"".join(lane.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + lane.finish()
    check_messages(out)
    assert b'think"' not in out
    data = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]
    deltas = [event["delta"] for event in data if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == ["signature_delta", "text_delta"]
    content = [
        {"type": "thinking", "thinking": "", "signature": deltas[0]["signature"]},
        {"type": "text", "text": "Hello"},
    ]
    again = ask("omitted", {"role": "assistant", "content": content}, {"role": "user", "content": "go on"})
    assert json.loads(again.body)["messages"][1] == {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "I think",
    }


def test_only_who_asks_for_it_gets_none() -> None:
    assert ask("omitted").hides_reasoning
    assert not ask("summarized").hides_reasoning


def test_a_thought_without_a_signature_gets_one() -> None:
    hiding = Redaction()
    for end in (TextDelta("a"), CallOpened("c", "f"), Stopped("end_turn")):
        assert hiding.without_text([ThoughtDelta("hm")]) == []
        signed, last = hiding.without_text([end])
        assert last == end
        assert isinstance(signed, ThoughtSigned)
        assert unhidden(Thought("", signed.signature)).text == "hm"


def test_what_is_not_ours_stays() -> None:
    hiding = Redaction()
    events = [
        ThoughtSigned("EuSig"),
        ThoughtRedacted("r"),
        ThoughtSigned(sign_reasoning(ReasoningOrigin("up", "[]"))),
    ]
    assert hiding.without_text([ThoughtDelta("hm"), *events]) == events
    for thought in (
        Thought("hm", "x"),
        Thought("", "EuSig"),
        Thought(redacted="r"),
        Thought("", sign_reasoning(ReasoningOrigin("up"))),
    ):
        assert unhidden(thought) is thought


def test_a_signature_without_text_is_what_it_was() -> None:
    assert sign_reasoning(ReasoningOrigin("up", "[]")) == "gw1.WyJ1cCIsIltdIl0"
    assert read_signature("gw1.WyJ1cCIsIltdIl0") == ReasoningOrigin("up", "[]")
    assert read_signature(sign_reasoning(ReasoningOrigin("up", "", "hm"))) == ReasoningOrigin("up", "", "hm")


def test_a_thought_that_is_too_long_is_signed_without_its_text() -> None:
    redaction = Redaction(keeps=4)
    assert redaction.without_text([ThoughtDelta("abc"), ThoughtDelta("def"), ThoughtDelta("g")]) == []
    signed = sign_reasoning(ReasoningOrigin("m"))
    assert redaction.without_text([ThoughtSigned(signed)]) == [ThoughtSigned(signed)]
    (event,) = redaction.without_text([ThoughtDelta("abcd"), ThoughtSigned(signed)])
    assert isinstance(event, ThoughtSigned)
    assert unhidden(Thought("", event.signature)).text == "abcd"
