"""Heads of requests to upstreams: written so that no value can break them apart, and remembered."""

from collections.abc import Sequence
from operator import itemgetter

from penstock.core.memo import Memo
from penstock.upstream.origin import Origin
from penstock.upstream.response_head import Header

Headers = Sequence[Header]

_OWN_HEADERS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"accept-encoding", b"connection")
)
_METHODS = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"))
"""Not HEAD and CONNECT: the bytes of their answers do not tell where they end."""
_NAME = itemgetter(0)
_HEADER_LINE = b": ".join
_HOST_LINES = 3
_KEPT = 256
"""Heads that are remembered for an origin: what differs is the path, the credential and what callers pass through."""
_KEPT_BYTES = 2048
"""Of one head; a longer one is built each time, so that callers cannot make us remember much."""


class Heads:
    """Builds the heads of requests to one origin. Most differ in the body's length alone, and are checked once."""

    __slots__ = ("_host_line", "_known")

    def __init__(self, origin: Origin) -> None:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        if origin.port != (443 if origin.scheme == "https" else 80):
            host = f"{host}:{origin.port}"
        self._host_line = f" HTTP/1.1\r\nhost: {host}\r\naccept-encoding: identity".encode()
        self._known: Memo[tuple[bytes, bytes, tuple[Header, ...]], bytes] = Memo(_KEPT)

    def head(self, method: bytes, path: bytes, headers: Headers, length: int) -> bytes:
        """The whole head for a body of ``length`` bytes. Raises as ``start``."""
        return with_length(self.start(method, path, headers), length)

    def start(self, method: bytes, path: bytes, headers: Headers) -> bytes:
        """The request line and headers, all but the body's length. Raises ValueError where a value would break them apart."""
        key = (method, path, tuple(headers))
        start = self._known.get(key)
        if start is None:
            start = self._start(*key)
            if len(start) <= _KEPT_BYTES:
                self._known.keep(key, start)
        return start

    def _start(self, method: bytes, path: bytes, headers: tuple[Header, ...]) -> bytes:
        """All lines but the body's length, and not yet the empty one. Built and checked by calls that loop in C."""
        if method not in _METHODS:
            raise ValueError(f"method {method!r} is not supported")
        # ints, because `in` finds a byte much faster than bytes
        if path[:1] != b"/" or 32 in path:
            raise ValueError("the path must begin with / and hold no blank")
        if not _OWN_HEADERS.isdisjoint(map(_NAME, headers)):
            headers = tuple(header for header in headers if header[0] not in _OWN_HEADERS)
        first = b"%b %b%b" % (method, path, self._host_line)
        start = b"\r\n".join((first, *map(_HEADER_LINE, headers), b""))
        if len(start) - len(start.translate(None, b"\r\n\0")) != 2 * (len(headers) + _HOST_LINES):
            raise ValueError("the path or a header holds a line end or NUL")
        return start


def with_length(start: bytes, length: int) -> bytes:
    """The head that begins with ``start``, for a body of ``length`` bytes."""
    if length or not start.startswith(b"GET "):
        return b"%bcontent-length: %d\r\n\r\n" % (start, length)
    return start + b"\r\n"
