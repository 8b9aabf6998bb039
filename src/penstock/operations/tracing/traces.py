"""Traces: requests that have ended are chosen on their way and put into a bounded queue, which a thread empties to a collector.

Every error and every slow request is kept, of the others a share. What does not fit into the queue, and what the collector does
not take, is counted as lost; a request never waits for either.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from penstock.core.base_url import split_base_url
from penstock.domain.catalog.catalog import Catalog
from penstock.operations.tracing.records import Parent, RequestTraced, parent_of, trace_id_of
from penstock.operations.tracing.spans import SpanMade, VendorPlace, spans_of

log = logging.getLogger("penstock.operations.tracing")

_BATCH: Final = 256
"""Requests whose spans are sent together."""
_GATHER_SECONDS: Final = 0.2
"""How long the thread waits for further ones, once there is one."""
_LAST_SECONDS: Final = 2.0
"""How long a service that stops waits for what is queued."""

SpanExport = Callable[[Sequence[SpanMade]], bool]
"""Sends spans; whether the collector has taken them. Waits as long as that takes."""


class _Stamp(logging.Filter):
    def __init__(self, traces: "Traces", header_of: Callable[[str], bytes | None]) -> None:
        super().__init__()
        self._traces = traces
        self._header_of = header_of

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = getattr(record, "request_id", None)
        if isinstance(request_id, str):
            record.trace_id = self._traces.trace_id(request_id, self._header_of(request_id))
        return True


class Sampling(msgspec.Struct, frozen=True):
    """Which requests are kept. ``share`` is of those that are neither failed nor slow (seconds to the first content)."""

    share: float
    slow: float
    trust_callers: bool
    most: int
    names: Literal["current", "both"]


class Traces:
    """Takes requests that have ended, and sends their spans. One per process."""

    def __init__(
        self,
        sampling: Sampling,
        export: SpanExport,
        catalog: Callable[[], Catalog],
        draw: Callable[[], float],
    ) -> None:
        """``draw`` gives a random number from 0 to 1."""
        self._sampling = sampling
        self._export = export
        self._catalog = catalog
        self._draw = draw
        self._queue: deque[RequestTraced] = deque()
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._refused = False
        self.sent = 0
        """Requests whose spans the collector has taken."""
        self.lost = 0

    # ---- on the way of requests

    def parent(self, header: bytes | None) -> Parent | None:
        """The span that the caller says it is part of, where callers are trusted with that."""
        return parent_of(header) if self._sampling.trust_callers else None

    def keeps(self, *, failed: bool, seconds: float, parent: Parent | None) -> bool:
        """Whether this one is kept: every error, every slow one, what a trusted caller keeps, and a share of the others."""
        sampling = self._sampling
        if failed or seconds >= sampling.slow or (parent is not None and parent.sampled):
            return True
        return self._draw() < sampling.share

    def take(self, request: RequestTraced) -> None:
        """Queue one. Never waits, never raises."""
        if len(self._queue) >= self._sampling.most:
            self.lost += 1
            return
        self._queue.append(request)
        if not self._woken.is_set():
            self._woken.set()

    def counts(self) -> tuple[int, int]:
        """The requests whose spans the collector has taken, and those that were lost."""
        return self.sent, self.lost

    def trace_id(self, request_id: str, header: bytes | None) -> str:
        """The trace that a request is told in, for the log."""
        parent = self.parent(header)
        return f"{trace_id_of(request_id) if parent is None else parent.trace_id:032x}"

    @contextmanager
    def logged(self, header_of: Callable[[str], bytes | None]) -> Generator[None]:
        """Lines of the log about a request say its trace. ``header_of`` gives ``traceparent`` of one that runs."""
        stamp = _Stamp(self, header_of)
        handlers = logging.getLogger().handlers[:]
        for handler in handlers:
            handler.addFilter(stamp)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(stamp)

    # ---- beside it

    @contextmanager
    def running(self) -> Generator[None]:
        """Spans are sent from a thread, until the end; then what is queued is tried once more."""
        thread = threading.Thread(target=self._run, name="traces", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._woken.set()
            thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._woken.wait()
            self._ended.wait(_GATHER_SECONDS)
            self._woken.clear()
            while self._queue:
                taken = self._send()
                if self._ended.is_set() and not taken:
                    return

    def _send(self) -> bool:
        batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        older = self._sampling.names == "both"
        spans = [span for each in batch for span in spans_of(each, self._place, older_names=older)]
        taken = self._export(spans)
        if taken:
            self.sent += len(batch)
        else:
            self.lost += len(batch)
        if taken == self._refused:
            self._refused = not taken
            if self._refused:
                log.warning("the collector does not take traces")
            else:
                log.info("the collector takes traces again")
        return taken

    def _place(self, provider: str, dialect: str) -> VendorPlace | None:
        upstream = self._catalog().upstreams.get(provider)
        url = next((url for name, url in upstream.speaks if name == dialect), "") if upstream else ""
        if upstream is None or not url:
            return None
        parts = split_base_url(url)
        return VendorPlace(upstream.kind, parts.host, parts.port)
