"""A stream from an upstream's socket to the caller's exchange, by the pipe or all the long way, without any network.

The sockets are stand-ins; connection, parser, answer, lane and stream are the real ones. ``crossed`` is given what is
read from the socket, read by read, and says all that can be seen of what has become of it.
"""

import asyncio
import atexit
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import cast

import uvloop

from penstock.core.dialects.interface import Lane
from penstock.core.dialects.lanes import ObservedPassthrough, Translation
from penstock.core.dialects.registry import caller_side, upstream_side
from penstock.core.neutral.events import AnyEvent, Failed
from penstock.core.neutral.request import CallerName
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.tools.names import NO_NAMES, ToolNames
from penstock.exchange import Exchange
from penstock.relay.stream import ResponseStream, UpstreamBroke
from penstock.relay.upstream_errors import network_error
from penstock.upstream import Deadlines, UpstreamFailure, UpstreamResponse
from penstock.upstream.connection import UpstreamConnection
from penstock.upstream.origin import Origin
from tests.core.dialects.sides import stream_of
from tests.service.paper import Paper

DIALECTS = ("chat", "messages", "responses")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
MODEL = "ours"
_SOCKET = socket.socket()
atexit.register(_SOCKET.close)


def chunk(data: bytes, *, upper: bool = False) -> bytes:
    """``data`` as one chunk."""
    return (b"%X\r\n%b\r\n" if upper else b"%x\r\n%b\r\n") % (len(data), data)


class Socket(asyncio.Transport):
    """The upstream's socket: takes what is written, and is read by the test."""

    def __init__(self) -> None:
        super().__init__({"socket": _SOCKET})
        self.open = True

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return not self.open

    def abort(self) -> None:
        self.open = False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Pool:
    """The pool of the upstream's connection."""

    origin = Origin("http", "127.0.0.1", 1)
    max_response_head = 64 * 1024

    def give_back(self, connection: UpstreamConnection) -> None:
        pass

    def forget(self, connection: UpstreamConnection) -> None:
        pass

    def lost(self, connection: UpstreamConnection) -> None:
        pass


class Tap:
    """The upstream's answer, which counts what is taken of it by the pipe."""

    def __init__(self, response: UpstreamResponse) -> None:
        self.pause, self.resume, self.close = response.pause, response.resume, response.close
        self._response = response
        self.carried = 0

    def offer(self, take: Callable[[bytes], int]) -> None:
        def counted(data: bytes) -> int:
            taken = take(data)
            self.carried += taken > 0
            return taken

        self._response.offer(counted)


class Ear:
    """A listener that notes the events."""

    def __init__(self) -> None:
        self.heard: list[AnyEvent] = []

    def take(self, event: AnyEvent) -> None:
        self.heard.append(event)


@dataclass(frozen=True)
class Way:
    """Which lane a stream takes."""

    upstream: str
    caller: str
    listened: bool = False
    hides: bool = False
    named: bool = False
    pausable: bool = False
    think_tags: bool = False
    withholds: bool = False

    @property
    def profile(self) -> Profile:
        return Profile(think_tags=True) if self.think_tags else DEFAULT_PROFILE

    def lane(self, ear: Ear) -> Lane:
        if self.upstream == self.caller:
            lane = stream_of(self.upstream)(model=MODEL, withhold_usage=self.withholds)
            if not self.listened:
                return lane
            return ObservedPassthrough(
                lane, upstream_side(self.upstream).ResponseDecoder(profile=self.profile), ear
            )
        side = upstream_side(self.upstream)
        pauses = side.pauses if self.pausable else None
        pausable = None if pauses is None else pauses.Decoder(profile=self.profile)
        decoder = pausable or side.ResponseDecoder(profile=self.profile)
        encoder = caller_side(self.caller).ResponseEncoder(
            model=MODEL,
            reply_id="reply-1",
            created=1_700_000_000,
            include_usage=not self.withholds,
            input_estimate=42,
        )
        names = ToolNames({"tool": CallerName("the tool")}) if self.named else NO_NAMES
        lane = Translation(
            decoder, encoder, names, ear if self.listened else None, hides_reasoning=self.hides
        )
        lane.pausable = pausable
        return lane


@dataclass
class Outcome:
    """All that can be seen of a stream afterwards."""

    body: bytes
    error: str
    usage: Usage
    failure: Failed | None
    done: bool
    ended: bool
    stop: str | None
    started: bool
    output_bytes: int
    sequence: int
    heard: list[AnyEvent]


@dataclass
class Crossing:
    """A stream that has crossed: its outcome, and in how many of the reads the pipe has taken something."""

    outcome: Outcome
    carried: int
    writes: list[bytes]


class Head:
    """Who waits for the upstream's head."""

    seen = False

    def answered(self, response: UpstreamResponse) -> None:
        del response
        self.seen = True

    def failed(self, failure: Exception) -> None:
        raise failure


async def _cross(way: Way, reads: Sequence[bytes], *, piped: bool, eof: bool) -> Crossing:
    loop = asyncio.get_running_loop()
    connection = UpstreamConnection(Pool(), loop)
    wire, paper, ear = Socket(), Paper(), Ear()
    connection.connection_made(wire)
    response = UpstreamResponse(connection, 0.0, reused=False)
    head = Head()
    connection.send(response, b"", b"", Deadlines(), inf, head, stream=True)
    connection.data_received(HEAD)
    assert head.seen
    side = caller_side(way.caller)
    stream = ResponseStream(
        cast("Exchange", paper),
        side,
        "req_1",
        delivered=lambda: None,
        begin=lambda: paper.start(200, []),
        clock=lambda: 1.0,
        hold_until=inf,
        keepalive=inf,
        max_startup=65536,
        piped=piped,
    )
    lane = way.lane(ear)
    tap = Tap(response)
    stream.attach(tap, lane)
    done = response.stream(stream.sink)
    for read in reads:
        if not wire.open or done.done():
            break
        connection.data_received(read)
    if eof and wire.open and not done.done():
        connection.eof_received()
    if done.done():
        try:
            await done
            stream.finish()
        except UpstreamBroke:
            stream.broke()
        except UpstreamFailure as failure:
            stream.broke(network_error(failure))
    response.close()
    error = "" if stream.error is None else stream.error.code
    outcome = Outcome(
        b"".join(paper.written),
        error,
        lane.usage,
        lane.failure,
        lane.done,
        lane.ended,
        lane.stop,
        lane.started,
        lane.output_bytes,
        lane.sequence,
        ear.heard,
    )
    return Crossing(outcome, tap.carried, paper.written)


_LOOP: list[asyncio.AbstractEventLoop] = []


def crossed(way: Way, reads: Sequence[bytes], *, piped: bool = True, eof: bool = True) -> Crossing:
    """What becomes of a body that is read in these pieces; with ``eof`` the upstream then closes its connection."""
    if not _LOOP:
        _LOOP.append(uvloop.new_event_loop())
    return _LOOP[0].run_until_complete(_cross(way, reads, piped=piped, eof=eof))


def same(way: Way, reads: Sequence[bytes], *, eof: bool = True) -> Crossing:
    """The stream by the pipe, after it was seen that all is as without."""
    long = crossed(way, reads, piped=False, eof=eof)
    short = crossed(way, reads, eof=eof)
    assert long.carried == 0
    assert short.outcome == long.outcome
    return short


def ways(upstream: str) -> Iterator[Way]:
    """All lanes by which a stream of this dialect may go."""
    for caller in DIALECTS:
        yield Way(upstream, caller)
        yield Way(upstream, caller, listened=True, withholds=True, think_tags=True)
        if caller != upstream:
            yield Way(upstream, caller, listened=True, hides=True, named=True, pausable=True)
