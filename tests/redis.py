"""Redis for tests: the server of this machine under a prefix of the test's own, or one that is started for the test process."""

import asyncio
import atexit
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import cache

from penstock.store.redis.counters import RedisCounters
from penstock.store.redis.link import RedisLink
from penstock.store.redis.scripts import SCRIPTS
from penstock.store.sql.database import Database


class RedisServer:
    """A server on a port of this machine."""

    def __init__(self, port: int, process: subprocess.Popen[bytes] | None = None) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._process = process

    def answers(self) -> bool:
        """Whether somebody takes connections there."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self, *more: str) -> None:
        """Start it, empty, with ``more`` options."""
        program = shutil.which("redis-server") or "/usr/bin/redis-server"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        options += ["--enable-debug-command", "yes", *more]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, cwd="/")
        deadline = time.monotonic() + 20
        while not self.answers():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        """End it, as if by a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """Send it a signal, such as one that stops it for a while."""
        assert self._process is not None
        self._process.send_signal(number)


def own_server() -> RedisServer:
    """One that the test may stop and empty."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        server = RedisServer(plug.getsockname()[1])
    server.start()
    return server


@cache
def redis_server() -> RedisServer:
    """One that tests share, each under a prefix of its own."""
    usual = RedisServer(int(os.environ.get("PENSTOCK_TEST_REDIS_PORT", "6379")))
    if usual.answers():
        return usual
    server = own_server()
    atexit.register(server.stop)
    return server


def shared_redis(lease: float = 15.0) -> dict[str, str]:
    """Settings of servers that share the usual one, under a prefix of the test's own; ``lease`` in seconds."""
    return {
        "redis_url": redis_server().url,
        "redis_prefix": f"test:{secrets.token_hex(8)}:",
        "redis_timeout": "5",
        "redis_lease": str(lease),
    }


async def order(url: str, *commands: str) -> None:
    """What an operator does to a server, each command as one text."""
    link = RedisLink(url, timeout=30, scripts=())
    for command in commands:
        await link.submit(*command.split())
    await link.close()


@asynccontextmanager
async def redis_counters(
    url: str,
    database: Database,
    clock: Callable[[], float],
    *,
    prefix: str = "",
    patience: float = 5.0,
    lease: float = 15.0,
) -> AsyncGenerator[RedisCounters]:
    """Counters of a process of its own; those with one prefix share what they count."""
    link = RedisLink(url, timeout=patience, scripts=SCRIPTS, pause=0)
    prefix = prefix or f"test:{secrets.token_hex(8)}:"
    try:
        yield RedisCounters(link, database, clock, prefix=prefix, node=secrets.token_hex(4), lease=lease)
    finally:
        await link.close()
        await asyncio.sleep(0)
