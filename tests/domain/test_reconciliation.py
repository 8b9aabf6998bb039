"""Counts and sums beside the rows behind them: what was planted is found, mended, and mended once."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from penstock.domain.ledger.reconciliation import Difference, RowsGone, compare, repair
from penstock.store.sql.database import Database
from penstock.store.sql.schema import model_days, requests, usage_days, usage_errors, usage_hours
from tests.domain.ledger_rows import DAY, agree, end, open_ledger, row
from tests.stores import Engine


@pytest.fixture
async def books(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    """A day with requests of two users, one of which was refunded, and one that runs."""
    database = await engine.open(tmp_path)
    ledger = await open_ledger(database, "b1")
    for number in range(6):
        await ledger.opened(row(f"r{number}", "usr_a" if number % 2 else "usr_b"))
    for number in range(5):
        ledger.settle(end(f"r{number}", refund="upstream" if number == 0 else None))
    await ledger.close()
    yield database
    await database.close()


async def _compared(database: Database, day: int = DAY) -> list[Difference]:
    async with database.connect() as conn:
        return await compare(conn, day)


async def test_a_planted_difference_in_any_table_is_found_and_mended(books: Database) -> None:
    await agree(books)
    async with books.transaction() as conn:
        await conn.execute(update(usage_days).where(usage_days.c.user_id == "usr_a").values(used=7))
        await conn.execute(insert(usage_days).values(user_id="usr_x", day=DAY, used=2, refunded=0))
        await conn.execute(delete(usage_hours).where(usage_hours.c.user_id == "usr_b"))
        await conn.execute(insert(usage_errors).values(user_id="usr_a", day=DAY, cause="odd", requests=1))
        await conn.execute(update(model_days).values(trouble=4))
    found = await _compared(books)
    assert Difference("usage_days", ("usr_a", DAY), "used", 7, 3) in found
    assert Difference("usage_days", ("usr_x", DAY), "used", 2, 0) in found
    assert Difference("usage_hours", ("usr_b", 24 * DAY, "m"), "requests", 0, 3) in found
    assert Difference("usage_errors", ("usr_a", DAY, "odd"), "requests", 1, 0) in found
    assert Difference("model_days", ("m", DAY), "trouble", 4, 0) in found
    assert await repair(books, DAY) == found
    assert await _compared(books) == []
    assert await repair(books, DAY) == []


async def test_two_repairs_at_once_mend_once(books: Database) -> None:
    async with books.transaction() as conn:
        await conn.execute(update(usage_days).values(used=100))
    results = await asyncio.gather(*(repair(books, DAY) for _ in range(4)))
    assert sorted(map(bool, results)) == [False, False, False, True]
    assert await _compared(books) == []


async def test_requests_that_come_during_a_repair_are_in_the_numbers(books: Database) -> None:
    ledger = await open_ledger(books, "b2")
    async with books.transaction() as conn:
        await conn.execute(update(usage_days).values(used=100))

    async def requesting() -> None:
        for number in range(100, 180):
            await ledger.opened(row(f"r{number}"))
            ledger.settle(end(f"r{number}"))

    await asyncio.gather(requesting(), repair(books, DAY))
    await ledger.close()
    assert await _compared(books) == []


async def test_a_day_whose_rows_are_gone_is_left_as_it_is(books: Database) -> None:
    async with books.transaction() as conn:
        await conn.execute(delete(requests))
    with pytest.raises(RowsGone):
        await repair(books, DAY)
    assert await _compared(books) != []
