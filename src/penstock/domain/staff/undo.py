"""Undoing of changes, of whatever kind: everything of an operation or nothing, by whoever may make such a change."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import accounts
from penstock.domain.catalog import catalog_managers, catalog_store
from penstock.domain.catalog.toml_document import CatalogError
from penstock.domain.exports import destinations
from penstock.domain.notifications import rules, webhooks
from penstock.domain.staff import catalog_changes, people, provider_changes
from penstock.domain.staff.catalog_changes import Kinds
from penstock.domain.staff.roles import Permission, may, require
from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import CannotUndo, KeptChange
from penstock.domain.trail.entries import Actor, Subject
from penstock.store.secrets_file import Entropy

_NEEDS: dict[str, Permission] = {
    "user": "people",
    "key": "people",
    "provider": "catalog",
    "model": "catalog",
    "plan": "catalog",
    "webhook": "mail",
    "rule": "mail",
    "destination": "export",
}
_OF_CATALOG = frozenset({"provider", "model", "plan"})


def allowed(role: str, found: Sequence[KeptChange]) -> bool:
    """Whether a role may make, and so undo, these changes."""
    return all(may(role, _NEEDS[change.object_kind]) for change in found)


async def why_not(conn: AsyncConnection, operation: str, kinds: Kinds, *, now: int) -> str:
    """Why the operation cannot be undone, '' where it can, as far as can be told without doing it."""
    try:
        found = await changes.to_undo(conn, operation, now=now)
    except CannotUndo as error:
        return error.message
    of_catalog = [change for change in found if change.object_kind in _OF_CATALOG]
    if of_catalog:
        texts = catalog_changes.texts(await catalog_store.load_document(conn, kinds))
        for change in of_catalog:
            if texts.get(f"{change.object_kind} {change.object_id}") != change.after:
                return f"The {change.object_kind} {change.object_id} was changed since."
        held = await catalog_managers.managers(conn)
        for (kind, id), name in held.items():
            if any((change.object_kind, change.object_id) == (kind, id) for change in of_catalog):
                return f"The {kind} {id} is managed by the file {name}: change it there."
    for change in found:
        if change.object_kind == "user":
            user = await accounts.user_by_id(conn, change.object_id)
            if user is None or people.state_text(people.state_of(user)) != change.after:
                return "The account was changed since."
    return ""


async def take_back(
    conn: AsyncConnection,
    operation: str,
    role: str,
    kinds: Kinds,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    """Undo an operation. Raises ``CannotUndo``, ``NotYourRole``, ``LastOwner``."""
    found = await changes.to_undo(conn, operation, now=now)
    for change in found:
        require(role, _NEEDS[change.object_kind])
    of_catalog = [change for change in found if change.object_kind in _OF_CATALOG]
    if of_catalog:
        before = await catalog_store.load_document(conn, kinds)
        try:
            await catalog_changes.undo(conn, of_catalog, kinds, actor, now=now, entropy=entropy)
        except CatalogError as error:
            raise CannotUndo("It cannot be taken back: " + "; ".join(error.problems)) from error
        await provider_changes.after_undo(conn, before, kinds, now=now)
    for change in found:
        if change.object_kind == "user":
            await people.undo(conn, change, actor, now=now, entropy=entropy)
        elif change.object_kind == "key":
            await people.restore_key(conn, change, actor, now=now, entropy=entropy)
        elif change.object_kind == "webhook":
            await webhooks.undo_webhook(conn, change, now=now)
        elif change.object_kind == "rule":
            await rules.undo_rule(conn, change)
        elif change.object_kind == "destination":
            await destinations.undo_destination(conn, change, now=now)
    await changes.mark_undone(conn, operation, actor, now=now)
    first = found[0]
    await entries.write(
        conn,
        actor,
        "change_undone",
        Subject(first.object_kind, first.object_id),
        reason=operation,
        now=now,
        entropy=entropy,
    )
