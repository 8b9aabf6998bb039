"""Responses traffic whose upstream speaks Responses: bytes in, the same bytes out, and what the ledger needs read on the side.

A frame is decoded only if it holds a response or an error; a delta is just counted by its length.
"""

import re

import msgspec

from penstock.core.responses_events import (
    CALLS,
    ENDS,
    Response,
    StreamEvent,
    decode_response,
    failure_in,
    is_json,
    read_event,
    reason_of,
    usage_of,
)
from penstock.core.responses_reader import read_reply
from penstock.core.responses_writer import Writer
from penstock.core.splice import replace_at, replace_top_level
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

_BOM = b"\xef\xbb\xbf"
_MEMBER = rb'"[a-z_]{1,40}": ?(?:' + STRING + rb"|\d{1,15}|\[\]|null)"
# the one frame that nearly all reads are: a piece of text, of reasoning or of a call's input, and nothing else
_PIECE = re.compile(
    rb'event: response\.[a-z_.]{1,60}\.delta\ndata: \{"type": ?"response\.[a-z_.]{1,60}\.delta"'
    rb"(?:, ?(?!\"delta\")"
    + _MEMBER
    + rb')*+, ?"delta": ?('
    + STRING
    + rb")(?:, ?(?!\"delta\")"
    + _MEMBER
    + rb")*+\}\n\n"
).fullmatch
# quotes in text are escaped, so the first is a key
_MARKS = (b'"response"', b"error")
_GENERATED = re.compile(rb'"delta"\s*:\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
_CALLED = tuple(b'"%b"' % kind.encode() for kind in CALLS)
_SEQUENCE = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})')

_encode = msgspec.json.Encoder().encode


class Meter:
    """Relays whole frames and keeps usage, end and failure on the side.

    The value of ``response.model`` becomes ``model`` (None: stays) wherever a frame holds a response; nothing else
    changes. A frame that reports a failure is not relayed: its text is the operator's, and the relay has words of its
    own. After a failure or a terminal event nothing more is relayed.
    """

    __slots__ = (
        "_called",
        "_held",
        "_last",
        "_model",
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
        self._called = False
        self._last = b""  # the last frame that was relayed, for its number
        self.ended = False
        self.usage = Usage()
        self.failure: Failed | None = None
        self.done = False
        self.stop: StopReason | None = None
        self.started = False
        self.output_bytes = 0

    @property
    def sequence(self) -> int:
        """The number of the event that would come next."""
        found = _SEQUENCE.findall(self._last)
        return int(found[-1]) + 1 if found else 0

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
                    self._last = data
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
        if not self.started and rest.removeprefix(_BOM).lstrip().startswith(b"{"):
            return self._wrap(rest)
        out = b""
        frame = parse_frame(rest)
        if frame is not None and is_json(frame.data):
            out = self._relay(rest.rstrip(b"\r\n") + b"\n\n")
        if not self.ended:
            self._fail(Failed("api_error", "upstream stream truncated", truncated=True))
        return out

    def _wrap(self, body: bytes) -> bytes:
        """A plain JSON answer as the stream that was asked for."""
        events = read_reply(body)
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
            self._last = whole
            return whole
        pieces: list[bytes] = []
        for raw in split_whole(whole):
            piece = _PIECE(raw) if self.started else None
            if piece is not None:
                self.output_bytes += piece.end(1) - piece.start(1) - 2
                pieces.append(raw)
                self._last = raw
                continue
            if is_comment(raw):
                pieces.append(raw)
                continue
            # What is not JSON is read as well: a caller's SDK would fail over it with words that tell nobody whose fault it is.
            if not self.started or _MARKS[0] in raw or _MARKS[1] in raw or not is_plain(raw):
                relayed = self._see(raw)
            else:
                self._count(raw)
                relayed = raw
            if relayed:
                pieces.append(relayed)
                self._last = relayed
            if self.ended:
                break
        return b"".join(pieces)

    def _count(self, whole: bytes) -> None:
        """Add the length of the generated text, as it stands in the JSON."""
        for value in _GENERATED.finditer(whole):
            self.output_bytes += value.end(1) - value.start(1)
        if not self._called:
            self._called = any(mark in whole for mark in _CALLED)

    def _see(self, raw: bytes) -> bytes:
        """Read one frame; what of it is relayed."""
        frame = parse_frame(raw if self.started else raw.removeprefix(_BOM))
        if frame is None:
            return raw
        event = read_event(frame.event, frame.data)
        if event is None:
            return raw
        if isinstance(event, Failed):
            self._fail(event)
            return b""
        self.started = True
        if event.response is None:
            self._count(raw)
        if event.type in ENDS:
            self._end(event.type, event.response or Response())
        return self._with_model(raw, frame.event, frame.data, event)

    def _end(self, kind: str, response: Response) -> None:
        usage = usage_of(response.usage)
        if usage is not None:
            self.usage = merge_usage(self.usage, usage)
        self.done = self.ended = True
        called = self._called or any(item.type in CALLS for item in response.output or ())
        self.stop = reason_of(response, kind, called=called, refused=False)

    def _with_model(self, raw: bytes, name: bytes, data: bytes, event: StreamEvent) -> bytes:
        """The frame ``raw`` with our model in its response, if it has one."""
        response = event.response
        if self._model is None or response is None or response.model in (None, self._model):
            return raw
        changed = replace_at(data, ("response", "model"), _encode(self._model))
        at = raw.find(data)
        if at < 0:  # data on several lines: one line, then
            named = b"event: " + name + b"\n" if name else b""
            return named + b"data: " + changed.replace(b"\n", b" ") + b"\n\n"
        return raw[:at] + changed + raw[at + len(data) :]


def meter_reply(body: bytes, *, model: str | None) -> tuple[bytes, Usage, Failed | None]:
    """A whole response to relay: its bytes with our ``model`` in place, its usage, and what is wrong with it."""
    try:
        response = decode_response(body.removeprefix(_BOM))
    except (ValueError, RecursionError):
        return b"", Usage(), Failed("api_error", "the upstream's answer is not a Responses reply")
    usage = usage_of(response.usage) or Usage()
    failed = failure_in(response, body)
    if failed is not None:
        return b"", usage, failed
    if model is None or response.model is None or response.model == model:
        return body, usage, None
    return replace_top_level(body, "model", _encode(model)), usage, None
