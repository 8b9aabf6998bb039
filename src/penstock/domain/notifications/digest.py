"""The daily digest: what waits for somebody and what has changed, in our own words; where there is nothing, it is empty.

Every function takes a connection; times are epoch milliseconds.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.amounts import amount
from penstock.domain.notifications.staff_events import events_over, lasting_events
from penstock.store.sql.schema import changes, deliveries, outbox, users

_MOST_LINES: Final = 50


class Digest(msgspec.Struct, frozen=True):
    """``waits``: needs somebody. ``changed``: since the last one."""

    waits: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say."""
        return not self.waits and not self.changed


def digest_due(now: int, at: str, zone: tzinfo) -> int:
    """The last moment before now at which a digest is due. ``at`` is such as 08:00."""
    local = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone)
    hour, minute = int(at[:2]), int(at[3:])
    due = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if due > local:
        due = (local - timedelta(days=1)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    return int(due.timestamp() * 1000)


async def gather_digest(conn: AsyncConnection, *, since: int, now: int) -> Digest:
    """What there is to say."""
    waits = [f"[{it.severity}] {it.text}, since {_day(it.opened_at)}" for it in await lasting_events(conn)]
    for table, what in ((outbox, ("mail",)), (deliveries, ("message to staff", "messages to staff"))):
        at = table.c.given_up_at
        count = await _count(conn, table, at > since, at <= now)
        if count:
            waits.append(f"{amount(count, *what)} given up")
    changed = [f"[{it.severity}] over: {it.text}" for it in await events_over(conn, since, now)]
    accounts = await _count(conn, users, users.c.created_at > since, users.c.created_at <= now)
    if accounts:
        changed.append(f"{amount(accounts, 'new account')}")
    made = await _count(conn, changes, changes.c.at > since, changes.c.at <= now)
    if made:
        changed.append(f"{amount(made, 'change')} of the configuration")
    return Digest(_some(waits), _some(changed))


async def _count(conn: AsyncConnection, table: Table, *wanted: ColumnElement[bool]) -> int:
    return await conn.scalar(select(func.count()).select_from(table).where(*wanted)) or 0


def _some(lines: list[str]) -> tuple[str, ...]:
    left = len(lines) - _MOST_LINES
    return (*lines[:_MOST_LINES], f"and {left} more") if left > 0 else tuple(lines)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
