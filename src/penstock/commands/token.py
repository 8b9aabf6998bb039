"""``penstock token``: tokens of the admin API, made, listed and ended."""

import asyncio
import secrets
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from penstock.commands.installation import (
    HERE,
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
from penstock.domain.staff import tokens
from penstock.domain.staff.tokens import AdminToken, NewToken, TokenWish

app = App(name="token", help="Make, list and revoke tokens of the admin API.")


class _Tokens(msgspec.Struct):
    tokens: list[AdminToken]


@app.command
def make(
    name: str,
    /,
    *,
    email: str,
    role: str = "viewer",
    scope: Annotated[tuple[str, ...], Parameter(negative="")] = ("read",),
    address: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    days: int = tokens.DEFAULT_DAYS,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Make a token that acts for a member of the staff. It is shown now, and never again.

    Example: penstock token make ci --email ann@example.com --role admin --scope catalog:write

    Parameters
    ----------
    name
        What to call it.
    email
        For whom it acts: it never does more than they may at the moment.
    role
        Theirs, or a narrower one.
    scope
        Such as users:read or catalog:write; `read` has all that only read, `all` has all. May be given several times.
    address
        Only from this IP address or network; may be given several times.
    days
        For how many days it works.
    json
        Print {"id", "name", "token", "expires_at"}.
    """
    made = asyncio.run(_make(place, email, TokenWish(name, role, scope, days, address or None)))
    if json:
        answer_json(made)
        return
    answer(f"Made the token {made.name!r} ({made.id}), until {utc_moment(made.expires_at)} UTC.")
    answer(f"Token: {made.token}")


async def _make(place: Installation, email: str, wish: TokenWish) -> NewToken:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await tokens.make_token(
            conn,
            store.secrets_file,
            await accounts.user_by_email(conn, email),
            wish,
            cli_actor(),
            longest_days=store.settings.admin_token_days,
            now=now_ms(),
            entropy=secrets.token_bytes,
        )


@app.command(name="list")
def show(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """List the tokens, the newest first. The tokens themselves are not shown.

    Example: penstock token list

    Parameters
    ----------
    json
        Print {"tokens": [...]}.
    """
    found, now = asyncio.run(_list(place)), now_ms()
    if json:
        answer_json(_Tokens(found))
        return
    rows = [
        (it.name, it.shown, it.maker, it.role, _state(it, now), utc_moment(it.last_used_at), it.id)
        for it in found
    ]
    answer(table(("NAME", "TOKEN", "ACTS FOR", "ROLE", "STATE", "LAST USED (UTC)", "ID"), rows))


async def _list(place: Installation) -> list[AdminToken]:
    async with open_installation(place) as store, store.database.connect() as conn:
        return await tokens.list_tokens(conn)


@app.command
def revoke(
    name: str,
    /,
    *,
    reason: str = "",
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """End a token at once.

    Example: penstock token revoke ci

    Parameters
    ----------
    name
        Its name or its id.
    reason
        Why, for the trail.
    json
        Print the token as `token list --json` does.
    """
    token = asyncio.run(_revoke(place, name, reason))
    if json:
        answer_json(token)
    else:
        answer(f"Revoked {token.name!r} ({token.id}).")


async def _revoke(place: Installation, name: str, reason: str) -> AdminToken:
    async with open_installation(place) as store, store.database.transaction() as conn:
        token, now = await tokens.token_named(conn, name, now=now_ms()), now_ms()
        await tokens.revoke_token(
            conn, token, cli_actor(), reason=reason, now=now, entropy=secrets.token_bytes
        )
        return msgspec.structs.replace(token, revoked_at=now)


def _state(token: AdminToken, now: int) -> str:
    if token.revoked_at is not None:
        return f"revoked {utc_moment(token.revoked_at)}"
    if not token.works(now):
        return "expired" if token.expires_at <= now else "its maker has left"
    return f"works until {utc_moment(token.expires_at)}"
