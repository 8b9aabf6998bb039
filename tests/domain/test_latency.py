"""Latency: percentiles from classes beside those of the times themselves, what batches add up, and hours put together."""

import asyncio
import random
import statistics
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise
from math import ceil
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from penstock.domain.ledger.latency import (
    BOUNDS,
    FIRST,
    WHOLE,
    class_of,
    first_classes,
    merge_hours,
    percentile,
    times_of,
    together,
)
from penstock.domain.ledger.reconciliation import Difference, compare, repair
from penstock.store.sql.database import Database
from penstock.store.sql.schema import usage_times
from tests.domain.ledger_rows import DAY, agree, end, open_ledger, row
from tests.stores import Engine

HOUR = 3_600_000
SHAPES: dict[str, Callable[[random.Random], float]] = {
    "few milliseconds": lambda chance: chance.expovariate(0.4),
    "under 50": lambda chance: 50 * chance.random(),
    "around 30": lambda chance: chance.gauss(30, 4),
    "half a second": lambda chance: chance.lognormvariate(6.2, 0.5),
    "minutes": lambda chance: chance.uniform(60_000, 400_000),
    "two kinds": lambda chance: chance.choice((12, 900)) * chance.uniform(0.9, 1.1),
}


def classes_of(times: list[int]) -> list[int]:
    classes = [0] * len(FIRST)
    for time in times:
        classes[class_of(time)] += 1
    return classes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 7, 5000])
def test_a_percentile_is_near_that_of_the_times(shape: str, count: int) -> None:
    for seed in range(1 if count == 5000 else 200):
        chance = random.Random(seed)
        times = sorted(max(0, int(SHAPES[shape](chance))) for _ in range(count))
        for share in (0.5, 0.95, 0.99):
            true = times[ceil(share * count) - 1]
            told = percentile(classes_of(times), share)
            assert told is not None
            # No further than its class reaches.
            assert class_of(told) == class_of(true)
            if count == 5000 and shape != "two kinds":  # whose classes are half empty
                assert abs(told - true) <= max(2, 0.2 * true)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_what_is_alone_in_its_class_is_off_by_half_of_the_class_at_most(count: int) -> None:
    for time in sorted({time for bound in BOUNDS for time in (bound - 1, bound, bound + bound // 4)}):
        for share in (0.01, 0.5, 1.0):
            told = percentile(classes_of([time] * count), share)
            assert told is not None
            start, end = ([0, *BOUNDS, 2 * BOUNDS[-1]][class_of(time) + i] for i in (0, 1))
            assert start <= told < end
            if count == 1:
                assert abs(told - time) <= (end - start) / 2
                assert time >= BOUNDS[-1] or abs(told - time) <= max(1, time / 3)


def test_under_five_milliseconds_it_is_the_time_itself() -> None:
    for time in range(5):
        for share in (0.01, 0.5, 1.0):
            assert percentile(classes_of([time] * 9), share) == time
    assert percentile(classes_of([]), 0.5) is None
    assert percentile((), 0.5) is None
    assert BOUNDS[-1] <= (percentile(classes_of([10**9]), 0.5) or 0) < 2 * BOUNDS[-1]
    assert statistics.median([1, 2, 3, 3, 4]) == percentile(classes_of([1, 2, 3, 3, 4]), 0.5)


def test_no_class_is_wider_than_is_said() -> None:
    assert len(FIRST) == len(WHOLE) == len(BOUNDS) + 1
    assert all(end <= 5 / 3 * start for start, end in pairwise(BOUNDS[4:]))
    assert sum(bound <= 50 for bound in BOUNDS) >= 12


@pytest.fixture
async def books(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    """Six days of a request an hour, of two users and three models; each fourth did not complete."""
    database = await engine.open(tmp_path)
    ledger = await open_ledger(database, "b1")
    for number in range(6 * 24):
        day, at = DAY + number // 24, DAY * 24 * HOUR + number * HOUR
        opened = msgspec.structs.replace(
            row(f"r{number}", "usr_b" if number % 5 == 0 else "usr_a", day),
            created_at=at,
            model=f"m{number % 3}",
            requested_model=f"m{number % 3}",
        )
        await ledger.opened(opened)
        ended = end(f"r{number}", outcome="upstream_error" if number % 4 == 0 else "completed")
        first = None if number % 8 == 0 else number
        ledger.settle(msgspec.structs.replace(ended, first_byte_ms=first, total_ms=10 * number))
    await ledger.close()
    yield database
    await database.close()


async def _count(database: Database) -> tuple[int, int, int]:
    """Rows, and all times that they count."""
    sums = [
        func.sum(sum((usage_times.c[name] for name in names[1:]), usage_times.c[names[0]]))
        for names in (FIRST, WHOLE)
    ]
    async with database.connect() as conn:
        found = await conn.execute(select(func.count(), *sums).select_from(usage_times))
        rows, first, whole = (int(value) for value in found.one())
        return rows, first, whole


async def test_batches_add_up_what_the_rows_say(books: Database) -> None:
    await agree(books, *range(DAY, DAY + 6))
    rows, first, whole = await _count(books)
    # Neither timed nor completed: no row at all.
    assert (rows, first, whole) == (144 - 18, 144 - 18, 144 - 36)
    async with books.connect() as conn:
        by_model = await times_of(conn, "usr_a", range(DAY, DAY + 6), 24, "model")
        by_hour = await times_of(conn, "usr_a", range(DAY + 5, DAY + 6), 1, "client")
        all_first = await first_classes(conn, "usr_a", range(DAY, DAY + 6))
    assert {one.of for one in by_model} == {"m0", "m1", "m2"}
    assert len(by_model) == 18
    assert together(by_model, lambda one: one.first) == list(all_first)
    assert [one.start for one in by_hour] == sorted({one.start for one in by_hour})
    assert {one.of for one in by_hour} == {"curl"}
    times = [number for number in range(144) if number % 5 and number % 8]
    assert list(all_first) == classes_of(times)


async def test_hours_of_old_days_are_put_together_and_nothing_is_lost(books: Database) -> None:
    before = await _count(books)
    async with books.connect() as conn:
        by_day = await times_of(conn, "usr_a", range(DAY, DAY + 6), 24, "model")
    merged = await asyncio.gather(*(merge_hours(books, DAY + 5) for _ in range(3)))
    assert sum(merged) > 0
    after = await _count(books)
    assert after[0] < before[0]
    assert after[1:] == before[1:]
    async with books.connect() as conn:
        assert await times_of(conn, "usr_a", range(DAY, DAY + 6), 24, "model") == by_day
        old = usage_times.c.hour < (DAY + 3) * 24
        hours = select(func.count()).where(old, usage_times.c.hour % 24 != 0)
        assert await conn.scalar(hours) == 0
        # Two users, and three models of each of three days.
        count = await conn.scalar(select(func.count()).select_from(usage_times).where(old))
        assert count is not None
        assert count <= 18
    assert await merge_hours(books, DAY + 5) == 0
    await agree(books, *range(DAY, DAY + 6))


async def test_what_a_merged_day_lacks_is_found_and_mended(books: Database) -> None:
    await merge_hours(books, DAY + 5)
    async with books.transaction() as conn:
        gone = usage_times.c.user_id == "usr_b"
        await conn.execute(usage_times.delete().where(gone, usage_times.c.hour < (DAY + 1) * 24))
    found = await repair(books, DAY)
    assert {(it.table, it.of[0]) for it in found} == {("usage_times", "usr_b")}
    assert Difference("usage_times", ("usr_b", DAY * 24, "key_a", "m2", "curl"), "first_5", 0, 1) in found
    async with books.connect() as conn:
        assert await compare(conn, DAY) == []
