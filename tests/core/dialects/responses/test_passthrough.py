"""Responses to Responses is bytes: the model changes and nothing else, and the ledger learns what a reader would."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.dialects.responses.dialect import (
    Passthrough,
    ResponseDecoder,
    ResponseEncoder,
    decode_response,
    passthrough_response,
)
from penstock.core.neutral.events import Failed, Started, Stopped, TextDelta
from penstock.core.neutral.fold import fold
from penstock.core.neutral.usage import Usage
from penstock.core.profile import Profile
from penstock.core.sse import Frames
from tests.core.dialects.responses_grammar import check_responses, frames

VECTORS = Path(__file__).parents[3] / "vectors" / "responses"
STREAMS = sorted(path.parent for path in VECTORS.glob("*/upstream.sse"))
FRAMED = [case for case in STREAMS if not (case / "upstream.sse").read_bytes().startswith((b"{", b"<"))]


def relayed(pieces: list[bytes], model: str | None) -> tuple[bytes, Passthrough]:
    meter = Passthrough(model=model, withhold_usage=False)
    out = b"".join(meter.feed(piece) for piece in pieces)
    return out + meter.finish(), meter


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def facts(meter: Passthrough) -> tuple[object, ...]:
    failed = meter.failure
    return meter.usage, meter.done, meter.ended, meter.stop, meter.started, meter.output_bytes, failed


@pytest.mark.parametrize("case", FRAMED, ids=lambda case: case.name)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_the_bytes_go_through_but_for_the_model(case: Path, ending: bytes) -> None:
    data = (case / "upstream.sse").read_bytes().replace(b"\n", ending)
    out, meter = relayed([data], "public")
    renamed = data.replace(b'"model":"gpt-up"', b'"model":"public"')
    if meter.failure is None:
        assert renamed.startswith(out.rstrip(b"\r\n"))
        rest = renamed[len(out.rstrip(b"\r\n")) :].strip()
        assert rest in (b"", b"data: [DONE]"), "nothing after the terminal event"
    else:
        assert renamed.startswith(out)
        assert b"CUDA" not in out
    kept, _ = relayed([data], None)
    assert data.startswith(kept.rstrip(b"\r\n"))


# what only a reader sees, because it reads every delta
UNREAD = {"33-nameless-call", "33-malformed-event", "33-not-json"}


@pytest.mark.parametrize(
    "case", [case for case in STREAMS if case.name not in UNREAD], ids=lambda case: case.name
)
def test_the_ledger_learns_what_a_reader_would(case: Path) -> None:
    data = (case / "upstream.sse").read_bytes()
    reader = ResponseDecoder()
    reply = fold([*reader.feed(data), *reader.finish()])
    out, meter = relayed([data], "public")
    assert (meter.failure is None) == (reply.failure is None)
    assert meter.usage == reply.usage
    assert meter.ended
    if reply.failure is None:
        assert meter.done
        assert meter.started
        assert out
        if reply.reason != "refusal":
            assert meter.stop == reply.reason
    else:
        assert meter.failure is not None
        assert (meter.failure.kind, meter.failure.truncated) == (reply.failure.kind, reply.failure.truncated)


@given(
    st.sampled_from(STREAMS),
    st.lists(st.integers(0, 100_000), max_size=10),
    st.sampled_from([b"\n", b"\r\n"]),
)
@settings(max_examples=300, deadline=None)
def test_at_any_split_it_is_the_same(case: Path, at: list[int], ending: bytes) -> None:
    data = (case / "upstream.sse").read_bytes().replace(b"\n", ending)
    out, meter = relayed([data], "public")
    again, other = relayed(cut(data, at), "public")
    # a stream may be over before the LF of its last CRLF is there
    assert again.rstrip(b"\r\n") == out.rstrip(b"\r\n")
    assert facts(other) == facts(meter)


def test_the_output_is_counted_as_it_goes() -> None:
    writer = ResponseEncoder(model="m", reply_id="resp_1", created=1, include_usage=True, input_estimate=1)
    begun = writer.write([Started("", ""), TextDelta("four")])
    meter = Passthrough(model="public", withhold_usage=False)
    out = meter.feed(begun)
    assert meter.output_bytes == 4
    assert meter.sequence == len(frames(out))
    out += meter.feed(writer.write([TextDelta('"x"')]))
    assert meter.output_bytes == 4 + len('\\"x\\"')
    assert meter.sequence == len(frames(out))
    assert meter.finish() == b""
    assert meter.failure is not None
    assert meter.failure.truncated
    assert not meter.done


def test_a_whole_answer_becomes_the_stream_that_was_asked_for() -> None:
    data = (VECTORS / "52-json-instead-of-a-stream" / "upstream.sse").read_bytes()
    out, meter = relayed([data], "public")
    check_responses(out)
    assert frames(out)[-1]["response"]["model"] == "public"
    assert meter.done
    assert meter.usage == Usage(6, 7, 4, None, 2)


def test_whole_answers() -> None:
    body = (VECTORS / "60-whole" / "upstream.json").read_bytes()
    out, usage, failed, named = passthrough_response(body, model="public")
    assert json.loads(out) == {**json.loads(body), "model": "public"}
    assert (usage, failed, named) == (Usage(6, 7, 4, None, 2), None, "gpt-up")
    assert passthrough_response(body, model="gpt-up")[0] is body
    assert passthrough_response(body, model=None)[0] is body
    for name in ("60-whole-failed", "60-whole-error", "60-whole-no-output", "60-whole-garbage"):
        out, _, failed, _ = passthrough_response(
            (VECTORS / name / "upstream.json").read_bytes(), model="public"
        )
        assert out == b""
        assert failed is not None


@pytest.mark.parametrize("pieces", [1, 40])
def test_garbage_in_the_middle_is_a_failure_and_not_the_callers_to_read(pieces: int) -> None:
    stream = (VECTORS / "text" / "upstream.sse").read_bytes()
    at = stream.index(b"\n\n", stream.index(b"output_text.delta")) + 2
    broken = stream[:at] + b"event: x\ndata: {]]\n\n" + stream[at:]
    meter = Passthrough(model=None, withhold_usage=False)
    size = -(-len(broken) // pieces)
    out = (
        b"".join(meter.feed(broken[start : start + size]) for start in range(0, len(broken), size))
        + meter.finish()
    )
    assert out == stream[:at]
    assert meter.failure is not None


# ---- items of shapes that are not known

ODD: list[Any] = [
    {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {"query": "x"}},
    {"type": "brand_new", "content": "text", "summary": {"a": 1}, "id": 5, "name": ["x"]},
    {"type": "local_shell_call", "action": {"type": "exec"}, "encrypted_content": {"a": 1}},
    {"type": "message", "content": "a text alone"},
    {"type": 5},
    "no object at all",
]


@pytest.mark.parametrize("item", ODD, ids=str)
def test_an_item_of_any_shape_passes_as_bytes(item: Any) -> None:
    """Whole and in every event of a stream; what counts is read beside it."""
    usage = {"input_tokens": 3, "output_tokens": 2}
    response = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": "up",
        "output": [item],
        "usage": usage,
    }
    body = json.dumps(response).encode()
    out, counts, failed, named = passthrough_response(body, model="public")
    assert failed is None
    assert json.loads(out) == {**response, "model": "public"}
    assert (counts.input, counts.output, named) == (3, 2, "up")
    lane = Passthrough(model="public", withhold_usage=False)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    sent = b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events
    )
    relayed = lane.feed(sent) + lane.finish()
    assert lane.failure is None
    assert lane.done
    assert [json.loads(frame.data) for frame in Frames().feed(relayed)] == [
        {**event, "response": {**event["response"], "model": "public"}} if "response" in event else event
        for event in events
    ]


@pytest.mark.parametrize("item", ODD[:3] + ODD[4:], ids=str)
def test_so_it_is_no_failure_where_the_answer_is_translated(item: Any) -> None:
    text = {"type": "output_text", "text": "hi"}
    new = {"type": "brand_new", "text": {"a": 1}}
    said = {"type": "message", "role": "assistant", "content": [new, text], "status": "completed"}
    response = {"id": "r", "status": "completed", "model": "up", "output": [item, said]}
    events = decode_response(json.dumps(response).encode())
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["hi"]
    assert isinstance(events[-1], Stopped)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "name": 5},
        {"type": "message", "content": "a text alone"},
        {"type": "message", "content": [{"type": "output_text", "text": 5}]},
    ],
    ids=str,
)
def test_what_a_reply_is_made_of_has_to_be_understood_there(item: Any) -> None:
    response = {"id": "r", "status": "completed", "model": "up", "output": [item]}
    (failed,) = decode_response(json.dumps(response).encode())
    assert isinstance(failed, Failed)
    frame = b'data: {"type":"response.output_item.done","item":%b}\n\n' % json.dumps(item).encode()
    assert isinstance(ResponseDecoder(profile=Profile()).feed(frame)[-1], Failed)


def test_an_event_of_an_unknown_type_may_hold_anything() -> None:
    start = b'data: {"type":"response.created","response":{"id":"r","model":"up"}}\n\n'
    odd = b'data: {"type":"response.brand_new","item":5,"response":6}\n\n'
    events = ResponseDecoder(profile=Profile()).feed(start + odd)
    assert events == [Started("r", "up")]
    lane = Passthrough(model=None, withhold_usage=False)
    assert lane.feed(start + odd) == start + odd
    assert lane.failure is None
    assert passthrough_response(b'{"output":5}', model=None)[2] is not None
    assert lane.feed(
        b'data: {"type":"response.in_progress","item":5,"response":{"id":"r","output":null}}\n\n'
    )
    assert lane.failure is None
    assert passthrough_response(b'{"output":null,"status":5}', model=None)[2] is not None
