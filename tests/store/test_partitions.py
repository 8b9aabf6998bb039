"""The request log's partitions: no day without a place, no row refused, and old months gone as a whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, func, insert, select

from penstock.store.sql.database import Database
from penstock.store.sql.partitions import AHEAD, Partition, drop_before, make_ahead, make_for, partitions
from penstock.store.sql.schema import requests
from tests.store.test_transfer import value
from tests.stores import Engine

NOVEMBER, DECEMBER, JANUARY = 20_758, 20_788, 20_819
"""The first days of these months, of 2026 and 2027."""
T = TypeVar("T")


@pytest.fixture
async def database(postgresql: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await postgresql.open(tmp_path)
    yield opened
    await opened.close()


async def do(database: Database, work: Callable[[Connection], T]) -> T:
    async with database.transaction() as conn:
        return await conn.run_sync(work)


async def record(database: Database, *days: int) -> None:
    """A request on each of these days."""
    async with database.transaction() as conn:
        for number, day in enumerate(days):
            row = {column.name: value(column, number) for column in requests.columns}
            await conn.execute(insert(requests).values(row | {"id": f"r{day}.{number}", "day": day}))


async def places(database: Database) -> dict[str, list[int]]:
    """The days that each partition has rows of."""
    async with database.connect() as conn:
        rows = await conn.exec_driver_sql("SELECT tableoid::regclass::text, day FROM requests ORDER BY day")
        found: dict[str, list[int]] = {}
        for name, day in map(tuple, rows):
            found.setdefault(name, []).append(day)
        return found


async def test_months_are_made_ahead_once(database: Database) -> None:
    made = await do(database, lambda connection: make_ahead(connection, JANUARY - 3))
    assert made == ["requests_2026_12", "requests_2027_01", "requests_2027_02"]
    assert await do(database, partitions) == [
        Partition("requests_2026_12", DECEMBER, JANUARY),
        Partition("requests_2027_01", JANUARY, JANUARY + 31),
        Partition("requests_2027_02", JANUARY + 31, JANUARY + 59),
    ]
    assert await do(database, lambda connection: make_ahead(connection, JANUARY - 3)) == []


async def test_a_row_of_any_day_has_a_place_and_moves_when_its_month_is_made(database: Database) -> None:
    await record(database, NOVEMBER, NOVEMBER + 29, DECEMBER, 0, 2**31 - 2)
    assert set(await places(database)) == {"requests_other"}
    await do(database, lambda connection: make_ahead(connection, JANUARY))
    assert await places(database) == {
        "requests_1970_01": [0],
        "requests_2026_11": [NOVEMBER, NOVEMBER + 29],
        "requests_2026_12": [DECEMBER],
        "requests_other": [2**31 - 2],
    }
    await record(database, DECEMBER + 1, JANUARY)
    found = await places(database)
    assert (found["requests_2026_12"], found["requests_2027_01"]) == ([DECEMBER, DECEMBER + 1], [JANUARY])


async def test_a_partition_is_a_day_where_few_are_kept_and_fits_between_months(database: Database) -> None:
    await do(database, lambda connection: make_for(connection, [NOVEMBER]))
    made = await do(database, lambda connection: make_ahead(connection, DECEMBER - 2, kept=7))
    assert len(made) == AHEAD - 1
    assert made[0] == f"requests_{DECEMBER}_{DECEMBER + 1}"
    last = DECEMBER - 2 + AHEAD
    assert await do(database, lambda connection: make_for(connection, [last + 1])) == [
        f"requests_{last + 1}_{JANUARY + 31}"
    ]
    assert await do(database, lambda connection: make_ahead(connection, JANUARY - 20)) == []


async def test_what_is_dropped_is_old_to_its_last_day(database: Database) -> None:
    await do(database, lambda connection: make_for(connection, [NOVEMBER, DECEMBER, JANUARY]))
    await record(database, NOVEMBER, DECEMBER, JANUARY)
    assert await do(database, lambda connection: drop_before(connection, DECEMBER - 1)) == []
    gone = await do(database, lambda connection: drop_before(connection, JANUARY - 1))
    assert [part.name for part in gone] == ["requests_2026_11"]
    assert set(await places(database)) == {"requests_2026_12", "requests_2027_01"}


async def test_several_servers_make_them_together(
    database: Database, postgresql: Engine, tmp_path: Path
) -> None:
    others = [await postgresql.open(tmp_path) for _ in range(3)]
    made = await asyncio.gather(
        *(do(each, lambda connection: make_ahead(connection, NOVEMBER)) for each in (database, *others))
    )
    assert sorted(map(len, made)) == [0, 0, 0, 2]
    for other in others:
        await other.close()


async def test_each_partition_is_indexed_as_the_log_is(database: Database) -> None:
    await do(database, lambda connection: make_ahead(connection, NOVEMBER))
    async with database.connect() as conn:
        counted = await conn.exec_driver_sql(
            "SELECT tablename, count(*) FROM pg_indexes WHERE tablename LIKE 'requests%' GROUP BY tablename"
        )
        assert dict(tuple(row) for row in counted) == dict.fromkeys(
            ("requests", "requests_other", "requests_2026_11", "requests_2026_12"), 3
        )


async def test_the_days_of_a_month_are_read_from_its_partition_alone(database: Database) -> None:
    await do(database, lambda connection: make_for(connection, [NOVEMBER, DECEMBER, JANUARY]))
    counting = select(func.count()).select_from(requests).where(requests.c.day == DECEMBER)
    async with database.connect() as conn:
        text = str(counting.compile(conn.sync_engine, compile_kwargs={"literal_binds": True}))
        plan = "\n".join((await conn.exec_driver_sql(f"EXPLAIN {text}")).scalars())
    assert "requests_2026_12" in plan
    assert "requests_2026_11" not in plan
