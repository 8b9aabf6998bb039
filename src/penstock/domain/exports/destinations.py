"""Destinations of exports: each a cursor over what was settled, added and removed by staff; one server at a time sends for it.

A new one begins with what is settled from then on. Every function takes a connection inside a transaction; ``now`` is epoch
milliseconds.
"""

import re
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.exports.places import Bucket, DestinationWish, Endpoint, checked_place
from penstock.domain.exports.settled import last_number, number_new
from penstock.domain.exports.shapes import LINE_SHAPES
from penstock.domain.notifications.signed_address import SignedAddress, host_of, opened_address
from penstock.domain.trail.changes import CHANGE_UNDO_MS, CannotUndo, KeptChange
from penstock.domain.trail.entries import Actor
from penstock.domain.trail.kept_objects import named, remove_kept, write_added
from penstock.errors import InvalidRequest
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import destinations

CARRIERS: Final = ("webhook", "file", "s3", "otlp")
SHAPED: Final = ("file", "s3")
"""The carriers of lines, which may have another shape."""
MOST_DESTINATIONS: Final = 5
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_RETRY_FIRST: Final = 2_000
_RETRY_LAST: Final = 300_000
_encode = msgspec.json.encode


class NoSuchDestination(InvalidRequest):
    """There is no such destination."""

    status = 404
    code = "no_such_destination"


class Destination(msgspec.Struct, frozen=True):
    """A destination as it may be shown. Times are epoch milliseconds; ``failed_at`` is since when it takes nothing."""

    id: str
    name: str
    kind: str
    host: str
    created_by: str
    created_at: int
    cursor: int
    delivered: int
    tries: int
    failed_at: int | None
    error: str | None
    shape: str


class NewDestination(msgspec.Struct, frozen=True):
    """A destination just made; the only moment at which its secret is known. '' for a file."""

    id: str
    name: str
    kind: str
    secret: str

    def __repr__(self) -> str:
        return f"NewDestination({self.id})"


class _Kept(msgspec.Struct, frozen=True):
    """What a change tells of a destination."""

    name: str
    kind: str
    host: str


async def add_destination(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    wish: DestinationWish,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> NewDestination:
    """Add one. Raises ``InvalidRequest``, which never repeats the address."""
    name, kind = wish.name, wish.kind
    if kind not in CARRIERS:
        raise InvalidRequest(f"A destination is one of {', '.join(CARRIERS)}.", param="kind")
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest("A name has up to 40 of a-z, 0-9, _ and -; metrics call it so.", param="name")
    if wish.shape not in LINE_SHAPES or (wish.shape != "receipts" and kind not in SHAPED):
        raise InvalidRequest(
            f"A shape is one of {', '.join(LINE_SHAPES)}; another than receipts is for files and buckets.",
            param="shape",
        )
    where = checked_place(wish, entropy)
    await _room_for(conn, name)
    id = api_key.identifier("dst", entropy(16))
    host = "" if where is None else host_of(where.place)
    sealed = None if where is None else secrets_file.seal(_encode(where), _about(id), entropy)
    await conn.execute(
        insert(destinations).values(
            id=id,
            name=name,
            kind=kind,
            shape=wish.shape,
            host=host,
            sealed=sealed,
            created_by=actor.name[:320],
            created_at=now,
            cursor=await _from_now_on(conn),
            delivered=0,
            holder="",
            held_until=0,
            again_at=0,
            tries=0,
        )
    )
    made = NewDestination(id, name, kind, where.secret if isinstance(where, SignedAddress) else "")
    kept, told = _encode(_Kept(name, kind, host)), {"kind": kind, "host": host}
    await write_added(
        conn, "destination", "destination_added", made, kept, told, actor, now=now, entropy=entropy
    )
    return made


async def list_destinations(conn: AsyncConnection) -> list[Destination]:
    """All that are in use, by their names."""
    rows = await conn.execute(
        select(*_SHOWN).where(destinations.c.removed_at.is_(None)).order_by(destinations.c.name)
    )
    return [Destination(*row) for row in rows]


async def destination_named(conn: AsyncConnection, name: str) -> Destination:
    """One by its id or its name. Raises ``NoSuchDestination``."""
    found = named(await list_destinations(conn), name)
    if found is None:
        raise NoSuchDestination("There is no such destination.")
    return found


async def remove_destination(
    conn: AsyncConnection, destination: Destination, actor: Actor, *, now: int, entropy: Entropy
) -> None:
    """Export nothing there any more."""
    kept = _encode(_Kept(destination.name, destination.kind, destination.host))
    told = {"kind": destination.kind, "host": destination.host}
    await remove_kept(
        conn,
        destinations,
        "destination",
        "destination_removed",
        destination,
        kept,
        told,
        actor,
        now=now,
        entropy=entropy,
    )


async def undo_destination(conn: AsyncConnection, change: KeptChange, *, now: int) -> None:
    """Put a destination back, from now on, or take it away again. Raises ``CannotUndo``."""
    columns = destinations.c
    if change.before is None:
        there, values = columns.removed_at.is_(None), {"removed_at": now}
    else:
        try:
            await _room_for(conn, msgspec.json.decode(change.before, type=_Kept).name)
        except InvalidRequest as error:
            raise CannotUndo(error.message) from error
        fresh = {"removed_at": None, "cursor": await _from_now_on(conn), "tries": 0, "again_at": 0}
        there, values = columns.removed_at == change.at, {**fresh, "failed_at": None, "error": None}
    done = await conn.execute(
        update(destinations).where(columns.id == change.object_id, there).values(**values)
    )
    if done.rowcount != 1:
        raise CannotUndo("This destination was changed since.")


async def tidy_destinations(conn: AsyncConnection, *, now: int) -> None:
    """Delete what was removed so long ago that it cannot be had back."""
    await conn.execute(delete(destinations).where(destinations.c.removed_at < now - CHANGE_UNDO_MS))


# ---- what the exporter asks


async def hold_destination(
    conn: AsyncConnection, id: str, holder: str, *, lease_ms: int, now: int
) -> Destination | None:
    """Hold one for so long; None where it is not due, or another server has it."""
    columns = destinations.c
    ours = await conn.execute(
        update(destinations)
        .where(
            columns.id == id,
            columns.removed_at.is_(None),
            columns.again_at <= now,
            (columns.holder == holder) | (columns.held_until < now),
        )
        .values(holder=holder, held_until=now + lease_ms)
    )
    if ours.rowcount != 1:
        return None
    return await destination_named(conn, id)


async def address_of_destination(conn: AsyncConnection, secrets_file: SecretsFile, id: str) -> SignedAddress:
    """Where a webhook is. Raises ``SecretsFileError``."""
    return opened_address(secrets_file, await _sealed(conn, id), _about(id))


async def bucket_of_destination(conn: AsyncConnection, secrets_file: SecretsFile, id: str) -> Bucket:
    """Where a bucket is. Raises ``SecretsFileError``."""
    return msgspec.json.decode(secrets_file.unseal(await _sealed(conn, id), _about(id)), type=Bucket)


async def endpoint_of_destination(conn: AsyncConnection, secrets_file: SecretsFile, id: str) -> Endpoint:
    """Where a collector is. Raises ``SecretsFileError``."""
    return msgspec.json.decode(secrets_file.unseal(await _sealed(conn, id), _about(id)), type=Endpoint)


async def advance(
    conn: AsyncConnection, destination: Destination, holder: str, *, cursor: int, count: int
) -> bool:
    """What is up to ``cursor`` has arrived; False where another server holds it by now."""
    columns = destinations.c
    done = await conn.execute(
        update(destinations)
        .where(columns.id == destination.id, columns.holder == holder, columns.cursor == destination.cursor)
        .values(
            cursor=cursor,
            delivered=columns.delivered + count,
            tries=0,
            again_at=0,
            failed_at=None,
            error=None,
        )
    )
    return done.rowcount == 1


async def export_failed(
    conn: AsyncConnection, destination: Destination, holder: str, error: str, *, now: int
) -> None:
    """It takes nothing; it is asked again after a while. The error has no word of the receiver's."""
    columns = destinations.c
    wait = min(_RETRY_LAST, _RETRY_FIRST << min(destination.tries, 8))
    await conn.execute(
        update(destinations)
        .where(columns.id == destination.id, columns.holder == holder)
        .values(
            tries=destination.tries + 1,
            again_at=now + wait,
            failed_at=now if destination.failed_at is None else destination.failed_at,
            error=error[:200],
        )
    )


async def release_all(conn: AsyncConnection, holder: str) -> None:
    """Another server may send at once."""
    await conn.execute(update(destinations).where(destinations.c.holder == holder).values(held_until=0))


async def _sealed(conn: AsyncConnection, id: str) -> bytes:
    return await conn.scalar(select(destinations.c.sealed).where(destinations.c.id == id)) or b""


async def _room_for(conn: AsyncConnection, name: str) -> None:
    found = await list_destinations(conn)
    if len(found) >= MOST_DESTINATIONS:
        raise InvalidRequest(f"There are {MOST_DESTINATIONS} destinations; remove one first.")
    if any(it.name == name for it in found):
        raise InvalidRequest("There is a destination of this name.", param="name")


async def _from_now_on(conn: AsyncConnection) -> int:
    while await number_new(conn):
        pass
    return await last_number(conn)


def _about(id: str) -> bytes:
    return f"destinations|{id}|sealed".encode()


SEALED_DESTINATIONS: Final = SealedColumn(destinations.c.sealed, (destinations.c.id,), _about)


_SHOWN = tuple(destinations.c[name] for name in Destination.__struct_fields__)
