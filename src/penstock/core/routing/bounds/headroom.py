"""Headroom of one upstream: what its own headers say is left of its limits, and so how much of its share it gets.

Above a fifth of a limit nothing changes. Below it the share falls with what is left, and where nothing is left the upstream
rests until there is something again.
"""

import msgspec

from penstock.core.routing.bounds.rate_headers import Amount

_MINUTE = 60.0


class _Kept(msgspec.Struct, gc=False):
    """One allowance as it was told; ``seen`` and ``until`` are of the monotonic clock."""

    told: Amount
    seen: float
    until: float
    sent: float = 0.0
    """What has been sent since."""

    def left(self, now: float) -> float:
        """What is left of it now."""
        told, limit = self.told, self.told.limit
        if limit is None:
            return told.remaining - self.sent if now < self.until else float("inf")
        if told.refills:
            return min(limit, told.remaining - self.sent + limit * (now - self.seen) / _MINUTE)
        return told.remaining - self.sent if now < self.until else limit

    def ratio(self, now: float) -> float:
        """The same as a part of the limit."""
        left = self.left(now)
        if left <= 0.0:
            return 0.0
        return 1.0 if self.told.limit is None else min(1.0, left / self.told.limit)

    def wait(self, now: float) -> float:
        """Seconds until there is something of it."""
        if self.left(now) > 0.0:
            return 0.0
        limit = self.told.limit
        if self.told.refills and limit is not None:
            return (1.0 - self.left(now)) * _MINUTE / limit
        return max(0.0, self.until - now)


class Headroom:
    """The allowances of one upstream."""

    __slots__ = ("_kept", "seen")

    def __init__(self) -> None:
        self._kept: tuple[_Kept, ...] = ()
        self.seen = -1e9
        """When they were told last."""

    def note(self, amounts: tuple[Amount, ...], now: float) -> None:
        """What an answer's headers have said. ``now`` is of the monotonic clock."""
        self.seen = now
        self._kept = tuple(
            _Kept(each, now, now + (_MINUTE if each.reset is None else each.reset)) for each in amounts
        )

    def sent(self, tokens: int) -> None:
        """A request with a prompt of so many tokens, by estimate, goes out."""
        for each in self._kept:
            if each.told.kind == "requests":
                each.sent += 1
            elif each.told.kind != "output":
                each.sent += tokens

    def ratio(self, now: float) -> float:
        """What is left of the scarcest, from 0.0 to 1.0."""
        return min((each.ratio(now) for each in self._kept), default=1.0)

    def ratios(self, now: float) -> dict[str, float]:
        """What is left of each that was told, by its kind."""
        return {each.told.kind: each.ratio(now) for each in self._kept}

    def wait(self, now: float) -> float:
        """Seconds until there is something of all; 0.0 where there is."""
        return max((each.wait(now) for each in self._kept), default=0.0)
