"""Authentication: from the headers of a request to the account, the plan and the bounds of the key.

A key that cannot be one of ours is refused without a query, a known one is answered from memory for a few seconds, and a
database that does not answer never makes a good key wrong: 401 means that the key was looked up and is not there.
"""

import asyncio
import hashlib
import ipaddress
import logging
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import lru_cache
from typing import Protocol

import msgspec
from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.api_key import is_well_formed
from penstock.core.revision import Revision
from penstock.domain.keys.management import read_list
from penstock.errors import (
    AccountDisabled,
    AccountLeaving,
    AddressNotAllowed,
    DatabaseUnavailable,
    EmailNotVerified,
    InvalidKey,
    MissingKey,
    Unavailable,
)
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.backend import StoreError
from penstock.store.sql.schema import api_keys, users
from penstock.timeouts import answered

log = logging.getLogger("penstock.domain.keys")

_PATIENCE = 2.0
"""Seconds for which the database may be silent while a caller waits for a look-up."""
_MOST = 50_000
"""Keys remembered; the one looked up longest ago goes first."""
_STALE = 600.0
"""Seconds for which a key that was good is still taken when the database does not answer."""
_RETRY = 1.0
"""Seconds between two tries for one key while the database does not answer."""


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who calls, as of the last look-up. ``expires_at`` is epoch milliseconds."""

    user_id: str
    key_id: str
    plan_id: str
    verified: bool
    disabled: bool
    models: tuple[str, ...] | None
    """The key's own list of public model ids; the plan's list binds as well."""
    addresses: tuple[str, ...] | None
    expires_at: int | None
    leaving: bool = False
    """The account will be deleted, as its owner asked."""


class Connects(Protocol):
    """The part of the database that the key ring needs."""

    def connect(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection to read with."""
        ...


def pick_key(x_api_key: str | None, authorization: str | None) -> str:
    """The key of a request from its ``x-api-key`` and ``Authorization`` headers.

    Clients send a left-over key of another service beside ours, so of two that differ the one that can be ours is taken,
    ``x-api-key`` first. Raises ``MissingKey``, or ``InvalidKey`` for two different keys of ours: which of them was meant
    is not ours to guess.
    """
    direct = (x_api_key or "").strip()
    bearer = _bearer(authorization)
    if not direct and not bearer:
        raise MissingKey("No API key was sent. Send it as `x-api-key: KEY` or `Authorization: Bearer KEY`.")
    if not direct or direct == bearer:
        return bearer
    if not bearer:
        return direct
    if not is_well_formed(direct):
        return bearer
    if is_well_formed(bearer):
        raise InvalidKey(
            "Two different API keys were sent, in `x-api-key` and in `Authorization`. Send one of them."
        )
    return direct


def _bearer(authorization: str | None) -> str:
    """The token of a Bearer header; a bare key of ours without the word is taken too."""
    if not authorization:
        return ""
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return scheme if not token and is_well_formed(scheme) else ""


def check(principal: Principal, address: str, now: float) -> None:
    """Whether this caller may call from ``address`` at ``now`` (epoch seconds).

    Raises ``InvalidKey`` (expired), ``AccountDisabled``, ``AccountLeaving``, ``EmailNotVerified`` or
    ``AddressNotAllowed``.
    """
    if principal.expires_at is not None and now * 1000 >= principal.expires_at:
        raise InvalidKey(_WORDS[KeyRefusal.EXPIRED])
    if principal.disabled:
        raise AccountDisabled("This account is disabled. Ask the operator of this service.")
    if principal.leaving:
        raise AccountLeaving(
            "This account is being deleted, as its owner asked. To keep it, sign in before its last day and undo that."
        )
    if not principal.verified:
        raise EmailNotVerified(
            "The e-mail address of this account is not verified yet: enter the code from the mail."
        )
    if principal.addresses is not None and not _within(address, principal.addresses):
        raise AddressNotAllowed("This API key may not be used from this address.")


def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False  # a socket without an address is in no network
    if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped is not None:
        caller = caller.ipv4_mapped
    return any(caller in _network(network) for network in networks)


@lru_cache(4096)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


class KeyRefusal(Enum):
    """Why a key that was looked up is not taken."""

    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNANSWERED = "unanswered"


_WORDS = {
    KeyRefusal.UNKNOWN: "This API key does not exist. Check that it was copied for this service.",
    KeyRefusal.REVOKED: "This API key was revoked. Make a new one in the dashboard.",
    KeyRefusal.EXPIRED: "This API key has expired. Make a new one in the dashboard.",
}


class _Entry(msgspec.Struct, gc=False):
    """A look-up's result, and until when (monotonic) it is taken without another, and at most."""

    principal: Principal
    fresh_until: float
    stale_until: float


class Keyring:
    """One serving process's view of the keys. All of it is on one event loop."""

    def __init__(
        self,
        database: Connects,
        secrets_file: SecretsFile,
        *,
        cache_seconds: float = 5.0,
        clock: Callable[[], float],
        now: Callable[[], float],
        revision: Revision | None = None,
    ) -> None:
        """``clock`` is monotonic seconds, ``now`` epoch seconds. A change takes effect within ``cache_seconds``.

        ``revision`` advances when anything that is remembered may have become untrue.
        """
        self._database = database
        self._secrets_file = secrets_file
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._now = now
        self._entries: dict[bytes, _Entry] = {}
        self._loading: dict[bytes, asyncio.Task[Principal | KeyRefusal]] = {}
        self._hanging: set[asyncio.Task[Principal | KeyRefusal]] = set()
        self._generation = 0
        self._revision = revision or Revision()
        # Memory holds no keys: an entry is found by a digest whose key dies with the process. It is not the stored digest
        # because BLAKE2 costs a fifth of HMAC-SHA-256, and every request pays for it.
        self._mark = hashlib.blake2b(key=os.urandom(32), digest_size=16)
        self._touched: dict[str, int] = {}
        self._unwritten: dict[str, int] = {}

    def mark(self, key: str) -> bytes:
        """What ``key`` is remembered by in this process."""
        digest = self._mark.copy()
        digest.update(key.encode())
        return digest.digest()

    def cached(self, mark: bytes) -> Principal | None:
        """Whom the key of this ``mark`` belongs to, when that was looked up a moment ago; else ask ``identify``."""
        entry = self._entries.get(mark)
        if entry is not None and self._clock() < entry.fresh_until:
            return entry.principal
        return None

    def known_until(self, mark: bytes) -> float:
        """Until when (monotonic) what is remembered of this key may be taken without another look; 0 where that is nothing."""
        entry = self._entries.get(mark)
        if entry is None:
            return 0.0
        expires = entry.principal.expires_at
        if expires is None:
            return entry.fresh_until
        return min(entry.fresh_until, self._clock() + expires / 1000 - self._now())

    async def identify(self, key: str) -> Principal:
        """Who ``key`` belongs to. Raises ``InvalidKey``, or ``DatabaseUnavailable`` when the database does not answer."""
        if not is_well_formed(key):
            raise InvalidKey(
                "This is not an API key of this service: they begin with `sk-ps-`. Check that it was copied whole."
            )
        mark = self.mark(key)
        found = self.cached(mark)
        if found is not None:
            return found
        loading = self._loading.get(mark)
        if loading is None:
            # A task of its own: a caller that goes away must not take the look-up from the others who wait for it.
            loading = asyncio.create_task(self._load(mark, key, self._generation))
            self._loading[mark] = loading
        match await self._waited(mark, loading):
            case Principal() as principal:
                return principal
            case KeyRefusal.UNANSWERED:
                raise DatabaseUnavailable(
                    "The API key cannot be checked right now. Try again in a moment.", retry_after=2
                )
            case refusal:
                raise InvalidKey(_WORDS[refusal])

    async def _waited(
        self, mark: bytes, loading: asyncio.Task[Principal | KeyRefusal]
    ) -> Principal | KeyRefusal:
        """What the look-up found. One that hangs is given up once, and goes on for those who come later."""
        if loading not in self._hanging:
            if await answered(loading, _PATIENCE):
                return loading.result()
            self._hanging.add(loading)
            loading.add_done_callback(self._hanging.discard)
        return self._unanswered(mark, TimeoutError())

    def forget(self, user_id: str | None = None) -> None:
        """Look this account's keys (None: all keys) up again at their next use."""
        self._generation += 1
        self._revision.advance()
        self._loading.clear()
        if user_id is None:
            self._entries.clear()
            return
        for mark in [mark for mark, entry in self._entries.items() if entry.principal.user_id == user_id]:
            del self._entries[mark]

    def touch(self, key_id: str) -> None:
        """Note that the key was used just now; kept to the minute until ``flush``."""
        minute = int(self._now()) // 60
        if self._touched.get(key_id) != minute:
            self._touched[key_id] = minute
            self._unwritten[key_id] = minute

    @property
    def untold(self) -> int:
        """How many keys have a use that ``flush`` would write."""
        return len(self._unwritten)

    async def flush(self, conn: AsyncConnection) -> None:
        """Write when keys were last used. What a failed write did not take is kept for the next."""
        writing, self._unwritten = self._unwritten, {}
        if not writing:
            return
        try:
            await conn.execute(
                _LAST_USED, [{"key": key, "used": minute * 60_000} for key, minute in writing.items()]
            )
        except BaseException:
            self._unwritten = writing | self._unwritten
            raise
        oldest = max(writing.values())
        self._touched = {key: minute for key, minute in self._touched.items() if minute >= oldest}

    async def _load(self, mark: bytes, key: str, generation: int) -> Principal | KeyRefusal:
        """Look up and remember, unless ``forget`` was called since ``generation``."""
        try:
            found = await self._look_up(key)
            if found is KeyRefusal.UNKNOWN and self._secrets_file.reread():
                found = await self._look_up(key)  # made with a pepper that is newer than this process
        except (SQLAlchemyError, Unavailable, StoreError, OSError) as error:
            return self._unanswered(mark, error)
        else:
            if generation == self._generation:
                self._remember(mark, found)
            return found
        finally:
            if generation == self._generation:
                del self._loading[mark]

    async def _look_up(self, key: str) -> Principal | KeyRefusal:
        digests = self._secrets_file.digests(key)
        async with self._database.connect() as conn:
            row = (await conn.execute(_LOOK_UP, {"digests": digests})).one_or_none()
        if row is None:
            return KeyRefusal.UNKNOWN
        try:
            msgspec.convert(tuple(row), _Row)
        except msgspec.ValidationError as error:
            raise DatabaseUnavailable("The database answers with what it was not asked for.") from error
        if row.revoked_at is not None:
            return KeyRefusal.REVOKED
        if row.expires_at is not None and row.expires_at <= self._now() * 1000:
            return KeyRefusal.EXPIRED
        return Principal(
            user_id=row.user_id,
            key_id=row.id,
            plan_id=row.plan_id,
            verified=row.verified_at is not None,
            disabled=row.disabled_at is not None,
            models=read_list(row.models),
            addresses=read_list(row.addresses),
            expires_at=row.expires_at,
            leaving=row.leaving_at is not None,
        )

    def _remember(self, mark: bytes, found: Principal | KeyRefusal) -> None:
        entries = self._entries
        before = entries.pop(mark, None)
        if before is not None and before.principal != found:
            self._revision.advance()
        if isinstance(found, KeyRefusal):
            return
        now = self._clock()
        # An account that leaves is looked up each time, so that it is back as soon as it comes back.
        fresh = 0.0 if found.leaving else self._cache_seconds
        entries[mark] = _Entry(found, now + fresh, now + _STALE)
        # The dict is in the order of look-up, so what is too old or too many stands first; two for each that comes in
        # keep it in bounds.
        for _ in range(2):
            oldest = next(iter(entries))
            if len(entries) > _MOST or entries[oldest].stale_until < now:
                del entries[oldest]

    def _unanswered(self, mark: bytes, error: Exception) -> Principal | KeyRefusal:
        entry = self._entries.get(mark)
        now = self._clock()
        known = entry is not None and now < entry.stale_until
        log.warning("keys cannot be looked up", extra={"error": type(error).__name__, "known": known})
        if entry is None or not known:
            return KeyRefusal.UNANSWERED
        entry.fresh_until = now + _RETRY
        return entry.principal


_LOOK_UP = (
    select(
        api_keys.c.id,
        api_keys.c.user_id,
        api_keys.c.models,
        api_keys.c.addresses,
        api_keys.c.expires_at,
        api_keys.c.revoked_at,
        users.c.plan_id,
        users.c.verified_at,
        users.c.disabled_at,
        users.c.leaving_at,
    )
    .join_from(api_keys, users, api_keys.c.user_id == users.c.id)
    .where(api_keys.c.digest.in_(bindparam("digests", expanding=True)))
)

_Row = tuple[
    str, str, str | None, str | None, int | None, int | None, str, int | None, int | None, int | None
]
"""The columns of ``_LOOK_UP``. Nobody is let in or turned away by a row that is none."""

_LAST_USED = (
    update(api_keys)
    .where(
        api_keys.c.id == bindparam("key"),
        or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < bindparam("used")),
    )
    .values(last_used_at=bindparam("used"))
)
