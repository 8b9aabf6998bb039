"""Somebody at Redis's port who may say anything: commands are read as Redis reads them, and a test says what is answered."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import cast

import hiredis

Said = Callable[[list[bytes]], bytes | None]
"""The answer to a command: bytes, or None for the true one."""

_NOTHING = object()


def truthful(_command: list[bytes]) -> bytes | None:
    """What Redis would say."""
    return None


class LyingRedis:
    """Answers each command as ``said`` tells it to, and else with what an empty Redis could say."""

    def __init__(self) -> None:
        self.said: Said = truthful
        self.welcome = b""
        """What is said to whoever connects, unasked."""
        self.met = 0
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hang_up(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.met += 1
        self._writers.append(writer)
        writer.write(self.welcome)
        commands = hiredis.Reader(notEnoughData=_NOTHING)
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not _NOTHING:
                    words = cast("list[bytes]", command)
                    said = self.said(words)
                    writer.write(_truth(words) if said is None else said)
        except OSError:
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def lying_redis() -> AsyncGenerator[LyingRedis]:
    """One that listens."""
    liar = LyingRedis()
    server = await asyncio.start_server(liar.meet, "127.0.0.1", 0)
    liar.port = server.sockets[0].getsockname()[1]
    try:
        yield liar
    finally:
        server.close()
        liar.hang_up()


def is_load(command: list[bytes]) -> bool:
    """Whether it is of the greeting."""
    return command[:2] == [b"SCRIPT", b"LOAD"]


def _truth(command: list[bytes]) -> bytes:
    if is_load(command):
        return b"$40\r\n%b\r\n" % sha1(command[2], usedforsecurity=False).hexdigest().encode()
    match command[0]:
        case b"PING":
            return b"+PONG\r\n"
        case b"GET":
            return b"$-1\r\n"
        case b"MGET":
            return b"*%d\r\n" % len(command[1:]) + b"$-1\r\n" * len(command[1:])
        case b"SET":
            return b"+OK\r\n"
        case b"INFO":
            return b"$23\r\nmaxmemory_policy:noevic\r\n"
        case b"LPOP":
            return b"*-1\r\n"
        case b"EVALSHA" | b"EVAL" if len(command) > 6:
            return b"*3\r\n:1\r\n:1\r\n:1\r\n"  # a slot, and the first place in the day
        case _:
            return b":1\r\n"
