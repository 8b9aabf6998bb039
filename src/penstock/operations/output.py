"""Standard output and error: written in threads, since whoever reads them may stop to, and a full pipe holds up who writes.

A terminal that is paused, a log collector that hangs, a supervisor that never reads: none of them may hold the event loop.
The bytes go to the descriptor itself. Python's own streams have locks, and an interpreter that ends while a thread waits
inside of one is aborted.
"""

import asyncio
import os
import select
import threading

from penstock.timeouts import within

STDOUT, STDERR = 1, 2
"""The descriptors."""


class NobodyReads(Exception):
    """What was written before has not been taken yet."""


def write_whole(descriptor: int, text: str) -> None:
    """Write a text as UTF-8, for as long as that takes. Raises ``OSError``: nobody can read it any more."""
    left = memoryview(text.encode(errors="backslashreplace"))
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # a terminal may be shared with a program that has made it so
            select.select((), (descriptor,), ())


class Printer:
    """Prints texts one after the other, each in a thread that the end of the process does not wait for."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        """``seconds`` is how long one text may take before its sender is told that nobody reads."""
        self._descriptor = descriptor
        self._seconds = seconds
        self._last: threading.Thread | None = None

    async def send(self, text: str) -> None:
        """Print it. Raises ``NobodyReads``, and ``OSError`` where nobody ever will."""
        if self._last is not None and self._last.is_alive():
            raise NobodyReads
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[OSError | None] = loop.create_future()

        def tell(failure: OSError | None) -> None:
            if not ended.done():
                ended.set_result(failure)

        def write() -> None:
            failure = None
            try:
                write_whole(self._descriptor, text)
            except OSError as error:
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, failure)

        self._last = threading.Thread(target=write, name="penstock-print", daemon=True)
        self._last.start()
        try:
            async with within(self._seconds):
                failure = await ended
        except TimeoutError:
            raise NobodyReads from None
        if failure is not None:
            raise failure
