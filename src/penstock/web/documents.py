"""The documentation: Markdown files in the package, rendered with the reader's own address in every program.

In the files the service is at ``http://127.0.0.1:8484`` and the key is ``sk-ps-YOUR-KEY``, so that each block can be run as it
stands, which the tests do. A block between ``::: tabs`` and ``:::`` becomes a tab, named by its language or its fence's title.
"""

import re
from functools import cache
from html import escape
from importlib.resources import files

import msgspec
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.container import container_plugin
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name  # pyright: ignore[reportUnknownVariableType]: its options are not annotated
from pygments.util import ClassNotFound
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from penstock.web.context import SiteContext
from penstock.web.errors_pages import PageNotFound

ORIGIN = "http://127.0.0.1:8484"
"""What stands in the files for the service's own address."""


class Entry(msgspec.Struct, frozen=True):
    """A page of the documentation."""

    slug: str
    title: str


MENU: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Start",
        (
            Entry("quickstart", "Quick start"),
            Entry("authentication", "Authentication"),
            Entry("models", "Models and plans"),
            Entry("limits", "Limits and counting"),
        ),
    ),
    (
        "Clients",
        (
            Entry("claude-code", "Claude Code"),
            Entry("codex", "Codex"),
            Entry("editors", "Editors and agents"),
            Entry("python", "Python"),
            Entry("javascript", "JavaScript"),
            Entry("curl", "curl"),
        ),
    ),
    (
        "Reference",
        (
            Entry("chat", "Chat Completions"),
            Entry("messages", "Messages"),
            Entry("responses", "Responses"),
            Entry("streaming", "Streaming"),
            Entry("translation", "Translation"),
            Entry("errors", "Errors"),
        ),
    ),
)
"""Every page, in the order in which they are read."""

ENTRIES = tuple(entry for _, entries in MENU for entry in entries)


class Document(msgspec.Struct, frozen=True):
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
            Route("/docs/{slug}.md", self.markdown),
            Route("/docs/{slug}", self.page),
        ]

    async def first(self, _request: Request) -> Response:
        """Where to begin."""
        return RedirectResponse(f"/docs/{ENTRIES[0].slug}", status_code=302)

    async def page(self, request: Request) -> Response:
        """A page."""
        at, entry = _entry(request)
        document = render_text(_source(entry.slug), self._context.pages.origin(request))
        return self._context.pages.render(
            request,
            "docs.html",
            {
                "page": entry,
                "menu": MENU,
                "content": document.html,
                "contents": document.contents,
                "before": ENTRIES[at - 1] if at else None,
                "after": ENTRIES[at + 1] if at + 1 < len(ENTRIES) else None,
            },
        )

    async def markdown(self, request: Request) -> Response:
        """The same page as it was written."""
        _, entry = _entry(request)
        text = _source(entry.slug).replace(ORIGIN, self._context.pages.origin(request))
        return PlainTextResponse(
            text, media_type="text/markdown; charset=utf-8", headers={"cache-control": "no-cache"}
        )

    async def reference(self, request: Request) -> Response:
        """The contract, route by route."""
        return self._context.pages.render(request, "reference.html")


def _entry(request: Request) -> tuple[int, Entry]:
    for at, entry in enumerate(ENTRIES):
        if entry.slug == request.path_params["slug"]:
            return at, entry
    raise PageNotFound("There is no such page in the documentation.")


@cache
def _source(slug: str) -> str:
    return files("penstock.web").joinpath("docs", f"{slug}.md").read_text("utf-8")


def render_text(source: str, origin: str) -> Document:
    """Markdown as a page, with ``origin`` as the service's address."""
    document = _rendered(source)
    html = document.html.replace(ORIGIN, origin) if origin != ORIGIN else document.html
    return Document(Markup(html), document.contents)  # noqa: S704 - rendered from our files or the operator's, HTML off


@cache
def _rendered(source: str) -> Document:
    markdown = MarkdownIt("commonmark", {"html": False, "highlight": None}).enable("table")
    markdown.use(anchors_plugin, min_level=2, max_level=3, slug_func=_anchor)
    markdown.use(container_plugin, "tabs", render=_nothing)
    markdown.add_render_rule("fence", _fence)
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", _table_close)
    tokens = markdown.parse(source)
    contents = tuple(
        (str(token.attrs["id"]), tokens[at + 1].content.replace("`", ""))
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2"
    )
    html = markdown.renderer.render(_with_tabs(tokens), markdown.options, {})
    return Document(Markup(html), contents)  # noqa: S704 - as above


def _with_tabs(tokens: list[Token]) -> list[Token]:
    """The fences of each ``tabs`` container as one block."""
    out: list[Token] = []
    inside: list[Token] | None = None
    for token in tokens:
        if token.type == "container_tabs_open":
            inside = []
        elif token.type == "container_tabs_close" and inside is not None:
            out.append(Token("html_block", "", 0, content=_tabs(inside, len(out))))
            inside = None
        elif inside is not None:
            inside += [token] if token.type == "fence" else []
        else:
            out.append(token)
    return out


_NAMES = {
    "sh": "Shell",
    "python": "Python",
    "javascript": "JavaScript",
    "json": "JSON",
    "toml": "TOML",
    "powershell": "PowerShell",
}


def _tabs(fences: list[Token], number: int) -> str:
    labels, panels = "", ""
    for at, fence in enumerate(fences):
        language, _, title = fence.info.strip().partition(" ")
        name = escape(title or _NAMES.get(language, language))
        checked = " checked" if at == 0 else ""
        labels += f'<label><input type="radio" name="tab-{number}" value="{name}"{checked}>{name}</label>'
        panels += f'<div class="panel">{_code(fence.content, language)}</div>'
    names = f'<div class="names" role="radiogroup" aria-label="Language">{labels}</div>'
    return f'<div class="tabs">{names}{panels}</div>'


_FORMATTER: HtmlFormatter[str] = HtmlFormatter(nowrap=True)
_COPY = (
    '<button type="button" class="plain" data-copy hidden><svg class="icon" viewBox="0 0 20 20" aria-hidden="true">'
    '<rect x="7" y="7" width="9" height="9" rx="1.5"/><path d="M13 4.500H6A1.500 1.500 0 0 0 4.500 6v7"/></svg>'
    '<span class="hidden-text" data-said aria-live="polite">Copy</span></button>'
)


def _code(text: str, language: str) -> str:
    try:
        lexer = get_lexer_by_name(language or "text")
        inner = highlight(text, lexer, _FORMATTER)
    except ClassNotFound:
        inner = escape(text)
    return f'<div class="snippet"><pre tabindex="0"><code class="highlight">{inner}</code></pre>{_COPY}</div>'


def _fence(_renderer: RendererHTML, tokens: list[Token], index: int, _options: object, _env: object) -> str:
    token = tokens[index]
    return _code(token.content, token.info.strip().partition(" ")[0])


def _table_open(
    _renderer: RendererHTML, _tokens: list[Token], _index: int, _options: object, _env: object
) -> str:
    return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>\n'


def _table_close(
    _renderer: RendererHTML, _tokens: list[Token], _index: int, _options: object, _env: object
) -> str:
    return "</table></div>\n"


def _nothing(
    _renderer: RendererHTML, _tokens: list[Token], _index: int, _options: object, _env: object
) -> str:
    return ""


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
