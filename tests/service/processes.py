"""``penstock serve`` as a process of its own."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.service.conversations import Answer, Caller, request
from tests.service.scripted import PATIENCE


class Process:
    """A ``penstock serve``."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, key: str) -> None:
        self.process = process
        # Both are read all along: a full pipe holds up who writes into it.
        self._output = asyncio.ensure_future(process.communicate())
        self.port = port
        self.demo_key = key

    async def call(self) -> Caller:
        """A connection."""
        return Caller(*await asyncio.open_connection("127.0.0.1", self.port), lambda _answer: None)

    async def http(self, method: str, path: str, key: str, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        caller = await self.call()
        try:
            await caller.send(request(method, path, {"x-api-key": key}, body))
            return await caller.answer()
        finally:
            caller.leave()

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        await self.ended()

    async def ended(self) -> str:
        """Wait for its end; gives what it logged."""
        _, logged = await self._output
        return (logged or b"").decode()

    def workers(self) -> set[int]:
        """The process ids of its workers."""
        assert self.process.returncode is None, f"it ended ({self.process.returncode})"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return set(map(int, children.split()))

    async def stop(self) -> str:
        """End it as a service manager does; gives what it logged."""
        self.process.send_signal(signal.SIGTERM)
        logged = await self.ended()
        assert self.process.returncode == 0, logged
        return logged


@asynccontextmanager
async def serving(data: Path, *, by: Sequence[str] = (), **settings: str) -> AsyncGenerator[Process]:
    """A running server on ``data`` with these settings, killed in the end if it still runs.

    ``by`` is a program that starts the one after it.
    """
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")}
    environ = {name: text for name, text in environ.items() if not name.endswith("_API_KEY")}
    given = {"drain_delay": "0", "errors_per_minute": "0", "data": str(data), "port": "0"} | settings
    environ |= {f"PENSTOCK_{name.upper()}": text for name, text in given.items()} | {"VENDOR_KEY": "v"}
    process = await asyncio.create_subprocess_exec(
        *by,
        sys.executable,
        "-m",
        "penstock",
        "serve",
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                greeting = await process.stdout.readuntil(f"Data        {data}\n".encode())
        except asyncio.IncompleteReadError as error:
            _, said = await process.communicate()
            told = said.decode(errors="replace")[-2000:]
            raise AssertionError(f"it ended ({process.returncode}) before it served:\n{told}") from error
        found = re.search(rb"serving on http://127\.0\.0\.1:(\d+)\n", greeting)
        assert found is not None
        key = re.search(rb"Demo key +(sk-ps-\w+)\n", greeting)
        server = Process(process, int(found[1]), "" if key is None else key[1].decode())
        try:
            yield server
        finally:
            if process.returncode is None:
                await server.kill()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
