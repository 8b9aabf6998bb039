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

import msgspec

from penstock import __version__
from penstock.domain.exports import destinations, settled
from penstock.domain.exports.destinations import Destination
from penstock.domain.exports.receipt import RECEIPT_VERSION, ExportedReceipt, receipts_of
from penstock.domain.exports.settled import Slice
from penstock.errors import DatabaseUnavailable
from penstock.operations.background import running_beside
from penstock.operations.export_files import FOLDER, append_lines
from penstock.operations.export_objects import name_of_object, put_object
from penstock.operations.metrics import Metrics
from penstock.operations.notifier import outward_of
from penstock.operations.signed_post import NotTaken, post_signed
from penstock.settings import Settings
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.exporter")

_AGENT: Final = f"Penstock/{__version__}"
_SPARE_MS: Final = 5_000
"""How much longer a destination is held than it may take for a batch."""
_LAST_WORD: Final = 5.0
_TIDY_ROUNDS: Final = 30
_encode = msgspec.json.Encoder().encode


class ReceiptsSent(msgspec.Struct, frozen=True):
    """The body that a webhook gets."""

    type: str
    version: int
    service: str
    data: list[ExportedReceipt]


class Exporter:
    """One per process."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        settings: Settings,
        metrics: Metrics,
        *,
        now: Callable[[], float],
    ) -> None:
        """``now`` gives epoch seconds."""
        self._database = database
        self._secrets_file = secrets_file
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._holder = secrets.token_hex(16)
        self._where = msgspec.structs.replace(outward_of(settings), seconds=settings.export_seconds)
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
        except SecretsFileError as error:
            log.error("the address of an export cannot be read: %s", error)  # noqa: TRY400 - the text says it all
        except Exception:
            log.exception("a round of exports failed")

    async def round(self) -> int:
        """Export what is due; how many receipts have arrived. Raises ``DatabaseUnavailable``, ``SecretsFileError``."""
        async with self._turn:
            async with self._database.connect() as conn:
                found = await destinations.list_destinations(conn)
            await self._number_and_tidy(found)
            count = sum(await asyncio.gather(*(self._export_all(it) for it in found)))
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

    async def _export_all(self, destination: Destination) -> int:
        """All that one destination has not got, batch after batch; how many receipts."""
        async with self._database.connect() as conn:
            part = await settled.read_after(conn, destination.cursor)
            if part is None or not self._is_ripe(destination, part):
                return 0
        count = 0
        while True:
            async with self._database.transaction() as conn:
                held = await destinations.hold_destination(
                    conn, destination.id, self._holder, lease_ms=self._lease_ms, now=self._now_ms()
                )
            if held is None:
                return count
            async with self._database.connect() as conn:
                part = await settled.read_after(conn, held.cursor)
                receipts = [] if part is None else await receipts_of(conn, part.keys)
            if part is None or not self._is_ripe(held, part):
                return count
            if not await self._export(held, part, receipts):
                return count
            count += len(receipts)

    async def _export(self, held: Destination, part: Slice, receipts: list[ExportedReceipt]) -> bool:
        """One batch; whether it has arrived and the cursor was moved."""
        try:
            if receipts:
                await self._carry(held, part, receipts)
        except (NotTaken, OSError) as error:
            text = (
                str(error) if isinstance(error, NotTaken) else f"the file cannot be written: {error.strerror}"
            )
            log.warning("an export was not taken", extra={"code": held.name, "error": text})
            async with self._database.transaction() as conn:
                await destinations.export_failed(conn, held, self._holder, text, now=self._now_ms())
            return False
        async with self._database.transaction() as conn:
            return await destinations.advance(
                conn, held, self._holder, cursor=part.cursor, count=len(receipts)
            )

    def _is_ripe(self, destination: Destination, part: Slice) -> bool:
        """Whether it is worth an object of its own: a bucket is paid by the object. Others take any number."""
        return (
            destination.kind != "s3"
            or part.full
            or self._now() - part.at / 1000 >= self._settings.export_collect
        )

    async def _carry(self, held: Destination, part: Slice, receipts: list[ExportedReceipt]) -> None:
        """Raises ``NotTaken``, ``OSError``, ``SecretsFileError``."""
        if held.kind == "file":
            lines = b"".join(_encode(each) + b"\n" for each in receipts)
            folder = self._settings.data / FOLDER / held.name
            most = self._settings.export_file_bytes
            await asyncio.to_thread(append_lines, folder, lines, now=self._now(), most=most)
            return
        if held.kind == "s3":
            async with self._database.connect() as conn:
                bucket = await destinations.bucket_of_destination(conn, self._secrets_file, held.id)
            name = name_of_object(held, part)
            lines = [_encode(each) + b"\n" for each in receipts]
            await put_object(bucket, name, lines, self._where, now=self._now(), user_agent=_AGENT)
            return
        async with self._database.connect() as conn:
            address = await destinations.address_of_destination(conn, self._secrets_file, held.id)
        body = _encode(ReceiptsSent("receipts", RECEIPT_VERSION, self._settings.brand, receipts))
        id = f"{held.id}_{part.first}_{part.cursor}"
        await post_signed(address, id, body, self._where, at=int(self._now()), user_agent=_AGENT)

    async def _tell_lag(self) -> None:
        lags: dict[str, float] = {}
        async with self._database.connect() as conn:
            for it in await destinations.list_destinations(conn):
                oldest = await settled.oldest_after(conn, it.cursor)
                lags[it.name] = 0.0 if oldest is None else max(0.0, self._now() - oldest / 1000)
        self._metrics.export_lags = lags

    def _now_ms(self) -> int:
        return int(self._now() * 1000)
