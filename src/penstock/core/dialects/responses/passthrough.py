"""Pass-through of Responses: bytes in, the same bytes out, and what the ledger needs is read on the side.

A frame is decoded only if it holds a response or an error; a delta is just counted by its length.
"""

import re

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.body.request_scan import ENCRYPTED
from penstock.core.body.splice import replace_at, replace_top_level
from penstock.core.dialects.foreign_reasoning.responses import MARKS as REASONING_MARKS
from penstock.core.dialects.foreign_reasoning.responses import without_our_reasoning
from penstock.core.dialects.interface import PassedAnswer, Prepared
from penstock.core.dialects.openai.encode_request import refused_sampling
from penstock.core.dialects.passthrough import FramePassthrough
from penstock.core.dialects.responses.decode_response import decode_response
from penstock.core.dialects.responses.encode_response import ResponseEncoder
from penstock.core.dialects.responses.request_echo import wants_compaction
from penstock.core.dialects.responses.request_schema import COMPACTIONS
from penstock.core.dialects.responses.response_schema import (
    CALLS,
    ENDS,
    HOSTED,
    Item,
    Response,
    StreamEvent,
    decode_whole,
    end_of,
    failure_in,
    hosted_run,
    is_json,
    is_passed_on,
    read_event,
    usage_in,
)
from penstock.core.dialects.responses.text_form import PIECE
from penstock.core.dialects.summary import INTRODUCTION, SEALED, opened_summary
from penstock.core.neutral.events import AnyEvent, Failed, garbled
from penstock.core.neutral.request import Loss
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.core.sse import Frame, parse_frame, split_whole
from penstock.errors import InvalidRequest

_BOM = b"\xef\xbb\xbf"
_GENERATED = re.compile(rb'"delta"\s*:\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
_CALLED = tuple(b'"%b"' % kind.encode() for kind in CALLS)
_DONE = b"output_item.done"
_ITEM_DONE = "response.output_item.done"
_HOSTED = tuple(b'"%b"' % kind.encode() for kind in HOSTED)
_SEQUENCE = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')

_encode = msgspec.json.Encoder().encode


# ---- the request

_SUMMARY = SEALED.encode()
_COMPACTED = b'"%b' % _SUMMARY
MARKS = (_SUMMARY, ENCRYPTED, *REASONING_MARKS)
"""What strings begin with in a body that may need a change."""
_NO_EFFORT = re.compile(rb'"effort"\s*:\s*"none"')
_ENCRYPTED = "reasoning.encrypted_content"


class _Item(msgspec.Struct):
    type: str | None = None
    encrypted_content: str | None = None


_items = msgspec.json.Decoder(list[Raw]).decode
_item = msgspec.json.Decoder(_Item).decode

_words = msgspec.json.Decoder(list[str] | None).decode


def pass_request(
    envelope: Envelope,
    model: str,
    profile: Profile,
    reasoning: ReasoningScope | None = None,  # noqa: ARG001 - callers of Responses are given it sealed
) -> Prepared:
    """The caller's body, but stored nowhere: what one caller stores at the operator's provider is not another's to read.

    Where the caller wanted to have it stored, so that reasoning could be referred to, it is asked for in the form that
    can be sent back. Sampling that the model refuses is left out.
    """
    changes: dict[str, bytes] = {}
    losses: list[Loss] = []
    stored = envelope.value("store")
    if stored != b"false":
        changes["store"] = b"false"
        if stored == b"true":
            losses.append(Loss("store", "dropped"))
        if profile.encrypted_reasoning:
            included = _included(envelope)
            if _ENCRYPTED not in included:
                changes["include"] = _encode([*included, _ENCRYPTED])
    if envelope.shows(_SUMMARY) and envelope.value("input").startswith(b"["):
        changes["input"] = _encode([_readable(row) for row in _items(envelope.value("input"))])
        losses.append(Loss("input.compaction", "text"))
    if envelope.shows(*REASONING_MARKS):
        items = without_our_reasoning(changes.get("input") or envelope.value("input"))
        if items is not None:
            changes["input"] = items
            losses.append(Loss("input.reasoning", "dropped"))
    drop: tuple[str, ...] = ()
    if not profile.sampling:
        drop = refused_sampling(
            envelope, profile, reasons=_NO_EFFORT.search(envelope.value("reasoning")) is None
        )
        losses += (Loss(name, "dropped") for name in drop)
    return Prepared(envelope.encode(model, changes, drop), tuple(losses))


def declines(envelope: Envelope, profile: Profile) -> bool:
    """Whether a request is translated although the upstream speaks Responses: it has no compaction of its own."""
    return not profile.compaction and wants_compaction(envelope)


def _readable(row: Raw) -> Raw:
    """An item as an upstream can read it: a summary that we had written is a message of the user."""
    if _COMPACTED not in bytes(row):
        return row
    try:
        item = _item(row)
    except msgspec.ValidationError:
        return row
    summary = opened_summary(item.encrypted_content) if item.type in COMPACTIONS else None
    if summary is None:
        return row
    said = {"type": "input_text", "text": INTRODUCTION + summary}
    return Raw(_encode({"type": "message", "role": "user", "content": [said]}))


def _included(envelope: Envelope) -> list[str]:
    given = envelope.value("include")
    try:
        return _words(given) or [] if given else []
    except msgspec.ValidationError as error:
        raise InvalidRequest("include must be a list of strings.", param="include") from error


# ---- the answer


class Passthrough(FramePassthrough):
    """A Responses stream. The value of ``response.model`` becomes ``model`` (None: stays) wherever a frame holds a response."""

    PIECE = PIECE
    MARKS = (b'"response"', b"error")  # quotes in text are escaped, so the first is a key

    __slots__ = ("_ran",)

    def __init__(self, *, model: str | None, withhold_usage: bool) -> None:
        super().__init__(model=model, withhold_usage=withhold_usage)
        self._ran: list[str] = []  # tools of the provider

    @property
    def sequence(self) -> int:
        """The number of the event that would come next."""
        found = _SEQUENCE.findall(self._last)
        return int(found[-1]) + 1 if found else 0

    def _complete(self, frame: Frame) -> bool:
        return is_json(frame.data)

    def _events(self, body: bytes) -> list[AnyEvent]:
        return decode_response(body)

    def _written(self, events: list[AnyEvent], model: str, reply_id: str) -> bytes:
        writer = ResponseEncoder(
            model=model, reply_id=reply_id, created=0, include_usage=True, input_estimate=0
        )
        return writer.write(events)

    def _count(self, whole: bytes) -> None:
        """Add the length of the generated text, as it stands in the JSON."""
        for value in _GENERATED.finditer(whole):
            self.output_bytes += value.end(1) - value.start(1)
        if not self._called:
            self._called = any(mark in whole for mark in _CALLED)
        if _DONE in whole and any(mark in whole for mark in _HOSTED):
            for frame in map(parse_frame, split_whole(whole)):
                event = None if frame is None else read_event(frame.event, frame.data, passed=True)
                item = event.item if isinstance(event, StreamEvent) and event.type == _ITEM_DONE else None
                self._ran += filter(None, [hosted_run(item or Item())])

    def _see(self, raw: bytes) -> bytes:
        """Read one frame; what of it is relayed."""
        frame = parse_frame(raw if self.started else raw.removeprefix(_BOM))
        if frame is None:
            return raw
        event = read_event(frame.event, frame.data, passed=True)
        if event is None:
            return raw
        if isinstance(event, Failed):
            if self.started and event.garbled and is_passed_on(frame.event, frame.data):
                self._count(raw)
                return raw
            self._fail(event)
            return b""
        self.started = True
        if event.response is None:
            self._count(raw)
        if event.type in ENDS:
            self._finished(event.type, event.response or Response())
        return self._with_model(raw, frame.event, frame.data, event)

    def _finished(self, kind: str, response: Response) -> None:
        usage = usage_in(response, self._ran)
        if usage is not None:
            self.usage = merge_usage(self.usage, usage)
        called = self._called or any(item.type in CALLS for item in response.output or ())
        ended = end_of(response, kind, called=called, refused=False)
        # what is not known is the caller's to read
        self._end("max_tokens" if isinstance(ended, Failed) else ended)

    def _with_model(self, raw: bytes, name: bytes, data: bytes, event: StreamEvent) -> bytes:
        """The frame ``raw`` with our model in its response, if it has one."""
        response = event.response
        if response is None or response.model is None:
            return raw
        self.answered = response.model or self.answered
        if self._model is None or response.model == self._model:
            return raw
        changed = replace_at(data, ("response", "model"), _encode(self._model))
        at = raw.find(data)
        if at < 0:  # data on several lines: one line, then
            named = b"event: " + name + b"\n" if name else b""
            return named + b"data: " + changed.replace(b"\n", b" ") + b"\n\n"
        return raw[:at] + changed + raw[at + len(data) :]


def passthrough_response(body: bytes, *, model: str | None) -> PassedAnswer:
    """A whole response to relay, with our ``model`` in place."""
    response = decode_whole(body.removeprefix(_BOM), passed=True)
    if response is None:
        return b"", Usage(), garbled("the upstream's answer is not a Responses reply"), ""
    usage = usage_in(response) or Usage()
    failed = failure_in(response, body)
    if failed is not None:
        return b"", usage, failed, ""
    named = response.model
    if model is None or named is None or named == model:
        return body, usage, None, named or ""
    return replace_top_level(body, "model", _encode(model)), usage, None, named
