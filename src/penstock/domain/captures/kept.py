"""Kept captures: what was asked and answered, sealed, each read with a reason that the trail keeps, and deleted after days.

Every function takes a connection inside a transaction; times are epoch milliseconds.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.captures.orders import REASON_LIMIT, NoCaptureOrder
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import InvalidRequest
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.bulk import Bulk
from penstock.store.sql.database import Database
from penstock.store.sql.schema import captures

CAPTURES_PER_PAGE: Final = 50
_OWN_AT_ONCE: Final = 5
"""Captured requests in memory while an account's data are written: each may be two MiB."""


class CaptureContent(msgspec.Struct, frozen=True):
    """What was asked and answered, as bytes; ``cut``: there was more than is kept."""

    asked: bytes
    answered: bytes
    cut: bool


class CapturedRequest(msgspec.Struct, frozen=True):
    """One request with its content on the way to its place."""

    request_id: str
    order_id: str
    account_id: str
    key_id: str
    at: int
    status: int
    content: CaptureContent


class CaptureShown(msgspec.Struct, frozen=True):
    """A captured request without its content. ``bytes`` is how much is kept of it."""

    request_id: str
    order_id: str
    account_id: str
    key_id: str
    at: int
    status: int
    bytes: int


class CaptureRead(msgspec.Struct, frozen=True):
    """A captured request with its content, as text."""

    request_id: str
    account_id: str
    at: int
    status: int
    asked: str
    answered: str
    cut: bool


_ADD: Final = Bulk(
    "INSERT INTO captures (request_id, order_id, account_id, key_id, at, status, bytes, sealed) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (request_id) DO NOTHING",
)
SealedCapture = tuple[str, str, str, str, int, int, int, bytes]
_decode = msgspec.msgpack.Decoder(CaptureContent).decode


def seal_capture(made: CapturedRequest, secrets_file: SecretsFile, entropy: Entropy) -> SealedCapture:
    """A row of the table."""
    content = made.content
    sealed = secrets_file.seal(msgspec.msgpack.encode(content), _about(made.request_id), entropy)
    size = len(content.asked) + len(content.answered)
    return (
        made.request_id,
        made.order_id,
        made.account_id,
        made.key_id,
        made.at,
        made.status,
        size,
        sealed,
    )


async def write_captures(database: Database, rows: Sequence[SealedCapture]) -> None:
    """Put them into their table. Raises ``DatabaseUnavailable``."""
    async with database.transaction() as conn:
        await database.execute(conn, _ADD.statements(list(rows)))


async def captures_of(
    conn: AsyncConnection, order_id: str, *, most: int = CAPTURES_PER_PAGE
) -> list[CaptureShown]:
    """What was captured by an order, the newest first."""
    query = select(*_COLUMNS).where(captures.c.order_id == order_id)
    rows = await conn.execute(query.order_by(captures.c.at.desc(), captures.c.request_id).limit(most))
    return [CaptureShown(*row) for row in rows]


async def order_behind(conn: AsyncConnection, request_id: str) -> str | None:
    """By which order a request was captured; None where nothing of it is kept."""
    return await conn.scalar(select(captures.c.order_id).where(captures.c.request_id == request_id))


async def read_capture(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    request_id: str,
    reason: str,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> CaptureRead:
    """The content of a captured request; that it was read, and why, is in the trail. Raises ``NoCaptureOrder``."""
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= REASON_LIMIT or not reason.isprintable():
        raise InvalidRequest(f"Say why it is read, in 1 to {REASON_LIMIT} characters.", param="reason")
    columns = captures.c
    query = select(columns.account_id, columns.at, columns.status, columns.sealed)
    row = (await conn.execute(query.where(columns.request_id == request_id))).one_or_none()
    if row is None:
        raise NoCaptureOrder("Nothing of such a request is kept.")
    account_id, at, status, sealed = row
    content = _decode(secrets_file.unseal(sealed, _about(request_id)))
    subject = Subject("capture", account_id, request_id)
    await entries.write(conn, actor, "capture_read", subject, reason=reason, now=now, entropy=entropy)
    return _as_text(request_id, account_id, at, status, content)


async def captures_of_account(
    conn: AsyncConnection, secrets_file: SecretsFile, account_id: str, *, after: str = ""
) -> list[CaptureRead]:
    """What is kept of an account's requests, for those it belongs to: the next few ``after`` a request's id."""
    columns = captures.c
    query = select(columns.request_id, columns.at, columns.status, columns.sealed).where(
        columns.account_id == account_id, columns.request_id > after
    )
    rows = await conn.execute(query.order_by(columns.request_id).limit(_OWN_AT_ONCE))
    return [
        _as_text(id, account_id, at, status, _decode(secrets_file.unseal(sealed, _about(id))))
        for id, at, status, sealed in rows
    ]


async def forget_captures(conn: AsyncConnection, *, before: int) -> int:
    """Delete what was captured before; how many."""
    return (await conn.execute(delete(captures).where(captures.c.at < before))).rowcount


def _as_text(request_id: str, account_id: str, at: int, status: int, content: CaptureContent) -> CaptureRead:
    asked, answered = (part.decode(errors="replace") for part in (content.asked, content.answered))
    return CaptureRead(request_id, account_id, at, status, asked, answered, content.cut)


def _about(request_id: str) -> bytes:
    return f"captures|{request_id}".encode()


SEALED_CAPTURES: Final = SealedColumn(captures.c.sealed, (captures.c.request_id,), _about, at_once=4)
"""Each may be two MiB."""


_COLUMNS = tuple(captures.c[name] for name in CaptureShown.__struct_fields__)
