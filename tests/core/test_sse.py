"""The frame splitter: the event-stream grammar, at any split."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.sse import (
    Frame,
    Frames,
    FrameTooLarge,
    complete_prefix,
    is_plain_frames,
    parse_frame,
    split_whole,
)

CASES: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "one": (b"data: a\n\n", [(b"", b"a")]),
    "two in one read": (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "typed": (b"event: ping\ndata: {}\n\n", [(b"ping", b"{}")]),
    "no space": (b"data:a\n\nevent:x\ndata:b\n\n", [(b"", b"a"), (b"x", b"b")]),
    "one space only is dropped": (b"data:  a\n\n", [(b"", b" a")]),
    "several lines": (b"data: a\ndata: b\ndata:\ndata: c\n\n", [(b"", b"a\nb\n\nc")]),
    "comment": (b": hi\n\n:\n\ndata: a\n: in between\ndata: b\n\n", [(b"", b"a\nb")]),
    "other fields": (b"id: 1\nretry: 5\nfoo: x\nbar\ndata: a\n\n", [(b"", b"a")]),
    "empty data": (b"data\n\ndata:\n\n", [(b"", b""), (b"", b"")]),
    "type alone": (b"event: ping\n\ndata: a\n\n", [(b"", b"a")]),
    "extra empty lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "mark": (b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbf\n\n", [(b"", b"a"), (b"", b"\xef\xbb\xbf")]),
    "mark before an event": (b"\xef\xbb\xbfevent: x\ndata: a\n\n", [(b"x", b"a")]),
    "colon in data": (b"data: a: b\n\n", [(b"", b"a: b")]),
    "separators of text": ("data: a\u2028b\u0085c\x0bd\n\n".encode(), [(b"", "a\u2028b\u0085c\x0bd".encode())]),
    "unterminated": (b"data: a\n\nevent: x\ndata: b", [(b"", b"a"), (b"x", b"b")]),
    "one line end": (b"data: a\n", [(b"", b"a")]),
    "nothing": (b"", []),
}  # fmt: skip


def split(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    frames = Frames()
    found = [frame for piece in pieces for frame in frames.feed(piece)]
    found += frames.finish()
    return [(frame.event, frame.data) for frame in found]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_grammar(name: str, ending: bytes) -> None:
    data, wanted = CASES[name]
    data = data.replace(b"\n", ending)
    assert split([data]) == wanted
    assert split([data[at : at + 1] for at in range(len(data))]) == wanted
    for at in range(len(data)):
        assert split([data[:at], data[at:]]) == wanted, at


LINES = st.lists(
    st.sampled_from(
        [
            b"data: x",
            b"data:y",
            b"event: e",
            b": c",
            b"",
            b"",
            b"",
            b"data",
            b"id: 3",
            "data: 🎉é".encode(),
            b"junk",
        ]
    ),
    max_size=12,
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Lines with mixed ends: what no server should send, and a reader must not depend on."""
    return b"".join(line + draw(ENDS) for line in draw(LINES))


def cut(data: bytes, draw: st.DataObject) -> list[bytes]:
    edges = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)]


@given(streams(), st.data())
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_same_frames(data: bytes, draw: st.DataObject) -> None:
    assert split(cut(data, draw)) == split([data])


@given(streams(), st.data())
@settings(max_examples=300, deadline=None)
def test_whole_frames_cut_off_a_buffer_lose_nothing(data: bytes, draw: st.DataObject) -> None:
    """What the byte lane does: relay whole frames as they come, hold the rest."""
    held = bytearray()
    relayed = b""
    for piece in cut(data, draw):
        known = len(held)
        held += piece
        end = complete_prefix(held, known)
        assert end == complete_prefix(held)
        whole = bytes(held[:end])
        del held[:end]
        pieces = split_whole(whole)
        assert b"".join(pieces) == whole
        assert split([whole]) == [(f.event, f.data) for f in map(parse_frame, pieces) if f is not None]
        relayed += whole
    assert relayed + held == data
    assert split([relayed, bytes(held)]) == split([data])


def test_a_frame_under_way_is_not_complete() -> None:
    assert complete_prefix(b"data: a\n\ndata: b\n") == len(b"data: a\n\n")
    assert complete_prefix(b"data: a\r\n\r\ndata: b\r\n") == len(b"data: a\r\n\r\n")
    assert complete_prefix(b"data: a\r\n\r") == len(b"data: a\r\n\r")
    assert complete_prefix(b"data: a") == 0


@pytest.mark.parametrize("run", range(2, 8))
def test_of_a_run_of_line_ends_each_two_close_a_frame_wherever_it_was_cut(run: int) -> None:
    whole = b"data: a" + b"\n" * run
    assert complete_prefix(whole) == len(b"data: a") + run // 2 * 2
    assert complete_prefix(b"\n" * run) == run // 2 * 2
    for cut in range(len(whole)):
        first = complete_prefix(whole[:cut])
        rest = whole[first:]
        assert first + complete_prefix(rest, max(cut - first, 0)) == complete_prefix(whole), cut


def test_too_large_a_frame_is_refused_and_a_large_one_is_not() -> None:
    frames = Frames(limit=100)
    assert frames.feed(b"data: " + b"x" * 90) == []
    assert frames.feed(b"x" * 4 + b"\n\n") == [Frame(b"", b"x" * 94)]
    frames.feed(b"data: " + b"x" * 90)
    with pytest.raises(FrameTooLarge, match="100 bytes"):
        frames.feed(b"x" * 5)


def test_many_small_reads_of_a_large_frame_take_linear_work() -> None:
    """A frame of 2 MiB in crumbs: searching all of it again on each read would take minutes."""
    frames = Frames()
    for _ in range(2 * 1024 * 1024 // 64):
        assert frames.feed(b"x" * 64) == []
    assert len(frames.feed(b"\ndata: a\n\n")) == 1


@pytest.mark.parametrize(
    ("whole", "plain"),
    [
        (b'event: x\ndata: {"a":1}\n\n', True),
        (b'event: x\ndata: {"a":1}\r\n\r\n', True),
        (b'\nevent: x\r\ndata: {"a":1}\r\n\r\n', True),
        (b'\nevent: x\ndata: {"a":1}\n\n', True),
        (b'\n\ndata: {"a":1}\n\n', False),
        (b'\ndata: {"a":1}\n\n', False),
        (b'\nevent: x\rdata: {"a":1}\r\n\r\n', False),
        (b'event: x\ndata: {"a":' + b"[" * 500 + b"]" * 500 + b"}\n\n", False),
        (b'event: x\ndata: {"a":' + b"[" * 499 + b"]" * 499 + b"}\n\n", True),
        (b'event: x\ndata: {"a":1}}\n\n', False),
        (b'event: x\ndata: {"a":\n\n1}\n\n', False),
        (b'event: x\ndata: {"a":\n1}\n\n', False),
        (b'event: x\ndata: {"a":\r1}\n\n', False),
        (b'event: x\ndata: {\r\n"a":1}\r\n\r\n', False),
        (b'event: x\ndata: {"a":1\n}\n\n', False),
        (b"event: x\ndata: {]]\n\n", False),
        (b"event: x\ndata: " + b"[" * 5000 + b"\n\n", False),
        (b'event: x\ndata: {"a":1}\n\nevent: x\ndata: {"a":1}\n\n', False),
        (b'data: {"a":1}\n\n', False),
        (b": comment\n\n", False),
        (b"", False),
    ],
)
def test_a_frame_in_its_usual_form_is_known(whole: bytes, plain: bool) -> None:
    assert is_plain_frames(whole) is plain


def test_nothing_and_what_follows_the_last_frame_are_kept() -> None:
    frames = Frames()
    assert frames.feed(b"data: a\r") == frames.feed(b"") == []
    assert frames.feed(b"\n\r") == [Frame(b"", b"a")]
    assert split_whole(b"data: a\r\n\r\ndata: b") == [b"data: a\r\n\r\n", b"data: b"]
