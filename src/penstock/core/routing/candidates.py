"""Candidates: the targets of a model as callers of one dialect meet them, in tiers; worked out once for each catalogue.

A target is one candidate, or one with each credential of its provider, where that has several.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import accumulate

import msgspec

from penstock.core.catalog import Credential, DialectName, Feature, Model, Price, Target, Upstream
from penstock.core.profile import Profile
from penstock.core.routing.affinity import mark_of

UpstreamKey = tuple[str, str, str]
"""Provider id, the provider's name of the model, and the credential's id: '' where the provider has no pool of them."""

_LOCAL_KINDS = frozenset(("ollama", "vllm", "llama-server"))
"""Providers that need a while to be warm again after they were away."""


_ANY = 1 << 62
_MOST_GROUPS = 8192
"""A wildcard makes models of whatever its callers name."""


class Attempt(msgspec.Struct, frozen=True):
    """One try: which provider, by which dialect and base URL, under which name, with which profile and which credential."""

    upstream: Upstream
    model: str
    dialect: DialectName
    url: str
    profile: Profile
    credential: Credential | None = None
    """Of the provider's pool; None where it has none."""

    @property
    def provider(self) -> str:
        """The provider's id."""
        return self.upstream.id

    @property
    def simulated(self) -> bool:
        """The built-in simulator answers, not a model."""
        return self.upstream.kind == "simulator"

    @property
    def key(self) -> UpstreamKey:
        """Where the health of what it tries is kept."""
        return self.upstream.id, self.model, "" if self.credential is None else self.credential.id

    @property
    def secret(self) -> str:
        """The reference to the secret that signs it in."""
        return self.upstream.secret if self.credential is None else self.credential.secret

    @property
    def account(self) -> str:
        """The account at the provider whose limits count."""
        return "" if self.credential is None else self.credential.account

    @property
    def origin(self) -> str:
        """Scheme, host and port of its address."""
        return "/".join(self.url.split("/", 3)[:3])

    @property
    def local(self) -> bool:
        """It is a server of the operator's own."""
        return self.upstream.kind in _LOCAL_KINDS


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One target as a caller of one dialect meets it.

    ``room`` is how many tokens prompt and answer may have together, ``longest`` how many an answer may have; None: as far
    as is known, any. ``mark`` is its number for affinity, ``in_flight`` how many requests it takes at once, if that is limited.
    """

    attempt: Attempt
    key: UpstreamKey
    weight: float
    lacks: frozenset[Feature]
    room: int | None = None
    longest: int | None = None
    mark: int = 0
    in_flight: int | None = None
    tags: frozenset[str] = frozenset()
    price: Price | None = None

    @property
    def place(self) -> tuple[str, str]:
        """The model at its provider, whichever credential signs in there."""
        return self.key[:2]


class Tier:
    """Candidates that are equals: one priority, all in the caller's dialect or all translated, and with a weight or without."""

    __slots__ = ("candidates", "cumulative", "keys", "marks", "priority", "weights")

    def __init__(self, priority: int, candidates: tuple[Candidate, ...]) -> None:
        self.priority = priority
        self.candidates = candidates
        self.keys = tuple(candidate.key for candidate in candidates)
        self.marks = [candidate.mark for candidate in candidates]
        self.weights = [float(candidate.weight or 1) for candidate in candidates]
        """Among those that have none, all are equal."""
        self.cumulative = list(accumulate(self.weights))


class Group:
    """The tiers of one model for callers of one dialect, the best first."""

    __slots__ = ("choosy", "limited", "longest", "model", "places", "room", "size", "tiers")

    def __init__(self, model: Model, tiers: tuple[Tier, ...]) -> None:
        self.model = model
        self.tiers = tiers
        everybody = [candidate for tier in tiers for candidate in tier.candidates]
        self.size = len(everybody)
        self.places = len({each.place for each in everybody})
        """Fewer than candidates where a provider has a pool of credentials."""
        self.choosy = any(candidate.lacks for candidate in everybody)
        """Features that are asked for make a difference to who can answer."""
        self.limited = any(
            candidate.in_flight is not None or candidate.attempt.upstream.in_flight is not None
            for candidate in everybody
        )
        """Somebody takes only so many requests at once."""
        self.room = min((each.room for each in everybody if each.room is not None), default=_ANY)
        self.longest = min((each.longest for each in everybody if each.longest is not None), default=_ANY)
        """What everybody has room for, and can answer."""


class Upstreams(dict[str, Upstream]):
    """The providers that are set up, by id; not changed once made, so what follows from them is worked out once."""

    __slots__ = ("_groups", "switched")

    def __init__(
        self, upstreams: Iterable[Upstream], switched: Callable[[UpstreamKey], bool] | None = None
    ) -> None:
        """``switched`` says of which the operator wants no new requests sent there; None: there are none."""
        super().__init__((row.id, row) for row in upstreams)
        self.switched = switched
        self._groups: dict[tuple[str, DialectName], Group] = {}

    def group(self, model: Model, dialect: DialectName, formats: Collection[DialectName]) -> Group:
        """The targets of ``model`` that are set up, as callers of ``dialect`` meet them; ``formats`` follows from it."""
        known = self._groups.get((model.id, dialect))
        if known is None or known.model is not model:
            if len(self._groups) >= _MOST_GROUPS:
                self._groups.clear()
            known = self._groups[model.id, dialect] = _grouped(model, self, dialect, formats, self.switched)
        return known


def _grouped(
    model: Model,
    upstreams: Mapping[str, Upstream],
    dialect: DialectName,
    formats: Collection[DialectName],
    switched: Callable[[UpstreamKey], bool] | None,
) -> Group:
    ranked: dict[tuple[int, bool, bool], list[Candidate]] = {}
    for target in model.targets:
        attempt = _attempt(target, upstreams.get(target.provider), dialect, formats, model.max_output_tokens)
        if attempt is None:
            continue
        for signed, weight in _signed(attempt, target.weight):
            if switched is not None and switched(signed.key):
                continue
            candidate = Candidate(
                attempt=signed,
                key=signed.key,
                weight=weight,
                lacks=frozenset(target.lacks),
                room=target.context_tokens or model.context_tokens,
                longest=target.max_output_tokens,
                mark=mark_of(*signed.key),
                in_flight=target.in_flight,
                tags=frozenset((*signed.upstream.tags, *target.tags)),
                price=target.price,
            )
            rank = (target.priority, attempt.dialect != dialect, weight <= 0)
            ranked.setdefault(rank, []).append(candidate)
    return Group(model, tuple(Tier(rank[0], tuple(ranked[rank])) for rank in sorted(ranked)))


def _signed(attempt: Attempt, weight: float) -> list[tuple[Attempt, float]]:
    """The attempt with each credential of its provider, and the target's weight shared among them."""
    pool = attempt.upstream.credentials
    if not pool:
        return [(attempt, weight)]
    whole = sum(each.weight for each in pool) or 1
    return [
        (msgspec.structs.replace(attempt, credential=each), weight * each.weight / whole) for each in pool
    ]


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
