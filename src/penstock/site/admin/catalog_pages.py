"""Models and plans for staff, and the catalogue as text: edited, previewed with what it changes, then applied.

What a provider's own values are (headers, fields of bodies) stands on the page that edits them alone. Nothing is applied that
was not previewed: the page that asks has what will change, and for how many accounts.
"""

from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.core.amounts import amount
from penstock.core.limits import day_of
from penstock.core.quoting import url_path
from penstock.domain.catalog import catalog_managers, catalog_store
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.toml_document import CatalogDocument, CatalogError, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.domain.ledger import rollups
from penstock.domain.staff import catalog_changes, search
from penstock.domain.staff.catalog_changes import Effect
from penstock.domain.trail import changes
from penstock.errors import InvalidRequest
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext, ConfirmQuestion
from penstock.site.context import go
from penstock.site.error_pages import PageNotFound
from penstock.site.session import SubmittedForm, read_form, signed_in

_KINDS = {"provider": "providers", "model": "models", "plan": "plans"}
_MOST = 60_000
"""Characters of a text that is edited."""


class CatalogPages:
    """The pages under ``/admin/models``, ``/admin/plans`` and ``/admin/catalog``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site
        self._kinds = context.operation.kinds

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/models", self.models, "read"),
            AdminRoute("/admin/models/remove", self.remove, "catalog", ("GET", "POST")),
            AdminRoute("/admin/models/{id:path}", self.model, "read"),
            AdminRoute("/admin/plans", self.plans, "read"),
            AdminRoute("/admin/plans/new", self.new_plan, "catalog", ("GET", "POST")),
            AdminRoute("/admin/plans/{id}", self.plan, "read"),
            AdminRoute("/admin/plans/{id}/change", self.change_plan, "catalog", ("POST",)),
            AdminRoute("/admin/catalog/edit", self.edit, "catalog"),
            AdminRoute("/admin/catalog/preview", self.preview, "catalog", ("POST",)),
            AdminRoute("/admin/catalog/apply", self.apply, "catalog", ("POST",)),
        ]

    # ---- models

    async def models(self, request: Request) -> Response:
        """Each model with its plans, its providers, and whether it is served."""
        site, viewer = self._site, signed_in(request)
        catalog = site.catalog()
        today = day_of(site.clock())
        only = request.query_params.get("served", "")
        async with site.database.connect() as conn:
            days = await rollups.models_by_day(conn, range(today - 6, today + 1))
        counts: dict[str, list[int]] = {}
        for it in days:
            of = counts.setdefault(it.model, [0, 0])
            of[0], of[1] = of[0] + it.requests, of[1] + it.trouble
        rows = [
            (
                model,
                catalog.served(model),
                [plan.id for plan in catalog.plans.values() if model.id in plan.models],
            )
            for model in catalog.models.values()
        ]
        return site.pages.render(
            request,
            "admin/models.html",
            {
                "rows": [row for row in rows if only != "no" or not row[1]],
                "only": only,
                "needs": {model.id: catalog.needs(model) for model, served, _ in rows if not served},
                "counts": counts,
                "simulated_all": catalog.simulated,
                "may_edit": allows(viewer, "catalog"),
            },
        )

    async def model(self, request: Request) -> Response:
        """One model."""
        site, viewer = self._site, signed_in(request)
        catalog = site.catalog()
        model = catalog.models.get(request.path_params["id"])
        if model is None:
            raise PageNotFound("There is no such model.")
        async with site.database.connect() as conn:
            document = await catalog_store.load_document(conn, self._kinds)
            made, _ = await changes.page(conn, object_kind="model", object_id=model.id, most=10)
            manager = (await catalog_managers.managers(conn)).get(("model", model.id), "")
        written = next((it for it in document.models if it.id == model.id), model)
        return site.pages.render(
            request,
            "admin/model.html",
            {
                "row": written,
                "served": catalog.served(model),
                "needs": catalog.needs(model),
                "plans": [plan.id for plan in catalog.plans.values() if model.id in plan.models],
                "manager": manager,
                "made": made,
                "now": site.now(),
                "may_edit": allows(viewer, "catalog") and not manager,
            },
        )

    async def remove(self, request: Request) -> Response:
        """Take a model out of the catalogue and of every plan, once it was said who has used it lately."""
        site = self._site
        form = await read_form(request) if request.method == "POST" else None
        id = request.query_params.get("id", "") if form is None else form.text("id")
        model = site.catalog().models.get(id)
        if model is None:
            raise PageNotFound("There is no such model.")
        problems: tuple[str, ...] = ()
        if form is not None:
            try:
                async with site.database.transaction() as conn:
                    await catalog_changes.withdraw(
                        conn,
                        (),
                        self._kinds,
                        actor_of(request, signed_in(request)),
                        ids=(id,),
                        reason=form.text("reason"),
                        now=site.now(),
                        entropy=site.entropy,
                    )
            except CatalogError as error:
                problems = error.problems
            else:
                return go("/admin/models", "catalog-saved")
        today = day_of(site.clock())
        async with site.database.connect() as conn:
            week = await rollups.models_by_day(conn, range(today - 6, today + 1))
        asked = sum(it.requests for it in week if it.model == id)
        plans = [plan.id for plan in site.catalog().plans.values() if id in plan.models]
        question = ConfirmQuestion(
            f"Remove the model {id}",
            f"Whoever calls it gets 404. It leaves {_counted('plan', plans)}; in seven days it had {amount(asked, 'request')}. "
            "This can be undone for 30 days.",
            "Remove the model",
        )
        return site.pages.render(
            request,
            "admin/confirm.html",
            {
                "question": question,
                "hidden": {"id": id},
                "back": f"/admin/models/{url_path(id)}",
                "last_used": None,
                "error": " ".join(problems),
            },
            status=422 if problems else 200,
        )

    # ---- plans

    async def plans(self, request: Request) -> Response:
        """Each plan with its limits and how many accounts have it."""
        site, viewer = self._site, signed_in(request)
        catalog = site.catalog()
        async with site.database.connect() as conn:
            counts = await search.plan_counts(conn)
        served = {plan.id: len(catalog.offered(plan.id)) for plan in catalog.plans.values()}
        return site.pages.render(
            request,
            "admin/plans.html",
            {
                "rows": list(catalog.plans.values()),
                "counts": counts,
                "served": served,
                "first": self._context.operation.settings.signup_plan,
                "may_edit": allows(viewer, "catalog"),
            },
        )

    async def plan(self, request: Request) -> Response:
        """One plan, as a form."""
        site, viewer = self._site, signed_in(request)
        catalog = site.catalog()
        plan = catalog.plans.get(request.path_params["id"])
        if plan is None:
            raise PageNotFound("There is no such plan.")
        async with site.database.connect() as conn:
            counts = await search.plan_counts(conn)
            made, _ = await changes.page(conn, object_kind="plan", object_id=plan.id, most=10)
            manager = (await catalog_managers.managers(conn)).get(("plan", plan.id), "")
        return site.pages.render(
            request,
            "admin/plan.html",
            {
                "row": plan,
                "count": counts.get(plan.id, 0),
                "models": list(catalog.models.values()),
                "manager": manager,
                "made": made,
                "now": site.now(),
                "may_edit": allows(viewer, "catalog") and not manager,
            },
        )

    async def change_plan(self, request: Request) -> Response:
        """The form of a plan, as a text to preview."""
        form = await read_form(request)
        plan = self._site.catalog().plans.get(request.path_params["id"])
        if plan is None:
            raise PageNotFound("There is no such plan.")
        text = dump(CatalogDocument(plans=(_filled_in(plan, form),)))
        return await self._previewed(request, text, back=f"/admin/plans/{plan.id}")

    async def new_plan(self, request: Request) -> Response:
        """The form of a plan that is not there yet, and its preview."""
        catalog = self._site.catalog()
        plan, problem = Plan("", "", 1000, 1, ()), ""
        if request.method == "POST":
            form = await read_form(request)
            plan = msgspec.structs.replace(plan, id=form.text("id"), models=form.chosen("model-"))
            try:
                if plan.id in catalog.plans:
                    raise InvalidRequest("There is a plan of this id already.", param="id")
                plan = _filled_in(plan, form)
                text = dump(CatalogDocument(plans=(plan,)))
                parse(text, self._kinds)
                return await self._previewed(request, text, back="/admin/plans")
            except InvalidRequest as error:
                problem = error.message
            except CatalogError as error:
                problem = " ".join(error.problems)
        return self._site.pages.render(
            request,
            "admin/plan_new.html",
            {"row": plan, "models": list(catalog.models.values()), "error": problem},
            status=422 if problem else 200,
        )

    # ---- as text

    async def edit(self, request: Request) -> Response:
        """A row as text; of a new one the form that it has."""
        query = request.query_params
        kind, id = query.get("kind", ""), query.get("id", "")
        if kind not in _KINDS:
            raise PageNotFound("There is nothing of this kind.")
        async with self._site.database.connect() as conn:
            document = await catalog_store.load_document(conn, self._kinds)
        text = catalog_changes.texts(document).get(f"{kind} {id}")
        if id and text is None:
            raise PageNotFound(f"There is no such {kind}.")
        return self._editor(request, text or _NEW[kind], kind=kind, id=id)

    async def preview(self, request: Request) -> Response:
        """What the text would change."""
        form = await read_form(request)
        return await self._previewed(request, form.text("text")[:_MOST], back=_back(form))

    async def apply(self, request: Request) -> Response:
        """Apply what was previewed."""
        site = self._site
        form = await read_form(request)
        text = form.text("text")[:_MOST]
        try:
            document = parse(text, self._kinds)
            async with site.database.transaction() as conn:
                effect = await catalog_changes.preview(conn, document, self._kinds)
                if _seen(effect) != form.text("seen"):
                    raise InvalidRequest(
                        "The catalogue has changed since the preview. Look at what would change now, and apply again."
                    )
                await catalog_changes.apply_change(
                    conn,
                    document,
                    self._kinds,
                    actor_of(request, signed_in(request)),
                    reason=form.text("reason"),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CatalogError as error:
            return self._editor(request, text, problems=error.problems)
        except InvalidRequest as error:
            return await self._previewed(request, text, back=_back(form), error=error.message)
        return go(_back(form), "catalog-saved")

    async def _previewed(self, request: Request, text: str, *, back: str, error: str = "") -> Response:
        site = self._site
        try:
            document = parse(text, self._kinds)
            async with site.database.connect() as conn:
                effect = await catalog_changes.preview(conn, document, self._kinds)
        except CatalogError as wrong:
            return self._editor(request, text, problems=wrong.problems)
        return site.pages.render(
            request,
            "admin/preview.html",
            {"effect": effect, "text": text, "back": back, "seen": _seen(effect), "error": error},
            status=409 if error else 200,
        )

    def _editor(
        self, request: Request, text: str, *, kind: str = "", id: str = "", problems: tuple[str, ...] = ()
    ) -> Response:
        back = f"/admin/{_KINDS.get(kind, 'models')}" + (f"/{id}" if id else "")
        return self._site.pages.render(
            request,
            "admin/edit.html",
            {"text": text, "kind": kind, "id": id, "problems": problems, "back": back},
            status=422 if problems else 200,
        )


_NEW: Mapping[str, str] = {
    "provider": '[[provider]]\nid = "my-provider"\nkind = "custom"\nspeaks = { chat = "https://llm.example.com/v1" }\n'
    'secret = "env:MY_PROVIDER_KEY"\n',
    "model": '[[model]]\nid = "my-model"\ntargets = [{ provider = "my-provider", model = "its-name-there" }]\n',
    "plan": '[[plan]]\nid = "team"\nname = "Team"\ndaily_requests = 20000\nconcurrent_requests = 5\nmodels = []\n',
}


def _filled_in(plan: Plan, form: SubmittedForm) -> Plan:
    """The plan as the form wants it. Raises ``InvalidRequest``."""
    ticked = form.chosen("model-")
    # In the plan's own order, which the boxes do not have; what is new comes after.
    models = [name for name in plan.models if name in ticked]
    models += [name for name in ticked if name not in plan.models]
    return msgspec.structs.replace(
        plan,
        name=form.text("name"),
        daily_requests=_number(form, "daily_requests"),
        concurrent_requests=_number(form, "concurrent_requests"),
        queue_seconds=_number(form, "queue_seconds"),
        models=tuple(models),
    )


def _counted(word: str, names: Sequence[str]) -> str:
    """``the plans free, pro``; ``no plan``."""
    if not names:
        return f"no {word}"
    return f"the {word}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _back(form: SubmittedForm) -> str:
    """Where to go on: a page of these, whatever was sent."""
    wanted = form.text("back")
    fine = wanted.startswith(("/admin/plans", "/admin/models", "/admin/providers")) and wanted.isprintable()
    return wanted if fine and len(wanted) < 300 else "/admin/models"


def _seen(effect: Effect) -> str:
    """What a preview showed, so that nothing else is applied."""
    return catalog_changes.fingerprint(msgspec.json.encode((effect.before, effect.after)))


def _number(form: SubmittedForm, name: str) -> int:
    text = form.text(name)
    if not text.isascii() or not text.isdecimal() or len(text) > 16:
        raise InvalidRequest(f"{name.replace('_', ' ')} is a whole number.", param=name)
    return int(text)
