"""The one HTTP/1.1 client: pooled connections, deadlines by upstream bytes, backpressure, and every network error mapped once.

A request's way: ``UpstreamClient.send`` takes the most recently used idle connection of the origin, or opens one, and
writes the request; ``_Connection`` parses what comes back and hands it to the ``UpstreamResponse``, which keeps up to
64 KiB until ``stream`` or ``read`` asks for it. A connection returns to its pool the moment its response is complete on
the wire, and is closed in every other case. One timer looks at the deadlines of all requests four times a second, so a
request costs no task and no timer of its own. Everything runs on one event loop; nothing here is thread-safe.

Why this is our own code, and what it leaves out: docs/decisions/0003-own-upstream-client.md.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Literal, cast
from urllib.parse import urlsplit

import httptools

Sink = Callable[[bytes], None]
HeaderList = list[tuple[bytes, bytes]]

_TICK = 0.25
"""Seconds between two looks at the deadlines; the idle deadline may fire up to two ticks late, the others one."""
_STALE_WINDOW = 2.0
"""Seconds after sending in which the loss of a reused connection still counts as "it was closed while idle". Later, the
upstream may have been working on the request, and sending it again could be paid for twice."""
_HOLD = 64 * 1024
"""Bytes of a body that are kept before anyone asks for them; then reading pauses."""
_JOIN = 16 * 1024
"""Up to here head and body are joined for one write; above, the copy costs more than the second buffer."""
_INFLATE_STEP = 64 * 1024
_INFLATE_FREE = 1024 * 1024
_INFLATE_RATIO = 100
_OWN_HEADERS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"accept-encoding", b"connection")
)
_METHODS = frozenset((b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"))
"""Not HEAD and CONNECT: the bytes of their answers do not tell where they end."""
_NAME = itemgetter(0)
_HEADER_LINE = b": ".join
_HOST_LINES = 3
_BODY_HEADERS = frozenset((b"content-length", b"transfer-encoding", b"content-encoding"))
_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_SOCKET_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an upstream may take, in seconds."""

    connect: float = 5.0
    """Name resolution, TCP and TLS together."""
    first_byte: float = 60.0
    """From the request's last progress on the wire to the first byte of the answer; streams only."""
    idle: float = 60.0
    """Between two bytes of the answer, suspended while we do not read; streams only."""
    total: float = 1800.0
    """From the call of ``send`` to the end of the body."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go; each origin has its own pool. ``host`` is ASCII, an IPv6 address without brackets."""

    scheme: Literal["http", "https"]
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class OriginStats:
    """The connections of one origin: all that are open, and those of them that wait in the pool."""

    open: int
    idle: int


class FailureReason(StrEnum):
    """How an exchange with an upstream failed."""

    CONNECT = "connect"
    """No connection: name resolution, refusal, or the connect deadline."""
    TLS = "tls"
    """The TLS handshake or the certificate."""
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    CUT = "cut"
    """The connection was lost before the answer was complete."""
    PROTOCOL = "protocol"
    """What came back is not the HTTP that we can read."""
    TOO_LARGE = "too_large"
    """The answer's head or body exceeds its bound."""


class UpstreamFailure(Exception):
    """An upstream did not deliver a complete answer.

    ``message`` is for the operator: it names host and port, never headers or bodies. ``sent`` is False where the request
    cannot have reached the upstream.
    """

    def __init__(self, reason: FailureReason, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.sent = sent


def parse_base_url(url: str) -> tuple[Origin, bytes]:
    """Split ``https://host[:port][/path]`` into its origin and its path without a slash at the end (``b""`` or ``b"/v1"``).

    Raises ValueError for anything else: another scheme, no host, user information, a query, a fragment, or characters
    that a URL must percent-encode.
    """
    # these two may hold a secret, so their messages do not repeat the URL
    if "@" in url:
        raise ValueError("a base URL must not hold user information: set the provider's secret instead")
    if "?" in url or "#" in url:
        raise ValueError("a base URL must have neither query nor fragment")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"base URL {url!r} must be printable ASCII without blanks (use xn-- names and %XX)")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        if ":" in host and ipaddress.IPv6Address(host).scope_id is not None:
            raise ValueError("an address with a zone")
    except ValueError as error:
        raise ValueError(f"base URL {url!r} has no valid host or port ({error})") from error
    if scheme not in ("http", "https"):
        raise ValueError(f"base URL {url!r} must begin with http:// or https://")
    if port == 0 or not (":" in host or _HOST_NAME.fullmatch(host)):
        raise ValueError(f"base URL {url!r} has no valid host or port")
    default = 443 if scheme == "https" else 80
    return Origin(scheme, host, port or default), parts.path.rstrip("/").encode()


def _bad_answer(message: str) -> UpstreamFailure:
    return UpstreamFailure(FailureReason.PROTOCOL, message, sent=True)


def _too_large(part: str, limit: int) -> UpstreamFailure:
    return UpstreamFailure(FailureReason.TOO_LARGE, f"the answer's {part} has over {limit} bytes", sent=True)


def _request_head(host_line: bytes, method: bytes, path: bytes, headers: HeaderList, length: int) -> bytes:
    """The request line and headers. Raises ValueError where a value would break them apart.

    Built by calls that loop in C: on the path of every request, it is a tenth of what the client costs.
    """
    if method not in _METHODS:
        raise ValueError(f"method {method!r} is not supported")
    # ints, because `in` finds a byte much faster than bytes
    if path[:1] != b"/" or 32 in path:
        raise ValueError("the path must begin with / and hold no blank")
    if not _OWN_HEADERS.isdisjoint(map(_NAME, headers)):
        headers = [header for header in headers if header[0] not in _OWN_HEADERS]
    first = b"%b %b%b" % (method, path, host_line)
    ends = len(headers) + _HOST_LINES + 1
    if length or method != b"GET":
        size = b"content-length: %d" % length
        head = b"\r\n".join((first, size, *map(_HEADER_LINE, headers), b"\r\n"))
        ends += 1
    else:
        head = b"\r\n".join((first, *map(_HEADER_LINE, headers), b"\r\n"))
    if len(head) - len(head.translate(None, b"\r\n\0")) != 2 * ends:
        raise ValueError("the path or a header holds a line end or NUL")
    return head


def default_tls() -> ssl.SSLContext:
    """A verifying context with the system's trust store that offers HTTP/1.1 alone."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Inflater:
    """Decodes gzip or deflate in bounded steps; refuses more than 100 times the input once past 1 MiB."""

    __slots__ = ("_decoder", "_gzip", "_in", "_more", "_out", "_pending")

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._decoder = zlib.decompressobj(31) if gzip else None
        self._pending = b""
        self._more = False
        self._in = 0
        self._out = 0

    def push(self, data: bytes) -> None:
        self._pending += data

    def take(self) -> bytes:
        """The next decoded bytes, at most 64 KiB; ``b""`` when more input is needed. Raises UpstreamFailure."""
        while self.busy():
            decoder = self._decoder
            if decoder is None:
                # "deflate" is meant to be zlib-wrapped, but some servers send it bare: the first two bytes tell
                if len(self._pending) < 2:
                    return b""
                first, second = self._pending[0], self._pending[1]
                wrapped = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
                decoder = self._decoder = zlib.decompressobj(15 if wrapped else -15)
            elif decoder.eof:
                if not self._gzip:
                    raise _bad_answer("bytes after the end of the compressed body")
                decoder = self._decoder = zlib.decompressobj(31)
            before = len(self._pending)
            try:
                piece = decoder.decompress(self._pending, _INFLATE_STEP)
            except zlib.error as error:
                raise _bad_answer(f"broken compressed body ({error})") from error
            self._pending = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            self._more = len(piece) == _INFLATE_STEP and not decoder.eof
            self._in += before - len(self._pending)
            self._out += len(piece)
            if self._out > _INFLATE_FREE and self._out > _INFLATE_RATIO * self._in:
                raise _bad_answer("the body decompresses to more than 100 times its size")
            if piece:
                return piece
        return b""

    def busy(self) -> bool:
        """Whether ``take`` has input to work on."""
        return bool(self._pending) or self._more

    def whole(self) -> bool:
        """Whether all input was taken and is a complete compressed body, or there was none."""
        if self.busy():
            return False
        return not self._in or (self._decoder is not None and self._decoder.eof)


class UpstreamResponse:
    """An answer whose head has arrived. Take its body with ``read`` or ``stream``, once, and ``close`` it in any case."""

    __slots__ = (
        "_chunks",
        "_closed",
        "_complete",
        "_connection",
        "_done",
        "_failure",
        "_framed",
        "_held",
        "_inflater",
        "_paused",
        "_sink",
        "first_byte_at",
        "headers",
        "reused",
        "sent_at",
        "status",
    )

    def __init__(self, connection: "_Connection", sent_at: float, *, reused: bool) -> None:
        self.status = 0
        self.headers: HeaderList = []
        """Names in lower case, in the order received. A body that had to be decompressed has lost its
        ``content-encoding`` and ``content-length``."""
        self.sent_at = sent_at
        """Loop time at which the request was written."""
        self.first_byte_at = 0.0
        """Loop time of the first byte of the answer (1xx included)."""
        self.reused = reused
        """Whether the connection had served another request before."""
        self._connection: _Connection | None = connection
        self._sink: Sink | None = None
        self._done: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._held = 0
        self._inflater: _Inflater | None = None
        self._failure: BaseException | None = None
        self._paused = False
        self._closed = False
        self._complete = False
        self._framed = False

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header of this (lower-case) name, or None."""
        for key, value in self.headers:
            if key == name:
                return value.rstrip(b" \t")
        return None

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises UpstreamFailure: TOO_LARGE above ``limit`` bytes (the connection is closed then), and as ``stream``.
        """
        if self._complete and self._inflater is None and self._done is None and not self._closed:
            # nothing to wait for: the common case of a short answer
            self._closed = True
            body = self._next()
            if len(body) > limit:
                raise _too_large("body", limit)
            return body
        length = self.header(b"content-length")
        if length is not None and int(length) > limit:
            self.close()
            raise _too_large("body", limit)
        parts: list[bytes] = []
        room = limit

        def keep(data: bytes) -> None:
            nonlocal room
            room -= len(data)
            if room < 0:
                raise _too_large("body", limit)
            parts.append(data)

        done = self.stream(keep)
        try:
            await done
        finally:
            self.close()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def stream(self, sink: Sink) -> asyncio.Future[None]:
        """Call ``sink`` with the body's bytes as they arrive: one call for each read of the socket.

        What arrived together with the head is handed over at once, inside this call. The future is done at the clean end
        of the body, or fails with UpstreamFailure (CUT, IDLE_TIMEOUT, TOTAL_TIMEOUT, PROTOCOL). If the sink raises, the
        connection is closed and the future fails with that exception. Whoever awaits it calls ``close`` in a ``finally``:
        a cancelled future alone closes the socket only at the next byte or tick.
        """
        if self._done is not None or self._closed:
            raise RuntimeError("the body of a response can be taken once, and not after close")
        self._done = done = asyncio.get_running_loop().create_future()
        self._sink = sink
        self._pump()
        if self._connection is not None and not self._paused:
            self._connection.resume()
        return done

    def pause(self) -> None:
        """Stop reading until ``resume``; TCP then holds the upstream back. Only the total deadline goes on."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._pump()
        # the sink may have paused again
        if self._connection is not None and not self._paused:
            self._connection.resume()

    def close(self) -> None:
        """Be done with the response; may be called at any time and again.

        After the end of the body the connection is in its pool already and stays there; before it, the socket is closed
        at once, and a pending ``stream`` future is cancelled.
        """
        connection = self._connection
        self._closed = True
        if connection is not None:
            self._connection = None
            connection.drop()
        self._chunks.clear()
        self._inflater = None
        if self._done is not None and not self._done.done():
            self._done.cancel()

    # The side of the connection; not for callers of the client.

    def abandoned(self) -> bool:
        """Whether the one who waited for the body has gone without ``close``."""
        return self._done is not None and self._done.done()

    def until_close(self) -> bool:
        """Whether the end of the connection is the end of the body."""
        return not self._framed

    def begin_body(self) -> str:
        """Look at the head; what is wrong with it, or ``""``."""
        decode = b""
        for name, value in self.headers:
            if name in _BODY_HEADERS:
                if name == b"content-encoding":
                    decode = value.strip().lower()
                    continue
                self._framed = True
                if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                    return "transfer-encoding other than chunked"
        if decode in (b"", b"identity"):
            return ""
        if decode not in (b"gzip", b"x-gzip", b"deflate"):
            return "content-encoding other than identity, gzip and deflate"
        self._inflater = _Inflater(gzip=decode != b"deflate")
        coded = (b"content-encoding", b"content-length")
        self.headers = [header for header in self.headers if header[0] not in coded]
        return ""

    def arrived(self, data: bytes) -> None:
        """Body bytes of one read."""
        sink, done = self._sink, self._done
        if sink is None or done is None or self._paused or self._inflater is not None:
            self._hold(data)
            return
        if done.done():
            self.close()
            return
        try:
            sink(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who awaits the future
            self._break(error)

    def completed(self) -> None:
        """The body is complete on the wire, and the connection has gone its way."""
        self._connection = None
        self._complete = True
        if self._sink is not None:
            self._pump()

    def failed(self, failure: UpstreamFailure) -> None:
        """The body will not be complete; what has arrived is still handed over first."""
        self._connection = None
        self._failure = failure
        self._pump()

    def _hold(self, data: bytes) -> None:
        if self._inflater is None:
            self._chunks.append(data)
        else:
            self._inflater.push(data)
        self._held += len(data)
        if self._sink is not None:
            self._pump()
        if self._held > _HOLD and self._connection is not None:
            self._connection.pause()

    def _next(self) -> bytes:
        """The bytes to hand over next, or ``b""``."""
        if self._inflater is not None:
            return self._inflater.take()
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return data

    def _pump(self) -> None:
        """Hand over what is held, unless nobody has asked for it or the reader has paused; then see whether it is the end."""
        sink, done = self._sink, self._done
        if sink is None or done is None:
            return
        try:
            while not self._paused:
                data = self._next()
                if not data:
                    self._held = 0
                    break
                sink(data)
            if self._complete and self._inflater is not None and not self._inflater.whole():
                if self._paused and self._inflater.busy():
                    return
                raise _bad_answer("the compressed body ends early")
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who awaits the future
            self._break(error)
            return
        if done.done():
            return
        if self._failure is not None:
            done.set_exception(self._failure)
        elif self._complete and not self._chunks:
            done.set_result(None)

    def _break(self, error: Exception) -> None:
        """Give up for a reason on our side of the wire."""
        done = self._done
        if done is not None and not done.done():
            done.set_exception(error)
        self.close()


class _Connection(asyncio.Protocol):
    """One connection: idle in its pool (``response`` is None), or busy with one request.

    httptools calls the ``on_*`` methods inside ``feed_data``; they only take notes, and ``data_received`` acts on them
    afterwards, so that all body bytes of one read become one call.
    """

    __slots__ = (
        "_complete",
        "_deadlines",
        "_due",
        "_end",
        "_extra",
        "_head_done",
        "_headers",
        "_heard",
        "_interim",
        "_loop",
        "_overhead",
        "_parser",
        "_parts",
        "_pool",
        "_quiet_since",
        "_reading",
        "_response",
        "_reusable",
        "_streaming",
        "_transport",
        "_unsent",
        "_waiter",
        "idle_since",
        "on_body",
    )

    def __init__(self, pool: "_Pool", loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._headers: HeaderList = []
        self._response: UpstreamResponse | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reading = True
        self._interim = False
        self.idle_since = 0.0

    # The client's side.

    def usable(self) -> bool:
        """Whether the socket is still open, as far as we know."""
        return self._transport is not None and not self._transport.is_closing()

    def send(
        self,
        response: UpstreamResponse,
        head: bytes,
        body: bytes,
        deadlines: Deadlines,
        due: float,
        *,
        stream: bool,
    ) -> asyncio.Future[None]:
        """Write the request; ``due`` is the loop time of its total deadline.

        The future is done when the answer's head has arrived, or fails with UpstreamFailure.
        """
        transport = self._transport
        if transport is None:
            raise RuntimeError("the connection is not open")
        self._response = response
        self._waiter = waiter = self._loop.create_future()
        self._deadlines = deadlines
        self._due = due
        self._streaming = stream
        self._quiet_since = response.sent_at
        self._heard = False
        self._head_done = False
        self._complete = False
        self._extra = False
        self._overhead = 0
        self._unsent = 0
        if len(body) <= _JOIN:
            transport.write(head + body if body else head)
        else:
            transport.writelines((head, body))
        return waiter

    def pause(self) -> None:
        """Stop reading; the idle deadline is suspended."""
        if self._reading and self.usable():
            self._reading = False
            cast("asyncio.Transport", self._transport).pause_reading()

    def resume(self) -> None:
        """Read on; the idle deadline starts anew."""
        if not self._reading and self.usable():
            self._reading = True
            self._heard = True
            cast("asyncio.Transport", self._transport).resume_reading()

    def drop(self) -> None:
        """Close the socket at once and tell nobody."""
        self._response = None
        self._waiter = None
        self._pool.active.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def shut(self) -> None:
        """Close the socket at once, failing the request if there is one."""
        if self._response is None:
            self._pool.forget(self)
            self.drop()
        else:
            self._fail(FailureReason.CUT, "the client was closed")

    def check(self, now: float) -> None:
        """Fail the request if one of its deadlines has passed at loop time ``now``."""
        response, transport = self._response, self._transport
        if response is None or transport is None:
            return
        if now >= self._due:
            self._fail(FailureReason.TOTAL_TIMEOUT, "the answer was not complete within the total deadline")
        elif response.abandoned():
            response.close()
        elif not self._streaming:
            return
        elif not response.first_byte_at:
            unsent = 0 if transport.is_closing() else transport.get_write_buffer_size()
            if unsent != self._unsent:
                # a large body is still on its way, and moving: the upstream cannot answer yet
                self._unsent = unsent
                self._quiet_since = now
            elif now - self._quiet_since >= self._deadlines.first_byte:
                self._fail(FailureReason.FIRST_BYTE_TIMEOUT, "no answer within the first-byte deadline")
        elif self._heard or not self._reading:
            self._heard = False
            self._quiet_since = now
        elif now - self._quiet_since >= self._deadlines.idle:
            self._fail(FailureReason.IDLE_TIMEOUT, "no byte within the idle deadline")

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        sock = transport.get_extra_info("socket")
        # a long answer may be silent for minutes: probes find a dead peer, and keep address translators awake
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _SOCKET_KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def data_received(self, data: bytes) -> None:
        response, parser = self._response, self._parser
        if response is None or parser is None:
            # bytes on an idle connection: whatever they are, they are no answer to the next request
            self._pool.forget(self)
            self.drop()
            return
        self._heard = True
        if not response.first_byte_at:
            response.first_byte_at = self._loop.time()
        self._overhead += len(data)
        fault = ""
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            fault = "the protocol was switched without being asked"
        except httptools.HttpParserError as error:
            fault = str(error)
        if self._waiter is not None and not self._take_head(response, fault):
            return
        parts = self._parts
        if self._extra:
            del parts[self._end :]
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._overhead = 0
            response.arrived(body)
            if self._response is not response:
                return
        if self._complete:
            self._finish(response, clean=not fault)
        elif fault:
            self._fail(FailureReason.PROTOCOL, fault)
        elif self._overhead > self._pool.client.max_response_head:
            self._fail(FailureReason.PROTOCOL, "too many bytes that are no body")

    def eof_received(self) -> None:
        # Not left to connection_lost: the transport would first wait for the rest of the request to be written.
        self._lost("")
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(str(exc) if exc is not None else "")
        self._pool.connections.discard(self)
        # the parser holds our bound methods: let both go without the collector
        self._parser = None
        self._transport = None
        self._pool.client.lost()

    # The parser's side.

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        response, parser = self._response, self._parser
        if self._complete or response is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            self._interim = True
            self._headers.clear()
            return
        response.status = status
        response.headers = self._headers
        # trailers, which nobody reads, go here
        self._headers = []
        self._head_done = True

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete and self._parser is not None:
            self._complete = True
            self._end = len(self._parts)
            self._reusable = self._parser.should_keep_alive()
            self._headers.clear()

    # What follows from it.

    def _take_head(self, response: UpstreamResponse, fault: str) -> bool:
        """Wake the sender if the head is there; False if there is nothing more to do with this read."""
        limit = self._pool.client.max_response_head
        if not self._head_done:
            if fault:
                self._fail(FailureReason.PROTOCOL, fault)
            elif self._overhead > limit:
                self._fail(FailureReason.TOO_LARGE, f"the answer's head has over {limit} bytes")
            return False
        if self._overhead > limit and sum(len(n) + len(v) + 4 for n, v in response.headers) > limit:
            self._fail(FailureReason.TOO_LARGE, f"the answer's head has over {limit} bytes")
            return False
        problem = response.begin_body()
        if problem:
            self._fail(FailureReason.PROTOCOL, problem)
            return False
        waiter = self._waiter
        self._waiter = None
        self._overhead = 0
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return True

    def _finish(self, response: UpstreamResponse, *, clean: bool) -> None:
        """The answer is complete: the connection goes back to its pool if nothing speaks against it."""
        transport = self._transport
        self._response = None
        self._pool.active.discard(self)
        if transport is not None:
            # an answer that came before the request was written leaves the rest of the request in the pipe
            if clean and self._reusable and not self._extra and not transport.get_write_buffer_size():
                if not self._reading:
                    self._reading = True
                    transport.resume_reading()
                self.idle_since = self._loop.time()
                self._pool.give_back(self)
            else:
                transport.abort()
        response.completed()

    def _fail(self, reason: FailureReason, message: str) -> None:
        """Close the socket and tell the one who waits."""
        response, waiter = self._response, self._waiter
        self.drop()
        origin = self._pool.origin
        failure = UpstreamFailure(reason, f"{origin.host}:{origin.port}: {message}", sent=True)
        if waiter is not None:
            if not waiter.done():
                waiter.set_exception(failure)
        elif response is not None:
            response.failed(failure)

    def _lost(self, error: str) -> None:
        """The peer has closed, or the network has failed (``error`` says how)."""
        response = self._response
        if response is None:
            self._pool.forget(self)
        elif not error and self._waiter is None and response.until_close():
            self._finish(response, clean=False)
        else:
            self._fail(FailureReason.CUT, error or "the connection was closed before the answer was complete")


def _no_connection(reason: FailureReason, message: str) -> UpstreamFailure:
    return UpstreamFailure(reason, message, sent=False)


class _Pool:
    """The connections of one origin."""

    def __init__(self, client: "UpstreamClient", origin: Origin) -> None:
        self.client = client
        self.active = client.active
        self.origin = origin
        self.connections: set[_Connection] = set()
        self.idle: list[_Connection] = []
        """The most recently used at the end."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        if origin.port != (443 if origin.scheme == "https" else 80):
            host = f"{host}:{origin.port}"
        self.host_line = f" HTTP/1.1\r\nhost: {host}\r\naccept-encoding: identity".encode()

    def take(self) -> _Connection | None:
        """The idle connection that was used last, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
        return None

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request, or close it if there are enough."""
        if self.client.closed or len(self.idle) >= self.client.max_idle:
            connection.drop()
        else:
            self.idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """Take a connection that has died out of the idle ones."""
        if connection in self.idle:
            self.idle.remove(connection)

    async def connect(self, seconds: float) -> _Connection:
        """A new connection within ``seconds``. Raises UpstreamFailure (CONNECT, TLS)."""
        loop = asyncio.get_running_loop()
        connection = _Connection(self, loop)
        origin = self.origin
        context = self.client.tls() if origin.scheme == "https" else None
        where = f"{origin.host}:{origin.port}"
        try:
            # once per connection, not per request, so the cost of the context manager does not matter
            async with asyncio.timeout(seconds):
                await loop.create_connection(lambda: connection, origin.host, origin.port, ssl=context)
        except TimeoutError as error:
            message = f"{where}: no connection within {seconds:g} s"
            raise _no_connection(FailureReason.CONNECT, message) from error
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
            # before the handshake there is nobody yet to reset a connection
            reason = FailureReason.CONNECT if context is None else FailureReason.TLS
            raise _no_connection(reason, f"{where}: {error}") from error
        except OSError as error:
            raise _no_connection(FailureReason.CONNECT, f"{where}: {error}") from error
        except asyncio.CancelledError:
            # the cancellation may have come after the handshake: then nobody else closes the socket
            connection.drop()
            raise
        if not connection.usable() or self.client.closed:
            connection.drop()
            raise _no_connection(FailureReason.CONNECT, f"{where}: closed as soon as it was open")
        self.connections.add(connection)
        return connection


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
        self._pools: dict[Origin, _Pool] = {}
        self.active: set[_Connection] = set()
        """Those whose deadlines are running."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None

    async def send(
        self,
        origin: Origin,
        method: bytes,
        path: bytes,
        headers: HeaderList,
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
            pool = self._pools[origin] = _Pool(self, origin)
        head = _request_head(pool.host_line, method, path, headers, len(body))
        now = loop.time()
        due = now + deadlines.total
        connection = pool.take()
        while True:
            reused = connection is not None
            if connection is None:
                connection = await pool.connect(min(deadlines.connect, due - now))
                now = loop.time()
            response = UpstreamResponse(connection, now, reused=reused)
            self.active.add(connection)
            if self._tick is None:
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
        for connection in list(self.active):
            connection.check(now)
        oldest = now - self.idle_lifetime
        for pool in self._pools.values():
            while pool.idle and pool.idle[0].idle_since < oldest:
                pool.idle.pop(0).drop()
        needed = self.active or any(pool.idle for pool in self._pools.values())
        self._tick = loop.call_later(_TICK, self._sweep, loop) if needed else None
