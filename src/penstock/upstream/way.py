"""Ways: how an origin is reached where that is not straight, by a proxy, or with certificates of its own.

A proxy is asked for a tunnel (CONNECT, RFC 9110 section 9.3.6) before anything else is said; TLS goes through it to the origin.
"""

import asyncio
import ssl
from pathlib import Path

import msgspec

from penstock.upstream.failures import FailureReason, UpstreamFailure, no_connection

_MOST_HEAD = 8 * 1024
"""Bytes of a proxy's answer."""
_END = b"\r\n\r\n"


class Proxy(msgspec.Struct, frozen=True):
    """A proxy, and the header that signs in to it (b"" for none), which does not show itself."""

    host: str
    port: int
    authorization: bytes = b""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


class Way(msgspec.Struct, frozen=True):
    """``ca``, ``client_cert`` and ``client_key`` are paths, '' for none: of the machine's own trust, and of no certificate.

    ``address`` is where to connect, in place of what the origin's name means at that moment: whoever has looked at the address
    is sent to no other. TLS and the head name the origin all the same.
    """

    proxy: Proxy | None = None
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    address: str = ""

    @property
    def is_trusted_as_usual(self) -> bool:
        """Whether the usual context will do."""
        return not (self.ca or self.client_cert)


class TlsContexts:
    """Contexts for ways with files of their own, read again when a file has changed. One per client."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], tuple[tuple[int, ...], ssl.SSLContext]] = {}

    def of(self, way: Way) -> ssl.SSLContext:
        """The context of a way. Raises UpstreamFailure (TLS) where a file cannot be read."""
        key = (way.ca, way.client_cert, way.client_key)
        try:
            changed = tuple(Path(path).stat().st_mtime_ns for path in key if path)
            known = self._known.get(key)
            if known is None or known[0] != changed:
                known = self._known[key] = changed, _context(way)
        except ssl.SSLError as error:
            raise no_connection(FailureReason.TLS, f"the provider's certificate files: {error}") from error
        except OSError as error:
            message = f"{error.filename or 'a certificate file'} cannot be read: {error.strerror}"
            raise no_connection(FailureReason.TLS, message) from error
        return known[1]


def _context(way: Way) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=way.ca or None)
    context.set_alpn_protocols(["http/1.1"])
    if way.client_cert:
        # with an empty password an encrypted key fails, where otherwise the terminal would be asked
        context.load_cert_chain(way.client_cert, way.client_key or None, password="")
    return context


async def open_tunnel(
    proxy: Proxy, host: str, port: int, protocol: asyncio.Protocol, tls: ssl.SSLContext | None
) -> None:
    """Connect ``protocol`` to host and port through a proxy. Raises UpstreamFailure (CONNECT), and what TLS raises."""
    loop = asyncio.get_running_loop()
    tunnel = _Tunnel(loop.create_future())
    transport, _ = await loop.create_connection(lambda: tunnel, proxy.host, proxy.port)
    try:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"host: {where}"]
        head = "\r\n".join((*lines, "")).encode()
        if proxy.authorization:
            head += b"proxy-authorization: " + proxy.authorization + b"\r\n"
        transport.write(head + b"\r\n")
        status = await tunnel.answered
        if status // 100 != 2:
            message = f"the proxy {proxy.host}:{proxy.port} answers {status} when it is asked for {where}"
            raise no_connection(FailureReason.CONNECT, message)
        transport.set_protocol(protocol)
        if tls is None:
            protocol.connection_made(transport)
        else:
            made = await loop.start_tls(transport, protocol, tls, server_hostname=host)
            if made is None:
                raise no_connection(FailureReason.TLS, f"{where}: closed in the handshake")
            protocol.connection_made(made)
    except BaseException:
        transport.abort()
        raise


class _Tunnel(asyncio.Protocol):
    """Reads what a proxy answers to CONNECT."""

    def __init__(self, answered: asyncio.Future[int]) -> None:
        self.answered = answered
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self.answered.done():
            return
        head, end, rest = self._data.partition(_END)
        if len(head) > _MOST_HEAD or (end and rest):
            self._fail("the proxy says more than an answer to CONNECT")
        elif end:
            version, _, words = head.split(b"\r\n", 1)[0].partition(b" ")
            status = words[:3]
            if version.startswith(b"HTTP/1.") and status.isdigit():
                self.answered.set_result(int(status))
            else:
                self._fail("the proxy does not answer in HTTP")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        if not self.answered.done():
            self._fail("the proxy closed the connection without an answer")

    def _fail(self, message: str) -> None:
        failure: UpstreamFailure = no_connection(FailureReason.CONNECT, message)
        self.answered.set_exception(failure)
