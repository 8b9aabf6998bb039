"""Learned limit of one upstream: how many requests it is sent at once, as far as its refusals or its slowness have shown.

There is none at first. A vendor's latency speaks of tokens and not of queues, so towards vendors a refusal for load alone
sets a limit: a part of what runs then. Each answer that comes while most of it is used raises it a little. A server of the
operator's own refuses nothing and queues: there the time to the first token, beside what it was on a long average, sets it
and moves it. After ten minutes in which nothing has cut it down the limit is forgotten.
"""

from penstock.core.routing.pace import KINDS
from penstock.core.routing.rules import RoutingRules


class LearnedLimit:
    """``limit`` is the number of requests at once; 0.0: there is none."""

    __slots__ = ("_cut_at", "_usual", "limit")

    def __init__(self, limit: float = 0.0, cut_at: float = -1e9) -> None:
        self.limit = limit
        self._cut_at = cut_at
        self._usual = [0.0] * KINDS
        """Seconds to the first token on a long average, by the class of the request's size."""

    def is_reached(self, in_flight: int) -> bool:
        """Whether no more requests are to be sent."""
        return 0.0 < self.limit <= in_flight

    def refused(self, in_flight: int, now: float, rules: RoutingRules) -> None:
        """The upstream has refused one of so many for load. Of what comes within a second the first counts.

        Where fewer run than the lowest limit the refusal says nothing of how many it takes.
        """
        if in_flight < rules.learned_least or now - self._cut_at < rules.learn_every:
            return
        running = min(in_flight, self.limit) if self.limit else in_flight
        self.limit = max(rules.learned_least, rules.learned_cut * running)
        self._cut_at = now

    def answered(self, in_flight: int, rules: RoutingRules) -> None:
        """One of so many was answered: after as many as the limit it is one higher, where it is used."""
        if self.limit and in_flight >= rules.learned_used * self.limit:
            self.limit += 1.0 / self.limit

    def timed(self, kind: int, seconds: float, in_flight: int, now: float, rules: RoutingRules) -> None:
        """A first token of a server of the operator's own has come, while so many requests ran there."""
        usual = self._usual[kind] or seconds
        self._usual[kind] = usual + (seconds - usual) * 2.0 / (rules.gradient_window + 1.0)
        gradient = max(0.5, min(1.0, rules.gradient_tolerance * usual / max(seconds, 1e-6)))
        if not self.limit:
            if gradient == 1.0 or in_flight < rules.learned_least:
                return
            self.limit = float(in_flight)
        elif in_flight < self.limit / 2:
            return  # so few do not tell whether more would be too many
        aim = self.limit * gradient + rules.gradient_queue
        if gradient < 1.0:
            self._cut_at = now
        self.limit = max(rules.learned_least, self.limit + rules.gradient_smoothing * (aim - self.limit))

    def settle(self, now: float, rules: RoutingRules) -> None:
        """Forget a limit that nothing has cut down for long."""
        if self.limit and now - self._cut_at >= rules.learned_kept:
            self.limit = 0.0
