"""Snapshots: what one process knows of upstreams, as plain values that another process can choose by.

A snapshot has all that ``choose`` reads. What is known of it is laid on candidates of the same catalogue, so that the same
functions give the same answer there.
"""

import msgspec

from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.bounds.learned_limit import LearnedLimit
from penstock.core.routing.circuit_breaker import CircuitView
from penstock.core.routing.health import Health, UpstreamHealth


class LegView(msgspec.Struct, frozen=True):
    """What is known of one provider's model with one credential ('': it has no pool).

    Times are of the process's monotonic clock, in seconds; ``circuits`` are those of address, model, credential, allowance.
    """

    provider: str
    model: str
    credential: str
    circuits: tuple[CircuitView, CircuitView, CircuitView, CircuitView]
    warm_at: float
    in_flight: int
    slowness: float
    failures: float
    sampled_at: float
    trickled_at: float
    resorted_at: float
    last_class: str
    asked: int
    limit: float = 0.0
    """How many requests it is sent at once, as was learned; 0.0: any number."""
    bounds: tuple[tuple[int, int], ...] = ()
    """The same as the catalogue says, for its provider and for itself: how many are there, and how many may be."""
    headroom: dict[str, float] = {}
    """What is left of its limits, from 0.0 to 1.0, by the kinds that its answers tell of."""

    @property
    def most(self) -> float | None:
        """How many requests it is sent at once; None: any number."""
        limits = [float(limit) for _, limit in self.bounds]
        return min((*limits, self.limit) if self.limit else limits, default=None)

    def state(self, now: float) -> str:
        """One word for how it is: ``off``, ``open``, ``probing``, ``cooled``, ``degraded``, ``warming`` or ``healthy``."""
        if any(circuit.probing for circuit in self.circuits):
            return "probing"
        for word in ("off", "open"):
            if any(circuit.state == word for circuit in self.circuits):
                return word
        if self.until > now:
            return "cooled"
        if self.circuits[1].degraded:
            return "degraded"
        return "warming" if self.warm_at > now else "healthy"

    @property
    def until(self) -> float:
        """When it can be asked again; 0.0: now."""
        return max(circuit.until for circuit in self.circuits)

    def hinted(self, now: float) -> bool:
        """Another process has met what keeps it out: nothing was met here."""
        return self.state(now) != "healthy" and max(self.circuits, key=_until).hinted


def _until(circuit: CircuitView) -> float:
    return circuit.until


class Snapshot(msgspec.Struct, frozen=True):
    """All that one process knows, at ``now`` of its monotonic clock."""

    now: float
    legs: tuple[LegView, ...]


def taken(health: Health, now: float) -> Snapshot:
    """What is known now."""
    return Snapshot(now, tuple(_view(known, now) for known in health.all()))


def _view(known: UpstreamHealth, now: float) -> LegView:
    provider, model, credential = known.key
    first, second, third, fourth = known.circuits
    return LegView(
        provider=provider,
        model=model,
        credential=credential,
        circuits=(first.view(), second.view(), third.view(), fourth.view()),
        warm_at=known.warm_at,
        in_flight=known.in_flight,
        slowness=known.slowness,
        failures=known.failures,
        sampled_at=known.sampled_at,
        trickled_at=known.trickled_at,
        resorted_at=known.resorted_at,
        last_class=known.last_class.value,
        asked=known.asked,
        limit=0.0 if known.learned is None else known.learned.limit,
        bounds=tuple((each.taken, each.limit) for each in known.capacities),
        headroom=known.headroom.ratios(now),
    )


def lay(snapshot: Snapshot, board: Board) -> None:
    """Have the board, whose health is a new one, know what the snapshot knows of its candidates."""
    views = {(view.provider, view.model, view.credential): view for view in snapshot.legs}
    for _, entries in board.tiers:
        for _, known, _ in entries:
            view = views.get(known.key)
            if view is not None:
                _lay(view, known, snapshot.now)
                board.health.refresh(known, snapshot.now)
                # what refreshing works out for one that has just come back
                known.slowness, known.failures, known.warm_at = view.slowness, view.failures, view.warm_at


def _lay(view: LegView, known: UpstreamHealth, now: float) -> None:
    for circuit, of_circuit in zip(known.circuits, view.circuits, strict=True):
        circuit.lay(of_circuit)
    known.warm_at = view.warm_at
    known.in_flight = view.in_flight
    known.sampled_at = view.sampled_at
    known.trickled_at = view.trickled_at
    known.resorted_at = view.resorted_at
    known.last_class = FailureClass(view.last_class)
    for capacity, (have, _) in zip(known.capacities, view.bounds, strict=False):
        capacity.taken = have
    if view.limit:
        known.learned = LearnedLimit(view.limit, now)
