"""The server's ``Exchange``: one request whose body arrives from a connection, and the response framed onto it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, Protocol

from penstock.errors import Draining, EncodedBody, InternalError, PenstockError, RequestTooLarge
from penstock.exchange import FlowWatcher, Handler, HeaderList, Owner
from penstock.server.body_coding import coding_of, decoded
from penstock.server.request_head import RequestHead

log = logging.getLogger(__name__)

STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status} {status.phrase}".encode() for status in HTTPStatus}
BODILESS: Final = frozenset({204, 304})
JOIN_BELOW: Final = 16 * 1024
"""Up to here it is cheaper to copy the data next to its framing than to hand the socket several buffers."""

SIZE_LINES: Final = [b"%x\r\n" % size for size in range(1024)]

# How the end of a response body is told, besides a content-length (which is the number of bytes left).
NO_BODY: Final = -1
CHUNKED: Final = -2
UNTIL_CLOSE: Final = -3
UNDECIDED: Final = -4


class Line(Protocol):
    """What an exchange needs of the connection that carries it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    max_body: int

    def want_body(self) -> None:
        """The handler waits for the rest of the body: read on, and start its clock."""
        ...

    def head_lines(self) -> bytes:
        """The ``date`` line and, where the connection ends with this response, the ``connection`` line."""
        ...

    def refuse(self, exchange: "ServedExchange", error: PenstockError) -> None:
        """Answer with an error and close."""
        ...

    def response_done(self) -> None:
        """The response is complete: the next request may begin."""
        ...

    def cut(self, *, reset: bool) -> None:
        """Close so that the caller sees the response as unfinished."""
        ...

    def forget(self, exchange: "ServedExchange") -> None:
        """The handler has returned."""
        ...


class ServedExchange:
    """One request of the data plane. The interface is ``penstock.exchange.Exchange``; the rest is for the connection."""

    # defaults stand in the class: most are never changed, and setting two dozen attributes is felt per request
    lost = False
    recalled = False
    started = False
    stalled = False
    watcher: FlowWatcher | None = None
    owner: Owner | None = None
    task: asyncio.Task[None] | None = None
    # the request's body
    asked = False
    received = 0
    waiter: asyncio.Future[None] | None = None
    arrived: Callable[[int], None] | None = None
    failure: PenstockError | None = None
    coding: str | None = None
    """How the body is compressed, where it is."""
    # the response
    pending: bytes | None = None
    left = UNDECIDED
    done = False
    aborted = False

    def __init__(self, line: Line, head: RequestHead, client: str) -> None:
        self.line = line
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.headers = head.headers
        self.fields = head.fields
        self.shared_headers = head.shared_headers
        self.length = head.length
        self.client = client
        self.http_1_0 = head.version == "1.0"
        self.complete = head.length == 0
        self.pieces: list[bytes] = []
        if head.length > line.max_body:
            self.failure = RequestTooLarge(f"The request body is larger than {line.max_body} bytes.")
        elif head.encoded:
            try:
                self.coding = coding_of(head.fields[b"content-encoding"])
            except EncodedBody as error:
                self.failure = error

    # ---- the request, as the handler sees it

    def header(self, name: bytes) -> bytes | None:
        return self.fields.get(name)

    def own(self, owner: Owner) -> None:
        self.owner = owner

    def release(self) -> None:
        self.owner = None
        self.line.forget(self)
        if not self.done and not self.lost:
            log.error("the owner of %s %s left its response open", self.method, self.path)
            self._fail(InternalError("Something went wrong on our side."))

    def whole_body(self) -> bytes | None:
        if self.failure is not None or not self.complete or self.asked or self.coding is not None:
            return None
        self.asked = True
        pieces, self.pieces = self.pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def body(self, arrived: Callable[[int], None] | None = None) -> bytes:
        if self.asked:
            raise RuntimeError("the body was asked for twice")
        self.asked = True
        if arrived is not None and self.failure is None:
            arrived(sum(map(len, self.pieces)))
            self.arrived = arrived
        if self.failure is None and not self.complete:
            if self.lost:
                raise asyncio.CancelledError  # the rest will not come, and the handler was told once already
            self.waiter = self.line.loop.create_future()
            self.line.want_body()
            await self.waiter
        if self.failure is not None:
            raise self.failure
        pieces, self.pieces = self.pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        del pieces
        return body if self.coding is None else await decoded(body, self.coding, self.line.max_body, arrived)

    # ---- the response, as the handler makes it

    def start(self, status: int, headers: HeaderList) -> None:
        if self.started:
            raise RuntimeError("the response was started twice")
        announced = dict(headers).get(b"content-length")
        left = UNDECIDED if announced is None else int(announced)
        if self.method == "HEAD" or status in BODILESS:
            left = NO_BODY
        status_line = STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status
        pending = b"\r\n".join([status_line, *map(b": ".join, headers), b""])
        # each CR and each LF that a value brings in makes a line of its own
        if len(pending.splitlines()) != len(headers) + 1:
            raise ValueError("a response header holds a line break")
        self.started = True
        self.left = left
        self.pending = pending

    def start_ready(self, head: bytes) -> None:
        if self.started:
            raise RuntimeError("the response was started twice")
        self.started = True
        self.pending = head

    def write(self, data: bytes) -> None:
        if self.lost or self.aborted or not data:
            return
        size = len(data)
        if self.left == CHUNKED and self.pending is None and size < len(SIZE_LINES) and not self.done:
            # nearly all writes are one small chunk of a stream that has begun
            self.line.transport.write(SIZE_LINES[size] + data + b"\r\n")
            return
        self._check_open()
        prefix = b"" if self.pending is None else self._finish_head(self.pending, UNDECIDED)
        if self.left == CHUNKED:
            if size < JOIN_BELOW:
                self.line.transport.write(prefix + b"%x\r\n" % size + data + b"\r\n")
            else:
                self.line.transport.writelines([b"%b%x\r\n" % (prefix, size), data, b"\r\n"])
            return
        self._send(prefix, data)

    def flush(self) -> None:
        if self.lost or self.aborted or self.pending is None:
            return
        self._check_open()
        self.line.transport.write(self._finish_head(self.pending, UNDECIDED))

    def end(self, data: bytes = b"") -> None:
        if self.lost or self.aborted:
            self.done = True
            return
        self._check_open()
        size = len(data)
        pending = self.pending
        tell_size = self.left == UNDECIDED
        if pending is not None and size < JOIN_BELOW and (tell_size or self.left == size):
            # the whole response in one write, which most are
            line = self.line
            framing = b"content-length: %d\r\n" % size if tell_size else b""
            line.transport.write(b"".join((pending, framing, line.head_lines(), b"\r\n", data)))
            self.pending = None
            self.left = 0
            self.done = True
            line.response_done()
            return
        prefix = b"" if pending is None else self._finish_head(pending, size)
        if self.left == CHUNKED:
            if size < JOIN_BELOW:
                last = b"%x\r\n%b\r\n0\r\n\r\n" % (size, data) if size else b"0\r\n\r\n"
                self.line.transport.write(prefix + last)
            else:
                self.line.transport.writelines([b"%b%x\r\n" % (prefix, size), data, b"\r\n0\r\n\r\n"])
        else:
            self._send(prefix, data)
            if self.left > 0:
                log.error("a response of %s ended %d bytes before its content-length", self.path, self.left)
                self.abort()
                return
        self.done = True
        self.line.response_done()

    def abort(self) -> None:
        if self.lost or self.done:
            return
        self.done = self.aborted = True
        # a body that only a close would end looks whole after a clean close, and so does a head that was never sent
        unframed = self.left == UNTIL_CLOSE or self.pending is not None or not self.started
        self.line.cut(reset=unframed)

    def watch(self, watcher: FlowWatcher | None) -> None:
        self.watcher = watcher

    def _check_open(self) -> None:
        if not self.started or self.done:
            raise RuntimeError("the response is not open")

    def _finish_head(self, pending: bytes, whole: int) -> bytes:
        """The pending head with its last lines; ``whole`` is the body's size where all of it follows at once."""
        framing = b""
        if self.left == UNDECIDED:
            if whole != UNDECIDED:
                self.left = whole
                framing = b"content-length: %d\r\n" % whole
            elif self.http_1_0:
                self.left = UNTIL_CLOSE
            else:
                self.left = CHUNKED
                framing = b"transfer-encoding: chunked\r\n"
        head = b"".join((pending, framing, self.line.head_lines(), b"\r\n"))
        self.pending = None
        return head

    def _send(self, prefix: bytes, data: bytes) -> None:
        """Send body bytes that need no framing, counted against the content-length where there is one."""
        size = len(data)
        if self.left >= 0:
            if size > self.left:
                self.abort()
                raise RuntimeError("the response is longer than its content-length")
            self.left -= size
        elif self.left == NO_BODY:
            data, size = b"", 0
        if not prefix:
            if data:
                self.line.transport.write(data)
        elif size < JOIN_BELOW:
            self.line.transport.write(prefix + data)
        else:
            self.line.transport.writelines([prefix, data])

    # ---- what the connection tells

    def take_body(self, piece: bytes) -> None:
        """More of the request's body; at most ``max_body`` of it is kept."""
        if self.failure is not None or not piece:
            return
        self.received += len(piece)
        if self.received > self.line.max_body:
            self.fail_body(RequestTooLarge(f"The request body is larger than {self.line.max_body} bytes."))
            return
        self.pieces.append(piece)
        if self.arrived is not None:
            try:
                self.arrived(self.received)
            except PenstockError as error:
                self.fail_body(error)

    def take_whole(self, body: bytes) -> None:
        """The whole body, which came with the head."""
        self.pieces.append(body)
        self.complete = True

    def end_body(self) -> None:
        self.complete = True
        self._wake()

    def fail_body(self, error: PenstockError) -> None:
        """The body cannot be read; the handler learns so where it asks for it."""
        if self.failure is None:
            self.failure = error
        self.pieces.clear()
        self._wake()

    @property
    def waits_for_body(self) -> bool:
        return self.waiter is not None and self.failure is None

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def stall(self) -> None:
        self.stalled = True
        if self.watcher is not None and not self.done:
            self.watcher.caller_stalled()

    def resume(self) -> None:
        self.stalled = False
        if self.watcher is not None and not self.done:
            self.watcher.caller_resumed()

    def lose(self) -> None:
        """The caller is gone: cancel the handler, unless the response had been handed over."""
        if self.done or self.lost:
            return
        self.lost = True
        if self.owner is not None:
            self.owner.caller_left()
        elif self.task is not None:
            self.task.cancel()

    def recall(self) -> None:
        """The server ends: whoever answers has a moment to tell the caller."""
        if self.done or self.lost or self.recalled:
            return
        if self.owner is not None:
            self.recalled = True
            self.owner.recalled()
        elif self.task is not None:
            self.recalled = True
            self.task.cancel()

    def begin(self, handler: Handler) -> None:
        """Call the handler, and run what it leaves to be waited for; see to it that the caller gets an answer or a cut."""
        try:
            rest = handler(self)
        except PenstockError as error:
            self._fail(error)
        except Exception:
            log.exception("the handler of %s %s failed", self.method, self.path)
        else:
            if rest is not None:
                self.task = self.line.loop.create_task(self._run(rest))
                return
            if self.owner is not None:
                return
            if not self.done and not self.lost:
                log.error("the handler of %s %s left its response open", self.method, self.path)
        self.line.forget(self)
        self._fail(InternalError("Something went wrong on our side."))

    async def _run(self, rest: Coroutine[Any, Any, None]) -> None:
        """Run the rest of a handler to its end."""
        try:
            await rest
        except asyncio.CancelledError:
            if self.lost:
                return
            if self.recalled:
                self._fail(Draining("The service was stopped before it could answer.", retry_after=1))
                return
            log.exception("the handler of %s %s was cancelled from inside", self.method, self.path)
        except PenstockError as error:
            self._fail(error)
            return
        except Exception:
            log.exception("the handler of %s %s failed", self.method, self.path)
        else:
            if self.owner is not None or self.done or self.lost:
                return
            log.error("the handler of %s %s left its response open", self.method, self.path)
        finally:
            self.task = None
            if self.owner is None:
                self.line.forget(self)
        self._fail(InternalError("Something went wrong on our side."))

    def _fail(self, error: PenstockError) -> None:
        if self.done or self.lost:
            return
        if self.started:
            self.abort()
        else:
            self.line.refuse(self, error)
