"""``penstock models``: what the providers have, and which of it is published; adds and removes models of the catalogue."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
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
    tell,
)
from penstock.commands.options import At
from penstock.core.catalog import Model, Upstream
from penstock.domain.catalog.catalog_store import Change, load_document
from penstock.domain.staff import catalog_changes
from penstock.operations.control import ServerListings, ask_server
from penstock.operations.kept_keys import KeptKeys
from penstock.operations.model_catalog import ModelsFound, ProviderFound, find_models, wildcard_entry
from penstock.operations.model_discovery import LIST_SECONDS
from penstock.operations.model_proposals import Proposal, chosen
from penstock.providers.known_models import Prices
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.settings import environment

app = App(name="models", help="See what the providers have, publish it, take it back.")


class _Shown(msgspec.Struct):
    providers: tuple[ProviderFound, ...]
    models: tuple[Proposal, ...]
    read: str


class _Added(msgspec.Struct):
    changes: list[Change]
    models: list[Proposal]


class _Removed(msgspec.Struct):
    changes: list[Change]


@app.default
def show(
    *pattern: str,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Ask each provider that has a key for its models, and show them beside the catalogue.

    The keys are the running server's, where one runs here; else those of this shell.

    Example: penstock models 'openai/*'

    Parameters
    ----------
    pattern
        Shell patterns over PROVIDER/MODEL; by default all.
    everything
        Show also what there is no route for, and what has ended.
    json
        Print {"providers": [...], "models": [...]}.
    """
    found = asyncio.run(_found(place, pattern))
    rows = chosen(found.models, pattern) if pattern else found.models
    if not everything:
        rows = tuple(row for row in rows if row.state not in ("no route", "ended"))
    if json:
        answer_json(_Shown(found.providers, rows, found.read))
        return
    answer(table(("PROVIDER", "KEY IN", "OUTCOME", "SAYS"), _providers(found)))
    if rows:
        answer("")
        answer(table(_HEAD, [_row(row) for row in rows]))
        answer(
            "\nPrices are in US dollars for a million tokens, in and out. To publish: penstock models add PROVIDER/MODEL"
        )


_HEAD = ("MODEL", "STATE", "CALLED", "CONTEXT", "ANSWER", "PRICE", "FROM", "UNVERIFIED", "ENDS")


@app.command
def add(
    *pattern: str,
    plan: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    wildcard: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Publish models that a provider lists; running servers follow within seconds.

    Example: penstock models add openai/gpt-6-luna 'openai/text-embedding-*'

    Parameters
    ----------
    pattern
        Shell patterns over PROVIDER/MODEL; a provider's id alone means all that it has.
    plan
        The plan to publish on; several may be named. By default every plan.
    wildcard
        Publish PROVIDER/* as one model that passes every name on, in place of those that are listed now.
    dry-run
        Show what would be published, and change nothing.
    json
        Print {"changes", "models"}.
    """
    if not pattern:
        raise CommandError(
            "name what is to be published, such as openai/gpt-6-luna; penstock models shows what there is"
        )
    if wildcard:
        changes, rows = asyncio.run(_pass_on(place, pattern, plan or None, dry_run=dry_run)), ()
    else:
        changes, rows = asyncio.run(_add(place, pattern, plan or None, dry_run=dry_run))
    if json:
        answer_json(_Added(changes, list(rows)))
        return
    if rows:
        answer(table(_HEAD, [_row(row) for row in rows]))
        answer("")
    answer(
        "\n".join(str(change) for change in changes)
        or ("Nothing is changed." if dry_run else "Nothing changes.")
    )


@app.command
def remove(
    *pattern: str,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Take models out of the catalogue and of every plan.

    Example: penstock models remove 'openai/*'

    Parameters
    ----------
    pattern
        Shell patterns over ids, or over PROVIDER/MODEL of all that serves a model.
    json
        Print {"changes": [...]}.
    """
    if not pattern:
        raise CommandError("name what is to be removed, such as 'openai/*'")
    changes = asyncio.run(_remove(place, pattern))
    if json:
        answer_json(_Removed(changes))
    else:
        answer("\n".join(str(change) for change in changes) or "Nothing changes.")


async def _found(place: Installation, patterns: Sequence[str]) -> ModelsFound:
    async with open_installation(place) as store:
        async with store.database.connect() as conn:
            document = await load_document(conn, KINDS)
            secrets = Secrets(environment())
            await KeptKeys(store.secrets_file, secrets).open(conn, document.providers)
        wanted = {pattern.partition("/")[0] for pattern in patterns}
        told = await ask_server(store.settings.data, "listings", ServerListings, seconds=2 * LIST_SECONDS)
        found = await find_models(
            document,
            secrets,
            datetime.now(UTC).date(),
            only=wanted,
            at_hand=None if told is None else told.listings,
        )
    for row in found.providers:
        if row.outcome not in ("works", "no key"):
            tell(f"penstock: {row.provider}: {row.text}")
    return found


async def _add(
    place: Installation, patterns: Sequence[str], plans: Sequence[str] | None, *, dry_run: bool
) -> tuple[list[Change], tuple[Proposal, ...]]:
    found = await _found(place, patterns)
    rows = chosen(found.models, patterns)
    fresh = tuple(row for row in rows if row.state in ("new", "ending") and row.entry is not None)
    if not fresh:
        raise CommandError(_why_none(found, rows, patterns))
    if dry_run:
        return [], fresh
    models = tuple(row.entry for row in fresh if row.entry is not None)
    used = {row.provider for row in fresh}
    async with open_installation(place) as store, store.database.transaction() as conn:
        providers = tuple(row for row in found.asked if row.id in used)
        return await _publish(conn, providers, models, plans), fresh


def _why_none(found: ModelsFound, rows: Sequence[Proposal], patterns: Sequence[str]) -> str:
    if rows:
        states = ", ".join(f"{row.reference} ({row.state})" for row in rows[:10])
        return f"nothing of it can be published: {states}"
    silent = [f"{row.provider}: {row.text}" for row in found.providers if row.outcome != "works"]
    why = "; ".join(silent) if silent else "no provider lists it"
    return f"there is nothing to publish for {' '.join(patterns)}: {why}"


async def _pass_on(
    place: Installation, patterns: Sequence[str], plans: Sequence[str] | None, *, dry_run: bool
) -> list[Change]:
    async with open_installation(place) as store, store.database.transaction() as conn:
        document = await load_document(conn, KINDS)
        there = {row.id: row for row in document.providers}
        names = [pattern.removesuffix("/*") for pattern in patterns]
        for name in names:
            if name not in there and name not in KINDS:
                raise CommandError(f"there is no provider {name}")
        if dry_run:
            return []
        providers = tuple(there.get(name, KINDS.get(name)) for name in names)
        known = tuple(row for row in providers if row is not None)
        entries = tuple(wildcard_entry(row) for row in known)
        return await _publish(conn, known, entries, plans)


async def _remove(place: Installation, patterns: Sequence[str]) -> list[Change]:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await catalog_changes.withdraw(
            conn, patterns, KINDS, cli_actor(), now=now_ms(), entropy=secrets.token_bytes
        )


async def _publish(
    conn: AsyncConnection, providers: Sequence[Upstream], models: Sequence[Model], plans: Sequence[str] | None
) -> list[Change]:
    return await catalog_changes.publish(
        conn, providers, models, KINDS, cli_actor(), plans=plans, now=now_ms(), entropy=secrets.token_bytes
    )


def _providers(found: ModelsFound) -> list[tuple[str, ...]]:
    return [(row.provider, row.key_in or "-", row.outcome, row.text) for row in found.providers]


def _row(row: Proposal) -> tuple[str, ...]:
    state = row.state if row.state != "published" else f"published as {row.id}"
    return (
        row.reference,
        state,
        row.id,
        "-" if row.context is None else f"{row.context:,}",
        "-" if row.longest is None else f"{row.longest:,}",
        _price(row.prices),
        row.prices_from or "-",
        ", ".join(row.unverified) or "-",
        (f"{row.ends or 'ended'} -> {row.successor}" if row.successor else row.ends) or "-",
    )


def _price(prices: Prices) -> str:
    if prices.input is None:
        return "unknown"
    return " / ".join("-" if value is None else f"{value / 1e9:g}" for value in (prices.input, prices.output))
