"""Which upstream a request goes to: an ordered plan over the catalogue's targets and what is known of their health.

All of it is arithmetic on its arguments. ``spread``, a number in [0, 1) drawn by the caller, is the only chance in it;
``now`` is a monotonic clock in seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, get_args

import msgspec

from penstock.core.profile import DEFAULT_PROFILE, Profile

DialectName = Literal["chat", "messages", "responses"]
DIALECT_NAMES: tuple[DialectName, ...] = get_args(DialectName)

Feature = Literal["images", "documents", "tools"]
"""What a request asks of a model beyond text."""

Auth = Literal["x-api-key", "bearer", "none"]
Habit = bool | int | str | None
"""The value of a profile's flag."""
Thinks = Literal["none", "budget", "adaptive"]

MOST_ATTEMPTS = 3

WINDOW = 10
OPEN_AFTER = 5
PROBE_AFTER = 15.0


# ---- what is offered


class Capabilities(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a model takes. ``thinking``: how it is asked to reason (not at all, with a budget of tokens, adaptively)."""

    vision: bool = False
    documents: bool = False
    tools: bool = True
    thinking: Thinks = "none"
    structured_output: bool = False


class Target(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One place where a model is served: ``model`` is the provider's own name for it.

    Lower ``priority`` is tried first; within one, targets share the requests by ``weight`` (0: only when the others
    fail). ``via`` narrows the dialects of the provider that serve this model, ``lacks`` names what it cannot do here.
    """

    provider: str
    model: str
    priority: int = 0
    weight: int = 1
    via: tuple[DialectName, ...] = ()
    lacks: tuple[Feature, ...] = ()


class Model(msgspec.Struct, frozen=True):
    """One public model. ``auto`` names the models it chooses from, in order of preference; it has no targets then."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    auto: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    context_tokens: int | None = None
    capabilities: Capabilities = Capabilities()
    created_at: int = 0
    """Milliseconds since the epoch."""


class Upstream(msgspec.Struct, frozen=True):
    """One provider as it is set up here. ``speaks`` is ordered: the first dialect is the one to translate into.

    ``secret`` is a reference (``env:NAME``, ``file:PATH``), never a key itself. ``kind`` is the row of the provider
    table whose habits it has.
    """

    id: str
    kind: str
    speaks: tuple[tuple[DialectName, str], ...]
    auth: Auth = "bearer"
    secret: str = ""
    profile: Profile = DEFAULT_PROFILE
    model_profiles: tuple[tuple[str, Profile], ...] = ()
    habits: tuple[tuple[str, Habit], ...] = ()
    """What the operator has changed of all these profiles, by the names of their flags."""

    def url(self, dialect: DialectName) -> str | None:
        """The base URL of ``dialect`` here, without a slash at its end; None if it is not spoken."""
        for name, url in self.speaks:
            if name == dialect:
                return url
        return None

    def profile_of(self, model: str) -> Profile:
        """The habits of one of its models: the first pattern that fits, else the provider's own."""
        for pattern, profile in self.model_profiles:
            if fnmatchcase(model, pattern):
                return profile
        return self.profile


def with_habits(upstream: Upstream, habits: Mapping[str, object]) -> Upstream:
    """``upstream`` with these flags of its profiles, for all of its models. Raises ``msgspec.ValidationError``."""
    if not habits:
        return upstream
    given = msgspec.convert(habits, Profile)
    values: dict[str, Habit] = {
        name: getattr(given, name) for name in Profile.__struct_fields__ if name in habits
    }
    return msgspec.structs.replace(
        upstream,
        profile=msgspec.structs.replace(upstream.profile, **values),
        model_profiles=tuple(
            (pattern, msgspec.structs.replace(profile, **values))
            for pattern, profile in upstream.model_profiles
        ),
        habits=tuple(values.items()),
    )


# ---- what is known of its health


class Health(msgspec.Struct, frozen=True, gc=False):
    """The last outcomes of one upstream model, as a circuit breaker sees them.

    ``outcomes`` holds the last ten as bits, the newest lowest, 1 for a failure. ``opened_at`` is when the circuit
    opened, ``probe_at`` when the last probe was let through.
    """

    outcomes: int = 0
    opened_at: float | None = None
    probe_at: float | None = None


HealthKey = tuple[str, str]
"""Provider id and the provider's name of the model."""

FRESH = Health()


def succeeded(health: Health) -> Health:
    """After a success: an open circuit closes and forgets, a closed one shifts the outcome in."""
    if health.opened_at is not None:
        return FRESH
    return Health(outcomes=(health.outcomes << 1) & ((1 << WINDOW) - 1)) if health.outcomes else health


def failed(health: Health, now: float) -> Health:
    """After a failure: it opens when five of the last ten failed; a failed probe keeps it open from now on."""
    outcomes = ((health.outcomes << 1) | 1) & ((1 << WINDOW) - 1)
    if health.opened_at is not None or outcomes.bit_count() >= OPEN_AFTER:
        return Health(outcomes=outcomes, opened_at=now)
    return Health(outcomes=outcomes)


def probing(health: Health, now: float) -> Health:
    """An attempt that was marked as a probe is being sent: no other goes until it reports, or for another 15 s."""
    return Health(outcomes=health.outcomes, opened_at=health.opened_at, probe_at=now)


def state(health: Health, now: float) -> Literal["closed", "probe", "open"]:
    """``closed``: healthy; ``probe``: open for 15 s and free for one try; ``open``: to be avoided."""
    if health.opened_at is None:
        return "closed"
    since = health.opened_at if health.probe_at is None else max(health.opened_at, health.probe_at)
    return "probe" if now - since >= PROBE_AFTER else "open"


# ---- the plan


class Attempt(msgspec.Struct, frozen=True):
    """One try: which provider, by which dialect and base URL, under which name, and with which habits."""

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
    def key(self) -> HealthKey:
        """Where the health of what it tries is kept."""
        return self.upstream.id, self.model


class _Candidate(msgspec.Struct, frozen=True, gc=False):
    """One target as a caller of one dialect meets it, worked out once for each revision of the catalogue."""

    attempt: Attempt
    probe: Attempt
    key: HealthKey
    weight: int
    lacks: frozenset[Feature]


class Upstreams(dict[str, Upstream]):
    """The providers that are set up, by id; not changed once made, so what follows from them is worked out once."""

    __slots__ = ("_groups",)

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        super().__init__((row.id, row) for row in upstreams)
        self._groups: dict[tuple[str, DialectName], tuple[Model, tuple[tuple[_Candidate, ...], ...]]] = {}

    def groups(self, model: Model, dialect: DialectName) -> tuple[tuple[_Candidate, ...], ...]:
        """The targets of ``model`` that are set up: groups of equals, the best group first."""
        known = self._groups.get((model.id, dialect))
        if known is None or known[0] is not model:
            known = self._groups[model.id, dialect] = (model, _grouped(model, self, dialect))
        return known[1]


def plan(
    model: Model,
    upstreams: Upstreams,
    health: Mapping[HealthKey, Health],
    features: Iterable[Feature],
    dialect: DialectName,
    now: float,
    spread: float,
) -> tuple[Attempt, ...]:
    """The attempts to make for one request, best first, at most three; empty when nothing can serve it.

    Order: healthy before open circuits; then by priority; within one, targets that speak the caller's dialect first;
    among equals, by weight.
    """
    wanted = frozenset(features)
    attempts: list[Attempt] = []
    opened: list[Attempt] = []
    for group in upstreams.groups(model, dialect):
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


def lacking(model: Model) -> frozenset[Feature]:
    """What the model cannot do."""
    capabilities = model.capabilities
    lacks: list[Feature] = []
    if not capabilities.vision:
        lacks.append("images")
    if not capabilities.documents:
        lacks.append("documents")
    if not capabilities.tools:
        lacks.append("tools")
    return frozenset(lacks)


def _grouped(
    model: Model, upstreams: Mapping[str, Upstream], dialect: DialectName
) -> tuple[tuple[_Candidate, ...], ...]:
    ranked: dict[tuple[int, bool], list[_Candidate]] = {}
    for target in model.targets:
        attempt = _attempt(target, upstreams.get(target.provider), dialect, model.max_output_tokens)
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
    target: Target, upstream: Upstream | None, dialect: DialectName, longest: int | None
) -> Attempt | None:
    if upstream is None:
        return None
    spoken: dict[DialectName, str] = dict(upstream.speaks)
    if target.via:
        spoken = {name: url for name, url in spoken.items() if name in target.via}
    if not spoken:
        return None
    chosen = dialect if dialect in spoken else next(iter(spoken))
    profile = upstream.profile_of(target.model)
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
