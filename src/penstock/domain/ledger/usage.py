"""Usage of an account on a day: the count against its plan, and the ledger's rows behind it."""

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts.accounts import User
from penstock.domain.ledger.entries import entries
from penstock.store.sql.schema import plans, usage_days


class RequestLine(msgspec.Struct, frozen=True):
    """One row of the ledger. ``at`` is epoch milliseconds; ``status`` is None while it runs, or when the caller left.

    ``answered_model`` is the model that the answer names, where the provider was asked for another.
    """

    id: str
    at: int
    state: str
    status: int | None
    outcome: str | None
    counted: bool
    refund_reason: str | None
    model: str
    provider: str
    input_tokens: int | None
    output_tokens: int | None
    answered_model: str | None


class DayReport(msgspec.Struct, frozen=True):
    """An account's day. ``counted`` is what is taken from ``limit``: requests counted and not refunded."""

    counted: int
    refunded: int
    limit: int
    requests: tuple[RequestLine, ...]


async def day_report(conn: AsyncConnection, user: User, day: int, *, most: int = 10_000) -> DayReport:
    """What ``user`` used on ``day`` (UTC day number), with the newest ``most`` rows in the order of their arrival."""
    counts = await conn.execute(
        select(usage_days.c.used, usage_days.c.refunded).where(
            usage_days.c.user_id == user.id, usage_days.c.day == day
        )
    )
    used, refunded = counts.one_or_none() or (0, 0)
    limit = await conn.scalar(select(plans.c.daily_requests).where(plans.c.id == user.plan_id))
    rows = await conn.execute(
        select(
            entries.c.id,
            entries.c.created_at,
            entries.c.state,
            entries.c.status,
            entries.c.outcome,
            entries.c.counted,
            entries.c.refund_reason,
            entries.c.model,
            entries.c.provider,
            entries.c.input_tokens,
            entries.c.output_tokens,
            entries.c.answered_model,
        )
        .where(entries.c.user_id == user.id, entries.c.day == day)
        .order_by(entries.c.created_at.desc(), entries.c.id.desc())
        .limit(most)
    )
    lines = [RequestLine(*row) for row in rows]
    return DayReport(used, refunded, limit or 0, tuple(reversed(lines)))
