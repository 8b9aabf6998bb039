"""Providers for staff: who answers with which keys and how it goes, added after a check, published from, removed.

All that is done here the command line does by the same functions (``domain/staff/provider_changes.py``), with the same entries
of the trail.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.core.catalog import Upstream
from penstock.core.limits import day_of
from penstock.core.routing.switches import Reach
from penstock.domain.catalog import catalog_managers, catalog_store, upstream_state
from penstock.domain.catalog.kept_keys import checked_key
from penstock.domain.catalog.toml_document import CatalogDocument, CatalogError, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.domain.ledger import attempts
from penstock.domain.staff import catalog_changes, overview, provider_changes, upstream_switches
from penstock.domain.trail import changes
from penstock.errors import CallerError, InvalidRequest
from penstock.operations.model_discovery import Listing
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.admin.provider_view import KEY_STATES, AskedFirst, ProviderDesk, good_enough, served_by
from penstock.site.context import go
from penstock.site.session import SubmittedForm, read_form, signed_in

_KEY_AUTHS: Final = frozenset({"x-api-key", "bearer", "api-key", "none"})
_FORMATS: Final = ("chat", "messages", "responses", "embeddings")


class ProviderPages:
    """The pages under ``/admin/providers``."""

    def __init__(self, context: AdminContext) -> None:
        self._desk = ProviderDesk(context)
        self._context = context
        self._site = context.site
        self._kinds = context.operation.kinds
        self._checks = context.operation.checks

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        both, sent = ("GET", "POST"), ("POST",)
        one = "/admin/providers/{id}"
        return [
            AdminRoute("/admin/providers", self.providers, "read"),
            AdminRoute("/admin/providers/new", self.add, "catalog", both),
            AdminRoute(one, self.provider, "read"),
            AdminRoute(f"{one}/models", self.models, "catalog", sent),
            AdminRoute(f"{one}/publish", self.publish, "catalog", sent),
            AdminRoute(f"{one}/proxy", self.proxy, "catalog", sent),
            AdminRoute(f"{one}/remove", self.remove, "catalog", both),
        ]

    # ---- what there is

    async def providers(self, request: Request) -> Response:
        """Each provider with its keys and their states, and how it went in the last day."""
        site, viewer = self._site, signed_in(request)
        now = site.now()
        async with site.database.connect() as conn:
            document = await catalog_store.load_document(conn, self._kinds)
            days = {it.provider: it for it in await overview.provider_hours(conn, now=now, hours=24)}
            hours = {it.provider: it for it in await overview.provider_hours(conn, now=now, hours=1)}
            views = await self._desk.views(conn, document, document.providers)
        return site.pages.render(
            request,
            "admin/providers.html",
            {
                "rows": document.providers,
                "keys": views,
                "states": KEY_STATES,
                "days": days,
                "hours": hours,
                "models": served_by(document),
                "simulated_all": site.catalog().simulated,
                "may_edit": allows(viewer, "catalog"),
            },
        )

    async def provider(self, request: Request) -> Response:
        """One provider: where it is, its keys, the models that it serves, and how it goes."""
        return await self._provider_page(request)

    async def proxy(self, request: Request) -> Response:
        """Reach it by a proxy, or straight again; an empty password leaves that as it is."""
        form, row = await read_form(request), await self._desk.row(request)
        try:
            secret = checked_key(form.exact("secret")) if form.exact("secret").strip() else None
            async with self._site.database.transaction() as conn:
                change = self._desk.change(conn, request, form)
                await provider_changes.set_proxy(change, row.id, form.text("proxy"), secret)
        except CallerError as error:
            return await self._provider_page(request, error=error.message, status=error.status)
        except CatalogError as error:
            return await self._provider_page(request, error="; ".join(error.problems), status=422)
        return go(f"/admin/providers/{row.id}", "provider-saved")

    # ---- a new provider

    async def add(self, request: Request) -> Response:
        """Add a provider, once it has answered with the key."""
        if request.method != "POST":
            return self._new_form(request, None)
        site, form = self._site, await read_form(request)
        try:
            row = self._entered(form)
            key = checked_key(form.exact("secret")) if form.exact("secret").strip() else None
            if key is None and row.auth != "none" and form.text("keyless") != "yes":
                raise InvalidRequest("Enter its key.", param="secret")
            parse(dump(CatalogDocument(providers=(row,))), self._kinds)
            listing = await self._checks.check(row, key)
            if not good_enough(listing, anyway=form.text("anyway") == "yes"):
                return self._new_form(request, form, listing=listing)
            async with site.database.transaction() as conn:
                await provider_changes.add_provider(self._desk.change(conn, request, form), row, key)
        except CallerError as error:
            return self._new_form(request, form, problems=(error.message,), status=error.status)
        except CatalogError as error:
            return self._new_form(request, form, problems=error.problems, status=422)
        return go(f"/admin/providers/{row.id}", "provider-added")

    def _entered(self, form: SubmittedForm) -> Upstream:
        """The provider of the form. Raises ``InvalidRequest``."""
        kind, url, format_ = form.text("kind"), form.text("url"), form.text("format")
        usual = self._kinds.get(kind)
        if usual is None or kind not in self._choices():
            raise InvalidRequest("Choose what kind of provider it is.", param="kind")
        speaks = usual.speaks
        if url:
            known = tuple(dialect for dialect, _ in usual.speaks)
            speaks = ((format_ if format_ in _FORMATS else (known or _FORMATS)[0], url.rstrip("/")),)
        elif not speaks or any(_is_template(address) for _, address in speaks):
            raise InvalidRequest("Enter its address, such as https://llm.example.com/v1.", param="url")
        id = form.text("id") or kind
        if id == "new":
            raise InvalidRequest("Choose another name.", param="id")
        auth = "bearer" if usual.auth == "none" and form.exact("secret").strip() else usual.auth
        return msgspec.structs.replace(
            usual, id=id, kind=kind, speaks=speaks, secret="", credentials=(), auth=auth
        )

    def _choices(self) -> list[str]:
        """The kinds that sign in by a key, or not at all; others are set up as text."""
        return [kind for kind, row in self._kinds.items() if row.auth in _KEY_AUTHS and kind != "simulator"]

    def _new_form(
        self,
        request: Request,
        form: SubmittedForm | None,
        *,
        problems: Sequence[str] = (),
        listing: Listing | None = None,
        status: int = 200,
    ) -> Response:
        names = ("kind", "id", "url", "format")
        given = {name: "" if form is None else form.text(name) for name in names}
        return self._site.pages.render(
            request,
            "admin/provider_new.html",
            {
                "choices": self._choices(),
                "usual": {
                    kind: ", ".join(url for _, url in self._kinds[kind].speaks) for kind in self._choices()
                },
                "formats": _FORMATS,
                "given": given,
                "problems": problems,
                "listing": listing,
            },
            status=422 if listing is not None else status,
        )

    async def remove(self, request: Request) -> Response:
        """Remove a provider with its keys, after its name was typed."""
        form = await read_form(request) if request.method == "POST" else None
        row = await self._desk.row(request)
        asked = AskedFirst(
            f"Remove the provider {row.id}",
            "Its keys go with it, and models that others serve too lose it as a target. This can be undone for 30 days.",
            "Remove the provider",
            typed=row.id,
        )
        back = f"/admin/providers/{row.id}"
        if form is None:
            return self._desk.ask(request, asked, back)
        if form.text("typed") != row.id:
            return self._desk.ask(request, asked, back, error=f"Type {row.id} to remove it.", status=400)
        try:
            async with self._site.database.transaction() as conn:
                await provider_changes.remove_provider(self._desk.change(conn, request, form), row.id)
        except CallerError as error:
            return self._desk.ask(request, asked, back, error=error.message, status=error.status)
        except CatalogError as error:
            return self._desk.ask(request, asked, back, error="; ".join(error.problems), status=409)
        return go("/admin/providers", "provider-saved")

    # ---- what it has

    async def models(self, request: Request) -> Response:
        """What the provider has beside the catalogue."""
        await read_form(request)
        row = await self._desk.row(request)
        return await self._models_page(request, row)

    async def publish(self, request: Request) -> Response:
        """Publish what was ticked, on every plan or on one."""
        site, form, row = self._site, await read_form(request), await self._desk.row(request)
        wanted = set(form.chosen("model-"))
        plan = form.text("plan")
        if not wanted:
            return await self._models_page(request, row, error="Tick what is to be published.", status=400)
        found = await self._checks.models(await self._desk.document(), row.id)
        models = [it.entry for it in found.models if it.entry is not None and it.model in wanted]
        if not models:
            return await self._models_page(request, row, error="It does not list these any more.", status=409)
        try:
            async with site.database.transaction() as conn:
                await catalog_changes.publish(
                    conn,
                    (row,),
                    models,
                    self._kinds,
                    actor_of(request, signed_in(request)),
                    plans=[plan] if plan else None,
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CatalogError as error:
            return await self._models_page(request, row, error="; ".join(error.problems), status=422)
        return go(f"/admin/providers/{row.id}", "catalog-saved")

    async def _models_page(
        self, request: Request, row: Upstream, *, error: str = "", status: int = 200
    ) -> Response:
        found = await self._checks.models(await self._desk.document(), row.id)
        told = next((it for it in found.providers if it.provider == row.id), None)
        return self._site.pages.render(
            request,
            "admin/provider_models.html",
            {
                "row": row,
                "told": told,
                "found": [it for it in found.models if it.state != "no route"],
                "read": found.read,
                "plans": list(self._site.catalog().plans),
                "error": error,
            },
            status=status,
        )

    # ---- what they share

    async def _provider_page(self, request: Request, *, error: str = "", status: int = 200) -> Response:
        site, viewer = self._site, signed_in(request)
        row, now = await self._desk.row(request), self._site.now()
        async with site.database.connect() as conn:
            document = await catalog_store.load_document(conn, self._kinds)
            views = (await self._desk.views(conn, document, [row]))[row.id]
            spans = [
                (hours, next((it for it in found if it.provider == row.id), None))
                for hours, found in [
                    (hours, await overview.provider_hours(conn, now=now, hours=hours)) for hours in (1, 24)
                ]
            ]
            switches = [
                it
                for it in await upstream_state.all_said(conn)
                if it.reach == Reach(row.id) and it.holds(now)
            ]
            failed = await attempts.newest_failed(conn, row.id, day_of(now / 1000) - 1)
            made, _ = await changes.page(conn, object_kind="provider", object_id=row.id, most=10)
            manager = (await catalog_managers.managers(conn)).get(("provider", row.id), "")
        return site.pages.render(
            request,
            "admin/provider.html",
            {
                "row": row,
                "keys": views,
                "states": KEY_STATES,
                "switch": switches[0] if switches else None,
                "in_words": upstream_switches.IN_WORDS,
                "spans": spans,
                "failed": failed,
                "models": served_by(document).get(row.id, []),
                "takes_keys": row.auth in _KEY_AUTHS and row.auth != "none",
                "made": made,
                "now": now,
                "manager": manager,
                "may_edit": allows(viewer, "catalog") and not manager,
                "error": error,
            },
            status=status,
        )


def _is_template(url: str) -> bool:
    """Whether an address has a part to fill in, such as ``RESOURCE``."""
    return re.search(r"[A-Z]{4}", url) is not None
