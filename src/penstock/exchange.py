"""One HTTP exchange, the small interface between a server and a handler: a request in, a response out, and a caller who leaves.

The data plane is written against this alone, so the server beneath can change without it. All of it happens on one event
loop; nothing here is thread-safe.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

HeaderList = list[tuple[bytes, bytes]]
NOSNIFF = (b"x-content-type-options", b"nosniff")
"""On every answer: a browser takes its type as it is told, and never guesses one that could run."""


class SharedHeaders:
    """The headers of a request without their ``content-length``: one object for all requests of a connection that share them.

    ``read`` is the handler's, to keep what it has made of them.
    """

    __slots__ = ("read",)

    def __init__(self) -> None:
        self.read: object = None


class FlowWatcher(Protocol):
    """Told when the caller reads too slowly, and when it has caught up; both are plain calls from the event loop."""

    def caller_stalled(self) -> None:
        """The bytes written but not yet taken by the caller passed the high-water mark."""
        ...

    def caller_resumed(self) -> None:
        """They fell below the low-water mark."""
        ...


class Owner(Protocol):
    """Who answers an exchange by plain calls, after its handler has returned. Told at most once by each."""

    def caller_left(self) -> None:
        """The caller's connection was lost before ``end`` was called."""
        ...

    def recalled(self) -> None:
        """The server can wait no longer: now is the moment to tell the caller why, and to end."""
        ...


class Exchange(Protocol):
    """One HTTP/1.1 request and its response.

    When the caller's connection is lost before ``end`` was called, ``lost`` becomes True, and the owner is told; where
    there is none, the handler's task is cancelled, wherever it waits. Writes after a loss are ignored.
    """

    method: str
    path: str
    """Percent-encoded, as received, without the query string."""
    query: bytes
    """What came after the path's ``?``, as received."""
    headers: HeaderList
    """Names in lower case, in the order received. Not to be changed: the next request of the connection may share it."""
    shared_headers: SharedHeaders
    length: int
    """Bytes of body that the caller announced; negative when it did not say."""
    client: str
    """The caller's address; behind a trusted proxy the address the proxy names."""

    @property
    def lost(self) -> bool: ...

    @property
    def recalled(self) -> bool:
        """True once the server can wait no longer: the owner is told or the task cancelled, and may still tell the caller."""
        ...

    @property
    def started(self) -> bool:
        """True once ``start`` was called: from then on an HTTP status can no longer be chosen."""
        ...

    @property
    def stalled(self) -> bool:
        """True while the caller is slower than we write: the watcher has been told ``caller_stalled``."""
        ...

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header of this (lower-case) name, or None."""
        ...

    def own(self, owner: Owner) -> None:
        """Take the exchange over from its handler, which returns now: ``owner`` answers it, and calls ``release`` then."""
        ...

    def release(self) -> None:
        """What its owner had to do for it is done, whether or not there is still a caller."""
        ...

    def whole_body(self) -> bytes | None:
        """The body where it is all here, taken instead of with ``body``; None where that waits, or says what is wrong."""
        ...

    async def body(self, arrived: Callable[[int], None] | None = None) -> bytes:
        """The whole request body, decoded where it came compressed.

        ``arrived`` is told how many bytes of it are here, whenever there are more; what it raises ends the reading.
        Raises ``RequestTooLarge``, ``ReceiptTimeout``, ``EncodedBody`` or ``InvalidRequest`` (broken framing or coding). May be
        called once.
        """
        ...

    def start(self, status: int, headers: HeaderList) -> None:
        """Begin the response; the head is sent with the first bytes that follow, in one write.

        Without a ``content-length`` header the server tells the length of a body that comes whole with ``end``; any other
        is chunked. ``date`` and ``connection`` are the server's own to add.
        """
        ...

    def start_ready(self, head: bytes) -> None:
        """The same with the status line and headers as they go out, each with its line end: checked before, and no length."""
        ...

    def write(self, data: bytes) -> None:
        """Send body bytes now. Never blocks; watch ``stalled`` to keep memory bounded."""
        ...

    def flush(self) -> None:
        """Send the head alone, when no body bytes are there yet."""
        ...

    def end(self, data: bytes = b"") -> None:
        """Send the last body bytes and finish the response cleanly."""
        ...

    def abort(self) -> None:
        """Close the connection without a clean end, so that the caller sees the body as cut."""
        ...

    def watch(self, watcher: FlowWatcher | None) -> None:
        """Set the watcher of stalls, from now on."""
        ...


Handler = Callable[[Exchange], Coroutine[Any, Any, None] | None]
"""What a server calls, plainly, once per request.

It has called ``end`` or ``abort`` when it returns, or ``own``; or it gives a coroutine that has when it returns, which the
server runs in a task.
"""
