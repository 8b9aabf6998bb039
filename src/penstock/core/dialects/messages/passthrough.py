"""Pass-through of Messages: bytes in, the same bytes out, and what the ledger needs is read on the side.

A frame is decoded only if it can be one of the few that matter; a delta is just counted by its length.
"""

import re

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.body.splice import replace_known
from penstock.core.dialects.finish_words import MESSAGES, failed_end
from penstock.core.dialects.interface import PassedAnswer, Prepared
from penstock.core.dialects.messages.decode_response import decode_response
from penstock.core.dialects.messages.encode_response import ResponseEncoder
from penstock.core.dialects.messages.response_schema import (
    StreamEvent,
    decode_whole,
    end_of,
    failure_of,
    is_passed_on,
    read_event,
    usage_at_start,
    usage_of,
)
from penstock.core.dialects.messages.text_form import PIECE
from penstock.core.dialects.passthrough import FramePassthrough
from penstock.core.neutral.events import AnyEvent, Failed, garbled
from penstock.core.neutral.request import Loss
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.core.reasoning.signature import SIGNATURE_PREFIX
from penstock.core.sse import STRING, Frame, parse_frame

_encode = msgspec.json.Encoder().encode

_GENERATED = re.compile(rb'_delta",\s*"(?:text|thinking|partial_json)":\s*(' + STRING + rb")")


_OUR_SIGNATURE = f'"{SIGNATURE_PREFIX}'.encode()
_rows = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_blocks = msgspec.json.Decoder(list[Raw]).decode


class _Signed(msgspec.Struct):
    type: str = ""
    signature: str | None = None


_signed = msgspec.json.Decoder(_Signed).decode


# ---- the request


def pass_request(
    envelope: Envelope,
    model: str,
    profile: Profile,
    reasoning: ReasoningScope | None = None,  # noqa: ARG001 - callers of Messages keep reasoning themselves
) -> Prepared:
    """The caller's body for ``model``; where signatures are checked, without reasoning of another provider's model."""
    if profile.native_anthropic and _OUR_SIGNATURE in envelope.body:
        turns = _without_foreign_reasoning(envelope.value("messages"))
        if turns is not None:
            lost = (Loss("messages.thinking", "dropped"),)
            return Prepared(envelope.encode(model, {"messages": turns}), lost)
    return Prepared(envelope.encode(model))


def _without_foreign_reasoning(turns: bytes) -> bytes | None:
    """The messages without thinking that another provider's model did, or None where there is none.

    A conversation that has moved to Anthropic would be refused for signatures that Anthropic did not make. All other
    blocks stay as they were, byte for byte.
    """
    rows = _rows(turns)
    changed = False
    for row in rows:
        content = bytes(row.get("content", Raw()))
        if content.startswith(b"[") and _OUR_SIGNATURE in content:
            blocks = _blocks(content)
            kept = [block for block in blocks if not _is_foreign(block)]
            if len(kept) < len(blocks):
                changed = True
                row["content"] = Raw(_encode(kept))
    if not changed:
        return None
    return _encode([row for row in rows if bytes(row.get("content", Raw())) != b"[]"])


def _is_foreign(block: Raw) -> bool:
    try:
        found = _signed(block)
    except msgspec.ValidationError:
        return False
    return found.type == "thinking" and (found.signature or "").startswith(SIGNATURE_PREFIX)


# ---- the answer


class Passthrough(FramePassthrough):
    """A Messages stream. The value of ``message.model`` becomes ``model`` (None: stays) in ``message_start``."""

    PIECE = PIECE
    MARKS = (b"message_", b"error")

    __slots__ = ("_reason",)

    def __init__(self, *, model: str | None, withhold_usage: bool) -> None:
        super().__init__(model=model, withhold_usage=withhold_usage)
        self._reason: str | None = None

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
                    self._meter(usage_at_start(event.message.usage))
                    self.answered = event.message.model or self.answered
                    if self._model is not None and event.message.model not in (None, self._model):
                        return _with_model(raw, frame.data, event.message.model, self._model)
            case "message_delta":
                self._meter(usage_of(event.usage))
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

    def _meter(self, usage: Usage | None) -> None:
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
    usage = usage_of(message.usage) or Usage()
    if message.type == "error" or (message.error is not msgspec.UNSET and bytes(message.error) != b"null"):
        return b"", usage, failure_of(body), ""
    if message.content is None:
        return b"", usage, garbled("the upstream's answer has no content"), ""
    failed = failed_end(MESSAGES, message.stop_reason or "end_turn")
    if failed is not None:
        return b"", usage, failed, ""
    named = message.model
    if model is None or named is None or named == model:
        return body, usage, None, named or ""
    return replace_known(body, ("model",), named, _encode(model)), usage, None, named
