"""A lease: a slot that Redis granted, and the place in a day that came with it."""

from typing import Protocol


class Holder(Protocol):
    """What a slot asks of the counters that it is of."""

    def free(self, user_id: str, request_id: str) -> None:
        """Give the slot back."""
        ...

    def refund(self, user_id: str, day: int) -> None:
        """Give the place in the day back."""
        ...

    def count_alone(self, user_id: str, day: int, limit: int) -> int | None:
        """Count a request that Redis was not asked about. Raises ``Unavailable`` when this server's share is spent."""
        ...


class RedisLease:
    """A slot of this process's in the user's set, and what Redis said of the day when it granted it."""

    __slots__ = ("_counters", "_daily", "_kept", "_request_id", "_used", "_user_id", "day")

    def __init__(self, counters: Holder, user_id: str, request_id: str, day: int, daily: int) -> None:
        self._counters: Holder | None = counters
        self._user_id = user_id
        self._request_id = request_id
        self.day = day
        self._daily = daily
        self._used: int | None = None
        self._kept: bool | None = None
        """Whether Redis keeps a place in the day, which nobody has taken yet; None where it did not say."""

    def told(self, used: int, *, kept: bool) -> None:
        """What Redis said of the day."""
        self._used = used if kept else None
        self._kept = kept

    def count(self) -> int | None:
        counters = self._counters
        if self._kept is None and counters is not None:
            return counters.count_alone(self._user_id, self.day, self._daily)
        self._kept = False
        return self._used

    def release(self) -> None:
        """Free the slot. Calling it again does nothing."""
        counters = self._counters
        if counters is not None:
            self._counters = None
            counters.free(self._user_id, self._request_id)
            if self._kept:
                counters.refund(self._user_id, self.day)

    __del__ = release
