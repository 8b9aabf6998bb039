"""Changes: each object of the configuration and of an account before and after somebody changed it, so that it can be undone.

A change is kept as text that restores: TOML for providers, models and plans, JSON for the state of an account. Those of one
operation are undone together, for ``CHANGE_UNDO_MS``, as long as every object is still what the operation left. What is
not is shown instead. ``domain/staff/catalog_changes.py`` and ``people.py`` know how to put each kind back.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.trail.entries import Actor, ObjectKind
from penstock.errors import CallerError, InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import changes

CHANGE_UNDO_MS: Final = 30 * 86_400_000
"""How long a change can be undone."""
ROWS_PER_PAGE: Final = 50


class CannotUndo(CallerError):
    """The change cannot be taken back: too long ago, undone already, or something was changed since."""

    status = 409
    code = "cannot_undo"


class Changed(msgspec.Struct, frozen=True):
    """An object before and after; None where it was not there."""

    kind: ObjectKind
    id: str
    before: str | None
    after: str | None


class KeptChange(msgspec.Struct, frozen=True):
    """A change as it is kept. Times are epoch milliseconds."""

    id: str
    at: int
    operation: str
    actor_id: str
    actor_name: str
    object_kind: ObjectKind
    object_id: str
    before: str | None
    after: str | None
    undone_at: int | None
    undone_by: str | None

    def undoable(self, now: int) -> bool:
        """Whether it is neither undone nor too old."""
        return self.undone_at is None and now - self.at <= CHANGE_UNDO_MS


async def record(
    conn: AsyncConnection, actor: Actor, changed: Sequence[Changed], *, now: int, entropy: Entropy
) -> str:
    """Keep what one operation has changed; gives the operation's id."""
    operation = api_key.identifier("opn", entropy(16))
    for it in changed:
        await conn.execute(
            insert(changes).values(
                id=api_key.identifier("chg", entropy(16)),
                at=now,
                operation=operation,
                actor_id=actor.id,
                actor_name=actor.name[:320],
                object_kind=it.kind,
                object_id=it.id[:200],
                before=it.before,
                after=it.after,
            )
        )
    return operation


async def of_operation(conn: AsyncConnection, operation: str) -> list[KeptChange]:
    """All of an operation."""
    rows = await conn.execute(
        select(*_COLUMNS).where(changes.c.operation == operation).order_by(changes.c.id)
    )
    return [KeptChange(*row) for row in rows]


async def page(
    conn: AsyncConnection,
    *,
    object_kind: str = "",
    object_id: str = "",
    before: str = "",
    most: int = ROWS_PER_PAGE,
) -> tuple[list[KeptChange], str]:
    """Changes, the newest first, and the cursor of the next page. Raises ``InvalidRequest``."""
    columns = changes.c
    query = select(*_COLUMNS).order_by(columns.at.desc(), columns.id.desc()).limit(most + 1)
    if object_kind:
        query = query.where(columns.object_kind == object_kind)
    if object_id:
        query = query.where(columns.object_id == object_id)
    if before:
        at, _, id = before.partition(".")
        if not (at.isascii() and at.isdigit()) or len(at) > 15:
            raise InvalidRequest("This is not a page of the list.", param="before")
        query = query.where(or_(columns.at < int(at), and_(columns.at == int(at), columns.id < id)))
    found = [KeptChange(*row) for row in await conn.execute(query)]
    if len(found) <= most:
        return found, ""
    return found[:most], f"{found[most - 1].at}.{found[most - 1].id}"


async def to_undo(conn: AsyncConnection, operation: str, *, now: int) -> list[KeptChange]:
    """The changes of an operation that can be undone. Raises ``CannotUndo``."""
    found = await of_operation(conn, operation)
    if not found:
        raise CannotUndo("There is no such change.")
    if any(change.undone_at is not None for change in found):
        raise CannotUndo("This change was undone already.")
    if not all(change.undoable(now) for change in found):
        raise CannotUndo(
            "This change is older than 30 days and can no longer be undone. Make the opposite change."
        )
    return found


async def mark_undone(conn: AsyncConnection, operation: str, actor: Actor, *, now: int) -> None:
    """Note that the operation was undone. Raises ``CannotUndo`` where another was quicker."""
    done = await conn.execute(
        update(changes)
        .where(changes.c.operation == operation, changes.c.undone_at.is_(None))
        .values(undone_at=now, undone_by=actor.name[:320])
    )
    if done.rowcount == 0:
        raise CannotUndo("This change was undone already.")


_COLUMNS = tuple(changes.c[name] for name in KeptChange.__struct_fields__)
