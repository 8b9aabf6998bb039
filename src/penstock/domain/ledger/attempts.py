"""Attempts: how a request came to its answer, where it needed more than one attempt, or failed.

The single attempt that is answered stays in the request's own row. Requests only add to a list in memory, which is bounded;
maintenance writes what it holds, about once a second, and removes attempts together with the requests that they are of. A
process that is killed loses that second: the request's row says how many attempts there were.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import and_, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.failure_classes.classes import FailureClass
from penstock.domain.ledger.entries import entries, of_some_day
from penstock.domain.ledger.values import fit, fit_or_none
from penstock.store.request_key import key_of
from penstock.store.sql.bulk import Bulk
from penstock.store.sql.database import Database
from penstock.store.sql.schema import attempts, requests

log = logging.getLogger("penstock.domain.ledger")

_WAITING: Final = 10_000
"""Attempts that wait to be written at most; what comes then is lost, and said so."""
_MESSAGE: Final = 500
_MOST_MS: Final = 2**53

UNFAILED: Final[Mapping[str, str]] = {
    "completed": "",
    "client_gone": FailureClass.GONE.value,
    "ended_by_owner": FailureClass.GONE.value,
    "refused": FailureClass.CALLER.value,
}
"""What came of an attempt that has not failed, by how its request ended; in other ends it was our doing."""


class AttemptMade(msgspec.Struct, frozen=True):
    """One attempt. Times are in milliseconds from the request's beginning; ``first_ms``: to its first content.

    ``credential`` is '' where the provider has no pool; ``reason`` is why it was asked; ``failure`` is the class of its
    failure, '' of the one that was answered. ``message`` is what the provider has said of it, for the operator alone.
    ``maybe_billed``: the provider may charge for it all the same.
    """

    number: int
    provider: str
    credential: str
    upstream_model: str
    upstream_dialect: str
    reason: str
    failure: str
    status: int | None
    upstream_request_id: str | None
    started_ms: int
    first_ms: int | None
    ended_ms: int
    retry_after_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    maybe_billed: bool
    message: str | None

    @property
    def lasted_ms(self) -> int:
        """How long it took."""
        return self.ended_ms - self.started_ms


_COLUMNS: Final = AttemptMade.__struct_fields__
_ADD: Final = Bulk(
    f"INSERT INTO attempts (day, request_id, {', '.join(_COLUMNS)}) VALUES ",  # noqa: S608 - names of this program alone
    f"({', '.join('?' * (len(_COLUMNS) + 2))})",
    " ON CONFLICT (day, request_id, number) DO NOTHING",
)
_Row = tuple[str | bytes | int | None, ...]


class AttemptLog:
    """Takes attempts, and writes them. All on one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: list[_Row] = []
        self._lost = 0
        self._turn = asyncio.Lock()

    def note(self, request_id: str, day: int, made: Iterable[AttemptMade]) -> None:
        """Take the attempts of a request, whose row is of ``day``. Never waits, never raises."""
        for attempt in made:
            if len(self._rows) >= _WAITING:
                self._lost += 1
            else:
                self._rows.append(_row(request_id, day, attempt))

    async def flush(self) -> None:
        """Write what there is. Raises ``DatabaseUnavailable``, and keeps it then."""
        async with self._turn:
            if not self._rows:
                return
            rows, self._rows = self._rows, []
            written = False
            try:
                async with self._database.transaction() as conn:
                    await self._database.execute(conn, _ADD.statements(rows))
                written = True
            finally:
                if not written:
                    self._rows = [*rows, *self._rows]
            if self._lost:
                log.warning("attempts were not written down", extra={"rows": self._lost})
                self._lost = 0


def _row(request_id: str, day: int, attempt: AttemptMade) -> _Row:
    return (
        day,
        key_of(request_id),
        attempt.number,
        attempt.provider,
        attempt.credential,
        fit(attempt.upstream_model, 256),
        attempt.upstream_dialect,
        fit(attempt.reason, 32),
        attempt.failure,
        attempt.status,
        fit_or_none(attempt.upstream_request_id, 128),
        attempt.started_ms,
        attempt.first_ms,
        attempt.ended_ms,
        None if attempt.retry_after_ms is None else min(attempt.retry_after_ms, _MOST_MS),
        _count(attempt.input_tokens),
        _count(attempt.output_tokens),
        attempt.maybe_billed,
        fit_or_none(attempt.message, _MESSAGE),
    )


def _count(tokens: int | None) -> int | None:
    return None if tokens is None else min(max(tokens, 0), _MOST_MS)


class TrailOfRequest(msgspec.Struct, frozen=True):
    """How one request came to its answer. ``reason`` is why the last upstream was asked, where that was noted."""

    id: str
    model: str
    provider: str
    credential: str | None
    attempts: int
    outcome: str | None
    reason: str | None
    made: tuple[AttemptMade, ...]


_ATTEMPTS: Final = select(*(attempts.c[name] for name in _COLUMNS))


async def find(conn: AsyncConnection, request_id: str, day: int) -> Sequence[AttemptMade]:
    """The attempts of a request in their order; none where there was one only, and it was answered.

    ``day`` is that of its row. Whoever asks has seen that the request is theirs.
    """
    rows = await conn.execute(
        _ATTEMPTS.where(attempts.c.day == day, attempts.c.request_id == request_id).order_by(
            attempts.c.number
        )
    )
    return [AttemptMade(*row) for row in rows]


class FailedAttempt(msgspec.Struct, frozen=True):
    """An attempt that a provider failed, for the operator: of which request, when that began (epoch milliseconds), and how."""

    id: str
    at: int
    model: str
    credential: str
    failure: str
    status: int | None
    message: str | None


async def newest_failed(
    conn: AsyncConnection, provider: str, first_day: int, most: int = 20
) -> list[FailedAttempt]:
    """The newest failed attempts of a provider since ``first_day`` (UTC day number), with its own words."""
    rows = await conn.execute(
        select(
            attempts.c.request_id,
            requests.c.created_at,
            attempts.c.upstream_model,
            attempts.c.credential,
            attempts.c.failure,
            attempts.c.status,
            attempts.c.message,
        )
        .join_from(
            attempts,
            requests,
            and_(requests.c.day == attempts.c.day, requests.c.id == attempts.c.request_id),
        )
        .where(attempts.c.day >= first_day, attempts.c.provider == provider, attempts.c.failure != "")
        .order_by(requests.c.created_at.desc())
        .limit(most)
    )
    return [FailedAttempt(*row) for row in rows]


async def trail(conn: AsyncConnection, request_id: str) -> TrailOfRequest | None:
    """How a request of any account came to its answer, for the operator; None where there is none of this id."""
    columns = entries.c
    wanted = select(
        columns.day,
        columns.model,
        columns.provider,
        columns.credential,
        columns.attempts,
        columns.outcome,
        columns.reason,
    ).where(columns.id == request_id, of_some_day(columns.day))
    row = (await conn.execute(wanted)).one_or_none()
    if row is None:
        return None
    day, *words = row
    return TrailOfRequest(request_id, *words, made=tuple(await find(conn, request_id, day)))


async def forget_before(conn: AsyncConnection, day: int) -> int:
    """Remove those of earlier days (UTC day number)."""
    return (await conn.execute(delete(attempts).where(attempts.c.day < day))).rowcount
