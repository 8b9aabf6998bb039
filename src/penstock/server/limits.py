"""Limits of a server, and the application that it serves."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import PenstockError
from penstock.exchange import Exchange, Handler

AsgiMessage = MutableMapping[str, Any]
ASGIApp = Callable[
    [AsgiMessage, Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]],
    Awaitable[None],
]
"""An ASGI 3 application. ASGI's own messages are open dictionaries; no others cross a boundary here."""


def _nothing() -> None:
    """The hook of an application that does not mind being drained."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much a caller may send, and how slowly. Sizes are in bytes, times in seconds."""

    header_bytes: int = 32 * 1024
    """The head of a request without its target."""
    header_count: int = 100
    request_line: int = 8 * 1024
    """The request target."""
    header_deadline: float = 10.0
    """From the first byte of a head (of a new connection: from its opening) to its end."""
    body_deadline: float = 30.0
    """For a body while it is read; each ``body_rate`` bytes that arrive add a second."""
    body_rate: int = 1024
    max_body: int = 32 * 1024 * 1024
    keepalive_idle: float = 75.0
    """How long an open connection may wait for its next request."""
    caller_stall: float = 60.0
    """How long a caller may take next to nothing of what is waiting for it."""
    drain_delay: float = 5.0
    """After the signal to stop: how long new requests are still answered (503), so that a balancer can look away."""
    drain: float = 120.0
    """After that: how long running requests may take to finish."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (``10.0.0.0/8``) whose ``X-Forwarded-For`` and ``-Proto`` are believed."""
    base_path: str = ""
    """What a proxy may leave before every path (``/penstock``); it is taken off."""


@dataclass(frozen=True, slots=True)
class Application:
    """The two halves of what is served: the data plane, run as a ``Handler``, and everything else, as ASGI."""

    handler: Handler
    owns: Callable[[str], bool]
    """Whether a path (percent-encoded, no query) is the handler's. With no site the handler gets everything."""
    site: ASGIApp | None
    reject: Callable[[Exchange, PenstockError], None]
    """Writes the error response of a request that the server itself refuses, complete with ``end``.

    The exchange has not been started. Where the request could not be read, its method, path and headers are what was
    understood of it, or empty.
    """
    draining: Callable[[], None] = _nothing
    """Called once when draining begins; readiness should fail from then on."""
