"""Old rows go, what they summed up to stays, and nobody takes what is left of a day for the whole of it."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select

from penstock.domain.ledger import history, request_log, retention
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.reconciliation import RowsGone, compare, repair
from penstock.domain.ledger.retention import first_day_kept, keep
from penstock.domain.ledger.rollups import by_day, sums
from penstock.store.sql.database import Database
from penstock.store.sql.partitions import make_for
from penstock.store.sql.schema import requests
from tests.domain.ledger_rows import DAY, agree, end, open_ledger, row, states, until, used, written
from tests.stores import Engine

MAY_1 = 19_844
"""A first day of a month, of 2024; ``DAY`` is 4 October."""
OLD = MAY_1 + 20


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    """Requests of two days in May and one in October; one was refunded, one failed."""
    opened = await engine.open(tmp_path)
    ledger = await open_ledger(opened, "b1")
    for day in (OLD, OLD + 1, DAY):
        for number in range(3):
            await ledger.opened(row(f"r{day}.{number}", day=day))
            ledger.settle(end(f"r{day}.{number}", refund="no_output" if number == 0 else None))
    await ledger.close()
    yield opened
    await opened.close()


async def rows_by_day(database: Database) -> dict[int, int]:
    async with database.connect() as conn:
        found = await conn.execute(select(requests.c.day, func.count()).group_by(requests.c.day))
        return {day: int(count) for day, count in found}


async def since(database: Database) -> int:
    async with database.connect() as conn:
        return await first_day_kept(conn)


async def test_nothing_goes_that_is_to_be_kept(database: Database) -> None:
    for days in (0, DAY - OLD, 10_000):
        await keep(database, DAY, days)
        assert await rows_by_day(database) == {OLD: 3, OLD + 1: 3, DAY: 3}
        assert await since(database) == 0
    await agree(database, OLD, DAY)


async def test_old_rows_go_and_their_counts_and_sums_stay(database: Database) -> None:
    assert await keep(database, DAY, 100) > 0
    assert await rows_by_day(database) == {DAY: 3}
    assert MAY_1 + 31 <= await since(database) <= DAY - 100
    assert await keep(database, DAY, 100) == 0
    assert await used(database, day=OLD) == (2, 1)
    async with database.connect() as conn:
        found = await by_day(conn, "usr_a", range(OLD, DAY + 1))
        assert [(it.day, it.requests) for it in found] == [(OLD, 2), (OLD + 1, 2), (DAY, 2)]
        assert (await sums(conn, "usr_a", range(OLD, DAY + 1))).input_tokens == 27


async def test_a_day_that_is_not_whole_is_neither_compared_nor_mended(database: Database) -> None:
    await keep(database, DAY, 100)
    async with database.connect() as conn:
        with pytest.raises(RowsGone):
            await compare(conn, OLD)
        assert await compare(conn, DAY) == []
    with pytest.raises(RowsGone):
        await repair(database, OLD)
    assert await used(database, day=OLD) == (2, 1)


async def test_a_day_of_which_half_is_gone_is_left_as_it_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing was interrupted: some rows of a day are there still."""
    if database.path is None:
        async with database.transaction() as conn:
            await conn.run_sync(lambda connection: make_for(connection, [OLD], kept=1))
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 4)
    real = Database.transaction
    turns = 0

    def failing(self: Database) -> object:
        nonlocal turns
        turns += 1
        if turns == 3:
            raise asyncio.CancelledError
        return real(self)

    monkeypatch.setattr(Database, "transaction", failing)
    try:
        await keep(database, DAY, 100)
    except asyncio.CancelledError:
        assert (await rows_by_day(database))[OLD + 1] < 3
    monkeypatch.undo()
    with pytest.raises(RowsGone):
        await repair(database, OLD + 1 if database.path else OLD)
    assert await used(database, day=OLD + 1) == (2, 1)
    await keep(database, DAY, 100)
    assert await rows_by_day(database) == {DAY: 3}


async def test_a_journal_of_days_that_are_gone_counts_nothing_again(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process was killed between the commit and the forgetting, and its directory opened again when the rows were gone."""
    ledger = await open_ledger(database, "b2")
    for id, day in (("late", OLD), ("new", DAY)):
        await ledger.opened(row(id, day=day))
        ledger.settle(end(id))
    await written(ledger)
    await ledger.opened(row("later", day=OLD))
    shutil.copytree(tmp_path / "journal", tmp_path / "kept")
    ledger.settle(end("later"))
    await ledger.close()
    counted = await used(database, day=OLD)
    await keep(database, DAY, 100)
    shutil.copytree(tmp_path / "kept", tmp_path / "journal", dirs_exist_ok=True)
    again = await open_ledger(database, "b3")
    await again.close()
    assert await used(database, day=OLD) == counted == (4, 1)
    assert "are of days that are not kept any more" in caplog.text
    assert set(await states(database)) == {"new", *(f"r{DAY}.{number}" for number in range(3))}
    await agree(database)


async def test_lists_and_receipts_go_over_every_month(database: Database) -> None:
    await keep(database, DAY, 1000)
    async with database.connect() as conn:
        listed, cursor = await request_log.page(conn, "usr_a", request_log.Filter())
        assert [it.day for it in listed] == [DAY] * 3 + [OLD + 1] * 3 + [OLD] * 3
        assert cursor == ""
        first = await history.first_request(conn, "usr_a")
        assert first is not None
        assert first.day == OLD
        assert (await history.receipt(conn, "usr_a", f"r{OLD}.1")).day == OLD
        assert await history.counted_by(conn, "usr_a", listed[0].day, (listed[0].day + 1) * 24) == 2


async def test_requests_go_on_while_old_ones_go(database: Database) -> None:
    ledger = await open_ledger(database, "b2")

    async def requesting() -> None:
        for number in range(200):
            await ledger.opened(row(f"n{number}"))
            await asyncio.sleep(0)
            ledger.settle(end(f"n{number}"))

    await asyncio.gather(requesting(), keep(database, DAY, 100), keep(database, DAY, 100))
    await ledger.close()
    assert await rows_by_day(database) == {DAY: 203}
    await agree(database)


async def test_partitions_in_use_are_left_for_the_next_time(postgresql: Engine, tmp_path: Path) -> None:
    database = await postgresql.open(tmp_path)
    async with database.transaction() as conn:
        await conn.run_sync(lambda connection: make_for(connection, [OLD]))
    async with database.connect() as reader:
        await reader.execute(select(func.count()).select_from(requests))
        assert await keep(database, DAY, 100) == 0
        assert database.trouble is None
    assert await keep(database, DAY, 100) == 31
    await database.close()


async def test_an_open_row_of_a_month_before_gets_its_end(database: Database) -> None:
    ledger = await Ledger.start(database, boot="b2", pace=0.001)
    await ledger.opened(row("r1", day=OLD))
    await written(ledger)
    await keep(database, DAY, 1000)
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error", status=502))
    await until(lambda: ledger.owed == 0)
    await ledger.close()
    assert (await states(database))["r1"] == ("settled", "upstream_error", False)
    await agree(database, OLD)


async def test_a_deletion_by_hand_is_noticed_where_all_of_a_day_is_gone(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute(delete(requests).where(requests.c.day == OLD))
    with pytest.raises(RowsGone):
        await repair(database, OLD)


async def test_a_row_that_moves_to_its_month_while_it_ends_gets_its_end(
    postgresql: Engine, tmp_path: Path
) -> None:
    """An end that had waited for the moving found no row, since it had been planned without the month's partition."""
    database = await postgresql.open(tmp_path)
    ledger = await Ledger.start(database, boot="b1", pace=0.001)
    await ledger.opened(row("r1", day=OLD))
    await written(ledger)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with database.transaction() as conn:
        await conn.run_sync(lambda connection: make_for(connection, [OLD]))
        ledger.settle(end("r1"))
        async with database.connect() as watching:
            while not (await watching.exec_driver_sql(waiting)).scalar_one():
                await watching.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
    await ledger.close()
    assert await states(database) == {"r1": ("settled", "completed", True)}
    await agree(database, OLD)
    await database.close()
