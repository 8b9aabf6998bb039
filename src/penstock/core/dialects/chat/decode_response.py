"""Chat upstream answers, streamed or whole, as events, with an end that cannot be missed: one Stopped or one Failed."""

from typing import cast

from penstock.core.dialects.chat.assembly import Assembly
from penstock.core.dialects.chat.response_schema import Chunk, failure_in, present, read_chunk, read_loosely
from penstock.core.dialects.upstream_error_text import kind_of, words
from penstock.core.neutral.request import AnyEvent, Failed
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.sse import Frame, Frames, FrameTooLarge

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer that is plain JSON although a stream was asked for."""

_BOM = b"\xef\xbb\xbf"
_SSE_STARTS = (b"data:", b":", b"event:", b"id:", b"retry:")


class Reader:
    """A Chat upstream's stream as events. ``done`` once the terminal event was given; what follows it is ignored."""

    __slots__ = ("_assembly", "_body", "_frames", "_sniffed", "_start")

    def __init__(self, *, profile: Profile = DEFAULT_PROFILE) -> None:
        self._frames = Frames()
        self._assembly = Assembly(profile)
        self._sniffed = False
        self._start: bytes = b""  # too little to see what it is
        self._body: bytearray | None = None  # JSON without frames: a whole answer, or one chunk a line

    @property
    def done(self) -> bool:
        """Whether the terminal event was given."""
        return self._assembly.done

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events of the next bytes, cut anywhere."""
        out: list[AnyEvent] = []
        if self._assembly.done:
            return out
        if not self._sniffed or self._body is not None:
            data = self._sniff(data, out)
        try:
            frames = self._frames.feed(data)
        except FrameTooLarge as error:
            self._assembly.fail(Failed("api_error", str(error)), out)
            return out
        for frame in frames:
            self._frame(frame, out)
            if self._assembly.done:
                break
        return out

    def finish(self) -> list[AnyEvent]:
        """The events of the stream's end. Gives the terminal event if ``feed`` has not."""
        out: list[AnyEvent] = []
        if self._assembly.done:
            return out
        if self._body is not None:
            return self._whole(out)
        for frame in self._frames.finish():
            if not self._assembly.done and (
                frame.data.strip() == b"[DONE]" or read_chunk(frame.data) is not None
            ):
                self._frame(frame, out)
        if not self._assembly.done:
            self._end(out, clean=False)
        return out

    def _frame(self, frame: Frame, out: list[AnyEvent]) -> None:
        data = frame.data
        if data.startswith(b"{") and frame.event != b"error":
            self._chunk(data, out)
            return
        if data.strip() == b"[DONE]":
            self._end(out, clean=True)
            return
        if frame.event == b"error":
            error = read_loosely(data)
            text = words(error) or data.decode("utf-8", "replace")
            self._assembly.fail(Failed(kind_of(error), text), out)
            return
        if data and not data.isspace():
            self._chunk(data, out)

    def _chunk(self, data: bytes, out: list[AnyEvent]) -> None:
        chunk = read_chunk(data)
        if chunk is None:
            self._assembly.fail(Failed("api_error", "an event of the stream is not a JSON object"), out)
            return
        if self._assembly.goes_on(chunk, out):
            return
        failed = failure_in(chunk, data)
        if failed is not None:
            if chunk.usage is not None and self._assembly.started:
                self._assembly.take(Chunk(id=chunk.id, model=chunk.model, usage=chunk.usage), out)
            self._assembly.fail(failed, out)
        elif chunk.choices is not None or chunk.usage is not None:
            self._assembly.take(chunk, out)

    def _end(self, out: list[AnyEvent], *, clean: bool) -> None:
        assembly = self._assembly
        if not assembly.started:
            assembly.fail(Failed("api_error", "the stream ended before it began", truncated=not clean), out)
        elif clean or assembly.finished:
            assembly.end(out)
        else:
            assembly.fail(Failed("api_error", "upstream stream truncated", truncated=True), out)

    # ---- no event stream after all

    def _sniff(self, data: bytes, out: list[AnyEvent]) -> bytes:
        """What of ``data`` is for the frame splitter: nothing, if the body turns out to be JSON."""
        if self._body is None:
            data = self._start + data
            start = data.removeprefix(_BOM).lstrip()
            if not start or _BOM.startswith(start):
                self._start = data
                return b""
            self._start = b""
            self._sniffed = True
            if start[0] not in b"{[":
                return data
            self._body = bytearray()
        self._body += data
        self._lines(out)
        if len(self._body) > MAX_BODY and not self._assembly.done:
            self._assembly.fail(Failed("api_error", f"the answer is larger than {MAX_BODY} bytes"), out)
        return b""

    def _lines(self, out: list[AnyEvent]) -> None:
        """Take chunks that come one a line, as soon as they come; a whole answer is not one."""
        body = cast("bytearray", self._body)
        while not self._assembly.done:
            end = body.find(b"\n")
            line = bytes(body[:end]).strip() if end >= 0 else b""
            if end < 0 or not (_is_chunk(line) or (self._assembly.started and not line)):
                return
            del body[: end + 1]
            if line:
                self._chunk(line, out)

    def _whole(self, out: list[AnyEvent]) -> list[AnyEvent]:
        rest = bytes(self._body or b"").strip()
        if not self._assembly.started:
            _take_whole(rest, self._assembly, out)
            return out
        if _is_chunk(rest):
            self._chunk(rest, out)
        if not self._assembly.done:
            self._end(out, clean=False)
        return out


def _is_chunk(line: bytes) -> bool:
    chunk = read_chunk(line) if line[:1] == b"{" and line[-1:] == b"}" else None
    if chunk is None:
        return False
    return present(chunk.error) or any(choice.delta is not None for choice in chunk.choices or ())


def read_reply(body: bytes, profile: Profile = DEFAULT_PROFILE) -> list[AnyEvent]:
    """A whole answer of a Chat upstream as the events that fold to it; anything but an answer is one ``Failed``."""
    text = body.removeprefix(_BOM).strip()
    if text.startswith(_SSE_STARTS):  # a stream although none was asked for
        reader = Reader(profile=profile)
        return [*reader.feed(body), *reader.finish()]
    out: list[AnyEvent] = []
    _take_whole(text, Assembly(profile), out)
    return out


def _take_whole(text: bytes, assembly: Assembly, out: list[AnyEvent]) -> None:
    chunk = read_chunk(text)
    if chunk is None:
        assembly.fail(Failed("api_error", "the answer is not a JSON object"), out)
        return
    failed = failure_in(chunk, text)
    if failed is None and not chunk.choices:
        failed = Failed("api_error", "the answer has no choices")
    if failed is not None:
        assembly.fail(failed, out)
        return
    assembly.take(chunk, out)
    assembly.end(out)
