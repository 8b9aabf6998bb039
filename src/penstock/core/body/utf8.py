"""UTF-8: whether bytes are text, without making a text of them."""

_PIECE = 4096
"""Bytes whose encoding is checked at once."""
_CONTINUED = 3
"""The most bytes of a character after its first."""


def find_invalid(body: bytes) -> int:
    """Where the first byte is that is not UTF-8; -1 where all is.

    Piece by piece, because most of a long text is ASCII, and a piece that is not fits into the processor's cache.
    """
    if body.isascii():
        return -1
    at, length = 0, len(body)
    while at < length:
        end = at + _PIECE
        most = min(end + _CONTINUED, length)
        while end < most and body[end] & 0xC0 == 0x80:  # inside of a character
            end += 1
        piece = body[at:end]
        if not piece.isascii():
            try:
                piece.decode()
            except UnicodeDecodeError as error:
                return at + error.start
        at = end
    return -1
