"""Timeouts that count how long a peer is silent, in time in which we could have heard it.

While our machine is busy, asleep or out of its share of the processor, our loop does not turn and our threads do not run: an
answer that has come waits unread, and a plain clock would blame whoever gave it. So a wait is made of short beats, each of
which counts for its own length however late it came, and in each of them the loop has turned.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

BEATS = 20
"""How many beats a wait is made of."""


async def answered(work: asyncio.Future[Any], seconds: float) -> bool:
    """Wait until ``work`` is done; False when it was silent for ``seconds``. It is not cancelled."""
    for _ in range(BEATS):
        if (await asyncio.wait((work,), timeout=seconds / BEATS))[0]:
            return True
    return False


@asynccontextmanager
async def within(seconds: float) -> AsyncGenerator[None]:
    """``asyncio.timeout`` for the silence of others. Raises ``TimeoutError``."""
    loop = asyncio.get_running_loop()
    left = BEATS
    async with asyncio.timeout(None) as scope:

        def beat() -> None:
            nonlocal left, timer
            left -= 1
            if left > 0:
                timer = loop.call_later(seconds / BEATS, beat)
            else:
                scope.reschedule(loop.time())

        timer = loop.call_later(seconds / BEATS, beat)
        try:
            yield
        finally:
            timer.cancel()


async def to_its_end(work: Coroutine[Any, Any, None], seconds: float = 5.0) -> None:
    """Await ``work``; where we are cancelled meanwhile, it still has so long to end. Raises what it raises.

    For what is in the middle of a transaction: a connection to SQLite that is dropped there keeps the database locked for
    everybody until the collector has found what still refers to it.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait((task,), timeout=seconds)
            task.cancel()
        raise
