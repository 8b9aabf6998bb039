"""How tests ask ``Counters``: for a slot in a day that has room, or for a place in a day with a slot to spare."""

import itertools

from penstock.store.counters import Counters, Lease

DAY = 20_000
PLENTY = 100_000
_ids = itertools.count()


async def slot(counters: Counters, user_id: str, limit: int, request_id: str) -> Lease | None:
    """One of ``limit`` slots."""
    return await counters.lease(user_id, limit, request_id, DAY, PLENTY)


async def counted(counters: Counters, user_id: str, day: int, daily: int) -> int | None:
    """A request that counts, or does not because the day is spent, and ends."""
    lease = await counters.lease(user_id, PLENTY, f"c{next(_ids)}", day, daily)
    assert lease is not None
    assert lease.day == day
    used = lease.count()
    lease.release()
    return used
