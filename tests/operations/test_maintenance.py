"""What fails in a round of maintenance is told, and neither ends the rounds nor the server's own end."""

import asyncio
import secrets
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from penstock.domain.accounts import accounts
from penstock.domain.ledger import retention
from penstock.domain.ledger.reconciliation import RowsGone
from penstock.domain.notifications import staff_events
from penstock.domain.trail import chain, entries
from penstock.domain.trail.entries import Subject
from penstock.errors import DatabaseUnavailable
from penstock.operations import maintenance
from penstock.store.sql.schema import outbox, trail
from tests.service.running_service import open_house

PATIENCE = 30
"""Seconds after which a test says that something hangs."""


@pytest.mark.parametrize(
    "failure", [ValueError("a column of text"), TypeError("None"), DatabaseUnavailable("away")], ids=repr
)
async def test_a_slow_round_that_fails_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, failure: Exception
) -> None:
    rounds = 0
    third = asyncio.Event()

    async def keep(*_: object) -> int:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            third.set()
        raise failure

    monkeypatch.setattr(retention, "keep", keep)
    monkeypatch.setattr(maintenance, "_FIRST_SLOW_SECONDS", 0.0)
    monkeypatch.setattr(maintenance, "_SLOW_SECONDS", 0.01)
    async with asyncio.timeout(PATIENCE), open_house(tmp_path):
        await third.wait()
    told = [record for record in caplog.records if record.name == maintenance.__name__]
    assert {record.levelname for record in told} == {
        "WARNING" if isinstance(failure, DatabaseUnavailable) else "ERROR"
    }


@pytest.mark.parametrize("failure", [DatabaseUnavailable("away"), RowsGone(), ValueError("of our own")])
async def test_a_step_that_fails_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Exception
) -> None:
    done: list[str] = []
    third = asyncio.Event()

    async def fails(*_: object) -> list[object]:
        raise failure

    async def keep(*_: object) -> int:
        done.append("keep")
        if len(done) == 3:
            third.set()
        return 0

    monkeypatch.setattr(maintenance, "compare", fails)
    monkeypatch.setattr(accounts, "delete_leavers", fails)
    monkeypatch.setattr(retention, "keep", keep)
    monkeypatch.setattr(maintenance, "_FIRST_SLOW_SECONDS", 0.0)
    monkeypatch.setattr(maintenance, "_SLOW_SECONDS", 0.01)
    async with asyncio.timeout(PATIENCE), open_house(tmp_path):
        await third.wait()


async def test_an_entry_of_the_trail_that_was_changed_is_told_of_within_a_day(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    looked = asyncio.Event()

    async def keep(*_: object) -> int:
        looked.set()
        return 0

    monkeypatch.setattr(retention, "keep", keep)
    monkeypatch.setattr(maintenance, "_FIRST_SLOW_SECONDS", 0.0)
    async with asyncio.timeout(PATIENCE), open_house(tmp_path / "data") as house:
        await looked.wait()
        async with house.store.database.transaction() as conn:
            await entries.write(
                conn,
                entries.SYSTEM,
                "user_made",
                Subject("user", "usr_a"),
                now=1,
                entropy=secrets.token_bytes,
            )
            await chain.seal(conn)
            await conn.execute(update(trail).values(action="user_kept"))

        async def told() -> list[tuple[str, str, str]]:
            looked.clear()
            await house.restart()
            await looked.wait()
            assert house.service is not None
            assert house.service.notifier is not None
            for _ in range(6):  # who has just begun waits before it says that something is over
                house.clock.now += 60
                await house.service.notifier.round()
            async with house.store.database.connect() as conn:
                found = await staff_events.lasting_events(conn)
            return [(it.event, it.severity, it.text) for it in found]

        for later in (
            0,
            0,
            86_400,
        ):  # a look begins before the break, on whichever day and in whichever process
            house.clock.now += later
            assert await told() == [("trail.broken", "critical", "The trail is broken at the entry 1")]
        async with house.store.database.transaction() as conn:
            await conn.execute(update(trail).where(trail.c.seq == 1).values(action="user_made"))
        assert await told() == [], "the entry is as it was"
        async with house.store.database.connect() as conn:
            assert await chain.newest_checkpoint(conn) is not None
    assert "the trail is broken at 1" in caplog.text


async def test_what_is_kept_of_a_mail_goes_after_its_days_unless_it_is_still_due(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(maintenance, "_FIRST_SLOW_SECONDS", 0.0)
    monkeypatch.setattr(maintenance, "_SLOW_SECONDS", 0.01)
    async with asyncio.timeout(PATIENCE), open_house(tmp_path, mail_days=35) as house:
        now, day = int(house.clock.now * 1000), 86_400_000
        rows = [
            ("old", now - 36 * day, None),
            ("due", now - 36 * day, now + day),
            ("young", now - 34 * day, None),
        ]
        async with house.store.database.transaction() as conn:
            for id, at, due in rows:
                values = {
                    "id": id,
                    "created_at": at,
                    "due_at": due,
                    "kind": "code",
                    "recipient": "a@b.example",
                }
                await conn.execute(insert(outbox).values(**values, tries=1))
        left: set[str] = set()
        while left != {"due", "young"}:
            await asyncio.sleep(0.01)
            async with house.store.database.connect() as conn:
                left = set(await conn.scalars(select(outbox.c.id)))
                assert {"due", "young"} <= left
