"""Carriers: how receipts are taken to a destination, each by its kind, and known there to be the same when they come again."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from penstock import __version__
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.exports import destinations
from penstock.domain.exports.backfills import Backfill, Portion
from penstock.domain.exports.destinations import Destination
from penstock.domain.exports.receipt import RECEIPT_VERSION, ExportedReceipt
from penstock.domain.exports.settled import Slice
from penstock.domain.exports.shapes import LINE_SHAPES
from penstock.operations.export_files import FOLDER, append_lines
from penstock.operations.export_objects import put_object
from penstock.operations.export_spans import post_spans
from penstock.operations.notifier import outward_of
from penstock.operations.signed_post import post_signed
from penstock.settings import Settings
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database

_AGENT: Final = f"Penstock/{__version__}"
_encode = msgspec.json.Encoder().encode


class ReceiptsSent(msgspec.Struct, frozen=True):
    """The body that a webhook gets."""

    type: str
    version: int
    service: str
    data: list[ExportedReceipt]


class Parcel(msgspec.Struct, frozen=True):
    """What names a delivery: the same requests have the same names, whenever they are sent. ``path`` has no ending."""

    id: str
    path: str


def parcel_of(held: Destination, part: Slice) -> Parcel:
    """Of what was settled: ``2027/01/15/dst_x-000000000001-000000000009``."""
    day = datetime.fromtimestamp(part.at / 1000, UTC).strftime("%Y/%m/%d")
    path = f"{day}/{held.id}-{part.first:012d}-{part.cursor:012d}"
    return Parcel(f"{held.id}_{part.first}_{part.cursor}", path)


def parcel_of_backfill(held: Destination, backfill: Backfill, portion: Portion) -> Parcel:
    """Of the past: ``2027/01/15/dst_x-bfl_y-req_z``, by the day on which the requests came, and the first of them."""
    day = datetime.fromtimestamp(portion.keys[0][0] * 86_400, UTC).strftime("%Y/%m/%d")
    first, last = portion.ids[0], portion.ids[-1]
    return Parcel(f"{backfill.id}_{first}_{last}", f"{day}/{held.id}-{backfill.id}-{first}")


class Carriers:
    """One per process."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        settings: Settings,
        catalog: Callable[[], Catalog],
        *,
        now: Callable[[], float],
    ) -> None:
        """``now`` gives epoch seconds."""
        self._database = database
        self._secrets_file = secrets_file
        self._settings = settings
        self._catalog = catalog
        self._now = now
        self._where = msgspec.structs.replace(outward_of(settings), seconds=settings.export_seconds)

    async def carry(self, held: Destination, parcel: Parcel, receipts: Sequence[ExportedReceipt]) -> None:
        """Take these there. Raises ``NotTaken``, ``OSError``, ``SecretsFileError``."""
        match held.kind:
            case "file":
                await self._append(held, receipts)
            case "s3":
                await self._put(held, parcel, receipts)
            case "otlp":
                await self._spans(held, receipts)
            case _:
                await self._post(held, parcel, receipts)

    async def _append(self, held: Destination, receipts: Sequence[ExportedReceipt]) -> None:
        shape = LINE_SHAPES[held.shape]
        folder = self._settings.data / FOLDER / held.name
        await asyncio.to_thread(
            append_lines,
            folder,
            shape.lines(receipts),
            now=self._now(),
            most=self._settings.export_file_bytes,
            ending=shape.ending,
            head=shape.head,
        )

    async def _put(self, held: Destination, parcel: Parcel, receipts: Sequence[ExportedReceipt]) -> None:
        shape = LINE_SHAPES[held.shape]
        async with self._database.connect() as conn:
            bucket = await destinations.bucket_of_destination(conn, self._secrets_file, held.id)
        await put_object(
            bucket,
            f"{parcel.path}.{shape.ending}",
            shape.head + shape.lines(receipts),
            self._where,
            kind=shape.kind,
            now=self._now(),
            user_agent=_AGENT,
        )

    async def _spans(self, held: Destination, receipts: Sequence[ExportedReceipt]) -> None:
        async with self._database.connect() as conn:
            endpoint = await destinations.endpoint_of_destination(conn, self._secrets_file, held.id)
        await post_spans(
            endpoint,
            receipts,
            self._where,
            kind_of=self._kind_of,
            service=self._settings.brand,
            older_names=self._settings.otel_names == "both",
            user_agent=_AGENT,
        )

    def _kind_of(self, provider: str) -> str:
        """Which vendor a provider of the catalogue is."""
        upstream = self._catalog().upstreams.get(provider)
        return provider if upstream is None else upstream.kind

    async def _post(self, held: Destination, parcel: Parcel, receipts: Sequence[ExportedReceipt]) -> None:
        async with self._database.connect() as conn:
            address = await destinations.address_of_destination(conn, self._secrets_file, held.id)
        body = _encode(ReceiptsSent("receipts", RECEIPT_VERSION, self._settings.brand, list(receipts)))
        await post_signed(address, parcel.id, body, self._where, at=int(self._now()), user_agent=_AGENT)
