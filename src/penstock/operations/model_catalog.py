"""The models of all providers that have a key, beside the catalogue: what can be published, and what was published by itself.

By itself nothing is published but on a machine of one's own: where nobody else can reach the server, and a vendor's key is
there of which the catalogue serves nothing, its models are published at the start, so that they answer within the first
minute. Everywhere else the operator is told what there is and which command publishes it.
"""

import time
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from typing import Literal

import msgspec

from penstock.core.catalog import Capabilities, Model, Target, Upstream
from penstock.domain.catalog.catalog_store import load_document
from penstock.domain.catalog.publishing import publish_models
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.operations.model_discovery import LIST_SECONDS, Listing, Outcome, ask_all
from penstock.operations.model_proposals import Proposal, propose, sensible
from penstock.providers.known_models import known_models
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS, PROVIDERS
from penstock.store.sql.database import Database


class ProviderFound(msgspec.Struct, frozen=True):
    """One provider: whether it could be asked, and what it said."""

    provider: str
    outcome: Outcome | Literal["no key"]
    text: str
    key_in: str
    """The reference of its key, never the key; '' for none."""
    models: int = 0


class ModelsFound(msgspec.Struct, frozen=True):
    """What was found at all providers. ``read`` is the day of the list that the proposals lean on."""

    providers: tuple[ProviderFound, ...]
    models: tuple[Proposal, ...]
    read: str
    asked: tuple[Upstream, ...]
    """The providers that were asked, as they are or would be set up."""


def providers_of(document: CatalogDocument) -> tuple[Upstream, ...]:
    """The providers of the catalogue, then those of the table whose key could be there without an entry."""
    there = {row.id for row in document.providers}
    return (
        *(row for row in document.providers if row.kind != "simulator"),
        *(row for row in KINDS.values() if row.id not in there and row.secret.startswith("env:")),
    )


async def find_models(
    document: CatalogDocument,
    secrets: Secrets,
    today: date,
    *,
    only: Collection[str] = (),
    seconds: float = LIST_SECONDS,
    at_hand: Sequence[Listing] | None = None,
) -> ModelsFound:
    """Ask all providers whose key is there, at once, and compare what they say with the catalogue.

    ``at_hand`` is what a running server was told by them: nobody is asked then. ``only`` narrows it to these providers,
    where one of them is a provider at all. Providers that need no key are asked where the catalogue has them.
    """
    rows = providers_of(document)
    known_ids = {row.id for row in rows}
    if wanted := [name for name in only if name in known_ids]:
        rows = tuple(row for row in rows if row.id in wanted)
    if at_hand is None:
        asked = tuple(row for row in rows if secrets.ready(row))
        at_hand = await ask_all(asked, secrets, seconds=seconds)
    listings = {each.provider: each for each in at_hand}
    asked = tuple(row for row in rows if row.id in listings)
    known = known_models()
    told: list[ProviderFound] = []
    models: list[Proposal] = []
    for row in rows:
        listing = listings.get(row.id)
        if listing is None:
            why = next((text for name in row.secrets if (text := secrets.problem(name))), "")
            told.append(ProviderFound(row.id, "no key", why, _key_in(row)))
            continue
        told.append(ProviderFound(row.id, listing.outcome, listing.text, _key_in(row), len(listing.models)))
        if listing.works:
            models += propose(document, row, listing.models, known, today)
    return ModelsFound(tuple(told), tuple(models), known.read, asked)


def _key_in(row: Upstream) -> str:
    """Where its keys come from."""
    return ", ".join(row.secrets)


def wildcard_entry(row: Upstream) -> Model:
    """``openai/*``: one model of the catalogue that passes every name on."""
    known = PROVIDERS.get(row.kind)
    name = row.id if known is None else known.name
    return Model(
        id=f"{row.id}/*",
        name=f"Everything of {name}"[:128],
        targets=(Target(row.id, "*"),),
        capabilities=Capabilities(vision=True, documents=True, structured_output=True),
    )


class VendorOffer(msgspec.Struct, frozen=True):
    """What the start found at one provider with a key of which the catalogue serves nothing."""

    provider: str
    outcome: Outcome
    text: str
    found: int = 0
    published: tuple[str, ...] = ()


async def offer_vendors(
    database: Database, secrets: Secrets, *, publish: bool, seconds: float
) -> tuple[VendorOffer, ...]:
    """Ask the vendors whose key is there and of whom the catalogue serves nothing.

    With ``publish`` those of their models that the dated list knows by name and price, and that do not end within the
    notice, are put on every plan.
    """
    async with database.connect() as conn:
        document = await load_document(conn, KINDS)
    used = {target.provider for model in document.models for target in model.targets}
    unused = {
        row.id
        for row in providers_of(document)
        if any(row.secrets) and row.id not in used and secrets.ready(row)
    }
    if not unused:
        return ()
    today = datetime.now(UTC).date()
    found = await find_models(document, secrets, today, only=unused, seconds=seconds)
    known = known_models()
    offers: list[VendorOffer] = []
    for row in found.providers:
        if row.outcome == "no key":
            continue
        fresh = [each for each in found.models if each.provider == row.provider and each.state == "new"]
        upstream = next(each for each in found.asked if each.id == row.provider)
        taken = sensible(fresh, known, upstream.kind) if publish else ()
        models = [each.entry for each in taken if each.entry is not None]
        if models:
            async with database.transaction() as conn:
                await publish_models(conn, (upstream,), models, KINDS, time.time_ns() // 1_000_000)
        offers.append(
            VendorOffer(row.provider, row.outcome, row.text, len(fresh), tuple(each.id for each in models))
        )
    return tuple(offers)
