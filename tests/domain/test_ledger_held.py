"""Rows that are held back: in the journal and in memory while their requests run, in the database when these end."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import func, insert, select

from penstock.core.neutral.usage import Usage
from penstock.domain.accounts.accounts import User
from penstock.domain.ledger import history, request_log, rollups
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.kinds import KnownKind, PlainEnd
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.reconciliation import compare
from penstock.domain.ledger.records import Caller, caller_record, kind_record, plain_record, read, row_record
from penstock.domain.ledger.rows import Row
from penstock.domain.ledger.usage import day_report
from penstock.store.journal import Journal, JournalFull, Segment
from penstock.store.request_key import key_of
from penstock.store.sql.database import Database
from penstock.store.sql.schema import kinds, requests
from tests.domain.ledger_rows import DAY, agree, end, row, states, until, url, used, written
from tests.stores import Engine

HOLD = 3600.0
"""Longer than any test."""


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await engine.open(tmp_path)
    yield opened
    await opened.close()


async def holding(database: Database, boot: str, hold: float = HOLD, journal_bytes: int = 32 << 20) -> Ledger:
    return await Ledger.start(database, boot=boot, hold=hold, pace=0.001, journal_bytes=journal_bytes)


def ours(number: int) -> str:
    """An id as requests have it."""
    return f"req_{number:024x}"


async def kill(ledger: Ledger) -> None:
    """Leave everything as a killed process does: nothing is written any more, and the locks are free."""
    ledger._writing.cancel()
    await asyncio.wait((ledger._writing,))
    if ledger._due is not None:
        ledger._due.cancel()
    ledger._closed = True
    ledger._connection.close()
    ledger._thread.shutdown()
    ledger._journal.close(keep=True)


async def test_a_row_is_held_until_its_request_ends_and_is_written_once(database: Database) -> None:
    ledger = await holding(database, "b1")
    await ledger.opened(row(ours(1)))
    await ledger.opened(row(ours(2)))
    ledger.settle(end(ours(2)))
    await written(ledger)
    assert await states(database) == {ours(2): ("settled", "completed", True)}
    assert await used(database) == (1, 0)
    ledger.settle(end(ours(1), refund="no_output", outcome="upstream_error", status=502))
    await written(ledger)
    assert (await states(database))[ours(1)] == ("settled", "upstream_error", False)
    assert await used(database) == (1, 1)
    await agree(database)
    await ledger.close()


async def test_a_row_that_was_held_long_enough_is_written_open(database: Database) -> None:
    ledger = await holding(database, "b1", hold=0.05)
    await ledger.opened(row(ours(1)))
    await until(lambda: not ledger._held)
    await written(ledger)
    assert await states(database) == {ours(1): ("open", None, True)}
    assert await used(database) == (1, 0)
    ledger.settle(end(ours(1)))
    await written(ledger)
    assert await states(database) == {ours(1): ("settled", "completed", True)}
    await agree(database)
    await ledger.close()


async def test_a_killed_process_leaves_what_it_held_in_its_journal(database: Database) -> None:
    ledger = await holding(database, "b1")
    for number in range(4):
        await ledger.opened(row(ours(number)))
    ledger.settle(end(ours(0)))
    await written(ledger)
    ledger.settle(end(ours(1), refund="no_output", outcome="upstream_error", status=502))
    await kill(ledger)
    again = await holding(database, "b2")
    assert again.recovered == 2
    assert await states(database) == {
        ours(0): ("settled", "completed", True),
        ours(1): ("settled", "upstream_error", False),
        ours(2): ("settled", "aborted", True),
        ours(3): ("settled", "aborted", True),
    }
    assert await used(database) == (3, 1)
    await agree(database)
    await again.close()


async def test_what_is_held_is_recorded_again_when_a_segment_is_forgotten(database: Database) -> None:
    """Many short requests beside a long one: the segment that has its row is cleared long before it ends."""
    ledger = await holding(database, "b1")
    await ledger.opened(row(ours(0)))
    first = ledger._journal.current.path
    number, turns = 1, set()
    while len(turns) < 3:
        for _ in range(500):
            await ledger.opened(replace(row(ours(number)), requested_model=f"model-{number}"))
            ledger.settle(end(ours(number)))
            number += 1
        await written(ledger)
        turns.add(ledger._turn)
    assert ledger._journal.current.path != first or ledger._turn > 2
    await kill(ledger)
    again = await holding(database, "b2")
    found = await states(database)
    assert len(found) == number
    assert found[ours(0)] == ("settled", "aborted", True)
    await agree(database)
    await again.close()


async def test_a_held_row_for_which_the_next_segment_has_no_room_is_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await holding(database, "b1")
    await ledger.opened(row(ours(0)))
    await ledger.opened(row(ours(1)))

    def full(_row: Row) -> None:
        raise JournalFull

    monkeypatch.setattr("penstock.domain.ledger.ledger.TURN_BYTES", 1)
    monkeypatch.setattr(ledger, "_record", full)
    ledger.settle(end(ours(1)))
    await written(ledger)
    assert await states(database) == {
        ours(0): ("open", None, True),
        ours(1): ("settled", "completed", True),
    }
    ledger.settle(end(ours(0)))
    await ledger.close()
    await agree(database)


@pytest.mark.parametrize("count", [None, 0, 2**32 - 2, 2**32 - 1, 2**32, 2**62])
@pytest.mark.parametrize("id", [ours(7), "r7"])
def test_what_the_journal_has_of_a_plain_end_is_what_was_said(id: str, count: int | None) -> None:
    known, caller = KnownKind(row(id).kind, 1), Caller("usr_a", "key_a", 2)
    kept = Row(id, known, "usr_a", "key_a", DAY, 5, key_of(id))
    plain = PlainEnd(Usage(1, count, None, 3, count), count, 9)
    records = [kind_record(known), caller_record(caller), row_record(kept, caller), plain_record(kept, plain)]
    found = read(records)
    day, told = found.ends[id]
    assert (day, told.usage, told.first_byte_ms, told.total_ms) == (DAY, plain.usage, count, 9)
    again = found.rows[id]
    assert (again.kind.kind, again.user_id, again.key_id, again.day, again.created_at) == (
        known.kind, "usr_a", "key_a", DAY, 5,
    )  # fmt: skip


async def test_closing_writes_what_is_held(database: Database) -> None:
    ledger = await holding(database, "b1")
    await ledger.opened(row(ours(1)))
    await ledger.close()
    assert await states(database) == {ours(1): ("open", None, True)}


async def test_a_plain_end_and_a_settlement_that_says_the_same_are_the_same_row(database: Database) -> None:
    ledger = await holding(database, "b1")
    given = [row(ours(number)) for number in range(3)]
    recorded = [
        ledger.open(it.id, ledger.kind(it.kind), it.user_id, it.key_id, it.day, it.created_at) for it in given
    ]
    usage = Usage(input=1, output=2, cache_read=None, cache_write=2**40, reasoning=0)
    plain = PlainEnd(usage, first_byte_ms=None, total_ms=2**31 - 1)
    ledger.settle_plainly(recorded[0], plain)
    ledger.settle_plainly(recorded[0], PlainEnd(Usage(), 1, 1))
    ledger.settle(replace(end(ours(1)), usage=usage, first_byte_ms=None, total_ms=2**31 - 1))
    ledger.settle_plainly(recorded[2], replace(plain, usage=Usage(1, 2, None, 3, 2**32 - 1)))
    await ledger.close()
    columns = [column for column in entries.c if column.name != "id"]
    async with database.connect() as conn:
        first, second, third = (await conn.execute(select(*columns).order_by(entries.c.id))).all()
        assert first == second
        assert third.reasoning_tokens == 2**32 - 1
        assert await conn.scalar(select(func.count()).select_from(kinds)) == 1


async def test_a_durable_ledger_has_held_rows_on_the_disk_before_it_forgets_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await Ledger.start(database, boot="b1", hold=HOLD, pace=0.001, durable=True)
    await ledger.opened(row(ours(0)))
    done: list[str] = []
    sync, clear = Journal.sync, Segment.clear

    def syncing(journal: Journal) -> None:
        sync(journal)
        done.append("synced")

    def clearing(segment: Segment) -> None:
        clear(segment)
        done.append("cleared")

    monkeypatch.setattr(Journal, "sync", syncing)
    monkeypatch.setattr(Segment, "clear", clearing)
    monkeypatch.setattr("penstock.domain.ledger.ledger.TURN_BYTES", 1)
    settled = ledger.open(ours(1), ledger.kind(row("r").kind), "usr_a", "key_a", DAY, DAY * 86_400_000)
    ledger.settle_plainly(settled, PlainEnd(Usage(), 1, 1))
    await until(lambda: "cleared" in done)
    assert done == ["synced", "cleared"]
    await ledger.close()


async def test_a_clock_that_jumped_is_believed_in_the_day(database: Database) -> None:
    ledger = await holding(database, "b1")
    for number, days_away in enumerate((-400, -1, 1, 30)):
        await ledger.opened(replace(row(ours(number)), created_at=(DAY + days_away) * 86_400_000))
        ledger.settle(end(ours(number)))
    await ledger.close()
    async with database.connect() as conn:
        times = (await conn.scalars(select(entries.c.created_at).order_by(entries.c.id))).all()
        assert [at // 86_400_000 - DAY for at in times] == [0, -1, 1, 0]
        for day in range(DAY - 2, DAY + 3):
            assert await compare(conn, day) == []


async def test_a_refused_request_is_shown_as_such_and_counts_nowhere(database: Database) -> None:
    """Nothing writes such rows yet; everything that reads the log bears them."""
    ledger = await holding(database, "b1")
    await ledger.opened(row(ours(1)))
    ledger.settle(end(ours(1)))
    await ledger.close()
    known = KnownKind(row("r").kind)
    words = {name: getattr(known.opened, name) for name in known.opened.__struct_fields__}
    words |= {
        "id": 7,
        "state": "refused",
        "counted": False,
        "status": 429,
        "error_code": "concurrent_limit_reached",
    }
    words |= {"provider": "", "upstream_model": "", "upstream_dialect": ""}
    async with database.transaction() as conn:
        await conn.execute(insert(kinds).values(words))
        values = {"id": ours(2), "day": DAY, "user_id": "usr_a", "key_id": "key_a", "kind": 7}
        await conn.execute(insert(requests).values(values | {"created_at": DAY * 86_400_000 + 1}))
    await agree(database)
    async with database.connect() as conn:
        listed, _ = await request_log.page(conn, "usr_a", request_log.Filter())
        assert [(it.id, it.state, it.outcome, it.status) for it in listed] == [
            (ours(2), "refused", None, 429),
            (ours(1), "settled", "completed", 200),
        ]
        for outcome in ("completed", "failed"):
            found, _ = await request_log.page(conn, "usr_a", request_log.Filter(outcome=outcome))
            assert ours(2) not in {it.id for it in found}
        assert (await history.receipt(conn, "usr_a", ours(2))).error_code == "concurrent_limit_reached"
        first = await history.first_request(conn, "usr_a")
        assert first is not None
        assert first.id == ours(1)
        user = User("usr_a", "a@example.com", "none", False, 0, None, None)
        report = await day_report(conn, user, DAY)
        assert (report.counted, report.refunded) == (1, 0)
        assert (await rollups.sums(conn, "usr_a", range(DAY, DAY + 1))).requests == 1


# ---- in any order


STEP = st.tuples(
    st.sampled_from(["open", "end", "refund", "plain", "write", "due", "kill", "stop"]), st.integers(0, 5)
)


@settings(max_examples=25)
@given(steps=st.lists(STEP, max_size=30), odd=st.booleans())
async def test_whatever_happens_every_request_is_one_row_and_counted_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], odd: bool
) -> None:
    database = await Database.open(url(tmp_path_factory.mktemp("held")))
    boot = 0
    ledger = await holding(database, f"b{boot}")
    opened: dict[str, str] = {}
    running: dict[str, int] = {}
    recorded = {}
    for count, (step, which) in enumerate(steps):
        if step == "open":
            id = f"r{count}" if odd else ours(count)
            it = row(id, f"usr_{which % 2}")
            known = ledger.kind(replace(it, requested_model=f"asked-{which}").kind)
            recorded[id] = ledger.open(id, known, it.user_id, it.key_id, it.day, it.created_at)
            opened[id], running[id] = "aborted", count
        elif step in ("end", "refund", "plain"):
            for id in list(running)[which : which + 1]:
                del running[id]
                opened[id] = "upstream_error" if step == "refund" else "completed"
                if step == "plain":
                    ledger.settle_plainly(recorded[id], PlainEnd(Usage(input=1), 1, 2))
                elif step == "end":
                    ledger.settle(replace(end(id), estimated=True))
                else:
                    ledger.settle(end(id, refund="no_output", outcome="upstream_error", status=502))
        elif step == "write":
            await written(ledger)
        elif step == "due":
            ledger._hold = 0.0
            ledger._something.set()
            await written(ledger)
            ledger._hold = HOLD
        else:
            await (kill(ledger) if step == "kill" else ledger.close())
            running.clear()
            boot += 1
            ledger = await holding(database, f"b{boot}")
    await kill(ledger)
    last = await holding(database, "last")
    await last.close()
    assert {id: outcome for id, (_, outcome, _) in (await states(database)).items()} == opened
    assert {state for state, _, _ in (await states(database)).values()} <= {"settled"}
    await agree(database)
    await database.close()


@pytest.mark.parametrize("record", [b"", b"\x01", b"\x02\x00\x00\x00\x00", b"\x03", b"\x04" * 9, b"\xff"])
def test_a_record_that_is_none_cannot_be_read(record: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read([record])
