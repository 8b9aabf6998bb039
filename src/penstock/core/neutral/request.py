"""A request in the neutral form: block-ordered turns, tools and options.

It is ordered like Anthropic Messages because that is the richest of the three; Chat and Responses are projections of it.
It is closed: no vendor fields and no bag of extras. What a dialect cannot say is reported as a ``Loss``, never silently
dropped. JSON that only passes through (a tool's schema, a call's arguments) stays the caller's own bytes as
``msgspec.Raw`` or text, so that nothing is reformatted and the same request always gives the same upstream body.
"""

from typing import Literal

import msgspec

BILLING_PREFIX = "x-anthropic-billing-header:"
"""Begins a system text of Claude Code's whose hash changes with every request and would defeat every prompt cache."""


class Part(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """One block of a turn."""


CacheTtl = Literal["5m", "1h"]
"""A prompt-cache mark on a block: everything up to and including it is to be cached this long."""


class Citation(msgspec.Struct, frozen=True):
    """A web page that a text cites."""

    url: str
    title: str = ""
    cited_text: str = ""


class Text(Part, frozen=True):
    """Text of any role; ``cites`` are the pages that an assistant's text cites."""

    text: str
    cache: CacheTtl | None = None
    cites: tuple[Citation, ...] = ()


class Image(Part, frozen=True):
    """An image: either ``url`` (http/https, never fetched by us) or ``media_type`` and base64 ``data``."""

    url: str | None = None
    media_type: str | None = None
    data: str | None = None
    detail: str | None = None
    cache: CacheTtl | None = None


class Document(Part, frozen=True):
    """A document: ``url``, or ``media_type`` (``application/pdf``, ``text/plain``) with base64 (pdf) or plain ``data``."""

    url: str | None = None
    media_type: str | None = None
    data: str | None = None
    title: str | None = None
    cache: CacheTtl | None = None


class Thought(Part, frozen=True):
    """Reasoning the model showed, or only its ``signature``; ``redacted`` holds the opaque data of a redacted block."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


class ToolCall(Part, frozen=True):
    """The model's call of a tool; ``arguments`` is the JSON text of an object, as the model wrote it."""

    id: str
    name: str
    arguments: str
    cache: CacheTtl | None = None
    namespace: str | None = None
    """Of the tool, where ``name`` is the caller's own (see ``CallOpened``)."""
    custom: bool = False
    """The caller's tool takes free text: ``arguments`` is ``{"input": "the text"}``."""
    kind: str = ""
    """The type of the caller's tool, where its calls have a form of their own (see ``CallerName``)."""


class ToolResult(Part, frozen=True):
    """What the caller's tool gave back."""

    call_id: str
    parts: tuple["Text | Image | Document", ...] = ()
    is_error: bool = False
    cache: CacheTtl | None = None


class Page(msgspec.Struct, frozen=True):
    """A web page that was found or fetched; ``text`` is as much of it as can be read."""

    url: str
    title: str = ""
    text: str = ""


HostedKind = Literal["search", "fetch", "code", "mcp", "other"]


class Hosted(Part, frozen=True):
    """What a tool did that the provider itself ran: the call, and what came of it.

    ``input`` is the JSON text of an object. ``raw`` is what its maker wants back, as JSON text, where the rest does not say it
    all: it goes to that provider alone, behind its mark as a signature does.
    """

    kind: HostedKind
    id: str
    name: str
    input: str = "{}"
    pages: tuple[Page, ...] = ()
    output: str = ""
    failed: bool = False
    server: str = ""
    raw: str = ""
    cache: CacheTtl | None = None


AnyPart = Text | Image | Document | Thought | ToolCall | ToolResult | Hosted
Role = Literal["system", "user", "assistant"]


class Turn(msgspec.Struct, frozen=True):
    """One message. System turns may stand anywhere; the leading ones are the system prompt."""

    role: Role
    parts: tuple[AnyPart, ...]


class CallerName(msgspec.Struct, frozen=True):
    """What a caller calls a tool: its ``name`` in its ``namespace``; ``custom`` ones take free text, not JSON.

    ``kind`` is the tool's type where the caller runs it and its calls have a form of their own in the caller's dialect.
    """

    name: str
    namespace: str | None = None
    custom: bool = False
    kind: str = ""


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call. ``schema`` is the JSON Schema of its arguments, byte for byte as the caller wrote it."""

    name: str
    schema: msgspec.Raw
    description: str | None = None
    strict: bool | None = None
    cache: CacheTtl | None = None
    caller: CallerName | None = None
    """What the caller calls it, where that is not just ``name``; ``core/tools/names.py`` restores it in answers."""


class ToolChoice(msgspec.Struct, frozen=True):
    """``auto``, ``any`` (some tool must be called), ``none``, or ``tool`` with its ``name``."""

    mode: Literal["auto", "any", "none", "tool"]
    name: str | None = None


class Thinking(msgspec.Struct, frozen=True):
    """How the model is asked to reason. ``budget`` (tokens) goes with ``enabled``; ``shown`` False: signatures only."""

    mode: Literal["enabled", "adaptive", "disabled"]
    budget: int | None = None
    shown: bool | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    """Structured output: any JSON object (``schema`` None) or one that fits ``schema``."""

    schema: msgspec.Raw | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Request(msgspec.Struct, frozen=True):
    """A whole generation request."""

    model: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    effort: Effort | None = None
    thinking: Thinking | None = None
    output: OutputFormat | None = None
    user: str | None = None
    web_search: bool = False
    """The provider's own web search was offered to the model; no neutral tool stands for it."""
    verbosity: str | None = None
    service_tier: str | None = None
    cache_key: str | None = None
    cache_retention: str | None = None
    metadata: msgspec.Raw | None = None
    """What both of OpenAI's formats have in the same words: ``text.verbosity``, ``service_tier``, ``prompt_cache_key``,
    ``prompt_cache_retention``, ``metadata``."""
    logprobs: bool = False
    """Log probabilities of the answer's tokens are wanted, and of ``top_logprobs`` others at each place."""
    top_logprobs: int | None = None


MOST_LOSSES = 64
"""Losses that are gathered of one request: more than can be told. What a caller writes beyond them is dropped all the same."""


class Loss(msgspec.Struct, frozen=True):
    """A field that was carried in reduced form or not at all; ``X-Penstock-Translation`` reports it.

    ``field`` is the caller's own name for it (``top_k``, ``messages.tool_result.image``), ``outcome`` one word or a short
    form such as ``dropped``, ``moved``, ``clamped(1.7->1)``; never a value that could hold prompt text.
    """

    field: str
    outcome: str
