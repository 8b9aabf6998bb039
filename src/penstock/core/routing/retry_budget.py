"""Retry budget of one model: second attempts that help are free, those that fail are bounded; and when they are made.

A second attempt takes tokens, by what kind of failure it follows, and gives them back when it succeeds. A success at the
first attempt adds a little. So when everything fails, requests are not multiplied.
"""

from collections.abc import Mapping

from penstock.core.failure_classes.classes import Again, FailureClass
from penstock.core.routing.rules import RoutingRules

COSTS: Mapping[FailureClass, float] = {
    FailureClass.OVERLOAD: 10.0,
    FailureClass.RATE: 10.0,
    FailureClass.SLOW: 20.0,
}
"""What a second attempt takes after a failure of this kind: more where the first may be paid for, or asks for less load."""
_COST = 5.0


class RetryBudget:
    """The tokens of one model in one process."""

    __slots__ = ("_rules", "tokens")

    def __init__(self, rules: RoutingRules) -> None:
        self._rules = rules
        self.tokens = rules.tokens

    def take(self, found: FailureClass) -> float | None:
        """The tokens that a further attempt after this failure has taken; None: there are not enough."""
        cost = COSTS.get(found, _COST)
        if self.tokens < cost:
            return None
        self.tokens -= cost
        return cost

    def give_back(self, tokens: float) -> None:
        """The further attempts of a request have helped."""
        self.tokens = min(self._rules.tokens, self.tokens + tokens)

    def earn(self) -> None:
        """A first attempt has succeeded."""
        if self.tokens < self._rules.tokens:
            self.give_back(self._rules.token_earned)


def second_try(again: Again, told: float | None, u: float) -> float | None:
    """After how many seconds the same upstream is tried once more, where there is nobody else; None: it is not.

    ``told`` is how long it wishes to be left alone. The draw ``u`` keeps those who failed together from coming together.
    """
    if told is not None:
        waits = again in (Again.RESTED, Again.AT_RESET) and told <= _LONGEST_REST
        return told if waits else None
    match again:
        case Again.AT_ONCE:
            return 0.0
        case Again.SOON:
            return 0.1 + 0.2 * u
        case Again.LATER:
            return 0.5 * u
        case Again.RESTED:
            return 0.5 + u
        case _:
            return None


_LONGEST_REST = 2.0
"""Seconds that somebody is kept waiting for an upstream that wants to be left alone."""
