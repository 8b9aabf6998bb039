"""Each deadline ends what it should and nothing else; the upstream's socket is closed when one passes."""

import asyncio
import socket
import threading

import pytest

from penstock.upstream import Deadlines, FailureReason, Origin, UpstreamClient, UpstreamFailure
from tests.upstream.scripted import OK, Caller, ScriptedServer

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"


def deadlines(*, first_byte: float = 20, idle: float = 20, total: float = 20) -> Deadlines:
    return Deadlines(connect=5, first_byte=first_byte, idle=idle, total=total)


async def test_connecting_has_a_deadline() -> None:
    # a listener whose queue is full lets further connections hang
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        client = UpstreamClient()
        caller = Caller(client, Origin("http", "127.0.0.1", listener.getsockname()[1]))
        with pytest.raises(UpstreamFailure) as caught:
            await caller.post(deadlines=Deadlines(connect=0.2))
        assert caught.value.reason is FailureReason.CONNECT
        assert not caught.value.sent
        assert caller.connections() == (0, 0)
        await client.close()
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("reused", [False, True])
async def test_no_first_byte(server: ScriptedServer, caller: Caller, reused: bool) -> None:
    if reused:
        fetching = caller.fetch()
        peer = await server.accept()
        await peer.request()
        await peer.say(OK)
        await fetching
    sending = caller.start(stream=True, deadlines=deadlines(first_byte=0.3))
    peer = server.peers[0] if reused else await server.accept()
    await peer.request()
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.FIRST_BYTE_TIMEOUT
    assert caught.value.sent
    await peer.gone()
    assert server.waiting() == 0


@pytest.mark.parametrize("binds", [{"first_byte": 0.6}, {"total": 0.6}])
async def test_time_for_which_our_loop_was_stuck_is_not_the_upstreams(
    server: ScriptedServer, caller: Caller, binds: dict[str, float]
) -> None:
    sending = caller.start(stream=True, deadlines=deadlines(**binds))
    peer = await server.accept()
    await peer.request()
    swept = caller.client._next_sweep
    threading.Event().wait(1.2)
    while caller.client._next_sweep == swept:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0)
    await peer.say(OK)
    assert await (await sending).read(100) == b"ok"


async def test_the_first_byte_ends_the_wait_for_it_and_silence_then_is_idle(
    server: ScriptedServer, caller: Caller
) -> None:
    for some in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"):
        sending = caller.start(stream=True, deadlines=deadlines(first_byte=0.4, idle=0.4))
        peer = await server.accept()
        await peer.request()
        await peer.say(some)
        with pytest.raises(UpstreamFailure) as caught:
            await sending
        assert caught.value.reason is FailureReason.IDLE_TIMEOUT
        await peer.gone()


async def test_silence_in_the_body_is_idle(server: ScriptedServer, caller: Caller) -> None:
    sending = caller.start(stream=True, deadlines=deadlines(idle=0.3))
    peer = await server.accept()
    await peer.request()
    await peer.say(HEAD + b"some")
    seen: list[bytes] = []
    with pytest.raises(UpstreamFailure) as caught:
        await (await sending).stream(seen.append)
    assert caught.value.reason is FailureReason.IDLE_TIMEOUT
    assert seen == [b"some"]
    await peer.gone()


async def test_only_the_total_deadline_binds_an_answer_that_is_not_streamed(
    server: ScriptedServer, caller: Caller
) -> None:
    for some in ([], [HEAD + b"some"]):
        fetching = caller.fetch(deadlines=deadlines(first_byte=0.1, idle=0.1, total=0.9))
        peer = await server.accept()
        await peer.request()
        await peer.say(*some)
        with pytest.raises(UpstreamFailure) as caught:
            await fetching
        assert caught.value.reason is FailureReason.TOTAL_TIMEOUT
        await peer.gone()


async def test_a_trickle_keeps_the_idle_deadline_away_but_not_the_total(
    server: ScriptedServer, caller: Caller
) -> None:
    sending = caller.start(stream=True, deadlines=deadlines(idle=0.5, total=1.3))
    peer = await server.accept()
    await peer.request()
    await peer.say(HEAD)
    seen: list[bytes] = []

    async def trickle() -> None:
        while True:
            await peer.say(b"x")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    with pytest.raises(UpstreamFailure) as caught:
        await (await sending).stream(seen.append)
    assert caught.value.reason is FailureReason.TOTAL_TIMEOUT
    assert len(seen) > 5
    trickling.cancel()
    await asyncio.wait([trickling])
    await peer.gone()


async def test_a_large_request_that_moves_is_not_yet_waiting_for_its_answer(caller: Caller) -> None:
    async with ScriptedServer.start(buffer=65_536) as slow:
        there = Caller(caller.client, slow.origin)
        body = b"x" * 8_000_000
        sending = there.start(body, stream=True, deadlines=deadlines(first_byte=0.6))
        peer = await slow.accept()
        await peer.head()
        left = len(body)
        while left:
            # some 1.5 seconds in all, well over the deadline
            left -= len(await peer.reader.read(65_536))
            await asyncio.sleep(0.01)
        await peer.say(OK)
        assert (await sending).status == 200
        await caller.client.close()


async def test_a_large_request_that_has_stopped_moving_fails(caller: Caller) -> None:
    async with ScriptedServer.start(buffer=65_536) as stuck:
        there = Caller(caller.client, stuck.origin)
        sending = there.start(b"x" * 20_000_000, stream=True, deadlines=deadlines(first_byte=0.3))
        peer = await stuck.accept()
        with pytest.raises(UpstreamFailure) as caught:
            await sending
        assert caught.value.reason is FailureReason.FIRST_BYTE_TIMEOUT
        await peer.gone()
        await caller.client.close()


async def test_a_deadline_that_passes_before_anyone_reads_is_told_to_the_reader(
    server: ScriptedServer, caller: Caller
) -> None:
    sending = caller.start(stream=True, deadlines=deadlines(idle=0.3))
    peer = await server.accept()
    await peer.request()
    await peer.say(HEAD + b"some")
    response = await sending
    await peer.gone()
    seen: list[bytes] = []
    done = response.stream(seen.append)
    assert seen == [b"some"]
    with pytest.raises(UpstreamFailure) as caught:
        await done
    assert caught.value.reason is FailureReason.IDLE_TIMEOUT
