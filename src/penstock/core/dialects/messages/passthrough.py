"""Pass-through of Messages: bytes in, the same bytes out, and what the ledger needs is read on the side.

A frame is decoded only if it can be one of the few that matter; a delta is just counted by its length.
"""

import re

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.body.splice import replace_known
from penstock.core.dialects.finish_words import MESSAGES, failed_end
from penstock.core.dialects.foreign_reasoning.messages import MARKS as REASONING_MARKS
from penstock.core.dialects.foreign_reasoning.messages import is_suspect, without_foreign
from penstock.core.dialects.interface import PassedAnswer, Prepared
from penstock.core.dialects.messages.decode_response import decode_response
from penstock.core.dialects.messages.encode_response import ResponseEncoder
from penstock.core.dialects.messages.hosted_tools import STRANGE, without_strange_results
from penstock.core.dialects.messages.response_schema import (
    StreamEvent,
    UsageMeter,
    decode_whole,
    end_of,
    failure_of,
    is_passed_on,
    metered,
    read_event,
)
from penstock.core.dialects.messages.text_form import PIECE
from penstock.core.dialects.passthrough import FramePassthrough
from penstock.core.neutral.events import AnyEvent, Failed, garbled
from penstock.core.neutral.request import Loss
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.core.reasoning.maker import maker_mark
from penstock.core.sse import STRING, Frame, parse_frame, split_whole

_encode = msgspec.json.Encoder().encode

_GENERATED = re.compile(rb'_delta",\s*"(?:text|thinking|partial_json)":\s*(' + STRING + rb")")


# ---- the request

_STRANGE = Loss("messages.server_tools", "text")
_STRANGE_MARKS = tuple(mark[1:] for mark in STRANGE)
MARKS = (*_STRANGE_MARKS, *REASONING_MARKS)
"""What strings begin with in a body that may need a change."""


def readable(envelope: Envelope, profile: Profile, own: str) -> tuple[dict[str, bytes], tuple[Loss, ...]]:
    """What has to differ in a body so that the upstream can read it, and what of it is left out.

    ``own`` is the mark of the upstream's provider, '' where that is not known.
    """
    checked = profile.native_anthropic
    changes: dict[str, bytes] = {}
    lost: tuple[Loss, ...] = ()
    if checked and envelope.shows(*_STRANGE_MARKS):
        changes["messages"] = without_strange_results(envelope.value("messages"))
        lost = (_STRANGE,)
    if (checked or own) and is_suspect(envelope, checked=checked):
        given = changes.get("messages") or envelope.value("messages")
        found = without_foreign(given, own, checked=checked)
        if found is not None:
            changes["messages"], lost = found[0], (*lost, *found[1])
    return changes, lost


def pass_request(
    envelope: Envelope, model: str, profile: Profile, reasoning: ReasoningScope | None = None
) -> Prepared:
    """The caller's body for ``model``, without reasoning that this upstream cannot read."""
    own = "" if reasoning is None else maker_mark(reasoning.provider)
    changes, lost = readable(envelope, profile, own)
    return Prepared(envelope.encode(model, changes), lost, mark="" if profile.native_anthropic else own)


def counted(envelope: Envelope, profile: Profile, provider: str) -> dict[str, bytes]:
    """What has to differ in a body whose tokens are counted: the same as where it is answered."""
    return readable(envelope, profile, maker_mark(provider))[0]


# ---- the answer


class Passthrough(FramePassthrough):
    """A Messages stream. The value of ``message.model`` becomes ``model`` (None: stays) in ``message_start``."""

    PIECE = PIECE
    MARKS = (b"message_", b"error")

    __slots__ = ("_meter", "_reason")

    def __init__(self, *, model: str | None, withhold_usage: bool) -> None:
        super().__init__(model=model, withhold_usage=withhold_usage)
        self._reason: str | None = None
        self._meter = UsageMeter()

    def _complete(self, frame: Frame) -> bool:
        return isinstance(read_event(frame.event, frame.data), StreamEvent)

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
            self.output_bytes += value.end(1) - value.start(1) - 2
        if not self._called and b'"tool_use"' in whole:
            self._called = True
        if b'_tool_use"' in whole:  # of the provider's
            for frame in map(parse_frame, split_whole(whole)):
                event = None if frame is None else read_event(frame.event, frame.data)
                self._meter.saw(event.content_block if isinstance(event, StreamEvent) else None)

    def _see(self, raw: bytes) -> bytes:
        """Read one frame; what of it is relayed."""
        frame = parse_frame(raw)
        if frame is None:
            return raw
        event = read_event(frame.event, frame.data)
        if event is None:
            return raw
        if isinstance(event, Failed):
            if self.started and event.garbled and is_passed_on(frame.event, frame.data):
                self._count(raw)
                return raw
            self._fail(event)
            return b""
        self.started = True
        match event.type:
            case "message_start":
                if event.message is not None:
                    self._metered(self._meter.at_start(event.message.usage))
                    self.answered = event.message.model or self.answered
                    if self._model is not None and event.message.model not in (None, self._model):
                        return _with_model(raw, frame.data, event.message.model, self._model)
            case "message_delta":
                self._metered(self._meter.take(event.usage))
                self.answered = self._meter.served or self.answered
                if event.delta is not None and event.delta.stop_reason is not None:
                    self._reason = event.delta.stop_reason
                    failed = failed_end(MESSAGES, self._reason)
                    if failed is not None:
                        self._fail(failed)
                        return b""
            case "message_stop":
                ended = end_of(self._reason, called=self._called)
                # what is not known is the caller's to read
                self._end("end_turn" if isinstance(ended, Failed) else ended)
            case _:
                self._count(raw)
        return raw

    def _metered(self, usage: Usage | None) -> None:
        if usage is not None:
            self.usage = merge_usage(self.usage, usage)


def _with_model(raw: bytes, data: bytes, old: str, model: str) -> bytes:
    """The frame ``raw`` with our model in its ``data``."""
    changed = replace_known(data, ("message", "model"), old, _encode(model))
    at = raw.find(data)
    if at < 0:  # data on several lines: one line, then
        return b"event: message_start\ndata: " + changed.replace(b"\n", b" ") + b"\n\n"
    return raw[:at] + changed + raw[at + len(data) :]


def passthrough_response(body: bytes, *, model: str | None) -> PassedAnswer:
    """A whole Messages answer to relay, with our ``model`` in place."""
    message = decode_whole(body)
    if message is None:
        return b"", Usage(), garbled("the upstream's answer is not a Messages reply"), ""
    told, meter = metered(message)
    usage = told or Usage()
    if message.type == "error" or (message.error is not msgspec.UNSET and bytes(message.error) != b"null"):
        return b"", usage, failure_of(body), ""
    if message.content is None:
        return b"", usage, garbled("the upstream's answer has no content"), ""
    failed = failed_end(MESSAGES, message.stop_reason or "end_turn")
    if failed is not None:
        return b"", usage, failed, ""
    named = message.model
    answered = meter.served or named or ""
    if model is None or named is None or named == model:
        return body, usage, None, answered
    return replace_known(body, ("model",), named, _encode(model)), usage, None, answered
