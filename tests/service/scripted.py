"""An upstream that does exactly what a test says: it keeps the bytes of each request and knows when the gateway hangs up."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

import msgspec

_NONE: Mapping[str, str] = {}
_JSON = "application/json"
_SSE = "text/event-stream"


PATIENCE = float(os.environ.get("PENSTOCK_TEST_PATIENCE", "60"))
"""Seconds after which what has to happen has not; only there so that a fault ends the test. A busy machine may need more."""


class Asked:
    """One request as it arrived, byte for byte, and the means to answer it."""

    def __init__(self, line: "_Line", head: bytes) -> None:
        self._line = line
        self.head = head
        first, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        self.method, self.path, _ = first.decode().split(" ")
        self.headers = {
            name.decode(): value.decode() for name, _, value in (x.partition(b": ") for x in rest)
        }
        assert len(self.headers) == len(rest), "a request header was sent twice"
        self.body = b""
        self.gone = asyncio.Event()
        """The gateway has closed the connection."""

    async def left(self) -> None:
        """Wait until the gateway has hung up."""
        async with asyncio.timeout(PATIENCE):
            await self.gone.wait()

    @property
    def json(self) -> dict[str, object]:
        """The body, decoded."""
        return msgspec.json.decode(self.body, type=dict[str, object])

    @property
    def unsent(self) -> int:
        """How many bytes of what was written the gateway has not taken yet."""
        return self._line.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send these bytes."""
        self._line.transport.write(data)

    def answer(
        self, body: bytes, status: int = 200, *, headers: Mapping[str, str] = _NONE, kind: str = _JSON
    ) -> None:
        """Send a whole answer."""
        self.write(_head(status, kind, headers) + b"content-length: %d\r\n\r\n%b" % (len(body), body))

    def begin(self, *frames: bytes, headers: Mapping[str, str] = _NONE, kind: str = _SSE) -> None:
        """Begin a stream, with its first frames."""
        self.write(_head(200, kind, headers) + b"transfer-encoding: chunked\r\n\r\n")
        self.frames(*frames)

    def frames(self, *frames: bytes) -> None:
        """Send more of a stream."""
        self.write(b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames))

    def stream_on(self, *frames: bytes) -> None:
        """Send the rest of a stream, and end it."""
        self.frames(*frames)
        self.end()

    def end(self) -> None:
        """End a stream cleanly."""
        self.write(b"0\r\n\r\n")

    def stream(self, *frames: bytes) -> None:
        """Send a whole stream."""
        self.begin(*frames)
        self.end()

    def cut(self) -> None:
        """Close, in the middle of whatever it is."""
        self._line.transport.close()

    def reset(self) -> None:
        """Close so that the gateway gets a reset."""
        plug = self._line.transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._line.transport.abort()


def _head(status: int, kind: str, headers: Mapping[str, str]) -> bytes:
    named = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\n{named}".encode()


class _Line(asyncio.Protocol):
    """One connection of the gateway's; its requests come one after the other."""

    transport: asyncio.Transport

    def __init__(self, upstream: "Scripted") -> None:
        self._upstream = upstream
        self._data = bytearray()
        self._asked: Asked | None = None
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._upstream.lines.add(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._take():
            pass

    def _take(self) -> bool:
        if self._left == 0:
            end = self._data.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            self._asked = Asked(self, bytes(self._data[:end]))
            del self._data[:end]
            if self._upstream.hasty is not None:
                self._upstream.hasty(self._asked)
            self._left = int(self._asked.headers.get("content-length", "0"))
        assert self._asked is not None
        if len(self._data) < self._left:
            return False
        self._asked.body = bytes(self._data[: self._left])
        del self._data[: self._left]
        self._left = 0
        self._upstream.arrived(self._asked)
        return bool(self._data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.lines.discard(self)
        if self._asked is not None:
            self._asked.gone.set()


class Scripted:
    """A listening upstream. ``script``, where it is set, answers each request; without it the test does."""

    def __init__(self) -> None:
        self.port = 0
        self.server: asyncio.Server | None = None
        self.lines: set[_Line] = set()
        self.asked: list[Asked] = []
        """Every request, in order."""
        self.script: Callable[[Asked], None] | None = None
        self.hasty: Callable[[Asked], None] | None = None
        """Answers each request once its head is here, where it is set."""
        self._waiting: asyncio.Queue[Asked] = asyncio.Queue()

    def arrived(self, asked: Asked) -> None:
        """A request is complete."""
        self.asked.append(asked)
        self._waiting.put_nowait(asked)
        if self.script is not None:
            self.script(asked)

    async def shut(self) -> None:
        """Listen no longer, and hang up."""
        assert self.server is not None
        self.server.close()
        for line in tuple(self.lines):
            line.transport.abort()
        await self.server.wait_closed()

    async def next(self) -> Asked:
        """The next request that no test has taken yet."""
        async with asyncio.timeout(PATIENCE):
            return await self._waiting.get()


@asynccontextmanager
async def scripted() -> AsyncGenerator[Scripted]:
    """An upstream on a free loopback port."""
    upstream = Scripted()
    server = await asyncio.get_running_loop().create_server(lambda: _Line(upstream), "127.0.0.1", 0)
    upstream.server = server
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        await upstream.shut()


CLEAN_END = "a clean end"
"""Of the body, without the dialect's own."""
ENDINGS: dict[str, Callable[[Asked], None]] = {
    "cut": lambda asked: asked.cut(),
    "reset": lambda asked: asked.reset(),
    CLEAN_END: lambda asked: asked.end(),
    "garbage": lambda asked: asked.stream_on(b"data: {]]\n\n"),
    "broken framing": lambda asked: asked.write(b"zz\r\nnot a chunk"),
}
"""How an upstream breaks a stream off."""
