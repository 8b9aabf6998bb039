"""The usual frames of a stream are known by their form alone: what is like them is relayed, counted and failed like all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.messages import passthrough as messages
from penstock.core.dialects.responses import passthrough as responses
from penstock.core.sse import Frames, parse_frame
from tests.core.dialects.sides import PASSED_THROUGH, stream_of

BEGUN: dict[str, bytes] = {
    "messages": b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"up"}}\n\n',
    "responses": b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"up"}}\n\n',
}
PIECES: dict[str, bytes] = {
    "messages": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":%b}}\n\n',
    "responses": b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":7,'
    b'"item_id":"i","output_index":0,"content_index":0,"delta":%b,"logprobs":[],"obfuscation":"x"}\n\n',
}
KNOWN = {"messages": messages.Passthrough.PIECE.fullmatch, "responses": responses.Passthrough.PIECE.fullmatch}
both = pytest.mark.parametrize("dialect", PIECES)


def meter(dialect: str) -> Any:
    made = {"messages": messages.Passthrough, "responses": responses.Passthrough}[dialect](
        model="up", withhold_usage=False
    )
    assert made.feed(BEGUN[dialect]) == BEGUN[dialect]
    return made


def written(text: str, *, plain: bool) -> bytes:
    return json.dumps(text, ensure_ascii=not plain).encode("utf-8", "surrogatepass")


@both
@given(text=st.text(min_size=1), plain=st.booleans())
def test_a_usual_piece_counts_like_one_in_another_form(dialect: str, text: str, plain: bool) -> None:
    frame = PIECES[dialect] % written(text, plain=plain)
    assert KNOWN[dialect](frame)
    other = frame.replace(b"\n", b"\r\n")
    one, two, three = meter(dialect), meter(dialect), meter(dialect)
    assert one.feed(frame) == frame
    assert two.feed(other) == other
    assert three.feed(frame + frame) == frame + frame
    assert one.output_bytes == two.output_bytes == len(written(text, plain=plain)) - 2
    assert three.output_bytes == 2 * one.output_bytes
    assert one.sequence == two.sequence == (8 if dialect == "responses" else 0)


@both
def test_a_usual_piece_goes_through_and_is_counted(dialect: str) -> None:
    frame = PIECES[dialect] % b'"some text"'
    one = meter(dialect)
    assert one.feed(frame) == frame
    assert one.output_bytes == len("some text")
    assert one.sequence == (8 if dialect == "responses" else 0)
    assert one.feed(frame + frame) == frame + frame
    assert one.feed(frame + b": ping\n\n" + frame[:20]) == frame + b": ping\n\n"
    assert one.feed(frame[20:]) == frame
    assert one.output_bytes == 5 * len("some text")
    other = frame.replace(b"\n", b"\r\n")
    assert one.feed(other + other) == other + other
    assert one.output_bytes == 7 * len("some text")


@both
def test_text_that_looks_like_the_end_of_its_frame_counts_to_its_own_end(dialect: str) -> None:
    text = b'"{\\"query\\":\\"x\\"}, and \\"}"'
    frame = PIECES[dialect] % text
    one, two = meter(dialect), meter(dialect)
    one.feed(frame)
    two.feed(frame.replace(b"\n", b"\r\n"))
    assert one.output_bytes == two.output_bytes == len(text) - 2


@both
@pytest.mark.parametrize("text", [b'"a\\q"', b'"a\\u12"', b'"a\x01"', b'"a', b"a", b'"a" "b"', b"", b'"\\"'])
def test_what_is_no_json_is_not_taken_for_a_piece(dialect: str, text: bytes) -> None:
    frame = PIECES[dialect] % text
    assert not KNOWN[dialect](frame)
    meter_ = meter(dialect)
    meter_.feed(frame)
    assert meter_.failure is not None


@both
def test_pieces_with_more_in_them_are_read_like_others(dialect: str) -> None:
    more = PIECES[dialect].replace(b'"delta":', b'"error":{"type":"overloaded_error"},"delta":') % b'"a"'
    assert not KNOWN[dialect](more)
    twice = PIECES[dialect].replace(b'"delta":', b'"delta":"b","delta":') % b'"a"'
    assert not KNOWN[dialect](twice)


def test_padding_and_spaces_are_usual() -> None:
    padded = PIECES["messages"].replace(b"}}\n\n", b"}       }\n\n").replace(b'":', b'": ') % b'"a"'
    assert KNOWN["messages"](padded)
    spaced = PIECES["responses"].replace(b'":', b'": ').replace(b',"', b', "') % b'"a"'
    assert KNOWN["responses"](spaced)


@both
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_what_is_no_json_fails_before_a_frame_that_is(dialect: str, end: bytes) -> None:
    frame = PIECES[dialect] % b'"a"'
    broken = b"event: x\ndata:{nonsense\n\n".replace(b"\n", end)
    two = meter(dialect)
    assert two.feed(frame + broken + frame) == frame
    assert two.failure is not None


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
def test_comments_go_through(dialect: str) -> None:
    made = stream_of(dialect)(model="up", withhold_usage=False)
    noise = b": ping\n\nevent: x\n\n: data\n\nid: 7\n\n"
    assert made.feed(noise) == noise
    assert not made.started


@pytest.mark.parametrize(
    "frame",
    [
        b"event: a\ndata: b\n\n",
        b"event:a\ndata: b\n\n",
        b"event: a\ndata:b\n\n",
        b"event: a\ndata: b\ndata: c\n\n",
        b"event: a\nid: 7\ndata: b\n\n",
        b"data: b\nevent: a\n\n",
        b"event: a\n\n",
        b"id: 7\ndata: b\n\n",
        b"data: b\n\n",
    ],
)
def test_frames_of_each_form_are_what_their_lines_say(frame: bytes) -> None:
    whole = Frames().feed(frame)
    crumbs = Frames()
    assert [found for at in range(len(frame)) for found in crumbs.feed(frame[at : at + 1])] == whole
    crlf = Frames()
    assert crlf.feed(frame.replace(b"\n", b"\r\n")) == whole
    assert Frames().feed(frame * 2) == whole * 2
    parsed = parse_frame(frame)
    assert whole == ([] if parsed is None else [parsed])


@both
@pytest.mark.parametrize("space", [b"\n\n", b"\r\n\r\n", b"\n\n\n", b"\r\r"])
def test_a_frame_whose_json_is_cut_by_an_empty_line_is_not_relayed(dialect: str, space: bytes) -> None:
    """To JSON it is white space, to the caller the end of an event that cannot be read; however it comes."""
    frame = {
        "messages": b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%b0}\n\n',
        "responses": b'event: response.in_progress\ndata: {"type":"response.in_progress","response":%b{"id":"r"}}\n\n',
    }[dialect] % space
    for pieces in ([frame], [frame[:50], frame[50:]], [frame[at : at + 1] for at in range(len(frame))]):
        one = meter(dialect)
        assert b"".join(map(one.feed, pieces)) == b""
        assert one.failure is not None


@both
def test_a_frame_after_the_rest_of_an_empty_line_is_a_usual_one(dialect: str) -> None:
    frame = (PIECES[dialect] % b'"some text"').replace(b"\n", b"\r\n")
    odd = {
        "messages": b'event: content_block_start\r\ndata: {"type":"content_block_start","index":0,"content_block":[]}\r\n\r\n',
        "responses": b'event: response.output_item.added\r\ndata: {"type":"response.output_item.added","item":[]}\r\n\r\n',
    }[dialect]
    whole, cut = meter(dialect), meter(dialect)
    said = frame + odd + frame
    at = len(frame) - 1
    assert whole.feed(said) == cut.feed(said[:at]) + cut.feed(said[at:]) == said
    assert (whole.failure, whole.output_bytes) == (cut.failure, cut.output_bytes)
