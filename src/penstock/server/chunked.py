"""A chunked request body: the chunks' data out, and the exact place where the body ends.

Not left to llhttp, which cannot tell how much of its input belonged to the body, so that a request pipelined behind one
would be lost.
"""

import re
from enum import Enum
from typing import Final

from penstock.errors import InvalidRequest

LONGEST_LINE: Final = 4096
FREE_FRAMING: Final = 64 * 1024
DATA_PER_FRAMING: Final = 4
"""Bytes of data that each further byte of framing must carry; chunks of 24 bytes do, and cost little to read."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb"\"(?>(?:[\t\x20\x21\x23-\x5b\x5d-\x7e]|\\[\t\x20-\x7e])*)\""
_EXTENSION = rb";[\t ]*+%b(?>(?:[\t ]*+=[\t ]*+(?:%b|%b))?)[\t ]*+" % (_TOKEN, _TOKEN, _QUOTED)
"""A name, and perhaps a value. Where a name is missing, or a quote stays open, others may see another end of the line."""
_size_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?>(?:%b)*)" % _EXTENSION).fullmatch
_trailer = re.compile(rb"(%b):[\t\x20-\x7e\x80-\xff]*" % _TOKEN).fullmatch
_forbidden_trailers: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"trailer", b"content-encoding"}
)


class _Awaits(Enum):
    SIZE = 0
    DATA = 1
    END_OF_CHUNK = 2
    TRAILER = 3


_SIZE, _DATA, _END_OF_CHUNK, _TRAILER = _Awaits  # looked up once, not for each chunk


class ChunkedReader:
    """Decodes one body."""

    __slots__ = ("_awaits", "_decoded", "_framing", "_left", "_line", "complete")

    def __init__(self) -> None:
        self._awaits = _SIZE
        self._line = b""
        self._left = 0
        self._framing = 0
        self._decoded = 0
        self.complete = False

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Decode ``data[start:]`` up to the body's end; gives the chunks' data and the index after what was read.

        Trailers are checked and dropped. Raises ``InvalidRequest`` on broken chunks, and on framing (tiny chunks,
        extensions, trailers) out of all proportion to the data.
        """
        pieces: list[bytes] = []
        at = start
        while at < len(data) and not self.complete:
            if self._awaits is _SIZE and not self._line:
                at = self._take_whole_chunks(data, at, pieces)
            if self._awaits is _DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._decoded += len(piece)
                if not self._left:
                    self._awaits = _END_OF_CHUNK
            elif at < len(data):
                at = self._take_line(data, at)
            if self._framing > FREE_FRAMING + self._decoded // DATA_PER_FRAMING:
                raise InvalidRequest("The chunked body is mostly framing.")
        return b"".join(pieces), at

    def _take_whole_chunks(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """The short way for chunks that are here from their size to their end; stops before any other."""
        begun = at
        decoded = 0
        while (line := data.find(b"\r\n", at)) > 0:
            match = _size_line(data, at, line) if line - at <= LONGEST_LINE else None
            size = int(match[1], 16) if match else 0
            end = line + 2 + size
            if not size or data[end : end + 2] != b"\r\n":
                break
            pieces.append(data[line + 2 : end])
            decoded += size
            at = end + 2
        self._decoded += decoded
        self._framing += at - begun - decoded
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        """Read on in a line of framing, which may have begun in an earlier piece."""
        end = data.find(b"\n", at) + 1
        line = self._line + data[at : end or len(data)]
        self._framing += (end or len(data)) - at
        if len(line) > LONGEST_LINE:
            raise InvalidRequest("The chunked body has a line too long.")
        if not end:
            self._line = line
            return len(data)
        self._line = b""
        self._judge(line)
        return end

    def _judge(self, line: bytes) -> None:
        text = line[:-2]
        if line.endswith(b"\r\n"):
            if self._awaits is _SIZE:
                if match := _size_line(text):
                    self._left = int(match[1], 16)
                    self._awaits = _DATA if self._left else _TRAILER
                    return
            elif not text:
                self.complete = self._awaits is _TRAILER
                self._awaits = _SIZE
                return
            elif self._awaits is _TRAILER:
                match = _trailer(text)
                if match and match[1].lower() not in _forbidden_trailers:
                    return
        raise InvalidRequest("The chunked body is broken.")
