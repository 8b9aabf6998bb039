"""A frame that is not what its dialect says has the same outcome wherever the stream is cut, and is told as unreadable."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.core.dialects.interface import Lane
from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.registry import caller_side, passing_of, upstream_side
from penstock.core.neutral.events import Failed
from penstock.core.profile import DEFAULT_PROFILE
from penstock.core.sse import Frames
from tests.core.dialects.sides import PASSED_THROUGH, stream_of
from tests.core.dialects.test_answered import frames, whole

MALFORMED: dict[str, list[bytes]] = {
    "chat": [
        b"{]",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b'{"choices":',
        b'{"choices":{}}',
        b'{"choices":[[]]}',
        b'{"choices":[{"index":0,"delta":[]}]}',
        b'{"choices":[{"index":"x","delta":{"content":{"a":1}}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":{}}}]}',
        b'{"choices":[],"usage":[1]}',
        b'{"model":{},"choices":[]}',
    ],
    "messages": [
        b"{]",
        b"[]",
        b"\xff\xfe",
        b'{"type":"content_block_start","index":1,"content_block":[]}',
        b'{"type":"content_block_start","index":1,"content_block":["error", "message_stop"]}',
        b'{"type":"content_block_start","index":"x","content_block":{"type":"text"}}',
        b'{"type":"content_block_start","index":1,"content_block":{"type":7}}',
        b'{"type":"content_block_delta","index":0,"delta":[]}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":{"error":1}}}',
        b'{"type":"content_block_stop","index":[]}',
        b'{"type":"message_delta","delta":[]}',
        b'{"type":"message_delta","delta":{"stop_reason":7}}',
        b'{"type":"message_start","message":[]}',
        b'{"type":"content_block_start","index":1,"content_block":',
        b'{"type":"error","error":',
        b'{"type":["message_stop"]}',
    ],
    "responses": [
        b"{]",
        b"[]",
        b"\xff\xfe",
        b'{"type":"response.output_item.added","output_index":0,"item":[]}',
        b'{"type":"response.output_item.added","output_index":0,"item":["error", {"response":1}]}',
        b'{"type":"response.output_item.done","output_index":"x","item":{"type":"message"}}',
        b'{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":{}}}',
        b'{"type":"response.output_text.delta","output_index":0,"delta":{}}',
        b'{"type":"response.output_text.delta","output_index":0,"delta":',
        b'{"type":"response.function_call_arguments.done","arguments":{"error":1}}',
        b'{"type":"response.completed","response":[]}',
        b'{"type":"response.in_progress","response":{"model":7}}',
        b'{"type":"response.completed","response":{"status":"completed","output":{}}}',
        b'{"type":["response.completed"]}',
    ],
}
NAMES = {"chat": b"", "messages": b"content_block_start", "responses": b"response.output_item.added"}
CASES = [(dialect, data) for dialect in PASSED_THROUGH for data in MALFORMED[dialect]]


def passing(dialect: str) -> Lane:
    return stream_of(dialect)(model="public", withhold_usage=True)


def translating(dialect: str) -> Lane:
    make = caller_side("chat").ResponseEncoder
    encoder = make(model="public", reply_id="r", created=0, include_usage=False, input_estimate=0)
    return Translation(upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE), encoder)


def streams(dialect: str, data: bytes, place: int) -> Iterator[bytes]:
    """Streams with this frame at a place, with and without a name before it, with each kind of line end."""
    good = frames(dialect, "up")
    for name in {b"", NAMES[dialect]}:
        frame = (b"event: %b\n" % name if name else b"") + b"data: %b\n\n" % data
        sent = b"".join([*good[:place], frame, *good[place:]])
        yield from (sent, sent.replace(b"\n", b"\r\n"), sent.replace(b"\n", b"\r"))


def outcome(lane: Lane, pieces: list[bytes]) -> tuple[Any, ...]:
    out = b"".join(lane.feed(piece) for piece in pieces) + lane.finish()
    return (
        Frames().feed(out + b"\n\n"),
        lane.failure,
        lane.done,
        lane.stop,
        lane.usage,
        lane.output_bytes,
        lane.answered,
    )


@pytest.mark.parametrize(("dialect", "data"), CASES, ids=str)
def test_byte_by_byte_and_cut_in_two_anywhere_the_outcome_is_the_same(dialect: str, data: bytes) -> None:
    for made in (passing, translating):
        for sent in streams(dialect, data, 2):
            once = outcome(made(dialect), [sent])
            assert outcome(made(dialect), [sent[at : at + 1] for at in range(len(sent))]) == once
            for at in range(1, len(sent)):
                assert outcome(made(dialect), [sent[:at], sent[at:]]) == once, sent[max(0, at - 20) : at]


@pytest.mark.parametrize(("dialect", "data"), CASES, ids=str)
@pytest.mark.parametrize("place", [0, 2])
def test_line_ends_change_nothing_and_a_failure_is_told_as_unreadable(
    dialect: str, data: bytes, place: int
) -> None:
    for made in (passing, translating):
        sent = list(streams(dialect, data, place))
        seen = [outcome(made(dialect), [each]) for each in sent]
        for start in range(0, len(seen), 3):
            alike = seen[start : start + 3]
            assert [(one[1], one[2], one[3]) for one in alike] == [
                (alike[0][1], alike[0][2], alike[0][3])
            ] * 3
            failure = alike[0][1]
            assert failure is None or failure.garbled


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
@pytest.mark.parametrize("made", [passing, translating])
def test_what_is_no_json_is_unreadable_in_each_lane(dialect: str, made: Any) -> None:
    for data in (b"{]", b"[1", b"\xff", b"<html>"):
        lane = made(dialect)
        good = frames(dialect, "up")
        lane.feed(good[0])
        lane.feed(b"data: %b\n\n" % data)
        assert lane.failure is not None, data
        assert (lane.failure.garbled, lane.failure.truncated) == (True, False)


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
def test_a_whole_answer_that_is_none_is_unreadable(dialect: str) -> None:
    for body in (b"", b"{}", b"[]", b"<html>", b"7", whole(dialect, "up")[:-1]):
        failed = passing_of(dialect).response(body, model="public")[2]
        assert failed is not None, body
        assert failed.garbled, body
        decoded = upstream_side(dialect).decode_response(body, DEFAULT_PROFILE)[-1]
        assert isinstance(decoded, Failed), body
        assert decoded.garbled, body


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
def test_an_error_that_can_be_read_is_none_that_cannot(dialect: str) -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}'
    for made in (passing, translating):
        lane = made(dialect)
        lane.feed(frames(dialect, "up")[0])
        lane.feed(b"event: error\ndata: %b\n\n" % body)
        assert lane.failure == Failed("overloaded_error", "busy")
    assert passing_of(dialect).response(body, model="public")[2] == Failed("overloaded_error", "busy")


def test_what_only_the_caller_reads_may_have_any_members() -> None:
    """A search for tools has an object where calls of functions have a text."""
    item = {"type": "tool_search_call", "execution": "client", "call_id": "c", "arguments": {"query": "x"}}
    events = [
        {"type": "response.created", "response": {"id": "r", "model": "up"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"status": "completed", "output": [item]}},
    ]
    sent = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    lane = passing("responses")
    assert lane.feed(sent) + lane.finish() == sent.replace(b'"model": "up"', b'"model": "public"')
    assert (lane.done, lane.failure) == (True, None)
    lane = translating("responses")
    lane.feed(sent)
    assert (lane.done, lane.failure) == (True, None)
    body = json.dumps({"status": "completed", "output": [item]}).encode()
    assert passing_of("responses").response(body, model="public")[0] == body
