"""Answers of a Messages upstream that is not Anthropic: what it signed says whose it is, on every way that it crosses."""

import json

import pytest

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.interface import Prepared
from penstock.core.dialects.lanes import Crossing, stream_lane, whole_reply
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.request import Thought
from penstock.core.profile import DEFAULT_PROFILE
from penstock.core.reasoning.maker import maker_mark

MARK = maker_mark("minimax")
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "theirs"}
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "x", "stop_reason": "end_turn",
    "content": [SIGNED, {"type": "text", "text": "there"}], "usage": {"input_tokens": 1, "output_tokens": 2},
}  # fmt: skip


def frame(**event: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(event).encode()


STREAM = b"".join(
    [
        frame(type="message_start", message={**MESSAGE, "content": []}),
        frame(type="content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        frame(type="content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        frame(type="content_block_delta", index=0, delta={"type": "signature_delta", "signature": "theirs"}),
        frame(type="content_block_stop", index=0),
        frame(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
        frame(type="message_stop"),
    ]
)


def crossing(caller: str) -> Crossing:
    return Crossing(
        caller_side(caller), upstream_side("messages"), caller == "messages", DEFAULT_PROFILE, "public", "id_1", 7
    )  # fmt: skip


def envelope(caller: str) -> Envelope:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    return read_envelope(json.dumps(body).encode(), caller)


@pytest.mark.parametrize("caller", ["messages", "chat"])
@pytest.mark.parametrize("mark", [MARK, ""])
def test_a_stream(caller: str, mark: str) -> None:
    prepared = Prepared(b"", translated=caller != "messages", mark=mark)
    lane = stream_lane(crossing(caller), envelope(caller), prepared, b"text/event-stream")
    out = lane.feed(STREAM) + lane.finish()
    assert (MARK.encode() + b"theirs" in out) is bool(mark)
    assert lane.done


@pytest.mark.parametrize("mark", [MARK, ""])
def test_a_whole_answer(mark: str) -> None:
    body = json.dumps(MESSAGE).encode()
    reply = whole_reply(crossing("chat"), Prepared(b"", translated=True, mark=mark), body)
    thought = reply.parts[0]
    assert isinstance(thought, Thought)
    assert thought.signature == mark + "theirs"


def test_blocks_of_a_history_that_say_nothing_elsewhere() -> None:
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "compaction", "content": text} for text in ("so far", None)]},
        {"role": "user", "content": "y"},
    ]  # fmt: skip
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode()
    request, losses = caller_side("messages").decode_request(body)
    assert [[getattr(part, "text", "") for part in turn.parts] for turn in request.turns] == [
        ["x"], ["so far"], ["y"],
    ]  # fmt: skip
    assert [(loss.field, loss.outcome) for loss in losses] == [("messages.compaction", "text")]
