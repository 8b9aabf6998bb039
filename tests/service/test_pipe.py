"""The pipe changes nothing but the cost: for every lane, at every split, all that can be seen is as without it."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.sse import split_whole
from tests.core.dialects.delta_frames import BEGIN, END, FRAMES, KINDS, written
from tests.service.pipes import DIALECTS, LAST, Way, chunk, same, ways

ROOT = Path(__file__).parents[1] / "vectors"
VECTORS = sorted(
    [(path.parent.parent.name, path) for path in ROOT.glob("*/*/upstream.sse")]
    + [(path.name.split(".")[1], path) for path in ROOT.glob("translate/*/upstream.*.sse")]
)
vectors = pytest.mark.parametrize(
    ("dialect", "path"), [pytest.param(*each, id=f"{each[0]}-{each[1].parent.name}") for each in VECTORS]
)


BETWEEN = (b": keep-alive\n\n", b'event: ping\ndata: {"type": "ping"}\n\n', b"\n", b": \xff\n\n")

PLAIN = st.text("abc XYZ.,:{}[]/é漢😀\u2028\x7f", min_size=1, max_size=9)
HOSTILE = st.sampled_from(
    [
        "",
        '"',
        "\\",
        "\n\n",
        "\r\n",
        "\x00",
        '"}}',
        '","finish_reason":null}]}\n\n',
        "data: x",
        "event: error",
        "\\u0041",
        "}",
        "{}",
        "0\r\n\r\n",
        "5\r\n",
        '"delta":"',
        "[DONE]",
        "<think>",
        "</think>",
        " ",
        '{"input":"',
    ]
)
RAW = st.sampled_from(
    [b'"\\u0061b"', b'"\xff"', b'"\xe6\xbc"', b'"\xed\xa0\x80"', b'"\\ud83d"', b'"a"', b'"b/c"', b'"\\/"']
)
TEXT = st.one_of(*[PLAIN.map(written)] * 6, HOSTILE.map(written), RAW)


@st.composite
def streams(draw: st.DrawFn, dialect: str) -> list[bytes]:
    """Frames of a stream: runs of pieces of one kind, most of them plain, with other things between now and then."""
    frames = [BEGIN[dialect]]
    number = 1
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("text", "text", "thought", "arguments", *KINDS)))
        if kind in ("text", "arguments") and draw(st.booleans()):
            frames.append(FRAMES[dialect]("role" if kind == "text" else "call", b'""', number))
        for text in draw(st.lists(TEXT, min_size=1, max_size=10)):
            number += 1
            frames.append(FRAMES[dialect](kind, text, number))
        if draw(st.sampled_from([0, 0, 0, 1])):
            at = draw(st.integers(1, len(frames)))
            frames.insert(at, draw(st.sampled_from(BETWEEN)))
    if draw(st.booleans()):
        frames.append(END[dialect])
    return frames


@st.composite
def wires(draw: st.DrawFn, frames: list[bytes]) -> list[bytes]:
    """What is read of these frames: most of them a chunk and a read each, some chunks and reads of several, some cut."""
    if draw(st.sampled_from([0, 0, 0, 0, 1])):
        frames = [frame.replace(b"\n", b"\r\n") for frame in frames]
    upper = draw(st.sampled_from([False, False, True]))
    sizes = st.sampled_from([1, 1, 1, 1, 1, 1, 2, 3]) if draw(st.booleans()) else st.just(1)
    chunks: list[bytes] = []
    at = 0
    while at < len(frames):
        many = draw(sizes)
        data = b"".join(frames[at : at + many])
        at += many
        cut = draw(st.integers(0, len(data))) if many == 3 else 0
        chunks += [chunk(part, upper=upper) for part in (data[:cut], data[cut:]) if part]
    if draw(st.booleans()):
        chunks.append(draw(st.sampled_from([LAST, b"0\r\nx: y\r\n\r\n", LAST + b"HTTP/1.1 200 OK\r\n"])))
    reads: list[bytes] = []
    at = 0
    while at < len(chunks):
        many = draw(sizes)
        reads.append(b"".join(chunks[at : at + many]))
        at += many
    if draw(st.sampled_from([0, 0, 0, 1])):
        whole = b"".join(reads)
        cuts = draw(st.lists(st.integers(0, len(whole)), max_size=6))
        ends = [sum(map(len, reads[: at + 1])) for at in range(len(reads))] if draw(st.booleans()) else []
        reads = [whole[a:b] for a, b in pairwise(sorted({0, len(whole), *cuts, *ends}))]
    return reads


# ---- the recorded streams


def by_frame(stream: bytes) -> list[bytes]:
    return [chunk(frame) for frame in split_whole(stream) if frame]


@vectors
def test_a_recorded_stream_crosses_as_without_a_pipe(dialect: str, path: Path) -> None:
    stream = path.read_bytes()
    reads = by_frame(stream)
    whole = b"".join(reads)
    for way in ways(dialect):
        same(way, [*reads, LAST])
        same(way, reads)
        same(way, [whole + LAST])
    same(Way(dialect, dialect), [bytes([byte]) for byte in whole])


@given(st.sampled_from(VECTORS), st.data())
def test_at_any_split_it_is_the_same(vector: tuple[str, Path], data: st.DataObject) -> None:
    dialect, path = vector
    frames = split_whole(path.read_bytes())
    reads = data.draw(wires([frame for frame in frames if frame]))
    same(data.draw(st.sampled_from([*ways(dialect)])), reads)


# ---- streams that nobody has recorded


@pytest.mark.parametrize("caller", DIALECTS)
@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=50)
@given(data=st.data())
def test_whatever_comes_crosses_as_without_a_pipe(dialect: str, caller: str, data: st.DataObject) -> None:
    reads = data.draw(wires(data.draw(streams(dialect))))
    same(data.draw(st.sampled_from([way for way in ways(dialect) if way.caller == caller])), reads)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("more", range(1, 5))
def test_more_line_ends_than_close_a_frame_cross_as_without_a_pipe(dialect: str, more: int) -> None:
    """In the read of the frames, as one of their chunks, and in a read of their own."""
    reads = long_answer(dialect, "text", ["a"] * 20)
    for way in ways(dialect):
        same(way, [*reads[:-1], reads[-1] + chunk(b"\n" * more)])
        same(way, [*reads[:9], chunk(b"\n" * more), *reads[9:]])
        same(way, [*reads[:9], reads[9] + chunk(b"\n" * more) + reads[10], *reads[11:]])


def long_answer(dialect: str, kind: str, texts: list[str]) -> list[bytes]:
    """The reads of an answer of one kind of pieces, each of which comes by itself."""
    frames = [BEGIN[dialect]]
    if kind == "text":
        frames.append(FRAMES[dialect]("role", b"", 1))
    if kind == "arguments":
        frames.append(FRAMES[dialect]("call", b"", 1))
    frames += [FRAMES[dialect](kind, written(text), number) for number, text in enumerate(texts, 2)]
    return [*map(chunk, [*frames, END[dialect]]), LAST]


@pytest.mark.parametrize("kind", ["text", "thought", "arguments"])
@pytest.mark.parametrize("caller", DIALECTS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_form_that_was_seen_is_carried(dialect: str, caller: str, kind: str) -> None:
    texts = ["one", " two", " drei", " vier", "\n", " fünf", ' "six"', " 七", " eight", " nine"]
    reads = long_answer(dialect, kind, texts)
    crossing = same(Way(dialect, caller, listened=True), reads)
    assert crossing.outcome.error == ""
    # all but those that teach it, and those that are not plain; Chat's calls are put together, and always read
    known = 0 if (dialect, kind) == ("chat", "arguments") else 5
    assert crossing.carried >= known
