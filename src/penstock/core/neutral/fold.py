"""Folding: events are added up into a whole reply, and a whole reply is made into events again."""

from typing import Literal, assert_never

from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    HostedUsed,
    Metered,
    Reply,
    Scored,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.request import (
    AnyPart,
    Document,
    Hosted,
    Image,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from penstock.core.neutral.usage import Usage, merge_usage


class Fold:
    """Adds events up to a ``Reply``; the one path by which a whole reply is made."""

    __slots__ = (
        "_args",
        "_call",
        "_citations",
        "_cited",
        "_failure",
        "_id",
        "_kind",
        "_model",
        "_parts",
        "_pieces",
        "_scores",
        "_stopped",
        "_unplaced",
        "_usage",
    )

    def __init__(self) -> None:
        self._id = ""
        self._model = ""
        self._parts: list[AnyPart] = []
        self._kind: Literal["", "text", "thought", "call"] = ""
        self._pieces: list[str] = []
        self._call: CallOpened | None = None
        self._usage = Usage()
        self._stopped: Stopped | None = None
        self._failure: Failed | None = None
        self._citations: list[Cited] = []
        self._cited: list[int] = []
        self._scores: dict[int, list[str]] = {}
        self._unplaced: list[str] = []  # of text that has not come yet

    def add(self, event: AnyEvent) -> None:
        """Take the next event."""
        match event:
            case TextDelta(text):
                self._piece("text", text)
            case Scored(tokens):
                self._unplaced.append(tokens)
            case CallArgs(fragment):
                self._pieces.append(fragment)
            case ThoughtDelta(text):
                self._piece("thought", text)
            case ThoughtSigned(signature):
                text = "".join(self._pieces) if self._kind == "thought" else ""
                if self._kind != "thought":
                    self._close()
                self._kind, self._pieces = "", []
                self._parts.append(Thought(text, signature))
            case ThoughtRedacted(data):
                self._close()
                self._parts.append(Thought(redacted=data))
            case CallOpened():
                self._close()
                self._kind, self._call = "call", event
            case Metered(usage):
                self._usage = merge_usage(self._usage, usage)
            case Cited():
                self._citations.append(event)
                self._cited.append(max(0, len(self._parts) - (self._kind != "text")))
            case HostedUsed(part):
                self._close()
                self._parts.append(part)
            case Started(id, model):
                self._id, self._model = id, model
            case Stopped():
                self._close()
                self._stopped = event
            case Failed():
                self._close()
                self._failure = event
            case _:
                assert_never(event)

    def reply(self) -> Reply:
        """What the events so far add up to."""
        self._close()
        stopped = self._stopped
        return Reply(
            id=self._id,
            model=self._model,
            parts=tuple(self._parts),
            usage=self._usage,
            reason=stopped.reason if stopped else None,
            stop_sequence=stopped.stop_sequence if stopped else None,
            detail=stopped.detail if stopped else None,
            service_tier=stopped.service_tier if stopped else None,
            citations=tuple(self._citations),
            cited=tuple(self._cited),
            failure=self._failure,
            scores=tuple((at, ",".join(tokens)) for at, tokens in self._scores.items()),
        )

    def _piece(self, kind: Literal["text", "thought"], text: str) -> None:
        if self._kind != kind:
            self._close()
            self._kind = kind
        if self._unplaced and kind == "text":
            self._scores.setdefault(len(self._parts), []).extend(self._unplaced)
            self._unplaced = []
        self._pieces.append(text)

    def _close(self) -> None:
        text = "".join(self._pieces)
        match self._kind:
            case "text":
                self._parts.append(Text(text))
            case "thought":
                self._parts.append(Thought(text))
            case "call":
                if self._call is not None:
                    call = self._call
                    self._parts.append(
                        ToolCall(
                            call.id, call.name, text or "{}", None, call.namespace, call.custom, call.kind
                        )
                    )
            case "":
                pass
            case _:
                assert_never(self._kind)
        self._kind, self._pieces, self._call = "", [], None


def fold(events: list[AnyEvent]) -> Reply:
    """The reply that ``events`` add up to."""
    folding = Fold()
    for event in events:
        folding.add(event)
    return folding.reply()


def events_of(reply: Reply) -> list[AnyEvent]:
    """The shortest events that fold to ``reply``."""
    events: list[AnyEvent] = [Started(reply.id, reply.model)]
    scores = dict(reply.scores)
    for at, part in enumerate(reply.parts):
        match part:
            case Text(text):
                if text and at in scores:
                    events.append(Scored(scores[at]))
                if text:
                    events.append(TextDelta(text))
            case Thought(text, signature, redacted):
                if redacted is not None:
                    events.append(ThoughtRedacted(redacted))
                if text:
                    events.append(ThoughtDelta(text))
                if signature is not None:
                    events.append(ThoughtSigned(signature))
            case ToolCall(id, name, arguments):
                events.append(CallOpened(id, name, part.namespace, part.custom, part.kind))
                if arguments:
                    events.append(CallArgs(arguments))
            case Hosted():
                events.append(HostedUsed(part))
            case Image() | Document() | ToolResult():
                pass
            case _:
                assert_never(part)
        events.extend(cited for cited, where in zip(reply.citations, reply.cited, strict=True) if where == at)
    events.append(Metered(reply.usage))
    if reply.failure is not None:
        events.append(reply.failure)
    elif reply.reason is not None:
        events.append(Stopped(reply.reason, reply.stop_sequence, reply.detail, reply.service_tier))
    return events
