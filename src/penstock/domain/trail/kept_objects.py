"""Objects that staff add and remove by name, such as webhooks: looked up, and removed so that it can be undone.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from sqlalchemy import Table, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import Changed
from penstock.domain.trail.entries import Actor, Fields, ObjectKind, Subject, TrailAction
from penstock.store.secrets_file import Entropy


class Named(Protocol):
    """What staff know by its name, and programs by its id."""

    @property
    def id(self) -> str:
        """What no other has."""
        ...

    @property
    def name(self) -> str:
        """What none beside it has."""
        ...


N = TypeVar("N", bound=Named)


def named(found: Iterable[N], name: str) -> N | None:
    """The one with this id or this name."""
    return next((it for it in found if name in (it.id, it.name)), None)


async def write_added(
    conn: AsyncConnection,
    kind: ObjectKind,
    action: TrailAction,
    made: Named,
    kept: bytes,
    fields: Fields,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    """One was added: ``kept`` is what a change tells of it, ``fields`` what the trail does."""
    changed = [Changed(kind, made.id, None, kept.decode())]
    await changes.record(conn, actor, changed, now=now, entropy=entropy)
    subject = Subject(kind, made.id, made.name)
    await entries.write(conn, actor, action, subject, after=fields, now=now, entropy=entropy)


async def remove_kept(
    conn: AsyncConnection,
    table: Table,
    kind: ObjectKind,
    action: TrailAction,
    gone: Named,
    kept: bytes,
    fields: Fields,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    """Remove one; its row stays for as long as it can be had back."""
    await conn.execute(update(table).where(table.c.id == gone.id).values(removed_at=now))
    changed = [Changed(kind, gone.id, kept.decode(), None)]
    await changes.record(conn, actor, changed, now=now, entropy=entropy)
    subject = Subject(kind, gone.id, gone.name)
    await entries.write(conn, actor, action, subject, before=fields, now=now, entropy=entropy)
