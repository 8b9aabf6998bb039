"""A server on a loopback port with a handler of the test's own, and a caller that writes raw bytes to it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from penstock.errors import PenstockError, simple_body
from penstock.exchange import Exchange, Handler
from penstock.server.connection import CallerConnection
from penstock.server.listen import Application, ASGIApp, Listener, ServerLimits, listen

CLOSE = b"connection: close"


async def echo(exchange: Exchange) -> None:
    """Answer with what came: the method, the path, and the body."""
    body = await exchange.body()
    exchange.start(200, [(b"content-type", b"text/plain"), (b"x-path", exchange.path.encode())])
    exchange.end(exchange.method.encode() + b":" + body)


def reject(exchange: Exchange, error: PenstockError) -> None:
    body = simple_body(error, "test")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    exchange.start(error.status, headers)
    exchange.end(body)


@dataclass
class Answer:
    """A response as it was on the wire."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    whole: bool = True
    """False when the connection ended before the body did."""


@dataclass
class Caller:
    """A raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    interim: list[int] = field(default_factory=list)
    """The 1xx answers seen."""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, to_head: bool = False) -> Answer:
        """The next response. Raises ``EOFError`` (``IncompleteReadError``) when there is none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        status = int(first.split(b" ")[1])
        if status < 200:
            self.interim.append(status)
            return await self.answer(to_head=to_head)
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        assert len(headers) == len(lines), "a response header was sent twice"
        assert b"date" in headers
        answer = Answer(status, headers, b"")
        try:
            await self._read_body(answer, to_head or status in {204, 304})
        except asyncio.IncompleteReadError as error:
            answer.body += error.partial
            answer.whole = False
        return answer

    async def _read_body(self, answer: Answer, bodiless: bool) -> None:
        if bodiless:
            return
        if answer.headers.get(b"transfer-encoding") == b"chunked":
            chunks: list[bytes] = []
            try:
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    chunks.append((await self.reader.readexactly(size + 2))[:-2])
                assert await self.reader.readexactly(2) == b"\r\n"
            finally:
                answer.body = b"".join(chunks)
        elif b"content-length" in answer.headers:
            answer.body = await self.reader.readexactly(int(answer.headers[b"content-length"]))
        else:
            answer.body = await self.reader.read()

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        return await self.reader.read()

    async def ended(self) -> None:
        """The server has ended the connection, cleanly or by a reset."""
        try:
            await self.reader.read()
        except ConnectionError:
            pass

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Server:
    """A listening server and its callers."""

    listener: Listener
    callers: list[Caller] = field(default_factory=list)

    async def call(self, *, limit: int = 2**16) -> Caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port, limit=limit)
        caller = Caller(reader, writer)
        self.callers.append(caller)
        return caller

    @property
    def connection(self) -> CallerConnection:
        """The server's side of the only connection."""
        (connection,) = self.listener._wire.connections
        assert isinstance(connection, CallerConnection)
        return connection

    async def ask(self, raw: bytes) -> Answer:
        """One request on a connection of its own."""
        caller = await self.call()
        await caller.send(raw)
        return await caller.answer()


@asynccontextmanager
async def serving(
    handler: Handler = echo,
    *,
    site: ASGIApp | None = None,
    limits: ServerLimits | None = None,
    reject: Callable[[Exchange, PenstockError], None] = reject,
) -> AsyncGenerator[Server]:
    """A server for the data plane below ``/v1`` (with no site: for everything)."""
    application = Application(handler, lambda path: path.startswith("/v1"), site, reject)
    listener = await listen(application, "127.0.0.1", 0, limits or ServerLimits())
    server = Server(listener)
    try:
        yield server
    finally:
        for caller in server.callers:
            caller.leave()
        await listener.close()


def get(path: str = "/v1/x", *lines: str, version: str = "1.1") -> bytes:
    return "".join(
        [f"GET {path} HTTP/{version}\r\nHost: a\r\n", *(f"{x}\r\n" for x in lines), "\r\n"]
    ).encode()


def post(body: bytes, *lines: str, path: str = "/v1/x") -> bytes:
    head = [f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"]
    return "".join([*head, *(f"{x}\r\n" for x in lines), "\r\n"]).encode() + body


def chunked(*chunks: bytes, trailer: bytes = b"", path: bytes = b"/v1/x") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailer + b"\r\n"


async def within(seconds: float, waiting: Awaitable[object]) -> None:
    """Wait for something that has to happen; the time is only there so that a fault ends the test."""
    await asyncio.wait_for(waiting, seconds)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so that has no event of its own."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)
