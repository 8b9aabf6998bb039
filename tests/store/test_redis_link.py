"""The connection to Redis: where it connects to, one write a turn, answers to whoever asked, and none to anybody else."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from penstock.store.redis.address import RedisAddress
from penstock.store.redis.link import RedisAway, RedisLink, RedisOutcome, RedisRefused, RedisScript
from penstock.store.sql.backend import StoreError
from tests.redis import RedisServer, redis_server

ECHO = RedisScript("return {KEYS[1], ARGV[1]}")
LOADED = b"$40\r\n%b\r\n" % ECHO.digest.encode()
"""What Redis answers when it is given the script."""


@asynccontextmanager
async def linked(url: str, patience: float = 5.0, pause: float = 0.0) -> AsyncGenerator[RedisLink]:
    link = RedisLink(url, timeout=patience, scripts=(ECHO,), pause=pause)
    try:
        yield link
    finally:
        await link.close()


# ---- addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", RedisAddress()),
        ("redis://redis.example.com", RedisAddress(host="redis.example.com")),
        ("redis://[::1]:6380/3", RedisAddress(host="::1", port=6380, db=3)),
        ("redis://:p%40ss@h/?db=2", RedisAddress(host="h", password="p@ss", db=2)),
        ("redis://me:secret@h", RedisAddress(host="h", username="me", password="secret")),
        ("valkey://h:7000/2", RedisAddress(host="h", port=7000, db=2)),
        ("redis://h?username=me&password=secret", RedisAddress(host="h", username="me", password="secret")),
        ("redis://me:se@cr:et@h", RedisAddress(host="h", username="me", password="se@cr:et")),
        ("redis+socket:///run/redis.sock?virtual_host=1", RedisAddress(path="/run/redis.sock", db=1)),
        ("unix:///run/redis.sock?db=1", RedisAddress(path="/run/redis.sock", db=1)),
        ("unix://:secret@/run/a%20b.sock", RedisAddress(path="/run/a b.sock", password="secret")),
    ],
)
def test_addresses_as_everybody_writes_them(url: str, address: RedisAddress) -> None:
    assert RedisAddress.parse(url) == address


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:secret@h:port/0", "its port"),
        ("redis://:secret@h/first", "its database"),
        ("redis://:sec#secret@h", "a # in it"),
        ("redis://:12?secret@h", "an @ behind its host"),
        ("redis://secret@h", "a user and no password"),
        ("redis://:secret@h1,h2:6380/0", "several hosts"),
        ("redis://:secret@h?ssl_cert_reqs=none", "which rediss:// asks for"),
        ("rediss://:secret@h?ssl_cert_reqs=perhaps", "required or none"),
        ("unix://:secret@", "names no socket"),
        ("redis://:secret@h?socket_timeout=3", "not known: socket_timeout"),
        ("rediss://:secret@h?ssl_ca_certs=/nowhere", "a file cannot be read"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_without_its_password(url: str, told: str) -> None:
    with pytest.raises(StoreError, match=told) as caught:
        RedisAddress.parse(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "checks", "names"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=required", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=CERT_NONE", ssl.CERT_NONE, False),
        ("?ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
    ],
)
def test_what_is_checked_of_a_certificate(query: str, checks: ssl.VerifyMode, names: bool) -> None:
    for scheme in ("rediss", "valkeys"):
        tls = RedisAddress.parse(f"{scheme}://:secret@h{query}").tls
        assert tls is not None
        assert (tls.verify_mode, tls.check_hostname) == (checks, names)


def test_what_it_is_shown_as_has_no_password() -> None:
    assert "secret" not in repr(RedisAddress.parse("redis://me:secret@h"))


async def test_a_password_a_database_and_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = RedisServer(_free_port())
    server.start("--requirepass", "secret word", "--unixsocket", str(path))
    try:
        async with linked(f"redis://:secret%20word@127.0.0.1:{server.port}/3") as link:
            await link.submit("SET", "where", "three")
        async with linked(f"unix://:secret%20word@{path}?db=3") as link:
            assert await link.submit("GET", "where") == b"three"
        for url, told in (
            (server.url, "NOAUTH"),
            (f"redis://:wrong@127.0.0.1:{server.port}", "WRONGPASS"),
            (f"redis://:secret%20word@127.0.0.1:{server.port}/99", "out of range"),
        ):
            async with linked(url) as link:
                with pytest.raises(RedisAway, match=told) as caught:
                    await link.submit("PING")
                assert not caught.value.sent
    finally:
        server.stop()


async def test_tls_with_a_certificate_that_is_looked_at(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = _free_port()
    server = RedisServer(_free_port())
    files = ["--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem"]
    server.start("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    try:
        for options in (f"ssl_ca_certs={tmp_path}/ca.pem", "ssl_cert_reqs=none"):
            async with linked(f"rediss://localhost:{port}?{options}") as link:
                assert await link.submit("PING") == b"PONG"
        async with linked(f"rediss://localhost:{port}") as link:
            with pytest.raises(RedisAway, match="certificate"):
                await link.submit("PING")
    finally:
        server.stop()


# ---- commands and answers


class Peer:
    """Somebody who is taken for Redis: takes down each read, and answers as a test says."""

    def __init__(self) -> None:
        self.reads: asyncio.Queue[bytes] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(65536):
            self.reads.put_nowait(data)

    async def greeted(self) -> None:
        """Answer what a connection begins with."""
        await self.reads.get()
        self.say(LOADED)

    def say(self, data: bytes) -> None:
        self.writers[-1].write(data)


@asynccontextmanager
async def peered(**given: float) -> AsyncGenerator[tuple[Peer, RedisLink]]:
    peer = Peer()
    server = await asyncio.start_server(peer.met, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    async with linked(f"redis://127.0.0.1:{port}", **given) as link:
        yield peer, link
    for writer in peer.writers:
        writer.close()
    server.close()


async def test_the_commands_of_a_turn_are_one_write_and_answers_may_come_in_any_pieces() -> None:
    async with peered() as (peer, link):
        first = link.submit("ONE")
        await peer.greeted()
        assert await peer.reads.get() == b"*1\r\n$3\r\nONE\r\n"
        rest = [link.submit("GET", f"k{number}") for number in range(3)]
        told: list[RedisOutcome] = []
        link.tell(told.append, "DEL", "k0")
        sent = await peer.reads.get()
        assert [sent.count(word) for word in (b"GET", b"DEL")] == [3, 1]
        for byte in b"+OK\r\n$2\r\nk0\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n-ERR no\r\n":
            peer.say(bytes([byte]))
            await asyncio.sleep(0)
        assert await first == b"OK"
        assert await asyncio.gather(*rest) == [b"k0", 1, [b"a", None]]
        last = link.submit("LAST")
        await peer.reads.get()
        peer.say(b"+last\r\n")
        assert await last == b"last"
        assert [type(outcome) for outcome in told] == [RedisRefused]


async def test_answers_are_dealt_with_in_their_order_whoever_gets_them() -> None:
    """A slot that is given back, and who was refused because of it: read together, the refusal comes first."""
    async with peered() as (peer, link):
        dealt: list[RedisOutcome] = []

        async def wait(word: str) -> None:
            dealt.append(await link.submit(word))

        first = asyncio.create_task(wait("ONE"))
        await peer.greeted()
        await peer.reads.get()
        second = asyncio.create_task(wait("TWO"))
        await asyncio.sleep(0)
        link.tell(dealt.append, "THREE")
        third = asyncio.create_task(wait("FOUR"))
        await peer.reads.get()
        peer.say(b":1\r\n:2\r\n:3\r\n:4\r\n")
        await asyncio.gather(first, second, third)
        assert dealt == [1, 2, 3, 4]


async def test_who_leaves_before_his_command_is_sent_sends_none_and_who_leaves_later_gets_no_others() -> None:
    async with peered() as (peer, link):
        first = link.submit("ONE")
        await peer.greeted()
        await peer.reads.get()
        peer.say(b":1\r\n")
        await first
        late: list[RedisOutcome] = []
        never, gone, stays = (link.submit(word, then=late.append) for word in ("NEVER", "GONE", "STAYS"))
        never.cancel()
        sent = await peer.reads.get()
        assert b"NEVER" not in sent
        gone.cancel()
        peer.say(b":7\r\n:8\r\n")
        assert await stays == 8
        assert late == [7]


@pytest.mark.parametrize(
    "fails",
    [
        lambda peer: peer.say(b"HTTP/1.1 200 OK\r\n\r\n"),
        lambda peer: peer.writers[-1].close(),
        lambda peer: peer.writers[-1].transport.abort(),
        lambda _: None,
    ],
    ids=["not its protocol", "closes", "aborts", "hangs"],
)
async def test_a_connection_that_failed_is_given_up_and_the_next_one_is_new(
    fails: Callable[[Peer], object],
) -> None:
    async with peered(patience=0.3) as (peer, link):
        late: list[RedisOutcome] = []
        gone, waits = link.submit("A", then=late.append), link.submit("B")
        await peer.greeted()
        await peer.reads.get()
        gone.cancel()
        fails(peer)
        with pytest.raises(RedisAway) as caught:
            await waits
        assert caught.value.sent
        assert [type(outcome) for outcome in late] == [RedisAway]
        again = link.submit("C")
        await peer.greeted()
        assert b"$1\r\nC\r\n" in await peer.reads.get()
        assert len(peer.writers) == 2
        peer.say(b"+three\r\n")
        assert await again == b"three"


async def test_time_for_which_our_loop_was_stuck_is_not_redis_s() -> None:
    async with peered(patience=0.3) as (peer, link):
        waits = link.submit("A")
        await peer.greeted()
        await peer.reads.get()
        beat = link._beat
        threading.Event().wait(0.6)
        async with asyncio.timeout(60):
            while link._beat == beat:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
        peer.say(b"+a\r\n")
        assert await waits == b"a"


async def test_an_idle_connection_that_ends_fails_nobody() -> None:
    async with peered() as (peer, link):
        first = link.submit("A")
        await peer.greeted()
        await peer.reads.get()
        peer.say(b"+a\r\n")
        assert await first == b"a"
        peer.writers[-1].close()
        await peer.writers[-1].wait_closed()
        async with asyncio.timeout(5):
            while link._connection is not None:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0)
        second = link.submit("B")
        await peer.greeted()
        await peer.reads.get()
        peer.say(b"+b\r\n")
        assert await second == b"b"


async def test_closing_sends_what_waits_and_nothing_later() -> None:
    key = "test:closing"
    link = RedisLink(redis_server().url, timeout=5.0, scripts=())
    told: list[RedisOutcome] = []
    link.tell(told.append, "SET", key, "said", "EX", 60)
    await link.close()
    assert told == [b"OK"]
    with pytest.raises(RedisAway):
        await link.submit("SET", key, "late")
    async with linked(redis_server().url) as other:
        assert await other.submit("GET", key) == b"said"
        await other.submit("DEL", key)


async def test_a_script_that_is_not_there_any_more_is_sent_again_as_text() -> None:
    async with linked(redis_server().url) as link:
        assert await link.call(ECHO, ("k",), "a") == [b"k", b"a"]
        await link.submit("SCRIPT", "FLUSH")
        asked = [link.call(ECHO, ("k",), f"a{number}") for number in range(5)]
        assert await asyncio.gather(*asked) == [[b"k", f"a{number}".encode()] for number in range(5)]


async def test_a_refusal_is_no_failure_of_the_connection() -> None:
    async with linked(redis_server().url, pause=60) as link:
        with pytest.raises(RedisRefused, match="unknown command"):
            await link.submit("NONSENSE")
        assert await link.submit("PING") == b"PONG"


@pytest.mark.parametrize(
    "words",
    [
        b"READONLY You can't write against a read only replica.",
        b"ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only replica.",
    ],
)
async def test_a_server_that_has_become_a_replica_is_left(words: bytes) -> None:
    """Its address may lead to another one by now."""
    async with peered(patience=30) as (peer, link):
        first, second = link.submit("A"), link.submit("B")
        await peer.greeted()
        await peer.reads.get()
        peer.say(b"-" + words + b"\r\n")
        with pytest.raises(RedisRefused, match="READONLY"):
            await first
        with pytest.raises(RedisAway):
            await second
        again = link.submit("C")
        await peer.greeted()
        assert b"$1\r\nC\r\n" in await peer.reads.get()
        assert len(peer.writers) == 2
        peer.say(b"+three\r\n")
        assert await again == b"three"


def _free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port: int = plug.getsockname()[1]
    return port
