"""Listening: opens the sockets, serves an application on them, and drains without cutting off who can still be served."""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

import uvloop

from penstock.errors import OperatorError
from penstock.server.connection import CallerConnection
from penstock.server.limits import Application, ASGIApp, ServerLimits
from penstock.server.shared_state import SharedState

__all__ = [
    "ASGIApp",
    "Application",
    "CannotListen",
    "Listener",
    "ServerLimits",
    "bind",
    "listen",
    "reserve",
    "serve_application",
    "serve_on",
]

log = logging.getLogger(__name__)

Lifespan = Callable[[], AbstractAsyncContextManager[None]]

BACKLOG = 2048
LAST_WORDS = 1.0
"""Seconds that recalled requests have to tell their callers, and what they said to get out."""
SETTLE = 5.0
"""Seconds that cancelled handlers have to settle what they began."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class CannotListen(OperatorError):
    """The address is in use or unknown; the message is for the operator."""


def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Reserve ``host`` (a name or an address; each of a name's addresses) and ``port`` (0: any free one, one for all).

    ``::`` is every address of either family, whatever the machine's own default is.

    Nothing is accepted yet. ``shared``: other sockets of ours may be bound to the same; the kernel spreads connections
    over those that listen. Raises ``OSError`` when the name is unknown or the port is in use.
    """
    found = _addresses(host.removeprefix("[").removesuffix("]"), port)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and (sockets or family != found[-1][0]):
                    continue  # this machine has the other family alone
                raise
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)
            sock.bind((address[0], chosen, *address[2:]))
            sock.setblocking(False)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


_Found = tuple[int, int, int, str, tuple[object, ...]]


def _addresses(host: str, port: int) -> list[_Found]:
    """What a host means to listen on."""
    found: list[_Found] = []
    every = _is_every_address(host)
    for name in (host, "0.0.0.0") if every else (host,):  # noqa: S104 - what :: asks for
        found += socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found


def _is_every_address(host: str) -> bool:
    try:
        return ip_address(host) == IPv6Address(0)
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Listener:
    """A running server inside this event loop."""

    port: int
    _wire: SharedState
    _servers: Sequence[asyncio.Server]

    async def close(self) -> None:
        """Stop at once: connections are aborted, their handlers cancelled and awaited."""
        for server in self._servers:
            server.close()
        self._wire.close()
        await _end(self._wire)
        self._wire.timer.cancel()
        for server in self._servers:
            await server.wait_closed()


async def _end(wire: SharedState) -> None:
    """End the requests that are left: they get a moment to tell their callers, then are aborted, and their handlers settle."""
    tasks, busy = wire.running(), bool(wire.exchanges)
    wire.recall()
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_WORDS)
    if tasks or busy:
        await _until(wire.quiet, LAST_WORDS)
    wire.kill()
    if tasks := wire.running():
        _, left = await asyncio.wait(tasks, timeout=SETTLE)
        if left:
            log.error("%d requests had not settled %.0f s after they were cancelled", len(left), SETTLE)


async def _accept(wire: SharedState, sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
    return [
        await wire.loop.create_server(lambda: CallerConnection(wire), sock=sock, backlog=BACKLOG)
        for sock in sockets
    ]


async def listen(application: Application, host: str, port: int, limits: ServerLimits) -> Listener:
    """Serve inside the running event loop, without signals and without a lifespan; for tests and the simulator.

    ``port`` 0 takes a free one, told by ``Listener.port``. Raises ``OSError`` as ``bind`` does.
    """
    sockets = bind(host, port)
    chosen: int = sockets[0].getsockname()[1]
    wire = SharedState(application, limits, asyncio.get_running_loop())
    return Listener(chosen, wire, await _accept(wire, sockets))


def serve_application(
    application: Application,
    *,
    host: str,
    port: int,
    limits: ServerLimits,
    lifespan: Lifespan | None = None,
    on_started: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    The port is reserved first, so that a second start fails before it touches anything: ``CannotListen``. The rest is
    ``serve_on``'s.
    """
    sockets = reserve(host, port)
    serve_on(application, sockets, limits=limits, lifespan=lifespan, on_started=on_started)


def reserve(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """As ``bind``, with the reason in the operator's terms. Raises ``CannotListen``."""
    try:
        return bind(host, port, shared=shared)
    except OSError as error:
        why = "the port is in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
        raise CannotListen(f"Cannot listen on {host} port {port}: {why}.") from error


def serve_on(
    application: Application,
    sockets: Sequence[socket.socket],
    *,
    limits: ServerLimits,
    lifespan: Lifespan | None = None,
    on_started: Callable[[int], None] | None = None,
    lifeline: int | None = None,
) -> None:
    """Serve on bound sockets, which are closed in the end, until SIGTERM, SIGINT or SIGHUP.

    ``lifespan`` is entered before the first connection is accepted and left after the last request has
    settled; the site's ASGI lifespan is not run (``lambda: site.router.lifespan_context(site)`` hands a Starlette
    site's in). What ``lifespan`` raises comes out of here. ``on_started`` is told the port.

    Draining: for ``limits.drain_delay`` new requests are answered 503, then the sockets are closed and what runs has
    ``limits.drain`` to finish; then it is aborted and its handlers cancelled. A second signal goes there at once, a
    third kills the process.

    With a ``lifeline``, this is one of several processes that serve the address. SIGHUP makes it part: it accepts no
    more, and for ``limits.drain_delay`` serves what still comes on its connections, closing each after its response. The
    end of the lifeline, a pipe's descriptor, is as good as SIGTERM. Without one SIGHUP is ignored.
    """
    service = _serve(application, sockets, limits, lifespan or contextlib.nullcontext, on_started, lifeline)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(service)
    finally:
        for sock in sockets:
            sock.close()


async def _serve(
    application: Application,
    sockets: Sequence[socket.socket],
    limits: ServerLimits,
    lifespan: Lifespan,
    on_started: Callable[[int], None] | None,
    lifeline: int | None,
) -> None:
    loop = asyncio.get_running_loop()
    stop, part, hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            hurry.set()
            for number in SIGNALS:
                loop.remove_signal_handler(number)
        stop.set()

    def told_to_part() -> None:
        part.set()
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, signalled)
    if lifeline is None:
        loop.add_signal_handler(signal.SIGHUP, log.warning, "one process has nothing to reload: restart it")
    else:
        loop.add_signal_handler(signal.SIGHUP, told_to_part)

        def left_alone() -> None:
            loop.remove_reader(lifeline)
            signalled()

        loop.add_reader(lifeline, left_alone)
    async with lifespan():
        wire = SharedState(application, limits, loop)
        servers = await _accept(wire, sockets)
        # what was made so far lives as long as the process: the collector need not look at it again
        gc.collect()
        gc.freeze()
        if on_started is not None:
            on_started(sockets[0].getsockname()[1])
        await stop.wait()
        if part.is_set():
            for server in servers:
                server.close()
            wire.part()
        else:
            wire.drain()
        await _until(hurry, limits.drain_delay)
        for server in servers:
            server.close()
        wire.close()
        await _until_quiet(wire, hurry, limits.drain)
        await _end(wire)
        wire.timer.cancel()


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _until_quiet(wire: SharedState, hurry: asyncio.Event, seconds: float) -> None:
    waits = [asyncio.create_task(wire.quiet.wait()), asyncio.create_task(hurry.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
