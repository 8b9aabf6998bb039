"""Refusals: requests with a key that reached no upstream. They count nowhere; the newest of an account have receipts.

How often which code was answered is kept by hour for ever: a row for each account, hour, code and key, however many there are.
The refusals themselves are kept for the newest ``kept`` of an account, so that nobody fills a disk with them. Requests only add
to lists in memory, which are bounded as well; maintenance writes together what they hold, about once a second. A process
that is killed loses that second.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import ColumnElement, Row, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.rollups import HOUR_MS
from penstock.domain.ledger.values import fit
from penstock.errors import PenstockError
from penstock.store.request_key import key_of
from penstock.store.sql.bulk import Bulk
from penstock.store.sql.database import Database
from penstock.store.sql.schema import refusal_hours, refusals

_ROWS_AT_ONCE: Final = 200
"""Refusals of an account that are written at a time; of more the newest are, and all of them are counted."""
_ROWS_WAITING: Final = 10_000
_COUNTS_WAITING: Final = 50_000
_UNNAMED_WAITING: Final = 256
"""Refusals whose key has yet to be looked up."""
_MESSAGE: Final = 500
HOLDERS_NAMED: Final = 20


class Holder(msgspec.Struct, frozen=True, array_like=True):
    """A request that held a slot, since when in epoch milliseconds."""

    id: str
    since: int


class Refusal(msgspec.Struct, frozen=True):
    """A request that was refused. Times are epoch milliseconds.

    ``dialect`` is the endpoint's name, ``model`` the public id where the name that was asked for means one. ``most`` and
    ``used`` are those of the limit that was reached, where one was; ``holders`` ran at that time.
    """

    id: str
    user_id: str
    key_id: str
    created_at: int
    status: int
    code: str
    dialect: str
    model: str
    requested_model: str
    stream: bool | None
    client: str
    message: str
    retry_after: int | None
    plan_id: str
    most: int | None
    used: int | None
    holders: tuple[Holder, ...]


class KeyOwner(Protocol):
    """Whose key it is."""

    @property
    def account_id(self) -> str: ...

    @property
    def key_id(self) -> str: ...

    @property
    def plan_id(self) -> str: ...


_COLUMNS: Final = tuple(name for name in Refusal.__struct_fields__ if name != "holders")
_pack = msgspec.json.Encoder().encode
_holders = msgspec.json.Decoder(tuple[Holder, ...]).decode
_ADD_HOURS = Bulk(
    "INSERT INTO refusal_hours (user_id, hour, code, key_id, requests) VALUES ",
    "(?, ?, ?, ?, ?)",
    " ON CONFLICT (user_id, hour, code, key_id) DO UPDATE SET requests = refusal_hours.requests + excluded.requests",
)
_ADD_ROWS = Bulk(
    f"INSERT INTO refusals ({', '.join(_COLUMNS)}, holders) VALUES ",  # noqa: S608 - names of this program alone
    f"({', '.join('?' * (len(_COLUMNS) + 1))})",
    " ON CONFLICT (id) DO NOTHING",
)


class Refusals:
    """Takes refusals, and writes them. All on one event loop."""

    def __init__(
        self, database: Database, *, kept: int, identify: Callable[[str], Awaitable[KeyOwner]]
    ) -> None:
        """``kept`` refusals of an account stay, 0: none, and only the counts. ``identify`` finds the owner of a key."""
        self._database = database
        self._kept = kept
        self._identify = identify
        self._rows: dict[str, deque[Refusal]] = {}
        self._waiting = 0
        self._counts: dict[tuple[str, int, str, str], int] = {}
        self._unnamed: deque[tuple[str, Refusal]] = deque(maxlen=_UNNAMED_WAITING)
        self._turn = asyncio.Lock()

    @property
    def keeps(self) -> bool:
        """Whether refusals have receipts."""
        return self._kept > 0

    # ---- what requests call

    def note(self, refusal: Refusal) -> None:
        """Take a refusal. Never waits, never raises."""
        of_hour = (refusal.user_id, refusal.created_at // HOUR_MS, refusal.code, refusal.key_id)
        known = self._counts.get(of_hour)
        if known is None and len(self._counts) >= _COUNTS_WAITING:
            return  # the database has been away for long
        self._counts[of_hour] = (known or 0) + 1
        if not self._kept:
            return
        rows = self._rows.get(refusal.user_id)
        if rows is None:
            if self._waiting >= _ROWS_WAITING:
                return
            rows = self._rows[refusal.user_id] = deque(maxlen=min(self._kept, _ROWS_AT_ONCE))
        if len(rows) < (rows.maxlen or 0):
            if self._waiting >= _ROWS_WAITING:
                return
            self._waiting += 1
        rows.append(refusal)

    def note_unnamed(self, key: str, refusal: Refusal) -> None:
        """Take a refusal of a request with a key that was not looked up yet; dropped if the key is none of ours."""
        self._unnamed.append((key, refusal))

    # ---- to the database

    async def flush(self) -> None:
        """Write what there is. Raises ``DatabaseUnavailable``, and keeps it then."""
        async with self._turn:
            await self._name()
            rows, counts = self._rows, self._counts
            if not counts:
                return
            waiting, self._rows, self._counts, self._waiting = self._waiting, {}, {}, 0
            written = False
            try:
                await self._write(rows, counts)
                written = True
            finally:
                if not written:
                    self._put_back(rows, counts, waiting)

    async def _name(self) -> None:
        """Look up whose keys those are that were not known."""
        while self._unnamed:
            key, refusal = self._unnamed.popleft()
            try:
                owner = await self._identify(key)
            except PenstockError:
                continue  # no key of ours, or the database is away: there is no account to tell
            self.note(
                msgspec.structs.replace(
                    refusal, user_id=owner.account_id, key_id=owner.key_id, plan_id=owner.plan_id
                )
            )

    async def _write(
        self, rows: dict[str, deque[Refusal]], counts: dict[tuple[str, int, str, str], int]
    ) -> None:
        async with self._database.transaction() as conn:
            await self._database.execute(
                conn, _ADD_HOURS.statements([(*key, counts[key]) for key in sorted(counts)])
            )
            told = [_told(refusal) for user_id in sorted(rows) for refusal in rows[user_id]]
            await self._database.execute(conn, _ADD_ROWS.statements(told))
            for user_id in sorted(rows):
                await _keep_newest(conn, user_id, self._kept)

    def _put_back(
        self, rows: dict[str, deque[Refusal]], counts: dict[tuple[str, int, str, str], int], waiting: int
    ) -> None:
        """They wait for the next turn, before what has come meanwhile."""
        newer_rows, newer_counts = self._rows, self._counts
        self._rows, self._counts, self._waiting = rows, counts, waiting
        for key, count in newer_counts.items():
            self._counts[key] = self._counts.get(key, 0) + count
        for user_id, newer in newer_rows.items():
            known = self._rows.setdefault(user_id, deque(maxlen=newer.maxlen))
            before = len(known)
            known.extend(newer)
            self._waiting += len(known) - before


def _told(refusal: Refusal) -> tuple[str | bytes | int | None, ...]:
    return (
        key_of(refusal.id),
        refusal.user_id,
        refusal.key_id,
        refusal.created_at,
        refusal.status,
        refusal.code,
        refusal.dialect,
        fit(refusal.model, 128),
        fit(refusal.requested_model, 128),
        refusal.stream,
        fit(refusal.client, 64),
        fit(refusal.message, _MESSAGE),
        refusal.retry_after,
        refusal.plan_id,
        refusal.most,
        refusal.used,
        _pack(refusal.holders[:HOLDERS_NAMED]).decode() if refusal.holders else None,
    )


async def _keep_newest(conn: AsyncConnection, user_id: str, kept: int) -> None:
    place = (refusals.c.created_at, refusals.c.id)
    mine = refusals.c.user_id == user_id
    last = select(*place).where(mine).order_by(*(column.desc() for column in place)).limit(1).offset(kept - 1)
    found = (await conn.execute(last)).one_or_none()
    if found is not None:
        await conn.execute(delete(refusals).where(mine, _older(found.created_at, found.id)))


def _older(created_at: int, id: str) -> ColumnElement[bool]:
    return or_(
        refusals.c.created_at < created_at,
        and_(refusals.c.created_at == created_at, refusals.c.id < id),
    )


# ---- what pages ask for


async def find_any(conn: AsyncConnection, id: str) -> Refusal | None:
    """A refused request, whoever's it is."""
    row = (await conn.execute(REFUSALS.where(refusals.c.id == id))).one_or_none()
    return None if row is None else read_refusal(row)


async def find(conn: AsyncConnection, user_id: str, id: str) -> Refusal | None:
    """A refusal of the account."""
    row = (await conn.execute(REFUSALS.where(refusals.c.id == id))).one_or_none()
    return None if row is None or row.user_id != user_id else read_refusal(row)


async def newest(
    conn: AsyncConnection,
    user_id: str,
    *,
    before: tuple[int, str] | None = None,
    model: str = "",
    key_id: str = "",
    most: int,
) -> list[Refusal]:
    """Refusals of the account, the newest first, from those on that came ``before`` (epoch milliseconds, id)."""
    wanted = [refusals.c.user_id == user_id]
    if before is not None:
        wanted.append(_older(*before))
    if model:
        wanted.append(or_(refusals.c.model == model, refusals.c.requested_model == model))
    if key_id:
        wanted.append(refusals.c.key_id == key_id)
    order = (refusals.c.created_at.desc(), refusals.c.id.desc())
    rows = await conn.execute(REFUSALS.where(*wanted).order_by(*order).limit(most))
    return [read_refusal(row) for row in rows]


async def within(
    conn: AsyncConnection, user_id: str, key_id: str, start: int, end: int
) -> list[tuple[str, int]]:
    """How often each code was answered to a key from ``start`` to before ``end`` (epoch milliseconds), of those still kept."""
    count = func.count()
    rows = await conn.execute(
        select(refusals.c.code, count)
        .where(
            refusals.c.user_id == user_id,
            refusals.c.key_id == key_id,
            refusals.c.created_at >= start,
            refusals.c.created_at < end,
        )
        .group_by(refusals.c.code)
        .order_by(count.desc(), refusals.c.code)
    )
    return [(code, int(number)) for code, number in rows]


async def by_code(conn: AsyncConnection, user_id: str, days: range) -> list[tuple[str, int]]:
    """How often each code was answered in ``days`` (UTC day numbers), the most frequent first."""
    count = func.sum(refusal_hours.c.requests)
    rows = await conn.execute(
        select(refusal_hours.c.code, count)
        .where(
            refusal_hours.c.user_id == user_id,
            refusal_hours.c.hour >= days.start * 24,
            refusal_hours.c.hour < days.stop * 24,
        )
        .group_by(refusal_hours.c.code)
        .order_by(count.desc(), refusal_hours.c.code)
    )
    return [(code, int(number)) for code, number in rows]


async def forget_before(conn: AsyncConnection, at: int) -> int:
    """Remove refusals that are older than ``at`` (epoch milliseconds); their counts stay."""
    return (await conn.execute(delete(refusals).where(refusals.c.created_at < at))).rowcount


REFUSALS = select(*(refusals.c[name] for name in (*_COLUMNS, "holders")))


def read_refusal(row: Row[*tuple[Any, ...]]) -> Refusal:
    """A row of ``REFUSALS``."""
    *values, holders = row
    return Refusal(*values, holders=() if holders is None else _holders(holders))
