"""A simulator on a real socket, and a plain client that shows exactly what came over it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from penstock.errors import PenstockError
from penstock.exchange import Exchange
from penstock.providers.simulator.handler import SimulatedRequest, simulator
from penstock.server.listen import Application, ServerLimits, listen


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``whole`` is False when the connection was lost before the body's end."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    def json(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body)


class Sim:
    """A running simulator: its address, and the journal of what it got."""

    def __init__(self) -> None:
        self.port = 0
        self.visits: list[SimulatedRequest] = []
        self._news = asyncio.Event()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def note(self, visit: SimulatedRequest) -> None:
        self.visits.append(visit)
        self._news.set()

    async def visit(self, number: int = 0) -> SimulatedRequest:
        """The visit of this number, when it has arrived."""
        while len(self.visits) <= number:
            self._news.clear()
            await self._news.wait()
        return self.visits[number]

    async def open(
        self, path: str, body: object, scenario: str | None = None, method: str = "POST"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request and leave the connection open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nhost: sim\r\ncontent-length: {len(content)}\r\nconnection: close\r\n"
        if scenario is not None:
            head += f"x-simulate: {scenario}\r\n"
        writer.write(head.encode() + b"\r\n" + content)
        return reader, writer

    async def ask(self, path: str, body: object, scenario: str | None = None, method: str = "POST") -> Answer:
        """Send a request and read to the end of the connection."""
        reader, writer = await self.open(path, body, scenario, method)
        try:
            raw = await reader.read()
        finally:
            writer.close()
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        status = int(lines[0].split()[1])
        if headers.get("transfer-encoding") == "chunked":
            content, whole = unchunk(rest)
        else:
            content, whole = rest, len(rest) == int(headers["content-length"])
        return Answer(status, headers, content, whole)


def unchunk(raw: bytes) -> tuple[bytes, bool]:
    """The body in a chunked encoding, and whether its end was there."""
    content = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return content, raw == b"\r\n"
        content, raw = content + raw[:length], raw[length + 2 :]
    return content, False


def refuse(exchange: Exchange, error: PenstockError) -> None:
    exchange.start(error.status, [(b"content-length", b"0")])
    exchange.end()


@pytest.fixture
async def sim() -> AsyncIterator[Sim]:
    running = Sim()
    handler = simulator(journal=running.note, gap=0)
    application = Application(handler=handler, owns=lambda _: True, site=None, reject=refuse)
    listener = await listen(application, "127.0.0.1", 0, ServerLimits())
    running.port = listener.port
    yield running
    await listener.close()
