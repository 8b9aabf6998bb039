"""Callers who are slow, silent, gone, or do not read."""

import asyncio
import socket
import threading
from math import inf

import pytest

from penstock.exchange import Exchange
from penstock.server.connection import Phase
from penstock.server.listen import ServerLimits
from tests.server.running_server import Server, chunked, get, post, serving, until, within

QUICK = ServerLimits(
    header_deadline=0.15, body_deadline=0.15, body_rate=50_000, keepalive_idle=0.15, caller_stall=0.3
)
PATIENT = 30.0
"""Seconds: never waited for, except by a failing test."""


# ---- deadlines


async def test_silent_connection_is_closed_without_a_word() -> None:
    async with serving(limits=QUICK) as server:
        caller = await server.call()
        assert await asyncio.wait_for(caller.closed(), PATIENT) == b""


@pytest.mark.parametrize("start", [b"G", b"GET /v1 HTTP/1.1\r\n", get()[:-1]])
async def test_head_that_does_not_end_gets_408(start: bytes) -> None:
    async with serving(limits=QUICK) as server:
        caller = await server.call()
        await caller.send(start)
        answer = await asyncio.wait_for(caller.answer(), PATIENT)
        assert (answer.status, answer.headers[b"connection"]) == (408, b"close")
        assert await caller.closed() == b""


async def test_dribbled_head_gets_408() -> None:
    """Each byte does not buy new time."""
    async with serving(limits=QUICK) as server:
        caller = await server.call()

        async def dribble() -> None:
            await caller.send(get()[:-2])
            while True:
                await caller.send(b"X: y\r\n")
                await asyncio.sleep(0.01)

        dribbling = asyncio.ensure_future(dribble())
        answer = await asyncio.wait_for(caller.answer(), PATIENT)
        dribbling.cancel()
        assert answer.status in {408, 431}
        assert answer.status == 408


async def test_idle_connection_is_closed_without_a_word() -> None:
    async with serving(limits=QUICK) as server:
        caller = await server.call()
        await caller.send(get())
        await caller.answer()
        assert await asyncio.wait_for(caller.closed(), PATIENT) == b""


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_body_that_does_not_come_gets_408(framing: str) -> None:
    raw = post(b"x" * 100)[:-50] if framing == "length" else chunked(b"x" * 100)[:-7]
    async with serving(limits=QUICK) as server:
        caller = await server.call()
        await caller.send(raw)
        answer = await asyncio.wait_for(caller.answer(), PATIENT)
        assert answer.status == 408
        assert await caller.closed() == b""


@pytest.mark.parametrize("phase", [Phase.HEAD, Phase.BODY])
async def test_time_for_which_our_loop_was_stuck_is_not_the_callers(phase: Phase) -> None:
    raw = get() if phase is Phase.HEAD else post(b"body")
    async with serving(limits=QUICK) as server:
        with socket.create_connection(("127.0.0.1", server.listener.port)) as caller:
            caller.sendall(raw[:-2])
            await until(lambda: server.listener._wire.connections)
            await until(lambda: server.connection._phase is phase and server.connection.deadline < inf)
            swept = server.listener._wire._next_sweep
            threading.Event().wait(3 * QUICK.header_deadline)
            await until(lambda: server.listener._wire._next_sweep != swept)
            caller.sendall(raw[-2:])
            caller.setblocking(False)
            answer = await asyncio.get_running_loop().sock_recv(caller, 65_536)
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_each_kilobyte_buys_a_body_more_time() -> None:
    """Sent in five times the deadline, but above the rate."""
    limits = ServerLimits(body_deadline=0.1, body_rate=10_000)
    async with serving(limits=limits) as server:
        caller = await server.call()
        raw = post(b"x" * 15_000)
        for at in range(0, len(raw), 1000):
            await caller.send(raw[at : at + 1000])
            await asyncio.sleep(0.033)
        assert len((await asyncio.wait_for(caller.answer(), PATIENT)).body) == 15_005


async def test_handler_that_does_not_ask_yet_does_not_cost_the_caller_time() -> None:
    async def handler(exchange: Exchange) -> None:
        await asyncio.sleep(3 * QUICK.body_deadline)
        body = await exchange.body()
        exchange.start(200, [])
        exchange.end(b"%d" % len(body))

    async with serving(handler, limits=QUICK) as server:
        caller = await server.call()
        caller.writer.write(post(b"x" * 2_000_000))
        assert (await asyncio.wait_for(caller.answer(), PATIENT)).body == b"2000000"


async def test_body_that_is_skipped_has_a_deadline_too() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.end()

    async with serving(handler, limits=QUICK) as server:
        caller = await server.call()
        await caller.send(post(b"x" * 100)[:-50])
        assert b"connection" not in (await caller.answer()).headers
        await within(PATIENT, caller.ended())


async def test_caller_who_sends_for_ever_after_a_refusal_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.server.connection.LINGER", 0.1)
    async with serving(limits=ServerLimits(max_body=10, header_deadline=0.2)) as server:
        caller = await server.call()
        await caller.send(post(b"x" * 100)[:-50])
        assert (await caller.answer()).status == 413
        await within(PATIENT, server_side_gone(server))


async def server_side_gone(server: Server) -> None:
    await until(lambda: not server.listener._wire.connections)


async def test_huge_head_is_not_kept() -> None:
    """64 MB of header: refused after the first 40 KB, and the rest is not even read into memory for long."""
    async with serving() as server:
        caller = await server.call()
        caller.writer.write(b"GET /v1 HTTP/1.1\r\nX: " + b"a" * 64_000_000)
        assert (await caller.answer()).status == 431
        assert server.connection._head is None
        assert server.connection._held == b""


# ---- callers who leave


class Watched:
    """A handler that tells when it waits, and how it ended."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.waiting = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = False
        self.lost = self.recalled = False

    async def __call__(self, exchange: Exchange) -> None:
        try:
            if self.where == "in the body":
                self.waiting.set()
                await exchange.body()
            if self.where in {"after the head", "in the stream"}:
                exchange.start(200, [])
                exchange.flush()
            if self.where == "in the stream":
                exchange.write(b"data: 1\n\n")
            self.waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            self.lost, self.recalled = exchange.lost, exchange.recalled
            exchange.write(b"into the void")
            exchange.end()
            raise
        finally:
            self.ended.set()


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
@pytest.mark.parametrize("where", ["in the body", "before the head", "after the head", "in the stream"])
async def test_handler_is_cancelled_when_its_caller_leaves(where: str, how: str) -> None:
    handler = Watched(where)
    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(post(b"x" * 100)[: -50 if where == "in the body" else None])
        await within(PATIENT, handler.waiting.wait())
        sock: socket.socket = caller.writer.get_extra_info("socket")
        if how == "half-close":
            caller.writer.write_eof()
        elif how == "reset":
            caller.leave()
        else:
            caller.writer.close()
        assert sock is not None
        await within(PATIENT, handler.ended.wait())
    assert handler.cancelled
    assert handler.lost


async def test_leaving_is_noticed_behind_a_pipelined_request() -> None:
    handler = Watched("before the head")
    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(get() + get() + get()[:20])
        await within(PATIENT, handler.waiting.wait())
        caller.writer.close()
        await within(PATIENT, handler.ended.wait())
    assert handler.lost


async def test_closing_the_listener_cancels_what_runs() -> None:
    handler = Watched("in the stream")
    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(get())
        await within(PATIENT, handler.waiting.wait())
    assert handler.ended.is_set()
    assert handler.recalled
    assert not handler.lost


# ---- callers who do not read


class Pump:
    """A handler that writes until it is told to stop, as the relay does."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.told: list[str] = []
        self.written = 0
        self.ended = asyncio.Event()
        self.lost = False

    def caller_stalled(self) -> None:
        self.told.append("stalled")
        self.room.clear()

    def caller_resumed(self) -> None:
        self.told.append("resumed")
        self.room.set()

    async def __call__(self, exchange: Exchange) -> None:
        exchange.watch(self)
        exchange.start(200, [])
        try:
            for _ in range(2000):
                exchange.write(b"x" * 10_000)
                self.written += 10_000
                assert exchange.stalled is not self.room.is_set()
                await self.room.wait()
            exchange.end()
        finally:
            self.lost = exchange.lost
            self.ended.set()


async def test_slow_reader_holds_the_writer_back_and_gets_everything() -> None:
    pump = Pump()
    async with serving(pump) as server:
        caller = await server.call(limit=2**16)
        await caller.send(get())
        await until(lambda: pump.told)
        held = pump.written
        for _ in range(100):
            await asyncio.sleep(0)
        assert pump.written == held < 20_000_000
        connection = server.connection
        assert connection.transport.get_write_buffer_size() < 2**17
        assert len((await caller.answer()).body) == 20_000_000
    assert pump.told[:2] == ["stalled", "resumed"]
    assert not pump.lost


async def test_reader_who_stopped_is_cut_off() -> None:
    pump = Pump()
    async with serving(pump, limits=QUICK) as server:
        caller = await server.call(limit=1024)
        await caller.send(get())
        await within(PATIENT, pump.ended.wait())
        await within(PATIENT, server_side_gone(server))
    assert pump.lost
    assert pump.told[-1] == "stalled"


async def test_finished_response_that_is_not_taken_is_cut_off() -> None:
    done = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.end(b"x" * 20_000_000)
        done.set()

    async with serving(handler, limits=QUICK) as server:
        for lines in ([], ["Connection: close"]):
            caller = await server.call(limit=1024)
            await caller.send(get("/v1", *lines))
            await done.wait()
            await within(PATIENT, server_side_gone(server))


async def test_large_response_to_a_slow_but_steady_reader_is_not_cut_off() -> None:
    """It takes several times the stall deadline, and the buffer is above its mark all the while."""
    limits = ServerLimits(caller_stall=0.1)

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.end(b"x" * 30_000_000)

    async with serving(handler, limits=limits) as server:
        caller = await server.call(limit=1024)
        await caller.send(get())
        await caller.reader.readuntil(b"\r\n\r\n")
        taken = 0
        while taken < 30_000_000:
            taken += len(await caller.reader.read(2**20))
            if taken % 7 == 0:
                await asyncio.sleep(0.02)
        assert taken == 30_000_000
