"""Membership of the staff: roles given and taken by hand, and those that follow from the groups of a sign-in provider.

There is always an owner: whoever would leave the installation without one is refused, whichever way they come. A group never
makes or unmakes an owner, and never touches a role that was given by hand. Every function takes a connection inside a
transaction; ``now`` is epoch milliseconds.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import accounts, sessions
from penstock.domain.accounts.accounts import DEMO_EMAIL, User
from penstock.domain.staff.roles import ROLES, StaffRole, highest, is_role
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError, InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.database import upsert, upsert_adding
from penstock.store.sql.schema import revisions, sso_groups, staff, users

_LOCK = "staff"
"""The row in ``revisions`` that whoever changes roles holds: two of the last owners cannot unmake each other."""


class LastOwner(CallerError):
    """The installation would be left without an owner."""

    status = 409
    code = "last_owner"


class BadRole(InvalidRequest):
    """There is no such role, or this account cannot have it."""


class StaffMember(msgspec.Struct, frozen=True):
    """Somebody of the staff. ``source`` is ``hand`` or ``sso``; ``created_at`` is epoch milliseconds."""

    user_id: str
    email: str
    role: StaffRole
    source: str
    granted_by: str
    created_at: int
    disabled_at: int | None


async def members(conn: AsyncConnection) -> list[StaffMember]:
    """All of the staff, the owners first."""
    rows = await conn.execute(
        select(
            staff.c.user_id,
            users.c.email,
            staff.c.role,
            staff.c.source,
            staff.c.granted_by,
            staff.c.created_at,
            users.c.disabled_at,
        ).join_from(staff, users, staff.c.user_id == users.c.id)
    )
    found = [StaffMember(*row) for row in rows]
    return sorted(found, key=lambda member: (ROLES.index(member.role), member.email))


async def lock(conn: AsyncConnection) -> None:
    """Wait until no other transaction changes roles."""
    await conn.execute(
        upsert_adding(conn, revisions, ("subject",), ("value",)), {"subject": _LOCK, "value": 1}
    )


async def check_owner_stays(conn: AsyncConnection, user: User) -> None:
    """Raise ``LastOwner`` where nobody but this account owns the installation."""
    if user.role == "owner" and not await accounts.any_owner(conn, but=user.id):
        raise LastOwner(
            f"{user.email} is the last owner. Make somebody else an owner first: "
            "penstock staff set --email E --role owner"
        )


async def give(
    conn: AsyncConnection, user: User, role: str, actor: Actor, *, now: int, entropy: Entropy
) -> User:
    """Give somebody a role, in place of the one that they had. Raises ``BadRole``, ``LastOwner``."""
    if not is_role(role):
        raise BadRole(f"There is no role {role!r}; there are {', '.join(ROLES)}.", param="role")
    if user.email == DEMO_EMAIL:
        raise BadRole("The demo user cannot be staff: its key is printed at every start.", param="role")
    await lock(conn)
    user = await accounts.get_user(conn, user.id)
    if user.role == role:
        return user
    if role != "owner":
        await check_owner_stays(conn, user)
    await _keep(conn, user.id, role, "hand", actor.id, now)
    subject = Subject("staff", user.id, user.email)
    before = {"role": user.role or None}
    await entries.write(
        conn, actor, "role_given", subject, before=before, after={"role": role}, now=now, entropy=entropy
    )
    if user.role and ROLES.index(role) > ROLES.index(user.role):
        await sessions.end_all(conn, user.id)
    return msgspec.structs.replace(user, role=role)


async def take(conn: AsyncConnection, user: User, actor: Actor, *, now: int, entropy: Entropy) -> User:
    """Take somebody's role away; their sessions end. Raises ``LastOwner``."""
    await lock(conn)
    user = await accounts.get_user(conn, user.id)
    if not user.role:
        return user
    await check_owner_stays(conn, user)
    await conn.execute(delete(staff).where(staff.c.user_id == user.id))
    await sessions.end_all(conn, user.id)
    subject = Subject("staff", user.id, user.email)
    await entries.write(
        conn,
        actor,
        "role_taken",
        subject,
        before={"role": user.role},
        after={"role": None},
        now=now,
        entropy=entropy,
    )
    return msgspec.structs.replace(user, role="")


async def _keep(
    conn: AsyncConnection, user_id: str, role: str, source: str, granted_by: str, now: int
) -> None:
    await conn.execute(
        upsert(conn, staff, ("user_id",), ("role", "source", "granted_by")),
        {
            "user_id": user_id,
            "role": role,
            "source": source,
            "granted_by": granted_by,
            "created_at": now,
        },
    )


# ---- groups of a sign-in provider


async def groups(conn: AsyncConnection) -> dict[str, StaffRole]:
    """The groups that give a role."""
    rows = await conn.execute(select(sso_groups.c.name, sso_groups.c.role).order_by(sso_groups.c.name))
    return {row.name: row.role for row in rows}


async def map_group(
    conn: AsyncConnection, name: str, role: str | None, actor: Actor, *, now: int, entropy: Entropy
) -> None:
    """Have a group's members hold a role from their next sign-in on; None: no longer. Raises ``BadRole``."""
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise BadRole("A group's name has 1 to 200 characters.", param="group")
    if role is not None and (not is_role(role) or role == "owner"):
        raise BadRole(
            "A group gives admin, support, billing or viewer; owners are made by hand.", param="role"
        )
    before = (await groups(conn)).get(name)
    if before == role:
        return
    if role is None:
        await conn.execute(delete(sso_groups).where(sso_groups.c.name == name))
    else:
        await conn.execute(upsert(conn, sso_groups, ("name",), ("role",)), {"name": name, "role": role})
    await entries.write(
        conn,
        actor,
        "group_unmapped" if role is None else "group_mapped",
        Subject("group", name, name),
        before={"role": before},
        after={"role": role},
        now=now,
        entropy=entropy,
    )


async def follow_groups(
    conn: AsyncConnection, user: User, told: Sequence[str], *, address: str, now: int, entropy: Entropy
) -> User:
    """At a sign-in: the role becomes what the groups say that the provider names, where it is not given by hand.

    Who has lost a role, or has a lower one, has no session but the one that begins now.
    """
    mapped = await groups(conn)
    wanted = highest([mapped[name] for name in told if name in mapped])
    await lock(conn)
    row = (
        await conn.execute(select(staff.c.role, staff.c.source).where(staff.c.user_id == user.id))
    ).one_or_none()
    if (row is not None and (row.source != "sso" or row.role == "owner")) or user.email == DEMO_EMAIL:
        return user
    before: StaffRole | None = None if row is None else row.role
    if before == wanted:
        return user
    if wanted is None:
        await conn.execute(delete(staff).where(staff.c.user_id == user.id))
    else:
        await _keep(conn, user.id, wanted, "sso", "", now)
    if before is not None and (wanted is None or ROLES.index(wanted) > ROLES.index(before)):
        await sessions.end_all(conn, user.id)
    await entries.write(
        conn,
        Actor("sso", user.id, user.email, address),
        "role_taken" if wanted is None else "role_given",
        Subject("staff", user.id, user.email),
        before={"role": before},
        after={"role": wanted},
        reason="groups of the sign-in provider",
        now=now,
        entropy=entropy,
    )
    return msgspec.structs.replace(user, role=wanted or "")
