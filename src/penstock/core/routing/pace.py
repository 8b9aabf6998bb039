"""Pace of one model: how quick its answers begin and end, and so how long an attempt may take.

Times are learned by size: of the prompt where an answer is streamed, of the answer that is asked for where it is whole.
"""

import math

import msgspec

from penstock.core.routing.rules import RoutingRules

_STEPS = 8
"""Buckets to each doubling, so a quantile is within nine percent."""
_LOWEST = -10
_BUCKETS = 22 * _STEPS
_REFRESH = 32
"""After so many samples the quantiles are worked out again."""
_LEARNS = 0.1
_FEW = 10
_HALF_HOUR = 1800.0
SIZES = (2_000, 16_000, 64_000)
"""Tokens of a prompt, up to each; above is a class of its own."""
ASKED = (256, 1_024, 4_096)
"""Tokens of a whole answer that are asked for, likewise."""
KINDS = 8


def kind_of(tokens: int, bounds: tuple[int, int, int], first: int) -> int:
    """The class of a size among ``bounds``; the first class has the number ``first``."""
    return first + (tokens > bounds[0]) + (tokens > bounds[1]) + (tokens > bounds[2])


def stream_kind(tokens: int) -> int:
    """The class of a streamed answer to a prompt of so many tokens."""
    return kind_of(tokens, SIZES, 0)


def whole_kind(asked: int) -> int:
    """The class of a whole answer of which so many tokens are asked for."""
    return kind_of(asked, ASKED, 4)


class Times:
    """The times of one class within the last hour: their average, and their quantiles."""

    __slots__ = ("_buckets", "_old", "_since", "_stale", "average", "count", "median", "p95", "p99")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._old = [0] * _BUCKETS
        self._since = 0.0
        self._stale = 0
        self.count = 0
        self.average = 0.0
        self.median = self.p95 = self.p99 = 0.0

    def add(self, seconds: float, now: float) -> float:
        """Note one; gives how many times the average before it that was."""
        seconds = max(seconds, 0.001)
        average = self.average or seconds
        self.average = average + _LEARNS * (seconds - average)
        if now - self._since > _HALF_HOUR:
            self._turn(now)
        at = min(max(int((math.log2(seconds) - _LOWEST) * _STEPS), 0), _BUCKETS - 1)
        self._buckets[at] += 1
        self.count += 1
        self._stale -= 1
        if self._stale < 0:
            self._stale = min(_REFRESH, self.count)
            self._work_out()
        return seconds / average

    def _turn(self, now: float) -> None:
        if now - self._since > 2 * _HALF_HOUR:
            self._buckets = [0] * _BUCKETS
        self._since = now
        self._old, self._buckets = self._buckets, [0] * _BUCKETS
        self.count = sum(self._old)

    def _work_out(self) -> None:
        wanted = [self.count * share for share in (0.5, 0.95, 0.99)]
        found: list[float] = []
        seen = 0
        for at, (new, old) in enumerate(zip(self._buckets, self._old, strict=True)):
            seen += new + old
            while len(found) < 3 and seen >= wanted[len(found)] and seen:
                found.append(2.0 ** ((at + 1) / _STEPS + _LOWEST))
        self.median, self.p95, self.p99 = found


class Clocks(msgspec.Struct, frozen=True):
    """How long upstreams may take before content, in seconds: the operator's settings."""

    headers: float = 15.0
    """To the head of the answer, where there is another upstream."""
    content: float = 60.0
    """To the first content."""
    thinking: float = 120.0
    """The same where the model thinks."""
    slope: float = 240.0
    """More, for each million tokens of the prompt."""
    whole: float = 600.0
    """A whole answer at most, all attempts together."""


class Size(msgspec.Struct, frozen=True, gc=False):
    """What is asked: tokens of the prompt by estimate, tokens of the answer at most, and whether it may think first."""

    prompt: int
    asked: int
    thinks: bool = False


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What an attempt may take, in seconds: to its head, to its first content, and to its end."""

    head: float
    content: float
    whole: float


class Pace:
    """What is known of one model's times."""

    __slots__ = ("_rules", "_times")

    def __init__(self, rules: RoutingRules) -> None:
        self._rules = rules
        self._times = [Times() for _ in range(KINDS)]

    def add(self, kind: int, seconds: float, now: float) -> float:
        """An answer has begun, or a whole one has come, after so long; how many times the average that is."""
        return self._times[kind].add(seconds, now)

    def usual(self, kind: int) -> float:
        """The average, in seconds; 0.0 where too little is known."""
        times = self._times[kind]
        return times.average if times.count >= _FEW else 0.0

    def slow_mark(self, kind: int) -> float:
        """Who leaves after so long has found it slow."""
        return max(self._rules.slow_least, self._rules.slow_times * self._times[kind].median)

    def probe_limit(self, kind: int) -> float:
        """How long a probe may take to its first content, since somebody waits for it."""
        times = self._times[kind]
        return max(self._rules.probe_shortest, times.p95) if times.count else self._rules.probe_unknown

    def stream_limits(self, size: Size, clocks: Clocks, *, other: bool) -> Limits:
        """Of a streamed answer. ``other``: another upstream could be asked."""
        slope = clocks.slope * size.prompt / 1e6
        content = (clocks.thinking if size.thinks else clocks.content) + slope
        if not other:
            return Limits(content, math.inf, math.inf)
        times = self._times[stream_kind(size.prompt)]
        if times.count >= self._rules.samples:
            content = min(max(2 * times.p99, self._rules.attempt_least), content)
        return Limits(min(clocks.headers + slope, content), content, math.inf)

    def whole_limits(self, size: Size, clocks: Clocks, *, other: bool) -> Limits:
        """Of a whole answer; ``other`` as above. The end counts from the beginning of the first attempt."""
        rules = self._rules
        asked = rules.whole_base + size.asked / rules.whole_rate + clocks.slope * size.prompt / 1e6
        whole = min(max(asked, rules.whole_shortest), clocks.whole)
        if not other:
            return Limits(whole, whole, whole)
        first = rules.whole_share * whole
        times = self._times[whole_kind(size.asked)]
        if times.count >= rules.samples:
            first = min(max(2 * times.p99, rules.whole_least), first)
        return Limits(first, first, whole)
