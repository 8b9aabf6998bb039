"""What our dialect of SQLite does otherwise than SQLAlchemy's: one trip for a statement, and one compiled text for all."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import literal, select, text
from sqlalchemy.exc import OperationalError

from penstock.store.sql.database import Database
from penstock.store.sql.schema import plans
from penstock.store.sql.sqlite_dialect import COMPILED, MOST_COMPILED, CompiledStatements


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Database.open(f"sqlite:///{tmp_path}/penstock.db")
    yield opened
    await opened.close()


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """All that was given to a connection's thread."""
    made: list[object] = []
    before = aiosqlite.Connection._execute

    async def counted(self: aiosqlite.Connection, fn: Callable[..., object], *args: Any, **rest: Any) -> Any:
        made.append(fn)
        return await before(self, fn, *args, **rest)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    return made


async def test_a_statement_is_one_trip(database: Database, trips: list[object]) -> None:
    async with database.connect() as conn:
        await conn.execute(select(1))
        trips.clear()
        for asked in ("SELECT 1 AS a UNION SELECT 2", "SELECT 1 AS a WHERE 0"):
            before = len(trips)
            rows = (await conn.exec_driver_sql(asked)).mappings().all()
            assert len(trips) == before + 1
            assert [dict(row) for row in rows] == ([] if asked.endswith("0") else [{"a": 1}, {"a": 2}])
        assert (await conn.exec_driver_sql("SELECT ?", ("x",))).scalar_one() == "x"


async def test_what_a_write_tells(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.exec_driver_sql("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)")
        written = await conn.exec_driver_sql("INSERT INTO words (word) VALUES (?)", [("a",), ("b",), ("c",)])
        assert written.rowcount == 3
        one = await conn.exec_driver_sql("INSERT INTO words (word) VALUES ('d')")
        assert (one.rowcount, one.lastrowid, one.returns_rows) == (1, 4, False)
        gone = await conn.exec_driver_sql("DELETE FROM words WHERE id > 1 RETURNING word")
        assert sorted(gone.scalars()) == ["b", "c", "d"]
        none = await conn.exec_driver_sql("UPDATE words SET word = 'x' WHERE id = 9")
        assert none.rowcount == 0


async def test_an_error_is_the_databases_and_the_connection_goes_on(database: Database) -> None:
    async with database.connect() as conn:
        with pytest.raises(OperationalError, match="no such table"):
            await conn.exec_driver_sql("SELECT * FROM nowhere")
        assert (await conn.exec_driver_sql("SELECT 1")).scalar_one() == 1


async def test_a_stream_holds_no_more_than_it_was_asked_for(database: Database) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    async with database.connect() as conn, conn.stream(text(endless)) as found:
        assert [row[0] for row in await found.fetchmany(3)] == [1, 2, 3]


async def test_a_statement_is_compiled_once_for_all_databases(database: Database, tmp_path: Path) -> None:
    statement = select(plans.c.id).where(plans.c.id == "one of all").limit(17)
    before = len(COMPILED)
    async with database.connect() as conn:
        await conn.execute(statement)
    made = len(COMPILED)
    assert made > before or before > MOST_COMPILED - 10
    async with database.transaction() as conn:
        await conn.execute(statement)
    other = await Database.open(f"sqlite:///{tmp_path}/other.db")
    before = len(COMPILED)
    async with other.connect() as conn:
        await conn.execute(statement)
    await other.close()
    assert len(COMPILED) == before


async def test_values_are_each_statements_own(database: Database) -> None:
    async with database.connect() as conn:
        for word in ("one", "another"):
            assert await conn.scalar(select(literal(word))) == word


def test_there_are_never_too_many() -> None:
    kept = CompiledStatements()
    for number in range(3 * MOST_COMPILED):
        kept[number] = number
        assert len(kept) <= MOST_COMPILED
    assert kept[3 * MOST_COMPILED - 1]
