"""Encodes events as the Messages stream or the whole Messages answer that a caller gets.

The grammar is ``message_start (block)* message_delta message_stop`` with blocks numbered 0, 1, 2 ... and one open at a
time. The official SDKs lose text without a word where it is broken, so it cannot be broken here.
"""

from typing import Any, Literal, assert_never

import msgspec
from msgspec import Raw

from penstock.core.body.nesting import is_object
from penstock.core.dialects.interface import BROKEN_OFF, NOTHING_ASKED, Asked
from penstock.core.dialects.messages.hosted_tools import blocks_of
from penstock.core.dialects.messages.request_schema import CALL_ID_LIMIT
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
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.core.tools.call_ids import outward
from penstock.errors import PenstockError

KEEPALIVE = b'event: ping\ndata: {"type": "ping"}\n\n'
"""May go between any two frames once ``message_start`` is out; before that only a comment may."""


_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_CHARS_PER_TOKEN = 4
_REASONS: dict[StopReason, str] = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "context_window": "model_context_window_exceeded",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "pause_turn": "pause_turn",
}

_TIERS = {"default": "standard", "standard": "standard", "priority": "priority", "batch": "batch"}

_encode = msgspec.json.Encoder().encode


class _Detail(msgspec.Struct):
    type: str
    message: str


class _Error(msgspec.Struct):
    type: Literal["error"]
    error: _Detail
    request_id: str


def error_frame(
    error: PenstockError,
    request_id: str,
    sequence: int = 0,  # noqa: ARG001 - events are not numbered here
    asked: Asked = NOTHING_ASKED,  # noqa: ARG001 - an error says nothing of its request here
) -> bytes:
    """An error inside a stream, as the Anthropic SDKs raise it; it replaces the rest, ``message_stop`` included."""
    body = _Error("error", _Detail(error.kind, error.message), request_id)
    return b"event: error\ndata: " + _encode(body) + b"\n\n"


def _frame(name: bytes, members: bytes) -> bytes:
    return b"event: " + name + b'\ndata: {"type":"' + name + b'"' + members + b"}\n\n"


def _counts(usage: Usage) -> dict[str, Any]:
    """The counts that are known, under their names here."""
    counts: dict[str, Any] = {}
    if usage.input is not None:
        counts["input_tokens"] = usage.input
    if usage.cache_write is not None:
        counts["cache_creation_input_tokens"] = usage.cache_write
        if usage.cache_write_1h is not None:
            counts["cache_creation"] = {
                "ephemeral_5m_input_tokens": max(0, usage.cache_write - usage.cache_write_1h),
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            }
    if usage.cache_read is not None:
        counts["cache_read_input_tokens"] = usage.cache_read
    if usage.output is not None:
        counts["output_tokens"] = usage.output
    if usage.reasoning is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.special is not None and (usage.special.web_searches or usage.special.web_fetches):
        counts["server_tool_use"] = {
            "web_search_requests": usage.special.web_searches,
            "web_fetch_requests": usage.special.web_fetches,
        }
    return counts


def _served(service_tier: str | None) -> dict[str, Any]:
    """The tier as this format says it; one of another format's alone is left out."""
    own = _TIERS.get(service_tier or "")
    return {} if own is None else {"service_tier": own}


def _details(reason: StopReason, detail: str | None) -> dict[str, Any] | None:
    return {"type": "refusal", "category": None, "explanation": detail} if reason == "refusal" else None


class ResponseEncoder:
    """Writes one reply as frames. ``error`` replaces a ``Failed``; the upstream's words are the operator's."""

    sequence = 0  # events are not numbered in this dialect
    kept = 0  # nothing is said again at the end

    __slots__ = (
        "_chars",
        "_ended",
        "_estimate",
        "_id",
        "_index",
        "_kind",
        "_model",
        "_prefix",
        "_source",
        "_started",
        "_usage",
        "error",
    )

    def __init__(
        self,
        *,
        model: str,
        reply_id: str,
        created: int,  # noqa: ARG002 - the same in every dialect; this one has no time of creation
        include_usage: bool,  # noqa: ARG002 - the same in every dialect; this one always has usage
        input_estimate: int,
        asked: Asked = NOTHING_ASKED,  # noqa: ARG002 - an answer says nothing of its request here
    ) -> None:
        """``input_estimate`` is in tokens: ``message_start`` has to give a count before there is one."""
        self.error: PenstockError = BROKEN_OFF
        self._id = reply_id
        self._model = model
        self._estimate = input_estimate
        self._source = model  # whose thoughts they are
        self._usage = Usage()
        self._started = False
        self._ended = False
        self._index = -1
        self._kind: Literal["", "text", "thinking", "tool_use"] = ""
        self._prefix = b""  # of a delta of the open block, up to its value
        self._chars = 0

    def write(self, events: list[AnyEvent]) -> bytes:
        """The frames of ``events``; nothing after the terminal one."""
        pieces: list[bytes] = []
        for event in events:
            if self._ended:
                break
            if isinstance(event, TextDelta) and self._kind == "text":
                self._chars += len(event.text)
                pieces.append(self._prefix + _encode(event.text) + b"}}\n\n")
            else:
                self._other(event, pieces)
        return b"".join(pieces)

    def _other(self, event: AnyEvent, pieces: list[bytes]) -> None:
        if isinstance(event, Failed):
            self._ended = True
            pieces.append(error_frame(self.error, self._id))
            return
        if isinstance(event, Metered):
            self._usage = merge_usage(self._usage, event.usage)
            return
        if isinstance(event, Started):
            self._source = event.model or self._source
        if not self._started:
            self._start(pieces)
        match event:
            case Started() | Scored():
                pass  # log probabilities have no place here, which is told of the request
            case TextDelta(text):
                self._switch("text", pieces)
                self._delta(text, pieces)
            case ThoughtDelta(text):
                self._switch("thinking", pieces)
                self._delta(text, pieces)
            case ThoughtSigned(signature):
                self._switch("thinking", pieces)
                self._sign(signature, pieces)
            case ThoughtRedacted(data):
                self._close(pieces)
                self._open(b'{"type":"redacted_thinking","data":' + _encode(data) + b"}", pieces)
                pieces.append(_frame(b"content_block_stop", b',"index":%d' % self._index))
            case CallOpened(id, name):
                self._close(pieces)
                head = b'{"type":"tool_use","id":' + _encode(outward(id, CALL_ID_LIMIT))
                self._open(head + b',"name":' + _encode(name) + b',"input":{}}', pieces)
                self._kind = "tool_use"
                self._prefix = self._prefix_of(b"input_json_delta", b"partial_json")
            case CallArgs(fragment):
                if self._kind == "tool_use":
                    self._delta(fragment, pieces)
            case Cited() | HostedUsed():
                self._beside(event, pieces)
            case Stopped():
                self._stop(event, pieces)
            case _:
                assert_never(event)

    # ---- blocks

    def _prefix_of(self, kind: bytes, member: bytes) -> bytes:
        return (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s","%s":'
            % (self._index, kind, member)
        )

    def _delta(self, text: str, pieces: list[bytes]) -> None:
        self._chars += len(text)
        pieces.append(self._prefix + _encode(text) + b"}}\n\n")

    def _open(self, block: bytes, pieces: list[bytes]) -> None:
        self._index += 1
        pieces.append(
            _frame(b"content_block_start", b',"index":%d,"content_block":%s' % (self._index, block))
        )

    def _switch(self, kind: Literal["text", "thinking"], pieces: list[bytes]) -> None:
        """Make a block of this kind the open one."""
        if self._kind == kind:
            return
        self._close(pieces)
        if kind == "text":
            self._open(b'{"type":"text","text":""}', pieces)
            self._prefix = self._prefix_of(b"text_delta", b"text")
        else:
            self._open(b'{"type":"thinking","thinking":"","signature":""}', pieces)
            self._prefix = self._prefix_of(b"thinking_delta", b"thinking")
        self._kind = kind

    def _sign(self, signature: str, pieces: list[bytes]) -> None:
        """The one signature of the open thought, which ends it."""
        pieces.append(self._prefix_of(b"signature_delta", b"signature") + _encode(signature) + b"}}\n\n")
        self._kind = ""
        pieces.append(_frame(b"content_block_stop", b',"index":%d' % self._index))

    def _close(self, pieces: list[bytes]) -> None:
        if self._kind == "thinking":
            # callers must send thinking back, and cannot without a signature
            self._sign(sign_reasoning(ReasoningOrigin(self._source)), pieces)
        elif self._kind:
            self._kind = ""
            pieces.append(_frame(b"content_block_stop", b',"index":%d' % self._index))

    def _cite(self, event: Cited, pieces: list[bytes]) -> None:
        """Citations belong to the text they follow; once another block has begun there is no place for one."""
        if self._kind == "text":
            prefix = self._prefix_of(b"citations_delta", b"citation")
            pieces.append(prefix + _encode(_citation(event)) + b"}}\n\n")

    def _beside(self, event: Cited | HostedUsed, pieces: list[bytes]) -> None:
        """What is not the model's own words."""
        if isinstance(event, Cited):
            self._cite(event, pieces)
        else:
            self._serve(event.part, pieces)

    def _serve(self, part: Hosted, pieces: list[bytes]) -> None:
        """What a tool of the provider did: its call, whose arguments come as for any, and its result."""
        self._close(pieces)
        for block in blocks_of(part):
            given = block.get("input")
            self._open(_encode(block if given is None else {**block, "input": {}}), pieces)
            if given is not None:
                prefix = self._prefix_of(b"input_json_delta", b"partial_json")
                pieces.append(prefix + _encode(bytes(given).decode()) + b"}}\n\n")
            pieces.append(_frame(b"content_block_stop", b',"index":%d' % self._index))

    # ---- start and end

    def _start(self, pieces: list[bytes]) -> None:
        self._started = True
        usage = {"input_tokens": self._estimate, "output_tokens": 0, **_counts(self._usage)}
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        pieces.append(_frame(b"message_start", b',"message":' + _encode(message)))

    def _stop(self, event: Stopped, pieces: list[bytes]) -> None:
        self._ended = True
        self._close(pieces)
        delta: dict[str, Any] = {"stop_reason": _REASONS[event.reason], "stop_sequence": event.stop_sequence}
        details = _details(event.reason, event.detail)
        if details is not None:
            delta["stop_details"] = details
        guess = {"input_tokens": self._estimate, "output_tokens": -(-self._chars // _CHARS_PER_TOKEN)}
        usage = {**guess, **_counts(self._usage), **_served(event.service_tier)}
        pieces.append(
            _frame(b"message_delta", b',"delta":' + _encode(delta) + b',"usage":' + _encode(usage)) + _STOP
        )


def _citation(cited: Cited) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "url": cited.url,
        "title": cited.title,
        "cited_text": cited.cited_text,
        "encrypted_index": "",
    }


def encode_response(
    reply: Reply,
    *,
    model: str,
    reply_id: str,
    created: int,  # noqa: ARG001 - as in the other dialect
    asked: Asked = NOTHING_ASKED,  # noqa: ARG001 - an answer says nothing of its request here
) -> bytes:
    """A whole reply as the Messages answer; counts that are not known are left out."""
    content: list[dict[str, Any]] = []
    for at, part in enumerate(reply.parts):
        if isinstance(part, Hosted):
            content += blocks_of(part)
            continue
        block = _block(part, reply.model or model)
        if block is None:
            continue
        if block["type"] == "text" and at in reply.cited:
            cited = zip(reply.citations, reply.cited, strict=True)
            block["citations"] = [_citation(citation) for citation, where in cited if where == at]
        content.append(block)
    reason: StopReason = reply.reason or "end_turn"
    message: dict[str, Any] = {
        "id": reply_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": _REASONS[reason],
        "stop_sequence": reply.stop_sequence,
    }
    details = _details(reason, reply.detail)
    if details is not None:
        message["stop_details"] = details
    message["usage"] = {**_counts(reply.usage), **_served(reply.service_tier)}
    return _encode(message)


def _block(part: AnyPart, source: str) -> dict[str, Any] | None:
    match part:
        case Text(text):
            return {"type": "text", "text": text} if text else None
        case Thought(text, signature, redacted):
            if redacted is not None:
                return {"type": "redacted_thinking", "data": redacted}
            return {
                "type": "thinking",
                "thinking": text,
                "signature": signature or sign_reasoning(ReasoningOrigin(source)),
            }
        case ToolCall(id, name, arguments):
            return {
                "type": "tool_use",
                "id": outward(id, CALL_ID_LIMIT),
                "name": name,
                "input": _input(arguments),
            }
        case Hosted() | Image() | Document() | ToolResult():
            return None
        case _:
            assert_never(part)


def _input(arguments: str) -> Raw:
    """A call's arguments as an object; what is none is kept as text, so that the caller can see what came."""
    text = arguments.strip().encode()
    if not text:
        return Raw(b"{}")
    return Raw(text) if is_object(text) else Raw(_encode({"__raw_arguments": arguments}))
