"""Group commit: one thread that takes everything that waits as one batch, and reports once per batch.

The event loop never waits for the disk, and a batch costs one transaction however many requests are in it. A lone
request is taken at once; under load the thread leaves ``PACE_SECONDS`` between two commits, so that batches are worth
their fixed cost.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Report = TypeVar("Report")

PACE_SECONDS = 0.003
BUSY_BATCH = 4
"""From this many items on, a batch means that there is load."""

LATER_SECONDS = 0.003
"""How long an item that nobody waits for may wait for company."""


class GroupWriter(Generic[Item, Report]):
    """Hands batches to ``work`` in a thread of its own, and each answer of it to ``report`` on the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        work: Callable[[list[Item]], Report],
        report: Callable[[Report], None],
        ended: Callable[[], None],
        name: str,
    ) -> None:
        """``work`` also gets empty batches, when ``retry_in`` asked for them; ``ended`` is called last, on the loop."""
        self._loop = loop
        self._work = work
        self._report = report
        self._ended = ended
        self._waiting: list[Item] = []
        self._wake = threading.Semaphore(0)
        self._woken = False
        self._stopping = False
        self._later: asyncio.TimerHandle | None = None
        self.retry_in: float | None = None
        """Set by ``work``: seconds until it wants to be called even if nothing waits."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue an item that somebody waits for. On the loop only."""
        self._waiting.append(item)
        if not self._woken:
            self._woken = True
            self._wake.release()

    def put_later(self, item: Item) -> None:
        """Queue an item that nobody waits for: it goes with the next one, or soon. On the loop only."""
        self._waiting.append(item)
        if not self._woken and self._later is None:
            self._later = self._loop.call_later(LATER_SECONDS, self._nudge)

    def stop(self) -> None:
        """Let the thread finish what waits and end; ``ended`` is called then."""
        if self._later is not None:
            self._later.cancel()
        self._stopping = True
        self._wake.release()

    def take(self) -> list[Item]:
        """What was put too late for the last batch; after ``ended`` was called."""
        self._thread.join()
        late, self._waiting = self._waiting, []
        return late

    def _nudge(self) -> None:
        self._later = None
        if self._waiting and not self._woken:
            self._woken = True
            self._wake.release()

    def _run(self) -> None:
        busy_until = 0.0
        try:
            while True:
                self._wake.acquire(timeout=self.retry_in)
                if (pace := busy_until - time.monotonic()) > 0 and not self._stopping:
                    time.sleep(pace)
                stopping = self._stopping
                # In this order: an item put between the two lines wakes the thread once for nothing, and is not left.
                self._woken = False
                batch, self._waiting = self._waiting, []
                if batch or self.retry_in is not None:
                    self._call(self._report, self._work(batch))
                if len(batch) >= BUSY_BATCH:
                    busy_until = time.monotonic() + PACE_SECONDS
                if stopping and not self._waiting:
                    return
        finally:
            # Also when ``work`` raised, which is a bug: those who wait must not wait for ever.
            self._call(self._ended)

    def _call(self, callback: Callable[..., None], *arguments: Report) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            self._stopping = True  # the loop was closed under us: nobody is left to tell
