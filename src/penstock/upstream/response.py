"""An upstream's answer from its head on: its body is handed over, held back, decoded and bounded."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from penstock.upstream.failures import UpstreamFailure, bad_answer, too_large
from penstock.upstream.inflate import Inflater
from penstock.upstream.response_head import Header, all_headers, values_of

Sink = Callable[[bytes], None]
Ended = Callable[[BaseException | None], None]
"""Told once how a body ended: None for its clean end."""
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

    def hurry(self, seconds: float) -> None:
        """The answer has so long to end."""
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
        "_ended",
        "_failure",
        "_head",
        "_held",
        "_inflater",
        "_lower",
        "_paused",
        "_pumping",
        "_sink",
        "_waited",
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
        self._ended: Ended | None = None
        self._waited: asyncio.Future[bytes] | asyncio.Future[None] | None = None
        """What somebody awaits; ``close`` cancels it."""
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
        """The whole body: ``gather`` for those who wait.

        Raises UpstreamFailure: TOO_LARGE above ``limit`` bytes (the connection is closed then), and as ``stream``; and what
        ``arrived`` raises.
        """
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def told(body: bytes | BaseException) -> None:
            if done.done():
                return
            if isinstance(body, bytes):
                done.set_result(body)
            else:
                done.set_exception(body)

        self._waited = done
        self.gather(limit, arrived, told)
        try:
            return await done
        finally:
            self.close()

    def gather(
        self,
        limit: int,
        arrived: Callable[[int], None] | None,
        told: Callable[[bytes | BaseException], None],
    ) -> None:
        """Tell the whole body, or what went wrong, once; in this call where it is all here.

        ``arrived`` is told how many more bytes of it are here; what it raises ends the reading. Above ``limit`` bytes the
        body is an ``UpstreamFailure`` (TOO_LARGE). The connection is closed whenever something went wrong.
        """
        if self._complete and self._inflater is None and self._sink is None and not self._closed:
            # nothing to wait for: the common case of a short answer
            self._closed = True
            body = self._next()
            if len(body) > limit:
                told(too_large("body", limit))
                return
            if arrived is not None:
                try:
                    arrived(len(body))
                except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the one who asked
                    told(error)
                    return
            told(body)
            return
        length = self.header(b"content-length")
        if length is not None and int(length) > limit:
            told(too_large("body", limit))
            self.close()
            return
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

        def ended(error: BaseException | None) -> None:
            if error is None:
                told(parts[0] if len(parts) == 1 else b"".join(parts))
            else:
                told(error)

        self.deliver(keep, ended)

    def stream(self, sink: Sink) -> asyncio.Future[None]:
        """``deliver`` for those who wait: the future is done at the clean end of the body, or fails with UpstreamFailure.

        If the sink raises, the future fails with that exception. Whoever awaits it calls ``close`` in a ``finally``: a
        cancelled future alone closes the socket only at the next byte or tick.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ended(error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self._check_untaken()
        self._waited = done
        self.deliver(sink, ended)
        return done

    def deliver(self, sink: Sink, ended: Ended) -> None:
        """Call ``sink`` with the body's bytes as they arrive: one call for each read of the socket. Then call ``ended``.

        What arrived together with the head is handed over at once, inside this call. ``ended`` gets an UpstreamFailure
        (CUT, IDLE_TIMEOUT, TOTAL_TIMEOUT, PROTOCOL) where the body is not complete. If the sink raises, the connection is
        closed, and ``ended`` gets that exception. After ``close`` neither is called.
        """
        self._check_untaken()
        self._ended = ended
        self._sink = sink
        self._pump()
        if self._connection is not None and not self._paused:
            self._connection.resume()

    def _check_untaken(self) -> None:
        if self._sink is not None or self._closed:
            raise RuntimeError("the body of a response can be taken once, and not after close")

    def offer(self, take: Offer) -> None:
        """While the body streams, offer reads to ``take`` before they are parsed; what it takes the sink does not get.

        It is asked for reads that begin with a chunk of a body that is not compressed, while nothing is paused. To be
        called once the body streams.
        """
        if self._inflater is None and self._connection is not None and self._sink is not None:
            self._connection.taker = take
            if self._waited is not None:
                self._waited.add_done_callback(self._untake)

    def _untake(self, _waited: object) -> None:
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

    def let_end(self, seconds: float) -> None:
        """Nothing more of the body is wanted, and nobody is told anything: it may end, so that its connection can be kept."""
        self._ended = None
        connection = self._connection
        if connection is None or self._inflater is not None:
            self.close()
            return
        self._sink = _ignore
        connection.taker = None
        self._chunks.clear()
        self._paused = False
        connection.hurry(seconds)
        connection.resume()

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
        self._ended = None
        if self._waited is not None and not self._waited.done():
            self._waited.cancel()

    # The side of the connection; not for callers of the client.

    def abandoned(self) -> bool:
        """Whether the one who waited for the body has gone without ``close``."""
        return self._waited is not None and self._waited.done()

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
        sink = self._sink
        if sink is None or self._paused or self._inflater is not None:
            self._hold(data)
            return
        if self.abandoned():
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
        sink = self._sink
        if sink is None:
            return
        if self._waited is not None and self._waited.cancelled():
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
        if self._failure is not None:
            self._tell(self._failure)
        elif self._complete and not self._chunks:
            self._tell(None)

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
        ended, self._ended = self._ended, None
        if ended is None:
            self.close()
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        self._waited = None
        self.close()
        ended(error)

    def _tell(self, error: BaseException | None) -> None:
        """Tell how the body ended, once."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(error)


def _ignore(_data: bytes) -> None:
    """The sink of a body of which nothing more is wanted."""
