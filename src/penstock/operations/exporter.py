"""The exporter: carries settled requests to their destinations, in the order in which they were committed, at least once.

Nothing waits in memory: a batch is read behind the destination's cursor, sent, and the cursor moved when it has arrived. A
destination that is away is asked again ever more seldom, and finds everything when it is back; a server that is killed leaves
the cursor where it was. Each destination is one server's at a time.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from penstock.domain.catalog.catalog import Catalog
from penstock.domain.exports import backfills, destinations, settled
from penstock.domain.exports.destinations import Destination
from penstock.domain.exports.receipt import ExportedReceipt, receipts_of
from penstock.domain.exports.settled import Slice
from penstock.errors import DatabaseUnavailable
from penstock.operations.background import all_of, running_beside
from penstock.operations.carriers import Carriers, Parcel, parcel_of, parcel_of_backfill
from penstock.operations.metrics import Metrics
from penstock.operations.signed_post import NotTaken
from penstock.settings import Settings
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.exporter")

_SPARE_MS: Final = 5_000
"""How much longer a destination is held than it may take for a batch."""
_LAST_WORD: Final = 5.0
_TIDY_ROUNDS: Final = 30
_BACKFILLED: Final = 10
"""Batches of a backfill in one round; then what was settled meanwhile has its turn."""


class Exporter:
    """One per process."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        settings: Settings,
        metrics: Metrics,
        catalog: Callable[[], Catalog],
        *,
        now: Callable[[], float],
    ) -> None:
        """``now`` gives epoch seconds."""
        self._database = database
        self._carriers = Carriers(database, secrets_file, settings, catalog, now=now)
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._holder = secrets.token_hex(16)
        self._lease_ms = int(settings.export_seconds * 1000) + _SPARE_MS
        self._rounds = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """What is settled is exported, until the end; then other servers need not wait for this one."""
        try:
            async with running_beside(self._run()):
                yield
        finally:
            with suppress(DatabaseUnavailable):
                async with self._database.transaction() as conn:
                    await destinations.release_all(conn, self._holder)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._settings.export_poll)
            await to_its_end(self._guarded(), _LAST_WORD)

    async def _guarded(self) -> None:
        try:
            await self.round()
        except DatabaseUnavailable:
            log.warning("the database does not answer; exports wait")
        except Exception:
            log.exception("a round of exports failed")

    async def round(self) -> int:
        """Export what is due; how many receipts have arrived. Raises ``DatabaseUnavailable``."""
        async with self._turn:
            async with self._database.connect() as conn:
                found = await destinations.list_destinations(conn)
            await self._number_and_tidy(found)
            count = sum(await all_of(*(self._export_all(it) for it in found)))
            count += sum(await all_of(*(self._backfill(it) for it in found)))
            if count:
                async with self._database.transaction() as conn:
                    await settled.tidy_before(conn, await settled.cursors_in_use(conn))
            await self._tell_lag()
            return count

    async def _number_and_tidy(self, found: list[Destination]) -> None:
        self._rounds += 1
        if not found and self._rounds % _TIDY_ROUNDS:
            return
        async with self._database.connect() as conn:
            if not await settled.any_new(conn) and self._rounds % _TIDY_ROUNDS:
                return
        async with self._database.transaction() as conn:
            while await settled.number_new(conn):
                pass
            await settled.tidy_before(conn, await settled.cursors_in_use(conn))
            await destinations.tidy_destinations(conn, now=self._now_ms())
            await backfills.tidy_backfills(conn, now=self._now_ms())

    async def _export_all(self, destination: Destination) -> int:
        """All that one destination has not got, batch after batch; how many receipts."""
        async with self._database.connect() as conn:
            part = await settled.read_after(conn, destination.cursor)
            if part is None or not self._is_ripe(destination, part):
                return 0
        count = 0
        while (held := await self._hold(destination)) is not None:
            async with self._database.connect() as conn:
                part = await settled.read_after(conn, held.cursor)
                receipts = [] if part is None else await receipts_of(conn, part.keys)
            if part is None or not self._is_ripe(held, part):
                return count
            if not await self._export(held, part, receipts):
                return count
            count += len(receipts)
        return count

    async def _backfill(self, destination: Destination) -> int:
        """A part of what a destination is sent of the past; how many receipts."""
        count = 0
        for _ in range(_BACKFILLED):
            async with self._database.connect() as conn:
                found = await backfills.list_backfills(conn, destination.id)
            running = next((it for it in found if it.done_at is None), None)
            held = None if running is None else await self._hold(destination)
            if running is None or held is None:
                return count
            async with self._database.connect() as conn:
                portion = await backfills.read_portion(conn, running)
                receipts = await receipts_of(conn, portion.keys)
            if receipts and not await self._arrives(
                held, parcel_of_backfill(held, running, portion), receipts
            ):
                return count
            async with self._database.transaction() as conn:
                if not await destinations.advance(
                    conn, held, self._holder, cursor=held.cursor, count=len(receipts)
                ):
                    return count
                await backfills.advance_backfill(conn, running, portion, len(receipts), now=self._now_ms())
            count += len(receipts)
        return count

    async def _hold(self, destination: Destination) -> Destination | None:
        async with self._database.transaction() as conn:
            return await destinations.hold_destination(
                conn, destination.id, self._holder, lease_ms=self._lease_ms, now=self._now_ms()
            )

    async def _export(self, held: Destination, part: Slice, receipts: list[ExportedReceipt]) -> bool:
        """One batch; whether it has arrived and the cursor was moved."""
        if receipts and not await self._arrives(held, parcel_of(held, part), receipts):
            return False
        async with self._database.transaction() as conn:
            return await destinations.advance(
                conn, held, self._holder, cursor=part.cursor, count=len(receipts)
            )

    async def _arrives(self, held: Destination, parcel: Parcel, receipts: list[ExportedReceipt]) -> bool:
        """Whether the destination takes these; where it does not, that is written down."""
        try:
            await self._carriers.carry(held, parcel, receipts)
        except (NotTaken, OSError, SecretsFileError) as error:
            match error:
                case OSError():
                    text = f"the file cannot be written: {error.strerror}"
                case SecretsFileError():
                    text = f"its address cannot be opened: {error}"
                case NotTaken():
                    text = str(error)
            log.warning("an export was not taken", extra={"code": held.name, "error": text})
            async with self._database.transaction() as conn:
                await destinations.export_failed(conn, held, self._holder, text, now=self._now_ms())
            return False
        return True

    def _is_ripe(self, destination: Destination, part: Slice) -> bool:
        """Whether it is worth an object of its own: a bucket is paid by the object. Others take any number."""
        return (
            destination.kind != "s3"
            or part.full
            or self._now() - part.at / 1000 >= self._settings.export_collect
        )

    async def _tell_lag(self) -> None:
        lags: dict[str, float] = {}
        async with self._database.connect() as conn:
            for it in await destinations.list_destinations(conn):
                oldest = await settled.oldest_after(conn, it.cursor)
                lags[it.name] = 0.0 if oldest is None else max(0.0, self._now() - oldest / 1000)
        self._metrics.export_lags = lags

    def _now_ms(self) -> int:
        return int(self._now() * 1000)
