"""Messages traffic whose upstream speaks Messages: bytes in, the same bytes out, and what the ledger needs read on the side.

A frame is decoded only if it can be one of the few that matter; a delta is just counted by its length.
"""

import re

import msgspec

from penstock.core.messages_events import (
    StreamEvent,
    decode_message,
    failure_of,
    read_event,
    reason_of,
    usage_at_start,
    usage_of,
)
from penstock.core.messages_reader import read_reply
from penstock.core.messages_writer import Writer
from penstock.core.splice import replace_known
from penstock.core.sse import (
    MAX_FRAME,
    STRING,
    complete_prefix,
    is_comment,
    is_plain,
    parse_frame,
    split_whole,
)
from penstock.core.turn import Failed, StopReason, Usage, fold, merge_usage

_encode = msgspec.json.Encoder().encode

# the one frame that nearly all reads are: a piece of text, of a thought or of a call's arguments, and nothing else
_PIECE = re.compile(
    rb'event: content_block_delta\ndata: \{"type": ?"content_block_delta", ?"index": ?\d{1,6}, ?"delta": ?'
    rb'\{"type": ?"(?:text|thinking|input_json)_delta", ?"(?:text|thinking|partial_json)": ?('
    + STRING
    + rb") {0,64}\} {0,64}\}\n\n"
).fullmatch
_MARKS = (b"message_", b"error")
_GENERATED = re.compile(rb'_delta",\s*"(?:text|thinking|partial_json)":\s*"')
_CLOSING = b'"}'


class Meter:
    """Relays whole frames and keeps usage, end and failure on the side.

    The value of ``message.model`` becomes ``model`` (None: stays) in ``message_start``; nothing else changes. A frame that
    reports an error is not relayed: its text is the operator's, and the relay has words of its own. After a failure or
    ``message_stop`` nothing more is relayed.
    """

    sequence = 0  # events are not numbered in this dialect

    __slots__ = (
        "_called",
        "_held",
        "_model",
        "_reason",
        "done",
        "ended",
        "failure",
        "output_bytes",
        "started",
        "stop",
        "usage",
    )

    def __init__(self, *, model: str | None, withhold_usage: bool) -> None:  # noqa: ARG002 - usage is part of the dialect
        self._model = model
        self._held = bytearray()
        self.ended = False
        self._called = False
        self._reason: str | None = None
        self.usage = Usage()
        self.failure: Failed | None = None
        self.done = False
        self.stop: StopReason | None = None
        self.started = False
        self.output_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """What may be relayed now: the frames that ``data`` completes."""
        if self.ended:
            return b""
        held = self._held
        if not held:
            if self.started:
                piece = _PIECE(data)
                if piece is not None:
                    self.output_bytes += piece.end(1) - piece.start(1) - 2
                    return data
            end = complete_prefix(data)
            if end < len(data):
                held += data[end:]
                data = data[:end]
        else:
            known = len(held)
            held += data
            end = complete_prefix(held, known)
            data = bytes(held[:end])
            del held[:end]
        out = self._relay(data) if data else b""
        if len(held) > MAX_FRAME and not self.ended:
            self._fail(Failed("api_error", f"an event of the stream is larger than {MAX_FRAME} bytes"))
        return out

    def finish(self) -> bytes:
        """What may be relayed at the upstream's end; sets ``failure`` if that came before the dialect's own."""
        if self.ended:
            return b""
        rest = bytes(self._held)
        if not self.started and rest.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return self._wrap(rest)
        out = b""
        frame = parse_frame(rest)
        if frame is not None and isinstance(read_event(frame.event, frame.data), StreamEvent):
            out = self._relay(rest.rstrip(b"\r\n") + b"\n\n")
        if not self.ended:
            self._fail(Failed("api_error", "upstream stream truncated", truncated=True))
        return out

    def _wrap(self, body: bytes) -> bytes:
        """A plain JSON answer as the stream that was asked for."""
        events = read_reply(body.removeprefix(b"\xef\xbb\xbf"))
        reply = fold(events)
        self.usage = reply.usage
        if reply.failure is not None:
            self._fail(reply.failure)
            return b""
        self.started = self.done = self.ended = True
        self.stop = reply.reason
        model = self._model or reply.model
        writer = Writer(model=model, reply_id=reply.id, created=0, include_usage=True, input_estimate=0)
        return writer.write(events)

    def _fail(self, failed: Failed) -> None:
        self.failure = failed
        self.ended = True
        self._held.clear()

    def _relay(self, whole: bytes) -> bytes:
        if self.started and _MARKS[0] not in whole and _MARKS[1] not in whole and is_plain(whole):
            self._count(whole)
            return whole
        pieces: list[bytes] = []
        for raw in split_whole(whole):
            piece = _PIECE(raw) if self.started else None
            if piece is not None:
                self.output_bytes += piece.end(1) - piece.start(1) - 2
                pieces.append(raw)
                continue
            if is_comment(raw):
                pieces.append(raw)
                continue
            # What is not JSON is read as well: a caller's SDK would fail over it with words that tell nobody whose fault it is.
            if not self.started or _MARKS[0] in raw or _MARKS[1] in raw or not is_plain(raw):
                pieces.append(self._see(raw))
                if self.ended:
                    break
            else:
                self._count(raw)
                pieces.append(raw)
        return b"".join(pieces)

    def _count(self, whole: bytes) -> None:
        """Add the length of the generated text, as it stands in the JSON."""
        for value in _GENERATED.finditer(whole):
            end = whole.find(_CLOSING, value.end())
            self.output_bytes += (len(whole) if end < 0 else end) - value.end()
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
            self._fail(event)
            return b""
        self.started = True
        match event.type:
            case "message_start":
                if event.message is not None:
                    self._meter(usage_at_start(event.message.usage))
                    if self._model is not None and event.message.model not in (None, self._model):
                        return _with_model(raw, frame.data, event.message.model, self._model)
            case "message_delta":
                self._meter(usage_of(event.usage))
                if event.delta is not None and event.delta.stop_reason is not None:
                    self._reason = event.delta.stop_reason
            case "message_stop":
                self.done = self.ended = True
                self.stop = reason_of(self._reason, called=self._called)
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


def meter_reply(body: bytes, *, model: str | None) -> tuple[bytes, Usage, Failed | None]:
    """A whole Messages answer to relay: its bytes with our ``model`` in place, its usage, and what is wrong with it."""
    try:
        message = decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"", Usage(), Failed("api_error", "the upstream's answer is not a Messages reply")
    usage = usage_of(message.usage) or Usage()
    if message.type == "error" or (message.error is not msgspec.UNSET and bytes(message.error) != b"null"):
        return b"", usage, failure_of(body)
    if message.content is None:
        return b"", usage, Failed("api_error", "the upstream's answer has no content")
    if model is None or message.model is None or message.model == model:
        return body, usage, None
    return replace_known(body, ("model",), message.model, _encode(model)), usage, None
