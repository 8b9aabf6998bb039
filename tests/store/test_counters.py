"""The contract of ``Counters``: every implementation passes the same tests."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import insert

from penstock.store.counters import Counters, LeaseInfo, MemoryCounters
from penstock.store.sql.database import Database
from penstock.store.sql.schema import usage_days
from tests.asking import DAY, counted, slot
from tests.redis import redis_counters, redis_server
from tests.stores import Engine


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
    held = [await slot(counters, "u", 3, f"r{number}") for number in range(3)]
    assert all(held)
    assert await slot(counters, "u", 3, "r4") is None
    assert counters.in_use("u") == 3
    assert await slot(counters, "other", 3, "r5") is not None


async def test_a_slot_is_free_once_however_often_it_is_released(counters: Counters) -> None:
    first = await slot(counters, "u", 1, "r1")
    assert first is not None
    first.release()
    first.release()
    second = await slot(counters, "u", 1, "r2")
    assert second is not None
    first.release()
    assert counters.in_use("u") == 1


async def test_a_slot_whose_holder_is_gone_is_free(counters: Counters) -> None:
    lease = await slot(counters, "u", 1, "r1")
    assert lease is not None
    del lease
    gc.collect()
    assert counters.in_use("u") == 0


async def test_the_limit_is_that_of_the_call(counters: Counters) -> None:
    held = [await slot(counters, "u", 3, f"r{number}") for number in range(3)]
    assert await slot(counters, "u", 2, "r4") is None
    held[0].release()  # pyright: ignore[reportOptionalMemberAccess]
    assert await slot(counters, "u", 2, "r5") is None
    assert await slot(counters, "u", 3, "r6") is not None
    assert await slot(counters, "v", 0, "r7") is None


async def test_who_holds_the_slots(counters: Counters, clock: Clock) -> None:
    one = await slot(counters, "u", 3, "r1")
    clock.now += 5
    two = await slot(counters, "u", 3, "r2")
    assert counters.leases("u") == [LeaseInfo("r1", 1000.0), LeaseInfo("r2", 1005.0)]
    assert one is not None
    one.release()
    assert [held.request_id for held in counters.leases("u")] == ["r2"]
    assert two is not None


async def test_a_release_is_told(counters: Counters) -> None:
    told: list[str] = []
    counters.watch(told.append)
    lease = await slot(counters, "u", 1, "r1")
    assert lease is not None
    lease.release()
    lease.release()
    assert told == ["u"]


async def test_64_racers_for_10_slots(counters: Counters) -> None:
    held = await asyncio.gather(*(slot(counters, "u", 10, f"r{number}") for number in range(64)))
    assert sum(lease is not None for lease in held) == 10


async def test_64_racers_for_the_last_requests_of_a_day(counters: Counters) -> None:
    for _ in range(490):
        await counted(counters, "u", DAY, 500)
    numbers = await asyncio.gather(*(counted(counters, "u", DAY, 500) for _ in range(64)))
    assert sorted(number for number in numbers if number is not None) == list(range(491, 501))
    assert counters.used("u", DAY) == 500


async def test_a_refund_gives_one_back_and_never_goes_below_nothing(counters: Counters) -> None:
    assert await counted(counters, "u", DAY, 1) == 1
    assert await counted(counters, "u", DAY, 1) is None
    counters.refund("u", DAY)
    assert await counted(counters, "u", DAY, 1) == 1
    for _ in range(3):
        counters.refund("u", DAY)
    assert counters.used("u", DAY) == 0
    counters.refund("nobody", DAY)


async def test_days_are_apart(counters: Counters) -> None:
    assert await counted(counters, "u", DAY, 1) == 1
    assert await counted(counters, "u", DAY + 1, 1) == 1
    assert (counters.used("u", DAY), counters.used("u", DAY + 1)) == (1, 1)
    assert await counted(counters, "u", DAY, 1) is None


async def test_an_earlier_day_than_those_in_memory_is_the_databases(
    database: Database, counters: Counters
) -> None:
    async with database.transaction() as conn:
        await conn.execute(insert(usage_days).values(user_id="u", day=DAY - 5, used=7, refunded=0))
    assert await counted(counters, "u", DAY - 5, 8) == 8
    assert await counted(counters, "u", DAY - 5, 8) is None


async def test_counts_are_right_after_a_start(database: Database, clock: Clock) -> None:
    async with database.transaction() as conn:
        for day, used in ((DAY - 1, 3), (DAY, 4)):
            await conn.execute(insert(usage_days).values(user_id="u", day=day, used=used, refunded=1))
    counters = await MemoryCounters.open(database, today=DAY, clock=clock)
    assert (counters.used("u", DAY - 1), counters.used("u", DAY)) == (3, 4)
    assert await counted(counters, "u", DAY, 5) == 5
    assert await counted(counters, "u", DAY, 5) is None


async def test_a_request_that_never_counts_leaves_its_place_in_the_day_to_others(counters: Counters) -> None:
    assert await counted(counters, "u", DAY, 3) == 1
    for number in range(5):
        lease = await counters.lease("u", 1, f"r{number}", DAY, 3)
        assert lease is not None
        lease.release()
        assert counters.used("u", DAY) == 1
    assert [await counted(counters, "u", DAY, 3) for _ in range(3)] == [2, 3, None]
    spent = await counters.lease("u", 1, "r9", DAY, 3)
    assert spent is not None, "the day is not looked at before the slot"
    assert spent.count() is None
    spent.release()
    assert counters.used("u", DAY) == 3


async def test_a_request_that_counts_is_not_taken_back_when_it_ends(counters: Counters) -> None:
    lease = await counters.lease("u", 1, "r1", DAY, 1)
    assert lease is not None
    assert lease.count() == 1
    lease.release()
    assert await counted(counters, "u", DAY, 1) is None


async def test_loading_an_earlier_day_leaves_what_memory_has_counted(
    database: Database, clock: Clock
) -> None:
    counters = await MemoryCounters.open(database, today=DAY, clock=clock)
    for _ in range(3):
        await counted(counters, "u", DAY, 9)
    async with database.transaction() as conn:  # as far as the ledger has come
        await conn.execute(insert(usage_days).values(user_id="u", day=DAY, used=1, refunded=0))
    await counted(counters, "u", DAY - 5, 9)
    assert counters.used("u", DAY) == 3
