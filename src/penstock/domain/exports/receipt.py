"""The record that is exported of a settled request: ids, words of the catalogue and numbers; never a prompt or an answer."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.rows import SettledKey
from penstock.store.request_key import id_of
from penstock.store.sql.schema import SPECIAL

RECEIPT_VERSION: Final = 1
"""Raised when a field changes its meaning or goes; new fields may come without that."""


class ExportedReceipt(msgspec.Struct, frozen=True):
    """A settled request. The same ``id`` may come again: a later record takes the place of an earlier one.

    Times are epoch milliseconds; null is unknown, which is not zero. ``cost`` and ``charge`` are nano-units.
    """

    version: int
    id: str
    account: str
    actor: str | None
    key: str
    created_at: int
    first_byte_ms: int | None
    total_ms: int | None
    dialect: str
    model: str
    requested_model: str
    answered_model: str | None
    stream: bool
    client: str
    provider: str
    credential: str | None
    upstream_model: str
    upstream_dialect: str
    upstream_request_id: str | None
    reason: str | None
    attempts: int
    status: int | None
    outcome: str | None
    counted: bool
    refund_reason: str | None
    error_code: str | None
    estimated: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    service_tier: str | None
    cost: int | None
    charge: int | None
    special: dict[str, int]
    """Classes that few answers are billed by, where there are any."""


_CALLED: Final = {"account": "user_id", "actor": "actor_id", "key": "key_id"}
_PLAIN: Final = tuple(
    name for name in ExportedReceipt.__struct_fields__ if name not in {"version", "special", "id"}
)
_COLUMNS = tuple(entries.c[_CALLED.get(name, name)] for name in _PLAIN)


async def receipts_of(conn: AsyncConnection, keys: Sequence[SettledKey]) -> list[ExportedReceipt]:
    """The receipts of these requests, in their order. One that is gone, or open again, is left out."""
    by_day: dict[int, list[str]] = {}
    for day, key in keys:
        by_day.setdefault(day, []).append(id_of(key))
    if not by_day:
        return []
    these = or_(*(and_(entries.c.day == day, entries.c.id.in_(ids)) for day, ids in by_day.items()))
    special = tuple(entries.c[name] for name in SPECIAL)
    rows = await conn.execute(
        select(entries.c.id, *_COLUMNS, *special).where(these, entries.c.state == "settled")
    )
    found: dict[str, ExportedReceipt] = {}
    for row in rows:
        id, plain, counts = row[0], row[1 : 1 + len(_COLUMNS)], row[1 + len(_COLUMNS) :]
        classes = {name: count for name, count in zip(SPECIAL, counts, strict=True) if count is not None}
        fields = dict(zip(_PLAIN, plain, strict=True))
        found[id] = ExportedReceipt(version=RECEIPT_VERSION, id=id, special=classes, **fields)
    ids = dict.fromkeys(id_of(key) for _, key in keys)
    return [found[id] for id in ids if id in found]
