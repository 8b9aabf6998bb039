"""Offload: work on large bodies runs in a thread beside the event loop, so that the streams of others go on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Offload:
    """One thread: more would only take the interpreter from each other, and all of them from the loop."""

    def __init__(self, above: int) -> None:
        """``above``: the size in bytes from which a body is large."""
        self.above = above
        self._thread = ThreadPoolExecutor(1, "aside")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns or raises. A caller that is cancelled does not wait for its end."""
        return await asyncio.wrap_future(self._thread.submit(work, *args, **kwargs))

    async def close(self) -> None:
        """Let the thread end what it is at; what waits for it is cancelled."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
