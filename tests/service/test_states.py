"""Every state of a call against everything that ends one from outside: nothing is left of it, and its row says what it was.

Each state is held by what the call waits for: its turn, the thread, the disk, a connection, or the provider.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.ledger.ledger import Ledger
from penstock.domain.limits import Gate
from penstock.relay import relayed_call as relaying
from penstock.relay.relayed_call import RelayedCall
from penstock.upstream.pool import Pool
from tests.service.conversations import DIALECTS, FRAMES, REPLIES, Caller
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE, Asked
from tests.service.test_hostile_providers import nothing_left, relay_of

LARGE = "x" * 300_000


class Scene:
    """A house in which one call waits where the test wants it."""

    def __init__(self, house: House, user: User, dialect: str, patch: pytest.MonkeyPatch) -> None:
        self.house = house
        self.user = user
        self.dialect = dialect
        self.patch = patch
        self.waits = asyncio.Event()
        self.go = asyncio.Event()
        self.fault: Exception | None = None
        """Raised where the call waits, once it goes on."""
        self.others: list[tuple[Caller, Asked]] = []
        self.threads: list[threading.Event] = []

    @property
    def model(self) -> str:
        return f"wire-{self.dialect}"

    async def begin(self, *, stream: bool, large: bool = False, model: str = "") -> Caller:
        fields: dict[str, Any] = {"stream": stream}
        if large:
            fields["messages"] = [{"role": "user", "content": LARGE}]
        return await self.house.begin(self.dialect, model or self.model, self.user, **fields)

    async def next(self) -> Asked:
        return await self.house.wires[self.model].next()

    def hold(self, owner: Any, name: str) -> None:
        """Whoever awaits this waits for the test."""
        plain = getattr(owner, name)

        async def held(*args: Any, **kwargs: Any) -> Any:
            self.waits.set()
            await self.go.wait()
            if self.fault is not None:
                raise self.fault
            return await plain(*args, **kwargs)

        self.patch.setattr(owner, name, held)

    def hold_thread(self, times: int) -> None:
        """The preparation of a large body waits in its thread, the last of so many."""
        plain, loop, go, left = relaying.prepared_for, asyncio.get_running_loop(), threading.Event(), [times]
        self.threads.append(go)

        def held(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                loop.call_soon_threadsafe(self.waits.set)
                assert go.wait(PATIENCE)
                if self.fault is not None:
                    raise self.fault
            return plain(*args, **kwargs)

        self.patch.setattr(relaying, "prepared_for", held)

    def release(self) -> None:
        """What was held goes on."""
        self.go.set()
        for thread in self.threads:
            thread.set()


# ---- the states, each as how a call comes to it


async def queued(scene: Scene, stream: bool) -> Caller:
    first = await scene.begin(stream=False)
    scene.others.append((first, await scene.next()))
    scene.hold(Gate, "enter")
    return await scene.begin(stream=stream)


async def really_queued(scene: Scene, stream: bool) -> Caller:
    first = await scene.begin(stream=False)
    scene.others.append((first, await scene.next()))
    caller = await scene.begin(stream=stream)
    gate = relay_of(scene.house).gate
    async with asyncio.timeout(PATIENCE):
        while scene.user.id not in gate._waiting:  # noqa: ASYNC110 - a place in a queue is no event
            await asyncio.sleep(0)
    scene.waits.set()
    return caller


async def preparing(scene: Scene, stream: bool) -> Caller:
    scene.hold_thread(1)
    return await scene.begin(stream=stream, large=True)


async def recording(scene: Scene, stream: bool) -> Caller:
    relay_of(scene.house).ledger.durable = True
    scene.hold(Ledger, "synced")
    return await scene.begin(stream=stream)


async def connecting(scene: Scene, stream: bool) -> Caller:
    scene.hold(Pool, "connect")
    return await scene.begin(stream=stream)


async def preparing_again(scene: Scene, stream: bool) -> Caller:
    scene.hold_thread(2)
    scene.house.wires[scene.model].script = lambda asked: asked.answer(b"{}", 500)
    return await scene.begin(stream=stream, large=True, model=f"pair-{scene.dialect}")


async def connecting_again(scene: Scene, stream: bool) -> Caller:
    """To another provider, after the first has failed."""
    caller = await scene.begin(stream=stream, model=f"pair-{scene.dialect}")
    asked = await scene.next()
    scene.hold(Pool, "connect")
    asked.answer(b"{}", 500)
    return caller


async def sent(scene: Scene, stream: bool) -> Caller:
    caller = await scene.begin(stream=stream)
    await scene.next()
    scene.waits.set()
    return caller


async def in_the_head(scene: Scene, stream: bool) -> Caller:
    caller = await scene.begin(stream=stream)
    (await scene.next()).write(b"HTTP/1.1 200 OK\r\nconte")
    scene.waits.set()
    return caller


async def answering(scene: Scene, stream: bool) -> Caller:
    """The provider's head is here, and nothing that could be told."""
    caller = await scene.begin(stream=stream)
    asked = await scene.next()
    asked.begin() if stream else asked.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{")
    await _is(scene, relaying.AWAITING_CONTENT)
    return caller


async def refused(scene: Scene, stream: bool) -> Caller:
    """An error of the provider is read."""
    caller = await scene.begin(stream=stream)
    (await scene.next()).write(b"HTTP/1.1 400 X\r\ncontent-length: 999\r\n\r\n{")
    await _is(scene, relaying.AWAITING_CONTENT)
    return caller


async def flowing(scene: Scene, stream: bool) -> Caller:
    assert stream
    caller = await scene.begin(stream=True)
    (await scene.next()).begin(*FRAMES[scene.dialect][:4])
    await caller.head()
    await caller.until(b"Hi ")
    scene.waits.set()
    return caller


async def _is(scene: Scene, state: relaying.State) -> None:
    async with asyncio.timeout(PATIENCE):
        while all(call._state is not state for call in _calls(scene)):  # noqa: ASYNC110
            await asyncio.sleep(0)
    scene.waits.set()


def _calls(scene: Scene) -> list[RelayedCall]:
    return list(relay_of(scene.house).calls.values())


UNCOUNTED = (queued, really_queued, preparing)
HELD = (queued, preparing, recording, connecting, preparing_again, connecting_again)
STATES: tuple[Callable[[Scene, bool], Awaitable[Caller]], ...] = (
    queued, really_queued, preparing, recording, connecting, preparing_again, connecting_again, sent, in_the_head,
    answering, refused, flowing,
)  # fmt: skip
CASES = [(state, stream) for state in STATES for stream in (False, True) if stream or state is not flowing]
each = pytest.mark.parametrize(
    ("state", "stream"), CASES, ids=[f"{state.__name__}-{'streamed' if s else 'whole'}" for state, s in CASES]
)
both = pytest.mark.parametrize("dialect", DIALECTS)


@asynccontextmanager
async def scene_in(folder: Path, state: Any, stream: bool) -> AsyncGenerator[tuple[Scene, Caller]]:
    with pytest.MonkeyPatch.context() as patch:
        async with open_house(folder / "data") as house:
            user = await house.user("patient" if state in {queued, really_queued} else "one")
            scene = Scene(house, user, "messages" if stream else "chat", patch)
            try:
                caller = await state(scene, stream)
                async with asyncio.timeout(PATIENCE):
                    await scene.waits.wait()
                yield scene, caller
            finally:
                scene.release()


async def settled(scene: Scene, state: Any, outcome: str, *, counted: bool, reason: str | None) -> None:
    """The books have the call once, or not where it was never counted; nothing of it is left, and the next one is served."""
    house, user = scene.house, scene.user
    scene.release()
    scene.patch.undo()
    relay_of(house).ledger.durable = False
    async with asyncio.timeout(PATIENCE):
        while len(relay_of(house).calls) > len(scene.others):  # noqa: ASYNC110 - its end is no event for others
            await asyncio.sleep(0)
    for caller, asked in scene.others:
        asked.answer(REPLIES[scene.dialect])
        assert (await caller.answer()).status == 200
    rows = (await house.rows(user))[len(scene.others) :]
    if state in UNCOUNTED:
        assert rows == []
    else:
        (row,) = rows
        assert (row["outcome"], row["counted"], row["refund_reason"]) == (outcome, counted, reason)
    assert await house.used(user) == len(scene.others) + (counted and state not in UNCOUNTED)
    await nothing_left(house, user, state)
    assert not relay_of(house).streams._deliveries
    house.wires[scene.model].script = lambda asked: asked.answer(REPLIES[scene.dialect])
    assert (await house.ask(scene.dialect, scene.model, user)).status == 200
    await nothing_left(house, user, state)


@each
async def test_the_caller_leaves(tmp_path: Path, state: Any, stream: bool) -> None:
    async with scene_in(tmp_path, state, stream) as (scene, caller):
        caller.reset()
        async with asyncio.timeout(PATIENCE):
            while len(_calls(scene)) > len(scene.others):  # noqa: ASYNC110
                await asyncio.sleep(0)
        never_sent = state is recording
        await settled(
            scene, state, "client_gone", counted=not never_sent, reason="not_sent" if never_sent else None
        )


@each
async def test_its_owner_ends_it(tmp_path: Path, state: Any, stream: bool) -> None:
    async with scene_in(tmp_path, state, stream) as (scene, caller):
        call, relay = _calls(scene)[-1], relay_of(scene.house)
        assert not relay.end("usr_other", call.request_id)
        assert relay.end(scene.user.id, call.request_id)
        assert not relay.end(scene.user.id, call.request_id)
        if state is flowing:
            while await caller.more():
                pass
        else:
            answer = await caller.answer()
            assert (answer.status, answer.code) == (400, "ended_by_owner")
        await settled(scene, state, "ended_by_owner", counted=True, reason=None)


@each
async def test_the_service_stops(tmp_path: Path, state: Any, stream: bool) -> None:
    async with scene_in(tmp_path, state, stream) as (scene, caller):
        house, relay = scene.house, relay_of(scene.house)
        for thread in scene.threads:  # the end of a service waits for its thread
            asyncio.get_running_loop().call_later(0.05, thread.set)
        if state is flowing:
            await house.stop()
        else:
            answer, _ = await asyncio.gather(caller.answer(), house.stop())
            assert (answer.status, answer.code) == (503, "draining")
        assert (relay.calls, relay.answers.taken) == ({}, 0)
        assert not relay.streams._deliveries
        scene.release()
        scene.patch.undo()
        await house.start()
        rows = (await house.rows(scene.user))[len(scene.others) :]
        if state in UNCOUNTED:
            assert rows == []
        else:
            (row,) = rows
            late = state is flowing
            assert (row["outcome"], row["error_code"]) == ("error", "draining")
            assert (row["counted"], row["refund_reason"]) == (late, None if late else "draining")
        await nothing_left(house, scene.user, state)


@pytest.mark.parametrize("state", HELD)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_what_it_waits_for_fails_by_a_fault_of_ours(tmp_path: Path, state: Any, stream: bool) -> None:
    async with scene_in(tmp_path, state, stream) as (scene, caller):
        scene.fault = ZeroDivisionError()
        scene.release()
        answer = await caller.answer()
        assert (answer.status, answer.code) == (500, "internal_error")
        await settled(scene, state, "error", counted=False, reason="internal_error")


@both
@pytest.mark.parametrize("end", ["leaves", "ended", "stopped", "cut"])
async def test_a_stream_whose_provider_lingers_after_its_end(tmp_path: Path, dialect: str, end: str) -> None:
    """The caller has its answer: whatever happens now, it had it, and nothing waits for the provider."""
    async with open_house(tmp_path / "data") as house:
        user = await house.user("one")
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        asked.begin(*FRAMES[dialect])
        assert (await caller.answer()).status == 200
        relay = relay_of(house)
        assert (relay.calls, house.held(user), house.taken) == ({}, 0, 0)
        row = await house.row(user)
        match end:
            case "leaves":
                caller.reset()
            case "ended":
                assert not relay.end(user.id, row["id"])
            case "stopped":
                await house.stop()
                await house.start()
            case _:
                asked.cut()
        await asked.left()
        assert [(each["outcome"], each["counted"]) for each in await house.rows(user)] == [
            ("completed", True)
        ]
        await nothing_left(house, user, end)
        house.wires[f"wire-{dialect}"].script = lambda asked: asked.answer(REPLIES[dialect])
        assert (await house.ask(dialect, f"wire-{dialect}", user)).status == 200
