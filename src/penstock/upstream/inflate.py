"""Compressed bodies, decoded in bounded steps."""

import zlib

from penstock.upstream.failures import bad_answer

_INFLATE_STEP = 64 * 1024
_INFLATE_FREE = 1024 * 1024
_INFLATE_RATIO = 100


class Inflater:
    """Decodes gzip or deflate in bounded steps; refuses more than 100 times the input once past 1 MiB."""

    __slots__ = ("_decoder", "_gzip", "_in", "_more", "_out", "_pending")

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._decoder = zlib.decompressobj(31) if gzip else None
        self._pending = b""
        self._more = False
        self._in = 0
        self._out = 0

    def push(self, data: bytes) -> None:
        self._pending += data

    def take(self) -> bytes:
        """The next decoded bytes, at most 64 KiB; ``b""`` when more input is needed. Raises UpstreamFailure."""
        while self.busy():
            decoder = self._decoder
            if decoder is None:
                # "deflate" is meant to be zlib-wrapped, but some servers send it bare: the first two bytes tell
                if len(self._pending) < 2:
                    return b""
                first, second = self._pending[0], self._pending[1]
                wrapped = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
                decoder = self._decoder = zlib.decompressobj(15 if wrapped else -15)
            elif decoder.eof:
                if not self._gzip:
                    raise bad_answer("bytes after the end of the compressed body")
                decoder = self._decoder = zlib.decompressobj(31)
            before = len(self._pending)
            try:
                piece = decoder.decompress(self._pending, _INFLATE_STEP)
            except zlib.error as error:
                raise bad_answer(f"broken compressed body ({error})") from error
            self._pending = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            self._more = len(piece) == _INFLATE_STEP and not decoder.eof
            self._in += before - len(self._pending)
            self._out += len(piece)
            if self._out > _INFLATE_FREE and self._out > _INFLATE_RATIO * self._in:
                raise bad_answer("the body decompresses to more than 100 times its size")
            if piece:
                return piece
        return b""

    def busy(self) -> bool:
        """Whether ``take`` has input to work on."""
        return bool(self._pending) or self._more

    def whole(self) -> bool:
        """Whether all input was taken and is a complete compressed body, or there was none."""
        if self.busy():
            return False
        return not self._in or (self._decoder is not None and self._decoder.eof)
