"""The pool of one origin's connections: the last used first, the rest for a while."""

import asyncio
import ssl
from typing import Protocol

from penstock.timeouts import within
from penstock.upstream.connection import UpstreamConnection
from penstock.upstream.failures import FailureReason, no_connection
from penstock.upstream.origin import Origin
from penstock.upstream.request_head import Heads
from penstock.upstream.way import TlsContexts, open_tunnel


class Owner(Protocol):
    """What a pool asks of the client it belongs to."""

    closed: bool
    max_idle: int
    """Per origin."""
    max_response_head: int
    """Bytes, 1xx heads included."""

    contexts: TlsContexts
    """For ways with files of their own."""

    def tls(self) -> ssl.SSLContext:
        """The context for https."""
        ...

    def lost(self) -> None:
        """A socket was closed."""
        ...


class Pool:
    """The connections of one origin."""

    def __init__(self, client: Owner, origin: Origin) -> None:
        self.client = client
        self.origin = origin
        self.max_response_head = client.max_response_head
        self.connections: set[UpstreamConnection] = set()
        self.idle: list[UpstreamConnection] = []
        """The most recently used at the end."""
        self.heads = Heads(origin)

    def take(self) -> UpstreamConnection | None:
        """The idle connection that was used last, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request, or close it if there are enough."""
        if self.client.closed or len(self.idle) >= self.client.max_idle:
            connection.drop()
        else:
            self.idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Take a connection that has died out of the idle ones."""
        if connection in self.idle:
            self.idle.remove(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """The socket of a connection is closed."""
        self.connections.discard(connection)
        self.client.lost()

    async def connect(self, seconds: float) -> UpstreamConnection:
        """A new connection within ``seconds``. Raises UpstreamFailure (CONNECT, TLS)."""
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(self, loop)
        origin = self.origin
        way = origin.way
        context = None
        if origin.scheme == "https":
            context = (
                self.client.tls() if way is None or way.is_trusted_as_usual else self.client.contexts.of(way)
            )
        where = f"{origin.host}:{origin.port}"
        try:
            # once per connection, not per request, so the cost of the context manager does not matter
            async with within(seconds):
                if way is not None and way.proxy is not None:
                    await open_tunnel(way.proxy, origin.host, origin.port, connection, context)
                elif way is not None and way.address:
                    named = None if context is None else origin.host
                    await loop.create_connection(
                        lambda: connection, way.address, origin.port, ssl=context, server_hostname=named
                    )
                else:
                    await loop.create_connection(lambda: connection, origin.host, origin.port, ssl=context)
        except TimeoutError as error:
            message = f"{where}: no connection within {seconds:g} s"
            raise no_connection(FailureReason.CONNECT, message) from error
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
            # before the handshake there is nobody yet to reset a connection
            reason = FailureReason.CONNECT if context is None else FailureReason.TLS
            raise no_connection(reason, f"{where}: {error}") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that is no name
            raise no_connection(FailureReason.CONNECT, f"{where}: {error}") from error
        if not connection.usable() or self.client.closed:
            connection.drop()
            raise no_connection(FailureReason.CONNECT, f"{where}: closed as soon as it was open")
        self.connections.add(connection)
        return connection
