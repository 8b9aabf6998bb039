"""One caller's connection: a state machine over what arrives, what is answered, and how long either takes."""

import asyncio
import logging
import socket
import struct
from enum import Enum
from math import inf
from typing import Final, cast

from uvicorn.protocols.http.flow_control import FlowControl

from penstock.errors import Draining, EncodedBody, PenstockError, ReceiptTimeout, RequestTooLarge
from penstock.server.asgi_bridge import SiteCall
from penstock.server.chunked import ChunkedReader
from penstock.server.limits import ASGIApp
from penstock.server.request_head import CHUNKED, RememberedHead, RequestHead
from penstock.server.served_exchange import ServedExchange
from penstock.server.shared_state import SharedState

log = logging.getLogger(__name__)

HIGH_WATER: Final = 64 * 1024
READ_AHEAD: Final = 64 * 1024
"""How much is read that nobody has asked for yet. Not nothing, because a caller who leaves is only noticed by reading."""
SKIP: Final = 64 * 1024
"""A rest of a body that the handler did not want is read and dropped up to here; a longer one costs the connection."""
LINGER: Final = 5.0
"""Seconds between a final answer and the close for a caller who is still sending: an earlier close could lose it."""
STRANGERS: Final = 4
"""Heads unlike the one before after which a connection, probably a proxy's, stops to remember the last."""
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: close by a reset."""


class Phase(Enum):
    """What the next bytes from the caller are."""

    HEAD = 0
    """A request's head, or the wait for one."""
    BODY = 1
    RUN = 2
    """The next request's, and kept until the response to this one is complete."""
    BROKEN = 3
    """Unreadable, since the framing is lost; the handler still has to answer."""
    GOODBYE = 4
    """Of no interest: the connection is closing."""


# an enum's members are looked up at a cost that is felt several times a request
HEAD, BODY, RUN, BROKEN, GOODBYE = Phase


class CallerConnection(asyncio.Protocol):
    """One TCP connection. Requests on it are served one at a time, in order."""

    __slots__ = (
        "_chunked",
        "_client_trusted",
        "_expects",
        "_head",
        "_held",
        "_peer",
        "_phase",
        "_received",
        "_remaining",
        "_remembered_head",
        "_since",
        "_stall_size",
        "_strangers",
        "_wire",
        "_write_paused",
        "call",
        "deadline",
        "flow",
        "keep_alive",
        "loop",
        "max_body",
        "stall_at",
        "transport",
    )

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(self, wire: SharedState) -> None:
        self._wire = wire
        self.loop = wire.loop
        self.max_body = wire.limits.max_body
        self.keep_alive = True
        self.deadline = inf
        """When what the caller owes is due: a head, a body, a next request, or its own close."""
        self.stall_at = inf
        """When the caller must have taken more of what was written."""
        self.call: ServedExchange | SiteCall | None = None
        self._phase = HEAD
        self._head: RequestHead | None = None
        self._remembered_head: RememberedHead | None = None
        self._strangers = 0
        self._held = b""
        self._chunked: ChunkedReader | None = None
        self._remaining = 0
        self._received = 0
        self._since = 0.0
        self._expects = False
        self._write_paused = False
        self._stall_size = 0

    # ---- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.flow = FlowControl(self.transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = self.transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        self._client_trusted = self._wire.proxies.trust(self._peer)
        self._wire.connections.add(self)
        self.deadline = self.loop.time() + self._wire.limits.header_deadline

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._hold(data)
        else:
            self._consume(data)

    def eof_received(self) -> None:
        # a caller who has left and one who has only finished sending look the same; the first is the common one
        if self.call is not None:
            self.call.lose()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # that it is gone is all that matters
        self._phase = GOODBYE
        self.deadline = self.stall_at = inf
        if self.call is not None:
            self.call.lose()
            self.call = None
        self.flow.resume_writing()
        self._wire.connections.discard(self)
        self._wire.check_quiet()

    def pause_writing(self) -> None:
        self._write_paused = True
        self.flow.pause_writing()
        self.stall_at = self.loop.time() + self._wire.limits.caller_stall
        self._stall_size = self.transport.get_write_buffer_size()
        if self.call is not None:
            self.call.stall()

    def resume_writing(self) -> None:
        self._write_paused = False
        self.flow.resume_writing()
        self.stall_at = inf
        if self.call is not None:
            self.call.resume()
        elif self._phase is RUN:
            self._next()

    # ---- reading

    def _consume(self, data: bytes) -> None:
        at = 0
        try:
            while at < len(data):
                phase = self._phase
                if phase is HEAD:
                    at = self._read_head(data, at)
                elif phase is BODY:
                    at = self._read_body(data, at)
                elif phase is RUN:
                    self._hold(data[at:])
                    return
                else:
                    return
        except PenstockError as error:
            self._unreadable(error)

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of the next request until this one is answered."""
        self._held += data
        if len(self._held) > READ_AHEAD:
            self._pause_reading()

    def _pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def _resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _read_head(self, data: bytes, at: int) -> int:
        head = self._head
        if head is None:
            if self._remembered_head is not None:
                match = self._remembered_head.match(data, at)
                if match is not None:
                    return self._begin(match[0], data, match[1])
                self._strangers += 1
            if data[at] in b"\r\n":  # RFC 9112 section 2.2 has empty lines before a request skipped
                return len(data) - len(data[at:].lstrip(b"\r\n"))
            head = self._head = RequestHead(self._wire.limits)
            at = head.feed(data, at)
            if not head.complete:
                self.deadline = self.loop.time() + self._wire.limits.header_deadline
                return at
        else:
            at = head.feed(data, at)
            if not head.complete:
                return at
        head.check()
        self._head = None
        self._remembered_head = head.remembered_head() if self._strangers < STRANGERS else None
        return self._begin(head, data, at)

    def _begin(self, head: RequestHead, data: bytes, at: int) -> int:
        """Hand a request to whom it belongs; its body begins at ``at`` and may still be on the way."""
        wire = self._wire
        self.deadline = inf
        self.keep_alive = head.keep_alive
        self._expects = head.expects
        length = head.length
        application = wire.application
        if application.site is not None and not application.owns(head.path):
            self._await_body(length)
            self._begin_site(application.site, head)
            return at
        client = self._peer
        if self._client_trusted:
            client = wire.proxies.client(client, head.headers)
        exchange = self.call = ServedExchange(self, head, client)
        if 0 <= length <= len(data) - at and exchange.failure is None:
            exchange.take_whole(data[at : at + length])
            at += length
            self._phase = RUN
        else:
            self._await_body(length)
        if wire.draining:
            self.refuse(exchange, Draining("The server is shutting down.", retry_after=1))
            return at
        wire.exchanges.add(exchange)
        exchange.begin(application.handler)
        return at

    def _await_body(self, length: int) -> None:
        self._received = 0
        self._remaining = length
        self._chunked = ChunkedReader() if length == CHUNKED else None
        self._phase = BODY if length else RUN

    def _begin_site(self, site: ASGIApp, head: RequestHead) -> None:
        wire = self._wire
        if head.length > self.max_body:
            error = RequestTooLarge(f"The request body is larger than {self.max_body} bytes.")
        elif head.encoded:
            error = EncodedBody("Send the form without a Content-Encoding.", accepted="identity")
        else:
            error = None
        if error is not None:
            self.refuse_unread(head, error)
            return
        if wire.draining or wire.parting:
            self.keep_alive = False
        scheme = wire.proxies.scheme(head.headers) if self._client_trusted else "http"
        call = self.call = SiteCall(self, head, self._client(head), scheme, wire.date_header)
        task = wire.loop.create_task(call.run(site))
        wire.site_tasks.add(task)
        task.add_done_callback(wire.site_done)
        self._start_body_clock()

    def _client(self, head: RequestHead) -> str:
        return self._wire.proxies.client(self._peer, head.headers) if self._client_trusted else self._peer

    def _read_body(self, data: bytes, at: int) -> int:
        if self._chunked is not None:
            piece, at = self._chunked.feed(data, at)
            over = self._chunked.complete
        else:
            end = min(at + self._remaining, len(data))
            piece = data[at:end]
            self._remaining -= end - at
            over = self._remaining == 0
            at = end
        self._received += len(piece)
        call = self.call
        if call is not None:
            call.take_body(piece)
        if self._phase is not BODY:
            return at  # the site's body was refused
        if over:
            self.deadline = inf
            self._phase = RUN
            if call is not None:
                call.end_body()
            elif not self._write_paused:
                self._next()
        elif isinstance(call, ServedExchange) and self._received > READ_AHEAD and not call.waits_for_body:
            self._pause_reading()
        elif call is None and self._received > self.max_body:
            self.kill()
        return at

    def _start_body_clock(self) -> None:
        if self._phase is BODY:
            self._since = self.loop.time() + self._wire.limits.body_deadline
            self.deadline = self._since

    def _unreadable(self, error: PenstockError) -> None:
        """What arrives cannot be, or does not come: answer with the error where there is still something to answer."""
        call = self.call
        if self._phase is HEAD:
            head = self._head or RequestHead(self._wire.limits)
            head.guess()
            self.refuse_unread(head, error)
        elif call is None:
            self.kill()
        else:
            self._phase = BROKEN
            self.deadline = inf
            call.fail_body(error)

    # ---- deadlines

    def spare(self, seconds: float) -> None:
        self.deadline += seconds
        self.stall_at += seconds
        self._since += seconds

    def overdue(self, now: float) -> None:
        limits = self._wire.limits
        if now >= self.stall_at:
            waiting = self.transport.get_write_buffer_size()
            if self._stall_size - waiting < limits.body_rate * limits.caller_stall:
                self.kill()
                return
            self._stall_size = waiting
            self.stall_at = now + limits.caller_stall
        if now < self.deadline:
            return
        match self._phase:
            case Phase.HEAD if self._head is None:
                self._finish()
            case Phase.HEAD:
                self._unreadable(ReceiptTimeout("The headers did not arrive in time."))
            case Phase.BODY if self.flow.read_paused:
                self._start_body_clock()  # it was the site that did not read
            case Phase.BODY:
                self.deadline = self._since + self._received / limits.body_rate
                if now >= self.deadline:
                    self._unreadable(ReceiptTimeout("The request body did not arrive in time."))
            case Phase.RUN | Phase.BROKEN | Phase.GOODBYE:
                self.kill()

    # ---- what the exchange and the site's call ask for

    def want_body(self) -> None:
        if self._expects and not self._received:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects = False
        self._resume_reading()
        self._start_body_clock()

    def head_lines(self) -> bytes:
        wire = self._wire
        if wire.draining or wire.parting or (self._phase is not RUN and not self._can_skip()):
            self.keep_alive = False
        return wire.date_line if self.keep_alive else wire.date_and_close

    def _can_skip(self) -> bool:
        """Whether the rest of a body that was not wanted is short, and sure to come."""
        if self._phase is not BODY or self._chunked is not None or self._expects:
            return False
        failed = isinstance(self.call, ServedExchange) and self.call.failure is not None
        return self._remaining <= SKIP and not failed

    def response_done(self) -> None:
        self.call = None
        if not self.keep_alive or self.transport.is_closing():
            self._finish()
        elif self._phase is BODY:
            if self._expects and not self._received:
                self._finish()  # the body may never come, now that the caller has its answer
            else:
                self._resume_reading()
                self._start_body_clock()
        elif not self._write_paused:
            self._next()

    def _next(self) -> None:
        """Go on to the next request, part of which may be here already."""
        self._phase = HEAD
        self.deadline = self.loop.time() + self._wire.limits.keepalive_idle
        if self.flow.read_paused:
            self._resume_reading()
        if self._held:
            # not now: whoever has just ended the response may have more to do for it
            self.loop.call_soon(self._read_held)

    def _read_held(self) -> None:
        held, self._held = self._held, b""
        if self.flow.read_paused:
            self._resume_reading()
        self._consume(held)

    def refuse(self, exchange: ServedExchange, error: PenstockError) -> None:
        self.keep_alive = False
        self.call = exchange
        try:
            self._wire.application.reject(exchange, error)
        except Exception:
            log.exception("an error response could not be written")
        if not exchange.done:
            exchange.abort()

    def refuse_unread(self, head: RequestHead, error: PenstockError) -> None:
        self._head = None
        self._phase = BROKEN
        self.deadline = inf
        self.refuse(ServedExchange(self, head, self._client(head)), error)

    def forget(self, exchange: ServedExchange) -> None:
        self._wire.exchanges.discard(exchange)
        if self._wire.closing:
            self._wire.check_quiet()

    # ---- closing

    def _finish(self) -> None:
        """Close after the last response, without losing it to a caller who is still sending."""
        sending = self._phase in {BODY, BROKEN} or self._held
        self._phase = GOODBYE
        self._held = b""
        now = self.loop.time()
        if sending and not self.transport.is_closing() and self.transport.can_write_eof():
            self._resume_reading()
            self.transport.write_eof()
            self.deadline = now + LINGER
        else:
            self.transport.close()
            self.deadline = now + self._wire.limits.caller_stall

    def cut(self, *, reset: bool) -> None:
        self.call = None
        self._phase = GOODBYE
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        else:
            self.transport.close()
            self.deadline = self.loop.time() + self._wire.limits.caller_stall

    def close_if_idle(self) -> None:
        if self._phase is HEAD and self._head is None and not self._held:
            self._finish()
        else:
            self.keep_alive = False
            if isinstance(self.call, SiteCall):
                self.call.cycle.keep_alive = False

    def kill(self) -> None:
        self._phase = GOODBYE
        self.deadline = self.stall_at = inf
        if self.call is not None:
            self.call.lose()
        self.transport.abort()
