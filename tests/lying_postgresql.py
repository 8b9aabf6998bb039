"""A proxy before a real PostgreSQL that may say anything: a test says what becomes of each of its messages."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

Said = Callable[[bytes, bytes], bytes | None]
"""What goes to the client in place of a server's message: its type (one byte) and the whole of it; None: the message itself."""

HANG_UP = b"\x00hang up"
"""Said in place of a message: the connection is cut there."""
LONG = 64 << 20
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


def truthful(_kind: bytes, _message: bytes) -> bytes | None:
    """What PostgreSQL said."""
    return None


class LyingPostgresql:
    """The proxy. ``said`` may be changed at any time, for the connections that there are, too."""

    def __init__(self, url: str) -> None:
        """``url`` is of the real database."""
        self.said: Said = truthful
        self.welcome: bytes | None = None
        """What whoever connects is told, instead of being led to the server; ``HANG_UP`` cuts at once."""
        self.tls = b"N"
        """The answer to the question for TLS."""
        self.met = 0
        self.port = 0
        parts = urlsplit(url)
        self._parts = parts
        self._to = parts.port or 5432
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The database's address by this way."""
        place = f"{self._parts.username}@127.0.0.1:{self.port}"
        return urlunsplit(self._parts._replace(netloc=place))

    def be_honest(self) -> None:
        """From now on, for those who connect and for those who are connected."""
        self.said, self.welcome, self.tls = truthful, None, b"N"

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.met += 1
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.welcome is not None:
            if self.welcome != HANG_UP:
                writer.write(self.welcome)
                await reader.read(-1)  # until it leaves
            return
        first = await reader.readexactly(8)
        if first == _SSL_REQUEST:
            writer.write(self.tls)
            first = await reader.readexactly(8)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers.add(server_writer)
        server_writer.write(first)
        task = asyncio.create_task(self._carry(reader, server_writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                head = await server_reader.readexactly(5)
                message = head + await server_reader.readexactly(int.from_bytes(head[1:]) - 4)
                said = self.said(head[:1], message)
                if said == HANG_UP:
                    return
                writer.write(message if said is None else said)
                await writer.drain()
        finally:
            task.cancel()
            self._writers.discard(server_writer)
            server_writer.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def end(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def lying_postgresql(url: str) -> AsyncGenerator[LyingPostgresql]:
    """One that listens before the database at ``url``."""
    liar = LyingPostgresql(url)
    server = await asyncio.start_server(liar.meet, "127.0.0.1", 0)
    liar.port = server.sockets[0].getsockname()[1]
    try:
        yield liar
    finally:
        server.close()
        await liar.end()


# ---- lies


def message(kind: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A message of the server's; ``length`` is what it says of its own length."""
    return kind + struct.pack("!I", (len(body) + 4 if length is None else length) & 0xFFFFFFFF) + body


def refusal(state: str, text: str = "so it is") -> bytes:
    """An ErrorResponse with this SQLSTATE; '' for one without any field."""
    fields = f"SFATAL\0C{state}\0M{text}\0" if state else ""
    return message(b"E", fields.encode() + b"\0")


READY = message(b"Z", b"I")
_OF_ANSWERS = b"12TtDCnIE"


def in_answers(lie: bytes, only: bytes = _OF_ANSWERS) -> Said:
    """The lie in place of each message that is part of an answer (``only``: types of messages)."""
    return lambda kind, _message: lie if kind in only else None


def _as_text(kind: bytes, said: bytes) -> bytes | None:
    """All columns are said to be text."""
    if kind != b"T":
        return None
    count = int.from_bytes(said[5:7])
    out, at = said[5:7], 7
    for _ in range(count):
        end = said.index(b"\0", at) + 1
        out += said[at : end + 6] + struct.pack("!Ih", 25, -1) + said[end + 12 : end + 18]
        at = end + 18
    return message(b"T", out)


def _other_rows(kind: bytes, said: bytes) -> bytes | None:
    """Rows with one column less."""
    if kind != b"D":
        return None
    count = int.from_bytes(said[5:7])
    return message(b"D", struct.pack("!H", count - 1) + said[7:])


def _short_values(kind: bytes, said: bytes) -> bytes | None:
    """Each value is one byte."""
    if kind != b"D":
        return None
    count = int.from_bytes(said[5:7])
    return message(b"D", said[5:7] + b"\x00\x00\x00\x01\xff" * count)


def _no_values(kind: bytes, said: bytes) -> bytes | None:
    """Each value is NULL."""
    if kind != b"D":
        return None
    count = int.from_bytes(said[5:7])
    return message(b"D", said[5:7] + b"\xff\xff\xff\xff" * count)


def _half(kind: bytes, said: bytes) -> bytes | None:
    """The first half of a message, and nothing more."""
    return said[: len(said) // 2] if kind in _OF_ANSWERS else b""


LATER: dict[str, Said] = {
    "says nothing": lambda _kind, _said: b"",
    "hangs up": in_answers(HANG_UP),
    "bytes": in_answers(b"\x00\xff" * 40),
    "a web server": in_answers(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"),
    "an unknown type": in_answers(message(b"?", b"what")),
    "ready too early": in_answers(READY),
    "ready again and again": lambda kind, said: said + READY * 3 if kind == b"Z" else None,
    "authentication again": in_answers(message(b"R", struct.pack("!I", 0))),
    "a copy": in_answers(message(b"H", b"\0\0\0")),
    "a copy the other way": in_answers(message(b"G", b"\0\0\0")),
    "rows for all": in_answers(message(b"D", b"\0\1\0\0\0\1x")),
    "done for all": in_answers(message(b"C", b"SELECT 1\0")),
    "2 GB": in_answers(message(b"D", b"\0\1", length=(1 << 31) - 1)),
    "2^31": in_answers(message(b"D", b"\0\1", length=1 << 31)),
    "2^32": in_answers(message(b"T", b"\0\1", length=(1 << 32) - 1)),
    "no length": in_answers(message(b"T", b"\0\1", length=0)),
    "a value of 2 GB": in_answers(message(b"D", b"\0\2" + struct.pack("!I", (1 << 31) - 1)), b"D"),
    "65,535 columns": in_answers(message(b"T", b"\xff\xff"), b"T"),
    "no columns": in_answers(message(b"T", b"\0\0"), b"T"),
    "a column less": _other_rows,
    "half": _half,
    "an error without fields": in_answers(refusal("")),
    "an error without an end": in_answers(message(b"E", b"SFATAL")),
    "an odd state": in_answers(refusal("zz")),
    "a state of success": in_answers(refusal("00000")),
    "no such statement": in_answers(refusal("26000") + READY),
    "no such table": in_answers(refusal("42P01") + READY),
    "no such column": in_answers(refusal("42703") + READY),
    "a syntax error": in_answers(refusal("42601") + READY),
    "not supported": in_answers(refusal("0A000") + READY),
    "an error that is none of SQL": in_answers(refusal("ABCDE", "\x1b[2J") + READY),
    "bad UTF-8": in_answers(message(b"E", b"SFATAL\0C57P01\0M\xff\xfe\0\0") + READY),
    "shutting down": in_answers(refusal("57P01") + HANG_UP[:0]),
    "a strange setting": in_answers(message(b"S", b"client_encoding\0EBCDIC\0") + READY),
}
"""What a server may say to whoever is connected, by name."""

VALUES: dict[str, Said] = {
    "columns of text": _as_text,
    "short values": _short_values,
    "no values": _no_values,
    "no rows of columns": in_answers(b"", b"D"),
}
"""Answers that are well formed, and not what was asked for."""

FIRST: dict[str, bytes] = {
    "silence": b"",
    "hangs up": HANG_UP,
    "bytes": b"\x00\xff" * 4000,
    "a web server": b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
    "no TLS, and no more": b"N",
    "TLS, which is none": b"S" + b"\x16\x03\x01\xff\xff" * 20,
    "something else than yes and no": b"E",
    "a refusal": b"N" + refusal("53300"),
    "a refusal without fields": b"N" + refusal(""),
    "an unknown method": b"N" + message(b"R", struct.pack("!I", 99)),
    "SASL without methods": b"N" + message(b"R", struct.pack("!I", 10) + b"\0"),
    "SASL in the middle": b"N" + message(b"R", struct.pack("!I", 11) + b"r=x"),
    "a password in the open": b"N" + message(b"R", struct.pack("!I", 3)),
    "ready without authentication": b"N" + READY,
    "2 GB": b"N" + message(b"R", length=(1 << 31) - 1) + b"x" * 1000,
    "2^32": b"N" + message(b"R", length=(1 << 32) - 1),
    "no length": b"N" + message(b"R", length=0),
    "in, but mute": b"N" + message(b"R", struct.pack("!I", 0)),
    "in, ready, and mute": b"N" + message(b"R", struct.pack("!I", 0)) + READY,
    "endless notices": b"N" + message(b"N", b"SNOTICE\0Mx\0\0") * 20_000,
    "endless settings": b"N" + message(b"S", b"a\0b\0") * 20_000,
}
"""What whoever connects may be told, by name."""
