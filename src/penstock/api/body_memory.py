"""Memory of request bodies: bounded for each user and for all, and taken as the bytes arrive.

A body takes a first step when its reading begins, and another one whenever it has outgrown what it has: what was announced
and does not come takes next to nothing. A part of the memory is kept for bodies of one step, of which half is for users who
hold nothing; beyond a step, a user's bodies may take up to four times what is left when others hold some, so that whoever
comes next still finds room. A body keeps its place until its request has ended.
"""

from penstock.domain.keys.authentication import Principal
from penstock.errors import ConcurrentLimitReached, Overloaded
from penstock.exchange import Exchange

STEP = 64 * 1024
"""Bytes that a body takes at a time."""
_TIMES_WHAT_IS_LEFT = 4


class Reservation:
    """What one body takes, in bytes, until ``leave``."""

    __slots__ = ("_body_memory", "_concurrent", "_longest", "_size", "_user_id")

    def __init__(
        self, body_memory: "BodyMemory", user_id: str, concurrent: int, longest: int, size: int = 0
    ) -> None:
        """``longest``: what the body may come to; ``size``: what it has."""
        self._body_memory = body_memory
        self._user_id = user_id
        self._concurrent = concurrent
        self._longest = longest
        self._size = size

    def arrived(self, size: int) -> None:
        """So much of the body is here. Raises ``ConcurrentLimitReached`` or ``Overloaded`` where there is no room for it."""
        if size > self._size:
            wanted = max(size, min(-(-size // STEP) * STEP, self._longest))
            self._body_memory.take(self._user_id, self._concurrent, self._size, wanted)
            self._size = wanted

    def shrink(self, size: int) -> None:
        """The body has arrived, and is this long."""
        if size < self._size:
            self._body_memory.free(self._user_id, self._size - size)
            self._size = size

    def leave(self) -> None:
        """The request has ended."""
        self._body_memory.free(self._user_id, self._size)
        self._size = 0


class BodyMemory:
    """The bodies of one process. All on one event loop."""

    __slots__ = ("_kept", "_max_body", "_most", "_users", "taken")

    def __init__(self, *, max_body: int, most: int, kept: int) -> None:
        """``max_body`` bounds one body, ``most`` all of them together; ``kept`` of that is for small ones. In bytes."""
        self._max_body = max_body
        self._most = most
        self._kept = kept
        self.taken = 0
        """What all bodies take now."""
        self._users: dict[str, int] = {}

    def enter(self, exchange: Exchange, principal: Principal, concurrent: int) -> Reservation:
        """A place for the body of ``exchange``: a user has room for as many of the largest as run at once, and one.

        Raises ``ConcurrentLimitReached`` or ``Overloaded``.
        """
        longest = exchange.length if 0 <= exchange.length < self._max_body else self._max_body
        place = Reservation(self, principal.account_id, concurrent, longest)
        place.arrived(min(longest, STEP))
        return place

    def hold(self, user_id: str, concurrent: int, size: int) -> Reservation:
        """A place for a body of ``size`` that is here whole. Raises as ``enter``."""
        self.take(user_id, concurrent, 0, size)
        return Reservation(self, user_id, concurrent, size, size)

    def take(self, user_id: str, concurrent: int, before: int, size: int) -> None:
        """What ``Reservation`` takes for one body that had ``before`` and is to have ``size``."""
        held = self._users.get(user_id, 0)
        more = size - before
        if held + more > self._max_body * (concurrent + 1):
            raise ConcurrentLimitReached(
                f"Too much at once: {held >> 20} MiB of your requests are being received or running. "
                "Wait for one to end.",
                retry_after=1,
            )
        left = self._most - self.taken - more
        if not self._fits(left, held, more, size):
            raise Overloaded(
                "The service has no room for this request now; try again in a moment.", retry_after=2
            )
        self.taken += more
        self._users[user_id] = held + more

    def _fits(self, left: int, held: int, more: int, size: int) -> bool:
        """Whether a body may have ``more``, after which ``left`` is left for all; its user has ``held`` before."""
        if size <= STEP:
            return left >= (self._kept // 2 if held else 0)
        if held == self.taken:  # nobody else is here
            return left >= 0
        left -= self._kept
        return left >= 0 and held + more <= _TIMES_WHAT_IS_LEFT * left

    def free(self, user_id: str, size: int) -> None:
        """What ``Reservation`` gives back."""
        self.taken -= size
        left = self._users[user_id] - size if user_id in self._users else 0
        if left > 0:
            self._users[user_id] = left
        else:
            self._users.pop(user_id, None)
