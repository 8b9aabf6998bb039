"""Chat upstream answers become events: every vector, at any split, and whatever else bytes can be."""

import json
import random
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.dialects.chat.dialect import ResponseDecoder, decode_response
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Failed,
    Metered,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtSigned,
)

VECTORS = Path(__file__).parents[3] / "vectors" / "chat"
STREAMS = sorted(path.parent for path in VECTORS.glob("*/upstream.sse"))
WHOLE = sorted(path.parent for path in VECTORS.glob("*/upstream.json"))


def expected(case: Path) -> list[AnyEvent]:
    return msgspec.json.decode((case / "events.json").read_bytes(), type=list[AnyEvent])


def replay(pieces: list[bytes]) -> list[AnyEvent]:
    reader = ResponseDecoder()
    events = [event for piece in pieces for event in reader.feed(piece)]
    before = reader.done
    events += reader.finish()
    assert reader.done
    assert reader.finish() == []
    assert reader.feed(b'data: {"choices":[]}\n\n') == []
    if before:
        assert isinstance(events[-1], Stopped | Failed)
    return events


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_stream(case: Path) -> None:
    data = (case / "upstream.sse").read_bytes()
    events = expected(case)
    assert replay([data]) == events
    assert replay([data[at : at + 1] for at in range(len(data))]) == events


# JSON that is not an event stream is told apart line by line, and those end with LF
ENDINGS = [
    pytest.param(case, ending, id=f"{case.name}-{name}")
    for case in STREAMS
    for name, ending in (("crlf", b"\r\n"), ("cr", b"\r"))
    if name == "crlf" or not (case / "upstream.sse").read_bytes().startswith(b"{")
]


@pytest.mark.parametrize(("case", "ending"), ENDINGS)
def test_stream_with_other_line_ends(case: Path, ending: bytes) -> None:
    data = (case / "upstream.sse").read_bytes().replace(b"\n", ending)
    events = expected(case)
    assert replay([data]) == events
    assert replay([data[at : at + 1] for at in range(len(data))]) == events


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_stream_at_random_splits(case: Path) -> None:
    data = (case / "upstream.sse").read_bytes()
    events = expected(case)
    chance = random.Random(case.name)
    for _ in range(20):
        at = [chance.randrange(len(data) + 1) for _ in range(chance.randrange(12))]
        assert replay(cut(data, at)) == events, at


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_whole_answer(case: Path) -> None:
    assert decode_response((case / "upstream.json").read_bytes()) == expected(case)


def test_vectors_are_there() -> None:
    assert len(STREAMS) > 60
    assert len(WHOLE) > 4


def test_counts_that_are_none_are_unknown() -> None:
    for count in (-1, 2**70, True, 1.5, "many", None):
        body = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": count}})
        assert not any(isinstance(event, Metered) for event in decode_response(body.encode())), count


LINE = st.sampled_from(
    [
        *(
            frame
            for case in STREAMS
            for frame in (case / "upstream.sse").read_bytes().split(b"\n\n")
            if frame
        ),
        b"data: [DONE]",
        b": comment",
        b"event: error",
    ]
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_frames_of_all_vectors_shuffled_give_the_same_at_any_split(data: st.DataObject) -> None:
    """Streams nobody has sent yet: still one order, one end, and no dependence on the cuts."""
    body = b"\n\n".join(data.draw(st.lists(LINE, max_size=12))) + b"\n\n"
    at = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    events = replay([body])
    assert replay(cut(body, at)) == events
    assert sum(isinstance(event, Stopped | Failed) for event in events) == 1
    check_order(events)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_streams_end_like_any_other(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(STREAMS))
    body = bytearray((case / "upstream.sse").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        if not body:
            break
        at = data.draw(st.integers(0, len(body) - 1))
        end = min(len(body), at + data.draw(st.integers(0, 5)))
        body[at:end] = data.draw(st.binary(max_size=5))
    events = replay([bytes(body)])
    check_order(events)
    decode_response(bytes(body))


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes(body: bytes) -> None:
    for form in (body, b"data: " + body + b"\n\n", b"{" + body, b'data: {"choices":[' + body + b"]}\n\n"):
        check_order(replay([form]))
        assert isinstance(decode_response(form)[-1], Stopped | Failed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                "id", "model", "choices", "delta", "message", "content", "tool_calls", "index", "function", "name",
                "arguments", "finish_reason", "usage", "prompt_tokens", "prompt_tokens_details", "error", "code",
                "reasoning_details", "type", "text", "annotations", "url_citation", "base_resp", "status_code",
            ]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(st.lists(JSON, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_json_under_the_names_that_are_read(values: list[object]) -> None:
    body = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
    check_order(replay([body]))
    for value in values:
        assert isinstance(decode_response(json.dumps(value).encode())[-1], Stopped | Failed)


def check_order(events: list[AnyEvent]) -> None:
    """The order that ``Event`` promises."""
    kinds = [type(event) for event in events]
    assert kinds.count(Started) <= 1
    assert all(kind is Started for kind in kinds[:1]) or kinds[0] is Failed
    assert sum(kind in {Stopped, Failed} for kind in kinds) == 1
    assert kinds[-1] in {Stopped, Failed}
    block = None
    for event in events:
        match event:
            case CallArgs():
                assert block is CallOpened
                assert event.fragment
            case TextDelta() | ThoughtDelta():
                assert event.text
                block = type(event)
            case CallOpened():
                assert event.name
                assert event.id
                block = CallOpened
            case ThoughtSigned():
                block = None
            case _:
                pass
    msgspec.json.encode(events)  # every text can be sent


def said(*choices: dict[str, object]) -> bytes:
    chunks = [
        json.dumps({"id": "c", "model": "m", "choices": [{"index": 0, **choice}]}) for choice in choices
    ]
    return b"".join(f"data: {chunk}\n\n".encode() for chunk in (*chunks, "[DONE]"))


@pytest.mark.parametrize("finish", ["length", "max_tokens"])
def test_both_words_for_a_reply_that_was_too_long(finish: str) -> None:
    events = replay([said({"delta": {"content": "so long"}}, {"delta": {}, "finish_reason": finish})])
    assert events[-1] == Stopped("max_tokens")


def test_white_space_before_a_call_is_no_beginning_of_the_text_after_it() -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "n", "arguments": "{}"}}
    stream = said(
        {"delta": {"content": "\n\n"}},
        {"delta": {"tool_calls": [call]}},
        {"delta": {"content": "after"}},
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    assert [event.text for event in replay([stream]) if isinstance(event, TextDelta)] == ["after"]
