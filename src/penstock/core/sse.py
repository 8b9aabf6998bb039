"""Server-sent events: bytes cut anywhere in, whole frames out.

The rules are the WHATWG event-stream grammar as real upstreams use it: a line ends with LF, CRLF or a lone CR (and with
nothing else: U+2028 stays text), a frame ends with an empty line, ``data:`` may lack its space, several data lines are
joined with LF, comments and unknown fields are ignored. Everything stays bytes, so a character cut in two is whole again
before anybody decodes it.
"""

import re

import msgspec

from penstock.core.body.nesting import nests_deeper

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of a whole answer that comes in place of a stream."""
MAX_FRAME = 4 * 1024 * 1024
"""Bytes of one unfinished frame; a single tool call may be one huge frame."""

_BOM = b"\xef\xbb\xbf"
_LEAST = len(b"data")
_DATA = b"\ndata: "
_OBJECT = b"\ndata: {"


class FrameTooLarge(ValueError):
    """An unfinished frame grew past the limit; the stream cannot be read on."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event: its type (``b""`` where the stream names none) and its data lines joined with LF."""

    event: bytes
    data: bytes


class Frames:
    """Splits a byte stream into frames; the result does not depend on where the stream was cut."""

    __slots__ = ("_fresh", "_held", "_limit", "_scanned", "_skip_lf")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._held = bytearray()
        self._scanned = (
            0  # no frame ends before here, so a frame that comes in crumbs is not searched again and again
        )
        self._skip_lf = False  # the last read ended with CR, which was taken as a line end at once
        self._fresh = True

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by ``data``. Raises ``FrameTooLarge``."""
        if b"\r" in data or self._skip_lf:
            data = self._plain_line_ends(data)
        held = self._held
        if not held and data.endswith(b"\n\n"):
            first, last = data.find(b"\n"), len(data) - 2
            if first == last:
                if data.startswith(b"data: "):  # one frame of one line
                    self._fresh = False
                    return [Frame(b"", data[6:-2])]
            elif (
                data.startswith(_DATA, first)
                and data.find(b"\n", first + 1) == last
                and data.startswith(b"event: ")
            ):  # one frame of two
                self._fresh = False
                return [Frame(data[7:first], data[first + 7 : -2])]
            return self._cut(data)
        held += data
        end = held.rfind(b"\n\n", self._scanned)
        if end < 0:
            self._scanned = max(len(held) - 1, 0)
            whole = b""
        else:
            whole = bytes(held[: end + 2])
            del held[: end + 2]
            self._scanned = max(len(held) - 1, 0)
        if len(held) > self._limit:
            raise FrameTooLarge(f"an event of the stream is larger than {self._limit} bytes")
        return self._cut(whole) if whole else []

    def finish(self) -> list[Frame]:
        """The frame that the end of the stream left without its empty line, if it has data."""
        rest = bytes(self._held)
        self._held.clear()
        return self._cut(rest + b"\n\n") if rest else []

    def _plain_line_ends(self, data: bytes) -> bytes:
        """LF for every line end. A CR that ends a read counts at once; an LF that then follows belongs to it."""
        if not data:
            return data
        if self._skip_lf and data[0] == 0x0A:
            data = data[1:]
            self._skip_lf = False
            if not data:
                return data
        self._skip_lf = data[-1] == 0x0D
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _cut(self, whole: bytes) -> list[Frame]:
        if self._fresh:
            self._fresh = False
            whole = whole.removeprefix(_BOM)
        frames: list[Frame] = []
        add = frames.append
        for raw in whole.split(b"\n\n"):
            if raw.startswith(b"data: ") and b"\n" not in raw:
                add(Frame(b"", raw[6:]))
            elif raw:
                frame = parse_frame(raw)
                if frame is not None:
                    add(frame)
        return frames


def parse_frame(raw: bytes) -> Frame | None:
    """The frame that ``raw`` (its lines, with or without the empty one) holds; None where it has no data line."""
    if len(raw) < _LEAST:
        return None
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if raw.startswith(b"event: "):
        end = raw.find(b"\n")
        if raw.startswith(b"data: ", end + 1) and raw.find(b"\n", end + 7) < 0:  # the usual two lines
            return Frame(raw[7:end], raw[end + 7 :])
    event = b""
    data: bytes | None = None
    for line in raw.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            data = value if data is None else data + b"\n" + value
        elif name == b"event":
            event = value.removeprefix(b" ")
    return None if data is None else Frame(event, data)


def complete_prefix(buffer: bytes | bytearray, start: int = 0) -> int:
    """How many leading bytes of ``buffer`` are whole frames; what follows them is a frame still under way.

    ``start`` may be set to where bytes were last added: nothing before it is searched again, bar what a line end cut
    there needs.
    """
    start = max(start - 2, 0)
    end = buffer.rfind(b"\n\n", start)
    if end > 0 and buffer[end - 1] == 0x0A and b"\r" not in buffer:
        # Of a run of line ends each two close a frame, wherever the reads were cut: an odd one belongs to what follows.
        first = len(buffer[:end].rstrip(b"\n"))
        return end + 2 - (end - first) % 2
    if b"\r" in buffer:
        end = max(end, buffer.rfind(b"\r\r", start), buffer.rfind(b"\n\r", start))
    if end < 0:
        return 0
    end += 2
    # the LF of a CRLF whose CR already was the empty line
    return end + 1 if buffer[end - 1] == 0x0D and buffer[end : end + 1] == b"\n" else end


# each line end as a whole: a CRLF is never taken for two
_FRAME_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


def split_whole(whole: bytes) -> list[bytes]:
    """Whole frames (see ``complete_prefix``) one by one, each with its own bytes up to and including its empty line."""
    if b"\r" not in whole:
        *frames, rest = whole.split(b"\n\n")
        closed = [raw + b"\n\n" for raw in frames]
        return [*closed, rest] if rest else closed
    pieces: list[bytes] = []
    at = 0
    for match in _FRAME_END.finditer(whole):
        pieces.append(whole[at : match.end()])
        at = match.end()
    if at < len(whole):
        pieces.append(whole[at:])
    return pieces


STRING = rb'"[^"\\\x00-\x1f]*+(?>(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*)"'
"""A JSON string, as a pattern: what is like it is valid, bar the UTF-8 in it, which a relay leaves as it is."""

_json = msgspec.json.Decoder(msgspec.Raw).decode


def is_plain_frames(whole: bytes) -> bool:
    """Whether these bytes are one frame in its usual form, a line of event and one with a JSON object. False says nothing."""
    start = 1 if whole.startswith(b"\n") else 0  # the rest of the empty line before, where a read ended in it
    at = whole.find(b"\n", start)
    if at == start or not whole.startswith(_OBJECT, at) or whole.find(b"\r", start, max(at - 1, start)) >= 0:
        return False  # the line of JSON has to be the second one, or there may be another frame before it
    data = whole[at + 7 :].rstrip(b"\r\n")
    if b"\n" in data or b"\r" in data:
        return False  # white space to JSON, but ends of lines, and perhaps of frames, to the caller
    try:
        _json(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return not nests_deeper(data)
