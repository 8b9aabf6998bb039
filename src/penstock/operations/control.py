"""The control socket: what a serving process tells its operator's commands, over a socket in the data directory.

A command runs in another shell than the server, with another environment: which keys are there, which models are served and
what providers have said lately only the server knows. It answers whoever may read its data directory, and nobody else: the
socket is its user's alone, and a caller of another user is hung up on. A question is one line, its answer one JSON object.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from penstock.operations.background import running_beside
from penstock.operations.model_discovery import Listing
from penstock.operations.provider_refusals import ProviderRefusal

SOCKET_NAME = "server.sock"
ASK_SECONDS = 2.0
"""How long a command waits for what a server knows at once."""
LOOK_SECONDS = 2.0
"""How often a process looks whether it is the one to answer."""
_LONGEST_PATH = 100
"""Bytes; an address of a socket has 108."""
_LONGEST_ANSWER = 64 << 20
_CREDENTIALS = struct.Struct("3i")

ControlQuestion = Literal["state", "listings"]
"""``state`` is answered by a ``ServerState``, ``listings`` by what every provider with a key lists (``ServerListings``)."""


class ServerState(msgspec.Struct, frozen=True):
    """What a serving process knows. ``failing`` has a line for each part that does not work at the moment."""

    pid: int
    version: str
    revision: int
    simulated: bool
    served: tuple[str, ...]
    secrets: dict[str, bool]
    """For each reference of the catalogue whether there is a secret behind it."""
    refusals: tuple[ProviderRefusal, ...]
    failing: tuple[str, ...]


class ServerListings(msgspec.Struct, frozen=True):
    """What the providers list, asked with the server's own keys."""

    listings: tuple[Listing, ...]


ControlAnswers = Mapping[ControlQuestion, Callable[[], Awaitable[msgspec.Struct]]]
_Answer = TypeVar("_Answer", bound=msgspec.Struct)


@asynccontextmanager
async def control_socket(data: Path, answers: ControlAnswers) -> AsyncGenerator[None]:
    """Answer questions, until the end. Of several processes on one directory one answers, and when it ends the next."""
    held = _Held(data, answers)
    await held.take()
    try:
        async with running_beside(held.keep()):
            yield
    finally:
        held.leave()


class _Held:
    """The socket, while this process has it."""

    def __init__(self, data: Path, answers: ControlAnswers) -> None:
        self._data = data
        self._answers = answers
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def take(self) -> None:
        """Listen, unless another process does, or the place cannot have a socket."""
        with suppress(OSError):  # of a socket that nobody listens on any more
            if await _is_answered(self._data):
                return
        listening = _listen(self._data)
        if listening is None:
            return
        self._inode = self._inode_there()
        self._server = await asyncio.start_unix_server(
            lambda reader, writer: _answer(reader, writer, self._answers), sock=listening
        )

    async def keep(self) -> None:
        """Take it once whoever has it is gone: the processes of a reload begin before the old ones end."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._server is not None and self._inode_there() != self._inode:
                self.leave()
            if self._server is None:
                await self.take()

    def leave(self) -> None:
        """Listen no more. The file goes, unless it is another process's by now."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if self._inode_there() == self._inode:
            with suppress(OSError):
                (self._data / SOCKET_NAME).unlink()

    def _inode_there(self) -> int:
        """That of the socket's file; 0 where there is none."""
        try:
            return (self._data / SOCKET_NAME).lstat().st_ino
        except OSError:
            return 0


async def ask_server(
    data: Path, question: ControlQuestion, kind: type[_Answer], *, seconds: float = ASK_SECONDS
) -> _Answer | None:
    """What the server of this data directory says; None where none runs here, or it does not answer."""
    try:
        async with asyncio.timeout(seconds):
            with _address(data) as address:
                reader, writer = await asyncio.open_unix_connection(address, limit=_LONGEST_ANSWER)
            try:
                writer.write(f"{question}\n".encode())
                return msgspec.json.decode(await reader.readline(), type=kind)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: ControlAnswers
) -> None:
    try:
        if not _is_ours(writer):
            return
        asked = (await reader.readline()).decode("ascii", "replace").strip()
        for question, answer in answers.items():
            if question == asked:
                writer.write(msgspec.json.encode(await answer()) + b"\n")
                await writer.drain()
    except (OSError, ValueError):
        pass  # whoever asked has gone
    finally:
        writer.close()


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Whether whoever asks is this user, or may be anybody."""
    plug = writer.get_extra_info("socket")
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the file's rights say the same
    _, user, _ = _CREDENTIALS.unpack(
        plug.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return user in (0, os.getuid())


async def _is_answered(data: Path) -> bool:
    """Whether another process listens there."""
    if not (data / SOCKET_NAME).exists():
        return False
    with _address(data) as address:
        _, writer = await asyncio.open_unix_connection(address)
    writer.close()
    return True


def _listen(data: Path) -> socket.socket | None:
    """A socket of this user alone; None where the place cannot have one."""
    plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        (data / SOCKET_NAME).unlink(missing_ok=True)
        with _address(data) as address:
            plug.bind(address)
        (data / SOCKET_NAME).chmod(0o600)
    except OSError:
        plug.close()
        return None
    return plug


@contextmanager
def _address(data: Path) -> Generator[str]:
    """The socket's address, by a shorter way where the path is too long for one."""
    path = str(data.absolute() / SOCKET_NAME)
    if len(os.fsencode(path)) <= _LONGEST_PATH or not Path("/proc/self/fd").is_dir():
        yield path
        return
    directory = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET_NAME}"
    finally:
        os.close(directory)
