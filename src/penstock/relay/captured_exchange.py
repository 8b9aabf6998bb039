"""A captured exchange: the caller's own exchange, with a copy of what is answered; only of requests that an owner has captured.

Nothing else knows of it: requests of whom nothing is captured have their exchange as it is.
"""

from collections.abc import Callable

from penstock.domain.captures.kept import CaptureContent, CapturedRequest
from penstock.exchange import Exchange, FlowWatcher, HeaderList, Owner
from penstock.operations.captures import Captures
from penstock.relay.standing import Caller

Answered = Callable[[int, bytes, bool], None]
"""Told at the end: the status (0: there was no answer), what was answered, and whether there was more than is kept."""


class CapturedExchange:
    """Everything goes to the exchange; of what is written ``most`` bytes are kept."""

    __slots__ = (
        "_answered",
        "_cut",
        "_exchange",
        "_kept",
        "_left",
        "_status",
        "client",
        "headers",
        "length",
        "method",
        "path",
        "query",
        "shared_headers",
    )

    def __init__(self, exchange: Exchange, most: int, answered: Answered) -> None:
        self.method = exchange.method
        self.path = exchange.path
        self.query = exchange.query
        self.headers = exchange.headers
        self.shared_headers = exchange.shared_headers
        self.length = exchange.length
        self.client = exchange.client
        self._exchange = exchange
        self._answered: Answered | None = answered
        self._left = most
        self._kept: list[bytes] = []
        self._cut = False
        self._status = 0

    # ---- what the caller has sent, and how it stands

    @property
    def lost(self) -> bool:
        """As the exchange has it; so are the others."""
        return self._exchange.lost

    @property
    def recalled(self) -> bool:
        """Likewise."""
        return self._exchange.recalled

    @property
    def started(self) -> bool:
        """Likewise."""
        return self._exchange.started

    @property
    def stalled(self) -> bool:
        """Likewise."""
        return self._exchange.stalled

    def header(self, name: bytes) -> bytes | None:
        """Likewise."""
        return self._exchange.header(name)

    def whole_body(self) -> bytes | None:
        """Likewise."""
        return self._exchange.whole_body()

    async def body(self, arrived: Callable[[int], None] | None = None) -> bytes:
        """Likewise."""
        return await self._exchange.body(arrived)

    def own(self, owner: Owner) -> None:
        """Likewise."""
        self._exchange.own(owner)

    def watch(self, watcher: FlowWatcher | None) -> None:
        """Likewise."""
        self._exchange.watch(watcher)

    # ---- the answer

    def start(self, status: int, headers: HeaderList) -> None:
        """Begin the response."""
        self._status = status
        self._exchange.start(status, headers)

    def start_ready(self, head: bytes) -> None:
        """Begin it with a head that is ready, which is a good answer's."""
        self._status = 200
        self._exchange.start_ready(head)

    def write(self, data: bytes) -> None:
        """Send body bytes."""
        self._keep(data)
        self._exchange.write(data)

    def flush(self) -> None:
        """Send the head alone."""
        self._exchange.flush()

    def end(self, data: bytes = b"") -> None:
        """Send the last body bytes."""
        self._keep(data)
        self._exchange.end(data)

    def abort(self) -> None:
        """Close the connection."""
        self._exchange.abort()

    def release(self) -> None:
        """All is done: what was kept is told."""
        answered, self._answered = self._answered, None
        self._exchange.release()
        if answered is not None:
            answered(self._status, b"".join(self._kept), self._cut)

    def _keep(self, data: bytes) -> None:
        part = data[: self._left]
        self._cut = self._cut or len(part) < len(data)
        if part:
            self._left -= len(part)
            self._kept.append(bytes(part))


def captured_exchange(
    exchange: Exchange, captures: Captures | None, caller: Caller, request_id: str, now: float, asked: bytes
) -> Exchange:
    """The exchange of a request of a caller whose requests are captured. ``now`` is epoch seconds, ``asked`` its body."""
    order, at = caller.captured, int(now * 1000)
    if captures is None or order is None or not order.runs(at):
        return exchange
    most, account_id, key_id = captures.most // 2, order.account_id, caller.principal.key_id
    kept, cut = asked[:most], len(asked) > most

    def answered(status: int, answer: bytes, more: bool) -> None:
        content = CaptureContent(kept, answer, cut or more)
        captures.take(CapturedRequest(request_id, order.id, account_id, key_id, at, status, content))

    return CapturedExchange(exchange, captures.most - most, answered)
