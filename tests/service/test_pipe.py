"""The pipe changes nothing but the cost: for every lane, at every split, all that can be seen is as without it."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.sse import split_whole
from tests.service.pipes import DIALECTS, LAST, Way, chunk, same, ways

ROOT = Path(__file__).parents[1] / "vectors"
VECTORS = sorted(
    [(path.parent.parent.name, path) for path in ROOT.glob("*/*/upstream.sse")]
    + [(path.name.split(".")[1], path) for path in ROOT.glob("translate/*/upstream.*.sse")]
)
vectors = pytest.mark.parametrize(
    ("dialect", "path"), [pytest.param(*each, id=f"{each[0]}-{each[1].parent.name}") for each in VECTORS]
)


def written(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


# ---- frames of each dialect


def chat(member: str, text: bytes, *, id: str = "c", model: str = "up", index: int = 0) -> bytes:
    delta = b'{"%b":%b}' % (member.encode(), text)
    head = b'{"id":%b,"object":"chat.completion.chunk","created":7,"model":%b' % (written(id), written(model))
    return b'data: %b,"choices":[{"index":%d,"delta":%b,"finish_reason":null}]}\n\n' % (head, index, delta)


def chat_frames(kind: str, text: bytes, number: int) -> bytes:
    """A frame of a Chat stream that adds ``text``, which is JSON."""
    match kind:
        case "text":
            return chat("content", text)
        case "thought":
            return chat("reasoning_content", text)
        case "call":
            call = b'[{"index":0,"id":"call_1","type":"function","function":{"name":"tool","arguments":""}}]'
            return chat("tool_calls", call)
        case "arguments":
            return chat("tool_calls", b'[{"index":0,"function":{"arguments":%b}}]' % text)
        case "role":
            return chat("role", b'"assistant"')
        case "model":
            return chat("content", text, model="another", id="d")
        case "choice":
            return chat("content", text, index=1)
        case "usage":
            return (
                b'data: {"id":"c","model":"up","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n'
                % (number)
            )
        case _:
            return (
                b'data: {"id":"c","model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
            )


def messages(kind: str, members: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b"%b}\n\n' % (kind.encode(), kind.encode(), members)


def messages_frames(kind: str, text: bytes, number: int) -> bytes:
    delta = b',"index":%d,"delta":{"type":"%b","%b":%b}'
    match kind:
        case "text":
            return messages("content_block_delta", delta % (1, b"text_delta", b"text", text))
        case "thought":
            return messages("content_block_delta", delta % (0, b"thinking_delta", b"thinking", text))
        case "call":
            block = b'{"type":"tool_use","id":"toolu_1","name":"tool","input":{}}'
            return messages("content_block_start", b',"index":2,"content_block":%b' % block)
        case "arguments":
            return messages("content_block_delta", delta % (2, b"input_json_delta", b"partial_json", text))
        case "role":
            block = b'{"type":"text","text":""}'
            return messages("content_block_start", b',"index":1,"content_block":%b' % block)
        case "model":
            return messages("content_block_delta", delta % (7, b"text_delta", b"text", text))
        case "choice":
            return messages("content_block_stop", b',"index":%d' % (number % 3))
        case "usage":
            return messages("message_delta", b',"delta":{},"usage":{"output_tokens":%d}' % number)
        case _:
            return messages(
                "message_delta", b',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}'
            )


def responses(kind: str, members: bytes, number: int) -> bytes:
    name = b"response." + kind.encode()
    return b'event: %b\ndata: {"type":"%b","sequence_number":%d%b}\n\n' % (name, name, number, members)


def responses_frames(kind: str, text: bytes, number: int) -> bytes:
    place = b',"item_id":"%b","output_index":%d,"%b":0,"delta":%b'
    padding = b',"logprobs":[],"obfuscation":"%b"' % (b"x" * (number % 7))
    match kind:
        case "text":
            return responses(
                "output_text.delta", place % (b"msg_1", 1, b"content_index", text) + padding, number
            )
        case "thought":
            return responses(
                "reasoning_summary_text.delta", place % (b"rs_1", 0, b"summary_index", text), number
            )
        case "call":
            item = b'{"type":"function_call","id":"fc_1","call_id":"call_1","name":"tool","arguments":""}'
            return responses("output_item.added", b',"output_index":2,"item":%b' % item, number)
        case "arguments":
            return responses(
                "function_call_arguments.delta",
                b',"item_id":"fc_1","output_index":2,"delta":%b' % text,
                number,
            )
        case "role":
            item = b'{"type":"message","id":"msg_1","role":"assistant","content":[]}'
            return responses("output_item.added", b',"output_index":1,"item":%b' % item, number)
        case "model":
            return responses("refusal.delta", place % (b"msg_1", 1, b"content_index", text), number)
        case "choice":
            item = b'{"type":"custom_tool_call","id":"ctc_1","call_id":"call_2","name":"tool","input":""}'
            return responses("output_item.added", b',"output_index":3,"item":%b' % item, number)
        case "usage":
            return responses(
                "custom_tool_call_input.delta",
                b',"item_id":"ctc_1","output_index":3,"delta":%b' % text,
                number,
            )
        case _:
            return responses(
                "output_item.done", b',"output_index":1,"item":{"type":"message","id":"msg_1"}', number
            )


FRAMES: dict[str, Callable[[str, bytes, int], bytes]] = {
    "chat": chat_frames,
    "messages": messages_frames,
    "responses": responses_frames,
}
BEGIN = {
    "chat": chat("role", b'"assistant"'),
    "messages": messages(
        "message_start", b',"message":{"id":"m","model":"up","usage":{"input_tokens":3,"output_tokens":1}}'
    ),
    "responses": responses("created", b',"response":{"id":"r","model":"up","status":"in_progress"}', 0),
}
END = {
    "chat": chat_frames("", b"", 0) + b"data: [DONE]\n\n",
    "messages": messages_frames("", b"", 0) + messages("message_stop", b""),
    "responses": responses(
        "completed",
        b',"response":{"id":"r","model":"up","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":9}}',
        999,
    ),
}
KINDS = ("text", "thought", "call", "arguments", "role", "model", "choice", "usage", "end")
BETWEEN = (
    b"",
    b"",
    b"",
    b": keep-alive\n\n",
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b"\n",
    b": \xff\n\n",
)

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
TEXT = st.one_of(st.one_of(PLAIN, PLAIN, HOSTILE).map(written), RAW)


@st.composite
def streams(draw: st.DrawFn, dialect: str) -> list[bytes]:
    """Frames of a stream: runs of pieces of one kind, with other things between."""
    frames = [BEGIN[dialect]]
    number = 1
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(KINDS))
        for _ in range(draw(st.integers(1, 6))):
            frames.append(draw(st.sampled_from(BETWEEN)) + FRAMES[dialect](kind, draw(TEXT), number))
            number += 1
    if draw(st.booleans()):
        frames.append(END[dialect])
    return frames


@st.composite
def wires(draw: st.DrawFn, frames: list[bytes]) -> list[bytes]:
    """What is read of these frames: each a chunk, or several to one, or one in several; and so the reads."""
    if draw(st.booleans()):
        frames = [frame.replace(b"\n", b"\r\n") for frame in frames]
    upper = draw(st.booleans())
    chunks: list[bytes] = []
    at = 0
    while at < len(frames):
        many = draw(st.sampled_from([1, 1, 1, 1, 2, 3]))
        data = b"".join(frames[at : at + many])
        at += many
        cut = draw(st.integers(0, len(data))) if draw(st.sampled_from([0, 0, 0, 1])) else 0
        chunks += [chunk(part, upper=upper) for part in (data[:cut], data[cut:]) if part]
    if draw(st.booleans()):
        chunks.append(draw(st.sampled_from([LAST, b"0\r\nx: y\r\n\r\n", LAST + b"HTTP/1.1 200 OK\r\n"])))
    reads: list[bytes] = []
    at = 0
    while at < len(chunks):
        many = draw(st.sampled_from([1, 1, 1, 2, 5]))
        reads.append(b"".join(chunks[at : at + many]))
        at += many
    if draw(st.sampled_from([0, 0, 1])):
        whole = b"".join(reads)
        places = sorted({0, len(whole), *draw(st.lists(st.integers(0, len(whole)), max_size=6))})
        reads = [whole[a:b] for a, b in pairwise(places)]
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
@given(data=st.data())
def test_whatever_comes_crosses_as_without_a_pipe(dialect: str, caller: str, data: st.DataObject) -> None:
    reads = data.draw(wires(data.draw(streams(dialect))))
    same(data.draw(st.sampled_from([way for way in ways(dialect) if way.caller == caller])), reads)


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
