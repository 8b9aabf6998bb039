"""Events of the staff: what lasts is opened once, told again after a day, and recovered once; what happens is told once.

What lasts is told by those who see it, again and again, as long as they do; when nobody has seen it for a while it is over.
So it needs no server to remember it, and one that dies leaves nothing open. Every function takes a connection inside a
transaction; ``now`` is epoch milliseconds.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.notifications.deliveries import Custom, fan_out
from penstock.domain.notifications.event_kinds import EVENT_KINDS, EventState, Severity
from penstock.domain.notifications.letters import Told
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import upsert
from penstock.store.sql.schema import staff_events

_LONGEST_OBJECT: Final = 200
_LONGEST_TEXT: Final = 300
KEEP_EVENTS_MS: Final = 90 * 86_400_000


class Condition(msgspec.Struct, frozen=True):
    """What somebody sees at the moment: an event, what it is about, and a sentence without anybody's words or address."""

    event: str
    object: str
    text: str


class StaffEvent(msgspec.Struct, frozen=True):
    """An event as it is kept. Times are epoch milliseconds; ``closed_at`` None: it lasts."""

    id: str
    event: str
    object: str
    severity: Severity
    text: str
    opened_at: int
    told_at: int
    seen_at: int
    closed_at: int | None


class Teller(msgspec.Struct, frozen=True):
    """What telling needs beside the connection. ``again_ms`` is after how long what lasts is told again."""

    secrets_file: SecretsFile
    custom: Custom
    again_ms: int
    entropy: Entropy


async def observe(conn: AsyncConnection, teller: Teller, seen: Iterable[Condition], *, now: int) -> int:
    """Say what is seen now; how many events were told for it."""
    return sum([await _observe(conn, teller, each, now) for each in seen])


async def close_unseen(conn: AsyncConnection, teller: Teller, *, unseen_ms: int, now: int) -> int:
    """What nobody has seen for so long is over: it is told once; how many."""
    columns = staff_events.c
    rows = await conn.execute(
        select(*_COLUMNS).where(columns.open_key.is_not(None), columns.seen_at < now - unseen_ms)
    )
    count = 0
    for row in rows.all():
        event = StaffEvent(*row)
        closed = await conn.execute(
            update(staff_events)
            .where(columns.id == event.id, columns.open_key.is_not(None), columns.seen_at == event.seen_at)
            .values(open_key=None, closed_at=now)
        )
        if closed.rowcount == 1:
            await _tell(conn, teller, event, "recovered", now)
            count += 1
    return count


async def happened(conn: AsyncConnection, teller: Teller, found: Condition, at: int, *, now: int) -> bool:
    """Tell of what has happened at a time; False where it was told already, by whichever server."""
    kind, shown = EVENT_KINDS[found.event], _cut(found)
    id = f"evt_{_key(found.event, found.object, at).hex()[:32]}"
    event = StaffEvent(id, kind.name, shown.object, kind.severity, shown.text, at, now, now, now)
    made = await conn.execute(upsert(conn, staff_events, ["id"], []), _row(event, None))
    if made.rowcount != 1:
        return False
    await _tell(conn, teller, event, "happened", now)
    return True


async def lasting_events(conn: AsyncConnection) -> list[StaffEvent]:
    """What lasts, the newest first."""
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(staff_events.c.open_key.is_not(None))
        .order_by(staff_events.c.opened_at.desc(), staff_events.c.id)
        .limit(200)
    )
    return [StaffEvent(*row) for row in rows]


async def events_over(conn: AsyncConnection, first: int, last: int) -> list[StaffEvent]:
    """What has lasted and ended in this time, the oldest first."""
    columns = staff_events.c
    lasting = [kind.name for kind in EVENT_KINDS.values() if kind.lasts]
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(columns.closed_at > first, columns.closed_at <= last, columns.event.in_(lasting))
        .order_by(columns.opened_at, columns.id)
        .limit(500)
    )
    return [StaffEvent(*row) for row in rows]


async def any_lasting(conn: AsyncConnection, *, unseen_ms: int, now: int) -> bool:
    """Whether something is to be closed."""
    query = select(func.count()).where(
        staff_events.c.open_key.is_not(None), staff_events.c.seen_at < now - unseen_ms
    )
    return bool(await conn.scalar(query))


async def tidy_events(conn: AsyncConnection, *, now: int) -> None:
    """Forget what ended long ago."""
    await conn.execute(delete(staff_events).where(staff_events.c.closed_at < now - KEEP_EVENTS_MS))


async def _observe(conn: AsyncConnection, teller: Teller, seen: Condition, now: int) -> int:
    columns = staff_events.c
    kind, key, shown = EVENT_KINDS[seen.event], _key(seen.event, seen.object, 0), _cut(seen)
    row = (await conn.execute(select(*_COLUMNS).where(columns.open_key == key))).first()
    if row is None:
        id = api_key.identifier("evt", teller.entropy(16))
        event = StaffEvent(id, kind.name, shown.object, kind.severity, shown.text, now, now, now, None)
        made = await conn.execute(upsert(conn, staff_events, ["open_key"], []), _row(event, key))
        if made.rowcount != 1:
            return 0  # another server was first
        await _tell(conn, teller, event, "opened", now)
        return 1
    event = msgspec.structs.replace(StaffEvent(*row), text=shown.text)
    await conn.execute(
        update(staff_events).where(columns.id == event.id).values(seen_at=now, text=event.text)
    )
    if kind.once or now - event.told_at < teller.again_ms:
        return 0
    ours = await conn.execute(
        update(staff_events)
        .where(columns.id == event.id, columns.told_at == event.told_at)
        .values(told_at=now)
    )
    if ours.rowcount != 1:
        return 0
    await _tell(conn, teller, event, "still_open", now)
    return 1


async def _tell(
    conn: AsyncConnection, teller: Teller, event: StaffEvent, state: EventState, now: int
) -> None:
    told = Told(event.event, state, event.severity, event.object, event.text, now, event.opened_at)
    await fan_out(conn, teller.secrets_file, told, teller.custom, now=now, entropy=teller.entropy)


def _cut(seen: Condition) -> Condition:
    """As long as it may be kept: a provider's names for models may be longer, and PostgreSQL takes no more."""
    return Condition(seen.event, seen.object[:_LONGEST_OBJECT], seen.text[:_LONGEST_TEXT])


def _row(event: StaffEvent, key: bytes | None) -> dict[str, object]:
    return {**msgspec.structs.asdict(event), "open_key": key}


def _key(event: str, about: str, at: int) -> bytes:
    return hashlib.sha256(f"{event}\n{about}\n{at}".encode()).digest()


_COLUMNS = tuple(staff_events.c[name] for name in StaffEvent.__struct_fields__)
