"""The contract of ``Counters``: every implementation passes the same tests."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import insert

from penstock.store.counters import Counters, LeaseInfo, MemoryCounters
from penstock.store.database import Database
from penstock.store.schema import usage_days
from tests.redis import redis_counters, redis_server
from tests.stores import Engine

DAY = 20_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await engine.open(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture(params=["memory", "redis"])
async def counters(
    request: pytest.FixtureRequest, database: Database, clock: Clock
) -> AsyncGenerator[Counters]:
    if request.param == "memory":
        yield await MemoryCounters.open(database, today=DAY, clock=clock)
        return
    async with redis_counters(redis_server().url, database, clock) as made:
        yield made


async def test_no_more_slots_than_the_limit(counters: Counters) -> None:
    held = [await counters.lease("u", 3, f"r{number}") for number in range(3)]
    assert all(held)
    assert await counters.lease("u", 3, "r4") is None
    assert counters.in_use("u") == 3
    assert await counters.lease("other", 3, "r5") is not None


async def test_a_slot_is_free_once_however_often_it_is_released(counters: Counters) -> None:
    first = await counters.lease("u", 1, "r1")
    assert first is not None
    first.release()
    first.release()
    second = await counters.lease("u", 1, "r2")
    assert second is not None
    first.release()
    assert counters.in_use("u") == 1


async def test_a_slot_whose_holder_is_gone_is_free(counters: Counters) -> None:
    lease = await counters.lease("u", 1, "r1")
    assert lease is not None
    del lease
    gc.collect()
    assert counters.in_use("u") == 0


async def test_the_limit_is_that_of_the_call(counters: Counters) -> None:
    held = [await counters.lease("u", 3, f"r{number}") for number in range(3)]
    assert await counters.lease("u", 2, "r4") is None
    held[0].release()  # pyright: ignore[reportOptionalMemberAccess]
    assert await counters.lease("u", 2, "r5") is None
    assert await counters.lease("u", 3, "r6") is not None
    assert await counters.lease("v", 0, "r7") is None


async def test_who_holds_the_slots(counters: Counters, clock: Clock) -> None:
    one = await counters.lease("u", 3, "r1")
    clock.now += 5
    two = await counters.lease("u", 3, "r2")
    assert counters.leases("u") == [LeaseInfo("r1", 1000.0), LeaseInfo("r2", 1005.0)]
    assert one is not None
    one.release()
    assert [held.request_id for held in counters.leases("u")] == ["r2"]
    assert two is not None


async def test_a_release_is_told(counters: Counters) -> None:
    told: list[str] = []
    counters.watch(told.append)
    lease = await counters.lease("u", 1, "r1")
    assert lease is not None
    lease.release()
    lease.release()
    assert told == ["u"]


async def test_64_racers_for_10_slots(counters: Counters) -> None:
    held = await asyncio.gather(*(counters.lease("u", 10, f"r{number}") for number in range(64)))
    assert sum(lease is not None for lease in held) == 10


async def test_64_racers_for_the_last_requests_of_a_day(counters: Counters) -> None:
    for _ in range(4990):
        await counters.count("u", DAY, 5000)
    counted = await asyncio.gather(*(counters.count("u", DAY, 5000) for _ in range(64)))
    assert sorted(number for number in counted if number is not None) == list(range(4991, 5001))
    assert counters.used("u", DAY) == 5000


async def test_a_refund_gives_one_back_and_never_goes_below_nothing(counters: Counters) -> None:
    assert await counters.count("u", DAY, 1) == 1
    assert await counters.count("u", DAY, 1) is None
    counters.refund("u", DAY)
    assert await counters.count("u", DAY, 1) == 1
    for _ in range(3):
        counters.refund("u", DAY)
    assert counters.used("u", DAY) == 0
    counters.refund("nobody", DAY)


async def test_days_are_apart(counters: Counters) -> None:
    assert await counters.count("u", DAY, 1) == 1
    assert await counters.count("u", DAY + 1, 1) == 1
    assert (counters.used("u", DAY), counters.used("u", DAY + 1)) == (1, 1)
    assert await counters.count("u", DAY, 1) is None


async def test_an_earlier_day_than_those_in_memory_is_the_databases(
    database: Database, counters: Counters
) -> None:
    async with database.transaction() as conn:
        await conn.execute(insert(usage_days).values(user_id="u", day=DAY - 5, used=7, refunded=0))
    assert await counters.count("u", DAY - 5, 8) == 8
    assert await counters.count("u", DAY - 5, 8) is None


async def test_counts_are_right_after_a_start(database: Database, clock: Clock) -> None:
    async with database.transaction() as conn:
        for day, used in ((DAY - 1, 3), (DAY, 4)):
            await conn.execute(insert(usage_days).values(user_id="u", day=day, used=used, refunded=1))
    counters = await MemoryCounters.open(database, today=DAY, clock=clock)
    assert (counters.used("u", DAY - 1), counters.used("u", DAY)) == (3, 4)
    assert await counters.count("u", DAY, 5) == 5
    assert await counters.count("u", DAY, 5) is None
