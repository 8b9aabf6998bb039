"""Public pages: landing, plans, models, status, terms, and what machines read about the service."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from penstock.core.catalog import Model, ModelKind, is_wildcard
from penstock.core.limits import day_of
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.ledger import rollups
from penstock.domain.ledger.rollups import ModelDay
from penstock.operations.model_endings import ModelEnding, end_of, told_to_all
from penstock.site.context import SiteContext
from penstock.site.document_pages import MENU, render_text
from penstock.site.error_pages import PageNotFound
from penstock.site.pages import day
from penstock.site.snippets import SAMPLES, first_commands
from penstock.site.status_feed import status_feed

STATUS_DAYS = 90
STATUS_SECONDS = 60.0
"""How long the figures of the status page are kept before they are counted again."""
TEXTS = {"terms": "Terms", "privacy": "Privacy", "changelog": "Changelog"}
"""Pages that the operator may replace by ``DATA/pages/NAME.md``."""


class Listed(msgspec.Struct, frozen=True):
    """A model as the public pages show it."""

    id: str
    name: str
    context: int | None
    output: int | None
    takes: tuple[str, ...]
    plans: tuple[str, ...]
    aliases: tuple[str, ...]
    served: bool
    kind: ModelKind
    formats: str
    ends: str
    """The first day on which nothing serves it, '' where none is known; ``successor`` follows."""
    successor: str
    picks: tuple[str, ...] = ()
    """Of a model that picks others: those that are served, in its order."""


class Uptime(msgspec.Struct, frozen=True):
    """A model's line on the status page. ``said`` is the line for who hears it."""

    model: str
    states: tuple[str, ...]
    answered: str
    first_byte: int | None
    said: str


class PublicPages:
    """The pages of everybody."""

    def __init__(self, context: SiteContext, texts: Path) -> None:
        """``texts`` is the directory of the operator's own versions of ``TEXTS``."""
        self._context = context
        self._texts = texts
        self._status: tuple[float, list[Uptime]] = (0.0, [])

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/", self.home),
            Route("/pricing", self.pricing),
            Route("/models", self.models),
            Route("/models/{id:path}", self.model),
            Route("/status", self.status),
            Route("/status.json", self.status_for_machines),
            Route("/status.atom", self.status_for_readers),
            *(Route(f"/{name}", self.text) for name in TEXTS),
            Route("/llms.txt", self.llms),
            Route("/openapi.json", self.openapi),
            Route("/robots.txt", self.robots),
        ]

    async def home(self, request: Request) -> Response:
        """The landing page."""
        catalog = self._context.catalog()
        models = _served(catalog)
        base = f"{self._context.pages.origin(request)}/api/v1"
        first = next(
            (
                model
                for plan in catalog.plans.values()
                for model in plan.models
                if model in models and catalog.models[model].chats
            ),
            None,
        )
        samples = first_commands(base, "sk-ps-YOUR-KEY", first)
        more = {
            "models": models,
            "plans": list(catalog.plans.values()),
            "samples": samples,
            "landing": await self._own_landing(request),
        }
        return self._context.pages.render(request, "home.html", more)

    async def _own_landing(self, request: Request) -> Markup | None:
        """The operator's words in place of ours, where there are any."""
        own = self._texts / "landing.md"
        if not own.is_file():
            return None
        source = own.read_text("utf-8").replace("{{brand}}", self._context.sign_in.rules.brand)
        return (await render_text(source, self._context.pages.origin(request))).html

    async def pricing(self, request: Request) -> Response:
        """The plans, side by side."""
        catalog = self._context.catalog()
        served = _served(catalog)
        more = {
            "models": served,
            "plans": list(catalog.plans.values()),
            "all_models": [model for model in catalog.models if model in served],
        }
        return self._context.pages.render(request, "pricing.html", more)

    async def models(self, request: Request) -> Response:
        """All models."""
        catalog = self._context.catalog()
        listed = [_listed(catalog, model) for model in catalog.models.values()]
        more = {"listed": [it for it in listed if it.served], "idle": [it for it in listed if not it.served]}
        return self._context.pages.render(request, "models.html", more)

    async def model(self, request: Request) -> Response:
        """One model."""
        catalog = self._context.catalog()
        model = catalog.models.get(request.path_params["id"])
        if model is None:
            raise PageNotFound("There is no model of this name.")
        base = f"{self._context.pages.origin(request)}/api/v1"
        samples = first_commands if model.chats else SAMPLES[model.kind]
        more = {
            "model": _listed(catalog, model),
            "samples": samples(base, "sk-ps-YOUR-KEY", model.id),
        }
        return self._context.pages.render(request, "model.html", more)

    async def status(self, request: Request) -> Response:
        """How the models have done, from our own ledger."""
        context = self._context
        return context.pages.render(request, "status.html", self._told(await self._uptimes()))

    async def status_for_machines(self, _request: Request) -> Response:
        """The same as JSON: what staff say, and how the models have done today."""
        board = self._context.board
        told = {
            "incidents": [msgspec.to_builtins(it) for it in board.incidents],
            "models": [
                {"id": row.model, "answered": row.answered, "today": row.states[-1]}
                for row in await self._uptimes()
            ],
            "endings": [msgspec.to_builtins(it) for it in self._endings()],
        }
        return Response(
            msgspec.json.encode(told), media_type="application/json", headers={"cache-control": "no-cache"}
        )

    async def status_for_readers(self, request: Request) -> Response:
        """What staff say, and which models end, for readers of feeds."""
        context = self._context
        origin, brand = context.pages.origin(request), context.sign_in.rules.brand
        body = status_feed(brand, origin, context.board.incidents, self._endings(), now=context.now())
        return Response(body, media_type="application/atom+xml", headers={"cache-control": "no-cache"})

    def _endings(self) -> list[ModelEnding]:
        today = datetime.fromtimestamp(self._context.clock(), UTC).date()
        return told_to_all(self._context.catalog(), today)

    async def _uptimes(self) -> list[Uptime]:
        context = self._context
        counted_at, rows = self._status
        if context.clock() - counted_at > STATUS_SECONDS:
            today = day_of(context.clock())
            days = range(today - STATUS_DAYS + 1, today + 1)
            async with context.database.connect() as conn:
                rows = _uptimes(await rollups.models_by_day(conn, days), days)
            self._status = (context.clock(), rows)
        return rows

    def _told(self, rows: Sequence[Uptime]) -> dict[str, object]:
        today = day_of(self._context.clock())
        return {
            "rows": rows,
            "days": STATUS_DAYS,
            "first_day": day(today - STATUS_DAYS + 1),
            "last_day": day(today),
            "good": round(100 * _GOOD),
            "fair": round(100 * _FAIR),
            "used_today": [row.model for row in rows if row.states[-1] != "none"],
            "troubled": [row.model for row in rows if row.states[-1] in {"warn", "bad"}],
            "open_incidents": self._context.board.open(),
            "endings": self._endings(),
            "past_incidents": [it for it in self._context.board.incidents if it.resolved_at is not None],
        }

    async def text(self, request: Request) -> Response:
        """Terms, privacy, changelog: ours, or the operator's own."""
        name = request.url.path.strip("/")
        own = self._texts / f"{name}.md"
        source = (
            own.read_text("utf-8")
            if own.is_file()
            else files("penstock.site").joinpath("texts", f"{name}.md").read_text("utf-8")
        )
        brand = self._context.sign_in.rules.brand
        content = await render_text(source.replace("{{brand}}", brand), self._context.pages.origin(request))
        more = {"heading": TEXTS[name], "content": content.html}
        return self._context.pages.render(request, "text.html", more)

    # ---- for machines

    async def llms(self, request: Request) -> Response:
        """What a model that helps somebody needs to know, and where the rest is."""
        origin = self._context.pages.origin(request)
        catalog = self._context.catalog()
        lines = [
            f"# {self._context.sign_in.rules.brand}",
            "",
            "> Many language models behind one base URL, in the formats of OpenAI (Chat Completions, Responses) and Anthropic",
            "> (Messages), and embeddings in OpenAI's, within the limits of a plan.",
            "",
            f"- Base URL: {origin}/api/v1",
            "- Key: in `Authorization: Bearer` or `x-api-key`; keys begin with `sk-ps-`",
            f"- Models: {', '.join(_served(catalog))}",
            f"- Contract: {origin}/openapi.json",
        ]
        for group, entries in MENU:
            lines += ["", f"## {group}", ""]
            lines += [f"- [{entry.title}]({origin}/docs/{entry.slug}.md)" for entry in entries]
        return PlainTextResponse("\n".join(lines) + "\n", headers={"cache-control": "no-cache"})

    async def openapi(self, request: Request) -> Response:
        """The contract of the API, with this service's own address."""
        text = files("penstock.site").joinpath("openapi.json").read_text("utf-8")
        body = text.replace("http://127.0.0.1:8484", self._context.pages.origin(request))
        return Response(body, media_type="application/json", headers={"cache-control": "no-cache"})

    async def robots(self, _request: Request) -> Response:
        """What search engines may read."""
        hidden = ("/dashboard", "/keys", "/requests", "/slots", "/settings", "/plan", "/api", "/v1")
        base = self._context.pages.base_path
        lines = ["User-agent: *", *(f"Disallow: {base}{path}" for path in hidden)]
        return PlainTextResponse("\n".join(lines) + "\n")


def _served(catalog: Catalog) -> list[str]:
    return [
        model.id for model in catalog.models.values() if catalog.served(model) and not is_wildcard(model.id)
    ]


def _listed(catalog: Catalog, model: Model) -> Listed:
    able, chats = model.capabilities, model.chats
    takes = (
        ("text", True),
        ("images", able.vision),
        ("documents", able.documents),
        ("tools", able.tools and chats),
        ("reasoning", able.thinking != "none"),
        ("structured output", able.structured_output),
    )
    return Listed(
        id=model.id,
        name=model.name,
        context=model.context_tokens,
        output=model.max_output_tokens,
        takes=tuple(name for name, has in takes if has),
        plans=tuple(plan.name for plan in catalog.plans.values() if model.id in plan.models),
        aliases=model.aliases,
        served=catalog.served(model),
        kind=model.kind,
        formats=_FORMATS[model.kind],
        ends=end_of(catalog, model),
        successor=model.successor,
        picks=tuple(name for name in model.auto if (one := catalog.models.get(name)) and catalog.served(one)),
    )


_FORMATS: Mapping[ModelKind, str] = {
    "chat": "Chat Completions, Responses, Messages",
    "embedding": "Embeddings: vectors, not answers",
    "completion": "Completions: a text that goes on",
    "image": "Images: a text goes in, images come out",
    "transcription": "Transcriptions: a recording goes in, its text comes out",
    "speech": "Speech: a text goes in, sound comes out",
    "rerank": "Rerank: documents in order, with scores",
    "moderation": "Moderations: what is objectionable in a text",
}


def _uptimes(rows: Sequence[ModelDay], days: range) -> list[Uptime]:
    by_model: dict[str, dict[int, ModelDay]] = {}
    for row in rows:
        by_model.setdefault(row.model, {})[row.day] = row
    return [_uptime(model, found, days) for model, found in sorted(by_model.items())]


def _uptime(model: str, found: dict[int, ModelDay], days: range) -> Uptime:
    asked = sum(row.requests for row in found.values())
    failed = sum(row.trouble for row in found.values())
    answered = f"{100 * (asked - failed) / asked:.2f}%" if asked else "-"
    waits = [row.first_byte_ms for row in found.values() if row.first_byte_ms is not None]
    first = datetime.fromtimestamp(days.start * 86_400, UTC).strftime("%Y-%m-%d")
    bad = [day(number) for number in found if _state(found[number]) == "bad"]
    said = f"{model} since {first}: {answered} answered" + (f"; trouble on {', '.join(bad)}" if bad else "")
    states = tuple(_state(found.get(number)) for number in days)
    return Uptime(model, states, answered, int(sum(waits) / len(waits)) if waits else None, said)


_GOOD = 0.02
_FAIR = 0.2
"""Shares of a day's requests that failed, up to which it was good or had some trouble."""


def _state(row: ModelDay | None) -> str:
    if row is None or not row.requests:
        return "none"
    share = row.trouble / row.requests
    return "good" if share < _GOOD else "warn" if share < _FAIR else "bad"
