"""Markdown as HTML: code in colour, tables that scroll, headings with anchors, and alternatives as tabs.

A block between ``::: tabs`` and ``:::`` becomes a tab, named by its language or its fence's title.
"""

import re
from html import escape

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.container import container_plugin
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name  # pyright: ignore[reportUnknownVariableType]: its options are not annotated
from pygments.util import ClassNotFound

from penstock.site.document_search import anchor_of


def render_markdown(source: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A page, and its second headings: anchor and text. HTML in ``source`` is shown as text."""
    markdown = MarkdownIt("commonmark", {"html": False, "highlight": None}).enable("table")
    markdown.use(anchors_plugin, min_level=2, max_level=3, slug_func=anchor_of)
    markdown.use(container_plugin, "tabs", render=_nothing)
    markdown.add_render_rule("fence", _fence)
    markdown.add_render_rule("code_inline", _name)
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", _table_close)
    tokens = markdown.parse(source)
    contents = tuple(
        (str(token.attrs["id"]), tokens[at + 1].content.replace("`", ""))
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2"
    )
    return markdown.renderer.render(_with_tabs(tokens), markdown.options, {}), contents


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


def _name(_renderer: RendererHTML, tokens: list[Token], index: int, _options: object, _env: object) -> str:
    """Code in a line; a long name may be broken after a dot or an underscore between its words."""
    return f"<code>{re.sub(r'(?<=[a-z][._])(?=[a-z])', '<wbr>', escape(tokens[index].content))}</code>"


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
