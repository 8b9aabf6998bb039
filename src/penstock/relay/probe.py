"""A probe: an attempt at a provider that was out, which its request can leave behind for a second leg beside it.

Somebody has to find out whether a provider is back, and is not to be the worse for it. So a request that carries a probe goes
on elsewhere when there is no content within a moment. The probe stays on its way: as soon as its own answer has begun, or has
failed, the provider's health knows, and the rest of it is not wanted.
"""

import asyncio
from collections.abc import Callable

from penstock.core.dialects.interface import Lane, UpstreamFormat
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.bounds.capacity import Seat
from penstock.core.routing.health import Failure, Health
from penstock.core.routing.pace import Pace
from penstock.errors import PenstockError
from penstock.relay.failover import Parted, class_of
from penstock.relay.upstream_errors import network_error, refused_error, reported_error
from penstock.upstream import Sending, UpstreamFailure, UpstreamResponse


class Probe:
    """Hears of the attempt in its request's place, and tells it, until ``left`` takes over."""

    __slots__ = ("_answered", "_bytes", "_ended", "_failed", "left", "timer")

    def __init__(
        self,
        answered: Callable[[UpstreamResponse], None],
        failed: Callable[[Exception], None],
        arrived: Callable[[bytes], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """What of the request hears of the head, of there being none, of bytes of a stream, and of its end."""
        self._answered = answered
        self._failed = failed
        self._bytes = arrived
        self._ended = ended
        self.left: LeftProbe | None = None
        self.timer: asyncio.TimerHandle | None = None

    def answered(self, response: UpstreamResponse) -> None:
        """The head is there."""
        (self._answered if self.left is None else self.left.answered)(response)

    def failed(self, failure: Exception) -> None:
        """There will be none."""
        (self._failed if self.left is None else self.left.broke)(failure)

    def arrived(self, data: bytes) -> None:
        """Bytes of the stream."""
        (self._bytes if self.left is None else self.left.arrived)(data)

    def ended(self, error: BaseException | None) -> None:
        """The stream has ended, or broken off."""
        (self._ended if self.left is None else self.left.ended)(error)

    def stop(self) -> None:
        """The request does not wait for a moment to leave it any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class LeftProbe:
    """One that its request has left. It ends by itself, at its deadlines at the latest."""

    __slots__ = (
        "_asked",
        "_clock",
        "_format",
        "_health",
        "_lane",
        "_lane_for",
        "_most",
        "_over",
        "_pace",
        "_response",
        "_seat",
        "_sending",
        "_timer",
        "_told",
    )

    def __init__(  # noqa: PLR0913 - what it takes over of its request, each by its name
        self,
        asked: Parted,
        *,
        health: Health,
        pace: Pace,
        upstream: UpstreamFormat,
        lane_for: Callable[[UpstreamResponse], Lane] | None,
        lane: Lane | None,
        sending: Sending | None,
        response: UpstreamResponse | None,
        seat: Seat | None,
        told: Callable[[bool], None],
        most: int,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        """``lane_for`` reads a stream (None: a whole answer is waited for, of ``most`` bytes), ``lane`` the one that has begun.

        ``seconds`` are left for its first content. ``told`` hears in the end whether the upstream works.
        """
        self._asked = asked
        self._health = health
        self._pace = pace
        self._format = upstream
        self._lane_for = lane_for
        self._lane = lane
        self._sending = sending
        self._response = response
        self._seat = seat
        self._told = told
        self._most = most
        self._clock = clock
        self._over = False
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._late)
        if response is not None:
            response.resume()

    def answered(self, response: UpstreamResponse) -> None:
        """The head is there."""
        self._sending, self._response = None, response
        if not 200 <= response.status < 300:
            self._end(class_of(refused_error(response, b"", self._format, None)))
        elif self._lane_for is None:
            response.gather(self._most, None, self._whole)
        else:
            self._lane = self._lane_for(response)
            response.deliver(self.arrived, self.ended)

    def broke(self, failure: BaseException) -> None:
        """It has failed on its way."""
        if isinstance(failure, UpstreamFailure):
            failure = network_error(failure)
        self._end(class_of(failure) if isinstance(failure, PenstockError) else FailureClass.OURS)

    def arrived(self, data: bytes) -> None:
        """Bytes of its stream."""
        lane = self._lane
        if lane is None or self._over:
            return
        lane.feed(data)
        if lane.failure is not None:
            self._end(class_of(reported_error(lane.failure)))
        elif lane.output_bytes or lane.done:
            self._end(None)

    def ended(self, error: BaseException | None) -> None:
        """The stream has ended before there was anything in it, or broken off."""
        self.broke(error) if error is not None else self._end(FailureClass.BROKEN)

    def _whole(self, body: bytes | BaseException) -> None:
        if not isinstance(body, bytes):
            self.broke(body)
            return
        passing = self._format.passing
        failed = None if passing is None else passing.response(body, model=None)[2]
        self._end(None if failed is None else class_of(reported_error(failed)))

    def _late(self) -> None:
        self._end(FailureClass.SLOW)

    def _end(self, found: FailureClass | None) -> None:
        """It is known what comes of it; None: it works."""
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        asked, health, now = self._asked, self._health, self._clock()
        known = asked.known
        if found is None:
            health.timed(known, self._pace.add(asked.kind, now - asked.sent_at, now), now)
            health.succeeded(known, asked.sent_at, now, asked.user)
        else:
            health.failed(Failure(known, found, asked.sent_at, now, asked.user, asked.body))
        health.left(known, now, probe=True)
        self._told(found is None)
        if self._seat is not None:
            self._seat.leave()
        if self._sending is not None:
            self._sending.close()
        if self._response is not None:
            self._response.close()
