"""Responses streams of upstreams become events, and events streams of callers: every vector, at any split, and any bytes."""

import json
import random
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.dialects.registry import caller_side, upstream_side
from penstock.core.dialects.responses.dialect import (
    ResponseDecoder,
    ResponseEncoder,
    decode_response,
    encode_response,
)
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    Metered,
    Reply,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import Text, Thought, ToolCall
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE
from penstock.errors import ProviderOverloaded
from tests.core.dialects.responses_grammar import check_responses, frames

ROOT = Path(__file__).parents[3] / "vectors"
VECTORS = ROOT / "responses"
STREAMS = sorted(path.parent for path in VECTORS.glob("*/upstream.sse"))
WHOLE = sorted(path.parent for path in VECTORS.glob("*/upstream.json"))
CALLERS = sorted(path.parent for path in VECTORS.glob("*/caller.sse"))
# every stream of an upstream that the other dialects have a vector for
OTHERS = [
    pytest.param(dialect, path, id=f"{dialect}-{path.parent.name}")
    for dialect in ("chat", "messages")
    for path in sorted((ROOT / dialect).glob("*/upstream.sse"))
]


def expected(case: Path) -> list[AnyEvent]:
    return msgspec.json.decode((case / "events.json").read_bytes(), type=list[AnyEvent])


def replay(pieces: list[bytes]) -> list[AnyEvent]:
    reader = ResponseDecoder()
    events = [event for piece in pieces for event in reader.feed(piece)]
    events += reader.finish()
    assert reader.done
    assert reader.finish() == reader.feed(b"data: {}\n\n") == []
    return events


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def writer() -> ResponseEncoder:
    return ResponseEncoder(
        model="public", reply_id="resp_1", created=1_700_000_000, include_usage=True, input_estimate=42
    )


# ---- upstreams


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_stream(case: Path, ending: bytes) -> None:
    data = (case / "upstream.sse").read_bytes().replace(b"\n", ending)
    events = expected(case)
    assert replay([data]) == events
    assert replay(bytewise(data)) == events
    chance = random.Random(case.name)
    for _ in range(10):
        at = [chance.randrange(len(data) + 1) for _ in range(chance.randrange(12))]
        assert replay(cut(data, at)) == events, at


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_whole_answer(case: Path) -> None:
    assert decode_response((case / "upstream.json").read_bytes()) == expected(case)


def test_vectors_are_there() -> None:
    assert len(STREAMS) > 45
    assert len(WHOLE) > 5
    assert len(CALLERS) > 10
    assert len(OTHERS) > 80


LINE = st.sampled_from(
    sorted(
        {
            frame
            for case in STREAMS
            for frame in (case / "upstream.sse").read_bytes().split(b"\n\n")
            if frame and not frame.startswith((b"{", b"<"))
        }
    )
)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_frames_of_all_vectors_shuffled_give_the_same_at_any_split(data: st.DataObject) -> None:
    """Streams nobody has sent yet: still one order, one end, and no dependence on the cuts."""
    body = b"\n\n".join(data.draw(st.lists(LINE, max_size=14))) + b"\n\n"
    at = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    events = replay([body])
    assert replay(cut(body, at)) == events
    check_order(events)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_streams_end_like_any_other(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(STREAMS))
    body = bytearray((case / "upstream.sse").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    check_order(replay([bytes(body)]))
    assert isinstance(decode_response(bytes(body))[-1], Stopped | Failed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                "type", "id", "model", "output", "item", "item_id", "output_index", "delta", "content", "text", "name",
                "arguments", "input", "call_id", "summary", "usage", "input_tokens", "input_tokens_details", "error",
                "status", "response", "annotations", "encrypted_content", "incomplete_details", "reason", "message",
            ]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(st.lists(JSON, max_size=4), st.binary(max_size=100))
@settings(max_examples=200, deadline=None)
def test_any_json_under_the_names_that_are_read(values: list[object], tail: bytes) -> None:
    body = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values) + tail
    check_order(replay([body]))
    for value in values:
        assert isinstance(decode_response(json.dumps(value).encode())[-1], Stopped | Failed)


def check_order(events: list[AnyEvent]) -> None:
    """The order that ``Event`` promises."""
    kinds = [type(event) for event in events]
    assert kinds.count(Started) <= 1
    assert kinds[0] in {Started, Failed}
    assert [kind for kind in kinds if kind in {Stopped, Failed}] == kinds[-1:]
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


# ---- callers


@pytest.mark.parametrize("case", CALLERS, ids=lambda case: case.name)
def test_the_caller_gets_what_it_should(case: Path) -> None:
    events = expected(case)
    written = (case / "caller.sse").read_bytes()
    assert writer().write(events).decode() == written.decode()
    one_by_one = writer()
    assert b"".join(one_by_one.write([event]) for event in events) == written
    assert one_by_one.sequence == len(frames(written))
    check_responses(written)


@pytest.mark.parametrize(("dialect", "path"), OTHERS)
def test_every_upstream_of_the_other_dialects_crosses(dialect: str, path: Path) -> None:
    data = path.read_bytes()
    reader = upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE)
    events = [*reader.feed(data), *reader.finish()]
    written = writer().write(events)
    check_responses(written)
    back = fold(replay([written]))
    before = fold(events)
    assert texts(back) == texts(before)
    if before.failure is None:
        assert back.usage.output == (before.usage.output or back.usage.output)
    assert (back.failure is None) == (before.failure is None)


def texts(reply: Reply) -> list[str]:
    """What a reply says, kind by kind; a refusal's explanation becomes text of its own."""
    said = ["".join(part.text for part in reply.parts if isinstance(part, kind)) for kind in (Thought, Text)]
    if reply.reason == "refusal":
        said[1] = said[1].partition(reply.detail or "\0")[0].rstrip() + (reply.detail or "")
    calls = [f"{part.name} {part.arguments}" for part in reply.parts if isinstance(part, ToolCall)]
    return [*said, *calls] if reply.failure is None else said


WORD = st.text(min_size=1, max_size=12)
EVENTS = st.lists(
    st.one_of(
        st.builds(TextDelta, WORD),
        st.builds(ThoughtDelta, WORD),
        st.builds(ThoughtSigned, WORD),
        st.builds(ThoughtRedacted, WORD),
        st.builds(Cited, WORD, WORD),
        st.tuples(
            st.builds(CallOpened, WORD, WORD, st.none() | WORD, st.booleans()),
            st.lists(st.builds(CallArgs, WORD), max_size=3),
        ),
        st.builds(Metered, st.builds(Usage, st.integers(0, 99), st.integers(0, 99))),
    ),
    max_size=12,
)


@given(EVENTS, st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "context_window"]))
@settings(max_examples=200, deadline=None)
def test_any_reply_is_a_legal_stream_and_the_same_whole(drawn: list[object], reason: str) -> None:
    events: list[AnyEvent] = [Started("up", "m")]
    for entry in drawn:
        if isinstance(entry, tuple):
            events += [entry[0], *entry[1]]
        else:
            events.append(entry)  # pyright: ignore[reportArgumentType]
    events.append(Stopped(reason))  # pyright: ignore[reportArgumentType]
    written = writer().write(events)
    check_responses(written)
    last = frames(written)[-1]["response"]
    whole = json.loads(
        encode_response(fold(events), model="public", reply_id="resp_1", created=1_700_000_000)
    )
    for response in (last, whole):
        for item in response["output"]:
            for part in item.get("content", ()):
                part.pop("annotations", None)  # whole, there is one span for all of a text's citations
    assert whole["output"] == last["output"]
    assert whole["status"] == last["status"]


@given(st.text(max_size=40), st.data())
@settings(max_examples=200, deadline=None)
def test_free_text_is_the_same_however_its_json_is_written_and_cut(text: str, data: st.DataObject) -> None:
    value = json.dumps(text, ensure_ascii=data.draw(st.booleans()))
    arguments = data.draw(st.sampled_from(['{"input":%s}', ' { "input" :\n%s }'])) % value
    marks = [0, *sorted(data.draw(st.lists(st.integers(0, len(arguments)), max_size=6))), len(arguments)]
    events: list[AnyEvent] = [Started("up", "m"), CallOpened("call_1", "free", None, custom=True)]
    events += [CallArgs(arguments[a:b]) for a, b in pairwise(marks) if a < b]
    written = writer().write([*events, Stopped("tool_use")])
    check_responses(written)
    assert frames(written)[-1]["response"]["output"][0]["input"] == text


def test_a_failure_has_our_words_and_the_next_number() -> None:
    error = ProviderOverloaded("The provider is overloaded.")
    (frame,) = [
        json.loads(part.split(b"data: ")[1])
        for part in caller_side("responses").error_frame(error, "req_7", 12).split(b"\n\n")
        if part
    ]
    assert frame["type"] == "response.failed"
    assert frame["sequence_number"] == 12
    assert frame["response"]["id"] == "resp_7"
    assert frame["response"]["error"] == {"code": "server_error", "message": "The provider is overloaded."}
