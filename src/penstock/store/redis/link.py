"""One connection to Redis for all requests of a process: the commands of a moment go out together.

What is asked for in one turn of the loop is one write, and answers come in the order of the commands, so a command costs the
worker a few microseconds where a call with a round trip of its own costs a hundred (``docs/decisions/0007-shared-limits.md``).
Nobody who waits for an answer owns the connection: a caller who is cancelled leaves nothing half read, and may say what is
to be done with the answer that nobody waits for any more. Answers are dealt with in their order, whoever is to get them.
After any failure the connection is given up, so that what comes late is nobody's answer. A reply that its command cannot have,
or that nobody asked for, is such a failure: from there on no answer can be trusted to be whose it seems.
"""

# pyright: reportUnknownMemberType=false
# hiredis gives answers of any type; what each command may give goes with it, as its shape.

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import cast

import hiredis
import msgspec

from penstock.store.redis.address import RedisAddress
from penstock.store.redis.answers import AnswerReader, RedisReply, Shape, StrangeAnswer, anything, is_ok
from penstock.timeouts import within

Command = tuple[str | bytes | int | float, ...]
RedisOutcome = object
"""A reply, or a ``RedisAway`` in its place."""
Then = Callable[[RedisOutcome], None]

BEATS = 5
"""How often within its time-out Redis must be found silent in turn: a loop that was stuck has its answers still to read."""
PAUSE_SECONDS = 1.0
"""After a failure: how long nothing is sent, so that a Redis that hangs does not cost every request its time-out."""
LONGEST_REASON = 200
"""How much of what Redis says about an error is told, in characters."""


class RedisAway(Exception):
    """Redis did not answer, or not in time; what became of the command is not known, if it was ``sent``."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class RedisRefused(RedisAway):
    """Redis has answered, with an error: it did nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(text, sent=False)


_READONLY = "READONLY"
"""In the refusal of a server that has become a replica; older ones put it behind words about the script."""


class RedisScript:
    """A script, called by its digest."""

    def __init__(self, text: str, shape: Shape = anything) -> None:
        """``shape`` says what it can answer."""
        self.text = text
        self.shape = shape
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Asked(msgspec.Struct, gc=False):
    """A command, who waits for its answer, and who gets it where nobody does."""

    command: Command
    future: asyncio.Future[RedisReply] | None
    then: Then | None
    shape: Shape = anything
    sent_at: int = 0
    """Counted in beats of the connection's patience."""

    def gone(self) -> bool:
        """Whether who waited has left."""
        return self.future is not None and self.future.cancelled()

    def settle(self, outcome: RedisOutcome) -> None:
        """Tell whoever is to know."""
        future = self.future
        if future is None or future.cancelled():
            if self.then is not None:
                # not at once: who waits for an answer before this one wakes up first
                asyncio.get_running_loop().call_soon(self.then, outcome)
        elif isinstance(outcome, RedisAway):
            _fail(future, outcome)
        else:
            future.set_result(outcome)


class _Connection(asyncio.Protocol):
    """One socket: writes commands, and gives each answer to whoever asked first."""

    def __init__(self, link: "RedisLink") -> None:
        self._link = link
        self._reader = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._ended: RedisAway | None = None
        self.asked: deque[_Asked] = deque()
        """What was sent and is not answered."""

    @property
    def trouble(self) -> RedisAway | None:
        """Why nothing can be sent any more; None when all is well. The end of a socket is known before it is told."""
        if self._ended is None and (self._transport is None or self._transport.is_closing()):
            return RedisAway("it closed the connection", sent=True)
        return self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def write(self, asked: Sequence[_Asked]) -> None:
        """Send commands; where they cannot be sent, the connection is given up, and they get the reason."""
        self.asked.extend(asked)
        trouble = self.trouble
        if trouble is None:
            try:
                cast("asyncio.Transport", self._transport).write(
                    b"".join([_packed(one.command) for one in asked])
                )
            except (RuntimeError, OSError) as error:
                trouble = RedisAway(str(error), sent=True)
        if trouble is not None:
            self.drop(trouble)

    def data_received(self, data: bytes) -> None:
        if self._ended is not None:
            return
        try:
            self._reader.feed(data)
            replies = self._reader.replies()
            if len(replies) > len(self.asked):
                raise StrangeAnswer(_surplus(replies[-1]))
            for reply in replies:
                self._link.answered(self, self.asked.popleft(), reply)
                if self._ended is not None:
                    return
        except StrangeAnswer as error:
            self.drop(RedisAway(str(error), sent=True), failed=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RedisAway(str(exc) if exc else "it closed the connection", sent=True), failed=False)

    def drop(self, error: RedisAway, *, failed: bool = False) -> None:
        """Give the connection up; whoever waits gets ``error``. It has ``failed`` also where nobody waits."""
        if self._transport is not None:
            self._transport.abort()
        self._end(error, failed=failed)

    def _end(self, error: RedisAway, *, failed: bool) -> None:
        known = self._ended is not None
        if not known:
            self._ended = error
        if self.asked or not known:
            self._link.lost(self, error, failed=failed and not known)

    def close(self) -> None:
        """Part from Redis, after what was sent."""
        if self._transport is not None:
            self._transport.close()


class RedisLink:
    """Sends commands in the order in which they are given. All on one event loop."""

    def __init__(
        self, url: str, *, timeout: float, scripts: Sequence[RedisScript], pause: float = PAUSE_SECONDS
    ) -> None:
        """``timeout`` in seconds bounds each answer, and connecting; ``scripts`` are loaded when a connection begins.

        For ``pause`` seconds after a failure commands fail at once. Raises ``StoreError`` where ``url`` cannot be used.
        """
        self._address = RedisAddress.parse(url)
        self._timeout = timeout
        self._scripts = {script.digest: script for script in scripts}
        self._pause = pause
        self._again_at = 0.0
        self._reason = ""
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[_Asked] = []
        self._timing: asyncio.TimerHandle | None = None
        self._beat = 0
        self._drained: asyncio.Future[None] | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def submit(
        self, *command: str | bytes | float, then: Then | None = None, shape: Shape = anything
    ) -> asyncio.Future[RedisReply]:
        """Send a command with the others of this turn of the loop. ``shape`` says what it can answer.

        The future raises ``RedisAway``. When it is cancelled before its command is sent, that is not sent; when it is cancelled
        later, ``then`` gets the reply, or the ``RedisAway``.
        """
        future: asyncio.Future[RedisReply] = self._loop.create_future()
        self._put(_Asked(command, future, then, shape))
        return future

    def call(
        self, script: RedisScript, keys: Sequence[str], *arguments: str | float, then: Then | None = None
    ) -> asyncio.Future[RedisReply]:
        """Call a script; ``then`` as above."""
        command = ("EVALSHA", script.digest, len(keys), *keys, *arguments)
        return self.submit(*command, then=then, shape=script.shape)

    def tell(self, then: Then, *command: str | bytes | float, shape: Shape = anything) -> None:
        """Send a command that nobody waits for; ``then`` gets the reply, or the ``RedisAway``."""
        self._put(_Asked(command, None, then, shape))

    def _put(self, asked: _Asked) -> None:
        if self._closed:
            asked.settle(RedisAway("closed", sent=False))
        elif self._again_at and self._loop.time() < self._again_at:
            asked.settle(RedisAway(f"a moment ago: {self._reason}", sent=False))
        else:
            if not self._waiting and self._connecting is None:
                self._loop.call_soon(self._flush)
            self._waiting.append(asked)

    @property
    def closed(self) -> bool:
        """Whether nothing is sent any more."""
        return self._closed

    async def close(self) -> None:
        """Send what waits, and part. What comes later is not sent: a slot that is not given back ends by itself."""
        self._closed = True
        if self._waiting or (self._connection is not None and self._connection.asked):
            self._drained = self._loop.create_future()
            await self._drained
        if self._connecting is not None:
            await self._connecting
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._timing is not None:
            self._timing.cancel()

    # ---- sending

    def _flush(self) -> None:
        connection = self._connection
        if connection is not None and (trouble := connection.trouble) is not None:
            connection.drop(trouble)
            connection = None
        if connection is None:
            if self._connecting is None and self._waiting:
                self._connecting = self._loop.create_task(self._connect())
            return
        asked, self._waiting = self._waiting, []
        self._send(connection, [one for one in asked if not one.gone()])

    def _send(self, connection: _Connection, asked: list[_Asked]) -> None:
        if asked:
            for one in asked:
                one.sent_at = self._beat
            connection.write(asked)
            if self._timing is None:
                self._timing = self._loop.call_later(self._timeout / BEATS, self._look)
        self._check_drained()

    async def _connect(self) -> None:
        """Connect, and send what waits then; or tell those who wait that it could not be done."""
        connection = _Connection(self)
        try:
            async with within(self._timeout):
                await self._address.connect(connection)
                greeting = [_Asked(command, None, None, is_ok) for command in self._address.greeting()]
                for script in self._scripts.values():
                    named = script.digest.encode().__eq__
                    greeting.append(_Asked(("SCRIPT", "LOAD", script.text), None, None, named))
                replies: list[asyncio.Future[RedisReply]] = []
                for one in greeting:
                    one.future = self._loop.create_future()
                    replies.append(one.future)
                connection.write(greeting)
                await asyncio.gather(*replies)
            if (trouble := connection.trouble) is not None:
                raise trouble
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told, and it is tried again
            away = RedisAway(str(error) or "it cannot be connected to in time", sent=False)
            connection.drop(away)
            self._connecting = None
            self._failed(away)
            return
        self._connecting = None
        self._connection = connection
        self._flush()

    def _look(self) -> None:
        """Give up a connection whose oldest command has waited too long."""
        self._timing = None
        connection = self._connection
        if connection is None or not connection.asked:
            return
        self._beat += 1
        if self._beat - connection.asked[0].sent_at > BEATS:
            connection.drop(RedisAway("it did not answer in time", sent=True))
        else:
            self._timing = self._loop.call_later(self._timeout / BEATS, self._look)

    # ---- answers

    def answered(self, connection: _Connection, asked: _Asked, reply: RedisReply) -> None:
        """What a connection does with each answer."""
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)[:LONGEST_REASON]
            if text.startswith("NOSCRIPT") and asked.command[0] == "EVALSHA" and not asked.gone():
                # Somebody has emptied Redis of its scripts. This one did nothing, so it is sent again, as text.
                _, digest, *rest = asked.command
                asked.command = ("EVAL", self._scripts[str(digest)].text, *rest)
                self._send(connection, [asked])
                return
            reply = RedisRefused(text)
            if _READONLY in text:
                # The address may lead to the one that writes by now; this connection never will.
                asked.settle(reply)
                connection.drop(RedisAway(text, sent=True), failed=True)
                return
        elif not asked.shape(reply):
            connection.asked.appendleft(asked)
            connection.drop(RedisAway("it answers what it was not asked", sent=True))
            return
        self._again_at = 0.0
        asked.settle(reply)
        self._check_drained()

    def lost(self, connection: _Connection, error: RedisAway, *, failed: bool) -> None:
        """What a connection does when it ends; one that ``failed`` is a failure even where nobody waits for an answer."""
        asked = list(connection.asked)
        connection.asked.clear()
        if connection is self._connection:
            self._connection = None
        for one in asked:
            one.settle(error)
        if (asked or failed) and self._connecting is None:
            self._failed(error)
        self._check_drained()

    def _failed(self, error: RedisAway) -> None:
        """Nothing is asked for a moment; those who wait already are not kept waiting."""
        self._again_at = self._loop.time() + self._pause
        self._reason = str(error)
        waiting, self._waiting = self._waiting, []
        unsent = RedisAway(str(error), sent=False)
        for one in waiting:
            if not one.gone():
                one.settle(unsent)
        self._check_drained()

    def _check_drained(self) -> None:
        drained = self._drained
        if drained is not None and not self._waiting and not drained.done():
            connection = self._connection
            if connection is None or not connection.asked:
                drained.set_result(None)


def _packed(command: Command) -> bytes:
    return cast("bytes", hiredis.pack_command(command))  # pyright: ignore[reportArgumentType] - its stub says tuples of one


def _surplus(reply: RedisReply) -> str:
    told = f": {reply}"[:LONGEST_REASON] if isinstance(reply, hiredis.ReplyError) else ""
    return f"it says what nobody asked for{told}"


def _fail(future: asyncio.Future[RedisReply], error: RedisAway) -> None:
    future.set_exception(error)
    future.exception()  # a command that nobody waits for may fail without a word
