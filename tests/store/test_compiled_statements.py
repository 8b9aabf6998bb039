"""One compiled text of a statement for all SQLite engines of a process, and never too many."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import literal, select

from penstock.store.sql import sqlite
from penstock.store.sql.database import Database
from penstock.store.sql.schema import plans


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Database.open(f"sqlite:///{tmp_path}/penstock.db")
    yield opened
    await opened.close()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> sqlite.CompiledStatements:
    """Those of the databases that are opened after it."""
    own = sqlite.CompiledStatements()
    monkeypatch.setattr(sqlite, "_compiled", own)
    return own


async def test_a_statement_is_compiled_once_for_all_databases(
    compiled: sqlite.CompiledStatements, database: Database, tmp_path: Path
) -> None:
    statement = select(plans.c.id).where(plans.c.id == "one of all").limit(17)
    before = len(compiled)
    async with database.connect() as conn:
        await conn.execute(statement)
    assert len(compiled) == before + 1
    async with database.transaction() as conn:
        await conn.execute(statement)
    other = await Database.open(f"sqlite:///{tmp_path}/other.db")
    async with other.connect() as conn:
        await conn.execute(statement)
    await other.close()
    assert len(compiled) == before + 1


async def test_values_are_each_statements_own(database: Database) -> None:
    async with database.connect() as conn:
        for word in ("one", "another"):
            assert await conn.scalar(select(literal(word))) == word


def test_there_are_never_too_many() -> None:
    kept = sqlite.CompiledStatements()
    for number in range(3 * sqlite.MOST_COMPILED):
        kept[number] = number
        assert len(kept) <= sqlite.MOST_COMPILED
    assert kept[3 * sqlite.MOST_COMPILED - 1]
