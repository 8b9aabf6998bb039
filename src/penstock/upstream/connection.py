"""One connection to an upstream: writes a request, parses what comes back, and watches its deadlines."""

import asyncio
import socket
from typing import Protocol, cast

import httptools

from penstock.upstream.deadlines import Deadlines
from penstock.upstream.failures import FailureReason, UpstreamFailure
from penstock.upstream.origin import Origin
from penstock.upstream.response import Offer, UpstreamResponse
from penstock.upstream.response_head import last_head

_JOIN = 16 * 1024
"""Up to here head and body are joined for one write; above, the copy costs more than the second buffer."""
_LF = 0x0A
_SOCKET_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Home(Protocol):
    """What a connection asks of the pool it belongs to."""

    origin: Origin
    max_response_head: int
    """Bytes, 1xx heads included."""

    def give_back(self, connection: "UpstreamConnection") -> None:
        """Keep a connection for the next request."""
        ...

    def forget(self, connection: "UpstreamConnection") -> None:
        """Take a connection that has died out of the idle ones."""
        ...

    def lost(self, connection: "UpstreamConnection") -> None:
        """The socket of a connection is closed."""
        ...


class HeadListener(Protocol):
    """Who waits for the head of an answer; told once, by one of the two."""

    def answered(self, response: UpstreamResponse) -> None:
        """The head is there, with what came of the body in the same read."""
        ...

    def failed(self, failure: Exception) -> None:
        """There will be none: an ``UpstreamFailure``, or a fault of our own."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection: idle in its pool (``response`` is None), or busy with one request.

    httptools calls the ``on_*`` methods inside ``feed_data``; they only take notes, and ``data_received`` acts on them
    afterwards, so that all body bytes of one read become one call.
    """

    __slots__ = (
        "_between_chunks",
        "_complete",
        "_deadlines",
        "_due",
        "_end",
        "_extra",
        "_head",
        "_head_done",
        "_heard",
        "_interim",
        "_interims",
        "_listener",
        "_loop",
        "_overhead",
        "_parser",
        "_parts",
        "_pool",
        "_quiet_since",
        "_reading",
        "_response",
        "_reusable",
        "_status",
        "_streaming",
        "_suspended_at",
        "_transport",
        "_unsent",
        "idle_since",
        "on_body",
        "taker",
    )

    def __init__(self, pool: Home, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._response: UpstreamResponse | None = None
        self._listener: HeadListener | None = None
        self._reading = True
        self._suspended_at = 0.0
        self._interim = False
        self._between_chunks = False
        self.taker: Offer | None = None
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
        listener: HeadListener,
        *,
        stream: bool,
    ) -> None:
        """Write the request; ``due`` is the loop time of its total deadline."""
        transport = self._transport
        if transport is None:
            raise RuntimeError("the connection is not open")
        self._response = response
        self._listener = listener
        self._deadlines = deadlines
        self._due = due
        self._suspended_at = 0.0
        self._streaming = stream
        self._quiet_since = response.sent_at
        self._heard = False
        self._head = b""
        self._head_done = False
        self._interims = 0
        self._complete = False
        self._extra = False
        self._overhead = 0
        self._unsent = 0
        if len(body) <= _JOIN:
            transport.write(head + body if body else head)
        else:
            transport.writelines((head, body))

    def pause(self) -> None:
        """Stop reading; the idle deadline is suspended."""
        if self._reading and self.usable():
            self._reading = False
            cast("asyncio.Transport", self._transport).pause_reading()

    def suspend(self) -> None:
        """Stop reading, because the one who is answered takes no more: that is not the upstream's time."""
        if not self._suspended_at:
            self._suspended_at = self._loop.time()
        self.pause()

    def resume(self) -> None:
        """Read on; the idle deadline starts anew, and the total one goes on where it was suspended."""
        if self._suspended_at:
            self._due += self._loop.time() - self._suspended_at
            self._suspended_at = 0.0
        if not self._reading and self.usable():
            self._reading = True
            self._heard = True
            cast("asyncio.Transport", self._transport).resume_reading()

    def hurry(self, seconds: float) -> None:
        """The answer has so long to end, however long it had before."""
        self._due = min(self._due, self._loop.time() + seconds)

    def drop(self) -> None:
        """Close the socket at once and tell nobody."""
        self._response = None
        self.taker = None
        self._listener = None
        if self._transport is not None:
            self._transport.abort()

    def shut(self) -> None:
        """Close the socket at once, failing the request if there is one."""
        if self._response is None:
            self._pool.forget(self)
            self.drop()
        else:
            self._fail(FailureReason.CUT, "the client was closed")

    def spare(self, seconds: float) -> None:
        """Our loop was stuck for so long, and could not hear the upstream: its deadlines are that much later."""
        if self._response is not None:
            self._due += seconds
            self._quiet_since += seconds

    def check(self, now: float) -> None:
        """Fail the request if one of its deadlines has passed at loop time ``now``."""
        response, transport = self._response, self._transport
        if response is None or transport is None:
            return
        if now >= self._due and not self._suspended_at:
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
        taker = self.taker
        if taker is not None and self._between_chunks and self._reading and self._response is not None:
            try:
                data = data[taker(data) :]
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who awaits the body
                self._response.fail_by(error)
                return
            if not data:
                self._heard = True
                return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
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
        listener = self._listener
        if listener is not None:
            self._head += data
        fault = ""
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            fault = "the protocol was switched without being asked"
        except httptools.HttpParserError as error:
            fault = str(error)
        # a size line that is not whole yet is no chunk yet, but the parser has begun with it
        self._between_chunks = self._between_chunks and data[-1] == _LF
        if listener is None:
            self._take_body(response, fault)
        elif self._take_head(response, fault):
            # what came with the head is there when its listener is told
            self._listener = None
            self._take_body(response, fault)
            listener.answered(response)

    def _take_body(self, response: UpstreamResponse, fault: str) -> None:
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
        elif self._overhead > self._pool.max_response_head:
            self._fail(FailureReason.PROTOCOL, "too many bytes that are no body")

    def eof_received(self) -> None:
        # Not left to connection_lost: the transport would first wait for the rest of the request to be written.
        self._lost("")
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(str(exc) if exc is not None else "")
        # the parser holds our bound methods: let both go without the collector
        self._parser = None
        self._transport = None
        self._pool.lost(self)

    # The parser's side.

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra = True

    def on_headers_complete(self) -> None:
        if self._complete or self._parser is None:
            return
        self._status = status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            self._interims += 1
        else:
            self._head_done = True

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_message_complete(self) -> None:
        self._between_chunks = False
        if self._interim:
            self._interim = False
        elif not self._complete and self._parser is not None:
            self._complete = True
            self._end = len(self._parts)
            self._reusable = self._parser.should_keep_alive()

    # What follows from it.

    def _take_head(self, response: UpstreamResponse, fault: str) -> bool:
        """Read the head if it is there; False if there is nothing more to do with this read."""
        limit = self._pool.max_response_head
        if not self._head_done:
            if fault:
                self._fail(FailureReason.PROTOCOL, fault)
            elif self._overhead > limit:
                self._fail(FailureReason.TOO_LARGE, f"the answer's head has over {limit} bytes")
            return False
        head = last_head(self._head, self._interims)
        self._head = b""
        if len(head) > limit:
            self._fail(FailureReason.TOO_LARGE, f"the answer's head has over {limit} bytes")
            return False
        problem = response.begin(self._status, head) if head else "no end of the head"
        if problem:
            self._fail(FailureReason.PROTOCOL, problem)
            return False
        self._overhead = 0
        return True

    def _finish(self, response: UpstreamResponse, *, clean: bool) -> None:
        """The answer is complete: the connection goes back to its pool if nothing speaks against it."""
        transport = self._transport
        self._response = None
        self.taker = None  # it holds on to the whole stream
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
        response, listener = self._response, self._listener
        self.drop()
        origin = self._pool.origin
        failure = UpstreamFailure(reason, f"{origin.host}:{origin.port}: {message}", sent=True)
        if listener is not None:
            listener.failed(failure)
        elif response is not None:
            response.failed(failure)

    def _lost(self, error: str) -> None:
        """The peer has closed, or the network has failed (``error`` says how)."""
        response = self._response
        if response is None:
            self._pool.forget(self)
        elif not error and self._listener is None and response.until_close():
            self._finish(response, clean=False)
        else:
            self._fail(FailureReason.CUT, error or "the connection was closed before the answer was complete")
