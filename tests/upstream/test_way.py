"""Ways: through a proxy that is asked for a tunnel, and with certificates of the provider's own."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from penstock.upstream import FailureReason, Origin, Proxy, UpstreamClient, UpstreamFailure, Way
from tests.upstream.scripted import OK, Caller, ScriptedServer


class ConnectProxy:
    """A little proxy: it takes CONNECT, tells what it was asked, and carries bytes both ways."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        writer.write(self.answer)
        if b" 200 " not in self.answer:
            writer.close()
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@asynccontextmanager
async def proxy(**how: bytes) -> AsyncGenerator[ConnectProxy]:
    made = ConnectProxy(**how)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
async def client() -> AsyncGenerator[UpstreamClient]:
    client = UpstreamClient()
    yield client
    await client.close()


def server_tls(authority: trustme.CA, *, wants_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    if wants_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    return context


async def fetched(client: UpstreamClient, server: ScriptedServer, way: Way | None) -> bytes:
    """What one request by this way gives."""
    plain = server.origin
    fetching = Caller(client, Origin(plain.scheme, plain.host, plain.port, way)).fetch()
    accepting = asyncio.ensure_future(server.accept())
    done, _ = await asyncio.wait((fetching, accepting), return_when=asyncio.FIRST_COMPLETED)
    if accepting in done:
        peer = accepting.result()
        await peer.request()
        await peer.say(OK)
    else:
        accepting.cancel()
    return await fetching


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_tunnel_through_a_proxy_and_its_connection_is_kept(
    client: UpstreamClient, authority: trustme.CA, ca: str, *, tls: bool
) -> None:
    async with ScriptedServer.start(server_tls(authority) if tls else None) as server, proxy() as between:
        way = Way(Proxy("127.0.0.1", between.port, b"Basic dTpw"), ca=ca)
        assert await fetched(client, server, way) == b"ok"
        (head,) = between.heads
        where = f"{server.origin.host}:{server.origin.port}".encode()
        assert head.startswith(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (where, where))
        assert b"\r\nproxy-authorization: Basic dTpw\r\n" in head
        assert b"authorization" not in head.replace(b"proxy-authorization", b"")
        await client.close()


async def test_each_way_has_connections_of_its_own(client: UpstreamClient) -> None:
    async with ScriptedServer.start() as server, proxy() as between:
        assert await fetched(client, server, None) == b"ok"
        assert between.heads == []
        assert await fetched(client, server, Way(Proxy("127.0.0.1", between.port))) == b"ok"
        assert len(between.heads) == 1
        assert b"proxy-authorization" not in between.heads[0]
        await client.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nx: y\r\n\r\n", "answers 407"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", "answers 502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not answer in HTTP"),
        (b"", "without an answer"),
        (b"x" * 9000, "more than an answer"),
        (b"HTTP/1.1 204 No\r\n\r\nand more", "more than an answer"),
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_a_failure_to_connect(
    client: UpstreamClient, answer: bytes, said: str
) -> None:
    async with ScriptedServer.start() as server, proxy(answer=answer) as between:
        with pytest.raises(UpstreamFailure, match=said) as caught:
            await fetched(client, server, Way(Proxy("127.0.0.1", between.port, b"Basic c2VjcmV0")))
        assert (caught.value.reason, caught.value.sent) == (FailureReason.CONNECT, False)
        assert "c2VjcmV0" not in caught.value.message
    with pytest.raises(UpstreamFailure) as caught:  # it listens no longer
        await fetched(client, server, Way(Proxy("127.0.0.1", between.port)))
    assert caught.value.reason is FailureReason.CONNECT


async def test_an_authority_of_the_providers_own_is_trusted_for_it_alone(
    client: UpstreamClient, authority: trustme.CA, ca: str
) -> None:
    async with ScriptedServer.start(server_tls(authority)) as server:
        assert await fetched(client, server, Way(ca=ca)) == b"ok"
        for way in (None, Way()):
            with pytest.raises(UpstreamFailure) as caught:
                await fetched(client, server, way)
            assert caught.value.reason is FailureReason.TLS
        await client.close()


async def test_a_certificate_is_shown_to_a_provider_that_wants_one(
    client: UpstreamClient, authority: trustme.CA, ca: str, tmp_path: Path
) -> None:
    shown = authority.issue_cert("caller.example")
    shown.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    shown.private_key_pem.write_to_path(tmp_path / "key.pem")
    both = Way(ca=ca, client_cert=str(tmp_path / "cert.pem"), client_key=str(tmp_path / "key.pem"))
    async with ScriptedServer.start(server_tls(authority, wants_certificate=True)) as server:
        assert await fetched(client, server, both) == b"ok"
        with pytest.raises(UpstreamFailure):
            await fetched(client, server, Way(ca=ca))
        await client.close()


async def test_a_file_that_is_not_there_or_no_certificate_is_told_and_a_new_one_is_read(
    client: UpstreamClient, authority: trustme.CA, tmp_path: Path
) -> None:
    path = tmp_path / "later.pem"
    async with ScriptedServer.start(server_tls(authority)) as server:
        with pytest.raises(UpstreamFailure, match=r"later\.pem cannot be read: No such file") as caught:
            await fetched(client, server, Way(ca=str(path)))
        assert caught.value.reason is FailureReason.TLS
        path.write_text("no certificate")
        with pytest.raises(UpstreamFailure, match="certificate files"):
            await fetched(client, server, Way(ca=str(path)))
        authority.cert_pem.write_to_path(path)
        assert await fetched(client, server, Way(ca=str(path))) == b"ok"
        await client.close()


def test_a_proxy_does_not_show_its_credentials() -> None:
    assert "c2Vj" not in repr(Way(Proxy("p", 1, b"Basic c2Vj"))) + str(
        Origin("http", "h", 1, Way(Proxy("p", 1, b"c2Vj")))
    )
