"""An upstream's answer from its head on: its body is handed over, held back, decoded and bounded."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from penstock.upstream.failures import UpstreamFailure, bad_answer, too_large
from penstock.upstream.inflate import Inflater
from penstock.upstream.response_head import Header, all_headers, values_of

Sink = Callable[[bytes], None]
Offer = Callable[[bytes], int]
"""Takes a read that begins with a chunk; says how many of its bytes, whole chunks, have been taken."""

_HOLD = 64 * 1024
"""Bytes of a body that are kept before anyone asks for them; then reading pauses."""
_DECODED_AT_ONCE = 256 * 1024
"""Bytes of a compressed body that are decoded in one turn of the loop; a whole answer of 64 MiB may come in few reads."""
_OF_CODED_BODIES = frozenset((b"content-encoding", b"content-length"))


class ResponseTransport(Protocol):
    """What an answer asks of the connection it comes over."""

    taker: Offer | None
    """Is offered reads that begin with a chunk."""

    def pause(self) -> None:
        """Stop reading."""
        ...

    def suspend(self) -> None:
        """Stop reading, and stop the clock."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def drop(self) -> None:
        """Close the socket at once and tell nobody."""
        ...


class UpstreamResponse:
    """An answer whose head has arrived. Take its body with ``read`` or ``stream``, once, and ``close`` it in any case."""

    __slots__ = (
        "_chunks",
        "_closed",
        "_complete",
        "_connection",
        "_done",
        "_failure",
        "_head",
        "_held",
        "_inflater",
        "_lower",
        "_paused",
        "_pumping",
        "_sink",
        "first_byte_at",
        "reused",
        "sent_at",
        "status",
    )

    def __init__(self, connection: ResponseTransport, sent_at: float, *, reused: bool) -> None:
        self.sent_at = sent_at
        """Loop time at which the request was written."""
        self.first_byte_at = 0.0
        """Loop time of the first byte of the answer (1xx included)."""
        self.reused = reused
        """Whether the connection had served another request before."""
        self._connection: ResponseTransport | None = connection
        self._sink: Sink | None = None
        self._done: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._held = 0
        self._inflater: Inflater | None = None
        self._failure: BaseException | None = None
        self._paused = False
        self._pumping = False
        self._closed = False
        self._complete = False

    @property
    def headers(self) -> list[Header]:
        """Names in lower case, in the order received.

        A body that has to be decompressed loses its ``content-encoding`` and ``content-length``. Each look makes the list
        anew; ``header`` is cheaper.
        """
        headers = all_headers(self._head)
        if self._inflater is None:
            return headers
        return [header for header in headers if header[0] not in _OF_CODED_BODIES]

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header of this (lower-case) name, or None."""
        values = values_of(name, self._head, self._lower)
        if not values or (self._inflater is not None and name in _OF_CODED_BODIES):
            return None
        return values[0]

    async def read(self, limit: int, arrived: Callable[[int], None] | None = None) -> bytes:
        """The whole body. ``arrived`` is told how many more bytes of it are here; what it raises ends the reading.

        Raises UpstreamFailure: TOO_LARGE above ``limit`` bytes (the connection is closed then), and as ``stream``.
        """
        if self._complete and self._inflater is None and self._done is None and not self._closed:
            # nothing to wait for: the common case of a short answer
            self._closed = True
            body = self._next()
            if len(body) > limit:
                raise too_large("body", limit)
            if arrived is not None:
                arrived(len(body))
            return body
        length = self.header(b"content-length")
        if length is not None and int(length) > limit:
            self.close()
            raise too_large("body", limit)
        parts: list[bytes] = []
        room = limit

        def keep(data: bytes) -> None:
            nonlocal room
            room -= len(data)
            if room < 0:
                raise too_large("body", limit)
            if arrived is not None:
                arrived(len(data))
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

    def offer(self, take: Offer) -> None:
        """While the body streams, offer reads to ``take`` before they are parsed; what it takes the sink does not get.

        It is asked for reads that begin with a chunk of a body that is not compressed, while nothing is paused. To be
        called once the body streams.
        """
        if self._inflater is None and self._connection is not None and self._done is not None:
            self._connection.taker = take
            self._done.add_done_callback(self._untake)

    def _untake(self, _: asyncio.Future[None]) -> None:
        if self._connection is not None:
            self._connection.taker = None

    def pause(self) -> None:
        """Stop reading until ``resume``; TCP then holds the upstream back. The deadlines are suspended."""
        self._paused = True
        if self._connection is not None:
            self._connection.suspend()

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
        return b"\r\ncontent-length:" not in self._lower and b"\r\ntransfer-encoding:" not in self._lower

    def begin(self, status: int, head: bytes) -> str:
        """Take the head, from the status line to before the empty line; what is wrong with it, or ``""``."""
        self.status = status
        self._head = head
        self._lower = lower = head.lower()
        # `find`, because `in` tries whether the needle is a number first
        if lower.find(b"-encoding:") < 0:
            return ""
        if any(value.lower() != b"chunked" for value in values_of(b"transfer-encoding", head, lower)):
            return "transfer-encoding other than chunked"
        codings = values_of(b"content-encoding", head, lower)
        coding = codings[-1].lower() if codings else b""
        if coding in (b"", b"identity"):
            return ""
        if coding not in (b"gzip", b"x-gzip", b"deflate"):
            return "content-encoding other than identity, gzip and deflate"
        self._inflater = Inflater(gzip=coding != b"deflate")
        return ""

    def fail_by(self, error: Exception) -> None:
        """What takes the body has raised this."""
        self._break(error)

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
        """Hand over what is held, unless nobody has asked for it or the reader has paused; then see whether it is the end.

        What is compressed may be far more than it seems, so after a while the others have their turn.
        """
        sink, done = self._sink, self._done
        if sink is None or done is None:
            return
        if done.cancelled():
            self.close()
            return
        left = _DECODED_AT_ONCE
        try:
            while not self._paused and left > 0:
                data = self._next()
                if not data:
                    break
                sink(data)
                if self._inflater is not None:
                    left -= len(data)
            inflater = self._inflater
            busy = inflater is not None and inflater.busy()
            if busy and not self._paused:
                self._pump_soon()
                return
            if not self._paused:
                self._held = 0
            if self._complete and inflater is not None and not inflater.whole():
                if busy:
                    return
                raise bad_answer("the compressed body ends early")
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who awaits the future
            self._break(error)
            return
        if done.done():
            return
        if self._failure is not None:
            done.set_exception(self._failure)
        elif self._complete and not self._chunks:
            done.set_result(None)

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _pump_on(self) -> None:
        self._pumping = False
        if self._closed:
            return
        self._pump()
        if self._connection is not None and not self._paused and not self._held:
            self._connection.resume()

    def _break(self, error: Exception) -> None:
        """Give up for a reason on our side of the wire."""
        done = self._done
        if done is not None and not done.done():
            done.set_exception(error)
        self.close()
