"""Announcements: what the operator tells everybody, or the accounts of one plan, in a banner above the pages, for a time.

Every function takes a connection inside a transaction; times are epoch milliseconds.
"""

from typing import Final

import msgspec
from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError, InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import announcements, plans

ANNOUNCEMENT_LIMIT: Final = 500
MOST_SHOWN: Final = 5
"""At a time: more of them nobody reads."""
LONGEST_DAYS: Final = 365
_DAY_MS: Final = 86_400_000


class NoAnnouncement(CallerError):
    """There is no announcement of this id, or it has ended."""

    status = 404
    code = "no_such_announcement"


class Announcement(msgspec.Struct, frozen=True):
    """What is told, to whom (``plan_id``, '' for everybody), and from when until when."""

    id: str
    text: str
    plan_id: str
    shown_from: int
    shown_until: int


async def announce(
    conn: AsyncConnection,
    text: str,
    actor: Actor,
    *,
    plan_id: str = "",
    days: int,
    now: int,
    entropy: Entropy,
) -> Announcement:
    """Show a text for so many days from now on. Raises ``InvalidRequest``."""
    text = " ".join(text.split())
    if not 0 < len(text) <= ANNOUNCEMENT_LIMIT or not text.isprintable():
        raise InvalidRequest(f"An announcement has 1 to {ANNOUNCEMENT_LIMIT} characters.", param="text")
    if not 1 <= days <= LONGEST_DAYS:
        raise InvalidRequest(f"An announcement is shown for 1 to {LONGEST_DAYS} days.", param="days")
    if plan_id and (await conn.execute(select(plans.c.id).where(plans.c.id == plan_id))).first() is None:
        raise InvalidRequest("There is no such plan.", param="plan")
    columns = announcements.c
    shown = select(func.count()).select_from(announcements).where(columns.shown_until > now)
    if (await conn.execute(shown)).scalar_one() >= MOST_SHOWN:
        raise InvalidRequest(f"{MOST_SHOWN} announcements are shown; withdraw one first.")
    made = Announcement(api_key.identifier("ann", entropy(16)), text, plan_id, now, now + days * _DAY_MS)
    await conn.execute(insert(announcements).values(**msgspec.structs.asdict(made)))
    await entries.write(
        conn,
        actor,
        "announced",
        Subject("announcement", made.id, text[:100]),
        after={"plan": plan_id, "days": days},
        now=now,
        entropy=entropy,
    )
    return made


async def withdraw(conn: AsyncConnection, id: str, actor: Actor, *, now: int, entropy: Entropy) -> None:
    """Show it no longer. Raises ``NoAnnouncement``."""
    columns = announcements.c
    ended = await conn.execute(
        update(announcements).where(columns.id == id, columns.shown_until > now).values(shown_until=now)
    )
    if ended.rowcount == 0:
        raise NoAnnouncement("There is no such announcement, or it has ended.")
    await entries.write(
        conn, actor, "announcement_withdrawn", Subject("announcement", id), now=now, entropy=entropy
    )


async def shown_announcements(
    conn: AsyncConnection, *, now: int, plan_id: str | None = None
) -> list[Announcement]:
    """Those that are shown now, the newest first; with ``plan_id`` those that an account of this plan sees."""
    columns = announcements.c
    query = select(*_COLUMNS).where(columns.shown_until > now).order_by(columns.shown_from.desc(), columns.id)
    if plan_id is not None:
        query = query.where(or_(columns.plan_id == "", columns.plan_id == plan_id))
    return [Announcement(*row) for row in await conn.execute(query)]


_COLUMNS = tuple(announcements.c[name] for name in Announcement.__struct_fields__)
