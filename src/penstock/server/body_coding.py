"""Compressed request bodies, decoded in steps: the bound is on what comes out, and its memory is asked for as it does.

What a decoder keeps beside that is in proportion to what has come out, up to its window: 8 MiB for zstd (RFC 9659), 16 for br.
"""

import asyncio
import sys
import zlib
from collections.abc import Callable
from typing import Final, Protocol, cast

from penstock.errors import EncodedBody, InvalidRequest, RequestTooLarge

CODINGS: Final = ("zstd", "br", "gzip", "deflate")
"""What is taken, best first, as ``Accept-Encoding`` of a refusal says it (RFC 9110 section 15.5.16)."""

_OTHER_NAMES: Final = {"x-gzip": "gzip"}
_INPUT: Final = 16 * 1024
"""How much a decoder is given at a time: what zlib does not take it copies."""
_OUTPUT: Final = 64 * 1024
_STEPS: Final = 4
"""Steps after which others have their turn, some two milliseconds."""
_MEMBERS: Final = 64
"""Parts that a body of gzip or zstd may be in; clients send one."""
_WINDOW_LOG: Final = 23


class _Decoder(Protocol):
    """One compressed stream."""

    wants: bool
    """More input is needed for more output."""
    over: bool
    """The stream has ended."""
    unused: int
    """Bytes given that come after its end."""

    def step(self, data: bytes) -> bytes:
        """Take the input, and give up to ``_OUTPUT`` bytes, or little more. ``data`` is b"" unless ``wants``."""
        ...


class NotDecoded(Exception):
    """The bytes are not what they are said to be."""


class _Zlib:
    """gzip, or deflate: meant to be zlib-wrapped (RFC 9110 section 8.4.1.2), sent bare by some."""

    def __init__(self, *, gzip: bool) -> None:
        self._decoder = zlib.decompressobj(31) if gzip else None
        self._left = b""
        self.wants, self.over, self.unused = True, False, 0

    def step(self, data: bytes) -> bytes:
        data = self._left + data
        decoder = self._decoder
        if decoder is None:
            if len(data) < 2:
                self._left = data
                return b""
            wrapped = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            decoder = self._decoder = zlib.decompressobj(15 if wrapped else -15)
        try:
            found = decoder.decompress(data, _OUTPUT)
        except zlib.error as error:
            raise NotDecoded from error
        self.over = decoder.eof
        self.unused = len(decoder.unused_data)
        self._left = decoder.unconsumed_tail
        self.wants = not self._left and len(found) < _OUTPUT
        return found


class _Zstd:
    """zstd (RFC 8878)."""

    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415 - half a megabyte that few requests need
        else:
            from backports import zstd  # noqa: PLC0415 - the same for older versions
        window = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG}
        self._decoder = zstd.ZstdDecompressor(options=window)
        self._error = zstd.ZstdError
        self.wants, self.over, self.unused = True, False, 0

    def step(self, data: bytes) -> bytes:
        try:
            found = self._decoder.decompress(data, _OUTPUT)
        except self._error as error:
            raise NotDecoded from error
        self.over = self._decoder.eof
        self.unused = len(self._decoder.unused_data)
        self.wants = self._decoder.needs_input
        return found


class _BrotliDecompressor(Protocol):
    """brotli's, which is not annotated, as far as it is used."""

    def process(self, data: bytes, *, output_buffer_limit: int) -> bytes:
        """Output for the input, of the limit or little more."""
        ...

    def can_accept_more_data(self) -> bool:
        """Whether all input was taken."""
        ...

    def is_finished(self) -> bool:
        """Whether the stream has ended."""
        ...


class _Brotli:
    """br (RFC 7932). What stands behind its end is an error of the decoder's."""

    def __init__(self) -> None:
        import brotli  # noqa: PLC0415 - a megabyte that few requests need

        make = cast("Callable[[], _BrotliDecompressor]", brotli.Decompressor)
        self._decoder = make()
        self._error = cast("type[Exception]", brotli.error)
        self.wants, self.over, self.unused = True, False, 0

    def step(self, data: bytes) -> bytes:
        try:
            found = self._decoder.process(data, output_buffer_limit=_OUTPUT)
        except self._error as error:
            raise NotDecoded from error
        self.over = self._decoder.is_finished()
        # It accepts more while there is output that it has not given.
        self.wants = self._decoder.can_accept_more_data() and len(found) < _OUTPUT
        return found


_MAKE: Final[dict[str, Callable[[], _Decoder]]] = {
    "zstd": _Zstd,
    "br": _Brotli,
    "gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
}


def coding_of(value: bytes) -> str:
    """The one coding that a ``Content-Encoding`` names beside ``identity``. Raises ``EncodedBody``."""
    told = [name.strip() for name in value.decode("latin-1").lower().split(",")]
    named = [_OTHER_NAMES.get(name, name) for name in told if name not in {"", "identity"}]
    if len(named) != 1 or named[0] not in CODINGS:
        raise EncodedBody(
            f"Send the request body without a Content-Encoding, or with one of {', '.join(CODINGS)}.",
            accepted=", ".join(CODINGS),
        )
    return named[0]


async def decoded(data: bytes, coding: str, most: int, arrived: Callable[[int], None] | None) -> bytes:
    """The body that ``data`` stands for, of ``most`` bytes at most.

    ``arrived`` is told how many bytes are held, whenever there are more; what it raises ends the decoding. Raises
    ``InvalidRequest`` or ``RequestTooLarge``.
    """
    pieces: list[bytes] = []
    size = at = steps = 0
    members, decoder = 1, _MAKE[coding]()
    while True:
        given = b""
        if decoder.wants:
            given = data[at : at + _INPUT]
            if not given:
                raise InvalidRequest(f"The request body is not whole: its {coding} ends too soon.")
            at += len(given)
        try:
            found = decoder.step(given)
        except NotDecoded:
            raise InvalidRequest(f"The request body is not {coding}, as its Content-Encoding says.") from None
        if found:
            size += len(found)
            if size > most:
                raise RequestTooLarge(f"The request body is larger than {most} bytes, once it is decoded.")
            if arrived is not None:
                arrived(len(data) + size)
            pieces.append(found)
        if decoder.over:
            at -= decoder.unused
            if at == len(data):
                return b"".join(pieces)
            members += 1
            if coding in {"br", "deflate"} or members > _MEMBERS:
                raise InvalidRequest(f"The request body goes on behind the end of its {coding}.")
            decoder = _MAKE[coding]()
        steps += 1
        if steps % _STEPS == 0:
            await asyncio.sleep(0)
