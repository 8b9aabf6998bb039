"""Routing: an ordered plan of attempts over the catalogue's targets and their circuit breakers, with failover in that order.

All of it is arithmetic on its arguments. ``spread``, a number in [0, 1) drawn by the caller, is the only chance in it;
``now`` is a monotonic clock in seconds.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from penstock.core.catalog import DialectName, Feature, Model, Target, Upstream, lacking
from penstock.core.circuit_breaker import CircuitKey, CircuitState, state
from penstock.core.profile import Profile

MOST_ATTEMPTS = 3

# ---- the plan


class Attempt(msgspec.Struct, frozen=True):
    """One try: which provider, by which dialect and base URL, under which name, and with which profile."""

    upstream: Upstream
    model: str
    dialect: DialectName
    url: str
    profile: Profile
    probe: bool = False
    """The circuit is half open: mark it with ``probing`` before sending."""

    @property
    def provider(self) -> str:
        """The provider's id."""
        return self.upstream.id

    @property
    def simulated(self) -> bool:
        """The built-in simulator answers, not a model."""
        return self.upstream.kind == "simulator"

    @property
    def key(self) -> CircuitKey:
        """Where the health of what it tries is kept."""
        return self.upstream.id, self.model


class _Candidate(msgspec.Struct, frozen=True, gc=False):
    """One target as a caller of one dialect meets it, worked out once for each revision of the catalogue."""

    attempt: Attempt
    probe: Attempt
    key: CircuitKey
    weight: int
    lacks: frozenset[Feature]


class Upstreams(dict[str, Upstream]):
    """The providers that are set up, by id; not changed once made, so what follows from them is worked out once."""

    __slots__ = ("_groups",)

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        super().__init__((row.id, row) for row in upstreams)
        self._groups: dict[tuple[str, DialectName], tuple[Model, tuple[tuple[_Candidate, ...], ...]]] = {}

    def groups(
        self, model: Model, dialect: DialectName, formats: Collection[DialectName]
    ) -> tuple[tuple[_Candidate, ...], ...]:
        """The targets of ``model`` that are set up: groups of equals, the best group first.

        ``formats`` follows from ``dialect``.
        """
        known = self._groups.get((model.id, dialect))
        if known is None or known[0] is not model:
            known = self._groups[model.id, dialect] = (model, _grouped(model, self, dialect, formats))
        return known[1]


def plan(
    model: Model,
    upstreams: Upstreams,
    health: Mapping[CircuitKey, CircuitState],
    *,
    features: Iterable[Feature],
    dialect: DialectName,
    formats: Collection[DialectName],
    now: float,
    spread: float,
) -> tuple[Attempt, ...]:
    """The attempts to make for one request, best first, at most three; empty when nothing can serve it.

    ``dialect`` is the caller's, ``formats`` are those that its requests can be sent on in.

    Order: healthy before open circuits; then by priority; within one, targets that speak the caller's dialect first;
    among equals, by weight.
    """
    wanted = frozenset(features)
    attempts: list[Attempt] = []
    opened: list[Attempt] = []
    for group in upstreams.groups(model, dialect, formats):
        closed: list[tuple[int, Attempt]] = []
        open_: list[tuple[int, Attempt]] = []
        for candidate in group:
            if wanted and wanted & candidate.lacks:
                continue
            known = health.get(candidate.key)
            if known is None or known.opened_at is None:
                closed.append((candidate.weight, candidate.attempt))
            elif state(known, now) == "probe":
                closed.append((candidate.weight, candidate.probe))
            else:
                open_.append((candidate.weight, candidate.attempt))
        _draw(closed, spread, attempts)
        _draw(open_, spread, opened)
    return tuple((attempts + opened)[:MOST_ATTEMPTS])


def automatic(candidates: Sequence[Model], features: Iterable[Feature]) -> Model | None:
    """The rule of an ``auto`` model: the first of ``candidates`` that can do all that the request asks for.

    ``candidates`` are the models of its list that the caller's plan has and that are served, in the list's order. When
    none can, the answer is None.
    """
    wanted = frozenset(features)
    return next((model for model in candidates if not wanted & lacking(model)), None)


def _grouped(
    model: Model, upstreams: Mapping[str, Upstream], dialect: DialectName, formats: Collection[DialectName]
) -> tuple[tuple[_Candidate, ...], ...]:
    ranked: dict[tuple[int, bool], list[_Candidate]] = {}
    for target in model.targets:
        attempt = _attempt(target, upstreams.get(target.provider), dialect, formats, model.max_output_tokens)
        if attempt is None:
            continue
        candidate = _Candidate(
            attempt=attempt,
            probe=msgspec.structs.replace(attempt, probe=True),
            key=attempt.key,
            weight=target.weight,
            lacks=frozenset(target.lacks),
        )
        ranked.setdefault((target.priority, attempt.dialect != dialect), []).append(candidate)
    return tuple(tuple(ranked[rank]) for rank in sorted(ranked))


def _attempt(
    target: Target,
    upstream: Upstream | None,
    dialect: DialectName,
    formats: Collection[DialectName],
    longest: int | None,
) -> Attempt | None:
    if upstream is None:
        return None
    spoken: dict[DialectName, str] = {name: url for name, url in upstream.speaks if name in formats}
    if target.via:
        spoken = {name: url for name, url in spoken.items() if name in target.via}
    if not spoken:
        return None
    profile = upstream.profile_of(target.model)
    first = profile.preferred_format or next(iter(spoken))
    chosen = dialect if dialect in spoken else first if first in spoken else next(iter(spoken))
    if longest is not None and "default_max_tokens" not in dict(upstream.habits):
        # an answer that its caller has not limited ends where the model ends
        profile = msgspec.structs.replace(profile, default_max_tokens=longest)
    return Attempt(upstream, target.model, chosen, spoken[chosen], profile)


def _draw(group: list[tuple[int, Attempt]], spread: float, drawn: list[Attempt]) -> None:
    """Append the group in an order drawn by weight: one number is enough, since what is left of it draws the next."""
    if len(group) < 2:
        drawn.extend(attempt for _, attempt in group)
        return
    left = [entry for entry in group if entry[0] > 0]
    while left:
        point = spread * sum(weight for weight, _ in left)
        index = 0
        while index < len(left) - 1 and point >= left[index][0]:
            point -= left[index][0]
            index += 1
        weight, attempt = left.pop(index)
        spread = min(max(point / weight, 0.0), 1.0)
        drawn.append(attempt)
    drawn.extend(attempt for weight, attempt in group if weight <= 0)
