"""Recovery: writes what may have been written already, after a batch that failed half-way or a process that died.

The database is asked first which rows it has. What is there is not written or counted again, and only an open row is
settled. One exception: a row that another process closed because it took its owner for dead gets its true end. What is of
a day whose rows are not kept any more is left out: the database could not tell whether it had it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, RowMapping, and_, or_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from penstock.core.neutral.usage import Usage
from penstock.domain.ledger.entries import entries, of_some_day
from penstock.domain.ledger.kinds import End, Kind, KnownKind, Settlement
from penstock.domain.ledger.records import Found, read
from penstock.domain.ledger.retention import first_day_kept
from penstock.domain.ledger.rollups import rolling
from penstock.domain.ledger.rows import Batch, Row, booking
from penstock.errors import DatabaseUnavailable
from penstock.store.journal import Left, left_behind
from penstock.store.request_key import key_of
from penstock.store.sql.database import UNAVAILABLE, Database, RowRefused, StoreError
from penstock.store.sql.schema import requests

log = logging.getLogger("penstock.domain.ledger")

SERVER_DIED = "server_died"

Ends = Mapping[str, tuple[int | None, End]]
"""The end of each request, with the day of its row where that is known."""

_STATEMENT = "42"
"""The class of SQLSTATEs that speak of tables and rights: no row is to blame, and none must be given up."""
_CHUNK = 500
"""Ids in one look-up, far below what a statement may have of parameters."""


async def absorb(database: Database, rows: Mapping[str, Row], ends: Ends, boot: str) -> None:
    """Write those rows that the database has not, and those ends whose rows are open, in one transaction.

    Raises ``RowRefused`` when one of them cannot be stored, and then none is; ``DatabaseUnavailable``.
    """
    days = {id: day for id, (day, _) in ends.items()} | {row.id: row.day for row in rows.values()}
    try:
        async with database.transaction() as conn:
            there, dead = await _look_up(conn, days)
            missing = [row for row in rows.values() if row.id not in there and row.id not in dead]
            missing = await _of_kept_days(conn, missing)
            reopened = {id: dead[id] for id in ends if id in dead}
            if reopened:
                await conn.execute(
                    update(requests)
                    .where(
                        requests.c.id.in_(list(reopened)),
                        requests.c.day.in_({row.day for row in reopened.values()}),
                    )
                    .values(boot=boot)
                )
            open_rows = {id: row for id, row in there.items() if row is not None} | reopened
            batch = Batch(
                [row for row in missing if row.id not in ends],
                [(row, ends[row.id][1]) for row in missing if row.id in ends],
                [(open_rows[id], end) for id, (_, end) in ends.items() if id in open_rows],
            )
            taken_back = [(row, _aborted(row)) for row in reopened.values()]
            await database.execute(conn, rolling(taken_back, sign=-1))
            await _write(database, conn, batch, boot)
    except DBAPIError as error:
        if str(getattr(error.orig, "sqlstate", None) or "").startswith(_STATEMENT):
            raise DatabaseUnavailable(UNAVAILABLE, retry_after=5) from error
        raise RowRefused(str(error.orig)) from error


async def absorb_one_by_one(database: Database, rows: Mapping[str, Row], ends: Ends, boot: str) -> None:
    """After one row was refused: only that one is, not those it shared a batch with. Raises ``DatabaseUnavailable``."""
    for id in rows.keys() | ends.keys():
        one = {id: rows[id]} if id in rows else {}
        try:
            await absorb(database, one, {id: ends[id]} if id in ends else {}, boot)
        except RowRefused:
            log.exception("request %s cannot be stored", id)


async def replay(database: Database, directory: Path) -> None:
    """Write what is in the journals of dead processes, and remove these. Raises ``StoreError``, ``DatabaseUnavailable``."""
    for left in left_behind(directory):
        found = _read(left)
        try:
            await absorb(database, found.rows, found.ends, left.owner)
        except RowRefused:
            await absorb_one_by_one(database, found.rows, found.ends, left.owner)
        left.forget()


def check_journals(directory: Path) -> None:
    """Raise ``StoreError`` where a dead process has left a journal that this program cannot read.

    To be asked before the database is changed: afterwards the program that can read it does not open the database any more.
    """
    for left in left_behind(directory):
        try:
            _read(left)
        finally:
            left.release()


def _read(left: Left) -> Found:
    try:
        return read(left.records)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(
            f"{left.files[0]} was written by another version of the program, and has {len(left.records)} records for the "
            "ledger: start that version once and stop it in the ordinary way, so that it writes them; without them, move "
            f"{left.files[0].stem}.* away"
        ) from error


async def close_dead_rows(database: Database, boot: str) -> int:
    """Close as ``aborted`` what processes that are no more left open; how many rows. ``boot`` is ours, and new."""
    async with database.transaction() as conn:
        owners = await conn.scalars(select(requests.c.boot).where(requests.c.boot.is_not(None)).distinct())
        dead = await database.gone(conn, [owner for owner in owners if owner is not None])
        if not dead:
            return 0
        found = await conn.execute(select(entries).where(entries.c.boot.in_(dead)))
        rows = [row for row, _ in _rows(found.mappings())]
        await _write(database, conn, Batch((), (), [(row, _aborted(row)) for row in rows]), boot)
    return len(rows)


async def _of_kept_days(conn: AsyncConnection, rows: list[Row]) -> list[Row]:
    first = await first_day_kept(conn) if rows else 0
    kept = [row for row in rows if row.day >= first]
    if len(kept) < len(rows):
        log.warning("%d requests are of days that are not kept any more", len(rows) - len(kept))
    return kept


async def _look_up(
    conn: AsyncConnection, days: Mapping[str, int | None]
) -> tuple[dict[str, Row | None], dict[str, Row]]:
    """Which of these requests are there, with their rows where they are open; and those that were taken for dead.

    ``days`` has the day of each one's row, where it is known.
    """
    there: dict[str, Row | None] = {}
    dead: dict[str, Row] = {}
    ids = sorted(days, key=lambda id: (days[id] is None, days[id] or 0))
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        if conn.dialect.name == "postgresql":
            # Locked: it may still be at work on the commit of a process that was killed a moment ago.
            await conn.execute(select(requests.c.id).where(_these(part, days, requests.c)).with_for_update())
        found = await conn.execute(select(entries).where(_these(part, days, entries.c)))
        for row, values in _rows(found.mappings()):
            if values["state"] == "settled" and values["error_code"] == SERVER_DIED:
                dead[row.id] = row
            else:
                there[row.id] = row if values["boot"] is not None else None
    return there, dead


def _these(
    ids: Sequence[str],
    days: Mapping[str, int | None],
    columns: ReadOnlyColumnCollection[str, Any],
) -> ColumnElement[bool]:
    by_day: dict[int | None, list[str]] = {}
    for id in ids:
        by_day.setdefault(days[id], []).append(id)
    return or_(
        *(
            and_(of_some_day(columns.day) if day is None else columns.day == day, columns.id.in_(some))
            for day, some in by_day.items()
        )
    )


def _rows(found: Iterable[RowMapping]) -> Iterator[tuple[Row, RowMapping]]:
    """What was recorded of each request, beside all that the database has of it."""
    known: dict[Kind, KnownKind] = {}
    for values in found:
        kind = Kind(*(values[name] for name in Kind.__struct_fields__))
        same = known.get(kind) or known.setdefault(kind, KnownKind(kind))
        yield (
            Row(
                values["id"],
                same,
                values["user_id"],
                values["key_id"],
                values["day"],
                values["created_at"],
                key_of(values["id"]),
            ),
            values,
        )


async def _write(database: Database, conn: AsyncConnection, batch: Batch, boot: str) -> None:
    await database.execute(conn, chain(booking(batch, boot), rolling(batch.ended())))


def _aborted(row: Row) -> Settlement:
    return Settlement(
        id=row.id,
        status=None,
        outcome="aborted",
        counted=True,
        refund_reason=None,
        error_code=SERVER_DIED,
        usage=Usage(),
        estimated=True,
        provider=row.kind.kind.provider,
        upstream_model=row.kind.kind.upstream_model,
        upstream_dialect=row.kind.kind.upstream_dialect,
        attempts=0,
        first_byte_ms=None,
        total_ms=None,
        translation=None,
        credential=row.kind.kind.credential,
        reason=row.kind.kind.reason,
    )
