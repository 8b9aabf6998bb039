"""Plans that customers have asked their operator for: one wish an account, the last one."""

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sql.schema import plan_wishes, users


class Wish(msgspec.Struct, frozen=True):
    """Who wants another plan. ``created_at`` is epoch milliseconds."""

    email: str
    plan: str
    wanted: str
    created_at: int


async def all_wishes(conn: AsyncConnection) -> tuple[Wish, ...]:
    """Every wish that was not fulfilled, the oldest first."""
    rows = await conn.execute(
        select(users.c.email, users.c.plan_id, plan_wishes.c.plan_id, plan_wishes.c.created_at)
        .join_from(plan_wishes, users, plan_wishes.c.user_id == users.c.id)
        .order_by(plan_wishes.c.created_at, users.c.email)
    )
    return tuple(Wish(*row) for row in rows)


async def forget_wish(conn: AsyncConnection, user_id: str) -> None:
    """The plan was set, to that or to another."""
    await conn.execute(delete(plan_wishes).where(plan_wishes.c.user_id == user_id))


async def wish_of(conn: AsyncConnection, user_id: str) -> str | None:
    """The id of the plan that the account has asked for, None for none."""
    return await conn.scalar(select(plan_wishes.c.plan_id).where(plan_wishes.c.user_id == user_id))


async def set_wish(conn: AsyncConnection, user_id: str, plan_id: str, *, now: int) -> None:
    """Ask for this plan, in place of any before. ``now`` in epoch milliseconds."""
    await conn.execute(delete(plan_wishes).where(plan_wishes.c.user_id == user_id))
    await conn.execute(insert(plan_wishes).values(user_id=user_id, plan_id=plan_id, created_at=now))
