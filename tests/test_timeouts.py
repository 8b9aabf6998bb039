"""Whoever is waited for gets all of the time that was said, whatever our own machine does meanwhile."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from penstock.timeouts import BEATS, answered, within

SECONDS = 0.2


async def turns(number: int) -> str:
    """What needs so many turns of the loop."""
    for _ in range(number):
        await asyncio.sleep(0)
    return "done"


def stuck(seconds: float) -> Callable[[], object]:
    """What holds the loop up for longer than anybody is waited for."""
    return lambda: threading.Event().wait(seconds)


async def test_an_answer_that_a_stuck_loop_could_not_take_is_waited_for() -> None:
    work = asyncio.ensure_future(turns(BEATS // 2))
    asyncio.get_running_loop().call_soon(stuck(2 * SECONDS))
    assert await answered(work, SECONDS)


async def test_a_block_that_a_stuck_loop_could_not_go_on_with_ends_by_itself() -> None:
    asyncio.get_running_loop().call_soon(stuck(2 * SECONDS))
    async with within(SECONDS):
        assert await turns(BEATS // 2) == "done"


async def test_a_loop_that_is_stuck_again_and_again_still_gets_so_many_turns() -> None:
    loop = asyncio.get_running_loop()
    busy = True

    def again() -> None:
        if busy:
            threading.Event().wait(SECONDS / 4)
            loop.call_soon(again)

    loop.call_soon(again)
    try:
        async with within(SECONDS):
            await turns(BEATS // 2)
    finally:
        busy = False


async def test_silence_is_told_and_ends_nothing() -> None:
    silent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert not await answered(silent, SECONDS / 10)
    assert not silent.done()
    silent.set_result(None)
    assert await answered(silent, SECONDS / 10)


async def test_a_block_in_which_nothing_comes_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        async with within(SECONDS / 10):
            await asyncio.get_running_loop().create_future()


async def test_an_error_in_the_block_is_its_own() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with within(SECONDS / 10):
            raise ValueError("mine")


async def test_who_leaves_a_block_is_not_called_back() -> None:
    async with within(SECONDS / 10):
        pass
    await asyncio.wait((asyncio.get_running_loop().create_future(),), timeout=SECONDS / 5)
