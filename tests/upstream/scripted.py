"""A server that says exactly what a test tells it to, and the request that all tests send."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Self

from penstock.upstream import Deadlines, Origin, UpstreamClient, UpstreamResponse
from penstock.upstream.connection import UpstreamConnection

PATIENT = Deadlines(connect=10.0, first_byte=20.0, idle=20.0, total=30.0)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds, which must be a matter of few turns."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition did not come true")


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The head of the next request, with its blank line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """The next request's head and body."""
        head = await self.head()
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name == b"content-length":
                return head, await self.reader.readexactly(int(value))
        return head, b""

    async def say(self, *pieces: bytes) -> None:
        """Send each piece by itself, letting the client read it before the next."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            # two turns of the loop: one that sends, one that receives
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def hang_up(self) -> None:
        """Close cleanly."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Close so that the client gets a reset."""
        plug = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> bytes:
        """Wait until the client has closed; what it sent until then."""
        rest = b""
        try:
            while data := await self.reader.read(65536):
                rest += data
        except ConnectionError:
            pass
        return rest


class ScriptedServer:
    """Accepts connections and hands them to the test one by one."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self._arrivals: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self.origin = Origin("http", "127.0.0.1", 0)

    @classmethod
    @asynccontextmanager
    async def start(
        cls, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", buffer: int | None = None
    ) -> AsyncGenerator[Self]:
        """Serve on a free port; ``buffer`` makes the receive buffer that small."""
        server = cls()
        plug = socket.socket()
        if buffer is not None:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
        server.origin = Origin("https" if tls else "http", host, port)
        listener = server._server = await asyncio.start_server(
            server._accepted, sock=plug, ssl=tls, limit=2**16
        )
        try:
            yield server
        finally:
            listener.close()
            for peer in server.peers:
                peer.writer.transport.abort()
                try:
                    await peer.writer.wait_closed()
                except (ConnectionError, ssl.SSLError):
                    pass

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self._arrivals.put_nowait(peer)

    async def accept(self) -> Peer:
        """The next connection."""
        return await self._arrivals.get()

    def waiting(self) -> int:
        """Connections that no test has accepted yet."""
        return self._arrivals.qsize()


class Caller:
    """A client together with the origin it talks to."""

    def __init__(self, client: UpstreamClient, origin: Origin) -> None:
        self.client = client
        self.origin = origin

    async def post(
        self,
        body: bytes = b"{}",
        *,
        deadlines: Deadlines = PATIENT,
        stream: bool = False,
        path: bytes = b"/v1/x",
    ) -> UpstreamResponse:
        """Send one POST."""
        headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer sk-secret")]
        return await self.client.send(self.origin, b"POST", path, headers, body, deadlines, stream=stream)

    def start(
        self, body: bytes = b"{}", *, deadlines: Deadlines = PATIENT, stream: bool = False
    ) -> asyncio.Task[UpstreamResponse]:
        """Send one POST beside the test, which goes on to play the server."""
        return asyncio.create_task(self.post(body, deadlines=deadlines, stream=stream))

    def fetch(self, body: bytes = b"{}", *, deadlines: Deadlines = PATIENT) -> asyncio.Task[bytes]:
        """Send one POST beside the test, and read the whole answer."""

        async def whole() -> bytes:
            return await (await self.post(body, deadlines=deadlines)).read(2**30)

        return asyncio.create_task(whole())

    def connections(self) -> tuple[int, int]:
        """How many are open, and how many of them idle."""
        stats = self.client.stats().get(self.origin)
        return (stats.open, stats.idle) if stats else (0, 0)

    def busy(self) -> list[UpstreamConnection]:
        """Those that serve a request."""
        pools = self.client._pools.values()
        return [one for pool in pools for one in pool.connections if one._response is not None]
