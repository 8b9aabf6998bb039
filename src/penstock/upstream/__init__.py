"""The one HTTP/1.1 client: pooled connections, deadlines by upstream bytes, backpressure, and every network error mapped once.

A request's way: ``UpstreamClient.begin`` (``send`` for those who wait) takes the most recently used idle connection of the
origin, or opens one, and writes the request; ``Connection`` parses what comes back and hands it to the
``UpstreamResponse``, which keeps up to 64 KiB until ``deliver`` or ``gather`` (``stream`` or ``read``) asks for it. A
connection returns to its pool the moment its response is complete on the wire, and is closed in every other case. One timer
looks at the deadlines of all requests four times a second, so a request costs no task and no timer of its own. Everything
runs on one event loop; nothing here is thread-safe.

Why this is our own code, and what it leaves out: docs/decisions/0003-own-upstream-client.md.
"""

from penstock.upstream.client import RequestHead, Sending, UpstreamClient, default_tls
from penstock.upstream.connection import HeadListener
from penstock.upstream.deadlines import Deadlines
from penstock.upstream.failures import FailureReason, UpstreamFailure
from penstock.upstream.origin import Origin, OriginStats, parse_base_url
from penstock.upstream.response import UpstreamResponse
from penstock.upstream.way import Proxy, Way

__all__ = [
    "Deadlines",
    "FailureReason",
    "HeadListener",
    "Origin",
    "OriginStats",
    "Proxy",
    "RequestHead",
    "Sending",
    "UpstreamClient",
    "UpstreamFailure",
    "UpstreamResponse",
    "Way",
    "default_tls",
    "parse_base_url",
]
