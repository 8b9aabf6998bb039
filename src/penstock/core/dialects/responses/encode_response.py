"""Encodes events as the Responses stream or the whole response that a caller gets.

Every event is numbered, every item is added, filled, done, and stands once more in the terminal event. The official SDK
and Codex both wait for that terminal event, whatever happens.
"""

from typing import Literal, assert_never

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.dialects.interface import BROKEN_OFF, NOTHING_ASKED, Asked
from penstock.core.dialects.openai.shared_fields import answered_tier
from penstock.core.dialects.responses.hosted_tools import EVENTS, item_of, kind_of, prefix_of
from penstock.core.dialects.responses.request_echo import DEFAULTS
from penstock.core.dialects.responses.request_schema import CALL_ID_LIMIT
from penstock.core.dialects.summary import sealed_summary
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
    StopReason,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.fold import events_of
from penstock.core.neutral.request import Hosted
from penstock.core.neutral.text_pieces import TextPieces
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.reasoning.encrypted_reasoning import (
    sealed_hosted,
    sealed_redacted,
    sealed_signature,
)
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.core.tools.call_ids import outward
from penstock.core.tools.client_tools import BY_KIND, written
from penstock.core.tools.custom_input import CustomInput
from penstock.errors import PenstockError

Status = Literal["in_progress", "completed", "incomplete", "failed"]

_CODES = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}

_encode = msgspec.json.Encoder().encode

INCOMPLETE: dict[StopReason, str] = {
    "max_tokens": "max_output_tokens",
    "context_window": "max_output_tokens",
    "refusal": "content_filter",
}
"""Ends that leave a response incomplete, and the reason it gives."""


class Error(msgspec.Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response is incomplete."""

    reason: str


class InputDetails(msgspec.Struct, frozen=True):
    """The part of the input that a cache served or took."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(msgspec.Struct, frozen=True):
    """The part of the output that was reasoning."""

    reasoning_tokens: int


class TokenCounts(msgspec.Struct, frozen=True):
    """The usage object: the input includes what the cache held."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The response object, but for what it repeats of its request (``request_echo.py``)."""

    id: str
    object: str = "response"
    created_at: int
    completed_at: int | None = None
    status: Status
    model: str
    output: list[Raw]
    error: Error | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: TokenCounts | None = None
    service_tier: str = "default"


class Compacted(msgspec.Struct, frozen=True):
    """The answer of ``/responses/compact``."""

    id: str
    created_at: int
    output: Raw
    usage: TokenCounts
    object: str = "response.compaction"


class Annotation(msgspec.Struct, frozen=True, tag_field="type", tag="url_citation"):
    """A web page that a stretch of a message's text cites; offsets in characters."""

    start_index: int
    end_index: int
    url: str
    title: str

    @classmethod
    def of(cls, cited: Cited, start: int, end: int) -> "Annotation":
        """The citation of the text between two offsets."""
        return cls(start, end, cited.url, cited.title)


_NO_SCORES = Raw(b"[]")


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    """The text of a message."""

    text: str
    annotations: list[Annotation] = []
    logprobs: Raw = _NO_SCORES


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """A refusal in place of a message's text."""

    refusal: str


class Message(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """Text of the model."""

    id: str
    status: Status
    content: list[OutputText | Refusal]
    role: str = "assistant"


class SummaryText(msgspec.Struct, frozen=True, tag_field="type", tag="summary_text"):
    """Reasoning as it is shown."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """Reasoning, and what has to come back with it."""

    id: str
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


class FunctionCall(msgspec.Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call of a function."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class CustomCall(msgspec.Struct, frozen=True, tag_field="type", tag="custom_tool_call"):
    """A call of a tool that takes free text."""

    id: str
    status: Status
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


class Compaction(msgspec.Struct, frozen=True, tag_field="type", tag="compaction"):
    """What stands for a conversation."""

    id: str
    encrypted_content: str


def token_counts(usage: Usage, *, input_estimate: int = 0, output_estimate: int = 0) -> TokenCounts:
    """Usage in this dialect's form; the estimates stand where the upstream reported nothing at all of that side."""
    known = [count for count in (usage.input, usage.cache_read, usage.cache_write) if count is not None]
    given = sum(known) if known else input_estimate
    made = output_estimate if usage.output is None else usage.output
    return TokenCounts(
        given,
        InputDetails(usage.cache_read or 0, usage.cache_write or 0),
        made,
        OutputDetails(usage.reasoning or 0),
        given + made,
    )


def frame(kind: bytes, number: int, members: bytes) -> bytes:
    """One event; ``members`` begin with a comma."""
    return b'event: %b\ndata: {"type":"%b","sequence_number":%d%b}\n\n' % (kind, kind, number, members)


def failure(error: PenstockError) -> Error:
    """An error as a response tells of it."""
    return Error(_CODES.get(error.kind, "server_error"), error.message)


def encode_object(response: Response, members: bytes) -> bytes:
    """A response object with the members that repeat its request."""
    return _encode(response)[:-1] + members + b"}"


def failed_frame(response: Response, number: int, members: bytes = DEFAULTS) -> bytes:
    """The event that ends a stream with a failure."""
    return frame(b"response.failed", number, b',"response":' + encode_object(response, members))


def error_frame(
    error: PenstockError, request_id: str, sequence: int = 0, asked: Asked = NOTHING_ASKED
) -> bytes:
    """An error inside a stream: a response that failed, the terminal event that every client of this dialect waits for.

    ``sequence`` is the number of the event.
    """
    id = "resp_" + request_id.removeprefix("req_")
    response = Response(
        id=id, created_at=asked.created, status="failed", model=asked.model, output=[], error=failure(error)
    )
    return failed_frame(response, sequence, asked.members or DEFAULTS)


KEEPALIVE = b": keep-alive\n\n"
"""May go between any two frames; a comment, which no client takes for data."""


_CHARS_PER_TOKEN = 4
_TEXT_TAIL = b',"logprobs":[]}\n\n'


class ResponseEncoder:
    """Writes one reply as frames. ``error`` replaces a ``Failed``; the upstream's words are the operator's."""

    __slots__ = (
        "_annotations",
        "_asked",
        "_base",
        "_call",
        "_chars",
        "_cited_to",
        "_created",
        "_estimate",
        "_free",
        "_head",
        "_id",
        "_item",
        "_kind",
        "_made",
        "_model",
        "_next_scores",
        "_output",
        "_pieces",
        "_place",
        "_scores",
        "_source",
        "_span",
        "_told",
        "_usage",
        "ended",
        "error",
        "sequence",
        "started",
    )

    def __init__(
        self,
        *,
        model: str,
        reply_id: str,
        created: int,
        include_usage: bool,  # noqa: ARG002 - the same in every dialect; this one always has usage
        input_estimate: int,
        asked: Asked = NOTHING_ASKED,
    ) -> None:
        """``created`` in Unix seconds; ``input_estimate`` in tokens, for a usage that the upstream did not give."""
        self.error: PenstockError = BROKEN_OFF
        self.sequence = 0
        """The number of the next event."""
        self.started = False
        self.ended = False
        self._asked = asked
        self._id = reply_id
        self._base = reply_id.removeprefix("resp_")
        self._model = model
        self._created = created
        self._estimate = input_estimate
        self._source = model  # whose thoughts they are
        self._usage = Usage()
        self._output: list[Raw] = []  # the items that are done
        self._kind: Literal["", "text", "thought", "call", "custom", "client"] = ""
        self._item = ""  # the id of the open item
        self._place = b""  # of a delta of the open item: all up to its number, but for that
        self._head = b""  # of a delta of the open item: its event and type
        self._pieces = TextPieces()  # its text so far
        self._told = 0  # bytes of the items that are done
        self._call = CallOpened("", "")
        self._free = CustomInput()
        self._annotations: list[Annotation] = []
        self._scores: list[str] = []  # of the open message
        self._next_scores: list[str] = []  # of the text that comes next
        self._chars = 0  # of the open message, which citations count in
        self._cited_to = 0
        self._span = (0, 0)
        self._made = 0  # characters of all that was generated

    def write(self, events: list[AnyEvent]) -> bytes:
        """The frames of ``events``; nothing after the terminal one."""
        out: list[bytes] = []
        for event in events:
            if self.ended:
                break
            if isinstance(event, TextDelta) and self._kind == "text":
                self._delta(event.text, out)
            else:
                self._other(event, out)
        return b"".join(out)

    @property
    def items(self) -> list[Raw]:
        """The items that are done."""
        return self._output

    @property
    def kept(self) -> int:
        """Length of what the last event will say again: of the items that are done, and of the open one's text."""
        return self._told + self._pieces.size

    def response(
        self,
        status: Status,
        usage: TokenCounts | None = None,
        reason: str | None = None,
        tier: str | None = None,
    ) -> bytes:
        """The response object as it is now."""
        details = None if reason is None else IncompleteDetails(reason)
        response = Response(
            id=self._id,
            created_at=self._created,
            completed_at=self._now() if status == "completed" else None,
            status=status,
            model=self._model,
            output=self._output,
            incomplete_details=details,
            usage=usage,
            service_tier=answered_tier(tier) or "default",
        )
        return encode_object(response, self._asked.members or DEFAULTS)

    def _now(self) -> int:
        clock = self._asked.clock
        return self._created if clock is None else int(clock())

    def counts(self) -> TokenCounts:
        """What has been counted, or is estimated."""
        guess = -(-self._made // _CHARS_PER_TOKEN)
        return token_counts(self._usage, input_estimate=self._estimate, output_estimate=guess)

    def _other(self, event: AnyEvent, out: list[bytes]) -> None:
        if isinstance(event, Metered | Scored):
            self._note(event)
            return
        if isinstance(event, Started):
            self._source = event.model or self._source
        if not self.started:
            self.started = True
            for kind in (b"response.created", b"response.in_progress"):
                self._frame(kind, b',"response":' + self.response("in_progress"), out)
        match event:
            case Started():
                pass
            case TextDelta(text) if self._asked.compacts:
                self._made += len(text)
                self._pieces.add(text)
            case TextDelta(text):
                self._open_text(out)
                self._delta(text, out)
            case ThoughtDelta() | ThoughtSigned() | ThoughtRedacted():
                self._thought(event, out)
            case CallOpened():
                self._open_call(event, out)
            case CallArgs(fragment):
                self._argue(fragment, out)
            case Cited():
                self._cite(event, out)
            case HostedUsed(part):
                self._serve(part, out)
            case Stopped():
                self._stop(event, out)
            case Failed():
                self._fail(out)
            case _:
                assert_never(event)

    def _note(self, event: Metered | Scored) -> None:
        if isinstance(event, Metered):
            self._usage = merge_usage(self._usage, event.usage)
        else:
            self._next_scores.append(event.tokens)

    # ---- frames

    def _frame(self, kind: bytes, members: bytes, out: list[bytes]) -> None:
        out.append(frame(kind, self.sequence, members))
        self.sequence += 1

    def _at(self, inner: bytes = b"") -> bytes:
        """The members that say where an event belongs."""
        return b',"item_id":%b,"output_index":%d%b' % (_encode(self._item), len(self._output), inner)

    def _delta(self, text: str, out: list[bytes]) -> None:
        self._chars += len(text)
        self._made += len(text)
        self._pieces.add(text)
        tail = _TEXT_TAIL if self._kind == "text" else b"}\n\n"
        if self._next_scores and self._kind == "text":
            scores = ",".join(self._next_scores)
            self._next_scores = []
            self._scores.append(scores)
            self._told += len(scores)
            tail = b',"logprobs":[%b]}\n\n' % scores.encode()
        out.append(b"%b%d%b%b%b" % (self._head, self.sequence, self._place, _encode(text), tail))
        self.sequence += 1

    def _open(self, prefix: str, out: list[bytes]) -> None:
        """Begin an item, after what is open has been closed."""
        self._close("completed", out)
        self._item = f"{prefix}_{self._base}_{len(self._output)}"
        self._pieces = TextPieces()

    def _added(self, item: object, delta: bytes, inner: bytes, out: list[bytes]) -> None:
        """Tell of the open item, whose deltas are events of type ``delta``."""
        members = b',"output_index":%d,"item":%b' % (len(self._output), _encode(item))
        self._frame(b"response.output_item.added", members, out)
        self._head = b'event: %b\ndata: {"type":"%b","sequence_number":' % (delta, delta)
        self._place = self._at(inner) + b',"delta":'

    def _done(self, item: object, out: list[bytes]) -> None:
        encoded = _encode(item)
        self._frame(
            b"response.output_item.done", b',"output_index":%d,"item":%b' % (len(self._output), encoded), out
        )
        self._output.append(Raw(encoded))
        self._told += len(encoded)
        self._pieces = TextPieces()
        self._kind = ""

    # ---- items

    def _open_text(self, out: list[bytes]) -> None:
        self._open("msg", out)
        self._annotations = []
        self._scores = []
        self._chars = self._cited_to = 0
        self._span = (0, 0)
        self._kind = "text"
        inner = b',"content_index":0'
        self._added(Message(self._item, "in_progress", []), b"response.output_text.delta", inner, out)
        part = b',"part":' + _encode(OutputText(""))
        self._frame(b"response.content_part.added", self._at(inner) + part, out)

    def _open_thought(self, out: list[bytes]) -> None:
        self._open("rs", out)
        self._kind = "thought"
        inner = b',"summary_index":0'
        self._added(Reasoning(self._item, []), b"response.reasoning_summary_text.delta", inner, out)

    def _thought(self, event: ThoughtDelta | ThoughtSigned | ThoughtRedacted, out: list[bytes]) -> None:
        if self._kind != "thought" or isinstance(event, ThoughtRedacted):
            self._open_thought(out)
        match event:
            case ThoughtDelta(text):
                if not self._pieces:
                    part = b',"summary_index":0,"part":' + _encode(SummaryText(""))
                    self._frame(b"response.reasoning_summary_part.added", self._at(part), out)
                self._delta(text, out)
            case ThoughtSigned(signature):
                self._end_thought(sealed_signature(signature), out)
            case ThoughtRedacted(data):
                self._end_thought(sealed_redacted(data), out)
            case _:
                assert_never(event)

    def _end_thought(self, encrypted: str, out: list[bytes]) -> None:
        text = self._pieces.text()
        summary = [SummaryText(text)] if text else []
        if text:
            inner = b',"summary_index":0'
            self._frame(
                b"response.reasoning_summary_text.done", self._at(inner) + b',"text":' + _encode(text), out
            )
            part = self._at(inner) + b',"part":' + _encode(summary[0])
            self._frame(b"response.reasoning_summary_part.done", part, out)
        self._done(Reasoning(self._item, summary, encrypted), out)

    def _open_call(self, event: CallOpened, out: list[bytes]) -> None:
        if event.kind in BY_KIND:  # such an item has no deltas: it is told when it is whole
            self._open(BY_KIND[event.kind].prefix, out)
            self._call = event
            self._kind = "client"
            return
        self._open("ctc" if event.custom else "fc", out)
        self._call = event
        self._kind = "custom" if event.custom else "call"
        self._free = CustomInput()
        kind = b"custom_tool_call_input" if event.custom else b"function_call_arguments"
        self._added(self._call_item("in_progress", ""), b"response.%b.delta" % kind, b"", out)

    def _call_item(self, status: Status, text: str) -> FunctionCall | CustomCall:
        call = self._call
        made = CustomCall if call.custom else FunctionCall
        id = outward(call.id, CALL_ID_LIMIT)
        return made(self._item, status, id, call.name, text, call.namespace or UNSET)

    def _argue(self, fragment: str, out: list[bytes]) -> None:
        if self._kind == "call":
            self._delta(fragment, out)
        elif self._kind == "custom":
            text = self._free.feed(fragment)
            if text:
                self._delta(text, out)
        elif self._kind == "client":
            self._made += len(fragment)
            self._pieces.add(fragment)

    def _close_client(self, status: Status, out: list[bytes]) -> None:
        """Give a call of a tool that the caller runs in its own form, or as a function call where the model missed that."""
        call, arguments = self._call, self._pieces.text() or "{}"
        id = outward(call.id, CALL_ID_LIMIT)
        try:
            done = written(BY_KIND[call.kind], self._item, status, id, arguments)
        except ValueError:  # the caller tells the model that there is no such function
            self._kind = ""
            self._open_call(CallOpened(call.id, call.name), out)
            self._argue(arguments, out)
            self._close(status, out)
            return
        begun = msgspec.structs.replace(done, status="in_progress")
        members = b',"output_index":%d,"item":%b' % (len(self._output), _encode(begun))
        self._frame(b"response.output_item.added", members, out)
        self._done(done, out)

    def _close(self, status: Status, out: list[bytes]) -> None:
        """End the open item; ``status`` is how complete it is."""
        match self._kind:
            case "text":
                self._close_text(status, out)
            case "thought":
                # callers send reasoning back with what is signed here, so that it finds its maker again
                self._end_thought(sign_reasoning(ReasoningOrigin(self._source)), out)
            case "call":
                if not self._pieces:
                    self._delta("{}", out)
                arguments = self._pieces.text()
                members = b',"name":%b,"arguments":%b' % (_encode(self._call.name), _encode(arguments))
                self._frame(b"response.function_call_arguments.done", self._at(members), out)
                self._done(self._call_item(status, arguments), out)
            case "custom":
                text, given = self._free.finish(), self._pieces.text()
                if text.startswith(given) and len(text) > len(given):
                    self._delta(text[len(given) :], out)
                self._frame(
                    b"response.custom_tool_call_input.done", self._at(b',"input":' + _encode(text)), out
                )
                self._done(self._call_item(status, text), out)
            case "client":
                self._close_client(status, out)
            case "":
                pass
            case _:
                assert_never(self._kind)

    def _close_text(self, status: Status, out: list[bytes]) -> None:
        text = self._pieces.text()
        at = self._at(b',"content_index":0')
        scores = Raw(f"[{','.join(self._scores)}]".encode()) if self._scores else _NO_SCORES
        members = b',"text":' + _encode(text) + b',"logprobs":' + bytes(scores)
        self._frame(b"response.output_text.done", at + members, out)
        part = OutputText(text, self._annotations, scores)
        self._frame(b"response.content_part.done", at + b',"part":' + _encode(part), out)
        self._done(Message(self._item, status, [part]), out)

    def _cite(self, event: Cited, out: list[bytes]) -> None:
        """A citation of the text since the last one, or of the same text again; it needs a message to stand in."""
        if self._kind != "text":
            return
        if self._chars > self._cited_to:
            self._span = (self._cited_to, self._chars)
            self._cited_to = self._chars
        annotation = Annotation.of(event, *self._span)
        members = b',"content_index":0,"annotation_index":%d,"annotation":%b'
        at = self._at(members % (len(self._annotations), _encode(annotation)))
        self._frame(b"response.output_text.annotation.added", at, out)
        self._annotations.append(annotation)

    def _serve(self, part: Hosted, out: list[bytes]) -> None:
        """What a tool of the provider did, as an item; before it, what its maker wants back, where callers keep such."""
        if part.raw:
            self._open("rs", out)
            self._added(Reasoning(self._item, []), b"", b"", out)
            self._done(Reasoning(self._item, [], sealed_hosted(part)), out)
        kind = kind_of(part)
        if kind is not None:
            self._open(prefix_of(kind), out)
            self._added(item_of(part, self._item, "in_progress"), b"", b"", out)
            self._frame(EVENTS[kind], self._at(), out)
            self._done(item_of(part, self._item), out)

    # ---- ends

    def _stop(self, event: Stopped, out: list[bytes]) -> None:
        reason = INCOMPLETE.get(event.reason)
        status: Status = "completed" if reason is None else "incomplete"
        said = self._pieces.text() if self._kind == "text" else ""
        if self._asked.compacts:
            self._compact(out)
        self._close(status, out)
        if event.reason == "refusal" and event.detail and event.detail != said:
            self._refuse(event.detail, out)
        response = self.response(status, self.counts(), reason, event.service_tier)
        self._frame(b"response." + status.encode(), b',"response":' + response, out)
        self.ended = True

    def _compact(self, out: list[bytes]) -> None:
        """Give the summary as the one item that stands for the conversation; it is told when it is whole."""
        self._item = f"cmp_{self._base}"
        item = Compaction(self._item, sealed_summary(self._pieces.text()))
        members = b',"output_index":%d,"item":%b' % (len(self._output), _encode(item))
        self._frame(b"response.output_item.added", members, out)
        self._done(item, out)

    def _refuse(self, text: str, out: list[bytes]) -> None:
        """A refusal's explanation, as a message of its own."""
        self._open("msg", out)
        inner = b',"content_index":0'
        self._added(Message(self._item, "in_progress", []), b"response.refusal.delta", inner, out)
        at = self._at(inner)
        self._frame(b"response.content_part.added", at + b',"part":' + _encode(Refusal("")), out)
        self._delta(text, out)
        self._frame(b"response.refusal.done", at + b',"refusal":' + _encode(text), out)
        self._frame(b"response.content_part.done", at + b',"part":' + _encode(Refusal(text)), out)
        self._done(Message(self._item, "completed", [Refusal(text)]), out)

    def _fail(self, out: list[bytes]) -> None:
        response = Response(
            id=self._id,
            created_at=self._created,
            status="failed",
            model=self._model,
            output=self._output,
            error=failure(self.error),
        )
        out.append(failed_frame(response, self.sequence, self._asked.members or DEFAULTS))
        self.sequence += 1
        self.ended = True


def encode_response(
    reply: Reply, *, model: str, reply_id: str, created: int, asked: Asked = NOTHING_ASKED
) -> bytes:
    """A whole response: what the stream of the same reply ends with. ``reply.failure`` is the relay's to answer."""
    reason = reply.reason or "end_turn"
    writer = _written(reply, model, reply_id, created, asked)
    usage = None if reply.usage == Usage() else writer.counts()
    incomplete = INCOMPLETE.get(reason)
    status: Status = "completed" if incomplete is None else "incomplete"
    return writer.response(status, usage, incomplete, reply.service_tier)


def encode_compacted(
    reply: Reply, *, model: str, reply_id: str, created: int, asked: Asked = NOTHING_ASKED
) -> bytes:
    """The answer of ``/responses/compact``: the user's messages, and the item that stands for all the rest."""
    writer = _written(reply, model, reply_id, created, asked)
    output = b",".join(piece for piece in (asked.kept, *map(bytes, writer.items)) if piece)
    return _encode(Compacted(reply_id, created, Raw(b"[" + output + b"]"), writer.counts()))


def _written(reply: Reply, model: str, reply_id: str, created: int, asked: Asked) -> ResponseEncoder:
    """An encoder that has written a whole reply."""
    writer = ResponseEncoder(
        model=model, reply_id=reply_id, created=created, include_usage=True, input_estimate=0, asked=asked
    )
    reason = reply.reason or "end_turn"
    writer.write(events_of(msgspec.structs.replace(reply, reason=reason, failure=None)))
    return writer
