"""A provider as its pages show it: each key with where it comes from, how it is, and what may be done with it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from penstock.core.catalog import KEPT, Credential, Upstream
from penstock.core.routing.switches import Reach, Switch
from penstock.domain.catalog import catalog_store, kept_keys, upstream_state
from penstock.domain.catalog.kept_keys import KeptKey
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.domain.staff.provider_changes import Changing, managed_by, pool_of
from penstock.operations.model_discovery import Listing
from penstock.operations.upstream_report import CredentialReport, LegReport, of_credential, report
from penstock.site.admin.access import actor_of
from penstock.site.admin.context import AdminContext
from penstock.site.error_pages import PageNotFound
from penstock.site.session import SubmittedForm, signed_in

SPANS: Final[Mapping[str, int]] = {"15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000}
"""For how long something may be switched, in milliseconds, beside until it is enabled again."""

KEY_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "healthy": ("good", "in use"),
    "unused": ("", "not asked yet"),
    "warming": ("accent", "starts slowly, as it has just come back"),
    "degraded": ("warn", "slow or failing; it gets less until it is better"),
    "cooled": ("warn", "over its limit; it comes back when the limit does"),
    "open": ("bad", "failing; it is tried again by itself"),
    "probing": ("warn", "being tried again"),
    "off": ("bad", "refused, out of credit or without the model; one request tries it from time to time"),
    "drained": ("warn", "gets no new requests"),
    "disabled": ("bad", "taken out of use"),
    "no secret": ("bad", "its secret is not there"),
}
"""Each state with the look of its badge and what it means: all but the last three a machine sets, and leaves."""


class KeyView(msgspec.Struct, frozen=True):
    """One key of a provider."""

    id: str
    reach: str
    """Of the switches; '' where it is the provider's only secret, and the provider is meant."""
    shown: str
    """Its reference, or what stands for a key that was entered here."""
    entered: bool
    managed_by: str
    problem: str
    weight: int
    group: str
    added_by: str
    created_at: int | None
    retire_at: int | None
    fingerprint: str
    report: CredentialReport
    legs: tuple[LegReport, ...]

    @property
    def state(self) -> str:
        """Its state in a word."""
        return "no secret" if self.problem and self.report.by != "staff" else self.report.state


def keys_of(
    row: Upstream,
    kept: Mapping[str, KeptKey],
    legs: Sequence[LegReport],
    switches: Sequence[Switch],
    problem: Callable[[str], str | None],
    now: int,
) -> list[KeyView]:
    """The keys of a provider, in their order."""
    return [_key(row, it, kept.get(it.secret), legs, switches, problem, now) for it in pool_of(row)]


def _key(
    row: Upstream,
    it: Credential,
    key: KeptKey | None,
    legs: Sequence[LegReport],
    switches: Sequence[Switch],
    problem: Callable[[str], str | None],
    now: int,
) -> KeyView:
    reach = it.id if row.credentials else ""
    return KeyView(
        it.id,
        reach,
        it.secret if key is None else key.masked,
        it.secret.startswith(KEPT),
        managed_by(it.secret),
        problem(it.secret) or "",
        it.weight,
        it.group,
        "" if key is None else key.added_by,
        None if key is None else key.created_at,
        None if key is None else key.retire_at,
        "" if key is None else key.fingerprint,
        of_credential(legs, switches, (row.id, "", reach), now),
        tuple(leg for leg in legs if (leg.provider, leg.credential) == (row.id, reach)),
    )


def reach_of_key(row: Upstream, view: KeyView) -> Reach:
    """What a switch of this key means."""
    return Reach(row.id, view.reach)


class AskedFirst(msgspec.Struct, frozen=True):
    """What is asked before something is done."""

    title: str
    text: str
    button: str
    typed: str = ""
    """What has to be typed in, so that it is meant."""
    spans: bool = False
    leaked: bool = False


class ProviderDesk:
    """What the pages of providers and of their keys share."""

    def __init__(self, context: AdminContext) -> None:
        self.context = context
        self.site = context.site
        self.kinds = context.operation.kinds
        self.checks = context.operation.checks

    async def document(self) -> CatalogDocument:
        """The catalogue as it is written."""
        async with self.site.database.connect() as conn:
            return await catalog_store.load_document(conn, self.kinds)

    async def row(self, request: Request) -> Upstream:
        """The provider of the page. Raises ``PageNotFound``."""
        document = await self.document()
        row = next((it for it in document.providers if it.id == request.path_params["id"]), None)
        if row is None:
            raise PageNotFound("There is no such provider.")
        return row

    async def views(
        self, conn: AsyncConnection, document: CatalogDocument, rows: Sequence[Upstream]
    ) -> dict[str, list[KeyView]]:
        """The keys of these providers, by their ids."""
        kept = await kept_keys.kept_keys(conn)
        switches = await upstream_state.all_said(conn)
        now = self.site.now()
        legs: tuple[LegReport, ...] = report(
            document.providers, document.models, switches, self.checks.workers(), now
        )
        return {row.id: keys_of(row, kept, legs, switches, self.checks.problem, now) for row in rows}

    async def key_view(self, row: Upstream, id: str) -> KeyView:
        """One of them. Raises ``PageNotFound``."""
        async with self.site.database.connect() as conn:
            document = await catalog_store.load_document(conn, self.kinds)
            views = (await self.views(conn, document, [row]))[row.id]
        found = next((it for it in views if it.id == id), None)
        if found is None:
            raise PageNotFound("There is no such key.")
        return found

    def change(self, conn: AsyncConnection, request: Request, form: SubmittedForm) -> Changing:
        """A change by whoever has sent the form."""
        site = self.site
        return Changing(
            conn,
            site.secrets_file,
            self.kinds,
            actor_of(request, signed_in(request)),
            site.now(),
            site.entropy,
            form.text("reason"),
        )

    def ask(
        self,
        request: Request,
        asked: AskedFirst,
        back: str,
        hidden: Mapping[str, str] | None = None,
        *,
        error: str = "",
        status: int = 200,
    ) -> Response:
        """The page that asks."""
        return self.site.pages.render(
            request,
            "admin/provider_ask.html",
            {"asked": asked, "back": back, "hidden": hidden or {}, "spans": list(SPANS), "error": error},
            status=status,
        )


async def credentials_shown(
    conn: AsyncConnection, kinds: Mapping[str, Upstream]
) -> dict[tuple[str, str], str]:
    """What stands for each secret, by its provider and its name there ('' where there is one only): never the secret."""
    document, kept = await catalog_store.load_document(conn, kinds), await kept_keys.kept_keys(conn)
    return {
        (row.id, it.id if row.credentials else ""): kept[it.secret].masked if it.secret in kept else it.secret
        for row in document.providers
        for it in pool_of(row)
    }


def served_by(document: CatalogDocument) -> dict[str, list[str]]:
    """The models that each provider serves."""
    found: dict[str, list[str]] = {}
    for model in document.models:
        for name in dict.fromkeys(target.provider for target in model.targets):
            found.setdefault(name, []).append(model.id)
    return found


def good_enough(listing: Listing, *, anyway: bool) -> bool:
    """Whether a key may be saved: no list of models is no failure, and a key that is refused is never saved."""
    return listing.outcome in ("works", "no model list") or (anyway and listing.outcome != "refused")


def refusal_words(listing: Listing) -> str:
    """What a check came to, where nothing was saved."""
    return f"The check says: {listing.outcome} ({listing.text}). Nothing is saved."
