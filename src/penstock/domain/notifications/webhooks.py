"""Webhooks: where events are sent to. Added and removed by staff; a removed one can be had back while a change can be undone.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.notifications.letters import SHAPES
from penstock.domain.notifications.signed_address import (
    SignedAddress,
    host_of,
    opened_address,
    sealed_address,
    signed_address,
)
from penstock.domain.trail import entries
from penstock.domain.trail.changes import CHANGE_UNDO_MS, CannotUndo, KeptChange
from penstock.domain.trail.entries import Actor, Subject
from penstock.domain.trail.kept_objects import named, remove_kept, write_added
from penstock.errors import InvalidRequest
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import notice_rules, webhooks

MOST_WEBHOOKS: Final = 20
NAME_LIMIT: Final = 100
_encode = msgspec.json.encode


class NoSuchWebhook(InvalidRequest):
    """There is no such webhook."""

    status = 404
    code = "no_such_webhook"


class Webhook(msgspec.Struct, frozen=True):
    """A webhook as it may be shown. Times are epoch milliseconds."""

    id: str
    name: str
    host: str
    shape: str
    created_by: str
    created_at: int


class NewWebhook(msgspec.Struct, frozen=True):
    """A webhook just made; the only moment at which its secret is known."""

    id: str
    name: str
    host: str
    shape: str
    secret: str

    def __repr__(self) -> str:
        return f"NewWebhook({self.id})"


class _Kept(msgspec.Struct, frozen=True):
    """What a change tells of a webhook, and undoes to."""

    name: str
    host: str
    shape: str


async def add_webhook(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    name: str,
    url: str,
    shape: str,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> NewWebhook:
    """Add one; whether it answers is seen by a test. Raises ``InvalidRequest``, which never repeats the address."""
    address = signed_address(url, entropy)
    name = label(name, NAME_LIMIT)
    if shape not in SHAPES:
        raise InvalidRequest(f"A shape is one of {', '.join(SHAPES)}.", param="shape")
    await _room_for(conn, name)
    id = api_key.identifier("whk", entropy(16))
    host = host_of(address.place)
    await conn.execute(
        insert(webhooks).values(
            id=id,
            name=name,
            host=host,
            shape=shape,
            sealed=sealed_address(secrets_file, address, _about(id), entropy),
            created_by=actor.name[:320],
            created_at=now,
        )
    )
    made = NewWebhook(id, name, host, shape, address.secret)
    kept, told = _encode(_Kept(name, host, shape)), {"host": host, "shape": shape}
    await write_added(conn, "webhook", "webhook_added", made, kept, told, actor, now=now, entropy=entropy)
    return made


async def list_webhooks(conn: AsyncConnection) -> list[Webhook]:
    """All that are in use, by their names."""
    rows = await conn.execute(
        select(*_SHOWN).where(webhooks.c.removed_at.is_(None)).order_by(webhooks.c.name, webhooks.c.id)
    )
    return [Webhook(*row) for row in rows]


async def webhook_named(conn: AsyncConnection, name: str) -> Webhook:
    """One by its id or its name. Raises ``NoSuchWebhook``."""
    found = named(await list_webhooks(conn), name)
    if found is None:
        raise NoSuchWebhook("There is no such webhook.")
    return found


async def remove_webhook(
    conn: AsyncConnection, webhook: Webhook, actor: Actor, *, now: int, entropy: Entropy
) -> None:
    """Send nothing there any more; its rules stay without effect for as long as it can be had back."""
    kept = _encode(_Kept(webhook.name, webhook.host, webhook.shape))
    told = {"host": webhook.host, "shape": webhook.shape}
    await remove_kept(
        conn, webhooks, "webhook", "webhook_removed", webhook, kept, told, actor, now=now, entropy=entropy
    )


async def note_webhook_test(
    conn: AsyncConnection, webhook: Webhook, actor: Actor, *, error: str, now: int, entropy: Entropy
) -> None:
    """Note that somebody has tried it, and how that went."""
    await entries.write(
        conn,
        actor,
        "webhook_tested",
        Subject("webhook", webhook.id, webhook.name),
        after={"error": error},
        now=now,
        entropy=entropy,
    )


async def undo_webhook(conn: AsyncConnection, change: KeptChange, *, now: int) -> None:
    """Put a webhook back, or take it away again. Raises ``CannotUndo``."""
    there = webhooks.c.removed_at.is_(None) if change.before is None else webhooks.c.removed_at == change.at
    if change.before is not None:
        try:
            await _room_for(conn, msgspec.json.decode(change.before, type=_Kept).name)
        except InvalidRequest as error:
            raise CannotUndo(error.message) from error
    done = await conn.execute(
        update(webhooks)
        .where(webhooks.c.id == change.object_id, there)
        .values(removed_at=now if change.before is None else None)
    )
    if done.rowcount != 1:
        raise CannotUndo("This webhook was changed since.")


async def opened_webhook(
    conn: AsyncConnection, secrets_file: SecretsFile, id: str
) -> tuple[Webhook, SignedAddress]:
    """One that is in use, with its address. Raises ``NoSuchWebhook``, ``SecretsFileError``."""
    found = await webhook_named(conn, id)
    sealed = await conn.scalar(select(webhooks.c.sealed).where(webhooks.c.id == found.id))
    return found, opened_address(secrets_file, sealed or b"", _about(found.id))


async def tidy_webhooks(conn: AsyncConnection, *, now: int) -> None:
    """Delete what was removed so long ago that it cannot be had back, with its rules."""
    over = webhooks.c.removed_at < now - CHANGE_UNDO_MS
    gone = list(await conn.scalars(select(webhooks.c.id).where(over)))
    if gone:
        await conn.execute(delete(notice_rules).where(notice_rules.c.webhook_id.in_(gone)))
        await conn.execute(delete(webhooks).where(webhooks.c.id.in_(gone)))


def label(text: str, most: int) -> str:
    """What something is called. Raises ``InvalidRequest``."""
    text = text.strip()
    if not 0 < len(text) <= most or not text.isprintable():
        raise InvalidRequest(f"A name is one line of 1 to {most} characters.", param="name")
    return text


async def _room_for(conn: AsyncConnection, name: str) -> None:
    """Raises ``InvalidRequest`` where there are too many, or one of the name."""
    found = await list_webhooks(conn)
    if len(found) >= MOST_WEBHOOKS:
        raise InvalidRequest(f"There are {MOST_WEBHOOKS} webhooks; remove one first.")
    if any(it.name == name for it in found):
        raise InvalidRequest("There is a webhook of this name.", param="name")


def _about(id: str) -> bytes:
    return f"webhooks|{id}|sealed".encode()


SEALED_WEBHOOKS: Final = SealedColumn(webhooks.c.sealed, (webhooks.c.id,), _about)


_SHOWN = tuple(webhooks.c[name] for name in Webhook.__struct_fields__)
