"""The outbox: a mail is written in the transaction that wants it sent, and sent by whoever takes it up.

A mail holds a one-time code, so what is kept of it is sealed, and is deleted once it was sent or given up. Every function
takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

import logging
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile, SecretsFileError
from penstock.store.sql.schema import outbox

log = logging.getLogger("penstock.domain.mail")

TRIES = 10
"""Attempts after which a mail is given up: about four hours after the first."""
_FIRST_RETRY = 30_000


class Mail(msgspec.Struct, frozen=True):
    """A mail. ``paragraphs`` are its text; ``code`` stands by itself, large, after the first of them."""

    kind: str
    recipient: str
    subject: str
    paragraphs: tuple[str, ...]
    code: str = ""

    def __repr__(self) -> str:
        return f"Mail({self.kind})"


class Due(msgspec.Struct, frozen=True):
    """A mail that was taken up, and is due again at ``held_until`` unless it is reported as sent."""

    id: str
    mail: Mail
    tries: int
    held_until: int


async def queue(
    conn: AsyncConnection, secrets_file: SecretsFile, mail: Mail, *, now: int, entropy: Entropy
) -> None:
    """Have a mail sent, once this transaction is committed."""
    id = api_key.identifier("eml", entropy(16))
    sealed = secrets_file.seal(msgspec.json.encode(mail), _about(id), entropy)
    await conn.execute(
        insert(outbox).values(
            id=id,
            kind=mail.kind,
            recipient=mail.recipient,
            sealed=sealed,
            created_at=now,
            due_at=now,
            tries=0,
        )
    )


async def was_queued(conn: AsyncConnection, kind: str, *, since: int = 0) -> bool:
    """Whether a mail of this kind was queued after ``since``, by whichever server."""
    found = select(outbox.c.id).where(outbox.c.kind == kind, outbox.c.created_at > since).limit(1)
    return await conn.scalar(found) is not None


async def told_of(conn: AsyncConnection, kind: str) -> set[str]:
    """Those to whom a mail of this kind was queued."""
    return set(await conn.scalars(select(outbox.c.recipient).where(outbox.c.kind == kind)))


async def any_due(conn: AsyncConnection, *, now: int) -> bool:
    """Whether a mail is due: most of the time there is none, and looking does not hold up those who write."""
    return await conn.scalar(select(outbox.c.id).where(outbox.c.due_at <= now).limit(1)) is not None


async def take(conn: AsyncConnection, secrets_file: SecretsFile, *, now: int, hold_ms: int) -> Due | None:
    """Take up the mail that has been due for longest, for ``hold_ms``: no other server takes it before that is over.

    None where there is none, or another server was first, or it does not open: that is tried again as one that was not taken
    is, and holds up none of the others. One at a time, because what waits behind a slow one would be taken by others as well.
    """
    row = (
        await conn.execute(
            select(outbox.c.id, outbox.c.sealed, outbox.c.tries, outbox.c.due_at)
            .where(outbox.c.due_at <= now)
            .order_by(outbox.c.due_at, outbox.c.id)
            .limit(1)
        )
    ).first()
    if row is None:
        return None
    id, sealed, tries, due_at = row
    held_until = now + hold_ms
    ours = await conn.execute(
        update(outbox)
        .where(outbox.c.id == id, outbox.c.due_at == due_at)
        .values(due_at=held_until, tries=tries + 1)
    )
    if ours.rowcount != 1:
        return None
    try:
        mail = msgspec.json.decode(secrets_file.unseal(sealed, _about(id)), type=Mail)
    except (SecretsFileError, msgspec.MsgspecError) as error:
        log.error("a mail cannot be opened: %s", error)  # noqa: TRY400 - the text says it all
        await _note_failure(conn, id, held_until, f"cannot be opened: {error}", tries=tries + 1, now=now)
        return None
    return Due(id, mail, tries + 1, held_until)


async def was_sent(conn: AsyncConnection, due: Due, *, now: int) -> None:
    """The mail was handed over."""
    await conn.execute(
        update(outbox).where(outbox.c.id == due.id).values(sent_at=now, due_at=None, sealed=None, error=None)
    )


async def sending_failed(conn: AsyncConnection, due: Due, error: str, *, lasting: bool, now: int) -> None:
    """The mail was not taken; ``lasting``: and never will be."""
    await _note_failure(conn, due.id, due.held_until, error, tries=TRIES if lasting else due.tries, now=now)


async def _note_failure(
    conn: AsyncConnection, id: str, held_until: int, error: str, *, tries: int, now: int
) -> None:
    """With the last of its tries it is given up; otherwise the next waits from now on, however long this one took.

    Where another server has it by now, that says how it went.
    """
    if tries >= TRIES:
        then: dict[str, int | None] = {"due_at": None, "sealed": None, "given_up_at": now}
    else:
        then = {"due_at": now + (_FIRST_RETRY << (tries - 1))}
    await conn.execute(
        update(outbox)
        .where(outbox.c.id == id, outbox.c.due_at == held_until)
        .values(error=error[:200], **then)
    )


async def forget_mails(conn: AsyncConnection, *, before: int) -> None:
    """Delete what is kept of mails that were queued before then, and are due no more."""
    columns = outbox.c
    await conn.execute(delete(outbox).where(columns.created_at < before, columns.due_at.is_(None)))


def _about(id: str) -> bytes:
    return f"outbox|{id}|sealed".encode()


SEALED_MAILS: Final = SealedColumn(outbox.c.sealed, (outbox.c.id,), _about)
