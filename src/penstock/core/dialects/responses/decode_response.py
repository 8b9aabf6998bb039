"""Responses upstream answers, streamed or whole, as events, with an end that cannot be missed: one Stopped or one Failed."""

from penstock.core.dialects.responses.assembly import Assembly
from penstock.core.dialects.responses.response_schema import decode_response, failure_in, is_json, read_event
from penstock.core.neutral.request import AnyEvent, Failed
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.sse import Frame, Frames, FrameTooLarge

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer that is plain JSON although a stream was asked for."""

_BOM = b"\xef\xbb\xbf"
_SSE_STARTS = (b"data:", b":", b"event:", b"id:", b"retry:")


class Reader:
    """A Responses stream as events; the result does not depend on where the bytes were cut."""

    __slots__ = ("_assembly", "_body", "_frames", "_size", "_sniffed")

    def __init__(self, *, profile: Profile = DEFAULT_PROFILE) -> None:  # noqa: ARG002 - no habit of today changes reading
        self._frames = Frames()
        self._assembly = Assembly()
        self._sniffed = False
        self._body: list[bytes] | None = None  # the body, where it turned out to be plain JSON
        self._size = 0

    @property
    def done(self) -> bool:
        """Whether the terminal event was given; what follows it is ignored."""
        return self._assembly.done

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events completed by ``data``; none after the end."""
        out: list[AnyEvent] = []
        if self._assembly.done or not data:
            return out
        if not self._sniffed:
            start = data.removeprefix(_BOM).lstrip()
            if start:
                self._sniffed = True
                if start.startswith(b"{"):
                    self._body = []
        if self._body is not None:
            self._body.append(data)
            self._size += len(data)
            if self._size > MAX_BODY:
                self._assembly.fail(Failed("api_error", f"the answer is larger than {MAX_BODY} bytes"), out)
            return out
        try:
            frames = self._frames.feed(data)
        except FrameTooLarge as error:
            self._assembly.fail(Failed("api_error", str(error)), out)
            return out
        self._take(frames, out)
        return out

    def finish(self) -> list[AnyEvent]:
        """The events of the stream's end. Gives the terminal event if ``feed`` has not."""
        out: list[AnyEvent] = []
        assembly = self._assembly
        if assembly.done:
            return out
        if self._body is not None:
            _take_whole(b"".join(self._body), assembly, out)
            return out
        self._take([frame for frame in self._frames.finish() if is_json(frame.data)], out)
        if not assembly.done:
            text = "upstream stream truncated" if assembly.started else "the stream ended before it began"
            assembly.fail(Failed("api_error", text, truncated=True), out)
        return out

    def _take(self, frames: list[Frame], out: list[AnyEvent]) -> None:
        assembly = self._assembly
        for frame in frames:
            event = read_event(frame.event, frame.data)
            if isinstance(event, Failed):
                assembly.fail(event, out)
            elif event is not None:
                assembly.take(event, out)
            if assembly.done:
                return


def read_reply(body: bytes, profile: Profile = DEFAULT_PROFILE) -> list[AnyEvent]:
    """A whole answer as events; an error object or something else than an answer is one ``Failed``."""
    if body.removeprefix(_BOM).lstrip().startswith(_SSE_STARTS):  # a stream although none was asked for
        reader = Reader(profile=profile)
        return [*reader.feed(body), *reader.finish()]
    out: list[AnyEvent] = []
    _take_whole(body, Assembly(), out)
    return out


def _take_whole(body: bytes, assembly: Assembly, out: list[AnyEvent]) -> None:
    text = body.removeprefix(_BOM).strip()
    try:
        response = decode_response(text)
    except (ValueError, RecursionError):
        assembly.fail(Failed("api_error", "the upstream's answer is not a Responses reply"), out)
        return
    failed = failure_in(response, text)
    if failed is not None:
        assembly.fail(failed, out)
        return
    assembly.whole(response, out)
