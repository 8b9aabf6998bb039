"""Shared state of a server's connections: the application, the limits, and the one timer that finds the overdue."""

import asyncio
import logging
from email.utils import formatdate
from math import inf
from time import time
from typing import Protocol

from penstock.exchange import HeaderList
from penstock.server.forwarded import Proxies
from penstock.server.limits import Application, ServerLimits
from penstock.server.served_exchange import ServedExchange

log = logging.getLogger(__name__)


class Watched(Protocol):
    """A connection, as the timer and the end of the server see it."""

    deadline: float
    """Loop time by which the caller owes something; infinite when nothing."""
    stall_at: float
    """Loop time by which the caller must have taken more of what was written; infinite when nothing waits."""

    def overdue(self, now: float) -> None:
        """One of the two has passed."""
        ...

    def spare(self, seconds: float) -> None:
        """Our loop was stuck for so long, and could not hear the caller: both are that much later."""
        ...

    def close_if_idle(self) -> None:
        """Close unless a request is on it; then close after its response."""
        ...

    def kill(self) -> None:
        """Abort, and cancel the handler that runs for it."""
        ...


class SharedState:
    """What all connections of a server share: the application, the limits, the clock that finds the overdue."""

    def __init__(
        self, application: Application, limits: ServerLimits, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Raises ``ValueError`` where ``limits.trusted_proxies`` has something that is no network."""
        self.application = application
        self.limits = limits
        self.loop = loop
        self.proxies = Proxies(limits.trusted_proxies)
        self.connections: set[Watched] = set()
        self.exchanges: set[ServedExchange] = set()
        self.site_tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        self.parting = False
        """Each response closes its connection, because other processes go on."""
        self.closing = False
        self.quiet = asyncio.Event()
        """Set, while closing, once no connection is open and no handler runs."""
        self.second: int = 0
        self.date_line = b""
        self.date_and_close = b""
        self.date_header: HeaderList = []
        shortest = min(
            limits.header_deadline, limits.body_deadline, limits.keepalive_idle, limits.caller_stall
        )
        self.interval = min(0.5, max(0.01, shortest / 8))
        self._next_sweep = inf
        self.sweep()

    def sweep(self) -> None:
        """Find what is overdue, and keep the ``date`` header fresh; the one timer for all connections and deadlines."""
        self.timer = self.loop.call_later(self.interval, self.sweep)
        second = int(time())
        if second != self.second:
            self.second = second
            date = formatdate(second, usegmt=True).encode()
            self.date_line = b"date: %b\r\n" % date
            self.date_and_close = b"date: %b\r\nconnection: close\r\n" % date
            self.date_header = [(b"date", date)]
        now = self.loop.time()
        late, self._next_sweep = now - self._next_sweep, now + self.interval
        if late > self.interval:
            for connection in self.connections:
                connection.spare(late)
        for connection in [c for c in self.connections if now >= c.deadline or now >= c.stall_at]:
            connection.overdue(now)

    def part(self) -> None:
        """From now on each response closes its connection; what comes on open ones is still served."""
        self.parting = True

    def drain(self) -> None:
        """From now on, new requests of the data plane are answered 503, and each response closes its connection."""
        self.draining = True
        self.application.draining()

    def close(self) -> None:
        """Close what is idle now, and the rest as its responses end; ``quiet`` tells when all are gone."""
        self.draining = self.closing = True
        for connection in list(self.connections):
            connection.close_if_idle()
        self.check_quiet()

    def recall(self) -> None:
        """Cancel the handlers that run; what they were answering ends with an error that says why."""
        for exchange in list(self.exchanges):
            exchange.recall()

    def kill(self) -> None:
        """Abort every connection; handlers that run are cancelled, those past their response go on."""
        for connection in list(self.connections):
            connection.kill()
        for task in self.site_tasks:
            task.cancel()

    def running(self) -> set[asyncio.Task[None]]:
        """The tasks of all handlers and site requests that have not returned yet."""
        return {e.task for e in self.exchanges if e.task is not None} | self.site_tasks

    def check_quiet(self) -> None:
        if self.closing and not (self.connections or self.exchanges or self.site_tasks):
            self.quiet.set()

    def site_done(self, task: asyncio.Task[None]) -> None:
        self.site_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the site failed", exc_info=error)
        self.check_quiet()
