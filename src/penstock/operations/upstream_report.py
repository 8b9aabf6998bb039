"""The upstreams as an operator reads of them: what the catalogue has, what was said of it, and what the workers know."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from penstock.core.catalog import Model, Upstream
from penstock.core.routing.candidates import UpstreamKey
from penstock.core.routing.snapshot import LegView
from penstock.core.routing.switches import Switch, switch_of
from penstock.operations.upstreams import FailureSeen, WorkerView

_WORST = ("off", "open", "probing", "cooled", "degraded", "warming", "healthy")
"""The states in their order: of what several workers know the worst is told."""
_SWITCHED = {"drain": "drained", "off": "disabled"}
UNUSED = "unused"
"""No worker has asked it yet, or none runs."""
_ERRORS_TOLD = 3


class LegReport(msgspec.Struct, frozen=True):
    """One upstream. ``models`` are the public ones that it serves; ``until`` is in epoch milliseconds, None: now, or unknown.

    ``why`` is the class of the failure, or the operator's word. ``slowness`` is its first tokens in averages of the model (1.0:
    as the others), ``failing`` its share of failures lately; both of the worker that has asked it most. ``asked`` and
    ``failures`` count since the workers began.
    """

    provider: str
    credential: str
    model: str
    models: tuple[str, ...]
    state: str
    why: str
    until: int | None
    in_flight: int
    asked: int
    failures: dict[str, int]
    slowness: float
    failing: float
    last: tuple[FailureSeen, ...]
    most: int | None = None
    """How many requests all workers together send it at once, by the catalogue or as was learned; None: any number."""
    headroom: dict[str, float] = {}
    """What is left of its limits, by what its answers have told the worker that has asked it most."""
    hinted: bool = False
    """Another process has met what keeps it out, and told the workers here of it."""

    @property
    def name(self) -> str:
        """``PROVIDER[/CREDENTIAL]:MODEL``."""
        credential = f"/{self.credential}" if self.credential else ""
        return f"{self.provider}{credential}:{self.model}"


def report(
    providers: Iterable[Upstream],
    models: Iterable[Model],
    switches: Sequence[Switch],
    workers: Sequence[WorkerView],
    now: int,
) -> tuple[LegReport, ...]:
    """Every upstream that a model has, in the catalogue's order. ``now`` is epoch milliseconds."""
    rows = {row.id: row for row in providers}
    served: dict[UpstreamKey, list[str]] = {}
    for model in models:
        for target in model.targets:
            row = rows.get(target.provider)
            if row is None:
                continue
            for credential in (each.id for each in row.credentials) if row.credentials else ("",):
                served.setdefault((row.id, target.model, credential), []).append(model.id)
    holding = [switch for switch in switches if switch.holds(now)]
    return tuple(_of(key, tuple(public), holding, workers) for key, public in served.items())


def _of(
    key: UpstreamKey, models: tuple[str, ...], holding: Sequence[Switch], workers: Sequence[WorkerView]
) -> LegReport:
    views = [
        (worker, view)
        for worker in workers
        for view in worker.snapshot.legs
        if (view.provider, view.model, view.credential) == key
    ]
    counts: dict[str, int] = {}
    last: list[FailureSeen] = []
    for worker in workers:
        for seen in worker.failures:
            if (seen.provider, seen.model, seen.credential) == key:
                last += seen.last
                for failure, count in seen.counts.items():
                    counts[failure] = counts.get(failure, 0) + count
    state, why, until, hinted = _state(views)
    switch = switch_of(holding, key)
    if switch is not None:
        state, why, until, hinted = _SWITCHED[switch.state], switch.why, switch.until, False
    busiest = max(views, key=lambda each: each[1].asked, default=None)
    return LegReport(
        provider=key[0],
        credential=key[2],
        model=key[1],
        models=models,
        state=state,
        why=why,
        until=until,
        in_flight=sum(view.in_flight for _, view in views),
        asked=sum(view.asked for _, view in views),
        failures=counts,
        slowness=1.0 if busiest is None else round(busiest[1].slowness, 2),
        failing=0.0 if busiest is None else round(busiest[1].failures, 3),
        most=_most(views),
        headroom={} if busiest is None else {k: round(v, 2) for k, v in busiest[1].headroom.items()},
        hinted=hinted,
        last=tuple(sorted(last, key=lambda seen: seen.at, reverse=True)[:_ERRORS_TOLD]),
    )


def _most(views: Sequence[tuple[WorkerView, LegView]]) -> int | None:
    limits = [view.most for _, view in views]
    return None if not limits or None in limits else int(sum(each for each in limits if each is not None))


def _state(views: Sequence[tuple[WorkerView, LegView]]) -> tuple[str, str, int | None, bool]:
    """The worst of what the workers know: the state, the failure that led to it, until when it is out, and by whose word."""
    if not views:
        return UNUSED, "", None, False
    found: Mapping[str, tuple[WorkerView, LegView]] = {
        view.state(worker.snapshot.now): (worker, view)
        # of two that know the same, the one that has met it itself is told
        for worker, view in sorted(views, key=lambda each: not each[1].hinted(each[0].snapshot.now))
    }
    state = next(word for word in _WORST if word in found)
    if state == "healthy":
        return state, "", None, False
    worker, view = found[state]
    left = view.until - worker.snapshot.now
    until = worker.at + int(left * 1000) if left > 0 else None
    return state, view.last_class, until, view.hinted(worker.snapshot.now)


class CredentialReport(msgspec.Struct, frozen=True):
    """One credential over all models that it is used for: the worst that is known, and who comes back from it by itself.

    ``by`` is ``staff`` where somebody has said so, ``service`` where a failure has; then a probe or time ends it.
    """

    state: str
    why: str
    until: int | None
    by: str
    in_flight: int
    asked: int
    last: FailureSeen | None
    hinted: bool = False
    """Another process has met it, and told the workers here of it."""


def of_credential(
    legs: Iterable[LegReport], switches: Sequence[Switch], key: UpstreamKey, now: int
) -> CredentialReport:
    """What is known of one credential; ``key`` is its provider and name, with no model."""
    mine = [leg for leg in legs if (leg.provider, leg.credential) == (key[0], key[2])]
    running, asked = sum(leg.in_flight for leg in mine), sum(leg.asked for leg in mine)
    seen = [it for leg in mine for it in leg.last]
    last = max(seen, key=lambda it: it.at, default=None)
    wide = [switch for switch in switches if switch.holds(now) and not switch.reach.model]
    switch = switch_of(wide, key)
    if switch is not None:
        return CredentialReport(
            _SWITCHED[switch.state], switch.why, switch.until, "staff", running, asked, last
        )
    worst = min(mine, key=_rank, default=None)
    if worst is None:
        return CredentialReport(UNUSED, "", None, "", running, asked, last)
    by = (
        ""
        if worst.state in ("healthy", UNUSED)
        else "staff"
        if worst.state in _SWITCHED.values()
        else "service"
    )
    return CredentialReport(worst.state, worst.why, worst.until, by, running, asked, last, worst.hinted)


def _rank(leg: LegReport) -> int:
    order = (*_WORST, *_SWITCHED.values(), UNUSED)
    return order.index(leg.state)
