"""TLS: certificates are verified, names are sent, and everything that holds for plain TCP holds here."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from msgspec.structs import replace

from penstock.upstream import (
    Deadlines,
    FailureReason,
    Origin,
    UpstreamClient,
    UpstreamFailure,
    Way,
    default_tls,
)
from tests.upstream.scripted import OK, Caller, ScriptedServer, turns_until


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.fixture
async def client(authority: trustme.CA) -> AsyncIterator[UpstreamClient]:
    context = default_tls()
    authority.configure_trust(context)
    client = UpstreamClient(ssl_context=context)
    yield client
    await client.close()
    assert all(stats.open == 0 for stats in client.stats().values())


async def test_a_good_certificate_serves_and_is_reused(client: UpstreamClient, authority: trustme.CA) -> None:
    names: list[str | None] = []
    context = server_tls(authority, "localhost")
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    async with ScriptedServer.start(context, host="localhost") as server:
        caller = Caller(client, server.origin)
        for _ in range(3):
            fetching = caller.fetch()
            peer = server.peers[0] if server.peers else await server.accept()
            head, _ = await peer.request()
            assert b"\r\nhost: localhost:%d\r\n" % server.origin.port in head
            await peer.say(OK)
            assert await fetching == b"ok"
        assert caller.connections() == (1, 1)
        assert names == ["localhost"]
        tls = server.peers[0].writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        await client.close()


async def test_an_address_in_the_certificate_is_accepted(
    client: UpstreamClient, authority: trustme.CA
) -> None:
    async with ScriptedServer.start(server_tls(authority, "127.0.0.1")) as server:
        fetching = Caller(client, server.origin).fetch()
        peer = await server.accept()
        await peer.request()
        await peer.say(OK)
        assert await fetching == b"ok"
        await client.close()


async def test_a_pinned_address_is_connected_to_whatever_the_name_means(
    client: UpstreamClient, authority: trustme.CA
) -> None:
    """The name leads nowhere; the certificate and the head are still for it."""
    name = "pinned.invalid"
    async with ScriptedServer.start(server_tls(authority, name)) as server:
        origin = replace(server.origin, scheme="https", host=name, way=Way(address="127.0.0.1"))
        fetching = Caller(client, origin).fetch()
        peer = await server.accept()
        head, _ = await peer.request()
        assert b"\r\nhost: pinned.invalid:%d\r\n" % origin.port in head
        await peer.say(OK)
        assert await fetching == b"ok"
        other = replace(origin, host="other.invalid")
        with pytest.raises(UpstreamFailure) as refused:
            await Caller(client, other).fetch()
        assert refused.value.reason is FailureReason.TLS
        await client.close()


@pytest.mark.parametrize("wrong", ["name", "authority", "default"])
async def test_a_wrong_certificate_is_a_tls_failure(
    client: UpstreamClient, authority: trustme.CA, wrong: str
) -> None:
    signer = trustme.CA() if wrong == "authority" else authority
    name = "other.example" if wrong == "name" else "127.0.0.1"
    async with ScriptedServer.start(server_tls(signer, name)) as server:
        chosen = UpstreamClient() if wrong == "default" else client
        with pytest.raises(UpstreamFailure) as caught:
            await Caller(chosen, server.origin).post()
        assert caught.value.reason is FailureReason.TLS
        assert not caught.value.sent
        assert not server.peers
        await chosen.close()


async def test_a_server_that_speaks_no_tls_is_a_tls_failure(
    server: ScriptedServer, client: UpstreamClient
) -> None:
    sending = Caller(client, Origin("https", "127.0.0.1", server.origin.port)).start()
    peer = await server.accept()
    await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.TLS
    await peer.gone()


async def test_a_server_that_closes_in_the_handshake_is_a_tls_failure(
    server: ScriptedServer, client: UpstreamClient
) -> None:
    sending = Caller(client, Origin("https", "127.0.0.1", server.origin.port)).start()
    peer = await server.accept()
    await peer.reader.read(1)
    await peer.hang_up()
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.TLS
    assert not caught.value.sent


async def test_a_handshake_that_hangs_meets_the_connect_deadline(
    server: ScriptedServer, client: UpstreamClient
) -> None:
    caller = Caller(client, Origin("https", "127.0.0.1", server.origin.port))
    sending = caller.start(deadlines=Deadlines(connect=0.3))
    peer = await server.accept()
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.CONNECT
    assert not caught.value.sent
    await peer.gone()
    assert caller.connections() == (0, 0)


async def test_cancelling_in_the_handshake_closes_the_socket(
    server: ScriptedServer, client: UpstreamClient
) -> None:
    sending = Caller(client, Origin("https", "127.0.0.1", server.origin.port)).start()
    peer = await server.accept()
    await peer.reader.read(1)
    sending.cancel()
    await peer.gone()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_large_bodies_pass_both_ways_with_pauses(client: UpstreamClient, authority: trustme.CA) -> None:
    loop = asyncio.get_running_loop()
    body = random.Random(2).randbytes(3_000_000)
    async with ScriptedServer.start(server_tls(authority, "127.0.0.1")) as server:
        caller = Caller(client, server.origin)
        sending = caller.start(body, stream=True)
        peer = await server.accept()
        assert (await peer.request())[1] == body
        peer.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        response = await sending
        seen: list[bytes] = []
        paused = False

        def sink(data: bytes) -> None:
            nonlocal paused
            assert not paused
            seen.append(data)
            paused = True
            response.pause()
            loop.call_soon(go_on)

        def go_on() -> None:
            nonlocal paused
            paused = False
            response.resume()

        await response.stream(sink)
        assert b"".join(seen) == body
        assert caller.connections() == (1, 1)
        await client.close()


async def test_a_cut_and_a_departure_are_seen_through_tls(
    client: UpstreamClient, authority: trustme.CA
) -> None:
    async with ScriptedServer.start(server_tls(authority, "127.0.0.1")) as server:
        caller = Caller(client, server.origin)
        fetching = caller.fetch()
        peer = await server.accept()
        await peer.request()
        await peer.say(OK[:-1])
        peer.writer.transport.abort()
        with pytest.raises(UpstreamFailure) as caught:
            await fetching
        assert caught.value.reason is FailureReason.CUT
        sending = caller.start(stream=True)
        peer = await server.accept()
        await peer.request()
        await peer.say(OK[:-1])
        (await sending).close()
        await peer.gone()
        await turns_until(lambda: caller.connections() == (0, 0))


async def test_a_stale_tls_connection_is_retried(client: UpstreamClient, authority: trustme.CA) -> None:
    async with ScriptedServer.start(server_tls(authority, "127.0.0.1")) as server:
        caller = Caller(client, server.origin)
        fetching = caller.fetch()
        stale = await server.accept()
        await stale.request()
        await stale.say(OK)
        await fetching
        again = caller.fetch()
        await stale.request()
        stale.writer.transport.abort()
        fresh = await server.accept()
        await fresh.request()
        await fresh.say(OK)
        assert await again == b"ok"
        await client.close()
