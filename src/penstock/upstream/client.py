"""The client: takes a connection from the origin's pool, sends, and sends again where nothing can be paid twice.

``begin`` tells a listener by plain calls; ``send`` is the same for those who wait.
"""

import asyncio
import ssl

from penstock.upstream.connection import HeadListener, UpstreamConnection
from penstock.upstream.deadlines import Deadlines
from penstock.upstream.failures import FailureReason, UpstreamFailure
from penstock.upstream.origin import Origin, OriginStats
from penstock.upstream.pool import Pool
from penstock.upstream.request_head import Headers, with_length
from penstock.upstream.response import UpstreamResponse
from penstock.upstream.way import TlsContexts

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


class RequestHead:
    """The head of requests to one origin that differ in nothing but their bodies."""

    __slots__ = ("pool", "start")

    def __init__(self, pool: Pool, start: bytes) -> None:
        """``start`` is all of it but the body's length."""
        self.pool = pool
        self.start = start


class Sending:
    """One request on its way, until its listener has the answer's head or learns that there is none.

    It goes out at once where a connection is idle, else when one is open. On a reused connection that is lost at once,
    before any byte of an answer, it is sent once more on a new one.
    """

    __slots__ = (
        "_body",
        "_client",
        "_deadlines",
        "_due",
        "_head",
        "_listener",
        "_opening",
        "_stream",
        "response",
    )

    def __init__(
        self,
        client: "UpstreamClient",
        head: RequestHead,
        body: bytes,
        deadlines: Deadlines,
        due: float,
        listener: HeadListener,
        *,
        stream: bool,
    ) -> None:
        self._client = client
        self._head = head
        self._body = body
        self._deadlines = deadlines
        self._due = due
        self._listener: HeadListener | None = listener
        self._stream = stream
        self._opening: asyncio.Task[None] | None = None
        self.response: UpstreamResponse | None = None

    def close(self) -> None:
        """Give the request up, and tell nobody; closes the socket at once."""
        self._listener = None
        if self._opening is not None:
            self._opening.cancel()
        if self.response is not None:
            self.response.close()

    def answered(self, response: UpstreamResponse) -> None:
        """The connection has the answer's head."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.answered(response)

    def failed(self, failure: Exception) -> None:
        """The connection was lost or the answer is none."""
        response, client = self.response, self._client
        cut = isinstance(failure, UpstreamFailure) and failure.reason is FailureReason.CUT
        if response is not None and response.reused and cut:
            early = not response.first_byte_at and client.time() - response.sent_at < _STALE_WINDOW
            if early and not client.closed and self._listener is not None:
                self.open(client.loop())
                return
        self._fail(failure)

    def write(self, connection: UpstreamConnection, now: float, *, reused: bool) -> None:
        """Send it over this connection."""
        head, body = self._head, self._body
        self.response = response = UpstreamResponse(connection, now, reused=reused)
        connection.send(
            response,
            with_length(head.start, len(body)),
            body,
            self._deadlines,
            self._due,
            self,
            stream=self._stream,
        )

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send it over a new connection."""
        self.response = None
        self._opening = loop.create_task(self._open())

    async def _open(self) -> None:
        client, seconds = self._client, self._deadlines.connect
        try:
            connection = await self._head.pool.connect(min(seconds, self._due - client.time()))
            self.write(connection, client.time(), reused=False)
        except Exception as failure:  # noqa: BLE001 - a fault of ours, too, belongs to the one who waits
            self._opening = None
            if self.response is not None:
                self.response.close()
            self._fail(failure)
        else:
            self._opening = None
            client.watch()

    def _fail(self, failure: Exception) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.failed(failure)


class _Waiting:
    """A listener for somebody who awaits the answer."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[UpstreamResponse]) -> None:
        self.future = future

    def answered(self, response: UpstreamResponse) -> None:
        if not self.future.done():
            self.future.set_result(response)

    def failed(self, failure: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(failure)


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
        self.contexts = TlsContexts()
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

        Cancelling closes the socket at once. Raises UpstreamFailure, and ValueError for a method, path or header that would
        break the request apart.
        """
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        head = self.head(origin, method, path, headers)
        sending = self.begin(head, body, deadlines, waiting, stream=stream)
        try:
            return await waiting.future
        except asyncio.CancelledError:
            sending.close()
            raise

    def head(self, origin: Origin, method: bytes, path: bytes, headers: Headers) -> RequestHead:
        """What ``begin`` needs, to be kept for requests like this one. Raises ValueError as ``send``."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self, origin)
        return RequestHead(pool, pool.heads.start(method, path, headers))

    def begin(
        self, head: RequestHead, body: bytes, deadlines: Deadlines, listener: HeadListener, *, stream: bool
    ) -> Sending:
        """Send one request; ``listener`` is told, never inside this call, of the answer's head, or that there is none.

        What is given back can be closed at any time, and its listener is told nothing more then.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        now = loop.time()
        sending = Sending(self, head, body, deadlines, now + deadlines.total, listener, stream=stream)
        connection = head.pool.take()
        if connection is None:
            sending.open(loop)
        else:
            sending.write(connection, now, reused=True)
            if self._tick is None:
                self.watch()
        return sending

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

    # The side of requests, pools and connections; not for callers of the client.

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that this client is used on."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def time(self) -> float:
        """Seconds of the loop's clock."""
        return self.loop().time()

    def watch(self) -> None:
        """A request is on its way: look at its deadlines from now on."""
        if self._tick is None and not self.closed:
            loop = self.loop()
            self._next_sweep = loop.time() + _TICK
            self._tick = loop.call_later(_TICK, self._sweep, loop)

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
        # who is told of a deadline may send to an origin that had no pool
        for pool in list(self._pools.values()):
            for connection in list(pool.connections):
                if late > _TICK:
                    connection.spare(late)
                connection.check(now)
            while pool.idle and pool.idle[0].idle_since < oldest:
                pool.idle.pop(0).drop()
            needed = needed or bool(pool.connections)
        self._tick = loop.call_later(_TICK, self._sweep, loop) if needed else None
