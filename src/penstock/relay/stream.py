"""The response stream: one streamed reply on its way from the upstream to the caller.

The machine, in words. It begins *holding*: nothing of the answer goes to the caller, so that another attempt can make a
failure good. Start-up frames are kept meanwhile. When the hold of the head is over the caller gets 200 and keep-alives,
and the stream goes on holding. The first content of the answer makes it *flowing*: what was kept goes out, in order and
unchanged. It ends *delivered* when the dialect's own end was written, *broken* when the upstream broke off or reported an
error, and *empty* when it was still holding at a good end, because there is nothing in the answer. The relay then makes
another attempt, with a stream of its own, where this one was holding; or it has the caller told, by the dialect's error
event where the head was sent; or it has the empty one delivered as it is. Where another model is to answer what this one
refuses, a refusal is held, too, and the stream ends *refused*. Bytes move by plain calls from the upstream's
socket to the caller's; when the caller stalls the upstream is paused, so memory stays bounded.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from math import inf
from typing import Protocol

from penstock.core.dialects.interface import NOTHING_ASKED, Asked, CallerSide, StreamForm
from penstock.core.dialects.lanes import Lane
from penstock.errors import PenstockError
from penstock.exchange import Exchange
from penstock.relay.pipe import Pipe
from penstock.relay.upstream_errors import garbled_error, reported_error

log = logging.getLogger("penstock.relay.stream")

COMMENT = b": keep-alive\n\n"
"""A keep-alive every SSE reader ignores; the only one that is safe before the reply's first event."""


class Flow(Protocol):
    """The upstream's side of a stream, as far as the response stream controls it."""

    def pause(self) -> None:
        """Stop reading."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def offer(self, take: Callable[[bytes], int]) -> None:
        """From now on reads that begin with a chunk go to ``take``, which says how many of their bytes it has taken."""
        ...


_REFUSING = re.compile(rb'"refusal" ?: ?"|"type" ?: ?"(?:refusal"|response\.refusal\.)')
"""A refusal in the frames of Chat and of Responses. Messages has a word for its end alone."""


class UpstreamBroke(Exception):
    """Raised from the sink to stop reading: the upstream reported an error inside its stream."""


class ResponseStream:
    """Feeds a lane with upstream bytes and gives what comes out to the caller."""

    __slots__ = (
        "_begin",
        "_clock",
        "_delivered",
        "_exchange",
        "_flow",
        "_hold_until",
        "_keepalive",
        "_last_write",
        "_late",
        "_max_startup",
        "_mute",
        "_pipe",
        "_piped",
        "_refusing",
        "_request_id",
        "_sent",
        "_side",
        "_startup",
        "content_by",
        "done_at",
        "empty",
        "error",
        "first_byte_at",
        "holds_refusals",
        "lane",
        "refused",
    )

    def __init__(  # noqa: PLR0913 - each is one thing of the call, by its name
        self,
        exchange: Exchange,
        side: CallerSide | StreamForm,
        request_id: str,
        *,
        delivered: Callable[[], None],
        begin: Callable[[], None],
        clock: Callable[[], float],
        hold_until: float,
        keepalive: float,
        max_startup: int,
        sent: bytes = b"",
        late: Callable[[], None] | None = None,
        piped: bool = True,
    ) -> None:
        """``begin`` sends the response head. ``hold_until`` is a time of the monotonic ``clock``, ``keepalive`` seconds.

        ``late`` is called when there is no content by ``content_by``.

        ``max_startup`` bytes are held of what comes before the first content. ``sent`` is the caller's own body. Without
        ``piped`` all goes the long way, to the same effect: that is for tests, which compare.
        """
        self._exchange = exchange
        self._flow: Flow | None = None
        self._sent = sent
        self._begin = begin
        self._delivered = delivered
        self._side = side
        self._request_id = request_id
        self._max_startup = max_startup
        self._startup = b""
        self._clock = clock
        self._hold_until = hold_until
        self._keepalive = keepalive
        self._late = late
        self.content_by = inf
        """When the first content must be there, on the monotonic clock."""
        self._last_write = 0.0
        self._piped = piped
        self._pipe: Pipe | None = None
        self.lane: Lane | None = None
        """Set once the upstream has answered."""
        self.first_byte_at: float | None = None
        """When the first content went to the caller."""
        self.done_at: float | None = None
        self.error: PenstockError | None = None
        """Why there is no complete reply, once that is so."""
        self.holds_refusals = False
        """Another model may answer where this one refuses, so a refusal is held as a start-up is."""
        self.refused = False
        """The reply is complete, it is a refusal, and none of it has gone to the caller."""
        self._refusing = False
        self._mute = False
        """Bytes have come of which nothing was made, yet."""
        self.empty = False
        """The reply is complete, and there is nothing in it; none of it has gone to the caller."""

    def attach(self, flow: Flow, lane: Lane) -> None:
        """The upstream has answered well: its body comes next."""
        self._flow = flow
        self.lane = lane
        self._last_write, self._pipe = self._written_at(), None
        if self._exchange.stalled:
            flow.pause()

    def sink(self, data: bytes) -> None:
        """Take body bytes of the upstream."""
        lane = self.lane
        if lane is None or self.done_at is not None:
            return
        out = lane.feed(data)
        if out:
            self._write(out)
        else:
            self._mute = True
        if lane.failure is not None:
            raise UpstreamBroke
        if lane.ended:
            if self.first_byte_at is None:
                self._end_held(b"")
                return
            self.done_at = self._clock()
            self._exchange.end()
            self._delivered()

    def finish(self) -> None:
        """The upstream's body has ended cleanly at the HTTP level; the dialect has the last word."""
        lane = self.lane
        if lane is None or self.done_at is not None:
            return
        out = lane.finish()
        if lane.failure is not None or not lane.done:
            if out:
                self._write(out)
            # what ends well and has said nothing in its dialect, not even that it begins, is something else than a stream
            strange = self._mute and not out and not self._startup and self.first_byte_at is None
            cut = lane.failure is None or lane.failure.truncated
            self.broke(garbled_error() if strange and cut else None)
            return
        if self.first_byte_at is None:
            self._end_held(out)
            return
        self.done_at = self._clock()
        self._exchange.end(out)
        self._delivered()

    def deliver(self) -> float:
        """Give the caller a reply of which all is held, as it is; when that was."""
        out = self._released(b"")
        self.done_at = now = self._clock()
        self._exchange.end(out)
        self._delivered()
        return now

    def _end_held(self, out: bytes) -> None:
        """The reply is complete, ``out`` is the last of it, and nothing of it was content."""
        lane = self.lane
        self._startup += out
        if self.holds_refusals and lane is not None and (self._refusing or lane.stop == "refusal"):
            self.refused = True
            return
        # an answer that counts what it has generated has had something in it that is not shown
        self.empty = (
            lane is not None and lane.stop == "end_turn" and not lane.output_bytes and not lane.usage.output
        )
        if not self.empty:
            self.deliver()

    def broke(self, error: PenstockError | None = None) -> None:
        """There will be no complete reply; ``error`` is set."""
        if self.done_at is not None:
            return
        lane = self.lane
        failure = None if lane is None else lane.failure
        begun = self.first_byte_at is not None or (lane is not None and lane.output_bytes > 0)
        self.error = error or reported_error(failure, self._sent, begun=begun)

    def tell(self, error: PenstockError, asked: Asked = NOTHING_ASKED) -> None:
        """End a response that has begun with the dialect's error event, which may say what was ``asked``.

        In what is no stream of events nothing can be said: it is broken off.
        """
        if not self._side.keepalive:
            self._exchange.abort()
            return
        number = 0 if self.lane is None or self.first_byte_at is None else self.lane.sequence
        frame = self._side.error_frame(error, self._request_id, number, asked)
        self._exchange.end(frame)  # where the caller is lost, nothing of this is sent

    def tick(self, now: float) -> None:
        """Called a few times a second: ends the hold, keeps quiet connections alive."""
        if self.done_at is not None:
            return
        if now >= self.content_by and self.first_byte_at is None and self._late is not None:
            self._late()
            return
        if not self._side.keepalive:
            return
        exchange = self._exchange
        if not exchange.started:
            if now >= self._hold_until:
                self._begin()
                self._last_write = now
                exchange.write(COMMENT)
        elif now - self._written_at() >= self._keepalive and not exchange.stalled:
            self._last_write = now
            exchange.write(COMMENT if self.first_byte_at is None else self._side.keepalive)

    def caller_stalled(self) -> None:
        """The caller reads too slowly."""
        if self._flow is not None:
            self._flow.pause()

    def caller_resumed(self) -> None:
        """The caller has caught up."""
        if self._flow is not None:
            self._flow.resume()

    def _write(self, out: bytes) -> None:
        if self.first_byte_at is None:
            if self._holds(out):
                return
            out = self._released(out)
        if self._piped and self._pipe is None:
            self._lay_pipe()
        self._last_write = self._clock()
        self._exchange.write(out)

    def _holds(self, out: bytes) -> bool:
        """Whether this, too, says nothing yet of the answer; it is kept then, as far as there is room for it."""
        lane = self.lane
        if lane is None or len(self._startup) + len(out) > self._max_startup:
            return False
        refusing = self.holds_refusals and self._refuses(lane, out)
        if lane.output_bytes > 0 and not refusing:
            return False
        if lane.failure is None and not refusing and not self._side.says_nothing(out):
            return False
        self._startup += out
        return True

    def _refuses(self, lane: Lane, out: bytes) -> bool:
        """Whether a refusal has begun, and this goes on with it."""
        if lane.stop == "refusal" or _REFUSING.search(out) is not None:
            self._refusing = True
            return True
        return self._refusing and self._side.says_nothing(out)

    def _released(self, out: bytes) -> bytes:
        """The first that the caller gets of the answer: what was held, and ``out``."""
        self.first_byte_at = self._clock()
        if not self._exchange.started:
            self._begin()
        held, self._startup = self._startup, b""
        return held + out

    def _lay_pipe(self) -> None:
        """What comes from now on may go by the pipe."""
        if self._flow is not None and self.lane is not None:
            self._pipe = Pipe(self.lane, self._exchange, self._clock)
            self._flow.offer(self._pipe.take)

    def _written_at(self) -> float:
        return self._last_write if self._pipe is None else max(self._last_write, self._pipe.last_write)


class OpenStreams:
    """The open streams, and the one timer for all of them, which stops itself when none is left."""

    __slots__ = ("_clock", "_deliveries", "_next", "_ticking")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deliveries: set[ResponseStream] = set()
        self._ticking = False
        self._next = 0.0

    def add(self, delivery: ResponseStream) -> None:
        """One begins."""
        self._deliveries.add(delivery)
        if not self._ticking:
            self._ticking = True
            self._next = self._clock() + _TICK
            asyncio.get_running_loop().call_later(_TICK, self._tick)

    def discard(self, delivery: ResponseStream) -> None:
        """One is over."""
        self._deliveries.discard(delivery)

    def _tick(self) -> None:
        now = self._clock()
        late, self._next = now - self._next, now + _TICK
        for delivery in tuple(self._deliveries):
            try:
                if late > _TICK:  # our loop was stuck, and could not hear the upstream
                    delivery.content_by += late
                delivery.tick(now)
            except Exception:
                # this one gets no more keep-alives; all others do
                log.exception("a stream could not be kept alive")
                self._deliveries.discard(delivery)
        if self._deliveries:
            asyncio.get_running_loop().call_later(_TICK, self._tick)
        else:
            self._ticking = False


_TICK = 0.25
"""Seconds between looks at the open streams."""
