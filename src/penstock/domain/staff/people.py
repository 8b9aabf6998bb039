"""What staff do to accounts and keys, by whatever way: one function for each, with its entry in the trail and its undoing.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

from typing import Final, Literal

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import accounts, plan_wishes, sessions
from penstock.domain.accounts.accounts import Changes, User
from penstock.domain.keys import management
from penstock.domain.keys.management import KeyRow, NewKey
from penstock.domain.staff import membership
from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import CannotUndo, Changed, KeptChange
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import api_keys

KEY_UNDO_MS: Final = 10 * 60_000
"""How long whoever revoked a key can have it work again."""
DELETE_MS: Final = 7 * 86_400_000
"""How long an account that is deleted can be kept after all."""
LEAKED: Final = "leaked"
"""The reason after which a revoked key stays revoked."""


class AccountState(msgspec.Struct, frozen=True):
    """What of an account staff may change, as a change keeps it."""

    plan: str
    verified: bool
    disabled: bool


def state_of(user: User) -> AccountState:
    """The state of an account."""
    return AccountState(user.plan_id, user.verified_at is not None, user.disabled_at is not None)


_decode_state = msgspec.json.Decoder(AccountState).decode


async def change_account(
    conn: AsyncConnection,
    user: User,
    wanted: Changes,
    actor: Actor,
    *,
    reason: str = "",
    now: int,
    entropy: Entropy,
) -> User:
    """Put an account on another plan, verify its address, or close or open it. A new plan fulfils the wish for one.

    Raises ``NoSuchPlan``, ``LastOwner``.
    """
    if wanted.disabled:
        await membership.lock(conn)
        await membership.check_owner_stays(conn, await accounts.get_user(conn, user.id))
    before = await accounts.get_user(conn, user.id)
    after = await accounts.change_user(conn, user.id, wanted, now=now)
    if after == before:
        return after
    if after.plan_id != before.plan_id:
        await plan_wishes.forget_wish(conn, user.id)
    if after.disabled_at is not None and before.disabled_at is None:
        await sessions.end_all(conn, user.id)
    was, became = state_of(before), state_of(after)
    kept = Changed("user", user.id, state_text(was), state_text(became))
    await changes.record(conn, actor, [kept], now=now, entropy=entropy)
    old, new = entries.difference(msgspec.structs.asdict(was), msgspec.structs.asdict(became))
    await entries.write(
        conn,
        actor,
        "user_changed",
        Subject("user", user.id, user.email),
        before=old,
        after=new,
        reason=reason,
        now=now,
        entropy=entropy,
    )
    return after


def state_text(state: AccountState) -> str:
    """The state as a change keeps it."""
    return msgspec.json.encode(state).decode()


async def undo(
    conn: AsyncConnection, change_of: KeptChange, actor: Actor, *, now: int, entropy: Entropy
) -> User:
    """Give an account back the state that it had. Raises ``CannotUndo``, ``LastOwner``."""
    user = await accounts.get_user(conn, change_of.object_id)
    if change_of.before is None or change_of.after is None or state_text(state_of(user)) != change_of.after:
        raise CannotUndo(f"{user.email} was changed since: it is no longer what that change left.")
    was = _decode_state(change_of.before)
    return await change_account(
        conn,
        user,
        Changes(was.plan, was.verified, was.disabled),
        actor,
        reason=f"undoes {change_of.operation}",
        now=now,
        entropy=entropy,
    )


async def made(conn: AsyncConnection, user: User, actor: Actor, *, now: int, entropy: Entropy) -> None:
    """Note that an account was made by hand."""
    await entries.write(
        conn,
        actor,
        "user_made",
        Subject("user", user.id, user.email),
        after={"plan": user.plan_id, "verified": user.verified_at is not None, "role": user.role or None},
        now=now,
        entropy=entropy,
    )


async def delete(
    conn: AsyncConnection, user: User, actor: Actor, *, reason: str = "", now: int, entropy: Entropy
) -> int:
    """Have an account deleted after ``DELETE_MS``; until then its keys do not work, and ``keep`` undoes it. When it will go.

    Raises ``LastOwner``.
    """
    await membership.lock(conn)
    await membership.check_owner_stays(conn, await accounts.get_user(conn, user.id))
    at = now + DELETE_MS
    await accounts.set_leaving(conn, user.id, at)
    await sessions.end_all(conn, user.id)
    subject = Subject("user", user.id, user.email)
    after = {"deleted_at": at}
    await entries.write(
        conn, actor, "user_deleted", subject, after=after, reason=reason, now=now, entropy=entropy
    )
    return at


async def keep(
    conn: AsyncConnection, user: User, actor: Actor, *, reason: str = "", now: int, entropy: Entropy
) -> None:
    """Keep an account that was to be deleted, whoever wanted that."""
    await accounts.set_leaving(conn, user.id, None)
    subject = Subject("user", user.id, user.email)
    before = {"deleted_at": user.leaving_at}
    await entries.write(
        conn, actor, "user_kept", subject, before=before, reason=reason, now=now, entropy=entropy
    )


async def end_sessions(conn: AsyncConnection, user: User, actor: Actor, *, now: int, entropy: Entropy) -> int:
    """Sign somebody out everywhere; how many sessions ended."""
    ended = await sessions.end_all(conn, user.id)
    await entries.write(
        conn,
        actor,
        "sessions_ended",
        Subject("user", user.id, user.email),
        after={"sessions": ended},
        now=now,
        entropy=entropy,
    )
    return ended


async def revoke_key(
    conn: AsyncConnection, key: KeyRow, actor: Actor, *, reason: str = "", now: int, entropy: Entropy
) -> None:
    """End somebody's key. Raises ``NoSuchKey``."""
    await management.revoke_key(conn, key.user_id, key.id, now=now)
    await changes.record(
        conn,
        actor,
        [Changed("key", key.id, "works", LEAKED if reason == LEAKED else "revoked")],
        now=now,
        entropy=entropy,
    )
    await entries.write(
        conn,
        actor,
        "key_revoked",
        Subject("key", key.id, key.name),
        before={"account": key.user_id, "revoked": False},
        after={"account": key.user_id, "revoked": True},
        reason=reason,
        now=now,
        entropy=entropy,
    )


async def key_made(
    conn: AsyncConnection,
    user: User,
    made: NewKey,
    actor: Actor,
    action: Literal["key_made", "key_rolled"],
    *,
    now: int,
    entropy: Entropy,
) -> None:
    """Note that a key was made for somebody, or rolled."""
    await entries.write(
        conn,
        actor,
        action,
        Subject("key", made.id, made.name),
        after={"account": user.id},
        now=now,
        entropy=entropy,
    )


async def restore_key(
    conn: AsyncConnection, change_of: KeptChange, actor: Actor, *, now: int, entropy: Entropy
) -> None:
    """Have a key that was just revoked work again; it cannot be shown any more. Raises ``CannotUndo``."""
    if change_of.after == LEAKED:
        raise CannotUndo("This key was revoked because it had leaked. It stays revoked.")
    if change_of.actor_id != actor.id or now - change_of.at > KEY_UNDO_MS:
        raise CannotUndo("A revoked key comes back within ten minutes, by whoever revoked it.")
    done = await conn.execute(
        update(api_keys)
        .where(api_keys.c.id == change_of.object_id, api_keys.c.revoked_at == change_of.at)
        .values(revoked_at=None)
    )
    if done.rowcount != 1:
        raise CannotUndo("This key was changed since.")
    await entries.write(
        conn, actor, "key_restored", Subject("key", change_of.object_id), now=now, entropy=entropy
    )


async def key_by_id(conn: AsyncConnection, key_id: str) -> KeyRow:
    """A key, whoever's it is. Raises ``InvalidRequest``."""
    owner = await conn.scalar(select(api_keys.c.user_id).where(api_keys.c.id == key_id))
    if owner is None:
        raise InvalidRequest("There is no such key.")
    return await management.get_key(conn, owner, key_id)
