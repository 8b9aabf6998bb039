"""Mail about the day: once for each of 80, 95 and 100 % of it that an account uses, where its owner wants that.

Who has used so much is asked of the counts of the day, by any server at any time. Whoever writes the share first sends the
mail: of several servers one does, and of several shares that were reached at once the last one is told.
"""

from typing import Final

import msgspec
from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sql.database import upsert
from penstock.store.sql.schema import day_mails, plans, usage_days, users

SHARES: Final = (80, 95, 100)
"""Per cent of a day."""


class DayMail(msgspec.Struct, frozen=True):
    """A mail that is due: ``used`` of ``limit`` requests, which is at least ``share`` per cent."""

    user_id: str
    email: str
    plan: str
    used: int
    limit: int
    share: int


async def due(conn: AsyncConnection, day: int) -> list[DayMail]:
    """Whom to mail about ``day`` (a UTC day number), of those who can sign in."""
    # Asked of one account after the other: by the day alone no index finds them.
    used_today = (
        select(usage_days.c.used)
        .where(usage_days.c.user_id == users.c.id, usage_days.c.day == day)
        .scalar_subquery()
    )
    rows = await conn.execute(
        select(
            users.c.id,
            users.c.email,
            plans.c.name,
            used_today,
            plans.c.daily_requests,
            day_mails.c.day,
            day_mails.c.share,
        )
        .join_from(users, plans, users.c.plan_id == plans.c.id)
        .outerjoin(day_mails, day_mails.c.user_id == users.c.id)
        .where(
            users.c.verified_at.is_not(None),
            users.c.disabled_at.is_(None),
            users.c.leaving_at.is_(None),
            plans.c.daily_requests > 0,
            used_today * 100 >= plans.c.daily_requests * SHARES[0],
            or_(day_mails.c.wanted.is_(None), day_mails.c.wanted),
        )
    )
    found: list[DayMail] = []
    for user_id, email, plan, used, limit, told_day, told_share in rows:
        share = max(share for share in SHARES if used * 100 >= limit * share)
        if told_day is None or told_day < day or (told_day == day and told_share < share):
            found.append(DayMail(user_id, email, plan, used, limit, share))
    return found


async def take(conn: AsyncConnection, mail: DayMail, day: int) -> bool:
    """Whether the mail is ours to send: nobody has, and nobody will once this transaction is committed."""
    made = await conn.execute(
        upsert(conn, day_mails, ["user_id"], []),
        {"user_id": mail.user_id, "wanted": True, "day": day, "share": mail.share},
    )
    if made.rowcount == 1:
        return True
    mine = day_mails.c
    later = or_(mine.day < day, and_(mine.day == day, mine.share < mail.share))
    taken = await conn.execute(
        update(day_mails)
        .where(mine.user_id == mail.user_id, mine.wanted, later)
        .values(day=day, share=mail.share)
    )
    return taken.rowcount == 1


async def limit_raised(conn: AsyncConnection, whose: ColumnElement[bool]) -> None:
    """Users, as a condition, have more requests a day from now on: what they were told was of fewer."""
    these = select(users.c.id).where(whose)
    await conn.execute(update(day_mails).where(day_mails.c.user_id.in_(these)).values(share=0))


async def wanted(conn: AsyncConnection, user_id: str) -> bool:
    """Whether the person wants these mails."""
    found = await conn.scalar(select(day_mails.c.wanted).where(day_mails.c.user_id == user_id))
    return True if found is None else bool(found)


async def want(conn: AsyncConnection, user_id: str, wanted: bool) -> None:
    """Have them sent, or not. What was sent of a day is not sent again."""
    row = {"user_id": user_id, "wanted": wanted, "day": 0, "share": 0}
    await conn.execute(upsert(conn, day_mails, ["user_id"], ["wanted"]), row)
