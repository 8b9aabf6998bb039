"""Keys of providers for staff: added after a check, rotated, drained, disabled, tested and removed.

A key is entered and never shown again: no page, log or answer has more of it than its last four characters. What comes from
the environment or a file is shown with where it comes from, and is changed there.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from penstock.core.amounts import amount
from penstock.core.catalog import Upstream
from penstock.core.routing.switches import Reach, Switch, SwitchState
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.kept_keys import checked_key
from penstock.domain.catalog.toml_document import CatalogError
from penstock.domain.staff import overview, provider_changes, upstream_switches
from penstock.domain.staff.provider_changes import KeyEntry
from penstock.domain.trail import entries
from penstock.domain.trail.entries import FieldValue, Subject
from penstock.errors import CallerError, InvalidRequest
from penstock.operations.model_discovery import Listing
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.admin.provider_view import (
    KEY_STATES,
    SPANS,
    AskedFirst,
    ProviderDesk,
    good_enough,
    reach_of_key,
    refusal_words,
    served_by,
)
from penstock.site.context import go
from penstock.site.error_pages import PageNotFound
from penstock.site.session import SubmittedForm, read_form, signed_in

_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_STATES: Final[Mapping[str, SwitchState]] = {"drain": "drain", "off": "off", "on": "on"}
_VERBS: Final[Mapping[SwitchState, str]] = {"drain": "Drain", "off": "Disable", "on": "Enable"}


class ProviderKeyPages:
    """The pages under ``/admin/providers/{id}/keys``, and the switches of providers and keys."""

    def __init__(self, context: AdminContext) -> None:
        self._desk = ProviderDesk(context)
        self._context = context
        self._site = context.site
        self._kinds = context.operation.kinds
        self._checks = context.operation.checks

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        both, sent = ("GET", "POST"), ("POST",)
        one, key = "/admin/providers/{id}", "/admin/providers/{id}/keys/{key}"
        return [
            AdminRoute(f"{one}/switch", self.switch, "catalog", both),
            AdminRoute(f"{one}/reset", self.reset, "catalog", sent),
            AdminRoute(f"{one}/test", self.test, "catalog", sent),
            AdminRoute(f"{one}/keys/new", self.add_key, "catalog", both),
            AdminRoute(key, self.key, "read"),
            AdminRoute(f"{key}/change", self.change_key, "catalog", sent),
            AdminRoute(f"{key}/rotate", self.rotate_key, "catalog", both),
            AdminRoute(f"{key}/remove", self.remove_key, "catalog", both),
        ]

    async def key(self, request: Request) -> Response:
        """One key: where it comes from, its state with each model, and what may be done with it."""
        return await self._key_page(request)

    # ---- keys

    async def add_key(self, request: Request) -> Response:
        """Add a key to the pool, once the provider has taken it."""
        form = await read_form(request) if request.method == "POST" else None
        row = await self._desk.row(request)
        if form is None:
            return self._key_form(request, row, None)
        try:
            entry = KeyEntry(
                checked_key(form.exact("secret")),
                form.text("id") or provider_changes.free_id(row),
                _whole(form, "weight", 1),
                form.text("group"),
            )
            listing = await self._checks.check(row, entry.key)
            if not good_enough(listing, anyway=form.text("anyway") == "yes"):
                return self._key_form(request, row, form, listing=listing)
            async with self._site.database.transaction() as conn:
                await provider_changes.add_key(self._desk.change(conn, request, form), row.id, entry)
        except CallerError as error:
            return self._key_form(request, row, form, problems=(error.message,), status=error.status)
        except CatalogError as error:
            return self._key_form(request, row, form, problems=error.problems, status=422)
        return go(f"/admin/providers/{row.id}", "provider-saved")

    async def rotate_key(self, request: Request) -> Response:
        """Put a new key in the place of one, which is drained and leaves later."""
        form = await read_form(request) if request.method == "POST" else None
        site, row, id = self._site, await self._desk.row(request), request.path_params["key"]
        _have(row, id)
        if form is None:
            return self._key_form(request, row, None, rotates=id)
        try:
            key = checked_key(form.exact("secret"))
            listing = await self._checks.check(row, key)
            if not good_enough(listing, anyway=form.text("anyway") == "yes"):
                return self._key_form(request, row, form, rotates=id, listing=listing)
            stays = int(self._context.operation.settings.rotated_key_stays * 1000)
            async with site.database.transaction() as conn:
                await provider_changes.rotate_key(
                    self._desk.change(conn, request, form), row.id, id, key, retire_at=site.now() + stays
                )
        except CallerError as error:
            return self._key_form(
                request, row, form, rotates=id, problems=(error.message,), status=error.status
            )
        except CatalogError as error:
            return self._key_form(request, row, form, rotates=id, problems=error.problems, status=422)
        return go(f"/admin/providers/{row.id}", "provider-saved")

    async def change_key(self, request: Request) -> Response:
        """Change how a key is used, and the key itself where another was entered: an empty field leaves it as it is."""
        form = await read_form(request)
        row, id = await self._desk.row(request), request.path_params["key"]
        _have(row, id)
        try:
            key = checked_key(form.exact("secret")) if form.exact("secret").strip() else None
            weight = _whole(form, "weight", 1)
            if key is not None:
                listing = await self._checks.check(row, key)
                if not good_enough(listing, anyway=False):
                    return await self._key_page(request, error=refusal_words(listing), status=422)
            async with self._site.database.transaction() as conn:
                await provider_changes.change_key(
                    self._desk.change(conn, request, form),
                    row.id,
                    id,
                    weight=weight,
                    group=form.text("group"),
                    key=key,
                )
        except CallerError as error:
            return await self._key_page(request, error=error.message, status=error.status)
        except CatalogError as error:
            return await self._key_page(request, error="; ".join(error.problems), status=422)
        return go(f"/admin/providers/{row.id}/keys/{id}", "provider-saved")

    async def remove_key(self, request: Request) -> Response:
        """Take a key out of the pool, after its name was typed."""
        form = await read_form(request) if request.method == "POST" else None
        row, id = await self._desk.row(request), request.path_params["key"]
        _have(row, id)
        view = await self._desk.key_view(row, id)
        runs = amount(view.report.in_flight, "request runs", "requests run")
        asked = AskedFirst(
            f"Remove the key {id} of {row.id}",
            f"{runs} with it on this machine, to the end. It stays sealed for "
            "30 days, so that this can be undone.",
            "Remove the key",
            typed=id,
            leaked=True,
        )
        back = f"/admin/providers/{row.id}/keys/{id}"
        if form is None:
            return self._desk.ask(request, asked, back)
        if form.text("typed") != id:
            return self._desk.ask(request, asked, back, error=f"Type {id} to remove it.", status=400)
        await self._checks.follow()
        try:
            async with self._site.database.transaction() as conn:
                await provider_changes.remove_key(
                    self._desk.change(conn, request, form),
                    row.id,
                    id,
                    self._checks.available,
                    leaked=form.text("leaked") == "yes",
                )
        except CallerError as error:
            return self._desk.ask(request, asked, back, error=error.message, status=error.status)
        return go(f"/admin/providers/{row.id}", "provider-saved")

    # ---- switches and tests

    async def switch(self, request: Request) -> Response:
        """Drain, disable or enable a provider or one of its keys; what keeps requests away is asked first."""
        form = await read_form(request) if request.method == "POST" else None
        row = await self._desk.row(request)
        query = request.query_params
        given = {name: query.get(name, "") if form is None else form.text(name) for name in ("state", "key")}
        state, id = _STATES.get(given["state"]), given["key"]
        if state is None:
            raise InvalidRequest("Say whether it is to be drained, disabled or enabled.", param="state")
        reach = await self._reach(row, id)
        back = f"/admin/providers/{row.id}" + (f"/keys/{id}" if id else "")
        if form is None:
            return self._desk.ask(
                request, await self._question(row, id, state), back, {"state": state, "key": id}
            )
        span = SPANS.get(form.text("for"))
        until = None if span is None or state == "on" else self._site.now() + span
        async with self._site.database.transaction() as conn:
            await upstream_switches.switch_upstream(
                conn,
                Switch(reach, state, until, form.text("reason")),
                self._kinds,
                actor_of(request, signed_in(request)),
                now=self._site.now(),
                entropy=self._site.entropy,
            )
        return go(back, "provider-switched")

    async def reset(self, request: Request) -> Response:
        """Have what is known against it forgotten: it is asked again at once."""
        form, row = await read_form(request), await self._desk.row(request)
        id = form.text("key")
        reach = await self._reach(row, id)
        async with self._site.database.transaction() as conn:
            await upstream_switches.forget_health(
                conn,
                reach,
                self._kinds,
                actor_of(request, signed_in(request)),
                now=self._site.now(),
                entropy=self._site.entropy,
            )
        return go(f"/admin/providers/{row.id}" + (f"/keys/{id}" if id else ""), "provider-switched")

    async def test(self, request: Request) -> Response:
        """Ask it for its models with a key, or send one small real request; what answers is put back into use."""
        form, row = await read_form(request), await self._desk.row(request)
        id, model = form.text("key"), form.text("model")
        view = await self._desk.key_view(row, id)
        said: list[tuple[str, str, str]] = []
        if not model:
            secret = next((it.secret for it in provider_changes.pool_of(row) if it.id == id), "")
            listing = await self._checks.list_with(row, secret)
            said = [("its list of models", listing.outcome, listing.text)]
        else:
            reach = Reach(row.id, view.reach, model)
            document = await self._desk.document()
            for it in await self._checks.try_out(document, reach):
                words = (
                    f"answered within {it.ms} ms" if it.answers else f"{it.status or ''} {it.message}".strip()
                )
                said.append((it.upstream, "works" if it.answers else it.failure, words))
            if said and all(outcome == "works" for _, outcome, _ in said):
                async with self._site.database.transaction() as conn:
                    await upstream_switches.forget_health(
                        conn,
                        Reach(row.id, view.reach),
                        self._kinds,
                        actor_of(request, signed_in(request)),
                        now=self._site.now(),
                        entropy=self._site.entropy,
                    )
        await self._note_test(request, row.id, id, said)
        return await self._key_page(request, said=said, id=id)

    async def _note_test(
        self, request: Request, provider: str, id: str, said: Sequence[tuple[str, str, str]]
    ) -> None:
        name = f"{provider}/{id}"
        outcomes: dict[str, FieldValue] = {what[:100]: outcome for what, outcome, _ in said}
        async with self._site.database.transaction() as conn:
            await entries.write(
                conn,
                actor_of(request, signed_in(request)),
                "provider_tested",
                Subject("credential", name, name),
                after=outcomes,
                now=self._site.now(),
                entropy=self._site.entropy,
            )

    # ---- what they share

    async def _reach(self, row: Upstream, id: str) -> Reach:
        return Reach(row.id) if not id else reach_of_key(row, await self._desk.key_view(row, id))

    async def _question(self, row: Upstream, id: str, state: SwitchState) -> AskedFirst:
        name = f"the key {id} of {row.id}" if id else row.id
        async with self._site.database.connect() as conn:
            document = await catalog_store.load_document(conn, self._kinds)
            views = (await self._desk.views(conn, document, [row]))[row.id]
            hour = next(
                (
                    it
                    for it in await overview.provider_hours(conn, now=self._site.now(), hours=1)
                    if it.provider == row.id
                ),
                None,
            )
        mine = [it for it in views if not id or it.id == id]
        running, asked = sum(it.report.in_flight for it in mine), 0 if hour is None else hour.requests
        served = served_by(document).get(row.id, [])
        text = (
            f"{amount(running, 'request runs', 'requests run')} there on this machine, to the end. {row.id} had "
            f"{amount(asked, 'request')} in this hour and the one before, and serves {amount(len(served), 'model')}. "
            "Every server follows within seconds."
        )
        verb = _VERBS[state]
        return AskedFirst(f"{verb} {name}", text, f"{verb} it", spans=state != "on")

    def _key_form(
        self,
        request: Request,
        row: Upstream,
        form: SubmittedForm | None,
        *,
        rotates: str = "",
        problems: Sequence[str] = (),
        listing: Listing | None = None,
        status: int = 200,
    ) -> Response:
        hours = self._context.operation.settings.rotated_key_stays / 3600
        return self._site.pages.render(
            request,
            "admin/provider_key_new.html",
            {
                "row": row,
                "rotates": rotates,
                "free": provider_changes.free_id(row),
                "given": {
                    name: "" if form is None else form.text(name) for name in ("id", "weight", "group")
                },
                "problems": problems,
                "listing": listing,
                "stays": amount(int(hours), "hour") if hours.is_integer() else f"{hours:.3g} hours",
            },
            status=422 if listing is not None else status,
        )

    async def _key_page(
        self,
        request: Request,
        *,
        error: str = "",
        said: Sequence[tuple[str, str, str]] = (),
        id: str = "",
        status: int = 200,
    ) -> Response:
        site, viewer = self._site, signed_in(request)
        row = await self._desk.row(request)
        view = await self._desk.key_view(row, id or request.path_params["key"])
        name = f"{row.id}/{view.id}"
        async with site.database.connect() as conn:
            done, _ = await entries.page(
                conn, entries.TrailFilter(object_kind="credential", object_id=name), 10
            )
        return site.pages.render(
            request,
            "admin/provider_key.html",
            {
                "row": row,
                "it": view,
                "states": KEY_STATES,
                "error": error,
                "said": said,
                "done": done,
                "only": len(provider_changes.pool_of(row)) == 1,
                "may_edit": allows(viewer, "catalog"),
            },
            status=status,
        )


def _have(row: Upstream, id: str) -> None:
    if all(it.id != id for it in provider_changes.pool_of(row)):
        raise PageNotFound("There is no such key.")


def _whole(form: SubmittedForm, name: str, usual: int) -> int:
    text = form.text(name)
    if not text:
        return usual
    if _WHOLE.fullmatch(text) is None:
        raise InvalidRequest(f"{name} is a whole number.", param=name)
    return int(text)
