"""Explanations: what the choice would do with a request, and why, upstream by upstream.

It asks ``choose`` itself: for many draws, to tell the odds, and after each kind of failure, to tell who would be next.
"""

from collections.abc import Collection

import msgspec

from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Candidate
from penstock.core.routing.choice import Choice, Need, choose, is_able

DRAWS = 1000
"""How many draws the odds are counted of."""
_PATIENCE = 600.0


class LegExplained(msgspec.Struct, frozen=True):
    """One upstream: in which tier it stands, what keeps it from being asked ('': nothing), and the odds that it is, first."""

    provider: str
    model: str
    credential: str
    dialect: str
    tier: int
    weight: float
    kept_out: str
    odds: float


class Explanation(msgspec.Struct, frozen=True):
    """What would be done. ``reasons`` are why an upstream would be chosen, with their odds.

    ``after`` says for each kind of failure of the likeliest one who would be next ('' for nobody).
    """

    legs: tuple[LegExplained, ...]
    reasons: dict[str, float]
    first: str
    after: dict[str, str]


def explained(board: Board, need: Need, now: float, without: Collection[Candidate] = ()) -> Explanation:
    """What would be done with a request of this need now, where those ``without`` are out of the question."""
    tried = tuple(without)
    counts: dict[tuple[str, str, str], int] = {}
    reasons: dict[str, int] = {}
    for number in range(DRAWS):
        choice = first(board, need, (number + 0.5) / DRAWS, now, tried)
        reasons[choice.reason] = reasons.get(choice.reason, 0) + 1
        if choice.candidate is not None:
            counts[choice.candidate.key] = counts.get(choice.candidate.key, 0) + 1
    legs = tuple(
        LegExplained(
            provider=candidate.key[0],
            model=candidate.key[1],
            credential=candidate.key[2],
            dialect=candidate.attempt.dialect,
            tier=number,
            weight=weight,
            kept_out=_kept_out(board, candidate, need, now, tried),
            odds=counts.get(candidate.key, 0) / DRAWS,
        )
        for number, (_, entries) in enumerate(board.tiers)
        for candidate, _, weight in entries
    )
    everybody = [entry[0] for _, entries in board.tiers for entry in entries]
    likeliest = max(counts, key=lambda key: counts[key], default=None)
    candidate = next((each for each in everybody if each.key == likeliest), None)
    after: dict[str, str] = {}
    if candidate is not None:
        for failure in FailureClass:
            following = choose(
                board, need, (*tried, candidate), failure, u=0.5, now=now, patience=_PATIENCE
            ).candidate
            after[failure.value] = "" if following is None else name_of(following)
    return Explanation(
        legs,
        {reason: count / DRAWS for reason, count in reasons.items()},
        "" if candidate is None else name_of(candidate),
        after,
    )


def first(board: Board, need: Need, u: float, now: float, without: Collection[Candidate] = ()) -> Choice:
    """Who is asked first, by the draw ``u``."""
    return choose(board, need, tuple(without), None, u=u, now=now, patience=_PATIENCE)


def name_of(candidate: Candidate) -> str:
    """``PROVIDER[/CREDENTIAL]:MODEL``."""
    provider, model, credential = candidate.key
    return f"{provider}/{credential}:{model}" if credential else f"{provider}:{model}"


def _kept_out(
    board: Board, candidate: Candidate, need: Need, now: float, without: Collection[Candidate]
) -> str:
    if candidate in without:
        return "left out, as you asked"
    missing = sorted(need.features & candidate.lacks)
    if missing:
        return f"it cannot take {', '.join(missing)}"
    if not is_able(candidate, need):
        return f"it has no room for about {need.prompt} tokens and an answer of {need.asked}"
    known = board.health_of(candidate)
    if known.off:
        return f"off ({known.last_class})"
    if known.probing:
        return "a probe is on its way"
    if known.until > now:
        hinted = max(known.circuits, key=lambda circuit: circuit.until).view().hinted
        by = ", as another process says" if hinted else ""
        return f"out for {known.until - now:.1f} s ({known.last_class}{by})"
    if known.full:
        return "it has as many requests as it takes at once"
    return ""
