"""Pass-through of frames, as Messages and Responses share it: bytes in, the same bytes out; few frames are read.

A frame is decoded only if it can be one of those that matter; a piece of the answer is just counted by its length.
"""

import re
from abc import ABC, abstractmethod
from typing import ClassVar

from penstock.core.neutral.events import AnyEvent, Failed, StopReason, garbled
from penstock.core.neutral.fold import fold
from penstock.core.neutral.usage import Usage
from penstock.core.sse import (
    MAX_FRAME,
    Frame,
    complete_prefix,
    is_plain_frames,
    parse_frame,
    split_whole,
)

_BOM = b"\xef\xbb\xbf"


class FramePassthrough(ABC):
    """Relays whole frames, and notes usage, end and failure on the side.

    A frame that reports a failure is not relayed: its text is the operator's, and the relay has words of its own. Nor is
    one that is no JSON object, or that the lane has to understand and cannot. One that is only passed on may have any
    members: it is the caller's to read. After a failure or the dialect's end nothing more is relayed. A dialect says what
    its frames mean (``_see``), what of them is the model's own (``_count``), and how an answer that is no stream is read and
    written.
    """

    PIECE: ClassVar[re.Pattern[bytes]]
    """Matches the one frame that nearly all reads are, with the JSON text of a piece of the answer as its group."""
    MARKS: ClassVar[tuple[bytes, bytes]]
    """A frame with one of these in it is read."""

    __slots__ = (
        "_called",
        "_held",
        "_last",
        "_model",
        "answered",
        "done",
        "ended",
        "failure",
        "output_bytes",
        "started",
        "stop",
        "usage",
    )

    def __init__(self, *, model: str | None, withhold_usage: bool) -> None:  # noqa: ARG002 - usage is part of these dialects
        self._model = model
        self._held = bytearray()
        self._called = False
        self._last = b""  # the last frame that was relayed, for its number
        self.ended = False
        self.usage = Usage()
        self.answered = ""
        self.failure: Failed | None = None
        self.done = False
        self.stop: StopReason | None = None
        self.started = False
        self.output_bytes = 0

    @property
    def sequence(self) -> int:
        """The number of the event that would come next, where events are numbered."""
        return 0

    def feed(self, data: bytes) -> bytes:
        """What may be relayed now: the frames that ``data`` completes."""
        if self.ended:
            return b""
        held = self._held
        if not held:
            if self.started:
                piece = self.PIECE.fullmatch(data)
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
            self._fail(garbled(f"an event of the stream is larger than {MAX_FRAME} bytes"))
        return out

    def finish(self) -> bytes:
        """What may be relayed at the upstream's end; sets ``failure`` if that came before the dialect's own."""
        if self.ended:
            return b""
        rest = bytes(self._held)
        if not self.started and rest.removeprefix(_BOM).lstrip().startswith(b"{"):
            return self._wrap(rest.removeprefix(_BOM))
        out = b""
        frame = parse_frame(rest)
        if frame is not None and self._complete(frame):
            out = self._relay(rest.rstrip(b"\r\n") + b"\n\n")
        if not self.ended:
            self._fail(Failed("api_error", "upstream stream truncated", truncated=True))
        return out

    # ---- what a dialect says

    @abstractmethod
    def _complete(self, frame: Frame) -> bool:
        """Whether what the stream left without its empty line is a frame all the same."""

    @abstractmethod
    def _see(self, raw: bytes) -> bytes:
        """Read one frame; what of it is relayed."""

    @abstractmethod
    def _count(self, whole: bytes) -> None:
        """Add the length of the generated text, as it stands in the JSON."""

    @abstractmethod
    def _events(self, body: bytes) -> list[AnyEvent]:
        """What an answer says that is plain JSON."""

    @abstractmethod
    def _written(self, events: list[AnyEvent], model: str, reply_id: str) -> bytes:
        """The stream of these events."""

    # ---- what is the same

    def _wrap(self, body: bytes) -> bytes:
        """A plain JSON answer as the stream that was asked for."""
        events = self._events(body)
        reply = fold(events)
        self.usage = reply.usage
        self.answered = reply.model
        if reply.failure is not None:
            self._fail(reply.failure)
            return b""
        self.started = True
        self._end(reply.reason)
        return self._written(events, self._model or reply.model, reply.id)

    def _end(self, reason: StopReason | None) -> None:
        self.done = self.ended = True
        self.stop = reason

    def _fail(self, failed: Failed) -> None:
        self.failure = failed
        self.ended = True
        self._held.clear()

    def _relay(self, whole: bytes) -> bytes:
        if self._passes(whole):
            self._count(whole)
            self._last = whole
            return whole
        pieces: list[bytes] = []
        for raw in split_whole(whole):
            relayed = raw
            piece = self.PIECE.fullmatch(raw) if self.started else None
            if piece is not None:
                self.output_bytes += piece.end(1) - piece.start(1) - 2
            elif b"data" not in raw:  # a comment and the like
                pieces.append(raw)
                continue
            elif self._passes(raw):
                self._count(raw)
            else:
                relayed = self._see(raw)
            if relayed:
                pieces.append(relayed)
                self._last = relayed
            if self.ended:
                break
        return b"".join(pieces)

    def _passes(self, raw: bytes) -> bool:
        """Whether a frame needs no reading.

        What is not JSON is read: a caller's SDK would fail over it with words that tell nobody whose fault it is.
        """
        one, other = self.MARKS
        return self.started and one not in raw and other not in raw and is_plain_frames(raw)
