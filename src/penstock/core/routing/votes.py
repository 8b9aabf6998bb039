"""Votes: whose failures count against an upstream, so that no caller can take it from the others.

Of one user only a few failures count within a few seconds, while others succeed there. A request that breaks two upstreams
within a minute is *poison*: what it meets says nothing of them.
"""

from penstock.core.routing.rules import RoutingRules

_MOST_USERS = 256
_MOST_SUSPECTS = 1024

Request = tuple[str, int]
"""A user, and a hash of what was asked."""


class Voters:
    """Who has had an answer from one upstream last, and whose failures have counted there."""

    __slots__ = ("_last", "_other", "_votes", "answered_at")

    def __init__(self) -> None:
        self.answered_at = -1e9
        self._last = ""
        self._other = ("", -1e9)
        """The last one but of whom ``_last`` names, and when."""
        self._votes: dict[str, list[float]] = {}

    def answered(self, user: str, now: float) -> None:
        """The upstream has answered this user."""
        if user != self._last:
            self._other = (self._last, self.answered_at)
            self._last = user
        self.answered_at = now

    def take(self, user: str, now: float, rules: RoutingRules) -> bool:
        """Whether a failure of this user counts now; it has counted then."""
        since = now - rules.votes_within
        others = self._other[1] > since if user == self._last else self.answered_at > since
        votes = [at for at in self._votes.get(user, ()) if at > since]
        if others and len(votes) >= rules.votes:
            return False
        if len(self._votes) >= _MOST_USERS:
            self._votes.clear()
        votes.append(now)
        self._votes[user] = votes
        return True


class Poison:
    """Requests that broke an upstream, and those of them that broke two."""

    __slots__ = ("_broke",)

    def __init__(self) -> None:
        self._broke: dict[Request, tuple[float, tuple[str, str] | None]] = {}
        """When, and which upstream; None: more than one."""

    def broke(self, request: Request, upstream: tuple[str, str], now: float, rules: RoutingRules) -> bool:
        """It has broken this upstream. Whether it is poison."""
        at, first = self._broke.get(request, (-1e9, upstream))
        if now - at > rules.suspicion:
            first = upstream
        if len(self._broke) >= _MOST_SUSPECTS:
            self._broke.clear()
        self._broke[request] = (now, upstream if first == upstream else None)
        return first != upstream

    def known(self, request: Request, now: float, rules: RoutingRules) -> bool:
        """Whether it is known for poison."""
        at, upstream = self._broke.get(request, (-1e9, ("", "")))
        return upstream is None and now - at <= rules.suspicion

    def answered(self, request: Request) -> None:
        """An upstream has answered it: it is none."""
        self._broke.pop(request, None)
