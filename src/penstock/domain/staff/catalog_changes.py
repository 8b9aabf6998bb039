"""Changes of the catalogue by staff and commands: previewed with their effect, kept before and after, and undone.

``preview`` and ``apply_change`` take the same document; the first only looks. A provider's own values (headers, fields that
are put into every body) may be secret: the trail has a fingerprint in their place.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.catalog import Model, Upstream
from penstock.domain.catalog import catalog_store, publishing
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.toml_document import CatalogDocument, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import CannotUndo, Changed
from penstock.domain.trail.entries import Actor, FieldValue, Subject
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import users

Kinds = Mapping[str, Upstream]
CatalogRow = Upstream | Model | Plan
_UNSEEN: Final = frozenset({"moved", "managed", "released"})
"""What changes no row's own fields."""
_SECRET: Final = frozenset({"habits"})
_DERIVED: Final = frozenset({"profile", "model_profiles", "id", "created_at"})
_LONGEST: Final = 1000
"""Characters of a field's value that the trail has."""


class Effect(msgspec.Struct, frozen=True):
    """What a document would change, and for how many accounts: by plan that changes or goes."""

    changes: tuple[catalog_store.Change, ...]
    accounts: tuple[tuple[str, int], ...]
    before: Mapping[str, str]
    """The rows that change as TOML, by ``kind id``."""
    after: Mapping[str, str]


async def preview(
    conn: AsyncConnection, document: CatalogDocument, kinds: Kinds, *, prune: bool = False, manager: str = ""
) -> Effect:
    """What applying the document would do. Raises ``CatalogError``."""
    before = await catalog_store.load_document(conn, kinds)
    after, found = await catalog_store.plan_changes(conn, before, document, prune=prune, manager=manager)
    touched = [change.id for change in found if change.kind == "plan" and change.action not in _UNSEEN]
    counts: list[tuple[str, int]] = []
    if touched:
        rows = await conn.execute(
            select(users.c.plan_id, func.count())
            .where(users.c.plan_id.in_(touched))
            .group_by(users.c.plan_id)
        )
        counts = [(row[0], row[1]) for row in rows]
    named = [f"{change.kind} {change.id}" for change in found if change.action not in _UNSEEN]
    old, new = texts(before), texts(after)
    return Effect(
        tuple(found),
        tuple(counts),
        {name: old[name] for name in named if name in old},
        {name: new[name] for name in named if name in new},
    )


async def apply_change(
    conn: AsyncConnection,
    document: CatalogDocument,
    kinds: Kinds,
    actor: Actor,
    *,
    prune: bool = False,
    manager: str = "",
    reason: str = "",
    now: int,
    entropy: Entropy,
) -> list[catalog_store.Change]:
    """Apply a document, and keep what it changed. ``manager`` is the file that it is. Raises ``CatalogError``."""
    before = await catalog_store.load_document(conn, kinds)
    done = await catalog_store.apply_document(conn, document, kinds, now, prune=prune, manager=manager)
    if done:
        await note(conn, before, done, kinds, actor, reason=reason, now=now, entropy=entropy)
        await _note_managers(conn, done, manager, actor, now=now, entropy=entropy)
    return done


async def release(
    conn: AsyncConnection, manager: str, actor: Actor, *, now: int, entropy: Entropy
) -> list[catalog_store.Change]:
    """Let go of all that a file manages."""
    done = await catalog_store.release_rows(conn, manager)
    await _note_managers(conn, done, manager, actor, now=now, entropy=entropy)
    return done


async def publish(
    conn: AsyncConnection,
    providers: Sequence[Upstream],
    models: Sequence[Model],
    kinds: Kinds,
    actor: Actor,
    *,
    plans: Sequence[str] | None = None,
    now: int,
    entropy: Entropy,
) -> list[catalog_store.Change]:
    """Publish models (``domain/catalog/publishing.py``), and keep what that changed. Raises ``CatalogError``."""
    before = await catalog_store.load_document(conn, kinds)
    done = await publishing.publish_models(conn, providers, models, kinds, now, plans=plans)
    if done:
        await note(conn, before, done, kinds, actor, now=now, entropy=entropy)
    return done


async def withdraw(
    conn: AsyncConnection,
    patterns: Sequence[str],
    kinds: Kinds,
    actor: Actor,
    *,
    ids: Sequence[str] = (),
    reason: str = "",
    now: int,
    entropy: Entropy,
) -> list[catalog_store.Change]:
    """Take models back, by patterns and by their ids, and keep what that changed. Raises ``CatalogError``."""
    before = await catalog_store.load_document(conn, kinds)
    done = await publishing.withdraw_models(conn, patterns, kinds, now, ids=ids)
    if done:
        await note(conn, before, done, kinds, actor, reason=reason, now=now, entropy=entropy)
    return done


async def _note_managers(
    conn: AsyncConnection,
    done: Sequence[catalog_store.Change],
    manager: str,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    for it in done:
        if it.action not in ("managed", "released"):
            continue
        managed = it.action == "managed"
        await entries.write(
            conn,
            actor,
            it.action,
            Subject(it.kind, it.id, it.id),
            before={"managed_by": None if managed else manager},
            after={"managed_by": manager if managed else None},
            now=now,
            entropy=entropy,
        )


async def note(
    conn: AsyncConnection,
    before: CatalogDocument,
    done: Sequence[catalog_store.Change],
    kinds: Kinds,
    actor: Actor,
    *,
    reason: str = "",
    now: int,
    entropy: Entropy,
) -> None:
    """Keep what a change of the catalogue did, in the transaction that made it; ``before`` is the catalogue until then."""
    after = await catalog_store.load_document(conn, kinds)
    old, new = _rows(before), _rows(after)
    old_texts, new_texts = texts(before), texts(after)
    moved = [change for change in done if change.action not in _UNSEEN]
    kept = [
        Changed(it.kind, it.id, old_texts.get(f"{it.kind} {it.id}"), new_texts.get(f"{it.kind} {it.id}"))
        for it in moved
    ]
    if kept:
        await changes.record(conn, actor, kept, now=now, entropy=entropy)
    for it in moved:
        was, became = old.get((it.kind, it.id)), new.get((it.kind, it.id))
        left, right = entries.difference(_fields(was), _fields(became))
        await entries.write(
            conn,
            actor,
            "catalog_changed",
            Subject(it.kind, it.id, it.id),
            before=left,
            after=right,
            reason=reason,
            now=now,
            entropy=entropy,
        )


async def undo(
    conn: AsyncConnection,
    operation: Sequence[changes.KeptChange],
    kinds: Kinds,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> list[catalog_store.Change]:
    """Put the rows of an operation back. Raises ``CannotUndo``, and ``CatalogError`` where something depends on them now."""
    current = await catalog_store.load_document(conn, kinds)
    there = texts(current)
    for change in operation:
        name = f"{change.object_kind} {change.object_id}"
        if there.get(name) != change.after:
            raise CannotUndo(f"The {name} was changed since: it is no longer what that change left.")
    back = [parse(change.before, kinds) for change in operation if change.before is not None]
    document = CatalogDocument(
        tuple(row for part in back for row in part.providers),
        tuple(row for part in back for row in part.models),
        tuple(row for part in back for row in part.plans),
    )
    gone = {(change.object_kind, change.object_id) for change in operation if change.before is None}
    merged = catalog_store.merge(current, document, prune=False)
    wanted = CatalogDocument(
        tuple(row for row in merged.providers if ("provider", row.id) not in gone),
        tuple(row for row in merged.models if ("model", row.id) not in gone),
        tuple(row for row in merged.plans if ("plan", row.id) not in gone),
    )
    return await apply_change(
        conn,
        wanted,
        kinds,
        actor,
        prune=True,
        reason=f"undoes {operation[0].operation}",
        now=now,
        entropy=entropy,
    )


def _rows(document: CatalogDocument) -> dict[tuple[str, str], CatalogRow]:
    found: dict[tuple[str, str], CatalogRow] = {}
    found.update({("provider", row.id): row for row in document.providers})
    found.update({("model", row.id): row for row in document.models})
    found.update({("plan", row.id): row for row in document.plans})
    return found


def texts(document: CatalogDocument) -> dict[str, str]:
    """Each row as TOML that gives it back, by ``kind id``."""
    return {
        **{f"provider {row.id}": dump(CatalogDocument(providers=(row,))) for row in document.providers},
        **{f"model {row.id}": dump(CatalogDocument(models=(row,))) for row in document.models},
        **{f"plan {row.id}": dump(CatalogDocument(plans=(row,))) for row in document.plans},
    }


def _fields(row: CatalogRow | None) -> dict[str, FieldValue]:
    """The fields of a row, as the trail tells them."""
    if row is None:
        return {}
    return {name: _told(name, getattr(row, name)) for name in row.__struct_fields__ if name not in _DERIVED}


def _told(name: str, value: object) -> FieldValue:
    if name in _SECRET:
        return fingerprint(msgspec.json.encode(value)) if value else ""
    if value is None or isinstance(value, str | int | bool):
        return value
    return msgspec.json.encode(value).decode()[:_LONGEST]


def fingerprint(secret: bytes) -> str:
    """What tells two secrets apart and gives none away."""
    return f"sha256:{hashlib.sha256(b'penstock fingerprint' + secret).hexdigest()[:8]}"
