"""Schema of the events of a Responses stream and of a whole response, and how their parts are counted.

Loose on purpose, like its Messages counterpart: many upstreams imitate the format. What is only counted (usage) or only
shown (annotations) may be wrong without breaking the reply.
"""

from collections.abc import Iterable
from typing import cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.body.nesting import in_utf8, nests_deeper
from penstock.core.body.value_limits import real
from penstock.core.dialects.finish_words import RESPONSES, UNKNOWN_END, failed_end, good_end
from penstock.core.dialects.openai.scores import Score, written_scores
from penstock.core.dialects.responses.hosted_tools import HostedItem
from penstock.core.dialects.upstream_error_text import kind_of, words
from penstock.core.neutral.events import Cited, Failed, StopReason, garbled
from penstock.core.neutral.usage import USUAL_TIERS, Usage, unusual_tier
from penstock.core.tools.hosted_runs import runs_of, special_of


class Part(msgspec.Struct, gc=False):
    """A part of an item: text, refusal, summary or reasoning."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Raw] | None = None
    logprobs: Raw = Raw()


class Item(HostedItem):
    """An output item, whole or as it begins. ``arguments`` and ``input`` are texts in the items that we know."""

    call_id: str | None = None
    namespace: str | None = None
    input: object = None
    content: list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None


class Kind(msgspec.Struct):
    """As much of an item as says what it is."""

    type: str = ""


class Incomplete(msgspec.Struct):
    """Why a response is not complete."""

    reason: str | None = None


class Response(msgspec.Struct):
    """A whole response, and the skeleton of one in the first events."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    service_tier: str | None = None
    output: list[Item] | None = None
    incomplete_details: Incomplete | None = None
    usage: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class StreamEvent(msgspec.Struct):
    """The data of any frame that means something to us."""

    type: str = ""
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    item: Item | None = None
    response: Response | None = None
    annotation: Raw | UnsetType = UNSET
    logprobs: Raw = Raw()
    error: Raw | UnsetType = UNSET


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Annotation(msgspec.Struct):
    type: str = ""
    url: str | None = None
    title: str | None = None


_event = msgspec.json.Decoder(StreamEvent).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_kind = msgspec.json.Decoder(Kind).decode
_item = msgspec.json.Decoder(Item).decode
_encode = msgspec.json.Encoder().encode
_USUAL = USUAL_TIERS | {None}
_NO_EVENT = garbled("the upstream sent an event that is not JSON")
_whole = msgspec.json.Decoder(Response).decode
_usage = msgspec.json.Decoder(_Usage).decode
_annotation = msgspec.json.Decoder(_Annotation).decode
_anything = msgspec.json.Decoder(float_hook=real).decode

CALLS = ("function_call", "custom_tool_call")
"""Types of items that are calls of the caller's tools."""
_PARTS = frozenset({"output_text", "text", "refusal", "summary_text", "reasoning_text"})
_UNDERSTOOD = frozenset({*CALLS, "message", "reasoning"})
"""Types of items that a reply is made of; one of another type may have any members."""
STARTS = frozenset({"response.created", "response.in_progress", "response.queued"})
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
READ_TYPES = (
    STARTS
    | ENDS
    | frozenset(
        {
            "response.output_item.added",
            "response.output_item.done",
            "response.output_text.delta",
            "response.output_text.done",
            "response.output_text.annotation.added",
            "response.refusal.delta",
            "response.refusal.done",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "error",
        }
    )
)
"""Event types that mean something to us; all others are ignored."""
_PASSED_ON = READ_TYPES - STARTS - ENDS - {"error"}


def read_event(name: bytes, data: bytes, *, passed: bool = False) -> StreamEvent | Failed | None:
    """The event of a frame, None where it is one to ignore, a failure where it cannot be read or reports one.

    The type inside the data counts; ``name`` (the ``event:`` line) only where there is none. ``passed``: its items need not
    be understood, because they go to the caller as they are.
    """
    if nests_deeper(data):
        return _NO_EVENT
    try:
        event = _event(data)
    except msgspec.ValidationError as error:
        if data.strip() == b"[DONE]":
            return None
        loose = _loose_event(name, data, passed=passed)
        if loose is None:
            return _unread(name, data, error)
        event = loose
    except (ValueError, RecursionError):
        if not data.strip():
            return None
        mended = in_utf8(data)
        return _NO_EVENT if mended is None else read_event(name, mended, passed=passed)
    kind = event.type or name.decode("latin-1")
    if kind == "error" or (kind not in READ_TYPES and _present(event.error)):
        return failure_of(data)
    response = event.response
    if kind in ("response.failed", "response.cancelled") or (kind in ENDS and _has_failed(response)):
        return failed_response(response)
    if kind not in READ_TYPES:
        return None
    failed = failed_ending(response) if kind in ENDS else None
    if failed is not None:
        return failed
    event.type = kind
    return event


def _unread(name: bytes, data: bytes, error: msgspec.ValidationError) -> Failed | None:
    """What to make of an event whose members have types that we do not know."""
    event = _object(data)
    if event is None:
        return garbled("the upstream sent an event that is not a JSON object")
    kind = _type_of(name, event)
    if kind in ("error", "response.failed") or (
        kind not in READ_TYPES and event.get("error") not in (None, "", {})
    ):
        return failure_of(data)
    if kind not in READ_TYPES:
        return None
    return garbled(f"the upstream sent a malformed {kind} event: {error}")


def is_passed_on(name: bytes, data: bytes) -> bool:
    """Whether a frame is a JSON object of a type that need not be understood to be passed on."""
    event = _object(data)
    return event is not None and _type_of(name, event) in _PASSED_ON


def _object(data: bytes) -> dict[str, object] | None:
    """A JSON object, whatever its members are; None for anything else."""
    try:
        value: object = _anything(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _type_of(name: bytes, event: dict[str, object]) -> str:
    kind = event.get("type")
    return kind if isinstance(kind, str) and kind else name.decode("latin-1")


def decode_whole(body: bytes, *, passed: bool = False) -> Response | None:
    """A whole answer; None where it is no response. ``passed``: its items need not be understood."""
    if nests_deeper(body):
        return None
    try:
        return _whole(body)
    except msgspec.ValidationError:
        try:
            return _loose_response(Raw(body), passed=passed)
        except (ValueError, RecursionError):
            return None
    except (ValueError, RecursionError):
        mended = in_utf8(body)
        return None if mended is None else decode_whole(mended, passed=passed)


# ---- items of a type that we do not know, whose members may be anything


def _loose_event(name: bytes, data: bytes, *, passed: bool) -> StreamEvent | None:
    """An event that has such items; None where that is not what is the matter with it."""
    try:
        fields = _fields(data)
        item, response = fields.pop("item", None), fields.pop("response", None)
        event = _event(_encode(fields))
        if (event.type or name.decode("latin-1")) not in READ_TYPES:
            return None
        event.item = None if item is None else _loose_item(item, passed=passed)
        event.response = None if response is None else _loose_response(response, passed=passed)
    except (ValueError, RecursionError):
        return None
    return event


def _loose_response(raw: Raw, *, passed: bool) -> Response:
    fields = _fields(raw)
    output = fields.pop("output", None)
    response = _whole(_encode(fields))
    if output is not None and bytes(output) != b"null":
        response.output = [_loose_item(each, passed=passed) for each in _raws(output)]
    return response


def _loose_item(raw: Raw, *, passed: bool) -> Item:
    """An item, of which only the type is known where its members are not what they are in the items that we know."""
    try:
        return _item(raw)
    except msgspec.ValidationError:
        kind = _kind_of(raw)
        if passed or kind not in _UNDERSTOOD:
            return Item(kind)
        fields = _fields(raw)
        kept = {name: _known_parts(fields[name]) for name in ("content", "summary") if name in fields}
        return _item(_encode(fields | kept))


def _known_parts(raw: Raw) -> object:
    """The parts of a type that we know; others say nothing to us."""
    if bytes(raw)[:1] != b"[":
        return raw
    return [part for part in _raws(raw) if _kind_of(part) in _PARTS]


def _kind_of(raw: Raw) -> str:
    try:
        return _kind(raw).type
    except msgspec.ValidationError:
        return ""


def is_json(data: bytes) -> bool:
    """Whether the frame that the end of a stream left is a whole one."""
    try:
        _anything(data)
    except (ValueError, RecursionError):
        return False
    return not nests_deeper(data)


def failure_of(data: bytes) -> Failed:
    """The failure that error JSON tells of."""
    try:
        value: object = _anything(data)
    except (ValueError, RecursionError):
        return garbled("the upstream reported an error that cannot be read")
    return Failed(kind_of(value), words(value) or "the upstream reported an error without a message")


def failed_response(response: Response | None) -> Failed:
    """The failure of a response whose status is one."""
    if response is not None and _present(response.error):
        return failure_of(bytes(response.error) if response.error is not UNSET else b"")
    return Failed("api_error", "the upstream's response failed without saying why")


def failure_in(response: Response, data: bytes) -> Failed | None:
    """The failure that a whole answer is, or None."""
    if _has_failed(response):
        return failed_response(response)
    if _present(response.error):
        return failure_of(data)
    if response.status in _UNFINISHED:
        return Failed("api_error", f"the upstream's answer is {response.status}", truncated=True)
    if response.output is None:
        return garbled("the upstream's answer has no output")
    return failed_ending(response)


_UNFINISHED = frozenset({"queued", "in_progress"})
"""States of a response that is no answer yet."""
_ENDED = frozenset({"", "completed", "incomplete"})


def unknown_state(response: Response) -> Failed | None:
    """The failure of a whole answer whose state is not known to be a good one."""
    status = response.status or ""
    return (
        None
        if status in _ENDED
        else Failed(UNKNOWN_END, f"status {status[:40]} is not known to be a good end")
    )


_scores = msgspec.json.Decoder(list[Score]).decode


def scores_of(raw: Raw) -> str:
    """The entries of a text's ``logprobs`` as ``Scored`` has them; '' where there are none that can be read."""
    try:
        return written_scores(_scores(raw))
    except (ValueError, RecursionError):
        return ""


HOSTED = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
    "mcp_call": "mcp",
}
"""Types of items that are runs of tools that the provider ran, and what is counted."""
_OPENING = (b'"open_page"', b'"find_in_page"')


def hosted_run(item: Item) -> str:
    """The tool of the provider whose run an item is; '' for others.

    Opening a page that a search has found is a fetch: only searches are billed. OpenAI: "Web search", Output and citations
    (unverified: not read again since 2026-06).
    """
    name = HOSTED.get(item.type, "")
    if name == "web_search" and item.action is not UNSET:
        return "web_fetch" if any(mark in bytes(item.action) for mark in _OPENING) else name
    return name


def usage_in(response: Response, ran: Iterable[str] = ()) -> Usage | None:
    """What a whole response says of its counts; ``ran`` are runs of hosted tools, where its output does not hold them."""
    usage = usage_of(response.usage)
    output = response.output
    names = [name for item in output if item.type in HOSTED and (name := hosted_run(item))] if output else []
    names = names or list(ran)
    if not names and response.service_tier in _USUAL:
        return usage
    special = special_of(runs_of(names), unusual_tier(response.service_tier))
    return usage if special is None else msgspec.structs.replace(usage or Usage(), special=special)


def usage_of(raw: Raw | UnsetType) -> Usage | None:
    """The counts of a ``usage`` object as a disjoint partition; None where there is none that can be read."""
    if raw is UNSET:
        return None
    try:
        found = _usage(raw)
    except (ValueError, RecursionError):
        return None
    inner = found.input_tokens_details or _InputDetails()
    read, write = _count(inner.cached_tokens), _count(inner.cache_write_tokens)
    total = _count(found.input_tokens)
    usage = Usage(
        input=None if total is None else max(0, total - (read or 0) - (write or 0)),
        output=_count(found.output_tokens),
        cache_read=read,
        cache_write=write,
        reasoning=_count(found.output_tokens_details.reasoning_tokens)
        if found.output_tokens_details
        else None,
    )
    return None if usage == Usage() else usage


def end_of(
    response: Response, kind: str, *, called: bool, refused: bool, own: str = ""
) -> StopReason | Failed:
    """Why the reply ended, or the failure; ``kind`` is the event's type, or its like made from a whole answer's status."""
    if kind == "response.incomplete":
        details = response.incomplete_details
        word = details.reason if details is not None else None
        return good_end(RESPONSES, word, own) if word else "max_tokens"
    if refused:
        return "refusal"
    return "tool_use" if called else "end_turn"


def failed_ending(response: Response | None) -> Failed | None:
    """The failure that an incomplete response's own reason tells of."""
    details = None if response is None else response.incomplete_details
    return failed_end(RESPONSES, details.reason) if details is not None and details.reason else None


def cited(raw: Raw | UnsetType) -> Cited | None:
    """The citation of a web page; other kinds point into files that no caller has."""
    if raw is UNSET:
        return None
    try:
        found = _annotation(raw)
    except (ValueError, RecursionError):
        return None
    return Cited(found.url, found.title or "") if found.type == "url_citation" and found.url else None


def _has_failed(response: Response | None) -> bool:
    return response is not None and response.status in ("failed", "cancelled")


def _present(raw: Raw | UnsetType) -> bool:
    return raw is not UNSET and bytes(raw) not in (b"null", b"{}", b'""')


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value < 1 << 53 else None
