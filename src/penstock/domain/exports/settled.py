"""Which requests were settled, in the order in which that was committed: what destinations of exports read behind a cursor.

Whoever settles requests writes down which, in the same transaction (``domain/ledger/rows.py``). What is committed is numbered
afterwards, under a lock, so a number never appears below one that was read, whichever server commits late; and a request that
is settled days after it came, as one of a server that died is, is at the end like any other. Every function takes a connection
inside a transaction.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.rows import SettledKey, settled_keys
from penstock.store.sql.database import upsert
from penstock.store.sql.schema import destinations, jobs, settled_batches

BATCH: Final = 500
"""Receipts in one delivery, at most."""
_NUMBERED_AT_ONCE: Final = 500
_LOCK: Final = "numbering"


class Slice(msgspec.Struct, frozen=True):
    """What comes after a cursor: the requests, and the cursor behind them. ``first`` is the number of its first batch, and
    ``at`` when that was settled, in epoch milliseconds. ``full``: no further batch fits."""

    keys: tuple[SettledKey, ...]
    first: int
    cursor: int
    at: int
    full: bool


async def any_new(conn: AsyncConnection) -> bool:
    """Whether something was committed that has no number."""
    new = select(settled_batches.c.id).where(settled_batches.c.seq.is_(None)).limit(1)
    return await conn.scalar(new) is not None


async def number_new(conn: AsyncConnection) -> int:
    """Number what was committed since; how many batches."""
    columns = settled_batches.c
    if not await any_new(conn):
        return 0
    new = select(columns.id).where(columns.seq.is_(None))
    await conn.execute(
        upsert(conn, jobs, ["name"], []), {"name": _LOCK, "holder": "", "held_until": 0, "done_at": 0}
    )
    # A lock until the end of the transaction: the row is nobody's otherwise.
    await conn.execute(update(jobs).where(jobs.c.name == _LOCK).values(held_until=0))
    number = await last_number(conn)
    ids = list(await conn.scalars(new.order_by(columns.at, columns.id).limit(_NUMBERED_AT_ONCE)))
    for id in ids:
        number += 1
        await conn.execute(update(settled_batches).where(columns.id == id).values(seq=number))
    await conn.execute(update(jobs).where(jobs.c.name == _LOCK).values(done_at=number))
    return len(ids)


async def last_number(conn: AsyncConnection) -> int:
    """The highest number that was ever given."""
    return await conn.scalar(select(jobs.c.done_at).where(jobs.c.name == _LOCK)) or 0


async def read_after(conn: AsyncConnection, cursor: int) -> Slice | None:
    """The next requests after a cursor, at most ``BATCH``; None where there are none."""
    columns = settled_batches.c
    rows = await conn.execute(
        select(columns.seq, columns.at, columns.members)
        .where(columns.seq > cursor)
        .order_by(columns.seq)
        .limit(BATCH)
    )
    found: list[SettledKey] = []
    first = last = began = 0
    full = False
    for seq, at, packed in rows:
        keys = settled_keys(packed)
        full = len(found) + len(keys) >= BATCH
        if found and len(found) + len(keys) > BATCH:
            break
        found += keys
        first, last, began = first or seq, seq, began or at
    return Slice(tuple(found), first, last, began, full) if found else None


async def oldest_after(conn: AsyncConnection, cursor: int) -> int | None:
    """When the oldest of what a destination has not got was settled, in epoch milliseconds; None where it has all."""
    columns = settled_batches.c
    behind = (columns.seq > cursor) | columns.seq.is_(None)
    return await conn.scalar(select(func.min(columns.at)).where(behind))


async def tidy_before(conn: AsyncConnection, cursors: Sequence[int]) -> int:
    """Delete what every destination has got; how many batches."""
    columns = settled_batches.c
    over = columns.seq <= min(cursors) if cursors else columns.seq.is_not(None)
    return (await conn.execute(delete(settled_batches).where(over))).rowcount


async def cursors_in_use(conn: AsyncConnection) -> list[int]:
    """Those of every destination."""
    return list(await conn.scalars(select(destinations.c.cursor).where(destinations.c.removed_at.is_(None))))
