"""Answers that are compressed although we asked for identity."""

import asyncio
import gzip
import random
import zlib

import pytest

from penstock.upstream import FailureReason, UpstreamFailure, UpstreamResponse
from penstock.upstream.inflate import Inflater
from tests.upstream.scripted import Caller, ScriptedServer

TEXT = b"".join(b"event %d\n" % n for n in range(20_000))


def squeezed(data: bytes, level: int = 9) -> bytes:
    """gzip with no time in it: these bytes are in the tests' names, which every test process must agree on."""
    return gzip.compress(data, level, mtime=0)


def bare_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


def wire(encoding: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        encoding,
        len(body),
        body,
    )


async def answer(server: ScriptedServer, caller: Caller, *pieces: bytes) -> UpstreamResponse:
    sending = caller.start()
    peer = await server.accept()
    await peer.request()

    async def play() -> None:
        await peer.say(*pieces)
        await peer.hang_up()

    playing = asyncio.create_task(play())
    try:
        return await sending
    finally:
        await playing


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", squeezed(TEXT)),
        (b"GZip ", squeezed(TEXT)),
        (b"x-gzip", squeezed(TEXT)),
        (b"gzip", squeezed(TEXT[:1000]) + squeezed(TEXT[1000:])),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", bare_deflate(TEXT)),
        (b"identity", TEXT),
    ],
)
async def test_it_is_decoded_at_any_split(
    server: ScriptedServer, caller: Caller, encoding: bytes, body: bytes
) -> None:
    message = wire(encoding, body)
    head_end = message.index(b"\r\n\r\n") + 4
    dribble = [message[i : i + 1] for i in range(head_end, head_end + 40)]
    for pieces in ([message], [message[:head_end], *dribble, message[head_end + 40 :]]):
        response = await answer(server, caller, *pieces)
        if encoding != b"identity":
            assert response.header(b"content-encoding") is None
            assert response.header(b"content-length") is None
        assert await response.read(len(TEXT)) == TEXT


async def test_an_empty_compressed_body_is_empty(server: ScriptedServer, caller: Caller) -> None:
    for encoding in (b"gzip", b"deflate"):
        assert await (await answer(server, caller, wire(encoding, b""))).read(10) == b""


async def test_the_decoded_size_is_what_the_limit_counts(server: ScriptedServer, caller: Caller) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        await (await answer(server, caller, wire(b"gzip", squeezed(TEXT)))).read(len(TEXT) - 1)
    assert caught.value.reason is FailureReason.TOO_LARGE


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", squeezed(TEXT)[:-1]),
        (b"gzip", squeezed(TEXT)[:30]),
        (b"gzip", b"\x1f"),
        (b"gzip", b"plain text"),
        (b"gzip", squeezed(TEXT) + b"rest"),
        (b"gzip", squeezed(TEXT)[:-8] + bytes(8)),
        (b"deflate", b"\x78"),
        (b"deflate", zlib.compress(TEXT) + b"rest"),
        (b"deflate", b"\xff\xff\xff\xff"),
        (b"br", b"\x0b\x02\x80ok\x03"),
        (b"zstd", b"ok"),
        (b"gzip, gzip", squeezed(squeezed(TEXT))),
    ],
)
async def test_what_cannot_be_decoded_is_a_protocol_failure(
    server: ScriptedServer, caller: Caller, encoding: bytes, body: bytes
) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        await (await answer(server, caller, wire(encoding, body))).read(2**30)
    assert caught.value.reason is FailureReason.PROTOCOL


async def test_a_bomb_is_stopped_before_it_fills_the_memory(server: ScriptedServer, caller: Caller) -> None:
    taken = 0

    def sink(data: bytes) -> None:
        nonlocal taken
        assert len(data) <= 64 * 1024
        taken += len(data)

    bomb = squeezed(bytes(200_000_000), 9)
    with pytest.raises(UpstreamFailure) as caught:
        await (await answer(server, caller, wire(b"gzip", bomb))).stream(sink)
    assert caught.value.reason is FailureReason.PROTOCOL
    assert taken <= 2**20 + 100 * len(bomb)
    assert taken < 25_000_000


async def test_a_dense_but_honest_body_below_the_free_size_passes(
    server: ScriptedServer, caller: Caller
) -> None:
    body = bytes(2**20 - 1)
    assert len(body) > 100 * len(squeezed(body))
    assert await (await answer(server, caller, wire(b"gzip", squeezed(body)))).read(2**20) == body


async def test_pausing_holds_for_decoded_bytes_too(server: ScriptedServer, caller: Caller) -> None:
    loop = asyncio.get_running_loop()
    body = bytes(random.Random(1).choices(range(8), k=1_500_000))
    response = await answer(server, caller, wire(b"gzip", squeezed(body)))
    seen: list[bytes] = []
    paused = False

    def sink(data: bytes) -> None:
        nonlocal paused
        assert not paused
        seen.append(data)
        paused = True
        response.pause()
        loop.call_soon(go_on)

    def go_on() -> None:
        nonlocal paused
        paused = False
        response.resume()

    await response.stream(sink)
    assert b"".join(seen) == body
    assert len(seen) >= 1_500_000 // 65_536


# ---- many members, and much in few bytes


class Turns:
    """Takes a body, and notes how much of it came in each turn of the loop."""

    def __init__(self) -> None:
        self.taken = [0]
        self.text = bytearray()
        self._timer: asyncio.Handle | None = None

    def sink(self, data: bytes) -> None:
        """Take bytes."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._turn)
        self.taken[-1] += len(data)
        self.text += data

    def _turn(self) -> None:
        self._timer = None
        self.taken.append(0)


EMPTY = squeezed(b"")
EVENTS = [b"event: delta\ndata: %d %d %d\n\n" % (n, n * n, n**40) for n in range(4000)]


@pytest.mark.parametrize(
    "body",
    [
        EMPTY * 5000,
        squeezed(TEXT) + EMPTY * 6000,
        squeezed(b"a") * 5000,
        EMPTY * 900 + squeezed(b"a" * 40) * 5000,
    ],
    ids=["empty", "empty after a text", "a byte each", "little after empty"],
)
async def test_members_out_of_proportion_to_what_they_hold_are_refused(
    server: ScriptedServer, caller: Caller, body: bytes
) -> None:
    with pytest.raises(UpstreamFailure, match="pieces") as caught:
        await (await answer(server, caller, wire(b"gzip", body))).read(2**30)
    assert caught.value.reason is FailureReason.PROTOCOL


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ([squeezed(event, 1) for event in EVENTS], b"".join(EVENTS)),
        ([EMPTY] * 1000, b""),
        ([EMPTY] * 500 + [squeezed(TEXT)] + [EMPTY] * 500, TEXT),
    ],
    ids=["an event each", "some empty", "empty about a text"],
)
async def test_members_that_hold_something_are_one_body(
    server: ScriptedServer, caller: Caller, members: list[bytes], text: bytes
) -> None:
    turns = Turns()
    await (await answer(server, caller, wire(b"gzip", b"".join(members)))).stream(turns.sink)
    assert bytes(turns.text) == text


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_a_body_that_holds_much_gives_way_to_others(
    server: ScriptedServer, caller: Caller, encoding: bytes
) -> None:
    text = TEXT * 60
    body = squeezed(text) if encoding == b"gzip" else zlib.compress(text)
    turns = Turns()
    await (await answer(server, caller, wire(encoding, body))).stream(turns.sink)
    assert bytes(turns.text) == text
    # two reads may have come in the same turn, and each is decoded to no more than as much again
    assert max(turns.taken) <= 3 * (256 + 64) * 1024
    assert len(turns.taken) > len(text) // (1024 * 1024)


async def test_who_leaves_while_a_body_is_decoded_is_given_no_more(
    server: ScriptedServer, caller: Caller
) -> None:
    for leaves in ("closes", "cancels", "raises"):
        response = await answer(server, caller, wire(b"gzip", squeezed(TEXT * 60)))
        seen = 0

        def sink(data: bytes, leaves: str = leaves) -> None:
            nonlocal seen
            seen += len(data)
            if leaves == "raises" and seen > 256 * 1024:
                raise ValueError(leaves)

        done = response.stream(sink)
        if leaves == "closes":
            response.close()
        elif leaves == "cancels":
            done.cancel()
        with pytest.raises((asyncio.CancelledError, ValueError)):
            await done
        had = seen
        for _ in range(20):
            await asyncio.sleep(0)
        assert seen == had
        assert seen < len(TEXT) * 30
        response.close()


async def test_a_reader_that_pauses_while_a_body_is_decoded_gets_all_of_it_later(
    server: ScriptedServer, caller: Caller
) -> None:
    text = TEXT * 20
    response = await answer(server, caller, wire(b"gzip", squeezed(text)))
    turns = Turns()
    done = response.stream(turns.sink)
    response.pause()
    had = len(turns.text)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(turns.text) == had < len(text)
    response.resume()
    await done
    assert bytes(turns.text) == text


def test_a_byte_that_tells_nothing_yet_is_waited_with() -> None:
    inflater = Inflater(gzip=False)
    body = zlib.compress(TEXT)
    inflater.push(body[:1])
    assert (inflater.take(), inflater.busy(), inflater.whole()) == (b"", False, False)
    inflater.push(b"")
    assert not inflater.busy()
    for at in range(1, len(body)):
        inflater.push(body[at : at + 1])
    found = b""
    while inflater.busy():
        found += inflater.take()
    assert (found, inflater.whole()) == (TEXT, True)
