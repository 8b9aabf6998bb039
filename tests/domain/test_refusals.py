"""Refusals in the database: counts for ever, the newest rows of each account, and nothing lost while it is away."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import insert

from penstock.domain.accounts import accounts
from penstock.domain.ledger import refusals
from penstock.domain.ledger.refusals import Holder, KeyOwner, Refusal, Refusals
from penstock.errors import DatabaseUnavailable, InvalidKey
from penstock.store.sql.schema import plans
from tests.stores import Engine

HOUR = 3_600_000
DAYS = range(30_000)


async def nobody(_key: str) -> KeyOwner:
    raise InvalidKey("no key of ours")


def refusal(number: int, user: str = "usr_a", code: str = "model_not_found", at: int = 0) -> Refusal:
    return Refusal(
        id=f"req_{number:024x}",
        user_id=user,
        key_id="key_a",
        created_at=at or number,
        status=404,
        code=code,
        dialect="chat",
        model="",
        requested_model="gone\0\ud800" + "x" * 200,
        stream=None,
        client="curl",
        message="There is no such model.",
        retry_after=None,
        plan_id="free",
        most=None,
        used=None,
        holders=(Holder("req_1", 5),),
    )


async def test_what_is_told_is_what_is_read(engine: Engine, tmp_path: Path) -> None:
    database = await engine.open(tmp_path)
    told = Refusals(database, kept=10, identify=nobody)
    told.note(refusal(1))
    await told.flush()
    await told.flush()
    async with database.connect() as conn:
        found = await refusals.find(conn, "usr_a", f"req_{1:024x}")
        assert await refusals.find(conn, "usr_b", f"req_{1:024x}") is None
    await database.close()
    assert found is not None
    assert (found.holders, found.stream, found.most) == ((Holder("req_1", 5),), None, None)
    assert found.requested_model == ("gone??" + "x" * 200)[:128]


async def test_the_newest_stay_and_the_counts_are_of_all(engine: Engine, tmp_path: Path) -> None:
    database = await engine.open(tmp_path)
    told = Refusals(database, kept=3, identify=nobody)
    for number in range(1, 6):
        told.note(refusal(number, at=7 * HOUR))
        told.note(refusal(100 + number, at=8 * HOUR, code="daily_limit_reached"))
        await told.flush()
    told.note(refusal(50, user="usr_b", at=1))
    await told.flush()
    async with database.connect() as conn:
        mine = [one.id for one in await refusals.newest(conn, "usr_a", most=9)]
        others = [one.id for one in await refusals.newest(conn, "usr_b", most=9)]
        counts = await refusals.by_code(conn, "usr_a", DAYS)
        before = await refusals.newest(conn, "usr_a", before=(8 * HOUR, mine[0]), most=9)
    await database.close()
    assert mine == [f"req_{number:024x}" for number in (105, 104, 103)]
    assert [one.id for one in before] == mine[1:]
    assert others == [f"req_{50:024x}"]
    assert counts == [("daily_limit_reached", 5), ("model_not_found", 5)]


async def test_they_wait_in_bounded_memory_while_the_database_is_away(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(refusals, "_ROWS_WAITING", 6)
    monkeypatch.setattr(refusals, "_COUNTS_WAITING", 3)
    database = await engine.open(tmp_path)
    told = Refusals(database, kept=100, identify=nobody)
    async with database.transaction() as conn:
        await conn.exec_driver_sql("ALTER TABLE refusals RENAME TO refusals_away")
    for number in range(1, 9):
        told.note(refusal(number))
        with pytest.raises(DatabaseUnavailable):
            await told.flush()
    for user in ("usr_b", "usr_c", "usr_d"):
        for number in range(2):
            told.note(refusal(hash((user, number)) % 1000 + 1000, user=user))
    async with database.transaction() as conn:
        await conn.exec_driver_sql("ALTER TABLE refusals_away RENAME TO refusals")
    await told.flush()
    async with database.connect() as conn:
        found = {
            user: (len(await refusals.newest(conn, user, most=99)), await refusals.by_code(conn, user, DAYS))
            for user in ("usr_a", "usr_b", "usr_c", "usr_d")
        }
    await database.close()
    assert found == {
        "usr_a": (4, [("model_not_found", 8)]),
        "usr_b": (2, [("model_not_found", 2)]),
        "usr_c": (0, [("model_not_found", 2)]),
        "usr_d": (0, []),
    }


async def test_many_processes_add_up(engine: Engine, tmp_path: Path) -> None:
    database = await engine.open(tmp_path)
    several = [Refusals(database, kept=5, identify=nobody) for _ in range(3)]
    for number in range(30):
        several[number % 3].note(refusal(number + 1, at=HOUR + number))
    await asyncio.gather(*(one.flush() for one in several))
    async with database.connect() as conn:
        assert await refusals.by_code(conn, "usr_a", DAYS) == [("model_not_found", 30)]
        assert len(await refusals.newest(conn, "usr_a", most=99)) == 5
    await database.close()


async def test_old_ones_go_and_so_do_those_of_who_has_left(engine: Engine, tmp_path: Path) -> None:
    database = await engine.open(tmp_path)
    told = Refusals(database, kept=5, identify=nobody)
    async with database.transaction() as conn:
        await conn.execute(
            insert(plans).values(
                id="free",
                name="free",
                daily_requests=1,
                concurrent_requests=1,
                queue_seconds=0,
                models="[]",
                position=0,
            )
        )
        await accounts.create_user(
            conn, "b@example.com", plan="free", admin=False, verified=True, now=1, id="usr_b"
        )
        await accounts.set_leaving(conn, "usr_b", 5)
    for number, user in ((10, "usr_a"), (20, "usr_a"), (30, "usr_b")):
        told.note(refusal(number, user=user))
    await told.flush()
    async with database.transaction() as conn:
        assert await refusals.forget_before(conn, 20) == 1
        assert await accounts.delete_leavers(conn, now=9) == 1
    async with database.connect() as conn:
        assert [one.created_at for one in await refusals.newest(conn, "usr_a", most=9)] == [20]
        assert await refusals.newest(conn, "usr_b", most=9) == []
        assert await refusals.by_code(conn, "usr_a", DAYS) == [("model_not_found", 2)]
    await database.close()
