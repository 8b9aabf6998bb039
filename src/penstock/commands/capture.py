"""``penstock capture``: whose requests are kept with what was asked and answered, for a reason and a time; and reading them."""

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
from penstock.domain.captures import kept, orders
from penstock.domain.captures.kept import CaptureRead, CaptureShown
from penstock.domain.captures.orders import CaptureOrder

app = App(
    name="capture", help="Keep what an account asks and gets for a time, sealed; and read it for a reason."
)

Json = Annotated[bool, Parameter(negative="")]
_DAY_MS = 86_400_000


class _Captures(msgspec.Struct):
    captures: list[CaptureOrder]


class _Captured(msgspec.Struct):
    requests: list[CaptureShown]


@app.command(name="list")
def recent(*, json: Json = False, place: At = HERE) -> None:
    """List what is captured, and what was captured lately.

    Example: penstock capture list

    Parameters
    ----------
    json
        Print {"captures"}.
    """
    found = asyncio.run(_recent(place))
    if json:
        answer_json(_Captures(found))
        return
    now = now_ms()
    rows = [
        (it.id, it.account_id, it.key_id or "all", "captures" if it.runs(now) else "ended", utc_moment(it.ends_at), it.reason)
        for it in found
    ]  # fmt: skip
    answer(table(("CAPTURE", "ACCOUNT", "KEY", "STATE", "UNTIL (UTC)", "WHY"), rows))


@app.command
def begin(
    *, email: str, reason: str, key: str = "", days: int = 1, json: Json = False, place: At = HERE
) -> None:
    """Keep what an account, or one key of it, asks and gets from now on; its owner sees a mark as long.

    Example: penstock capture begin --email ann@example.com --reason "ticket 42" --days 2

    Parameters
    ----------
    email
        The address of the account.
    reason
        Why: it is in the trail.
    key
        The id of one key; by default all of them.
    days
        For how many days, 30 at most.
    json
        Print the capture.
    """
    _told(asyncio.run(_begin(place, email, key, reason, days)), json=json)


@app.command
def end(capture: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Keep no more of it; what was kept stays for `capture_days`.

    Example: penstock capture end cap_...

    Parameters
    ----------
    capture
        Its id.
    json
        Print the capture.
    """
    _told(asyncio.run(_end(place, capture)), json=json)


@app.command
def show(capture: str, /, *, json: Json = False, place: At = HERE) -> None:
    """List the requests that were captured, without their content.

    Example: penstock capture show cap_...

    Parameters
    ----------
    capture
        Its id.
    json
        Print {"requests"}.
    """
    found = asyncio.run(_show(place, capture))
    if json:
        answer_json(_Captured(found))
        return
    rows = [(it.request_id, utc_moment(it.at), str(it.status), str(it.bytes)) for it in found]
    answer(table(("REQUEST", "AT (UTC)", "STATUS", "BYTES"), rows))


@app.command
def read(request: str, /, *, reason: str, json: Json = False, place: At = HERE) -> None:
    """Read what was asked and answered in a captured request. That it was read, and why, is in the trail.

    Example: penstock capture read req_... --reason "ticket 42"

    Parameters
    ----------
    request
        The request's id.
    reason
        Why it is read.
    json
        Print {"request_id", "account_id", "at", "status", "asked", "answered", "cut"}.
    """
    found = asyncio.run(_read(place, request, reason))
    if json:
        answer_json(found)
        return
    answer(f"asked:\n{found.asked}\n\nanswered with {found.status}:\n{found.answered}")
    if found.cut:
        answer("There was more than is kept.")


# ---- what they do


def _told(order: CaptureOrder, *, json: bool) -> None:
    if json:
        answer_json(order)
    elif order.ended_at is None:
        answer(
            f"{order.id}: captures until {utc_moment(order.ends_at)} (UTC); servers follow within seconds."
        )
    else:
        answer(f"{order.id} has ended; servers follow within seconds.")


async def _recent(place: Installation) -> list[CaptureOrder]:
    async with open_installation(place) as store, store.database.connect() as conn:
        return await orders.recent_orders(conn, since=now_ms() - store.settings.capture_days * _DAY_MS)


async def _begin(place: Installation, email: str, key: str, reason: str, days: int) -> CaptureOrder:
    async with open_installation(place) as store:
        orders.refuse_never(store.settings.captures)
        async with store.database.transaction() as conn:
            user = await accounts.user_by_email(conn, email)
            return await orders.begin_capture(
                conn, user.id, key, reason, days, cli_actor(), now=now_ms(), entropy=secrets.token_bytes
            )


async def _end(place: Installation, id: str) -> CaptureOrder:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await orders.end_capture(conn, id, cli_actor(), now=now_ms(), entropy=secrets.token_bytes)


async def _show(place: Installation, id: str) -> list[CaptureShown]:
    async with open_installation(place) as store, store.database.connect() as conn:
        return await kept.captures_of(conn, id)


async def _read(place: Installation, request: str, reason: str) -> CaptureRead:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await kept.read_capture(
            conn,
            store.secrets_file,
            request,
            reason,
            cli_actor(),
            now=now_ms(),
            entropy=secrets.token_bytes,
        )
