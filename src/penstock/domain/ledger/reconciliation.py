"""Reconciliation: every count and sum of a day compared with the ledger's rows behind it, and repaired.

Both are looked at in one view of the database, where they agree at any moment, also while requests run. Mending adds what
is missing rather than setting what is right, so that it may run beside the ledger's own writing.
"""

import asyncio
from typing import Any, Final

import msgspec
from sqlalchemy import Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.retention import first_day_kept
from penstock.domain.ledger.rollups import Kept, sums_of_rows
from penstock.store.sql.database import Database, upsert_adding
from penstock.store.sql.schema import requests, usage_days

Key = tuple[str | int, ...]
_ROWS_A_TURN: Final = 100
"""After so many, requests that are served have their turn: a day may have a hundred thousand of sums."""


class Difference(msgspec.Struct, frozen=True):
    """A number that is not what the rows say; there should never be one. ``of`` are the values of its row's key."""

    table: str
    of: tuple[str | int, ...]
    column: str
    kept: int
    rows: int


class RowsGone(Exception):
    """The rows of the day are not all kept any more, so there is nothing to go by."""


async def compare(conn: AsyncConnection, day: int) -> list[Difference]:
    """Every number of ``day`` (UTC day number) that is not that of the rows. ``conn`` is one consistent view.

    Raises ``RowsGone`` where rows of the day were removed for their age.
    """
    if day < await first_day_kept(conn):
        raise RowsGone
    found: list[Difference] = []
    for kept in (_counts(day), *sums_of_rows(day, day + 1)):
        have = await _numbers(conn, kept, kept.kept)
        want = await _numbers(conn, kept, kept.made)
        nothing = (0,) * len(kept.columns)
        for at, key in enumerate(sorted(have.keys() | want.keys())):
            if at % _ROWS_A_TURN == 0:
                await asyncio.sleep(0)
            pairs = zip(kept.columns, have.get(key, nothing), want.get(key, nothing), strict=True)
            found += [
                Difference(str(kept.table.name), key, column, is_, should)
                for column, is_, should in pairs
                if (is_ < should if column in kept.most else is_ != should)
            ]
    return found


async def repair(database: Database, day: int) -> list[Difference]:
    """Make the numbers of ``day`` those of the rows; gives what was different.

    Raises ``RowsGone`` as ``compare`` does, and where the day has numbers and no rows; ``DatabaseUnavailable``.
    """
    async with database.transaction() as conn:
        # In a view of its own, taken while no other repair can run.
        async with database.connect() as view:
            found = await compare(view, day)
            if found and not await view.scalar(
                select(func.count()).select_from(requests).where(requests.c.day == day)
            ):
                raise RowsGone
        tables = {kept.table.name: kept for kept in (_counts(day), *sums_of_rows(day, day + 1))}
        for difference in found:
            kept = tables[difference.table]
            row: dict[str, str | int] = dict(zip(kept.key, difference.of, strict=True))
            row |= dict.fromkeys(kept.columns, 0) | {difference.column: difference.rows - difference.kept}
            await conn.execute(upsert_adding(conn, kept.table, kept.key, kept.columns), row)
    return found


def _counts(day: int) -> Kept:
    counted = func.sum(case((entries.c.counted, 1), else_=0))
    refunded = func.sum(case((entries.c.counted, 0), else_=1))
    of_user = (entries.c.user_id, entries.c.day)
    return Kept(
        usage_days,
        ("user_id", "day"),
        ("used", "refunded"),
        usage_days.c.day == day,
        select(*of_user, counted, refunded)
        .where(entries.c.day == day, entries.c.state != "refused")
        .group_by(*of_user),
    )


async def _numbers(
    conn: AsyncConnection, kept: Kept, statement: Select[*tuple[Any, ...]]
) -> dict[Key, tuple[int, ...]]:
    width = len(kept.key)
    found: dict[Key, tuple[int, ...]] = {}
    # once a day: kept ready, they would be 3 MB of every server
    rows = await conn.execute(statement, execution_options={"compiled_cache": None})
    for at, row in enumerate(rows):
        if at % _ROWS_A_TURN == 0:
            await asyncio.sleep(0)
        values = tuple(row)
        found[values[:width]] = tuple(int(value) for value in values[width:])
    return found
