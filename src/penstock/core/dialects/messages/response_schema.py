"""Schema of the frames of a Messages stream and of a whole Messages answer, and how their parts become events.

Loose on purpose: many upstreams imitate the format. What is only counted (usage) or only shown (citations) may be wrong
without breaking the reply.
"""

from typing import cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.body.nesting import in_utf8, nests_deeper
from penstock.core.body.value_limits import real
from penstock.core.dialects.finish_words import MESSAGES, good_end
from penstock.core.dialects.upstream_error_text import kind_of, words
from penstock.core.neutral.events import AnyEvent, Cited, Failed, StopReason, garbled
from penstock.core.neutral.usage import Special, Usage, merge_usage, unusual_tier
from penstock.core.tools.hosted_runs import read_tool_use, runs_of, special_of


class Delta(msgspec.Struct, gc=False):
    """The ``delta`` of ``content_block_delta`` and of ``message_delta``."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Raw | UnsetType = UNSET
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Raw | UnsetType = UNSET


class Block(msgspec.Struct):
    """A content block, whole or as it starts."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw | UnsetType = UNSET
    tool_use_id: str | None = None
    citations: list[Raw] | None = None


class Message(msgspec.Struct):
    """A whole answer, and the skeleton of one in ``message_start``."""

    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Raw | UnsetType = UNSET
    usage: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    type: str | None = None


class StreamEvent(msgspec.Struct):
    """The data of any frame."""

    type: str = ""
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Message | None = None
    usage: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class _CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    iterations: Raw | UnsetType = UNSET
    server_tool_use: Raw = Raw()
    service_tier: object = None
    speed: object = None


class _Iteration(msgspec.Struct):
    """The counts of one of the samplings that an answer took."""

    type: str = ""
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None


_BILLED_BESIDE = frozenset(("compaction", "advisor_message"))
"""Types of iterations that are billed and in no count of the answer itself: those have the ``message`` and
``fallback_message`` ones that were served, and a hop that declined is not billed. Of a type that is not known nobody can tell.
Anthropic: "Compaction", Understanding usage; the reference of its SDK 2.12, ``BetaUsage.iterations``; read 2026-11-30. That the
counts leave out what an advisor took is told on the page of the advisor tool (unverified: not read again since).
"""
_CALLED_HERE = frozenset({"server_tool_use", "mcp_tool_use"})
_COUNTED = frozenset({"web_search", "web_fetch"})
"""Tools whose runs a ``usage`` counts, where it counts any: one that failed is not billed."""
_USUAL = (None, "standard")
_NULL = len("null")
_SERVED = "fallback_message"
"""The type of the iteration that ended an answer which another model has given."""


class _Details(msgspec.Struct):
    explanation: str | None = None


class _Citation(msgspec.Struct):
    type: str = ""
    url: str | None = None
    title: str | None = None
    cited_text: str | None = None


decode_event = msgspec.json.Decoder(StreamEvent).decode
_NO_EVENT = garbled("the upstream sent an event that is not JSON")
_whole = msgspec.json.Decoder(Message).decode
_usage = msgspec.json.Decoder(_Usage).decode
_iteration_list = msgspec.json.Decoder(list[Raw]).decode
_iteration = msgspec.json.Decoder(_Iteration).decode
_details = msgspec.json.Decoder(_Details).decode
_citation = msgspec.json.Decoder(_Citation).decode
_anything = msgspec.json.Decoder(float_hook=real).decode

READ_TYPES = frozenset(
    (
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    )
)
"""Event types that mean something to us; all others are ignored."""
_PASSED_ON = frozenset(("content_block_start", "content_block_delta", "content_block_stop"))


def decode_whole(body: bytes) -> Message | None:
    """A whole answer; None where it is no message."""
    if nests_deeper(body):
        return None
    try:
        return _whole(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        mended = in_utf8(body)
        return None if mended is None else decode_whole(mended)


def end_of(word: str | None, *, called: bool, own: str = "") -> StopReason | Failed:
    """The reason that a word stands for, or the failure; where there is no word, whether a tool was ``called`` decides."""
    if word:
        return good_end(MESSAGES, word, own)
    return "tool_use" if called else "end_turn"


class UsageMeter:
    """Reads the ``usage`` objects of one answer: what they say of it is added to what was billed beside it."""

    __slots__ = ("_beside", "_own", "_ran", "served", "service_tier")

    def __init__(self) -> None:
        self._own = Usage()
        self._ran: list[str] = []
        self.service_tier: str | None = None
        """That served the answer, where it names one."""
        self._beside: Usage | None = None
        self.served = ""
        """The model that has answered, where an iteration says that it is another; else ''."""

    def saw(self, block: Block | None) -> None:
        """Take a block of the answer; those that a tool of the provider begins with count."""
        if block is not None and block.type in _CALLED_HERE:
            self._ran.append("mcp" if block.type == "mcp_tool_use" else block.name or "")

    def at_start(self, raw: Raw | UnsetType) -> Usage | None:
        """The counts in ``message_start``: what it says of the output is only how far that had come."""
        return self._take(raw, started=True)

    def take(self, raw: Raw | UnsetType) -> Usage | None:
        """What this ``usage`` says, to be merged with what was said before; None where there is none that can be read."""
        return self._take(raw, started=False)

    def _take(self, raw: Raw | UnsetType, *, started: bool) -> Usage | None:
        if raw is UNSET:
            return None
        try:
            found = _usage(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        own = _usage_of(found)
        if found.output_tokens_details:
            own = msgspec.structs.replace(own, reasoning=_count(found.output_tokens_details.thinking_tokens))
        if started:
            own = msgspec.structs.replace(own, output=None, reasoning=None)
        if isinstance(found.service_tier, str):
            self.service_tier = found.service_tier
        if (
            self._ran
            or len(found.server_tool_use) > _NULL
            or found.service_tier not in _USUAL
            or found.speed not in _USUAL
        ):
            own = msgspec.structs.replace(own, special=self._specially(found))
        self._own = merge_usage(self._own, own)
        if found.iterations is not UNSET:
            self._read_iterations(found.iterations)
        return own if self._beside is None else _with(self._own, self._beside)

    def _specially(self, found: _Usage) -> Special | None:
        """Runs of code are in no count of Anthropic's, so they are counted by their blocks."""
        ran, told = runs_of(self._ran), read_tool_use(found.server_tool_use)
        if told is not None:
            ran = {name: number for name, number in ran.items() if name not in _COUNTED} | told
        tier = unusual_tier(found.service_tier if isinstance(found.service_tier, str) else None)
        if found.speed == "fast":
            tier = f"{tier} fast".lstrip()
        return special_of(ran, tier)

    def _read_iterations(self, raw: Raw) -> None:
        """Later ones repeat the earlier."""
        if bytes(raw) == b"null":
            return
        try:
            iterations = [_iteration(one) for one in _iteration_list(raw)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        beside: Usage | None = None
        for one in iterations:
            if one.type in _BILLED_BESIDE:
                beside = _with(_NOTHING if beside is None else beside, _usage_of(one))
            elif one.type == _SERVED and one.model:
                self.served = one.model
        self._beside = beside or self._beside


_NOTHING = Usage(input=0, output=0)


def metered(message: Message) -> tuple[Usage | None, UsageMeter]:
    """The counts of a whole answer, None where there are none that can be read; and what read them."""
    meter = UsageMeter()
    for block in message.content or ():
        meter.saw(block)
    return meter.take(message.usage), meter


def _usage_of(found: _Usage | _Iteration) -> Usage:
    return Usage(
        input=_count(found.input_tokens),
        output=_count(found.output_tokens),
        cache_read=_count(found.cache_read_input_tokens),
        cache_write=_count(found.cache_creation_input_tokens),
        cache_write_1h=_count(found.cache_creation.ephemeral_1h_input_tokens)
        if found.cache_creation
        else None,
    )


def _with(own: Usage, beside: Usage) -> Usage:
    """Both together. What the answer itself took stays unknown where it is: a part of it is no count."""
    return Usage(
        input=None if own.input is None else own.input + (beside.input or 0),
        output=None if own.output is None else own.output + (beside.output or 0),
        cache_read=_sum(own.cache_read, beside.cache_read),
        cache_write=_sum(own.cache_write, beside.cache_write),
        reasoning=own.reasoning,
        cache_write_1h=_sum(own.cache_write_1h, beside.cache_write_1h),
        special=own.special,
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value < 1 << 53 else None


def explanation_of(raw: Raw | UnsetType) -> str | None:
    """Why a reply was refused, out of ``stop_details``."""
    if raw is UNSET or bytes(raw) == b"null":
        return None
    try:
        return _details(raw).explanation
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def cited(raw: Raw) -> list[AnyEvent]:
    """The citation of a web page; other kinds point into the caller's own documents and have no other form."""
    try:
        found = _citation(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    if found.type != "web_search_result_location" or not found.url:
        return []
    return [Cited(found.url, found.title or "", found.cited_text or "")]


def failure_of(data: bytes) -> Failed:
    """The failure that error JSON tells of."""
    try:
        value: object = _anything(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return garbled("the upstream reported an error that cannot be read")
    return Failed(kind_of(value), words(value) or "the upstream reported an error without a message")


def read_event(name: bytes, data: bytes) -> StreamEvent | Failed | None:
    """The event of a frame, None where it is one to ignore, a failure where it cannot be read.

    The type inside the data counts; ``name`` (the ``event:`` line) only where there is none.
    """
    if nests_deeper(data):
        return _NO_EVENT
    try:
        event = decode_event(data)
    except msgspec.ValidationError as error:
        return _unread(name, data, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not data.strip() or data.strip() == b"[DONE]":
            return None
        mended = in_utf8(data)
        return _NO_EVENT if mended is None else read_event(name, mended)
    if (
        event.error is not UNSET
        and bytes(event.error) != b"null"
        and event.type not in READ_TYPES - {"error"}
    ):
        return failure_of(data)
    kind = event.type or name.decode("latin-1")
    if kind not in READ_TYPES:
        return None
    event.type = kind
    return failure_of(data) if kind == "error" else event


def is_passed_on(name: bytes, data: bytes) -> bool:
    """Whether a frame is a JSON object of a type that need not be understood to be passed on."""
    return _type_of(name, data) in _PASSED_ON


def _unread(name: bytes, data: bytes, error: msgspec.ValidationError) -> Failed | None:
    """What to make of an event whose members have types that we do not know."""
    kind = _type_of(name, data)
    if kind is None:
        return (
            None
            if data.strip() == b"[DONE]"
            else garbled("the upstream sent an event that is not a JSON object")
        )
    if kind == "error":
        return failure_of(data)
    if kind not in READ_TYPES:
        return None
    return garbled(f"the upstream sent a malformed {kind} event: {error}")


def _type_of(name: bytes, data: bytes) -> str | None:
    """The type of an event whatever its members are; None where it is no JSON object."""
    try:
        value: object = _anything(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    kind = cast("dict[str, object]", value).get("type")
    return kind if isinstance(kind, str) and kind else name.decode("latin-1")
