"""The trail: what is written in it, its chain, and what an edit of it is found by."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.trail import chain, entries
from penstock.domain.trail.entries import SYSTEM, Actor, Subject, TrailFilter
from penstock.domain.trail.export import line_of
from penstock.store.sql.database import Database
from penstock.store.sql.schema import trail, trail_checkpoints
from tests.domain.people import NOW, open_database
from tests.stores import Engine

ANN = Actor("user", "usr_ann", "ann@example.com", "203.0.113.7", "Firefox")
SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_trail.py"


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    async with open_database(engine, tmp_path) as opened:
        yield opened


async def write(conn: AsyncConnection, number: int, actor: Actor = ANN) -> str:
    return await entries.write(
        conn,
        actor,
        "user_changed",
        Subject("user", f"usr_{number}", f"person{number}@example.com"),
        before={"plan": "free"},
        after={"plan": "pro"},
        now=NOW + number,
        entropy=secrets.token_bytes,
    )


async def fill(database: Database, count: int = 12) -> None:
    async with database.transaction() as conn:
        for number in range(count):
            await write(conn, number, ANN if number % 2 else SYSTEM)
        assert await chain.seal(conn, most=5) == 5
        while await chain.seal(conn):
            pass


async def verdict(
    database: Database, *, from_checkpoint: bool = False, anchor: tuple[int, bytes] | None = None
) -> chain.Verdict:
    async with database.connect() as conn:
        return await chain.verify(conn, from_checkpoint=from_checkpoint, anchor=anchor)


async def test_a_trail_that_nobody_touched_is_whole(database: Database) -> None:
    assert (await verdict(database)).broken is None
    await fill(database)
    async with database.transaction() as conn:
        await write(conn, 99)
    found = await verdict(database)
    assert (found.broken, found.entries, found.first, found.last, found.unsealed) == (None, 12, 1, 12, 1)
    anchor = (found.last, bytes.fromhex(found.head))
    assert (await verdict(database, anchor=anchor)).broken is None


Harm = Callable[[AsyncConnection], Awaitable[object]]


def _edit(number: int, **values: object) -> Harm:
    return lambda conn: conn.execute(update(trail).where(trail.c.seq == number).values(**values))


async def _swap(conn: AsyncConnection) -> None:
    await conn.execute(update(trail).where(trail.c.seq == 4).values(seq=400))
    await conn.execute(update(trail).where(trail.c.seq == 5).values(seq=4))
    await conn.execute(update(trail).where(trail.c.seq == 400).values(seq=5))


async def _forge(conn: AsyncConnection) -> None:
    """What somebody writes who knows how the chain is made, but not that it goes on."""
    row = (await conn.execute(select(*entries.COLUMNS).where(trail.c.seq == 6))).one()
    before = await conn.scalar(select(trail.c.hash).where(trail.c.seq == 5))
    assert before is not None
    changed = msgspec.structs.replace(entries.read(row), reason="nothing to see")
    await conn.execute(
        update(trail)
        .where(trail.c.seq == 6)
        .values(reason="nothing to see", hash=chain.link(before, changed))
    )


HARM: dict[str, tuple[Harm, int]] = {
    "a field": (_edit(3, after='{"plan":"free"}'), 3),
    "the time": (_edit(3, at=1), 3),
    "who it was": (_edit(4, actor_id="usr_bob"), 4),
    "what they are called": (_edit(4, actor_name="bob@example.com"), 4),
    "the address": (_edit(4, address="198.51.100.1"), 4),
    "what is personal, as if erased": (_edit(4, actor_name="bob@example.com", salt=None), 4),
    "the hash": (_edit(12, hash=bytes(32)), 12),
    "one is gone": (lambda conn: conn.execute(delete(trail).where(trail.c.seq == 7)), 7),
    "the first is gone": (lambda conn: conn.execute(delete(trail).where(trail.c.seq == 1)), 1),
    "the tail is gone": (lambda conn: conn.execute(delete(trail).where(trail.c.seq > 9)), 10),
    "all is gone": (lambda conn: conn.execute(delete(trail)), 1),
    "two have changed places": (_swap, 4),
    "one is forged": (_forge, 7),
}


@pytest.mark.parametrize("what", HARM)
async def test_case_37_what_was_done_to_it_is_found(database: Database, what: str) -> None:
    await fill(database)
    harm, place = HARM[what]
    async with database.transaction() as conn:
        await harm(conn)
    found = await verdict(database)
    assert (found.broken, bool(found.why)) == (place, True)


async def test_case_37_an_anchor_finds_a_trail_that_was_written_anew(database: Database) -> None:
    await fill(database)
    whole = await verdict(database)
    async with database.transaction() as conn:
        await conn.execute(update(trail).where(trail.c.seq == 2).values(reason="other"))
        rows = await conn.execute(select(*entries.COLUMNS).order_by(trail.c.seq))
        last = chain.GENESIS
        for row in rows.all():
            entry = entries.Entry(*row)
            last = chain.link(last, entry)
            await conn.execute(update(trail).where(trail.c.id == entry.id).values(hash=last))
    assert (await verdict(database)).broken is None
    found = await verdict(database, anchor=(whole.last, bytes.fromhex(whole.head)))
    assert found.broken == whole.last


async def test_case_37_what_is_pruned_behind_a_checkpoint_still_verifies(database: Database) -> None:
    await fill(database)
    async with database.transaction() as conn:
        gone = await chain.prune(conn, before=NOW + 5, now=NOW + 50, entropy=secrets.token_bytes)
        assert gone == 5
        while await chain.seal(conn):
            pass
        made = await chain.make_checkpoint(conn, now=NOW + 60)
        assert made is not None
    found = await verdict(database)
    assert (found.broken, found.first, found.last, found.entries) == (None, 6, 13, 8)
    assert (await verdict(database, from_checkpoint=True)).entries == 0
    async with database.transaction() as conn:
        assert await chain.prune(conn, before=NOW + 90, now=NOW + 99, entropy=secrets.token_bytes) == 8
    assert (await verdict(database)).broken is None, "nothing but what is not sealed yet"
    async with database.transaction() as conn:
        while await chain.seal(conn):
            pass
    found = await verdict(database)
    assert (found.broken, found.first, found.last) == (None, 14, 14)
    async with database.transaction() as conn:
        await conn.execute(delete(trail_checkpoints))
    assert (await verdict(database)).broken is not None


async def test_a_person_who_is_deleted_is_taken_out_and_the_chain_holds(database: Database) -> None:
    await fill(database)
    async with database.transaction() as conn:
        assert await chain.erase_person(conn, ANN.id) == 6
        assert await chain.erase_person(conn, "usr_2") == 1
        rows = (await conn.execute(select(trail.c.actor_name, trail.c.address, trail.c.object_name))).all()
    assert "ann@example.com" not in str(rows)
    assert "person2@example.com" not in str(rows)
    assert "203.0.113.7" not in str(rows)
    assert (await verdict(database)).broken is None


async def test_two_who_seal_at_once_make_one_chain(database: Database) -> None:
    async with database.transaction() as conn:
        for number in range(40):
            await write(conn, number)

    async def sealing() -> None:
        async with database.transaction() as conn:
            await chain.seal(conn, most=7)

    await asyncio.gather(*(sealing() for _ in range(8)))
    found = await verdict(database)
    assert (found.broken, found.entries, found.unsealed) == (None, 40, 0)


async def test_it_is_read_by_filters_in_pages(database: Database) -> None:
    await fill(database)
    async with database.connect() as conn:
        first, cursor = await entries.page(conn, TrailFilter(), 5)
        second, _ = await entries.page(conn, TrailFilter(before=cursor), 5)
        assert [it.at - NOW for it in (*first, *second)] == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]
        mine, _ = await entries.page(conn, TrailFilter(actor="ann@example.com"))
        assert len(mine) == 6
        assert mine[0].changed == (("plan", "free", "pro"),)
        (about,), _ = await entries.page(conn, TrailFilter(object_kind="user", object_id="usr_3"))
        assert about.object_name == "person3@example.com"
        assert await entries.page(conn, TrailFilter(result="refused")) == ([], "")


async def test_a_file_of_it_is_verified_by_a_program_that_knows_nothing_else(
    database: Database, tmp_path: Path
) -> None:
    await fill(database)
    async with database.transaction() as conn:
        odd = Actor("user", "usr_é", 'quoté " \\ \u2028 </>', "::1", "a\tb")
        await write(conn, 50, odd)
        while await chain.seal(conn):
            pass
        lines = [line_of(entry) for entry in await chain.sealed_after(conn, 0)]
        assert len(lines) == 13

    def checked(text: list[str]) -> tuple[int, str]:
        file = tmp_path / "trail.jsonl"
        file.write_text("\n".join(text) + "\n", "utf-8")
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(file)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    found = await verdict(database)
    assert checked(lines) == (0, f"13:{found.head}\n")
    assert checked([*lines[:4], *lines[5:]])[0] == 1
    assert checked([line.replace('"pro', '"max') for line in lines])[0] == 1
    assert checked([line.replace("ann@", "bob@") for line in lines])[0] == 1


async def test_no_more_is_written_than_its_columns_hold(database: Database) -> None:
    async with database.transaction() as conn:
        await entries.write(
            conn,
            Actor("user", "usr_a", "x" * 999, "y" * 99, "z\x00\n" * 99),
            "user_changed",
            Subject("user", "i" * 300, "n" * 999),
            reason="r" * 999,
            now=NOW,
            entropy=secrets.token_bytes,
        )
        await chain.seal(conn)
    assert (await verdict(database)).broken is None
