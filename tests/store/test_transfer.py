"""What is in a SQLite installation is in PostgreSQL afterwards, to the last row, or nothing is."""

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, delete, func, insert, select

from penstock.store.sql import transfer
from penstock.store.sql.backend import StoreError
from penstock.store.sql.database import Database
from penstock.store.sql.key_changes import SUBJECT
from penstock.store.sql.postgresql_address import PostgresqlAddress
from penstock.store.sql.schema import key_changes, metadata, plans, revisions, users
from penstock.store.sql.transfer import move
from tests.stores import Engine

ROWS = 53
"""More than go in one turn of those tests that say so."""


@pytest.fixture
async def source(tmp_path: Path) -> AsyncGenerator[Database]:
    database = await Database.open(f"sqlite:///{tmp_path}/penstock.db")
    yield database
    await database.close()


def value(column: Column[object], number: int) -> object:
    """One that no other row has; text whose order by bytes is not its order in a language."""
    if column.foreign_keys:
        return value(users.c.id, number)
    if column.nullable and number % 3 == 0:
        return None
    kind = column.type
    if isinstance(kind, Boolean):
        return number % 2 == 0
    if isinstance(kind, LargeBinary):
        return hashlib.sha256(b"\0%d" % number).digest()
    if isinstance(kind, BigInteger):
        return 2**50 + number
    if isinstance(kind, Integer):
        return number
    # No letter at the same place in every row, so that it matters how letters are compared.
    text = f"{'aBzé-_€'[number % 7]}{number}"
    length = getattr(kind, "length", None)
    return text if length is None or length > 8 else text[-length:]


async def fill(database: Database, rows: int) -> None:
    async with database.transaction() as conn:
        for table in metadata.sorted_tables:
            made = [{c.name: value(c, number) for c in table.columns} for number in range(rows)]
            await conn.execute(insert(table), made)
        # What the triggers noted of these rows is more than ROWS.
        await conn.execute(delete(revisions).where(revisions.c.subject == SUBJECT))
        await conn.execute(delete(key_changes).where(key_changes.c.revision < 2**50))


async def everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    found: dict[str, list[tuple[object, ...]]] = {}
    async with database.connect() as conn:
        for table in metadata.sorted_tables:
            rows = await conn.execute(select(table))
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


async def counts(engine: Engine, directory: Path) -> set[int]:
    database = await engine.open(directory)
    async with database.connect() as conn:
        found = {
            (await conn.execute(select(func.count()).select_from(table))).scalar_one()
            for table in metadata.sorted_tables
        }
    await database.close()
    return found


async def test_every_row_of_every_table_arrives(
    source: Database, empty_postgresql: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ROWS_AT_A_TIME", 50)
    await fill(source, ROWS)
    moved = await move(source, PostgresqlAddress.parse(empty_postgresql.url))
    assert {table.name for table in moved} == set(metadata.tables)
    assert {table.rows for table in moved} == {ROWS}
    assert len({table.checksum for table in moved}) == len(moved)
    target = await Database.open(empty_postgresql.url, directory=tmp_path, migrate=False)
    assert await everything(target) == await everything(source)
    await target.close()


async def test_a_database_that_sorts_as_people_do_is_verified_all_the_same(
    source: Database, postgresql: Engine, tmp_path: Path
) -> None:
    await fill(source, 20)
    target = await postgresql.open(tmp_path)
    async with target.transaction() as conn:
        await conn.exec_driver_sql('ALTER TABLE plans ALTER COLUMN id TYPE varchar(64) COLLATE "en-x-icu"')
        ordered = await conn.exec_driver_sql("SELECT 'a' < 'B' COLLATE \"en-x-icu\"")
        assert ordered.scalar_one()
    await target.close()
    assert {table.rows for table in await move(source, PostgresqlAddress.parse(postgresql.url))} == {20}


async def test_an_installation_without_a_row_makes_one_without_a_row(
    source: Database, postgresql: Engine, tmp_path: Path
) -> None:
    moved = await move(source, PostgresqlAddress.parse(postgresql.url))
    assert {table.rows for table in moved} == {0}
    assert await counts(postgresql, tmp_path) == {0}


async def test_a_database_that_has_rows_is_refused_and_keeps_them(
    source: Database, postgresql: Engine, tmp_path: Path
) -> None:
    await fill(source, 3)
    target = await postgresql.open(tmp_path)
    async with target.transaction() as conn:
        await conn.execute(insert(plans), [{c.name: value(c, 1) for c in plans.columns}])
    before = await everything(target)
    await target.close()
    with pytest.raises(StoreError, match="not empty, table plans"):
        await move(source, PostgresqlAddress.parse(postgresql.url))
    target = await postgresql.open(tmp_path)
    assert await everything(target) == before
    await target.close()


async def test_a_database_of_another_program_is_refused(source: Database, empty_postgresql: Engine) -> None:
    target = await Database.open(empty_postgresql.url)
    async with target.transaction() as conn:
        for table in (*reversed(metadata.sorted_tables), None):
            name = "alembic_version" if table is None else table.name
            await conn.exec_driver_sql(f"DROP TABLE {name}")
        await conn.exec_driver_sql("CREATE TABLE theirs (id int)")
    await target.close()
    with pytest.raises(StoreError, match="not one of Penstock's"):
        await move(source, PostgresqlAddress.parse(empty_postgresql.url))


async def test_a_database_that_a_server_has_claimed_is_refused(
    source: Database, postgresql: Engine, tmp_path: Path
) -> None:
    target = await postgresql.open(tmp_path)
    async with target.claimed():
        with pytest.raises(StoreError, match="using"):
            await move(source, PostgresqlAddress.parse(postgresql.url))
    await target.close()


async def test_a_database_that_anyone_of_ours_is_connected_to_is_refused(
    source: Database, postgresql: Engine, tmp_path: Path
) -> None:
    target = await postgresql.open(tmp_path)
    with pytest.raises(StoreError, match="using"):
        await move(source, PostgresqlAddress.parse(postgresql.url))
    await target.close()
    await move(source, PostgresqlAddress.parse(postgresql.url))


@pytest.mark.parametrize(
    ("column", "bad"),
    [("id", "x" * 65), ("name", "nul\0"), ("queue_seconds", 2**40)],
    ids=["too long", "a NUL", "too large"],
)
async def test_a_row_that_postgresql_cannot_store_is_told_and_nothing_is_moved(
    source: Database, empty_postgresql: Engine, tmp_path: Path, column: str, bad: object
) -> None:
    await fill(source, 3)
    async with source.transaction() as conn:
        row = {c.name: value(c, 4) for c in plans.columns} | {column: bad}
        await conn.execute(insert(plans), [row])
    with pytest.raises(StoreError, match="plans") as caught:
        await move(source, PostgresqlAddress.parse(empty_postgresql.url))
    assert str(bad) not in str(caught.value)
    assert await counts(empty_postgresql, tmp_path) == {0}


async def test_what_the_database_changes_on_its_way_in_is_noticed(
    source: Database, postgresql: Engine, tmp_path: Path
) -> None:
    await fill(source, 3)
    target = await postgresql.open(tmp_path)
    async with target.transaction() as conn:
        await conn.exec_driver_sql(
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.daily_requests := NEW.daily_requests + 1; RETURN NEW; END $$"
        )
        await conn.exec_driver_sql(
            "CREATE TRIGGER change BEFORE INSERT ON plans FOR EACH ROW EXECUTE FUNCTION change()"
        )
    await target.close()
    with pytest.raises(StoreError, match="does not give back what table plans had"):
        await move(source, PostgresqlAddress.parse(postgresql.url))
    assert await counts(postgresql, tmp_path) == {0}
