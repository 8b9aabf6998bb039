"""What a user has used, read from the ledger, and whether the day's count agrees with the rows."""

import msgspec
from sqlalchemy import Integer, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.schema import plans, requests, usage_days, users


class UsageRow(msgspec.Struct, frozen=True):
    """One request as the ledger has it. ``outcome`` is None while it runs."""

    id: str
    status: int | None
    outcome: str | None
    counted: bool


class DayUsage(msgspec.Struct, frozen=True):
    """A user's day. ``limit`` is that of the plan of now, None when the user or the plan is gone."""

    day: int
    limit: int | None
    used: int
    refunded: int
    rows: list[UsageRow]


class Mismatch(msgspec.Struct, frozen=True):
    """A user-day whose count is not what its rows say."""

    user_id: str
    day: int
    used: int
    counted: int
    refunded: int
    not_counted: int


async def usage_of(conn: AsyncConnection, user_id: str, day: int) -> DayUsage:
    """The count and the rows of one user and UTC day, in the order in which the requests came."""
    limit = await conn.scalar(
        select(plans.c.daily_requests).join(users, users.c.plan_id == plans.c.id).where(users.c.id == user_id)
    )
    count = (
        await conn.execute(
            select(usage_days.c.used, usage_days.c.refunded).where(
                usage_days.c.user_id == user_id, usage_days.c.day == day
            )
        )
    ).one_or_none()
    rows = await conn.execute(
        select(requests.c.id, requests.c.status, requests.c.outcome, requests.c.counted)
        .where(requests.c.user_id == user_id, requests.c.day == day)
        .order_by(requests.c.created_at, requests.c.id)
    )
    used, refunded = (0, 0) if count is None else count
    return DayUsage(
        day,
        limit,
        used,
        refunded,
        [UsageRow(id, status, outcome, counted) for id, status, outcome, counted in rows],
    )


async def reconcile(conn: AsyncConnection, day: int) -> list[Mismatch]:
    """The user-days whose count differs from their rows: ``used`` from counted rows, ``refunded`` from the others.

    Always empty, because both are written in one transaction; anything else is a fault to look into.
    """
    counted = func.sum(cast(requests.c.counted, Integer))
    found = await conn.execute(
        select(requests.c.user_id, counted, func.count() - counted)
        .where(requests.c.day == day)
        .group_by(requests.c.user_id)
    )
    rows = {user_id: (yes, no) for user_id, yes, no in found}
    days = await conn.execute(
        select(usage_days.c.user_id, usage_days.c.used, usage_days.c.refunded).where(usage_days.c.day == day)
    )
    counts = {user_id: (used, refunded) for user_id, used, refunded in days}
    return [
        Mismatch(user_id, day, used, yes, refunded, no)
        for user_id in sorted(rows.keys() | counts.keys())
        for (used, refunded), (yes, no) in [(counts.get(user_id, (0, 0)), rows.get(user_id, (0, 0)))]
        if used != yes or refunded != no
    ]
