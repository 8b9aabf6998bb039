"""Sessions of people who are signed in: kept by the server, found by the digest of the token in a cookie.

A token has 256 random bits. It is a visitor's from the first form it is shown, and is replaced whenever it comes to mean
more: at the password, at the second factor. ``now`` is epoch milliseconds; every function takes a connection inside a
transaction.
"""

import hashlib
import hmac
from typing import Literal

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import sessions

Stage = Literal["password", "signed_in"]
"""``password``: the second factor is still missing, so nothing is allowed but giving it."""

TOKEN_LENGTH = 43
_TOUCH = 60_000
"""Milliseconds between two notes of when a session was last seen."""
SECOND_FACTOR_MS = 10 * 60_000
"""How long a session may stay at the stage ``password``."""


class Session(msgspec.Struct, frozen=True):
    """A session. Times are epoch milliseconds; ``agent`` is the browser as it named itself."""

    digest: bytes
    id: str
    user_id: str
    stage: Stage
    created_at: int
    seen_at: int
    address: str
    agent: str


class Lifetime(msgspec.Struct, frozen=True):
    """How long a session lasts, in milliseconds: unused, and at most."""

    idle: int
    longest: int


def new_token(entropy: Entropy) -> str:
    """A token for a cookie: 43 base62 characters."""
    return api_key.base62(int.from_bytes(entropy(32)), TOKEN_LENGTH)


def is_token(text: str) -> bool:
    """Whether ``text`` can be a token of ours."""
    return len(text) == TOKEN_LENGTH and text.isascii() and text.isalnum()


def digest_of(token: str) -> bytes:
    """What is kept of a token: SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


def form_token(token: str) -> str:
    """What forms carry to show that they are ours: only who has the cookie's token can make it."""
    return hmac.digest(token.encode(), b"penstock form", "sha256").hex()[:32]


async def start(
    conn: AsyncConnection,
    token: str,
    user_id: str,
    stage: Stage,
    *,
    now: int,
    address: str,
    agent: str,
    entropy: Entropy,
) -> Session:
    """Begin a session under a new token."""
    id = api_key.identifier("ses", entropy(16))
    session = Session(digest_of(token), id, user_id, stage, now, now, address[:64], _printable(agent)[:200])
    await conn.execute(insert(sessions).values(**msgspec.structs.asdict(session)))
    return session


async def find(conn: AsyncConnection, token: str, lifetime: Lifetime, *, now: int) -> Session | None:
    """The session of a token, unless it is over."""
    row = (await conn.execute(select(sessions).where(sessions.c.digest == digest_of(token)))).one_or_none()
    if row is None:
        return None
    session = Session(*row)
    return session if _alive(session, lifetime, now) else None


def wants_touch(session: Session, now: int) -> bool:
    """Whether it is time to note again that the session is in use."""
    return now - session.seen_at >= _TOUCH


async def touch(conn: AsyncConnection, session: Session, address: str, *, now: int) -> None:
    """Note that the session is in use."""
    await conn.execute(
        update(sessions).where(sessions.c.digest == session.digest).values(seen_at=now, address=address[:64])
    )


async def sessions_of(conn: AsyncConnection, user_id: str, lifetime: Lifetime, *, now: int) -> list[Session]:
    """The account's sessions, the last used first."""
    rows = await conn.execute(
        select(sessions)
        .where(sessions.c.user_id == user_id, sessions.c.stage == "signed_in")
        .order_by(sessions.c.seen_at.desc(), sessions.c.id)
    )
    return [session for session in (Session(*row) for row in rows) if _alive(session, lifetime, now)]


async def end(conn: AsyncConnection, session: Session) -> None:
    """End one session."""
    await conn.execute(delete(sessions).where(sessions.c.digest == session.digest))


async def end_by_id(conn: AsyncConnection, user_id: str, id: str) -> bool:
    """End a session of this account; whether there was one."""
    done = await conn.execute(delete(sessions).where(sessions.c.user_id == user_id, sessions.c.id == id))
    return done.rowcount == 1


async def end_all(conn: AsyncConnection, user_id: str, *, but: bytes = b"") -> int:
    """End the account's sessions, but the one with the digest ``but``; how many."""
    done = await conn.execute(delete(sessions).where(sessions.c.user_id == user_id, sessions.c.digest != but))
    return done.rowcount


async def tidy(conn: AsyncConnection, lifetime: Lifetime, *, now: int) -> int:
    """Delete the sessions that are over; how many."""
    over = (sessions.c.seen_at < now - lifetime.idle) | (sessions.c.created_at < now - lifetime.longest)
    return (await conn.execute(delete(sessions).where(over))).rowcount


def _alive(session: Session, lifetime: Lifetime, now: int) -> bool:
    if session.stage == "password" and now - session.created_at > SECOND_FACTOR_MS:
        return False
    return now - session.seen_at <= lifetime.idle and now - session.created_at <= lifetime.longest


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
