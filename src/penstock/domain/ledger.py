"""The ledger: one row per request that reaches an upstream, written before it is contacted and settled after.

``usage_days`` is raised and lowered in the transactions that write the rows, so the two never disagree. Settling is
idempotent by the request's id: only an open row is settled, and a refund is made only with it.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import msgspec
from sqlalchemy import func, select, update

from penstock.domain.ledger_rows import OpenRow, Settlement, first_of_each, opening, settling
from penstock.domain.rollups import rebuild, rolling
from penstock.errors import CannotRecord
from penstock.store.database import BatchConnection, Database, RowRefused, WriteFailed
from penstock.store.schema import requests
from penstock.store.spool import Spool
from penstock.store.writer import GroupWriter

log = logging.getLogger("penstock.ledger")

MAX_WAITING = 10_000
"""Requests that may wait for their row; more are refused at once."""

CANNOT = "The request cannot be recorded at the moment, so it was not sent; please retry."

RETRY_FIRST = 0.25
RETRY_LAST = 5.0
SPOOL_NAME = "settlements.spool"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Settlement).decode

Waiting = tuple[OpenRow, asyncio.Future[None]]


class _Answer(msgspec.Struct, frozen=True):
    """What became of the rows of one batch."""

    written: list[asyncio.Future[None]]
    failed: list[asyncio.Future[None]]


class Ledger:
    """Records requests. All methods are called on the loop that opened it; the writing is a thread's."""

    def __init__(self, connection: BatchConnection, spool: Spool, boot: str, recovered: int) -> None:
        self.recovered = recovered
        """How many rows of earlier boots were found open, and closed as ``aborted``."""
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self._closed = False
        self._ended = asyncio.Event()
        self._book = _Book(connection, spool, boot)
        self._writer: GroupWriter[Waiting | Settlement, _Answer] = GroupWriter(
            self._loop, work=self._work, report=self._report, ended=self._end, name="penstock-ledger"
        )

    @classmethod
    async def open(cls, database: Database, *, boot: str, spool: Path | None = None) -> "Ledger":
        """Open the ledger, after finishing what an earlier boot left. ``boot`` is a new random id.

        Settlements in the spool file (``settlements.spool`` beside the database) are applied first; rows that are then
        still open belong to dead boots, because one server at a time has the data directory, and are closed as
        ``aborted``. They stay counted: that we died is no proof that the provider gave nothing. Raises ``StoreError``,
        ``DatabaseUnavailable``.
        """
        file, records = Spool.open(spool or database.directory / SPOOL_NAME)
        settlements = first_of_each([_decode(record) for record in records])
        async with database.transaction() as conn:
            found = await conn.scalars(
                select(requests.c.boot).where(requests.c.state == "open", requests.c.boot != boot).distinct()
            )
            dead = await database.gone(conn, list(found))
            left = (requests.c.state == "open", requests.c.boot.in_(dead))
            oldest = await conn.scalar(select(func.min(requests.c.created_at)).where(*left))
            await database.execute(conn, settling(settlements))
            aborted = await conn.execute(
                update(requests)
                .where(*left)
                .values(state="settled", outcome="aborted", error_code="server_died", estimated=True)
            )
            if oldest is not None:
                await rebuild(conn, oldest)
        file.clear()
        return cls(database.batch_connection(boot), file, boot, aborted.rowcount)

    @property
    def trouble(self) -> str | None:
        """Why the database takes no rows at the moment, for the operator; None when all is well."""
        return self._book.trouble

    @property
    def owed(self) -> int:
        """How many settlements wait for the database to come back."""
        return len(self._book.owed)

    async def opened(self, row: OpenRow) -> None:
        """Write a request's row and count it; returns once both are committed.

        Raises ``CannotRecord``, and then there is no row and nothing to settle. When the caller is cancelled while it
        waits, the row may be written: ``settle`` it.
        """
        if self._closed or self._waiting >= MAX_WAITING:
            raise CannotRecord(CANNOT, retry_after=5)
        future = self._loop.create_future()
        self._waiting += 1
        self._writer.put((row, future))
        await future

    def settle(self, settlement: Settlement) -> None:
        """Say how a request ended. Never blocks, never raises; a second settlement of a row changes nothing."""
        if self._ended.is_set():
            self._book.keep([settlement])
        else:
            self._writer.put_later(settlement)

    async def close(self) -> None:
        """Write what waits, or leave it in the spool file for the next start, and end the thread."""
        if not self._closed:
            self._closed = True
            self._writer.stop()
        await self._ended.wait()

    def _work(self, batch: list[Waiting | Settlement]) -> _Answer:
        answer = self._book.write(batch)
        self._writer.retry_in = self._book.retry_in
        return answer

    def _report(self, answer: _Answer) -> None:
        self._waiting -= len(answer.written) + len(answer.failed)
        for future in answer.written:
            if not future.done():
                future.set_result(None)
        for future in answer.failed:
            if not future.done():
                future.set_exception(CannotRecord(CANNOT, retry_after=5))

    def _end(self) -> None:
        """The thread has ended: what came too late for its last batch is refused, or kept for the next start."""
        self._closed = True
        late = self._writer.take()
        self._report(_Answer(written=[], failed=[item[1] for item in late if isinstance(item, tuple)]))
        self._book.keep([item for item in late if isinstance(item, Settlement)])
        self._book.close()
        self._ended.set()


class _Book:
    """What the writing thread does and remembers. After the thread has ended, the loop may call ``keep``."""

    def __init__(self, connection: BatchConnection, spool: Spool, boot: str) -> None:
        self._connection = connection
        self._spool = spool
        self._boot = boot
        self._retry_at = 0.0
        self.retry_in: float | None = None
        self.trouble: str | None = None
        self._running: dict[str, OpenRow] = {}
        """The rows that are open in the database: what an end is added to the sums by, once."""
        self.owed: dict[str, Settlement] = {}
        """Settlements that the database has not taken yet. Each belongs to a row that it took, so they are few."""

    def write(self, batch: Sequence[Waiting | Settlement]) -> _Answer:
        """Commit a batch, new rows before ends: in one transaction, unless the database was in trouble before."""
        opens = [item for item in batch if isinstance(item, tuple)]
        ends = first_of_each([item for item in batch if isinstance(item, Settlement)])
        if self.trouble is None:
            failed, left = self._transact(opens, ends)
            self._owe(left)
        else:
            # Apart, because a full disk refuses new rows while it may still take changes to old ones.
            self._owe(ends)
            failed, _ = self._transact(opens, [])
            if self._due():
                _, left = self._transact([], list(self.owed.values()))
                self.owed = {end.id: end for end in left}
        if self.trouble is None:
            self._recover()
        return _Answer([future for _, future in opens if future not in failed], list(failed))

    def keep(self, settlements: Sequence[Settlement]) -> None:
        """Put settlements where the next start finds them, should this process not live to write them."""
        if not settlements:
            return
        try:
            self._spool.append([_encode(settlement) for settlement in settlements])
        except OSError as error:
            log.error("%d settlements are in memory only: %s: %s", len(settlements), self._spool.path, error)  # noqa: TRY400

    def close(self) -> None:
        """Close the database; the spool stays open for late settlements."""
        self._connection.close()

    def _transact(
        self, opens: Sequence[Waiting], ends: Sequence[Settlement]
    ) -> tuple[set[asyncio.Future[None]], Sequence[Settlement]]:
        """Write all in one transaction; gives what was not written, and notes whether the database is in trouble."""
        if not opens and not ends:
            return set(), ends
        rows = {row.id: row for row, _ in opens}
        found = [(rows.get(end.id) or self._running.get(end.id), end) for end in ends]
        ended = [(row, end) for row, end in found if row is not None]
        try:
            self._connection.write(
                chain(opening(list(rows.values()), self._boot), rolling(ended), settling(ends))
            )
        except WriteFailed as error:
            self._fail(str(error))
            return {future for _, future in opens}, ends
        except RowRefused:
            if len(opens) + len(ends) > 1:
                return self._one_by_one(opens, ends)
            if ends:
                log.exception(
                    "the end of request %s cannot be stored; the next start will close it", ends[0].id
                )
            return {future for _, future in opens}, []
        self.trouble = None
        self._running.update(rows)
        for row, _ in ended:
            del self._running[row.id]
        return set(), []

    def _one_by_one(
        self, opens: Sequence[Waiting], ends: Sequence[Settlement]
    ) -> tuple[set[asyncio.Future[None]], Sequence[Settlement]]:
        """After one row was refused: only that one is, not those it shared a batch with."""
        failed: set[asyncio.Future[None]] = set()
        left: list[Settlement] = []
        for waiting in opens:
            failed |= self._transact([waiting], [])[0]
        for end in ends:
            left += self._transact([], [end])[1]
        return failed, left

    def _fail(self, why: str) -> None:
        if self.trouble is None:
            log.error("the database takes no rows; requests are refused until it does: %s", why)
            self.retry_in = RETRY_FIRST
        else:
            self.retry_in = min(RETRY_LAST, 2 * (self.retry_in or RETRY_FIRST))
        self.trouble = why
        self._retry_at = time.monotonic() + self.retry_in

    def _due(self) -> bool:
        return self.trouble is None or time.monotonic() >= self._retry_at

    def _owe(self, ends: Sequence[Settlement]) -> None:
        new = [end for end in ends if end.id not in self.owed]
        self.owed.update((end.id, end) for end in new)
        self.keep(new)

    def _recover(self) -> None:
        """After a success: nothing is owed, so the spool is emptied."""
        if self.retry_in is not None:
            log.warning("the database takes rows again")
            self.retry_in = None
        if self._spool.empty:
            return
        try:
            self._spool.clear()
        except OSError as error:
            log.error("%s is not emptied; that does no harm: %s", self._spool.path, error)  # noqa: TRY400
