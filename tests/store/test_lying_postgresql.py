"""Who answers at PostgreSQL's address lies: that is the database away, within bounds, and over when it is well again."""

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from penstock.errors import DatabaseUnavailable
from penstock.store.sql.backend import BatchConnection, PoolSettings, StoreError, WriteFailed
from penstock.store.sql.database import Database
from penstock.store.sql.postgresql_frames import MOST_BYTES, Frames, StrangeMessage
from penstock.store.sql.schema import revisions
from tests.lying_postgresql import FIRST, LATER, READY, LyingPostgresql, Said, lying_postgresql, message
from tests.samples import sample_of
from tests.stores import Engine

PATIENCE = int(os.environ.get("PENSTOCK_TEST_PATIENCE", "15"))
"""Seconds after which a test says that something hangs."""
SLACK = PATIENCE / 15
SHORT = PoolSettings(size=2, connect=0.5 * SLACK, statement=0.3 * SLACK, lock=0.2 * SLACK)
SOME_LATER = sample_of(LATER, 8)
SOME_FIRST = sample_of(FIRST, 7)
INSERT = "INSERT INTO revisions (subject, value) VALUES (?, ?)"


@asynccontextmanager
async def lied_to(engine: Engine, directory: Path) -> AsyncGenerator[tuple[LyingPostgresql, Database]]:
    """A database that has been used, by way of somebody who is honest yet."""
    async with asyncio.timeout(PATIENCE), lying_postgresql(engine.url) as liar:
        database = await Database.open(liar.url, directory=directory, pool=SHORT)
        try:
            await both_ways(database, "before")
            yield liar, database
        finally:
            liar.be_honest()
            await database.close()


async def both_ways(database: Database, subject: str) -> None:
    """Something is written and read."""
    async with database.transaction() as conn:
        await conn.execute(insert(revisions).values(subject=subject, value=1))
    async with database.connect() as conn:
        assert await conn.scalar(select(revisions.c.value).where(revisions.c.subject == subject)) == 1


async def until_well(database: Database) -> None:
    """It is found again by itself; connections that were lied to may have to be found bad first."""
    while True:
        try:
            async with database.transaction() as conn:
                await conn.execute(select(revisions))
            async with database.connect() as conn:
                await conn.execute(select(revisions))
        except DatabaseUnavailable:
            await asyncio.sleep(0.01)
        else:
            return


async def true_or_unavailable(database: Database, number: int) -> set[str]:
    """What is read is what is there, or the database is away. What was taken."""
    try:
        async with database.connect() as conn:
            found = (await conn.execute(select(revisions.c.subject, revisions.c.value))).all()
        assert ("before", 1) in [tuple(row) for row in found]
    except DatabaseUnavailable:
        assert database.trouble is not None
        assert database.trouble.isprintable()
    subject = f"meanwhile {number}"
    try:
        async with database.transaction() as conn:
            await conn.execute(insert(revisions).values(subject=subject, value=1))
    except DatabaseUnavailable:
        return set()
    return {subject}


async def until_written(batch: BatchConnection, subject: str) -> None:
    """A connection that was lied to may have to be found bad first."""
    while True:
        try:
            await asyncio.to_thread(batch.write, [(INSERT, (subject, 1))])
        except WriteFailed:
            continue
        return


async def subjects(engine: Engine, tmp_path: Path) -> list[str]:
    """What is there, by the straight way."""
    database = await engine.open(tmp_path)
    async with database.connect() as conn:
        found = list((await conn.scalars(select(revisions.c.subject))).all())
    await database.close()
    return found


@pytest.mark.parametrize("said", SOME_LATER.values(), ids=SOME_LATER)
async def test_whatever_it_says_later_is_the_database_away_and_found_again(
    postgresql: Engine, tmp_path: Path, said: Said
) -> None:
    async with lied_to(postgresql, tmp_path) as (liar, database):
        batch = database.batch_connection("boot")
        await asyncio.to_thread(batch.write, [(INSERT, ("batch before", 1))])
        liar.said = said
        taken = {"batch before"}
        for number in range(2):
            taken |= await true_or_unavailable(database, number)
            with suppress(WriteFailed):
                await asyncio.to_thread(batch.write, [(INSERT, (f"batch {number}", 1))])
                taken.add(f"batch {number}")
        liar.be_honest()
        await until_well(database)
        await both_ways(database, "after")
        assert database.trouble is None
        await until_written(batch, "batch after")
        batch.close()
        found = await subjects(postgresql, tmp_path)
    assert taken | {"after", "batch after"} <= set(found), "nothing is lost that was said to be written"


@pytest.mark.parametrize("welcome", SOME_FIRST.values(), ids=SOME_FIRST)
async def test_whatever_it_says_first_is_the_database_away_and_found_again(
    postgresql: Engine, tmp_path: Path, welcome: bytes
) -> None:
    async with lied_to(postgresql, tmp_path) as (liar, database):
        batch = database.batch_connection("boot")
        liar.welcome = welcome
        await liar.end()
        with pytest.raises(DatabaseUnavailable):
            async with database.connect():
                pass
        await true_or_unavailable(database, 0)
        with pytest.raises(WriteFailed):
            await asyncio.to_thread(batch.write, [(INSERT, ("batch", 1))])
        with pytest.raises(StoreError) as caught:
            await Database.open(liar.url, directory=tmp_path, pool=SHORT)
        assert str(caught.value).isprintable(), "the doctor and a start say so"
        liar.be_honest()
        await until_well(database)
        await both_ways(database, "after")
        await until_written(batch, "batch")
        batch.close()


# ---- the reader of frames


ANSWER = (
    message(b"1")
    + message(b"T", b"x" * 300)
    + message(b"D", b"y" * 1000)
    + message(b"C", b"SELECT 1\0")
    + READY
)


@given(st.lists(st.integers(1, 40), min_size=1))
def test_an_answer_is_read_at_any_split(steps: list[int]) -> None:
    frames, at = Frames(), 0
    for step in itertools.cycle(steps):
        frames.feed(ANSWER[at : at + step])
        at += step
        if at >= len(ANSWER):
            break
    frames.feed(READY)
    with pytest.raises(StrangeMessage):
        frames.feed(b"?")


@pytest.mark.parametrize("bad", [b"?", b"\0\xff", b"H\0\0\0\4", b"V\0\0\0\4", b"d\0\0\0\4"])
@pytest.mark.parametrize("length", [0, 1, 3, MOST_BYTES + 1, 1 << 31, (1 << 32) - 1])
def test_a_type_or_a_length_that_is_none_is_seen_with_its_last_byte(bad: bytes, length: int) -> None:
    for strange in (bad, message(b"D", length=length)):
        for before in (b"", READY, message(b"D", b"x" * 50)):
            frames = Frames()
            with pytest.raises(StrangeMessage):  # noqa: PT012 - at which byte does not matter
                for byte in before + strange:
                    frames.feed(bytes([byte]))
            with pytest.raises(StrangeMessage):
                Frames().feed(before + strange)


@given(st.binary(max_size=200), st.integers(1, 9))
def test_anything_is_read_or_refused_the_same_way_at_any_split(data: bytes, step: int) -> None:
    def refused(size: int) -> bool:
        frames = Frames()
        try:
            for at in range(0, len(data), size):
                frames.feed(data[at : at + size])
        except StrangeMessage:
            return True
        return False

    assert refused(step) == refused(len(data) or 1)
