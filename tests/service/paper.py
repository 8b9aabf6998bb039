"""An exchange on paper: what is written to it is kept, in the order of time."""

from collections.abc import Callable

from penstock.exchange import HeaderList, SharedHeaders


class Paper:
    """An exchange that notes what is written."""

    method = "POST"
    path = "/v1/chat/completions"
    query = b""
    headers: HeaderList = []  # noqa: RUF012 - never added to
    shared_headers = SharedHeaders()
    length = 0
    client = "192.0.2.1"
    lost = recalled = started = stalled = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended = 0

    def header(self, name: bytes) -> bytes | None:
        return None

    async def body(self, arrived: Callable[[int], None] | None = None) -> bytes:
        return b""

    def start(self, status: int, headers: HeaderList) -> None:
        self.started = True

    def write(self, data: bytes) -> None:
        assert data
        assert self.started
        assert not self.ended
        self.written.append(data)

    def flush(self) -> None:
        pass

    def end(self, data: bytes = b"") -> None:
        if data:
            self.written.append(data)
        self.ended += 1

    def abort(self) -> None:
        pass

    def watch(self, watcher: object) -> None:
        pass
