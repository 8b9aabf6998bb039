"""A chunked request body: the chunks' data out, and the exact place where the body ends."""

import httptools

from penstock.errors import InvalidRequest
from penstock.wire.head import find_end

PRELUDE = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
FREE_FRAMING = 16 * 1024
FRAMING_PER_BYTE = 8
"""One-byte chunks, the worst that an honest sender does, cost five bytes of framing each."""


class ChunkedReader:
    """Decodes one body, with a parser of its own.

    The parser cannot tell how much of its input belonged to the body, so what follows it would be lost. But a chunked
    body always ends with the first line break pair after its last chunk: the input is fed in pieces that end at such
    pairs, so the body ends with a piece.
    """

    __slots__ = ("_decoded", "_framing", "_parser", "_pieces", "_tail", "complete")

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(PRELUDE)
        self._pieces: list[bytes] = []
        self._tail = b""
        self._framing = 0
        self._decoded = 0
        self.complete = False

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Decode ``data[start:]`` up to the body's end; gives the chunks' data and the index after what was read.

        Trailers are read and dropped. Raises ``InvalidRequest`` on broken chunks, and on framing (chunk extensions,
        trailers) out of all proportion to the data.
        """
        while start < len(data) and not self.complete:
            end = find_end(self._tail, data, start) or len(data)
            piece = data[start:end]
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserError:
                raise InvalidRequest("The chunked body is broken.") from None
            self._tail = (self._tail + piece[-3:])[-3:]
            self._framing += end - start
            start = end
        decoded = b"".join(self._pieces)
        self._pieces.clear()
        self._framing -= len(decoded)
        self._decoded += len(decoded)
        if self._framing > FREE_FRAMING + FRAMING_PER_BYTE * self._decoded:
            raise InvalidRequest("The chunked body is mostly framing.")
        return decoded, start

    # ---- callbacks of the parser

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self.complete = True
