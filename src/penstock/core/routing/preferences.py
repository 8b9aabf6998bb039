"""Preferences: what a caller may ask of the choice of a provider, and what a plan demands of it. All of it only narrows.

The names of the members are OpenRouter's, the names of providers those of the catalogue. What is asked makes another order
of the same targets, or leaves some out; the choice in that order is the same as ever.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from penstock.core.catalog import Price
from penstock.core.routing.automatic import is_cheap
from penstock.core.routing.candidates import Candidate, Group, Tier
from penstock.errors import InvalidRequest

Sort = Literal["", "price", "latency", "throughput"]
OF_THE_MOMENT: frozenset[Sort] = frozenset(("latency", "throughput"))
"""Orders that follow from what is measured."""

NO_TRAIN, ZERO_RETENTION = "no-train", "zdr"
"""Tags that ``data_collection`` and ``zdr`` stand for."""


class Preference(msgspec.Struct, frozen=True):
    """What is asked of the choice. ``requires`` are tags, ``own``: whoever speaks the caller's dialect alone."""

    only: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    sort: Sort = ""
    max_price: Price | None = None
    own: bool = False
    requires: tuple[str, ...] = ()

    @property
    def demands(self) -> str:
        """In words, for whom nobody is left."""
        found = [f"only {', '.join(self.only)}"] if self.only else []
        found += [f"not {', '.join(self.ignore)}"] if self.ignore else []
        found += [f"tagged {', '.join(self.requires)}"] if self.requires else []
        if self.max_price is not None:
            found.append("within max_price")
        if self.own:
            found.append("without a translation")
        if not self.allow_fallbacks:
            found.append("without others")
        return ", ".join(found)


def with_tags(preference: Preference | None, requires: tuple[str, ...]) -> Preference | None:
    """A preference that demands these tags, too."""
    if not requires:
        return preference
    found = preference or Preference()
    return msgspec.structs.replace(found, requires=tuple(dict.fromkeys((*requires, *found.requires))))


# ---- reading


class _MaxPrice(msgspec.Struct, forbid_unknown_fields=True):
    prompt: float | None = None
    completion: float | None = None


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    only: list[str] | None = None
    order: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: bool | None = None
    sort: Literal["price", "latency", "throughput"] | None = None
    max_price: _MaxPrice | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_asked = msgspec.json.Decoder(_Asked).decode
_NOT_OFFERED = frozenset(
    ("quantizations", "enforce_distillable_text", "preferred_min_throughput", "preferred_max_latency")
)
_MOST_NAMES = 32


def read_preference(raw: bytes, param: str) -> Preference | None:
    """What a caller has written; None where that is null. ``param`` is where. Raises ``InvalidRequest``."""
    if raw == b"null":
        return None
    try:
        members = _members(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{param} must be an object.", param=param) from error
    for name in members:
        if name in _NOT_OFFERED:
            raise InvalidRequest(f"{param}.{name} is not offered here.", param=f"{param}.{name}")
        if name not in _Asked.__struct_fields__:
            raise InvalidRequest(f"{param} has no member {name[:64]}.", param=param)
    try:
        asked = _asked(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{param}: {error}.", param=param) from error
    if any(len(names or ()) > _MOST_NAMES for names in (asked.only, asked.order, asked.ignore)):
        raise InvalidRequest(f"{param} names more than {_MOST_NAMES} providers.", param=param)
    price = asked.max_price
    most = None
    if price is not None and (price.prompt is not None or price.completion is not None):
        inf = float("inf")
        most = Price(
            inf if price.prompt is None else price.prompt,
            inf if price.completion is None else price.completion,
        )
    tags = [NO_TRAIN] if asked.data_collection == "deny" else []
    tags += [ZERO_RETENTION] if asked.zdr else []
    found = Preference(
        tuple(asked.only or ()),
        tuple(asked.order or ()),
        tuple(asked.ignore or ()),
        asked.allow_fallbacks is not False,
        asked.sort or "",
        most,
        asked.require_parameters is True,
        tuple(tags),
    )
    return None if found == Preference() else found


# ---- the order that follows


class Speed(msgspec.Struct, frozen=True, gc=False):
    """What is measured of one: how slow its answers begin, in averages of the model, and tokens a second (0.0: unknown)."""

    slowness: float = 1.0
    rate: float = 0.0


def narrowed(
    group: Group, preference: Preference, dialect: str, measured: Callable[[Candidate], Speed]
) -> Group:
    """The targets that are as is asked, in the order that is asked; there may be none.

    ``dialect`` is the caller's; ``measured`` says how quick one is at the moment.
    """
    best = 0.0
    if preference.sort == "throughput":
        best = max([measured(each).rate for tier in group.tiers for each in tier.candidates], default=0.0)
    ranked: dict[tuple[float, ...], list[Candidate]] = {}
    places = {name: at for at, name in enumerate(preference.order)}
    for number, tier in enumerate(group.tiers):
        for candidate in tier.candidates:
            if _passes(candidate, preference, dialect):
                rank = _rank(candidate, preference, places, number, measured, best)
                ranked.setdefault(rank, []).append(candidate)
    ranks = sorted(ranked)
    if not preference.allow_fallbacks and not (preference.only or preference.order):
        ranks = ranks[:1]
    return Group(group.model, tuple(Tier(at, tuple(ranked[rank])) for at, rank in enumerate(ranks)))


_FIFTH = math.log(1.25)


def _passes(candidate: Candidate, preference: Preference, dialect: str) -> bool:
    attempt = candidate.attempt
    provider = attempt.provider
    if (preference.only and provider not in preference.only) or provider in preference.ignore:
        return False
    if preference.order and not preference.allow_fallbacks and provider not in preference.order:
        return False
    if preference.own and attempt.dialect != dialect:
        return False
    if not candidate.tags.issuperset(preference.requires):
        return False
    return preference.max_price is None or is_cheap(candidate.price, preference.max_price)


def _rank(
    candidate: Candidate,
    preference: Preference,
    places: Mapping[str, int],
    number: int,
    measured: Callable[[Candidate], Speed],
    best: float,
) -> tuple[float, ...]:
    last = len(places)
    place = places.get(candidate.attempt.provider, last)
    if place < last:
        return (place, number)
    match preference.sort:
        case "price":
            price = candidate.price
            return (place, float("inf") if price is None else price.input + price.output)
        case "latency":
            return (place, round(measured(candidate).slowness, 1))
        case "throughput":
            rate = measured(candidate).rate
            # those within a fifth share their requests; one that is not known is found out
            return (place, int(math.log(best / rate) / _FIFTH) if rate > 0.0 else 0.0)
        case _:
            return (place, number)
