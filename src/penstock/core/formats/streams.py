"""Lanes of formats without a dialect: events whose frames are looked at one by one, and bytes that are nobody's to read.

What a frame means is told by what it holds, the same for all these formats: an ``error`` ends the stream as a failure; a text,
a piece of sound or an image is content; ``[DONE]``, or a type that ends in ``.done`` or ``.completed``, is the end.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from penstock.core.body.nesting import nests_deeper
from penstock.core.dialects.interface import (
    NOTHING_ASKED,
    Asked,
    Lane,
    Passing,
    PassthroughResponse,
    StreamForm,
)
from penstock.core.formats.answers import failure_in, is_web_page, name_in, usage_in, with_model
from penstock.core.neutral.events import Failed, StopReason, garbled
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.sse import MAX_ANSWER, Frame, complete_prefix, parse_frame, split_whole
from penstock.errors import PenstockError, native_body

MAX_EVENT = 32 * 1024 * 1024
"""Bytes of one event: it may hold a whole image."""
_DONE = b"[DONE]"
_ENDS = (".done", ".completed")
_BOM = b"\xef\xbb\xbf"

_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None


class _Event(msgspec.Struct):
    """What is looked for in an event; all of it may be missing."""

    type: str = ""
    delta: str | None = None
    text: str | None = None
    audio: str | None = None
    b64_json: str | None = None
    choices: list[_Choice] = []
    usage: Raw = Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode


def error_event(
    error: PenstockError,
    request_id: str,
    sequence: int = 0,  # noqa: ARG001 - events are not numbered here
    asked: Asked = NOTHING_ASKED,  # noqa: ARG001 - an error says nothing of its request here
) -> bytes:
    """An error inside a stream of events, as the SDKs of OpenAI raise it."""
    return b"data: " + native_body(error, request_id) + b"\n\n"


def _no_content_yet(_frames: bytes) -> bool:
    return True  # the lane has told by then that there is none in them


EVENT_STREAM = StreamForm(
    error_frame=error_event, keepalive=b": keep-alive\n\n", says_nothing=_no_content_yet
)
"""Streams of events."""
BYTES = StreamForm(error_frame=error_event, keepalive=b"", says_nothing=_no_content_yet)
"""Streams that are a file on its way: nothing of ours can stand in them, so a failure breaks them off."""


class _Listening:
    """What a lane knows of its answer."""

    __slots__ = (
        "answered",
        "done",
        "ended",
        "failure",
        "output_bytes",
        "sequence",
        "started",
        "stop",
        "usage",
    )

    def __init__(self) -> None:
        self.answered = ""
        self.done = self.ended = self.started = False
        self.failure: Failed | None = None
        self.output_bytes = 0
        self.sequence = 0
        self.stop: StopReason | None = None
        self.usage = Usage()

    def feed_known(self, data: bytes, start: int, end: int) -> bytes | None:  # noqa: ARG002 - as Lane has it
        """No form of frames is known here."""
        return None

    def _fail(self, failure: Failed) -> None:
        self.failure, self.ended = failure, True


class EventLane(_Listening):
    """Relays whole events as they came but for the model's name."""

    __slots__ = ("_held", "_model", "_writes")

    def __init__(self, *, model: str | None, withhold_usage: bool = False, writes: bool = False) -> None:  # noqa: ARG002 - usage is part of these formats
        """``writes``: the model generates text, whose length is noted."""
        super().__init__()
        self._model = model
        self._writes = writes
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        held, before = self._held, len(self._held)
        held += data
        size = complete_prefix(held, before)
        if not size and len(held) > MAX_EVENT:
            self._fail(garbled(f"an event of the stream is larger than {MAX_EVENT} bytes"))
        if not size or self.ended:
            return b""
        whole = bytes(held[:size])
        del held[:size]
        return self._cross(split_whole(whole))

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        if self.ended:
            return b""
        rest = bytes(self._held)
        self._held.clear()
        out = self._cross([rest + b"\n\n"]) if rest.strip() else b""
        self.ended = True
        if self.failure is None and not self.done:
            self.failure = Failed("api_error", "the stream ended without its end", truncated=True)
        return out

    def _cross(self, frames: list[bytes]) -> bytes:
        out: list[bytes] = []
        for raw in frames:
            frame = parse_frame(raw if self.started else raw.removeprefix(_BOM))
            if frame is None:  # a comment and the like
                out.append(raw)
                continue
            self.started = True
            out.append(raw if frame.data == _DONE else self._read(raw, frame))
            if frame.data == _DONE:
                self.done = self.ended = True
            if self.ended:
                break
        return b"".join(out)

    def _read(self, raw: bytes, frame: Frame) -> bytes:
        """One event with our model's name; nothing of one that reports a failure."""
        try:
            fields = None if nests_deeper(frame.data) else _fields(frame.data)
        except (ValueError, RecursionError):
            fields = None
        if fields is None:
            self._fail(garbled("an event of the stream is not a JSON object"))
            return b""
        failed = failure_in(fields)
        if failed is not None:
            self._fail(failed)
            return b""
        try:
            self._note(_decode_event(frame.data), fields)
        except msgspec.DecodeError:  # of another shape than is known: the caller's to read
            self.output_bytes += 1
        named = name_in(fields)
        self.answered = named or self.answered
        data = with_model(frame.data, fields, named, self._model)
        if data is frame.data:
            return raw
        return (b"event: %b\n" % frame.event if frame.event else b"") + b"data: %b\n\n" % data

    def _note(self, event: _Event, fields: dict[str, Raw]) -> None:
        said = [event.delta, event.text, *(choice.text for choice in event.choices)]
        said += [choice.delta.content for choice in event.choices if choice.delta is not None]
        length = sum(len(text) for text in said if text)
        if event.type.endswith(_ENDS):
            self.done = True
            length = 0  # the end says all of it once more
        if self._writes:
            self.output_bytes += length
        elif length or event.audio or event.b64_json:
            self.output_bytes = 1
        self.usage = merge_usage(self.usage, usage_in(fields))


class BytesLane(_Listening):
    """Relays sound and texts as they come."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        if self.ended:
            return b""
        if not self.started and is_web_page(data):
            self._fail(garbled("the answer is a web page"))
            return b""
        self.started = True
        self.output_bytes = 1
        return data

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        if self.ended:
            return b""
        self.done = self.ended = True
        if not self.started:
            self._fail(garbled("the answer is empty"))
        self.usage = Usage(output=0)
        return b""


class WholeLane(_Listening):
    """Keeps an answer that is no stream although one was asked for, and passes it through when it is all there."""

    __slots__ = ("_kept", "_model", "_response")

    def __init__(self, response: PassthroughResponse, model: str | None) -> None:
        super().__init__()
        self._kept = bytearray()
        self._model = model
        self._response = response

    def feed(self, data: bytes) -> bytes:
        """Nothing before the end."""
        self._kept += data
        if len(self._kept) > MAX_ANSWER:
            self._fail(garbled(f"the answer is larger than {MAX_ANSWER} bytes"))
        return b""

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        if self.ended:
            return b""
        out, self.usage, failed, self.answered = self._response(bytes(self._kept), model=self._model)
        if failed is not None:
            self._fail(failed)
            return b""
        self.done = self.ended = self.started = True
        return out


def passed_lane(passing: Passing, model: str, content_type: bytes) -> Lane:
    """The way of an answer that was asked for as a stream, by what the upstream says that it is."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"text/event-stream" and passing.Stream is not None:
        return passing.Stream(model=model, withhold_usage=False)
    if kind in {b"application/json", b"text/html"}:
        return WholeLane(passing.response, model)
    return BytesLane()


def events(*, writes: bool = False) -> Callable[..., Lane]:
    """The lane of a format's events; ``writes`` as ``EventLane`` has it."""

    def begin(*, model: str | None, withhold_usage: bool) -> Lane:
        return EventLane(model=model, withhold_usage=withhold_usage, writes=writes)

    return begin
