"""``penstock staff``: who works here and in which role, and which groups of a sign-in provider give one."""

import asyncio
import secrets
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.commands.installation import (
    HERE,
    CommandError,
    Installation,
    answer,
    answer_json,
    cli_actor,
    now_ms,
    open_installation,
    table,
    utc_moment,
)
from penstock.commands.options import At
from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import User
from penstock.domain.staff import membership
from penstock.domain.staff.membership import StaffMember

app = App(name="staff", help="Show and change who works here, and in which role.")


class _Staff(msgspec.Struct):
    staff: list[StaffMember]
    groups: dict[str, str]


class _Held(msgspec.Struct):
    id: str
    email: str
    role: str


@app.command(name="list")
def show(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """List the staff, and the groups of the sign-in provider that give a role.

    Example: penstock staff list

    Parameters
    ----------
    json
        Print {"staff": [...], "groups": {...}}.
    """
    found = asyncio.run(_list(place))
    if json:
        answer_json(found)
        return
    rows = [(it.email, it.role, it.source, utc_moment(it.created_at)) for it in found.staff]
    answer(table(("EMAIL", "ROLE", "FROM", "SINCE (UTC)"), rows))
    if found.groups:
        answer("")
        answer(table(("GROUP", "ROLE"), list(found.groups.items())))


async def _list(place: Installation) -> _Staff:
    async with open_installation(place) as store, store.database.connect() as conn:
        return _Staff(await membership.members(conn), dict(await membership.groups(conn)))


@app.command(name="set")
def set_role(
    *, email: str, role: str, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE
) -> None:
    """Give an account a role: owner, admin, support, billing or viewer.

    Example: penstock staff set --email ann@example.com --role support

    Parameters
    ----------
    email
        Whose account.
    role
        The role, in place of the one that they have.
    json
        Print {"id", "email", "role"}.
    """
    _answer(asyncio.run(_set(place, email, role)), json=json)


@app.command(name="remove")
def remove_role(
    *, email: str, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE
) -> None:
    """Take an account's role away; the account stays, signed out. The last owner stays owner.

    Example: penstock staff remove --email ann@example.com

    Parameters
    ----------
    email
        Whose account.
    json
        Print {"id", "email", "role"}.
    """
    _answer(asyncio.run(_set(place, email, None)), json=json)


async def _set(place: Installation, email: str, role: str | None) -> User:
    async with open_installation(place) as store, store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, email)
        return await change_role(conn, user, role)


async def change_role(conn: AsyncConnection, user: User, role: str | None) -> User:
    """Give a role from the command line, or take it away. Raises ``BadRole``, ``LastOwner``."""
    now, entropy = now_ms(), secrets.token_bytes
    if role is None:
        return await membership.take(conn, user, cli_actor(), now=now, entropy=entropy)
    return await membership.give(conn, user, role, cli_actor(), now=now, entropy=entropy)


def _answer(user: User, *, json: bool) -> None:
    if json:
        answer_json(_Held(user.id, user.email, user.role))
    else:
        answer(f"{user.email}: {user.role or 'not of the staff'}.")


@app.command
def group(
    name: str,
    /,
    *,
    role: str | None = None,
    remove: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Have the members of a sign-in provider's group hold a role, from their next sign-in on.

    Example: penstock staff group gateway-admins --role admin

    Parameters
    ----------
    name
        The group as the provider names it in the claim `oidc_groups_claim`.
    role
        admin, support, billing or viewer; owners are made by hand.
    remove
        The group gives no role any more.
    """
    if (role is None) == (not remove):
        raise CommandError("say either --role or --remove")
    asyncio.run(_group(place, name, role))
    answer(f"{name}: {role or 'no role'}, from the next sign-in on.")


async def _group(place: Installation, name: str, role: str | None) -> None:
    async with open_installation(place) as store, store.database.transaction() as conn:
        await membership.map_group(conn, name, role, cli_actor(), now=now_ms(), entropy=secrets.token_bytes)
