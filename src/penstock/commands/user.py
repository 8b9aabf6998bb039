"""``penstock user``: the operator makes, changes and lists accounts."""

import asyncio
import secrets
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

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
from penstock.commands.staff import change_role
from penstock.core.quoting import shell_option
from penstock.domain.accounts import accounts, plan_wishes
from penstock.domain.accounts.accounts import Changes, User
from penstock.domain.staff import people
from penstock.domain.staff.people import Post
from penstock.operations.first_start import Store

app = App(name="user", help="Make, change and list accounts.")

_PAGE = 1000


class _Made(msgspec.Struct):
    id: str
    email: str
    plan: str
    key: str


class _Shown(msgspec.Struct):
    id: str
    email: str
    plan: str
    admin: bool
    verified: bool
    disabled: bool
    created_at: int


class _Wishes(msgspec.Struct):
    wishes: list[plan_wishes.Wish]


class _Users(msgspec.Struct):
    users: list[_Shown]


@app.command
def create(
    *,
    email: str,
    plan: str = "free",
    admin: Annotated[bool, Parameter(negative="")] = False,
    verified: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Make an account and its first key.

    Example: penstock user create --email ann@example.com --plan pro --verified

    Parameters
    ----------
    email
        The e-mail address; one mailbox has one account.
    plan
        The plan's id; `penstock catalog show` lists them.
    admin
        May use the admin pages: as the owner where there is none yet, else as an admin.
    verified
        The address is known to be theirs; without this the key answers 403 until they verify it.
    json
        Print {"id", "email", "plan", "key"}.
    """
    made = asyncio.run(_create(place, email, plan=plan, admin=admin, verified=verified))
    if json:
        answer_json(made)
        return
    answer(f"Made {made.email} on the {made.plan} plan{' as an admin' if admin else ''} ({made.id}).")
    answer(f"Key: {made.key}")
    if admin:
        answer(
            'For the pages it needs a password: set one under "Forgotten password" on the page of sign-in.'
        )
    if not verified:
        hint = f"penstock user set {shell_option('email', made.email)} --verified"
        answer(f"It works once the address is verified: {hint}")


async def _create(place: Installation, email: str, *, plan: str, admin: bool, verified: bool) -> _Made:
    async with open_installation(place) as store, store.database.transaction() as conn:
        user, made = await people.make_account(
            conn,
            store.secrets_file,
            email,
            cli_actor(),
            plan=plan,
            admin=admin,
            verified=verified,
            keep_key=store.settings.keys_reveal,
            now=now_ms(),
            entropy=secrets.token_bytes,
        )
    return _Made(user.id, user.email, user.plan_id, made.key)


@app.command(name="set")
def change(
    *,
    email: str,
    plan: str | None = None,
    verified: Annotated[bool | None, Parameter(negative="--unverified")] = None,
    disabled: Annotated[bool | None, Parameter(negative="--enabled")] = None,
    admin: Annotated[bool | None, Parameter(negative="--no-admin")] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Change an account; a running server follows within five seconds, and the owner of another plan is mailed.

    Example: penstock user set --email ann@example.com --plan starter

    Parameters
    ----------
    email
        Whose account.
    plan
        The plan's id.
    verified
        Whether the address is known to be theirs.
    disabled
        Whether the account is closed: its keys answer 403.
    admin
        Whether they are of the staff as an admin; `penstock staff` has the other roles.
    json
        Print the account as JSON.
    """
    changes = Changes(plan, verified, disabled)
    if changes == Changes() and admin is None:
        raise CommandError("nothing to change: say --plan, --verified, --disabled, --enabled or --admin")
    user = _shown(asyncio.run(_change(place, email, changes, admin)))
    if json:
        answer_json(user)
    else:
        answer(f"{user.email}: {_state(user)}, on the {user.plan} plan.")


async def _change(place: Installation, email: str, changes: Changes, admin: bool | None) -> User:
    async with open_installation(place) as store, store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, email)
        changed = await people.change_and_tell(
            conn, user, changes, cli_actor(), _post(store), now=now_ms(), entropy=secrets.token_bytes
        )
        if admin is not None and admin != bool(user.role):
            changed = await change_role(conn, changed, "admin" if admin else None)
        return changed


def _post(store: Store) -> Post:
    settings = store.settings
    return Post(store.secrets_file, settings.brand, settings.url(settings.port))


@app.command
def delete(
    *,
    email: str,
    yes: Annotated[bool, Parameter(negative="")] = False,
    reason: str = "",
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Delete an account in seven days, with its keys and its log; until then `user keep` undoes it. The owner is mailed.

    Example: penstock user delete --email ann@example.com --yes

    Parameters
    ----------
    email
        Whose account.
    yes
        Meant so: its keys stop within seconds.
    reason
        Why, for the trail.
    json
        Print the account as JSON.
    """
    if not yes:
        raise CommandError("its keys stop within seconds: say --yes if that is meant")
    _answer(asyncio.run(_leave(place, email, reason)), "is deleted in seven days", json=json)


async def _leave(place: Installation, email: str, reason: str) -> User:
    async with open_installation(place) as store, store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, email)
        await people.delete_and_tell(
            conn, user, cli_actor(), _post(store), reason=reason, now=now_ms(), entropy=secrets.token_bytes
        )
        return user


@app.command
def keep(*, email: str, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """Keep an account that was to be deleted, whoever wanted that.

    Example: penstock user keep --email ann@example.com

    Parameters
    ----------
    email
        Whose account.
    json
        Print the account as JSON.
    """
    _answer(asyncio.run(_keep(place, email)), "is kept", json=json)


async def _keep(place: Installation, email: str) -> User:
    async with open_installation(place) as store, store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, email)
        await people.keep(conn, user, cli_actor(), now=now_ms(), entropy=secrets.token_bytes)
        return user


@app.command(name="sign-out")
def sign_out(*, email: str, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """End all sessions of an account: every browser has to sign in again. Keys go on working.

    Example: penstock user sign-out --email ann@example.com

    Parameters
    ----------
    email
        Whose account.
    json
        Print the account as JSON.
    """
    _answer(asyncio.run(_sign_out(place, email)), "is signed out everywhere", json=json)


async def _sign_out(place: Installation, email: str) -> User:
    async with open_installation(place) as store, store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, email)
        await people.end_sessions(conn, user, cli_actor(), now=now_ms(), entropy=secrets.token_bytes)
        return user


def _answer(user: User, done: str, *, json: bool) -> None:
    if json:
        answer_json(_shown(user))
    else:
        answer(f"{user.email} {done}.")


@app.command
def wishes(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """List the plans that people have asked for, the oldest wish first; setting a plan fulfils it.

    Example: penstock user wishes

    Parameters
    ----------
    json
        Print {"wishes": [...]}.
    """
    found = asyncio.run(_wishes(place))
    if json:
        answer_json(_Wishes(list(found)))
        return
    rows = [(wish.email, wish.plan, wish.wanted, utc_moment(wish.created_at)) for wish in found]
    answer(table(("EMAIL", "PLAN", "ASKS FOR", "SINCE (UTC)"), rows))


async def _wishes(place: Installation) -> tuple[plan_wishes.Wish, ...]:
    async with open_installation(place) as store, store.database.connect() as conn:
        return await plan_wishes.all_wishes(conn)


@app.command(name="list")
def show(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """List all accounts, by address.

    Example: penstock user list --json

    Parameters
    ----------
    json
        Print {"users": [...]}.
    """
    users = [_shown(user) for user in asyncio.run(_list(place))]
    if json:
        answer_json(_Users(users))
        return
    rows = [(user.email, user.plan, _state(user), utc_moment(user.created_at), user.id) for user in users]
    answer(table(("EMAIL", "PLAN", "STATE", "SINCE (UTC)", "ID"), rows))


async def _list(place: Installation) -> list[User]:
    users: list[User] = []
    async with open_installation(place) as store, store.database.connect() as conn:
        while page := await accounts.list_users(conn, most=_PAGE, after=users[-1].email if users else ""):
            users.extend(page)
    return users


def _shown(user: User) -> _Shown:
    return _Shown(
        id=user.id,
        email=user.email,
        plan=user.plan_id,
        admin=bool(user.role),
        verified=user.verified_at is not None,
        disabled=user.disabled_at is not None,
        created_at=user.created_at,
    )


def _state(user: _Shown) -> str:
    words = ["disabled" if user.disabled else "verified" if user.verified else "not verified"]
    return ", ".join(words + (["admin"] if user.admin else []))
