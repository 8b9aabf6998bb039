"""PostgreSQL alone: one server without Redis, writers one after another, a server that goes away and comes back, migrations."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from penstock.errors import DatabaseUnavailable
from penstock.store.sql.backend import PoolSettings, RowRefused, StoreError, WriteFailed
from penstock.store.sql.database import Database
from penstock.store.sql.postgresql import explain
from penstock.store.sql.schema import revisions
from tests.stores import Engine, execute


@pytest.fixture
def engine(postgresql: Engine) -> Engine:
    return postgresql


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await engine.open(tmp_path)
    yield opened
    await opened.close()


def name_of(engine: Engine) -> str:
    return engine.url.rpartition("/")[2]


@asynccontextmanager
async def away(engine: Engine) -> AsyncGenerator[None]:
    """The database takes no connections, and those that it had are ended."""
    name = name_of(engine)
    execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        yield
    finally:
        execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")


async def test_a_second_server_is_refused_while_limits_are_in_memory(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    other = await Database.open(engine.url, directory=tmp_path, busy_seconds=0.1)
    async with database.claimed():
        with pytest.raises(StoreError, match="several need Redis"):
            async with other.claimed():
                pass
    await database.close()
    async with other.claimed():
        pass
    await other.close()


async def test_read_and_write_in_one_transaction_loses_no_increment(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    """What the code for SQLite relies on: whoever reads in a write transaction reads what the one before has written."""
    others = [await engine.open(tmp_path) for _ in range(3)]
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="t", value=0))

    async def add(where: Database) -> None:
        async with where.transaction() as conn:
            value = await conn.scalar(select(revisions.c.value).where(revisions.c.subject == "t"))
            await asyncio.sleep(0)
            await conn.execute(
                update(revisions).where(revisions.c.subject == "t").values(value=(value or 0) + 1)
            )

    await asyncio.gather(*(add(where) for where in (database, *others) for _ in range(25)))
    async with database.connect() as conn:
        assert await conn.scalar(select(revisions.c.value).where(revisions.c.subject == "t")) == 100
    for other in others:
        await other.close()


async def test_a_server_that_is_away_is_told_as_that_and_found_again(
    database: Database, engine: Engine
) -> None:
    batch = database.batch_connection("boot")
    insertion = "INSERT INTO revisions (subject, value) VALUES (?, ?)"
    await asyncio.to_thread(batch.write, [(insertion, ("one", 1))])
    async with away(engine):
        with pytest.raises(DatabaseUnavailable):
            async with database.connect() as conn:
                await conn.execute(select(revisions))
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction() as conn:
                await conn.execute(select(revisions))
        with pytest.raises(WriteFailed):
            await asyncio.to_thread(batch.write, [(insertion, ("two", 2))])
    await asyncio.to_thread(batch.write, [(insertion, ("two", 2))])
    async with asyncio.timeout(60):
        while True:
            try:
                async with database.connect() as conn:
                    found = await conn.execute(select(revisions).order_by(revisions.c.value))
                    assert [tuple(row) for row in found] == [("one", 1), ("two", 2)]
                break
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
    batch.close()


async def test_a_row_that_cannot_be_stored_is_refused_alone(database: Database) -> None:
    batch = database.batch_connection()
    insertion = "INSERT INTO revisions (subject, value) VALUES (?, ?)"
    for value in (2**70, "text"):
        with pytest.raises(RowRefused):
            await asyncio.to_thread(batch.write, [(insertion, ("one", value))])
    await asyncio.to_thread(batch.write, [(insertion, ("one", 1))])
    with pytest.raises(RowRefused):
        await asyncio.to_thread(batch.write, [(insertion, ("one", 1))])
    batch.close()


async def test_who_is_alive_is_told_by_its_connection(database: Database) -> None:
    batch = database.batch_connection("alive")
    await asyncio.to_thread(batch.write, [])
    async with database.transaction() as conn:
        assert await database.gone(conn, ["alive", "dead"]) == ["dead"]
    batch.close()
    async with database.transaction() as conn:
        assert await database.gone(conn, ["alive", "dead"]) == ["alive", "dead"]


async def test_who_hangs_in_the_middle_of_its_turn_loses_it_before_others_give_up(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    """As a process does that is stopped, or whose machine is gone without a word."""

    async def write(database: Database, name: str) -> None:
        async with database.transaction() as conn:
            await conn.execute(insert(revisions).values(subject=name, value=1))

    hanging = await Database.open(engine.url, directory=tmp_path, pool=PoolSettings(hold=0.2))

    async def hang_in_the_middle() -> None:
        async with hanging.transaction() as conn:
            await conn.execute(insert(revisions).values(subject="lost", value=1))
            await write(database, "next")
            await conn.execute(insert(revisions).values(subject="too late", value=1))

    try:
        with pytest.raises(DatabaseUnavailable):
            await hang_in_the_middle()
        await write(hanging, "again")
    finally:
        await hanging.close()
    async with database.connect() as conn:
        names = set(await conn.scalars(select(revisions.c.subject)))
    assert names >= {"next", "again"}
    assert not names & {"lost", "too late"}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://postgres@127.0.0.1:1/x", "cannot be reached"),
        ("postgresql://nobody-here@{server}/postgres", "refuses the user"),
    ],
)
async def test_what_keeps_it_from_being_opened_is_explained(
    engine: Engine, tmp_path: Path, url: str, words: str
) -> None:
    address = engine.url.rpartition("@")[2].rpartition("/")[0]
    with pytest.raises(StoreError, match=words) as refused:
        await Database.open(url.format(server=address), directory=tmp_path, pool=PoolSettings(connect=2))
    assert "secret" not in str(refused.value)


async def test_a_database_that_is_not_there_is_explained(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="createdb"):
        await Database.open(f"{engine.url}_nowhere", directory=tmp_path)


def test_a_timeout_is_explained() -> None:
    assert explain(TimeoutError(), "db") == "db did not answer in time"
