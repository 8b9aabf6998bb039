"""The end of a server: who is still served, who is told, and how the process goes."""

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from penstock.server.listen import bind
from tests.server.running_server import Caller, get, post

ROOT = Path(__file__).parents[2]
LONG = 1000.0
HELD = post(b"x" * 100, path="/v1/held")
"""A request whose stream goes on until its last byte has been sent."""


@dataclass
class Process:
    """A server that runs, and the events it tells."""

    process: asyncio.subprocess.Process
    port: int = 0
    callers: list[Caller] = field(default_factory=list)

    async def event(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def rest(self) -> list[str]:
        """What it still tells until it ends."""
        assert self.process.stdout is not None
        return (await self.process.stdout.read()).decode().split("\n")[:-1]

    async def call(self, raw: bytes) -> Caller:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.callers.append(caller)
        await caller.send(raw)
        return caller

    async def refused(self) -> None:
        """Until nothing listens any more; a connection that was just accepted is let go."""
        while True:
            try:
                (await self.call(b"")).leave()
            except ConnectionError:
                return

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)


async def start(port: int, delay: float, drain: float) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "tests.server.draining", str(port), str(delay), str(drain)]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)


@asynccontextmanager
async def running(delay: float, drain: float) -> AsyncGenerator[Process]:
    server = Process(await start(0, delay, drain))
    try:
        assert await server.event() == "start-up"  # before anything is accepted
        server.port = int(await server.event())
        yield server
    finally:
        for caller in server.callers:
            caller.leave()
        if server.process.returncode is None:
            server.process.kill()
        await server.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_runs_goes_on_and_what_is_new_is_told(number: signal.Signals) -> None:
    async with running(delay=LONG, drain=LONG) as server:
        stream = await server.call(HELD[:-1])
        assert await server.event() == "began /v1/held"
        idle = await server.call(get("/v1/ready"))
        assert (await idle.answer()).body == b"ready"
        server.stop(number)
        assert await server.event() == "draining"
        # a new connection, and one that was open: both told, and closed
        for caller in (await server.call(get("/v1/ready")), idle):
            await caller.send(get("/v1/ready") if caller is idle else b"")
            answer = await caller.answer()
            assert (answer.status, answer.headers[b"connection"]) == (503, b"close")
            assert await caller.closed() == b""
        # the site is still there: readiness is its business
        page = await server.call(get("/readyz"))
        answer = await page.answer()
        assert (answer.body, answer.headers[b"connection"]) == (b"site", b"close")
        # the stream goes on to its end
        await stream.send(b"x")
        answer = await stream.answer()
        assert (answer.whole, answer.body) == (True, b"first last")
        server.process.kill()


async def test_process_ends_when_the_last_request_has() -> None:
    async with running(delay=0.1, drain=LONG) as server:
        stream = await server.call(HELD[:-1])
        assert await server.event() == "began /v1/held"
        idle = await server.call(get("/v1/ready"))
        await idle.answer()
        server.stop()
        assert await server.event() == "draining"
        assert await idle.closed() == b""
        await server.refused()
        await stream.send(b"x")
        answer = await stream.answer()
        assert (answer.whole, answer.body) == (True, b"first last")
        assert await server.rest() == ["ended /v1/held", "shut-down"]
        assert await server.process.wait() == 0


async def test_process_with_nothing_to_do_ends_after_the_delay() -> None:
    async with running(delay=0.1, drain=LONG) as server:
        server.stop()
        assert await server.rest() == ["draining", "shut-down"]
        assert await server.process.wait() == 0


async def test_what_does_not_end_in_time_is_cut_and_settled() -> None:
    async with running(delay=0.0, drain=0.2) as server:
        stream = await server.call(get("/v1/ever"))
        assert await server.event() == "began /v1/ever"
        server.stop()
        answer = await stream.answer()
        assert (answer.whole, answer.body) == (False, b"first ")
        assert await server.rest() == ["draining", "cancelled /v1/ever False True", "shut-down"]
        assert await server.process.wait() == 0


@pytest.mark.parametrize("delay", [0.0, LONG])
async def test_second_signal_ends_at_once(delay: float) -> None:
    async with running(delay=delay, drain=LONG) as server:
        stream = await server.call(get("/v1/ever"))
        assert await server.event() == "began /v1/ever"
        server.stop()
        assert await server.event() == "draining"
        server.stop(signal.SIGINT)
        assert (await stream.answer()).whole is False
        assert await server.rest() == ["cancelled /v1/ever False True", "shut-down"]
        assert await server.process.wait() == 0


async def test_second_start_on_a_port_says_so_in_one_line() -> None:
    async with running(delay=0.0, drain=0.0) as server:
        second = await start(server.port, 0.0, 0.0)
        out, err = await second.communicate()
        assert second.returncode == 1
        assert out == b""  # not even the lifespan began
        assert err.decode() == f"Cannot listen on 127.0.0.1 port {server.port}: the port is in use.\n"
        assert (await (await server.call(get("/v1/ready"))).answer()).body == b"ready"


def test_a_name_gets_all_its_addresses_on_one_port() -> None:
    sockets = bind("localhost", 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        known = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        assert {sock.getsockname()[0] for sock in sockets} == known
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize("host", ["::", "[::]", "0::0"])
def test_every_address_is_of_both_families(host: str) -> None:
    sockets = bind(host, 0)
    try:
        (port,) = {sock.getsockname()[1] for sock in sockets}
        assert {sock.getsockname()[0] for sock in sockets} == {"::", "0.0.0.0"}
        for sock in sockets:
            sock.listen()
        for near in ("127.0.0.1", "::1"):
            with socket.create_connection((near, port), timeout=5) as made:
                assert made.getpeername()[0] == near
    finally:
        for sock in sockets:
            sock.close()


def test_a_family_that_the_machine_has_not_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int, *more: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *more)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    (sock,) = bind("::", 0)
    assert sock.getsockname()[0] == "0.0.0.0"
    sock.close()
    with pytest.raises(OSError, match="not supported"):
        bind("::1", 0)
