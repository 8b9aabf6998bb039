"""How a body reaches its reader: one call for each read, backpressure, sinks that raise, callers that leave."""

import asyncio
import random

import pytest

from penstock.upstream import Deadlines, FailureReason, UpstreamFailure, UpstreamResponse
from tests.upstream.scripted import OK, PATIENT, Caller, Peer, ScriptedServer, turns_until

CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def open_stream(
    server: ScriptedServer, caller: Caller, *first: bytes, deadlines: Deadlines = PATIENT
) -> tuple[Peer, UpstreamResponse]:
    """A response whose head has arrived, and the peer that goes on to send its body."""
    sending = caller.start(stream=True, deadlines=deadlines)
    peer = await server.accept()
    await peer.request()
    await peer.say(CHUNKED_HEAD + b"".join(first))
    return peer, await sending


async def push_without_end(peer: Peer, pushed: list[int]) -> None:
    """Send as fast as the client takes it, noting how much, until the connection is gone."""
    data = chunk(b"x" * 65_536)
    try:
        while True:
            peer.writer.write(data)
            await peer.writer.drain()
            pushed[0] += len(data)
            await asyncio.sleep(0)
    except ConnectionError:
        pass


async def test_what_came_with_the_head_is_handed_over_at_once(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller, chunk(b"one"), chunk(b"two"))
    seen: list[bytes] = []
    done = response.stream(seen.append)
    assert seen == [b"onetwo"]
    assert not done.done()
    await peer.say(END)
    await done
    assert seen == [b"onetwo"]
    assert caller.connections() == (1, 1)


async def test_one_read_is_one_call(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller)
    seen: list[bytes] = []
    arrival = asyncio.Event()

    def sink(data: bytes) -> None:
        seen.append(data)
        arrival.set()

    done = response.stream(sink)
    for text in (b"a", b"bcd", b"ef"):
        arrival.clear()
        await peer.say(b"".join(chunk(text[i : i + 1]) for i in range(len(text))))
        await arrival.wait()
    await peer.say(chunk(b"g") + END)
    await done
    assert seen == [b"a", b"bcd", b"ef", b"g"]


async def test_a_complete_answer_needs_no_waiting(server: ScriptedServer, caller: Caller) -> None:
    _, response = await open_stream(server, caller, chunk(b"all"), END)
    seen: list[bytes] = []
    done = response.stream(seen.append)
    assert done.done()
    await done
    assert seen == [b"all"]


async def test_an_empty_body_never_calls_the_sink(server: ScriptedServer, caller: Caller) -> None:
    _, response = await open_stream(server, caller, END)
    seen: list[bytes] = []
    await response.stream(seen.append)
    assert seen == []


async def test_unread_bodies_are_held_back_by_tcp(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(
        server, caller, deadlines=Deadlines(connect=5, first_byte=5, idle=0.2, total=1.2)
    )
    pushed = [0]
    pushing = asyncio.create_task(push_without_end(peer, pushed))
    # nobody reads: the client must stop by itself, and the total deadline is what ends it, not the idle one
    await pushing
    held = 0

    def sink(data: bytes) -> None:
        nonlocal held
        held += len(data)

    with pytest.raises(UpstreamFailure) as caught:
        await response.stream(sink)
    assert caught.value.reason is FailureReason.TOTAL_TIMEOUT
    assert 64 * 1024 < held <= 64 * 1024 + 2**18
    assert pushed[0] < 32 * 2**20


async def test_a_paused_reader_is_called_no_more_and_the_deadlines_rest(
    server: ScriptedServer, caller: Caller
) -> None:
    """What the reader takes for itself is not the upstream's time: it has as much after the pause as before."""
    peer, response = await open_stream(
        server, caller, chunk(b"first"), deadlines=Deadlines(connect=5, first_byte=5, idle=0.2, total=0.6)
    )
    seen: list[int] = []

    def sink(data: bytes) -> None:
        seen.append(len(data))
        if len(seen) == 1:
            response.pause()

    done = response.stream(sink)
    pushed = [0]
    pushing = asyncio.create_task(push_without_end(peer, pushed))
    await asyncio.wait([done], timeout=1.0)  # longer than any of the deadlines
    assert seen == [5]
    assert not done.done()
    response.resume()
    with pytest.raises(UpstreamFailure) as caught:
        await done
    assert caught.value.reason is FailureReason.TOTAL_TIMEOUT
    assert len(seen) > 1
    await pushing


async def test_the_idle_deadline_runs_again_after_resume(server: ScriptedServer, caller: Caller) -> None:
    _, response = await open_stream(
        server, caller, deadlines=Deadlines(connect=5, first_byte=5, idle=0.3, total=20)
    )
    done = response.stream(lambda _: None)
    response.pause()
    response.resume()
    with pytest.raises(UpstreamFailure) as caught:
        await done
    assert caught.value.reason is FailureReason.IDLE_TIMEOUT


async def test_pausing_at_every_call_loses_and_reorders_nothing(
    server: ScriptedServer, caller: Caller
) -> None:
    loop = asyncio.get_running_loop()
    peer, response = await open_stream(server, caller)
    body = random.Random(3).randbytes(4_000_000)
    seen: list[bytes] = []

    def sink(data: bytes) -> None:
        seen.append(data)
        response.pause()
        loop.call_soon(response.resume)

    done = response.stream(sink)
    for at in range(0, len(body), 50_000):
        await peer.say(chunk(body[at : at + 50_000]))
    await peer.say(END)
    await done
    assert b"".join(seen) == body
    assert caller.connections() == (1, 1)


async def test_a_reader_that_paused_at_the_last_byte_leaves_a_live_connection(
    server: ScriptedServer, caller: Caller
) -> None:
    _, response = await open_stream(server, caller, chunk(b"all"))
    peer = server.peers[0]
    done = response.stream(lambda _: response.pause())
    response.resume()
    response.pause()
    response.resume()
    await peer.say(chunk(b"more") + END)
    await done
    again = caller.start()
    await peer.request()
    await peer.say(OK)
    assert await (await again).read(2) == b"ok"
    await peer.hang_up()
    await turns_until(lambda: caller.connections() == (0, 0))


async def test_a_sink_that_raises_closes_the_connection(server: ScriptedServer, caller: Caller) -> None:
    for at_once in (True, False):
        peer, response = await open_stream(server, caller, *([chunk(b"x")] if at_once else []))

        def sink(data: bytes) -> None:
            raise KeyError(data)

        done = response.stream(sink)
        if not at_once:
            await peer.say(chunk(b"x"), chunk(b"y"))
        with pytest.raises(KeyError, match="b'x'"):
            await done
        await peer.gone()


async def test_a_sink_may_close_the_response(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller)
    seen: list[bytes] = []

    def sink(data: bytes) -> None:
        seen.append(data)
        response.close()

    done = response.stream(sink)
    await peer.say(chunk(b"x") + chunk(b"y"), chunk(b"z"))
    await peer.gone()
    assert done.cancelled()
    assert seen == [b"xy"]


async def test_leaving_in_mid_stream_closes_the_socket_at_once(
    server: ScriptedServer, caller: Caller
) -> None:
    peer, response = await open_stream(server, caller, chunk(b"x"))

    async def relay() -> None:
        try:
            await response.stream(lambda _: None)
        finally:
            response.close()

    relaying = asyncio.create_task(relay())
    pushed = [0]
    pushing = asyncio.create_task(push_without_end(peer, pushed))
    await turns_until(lambda: pushed[0] > 0)
    relaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relaying
    await pushing
    assert caller.connections() == (0, 0)


async def test_a_future_cancelled_without_close_is_noticed(server: ScriptedServer, caller: Caller) -> None:
    for more in ([], [chunk(b"y")]):
        peer, response = await open_stream(server, caller, chunk(b"x"))
        seen: list[bytes] = []
        response.stream(seen.append).cancel()
        await peer.say(*more)
        await peer.gone()
        assert seen == [b"x"]


async def test_cancelling_a_read_closes_the_socket_at_once(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller, chunk(b"x"))
    reading = asyncio.create_task(response.read(100))
    await asyncio.sleep(0)
    reading.cancel()
    await peer.gone()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_closing_the_client_fails_what_is_in_flight(server: ScriptedServer, caller: Caller) -> None:
    peer, response = await open_stream(server, caller, chunk(b"x"))
    done = response.stream(lambda _: None)
    waiting = caller.start()
    second = await server.accept()
    await second.request()
    await caller.client.close()
    for failing in (done, waiting):
        with pytest.raises(UpstreamFailure) as caught:
            await failing
        assert caught.value.reason is FailureReason.CUT
    await peer.gone()
    await second.gone()
    with pytest.raises(UpstreamFailure) as caught:
        await caller.post()
    assert not caught.value.sent


async def test_the_total_deadline_is_later_by_what_the_reader_took_for_itself(
    server: ScriptedServer, caller: Caller
) -> None:
    peer, response = await open_stream(server, caller)
    done = response.stream(lambda _: None)
    (connection,) = caller.busy()
    response.pause()
    due, now = connection._due, asyncio.get_running_loop().time()
    connection._suspended_at = now - 1000  # as if it had been so long
    response.resume()
    connection.check(due + 990)
    assert not done.done()
    connection.check(due + 1010)
    with pytest.raises(UpstreamFailure) as caught:
        await done
    assert caught.value.reason is FailureReason.TOTAL_TIMEOUT
    await peer.gone()
