"""A summary in place of a conversation: what a model is told that is to write one, and what of its answer is let through.

Some clients have a conversation compacted by whom they take for their vendor. Where the upstream has no such thing, the
model writes a summary, which the dialect hands to the caller as the item that stands for the conversation from then on.
"""

import base64
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from penstock.core.dialects.forms import Form
from penstock.core.dialects.interface import EventDecoder
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.request import Request, Text, ToolChoice, Turn

INSTRUCTION = (
    "This conversation is about to be replaced by a summary, which you write now. Whoever goes on with the work will have "
    "nothing else of it. Answer with the summary alone and call no tools. Say what the user asked for and every instruction "
    "that still holds; what was done and decided, with the names of files, commands, values and errors that matter; what is "
    "still open; and what comes next."
)
"""The last words of the user in a turn that writes a summary."""
INTRODUCTION = "This is a summary of the conversation so far, which took its place:\n\n"
"""Stands before a summary that comes back."""
UNREADABLE = (
    "[An earlier part of this conversation was compacted by another provider and cannot be read here.]"
)
"""Stands in place of what only its maker can read."""

SEALED = "gwc1."
"""Begins a summary in the coded form in which a caller keeps it."""


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    text: str


_encode = msgspec.json.Encoder().encode
_sealed = msgspec.json.Decoder(_Sealed).decode


def sealed_summary(text: str) -> str:
    """A summary in the form in which a caller keeps it, and sends it back to any model."""
    return SEALED + base64.urlsafe_b64encode(_encode(_Sealed(text))).decode("ascii").rstrip("=")


def opened_summary(sealed: str | None) -> str | None:
    """The summary in what came back; None where it is not ours."""
    if sealed is None or not sealed.startswith(SEALED):
        return None
    text = sealed.removeprefix(SEALED)
    try:
        return _sealed(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)).text
    except ValueError:
        return None


_LEFT_OUT = ThoughtDelta | ThoughtSigned | ThoughtRedacted | CallOpened | CallArgs | Cited


def summarising(request: Request) -> Request:
    """The request that has the conversation of ``request`` summarised. Tools stay, because calls of them are in it."""
    return replace(
        request,
        turns=(*request.turns, Turn("user", (Text(INSTRUCTION),))),
        tool_choice=ToolChoice("none") if request.tools else None,
        output=None,
        web_search=False,
    )


class SummaryText:
    """Lets the text of an answer through alone. One without any, or one that was cut, is a failure."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said = False

    def of(self, events: Iterable[AnyEvent]) -> list[AnyEvent]:
        """What is let through of ``events``."""
        kept: list[AnyEvent] = []
        for event in events:
            if isinstance(event, _LEFT_OUT):
                continue
            self._said = self._said or isinstance(event, TextDelta)
            kept.append(self._end(event) if isinstance(event, Stopped) else event)
        return kept

    def _end(self, event: Stopped) -> Stopped | Failed:
        if event.reason in ("max_tokens", "context_window"):
            return Failed("api_error", "the summary did not fit into the answer")
        if not self._said or event.reason == "refusal":
            return Failed("api_error", "the model gave no summary")
        return event


class SummaryDecoder:
    """Decodes a stream of which the text alone is let through."""

    __slots__ = ("_decoder", "_text")

    def __init__(self, decoder: EventDecoder) -> None:
        self._decoder = decoder
        self._text = SummaryText()

    @property
    def answered(self) -> str:
        """The model that the answer names."""
        return self._decoder.answered

    def feed(self, data: bytes) -> list[AnyEvent]:
        """Events of these bytes."""
        return self._text.of(self._decoder.feed(data))

    def finish(self) -> list[AnyEvent]:
        """Events of the end."""
        return self._text.of(self._decoder.finish())

    def form_of(self, raw: bytes) -> Form | None:  # noqa: ARG002 - as EventDecoder has it
        """None: every frame is read, since a piece may be reasoning."""
        return None
