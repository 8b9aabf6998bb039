"""Backfills: settled requests of the past that are sent to a destination, beside what is settled now.

A backfill has a position of its own, a day and a request of it, and leaves the destination's cursor where it is. What is open
while it passes is settled later, and so comes by the cursor. One at a time for each destination, sent by whoever holds that.
Every function takes a connection inside a transaction; times are epoch milliseconds.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.core.limits import day_of
from penstock.domain.exports.destinations import Destination
from penstock.domain.exports.settled import BATCH
from penstock.domain.ledger.rows import SettledKey
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import InvalidRequest
from penstock.store.request_key import key_of
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import backfills, destinations, requests

_KEPT_MS: Final = 30 * 86_400_000
"""How long one that is over is told of."""


class NoSuchBackfill(InvalidRequest):
    """Nothing of the past is being sent there."""

    status = 404
    code = "no_such_backfill"


class Backfill(msgspec.Struct, frozen=True):
    """The requests that came from ``begins_at`` up to ``ends_at``, of which ``delivered`` receipts have arrived.

    ``done_at`` is when it was over, ``stopped`` whether somebody ended it.
    """

    id: str
    destination_id: str
    begins_at: int
    ends_at: int
    created_by: str
    created_at: int
    day: int
    behind: str | None
    delivered: int
    done_at: int | None
    stopped: bool


class Portion(msgspec.Struct, frozen=True):
    """What comes next of a backfill: the requests, and the position behind them. ``over``: nothing comes after them."""

    keys: tuple[SettledKey, ...]
    ids: tuple[str, ...]
    day: int
    behind: str | None
    over: bool


def moment_of(text: str, param: str) -> int:
    """A day such as 2026-11-01, which begins at 00:00 UTC, or an instant of ISO 8601. Raises ``InvalidRequest``."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            "Write a day such as 2026-11-01, or an instant such as 2026-11-01T12:00:00Z.", param=param
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


async def start_backfill(
    conn: AsyncConnection,
    destination: Destination,
    begins: str,
    ends: str,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> Backfill:
    """Send a destination what came between two moments (``moment_of``; '': now), and was settled. Raises ``InvalidRequest``."""
    begins_at = moment_of(begins, "from")
    ends_at = min(moment_of(ends, "until"), now) if ends else now
    if not 0 <= begins_at < ends_at:
        raise InvalidRequest("A backfill begins in the past, and ends after that.", param="from")
    if any(it.done_at is None for it in await list_backfills(conn, destination.id)):
        raise InvalidRequest("A backfill goes there already; stop it first, or let it end.")
    id = api_key.identifier("bfl", entropy(16))
    made = Backfill(
        id=id,
        destination_id=destination.id,
        begins_at=begins_at,
        ends_at=ends_at,
        created_by=actor.name[:320],
        created_at=now,
        day=day_of(begins_at / 1000),
        behind=None,
        delivered=0,
        done_at=None,
        stopped=False,
    )
    await conn.execute(insert(backfills).values(msgspec.structs.asdict(made)))
    await entries.write(
        conn,
        actor,
        "backfill_started",
        Subject("destination", destination.id, destination.name),
        after={"from": begins_at, "until": ends_at},
        now=now,
        entropy=entropy,
    )
    return made


async def stop_backfill(
    conn: AsyncConnection, destination: Destination, actor: Actor, *, now: int, entropy: Entropy
) -> Backfill:
    """Send no more of it; what has arrived stays there. Raises ``NoSuchBackfill``."""
    running = [it for it in await list_backfills(conn, destination.id) if it.done_at is None]
    if not running:
        raise NoSuchBackfill("No backfill goes there.")
    (found,) = running
    await conn.execute(update(backfills).where(backfills.c.id == found.id).values(done_at=now, stopped=True))
    await entries.write(
        conn,
        actor,
        "backfill_stopped",
        Subject("destination", destination.id, destination.name),
        after={"from": found.begins_at, "until": found.ends_at},
        now=now,
        entropy=entropy,
    )
    return msgspec.structs.replace(found, done_at=now, stopped=True)


async def list_backfills(conn: AsyncConnection, destination_id: str = "") -> list[Backfill]:
    """Those of a destination, or of all that are there; the newest first."""
    there = select(destinations.c.id).where(destinations.c.removed_at.is_(None))
    wanted = select(*_SHOWN).where(backfills.c.destination_id.in_(there))
    if destination_id:
        wanted = wanted.where(backfills.c.destination_id == destination_id)
    rows = await conn.execute(wanted.order_by(backfills.c.created_at.desc(), backfills.c.id))
    return [Backfill(*row) for row in rows]


async def tidy_backfills(conn: AsyncConnection, *, now: int) -> None:
    """Delete those that were over long ago, and those of destinations that are gone for good."""
    known = select(destinations.c.id)
    over = (backfills.c.done_at < now - _KEPT_MS) | backfills.c.destination_id.not_in(known)
    await conn.execute(delete(backfills).where(over))


# ---- what the exporter asks


async def read_portion(conn: AsyncConnection, backfill: Backfill) -> Portion:
    """The next requests of a backfill, of one day, at most as many as one delivery has."""
    columns, last_day = requests.c, day_of((backfill.ends_at - 1) / 1000)
    # the next day that has rows: a backfill may begin years before the first of them
    found: int | None = await conn.scalar(select(func.min(columns.day)).where(columns.day >= backfill.day))
    day = last_day + 1 if found is None else found
    if day > last_day:
        return Portion((), (), day, None, over=True)
    wanted = select(columns.id).where(
        columns.day == day,
        columns.created_at >= backfill.begins_at,
        columns.created_at < backfill.ends_at,
        columns.boot.is_(None),
    )
    if backfill.behind is not None and day == backfill.day:
        wanted = wanted.where(columns.id > backfill.behind)
    ids: Sequence[str] = list(await conn.scalars(wanted.order_by(columns.id).limit(BATCH)))
    keys = tuple((day, key_of(id)) for id in ids)
    if len(ids) == BATCH:
        return Portion(keys, tuple(ids), day, ids[-1], over=False)
    return Portion(keys, tuple(ids), day + 1, None, over=day >= last_day)


async def advance_backfill(
    conn: AsyncConnection, backfill: Backfill, portion: Portion, count: int, *, now: int
) -> bool:
    """What is up to the end of the portion has arrived; False where it was stopped, or is further, by now."""
    columns = backfills.c
    same = columns.behind.is_(None) if backfill.behind is None else columns.behind == backfill.behind
    done = await conn.execute(
        update(backfills)
        .where(columns.id == backfill.id, columns.day == backfill.day, same, columns.done_at.is_(None))
        .values(
            day=portion.day,
            behind=portion.behind,
            delivered=columns.delivered + count,
            done_at=now if portion.over else None,
        )
    )
    return done.rowcount == 1


_SHOWN = tuple(backfills.c[name] for name in Backfill.__struct_fields__)
