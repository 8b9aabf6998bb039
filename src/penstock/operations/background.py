"""Background work of a process: rounds that run beside the requests, and end with whoever began them."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def running_beside(*rounds: Coroutine[object, object, object]) -> AsyncGenerator[None]:
    """Each of these runs until the end; what it does when it is stopped is waited for."""
    tasks = [asyncio.create_task(each) for each in rounds]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def all_of(*works: Coroutine[object, object, T]) -> list[T]:
    """Do these at the same time, each to its end: one that fails stops none of the others. Then raises the first failure."""
    ended = await asyncio.gather(*works, return_exceptions=True)
    done: list[T] = []
    for each in ended:
        if isinstance(each, BaseException):
            raise each
        done.append(each)
    return done
