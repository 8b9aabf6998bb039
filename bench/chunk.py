"""What one more chunk of a stream costs in process, from the upstream's read to the caller's write: ``python -m bench.chunk``.

Connection, parser, answer, lane, stream and exchange are the real ones; the two sockets do nothing. For each pair of
dialects a long answer of plain words is read chunk by chunk, by the pipe and all the long way in turn; printed are the
calls a chunk (Python and C, free of noise) and the least microseconds of many rounds.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from math import inf
from types import FrameType

import uvloop

from penstock.core.dialects.registry import caller_side
from penstock.relay.stream import ResponseStream
from penstock.server.limits import ServerLimits
from penstock.server.request_head import RequestHead
from penstock.server.served_exchange import ServedExchange
from penstock.upstream import Deadlines, UpstreamResponse
from penstock.upstream.connection import UpstreamConnection
from tests.core.dialects.delta_frames import BEGIN, FRAMES, written
from tests.service.pipes import DIALECTS, HEAD, Ear, Head, Pool, Socket, Way, chunk

ROUNDS = 60
CHUNKS = 200
_WORDS = [" time", " and", " again", " the", " river", " ran", " over", " its", " stones", " slowly"]


class Line:
    """The caller's connection, as far as an answer needs it."""

    max_body = 0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport = Socket()

    def want_body(self) -> None:
        """Nothing comes."""

    def head_lines(self) -> bytes:
        """No more lines."""
        return b""

    def refuse(self, exchange: ServedExchange, error: Exception) -> None:
        """Nothing is refused."""

    def response_done(self) -> None:
        """Nothing follows."""

    def cut(self, *, reset: bool) -> None:
        """Nothing is cut."""

    def forget(self, exchange: ServedExchange) -> None:
        """Nothing is kept."""


def reads(dialect: str, kind: str, first: int) -> list[bytes]:
    """Chunks of words, each a read."""
    return [
        chunk(FRAMES[dialect](kind, written(_WORDS[number % len(_WORDS)]), number))
        for number in range(first, first + CHUNKS)
    ]


class Stream:
    """One stream under way."""

    def __init__(self, way: Way, kind: str, *, piped: bool) -> None:
        loop = asyncio.get_running_loop()
        line = Line(loop)
        head = RequestHead(ServerLimits())
        head.feed(b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 0)
        head.check()
        exchange = ServedExchange(line, head, "192.0.2.1")
        self.connection = UpstreamConnection(Pool(), loop)
        self.connection.connection_made(Socket())
        response = UpstreamResponse(self.connection, 0.0, reused=False)
        self.connection.send(response, b"", b"", Deadlines(), inf, Head(), stream=True)
        self.connection.data_received(HEAD)
        side = caller_side(way.caller)
        stream = ResponseStream(
            exchange,
            side,
            "req_1",
            delivered=lambda: None,
            begin=lambda: exchange.start(200, [(b"content-type", b"text/event-stream")]),
            clock=time.monotonic,
            hold_until=inf,
            keepalive=15.0,
            max_startup=65536,
            piped=piped,
        )
        stream.attach(response, way.lane(Ear()))
        self._done = response.stream(stream.sink)
        self.connection.data_received(chunk(BEGIN[way.upstream]))
        if kind == "text":
            self.connection.data_received(chunk(FRAMES[way.upstream]("role", b'""', 1)))
        for read in reads(way.upstream, kind, 2)[:3]:
            self.connection.data_received(read)


def seconds(received: Callable[[bytes], None], wire: list[bytes]) -> float:
    """How long these reads take, each."""
    begun = time.perf_counter()
    for read in wire:
        received(read)
    return (time.perf_counter() - begun) / len(wire)


def calls(received: Callable[[bytes], None], wire: list[bytes]) -> float:
    """How many calls these reads make, each."""
    made = 0

    def note(_frame: FrameType, event: str, _: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(note)
    for read in wire:
        received(read)
    sys.setprofile(None)
    return made / len(wire)


async def main() -> None:
    """Print the table."""
    print(
        f"{'upstream':10} {'caller':10} {'kind':8} {'calls, long':>12} {'piped':>6} {'us, long':>9} {'piped':>6}"
    )
    for upstream in DIALECTS:
        for caller in DIALECTS:
            for kind in ("text", "thought"):
                way = Way(upstream, caller)
                both = [Stream(way, kind, piped=piped) for piped in (False, True)]
                wire = reads(upstream, kind, 10)
                counted = [calls(stream.connection.data_received, wire) for stream in both]
                least = [inf, inf]
                for _ in range(ROUNDS):
                    for at, stream in enumerate(both):
                        least[at] = min(least[at], seconds(stream.connection.data_received, wire))
                print(
                    f"{upstream:10} {caller:10} {kind:8} {counted[0]:12.1f} {counted[1]:6.1f} "
                    f"{least[0] * 1e6:9.2f} {least[1] * 1e6:6.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    uvloop.run(main())
