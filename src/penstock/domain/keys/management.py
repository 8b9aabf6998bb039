"""Management of API keys by their owner: made, listed, revoked, rolled, shown again.

Only a keyed digest of a key is kept for recognising it, and, where the operator allows showing keys again, a sealed copy.
Every function takes a connection inside a transaction; ``now`` is epoch milliseconds. How a caller is recognised by a key
is ``domain/keys/authentication.py``.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.core.amounts import amount
from penstock.errors import InvalidRequest
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile, SecretsFileError
from penstock.store.sql.schema import api_keys, plans, users

MAX_KEYS = 100
"""Working keys that one account may have."""
_MAX_NAME = 100
PLAYGROUND = "Playground "
"""What the names of keys begin with that the page of the playground makes for itself."""
PLAYGROUND_SECONDS = 3600
"""How long those work."""


class NoSuchKey(InvalidRequest):
    """The account has no such key, or it no longer works."""


class BadKeyWish(InvalidRequest):
    """A name, address list, model list or expiry that a key cannot have; ``param`` names it."""


class KeyNotKept(InvalidRequest):
    """The key cannot be shown again, because no readable copy of it was kept."""


class KeyWish(msgspec.Struct, frozen=True):
    """What a new key is to be like. ``name`` None takes the next free one; ``expires_at`` is epoch milliseconds."""

    name: str | None = None
    models: tuple[str, ...] | None = None
    """Only these public model ids; never more than the plan has."""
    addresses: tuple[str, ...] | None = None
    """Only from these addresses or networks (``203.0.113.7``, ``2001:db8::/32``)."""
    expires_at: int | None = None
    daily_requests: int | None = None
    """No more than so many a day, within the plan's; None for no limit of its own."""
    concurrent_requests: int | None = None
    """No more than so many at once, within the plan's."""


class NewKey(msgspec.Struct, frozen=True):
    """A key just made; the only moment at which it is known for certain."""

    id: str
    name: str
    key: str

    def __repr__(self) -> str:
        return f"NewKey({self.id})"


class KeyRow(msgspec.Struct, frozen=True):
    """A key as its owner and the operator see it. Times are epoch milliseconds."""

    id: str
    user_id: str
    name: str
    shown: str
    models: tuple[str, ...] | None
    addresses: tuple[str, ...] | None
    daily_requests: int | None
    concurrent_requests: int | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None
    kept: bool
    """A sealed copy exists, so that it can be shown again."""

    @property
    def of_playground(self) -> bool:
        """Whether the page of the playground made it for itself: for an hour, which no form can ask for."""
        return (
            self.name.startswith(PLAYGROUND)
            and self.expires_at is not None
            and self.expires_at - self.created_at <= PLAYGROUND_SECONDS * 1000
        )

    def works(self, now: int) -> bool:
        """Neither revoked nor expired at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


async def create_key(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    user_id: str,
    wish: KeyWish,
    *,
    now: int,
    entropy: Entropy,
    keep: bool,
) -> NewKey:
    """Make a key; ``keep``: with a sealed copy to show again. Raises ``BadKeyWish``."""
    _check_wish(wish, now)
    await _check_limits(conn, user_id, wish)
    working = [row for row in await list_keys(conn, user_id) if row.works(now) and not row.of_playground]
    if len(working) >= MAX_KEYS:
        raise BadKeyWish(f"There are {MAX_KEYS} keys already; revoke one first.")
    name = _free_name({row.name for row in working}) if wish.name is None else wish.name.strip()
    if any(row.name == name for row in working):
        raise BadKeyWish(f"There is a key named {name!r} already.", param="name")
    return await _insert(conn, secrets_file, user_id, name, wish, now=now, entropy=entropy, keep=keep)


async def change_key(conn: AsyncConnection, old: KeyRow, wish: KeyWish, *, now: int) -> None:
    """Give a key another name, list of models or addresses, limits, or end. Raises ``NoSuchKey``, ``BadKeyWish``."""
    if not old.works(now):
        raise NoSuchKey(f"The key {old.id} no longer works; make a new one instead.")
    # An end that is not changed may be near, but it is not asked for.
    _check_wish(
        wish if wish.expires_at != old.expires_at else msgspec.structs.replace(wish, expires_at=None), now
    )
    if (wish.daily_requests, wish.concurrent_requests) != (old.daily_requests, old.concurrent_requests):
        await _check_limits(conn, old.user_id, wish)
    name = old.name if wish.name is None else wish.name.strip()
    others = [row for row in await list_keys(conn, old.user_id) if row.works(now) and row.id != old.id]
    if name != old.name and any(row.name == name for row in others):
        raise BadKeyWish(f"There is a key named {name!r} already.", param="name")
    await conn.execute(
        update(api_keys)
        .where(api_keys.c.id == old.id, api_keys.c.revoked_at.is_(None))
        .values(
            name=name,
            models=write_list(wish.models),
            addresses=write_list(wish.addresses),
            daily_requests=wish.daily_requests,
            concurrent_requests=wish.concurrent_requests,
            expires_at=wish.expires_at,
        )
    )


async def list_keys(conn: AsyncConnection, user_id: str) -> tuple[KeyRow, ...]:
    """All keys of an account, the newest first, those that no longer work included."""
    rows = await conn.execute(
        _SELECT.where(api_keys.c.user_id == user_id).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
    )
    return tuple(_row(row) for row in rows)


async def get_key(conn: AsyncConnection, user_id: str, key_id: str) -> KeyRow:
    """A key of this account. Raises ``NoSuchKey``."""
    found = await conn.execute(_SELECT.where(api_keys.c.user_id == user_id, api_keys.c.id == key_id))
    row = found.one_or_none()
    if row is None:
        raise NoSuchKey(f"There is no key {key_id} on this account.")
    return _row(row)


async def key_exists(conn: AsyncConnection, key_id: str) -> bool:
    """Whether there is a key with this id, whosever it is."""
    return await conn.scalar(select(api_keys.c.id).where(api_keys.c.id == key_id)) is not None


async def working_keys(
    conn: AsyncConnection, user_id: str, *, now: int, name: str | None = None
) -> tuple[KeyRow, ...]:
    """The keys of an account that work at ``now``, newest first; with ``name`` only those of that name."""
    rows = await list_keys(conn, user_id)
    return tuple(row for row in rows if row.works(now) and name in (None, row.name))


async def revoke_key(conn: AsyncConnection, user_id: str, key_id: str, *, now: int) -> None:
    """End a key for good. It is forgotten within the cache time of a serving process. Raises ``NoSuchKey``."""
    done = await conn.execute(
        update(api_keys)
        .where(api_keys.c.user_id == user_id, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now, sealed=None)
    )
    if done.rowcount != 1:
        raise NoSuchKey(f"There is no working key {key_id} on this account.")


async def roll_key(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    old: KeyRow,
    *,
    grace: int,
    now: int,
    entropy: Entropy,
    keep: bool,
) -> NewKey:
    """A new key like ``old``, which works ``grace`` seconds longer (0: no longer). Raises ``NoSuchKey``, ``BadKeyWish``."""
    if grace < 0:
        raise BadKeyWish("The grace period is a number of seconds from 0 up.", param="grace")
    if not old.works(now):
        raise NoSuchKey(f"The key {old.id} no longer works; make a new one instead.")
    if grace == 0:
        await revoke_key(conn, old.user_id, old.id, now=now)
    else:
        end = now + grace * 1000
        await conn.execute(
            update(api_keys)
            .where(api_keys.c.id == old.id, or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > end))
            .values(expires_at=end)
        )
    wish = KeyWish(
        old.name, old.models, old.addresses, old.expires_at, old.daily_requests, old.concurrent_requests
    )
    return await _insert(conn, secrets_file, old.user_id, old.name, wish, now=now, entropy=entropy, keep=keep)


async def renew_playground_key(
    conn: AsyncConnection, secrets_file: SecretsFile, user_id: str, *, now: int, entropy: Entropy
) -> str:
    """A key for the page of the playground, for an hour; the one before it stops.

    It is one row an account, renewed each time, so that the page is one key in the log however often it is opened; no key
    of its owner's list, and none of the number that they may have.
    """
    ends = now + PLAYGROUND_SECONDS * 1000
    newest, *others = [row for row in await list_keys(conn, user_id) if row.of_playground] or [None]
    for old in others:  # of two windows that asked at one moment
        if old is not None and old.works(now):
            await revoke_key(conn, user_id, old.id, now=now)
    if newest is None:
        wish = KeyWish(expires_at=ends)
        made = await _insert(
            conn, secrets_file, user_id, f"{PLAYGROUND}page", wish, now=now, entropy=entropy, keep=False
        )
        return made.key
    key = api_key.make_key(entropy(api_key.RANDOM_BYTES))
    await conn.execute(
        update(api_keys)
        .where(api_keys.c.id == newest.id)
        .values(
            prefix=api_key.start_of(key),
            last4=api_key.end_of(key),
            digest=secrets_file.digests(key)[0],
            pepper_id=secrets_file.pepper_id,
            created_at=now,
            expires_at=ends,
            revoked_at=None,
        )
    )
    return key


async def reveal_key(conn: AsyncConnection, secrets_file: SecretsFile, user_id: str, key_id: str) -> str:
    """The key itself, from its sealed copy.

    The caller has checked that its owner asks, and records that it was shown. Raises ``NoSuchKey``, ``KeyNotKept``, or
    ``SecretsFileError`` when the copy was made with other secrets.
    """
    sealed = await conn.execute(
        select(api_keys.c.sealed).where(
            api_keys.c.user_id == user_id, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)
        )
    )
    row = sealed.one_or_none()
    if row is None:
        raise NoSuchKey(f"There is no working key {key_id} on this account.")
    if row.sealed is None:
        raise KeyNotKept(
            "This key cannot be shown again, because no readable copy of it was kept. Roll it instead."
        )
    return secrets_file.unseal(row.sealed, _about(key_id)).decode()


async def count_working_keys(conn: AsyncConnection) -> int:
    """How many keys have not been revoked."""
    found = select(func.count()).select_from(api_keys).where(api_keys.c.revoked_at.is_(None))
    return await conn.scalar(found) or 0


async def any_key(conn: AsyncConnection) -> bool:
    """Whether there is a key at all, working or not."""
    return await conn.scalar(select(api_keys.c.id).limit(1)) is not None


async def check_peppers(conn: AsyncConnection, secrets_file: SecretsFile) -> None:
    """Raises ``SecretsFileError`` when keys were made with a pepper that the secrets file lacks: none of them would work."""
    unknown = await conn.execute(
        select(api_keys.c.pepper_id, func.count())
        .where(api_keys.c.pepper_id.not_in(secrets_file.pepper_ids), api_keys.c.revoked_at.is_(None))
        .group_by(api_keys.c.pepper_id)
    )
    lost = unknown.all()
    if lost:
        count = sum(row[1] for row in lost)
        ids = ", ".join(sorted(row[0] for row in lost))
        raise SecretsFileError(
            f"{amount(count, 'API key was', 'API keys were')} made with pepper {ids}, which {secrets_file.path} does not hold: "
            "put the secrets file back that belongs to this database"
        )


async def _insert(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    user_id: str,
    name: str,
    wish: KeyWish,
    *,
    now: int,
    entropy: Entropy,
    keep: bool,
) -> NewKey:
    id = api_key.identifier("key", entropy(16))
    key = api_key.make_key(entropy(api_key.RANDOM_BYTES))
    await conn.execute(
        insert(api_keys).values(
            id=id,
            user_id=user_id,
            name=name,
            prefix=api_key.start_of(key),
            last4=api_key.end_of(key),
            digest=secrets_file.digests(key)[0],
            pepper_id=secrets_file.pepper_id,
            sealed=secrets_file.seal(key.encode(), _about(id), entropy) if keep else None,
            models=write_list(wish.models),
            addresses=write_list(wish.addresses),
            daily_requests=wish.daily_requests,
            concurrent_requests=wish.concurrent_requests,
            created_at=now,
            expires_at=wish.expires_at,
        )
    )
    return NewKey(id, name, key)


def _about(key_id: str) -> bytes:
    """What a sealed copy is bound to, so that it cannot be moved to another row."""
    return f"api_keys|{key_id}|sealed".encode()


SEALED_KEYS: Final = SealedColumn(api_keys.c.sealed, (api_keys.c.id,), _about)


def _check_wish(wish: KeyWish, now: int) -> None:
    name = wish.name
    if name is not None and not (1 <= len(name.strip()) <= _MAX_NAME and name.isprintable()):
        raise BadKeyWish(f"A key's name has 1 to {_MAX_NAME} printable characters.", param="name")
    if wish.models is not None and not (wish.models and all(wish.models)):
        raise BadKeyWish("A key's model list names at least one model.", param="models")
    if wish.addresses is not None and not wish.addresses:
        raise BadKeyWish("A key's address list names at least one address.", param="addresses")
    for address in wish.addresses or ():
        try:
            ipaddress.ip_network(address)
        except ValueError as error:
            raise BadKeyWish(
                f"{address!r} is not an IP address or network: {error}.", param="addresses"
            ) from None
    if wish.expires_at is not None and wish.expires_at <= now:
        raise BadKeyWish("A key's expiry lies in the future.", param="expires_at")


async def _check_limits(conn: AsyncConnection, user_id: str, wish: KeyWish) -> None:
    """A key's own limits lie within the plan's of now; where that is changed later, the lower one holds."""
    asked = (("daily_requests", wish.daily_requests), ("concurrent_requests", wish.concurrent_requests))
    if wish.daily_requests is None and wish.concurrent_requests is None:
        return
    found = await conn.execute(
        select(plans.c.daily_requests, plans.c.concurrent_requests)
        .join_from(users, plans, users.c.plan_id == plans.c.id)
        .where(users.c.id == user_id)
    )
    most = found.one_or_none() or (0, 0)
    for (name, value), plan in zip(asked, most, strict=True):
        if value is not None and not 1 <= value <= plan:
            said = "a day" if name == "daily_requests" else "at once"
            raise BadKeyWish(
                f"A key may have from 1 to {plan} requests {said}, as its plan has; none for no limit of its own.",
                param=name,
            )


def _free_name(taken: set[str]) -> str:
    return next(
        name for n in range(1, MAX_KEYS + 2) if (name := "default" if n == 1 else f"key {n}") not in taken
    )


def write_list(values: Sequence[str] | None) -> str | None:
    """A list as the JSON text of its column."""
    return None if values is None else msgspec.json.encode(values).decode()


def read_list(text: str | None) -> tuple[str, ...] | None:
    """The list that ``write_list`` wrote."""
    return None if text is None else msgspec.json.decode(text, type=tuple[str, ...])


_SELECT = select(
    api_keys.c.id,
    api_keys.c.user_id,
    api_keys.c.name,
    api_keys.c.prefix,
    api_keys.c.last4,
    api_keys.c.models,
    api_keys.c.addresses,
    api_keys.c.daily_requests,
    api_keys.c.concurrent_requests,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
    api_keys.c.last_used_at,
    api_keys.c.sealed.is_not(None).label("kept"),
)


def _row(row: Row[*tuple[Any, ...]]) -> KeyRow:
    return KeyRow(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        shown=api_key.masked_key(row.prefix, row.last4),
        models=read_list(row.models),
        addresses=read_list(row.addresses),
        daily_requests=row.daily_requests,
        concurrent_requests=row.concurrent_requests,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        kept=row.kept,
    )
