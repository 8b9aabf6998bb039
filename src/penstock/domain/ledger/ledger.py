"""The ledger: one row per request that reaches an upstream, recorded before it is contacted and settled after.

A request is recorded in the journal on this machine's disk (``store/journal.py``), which a killed process leaves whole,
and written to the database with all that came within a moment: its row, its end where that has come by then, its count
of the day and the sums by hour, in one transaction. A batch that failed may have been committed all the same, so it is
tried again by what the database says of each row (``domain/ledger/recovery.py``); and so is what a dead process left behind.
While the database is away the journal takes what comes, until it is full: then requests are refused.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import msgspec

from penstock.domain.ledger.recovery import absorb, absorb_one_by_one, close_dead_rows, replay
from penstock.domain.ledger.rollups import rolling
from penstock.domain.ledger.rows import Batch, OpenRow, Settlement, booking, first_of_each, fit_record
from penstock.errors import CannotRecord, DatabaseUnavailable
from penstock.store.journal import Journal, JournalFull, Segment
from penstock.store.sql.database import BatchConnection, Database, RowRefused, WriteFailed

log = logging.getLogger("penstock.domain.ledger")

__all__ = ["Ledger", "OpenRow", "Settlement"]

RETRY_FIRST = 0.25
RETRY_LAST = 5.0
DIRECTORY = "journal"

CANNOT = "The request cannot be recorded at the moment, so it was not sent; please retry."

_pack = msgspec.msgpack.Encoder().encode


class Ledger:
    """Records requests. All methods are called on the loop that opened it; the writing is a thread's."""

    def __init__(
        self, database: Database, journal: Journal, boot: str, *, recovered: int, pace: float, durable: bool
    ) -> None:
        self.recovered = recovered
        """How many rows of dead processes were found open, and closed as ``aborted``."""
        self.trouble: str | None = None
        """Why the database takes no rows at the moment, for the operator; None when all is well."""
        self._database = database
        self._journal = journal
        self._boot = boot
        self._pace = pace
        self.durable = durable
        """Whether a request waits until the disk has its record."""
        self._connection: BatchConnection = database.batch_connection(boot)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="penstock-ledger")
        self._loop = asyncio.get_running_loop()
        self._new: list[OpenRow] = []
        self._ends: list[Settlement] = []
        self._open_rows: dict[str, OpenRow] = {}
        """What is open in the database, as far as we know."""
        self._doubtful: set[str] = set()
        """Those of them that were open when the database was away: another process may have taken us for dead."""
        self._in_flight = 0
        self._closed = False
        self._something = asyncio.Event()
        self._syncing: asyncio.Future[None] | None = None
        self._writing = asyncio.create_task(self._keep_writing(), name="penstock-ledger")
        self._writing.add_done_callback(self._writing_ended)

    @classmethod
    async def open(
        cls,
        database: Database,
        *,
        boot: str,
        journal_bytes: int = 32 << 20,
        pace: float = 0.05,
        durable: bool = False,
    ) -> "Ledger":
        """Open the ledger, after finishing what dead processes left. ``boot`` is a new random id.

        Their journals (``journal/`` beside the database) are written first; rows that are then still open are closed as
        ``aborted``. They stay counted: that we died is no proof that the provider gave nothing. Each of the journal's two
        files may grow to ``journal_bytes``; what is in it waits ``pace`` seconds for company. With ``durable`` a request
        waits until the disk has its record: nothing is lost when the power fails either. Raises ``StoreError``,
        ``DatabaseUnavailable``.
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
            durable=durable,
        )

    @property
    def owed(self) -> int:
        """How many rows and ends the database does not have yet."""
        return len(self._new) + len(self._ends) + self._in_flight

    async def opened(self, row: OpenRow) -> None:
        """``record``, and ``synced`` where the ledger is durable. Raises ``CannotRecord``."""
        self.record(row)
        if self.durable:
            await self.synced()

    def record(self, row: OpenRow) -> None:
        """Record a request; once this returns it is kept and counted whatever happens to this process.

        Where the ledger is ``durable``, await ``synced`` before it is sent: the power may fail. Raises ``CannotRecord``, and
        then there is nothing to settle.
        """
        if self._closed:
            raise CannotRecord(CANNOT, retry_after=5)
        try:
            self._journal.current.append(_encode(row))
        except JournalFull as full:
            log.error("requests are refused: %s", full)  # noqa: TRY400 - the text says it all
            raise CannotRecord(CANNOT, retry_after=5) from full
        self._new.append(row)
        self._something.set()

    def settle(self, settlement: Settlement) -> None:
        """Say how a request ended. Never blocks, never raises; a second settlement of a row changes nothing."""
        try:
            self._journal.current.append(_encode(settlement))
        except JournalFull as full:
            # It is in memory, and written with the rest; only a kill before that would lose it.
            log.error("the end of request %s is in memory only: %s", settlement.id, full)  # noqa: TRY400 - the text says it all
        self._ends.append(settlement)
        self._something.set()

    async def close(self) -> None:
        """Write what waits, or leave it in the journal for the next start."""
        if self._closed:
            return
        self._closed = True
        self._something.set()
        await asyncio.wait((self._writing,))
        if self._syncing is not None:
            await self._syncing
        self._connection.close()
        self._thread.shutdown()
        self._journal.close(keep=self.owed > 0 or self._failure(self._writing) is not None)

    # ---- to the database

    async def _keep_writing(self) -> None:
        while not self._closed or self._new or self._ends:
            await self._something.wait()
            if not self._closed:
                await asyncio.sleep(self._pace)
            batch, segment = self._take()
            if not await self._write_until_done(batch):
                return
            segment.clear()
            self._in_flight = 0

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

    def _take(self) -> tuple[Batch, Segment]:
        """All that was recorded and is not written yet, and the segment of the journal that holds it."""
        new, self._new = self._new, []
        ends, self._ends = self._ends, []
        self._something.clear()
        self._in_flight = len(new) + len(ends)
        rows = {row.id for row in new}
        # An end without a row is a second one of a row that is settled.
        ends = [end for end in first_of_each(ends) if end.id in rows or end.id in self._open_rows]
        open_rows = {end.id: self._open_rows[end.id] for end in ends if end.id in self._open_rows}
        return Batch(new, ends, open_rows), self._journal.turn()

    async def _write_until_done(self, batch: Batch) -> bool:
        """Write a batch, again and again if need be; False when we are to stop and it is not written."""
        retry_in = RETRY_FIRST
        while True:
            try:
                await self._write(batch)
            except (WriteFailed, DatabaseUnavailable) as error:
                self._failed(str(error))
            else:
                self._written(batch)
                return True
            if self._closed:
                return False
            await asyncio.sleep(retry_in)
            retry_in = min(RETRY_LAST, 2 * retry_in)

    async def _write(self, batch: Batch) -> None:
        """Raises ``WriteFailed``, ``DatabaseUnavailable``."""
        try:
            if self.trouble is None and self._doubtful.isdisjoint(batch.open_rows):
                await self._loop.run_in_executor(self._thread, self._transact, batch)
            else:
                await absorb(self._database, batch.new, batch.ends, self._boot)
        except RowRefused as refused:
            log.error("a row of %d is refused: %s", len(batch.new) + len(batch.ends), refused)  # noqa: TRY400 - one by one tells which
            await absorb_one_by_one(self._database, batch.new, batch.ends, self._boot)

    def _transact(self, batch: Batch) -> None:
        """What the thread does."""
        self._connection.write(chain(booking(batch, self._boot), rolling(batch.ended())))

    def _written(self, batch: Batch) -> None:
        if self.trouble is not None:
            log.warning("the database takes rows again")
            self.trouble = None
        self._open_rows.update((row.id, row) for row in batch.new)
        for end in batch.ends:
            self._open_rows.pop(end.id, None)
            self._doubtful.discard(end.id)

    def _failed(self, why: str) -> None:
        if self.trouble is None:
            log.error("the database takes no rows; they wait in the journal: %s", why)
            self._doubtful.update(self._open_rows)
        self.trouble = why

    # ---- to the disk

    async def synced(self) -> None:
        """Wait until the disk has what was recorded; those who come while it works wait together for its next turn."""
        if self._syncing is not None:
            await asyncio.shield(self._syncing)  # it may have begun before our record was there
        if self._syncing is None:
            self._syncing = self._loop.run_in_executor(None, self._journal.sync)
            self._syncing.add_done_callback(self._sync_done)
        await asyncio.shield(self._syncing)

    def _sync_done(self, _syncing: asyncio.Future[None]) -> None:
        self._syncing = None


def _encode(record: OpenRow | Settlement) -> bytes:
    try:
        return _pack(record)
    except (UnicodeEncodeError, OverflowError):
        return _pack(fit_record(record))
