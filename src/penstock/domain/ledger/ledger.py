"""The ledger: one row per request that reaches an upstream, recorded before it is contacted and settled after.

A request is recorded in the journal on this machine's disk (``store/journal.py``), which a killed process leaves whole.
From there it goes through these states, each in the journal and in memory until the last:

- *held*: it runs. The database knows nothing of it yet, since most requests end soon, and are one ``INSERT`` then.
- *opening*: it has run for ``hold`` seconds, so its row is written, open.
- *whole*: it ended while it was held; its row is written with its end.
- *ending*: it ended when the database had its row, or was getting it; that row is settled.

What has come within a moment is written in one transaction: rows, ends, counts of the day and sums by hour. A batch that
failed may have been committed all the same, so it is tried again by what the database says of each row
(``domain/ledger/recovery.py``); and so is what a dead process left behind. While the database is away the journal takes what
comes, until it is full: then requests are refused.

A segment of the journal is forgotten once all of its records are in the database, or held and recorded again in the next one.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from math import inf
from typing import Final

from penstock.core.memo import Memo
from penstock.domain.ledger.kinds import End, Kind, KnownKind, PlainEnd, Settlement
from penstock.domain.ledger.records import (
    Caller,
    caller_record,
    end_record,
    kind_record,
    plain_record,
    row_record,
)
from penstock.domain.ledger.recovery import absorb, absorb_one_by_one, close_dead_rows, replay
from penstock.domain.ledger.rollups import rolling
from penstock.domain.ledger.rows import DAY_MS, Batch, Ended, OpenRow, Row, booking
from penstock.errors import CannotRecord, DatabaseUnavailable
from penstock.store.journal import FIRST_SIZE, Journal, JournalFull, Segment
from penstock.store.request_key import key_of
from penstock.store.sql.database import BatchConnection, Database, RowRefused, WriteFailed

log = logging.getLogger("penstock.domain.ledger")

__all__ = ["Kind", "KnownKind", "Ledger", "OpenRow", "PlainEnd", "Row", "Settlement"]

RETRY_FIRST = 0.25
RETRY_LAST = 5.0
CLOSING_TRIES: Final = 2
"""How often a batch is tried while the ledger is closed: a database that is busy for a moment is asked again."""
DIRECTORY = "journal"
TURN_BYTES: Final = FIRST_SIZE // 2
"""A segment is turned when it has so much, so that a start after a kill has little to look through."""
KNOWN_KINDS: Final = 8192
"""Kinds and callers that are remembered, and kinds that the database is known to have."""

CANNOT = "The request cannot be recorded at the moment, so it was not sent; please retry."


class Ledger:
    """Records requests. All methods are called on the loop that opened it; the writing is a thread's."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        boot: str,
        *,
        recovered: int,
        pace: float,
        hold: float,
        durable: bool,
    ) -> None:
        self.recovered = recovered
        """How many rows of dead processes were found open, and closed as ``aborted``."""
        self.trouble: str | None = None
        """Why the database takes no rows at the moment, for the operator; None when all is well."""
        self.durable = durable
        """Whether ``synced`` is to be awaited before a request that was recorded is sent."""
        self._database = database
        self._journal = journal
        self._boot = boot
        self._pace = pace
        self._hold = hold
        self._connection: BatchConnection = database.batch_connection(boot)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="penstock-ledger")
        self._loop = asyncio.get_running_loop()
        self._kinds: Memo[Kind, KnownKind] = Memo(KNOWN_KINDS)
        self._callers: Memo[str, Caller] = Memo(KNOWN_KINDS)
        """By key id."""
        self._named = 0
        self._stored: set[int] = set()
        """Kinds that the database has."""
        self._open: dict[str, Row] = {}
        """Requests that run."""
        self._held: dict[str, Row] = {}
        """Those of them whose rows the database has not, nor is getting them, the oldest first."""
        self._whole: list[Ended] = []
        self._ending: list[Ended] = []
        self._doubtful: set[str] = set()
        """Requests that were open in the database when it was away: another process may have taken us for dead."""
        self._in_flight = 0
        self._turn = 1
        self._turned_at = self._loop.time()
        self._closed = False
        self._something = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None
        """Wakes the writing when the oldest row has been held long enough."""
        self._syncing: asyncio.Future[None] | None = None
        self._writing = asyncio.create_task(self._keep_writing(), name="penstock-ledger")
        self._writing.add_done_callback(self._writing_ended)

    @classmethod
    async def start(
        cls,
        database: Database,
        *,
        boot: str,
        journal_bytes: int = 32 << 20,
        pace: float = 0.05,
        hold: float = 5.0,
        durable: bool = False,
    ) -> "Ledger":
        """Open the ledger, after finishing what dead processes left. ``boot`` is a new random id.

        Their journals (``journal/`` beside the database) are written first; rows that are then still open are closed as
        ``aborted``. They stay counted: that we died is no proof that the provider gave nothing. Each of the journal's two
        files may grow to ``journal_bytes``; what is in it waits ``pace`` seconds for company, and the row of a request that
        runs ``hold`` seconds. With ``durable`` a request waits until the disk has its record: nothing is lost when the power
        fails either. Raises ``StoreError``, ``DatabaseUnavailable``.
        """
        directory = database.directory / DIRECTORY
        await replay(database, directory)
        recovered = await close_dead_rows(database, boot)
        return cls(
            database,
            Journal.open(directory, boot, journal_bytes),
            boot,
            recovered=recovered,
            pace=pace,
            hold=hold,
            durable=durable,
        )

    @property
    def owed(self) -> int:
        """How many rows and ends the database should have and does not have yet. A row that is held is not due."""
        due = self._loop.time() - self._hold
        count = len(self._whole) + len(self._ending) + self._in_flight
        for row in self._held.values():
            if row.since > due:
                break
            count += 1
        return count

    # ---- what requests call

    def kind(self, kind: Kind) -> KnownKind:
        """The kind as ``open`` wants it; good for as long as the ledger is, and quicker kept than asked for again."""
        known = self._kinds.get(kind)
        if known is None:
            self._named += 1
            known = self._kinds.keep(kind, KnownKind(kind, self._named))
        return known

    def open(
        self,
        id: str,
        kind: KnownKind,
        user_id: str,
        key_id: str,
        day: int,
        created_at: int,
        actor_id: str | None = None,
    ) -> Row:
        """Record a request that is about to be sent; it is kept and counted from now on whatever happens to this process.

        ``user_id`` is the account, ``actor_id`` who acts where that is another. ``day`` is a UTC day number, ``created_at``
        epoch milliseconds. Where the ledger is ``durable``, ``synced`` is to be
        awaited before the request is sent. Raises ``CannotRecord``, and then there is nothing to settle.
        """
        if self._closed:
            raise CannotRecord(CANNOT, retry_after=5)
        if not -1 <= created_at // DAY_MS - day <= 1:
            # The clock jumped: a day's sums are by this time, and are looked for in the rows of its day and those beside it.
            created_at = day * DAY_MS
        row = Row(id, kind, user_id, key_id, day, created_at, key_of(id), self._loop.time(), actor_id)
        try:
            self._record(row)
        except JournalFull as full:
            log.error("requests are refused: %s", full)  # noqa: TRY400 - the text says it all
            raise CannotRecord(CANNOT, retry_after=5) from full
        self._open[id] = self._held[id] = row
        if self._due is None:
            self._due = self._loop.call_at(row.since + self._hold, self._wake)
        return row

    def settle_plainly(self, row: Row, end: PlainEnd) -> None:
        """Say that a request ended as most do. Never blocks, never raises; of two ends of a request the first stays."""
        if self._open.pop(row.id, None) is not None:
            self._end(row, end, plain_record(row, end))

    def settle(self, settlement: Settlement) -> None:
        """Say how a request ended. Never blocks, never raises; of two ends of a request the first stays."""
        row = self._open.pop(settlement.id, None)
        if row is None:
            return
        if settlement.is_plain:
            end = PlainEnd(settlement.usage, settlement.first_byte_ms, settlement.total_ms)
            self._end(row, end, plain_record(row, end))
        else:
            self._end(row, settlement, end_record(settlement, row.day))

    async def synced(self) -> None:
        """Wait until the disk has what was recorded; those who come while it works wait together for its next turn."""
        if self._syncing is not None:
            await asyncio.shield(self._syncing)  # it may have begun before our record was there
        if self._syncing is None:
            self._syncing = self._loop.run_in_executor(None, self._journal.sync)
            self._syncing.add_done_callback(self._sync_done)
        await asyncio.shield(self._syncing)

    async def opened(self, row: OpenRow) -> None:
        """``kind``, ``open`` and ``synced`` in one.

        When the caller is cancelled while it waits, the row may be kept: ``settle`` it.
        """
        self.open(row.id, self.kind(row.kind), row.user_id, row.key_id, row.day, row.created_at)
        if self.durable:
            await self.synced()

    async def close(self) -> None:
        """Write what waits, or leave it in the journal for the next start."""
        if self._closed:
            return
        self._closed = True
        if self._due is not None:
            self._due.cancel()
        self._something.set()
        await asyncio.wait((self._writing,))
        if self._syncing is not None:
            await self._syncing
        self._connection.close()
        self._thread.shutdown()
        self._journal.close(keep=self._owes() or self._failure(self._writing) is not None)

    # ---- to the journal

    def _record(self, row: Row) -> None:
        """Raises ``JournalFull``; the row is not in the journal then."""
        journal, turn = self._journal.current, self._turn
        caller = self._callers.get(row.key_id)
        if caller is None or caller.user_id != row.user_id or caller.actor_id != row.actor_id:
            self._named += 1
            caller = self._callers.keep(
                row.key_id, Caller(row.user_id, row.key_id, self._named, row.actor_id)
            )
        if row.kind.told_in != turn:
            journal.append(kind_record(row.kind))
            row.kind.told_in = turn
        if caller.told_in != turn:
            journal.append(caller_record(caller))
            caller.told_in = turn
        journal.append(row_record(row, caller))

    def _end(self, row: Row, end: End, record: bytes) -> None:
        try:
            self._journal.current.append(record)
        except JournalFull as full:
            # It is in memory, and written with the rest; only a kill before that would lose it.
            log.error("the end of request %s is in memory only: %s", row.id, full)  # noqa: TRY400 - the text says it all
        held = self._held.pop(row.id, None) is not None
        (self._whole if held else self._ending).append((row, end))
        self._something.set()

    def _wake(self) -> None:
        self._due = None
        self._something.set()

    # ---- to the database

    async def _keep_writing(self) -> None:
        while not self._closed or self._owes():
            await self._something.wait()
            if not self._closed:
                await asyncio.sleep(self._pace)
            batch, filled = self._take()
            if not await self._write_until_done(batch):
                return
            if filled is not None:
                if self.durable and self._held:
                    await self.synced()  # they were recorded again
                filled.clear()
            self._in_flight = 0

    def _owes(self) -> bool:
        return bool(self._held or self._whole or self._ending or self._in_flight)

    def _writing_ended(self, writing: asyncio.Task[None]) -> None:
        """It ends when the ledger is closed, and otherwise by a bug of ours: the journal has what comes from then on."""
        failure = self._failure(writing)
        if failure is not None:
            self.trouble = (
                f"writing has ended by a fault of the program ({type(failure).__name__}): restart it"
            )
        if isinstance(failure, Exception):
            log.critical("nothing is written to the database until a restart", exc_info=failure)

    @staticmethod
    def _failure(writing: asyncio.Task[None]) -> BaseException | None:
        return asyncio.CancelledError() if writing.cancelled() else writing.exception()

    def _take(self) -> tuple[Batch, Segment | None]:
        """All that is due, and the segment of the journal that can be forgotten once it is written, if it is time for that."""
        self._something.clear()
        now = self._loop.time()
        due = inf if self._closed else now - self._hold
        opening: list[Row] = []
        for row in self._held.values():
            if row.since > due:
                break
            opening.append(row)
        filled: Segment | None = None
        if self._journal.current.used >= TURN_BYTES or now - self._turned_at >= self._hold:
            filled = self._journal.turn()
            self._turn += 1
            self._turned_at = now
            opening += self._record_again(list(self._held.values())[len(opening) :])
        for row in opening:
            del self._held[row.id]
        whole, self._whole = self._whole, []
        ending, self._ending = self._ending, []
        if self._due is not None:
            self._due.cancel()
        oldest = next(iter(self._held.values()), None)
        self._due = None if oldest is None else self._loop.call_at(oldest.since + self._hold, self._wake)
        batch = Batch(opening, whole, ending)
        self._in_flight = batch.size
        return batch, filled

    def _record_again(self, rows: list[Row]) -> list[Row]:
        """Take held rows over into the new segment; gives those for which it has no room, to be written now."""
        for number, row in enumerate(rows):
            try:
                self._record(row)
            except JournalFull:
                return rows[number:]
        return []

    async def _write_until_done(self, batch: Batch) -> bool:
        """Write a batch, again and again if need be; False when we are to stop and it is not written."""
        retry_in, left = RETRY_FIRST, CLOSING_TRIES
        while batch.size:
            try:
                await self._write(batch)
            except (WriteFailed, DatabaseUnavailable) as error:
                self._failed(str(error))
            else:
                self._written(batch)
                return True
            left -= self._closed
            if not left:
                return False
            await asyncio.sleep(retry_in)
            retry_in = min(RETRY_LAST, 2 * retry_in)
        return True

    async def _write(self, batch: Batch) -> None:
        """Raises ``WriteFailed``, ``DatabaseUnavailable``."""
        rows = {row.id: row for row in batch.rows()}
        try:
            if self.trouble is None and self._doubtful.isdisjoint(rows):
                await self._loop.run_in_executor(self._thread, self._transact, batch)
            else:
                await absorb(self._database, rows, _ends(batch), self._boot)
        except RowRefused as refused:
            log.error("a row of %d is refused: %s", batch.size, refused)  # noqa: TRY400 - one by one tells which
            await absorb_one_by_one(self._database, rows, _ends(batch), self._boot)

    def _transact(self, batch: Batch) -> None:
        """What the thread does."""
        self._connection.write(chain(booking(batch, self._boot, self._stored), rolling(batch.ended())))

    def _written(self, batch: Batch) -> None:
        if self.trouble is not None:
            log.warning("the database takes rows again")
            self.trouble = None
        if len(self._stored) > KNOWN_KINDS:
            self._stored.clear()
        self._stored.update(batch.kinds())
        self._doubtful.difference_update(row.id for row, _ in batch.ending)

    def _failed(self, why: str) -> None:
        if self.trouble is None:
            log.error("the database takes no rows; they wait in the journal: %s", why)
            self._doubtful.update(id for id in self._open if id not in self._held)
            self._doubtful.update(row.id for row, _ in self._ending)
            self._stored.clear()
        self.trouble = why

    # ---- to the disk

    def _sync_done(self, _syncing: asyncio.Future[None]) -> None:
        self._syncing = None


def _ends(batch: Batch) -> dict[str, tuple[int | None, End]]:
    return {row.id: (row.day, end) for row, end in batch.ended()}
