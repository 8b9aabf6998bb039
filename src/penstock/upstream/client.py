"""The client: takes a connection from the origin's pool, sends, and sends again where nothing can be paid twice."""

import asyncio
import ssl

from penstock.upstream.deadlines import Deadlines
from penstock.upstream.failures import FailureReason, UpstreamFailure
from penstock.upstream.origin import Origin, OriginStats
from penstock.upstream.pool import Pool
from penstock.upstream.request_head import Headers
from penstock.upstream.response import UpstreamResponse

_TICK = 0.25
"""Seconds between two looks at the deadlines; the idle deadline may fire up to two ticks late, the others one."""
_STALE_WINDOW = 2.0
"""Seconds after sending in which the loss of a reused connection still counts as "it was closed while idle". Later, the
upstream may have been working on the request, and sending it again could be paid for twice."""


def default_tls() -> ssl.SSLContext:
    """A verifying context with the system's trust store that offers HTTP/1.1 alone."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class UpstreamClient:
    """Sends requests to upstreams and keeps their connections. Make one per event loop, and ``close`` it at the end."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_idle: int = 64,
        idle_lifetime: float = 55.0,
        max_response_head: int = 64 * 1024,
    ) -> None:
        """``max_idle`` is per origin, ``idle_lifetime`` in seconds, ``max_response_head`` in bytes (1xx heads included).

        ``ssl_context`` replaces ``default_tls()``, which is made at the first use of https.
        """
        self.max_idle = max_idle
        self.idle_lifetime = idle_lifetime
        self.max_response_head = max_response_head
        self.closed = False
        self._ssl_context = ssl_context
        self._pools: dict[Origin, Pool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._next_sweep = 0.0
        self._closing: asyncio.Future[None] | None = None

    async def send(
        self,
        origin: Origin,
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes,
        deadlines: Deadlines,
        *,
        stream: bool = False,
    ) -> UpstreamResponse:
        """Send one request and return when the answer's head has arrived. No redirect is followed.

        ``path`` is percent-encoded; header names are in lower case, and ``host``, ``content-length``,
        ``transfer-encoding``, ``accept-encoding`` and ``connection`` among them are ours and ignored. Without ``stream``
        only the connect and total deadlines apply, because such an answer sends nothing until it is done.

        A request on a reused connection that is lost at once, before any byte of an answer, is sent once more on a new
        connection. Cancelling closes the socket at once. Raises UpstreamFailure, and ValueError for a method, path or
        header that would break the request apart.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self, origin)
        head = pool.heads.head(method, path, headers, len(body))
        now = loop.time()
        due = now + deadlines.total
        connection = pool.take()
        while True:
            reused = connection is not None
            if connection is None:
                connection = await pool.connect(min(deadlines.connect, due - now))
                now = loop.time()
            response = UpstreamResponse(connection, now, reused=reused)
            if self._tick is None:
                self._next_sweep = now + _TICK
                self._tick = loop.call_later(_TICK, self._sweep, loop)
            try:
                await connection.send(response, head, body, deadlines, due, stream=stream)
                return response
            except UpstreamFailure as failure:
                now = loop.time()
                early = not response.first_byte_at and now - response.sent_at < _STALE_WINDOW
                if not (reused and early and failure.reason is FailureReason.CUT) or self.closed:
                    raise
            except asyncio.CancelledError:
                response.close()
                raise
            connection = None

    async def close(self) -> None:
        """Close all connections at once, failing what is in flight, and return when all sockets are closed."""
        self.closed = True
        for connection in [c for pool in self._pools.values() for c in pool.connections]:
            connection.shut()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if any(pool.connections for pool in self._pools.values()):
            self._closing = asyncio.get_running_loop().create_future()
            await self._closing

    def stats(self) -> dict[Origin, OriginStats]:
        """The connections of every origin that was ever used."""
        return {
            origin: OriginStats(len(pool.connections), len(pool.idle)) for origin, pool in self._pools.items()
        }

    # The side of pools and connections; not for callers of the client.

    def tls(self) -> ssl.SSLContext:
        """The context for https."""
        if self._ssl_context is None:
            self._ssl_context = default_tls()
        return self._ssl_context

    def lost(self) -> None:
        """A socket was closed."""
        closing = self._closing
        if closing is None or closing.done() or any(pool.connections for pool in self._pools.values()):
            return
        closing.set_result(None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail what is over its deadline, and close what has been idle for too long."""
        now = loop.time()
        late, self._next_sweep = now - self._next_sweep, now + _TICK
        oldest = now - self.idle_lifetime
        needed = False
        for pool in self._pools.values():
            for connection in list(pool.connections):
                if late > _TICK:
                    connection.spare(late)
                connection.check(now)
            while pool.idle and pool.idle[0].idle_since < oldest:
                pool.idle.pop(0).drop()
            needed = needed or bool(pool.connections)
        self._tick = loop.call_later(_TICK, self._sweep, loop) if needed else None
