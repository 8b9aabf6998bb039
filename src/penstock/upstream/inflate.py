"""Compressed bodies, decoded in bounded steps."""

import zlib
from collections import deque

from penstock.upstream.failures import bad_answer

_INPUT_STEP = 16 * 1024
"""How much zlib is given at a time: what it does not take at the end of a member it copies."""
_OUTPUT_STEP = 64 * 1024
_CALLS = 64
"""How often zlib is called in one step, where it gives nothing."""
_INFLATE_FREE = 1024 * 1024
_INFLATE_RATIO = 100
_FREE_MEMBERS = 1024
_BYTES_PER_MEMBER = 128
"""What each further member of a gzip body must hold on average: an event does, and costs more to relay than this."""


class Inflater:
    """Decodes gzip or deflate in bounded steps.

    It refuses more than 100 times the input once past 1 MiB, and members out of all proportion to what they hold. What it costs
    is in proportion to its input, however that is cut.
    """

    __slots__ = ("_at", "_decoder", "_given", "_gzip", "_in", "_members", "_more", "_out", "_pieces")

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._decoder = zlib.decompressobj(31) if gzip else None
        self._pieces: deque[bytes] = deque()
        self._at = 0
        """How far the first of the pieces was given to zlib."""
        self._given = b""
        """What zlib is given next: it has not taken it yet."""
        self._more = False
        self._members = 1
        self._in = 0
        self._out = 0

    def push(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)

    def take(self) -> bytes:
        """The next decoded bytes, at most 64 KiB. Raises UpstreamFailure.

        ``b""`` when more input is needed; or after a step that gave nothing, when it is still ``busy``.
        """
        for _ in range(_CALLS):
            if not self.busy():
                break
            if not self._given and not self._more:
                self._give()
            decoder = self._decoder
            if decoder is None:
                # "deflate" is meant to be zlib-wrapped, but some servers send it bare: the first two bytes tell
                if len(self._given) < 2:
                    if self._pieces:
                        self._give()
                    continue
                first, second = self._given[0], self._given[1]
                wrapped = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
                decoder = self._decoder = zlib.decompressobj(15 if wrapped else -15)
            elif decoder.eof:
                self._next_member()
                continue
            before = len(self._given)
            try:
                piece = decoder.decompress(self._given, _OUTPUT_STEP)
            except zlib.error as error:
                raise bad_answer(f"broken compressed body ({error})") from error
            self._given = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            self._more = len(piece) == _OUTPUT_STEP and not decoder.eof
            self._in += before - len(self._given)
            self._out += len(piece)
            if self._out > _INFLATE_FREE and self._out > _INFLATE_RATIO * self._in:
                raise bad_answer("the body decompresses to more than 100 times its size")
            if piece:
                return piece
        return b""

    def busy(self) -> bool:
        """Whether ``take`` has input to work on."""
        if self._pieces or self._more:
            return True
        return len(self._given) > (1 if self._decoder is None else 0)

    def whole(self) -> bool:
        """Whether all input was taken and is a complete compressed body, or there was none."""
        if self._given or self.busy():
            return False
        return not self._in or (self._decoder is not None and self._decoder.eof)

    def _give(self) -> None:
        piece = self._pieces[0]
        self._given += piece[self._at : self._at + _INPUT_STEP]
        self._at += _INPUT_STEP
        if self._at >= len(piece):
            self._pieces.popleft()
            self._at = 0

    def _next_member(self) -> None:
        if not self._gzip:
            raise bad_answer("bytes after the end of the compressed body")
        self._members += 1
        if self._members > _FREE_MEMBERS + self._out // _BYTES_PER_MEMBER:
            raise bad_answer("the compressed body is in far too many pieces")
        self._decoder = zlib.decompressobj(31)
