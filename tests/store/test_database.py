"""Opening the database: made once, private, refused with words that help, and never half-written."""

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from penstock.errors import DatabaseUnavailable
from penstock.store.sql import database as module
from penstock.store.sql.backend import RowRefused, StoreError, WriteFailed
from penstock.store.sql.database import Database, SchemaBehind, SchemaTooNew, upsert
from penstock.store.sql.schema import HEAD, revisions
from penstock.store.sql.sqlite import SqliteBatch


def url(directory: Path) -> str:
    return f"sqlite:///{directory / 'penstock.db'}"


async def values(database: Database) -> dict[str, int]:
    async with database.connect() as conn:
        return {row.subject: row.value for row in await conn.execute(select(revisions))}


async def test_a_new_database_is_made_private_and_stamped(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "data"
    database = await Database.open(url(directory))
    async with database.connect() as conn:
        assert (await conn.exec_driver_sql("SELECT version_num FROM alembic_version")).scalar_one() == HEAD
        assert (await conn.exec_driver_sql("PRAGMA journal_mode")).scalar_one() == "wal"
        assert (await conn.exec_driver_sql("PRAGMA foreign_keys")).scalar_one() == 1
    await database.close()
    assert stat.S_IMODE((directory / "penstock.db").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(("synchronous", "level"), [("NORMAL", 1), ("FULL", 2)])
async def test_how_hard_it_syncs_is_a_setting(tmp_path: Path, synchronous, level: int) -> None:
    database = await Database.open(url(tmp_path), synchronous=synchronous)
    async with database.transaction() as conn:
        assert (await conn.exec_driver_sql("PRAGMA synchronous")).scalar_one() == level
    await database.close()


@pytest.mark.parametrize("attempt", range(5))
async def test_two_programs_may_open_a_new_database_at_once(tmp_path: Path, attempt: int) -> None:
    for database in await asyncio.gather(*(Database.open(url(tmp_path)) for _ in range(4))):
        await database.close()


async def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path))
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="a", value=1))

    async def write(subject: str, divisor: int) -> None:
        async with database.transaction() as conn:
            await conn.execute(insert(revisions).values(subject="b", value=1))
            await conn.execute(insert(revisions).values(subject=subject, value=1 // divisor))

    with pytest.raises(ZeroDivisionError):
        await write("c", 0)
    with pytest.raises(IntegrityError):
        await write("a", 1)
    assert await values(database) == {"a": 1}
    await database.close()


async def test_a_cancelled_transaction_leaves_nothing_and_lets_go(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path))
    inside, forever = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as conn:
            await conn.execute(insert(revisions).values(subject="a", value=1))
            inside.set()
            await forever.wait()

    holder = asyncio.ensure_future(hold())
    await inside.wait()
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="b", value=1))
    assert await values(database) == {"b": 1}
    await database.close()


async def test_writers_queue_and_none_loses_an_update(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path))
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="a", value=0))

    async def add() -> None:
        async with database.transaction() as conn:
            value = (await conn.execute(select(revisions.c.value))).scalar_one()
            await conn.execute(revisions.update().values(value=value + 1))

    await asyncio.gather(*(add() for _ in range(40)))
    assert await values(database) == {"a": 40}
    await database.close()


async def test_what_reads_cannot_write_and_sees_one_moment(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path))
    with pytest.raises(DatabaseUnavailable):
        async with database.connect() as conn:
            await conn.execute(insert(revisions).values(subject="a", value=1))
    async with database.connect() as reader:
        count = select(func.count()).select_from(revisions)
        assert (await reader.execute(count)).scalar_one() == 0
        async with database.transaction() as conn:
            await conn.execute(insert(revisions).values(subject="a", value=1))
        assert (await reader.execute(count)).scalar_one() == 0
    assert await values(database) == {"a": 1}
    await database.close()


async def test_a_database_that_stays_locked_is_unavailable_and_not_a_crash(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path), busy_seconds=0.05)
    other = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable) as caught:
        async with database.transaction():
            pass
    assert caught.value.status == 503
    assert caught.value.retry_after == 5
    other.execute("ROLLBACK")
    other.close()
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject="a", value=1))
    await database.close()


async def test_upsert_changes_what_it_is_told_and_nothing_else(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path))
    async with database.transaction() as conn:
        await conn.execute(upsert(conn, revisions, ["subject"], ["value"]), [{"subject": "a", "value": 1}])
        await conn.execute(
            upsert(conn, revisions, ["subject"], ["value"]),
            [{"subject": "a", "value": 2}, {"subject": "b", "value": 3}],
        )
        await conn.execute(upsert(conn, revisions, ["subject"], []), [{"subject": "b", "value": 9}])
    assert await values(database) == {"a": 2, "b": 3}
    await database.close()


# ---- what it refuses to open


async def refusal(address: str, busy_seconds: float = 0.05) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await Database.open(address, busy_seconds=busy_seconds)
    return caught.value


@pytest.mark.parametrize("revision", ["0099", "nonsense"])
async def test_a_newer_schema_is_refused_by_name(tmp_path: Path, revision: str) -> None:
    database = await Database.open(url(tmp_path))
    async with database.transaction() as conn:
        await conn.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))
    await database.close()
    error = await refusal(url(tmp_path))
    assert isinstance(error, SchemaTooNew)
    assert revision in str(error)
    assert HEAD in str(error)
    assert "upgrade" in str(error)


async def test_an_older_schema_is_migrated_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is one revision yet, so "0000" is made up: the process that migrates does not know it, and says so."""
    database = await Database.open(url(tmp_path))
    async with database.transaction() as conn:
        await conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    await database.close()
    monkeypatch.setattr(module, "OLDER", ("0000",))
    with pytest.raises(SchemaBehind, match="penstock migrate"):
        await Database.open(url(tmp_path), migrate=False)
    assert "is at schema 0000" in str(await refusal(url(tmp_path)))
    assert "with 0 requests that may take 1 seconds" in caplog.text


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "penstock.db")
    other.execute("CREATE TABLE songs (title TEXT)")
    other.commit()
    other.close()
    assert "not one of Penstock's" in str(await refusal(url(tmp_path)))
    other = sqlite3.connect(tmp_path / "penstock.db")
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]
    other.close()


async def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "penstock.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    assert "not a SQLite database" in str(await refusal(url(tmp_path)))


async def test_a_locked_database_is_said_to_be_locked(tmp_path: Path) -> None:
    await (await Database.open(url(tmp_path))).close()
    other = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "locked by another process" in str(await refusal(url(tmp_path)))
    other.close()


async def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in str(await refusal(url(tmp_path / "file")))
    (tmp_path / "penstock.db").mkdir()
    assert f"cannot write {tmp_path / 'penstock.db'}" in str(await refusal(url(tmp_path)))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://localhost/penstock", "SQLite or PostgreSQL"),
        ("postgresql://localhost", "names no database"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("penstock.db", "not a URL"),
    ],
)
async def test_an_address_that_cannot_be_used_is_explained(address: str, words: str) -> None:
    assert words in str(await refusal(address))


# ---- the connection of a writing thread


def batch(tmp_path: Path) -> SqliteBatch:
    connection = SqliteBatch(tmp_path / "b.db", "NORMAL", 0.05)
    connection.write([("CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT NOT NULL)", ())])
    return connection


def words(tmp_path: Path) -> list[str]:
    other = sqlite3.connect(tmp_path / "b.db")
    found = [word for (word,) in other.execute("SELECT word FROM t ORDER BY id")]
    other.close()
    return found


INSERT = "INSERT INTO t VALUES (?, ?)"


@pytest.mark.parametrize("bad", [(1, "again"), (2, None), (2**70, "x"), (2, "\ud800")])
def test_a_row_that_cannot_be_stored_takes_its_whole_batch_with_it(tmp_path: Path, bad) -> None:
    connection = batch(tmp_path)
    connection.write([(INSERT, (1, "one"))])
    with pytest.raises(RowRefused):
        connection.write([(INSERT, (3, "three")), (INSERT, bad)])
    connection.write([(INSERT, (4, "four"))])
    connection.close()
    assert words(tmp_path) == ["one", "four"]


def test_a_full_disk_is_a_failed_write_and_over_when_there_is_room(tmp_path: Path) -> None:
    connection = batch(tmp_path)
    connection.write([("PRAGMA max_page_count = 4", ())])
    with pytest.raises(WriteFailed, match="full"):
        connection.write([(INSERT, (number, "x" * 1000)) for number in range(100)])
    # the limit went with the connection, which is opened anew after a failure
    connection.write([(INSERT, (number, "x" * 1000)) for number in range(100)])
    connection.close()
    assert len(words(tmp_path)) == 100


def test_a_locked_database_is_a_failed_write(tmp_path: Path) -> None:
    connection = batch(tmp_path)
    other = sqlite3.connect(tmp_path / "b.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(WriteFailed, match="locked"):
        connection.write([(INSERT, (1, "one"))])
    other.close()
    connection.write([(INSERT, (1, "one"))])
    connection.close()
    assert words(tmp_path) == ["one"]


def test_a_database_that_cannot_be_opened_is_a_failed_write(tmp_path: Path) -> None:
    connection = SqliteBatch(tmp_path / "nowhere" / "b.db", "NORMAL", 0.05)
    with pytest.raises(WriteFailed, match="unable to open"):
        connection.write([("SELECT 1", ())])
    (tmp_path / "nowhere").mkdir()
    connection.write([("SELECT 1", ())])
    connection.close()
