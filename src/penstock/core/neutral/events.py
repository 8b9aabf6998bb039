"""Events of a reply in the neutral form, in their order, and the whole reply that they add up to (``neutral/fold.py``)."""

from typing import Literal

import msgspec

from penstock.core.neutral.request import AnyPart, Hosted
from penstock.core.neutral.usage import Usage

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


class Scored(Event, frozen=True, gc=False):
    """Log probabilities of the tokens of the text that comes next, as both of OpenAI's formats write them.

    ``tokens`` is JSON: the entries of the list, with commas between them, never empty.
    """

    tokens: str


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
    """A tool call begins. ``namespace``, ``custom`` and ``kind`` are known where the name is the caller's own."""

    id: str
    name: str
    namespace: str | None = None
    custom: bool = False
    kind: str = ""


class CallArgs(Event, frozen=True, gc=False):
    """A fragment of the open call's arguments as JSON text, never empty. A call with none has the arguments ``{}``."""

    fragment: str


class Cited(Event, frozen=True, gc=False):
    """A citation of the text just given, as the web page it names."""

    url: str
    title: str
    cited_text: str = ""


class HostedUsed(Event, frozen=True, gc=False):
    """A tool that the provider ran has done what it does; told whole, between other blocks."""

    part: Hosted


class Metered(Event, frozen=True, gc=False):
    """Token counts so far; cumulative, the last one is final. A None field leaves the earlier value."""

    usage: Usage


class Stopped(Event, frozen=True, gc=False):
    """The reply ended as the dialect says it must. ``detail`` explains a refusal; ``service_tier`` served it."""

    reason: StopReason
    stop_sequence: str | None = None
    detail: str | None = None
    service_tier: str | None = None


class Failed(Event, frozen=True, gc=False):
    """The upstream broke off, reported an error, or cannot be understood; ``kind`` is an Anthropic error type word.

    ``message`` is the upstream's own text, for the operator, or ours. ``truncated`` is True when the stream just ended,
    ``garbled`` when what came is no answer and no error of the dialect.
    """

    kind: str
    message: str
    truncated: bool = False
    garbled: bool = False


def garbled(message: str) -> Failed:
    """The failure of an upstream whose answer cannot be read; ``message`` says what of it."""
    return Failed("api_error", message, garbled=True)


AnyEvent = (
    Started
    | TextDelta
    | Scored
    | ThoughtDelta
    | ThoughtSigned
    | ThoughtRedacted
    | CallOpened
    | CallArgs
    | Cited
    | HostedUsed
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
    scores: tuple[tuple[int, str], ...] = ()
    """Log probabilities: which of ``parts`` they belong to, and the entries as ``Scored`` has them."""
    service_tier: str | None = None
