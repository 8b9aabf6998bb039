"""The last resort: of requests for which nothing healthy is there, how many still go out.

One in a second goes to each upstream, so that a recovery is noticed. Of the others so many are refused here as two thirds
or more have failed lately: an upstream that answers some gets more, one that answers none is left in peace.
"""

from penstock.core.routing.rules import RoutingRules


class LastResort:
    """What one model's last resorts have come to."""

    __slots__ = ("_asked", "_good", "_since")

    def __init__(self) -> None:
        self._asked = 0.0
        self._good = 0.0
        self._since = 0.0

    def refuses(self, u: float) -> bool:
        """Whether a request is refused; ``u`` decides by the share that is to be."""
        return u < (self._asked - 2 * self._good) / (self._asked + 1)

    def asked(self, now: float, rules: RoutingRules) -> None:
        """A request had nothing else, whether it went out or not."""
        if now - self._since > rules.resort_window:
            self._asked = self._good = 0.0
            self._since = now
        self._asked += 1

    def succeeded(self) -> None:
        """One was answered."""
        self._good += 1
