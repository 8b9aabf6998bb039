"""Counters, behind one protocol: who runs what, and how much of the day is used. They decide.

The decision is made here and nowhere else; the database keeps the count of every day durably (the ledger raises it in
the transaction that writes the request's row), and the counters are loaded from there when the server starts.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sql.database import Database
from penstock.store.sql.schema import kinds, requests, usage_days, usage_kinds


class LeaseInfo(msgspec.Struct, frozen=True):
    """A slot that is taken. ``since`` is in epoch seconds; ``node`` is the server that holds it, '' for this one."""

    request_id: str
    since: float
    node: str = ""


class Lease(Protocol):
    """One slot of a user, held until ``release``, or until its holder is gone, and its place in a day."""

    @property
    def day(self) -> int:
        """The UTC day number that it was asked for."""
        ...

    def count(self) -> int | None:
        """Count the request: what of the day is used afterwards, or None (and nothing counted) where that is spent.

        Once a lease, while it is held. Raises ``Unavailable`` where it cannot be known.
        """
        ...

    def release(self) -> None:
        """Free the slot, and the place in the day where it was not counted. Calling it again does nothing."""
        ...


class Counters(Protocol):
    """Concurrency leases and daily counts, of accounts and of keys that have limits of their own (``core.limits.key_subject``).

    Every implementation passes ``tests/store/test_counters.py``.

    Limits are the caller's of now: a change of plan takes effect with the next call.
    """

    async def lease(self, user_id: str, limit: int, request_id: str, day: int, daily: int) -> Lease | None:
        """A slot, or None when ``limit`` slots are taken. Request ids are unique.

        The request counts when ``Lease.count`` is called, as one of the ``daily`` ones of ``day``.
        """
        ...

    def try_lease(self, user_id: str, limit: int, request_id: str, day: int, daily: int) -> Lease | None:
        """The same without waiting; None where there is no slot, or where that has to be asked for: then ask ``lease``."""
        ...

    def leases(self, user_id: str) -> list[LeaseInfo]:
        """The user's slots that are taken, the oldest first."""
        ...

    def in_use(self, user_id: str) -> int:
        """How many slots of the user are taken."""
        ...

    def watch(self, released: Callable[[str], None]) -> None:
        """Call ``released(user_id)`` whenever a slot became free."""
        ...

    def refund(self, user_id: str, day: int) -> None:
        """Take one counted request back. The caller sees to it that a request is taken back once."""
        ...

    def used(self, user_id: str, day: int) -> int:
        """How many requests of the day count."""
        ...

    shared: bool
    """Others count too: how a user stands is known once ``refresh`` has asked, or a lease was."""

    async def refresh(self, user_id: str, day: int) -> bool:
        """Look how the user stands with all servers, before ``used``, ``in_use`` and ``leases`` are asked.

        False where that cannot be known now.
        """
        ...

    async def end_elsewhere(self, user_id: str, request_id: str) -> bool:
        """Have another server end a request that holds one of the user's slots; whether one does."""
        ...

    def ended_by(self, end: Callable[[str, str], bool]) -> None:
        """Call ``end(user_id, request_id)`` when another server asks for it."""
        ...


class MemoryLease:
    """A slot in the table of this process. Dropping the last reference frees it too, so no holder can leak it."""

    __slots__ = ("_counters", "_daily", "_request_id", "_user_id", "day")

    def __init__(
        self, counters: "MemoryCounters", user_id: str, request_id: str, day: int, daily: int
    ) -> None:
        self._counters: MemoryCounters | None = counters
        self._user_id = user_id
        self._request_id = request_id
        self.day = day
        self._daily = daily

    def count(self) -> int | None:
        counters = self._counters
        return None if counters is None else counters.count(self._user_id, self.day, self._daily)

    def release(self) -> None:
        counters = self._counters
        if counters is not None:
            self._counters = None
            counters.free(self._user_id, self._request_id)

    __del__ = release


class MemoryCounters:
    """Counters of the one process that serves a data directory; not thread-safe, all on the event loop.

    Days from ``floor`` on are complete in memory: what is not there is 0. Only a wall clock that is set back by more
    than a day asks for an older day, which is then loaded.
    """

    shared = False

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._slots: dict[str, dict[str, float]] = {}
        self._released: Callable[[str], None] | None = None
        self._days: dict[int, dict[str, int]] = {}
        self._floor = 0
        self._newest = 0

    @classmethod
    async def open(cls, database: Database, *, today: int, clock: Callable[[], float]) -> "MemoryCounters":
        """Load the counts of yesterday and later. The ledger must have been opened before, which settles old rows.

        ``clock`` gives epoch seconds, for ``LeaseInfo.since``. Raises ``DatabaseUnavailable``.
        """
        counters = cls(database, clock)
        await counters._load(today - 1)
        counters._newest = today
        return counters

    async def lease(
        self, user_id: str, limit: int, request_id: str, day: int, daily: int
    ) -> MemoryLease | None:
        if day < self._floor:
            await self._load(day)
        if "/" in user_id:
            await self._know_key(user_id, day)
        return self.try_lease(user_id, limit, request_id, day, daily)

    def try_lease(
        self, user_id: str, limit: int, request_id: str, day: int, daily: int
    ) -> MemoryLease | None:
        if day > self._newest:
            self._roll(day)
        elif day < self._floor:
            return None
        slots = self._slots.get(user_id)
        if slots is None:
            if limit < 1:
                return None
            slots = self._slots[user_id] = {}
        elif len(slots) >= limit:
            return None
        slots[request_id] = self._clock()
        return MemoryLease(self, user_id, request_id, day, daily)

    def free(self, user_id: str, request_id: str) -> None:
        """What ``MemoryLease.release`` does, once per lease."""
        slots = self._slots[user_id]
        del slots[request_id]
        if not slots:
            del self._slots[user_id]
        if self._released is not None:
            self._released(user_id)

    def leases(self, user_id: str) -> list[LeaseInfo]:
        return [LeaseInfo(request_id, since) for request_id, since in self._slots.get(user_id, {}).items()]

    def in_use(self, user_id: str) -> int:
        slots = self._slots.get(user_id)
        return 0 if slots is None else len(slots)

    def watch(self, released: Callable[[str], None]) -> None:
        self._released = released

    def count(self, user_id: str, day: int, limit: int) -> int | None:
        """What ``MemoryLease.count`` does."""
        counts = self._days.get(day)
        if counts is None:
            counts = self._days[day] = {}
        used = counts.get(user_id, 0)
        if used >= limit:
            return None
        counts[user_id] = used + 1
        return used + 1

    def refund(self, user_id: str, day: int) -> None:
        counts = self._days.get(day)
        if counts is not None and counts.get(user_id, 0) > 0:
            counts[user_id] -= 1

    def used(self, user_id: str, day: int) -> int:
        counts = self._days.get(day)
        return 0 if counts is None else counts.get(user_id, 0)

    async def refresh(self, user_id: str, day: int) -> bool:
        if "/" in user_id:
            await self._know_key(user_id, day)
        return True  # of accounts it is all here

    async def _know_key(self, subject: str, day: int) -> None:
        """A key with limits of its own is asked for by them alone. Raises ``DatabaseUnavailable``."""
        if subject not in self._days.get(day, ()):
            used = await used_of(self._database, subject, day)
            self._days.setdefault(day, {}).setdefault(subject, used)

    async def end_elsewhere(self, user_id: str, request_id: str) -> bool:  # noqa: ARG002 - there is no other
        return False

    def ended_by(self, end: Callable[[str, str], bool]) -> None:
        """Nobody else asks."""

    def _roll(self, day: int) -> None:
        """Go on to a new day and drop those before yesterday, whose late refunds the database alone keeps."""
        self._newest = day
        self._floor = max(self._floor, day - 1)
        for old in [known for known in self._days if known < self._floor]:
            del self._days[old]

    async def _load(self, floor: int) -> None:
        """Complete the days from ``floor`` on; what memory holds already is newer than the database."""
        async with self._database.connect() as conn:
            found = await conn.execute(
                select(usage_days.c.user_id, usage_days.c.day, usage_days.c.used).where(
                    usage_days.c.day >= floor
                )
            )
            rows = found.all()
        for user_id, day, used in rows:
            self._days.setdefault(day, {}).setdefault(user_id, used)
        self._floor = floor


async def used_of(database: Database, user_id: str, day: int) -> int:
    """What the database has of one user's day, or of a key's (``core.limits.key_subject``). Raises ``DatabaseUnavailable``."""
    account, _, key_id = user_id.partition("/")
    async with database.connect() as conn:
        if key_id:
            return await _used_of_key(conn, account, key_id, day)
        used = await conn.scalar(
            select(usage_days.c.used).where(usage_days.c.user_id == user_id, usage_days.c.day == day)
        )
    return used or 0


async def _used_of_key(conn: AsyncConnection, user_id: str, key_id: str, day: int) -> int:
    """What has ended and counts, by the sums, and what runs."""
    ended = await conn.scalar(
        select(func.sum(usage_kinds.c.requests))
        .join_from(usage_kinds, kinds, usage_kinds.c.kind == kinds.c.id)
        .where(
            usage_kinds.c.user_id == user_id,
            usage_kinds.c.hour >= day * 24,
            usage_kinds.c.hour < (day + 1) * 24,
            usage_kinds.c.key_id == key_id,
            kinds.c.counted,
        )
    )
    runs = await conn.scalar(
        select(func.count())
        .select_from(requests)
        .where(requests.c.boot.is_not(None), requests.c.day == day, requests.c.key_id == key_id)
    )
    return int(ended or 0) + (runs or 0)
