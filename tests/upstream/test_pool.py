"""Connections are reused, thrown away and retried exactly when that is safe, whatever callers do meanwhile."""

import asyncio
import random
import socket

import pytest

from penstock.upstream import FailureReason, Origin, UpstreamClient, UpstreamFailure
from tests.upstream.scripted import OK, Caller, Peer, ScriptedServer, turns_until


async def served(server: ScriptedServer, caller: Caller) -> Peer:
    """A peer whose connection has served one request and is idle now."""
    fetching = caller.fetch()
    peer = await server.accept()
    await peer.request()
    await peer.say(OK)
    assert await fetching == b"ok"
    assert caller.connections() == (1, 1)
    return peer


async def closed_by_client(peer: Peer, caller: Caller) -> None:
    """Wait until the client has closed and taken the socket off its books."""
    await peer.gone()
    await turns_until(lambda: caller.connections() == (0, 0))


async def test_the_last_used_connection_is_taken_first(server: ScriptedServer, caller: Caller) -> None:
    fetching = [caller.fetch() for _ in range(3)]
    peers = [await server.accept() for _ in range(3)]
    for peer in peers:
        await peer.request()
    for peer in (peers[1], peers[2], peers[0]):
        await peer.say(OK)
    await asyncio.gather(*fetching)
    assert caller.connections() == (3, 3)
    for _ in range(3):
        again = caller.fetch()
        await peers[0].request()
        await peers[0].say(OK)
        await again
    assert server.waiting() == 0


async def test_no_more_than_max_idle_are_kept(server: ScriptedServer) -> None:
    client = UpstreamClient(max_idle=2)
    caller = Caller(client, server.origin)
    fetching = [caller.fetch() for _ in range(5)]
    peers = [await server.accept() for _ in range(5)]
    for peer in peers:
        await peer.request()
        await peer.say(OK)
    await asyncio.gather(*fetching)
    for peer in peers[2:]:
        await peer.gone()
    assert caller.connections() == (2, 2)
    await client.close()
    assert caller.connections() == (0, 0)


async def test_idle_connections_end_with_their_lifetime(server: ScriptedServer) -> None:
    client = UpstreamClient(idle_lifetime=0.2)
    caller = Caller(client, server.origin)
    peer = await served(server, caller)
    await closed_by_client(peer, caller)
    await client.close()


@pytest.mark.parametrize(
    "late", [OK, b"H", b"\r\n", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"]
)
async def test_an_idle_connection_that_gets_bytes_is_dropped(
    server: ScriptedServer, caller: Caller, late: bytes
) -> None:
    peer = await served(server, caller)
    await peer.say(late)
    await closed_by_client(peer, caller)
    # and the next request gets its own answer, not the one that nobody asked for
    await served(server, caller)


@pytest.mark.parametrize("reset", [False, True])
async def test_an_idle_connection_that_is_closed_is_dropped(
    server: ScriptedServer, caller: Caller, reset: bool
) -> None:
    peer = await served(server, caller)
    if reset:
        peer.reset()
    else:
        await peer.hang_up()
    await turns_until(lambda: caller.connections() == (0, 0))
    await served(server, caller)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_stale_connection_is_retried_once_on_a_fresh_one(
    server: ScriptedServer, caller: Caller, reset: bool
) -> None:
    stale = await served(server, caller)
    sending = caller.start(b"again")
    await stale.request()
    if reset:
        stale.reset()
    else:
        await stale.hang_up()
    fresh = await server.accept()
    assert (await fresh.request())[1] == b"again"
    await fresh.say(OK)
    response = await sending
    assert not response.reused
    assert await response.read(2) == b"ok"


async def test_the_retry_does_not_use_another_idle_connection(server: ScriptedServer, caller: Caller) -> None:
    fetching = [caller.fetch(), caller.fetch()]
    peers = [await server.accept(), await server.accept()]
    for peer in peers:
        await peer.request()
        await peer.say(OK)
    await asyncio.gather(*fetching)
    sending = caller.fetch()
    await peers[1].request()
    await peers[1].hang_up()
    fresh = await server.accept()
    await fresh.request()
    await fresh.say(OK)
    assert await sending == b"ok"
    assert caller.connections() == (2, 2)


async def test_a_stale_connection_is_not_retried_twice(server: ScriptedServer, caller: Caller) -> None:
    stale = await served(server, caller)
    sending = caller.start()
    await stale.request()
    await stale.hang_up()
    fresh = await server.accept()
    await fresh.request()
    await fresh.hang_up()
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.CUT
    assert caught.value.sent
    assert server.waiting() == 0


async def test_a_fresh_connection_is_never_retried(server: ScriptedServer, caller: Caller) -> None:
    sending = caller.start()
    peer = await server.accept()
    await peer.request()
    await peer.hang_up()
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.CUT
    assert server.waiting() == 0


@pytest.mark.parametrize("some", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_nothing_is_retried_once_a_byte_has_come(
    server: ScriptedServer, caller: Caller, some: bytes
) -> None:
    peer = await served(server, caller)
    sending = caller.start()
    await peer.request()
    await peer.say(some)
    await peer.hang_up()
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.CUT
    assert server.waiting() == 0


async def test_a_connection_lost_long_after_sending_is_not_stale(
    server: ScriptedServer, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.upstream.client._STALE_WINDOW", 0.0)
    peer = await served(server, caller)
    sending = caller.start()
    await peer.request()
    await peer.hang_up()
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.CUT
    assert server.waiting() == 0


async def test_refused_connections_say_that_nothing_was_sent() -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        origin = Origin("http", "127.0.0.1", plug.getsockname()[1])
        client = UpstreamClient()
        with pytest.raises(UpstreamFailure) as caught:
            await Caller(client, origin).post()
    assert caught.value.reason is FailureReason.CONNECT
    assert not caught.value.sent
    await client.close()


async def test_origins_have_pools_of_their_own(server: ScriptedServer, caller: Caller) -> None:
    async with ScriptedServer.start() as other:
        await served(server, caller)
        await served(other, Caller(caller.client, other.origin))
        assert {origin: stats.idle for origin, stats in caller.client.stats().items()} == {
            server.origin: 1,
            other.origin: 1,
        }
        await caller.client.close()


async def test_every_socket_sends_at_once_and_is_probed(server: ScriptedServer, caller: Caller) -> None:
    await served(server, caller)
    (pool,) = caller.client._pools.values()
    (connection,) = pool.connections
    assert connection._transport is not None
    plug = connection._transport.get_extra_info("socket")
    assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_cancelling_while_waiting_closes_the_socket_at_once(
    server: ScriptedServer, caller: Caller
) -> None:
    sending = caller.start(b"x" * 100_000)
    peer = await server.accept()
    await peer.head()
    sending.cancel()
    await closed_by_client(peer, caller)
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_cancelling_as_the_answer_completes_keeps_the_pool_sound(
    server: ScriptedServer, caller: Caller
) -> None:
    sending = caller.start()
    peer = await server.accept()
    await peer.request()
    (connection,) = caller.busy()
    assert connection._response is not None
    peer.writer.write(OK)
    # in the turn in which the answer is complete, the task that awaits it has not run yet
    await turns_until(lambda: connection._response is None)
    sending.cancel()
    await asyncio.wait([sending])
    assert caller.connections() == (1, 1)
    again = caller.fetch()
    await peer.request()
    await peer.say(OK)
    assert await again == b"ok"


async def echo_with_delay(peer: Peer, dice: random.Random) -> None:
    """Answer every request with its own body, after a few turns of the loop, in one piece or in several."""
    try:
        while True:
            _, body = await peer.request()
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            cut = dice.randrange(len(answer))
            await peer.say(answer[:cut], answer[cut:])
    except (asyncio.IncompleteReadError, ConnectionError):
        peer.writer.transport.abort()


async def test_a_storm_of_cancellations_leaves_nothing_behind(server: ScriptedServer, caller: Caller) -> None:
    dice = random.Random(7)
    echoing: set[asyncio.Task[None]] = set()

    async def accepting() -> None:
        while True:
            echoing.add(asyncio.create_task(echo_with_delay(await server.accept(), dice)))

    acceptor = asyncio.create_task(accepting())
    outcomes = {"whole": 0, "cancelled": 0}

    async def one(number: int) -> None:
        body = b"%06d" % number * dice.randint(1, 300)
        fetching = caller.fetch(body)
        for _ in range(dice.randrange(25 if number % 2 else 120)):
            await asyncio.sleep(0)
        fetching.cancel()
        try:
            assert await fetching == body
            outcomes["whole"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1

    async def worker(first: int) -> None:
        for number in range(first, first + 100):
            await one(number)

    await asyncio.gather(*(worker(first) for first in range(0, 2000, 100)))
    assert outcomes["cancelled"] > 300
    assert outcomes["whole"] > 300
    assert not caller.busy()
    await turns_until(lambda: len(set(caller.connections())) == 1)
    assert caller.connections()[1] <= 20
    assert await asyncio.gather(*(caller.fetch(b"%d" % n) for n in range(100))) == [
        b"%d" % n for n in range(100)
    ]
    # the server agrees: all that the client closed is closed there as well
    await caller.client.close()
    acceptor.cancel()
    await asyncio.wait([acceptor, *echoing])
    for task in echoing:
        task.result()


async def test_a_storm_of_cancellations_while_connecting_leaves_nothing_behind(
    server: ScriptedServer, caller: Caller
) -> None:
    dice = random.Random(9)
    for _ in range(300):
        sending = caller.start()
        for _ in range(dice.randrange(5)):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
    for peer in server.peers:
        await peer.gone()
    assert caller.connections() == (0, 0)
    assert not caller.busy()


async def test_the_timer_stops_when_there_is_nothing_left_to_watch(server: ScriptedServer) -> None:
    client = UpstreamClient(max_idle=0)
    caller = Caller(client, server.origin)
    fetching = caller.fetch()
    peer = await server.accept()
    await peer.request()
    await peer.say(OK)
    assert await fetching == b"ok"
    assert client._tick is not None
    client._tick.cancel()
    client._sweep(asyncio.get_running_loop())
    assert client._tick is None
    await client.close()
