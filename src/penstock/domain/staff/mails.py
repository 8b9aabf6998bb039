"""Mails as staff see them: to whom, of which kind, and how it went; never their text."""

from typing import Final

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.mail.outbox import Mail
from penstock.store.sql.schema import outbox

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


def test_mail(brand: str, recipient: str) -> Mail:
    """To whoever asks whether mails arrive."""
    return Mail(
        "test",
        recipient,
        f"{brand} can send mail",
        (f"This is the mail that you asked for on the admin pages of {brand}. Nothing has to be done.",),
    )


_COLUMNS = tuple(outbox.c[name] for name in SentMail.__struct_fields__)


async def waiting(conn: AsyncConnection) -> list[SentMail]:
    """The mails that wait to be sent, the next one first."""
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(outbox.c.due_at.is_not(None))
        .order_by(outbox.c.due_at, outbox.c.id)
        .limit(_MOST)
    )
    return [SentMail(*row) for row in rows]


async def newest(conn: AsyncConnection) -> list[SentMail]:
    """The newest of those that were sent or given up."""
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(outbox.c.due_at.is_(None))
        .order_by(outbox.c.created_at.desc(), outbox.c.id)
        .limit(_MOST)
    )
    return [SentMail(*row) for row in rows]


async def send_again(conn: AsyncConnection, id: str, *, now: int) -> bool:
    """Have a mail that waits be tried at once; whether there is one."""
    done = await conn.execute(
        update(outbox)
        .where(outbox.c.id == id, outbox.c.sent_at.is_(None), outbox.c.sealed.is_not(None))
        .values(due_at=now)
    )
    return done.rowcount == 1
