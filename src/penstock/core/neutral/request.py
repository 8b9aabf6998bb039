"""The neutral form between dialects: requests as block-ordered turns, replies as events, and what they add up to (``fold.py``).

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


class Text(Part, frozen=True):
    """Text of any role."""

    text: str
    cache: CacheTtl | None = None


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


class ToolResult(Part, frozen=True):
    """What the caller's tool gave back."""

    call_id: str
    parts: tuple["Text | Image | Document", ...] = ()
    is_error: bool = False
    cache: CacheTtl | None = None


AnyPart = Text | Image | Document | Thought | ToolCall | ToolResult
Role = Literal["system", "user", "assistant"]


class Turn(msgspec.Struct, frozen=True):
    """One message. System turns may stand anywhere; the leading ones are the system prompt."""

    role: Role
    parts: tuple[AnyPart, ...]


class CallerName(msgspec.Struct, frozen=True):
    """What a caller calls a tool: its ``name`` in its ``namespace``; ``custom`` ones take free text, not JSON."""

    name: str
    namespace: str | None = None
    custom: bool = False


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


class Loss(msgspec.Struct, frozen=True):
    """A field that was carried in reduced form or not at all: told in ``X-Penstock-Translation``.

    ``field`` is the caller's own name for it (``top_k``, ``messages.tool_result.image``), ``outcome`` one word or a short
    form such as ``dropped``, ``moved``, ``clamped(1.7->1)``; never a value that could hold prompt text.
    """

    field: str
    outcome: str


class Usage(msgspec.Struct, frozen=True):
    """Tokens as a disjoint partition; None is unknown, which is not 0. Total input = input + cache_read + cache_write."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    """The part of ``output`` that was reasoning."""
    cache_write_1h: int | None = None
    """The part of ``cache_write`` with the one-hour lifetime."""


StopReason = Literal[
    "end_turn", "max_tokens", "context_window", "stop_sequence", "tool_use", "refusal", "pause_turn"
]


class Event(msgspec.Struct, frozen=True, tag=True, gc=False):
    """One step of a reply.

    Order: ``Started`` first; then text, thoughts and calls, one block at a time (an event of another kind, or a second
    ``CallOpened`` or a ``ThoughtSigned``, closes the block before it); ``Metered`` anywhere, the last one counts; then
    ``Stopped`` or ``Failed`` exactly once, last. A reader that meets interleaved calls puts them in this order.
    """


class Started(Event, frozen=True, gc=False):
    """The upstream has begun to answer; ``id`` is the upstream's own reply id ('' when it gave none)."""

    id: str
    model: str


class TextDelta(Event, frozen=True, gc=False):
    """Some text, never empty."""

    text: str


class ThoughtDelta(Event, frozen=True, gc=False):
    """Some reasoning text, never empty."""

    text: str


class ThoughtSigned(Event, frozen=True, gc=False):
    """The signature of the open thought (or of one with no text); closes it."""

    signature: str


class ThoughtRedacted(Event, frozen=True, gc=False):
    """A whole redacted thought block."""

    data: str


class CallOpened(Event, frozen=True, gc=False):
    """A tool call begins. ``namespace`` and ``custom`` are known where the name is the caller's own."""

    id: str
    name: str
    namespace: str | None = None
    custom: bool = False


class CallArgs(Event, frozen=True, gc=False):
    """A fragment of the open call's arguments as JSON text, never empty. A call with none has the arguments ``{}``."""

    fragment: str


class Cited(Event, frozen=True, gc=False):
    """A citation of the text just given, as the web page it names."""

    url: str
    title: str
    cited_text: str = ""


class Metered(Event, frozen=True, gc=False):
    """Token counts so far; cumulative, the last one is final. A None field leaves the earlier value."""

    usage: Usage


class Stopped(Event, frozen=True, gc=False):
    """The reply ended as the dialect says it must. ``detail`` explains a refusal."""

    reason: StopReason
    stop_sequence: str | None = None
    detail: str | None = None


class Failed(Event, frozen=True, gc=False):
    """The upstream broke off or reported an error inside the stream; ``kind`` is an Anthropic error type word.

    ``message`` is the upstream's own text, for the operator; ``truncated`` is True when the stream just ended.
    """

    kind: str
    message: str
    truncated: bool = False


AnyEvent = (
    Started
    | TextDelta
    | ThoughtDelta
    | ThoughtSigned
    | ThoughtRedacted
    | CallOpened
    | CallArgs
    | Cited
    | Metered
    | Stopped
    | Failed
)


class Reply(msgspec.Struct, frozen=True):
    """A whole reply: what its events add up to."""

    id: str
    model: str
    parts: tuple[AnyPart, ...]
    usage: Usage
    reason: StopReason | None
    stop_sequence: str | None = None
    detail: str | None = None
    citations: tuple[Cited, ...] = ()
    cited: tuple[int, ...] = ()
    """For each citation which of ``parts`` it belongs to."""
    failure: Failed | None = None


def merge_usage(before: Usage, after: Usage) -> Usage:
    """The later counts, keeping an earlier one where the later is unknown."""
    return Usage(
        input=before.input if after.input is None else after.input,
        output=before.output if after.output is None else after.output,
        cache_read=before.cache_read if after.cache_read is None else after.cache_read,
        cache_write=before.cache_write if after.cache_write is None else after.cache_write,
        reasoning=before.reasoning if after.reasoning is None else after.reasoning,
        cache_write_1h=before.cache_write_1h if after.cache_write_1h is None else after.cache_write_1h,
    )
