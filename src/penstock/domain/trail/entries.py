"""Entries of the trail: who did what to which object, with the fields before and after, written where the change is made.

An entry is written in the transaction of the change: where there is no entry, nothing was changed. It never holds a secret.
What is personal in it (the actor's name, the address, the browser, the object's name) is kept apart from the rest by a
salted digest, so that a person who is deleted can be taken out of it without the chain breaking (``chain.py``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Row, and_, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import trail

ActorKind = Literal["user", "token", "cli", "system", "sso"]
Result = Literal["done", "refused"]
ObjectKind = Literal[
    "user", "key", "staff", "group", "setup_link", "provider", "model", "plan", "secrets", "page", "mail", "request",
    "trail", "incident", "announcement", "token", "credential", "upstream", "capture",
    "webhook", "rule", "delivery", "destination", "backup",
]  # fmt: skip
TrailAction = Literal[
    "setup_link_made", "owner_made", "role_given", "role_taken", "group_mapped", "group_unmapped", "staff_signed_in",
    "user_made", "user_changed", "user_deleted", "user_kept", "sessions_ended", "key_made", "key_revoked", "key_rolled",
    "key_restored", "catalog_changed", "change_undone", "secrets_rotated", "view_started", "view_stopped", "request_ended",
    "mail_sent_again", "mail_tested", "trail_exported", "trail_pruned", "page_refused",
    "incident_opened", "incident_updated", "announced", "announcement_withdrawn",
    "token_made", "token_revoked", "upstream_switched", "upstream_reset", "key_changed", "managed", "released",
    "provider_tested", "credential_added", "credential_rotated", "credential_removed",
    "capture_begun", "capture_ended", "capture_read",
    "webhook_added", "webhook_removed", "webhook_tested", "rule_added", "rule_removed", "delivery_sent_again",
    "destination_added", "destination_removed", "backfill_started", "backfill_stopped", "backup_made",
]  # fmt: skip
FieldValue = str | int | bool | None
Fields = Mapping[str, FieldValue]

ROWS_PER_PAGE: Final = 50
_pack = msgspec.json.Encoder().encode
_unpack = msgspec.json.Decoder(dict[str, FieldValue]).decode


class Actor(msgspec.Struct, frozen=True):
    """Who acts. ``kind`` ``cli`` is whoever ran a command: the name is that of the operating system, which proves nothing."""

    kind: ActorKind
    id: str
    name: str
    address: str = ""
    agent: str = ""
    on_behalf_of: str = ""
    request_id: str = ""
    """Of the request to the admin API by which they act."""


SYSTEM: Final = Actor("system", "", "the service itself")


class Subject(msgspec.Struct, frozen=True):
    """What an entry is about. ``name`` is what people call it."""

    kind: ObjectKind
    id: str
    name: str = ""


class Entry(msgspec.Struct, frozen=True):
    """A row of the trail, its columns in their order. ``at`` is epoch milliseconds; ``seq`` None: it is not sealed yet."""

    id: str
    at: int
    actor_kind: str
    actor_id: str
    actor_name: str
    on_behalf_of: str
    address: str
    agent: str
    action: str
    object_kind: str
    object_id: str
    object_name: str
    before: str | None
    after: str | None
    reason: str
    request_id: str
    result: str
    salt: bytes | None
    personal: bytes
    seq: int | None
    hash: bytes | None

    @property
    def changed(self) -> tuple[tuple[str, FieldValue, FieldValue], ...]:
        """The fields that were changed, each before and after."""
        before = {} if self.before is None else _unpack(self.before)
        after = {} if self.after is None else _unpack(self.after)
        return tuple((name, before.get(name), after.get(name)) for name in {**before, **after})


class TrailFilter(msgspec.Struct, frozen=True):
    """Which entries to show; an empty part takes all. ``before`` is the ``cursor`` of the last one shown."""

    actor: str = ""
    action: str = ""
    object_kind: str = ""
    object_id: str = ""
    address: str = ""
    result: str = ""
    before: str = ""


def difference(before: Fields, after: Fields) -> tuple[dict[str, FieldValue], dict[str, FieldValue]]:
    """Of both sides the fields that differ."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return (
        {name: before[name] for name in names if name in before},
        {name: after[name] for name in names if name in after},
    )


def personal_digest(salt: bytes, actor_name: str, address: str, agent: str, object_name: str) -> bytes:
    """What stands in the chain for the personal fields."""
    return hashlib.sha256(salt + _pack((actor_name, address, agent, object_name))).digest()


async def write(
    conn: AsyncConnection,
    actor: Actor,
    action: TrailAction,
    subject: Subject,
    *,
    before: Fields | None = None,
    after: Fields | None = None,
    reason: str = "",
    result: Result = "done",
    now: int,
    entropy: Entropy,
) -> str:
    """Write an entry; gives its id. ``now`` is epoch milliseconds."""
    id, salt = api_key.identifier("trl", entropy(16)), entropy(16)
    name, address, agent, called = (
        _fit(actor.name, 320),
        _fit(actor.address, 64),
        _fit(actor.agent, 200),
        _fit(subject.name, 320),
    )
    await conn.execute(
        insert(trail).values(
            id=id,
            at=now,
            actor_kind=actor.kind,
            actor_id=actor.id,
            actor_name=name,
            on_behalf_of=actor.on_behalf_of,
            address=address,
            agent=agent,
            action=action,
            object_kind=subject.kind,
            object_id=_fit(subject.id, 200),
            object_name=called,
            before=None if before is None else _pack(before).decode(),
            after=None if after is None else _pack(after).decode(),
            reason=_fit(reason, 500),
            request_id=_fit(actor.request_id, 64),
            result=result,
            salt=salt,
            personal=personal_digest(salt, name, address, agent, called),
        )
    )
    return id


async def page(
    conn: AsyncConnection, chosen: TrailFilter, most: int = ROWS_PER_PAGE
) -> tuple[list[Entry], str]:
    """Entries, the newest first, and the cursor of the next page ('' at the end). Raises ``InvalidRequest``."""
    columns = trail.c
    wanted: list[ColumnElement[bool]] = []
    if chosen.actor:
        wanted.append(or_(columns.actor_id == chosen.actor, columns.actor_name == chosen.actor))
    said = (
        (columns.action, chosen.action),
        (columns.object_kind, chosen.object_kind),
        (columns.object_id, chosen.object_id),
        (columns.address, chosen.address),
        (columns.result, chosen.result),
    )
    wanted += [column == value for column, value in said if value]
    if chosen.before:
        at, _, id = chosen.before.partition(".")
        if not (at.isascii() and at.isdigit()) or len(at) > 15:
            raise InvalidRequest("This is not a page of the list.", param="before")
        wanted.append(or_(columns.at < int(at), and_(columns.at == int(at), columns.id < id)))
    rows = await conn.execute(
        select(*COLUMNS).where(*wanted).order_by(columns.at.desc(), columns.id.desc()).limit(most + 1)
    )
    found = [read(row) for row in rows]
    if len(found) <= most:
        return found, ""
    last = found[most - 1]
    return found[:most], f"{last.at}.{last.id}"


COLUMNS: Final = tuple(trail.c[name] for name in Entry.__struct_fields__)


def read(row: Row[*tuple[Any, ...]] | Sequence[Any]) -> Entry:
    """A row as an entry."""
    return Entry(*row)


def _fit(text: str, most: int) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:most]
