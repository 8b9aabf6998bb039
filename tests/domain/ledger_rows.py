"""Rows and ends of requests as the relay writes them, for tests of the ledger and the limits."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.neutral.usage import Usage
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.kinds import Kind, KnownKind
from penstock.domain.ledger.ledger import Ledger, OpenRow, Settlement
from penstock.domain.ledger.reconciliation import compare
from penstock.domain.ledger.retention import first_day_kept
from penstock.domain.ledger.rollups import HOUR_MS, sums_of_rows
from penstock.store.sql.database import Database
from penstock.store.sql.schema import (
    kinds,
    model_days,
    requests,
    usage_days,
    usage_errors,
    usage_hours,
    usage_kinds,
    usage_special,
)

DAY = 20_000


def url(directory: Path) -> str:
    return f"sqlite:///{directory}/penstock.db"


def row(id: str, user: str = "usr_a", day: int = DAY) -> OpenRow:
    return OpenRow(
        id=id,
        user_id=user,
        key_id="key_a",
        day=day,
        created_at=day * 86_400_000,
        dialect="chat",
        model="m",
        requested_model="m",
        stream=False,
        client="curl",
        provider="p",
        upstream_model="um",
        upstream_dialect="chat",
    )


def end(
    id: str, *, refund: str | None = None, outcome: str = "completed", status: int | None = 200
) -> Settlement:
    return Settlement(
        id=id,
        status=status,
        outcome=outcome,
        counted=refund is None,
        refund_reason=refund,
        error_code=None,
        usage=Usage(input=3, output=4),
        estimated=False,
        provider="p",
        upstream_model="um",
        upstream_dialect="chat",
        attempts=1,
        first_byte_ms=1,
        total_ms=2,
        translation=None,
    )


async def used(database: Database, user: str = "usr_a", day: int = DAY) -> tuple[int, int]:
    """What counts of a day, and what was refunded."""
    async with database.connect() as conn:
        found = await conn.execute(
            select(usage_days.c.used, usage_days.c.refunded).where(
                usage_days.c.user_id == user, usage_days.c.day == day
            )
        )
        return tuple(found.one_or_none() or (0, 0))


async def states(database: Database) -> dict[str, tuple[str, str | None, bool]]:
    """State, outcome and whether it counts, by request."""
    async with database.connect() as conn:
        found = await conn.execute(
            select(entries.c.id, entries.c.state, entries.c.outcome, entries.c.counted)
        )
        return {id: (state, outcome, counted) for id, state, outcome, counted in found}


async def agree(database: Database, *days: int) -> None:
    """The counts of these days are those of the rows, and so are the sums of all days, whenever they are looked at."""
    async with database.connect() as conn:
        for day in days or (DAY,):
            assert await compare(conn, day) == []
    async with database.transaction() as conn:
        kept = await sums_of(conn)
        await rebuild(conn, await first_day_kept(conn) * 24 * HOUR_MS)
        made = await sums_of(conn)
        await conn.rollback()
    assert kept == made


async def taken_for_dead(conn: AsyncConnection) -> None:
    """Close every open row, as another server does that takes ours for dead."""
    found = await conn.execute(
        select(kinds).join(requests, requests.c.kind == kinds.c.id).where(requests.c.boot.is_not(None))
    )
    for kind in found.mappings().all():
        words = {name: kind[name] for name in Kind.__struct_fields__ if name != "requested_model"}
        known = KnownKind(Kind(**words, requested_model=kind["model"]))
        died = known.ended(
            msgspec.structs.replace(
                end("any", outcome="aborted", status=None),
                error_code="server_died",
                estimated=True,
                provider=kind["provider"],
                upstream_model=kind["upstream_model"],
                upstream_dialect=kind["upstream_dialect"],
                attempts=0,
            )
        )
        await conn.execute(insert(kinds).values(msgspec.structs.asdict(died)))
        mine = update(requests).where(requests.c.kind == kind["id"])
        await conn.execute(mine.values(kind=died.id, boot=None))


async def rebuild(conn: AsyncConnection, since: int) -> None:
    """Make all sums from ``since`` (epoch milliseconds; the whole day that it is in) on anew, from the rows."""
    for sums in sums_of_rows(since // HOUR_MS // 24, None):
        await conn.execute(delete(sums.table).where(sums.part))
        await conn.execute(insert(sums.table).from_select([*sums.key, *sums.columns], sums.made))


async def sums_of(conn: AsyncConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that pages read instead of the rows."""
    found = {}
    for table in (usage_hours, usage_kinds, usage_special, usage_errors, model_days):
        rows = await conn.execute(select(table).order_by(*table.primary_key.columns))
        key = len(table.primary_key.columns)
        # What was taken back leaves a row of zeros.
        found[table.name] = [tuple(row) for row in rows if any(row[key:])]
    return found


async def open_ledger(database: Database, boot: str) -> Ledger:
    """A ledger that holds no row back."""
    return await Ledger.start(database, boot=boot, hold=0)


async def until(holds: Callable[[], bool]) -> None:
    """Give the loop and the writing thread turns until it holds; pytest's time limit is the end of patience."""
    while not holds():  # noqa: ASYNC110 - what it waits for happens in a thread that tells nobody
        await asyncio.sleep(0.005)


async def written(ledger: Ledger) -> None:
    """The database has all that was recorded."""
    await until(lambda: ledger.owed == 0)
