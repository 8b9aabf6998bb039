"""The ledger while its database is away, its disk full, or its process dead: kept in the journal, written once."""

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from penstock.core.neutral.usage import Special, Usage
from penstock.domain.ledger import ledger as writing
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.recovery import check_journals
from penstock.domain.ledger.rows import Batch
from penstock.errors import CannotRecord
from penstock.store.journal import Journal
from penstock.store.sql.backend import BatchConnection, StoreError, WriteFailed
from penstock.store.sql.bulk import BulkRow
from penstock.store.sql.database import Database
from tests.domain.ledger_rows import (
    agree,
    end,
    open_ledger,
    rebuild,
    row,
    states,
    taken_for_dead,
    until,
    url,
    used,
    written,
)
from tests.stores import Engine


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await engine.open(tmp_path)
    yield opened
    await opened.close()


async def hide(database: Database) -> None:
    """Let the database take no rows."""
    async with database.transaction() as conn:
        await conn.exec_driver_sql("ALTER TABLE requests RENAME TO elsewhere")


async def show(database: Database, *, dead: bool = False) -> None:
    """Let it take them again; with ``dead`` another server has taken ours for dead meanwhile."""
    async with database.transaction() as conn:
        await conn.exec_driver_sql("ALTER TABLE elsewhere RENAME TO requests")
        if dead:
            await taken_for_dead(conn)


def journals(database: Database) -> list[Path]:
    return sorted((database.directory / "journal").iterdir())


async def test_the_journal_is_gone_when_the_database_has_all(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    assert len(journals(database)) == 2
    await ledger.close()
    assert journals(database) == []


async def test_while_the_database_is_away_the_journal_takes_what_comes(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    await hide(database)
    await ledger.opened(row("r2"))
    await until(lambda: ledger.trouble is not None)
    ledger.settle(end("r1"))
    await ledger.opened(row("r3"))
    ledger.settle(end("r3", refund="no_output", status=502))
    await show(database)
    await written(ledger)
    assert ledger.trouble is None
    assert await states(database) == {
        "r1": ("settled", "completed", True),
        "r2": ("open", None, True),
        "r3": ("settled", "completed", False),
    }
    assert await used(database) == (2, 1)
    await ledger.close()


async def test_what_the_database_never_took_is_written_at_the_next_start(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    await hide(database)
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error", status=502))
    await ledger.opened(row("r2"))
    await ledger.opened(row("r3"))
    ledger.settle(end("r3"))
    await ledger.close()
    await show(database)
    again = await open_ledger(database, "b2")
    await again.close()
    assert await states(database) == {
        "r1": ("settled", "upstream_error", False),
        "r2": ("settled", "aborted", True),
        "r3": ("settled", "completed", True),
    }
    assert again.recovered == 1
    assert await used(database) == (2, 1)
    await agree(database)
    assert journals(database) == []


async def test_what_few_answers_are_billed_by_outlives_the_process(database: Database) -> None:
    special = Special("flex", audio_input_tokens=5, web_searches=2)
    ledger = await open_ledger(database, "b1")
    # ids as they are given: the journal has a short record for these alone
    one, other = f"req_{1:024x}", f"req_{2:024x}"
    for id in (one, other):
        await ledger.opened(row(id))
    await hide(database)
    for id, attempts in ((one, 1), (other, 2)):
        ledger.settle(replace(end(id), usage=Usage(input=3, output=4, special=special), attempts=attempts))
    await ledger.close()
    await show(database)
    await (await open_ledger(database, "b2")).close()
    async with database.connect() as conn:
        columns = (
            entries.c.service_tier,
            entries.c.audio_input_tokens,
            entries.c.web_searches,
            entries.c.code_runs,
        )
        found = [tuple(each) for each in await conn.execute(select(*columns).order_by(entries.c.id))]
    assert found == [("flex", 5, 2, None)] * 2
    await agree(database)


async def test_what_the_database_has_already_is_not_written_again(database: Database) -> None:
    """A process that is killed between the commit and the forgetting leaves a journal of what is written."""
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await ledger.opened(row("r2"))
    ledger.settle(end("r2", refund="no_output", status=502))
    kept = {file: file.read_bytes() for file in journals(database)}
    await ledger.close()
    for file, data in kept.items():
        file.write_bytes(data)
    again = await open_ledger(database, "b2")
    await again.close()
    assert await states(database) == {
        "r1": ("settled", "aborted", True),
        "r2": ("settled", "completed", False),
    }
    assert await used(database) == (1, 1)
    await agree(database)


async def test_the_journal_of_a_living_process_is_left_alone(database: Database) -> None:
    first = await open_ledger(database, "b1")
    await hide(database)
    await first.opened(row("r1"))
    await until(lambda: first.trouble is not None)
    await show(database)
    second = await open_ledger(database, "b2")
    assert [file.name for file in journals(database)] == ["b1.0", "b1.1", "b2.0", "b2.1"]
    await written(first)
    await first.close()
    await second.close()
    assert list(await states(database)) == ["r1"]


async def test_a_row_whose_owner_was_taken_for_dead_gets_its_true_end(database: Database) -> None:
    """Another server closed what was open here while the database was out of our reach."""
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    await hide(database)
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error", status=502))
    await until(lambda: ledger.trouble is not None)
    await show(database, dead=True)
    async with database.transaction() as conn:
        await rebuild(conn, 0)
    await written(ledger)
    assert await states(database) == {"r1": ("settled", "upstream_error", False)}
    assert await used(database) == (0, 1)
    await agree(database)
    await ledger.close()


async def test_a_full_journal_refuses_until_there_is_room(database: Database) -> None:
    ledger = await Ledger.start(database, boot="b1", hold=0, journal_bytes=1 << 20)
    await hide(database)
    taken: list[str] = []

    async def fill() -> None:
        for number in range(50_000):
            await ledger.opened(row(f"r{number}"))
            taken.append(f"r{number}")
            if number == 10:
                await until(lambda: ledger.trouble is not None)

    with pytest.raises(CannotRecord):
        await fill()
    ledger.settle(end("r0"))
    await show(database)
    await written(ledger)
    await ledger.opened(row("room"))
    await ledger.close()
    found = await states(database)
    assert set(found) == {"room", *taken}
    assert found["r0"][0] == "settled"
    await agree(database)


async def test_a_disk_that_is_full_refuses_and_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await open_ledger(database, "b1")
    await hide(database)

    def full(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    taken: list[str] = []

    async def fill() -> None:
        for number in range(50_000):
            await ledger.opened(row(f"r{number}"))
            taken.append(f"r{number}")

    with pytest.raises(CannotRecord):
        await fill()
    await show(database)
    await ledger.close()
    assert set(await states(database)) == set(taken)


async def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path), busy_seconds=0.01)
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    other = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger.settle(end("r1", refund="no_output", status=502))
    await until(lambda: ledger.trouble is not None)
    assert "locked" in str(ledger.trouble)
    other.close()
    await written(ledger)
    assert ledger.trouble is None
    assert await states(database) == {"r1": ("settled", "completed", False)}
    await ledger.close()
    await database.close()


async def test_a_durable_ledger_waits_for_the_disk(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = Journal.sync

    def counting(journal: Journal) -> None:
        sync(journal)
        synced.append(1)

    monkeypatch.setattr(Journal, "sync", counting)
    ledger = await Ledger.start(database, boot="b1", hold=0, durable=True)
    await ledger.opened(row("first"))
    assert len(synced) == 1
    await asyncio.gather(*(ledger.opened(row(f"r{number}")) for number in range(50)))
    assert 2 <= len(synced) <= 4, "those who come while the disk works wait together"
    await ledger.close()
    assert len(await states(database)) == 51


async def test_a_row_that_is_there_is_not_written_again(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    for id in ("r1", "n1", "n2"):
        await ledger.opened(row(id))
    ledger.settle(end("n1"))
    await ledger.close()
    assert await states(database) == {
        "r1": ("open", None, True),
        "n1": ("settled", "completed", True),
        "n2": ("open", None, True),
    }


async def test_one_bad_row_does_not_take_its_neighbours_with_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(replace(row("bad"), provider=None))
    await ledger.opened(row("n1"))
    await ledger.opened(row("n2"))
    ledger.settle(end("n2"))
    await ledger.close()
    assert set(await states(database)) == {"n1", "n2"}
    assert "request bad cannot be stored" in caplog.text
    await agree(database)


async def test_a_fault_of_ours_in_the_writing_is_told_and_the_next_start_writes_it_all(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(_batch: Batch, _boot: str, _stored: set[int]) -> None:
        raise LookupError("a bug")

    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    with monkeypatch.context() as patched:
        patched.setattr(writing, "booking", faulty)
        ledger.settle(end("r1"))
        await until(lambda: ledger.trouble is not None)
    assert "LookupError" in str(ledger.trouble)
    assert "nothing is written" in caplog.text
    await ledger.opened(row("r2"))
    ledger.settle(end("r2"))
    await ledger.close()
    again = await open_ledger(database, "b2")
    await again.close()
    assert await states(database) == {
        "r1": ("settled", "completed", True),
        "r2": ("settled", "completed", True),
    }
    await agree(database)


# ---- where it could go wrong unseen


async def test_what_is_written_leaves_its_room_in_the_journal(database: Database) -> None:
    ledger = await Ledger.start(database, boot="b1", hold=0, journal_bytes=1 << 20)
    for number in range(30):  # three times what both files hold
        await ledger.opened(replace(row(f"r{number}"), requested_model="m" * 200_000))
        await written(ledger)
    await ledger.close()
    assert len(await states(database)) == 30


async def test_a_row_that_was_open_while_the_database_was_away_is_doubted_until_its_end(
    database: Database,
) -> None:
    """Another server closed it meanwhile; it ends when all is well again, and other rows have been written."""
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    await hide(database)
    await ledger.opened(row("r2"))
    await until(lambda: ledger.trouble is not None)
    await show(database, dead=True)
    async with database.transaction() as conn:
        await rebuild(conn, 0)
    await written(ledger)
    assert ledger.trouble is None
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error", status=502))
    ledger.settle(end("r2"))
    await written(ledger)
    assert await states(database) == {
        "r1": ("settled", "upstream_error", False),
        "r2": ("settled", "completed", True),
    }
    assert await used(database) == (1, 1)
    assert ledger._doubtful == set(), "what has ended is forgotten"
    await agree(database)
    await ledger.close()


class Losing:
    """A connection that loses the database's answer to what it wrote."""

    def __init__(self, whole: BatchConnection) -> None:
        self._whole = whole
        self.lost = False

    def write(self, statements: Iterable[tuple[str, BulkRow]]) -> None:
        self._whole.write(statements)
        self.lost = True
        raise WriteFailed("the answer to the commit was lost")

    def close(self) -> None:
        self._whole.close()


@pytest.mark.parametrize("beside", [True, False])
async def test_a_batch_that_was_committed_without_an_answer_is_not_written_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, beside: bool
) -> None:
    """Nor where there is no open request ``beside`` it, by which the database would be asked first anyway."""
    ledger = await open_ledger(database, "b1")
    losing = Losing(ledger._connection)
    monkeypatch.setattr(ledger, "_connection", losing)
    await ledger.opened(row("r1"))
    ledger.settle(end("r1", refund="no_output", status=502))
    if beside:
        await ledger.opened(row("r2"))
    await until(lambda: losing.lost)
    monkeypatch.undo()
    if not beside:
        await ledger.opened(row("r2"))
    await written(ledger)
    await ledger.close()
    assert await states(database) == {"r1": ("settled", "completed", False), "r2": ("open", None, True)}
    assert await used(database) == (1, 1)
    assert "is refused" not in caplog.text
    assert "cannot be stored" not in caplog.text
    await agree(database)


async def test_who_comes_while_the_disk_works_waits_for_its_next_turn(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn that runs may have begun before the record was there."""
    began, go_on = threading.Event(), threading.Event()
    synced: list[int] = []
    sync = Journal.sync

    def slow(journal: Journal) -> None:
        began.set()
        go_on.wait()
        sync(journal)
        synced.append(1)

    monkeypatch.setattr(Journal, "sync", slow)
    ledger = await Ledger.start(database, boot="b1", hold=0, durable=True)
    first = asyncio.ensure_future(ledger.opened(row("first")))
    await until(began.is_set)
    second = asyncio.ensure_future(ledger.opened(row("second")))
    await asyncio.sleep(0)
    go_on.set()
    await second
    assert first.done()
    assert len(synced) == 2
    await ledger.close()


async def test_nothing_of_a_death_that_was_none_stays_in_a_row(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    await hide(database)
    ledger.settle(end("r1"))
    await until(lambda: ledger.trouble is not None)
    await show(database, dead=True)
    async with database.transaction() as conn:
        await rebuild(conn, 0)
    await written(ledger)
    await ledger.close()
    async with database.connect() as conn:
        found = (await conn.execute(select(entries))).one()
    assert (found.state, found.outcome, found.error_code, found.estimated) == (
        "settled",
        "completed",
        None,
        False,
    )
    await agree(database)


async def test_of_two_ends_in_a_journal_the_first_stays(database: Database) -> None:
    journal = Journal.open(database.directory / "journal", "b0", 1 << 20)
    for record in (row("r1"), end("r1"), end("r1", refund="no_output", outcome="upstream_error")):
        journal.current.append(msgspec.msgpack.encode(record))
    journal.close(keep=True)
    ledger = await open_ledger(database, "b1")
    await ledger.close()
    assert await states(database) == {"r1": ("settled", "completed", True)}
    assert await used(database) == (1, 0)
    await agree(database)


async def test_closing_waits_for_the_disk(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()
    sync = Journal.sync

    def slow(journal: Journal) -> None:
        began.set()
        go_on.wait()
        sync(journal)

    monkeypatch.setattr(Journal, "sync", slow)
    ledger = await Ledger.start(database, boot="b1", hold=0, durable=True)
    opening = asyncio.ensure_future(ledger.opened(row("r1")))
    await until(began.is_set)
    closing = asyncio.ensure_future(ledger.close())
    await until(ledger._writing.done)
    for _ in range(5):
        await asyncio.sleep(0)
    early = closing.done()
    go_on.set()
    await opening
    await closing
    assert not early


@pytest.fixture
async def on_postgresql(postgresql: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await postgresql.open(tmp_path)
    yield opened
    await opened.close()


async def test_one_bad_row_in_the_journal_of_a_dead_process_does_not_take_its_neighbours_with_it(
    on_postgresql: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL alone is strict about lengths."""
    journal = Journal.open(on_postgresql.directory / "journal", "b0", 1 << 20)
    for record in (row("bad", user="u" * 41), row("n1"), row("n2"), end("n2")):
        journal.current.append(msgspec.msgpack.encode(record))
    journal.close(keep=True)
    ledger = await open_ledger(on_postgresql, "b1")
    await ledger.close()
    assert await states(on_postgresql) == {
        "n1": ("settled", "aborted", True),
        "n2": ("settled", "completed", True),
    }
    assert "request bad cannot be stored" in caplog.text
    await agree(on_postgresql)


async def test_what_the_database_has_of_a_dead_process_is_no_row_that_it_refuses(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    kept = {file: file.read_bytes() for file in journals(database)}
    await ledger.close()
    for file, data in kept.items():
        file.write_bytes(data)
    again = await open_ledger(database, "b2")
    await again.close()
    assert list(await states(database)) == ["r1"]
    assert "cannot be stored" not in caplog.text


@pytest.mark.parametrize("refund", [None, "no_output"])
async def test_an_end_changes_no_row_that_has_one(database: Database, refund: str | None) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    async with database.transaction() as conn:
        await taken_for_dead(conn)
    ledger.settle(end("r1", refund=refund))
    await ledger.close()
    assert await states(database) == {"r1": ("settled", "aborted", True)}


# ---- journals of other versions

VECTOR = Path(__file__).parent / "vectors" / "journal-0.1"
"""What a server of version 0.1 left when it was killed: it has to be readable for ever."""


async def test_a_journal_of_an_earlier_version_is_read(database: Database) -> None:
    directory = database.directory / "journal"
    shutil.copytree(VECTOR, directory)
    check_journals(directory)
    ledger = await open_ledger(database, "b1")
    await ledger.close()
    assert await states(database) == {
        "r1": ("settled", "completed", True),
        "r2": ("settled", "upstream_error", False),
        "r3": ("settled", "aborted", True),
    }
    await agree(database)
    assert journals(database) == []


@pytest.mark.parametrize(
    "record",
    [
        b"\x01",
        b"\x03\x00",
        b"\x93\xa5later\x01\x02",
        b"\xa1\xa4",
        b"\x91\xa1\xff",
        b"\x81\xa1\xc0\x01",
        b"\xc1",
        b"\x91" * 20_000,
    ],
    ids=[
        "half a kind",
        "half a row",
        "another word",
        "no text",
        "no word",
        "no name",
        "no msgpack",
        "nested",
    ],
)
async def test_a_journal_that_cannot_be_read_is_told_and_left_as_it_is(
    database: Database, record: bytes
) -> None:
    journal = Journal.open(database.directory / "journal", "b0", 1 << 20)
    journal.current.append(record)
    journal.close(keep=True)
    kept = {file: file.read_bytes() for file in journals(database)}
    for _ in range(2):
        with pytest.raises(StoreError, match=r"b0\.0 was written by another version .* has 1 records"):
            check_journals(database.directory / "journal")
    with pytest.raises(StoreError, match="start that version once"):
        await open_ledger(database, "b1")
    assert {file: file.read_bytes() for file in kept} == kept
