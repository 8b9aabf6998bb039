"""Tokens of the admin API: made by staff within their role, narrowed by scopes, kept as a digest, and ended.

A token belongs to a person and never does more than that person may at the moment: whoever loses a role takes their tokens'
rights with it. Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeGuard, get_args

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.core.api_key import TOKEN_PREFIX
from penstock.domain.accounts.accounts import DEMO_EMAIL, User
from penstock.domain.keys.authentication import within_networks
from penstock.domain.keys.management import read_list, write_list
from penstock.domain.staff.roles import PERMISSIONS, ROLES, Permission, StaffRole, is_role
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError, InvalidRequest
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import admin_tokens, staff, users

Scope = Literal[
    "users:read", "users:write", "keys:read", "keys:write", "catalog:read", "catalog:write", "providers:read",
    "providers:write", "requests:read", "requests:write", "staff:read", "staff:write", "mail:read", "mail:write",
    "trail:read", "changes:write", "settings:read", "jobs:read", "notices:read", "notices:write",
    "captures:read", "captures:write",
    "exports:read", "exports:write",
]  # fmt: skip
"""What a token is for. Who may write may read the same."""
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
DEFAULT_DAYS: Final = 90
MAX_TOKENS: Final = 100
"""Working tokens that one person may have."""
_DAY_MS: Final = 86_400_000
_TOUCH_MS: Final = 60_000
"""How old the time of the last use may be, so that not every request writes."""
_MAX_NAME: Final = 100
_GROUPS: Final[Mapping[str, tuple[Scope, ...]]] = {
    "read": tuple(scope for scope in SCOPES if scope.endswith(":read")),
    "all": SCOPES,
}
"""Words that stand for several scopes."""


class BadToken(InvalidRequest):
    """A name, role, scope, address or lifetime that a token cannot have; ``param`` names it."""


class NoSuchToken(InvalidRequest):
    """There is no such token, or it no longer works."""

    status = 404
    code = "no_such_token"


class InvalidToken(CallerError):
    """What was sent is no token of ours, or it no longer works."""

    status = 401
    code = "invalid_token"
    kind = "authentication_error"


class TokenAddressRefused(CallerError):
    """The token may not be used from this address."""

    status = 403
    code = "address_not_allowed"


class ScopeMissing(CallerError):
    """The token was not made for this."""

    status = 403
    code = "scope_missing"


class TokenWish(msgspec.Struct, frozen=True):
    """What a new token is to be like. ``scopes`` may have ``read`` and ``all``; ``addresses`` None: from everywhere."""

    name: str
    role: str
    scopes: tuple[str, ...]
    days: int = DEFAULT_DAYS
    addresses: tuple[str, ...] | None = None


class NewToken(msgspec.Struct, frozen=True):
    """A token just made; the only moment at which it is known."""

    id: str
    name: str
    token: str
    expires_at: int

    def __repr__(self) -> str:
        return f"NewToken({self.id})"


class AdminToken(msgspec.Struct, frozen=True):
    """A token as staff see it. Times are epoch milliseconds."""

    id: str
    name: str
    shown: str
    role: StaffRole
    scopes: tuple[Scope, ...]
    addresses: tuple[str, ...] | None
    maker_id: str
    maker: str
    """The address of the person whose rights it never exceeds."""
    maker_role: str
    created_at: int
    expires_at: int
    last_used_at: int | None
    revoked_at: int | None

    def works(self, now: int) -> bool:
        """Whether it is neither revoked nor expired, and its maker still works here."""
        return self.revoked_at is None and self.expires_at > now and bool(self.maker_role)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What its role allows, of what its maker may now."""
        makers = PERMISSIONS[self.maker_role] if is_role(self.maker_role) else frozenset[Permission]()
        return PERMISSIONS[self.role] & makers

    @property
    def standing(self) -> StaffRole:
        """The role that it acts in: the lower one of its own and its maker's."""
        makers = self.maker_role
        return makers if is_role(makers) and ROLES.index(makers) > ROLES.index(self.role) else self.role

    def reaches(self, scope: Scope) -> bool:
        """Whether it was made for this."""
        return scope in self.scopes or scope.replace(":read", ":write") in self.scopes


async def make_token(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    maker: User,
    wish: TokenWish,
    actor: Actor,
    *,
    longest_days: int,
    now: int,
    entropy: Entropy,
) -> NewToken:
    """Make a token that acts for ``maker``. Raises ``BadToken``."""
    role, scopes = _checked(maker, wish, longest_days)
    working = [it for it in await list_tokens(conn) if it.maker_id == maker.id and it.works(now)]
    if len(working) >= MAX_TOKENS:
        raise BadToken(f"There are {MAX_TOKENS} tokens already; revoke one first.")
    name = wish.name.strip()
    if any(it.name == name for it in working):
        raise BadToken(f"There is a token named {name!r} already.", param="name")
    id = api_key.identifier("tok", entropy(16))
    token = api_key.make_key(entropy(api_key.RANDOM_BYTES), TOKEN_PREFIX)
    expires_at = now + wish.days * _DAY_MS
    await conn.execute(
        insert(admin_tokens).values(
            id=id,
            name=name,
            prefix=api_key.start_of(token),
            last4=api_key.end_of(token),
            digest=secrets_file.digests(token)[0],
            pepper_id=secrets_file.pepper_id,
            role=role,
            scopes=msgspec.json.encode(scopes).decode(),
            addresses=write_list(wish.addresses),
            maker_id=maker.id,
            created_at=now,
            expires_at=expires_at,
        )
    )
    await entries.write(
        conn,
        actor,
        "token_made",
        Subject("token", id, name),
        after={"maker": maker.id, "role": role, "scopes": " ".join(scopes), "expires_at": expires_at},
        now=now,
        entropy=entropy,
    )
    return NewToken(id, name, token, expires_at)


def _checked(maker: User, wish: TokenWish, longest_days: int) -> tuple[StaffRole, tuple[Scope, ...]]:
    name = wish.name.strip()
    if not (1 <= len(name) <= _MAX_NAME and name.isprintable()):
        raise BadToken(f"A token's name has 1 to {_MAX_NAME} printable characters.", param="name")
    if not is_role(wish.role):
        raise BadToken(f"There is no role {wish.role!r}; there are {', '.join(ROLES)}.", param="role")
    if not is_role(maker.role) or maker.email == DEMO_EMAIL or maker.disabled_at is not None:
        raise BadToken(f"{maker.email} is not of the staff: a token acts for somebody who is.", param="email")
    if not PERMISSIONS[wish.role] <= PERMISSIONS[maker.role]:
        raise BadToken(
            f"A token of {maker.email} ({maker.role}) cannot have the role {wish.role}, which may more.",
            param="role",
        )
    if not 1 <= wish.days <= longest_days:
        raise BadToken(f"A token works for 1 to {longest_days} days.", param="days")
    for address in wish.addresses or ():
        try:
            ipaddress.ip_network(address)
        except ValueError as error:
            raise BadToken(
                f"{address!r} is not an IP address or network: {error}.", param="addresses"
            ) from None
    return wish.role, scopes_in(wish.scopes)


def scopes_in(words: Sequence[str]) -> tuple[Scope, ...]:
    """The scopes that the words name, in their order. Raises ``BadToken``."""
    wanted: set[Scope] = set()
    for word in words:
        if word in _GROUPS:
            wanted.update(_GROUPS[word])
        elif is_scope(word):
            wanted.add(word)
        else:
            raise BadToken(
                f"There is no scope {word!r}; there are read, all, {', '.join(SCOPES)}.", param="scopes"
            )
    if not wanted:
        raise BadToken("A token has at least one scope; read has all that only read.", param="scopes")
    return tuple(scope for scope in SCOPES if scope in wanted)


def is_scope(text: str) -> TypeGuard[Scope]:
    """Whether there is such a scope."""
    return text in SCOPES


async def list_tokens(conn: AsyncConnection) -> list[AdminToken]:
    """All tokens, the newest first, those that no longer work included."""
    rows = await conn.execute(_TOKENS.order_by(admin_tokens.c.created_at.desc(), admin_tokens.c.id))
    return [_token(row) for row in rows]


async def token_named(conn: AsyncConnection, text: str, *, now: int) -> AdminToken:
    """The working token of this id or, where that is clear, of this name. Raises ``NoSuchToken``."""
    found = [it for it in await list_tokens(conn) if text in (it.id, it.name) and it.revoked_at is None]
    found = [it for it in found if it.id == text] or [it for it in found if it.expires_at > now] or found
    if len(found) != 1:
        why = "several tokens are called so: name its id" if found else "there is no such token that works"
        raise NoSuchToken(f"{text}: {why}.")
    return found[0]


async def revoke_token(
    conn: AsyncConnection, token: AdminToken, actor: Actor, *, reason: str = "", now: int, entropy: Entropy
) -> None:
    """End a token at once. Raises ``NoSuchToken``."""
    done = await conn.execute(
        update(admin_tokens)
        .where(admin_tokens.c.id == token.id, admin_tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    if done.rowcount != 1:
        raise NoSuchToken("There is no such token that works.")
    await entries.write(
        conn,
        actor,
        "token_revoked",
        Subject("token", token.id, token.name),
        before={"revoked": False},
        after={"revoked": True},
        reason=reason,
        now=now,
        entropy=entropy,
    )


# ---- used


async def token_behind(
    conn: AsyncConnection, secrets_file: SecretsFile, text: str, address: str, *, now: int
) -> AdminToken:
    """The token that was sent. Raises ``InvalidToken``, ``TokenAddressRefused``."""
    if not api_key.is_well_formed(text, TOKEN_PREFIX):
        raise InvalidToken(
            "This is not a token of this service: one begins with pa-ps-, and is copied whole."
        )
    rows = await conn.execute(_TOKENS.where(admin_tokens.c.digest.in_(secrets_file.digests(text))))
    row = rows.one_or_none()
    if row is None:
        raise InvalidToken("There is no such token here.")
    token = _token(row)
    if token.revoked_at is not None:
        raise InvalidToken("This token was revoked. Make a new one.")
    if token.expires_at <= now:
        raise InvalidToken("This token has expired. Make a new one.")
    if not token.maker_role or row.disabled_at is not None or row.leaving_at is not None:
        raise InvalidToken("The person whom this token acts for does not work here any more.")
    if token.addresses is not None and not within_networks(address, token.addresses):
        raise TokenAddressRefused(f"This token may not be used from {address}.")
    return token


def wants_use_noted(token: AdminToken, now: int) -> bool:
    """Whether the time of the last use is to be written anew."""
    return token.last_used_at is None or now - token.last_used_at >= _TOUCH_MS


async def note_use(conn: AsyncConnection, token: AdminToken, *, now: int) -> None:
    """Note that the token was used."""
    await conn.execute(update(admin_tokens).where(admin_tokens.c.id == token.id).values(last_used_at=now))


_TOKENS = (
    select(
        admin_tokens,
        users.c.email,
        users.c.disabled_at,
        users.c.leaving_at,
        staff.c.role.label("maker_role"),
    )
    .join_from(admin_tokens, users, admin_tokens.c.maker_id == users.c.id)
    .outerjoin(staff, staff.c.user_id == users.c.id)
)
_decode_scopes = msgspec.json.Decoder(tuple[str, ...]).decode


def _token(row: Row[*tuple[Any, ...]]) -> AdminToken:
    return AdminToken(
        id=row.id,
        name=row.name,
        shown=api_key.masked_key(row.prefix, row.last4),
        role=row.role,
        scopes=tuple(scope for scope in _decode_scopes(row.scopes) if is_scope(scope)),
        addresses=read_list(row.addresses),
        maker_id=row.maker_id,
        maker=row.email,
        maker_role=row.maker_role or "",
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
