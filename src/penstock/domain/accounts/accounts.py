"""Accounts: the people who may call, the plan of each, whether the address is verified and the account open.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds, ids come from ``new_user_id``.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.accounts import day_mails
from penstock.domain.trail import chain
from penstock.errors import InvalidRequest
from penstock.store.sql.schema import capture_orders, captures, outbox, plans, refusals, staff, users

DEMO_EMAIL = "demo@penstock.localhost"
"""The demo user of an installation that has no other; no mail can reach it, and it is never staff."""


class BadEmail(InvalidRequest):
    """This is not an e-mail address that mail can be sent to."""


class EmailTaken(InvalidRequest):
    """There is an account for this mailbox already."""


class NoSuchUser(InvalidRequest):
    """No account has this address."""


class NoSuchPlan(InvalidRequest):
    """No plan has this id; the message names those that exist."""


class User(msgspec.Struct, frozen=True):
    """An account. ``email`` is as its owner wrote it; times are epoch milliseconds."""

    id: str
    email: str
    plan_id: str
    created_at: int
    verified_at: int | None
    disabled_at: int | None
    leaving_at: int | None = None
    """When it will be deleted, as its owner asked."""
    role: str = ""
    """The role in the staff (``domain/staff/roles.py``), '' of everybody else."""


class Changes(msgspec.Struct, frozen=True):
    """What to change of an account; None leaves it."""

    plan_id: str | None = None
    verified: bool | None = None
    disabled: bool | None = None


_LOCAL = re.compile(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Python's codec is IDNA 2003, which turns these into other letters and so into another domain than browsers and mail
# servers (IDNA 2008) mean.
_DEVIATIONS = frozenset("ßς\u200c\u200d")

_SAME_MAILBOX_DOMAIN = {"googlemail.com": "gmail.com"}
_IGNORES_DOTS = frozenset({"gmail.com"})
_IGNORES_PLUS_TAGS = frozenset(
    {
        "gmail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "icloud.com", "me.com", "mac.com",
        "fastmail.com", "proton.me", "protonmail.com", "pm.me", "yandex.com", "zoho.com",
    }
)  # fmt: skip


def new_user_id(random: bytes) -> str:
    """``usr_...`` from 16 random bytes."""
    return api_key.identifier("usr", random)


def parse_email(text: str) -> str:
    """The address in ``text`` with its domain in lower-case ASCII. Raises ``BadEmail``, saying what is wrong.

    An address that is taken is one that a mail can be written to: ``=?`` begins an encoded word there (RFC 2047), so that
    the address would be read as another one.
    """
    address = _address_in(text)
    if "=?" in address:
        raise BadEmail("Mail cannot be sent to an e-mail address that holds =? before the @.", param="email")
    return address


def _address_in(text: str) -> str:
    local, at, domain = text.strip().rpartition("@")
    if not at or not local or not domain:
        raise BadEmail("An e-mail address has the form name@example.com.", param="email")
    if len(local) > 64 or not _LOCAL.fullmatch(local):
        raise BadEmail(
            "The part of the e-mail address before the @ may hold letters without accents, digits and "
            "!#$%&'*+/=?^_`{|}~- with single dots between, at most 64 characters.",
            param="email",
        )
    ascii_domain = _ascii_domain(domain)
    labels = ascii_domain.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise BadEmail("The part of the e-mail address after the @ is not a domain name.", param="email")
    if len(labels) == 1 and ascii_domain != "localhost":
        raise BadEmail("The domain of the e-mail address has no dot.", param="email")
    if len(local) + 1 + len(ascii_domain) > 254:
        raise BadEmail("The e-mail address is longer than 254 characters.", param="email")
    return f"{local}@{ascii_domain}"


def _ascii_domain(domain: str) -> str:
    if _DEVIATIONS.isdisjoint(domain):
        try:
            return domain.encode("idna").decode("ascii").lower()
        except UnicodeError:
            pass
    raise BadEmail("The part of the e-mail address after the @ is not a domain name.", param="email")


def canonical_email(email: str) -> str:
    """The mailbox behind a parsed address: what makes two addresses the same person, and is unique.

    Lower case; where the provider is known to ignore them, without ``+tag`` and dots (docs: one mailbox, one account).
    """
    local, _, domain = email.lower().rpartition("@")
    domain = _SAME_MAILBOX_DOMAIN.get(domain, domain)
    if domain in _IGNORES_PLUS_TAGS:
        local = local.partition("+")[0] or local
    if domain in _IGNORES_DOTS:
        local = local.replace(".", "")
    return f"{local}@{domain}"


def mailbox_of(text: str) -> str:
    """The mailbox of the address in ``text``, for looking an account up. Raises ``BadEmail``.

    It takes addresses that ``parse_email`` refuses because no mail can go there: who has one is still found.
    """
    return canonical_email(_address_in(text))


async def create_user(
    conn: AsyncConnection, email: str, *, plan: str, admin: bool, verified: bool, now: int, id: str
) -> User:
    """Make an account. Raises ``BadEmail``, ``EmailTaken`` or ``NoSuchPlan``.

    ``admin``: as the owner of the installation where it has none, else as an admin.
    """
    address = parse_email(email)
    canonical = canonical_email(address)
    await _require_plan(conn, plan)
    taken = await conn.scalar(select(users.c.email).where(users.c.email_canonical == canonical))
    if taken is not None:
        raise _taken(address, taken)
    user = User(id, address, plan, now, now if verified else None, None)
    values = {name: getattr(user, name) for name in _USER_COLUMNS}
    try:
        await conn.execute(insert(users).values(email_canonical=canonical, **values))
    except IntegrityError as error:
        raise _taken(address, address) from error
    if not admin:
        return user
    role = "admin" if await any_owner(conn) else "owner"
    await conn.execute(
        insert(staff).values(user_id=id, role=role, source="hand", granted_by="", created_at=now)
    )
    return msgspec.structs.replace(user, role=role)


def _taken(address: str, existing: str) -> EmailTaken:
    other = "" if existing.lower() == address.lower() else f" (as {existing}, which is the same mailbox)"
    return EmailTaken(f"There is already an account for {address}{other}.", param="email")


async def change_user(conn: AsyncConnection, user_id: str, changes: Changes, *, now: int) -> User:
    """Apply ``changes``; what is already so keeps its time. Raises ``NoSuchUser`` or ``NoSuchPlan``."""
    user = await get_user(conn, user_id)
    if changes.plan_id is not None:
        await _require_plan(conn, changes.plan_id)
    changed = msgspec.structs.replace(
        user,
        plan_id=user.plan_id if changes.plan_id is None else changes.plan_id,
        verified_at=_since(user.verified_at, changes.verified, now),
        disabled_at=_since(user.disabled_at, changes.disabled, now),
    )
    if changed != user:
        await conn.execute(
            update(users)
            .where(users.c.id == user_id)
            .values(
                plan_id=changed.plan_id,
                verified_at=changed.verified_at,
                disabled_at=changed.disabled_at,
            )
        )
    if changed.plan_id != user.plan_id and await _daily(conn, changed.plan_id) > await _daily(
        conn, user.plan_id
    ):
        await day_mails.limit_raised(conn, users.c.id == user_id)
    return changed


async def _daily(conn: AsyncConnection, plan_id: str) -> int:
    return await conn.scalar(select(plans.c.daily_requests).where(plans.c.id == plan_id)) or 0


async def change_email(conn: AsyncConnection, user_id: str, email: str) -> User:
    """Give the account another address, which was verified. Raises ``BadEmail``, ``EmailTaken``, ``NoSuchUser``."""
    address = parse_email(email)
    canonical = canonical_email(address)
    taken = await conn.scalar(
        select(users.c.email).where(users.c.email_canonical == canonical, users.c.id != user_id)
    )
    if taken is not None:
        raise _taken(address, taken)
    await conn.execute(
        update(users).where(users.c.id == user_id).values(email=address, email_canonical=canonical)
    )
    return await get_user(conn, user_id)


async def set_leaving(conn: AsyncConnection, user_id: str, at: int | None) -> None:
    """Have the account deleted at ``at`` (epoch milliseconds), or keep it."""
    await conn.execute(update(users).where(users.c.id == user_id).values(leaving_at=at))


async def delete_leavers(conn: AsyncConnection, *, now: int) -> int:
    """Delete the accounts whose time has come, with all that belongs to them but their rows in the ledger; how many."""
    gone = select(users.c.id).where(users.c.leaving_at <= now)
    for user_id in list(await conn.scalars(gone)):
        await chain.erase_person(conn, user_id)
    await conn.execute(delete(refusals).where(refusals.c.user_id.in_(gone)))
    for of_account in (captures, capture_orders):
        await conn.execute(delete(of_account).where(of_account.c.account_id.in_(gone)))
    theirs = select(users.c.email).where(users.c.leaving_at <= now)
    await conn.execute(delete(outbox).where(outbox.c.recipient.in_(theirs), outbox.c.due_at.is_(None)))
    return (await conn.execute(delete(users).where(users.c.leaving_at <= now))).rowcount


async def admins(conn: AsyncConnection) -> list[str]:
    """The addresses of those who may set plans and are told what customers want."""
    rows = await conn.scalars(
        _USERS.with_only_columns(users.c.email)
        .where(staff.c.role.in_(("owner", "admin")), users.c.disabled_at.is_(None))
        .order_by(users.c.email)
    )
    return list(rows)


def _since(before: int | None, wanted: bool | None, now: int) -> int | None:
    if wanted is None:
        return before
    if not wanted:
        return None
    return now if before is None else before


async def get_user(conn: AsyncConnection, user_id: str) -> User:
    """The account with this id. Raises ``NoSuchUser``."""
    row = (await conn.execute(_USERS.where(users.c.id == user_id))).one_or_none()
    if row is None:
        raise NoSuchUser(f"There is no account with the id {user_id}.")
    return _user(row)


async def user_by_id(conn: AsyncConnection, user_id: str) -> User | None:
    """The account with this id, if there is one."""
    row = (await conn.execute(_USERS.where(users.c.id == user_id))).one_or_none()
    return None if row is None else _user(row)


async def find_user(conn: AsyncConnection, email: str) -> User | None:
    """The account of this mailbox. Raises ``BadEmail``."""
    canonical = mailbox_of(email)
    row = (await conn.execute(_USERS.where(users.c.email_canonical == canonical))).one_or_none()
    return None if row is None else _user(row)


async def user_by_email(conn: AsyncConnection, email: str) -> User:
    """The account of this mailbox. Raises ``BadEmail`` or ``NoSuchUser``."""
    user = await find_user(conn, email)
    if user is None:
        raise NoSuchUser(f"There is no account for {email}.", param="email")
    return user


async def list_users(conn: AsyncConnection, *, most: int = 1000, after: str = "") -> tuple[User, ...]:
    """Accounts in the order of their canonical addresses, at most ``most``, those after the address ``after``."""
    canonical = canonical_email(after) if after else ""
    rows = await conn.execute(
        _USERS.where(users.c.email_canonical > canonical).order_by(users.c.email_canonical).limit(most)
    )
    return tuple(_user(row) for row in rows)


async def count_users(conn: AsyncConnection) -> int:
    """How many accounts there are."""
    return await conn.scalar(select(func.count()).select_from(users)) or 0


async def any_user(conn: AsyncConnection) -> bool:
    """Whether there is an account at all."""
    return await conn.scalar(select(users.c.id).limit(1)) is not None


async def any_owner(conn: AsyncConnection, *, but: str = "") -> bool:
    """Whether somebody owns the installation: an owner whose account is open and stays, other than ``but``."""
    owner = (
        select(users.c.id)
        .join_from(staff, users, staff.c.user_id == users.c.id)
        .where(
            staff.c.role == "owner",
            users.c.disabled_at.is_(None),
            users.c.leaving_at.is_(None),
            users.c.id != but,
        )
        .limit(1)
    )
    return await conn.scalar(owner) is not None


async def plan_exists(conn: AsyncConnection, plan: str) -> bool:
    """Whether accounts can be on this plan."""
    return await conn.scalar(select(plans.c.id).where(plans.c.id == plan)) is not None


async def _require_plan(conn: AsyncConnection, plan: str) -> None:
    known: Sequence[str] = (await conn.execute(select(plans.c.id).order_by(plans.c.position))).scalars().all()
    if plan not in known:
        raise NoSuchPlan(
            f"There is no plan {plan!r}; there are {', '.join(known) or 'none yet'}.", param="plan"
        )


_USER_COLUMNS = tuple(name for name in User.__struct_fields__ if name != "role")
_USERS = select(
    *(users.c[name] for name in _USER_COLUMNS), func.coalesce(staff.c.role, "").label("role")
).select_from(users.outerjoin(staff, staff.c.user_id == users.c.id))


def _user(row: Row[*tuple[Any, ...]]) -> User:
    return User(*row)
