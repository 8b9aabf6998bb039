"""Encodes events as the Chat stream or the whole Chat answer that a caller gets."""

from typing import Literal, assert_never

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.dialects.chat.request_schema import CALL_ID_LIMIT
from penstock.core.dialects.interface import BROKEN_OFF, NOTHING_ASKED, Asked
from penstock.core.dialects.openai.shared_fields import answered_tier
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
from penstock.core.neutral.request import Document, Hosted, Image, Text, Thought, ToolCall, ToolResult
from penstock.core.neutral.usage import Special, Usage, merge_usage
from penstock.core.reasoning.signature import has_to_return, is_ours
from penstock.core.tools.call_ids import outward
from penstock.core.tools.custom_input import CustomInput, text_of
from penstock.errors import PenstockError, native_body

THOUGHT_FORMAT = "anthropic-claude-v1"

_encode = msgspec.json.Encoder().encode

FINISH: dict[StopReason, str] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "context_window": "length",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "stop",
}
# what the caller's word cannot say is beside it, under the name that OpenRouter gave to such things
NATIVE: dict[StopReason, str] = {
    "context_window": "model_context_window_exceeded",
    "pause_turn": "pause_turn",
}


class PromptDetails(msgspec.Struct, frozen=True):
    """The part of the prompt that a cache served or took, and that was sound."""

    cached_tokens: int
    cache_write_tokens: int
    audio_tokens: int | UnsetType = UNSET


class CompletionDetails(msgspec.Struct, frozen=True):
    """What the completion was made of."""

    reasoning_tokens: int
    audio_tokens: int | UnsetType = UNSET
    accepted_prediction_tokens: int | UnsetType = UNSET
    rejected_prediction_tokens: int | UnsetType = UNSET


class TokenCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Chat's usage object: the prompt includes what the cache held."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of ``reasoning_details``. ``index`` is always there: the OpenAI SDK fails on a list without it."""

    type: str
    index: int
    text: str | None = None
    data: str | None = None
    format: str | None = None
    signature: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A web page that a stretch of the answer's text cites; offsets in characters."""

    start_index: int
    end_index: int
    url: str
    title: str


class Annotation(msgspec.Struct, frozen=True):
    """A citation."""

    url_citation: Page
    type: str = "url_citation"


class CalledFunction(msgspec.Struct, frozen=True):
    """Name and arguments of a call."""

    name: str
    arguments: str


class Google(msgspec.Struct, frozen=True):
    """The signature of the thought before a call, in the member that clients bring back with it."""

    thought_signature: str


class Extra(msgspec.Struct, frozen=True):
    """What a call has besides, as Google's Chat endpoint gives it."""

    google: Google


class ToolCallItem(msgspec.Struct, frozen=True):
    """A tool call of a whole answer."""

    id: str
    function: CalledFunction
    type: str = "function"
    extra_content: Extra | UnsetType = UNSET


class CalledCustom(msgspec.Struct, frozen=True):
    """Name and text of a free-text call."""

    name: str
    input: str


class CustomCall(msgspec.Struct, frozen=True):
    """A call of a tool that takes free text."""

    id: str
    custom: CalledCustom
    type: str = "custom"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """The assistant's message of a whole answer; ``content`` and ``refusal`` are always there, if only as null."""

    role: str
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    reasoning_details: list[Detail] = []
    tool_calls: list[ToolCallItem | CustomCall] = []
    annotations: list[Annotation] = []


class Logprobs(msgspec.Struct, frozen=True):
    """Log probabilities of the text's tokens."""

    content: Raw
    refusal: None = None


class Alternative(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one choice of a whole answer."""

    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: str
    matched_stop: str | None = None
    native_finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole answer."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Alternative]
    usage: TokenCounts | None = None
    service_tier: str | None = None


def token_counts(usage: Usage, *, input_estimate: int = 0, output_estimate: int = 0) -> TokenCounts:
    """Usage in Chat's form; the estimates stand where the upstream reported nothing at all of that side."""
    known = [count for count in (usage.input, usage.cache_read, usage.cache_write) if count is not None]
    prompt = sum(known) if known else input_estimate
    completion = output_estimate if usage.output is None else usage.output
    cached = usage.cache_read is not None or usage.cache_write is not None
    counts = TokenCounts(
        prompt,
        completion,
        prompt + completion,
        PromptDetails(usage.cache_read or 0, usage.cache_write or 0) if cached else None,
        None if usage.reasoning is None else CompletionDetails(usage.reasoning),
    )
    return counts if usage.special is None else _with_special(counts, usage.special)


def _with_special(counts: TokenCounts, special: Special) -> TokenCounts:
    read, written = counts.prompt_tokens_details, counts.completion_tokens_details
    if special.audio_input_tokens:
        read = msgspec.structs.replace(read or PromptDetails(0, 0), audio_tokens=special.audio_input_tokens)
    of_output = (
        special.audio_output_tokens,
        special.accepted_prediction_tokens,
        special.rejected_prediction_tokens,
    )
    if any(of_output):
        written = CompletionDetails(0 if written is None else written.reasoning_tokens, *of_output)
    return msgspec.structs.replace(counts, prompt_tokens_details=read, completion_tokens_details=written)


def encode_response(
    reply: Reply,
    *,
    model: str,
    reply_id: str,
    created: int,
    asked: Asked = NOTHING_ASKED,  # noqa: ARG001 - an answer says nothing of its request here
) -> bytes:
    """A whole answer. ``reply.failure`` is the relay's to answer; here it would end as an empty stop."""
    texts: list[str] = []
    thoughts: list[str] = []
    details: list[Detail] = []
    calls: list[ToolCallItem | CustomCall] = []
    extra: Extra | UnsetType = UNSET  # of the next call
    for part in reply.parts:
        match part:
            case Text(text):
                texts.append(text)
            case Thought():
                thoughts.append(part.text)
                extra = _extra(part.signature or "") or extra
                detail = _detail(part, len(details))
                if detail is not None:
                    details.append(detail)
            case ToolCall(id, name, arguments):
                own = outward(id, CALL_ID_LIMIT)
                if part.custom:
                    calls.append(CustomCall(own, CalledCustom(name, text_of(arguments))))
                else:
                    calls.append(ToolCallItem(own, CalledFunction(name, arguments), extra_content=extra))
                extra = UNSET
            case Hosted() | Image() | Document() | ToolResult():
                pass
            case _:
                assert_never(part)
    content = "".join(texts)
    reason: StopReason = reply.reason or "end_turn"
    pages = [Annotation(Page(0, len(content), cited.url, cited.title)) for cited in reply.citations]
    message = Message(
        "assistant",
        content if texts or not calls else None,
        reply.detail if reason == "refusal" else None,
        "".join(thoughts) or None,
        details,
        calls,
        pages,
    )
    scores = ",".join(tokens for _, tokens in reply.scores)
    logprobs = Logprobs(Raw(f"[{scores}]".encode())) if scores else None
    choice = Alternative(0, message, logprobs, FINISH[reason], reply.stop_sequence, NATIVE.get(reason))
    usage = None if reply.usage == Usage() else token_counts(reply.usage)
    return _encode(
        Completion(
            reply_id, "chat.completion", created, model, [choice], usage, answered_tier(reply.service_tier)
        )
    )


def _extra(signature: str) -> Extra | UnsetType:
    """What a call after a thought has, where only we can read the signature and its maker wants it back."""
    carried = is_ours(signature) and has_to_return(signature)
    return Extra(Google(signature)) if carried else UNSET


def _detail(thought: Thought, index: int) -> Detail | None:
    if thought.redacted is not None:
        return Detail("reasoning.encrypted", index, data=thought.redacted, format=THOUGHT_FORMAT)
    signature = thought.signature
    if signature is not None and not has_to_return(signature):
        signature = None
    if not thought.text and signature is None:
        return None
    return Detail(
        "reasoning.text", index, text=thought.text or None, signature=signature, format=THOUGHT_FORMAT
    )


KEEPALIVE = b": keep-alive\n\n"
"""May go between any two frames; a comment, which no client takes for data."""

_DONE = b"data: [DONE]\n\n"
_CHARS_PER_TOKEN = 4


def error_frame(
    error: PenstockError,
    request_id: str,
    sequence: int = 0,  # noqa: ARG001 - events are not numbered here
    asked: Asked = NOTHING_ASKED,  # noqa: ARG001 - an error says nothing of its request here
) -> bytes:
    """An error inside a stream, as the OpenAI SDKs raise it; no ``[DONE]`` comes after it."""
    return b"data: " + native_body(error, request_id) + b"\n\n"


class ResponseEncoder:
    """Writes one reply as chunks. ``error`` replaces a ``Failed``; the upstream's words are the operator's."""

    sequence = 0  # events are not numbered in this dialect

    __slots__ = (
        "_annotations",
        "_args",
        "_block",
        "_calls",
        "_chars",
        "_cited_to",
        "_ended",
        "_estimate",
        "_extra",
        "_free",
        "_head",
        "_ids",
        "_include_usage",
        "_request_id",
        "_role_sent",
        "_scores",
        "_span",
        "_tail",
        "_text_head",
        "_text_tail",
        "_thoughts",
        "_unseen",
        "_usage",
        "error",
    )

    def __init__(
        self,
        *,
        model: str,
        reply_id: str,
        created: int,
        include_usage: bool,
        input_estimate: int,
        asked: Asked = NOTHING_ASKED,  # noqa: ARG002 - a chunk says nothing of its request
    ) -> None:
        """``created`` is in Unix seconds; ``input_estimate`` in tokens, for a usage that the upstream did not give."""
        self.error: PenstockError = BROKEN_OFF
        self._request_id = reply_id
        self._ids = (
            b'data: {"id":'
            + _encode(reply_id)
            + b',"object":"chat.completion.chunk","created":'
            + _encode(created)
            + b',"model":'
            + _encode(model)
            + b',"choices":['
        )
        self._head = self._ids + b'{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null}]}\n\n'
        self._text_head = self._head + b'{"content":'
        self._text_tail = b"}" + self._tail
        self._include_usage = include_usage
        self._estimate = input_estimate
        self._role_sent = False
        self._ended = False
        self._usage = Usage()
        self._calls = 0
        self._free: CustomInput | None = None  # of the open call, where it takes free text
        self._extra: Extra | UnsetType = UNSET  # of the next call
        self._args = True  # the last call has arguments, or there is none
        self._thoughts = -1  # index of the last thought block
        self._block: Literal["", "thought", "signed", "other"] = ""
        self._chars = 0  # of text, which citations count in
        self._unseen = 0  # of reasoning and arguments
        self._span = (0, 0)
        self._cited_to = 0
        self._scores = ""  # of the text that comes next
        self._annotations: list[Annotation] = []

    @property
    def kept(self) -> int:
        """Length of the free text that its end is compared with."""
        return 0 if self._free is None else self._free.size

    def write(self, events: list[AnyEvent]) -> bytes:
        """The frames of ``events``; nothing after the terminal one."""
        pieces: list[bytes] = []
        for event in events:
            if self._ended:
                break
            if isinstance(event, TextDelta) and self._block == "other" and self._args:
                self._chars += len(event.text)
                pieces.append(self._text_head + _encode(event.text) + self._text_tail)
            else:
                self._other(event, pieces)
        return b"".join(pieces)

    def _other(self, event: AnyEvent, pieces: list[bytes]) -> None:
        if isinstance(event, Failed):
            self._ended = True
            pieces.append(error_frame(self.error, self._request_id))
            return
        if not self._role_sent:
            self._role_sent = True
            self._delta(b'{"role":"assistant","content":"","refusal":null}', pieces)
        match event:
            case Started() | HostedUsed():
                pass  # Chat has no word for what a tool of the provider did; what came of it is cited
            case Metered(usage):
                self._usage = merge_usage(self._usage, usage)
            case Cited():
                self._cite(event)
            case Scored(tokens):
                self._scores += "," + tokens if self._scores else tokens
                self._block = self._block if self._block == "thought" else ""  # so that the text comes here
            case TextDelta(text):
                self._block_of("other", pieces)
                self._chars += len(text)
                delta = b'{"content":' + _encode(text) + b"}"
                if self._scores:
                    pieces.append(self._head + delta + self._scored_tail())
                else:
                    self._delta(delta, pieces)
            case ThoughtDelta() | ThoughtSigned() | ThoughtRedacted():
                self._thought(event, pieces)
            case CallOpened(id, name):
                self._block_of("other", pieces)
                self._args = False
                own = outward(id, CALL_ID_LIMIT)
                self._free = CustomInput() if event.custom else None
                call = (
                    CustomCall(own, CalledCustom(name, ""))
                    if event.custom
                    else ToolCallItem(own, CalledFunction(name, ""), extra_content=self._extra)
                )
                self._extra = UNSET
                self._call(b"," + _encode(call)[1:], pieces, self._calls)
                self._calls += 1
            case CallArgs(fragment):
                self._unseen += len(fragment)
                if self._free is not None:
                    self._input(self._free.feed(fragment), pieces)
                else:
                    self._args = True
                    arguments = b',"function":{"arguments":' + _encode(fragment) + b"}}"
                    self._call(arguments, pieces, self._calls - 1)
            case Stopped():
                self._stop(event, pieces)
            case _:
                assert_never(event)

    def _scored_tail(self) -> bytes:
        """What stands after a delta with the log probabilities that belong to it."""
        scores, self._scores = self._scores, ""
        return b',"logprobs":{"content":[%b],"refusal":null},"finish_reason":null}]}\n\n' % scores.encode()

    def _delta(self, delta: bytes, pieces: list[bytes]) -> None:
        pieces.append(self._head + delta + self._tail)

    def _call(self, members: bytes, pieces: list[bytes], index: int) -> None:
        """A fragment of a call; calls are counted by themselves, whatever other blocks stand between them."""
        self._delta(b'{"tool_calls":[{"index":' + _encode(index) + members + b"]}", pieces)

    def _input(self, text: str, pieces: list[bytes]) -> None:
        """More of a free-text call, in the form that OpenAI streams it in."""
        if text:
            self._call(b',"custom":{"input":' + _encode(text) + b"}}", pieces, self._calls - 1)

    def _block_of(self, kind: Literal["thought", "other"], pieces: list[bytes]) -> None:
        if self._free is not None:
            free, self._free = self._free, None
            self._args = True
            text, given = free.finish(), free.given.text()
            self._input(text[len(given) :] if text.startswith(given) else "", pieces)
        elif not self._args:
            self._args = True
            self._call(b',"function":{"arguments":"{}"}}', pieces, self._calls - 1)
        self._block = kind

    def _thought(self, event: ThoughtDelta | ThoughtSigned | ThoughtRedacted, pieces: list[bytes]) -> None:
        """Reasoning as readable text and, beside it, as entries that bring signatures back to us.

        ``format`` is sent once an entry: the SDK joins what it gets for the same index.
        """
        begins = self._block != "thought"
        self._block_of("thought", pieces)
        if begins or isinstance(event, ThoughtRedacted):
            self._thoughts += 1
        index = self._thoughts
        form = THOUGHT_FORMAT if begins else None
        match event:
            case ThoughtDelta(text):
                self._unseen += len(text)
                detail = _encode(Detail("reasoning.text", index, text=text, format=form))
                self._delta(
                    b'{"reasoning_content":' + _encode(text) + b',"reasoning_details":[' + detail + b"]}",
                    pieces,
                )
            case ThoughtSigned(signature):
                if has_to_return(signature):
                    detail = _encode(Detail("reasoning.text", index, signature=signature, format=form))
                    self._delta(b'{"reasoning_details":[' + detail + b"]}", pieces)
                elif begins:
                    self._thoughts -= 1
                self._extra = _extra(signature) or self._extra
                self._block = "signed"
            case ThoughtRedacted(data):
                detail = _encode(Detail("reasoning.encrypted", index, data=data, format=THOUGHT_FORMAT))
                self._delta(b'{"reasoning_details":[' + detail + b"]}", pieces)
                self._block = "signed"
            case _:
                assert_never(event)

    def _cite(self, event: Cited) -> None:
        """Keep a citation of the text since the last one, or of the same text again."""
        if self._chars > self._cited_to:
            self._span = (self._cited_to, self._chars)
            self._cited_to = self._chars
        start, end = self._span
        self._annotations.append(Annotation(Page(start, end, event.url, event.title)))

    def _stop(self, event: Stopped, pieces: list[bytes]) -> None:
        self._ended = True
        self._block_of("other", pieces)
        if self._annotations:
            self._delta(b'{"annotations":' + _encode(self._annotations) + b"}", pieces)
        if event.reason == "refusal" and event.detail:
            self._delta(b'{"refusal":' + _encode(event.detail) + b"}", pieces)
        extra = b""
        if event.stop_sequence is not None:
            extra = b',"matched_stop":' + _encode(event.stop_sequence)
        if event.reason in NATIVE:
            extra += b',"native_finish_reason":' + _encode(NATIVE[event.reason])
        finish = _encode(FINISH[event.reason])
        served = answered_tier(event.service_tier)
        tier = b"" if served is None else b',"service_tier":' + _encode(served)
        pieces.append(
            self._head + b'{},"logprobs":null,"finish_reason":' + finish + extra + b"}]" + tier + b"}\n\n"
        )
        if self._include_usage:
            counts = token_counts(
                self._usage,
                input_estimate=self._estimate,
                output_estimate=-(-(self._chars + self._unseen) // _CHARS_PER_TOKEN),
            )
            pieces.append(self._ids + b'],"usage":' + _encode(counts) + b"}\n\n")
        pieces.append(_DONE)
