"""The documentation: Markdown files in the package, rendered with the reader's own address in every program.

In the files the service is at ``http://127.0.0.1:8484`` and the key is ``sk-ps-YOUR-KEY``, so that each block can be run as it
stands, which the tests do. Where a program names a model that the reader cannot call here, one that they can stands for it.
"""

import asyncio
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import msgspec
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from penstock.core.catalog import is_wildcard
from penstock.site.context import SiteContext
from penstock.site.contract import Contract, read_contract
from penstock.site.document_search import Section, search, sections
from penstock.site.error_pages import PageNotFound
from penstock.site.key_shown import PLACEHOLDER, key_shown
from penstock.site.session import viewer_of

ORIGIN = "http://127.0.0.1:8484"
"""What stands in the files for the service's own address."""


class DocumentEntry(msgspec.Struct, frozen=True):
    """A page of the documentation."""

    slug: str
    title: str


MENU: tuple[tuple[str, tuple[DocumentEntry, ...]], ...] = (
    (
        "Start",
        (
            DocumentEntry("quickstart", "Quick start"),
            DocumentEntry("authentication", "Authentication"),
            DocumentEntry("models", "Models and plans"),
            DocumentEntry("limits", "Limits and counting"),
            DocumentEntry("moving", "Moving here"),
        ),
    ),
    (
        "Clients",
        (
            DocumentEntry("claude-code", "Claude Code"),
            DocumentEntry("codex", "Codex"),
            DocumentEntry("cursor", "Cursor"),
            DocumentEntry("opencode", "opencode"),
            DocumentEntry("cline", "Cline and Kilo"),
            DocumentEntry("continue", "Continue"),
            DocumentEntry("aider", "aider"),
            DocumentEntry("editors", "All clients"),
        ),
    ),
    (
        "Libraries",
        (
            DocumentEntry("python", "Python"),
            DocumentEntry("javascript", "JavaScript"),
            DocumentEntry("ai-sdk", "AI SDK"),
            DocumentEntry("langchain", "LangChain"),
            DocumentEntry("pydantic-ai", "pydantic-ai"),
            DocumentEntry("llamaindex", "LlamaIndex"),
            DocumentEntry("llm", "llm"),
            DocumentEntry("curl", "curl"),
        ),
    ),
    (
        "Reference",
        (
            DocumentEntry("chat", "Chat Completions"),
            DocumentEntry("messages", "Messages"),
            DocumentEntry("responses", "Responses"),
            DocumentEntry("embeddings", "Embeddings"),
            DocumentEntry("formats", "Images, speech and more"),
            DocumentEntry("streaming", "Streaming"),
            DocumentEntry("translation", "Translation"),
            DocumentEntry("errors", "Errors"),
        ),
    ),
)
"""Every page, in the order in which they are read."""

ENTRIES = tuple(entry for _, entries in MENU for entry in entries)


class RenderedDocument(msgspec.Struct, frozen=True):
    """A rendered page. ``contents`` are its second headings: anchor and text."""

    html: Markup
    contents: tuple[tuple[str, str], ...]


class DocumentPages:
    """The pages under ``/docs``."""

    def __init__(self, context: SiteContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/docs", self.first),
            Route("/docs/api", self.reference),
            Route("/docs/api/admin", self.admin_reference),
            Route("/docs/search", self.search),
            Route("/docs/{slug}.md", self.markdown),
            Route("/docs/{slug}", self.page),
        ]

    async def first(self, _request: Request) -> Response:
        """Where to begin."""
        return RedirectResponse(f"/docs/{ENTRIES[0].slug}", status_code=302)

    async def page(self, request: Request) -> Response:
        """A page."""
        at, entry = _entry(request)
        document = await render_text(self._source(request, entry), self._context.pages.origin(request))
        # Which of their keys a reader has to put in: the one that they know by its beginning.
        shown = escape(await key_shown(self._context, request))
        return self._context.pages.render(
            request,
            "docs.html",
            {
                "page": entry,
                "menu": MENU,
                "content": document.html.replace(PLACEHOLDER, shown),
                "contents": document.contents,
                "before": ENTRIES[at - 1] if at else None,
                "after": ENTRIES[at + 1] if at + 1 < len(ENTRIES) else None,
            },
        )

    async def markdown(self, request: Request) -> Response:
        """The same page as it was written."""
        _, entry = _entry(request)
        text = self._source(request, entry).replace(ORIGIN, self._context.pages.origin(request))
        return PlainTextResponse(
            text, media_type="text/markdown; charset=utf-8", headers={"cache-control": "no-cache"}
        )

    def _source(self, request: Request, entry: DocumentEntry) -> str:
        """The page with models that the reader can call: by their plan, or by that of who signs up."""
        viewer, catalog = viewer_of(request), self._context.catalog()
        plan = self._context.sign_in.rules.first_plan if viewer is None else viewer.user.plan_id
        offered = [model.id for model in catalog.offered(plan, None, "chat") if not is_wildcard(model.id)]
        return _naming(_source(entry.slug), offered)

    async def search(self, request: Request) -> Response:
        """The sections of the documentation that have the words."""
        question = request.query_params.get("q", "").strip()[:200]
        more = {"menu": MENU, "question": question, "found": search(_index(), question)}
        return self._context.pages.render(request, "docs_search.html", more)

    async def reference(self, request: Request) -> Response:
        """The contract, route by route."""
        more = {"menu": MENU, "contract": _contract(admin=False), "admin": False}
        return self._context.pages.render(request, "reference.html", more)

    async def admin_reference(self, request: Request) -> Response:
        """The same of the admin API, for those who run the service."""
        more = {"menu": MENU, "contract": _contract(admin=True), "admin": True}
        return self._context.pages.render(request, "reference.html", more)


def _entry(request: Request) -> tuple[int, DocumentEntry]:
    for at, entry in enumerate(ENTRIES):
        if entry.slug == request.path_params["slug"]:
            return at, entry
    raise PageNotFound("There is no such page in the documentation.")


_NAMED = ("claude-sonnet-4.6", "claude-haiku-4.5", "deepseek-3.2")
"""The models that programs name in the files."""
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _naming(source: str, offered: Sequence[str]) -> str:
    """The source with models of ``offered`` in its programs, in place of those that are not among them."""
    missing = [name for name in _NAMED if name not in offered]
    if not missing or not offered:
        return source
    instead = {name: offered[at % len(offered)] for at, name in enumerate(missing)}
    name = re.compile("|".join(map(re.escape, missing)))
    return _FENCED.sub(lambda block: name.sub(lambda found: instead[found[0]], block[0]), source)


@cache
def _source(slug: str) -> str:
    return files("penstock.site").joinpath("docs", f"{slug}.md").read_text("utf-8")


@cache
def _index() -> tuple[Section, ...]:
    return tuple(one for entry in ENTRIES for one in sections(entry.slug, entry.title, _source(entry.slug)))


@cache
def _contract(*, admin: bool) -> Contract:
    return read_contract(files("penstock.site").joinpath("openapi.json").read_bytes(), admin=admin)


async def render_text(source: str, origin: str) -> RenderedDocument:
    """Markdown as a page, with ``origin`` as the service's address."""
    document = _documents.get(source)
    if document is None:
        # In a thread, because loading what renders it would hold up the streams for a tenth of a second.
        document = _documents[source] = await asyncio.to_thread(_rendered, source)
    html = document.html.replace(ORIGIN, escape(origin)) if origin != ORIGIN else document.html
    return RenderedDocument(Markup(html), document.contents)  # noqa: S704 - rendered from our files or the operator's, HTML off


_documents: dict[str, RenderedDocument] = {}
"""What was rendered before, by its source."""


def _rendered(source: str) -> RenderedDocument:
    from penstock.site.markdown import render_markdown  # noqa: PLC0415 - 3 MB that serving the API does not need

    html, contents = render_markdown(source)
    return RenderedDocument(Markup(html), contents)  # noqa: S704 - as above
