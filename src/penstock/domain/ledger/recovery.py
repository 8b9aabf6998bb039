"""Recovery: writes what may have been written already, after a batch that failed half-way or a process that died.

The database is asked first which rows it has. What is there is not written or counted again, and only an open row is
settled. One exception: a row that another process closed because it took its owner for dead gets its true end. What is of
a day whose rows are not kept any more is left out: the database could not tell whether it had it.
"""

import logging
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import msgspec
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.neutral.usage import Usage
from penstock.domain.ledger.retention import first_day_kept
from penstock.domain.ledger.rollups import rolling
from penstock.domain.ledger.rows import Batch, OpenRow, Settlement, booking, first_of_each
from penstock.store.journal import Left, left_behind
from penstock.store.sql.database import Database, RowRefused, StoreError
from penstock.store.sql.schema import requests

log = logging.getLogger("penstock.domain.ledger")

SERVER_DIED = "server_died"

_CHUNK = 500
"""Ids in one look-up, far below what a statement may have of parameters."""
_COLUMNS = [requests.c[name] for name in OpenRow.__struct_fields__]
_decode = msgspec.msgpack.Decoder(OpenRow | Settlement).decode


async def absorb(database: Database, new: Sequence[OpenRow], ends: Sequence[Settlement], boot: str) -> None:
    """Write those rows that the database has not, and those ends whose rows are open, in one transaction.

    Raises ``RowRefused`` when one of them cannot be stored, and then none is; ``DatabaseUnavailable``.
    """
    rows = {row.id: row for row in new}
    try:
        async with database.transaction() as conn:
            there, dead = await _look_up(conn, list(rows.keys() | {end.id for end in ends}))
            missing = [row for row in rows.values() if row.id not in there and row.id not in dead]
            missing = await _of_kept_days(conn, missing)
            reopened = {end.id: dead[end.id] for end in ends if end.id in dead}
            if reopened:
                await conn.execute(
                    update(requests)
                    .where(
                        requests.c.id.in_(list(reopened)),
                        requests.c.day.in_({row.day for row in reopened.values()}),
                    )
                    .values(state="open", outcome=None, error_code=None, estimated=False)
                )
            open_rows = {id: row for id, row in there.items() if row is not None} | reopened
            writable = open_rows.keys() | {row.id for row in missing}
            batch = Batch(missing, [end for end in first_of_each(ends) if end.id in writable], open_rows)
            taken_back = [(row, _aborted(row)) for row in reopened.values()]
            await database.execute(conn, rolling(taken_back, sign=-1))
            await _write(database, conn, batch, boot)
    except DBAPIError as error:
        raise RowRefused(str(error.orig)) from error


async def absorb_one_by_one(
    database: Database, new: Sequence[OpenRow], ends: Sequence[Settlement], boot: str
) -> None:
    """After one row was refused: only that one is, not those it shared a batch with. Raises ``DatabaseUnavailable``."""
    for row in new:
        await _absorb_or_tell(database, [row], [], boot, row.id)
    for end in ends:
        await _absorb_or_tell(database, [], [end], boot, end.id)


async def replay(database: Database, directory: Path) -> None:
    """Write what is in the journals of dead processes, and remove these. Raises ``StoreError``, ``DatabaseUnavailable``."""
    for left in left_behind(directory):
        records = _decoded(left)
        new = [record for record in records if isinstance(record, OpenRow)]
        ends = [record for record in records if isinstance(record, Settlement)]
        try:
            await absorb(database, new, ends, left.owner)
        except RowRefused:
            await absorb_one_by_one(database, new, ends, left.owner)
        left.forget()


def check_journals(directory: Path) -> None:
    """Raise ``StoreError`` where a dead process has left a journal that this program cannot read.

    To be asked before the database is changed: afterwards the program that can read it does not open the database any more.
    """
    for left in left_behind(directory):
        try:
            _decoded(left)
        finally:
            left.release()


def _decoded(left: Left) -> list[OpenRow | Settlement]:
    try:
        return [_decode(record) for record in left.records]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(
            f"{left.files[0]} was written by another version of the program, and has {len(left.records)} records for the "
            "ledger: start that version once and stop it in the ordinary way, so that it writes them; without them, move "
            f"{left.files[0].stem}.* away"
        ) from error


async def close_dead_rows(database: Database, boot: str) -> int:
    """Close as ``aborted`` what processes that are no more left open; how many rows. ``boot`` is ours, and new."""
    async with database.transaction() as conn:
        owners = await conn.scalars(select(requests.c.boot).where(requests.c.state == "open").distinct())
        dead = await database.gone(conn, list(owners))
        if not dead:
            return 0
        found = await conn.execute(
            select(*_COLUMNS).where(requests.c.state == "open", requests.c.boot.in_(dead))
        )
        rows = {row.id: OpenRow(*row) for row in found}
        await _write(database, conn, Batch((), [_aborted(row) for row in rows.values()], rows), boot)
    return len(rows)


async def _absorb_or_tell(
    database: Database, new: Sequence[OpenRow], ends: Sequence[Settlement], boot: str, id: str
) -> None:
    try:
        await absorb(database, new, ends, boot)
    except RowRefused:
        log.exception("request %s cannot be stored", id)


async def _of_kept_days(conn: AsyncConnection, rows: list[OpenRow]) -> list[OpenRow]:
    first = await first_day_kept(conn) if rows else 0
    kept = [row for row in rows if row.day >= first]
    if len(kept) < len(rows):
        log.warning("%d requests are of days that are not kept any more", len(rows) - len(kept))
    return kept


async def _look_up(
    conn: AsyncConnection, ids: Sequence[str]
) -> tuple[dict[str, OpenRow | None], dict[str, OpenRow]]:
    """Which of these requests are there, with their rows where they are open; and those that were taken for dead."""
    there: dict[str, OpenRow | None] = {}
    dead: dict[str, OpenRow] = {}
    for start in range(0, len(ids), _CHUNK):
        # Locked: PostgreSQL may still be at work on the commit of a process that was killed a moment ago.
        found = await conn.execute(
            select(*_COLUMNS, requests.c.state, requests.c.error_code)
            .where(requests.c.id.in_(ids[start : start + _CHUNK]))
            .with_for_update()
        )
        for values in found:
            row = OpenRow(*values[: len(_COLUMNS)])
            is_open = values.state == "open"
            if not is_open and values.error_code == SERVER_DIED:
                dead[row.id] = row
            else:
                there[row.id] = row if is_open else None
    return there, dead


async def _write(database: Database, conn: AsyncConnection, batch: Batch, boot: str) -> None:
    await database.execute(conn, chain(booking(batch, boot), rolling(batch.ended())))


def _aborted(row: OpenRow) -> Settlement:
    return Settlement(
        id=row.id,
        status=None,
        outcome="aborted",
        counted=True,
        refund_reason=None,
        error_code=SERVER_DIED,
        usage=Usage(),
        estimated=True,
        provider=row.provider,
        upstream_model=row.upstream_model,
        upstream_dialect=row.upstream_dialect,
        attempts=0,
        first_byte_ms=None,
        total_ms=None,
        translation=None,
    )
