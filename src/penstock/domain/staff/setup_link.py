"""The set-up link: by it whoever runs the installation becomes its first owner, with a password of their own.

A link holds 256 random bits, of which the digest is kept; it works for half an hour, once, and only while there is no owner.
It is made by a command or printed at a start. It stands behind the ``#`` of its address, which browsers do not send, so no log
of requests has it. Of many who use one at once a single one is first: the statement that marks it says who. Times are epoch
milliseconds.
"""

from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import accounts, credentials, sessions
from penstock.domain.accounts.accounts import Changes, User
from penstock.domain.accounts.sessions import digest_of, is_token, new_token
from penstock.domain.staff import membership
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError, InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import setup_links

LIFETIME_MS: Final = 30 * 60_000


class LinkGone(CallerError):
    """The link was used, is too old, or there is an owner already."""

    status = 410
    code = "setup_link_gone"


_GONE = "This set-up link no longer works. Whoever runs the server makes a new one: penstock setup-link"
_OWNED = "This installation has an owner already. An owner gives roles, under Admin."


async def new_link(conn: AsyncConnection, actor: Actor, *, now: int, entropy: Entropy) -> str:
    """A new link's token. Raises ``LinkGone`` where there is an owner."""
    if await accounts.any_owner(conn):
        raise LinkGone(_OWNED)
    token = new_token(entropy)
    await conn.execute(delete(setup_links).where(setup_links.c.expires_at <= now))
    await conn.execute(
        insert(setup_links).values(digest=digest_of(token), created_at=now, expires_at=now + LIFETIME_MS)
    )
    await entries.write(conn, actor, "setup_link_made", Subject("setup_link", ""), now=now, entropy=entropy)
    return token


def address(url: str, token: str) -> str:
    """The link; ``url`` is where browsers find the pages."""
    return f"{url}/setup#{token}"


async def any_link(conn: AsyncConnection, *, now: int) -> bool:
    """Whether there is a link that works."""
    columns = setup_links.c
    usable = select(columns.digest).where(columns.expires_at > now, columns.used_at.is_(None)).limit(1)
    return await conn.scalar(usable) is not None


async def use(conn: AsyncConnection, token: str, *, now: int) -> None:
    """Use the link: it is nobody else's from now on. Raises ``LinkGone``."""
    columns = setup_links.c
    if not is_token(token):
        raise LinkGone(_GONE)
    await membership.lock(conn)
    if await accounts.any_owner(conn):
        raise LinkGone(_OWNED)
    done = await conn.execute(
        update(setup_links)
        .where(columns.digest == digest_of(token), columns.expires_at > now, columns.used_at.is_(None))
        .values(used_at=now)
    )
    if done.rowcount != 1:
        raise LinkGone(_GONE)


async def give_back(conn: AsyncConnection, token: str) -> None:
    """What was used for nothing can be used again: the password could not be hashed."""
    await conn.execute(
        update(setup_links).where(setup_links.c.digest == digest_of(token)).values(used_at=None)
    )


async def make_owner(
    conn: AsyncConnection,
    email: str,
    hashed: str,
    *,
    plan: str,
    network_address: str,
    now: int,
    entropy: Entropy,
) -> User:
    """Make the first owner, after ``use``: a new account, or that of the address. Raises ``BadEmail``, ``BadRole``."""
    await membership.lock(conn)
    if await accounts.any_owner(conn):
        raise LinkGone(_OWNED)
    user = await accounts.find_user(conn, email)
    if user is not None and user.disabled_at is not None:
        raise InvalidRequest("This account is disabled; take another address.", param="email")
    if user is None:
        id = accounts.new_user_id(entropy(16))
        user = await accounts.create_user(conn, email, plan=plan, admin=False, verified=True, now=now, id=id)
    else:
        user = await accounts.change_user(conn, user.id, Changes(verified=True), now=now)
        await sessions.end_all(conn, user.id)
    await credentials.set_password(conn, user.id, hashed, now=now)
    actor = Actor("user", user.id, user.email, network_address)
    user = await membership.give(conn, user, "owner", actor, now=now, entropy=entropy)
    await entries.write(
        conn, actor, "owner_made", Subject("staff", user.id, user.email), now=now, entropy=entropy
    )
    await conn.execute(delete(setup_links))
    return user
