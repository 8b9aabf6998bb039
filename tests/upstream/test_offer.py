"""Reads that begin with a chunk are offered before they are parsed: what is taken, what is left, and when none is."""

import asyncio
import gzip
from collections.abc import Callable

import pytest

from penstock.upstream import UpstreamFailure
from tests.upstream.scripted import PATIENT, Caller, ScriptedServer
from tests.upstream.test_flow import CHUNKED_HEAD, END, chunk, open_stream


class Reader:
    """Takes what it is offered as far as it is whole chunks of ``known``, and notes all that it sees, in its order."""

    def __init__(self, known: bytes) -> None:
        self.known = chunk(known)
        self.seen: list[tuple[str, bytes]] = []
        self.moved = asyncio.Event()

    def sink(self, data: bytes) -> None:
        self.seen.append(("parsed", data))
        self.moved.set()

    def take(self, data: bytes) -> int:
        taken = 0
        while data.startswith(self.known, taken):
            taken += len(self.known)
        self.seen.append(("offered", data))
        self.moved.set()
        return taken

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.moved.clear()
            await self.moved.wait()

    def offered(self) -> list[bytes]:
        return [data for what, data in self.seen if what == "offered"]

    def parsed(self) -> bytes:
        return b"".join(data for what, data in self.seen if what == "parsed")


async def test_what_is_taken_is_not_parsed_and_what_is_left_is(
    server: ScriptedServer, caller: Caller
) -> None:
    peer, response = await open_stream(server, caller, chunk(b"first"))
    reader = Reader(b"known")
    done = response.stream(reader.sink)
    response.offer(reader.take)
    for read in (
        chunk(b"known"),
        chunk(b"known") * 3,
        chunk(b"known") + chunk(b"other"),
        chunk(b"other") + chunk(b"known"),
        chunk(b"known"),
    ):
        before = len(reader.offered())
        await peer.say(read)
        await reader.until(lambda before=before: len(reader.offered()) > before)
    await peer.say(END)
    await done
    assert reader.parsed() == b"first" + b"other" + b"other" + b"known"
    assert caller.connections() == (1, 1), "it is as good as any other for the next request"
    (idle,) = caller.client._pools[server.origin].idle
    assert idle.taker is None, "it does not hold on to a stream that is over"


@pytest.mark.parametrize("cut", range(1, len(chunk(b"known"))))
async def test_a_read_that_begins_within_a_chunk_is_not_offered(
    server: ScriptedServer, caller: Caller, cut: int
) -> None:
    peer, response = await open_stream(server, caller, chunk(b"first"))
    reader = Reader(b"known")
    done = response.stream(reader.sink)
    response.offer(reader.take)
    whole = chunk(b"known")
    await peer.say(whole + whole[:cut])
    await reader.until(lambda: len(reader.offered()) == 1)
    await peer.say(whole[cut:])
    await reader.until(lambda: reader.parsed() == b"firstknown")
    await peer.say(whole)
    await reader.until(lambda: len(reader.offered()) > 1)
    await peer.say(END)
    await done
    assert reader.parsed() == b"firstknown"


async def test_no_other_framing_is_offered(server: ScriptedServer, caller: Caller) -> None:
    reader = Reader(b"known")
    packed = gzip.compress(b"known known")
    for head, body in (
        (b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n", chunk(b"known") * 2),
        (
            CHUNKED_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"),
            chunk(packed[:9]) + chunk(packed[9:]) + END,
        ),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", chunk(b"known")),
    ):
        sending = caller.start(stream=True, deadlines=PATIENT)
        peer = await server.accept() if not server.peers or server.waiting() else server.peers[-1]
        await peer.request()
        await peer.say(head + body[:5])
        response = await sending
        done = response.stream(reader.sink)
        response.offer(reader.take)
        await peer.say(body[5:])
        if b"close" in head:
            await peer.hang_up()
        await done
        response.close()
    assert reader.offered() == []
    assert reader.parsed() == chunk(b"known") * 2 + b"known known" + chunk(b"known")


async def test_what_the_taker_raises_ends_the_stream(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller, chunk(b"first"))
    seen: list[bytes] = []
    done = response.stream(seen.append)

    def take(data: bytes) -> int:
        raise LookupError("the pipe has burst")

    response.offer(take)
    await peer.say(chunk(b"next"))
    with pytest.raises(LookupError):
        await done
    await peer.gone()
    assert seen == [b"first"]


async def test_while_reading_is_paused_nothing_is_offered(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller, chunk(b"first"))
    reader = Reader(b"known")
    done = response.stream(reader.sink)
    response.offer(reader.take)
    response.pause()
    await peer.say(chunk(b"known"), chunk(b"known"))
    assert reader.offered() == []
    response.resume()
    await reader.until(lambda: b"".join(reader.offered()) == chunk(b"known") * 2)
    await peer.say(END)
    await done


async def test_one_who_waits_no_longer_is_offered_nothing(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller, chunk(b"first"))
    reader = Reader(b"known")
    done = response.stream(reader.sink)
    response.offer(reader.take)
    done.cancel()
    await asyncio.sleep(0)
    await peer.say(chunk(b"known"))
    await peer.gone()
    assert reader.offered() == []


@pytest.mark.parametrize(
    ("first", "second", "body"),
    [
        # the content of a chunk looks like a chunk
        (b"a\r\n", chunk(b"known") + b"\r\n", chunk(b"known")),
        # and so does the rest of a chunk whose size was cut
        (b"1", b"5\r\nknown\r\n" + b"x" * 14 + b"\r\n", b"known\r\n" + b"x" * 14),
    ],
)
async def test_what_looks_like_a_chunk_within_another_is_not_offered(
    server: ScriptedServer, caller: Caller, first: bytes, second: bytes, body: bytes
) -> None:
    peer, response = await open_stream(server, caller, chunk(b"begin"))
    reader = Reader(b"known")
    done = response.stream(reader.sink)
    response.offer(reader.take)
    await peer.say(first)
    await reader.until(lambda: reader.offered() == [first])
    await peer.say(second)
    await peer.hang_up()
    with pytest.raises(UpstreamFailure):  # it was cut after that chunk
        await done
    assert reader.parsed() == b"begin" + body
