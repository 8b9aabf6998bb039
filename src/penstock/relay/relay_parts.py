"""What the calls of a process share: the parts that serve them, their timers, and the deadlines of their attempts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import msgspec

from penstock.core.dialects.interface import NO_VERSION
from penstock.core.memo import Memo
from penstock.core.routing.pace import Clocks, Limits, Size
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.limits import Gate
from penstock.errors import (
    PenstockError,
)
from penstock.operations.drill import Drills
from penstock.operations.metrics import Metrics
from penstock.operations.tracing.client_metrics import ClientMetrics
from penstock.operations.tracing.traces import Traces
from penstock.relay.answer import (
    RequestMemories,
)
from penstock.relay.answer_memory import AnswerMemory
from penstock.relay.call import Call
from penstock.relay.failover import Failover
from penstock.relay.offload import Offload
from penstock.relay.router import Router
from penstock.relay.standing import Leg, Standing
from penstock.relay.stream import OpenStreams
from penstock.relay.upstream_queue import UpstreamQueue
from penstock.upstream import (
    Deadlines,
    RequestHead,
    UpstreamClient,
)

_MOST_DEADLINES = 256
_EXACT = 10.0
"""Seconds up to which a deadline is not rounded."""

C = TypeVar("C")


class Timings(msgspec.Struct, frozen=True):
    """The relay's timers, in seconds, and the bounds of answers.

    Those are the bytes of a whole one, of all whole ones together, how often a turn may pause, the bytes of a stream that
    are kept where its end needs them, and those that are held of what comes before its first content.
    """

    deadlines: Deadlines = Deadlines()
    clocks: Clocks = Clocks()
    head_hold: float = 20.0
    keepalive: float = 15.0
    max_reply: int = 64 * 1024 * 1024
    max_replies: int = 512 * 1024 * 1024
    max_pauses: int = 8
    max_stream_kept: int = 8 * 1024 * 1024
    max_startup: int = 64 * 1024
    queue: float = 2.0
    """How long a request waits for a place at an upstream that takes only so many at once."""
    queue_flexible: float = 30.0
    """The same for one whose caller has said that it has time."""


class Front(Protocol):
    """What the relay tells of the end of a call, whose response is then complete or can still be refused."""

    def answered(self, call: Call) -> None:
        """The caller has had its answer, or as much of it as there was."""
        ...

    def refused(self, call: Call, error: PenstockError) -> None:
        """The call has ended with this error. Where the response has not begun, the caller is to get it."""
        ...


class Place(Protocol):
    """What the body of a call takes of the memory for bodies."""

    def leave(self) -> None:
        """Give it back."""
        ...


class RelayParts(Generic[C]):
    """One per process. ``C`` is what a running call is."""

    def __init__(  # noqa: PLR0913 - the parts that a relay calls, each named
        self,
        *,
        client: UpstreamClient,
        ledger: Ledger,
        gate: Gate,
        router: Router,
        metrics: Metrics,
        timings: Timings,
        offload: Offload,
        failover: Failover,
        memories: RequestMemories,
        drills: Drills,
        clock: Callable[[], float],
        traces: Traces | None = None,
        client_metrics: ClientMetrics | None = None,
    ) -> None:
        """``clock`` is monotonic, in seconds."""
        self._deadlines: Memo[tuple[float, float, bool], Deadlines] = Memo(_MOST_DEADLINES)
        self._alone: tuple[Limits, bool, Deadlines] | None = None
        self.client = client
        self.ledger = ledger
        self.gate = gate
        self.router = router
        self.metrics = metrics
        self.timings = timings
        self.answers = AnswerMemory(timings.max_replies)
        self.offload = offload
        self.failover = failover
        self.memories = memories
        self.drills = drills
        self.clock = clock
        self.traces = traces
        self.client_metrics = client_metrics
        self.streams = OpenStreams(clock)
        self.queue = UpstreamQueue(timings.queue)
        router.health.left_one = self.queue.stir
        self.calls: dict[str, C] = {}
        """Those that have not ended, by their request ids."""

    def deadlines(self, head: float, total: float, *, thinks: bool = False) -> Deadlines:
        """The usual ones, with another time for the answer's head and for all of it; what ``thinks`` is silent for longer."""
        usual = self.timings.deadlines
        if head > _EXACT:
            head = round(head)
        if total > _EXACT:
            total = round(total)
        known = self._deadlines.get((head, total, thinks))
        if known is None:
            idle = max(usual.idle, self.timings.clocks.thinking) if thinks else usual.idle
            made = replace(usual, first_byte=head, total=total, idle=idle)
            known = self._deadlines.keep((head, total, thinks), made)
        return known

    def first_deadlines(self, limits: Limits, size: Size, *, stream: bool) -> Deadlines:
        """Of a first attempt whose caller has all the time that there is. Of one ``limits`` after the other they are kept."""
        alone = self._alone
        if alone is not None and alone[0] is limits and alone[1] is stream:
            return alone[2]
        total = min(self.timings.deadlines.total, limits.whole)
        if stream:
            made = self.deadlines(limits.head, total, thinks=size.thinks)
        else:
            made = self.deadlines(limits.head, min(limits.content, total))
        self._alone = limits, stream, made
        return made

    def head(self, standing: Standing, leg: Leg, body: bytes) -> RequestHead:
        """The head of a request that goes this way. Raises ``ProviderCredentials``."""
        if leg.head is not None:
            return leg.head
        address, asked = leg.address, standing.caller.asked if leg.own else NO_VERSION
        headers = self.router.headers(leg.attempt, leg.upstream, asked, address, body)
        head = self.client.head(address.origin, b"POST", address.path, headers)
        if self.router.keeps_headers(leg.attempt, leg.upstream):
            leg.head = head
        return head
