"""What staff do to accounts and keys, by whatever way: one function for each, with its entry in the trail and its undoing.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import accounts, plan_wishes, sessions
from penstock.domain.accounts.accounts import Changes, User
from penstock.domain.keys import management
from penstock.domain.keys.management import KeyRow, KeyWish, NewKey
from penstock.domain.mail import messages, outbox
from penstock.domain.staff import membership
from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import CannotUndo, Changed, KeptChange
from penstock.domain.trail.entries import Actor, FieldValue, Subject
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import api_keys

KEY_UNDO_MS: Final = 10 * 60_000
"""How long whoever revoked a key can have it work again."""
DELETE_MS: Final = 7 * 86_400_000
"""How long an account that is deleted can be kept after all."""
LEAKED: Final = "leaked"
"""The reason after which a revoked key stays revoked."""


class Post(msgspec.Struct, frozen=True):
    """What a mail to the owner of an account needs: by whom it is sealed, and what the service is called and where it is."""

    secrets_file: SecretsFile
    brand: str
    url: str


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


async def change_and_tell(
    conn: AsyncConnection,
    user: User,
    wanted: Changes,
    actor: Actor,
    post: Post,
    *,
    reason: str = "",
    now: int,
    entropy: Entropy,
) -> User:
    """The same, and the owner is mailed of another plan. Raises ``NoSuchPlan``, ``LastOwner``."""
    changed = await change_account(conn, user, wanted, actor, reason=reason, now=now, entropy=entropy)
    if changed.plan_id != user.plan_id:
        mail = messages.plan_set(post.brand, user.email, changed.plan_id, post.url)
        await outbox.queue(conn, post.secrets_file, mail, now=now, entropy=entropy)
    return changed


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


async def make_account(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    email: str,
    actor: Actor,
    *,
    plan: str,
    admin: bool = False,
    verified: bool,
    keep_key: bool,
    now: int,
    entropy: Entropy,
) -> tuple[User, NewKey]:
    """Make an account with its first key; ``keep_key``: with a sealed copy to show again.

    Raises ``BadEmail``, ``EmailTaken``, ``NoSuchPlan``.
    """
    id = accounts.new_user_id(entropy(16))
    user = await accounts.create_user(conn, email, plan=plan, admin=admin, verified=verified, now=now, id=id)
    await _made(conn, user, actor, now=now, entropy=entropy)
    key = await management.create_key(
        conn, secrets_file, user.id, KeyWish(), now=now, entropy=entropy, keep=keep_key
    )
    return user, key


async def make_key(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    user: User,
    wish: KeyWish,
    actor: Actor,
    *,
    keep_key: bool,
    now: int,
    entropy: Entropy,
) -> NewKey:
    """Make a key for somebody. Raises ``BadKeyWish``."""
    key = await management.create_key(
        conn, secrets_file, user.id, wish, now=now, entropy=entropy, keep=keep_key
    )
    await _key_made(conn, user.id, key, actor, "key_made", now=now, entropy=entropy)
    return key


async def roll_key(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    old: KeyRow,
    actor: Actor,
    *,
    grace: int,
    keep_key: bool,
    now: int,
    entropy: Entropy,
) -> NewKey:
    """Replace somebody's key by a new one, while the old one works ``grace`` seconds longer. Raises ``NoSuchKey``."""
    key = await management.roll_key(
        conn, secrets_file, old, grace=grace, now=now, entropy=entropy, keep=keep_key
    )
    await _key_made(conn, old.user_id, key, actor, "key_rolled", now=now, entropy=entropy)
    return key


async def _made(conn: AsyncConnection, user: User, actor: Actor, *, now: int, entropy: Entropy) -> None:
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


async def delete_and_tell(
    conn: AsyncConnection,
    user: User,
    actor: Actor,
    post: Post,
    *,
    reason: str = "",
    now: int,
    entropy: Entropy,
) -> int:
    """The same, and the owner is mailed until when it can be kept. Raises ``LastOwner``."""
    at = await delete(conn, user, actor, reason=reason, now=now, entropy=entropy)
    until = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")
    mail = messages.deletion(post.brand, user.email, post.url, until)
    await outbox.queue(conn, post.secrets_file, mail, now=now, entropy=entropy)
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


async def _key_made(
    conn: AsyncConnection,
    user_id: str,
    key: NewKey,
    actor: Actor,
    action: Literal["key_made", "key_rolled"],
    *,
    now: int,
    entropy: Entropy,
) -> None:
    subject = Subject("key", key.id, key.name)
    await entries.write(conn, actor, action, subject, after={"account": user_id}, now=now, entropy=entropy)


async def change_key(
    conn: AsyncConnection, key: KeyRow, wish: KeyWish, actor: Actor, *, now: int, entropy: Entropy
) -> KeyRow:
    """Give somebody's key another name, list of models or addresses, limits, or end. Raises ``NoSuchKey``, ``BadKeyWish``."""
    await management.change_key(conn, key, wish, now=now)
    after = await management.get_key(conn, key.user_id, key.id)
    old, new = entries.difference(_key_fields(key), _key_fields(after))
    if old != new:
        subject = Subject("key", key.id, after.name)
        await entries.write(
            conn, actor, "key_changed", subject, before=old, after=new, now=now, entropy=entropy
        )
    return after


def _key_fields(key: KeyRow) -> dict[str, FieldValue]:
    return {
        "name": key.name,
        "models": management.write_list(key.models),
        "addresses": management.write_list(key.addresses),
        "daily_requests": key.daily_requests,
        "concurrent_requests": key.concurrent_requests,
        "expires_at": key.expires_at,
    }


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


async def find_key(conn: AsyncConnection, key_id: str) -> KeyRow | None:
    """A key, whoever's it is."""
    owner = await conn.scalar(select(api_keys.c.user_id).where(api_keys.c.id == key_id))
    return None if owner is None else await management.get_key(conn, owner, key_id)
