"""The supervisor of several serving processes on one address: starts, watches, replaces and stops them.

Each worker has sockets of its own on the one address, over which the kernel spreads connections. The supervisor made them
and keeps them open, and hands them to the next worker of the same slot: no connection is refused or lost while a worker is
replaced, and those of one that died wait for its successor. A worker gets its orders on its standard input, whose end
later tells it that the supervisor is gone, and says on a pipe of its own that it serves, and from then on that its loop
turns. One that says nothing for too long is killed: nobody is served by it, and nobody would notice.

The first worker is started alone, because it makes what is not there yet; then the others. One that dies is started
again after a pause that doubles. SIGHUP replaces them one by one: a new worker serves before the old one is told to part
from its callers. SIGTERM and SIGINT are passed on, and the supervisor ends when all have; a second one hurries them.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

log = logging.getLogger("penstock.server.supervisor")

READY = b"ready\n"
ALIVE = b"."
HEARTBEATS_MISSED = 4
"""A worker says so many times within ``worker_hung`` that it lives. It is killed when as many waits in a row hear nothing:
one long wait would not do, because a machine that was asleep wakes all timers at once."""
WHERE = signal.SIGUSR2
"""Asks a worker where each of its threads is, which it tells on its standard error even when its loop is stuck."""
LAST_WORDS_SECONDS = 1.0
"""What it has for that before it is killed."""
READY_SECONDS = 120.0
"""How long a worker may take to serve; the first one may have a schema to migrate."""
RESTART_PAUSE_FIRST = 0.5
RESTART_PAUSE_LAST = 30.0
STEADY_SECONDS = 60.0
"""A worker that has lived so long died of something new."""


class _Worker:
    __slots__ = ("process", "replaced", "since")

    def __init__(self, process: asyncio.subprocess.Process, since: float) -> None:
        self.process = process
        self.since = since
        self.replaced = False


class Supervisor:
    """Starts, watches and replaces the workers. ``run`` once."""

    def __init__(
        self,
        command: Sequence[str],
        orders: Callable[[bool], bytes],
        sockets: Sequence[Sequence[socket.socket]],
        *,
        hung: float,
    ) -> None:
        """``sockets`` are those of each worker, which is replaced after ``hung`` seconds without a word. ``command`` starts a
        worker. ``orders`` are one line for it; True asks the first to greet the operator.

        The descriptors of the sockets, and after them the pipe's on which to say ``READY``, are the command's last
        arguments.
        """
        self._command = command
        self._orders = orders
        self._sockets = sockets
        self._hung = hung
        self._slots: list[_Worker | None] = []
        self._all: set[_Worker] = set()
        self._watching: set[asyncio.Task[None]] = set()
        self._hearing: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._rolling: asyncio.Task[None] | None = None
        self._roll_again = False

    async def run(self) -> int:
        """Work until told to stop; the exit status, not 0 when the first worker could not serve."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped)
        loop.add_signal_handler(signal.SIGHUP, self._roll)
        try:
            first = await self._start(0, greets=True)
            if first is None:
                return 0 if self._stop.is_set() else 1
            self._slots = [first, *([None] * (len(self._sockets) - 1))]
            for slot in range(len(self._slots)):
                self._watch(slot)
            await self._stop.wait()
        finally:
            self._stop.set()
            self._signal(signal.SIGTERM)
            for task in (*self._watching, *([self._rolling] if self._rolling else ())):
                task.cancel()
            await asyncio.gather(*(worker.process.wait() for worker in self._all))
            await asyncio.gather(*self._hearing)
        return 0

    async def _start(self, slot: int, *, greets: bool = False) -> _Worker | None:
        """A worker that serves; None when it does not come to that, or we are to stop."""
        if self._stop.is_set():
            return None
        ready, says = os.pipe()
        descriptors = [*(sock.fileno() for sock in self._sockets[slot]), says]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, *map(str, descriptors), stdin=asyncio.subprocess.PIPE, pass_fds=descriptors
            )
        finally:
            os.close(says)
        worker = _Worker(process, asyncio.get_running_loop().time())
        self._all.add(worker)
        if self._stop.is_set():
            process.terminate()
        if process.stdin is not None:
            process.stdin.write(self._orders(greets))
        voice = await _Voice.of(ready)
        try:
            async with asyncio.timeout(READY_SECONDS):
                if await voice.reader.readline() == READY:
                    self._hear(worker, voice)
                    return worker
        except TimeoutError:
            log.error("worker %d does not serve after %.0f s", process.pid, READY_SECONDS)  # noqa: TRY400 - that is all
            process.kill()
        voice.transport.close()
        status = await process.wait()
        if not self._stop.is_set():
            log.error("worker %d has ended with status %d before it served", process.pid, status)
        self._all.discard(worker)
        return None

    def _hear(self, worker: _Worker, voice: "_Voice") -> None:
        task = asyncio.create_task(self._heard(worker.process, voice))
        self._hearing.add(task)
        task.add_done_callback(self._hearing.discard)

    async def _heard(self, process: asyncio.subprocess.Process, voice: "_Voice") -> None:
        """Listen to a worker until it ends, and end it when it has been silent for too long."""
        silent = 0
        try:
            while silent < HEARTBEATS_MISSED:
                try:
                    async with asyncio.timeout(self._hung / HEARTBEATS_MISSED):
                        if not await voice.reader.read(4096):
                            return
                    silent = 0
                except TimeoutError:
                    silent += 1
        finally:
            voice.transport.close()
        if process.returncode is None:
            log.error(
                "worker %d hangs: it has said nothing for %.0f s; it is killed", process.pid, self._hung
            )
            process.send_signal(WHERE)
            try:
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()

    def _watch(self, slot: int) -> None:
        task = asyncio.create_task(self._keep(slot))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _keep(self, slot: int) -> None:
        """See to it that a slot has a worker, until that is replaced."""
        pause = RESTART_PAUSE_FIRST
        worker = self._slots[slot] or await self._start(slot)
        while not self._stop.is_set():
            self._slots[slot] = worker
            if worker is not None:
                status = await worker.process.wait()
                self._all.discard(worker)
                if worker.replaced or self._stop.is_set():
                    return
                log.error(
                    "worker %d has ended with status %d; another is started", worker.process.pid, status
                )
                if asyncio.get_running_loop().time() - worker.since > STEADY_SECONDS:
                    pause = RESTART_PAUSE_FIRST
            await asyncio.sleep(pause)
            pause = min(RESTART_PAUSE_LAST, 2 * pause)
            worker = await self._start(slot)

    # ---- signals

    def _stopped(self) -> None:
        if self._stop.is_set():
            self._signal(signal.SIGTERM)  # which a worker that drains takes as a word to hurry
        self._stop.set()

    def _signal(self, number: int) -> None:
        for worker in self._all:
            if worker.process.returncode is None:
                worker.process.send_signal(number)

    def _roll(self) -> None:
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._replace_all())
        else:
            self._roll_again = True

    async def _replace_all(self) -> None:
        while True:
            self._roll_again = False
            log.info("replacing %d workers", len(self._slots))
            for slot in range(len(self._slots)):
                worker = await self._start(slot)
                if worker is None:
                    log.error("a new worker does not serve; the old ones go on")
                    return
                old, self._slots[slot] = self._slots[slot], worker
                if old is not None:
                    old.replaced = True
                    if old.process.returncode is None:
                        old.process.send_signal(signal.SIGHUP)
                self._watch(slot)
            log.info("all workers are new")
            if not self._roll_again:
                return


class _Voice:
    """The end of a worker's pipe."""

    __slots__ = ("reader", "transport")

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self.reader = reader
        self.transport = transport

    @classmethod
    async def of(cls, descriptor: int) -> "_Voice":
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
        )
        return cls(reader, transport)


def supervise(
    command: Sequence[str],
    orders: Callable[[bool], bytes],
    sockets: Sequence[Sequence[socket.socket]],
    *,
    hung: float,
) -> None:
    """Run a ``Supervisor`` and exit the process with its status."""

    async def running() -> int:
        return await Supervisor(command, orders, sockets, hung=hung).run()

    sys.exit(asyncio.run(running()))
