"""Streams that cross from one dialect to the other: every known failure elsewhere has a recorded stream here.

A directory of ``tests/vectors/translate`` is named after its row of the knowledge table; it holds what an upstream sent
and what the caller of the other dialect has to get.
"""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.registry import caller_side, upstream_side
from penstock.core.neutral.events import Failed, Stopped
from penstock.core.profile import DEFAULT_PROFILE
from tests.core.dialects.chat_grammar import check_chat, check_messages

ROOT = Path(__file__).parents[2] / "vectors" / "translate"
CASES = sorted(path.name for path in ROOT.iterdir())
OTHER = {"chat": "messages", "messages": "chat"}


def upstream(case: str) -> tuple[str, bytes]:
    (path,) = (ROOT / case).glob("upstream.*.sse")
    return path.name.split(".")[1], path.read_bytes()


def cross(pieces: list[bytes], dialect: str) -> bytes:
    reader = upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE)
    writer = caller_side(OTHER[dialect]).ResponseEncoder(
        model="public-model", reply_id="reply-1", created=1_700_000_000, include_usage=True, input_estimate=42
    )
    written = [writer.write(reader.feed(piece)) for piece in pieces]
    return b"".join(written) + writer.write(reader.finish())


def expected(case: str) -> bytes:
    (path,) = (ROOT / case).glob("caller.*.sse")
    return path.read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_the_caller_gets_what_it_should(case: str) -> None:
    dialect, stream = upstream(case)
    assert cross([stream], dialect).decode() == expected(case).decode()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_byte_by_byte_it_is_the_same(case: str, ending: bytes) -> None:
    dialect, stream = upstream(case)
    stream = stream.replace(b"\n", ending)
    assert cross([stream[at : at + 1] for at in range(len(stream))], dialect) == expected(case)


@given(
    st.sampled_from(CASES), st.lists(st.integers(0, 10_000), max_size=10), st.sampled_from([b"\n", b"\r\n"])
)
def test_at_any_split_it_is_the_same(case: str, places: list[int], ending: bytes) -> None:
    dialect, stream = upstream(case)
    stream = stream.replace(b"\n", ending)
    marks = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    assert cross([stream[start:end] for start, end in pairwise(marks)], dialect) == expected(case)


@pytest.mark.parametrize("case", CASES)
def test_it_is_a_legal_stream(case: str) -> None:
    dialect, _ = upstream(case)
    check = check_messages if dialect == "chat" else check_chat
    check(expected(case))


# a refusal's explanation is text of its own in Chat, and comes back as such
@pytest.mark.parametrize("case", [case for case in CASES if case != "refusal-to-chat"])
def test_it_comes_back_as_it_went(case: str) -> None:
    """Read again, the caller's stream has the parts and the reason that the upstream's had."""
    dialect, stream = upstream(case)
    before = _parts(upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE), stream)
    after = _parts(upstream_side(OTHER[dialect]).ResponseDecoder(profile=DEFAULT_PROFILE), expected(case))
    assert after == before


def _parts(reader: object, stream: bytes) -> list[str]:
    """Texts and arguments in order, and the kind of end; what both dialects have in common."""
    events = [*reader.feed(stream), *reader.finish()]  # pyright: ignore[reportAttributeAccessIssue]
    words = "".join(getattr(event, "text", "") or getattr(event, "fragment", "") for event in events)
    return [
        words.replace("{}", ""),
        *(type(event).__name__ for event in events if isinstance(event, Failed | Stopped)),
    ]


@given(st.sampled_from(CASES), st.data())
def test_no_bytes_break_the_crossing(case: str, data: st.DataObject) -> None:
    dialect, stream = upstream(case)
    broken = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(broken)))
        broken[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6))
    out = cross([bytes(broken)], dialect)
    check = check_messages if dialect == "chat" else check_chat
    check(out)


def test_the_lane_keeps_what_the_ledger_needs_and_leaves_errors_to_the_relay() -> None:
    dialect, stream = upstream("22-upstream-error-in-the-stream")
    writer = caller_side("messages").ResponseEncoder(
        model="m", reply_id="r", created=0, include_usage=True, input_estimate=0
    )
    lane = Translation(upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE), writer)
    out = lane.feed(stream) + lane.finish()
    assert b"error" not in out
    assert lane.failure is not None
    assert "CUDA" in lane.failure.message
    assert lane.output_bytes == len("Hi")


def test_arguments_of_calls_are_output_too() -> None:
    """What a caller that leaves has had is estimated from it."""
    reader = upstream_side("chat").ResponseDecoder(profile=DEFAULT_PROFILE)
    writer = caller_side("messages").ResponseEncoder(
        model="m", reply_id="r", created=1, include_usage=True, input_estimate=0
    )
    lane = Translation(reader, writer)
    call = b'{"index":0,"id":"c","function":{"name":"n","arguments":"{\\"a\\":1}"}}'
    for delta in (b'"content":"four"', b'"tool_calls":[%b]' % call):
        lane.feed(b'data: {"model":"m","choices":[{"index":0,"delta":{%b}}]}\n\n' % delta)
    lane.feed(b'data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n')
    assert lane.output_bytes == len("four") + len('{"a":1}')
