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
from penstock.core.base_url import BaseUrl, split_base_url
from penstock.domain.catalog.kept_keys import checked_key
from penstock.domain.exports.settled import last_number, number_new
from penstock.domain.notifications.signed_address import (
    SignedAddress,
    checked_url,
    host_of,
    opened_address,
    signed_address,
)
from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import CHANGE_UNDO_MS, CannotUndo, Changed, KeptChange
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import InvalidRequest
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import destinations

CARRIERS: Final = ("webhook", "file", "s3")
MOST_DESTINATIONS: Final = 5
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_KEY_ID: Final = re.compile(r"[\x21-\x2e\x30-\x7e]{1,128}")
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


class DestinationWish(msgspec.Struct, frozen=True):
    """What a destination is to be: a webhook has an address, a bucket that and all that follows, a file none of it."""

    name: str
    kind: str
    url: str = ""
    region: str = ""
    key_id: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"DestinationWish({self.kind})"


class Bucket(msgspec.Struct, frozen=True):
    """Where objects are put: an https URL with the bucket and what names begin with, and the keys of its vendor."""

    url: str
    region: str
    key_id: str
    secret: str

    def __repr__(self) -> str:
        return "Bucket()"

    @property
    def place(self) -> BaseUrl:
        """The parts of its URL."""
        return split_base_url(self.url)


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
    if bool(wish.url) != (kind != "file"):
        raise InvalidRequest("A webhook and a bucket have an address, a file has none.", param="url")
    await _room_for(conn, name)
    id = api_key.identifier("dst", entropy(16))
    address = signed_address(wish.url, entropy) if kind == "webhook" else None
    where = _bucket(wish) if kind == "s3" else address
    host = "" if where is None else host_of(where.place)
    sealed = None if where is None else secrets_file.seal(_encode(where), _about(id), entropy)
    await conn.execute(
        insert(destinations).values(
            id=id,
            name=name,
            kind=kind,
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
    kept = _encode(_Kept(name, kind, host)).decode()
    await changes.record(conn, actor, [Changed("destination", id, None, kept)], now=now, entropy=entropy)
    await entries.write(
        conn,
        actor,
        "destination_added",
        Subject("destination", id, name),
        after={"kind": kind, "host": host},
        now=now,
        entropy=entropy,
    )
    return NewDestination(id, name, kind, "" if address is None else address.secret)


async def list_destinations(conn: AsyncConnection) -> list[Destination]:
    """All that are in use, by their names."""
    rows = await conn.execute(
        select(*_SHOWN).where(destinations.c.removed_at.is_(None)).order_by(destinations.c.name)
    )
    return [Destination(*row) for row in rows]


async def destination_named(conn: AsyncConnection, name: str) -> Destination:
    """One by its id or its name. Raises ``NoSuchDestination``."""
    for it in await list_destinations(conn):
        if name in (it.id, it.name):
            return it
    raise NoSuchDestination("There is no such destination.")


async def remove_destination(
    conn: AsyncConnection, destination: Destination, actor: Actor, *, now: int, entropy: Entropy
) -> None:
    """Export nothing there any more."""
    await conn.execute(update(destinations).where(destinations.c.id == destination.id).values(removed_at=now))
    kept = _encode(_Kept(destination.name, destination.kind, destination.host)).decode()
    changed = [Changed("destination", destination.id, kept, None)]
    await changes.record(conn, actor, changed, now=now, entropy=entropy)
    await entries.write(
        conn,
        actor,
        "destination_removed",
        Subject("destination", destination.id, destination.name),
        before={"kind": destination.kind, "host": destination.host},
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


def _bucket(wish: DestinationWish) -> Bucket:
    """Raises ``InvalidRequest``, ``UnusableKey``, which repeat neither the address nor the secret."""
    url = checked_url(wish.url).rstrip("/")
    if "?" in url:
        raise InvalidRequest("The address of a bucket has no query.", param="url")
    if _REGION.fullmatch(wish.region) is None:
        raise InvalidRequest("A region is such as eu-central-1.", param="region")
    if _KEY_ID.fullmatch(wish.key_id) is None:
        raise InvalidRequest("This is no id of a key.", param="key_id")
    return Bucket(url, wish.region, wish.key_id, checked_key(wish.secret).decode())


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
