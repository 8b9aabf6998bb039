"""``penstock upstream key``: the keys of providers that are kept in the database: listed, added, changed, rotated, removed."""

import asyncio
import sys
from datetime import UTC, datetime
from secrets import token_bytes
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
from penstock.core.catalog import Upstream
from penstock.domain.catalog import kept_keys
from penstock.domain.catalog.catalog_store import load_document
from penstock.domain.staff import provider_changes
from penstock.domain.staff.provider_changes import Changing, KeyEntry, managed_by, pool_of
from penstock.operations.first_start import Store
from penstock.operations.kept_keys import KeptKeys
from penstock.operations.provider_check import check_key
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.settings import environment

key_app = App(name="key", help="Keys of providers that are kept here: list, add, change, rotate, remove.")

Json = Annotated[bool, Parameter(negative="")]
Unchecked = Annotated[bool, Parameter(negative="")]


class _Key(msgspec.Struct):
    id: str
    secret: str
    managed_by: str
    fingerprint: str
    weight: int
    entered_at: int | None
    retire_at: int | None


class _Keys(msgspec.Struct):
    keys: list[_Key]


class _Done(msgspec.Struct):
    key: str


@key_app.command(name="list")
def list_keys(provider: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Show the keys of a provider and where each comes from, never the keys themselves.

    Example: penstock upstream key list openai

    Parameters
    ----------
    provider
        Its id in the catalogue.
    json
        Print {"keys"}.
    """
    keys = asyncio.run(_list(place, provider))
    if json:
        answer_json(_Keys(keys))
        return
    rows = [
        (it.id, it.secret, it.managed_by, str(it.weight), utc_moment(it.entered_at), utc_moment(it.retire_at))
        for it in keys
    ]
    answer(table(("KEY", "SECRET", "MANAGED BY", "WEIGHT", "ENTERED (UTC)", "LEAVES (UTC)"), rows))


@key_app.command
def add(
    provider: str,
    /,
    *,
    id: str = "",
    weight: int = 1,
    group: str = "",
    unchecked: Unchecked = False,
    json: Json = False,
    place: At = HERE,
) -> None:
    """Add a key, which is read from stdin, to a provider's pool; the provider is asked whether it takes it first.

    Example: penstock upstream key add openai < key.txt

    Parameters
    ----------
    provider
        Its id in the catalogue.
    id
        What the key is called; by default key-1, key-2 and so on.
    weight
        Its share of the requests; 0: only when the others fail.
    group
        The account at the vendor whose limits it has, where keys share one.
    unchecked
        Do not ask the provider first.
    json
        Print {"key"}.
    """
    _told(asyncio.run(_add(place, provider, id, weight, group, check=not unchecked)), "added", json=json)


@key_app.command
def change(
    key: str,
    /,
    *,
    weight: int | None = None,
    group: str | None = None,
    json: Json = False,
    place: At = HERE,
) -> None:
    """Change how much a key is used, and the account whose limits it shares; what is left out stays.

    Example: penstock upstream key change openai/key-1 --weight 3

    Parameters
    ----------
    key
        PROVIDER/KEY.
    weight
        Its share of the requests; 0: only when the others fail.
    group
        The account at the vendor whose limits it has; '' is its own.
    json
        Print {"key"}.
    """
    _told(asyncio.run(_change_use(place, *_named(key), weight, group)), "changed", json=json)


@key_app.command
def rotate(key: str, /, *, unchecked: Unchecked = False, json: Json = False, place: At = HERE) -> None:
    """Put a new key, read from stdin, in the place of one, which is drained and leaves after `rotated_key_stays`.

    Example: penstock upstream key rotate openai/key-1 < new.txt

    Parameters
    ----------
    key
        PROVIDER/KEY.
    unchecked
        Do not ask the provider first.
    json
        Print {"key"}: what the new one is called.
    """
    _told(asyncio.run(_rotate(place, *_named(key), check=not unchecked)), "in use", json=json)


@key_app.command
def proxy(
    provider: str, /, *, address: str, secret: Unchecked = False, json: Json = False, place: At = HERE
) -> None:
    """Reach a provider by a proxy; its user:password is kept sealed like a key.

    Example: penstock upstream key proxy openai --address http://proxy:3128 --secret < user.txt

    Parameters
    ----------
    provider
        Its id in the catalogue.
    address
        http://host:port; '' is none.
    secret
        Read user:password from stdin; else what the proxy is told stays as it is.
    json
        Print {"key"}.
    """
    _told(asyncio.run(_set_proxy(place, provider, address, entered=secret)), "saved", json=json)


@key_app.command
def remove(
    key: str,
    /,
    *,
    leaked: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
    place: At = HERE,
) -> None:
    """Take a key out of its pool; it stays sealed for 30 days, so that this can be undone.

    Example: penstock upstream key remove openai/key-1

    Parameters
    ----------
    key
        PROVIDER/KEY.
    leaked
        Delete it for good at once.
    json
        Print {"key"}.
    """
    _told(asyncio.run(_remove(place, *_named(key), leaked=leaked)), "removed", json=json)


# ---- what they do


def _told(key: str, what: str, *, json: bool) -> None:
    if json:
        answer_json(_Done(key))
    else:
        answer(f"{key} is {what}; running servers follow within seconds.")


def _named(text: str) -> tuple[str, str]:
    provider, _, key = text.partition("/")
    if not provider or not key:
        raise CommandError(f"{text!r} names no key; write PROVIDER/KEY")
    return provider, key


def _change(conn: AsyncConnection, store: Store) -> Changing:
    return Changing(conn, store.secrets_file, KINDS, cli_actor(), now_ms(), token_bytes)


async def _row(store: Store, provider: str) -> tuple[Upstream, Secrets]:
    secrets = Secrets(environment())
    async with store.database.connect() as conn:
        document = await load_document(conn, KINDS)
        await KeptKeys(store.secrets_file, secrets).open(conn, document.providers)
    row = next((row for row in document.providers if row.id == provider), None)
    if row is None:
        raise CommandError(f"there is no provider {provider!r} in the catalogue")
    return row, secrets


async def _entered(row: Upstream, secrets: Secrets, *, check: bool) -> bytes:
    key = kept_keys.checked_key(await asyncio.to_thread(sys.stdin.readline, kept_keys.LONGEST_KEY + 2))
    if check:
        listing = await check_key(row, key, secrets)
        if listing.outcome not in ("works", "no model list"):
            raise CommandError(f"{row.id}: {listing.outcome}: {listing.text}; nothing is saved")
    return key


async def _list(place: Installation, provider: str) -> list[_Key]:
    async with open_installation(place) as store:
        row, _ = await _row(store, provider)
        async with store.database.connect() as conn:
            kept = await kept_keys.kept_keys(conn, provider)
    found: list[_Key] = []
    for it in pool_of(row):
        key = kept.get(it.secret)
        shown, fingerprint = (it.secret, "") if key is None else (key.masked, key.fingerprint)
        entered, leaves = (None, None) if key is None else (key.created_at, key.retire_at)
        found.append(_Key(it.id, shown, managed_by(it.secret), fingerprint, it.weight, entered, leaves))
    return found


async def _add(place: Installation, provider: str, id: str, weight: int, group: str, *, check: bool) -> str:
    async with open_installation(place) as store:
        row, secrets = await _row(store, provider)
        entry = KeyEntry(
            await _entered(row, secrets, check=check), id or provider_changes.free_id(row), weight, group
        )
        async with store.database.transaction() as conn:
            await provider_changes.add_key(_change(conn, store), provider, entry)
    return f"{provider}/{entry.id}"


async def _change_use(
    place: Installation, provider: str, id: str, weight: int | None, group: str | None
) -> str:
    async with open_installation(place) as store:
        row, _ = await _row(store, provider)
        old = next((it for it in pool_of(row) if it.id == id), None)
        if old is None:
            raise CommandError(f"{provider} has no key {id}")
        async with store.database.transaction() as conn:
            await provider_changes.change_key(
                _change(conn, store),
                provider,
                id,
                weight=old.weight if weight is None else weight,
                group=old.group if group is None else group,
            )
    return f"{provider}/{id}"


async def _rotate(place: Installation, provider: str, id: str, *, check: bool) -> str:
    async with open_installation(place) as store:
        row, secrets = await _row(store, provider)
        key = await _entered(row, secrets, check=check)
        leaves = int((datetime.now(UTC).timestamp() + store.settings.rotated_key_stays) * 1000)
        async with store.database.transaction() as conn:
            fresh = await provider_changes.rotate_key(
                _change(conn, store), provider, id, key, retire_at=leaves
            )
    return f"{provider}/{fresh}"


async def _set_proxy(place: Installation, provider: str, address: str, *, entered: bool) -> str:
    async with open_installation(place) as store:
        text = await asyncio.to_thread(sys.stdin.readline, kept_keys.LONGEST_KEY + 2) if entered else ""
        secret = kept_keys.checked_key(text) if entered else None
        async with store.database.transaction() as conn:
            await provider_changes.set_proxy(_change(conn, store), provider, address, secret)
    return f"{provider}/proxy"


async def _remove(place: Installation, provider: str, id: str, *, leaked: bool) -> str:
    async with open_installation(place) as store:
        _, secrets = await _row(store, provider)
        async with store.database.transaction() as conn:
            await provider_changes.remove_key(_change(conn, store), provider, id, secrets.has, leaked=leaked)
    return f"{provider}/{id}"
