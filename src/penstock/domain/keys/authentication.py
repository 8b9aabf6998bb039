"""Authentication: from the headers of a request to the account, the plan and the bounds of the key.

A key that cannot be one of ours is refused without a query, a known one is answered from memory until the database says
that something of its account changed, and a database that does not answer never makes a good key wrong: 401 means that the
key was looked up and is not there.
"""

import asyncio
import hashlib
import ipaddress
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from functools import lru_cache

import msgspec
from sqlalchemy import bindparam, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.api_key import is_well_formed
from penstock.core.revision import Revision
from penstock.domain.keys.management import read_list
from penstock.domain.revisions import (
    KEYS_REVISION,
    KeyChange,
    PointReads,
    Revisions,
    read_key_changes,
    read_revisions,
)
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
from penstock.store.sql.backend import PointRow, StoreError
from penstock.store.sql.schema import api_keys
from penstock.timeouts import answered, within

log = logging.getLogger("penstock.domain.keys")

_PATIENCE = 2.0
"""Seconds for which the database may be silent while a caller waits for a look-up, or everybody for a poll."""
_STALE = 600.0
"""Seconds for which a key that was good is still taken when the database does not answer."""
_RETRY = 1.0
"""Seconds between two tries for one key while the database does not answer."""


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who calls, as of the last look-up. ``expires_at`` is epoch milliseconds.

    ``user_id`` is who acts; ``account_id`` the account that is limited and pays, which is a person's own id.
    """

    user_id: str
    account_id: str
    key_id: str
    plan_id: str
    verified: bool
    disabled: bool
    models: tuple[str, ...] | None
    """The key's own list of public model ids; the plan's list binds as well."""
    addresses: tuple[str, ...] | None
    expires_at: int | None
    daily_requests: int | None = None
    """The key's own limit of a day; the plan's binds as well."""
    concurrent_requests: int | None = None
    leaving: bool = False
    """The account will be deleted, as its owner asked."""


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
    if principal.addresses is not None and not within_networks(address, principal.addresses):
        raise AddressNotAllowed("This API key may not be used from this address.")


def within_networks(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address is in one of these networks."""
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
    """A good key, as it was at a revision. Times are monotonic seconds."""

    principal: Principal
    revision: int
    checked: float
    """When the database was last known to say so, but for what polls have found since."""
    standing: bool
    """Whether a poll that finds no change says that it still holds."""
    retry_at: float = 0.0
    """While the database does not answer: until when it is taken without another try."""


class Keyring:
    """One serving process's view of the keys. All of it is on one event loop.

    A good key is *remembered* with the revision of the keys at which it was read. ``follow`` asks for the revision now, and by
    that for all keys at once: where it has not moved, everything remembered still holds; where it has, the database says whose
    keys changed, and those are forgotten. Where that cannot be told (more changes than are noted, or a revision that went back
    because a backup was put in place) every key is *doubted*: looked up again at its next use. A key is taken for at most
    ``cache_seconds`` from the moment when the database was last asked; when it was not asked for so long, each is looked up
    by itself. Only when it does not answer either is a remembered key, doubted or not, taken for ten more minutes.
    """

    def __init__(
        self,
        database: PointReads,
        secrets_file: SecretsFile,
        *,
        cache_seconds: float = 5.0,
        most: int = 50_000,
        clock: Callable[[], float],
        now: Callable[[], float],
        revision: Revision | None = None,
    ) -> None:
        """``clock`` is monotonic seconds, ``now`` epoch seconds. A change takes effect within ``cache_seconds``.

        ``revision`` advances when anything that is remembered may have become untrue. ``most`` keys are remembered; the one
        used longest ago goes first.
        """
        self._database = database
        self._secrets_file = secrets_file
        self._cache_seconds = cache_seconds
        self._most = most
        self._clock = clock
        self._now = now
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        """In the order of use."""
        self._marks_of: dict[str, tuple[bytes, ...]] = {}
        """The remembered keys of an account."""
        self._evicted = False
        self._revision = revision or Revision()
        self._reached: int | None = None
        """The revision up to which all that is remembered is known to hold; None before anything is known."""
        self._confirmed = -math.inf
        """When ``follow`` last asked with success."""
        self._following = asyncio.Lock()
        self._loading: dict[bytes, asyncio.Task[Principal | KeyRefusal]] = {}
        self._hanging: set[asyncio.Task[Principal | KeyRefusal]] = set()
        self._generation = 0
        # Memory holds no keys: an entry is found by a digest whose key dies with the process. It is not the stored digest
        # because BLAKE2 costs a fifth of HMAC-SHA-256, and every request pays for it.
        self._mark = hashlib.blake2b(key=os.urandom(32), digest_size=16)
        self._touched: dict[str, int] = {}
        self._unwritten: dict[str, int] = {}

    # ---- what the path of a request asks

    @property
    def revision(self) -> int:
        """A number of this process that is another one once anything that was remembered may have become untrue."""
        return self._revision.number

    @property
    def trusted_until(self) -> float:
        """Until when (monotonic) what ``remembered`` gave may be taken without asking again, if ``revision`` stays."""
        return self._confirmed + self._cache_seconds

    def mark(self, key: str) -> bytes:
        """What ``key`` is remembered by in this process."""
        digest = self._mark.copy()
        digest.update(key.encode())
        return digest.digest()

    def remembered(self, mark: bytes) -> Principal | None:
        """Whom the key of this ``mark`` belongs to, where that is known to hold; else ask ``identify``."""
        entry = self._entries.get(mark)
        if entry is None:
            return None
        now = self._clock()
        if (
            not (entry.standing and now < self._checked(entry) + self._cache_seconds)
            and now >= entry.retry_at
        ):
            return None
        self._entries.move_to_end(mark)
        return entry.principal

    async def identify(self, key: str) -> Principal:
        """Who ``key`` belongs to. Raises ``InvalidKey``, or ``DatabaseUnavailable`` when the database does not answer."""
        if not is_well_formed(key):
            raise InvalidKey(
                "This is not an API key of this service: they begin with `sk-ps-`. Check that it was copied whole."
            )
        mark = self.mark(key)
        found = self.remembered(mark) or self._look_up_now(mark, key)
        if found is None:
            loading = self._loading.get(mark)
            if loading is None:
                # A task of its own: a caller that goes away must not take the look-up from the others who wait for it.
                loading = asyncio.create_task(self._look_up(mark, key))
                self._loading[mark] = loading
            found = await self._waited(mark, loading)
        match found:
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

    # ---- following the revision

    async def follow(self) -> Revisions:
        """Ask for the revisions, and forget the keys of those accounts that have changed since the last time.

        Raises ``DatabaseUnavailable``; what is remembered is trusted no longer for it then.
        """
        async with self._following:
            asked = self._clock()
            try:
                async with within(_PATIENCE):
                    seen = await read_revisions(self._database)
                    if seen.keys != self._reached:
                        await self._catch_up(seen.keys)
            except TimeoutError as error:
                raise DatabaseUnavailable("The database does not answer.", retry_after=2) from error
            self._confirmed = asked
            return seen

    async def follow_commit(self) -> Revisions | None:
        """``follow`` what this process has committed. None where that fails: every key is looked up at its next use."""
        try:
            return await self.follow()
        except DatabaseUnavailable:
            self._doubt()
            return None

    async def _catch_up(self, to: int) -> None:
        reached = self._reached
        changes = [] if reached is None else await read_key_changes(self._database, reached)
        if reached is None:
            self._reached = to  # nothing is remembered yet
        elif (
            changes
            and changes[-1].revision >= to
            and all(change.revision == reached + at for at, change in enumerate(changes, 1))
        ):
            self._reached = changes[-1].revision
            for change in changes:
                self._changed(change)
        else:
            self._reached = to
            self._doubt()
        self._part_from_look_ups()

    def _part_from_look_ups(self) -> None:
        """Whoever comes now must not be answered by a look-up that began before."""
        self._loading.clear()

    def _changed(self, change: KeyChange) -> None:
        marks = self._marks_of.get(change.user_id, ())
        older = [mark for mark in marks if self._entries[mark].revision < change.revision]
        for mark in older:
            self._drop(mark)
        if older or (not marks and self._evicted):
            # One that was not remembered any more may still be known to whoever asked for it once.
            self._revision.advance()

    def _doubt(self) -> None:
        """Look every key up at its next use. What a look-up that is under way finds is of unknown age."""
        for entry in self._entries.values():
            entry.checked = self._checked(entry)
            entry.standing = False
        self._generation += 1
        self._revision.advance()
        self._part_from_look_ups()

    # ---- looking up

    def _look_up_now(self, mark: bytes, key: str) -> Principal | KeyRefusal | None:
        """What the database says, where it can at once."""
        asked = self._clock()
        rows = self._database.read_now(*self._query(key))
        try:
            if rows is not None and _is_nobodys(rows) and self._secrets_file.reread():
                rows = self._database.read_now(
                    *self._query(key)
                )  # made with a newer pepper than this process knew
        except (StoreError, OSError) as error:
            return self._unanswered(mark, error)
        return None if rows is None else self._settled(mark, rows, asked)

    async def _look_up(self, mark: bytes, key: str) -> Principal | KeyRefusal:
        """The same, waited for. It is remembered, unless ``_doubt`` was called meanwhile."""
        generation = self._generation
        asked = self._clock()
        try:
            rows = await self._database.read(*self._query(key))
            if _is_nobodys(rows) and self._secrets_file.reread():
                rows = await self._database.read(*self._query(key))
        except (Unavailable, StoreError, OSError) as error:
            return self._unanswered(mark, error)
        else:
            return self._settled(mark, rows, asked, remember=generation == self._generation)
        finally:
            if self._loading.get(mark) is asyncio.current_task():
                del self._loading[mark]

    def _query(self, key: str) -> tuple[str, tuple[bytes, ...]]:
        digests = self._secrets_file.digests(key)
        return _look_up_text(len(digests)), digests

    def _settled(
        self, mark: bytes, rows: list[PointRow], asked: float, *, remember: bool = True
    ) -> Principal | KeyRefusal:
        """What the rows of a look-up mean, remembered."""
        if _is_nobodys(rows):
            self._refused(mark)
            return KeyRefusal.UNKNOWN
        try:
            row = msgspec.convert(rows[0], _KeyAndAccount)
        except (msgspec.ValidationError, IndexError) as error:  # it answers with what it was not asked for
            return self._unanswered(mark, error)
        if row.revoked_at is not None:
            self._refused(mark)
            return KeyRefusal.REVOKED
        if row.expires_at is not None and row.expires_at <= self._now() * 1000:
            self._refused(mark)
            return KeyRefusal.EXPIRED
        principal = Principal(
            user_id=row.user_id,
            account_id=row.account_id or row.user_id,
            key_id=row.key_id,
            plan_id=row.plan_id,
            verified=row.verified_at is not None,
            disabled=row.disabled_at is not None,
            models=read_list(row.models),
            addresses=read_list(row.addresses),
            expires_at=row.expires_at,
            daily_requests=row.daily_requests,
            concurrent_requests=row.concurrent_requests,
            leaving=row.leaving_at is not None,
        )
        if remember:
            self._remember(mark, principal, row.revision, asked)
        return principal

    def _remember(self, mark: bytes, principal: Principal, revision: int, asked: float) -> None:
        if self._reached is None:
            self._reached = revision
        elif revision < self._reached:
            return  # read before what ``follow`` has seen since, which may have been about this key
        known = self._entries.get(mark)
        if known is not None and known.principal != principal:
            self._drop(mark)
            self._revision.advance()
        # An account that leaves is looked up each time, so that it is back as soon as it comes back.
        self._entries[mark] = _Entry(principal, revision, asked, standing=not principal.leaving)
        self._entries.move_to_end(mark)
        for of in {principal.user_id, principal.account_id}:
            marks = self._marks_of.get(of, ())
            if mark not in marks:
                self._marks_of[of] = (*marks, mark)
        while len(self._entries) > self._most:
            self._drop(next(iter(self._entries)))
            self._evicted = True

    def _refused(self, mark: bytes) -> None:
        if mark in self._entries:
            self._drop(mark)
            self._revision.advance()

    def _drop(self, mark: bytes) -> None:
        principal = self._entries.pop(mark).principal
        for of in {principal.user_id, principal.account_id}:
            left = tuple(other for other in self._marks_of[of] if other != mark)
            if left:
                self._marks_of[of] = left
            else:
                del self._marks_of[of]

    def _checked(self, entry: _Entry) -> float:
        """When the database last said that it holds."""
        return max(entry.checked, self._confirmed) if entry.standing else entry.checked

    def _unanswered(self, mark: bytes, error: Exception) -> Principal | KeyRefusal:
        entry = self._entries.get(mark)
        now = self._clock()
        known = entry is not None and now < self._checked(entry) + _STALE
        log.warning("keys cannot be looked up", extra={"error": type(error).__name__, "known": known})
        if entry is None or not known:
            return KeyRefusal.UNANSWERED
        entry.retry_at = now + _RETRY
        return entry.principal

    # ---- last use

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


class _KeyAndAccount(msgspec.Struct, frozen=True, array_like=True):
    """A row of a look-up. Times are epoch milliseconds."""

    key_id: str
    user_id: str
    models: str | None
    addresses: str | None
    daily_requests: int | None
    concurrent_requests: int | None
    expires_at: int | None
    revoked_at: int | None
    plan_id: str
    verified_at: int | None
    disabled_at: int | None
    leaving_at: int | None
    account_id: str | None
    revision: int


@lru_cache(16)
def _look_up_text(digests: int) -> str:
    """The look-up by that many digests, one of each pepper; the revision is read in the same snapshot as the row.

    There is a row in any case, with a revision but without a key where there is none: an answer without that is no verdict.
    """
    return (
        "SELECT k.id, k.user_id, k.models, k.addresses, k.daily_requests, k.concurrent_requests, k.expires_at, k.revoked_at,"  # noqa: S608 - no value of anybody
        f" a.plan_id, u.verified_at, COALESCE(u.disabled_at, a.disabled_at),"
        f" COALESCE(u.leaving_at, a.leaving_at), k.account_id, {KEYS_REVISION}"
        f" FROM (SELECT 1) AS asked LEFT JOIN api_keys k ON k.digest IN ({', '.join('?' * digests)})"
        " LEFT JOIN users u ON u.id = k.user_id"
        " LEFT JOIN users a ON a.id = COALESCE(k.account_id, k.user_id)"
    )


def _is_nobodys(rows: list[PointRow]) -> bool:
    """Whether the database says that there is no such key."""
    return len(rows) == 1 and rows[0][0] is None and isinstance(rows[0][-1], int)


_LAST_USED = (
    update(api_keys)
    .where(
        api_keys.c.id == bindparam("key"),
        or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < bindparam("used")),
    )
    .values(last_used_at=bindparam("used"))
)
