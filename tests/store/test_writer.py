"""Group commit: what waits goes together and in order, a lone item at once, and nobody waits for a dead thread."""

import asyncio
import threading

import pytest

from penstock.store.writer import GroupWriter

BAD = -1


class Bench:
    """A writer whose batches are recorded; the work can be held up, or made to fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.reported: list[list[int]] = []
        self.ended = asyncio.Event()
        self.told = asyncio.Event()
        self.began = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.free = threading.Event()
        self.free.set()
        self.writer = GroupWriter(
            self.loop,
            work=self.work,
            report=self.report,
            ended=self.ended.set,
            name="bench",
        )

    def work(self, batch: list[int]) -> list[int]:
        assert threading.current_thread().name == "bench"
        self.batches.append(batch)
        self.loop.call_soon_threadsafe(self.began.set)
        self.free.wait()
        if BAD in batch:
            raise ZeroDivisionError
        self.writer.retry_in = None
        return batch

    def report(self, batch: list[int]) -> None:
        self.reported.append(batch)
        self.told.set()

    async def end(self) -> list[int]:
        self.writer.stop()
        await self.ended.wait()
        return self.writer.take()


async def test_a_lone_item_is_taken_and_told_without_company() -> None:
    bench = Bench()
    bench.writer.put(1)
    await bench.told.wait()
    assert bench.reported == [[1]]
    assert await bench.end() == []


async def test_what_comes_during_a_batch_is_the_next_batch() -> None:
    bench = Bench()
    bench.free.clear()
    bench.writer.put(0)
    await bench.began.wait()
    for number in range(1, 200):
        (bench.writer.put if number % 2 else bench.writer.put_later)(number)
    bench.free.set()
    assert await bench.end() == []
    assert bench.batches == [[0], list(range(1, 200))]
    assert bench.reported == bench.batches


async def test_an_item_that_nobody_waits_for_is_taken_soon_by_itself() -> None:
    bench = Bench()
    bench.writer.put_later(1)
    await bench.told.wait()
    assert bench.reported == [[1]]
    assert await bench.end() == []


async def test_an_item_that_nobody_waits_for_goes_with_the_next_one() -> None:
    bench = Bench()
    bench.writer.put_later(1)
    bench.writer.put(2)
    await bench.told.wait()
    assert bench.reported == [[1, 2]]
    assert await bench.end() == []


async def test_what_was_put_before_the_end_is_written_before_it() -> None:
    bench = Bench()
    for number in range(50):
        bench.writer.put_later(number)
    assert await bench.end() == []
    assert [number for batch in bench.reported for number in batch] == list(range(50))


async def test_work_that_asked_for_it_is_called_again_with_nothing() -> None:
    bench = Bench()
    bench.writer.retry_in = 0.001
    bench.writer.put(1)
    await bench.told.wait()
    bench.told.clear()
    bench.writer.retry_in = 0.001
    bench.writer.put(2)  # wakes the thread from its long wait; the short one is what follows
    await bench.told.wait()
    assert await bench.end() == []
    assert [batch for batch in bench.batches if batch] == [[1], [2]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_in_the_work_ends_the_thread_and_is_told() -> None:
    bench = Bench()
    bench.writer.put(BAD)
    await bench.ended.wait()
    bench.writer.put(14)
    assert bench.writer.take() == [14], "what nobody will write is handed back"
    assert bench.reported == []
