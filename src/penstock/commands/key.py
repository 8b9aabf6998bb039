"""``penstock key``: the operator makes, lists, limits, revokes and rolls API keys."""

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
from penstock.domain.accounts import accounts
from penstock.domain.keys import management
from penstock.domain.keys.management import KeyRow, KeyWish, NewKey
from penstock.domain.staff import people

app = App(name="key", help="Make, list, limit, revoke and roll API keys.")

_DAY_MS = 86_400_000


class _Shown(msgspec.Struct):
    id: str
    name: str
    shown: str
    works: bool
    models: tuple[str, ...] | None
    addresses: tuple[str, ...] | None
    daily_requests: int | None
    concurrent_requests: int | None
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None


class _Keys(msgspec.Struct):
    keys: list[_Shown]


class _Revoked(msgspec.Struct):
    revoked: list[str]


@app.command
def create(
    *,
    email: str,
    name: str | None = None,
    model: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    address: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    days: Annotated[int | None, Parameter(name="--expires-days")] = None,
    daily: int | None = None,
    concurrent: int | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Make another key for an account.

    Example: penstock key create --email ann@example.com --name laptop

    Parameters
    ----------
    email
        Whose account.
    name
        What to call it; by default the next free name.
    model
        Only for this model; may be given several times.
    address
        Only from this IP address or network; may be given several times.
    days
        Until so many days from now.
    daily
        At most so many requests a day, within the plan's.
    concurrent
        At most so many requests at once, within the plan's.
    json
        Print {"id", "name", "key"}.
    """
    if days is not None and not 1 <= days <= 36_500:
        raise CommandError("--expires-days is a number of days from 1 to 36500")
    expires_at = None if days is None else now_ms() + days * _DAY_MS
    wish = KeyWish(name, model or None, address or None, expires_at, daily, concurrent)
    made = asyncio.run(_create(place, email, wish))
    _answer(made, json=json)


async def _create(place: Installation, email: str, wish: KeyWish) -> NewKey:
    async with open_installation(place) as store, store.database.transaction() as conn:
        user, now = await accounts.user_by_email(conn, email), now_ms()
        return await people.make_key(
            conn,
            store.secrets_file,
            user,
            wish,
            cli_actor(),
            keep_key=store.settings.keys_reveal,
            now=now,
            entropy=secrets.token_bytes,
        )


@app.command(name="list")
def show(*, email: str, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """List the keys of an account, the newest first. The keys themselves are not shown.

    Example: penstock key list --email ann@example.com

    Parameters
    ----------
    email
        Whose account.
    json
        Print {"keys": [...]}.
    """
    now = now_ms()
    rows = asyncio.run(_list(place, email))
    if json:
        answer_json(_Keys([_shown(row, now) for row in rows]))
        return
    lines = [
        (
            row.name,
            row.shown,
            _state(row, now),
            _of_plan(row.daily_requests),
            _of_plan(row.concurrent_requests),
            utc_moment(row.last_used_at),
            row.id,
        )
        for row in rows
    ]
    answer(table(("NAME", "KEY", "STATE", "A DAY", "AT ONCE", "LAST USED (UTC)", "ID"), lines))


def _of_plan(limit: int | None) -> str:
    return "as the plan" if limit is None else str(limit)


async def _list(place: Installation, email: str) -> tuple[KeyRow, ...]:
    async with open_installation(place) as store, store.database.connect() as conn:
        user = await accounts.user_by_email(conn, email)
        return await management.list_keys(conn, user.id)


@app.command
def limit(
    *,
    email: str,
    name: str | None = None,
    id: str | None = None,
    daily: int | None = None,
    concurrent: int | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Give a key limits of its own within its plan's, or take them away; a running server follows within five seconds.

    Example: penstock key limit --email ann@example.com --name ci --daily 200

    Parameters
    ----------
    email
        Whose account.
    name
        The newest working key of this name.
    id
        The key of this id.
    daily
        At most so many requests a day; 0 for as many as the plan has.
    concurrent
        At most so many requests at once; 0 for as many as the plan has.
    json
        Print the key as `key list --json` does.
    """
    if daily is None and concurrent is None:
        raise CommandError("say --daily or --concurrent")
    row = asyncio.run(_limit(place, email, name, id, daily, concurrent))
    if json:
        answer_json(_shown(row, now_ms()))
    else:
        answer(
            f"The key {row.name!r}: {_of_plan(row.daily_requests)} a day, {_of_plan(row.concurrent_requests)} at once."
        )


async def _limit(
    place: Installation,
    email: str,
    name: str | None,
    id: str | None,
    daily: int | None,
    concurrent: int | None,
) -> KeyRow:
    async with open_installation(place) as store, store.database.transaction() as conn:
        now = now_ms()
        user = await accounts.user_by_email(conn, email)
        old = _chosen(await management.working_keys(conn, user.id, now=now), email, name, id)[0]
        wish = KeyWish(
            old.name,
            old.models,
            old.addresses,
            old.expires_at,
            old.daily_requests if daily is None else daily or None,
            old.concurrent_requests if concurrent is None else concurrent or None,
        )
        return await people.change_key(conn, old, wish, cli_actor(), now=now, entropy=secrets.token_bytes)


@app.command
def revoke(
    *,
    email: str,
    name: str | None = None,
    id: str | None = None,
    reason: str = "",
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """End a key for good; a running server follows within five seconds.

    Example: penstock key revoke --email ann@example.com --name laptop

    Parameters
    ----------
    email
        Whose account.
    name
        All working keys of this name, one that was rolled and is in its grace included.
    id
        The key of this id.
    reason
        Why, for the trail; what is `leaked` does not come back.
    json
        Print {"revoked": [ids]}.
    """
    revoked = asyncio.run(_revoke(place, email, name, id, reason))
    if json:
        answer_json(_Revoked(revoked))
    else:
        answer(f"Revoked {', '.join(revoked)}.")


async def _revoke(
    place: Installation, email: str, name: str | None, id: str | None, reason: str
) -> list[str]:
    async with open_installation(place) as store, store.database.transaction() as conn:
        now = now_ms()
        user = await accounts.user_by_email(conn, email)
        found = _chosen(await management.working_keys(conn, user.id, now=now), email, name, id)
        for row in found:
            await people.revoke_key(
                conn, row, cli_actor(), reason=reason, now=now, entropy=secrets.token_bytes
            )
        return [row.id for row in found]


@app.command
def roll(
    *,
    email: str,
    name: str | None = None,
    id: str | None = None,
    grace: int = 0,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Replace a key by a new one of the same name and bounds.

    Example: penstock key roll --email ann@example.com --name laptop --grace 3600

    Parameters
    ----------
    email
        Whose account.
    name
        The newest working key of this name.
    id
        The key of this id.
    grace
        Seconds for which the old key still works.
    json
        Print {"id", "name", "key"} of the new key.
    """
    _answer(asyncio.run(_roll(place, email, name, id, grace)), json=json)


async def _roll(place: Installation, email: str, name: str | None, id: str | None, grace: int) -> NewKey:
    async with open_installation(place) as store, store.database.transaction() as conn:
        now = now_ms()
        user = await accounts.user_by_email(conn, email)
        old = _chosen(await management.working_keys(conn, user.id, now=now), email, name, id)[0]
        return await people.roll_key(
            conn,
            store.secrets_file,
            old,
            cli_actor(),
            grace=grace,
            keep_key=store.settings.keys_reveal,
            now=now,
            entropy=secrets.token_bytes,
        )


def _chosen(rows: tuple[KeyRow, ...], email: str, name: str | None, id: str | None) -> list[KeyRow]:
    """The working keys that are meant, the newest first; the only one where neither name nor id is given."""
    found = [row for row in rows if name in (None, row.name) and id in (None, row.id)]
    if not found:
        raise CommandError(f"{email} has no such working key")
    if name is None and id is None and len(found) > 1:
        names = ", ".join(dict.fromkeys(row.name for row in found))
        raise CommandError(f"{email} has several keys ({names}): say --name or --id")
    return found


def _answer(made: NewKey, *, json: bool) -> None:
    if json:
        answer_json(made)
    else:
        answer(f"Made the key {made.name!r} ({made.id}).")
        answer(f"Key: {made.key}")


def _shown(row: KeyRow, now: int) -> _Shown:
    return _Shown(
        id=row.id,
        name=row.name,
        shown=row.shown,
        works=row.works(now),
        models=row.models,
        addresses=row.addresses,
        daily_requests=row.daily_requests,
        concurrent_requests=row.concurrent_requests,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _state(row: KeyRow, now: int) -> str:
    if row.revoked_at is not None:
        return f"revoked {utc_moment(row.revoked_at)}"
    if row.expires_at is None:
        return "works"
    return f"{'works until' if row.works(now) else 'expired'} {utc_moment(row.expires_at)}"
