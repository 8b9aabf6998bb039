"""``penstock setup-link``: a link by which whoever runs the installation becomes its first owner."""

import asyncio
import secrets
from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import (
    HERE,
    Installation,
    answer,
    answer_json,
    cli_actor,
    now_ms,
    open_installation,
)
from penstock.commands.options import At
from penstock.domain.staff import setup_link


class _Link(msgspec.Struct):
    url: str
    expires_at: int


def make_link(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """Make the one-time link by which you become the first owner, with a password of your own; it works for 30 minutes.

    Example: penstock setup-link

    Parameters
    ----------
    json
        Print {"url", "expires_at"}.
    """
    made = asyncio.run(_make(place))
    if json:
        answer_json(made)
        return
    answer(made.url)
    answer("Open it in a browser within 30 minutes. Whoever opens it first owns this installation.")


async def _make(place: Installation) -> _Link:
    async with open_installation(place) as store, store.database.transaction() as conn:
        now = now_ms()
        token = await setup_link.new_link(conn, cli_actor(), now=now, entropy=secrets.token_bytes)
        settings = store.settings
        url = setup_link.address(settings.url(settings.port), token)
    return _Link(url, now + setup_link.LIFETIME_MS)
