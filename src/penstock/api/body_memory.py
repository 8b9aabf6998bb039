"""Memory of request bodies: bounded for each user and for all, before a byte of a body is read.

A body takes its place when its reading begins, and keeps it until its request has ended. One that does not say its length
takes the largest there may be until it has arrived.
"""

from penstock.domain.keys.authentication import Principal
from penstock.errors import ConcurrentLimitReached, Overloaded
from penstock.exchange import Exchange


class Reservation:
    """What one body takes, in bytes, until ``leave``."""

    __slots__ = ("_body_memory", "_size", "_user_id")

    def __init__(self, body_memory: "BodyMemory", user_id: str, size: int) -> None:
        self._body_memory = body_memory
        self._user_id = user_id
        self._size = size

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

    __slots__ = ("_max_body", "_most", "_users", "taken")

    def __init__(self, *, max_body: int, most: int) -> None:
        """``max_body`` bounds one body, ``most`` all of them together, in bytes."""
        self._max_body = max_body
        self._most = most
        self.taken = 0
        """What all bodies take now."""
        self._users: dict[str, int] = {}

    def enter(self, exchange: Exchange, principal: Principal, concurrent: int) -> Reservation:
        """A place for the body of ``exchange``: a user has room for as many of the largest as run at once, and one.

        Raises ``ConcurrentLimitReached`` or ``Overloaded``.
        """
        size = self._max_body
        if 0 <= exchange.length < size:
            size = exchange.length
        user_id = principal.user_id
        held = self._users.get(user_id, 0)
        if held + size > self._max_body * (concurrent + 1):
            raise ConcurrentLimitReached(
                f"Too much at once: {held >> 20} MiB of your requests are being received or running. "
                "Wait for one to end.",
                retry_after=1,
            )
        if self.taken + size > self._most:
            raise Overloaded(
                "The service has no room for this request now; try again in a moment.", retry_after=2
            )
        self.taken += size
        self._users[user_id] = held + size
        return Reservation(self, user_id, size)

    def free(self, user_id: str, size: int) -> None:
        """What ``Reservation`` gives back."""
        self.taken -= size
        left = self._users[user_id] - size if user_id in self._users else 0
        if left > 0:
            self._users[user_id] = left
        else:
            self._users.pop(user_id, None)
