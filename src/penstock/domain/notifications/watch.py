"""What lasts or has happened by the database itself, for the one server that looks: ids and numbers, no addresses."""

from typing import Final

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.amounts import amount
from penstock.domain.notifications.deliveries import failing_targets
from penstock.domain.notifications.jobs import done_until
from penstock.domain.notifications.staff_events import Condition
from penstock.store.sql.schema import destinations, incidents, plan_wishes, refusal_hours, users, webhooks

BACKUP: Final = "backup"
"""The job that ``penstock backup`` does."""
SIGN_UPS: Final = "sign-ups"
"""What a burst of new accounts is about; any other is about an account."""
_HOUR_MS: Final = 3_600_000

_LATE_MS: Final = 60_000
"""How much later than its time an account may be committed."""
_MOST: Final = 100


class Thresholds(msgspec.Struct, frozen=True):
    """From when on staff are told; 0: never. ``sign_ups`` and ``refusals`` of an account are counted within an hour."""

    backup_ms: int
    sign_ups: int
    refusals: int


async def conditions_in_books(
    conn: AsyncConnection, thresholds: Thresholds, *, since: int, now: int
) -> list[Condition]:
    """What lasts. ``since`` is how far back deliveries are looked through."""
    found = await _bursts(conn, thresholds, now)
    backup_at = await done_until(conn, BACKUP)
    if thresholds.backup_ms and backup_at is not None and now - backup_at > thresholds.backup_ms:
        hours = thresholds.backup_ms // _HOUR_MS
        found.append(Condition("backup.old", BACKUP, f"No backup was made for more than {hours} hours"))
    found += [
        Condition("plan.asked", f"{user}:{plan}", f"The account {user} asks for the plan {plan}")
        for user, plan in await conn.execute(
            select(plan_wishes.c.user_id, plan_wishes.c.plan_id)
            .order_by(plan_wishes.c.created_at, plan_wishes.c.user_id)
            .limit(_MOST)
        )
    ]
    found += [
        Condition("incident.open", id, f"An incident is open: {title}")
        for id, title in await conn.execute(
            select(incidents.c.id, incidents.c.title).where(incidents.c.resolved_at.is_(None)).limit(_MOST)
        )
    ]
    found += [
        Condition("export.failing", name, f"The export {name} takes nothing")
        for (name,) in await conn.execute(
            select(destinations.c.name).where(
                destinations.c.removed_at.is_(None),
                destinations.c.failed_at.is_not(None),
                destinations.c.tries >= 3,
            )
        )
    ]
    failing = await failing_targets(conn, since=since)
    if failing:
        found += [
            Condition("webhook.failing", id, f"The webhook {name} does not take what is sent to it")
            for id, name in await conn.execute(
                select(webhooks.c.id, webhooks.c.name).where(
                    webhooks.c.id.in_(failing), webhooks.c.removed_at.is_(None)
                )
            )
        ]
    return found


async def _bursts(conn: AsyncConnection, thresholds: Thresholds, now: int) -> list[Condition]:
    found: list[Condition] = []
    if thresholds.sign_ups:
        made = users.c.created_at
        lately = select(func.count()).select_from(users).where(made > now - _HOUR_MS, made <= now)
        count = await conn.scalar(lately) or 0
        if count >= thresholds.sign_ups:
            found.append(Condition("abuse.burst", SIGN_UPS, f"{amount(count, 'new account')} within an hour"))
    if thresholds.refusals:
        hour = now // _HOUR_MS
        columns = refusal_hours.c
        total = func.sum(columns.requests)
        rows = await conn.execute(
            select(columns.user_id, total)
            .where(columns.hour >= hour - 1, columns.hour <= hour)
            .group_by(columns.user_id, columns.hour)
            .having(total >= thresholds.refusals)
            .order_by(columns.hour, columns.user_id)
            .limit(_MOST)
        )
        most = {user: int(count) for user, count in rows}
        found += [
            Condition("abuse.burst", user, f"{amount(count, 'refused request')} of {user} within an hour")
            for user, count in most.items()
        ]
    return found


async def new_accounts(
    conn: AsyncConnection, *, after: int, now: int
) -> tuple[list[tuple[Condition, int]], int]:
    """Accounts that were made after a time, each with its time; and up to when they have been looked through."""
    rows = await conn.execute(
        select(users.c.id, users.c.plan_id, users.c.created_at)
        .where(users.c.created_at > after)
        .order_by(users.c.created_at, users.c.id)
        .limit(_MOST)
    )
    found = [
        (Condition("account.signed_up", id, f"New account {id} on the plan {plan}"), at)
        for id, plan, at in rows
    ]
    return found, found[-1][1] - 1 if len(found) == _MOST else max(after, now - _LATE_MS)
