"""What lasts or has happened by the database itself, for the one server that looks: ids and numbers, no addresses."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.notifications.deliveries import failing_targets
from penstock.domain.notifications.staff_events import Condition
from penstock.store.sql.schema import destinations, incidents, plan_wishes, users, webhooks

_LATE_MS: Final = 60_000
"""How much later than its time an account may be committed."""
_MOST: Final = 100


async def conditions_in_books(conn: AsyncConnection, *, since: int) -> list[Condition]:
    """What lasts. ``since`` is how far back deliveries are looked through."""
    found = [
        Condition("plan.asked", user, f"The account {user} asks for the plan {plan}")
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
