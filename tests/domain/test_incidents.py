"""Incidents: how many may be open, and when one ended."""

import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from penstock.domain.announcements import incidents
from penstock.domain.announcements.incidents import MOST_OPEN, Incident
from penstock.domain.trail.entries import SYSTEM
from penstock.errors import InvalidRequest
from penstock.store.sql.database import Database
from tests.domain.people import NOW, open_database
from tests.stores import Engine


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    async with open_database(engine, tmp_path) as opened:
        yield opened


async def begin(database: Database, title: str, *, state: str = "investigating") -> Incident:
    async with database.transaction() as conn:
        return await incidents.open_incident(
            conn, title, "It is slow.", (), SYSTEM, state=state, now=NOW, entropy=secrets.token_bytes
        )


async def say(database: Database, id: str, state: str, *, later: int) -> Incident:
    async with database.transaction() as conn:
        return await incidents.update_incident(
            conn, id, state, "A word.", SYSTEM, now=NOW + later, entropy=secrets.token_bytes
        )


async def test_opening_one_again_counts_among_those_that_are_open(database: Database) -> None:
    first = await begin(database, "first")
    await say(database, first.id, "resolved", later=1)
    open_ones = [await begin(database, f"number {number}") for number in range(MOST_OPEN)]
    with pytest.raises(InvalidRequest):
        await begin(database, "one more")
    with pytest.raises(InvalidRequest):
        await say(database, first.id, "monitoring", later=2)
    assert (await begin(database, "over already", state="resolved")).resolved_at == NOW
    assert (await say(database, open_ones[0].id, "identified", later=3)).state == "identified"
    await say(database, open_ones[0].id, "resolved", later=4)
    assert (await say(database, first.id, "monitoring", later=5)).resolved_at is None


async def test_one_more_word_does_not_move_the_end(database: Database) -> None:
    made = await begin(database, "first")
    assert (await say(database, made.id, "resolved", later=10)).resolved_at == NOW + 10
    after = await say(database, made.id, "resolved", later=500)
    assert (after.resolved_at, len(after.words)) == (NOW + 10, 3)
    assert (await say(database, made.id, "monitoring", later=600)).resolved_at is None
    assert (await say(database, made.id, "resolved", later=700)).resolved_at == NOW + 700
