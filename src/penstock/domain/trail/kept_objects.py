"""Objects that staff add and remove by name, such as webhooks: looked up, sealed anew, and removed so that it can be undone.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from sqlalchemy import Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import Changed
from penstock.domain.trail.entries import Actor, Fields, ObjectKind, Subject, TrailAction
from penstock.store.secrets_file import Entropy, SecretsFile


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


async def reseal_rows(
    conn: AsyncConnection,
    table: Table,
    about: Callable[[str], bytes],
    secrets_file: SecretsFile,
    entropy: Entropy,
) -> int:
    """Seal anew what an older key of the ring sealed in a table; how many. Raises ``SecretsFileError``."""
    rows = await conn.execute(select(table.c.id, table.c.sealed).where(table.c.sealed.is_not(None)))
    count = 0
    for id, sealed in rows.all():
        if secrets_file.sealed_with(sealed) != secrets_file.seal_id:
            fresh = secrets_file.seal(secrets_file.unseal(sealed, about(id)), about(id), entropy)
            await conn.execute(update(table).where(table.c.id == id).values(sealed=fresh))
            count += 1
    return count
