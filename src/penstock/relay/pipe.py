"""The pipe: reads of an upstream's socket that are whole chunks of known frames, each carried to the caller in one call.

The machine, in words. A pipe belongs to one stream from its first byte towards the caller on. A read that begins where
the parser of the upstream's HTTP stands between two chunks is *offered* to it. As long as whole chunks come whose frames
the lane knows (``Lane.feed_known``), they are *carried*: the parser does not see them, and stands after them where it
stood before, between two chunks. The first chunk that is cut, framed in an unusual way, or of something that the lane
has to read, ends that; the rest of the read *goes the long way*: parser, ``ResponseStream.sink``, ``Lane.feed``.
"""

from collections.abc import Callable
from typing import Protocol

from penstock.core.dialects.interface import Lane

_LARGEST = 1024
"""Bytes of the largest chunk that is carried; larger ones are few."""
_SIZES = {line: size for size in range(1, _LARGEST + 1) for line in (b"%x" % size, b"%X" % size)}
"""The lines of size that are known, in the two ways of writing that servers have."""
_SIZE_LINE = len(b"%x\r\n" % _LARGEST)
_END = b"\r\n"


def _first_lines() -> list[bytes]:
    """By the length of a read that is one chunk: the line of size that it begins with; nothing where no chunk is so long."""
    lines = [b""] * (_LARGEST + 2 * len(_END) + len(b"%x" % _LARGEST) + 1)
    for size in range(1, _LARGEST + 1):
        line = b"%x\r\n" % size
        lines[len(line) + size + len(_END)] = line
    return lines


_FIRST_LINES = _first_lines()


class Writer(Protocol):
    """The caller's side, as far as a pipe needs it."""

    def write(self, data: bytes) -> None:
        """Send body bytes now."""
        ...


class Pipe:
    """Carries chunks of known frames from an upstream's socket to the caller, and leaves all else."""

    __slots__ = ("_caller", "_clock", "_lane", "last_write")

    def __init__(self, lane: Lane, caller: Writer, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds."""
        self._lane = lane
        self._caller = caller
        self._clock = clock
        self.last_write = 0.0
        """When something was carried last, by the clock."""

    def take(self, data: bytes) -> int:
        """How many bytes of ``data``, a read that begins with a chunk, have been carried; the others go the long way."""
        size = len(data)
        line = _FIRST_LINES[size] if size < len(_FIRST_LINES) else b""
        if line and data.startswith(line) and data.endswith(_END):
            # one chunk, which is nearly all that comes
            out = self._lane.feed_known(data, len(line), size - 2)
            if out is None:
                return 0
        else:
            out, size = self._feed_all(data, size)
        if out:
            self.last_write = self._clock()
            self._caller.write(out)
        return size

    def _feed_all(self, data: bytes, size: int) -> tuple[bytes, int]:
        """What the caller gets for the known chunks at the beginning of a read, and how many bytes they are."""
        feed = self._lane.feed_known
        pieces: list[bytes] = []
        at = 0
        while at < size:
            line = data.find(_END, at, at + _SIZE_LINE)
            start = line + len(_END)
            end = start + _SIZES.get(data[at:line], size)
            if line < 0 or not data.startswith(_END, end):
                break
            out = feed(data, start, end)
            if out is None:
                break
            pieces.append(out)
            at = end + len(_END)
        return b"".join(pieces), at
