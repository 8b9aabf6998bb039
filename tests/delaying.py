"""A TCP proxy before a real server that holds every piece of either direction back for a random moment, in order."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Delaying:
    """The proxy. ``most`` is how long a piece may be held back, in seconds; it may be changed at any time."""

    def __init__(self, port: int, chance: random.Random) -> None:
        """``port`` of this machine is where connections go on to."""
        self.port = 0
        self.most = 0.0
        self._to = port
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while piece := await source.read(65536):
                    await asyncio.sleep(self._chance.random() * self.most)
                    sink.write(piece)
                    await sink.drain()
            sink.close()
        finally:
            if not sink.is_closing():  # cut
                sink.transport.abort()

    async def end(self) -> None:
        """Cut every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def delaying(port: int, seed: int) -> AsyncGenerator[Delaying]:
    """A proxy to ``port`` on a port of its own."""
    proxy = Delaying(port, random.Random(seed))
    server = await asyncio.start_server(proxy.met, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
