"""A detour: what a call needs to remember where it does not go straight to one upstream of its model.

That is a place at an upstream that takes only so many requests at once, a turn in the queue before it, a stream that is kept
alive meanwhile, and further models that may answer. Most calls have none.
"""

from penstock.core.catalog import Cause
from penstock.core.routing.bounds.capacity import Seat
from penstock.core.routing.bounds.fair_queue import Ticket
from penstock.core.routing.preferences import Preference
from penstock.domain.catalog.catalog import Resolution
from penstock.errors import PenstockError
from penstock.relay.probe import Probe
from penstock.relay.refused_answer import RefusedAnswer
from penstock.relay.stream import OpenStreams, ResponseStream
from penstock.relay.upstream_queue import TakePlace, UpstreamQueue


class Detour:
    """Of one call."""

    __slots__ = (
        "empty",
        "failure",
        "models",
        "preference",
        "probe",
        "queued_at",
        "refused",
        "seat",
        "stands_in",
        "stream",
        "turn",
        "wanted",
    )

    def __init__(self, preference: Preference | None) -> None:
        """``preference`` is what is asked of the choice."""
        self.preference = preference
        self.wanted: tuple[Resolution, ...] = ()
        """Models that the caller has named to answer in place of the first."""
        self.models: list[tuple[Resolution, tuple[Cause, ...]]] | None = None
        """Those that are left of all that may, and for which causes; None: not looked at."""
        self.stands_in = False
        """One of them is asked."""
        self.failure: PenstockError | None = None
        """Why the first model did not answer."""
        self.refused: RefusedAnswer | None = None
        """What the first model has said instead of an answer."""
        self.empty = False
        """An answer had nothing in it, and another upstream was asked."""
        self.probe: Probe | None = None
        """The attempt that is made now, where it is one that the request may leave."""
        self.seat: Seat | None = None
        self.queued_at = 0.0
        """Since when a place was waited for, on the monotonic clock."""
        self.turn: Ticket[TakePlace] | None = None
        self.stream: ResponseStream | None = None
        """What gives the caller comments while something is waited for."""

    def sit(self, seat: Seat | None) -> None:
        """Have another place in place of this one."""
        before, self.seat = self.seat, seat
        if before is not None:
            before.leave()

    def stop_waiting(self, queue: UpstreamQueue, streams: OpenStreams) -> None:
        """Nothing is waited for any more."""
        turn, self.turn = self.turn, None
        if turn is not None:
            queue.leave(turn)
        stream, self.stream = self.stream, None
        if stream is not None:
            streams.discard(stream)

    def take_seat(self) -> Seat | None:
        """The place, for somebody else to leave."""
        seat, self.seat = self.seat, None
        return seat

    def stop_probing(self) -> None:
        """The attempt is none any more that the request may leave."""
        probe, self.probe = self.probe, None
        if probe is not None:
            probe.stop()
