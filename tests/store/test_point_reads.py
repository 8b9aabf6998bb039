"""Point reads: rows by their key without SQLAlchemy, at once on SQLite, by a few connections of their own on PostgreSQL."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from penstock.errors import DatabaseUnavailable
from penstock.store.sql.backend import PoolSettings, ReadFailed
from penstock.store.sql.database import Database
from penstock.store.sql.postgresql import PostgresqlBackend
from penstock.store.sql.postgresql_address import PostgresqlAddress
from penstock.store.sql.schema import revisions
from tests.stores import Engine, execute

READ = "SELECT value FROM revisions WHERE subject = ?"


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await engine.open(tmp_path)
    async with opened.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="x", value=1))
    yield opened
    await opened.close()


async def raise_to(database: Database, value: int) -> None:
    async with database.transaction() as conn:
        await conn.execute(update(revisions).values(value=value))


async def test_what_was_committed_is_read(database: Database) -> None:
    for value in range(2, 6):
        await raise_to(database, value)
        assert await database.read(READ, ("x",)) == [(value,)]
    assert await database.read(READ, ("y",)) == []
    assert database.trouble is None


async def test_what_was_not_committed_is_not_read_and_not_waited_for(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute(update(revisions).values(value=7))
        assert await database.read(READ, ("x",)) == [(1,)]


async def test_nothing_can_be_written(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.read("DELETE FROM revisions WHERE subject = ? RETURNING value", ("x",))
    assert await database.read(READ, ("x",)) == [(1,)]


async def test_a_statement_that_fails_is_told_without_its_values(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.read("SELECT nothing FROM revisions WHERE subject = ?", ("sesame",))
    told = f"{caught.value} {caught.value.__cause__} {database.trouble}"
    assert "sesame" not in told
    assert "nothing" in str(database.trouble)
    assert await database.read(READ, ("x",)) == [(1,)]
    assert database.trouble is None


async def test_many_at_once(database: Database) -> None:
    found = await asyncio.gather(*(database.read(READ, ("x",)) for _ in range(200)))
    assert found == [[(1,)]] * 200


# ---- SQLite


def path_of(database: Database) -> Path:
    assert database.path is not None
    return database.path


async def test_on_sqlite_rows_are_there_at_once(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/a b#c%20d.db")
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="x", value=1))
    assert database.read_now(READ, ("x",)) == [(1,)]
    await database.close()


async def test_a_file_that_another_took_the_place_of_is_read_anew(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/penstock.db")
    other = await Database.open(f"sqlite:///{tmp_path}/other.db")
    async with other.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="x", value=5))
    await other.close()
    assert database.read_now(READ, ("x",)) == []
    os.replace(tmp_path / "other.db", path_of(database))  # noqa: PTH105 - the call itself is what is meant
    for end in ("-wal", "-shm"):
        (tmp_path / f"penstock.db{end}").unlink(missing_ok=True)
    assert database.read_now(READ, ("x",)) == [(5,)]
    await database.close()


async def test_a_file_that_is_locked_is_waited_for(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/penstock.db")
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="x", value=1))
    await database.close()
    locking = sqlite3.connect(path_of(database), isolation_level=None)
    locking.execute("PRAGMA locking_mode=EXCLUSIVE")
    locking.execute("PRAGMA journal_mode=DELETE")
    locking.execute("BEGIN EXCLUSIVE")
    assert database.read_now(READ, ("x",)) is None
    waiting = asyncio.ensure_future(database.read(READ, ("x",)))
    await asyncio.sleep(0)
    assert not waiting.done()
    locking.close()
    assert await waiting == [(1,)]
    assert database.read_now(READ, ("x",)) == [(1,)]
    await database.close()


async def test_a_file_that_is_gone_is_not_made(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/penstock.db")
    await database.close()
    path_of(database).rename(tmp_path / "elsewhere")
    assert database.read_now(READ, ("x",)) is None
    assert not path_of(database).exists()


async def test_closing_leaves_nothing_open(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/penstock.db")
    assert database.read_now(READ, ("x",)) == []
    await database.close()
    links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)]  # noqa: PTH115, PTH208 - numbers
    assert not [link for link in links if str(tmp_path) in link]


def _is_open(name: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{name}")


# ---- PostgreSQL


@pytest.fixture
async def server(postgresql: Engine, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(postgresql.url, directory=tmp_path, pool=PoolSettings(size=2, lock=20.0))
    async with opened.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="x", value=1))
    yield opened
    await opened.close()


def readers(database: Database) -> list[object]:
    backend = database._backend
    assert isinstance(backend, PostgresqlBackend)
    return list(backend._points._idle)


def end_connections(engine: Engine) -> None:
    name = engine.url.rpartition("/")[2]
    execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


async def test_on_postgresql_there_are_as_many_connections_as_the_pool_has(server: Database) -> None:
    assert server.read_now(READ, ("x",)) is None
    assert readers(server) == []
    await asyncio.gather(*(server.read(READ, ("x",)) for _ in range(20)))
    assert len(readers(server)) == 2


async def test_a_connection_that_the_server_ended_is_replaced_unnoticed(
    server: Database, postgresql: Engine
) -> None:
    for _ in range(3):
        await asyncio.gather(*(server.read(READ, ("x",)) for _ in range(4)))
        end_connections(postgresql)
        assert await server.read(READ, ("x",)) == [(1,)]


async def test_a_server_that_takes_no_connections_is_told_and_found_again(
    server: Database, postgresql: Engine
) -> None:
    name = postgresql.url.rpartition("/")[2]
    await server.read(READ, ("x",))
    execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    end_connections(postgresql)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            await server.read(READ, ("x",))
    assert server.trouble is not None
    execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
    async with asyncio.timeout(60):
        while True:
            try:
                assert await server.read(READ, ("x",)) == [(1,)]
                break
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
    assert server.trouble is None


async def test_a_reader_who_goes_away_leaves_no_connection_in_the_middle_of_an_answer(
    server: Database,
) -> None:
    slow = asyncio.ensure_future(
        server.read("SELECT count(*) FROM pg_sleep(600), (SELECT ?::text) AS t", ("x",))
    )
    running = (
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE ? AND state = 'active' AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(60):
        while not await server.read(running, ("%pg_sleep(600)%",)):
            assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    found = await asyncio.gather(*(server.read(READ, ("x",)) for _ in range(4)))
    assert found == [[(1,)]] * 4


async def test_a_url_that_says_how_to_connect_is_heeded(postgresql: Engine, tmp_path: Path) -> None:
    """``ssl`` and the like mean for these connections what they mean for all others."""
    plain = await Database.open(
        f"{postgresql.url}?ssl=disable&prepared_statement_cache_size=10", directory=tmp_path
    )
    assert await plain.read(READ, ("x",)) == []
    await plain.close()
    strict = PostgresqlBackend(
        PostgresqlAddress.parse(f"{postgresql.url}?ssl=verify-full"), PoolSettings(size=1)
    )
    with pytest.raises(ReadFailed) as caught:
        await strict.read(READ, ("x",))
    assert caught.value.connecting
    await strict.close()


async def test_after_the_end_no_connection_is_kept(server: Database) -> None:
    await server.read(READ, ("x",))
    late = asyncio.ensure_future(server.read(READ, ("x",)))
    await asyncio.sleep(0)
    await server.close()
    assert await late == [(1,)]
    assert readers(server) == []
