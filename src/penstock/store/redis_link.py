"""One connection to Redis for all requests of a process: the commands of a moment go out together.

A call a command costs redis-py a round trip and some hundred microseconds each; what is asked for in one turn of the loop, or
while the round before is under way, is one pipeline here. Nobody who waits for an answer owns the connection, so a caller who
is cancelled leaves nothing half read.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# redis-py's answers are of any type; what each command gives is checked where it is used.

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

Reply = object
Command = tuple[str | bytes | int | float, ...]


PAUSE_SECONDS = 1.0
"""After a failure: how long nothing is sent, so that a Redis that hangs does not cost every request its time-out."""


class RedisAway(Exception):
    """Redis did not answer, or not in time; what became of the command is not known, if it was ``sent``."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class Script:
    """A script, called by its digest."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """Sends commands in the order in which they are given. All on one event loop."""

    def __init__(
        self, url: str, *, timeout: float, scripts: Sequence[Script], pause: float = PAUSE_SECONDS
    ) -> None:
        """``timeout`` in seconds bounds each round; ``scripts`` are loaded when the server does not have them.

        For ``pause`` seconds after a failure commands fail at once.
        """
        self._redis = Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=2
        )
        self._timeout = timeout
        self._scripts = scripts
        self._pause = pause
        self._again_at = 0.0
        self._waiting: list[tuple[Command, asyncio.Future[Reply]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def submit(self, *command: str | bytes | float) -> asyncio.Future[Reply]:
        """Send a command with the next round. The future raises ``RedisAway``, or ``RedisError`` for a refusal."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self._closed:
            _fail(future, RedisAway("closed", sent=False))
            return future
        if self._again_at and self._loop.time() < self._again_at:
            _fail(future, RedisAway("it did not answer a moment ago", sent=False))
            return future
        self._waiting.append((command, future))
        if self._sending is None:
            self._sending = self._loop.create_task(self._rounds())
        return future

    def call(self, script: Script, keys: Sequence[str], *arguments: str | float) -> asyncio.Future[Reply]:
        """Call a script."""
        return self.submit("EVALSHA", script.digest, len(keys), *keys, *arguments)

    @property
    def closed(self) -> bool:
        """Whether nothing is sent any more."""
        return self._closed

    async def close(self) -> None:
        """Send what waits, and part. What comes later is not sent: a slot that is not given back ends by itself."""
        self._closed = True
        if self._sending is not None:
            await self._sending
        await self._redis.aclose()

    async def _rounds(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(self._timeout):
                    replies = await self._round([command for command, _ in batch])
            except (RedisError, OSError, TimeoutError) as error:
                self._again_at = self._loop.time() + self._pause
                await self._drop()
                away = RedisAway(str(error) or type(error).__name__, sent=True)
                for _, future in batch:
                    _fail(future, away)
                continue
            self._again_at = 0.0
            for (_, future), reply in zip(batch, replies, strict=True):
                if isinstance(reply, Exception):
                    _fail(future, reply)
                elif not future.done():
                    future.set_result(reply)
        self._sending = None

    async def _round(self, commands: list[Command]) -> list[Reply]:
        replies = await self._pipeline(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # A script that was not there did nothing, so these alone are sent again.
            lost = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            await self._pipeline([("SCRIPT LOAD", script.text) for script in self._scripts])
            again = await self._pipeline([commands[number] for number in lost])
            for number, reply in zip(lost, again, strict=True):
                replies[number] = reply
        return replies

    async def _pipeline(self, commands: list[Command]) -> list[Reply]:
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return cast("list[Reply]", await pipe.execute(raise_on_error=False))

    async def _drop(self) -> None:
        """After a failure nothing more is read from the connection: what comes late is nobody's answer."""
        await self._redis.connection_pool.disconnect(inuse_connections=True)


def _fail(future: asyncio.Future[Reply], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # a command that nobody waits for may fail without a word
