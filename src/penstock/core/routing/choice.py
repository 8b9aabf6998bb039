"""The choice: which upstream is asked next, and why. One at a time; after a failure it is asked again.

First what can never be: an upstream that cannot take what is asked. Then what should not be: one that is out, or was tried.
Of what is left the lowest tier counts, and in it two are drawn by weight; the second is taken where clearly less is to be said
against it. A probe goes before all of that: somebody has to find out, and the one who does has another upstream to go to.
"""

from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate

import msgspec

from penstock.core.catalog import Feature
from penstock.core.failure_classes.classes import HANDLING, FailureClass, Next
from penstock.core.routing.affinity import Affinity, favourite, few_of, liking
from penstock.core.routing.board import Board, Entry, Ranked
from penstock.core.routing.candidates import Candidate, Tier
from penstock.core.routing.health import Health, UpstreamHealth
from penstock.core.routing.rules import RoutingRules


class Reason(StrEnum):
    """Why an upstream was chosen. The list is closed; after a failure it is ``after_`` and the failure's class."""

    ONLY = "only"
    """There is no other."""
    WEIGHT = "weight"
    """It was drawn by its weight."""
    LOAD = "load"
    """Less is to be said against it than against the one that was drawn."""
    STICKY = "sticky"
    """The conversation was there before, as far as anybody is."""
    STICKY_LEFT_SLOW = "sticky_left_slow"
    STICKY_LEFT_FULL = "sticky_left_full"
    STICKY_LEFT_OUT = "sticky_left_out"
    """The conversation's own upstream is slow, has too much to do, or is out."""
    TIER_DOWN = "tier_down"
    """All of a better tier are out."""
    TIER_FULL = "tier_full"
    """All of a better tier have as many requests as they take."""
    FULL = "full"
    """Everybody has: the request has to wait."""
    CALLER = "caller"
    """Those of a better tier cannot take what is asked."""
    PROBE = "probe"
    """It was out, and is tried again."""
    FALLBACK_MODEL = "fallback_model"
    """Another model answers in place of the one that was asked."""
    LAST_RESORT = "last_resort"
    """All are out."""


class Need(msgspec.Struct, frozen=True, gc=False):
    """What an upstream has to take: the features, tokens of the prompt by estimate, and those of the answer at most."""

    features: frozenset[Feature] = frozenset()
    prompt: int = 0
    asked: int = 0


NOTHING = Need()


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Who is asked, and why. Without a ``candidate``: ``wait`` so many seconds and ask again; or, where that is None, nobody.

    ``found`` is then the class of failure that is told, and ``retry_after`` when it may be better.
    """

    candidate: Candidate | None
    reason: str
    wait: float | None = None
    found: FailureClass | None = None
    retry_after: float = 0.0


def choose(
    board: Board,
    need: Need,
    tried: Sequence[Candidate],
    failed: FailureClass | None,
    *,
    u: float,
    now: float,
    patience: float,
    wish: Affinity | None = None,
) -> Choice:
    """Who is asked next. ``failed`` is how the last of ``tried`` has failed, ``patience`` the seconds that are left.

    ``wish`` says which conversation it is, where that is to make a difference. Where nobody can take what is asked, or nobody
    is left after a failure, the choice has no candidate and no class.
    """
    group, health = board.group, board.health
    if not (health.abnormal or group.limited or tried) and group.size and is_plain(board, need):
        if group.size == 1:
            return Choice(group.tiers[0].candidates[0], Reason.ONLY)
        tier, entries = board.tiers[0]
        if wish is not None and len(entries) > 1:
            start, end = few_of(wish.key, tier.cumulative)
            own = start + favourite(wish.key, tier.marks[start:end], tier.weights[start:end])
            if _leaves(entries[own], entries, wish, board, now) is None:
                return Choice(entries[own][0], Reason.STICKY)
            kept = _sticky(entries, entries, wish, board, now)
            if kept is not None:
                return kept
        return _drawn(tier, entries, health.rules, u, now)
    able = _able(board, need, tried)
    limited = board.limited
    free = _free(able, board.health, now) if limited else able
    live = [_live(tier, entries, health, now) for tier, entries in free]
    if failed is not None:
        return _after(live, tried, failed, health.rules, u, now)
    if not able:
        return Choice(None, Reason.CALLER)
    found = _best(live, able, board, wish, u, now)
    if found is not None:
        return Choice(found[0].candidate, _reason(found, able, board, now))
    free = [each for each in free if each[1]]
    if not free or (limited and _is_anybody_well(able, health, now)):
        return Choice(None, Reason.FULL)
    return _last_resort(free, board, u, now, patience)


def _reason(found: tuple[Choice, Tier], able: list[Ranked], board: Board, now: float) -> str:
    """Why the choice is what it is: that there is no other, or no better tier, says more than how it was drawn."""
    chosen, tier = found
    if chosen.reason not in (Reason.WEIGHT, Reason.STICKY):
        return chosen.reason
    if board.group.size == 1:
        return Reason.ONLY
    if tier is not able[0][0]:
        full = board.limited and _is_anybody_well(able[:1], board.health, now)
        return Reason.TIER_FULL if full else Reason.TIER_DOWN
    return chosen.reason if tier is board.group.tiers[0] else Reason.CALLER


def others(board: Board, need: Need, tried: Sequence[Candidate], now: float) -> bool:
    """Whether another place could be asked than those that were tried."""
    if board.group.size <= len(tried) or (tried and board.group.places == 1):
        return False
    limited = board.limited
    if not (board.health.abnormal or limited) and len(tried) == 1 and is_plain(board, need):
        return True
    able = _able(board, need, tried)
    live = [
        _live(tier, entries, board.health, now)
        for tier, entries in (_free(able, board.health, now) if limited else able)
    ]
    places = {candidate.place for candidate in tried}
    return any(entry[0].place not in places for each in live for entry in (*each.well, *each.odd))


def is_plain(board: Board, need: Need) -> bool:
    """Whether everybody can take what is asked."""
    group = board.group
    return not (
        (group.choosy and need.features)
        or need.asked > group.longest
        or need.prompt + need.asked > group.room
    )


def is_able(candidate: Candidate, need: Need) -> bool:
    """Whether it can ever take what is asked."""
    return not (
        need.features & candidate.lacks
        or (candidate.room is not None and need.prompt + need.asked > candidate.room)
        or (candidate.longest is not None and need.asked > candidate.longest)
    )


def fitted(board: Board, need: Need) -> Need | None:
    """What is asked as somebody can take it; None where nobody can.

    A prompt's tokens are an estimate. Where nobody has room for so many, whoever may have is asked all the same: the prompt
    may have half of them, and its answer be short.
    """
    for each in (need, Need(need.features, need.prompt // _AT_LEAST)):
        if is_plain(board, each) or any(
            is_able(candidate, each) for tier in board.group.tiers for candidate in tier.candidates
        ):
            return each
    return None


_AT_LEAST = 2


def _able(board: Board, need: Need, tried: Sequence[Candidate]) -> list[Ranked]:
    """Who can take what is asked and was not tried, by tiers."""
    plain = is_plain(board, need)
    if plain and not tried:
        return board.tiers
    keys = {candidate.key for candidate in tried}
    found = [
        (
            tier,
            [entry for entry in entries if entry[0].key not in keys and (plain or is_able(entry[0], need))],
        )
        for tier, entries in board.tiers
    ]
    return [each for each in found if each[1]]


def _free(able: list[Ranked], health: Health, now: float) -> list[Ranked]:
    """Those that take one more request; the tiers stay, also where nobody of them does."""
    for _, entries in able:
        for _, known, _ in entries:
            if known.bounded:
                health.settle(known, now)  # its limit may be over
    return [(tier, [entry for entry in entries if not entry[1].full]) for tier, entries in able]


def _is_anybody_well(able: list[Ranked], health: Health, now: float) -> bool:
    live = [_live(tier, entries, health, now) for tier, entries in able]
    return any(each.well or each.odd for each in live)


class _Live(msgspec.Struct, frozen=True, gc=False):
    """Those of a tier that are not out: who is as usual, and who is to be looked at."""

    tier: Tier
    well: list[Entry]
    odd: list[Entry]


def _live(tier: Tier, entries: list[Entry], health: Health, now: float) -> _Live:
    well = [entry for entry in entries if entry[1].normal]
    if len(well) == len(entries):
        return _Live(tier, entries, [])
    rules = health.rules
    odd: list[Entry] = []
    for candidate, known, weight in entries:
        if not known.normal and known.until <= now:
            health.settle(known, now)
            odd.append((candidate, known, weight * known.share(now, rules)))
    return _Live(tier, well, odd)


def _best(
    live: list[_Live], able: list[Ranked], board: Board, wish: Affinity | None, u: float, now: float
) -> tuple[Choice, Tier] | None:
    """One of the best that are well, and its tier; a probe, or a trickle to one that is degraded, goes before them.

    A level is twice a tier's number, and one more for the degraded of it; the bad ones stand behind the next tier's.
    """
    rules = board.health.rules
    levels: dict[int, list[Entry]] = {}
    tiers: dict[int, Tier] = {}
    for number, each in enumerate(live):
        level = 2 * number
        if each.well:
            levels[level] = each.well
        tiers[level] = each.tier
        for entry in each.odd:
            candidate, known, weight = entry
            if known.suspect:
                return Choice(candidate, Reason.PROBE), each.tier
            if known.degraded and _trickles(known, weight, each, rules, u, now):
                return Choice(candidate, Reason.WEIGHT), each.tier
            behind = level + _LEVELS[known.degraded]
            levels[behind] = [*levels.get(behind, ()), entry]
            tiers.setdefault(behind, each.tier)
        if level in levels:
            break
    if not levels:
        return None
    level = min(levels)
    tier = tiers[level]
    if wish is not None:
        everybody = next(entries for each, entries in able if each is tier)
        kept = _sticky(everybody, levels[level], wish, board, now)
        if kept is not None:
            return kept, tier
    return _draw(levels[level], rules, u, now), tier


_LEVELS = (0, 1, 3)


def _sticky(
    everybody: list[Entry], well: list[Entry], wish: Affinity, board: Board, now: float
) -> Choice | None:
    """The conversation's own upstream among ``everybody``, or the next that it would have of those that are ``well``.

    None where it can have none: the choice is as without it.
    """
    key = wish.key
    start, end = few_of(key, list(accumulate([entry[2] for entry in everybody])))
    places = everybody[start:end]
    own = _favourite(key, places)
    reason = Reason.STICKY
    if well is not everybody:
        there = {entry[1] for entry in well}
        places = [entry for entry in places if entry[1] in there]
        if own[1] not in there:
            if not places:
                return None
            reason = Reason.STICKY_LEFT_FULL if own[1].full else Reason.STICKY_LEFT_OUT
            own = _favourite(key, places)
    left = _leaves(own, places, wish, board, now)
    if left is None:
        return Choice(own[0], reason)
    rest = [entry for entry in places if entry is not own]
    other = _favourite(key, rest)
    return Choice(other[0], left) if _leaves(other, rest, wish, board, now) is None else None


_ASIDE, _EVERYTHING = 0x5BD1E995, 2.0**64


def _favourite(key: int, places: list[Entry]) -> Entry:
    if len(places) == 1:
        return places[0]
    return places[favourite(key, [entry[0].mark for entry in places], [entry[2] for entry in places])]


def _leaves(own: Entry, places: list[Entry], wish: Affinity, board: Board, now: float) -> Reason | None:
    """Why a conversation does not stay with its own upstream; None: it does."""
    rules, known = board.health.rules, own[1]
    if known.low:
        # by the conversation, so that those that stay are the same from turn to turn
        share = liking(wish.key, _ASIDE) / _EVERYTHING
        if share > known.share(now, rules):
            return Reason.STICKY_LEFT_FULL
    if known.slowness <= 1.0 and known.in_flight <= rules.sticky_spare:
        return None
    many = len(places)
    if many < 2:
        return None
    if known.in_flight > rules.sticky_spare:
        mean = (sum([entry[1].in_flight for entry in places]) - known.in_flight) / (many - 1)
        if known.in_flight > rules.sticky_load * mean + rules.sticky_spare:
            return Reason.STICKY_LEFT_FULL
    if known.slowness > 1.0:
        usual = board.known.pace.usual(wish.kind)
        quickest = min([entry[1].faded(now, rules) for entry in places if entry is not own])
        if usual * (known.faded(now, rules) - quickest) > rules.sticky_slower:
            return Reason.STICKY_LEFT_SLOW
    return None


def _trickles(
    known: UpstreamHealth, weight: float, beside: _Live, rules: RoutingRules, u: float, now: float
) -> bool:
    """Whether this request goes to a degraded one, so that it can show that it is better."""
    since = now - known.trickled_at
    if since * rules.trickle_least >= 1.0:
        return True
    if since * rules.trickle_most < 1.0:
        return False
    return u < rules.trickle_share * weight / sum([entry[2] for entry in (*beside.well, *beside.odd)])


def _drawn(tier: Tier, entries: list[Entry], rules: RoutingRules, u: float, now: float) -> Choice:
    """Of a tier whose members are all well."""
    if len(entries) == 1:
        return Choice(entries[0][0], Reason.WEIGHT)
    return _better(entries, tier.cumulative, tier.weights, u, rules, now)


def _draw(entries: list[Entry], rules: RoutingRules, u: float, now: float) -> Choice:
    """Of any."""
    if len(entries) == 1:
        return Choice(entries[0][0], Reason.WEIGHT)
    weights = [entry[2] for entry in entries]
    return _better(entries, list(accumulate(weights)), weights, u, rules, now)


def _pair(cumulative: list[float], weights: list[float], u: float) -> tuple[int, int, float]:
    """Two different places, drawn by weight, and what is left of ``u``: one number is enough for all draws."""
    last, total = len(weights) - 1, cumulative[-1]
    point = u * total
    first = min(bisect_right(cumulative, point), last)
    weight = weights[first]
    start = cumulative[first] - weight
    # the second from the others: the span of the first is left out
    point = (point - start) / weight * (total - weight)
    if point >= start:
        point += weight
    second = min(bisect_right(cumulative, point), last)
    if second == first:  # by rounding
        second = first - 1 if first else 1
    rest = (point - cumulative[second]) / weights[second] + 1.0
    return first, second, rest


def _better(
    entries: list[Entry],
    cumulative: list[float],
    weights: list[float],
    u: float,
    rules: RoutingRules,
    now: float,
) -> Choice:
    """The first that is drawn, or the second where clearly less is to be said against it.

    Of two alone it is not always the better one, or the other would never be asked again. Where both are far from what is
    usual, and there are more, two others may be better: they are drawn as often as the second would be taken.
    """
    first, second, rest = _pair(cumulative, weights, u)
    mean, most = cumulative[-1] / len(entries), 1.0 - rules.least_share
    one, known, weight = entries[first]
    score = known.score(weight, mean, now, rules)
    other, beside, weight = entries[second]
    against = beside.score(weight, mean, now, rules)
    found = Choice(one, Reason.WEIGHT)
    if against < rules.worse * score:
        if len(entries) == 2:
            most = min(most, score / (score + against))
        if rest >= most:
            return found
        found, known, score = Choice(other, Reason.LOAD), beside, against
    if known.slowness > rules.poor and rest < most and len(entries) > _FEW:
        for place in _pair(cumulative, weights, rest / most)[:2]:
            another, known, weight = entries[place]
            against = known.score(weight, mean, now, rules)
            if against < rules.worse * score:
                found, score = Choice(another, Reason.LOAD), against
    return found


_FEW = 3
"""Of so many two that are slow are most of them."""


# ---- after a failure


def _after(
    live: list[_Live],
    tried: Sequence[Candidate],
    failed: FailureClass,
    rules: RoutingRules,
    u: float,
    now: float,
) -> Choice:
    """Who is asked next; nobody where the failure says so, or nobody is left."""
    wanted = HANDLING[failed].next
    reason = f"after_{failed}"
    if wanted in (Next.NOBODY, Next.LARGER):
        return Choice(None, reason)
    ranked: dict[tuple[int, bool, int, int], list[Entry]] = {}
    for number, each in enumerate(live):
        for entry in (*each.well, *each.odd):
            known = entry[1]
            nearness = _nearness(entry[0], tried, wanted)
            if nearness is not None:
                ranked.setdefault((nearness, known.suspect, number, known.degraded), []).append(entry)
    if not ranked:
        return Choice(None, reason)
    return Choice(_draw(ranked[min(ranked)], rules, u, now).candidate, reason)


def _nearness(candidate: Candidate, tried: Sequence[Candidate], wanted: Next) -> int | None:
    """In which turn it is asked, by what is wanted; None: it is not.

    Another credential of the same place helps where the credential was the reason, and most where it is of another account.
    """
    key_first = wanted is Next.KEY_THEN_OTHER
    here = [each for each in tried if each.place == candidate.place]
    if not here:
        used = any(each.attempt.provider == candidate.attempt.provider for each in tried)
        return 1 + used if key_first else int(used)
    if key_first:
        return 3 if any(each.attempt.account == candidate.attempt.account for each in here) else 0
    return 2 if wanted is Next.OTHER_THEN_KEY else None


# ---- where none is well


def _last_resort(able: list[Ranked], board: Board, u: float, now: float, patience: float) -> Choice:
    """All are out: wait for the first to come back, try one all the same, or say why not."""
    rules = board.health.rules
    entries = [entry for _, each in able for entry in each]
    usable = [entry for entry in entries if not entry[1].off]
    _, known, _ = min(usable or entries, key=_nearest)
    nearest = known.until - now
    if usable and not known.probing and nearest <= min(rules.resort_wait, patience / 4):
        return Choice(None, Reason.LAST_RESORT, wait=nearest)
    every = rules.resort_every if usable else rules.off_sole
    rested = min(usable or entries, key=_asked_last)
    if now - rested[1].resorted_at >= every:
        return Choice(rested[0], Reason.LAST_RESORT)
    if usable and not board.known.last_resort.refuses(u):
        return Choice(min(usable, key=_nearest)[0], Reason.LAST_RESORT)
    retry_after = min(max(nearest, 1.0), 30.0)
    return Choice(None, Reason.LAST_RESORT, found=known.last_class, retry_after=retry_after)


def _nearest(entry: Entry) -> tuple[bool, float]:
    return entry[1].probing, entry[1].until


def _asked_last(entry: Entry) -> float:
    return entry[1].resorted_at
