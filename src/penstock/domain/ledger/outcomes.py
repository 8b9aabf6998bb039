"""Outcomes: how the requests of one key have ended since a moment, added up."""

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries


class Outcome(msgspec.Struct, frozen=True):
    """So many requests that ended alike. ``attempts`` are of all of them, ``slowest_ms`` of the one that took longest."""

    outcome: str
    status: int | None
    error_code: str | None
    requests: int
    attempts: int
    slowest_ms: int


async def outcomes_of_key(conn: AsyncConnection, key_id: str, since_ms: int) -> list[Outcome]:
    """Those that the key has begun since then and that are over, the most frequent first."""
    c = entries.c
    rows = await conn.execute(
        select(
            c.outcome,
            c.status,
            c.error_code,
            func.count().label("requests"),
            func.sum(c.attempts).label("attempts"),
            func.max(c.total_ms).label("slowest_ms"),
        )
        .where(c.key_id == key_id, c.created_at >= since_ms, c.state == "settled")
        .group_by(c.outcome, c.status, c.error_code)
        .order_by(func.count().desc(), c.outcome)
    )
    return [
        Outcome(
            row.outcome or "",
            row.status,
            row.error_code,
            int(row.requests),
            int(row.attempts or 0),
            int(row.slowest_ms or 0),
        )
        for row in rows
    ]
