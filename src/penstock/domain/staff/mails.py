"""Mails as staff see them: to whom, of which kind, and how it went; never their text. Tried again, and tried out."""

from typing import Final

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.mail import outbox
from penstock.domain.mail.outbox import Mail
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import outbox as outbox_table

_MOST: Final = 50


class SentMail(msgspec.Struct, frozen=True):
    """A mail of the outbox. Times are epoch milliseconds; ``due_at`` None and ``sent_at`` None: it was given up."""

    id: str
    kind: str
    recipient: str
    created_at: int
    due_at: int | None
    tries: int
    sent_at: int | None
    error: str | None


def _test_mail(brand: str, recipient: str) -> Mail:
    """To whoever asks whether mails arrive."""
    return Mail(
        "test",
        recipient,
        f"{brand} can send mail",
        (f"This is the mail that you asked for on the admin pages of {brand}. Nothing has to be done.",),
    )


_COLUMNS = tuple(outbox_table.c[name] for name in SentMail.__struct_fields__)


async def waiting(conn: AsyncConnection) -> list[SentMail]:
    """The mails that wait to be sent, the next one first."""
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(outbox_table.c.due_at.is_not(None))
        .order_by(outbox_table.c.due_at, outbox_table.c.id)
        .limit(_MOST)
    )
    return [SentMail(*row) for row in rows]


async def newest(conn: AsyncConnection) -> list[SentMail]:
    """The newest of those that were sent or given up."""
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(outbox_table.c.due_at.is_(None))
        .order_by(outbox_table.c.created_at.desc(), outbox_table.c.id)
        .limit(_MOST)
    )
    return [SentMail(*row) for row in rows]


class MailGone(InvalidRequest):
    """The mail cannot be sent again."""


async def try_again(conn: AsyncConnection, id: str, actor: Actor, *, now: int, entropy: Entropy) -> None:
    """Have a mail that waits be tried at once. Raises ``MailGone``."""
    if not await _send_again(conn, id, now=now):
        raise MailGone("This mail was sent, or its text is gone: it cannot be sent again.")
    await entries.write(conn, actor, "mail_sent_again", Subject("mail", id), now=now, entropy=entropy)


async def queue_test(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    brand: str,
    recipient: str,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    """Mail whoever asks, to see whether mails arrive."""
    await outbox.queue(conn, secrets_file, _test_mail(brand, recipient), now=now, entropy=entropy)
    await entries.write(conn, actor, "mail_tested", Subject("mail", ""), now=now, entropy=entropy)


async def _send_again(conn: AsyncConnection, id: str, *, now: int) -> bool:
    """Have a mail that waits be tried at once; whether there is one."""
    done = await conn.execute(
        update(outbox_table)
        .where(outbox_table.c.id == id, outbox_table.c.sent_at.is_(None), outbox_table.c.sealed.is_not(None))
        .values(due_at=now)
    )
    return done.rowcount == 1
