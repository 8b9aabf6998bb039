"""What may come back over the wire, at any split, and what each damage to it is called."""

import asyncio
import random

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.upstream import FailureReason, UpstreamClient, UpstreamFailure, UpstreamResponse
from tests.upstream.scripted import OK, PATIENT, Caller, ScriptedServer, turns_until

LENGTH = (
    b"HTTP/1.1 200 Fine\r\nContent-Type: text/plain\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
    b"Content-Length: 11\r\n\r\nhello world"
)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;name=value\r\nhello\r\n1\r\n \r\n005\r\nworld\r\n0\r\nx-trailer: t\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\nserver: old\r\n\r\nhello world"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


async def answer(server: ScriptedServer, caller: Caller, *pieces: bytes) -> UpstreamResponse:
    """The response to one request that is answered with these pieces, then a clean close."""
    sending = caller.start()
    peer = await server.accept()
    await peer.request()
    await peer.say(*pieces)
    await peer.hang_up()
    return await sending


async def failure(server: ScriptedServer, caller: Caller, *pieces: bytes) -> UpstreamFailure:
    """How it fails."""
    with pytest.raises(UpstreamFailure) as caught:
        await (await answer(server, caller, *pieces)).read(2**20)
    assert caught.value.sent
    assert "sk-secret" not in caught.value.message
    await turns_until(lambda: caller.connections() == (0, 0))
    return caught.value


async def test_the_request_is_written_as_asked(server: ScriptedServer, caller: Caller) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"host", b"evil"),
        (b"content-length", b"9"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"accept-encoding", b"br"),
        (b"x-a", b"1"),
    ]
    sending = asyncio.create_task(
        caller.client.send(server.origin, b"POST", b"/v1/messages?beta=true", headers, b'{"a":1}', PATIENT)
    )
    peer = await server.accept()
    head, body = await peer.request()
    await peer.say(OK)
    response = await sending
    assert await response.read(100) == b"ok"
    assert body == b'{"a":1}'
    assert head == (
        b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: identity\r\n"
        b"content-type: application/json\r\nx-a: 1\r\ncontent-length: 7\r\n\r\n" % server.origin.port
    )
    assert 0 < response.sent_at <= response.first_byte_at <= asyncio.get_running_loop().time()
    assert not response.reused


async def test_get_has_no_content_length_and_an_empty_post_has(
    server: ScriptedServer, caller: Caller
) -> None:
    for method, expected in ((b"GET", False), (b"POST", True)):
        sending = asyncio.create_task(caller.client.send(server.origin, method, b"/", [], b"", PATIENT))
        peer = server.peers[0] if server.peers else await server.accept()
        head, _ = await peer.request()
        await peer.say(OK)
        assert await (await sending).read(2) == b"ok"
        assert (b"\r\ncontent-length: 0\r\n" in head) is expected


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        (b"POST", b"/x\r\ny: z", (b"a", b"b")),
        (b"POST", b"/x y", (b"a", b"b")),
        (b"POST", b"x", (b"a", b"b")),
        (b"POST", b"", (b"a", b"b")),
        (b"PO ST", b"/", (b"a", b"b")),
        (b"HEAD", b"/", (b"a", b"b")),
        (b"CONNECT", b"/", (b"a", b"b")),
        (b"POST", b"/", (b"a\r\n", b"b")),
        (b"POST", b"/", (b"a", b"b\r\nc: d")),
        (b"POST", b"/", (b"a", b"b\n")),
        (b"POST", b"/", (b"a", b"b\r")),
        (b"POST", b"/", (b"a", b"\rb")),
        (b"POST", b"/", (b"a", b"b\0")),
    ],
)
async def test_a_request_that_would_come_apart_is_refused(
    server: ScriptedServer, caller: Caller, method: bytes, path: bytes, header: tuple[bytes, bytes]
) -> None:
    with pytest.raises(ValueError, match=r"path|method"):
        await caller.client.send(server.origin, method, path, [header], b"", PATIENT)
    assert server.waiting() == 0
    assert not server.peers


async def test_headers_are_lower_case_in_order_and_kept_twice(server: ScriptedServer, caller: Caller) -> None:
    response = await answer(server, caller, LENGTH)
    assert response.status == 200
    assert response.headers == [
        (b"content-type", b"text/plain"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"content-length", b"11"),
    ]
    assert response.header(b"set-cookie") == b"a"
    assert response.header(b"x-none") is None
    assert await response.read(11) == b"hello world"


@pytest.mark.parametrize("wire", [LENGTH, CHUNKED, UNTIL_CLOSE, INTERIM + LENGTH, INTERIM + CHUNKED])
async def test_any_answer_may_come_byte_by_byte(server: ScriptedServer, caller: Caller, wire: bytes) -> None:
    response = await answer(server, caller, *(wire[i : i + 1] for i in range(len(wire))))
    assert response.status == 200
    assert await response.read(11) == b"hello world"


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_split_and_any_chunks_give_the_same_body(data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=3000))
    at = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    chunks = [body[a:b] for a, b in zip([0, *at], [*at, len(body)], strict=True)]
    wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    wire += b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks if c) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]

    async def conversation() -> None:
        client = UpstreamClient()
        async with ScriptedServer.start() as server:
            response = await answer(server, Caller(client, server.origin), *(p for p in pieces if p))
            assert await response.read(3000) == body
            await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(conversation())


@pytest.mark.parametrize("wire", [LENGTH, CHUNKED, INTERIM + LENGTH])
async def test_a_cut_anywhere_is_a_cut(server: ScriptedServer, caller: Caller, wire: bytes) -> None:
    for end in range(len(wire)):
        caught = await failure(server, caller, *([wire[:end]] if end else []))
        assert caught.reason is FailureReason.CUT, (end, caught.message)


async def test_bytes_before_a_cut_are_handed_over(server: ScriptedServer, caller: Caller) -> None:
    response = await answer(server, caller, LENGTH[:-3])
    seen: list[bytes] = []
    done = response.stream(seen.append)
    with pytest.raises(UpstreamFailure) as caught:
        await done
    assert caught.value.reason is FailureReason.CUT
    assert b"".join(seen) == b"hello wo"


@pytest.mark.parametrize("wire", [LENGTH[:-3], UNTIL_CLOSE, OK[:9]])
async def test_a_reset_is_a_cut_even_where_a_close_would_end_the_body(
    server: ScriptedServer, caller: Caller, wire: bytes
) -> None:
    reading = caller.fetch()
    peer = await server.accept()
    await peer.request()
    await peer.say(wire)
    peer.reset()
    with pytest.raises(UpstreamFailure) as caught:
        await reading
    assert caught.value.reason is FailureReason.CUT


@pytest.mark.parametrize(
    "wire",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nok",
        b"HTTP/1.1 100 Continue\r\ncontent-length: 3\r\n\r\nabc" + OK,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x02hi",
    ],
)
async def test_what_is_not_http_is_a_protocol_failure(
    server: ScriptedServer, caller: Caller, wire: bytes
) -> None:
    assert (await failure(server, caller, wire)).reason is FailureReason.PROTOCOL


async def test_random_bytes_never_do_more_than_fail(server: ScriptedServer, caller: Caller) -> None:
    dice = random.Random(11)
    for _ in range(150):
        wire = bytearray(dice.choice([LENGTH, CHUNKED, INTERIM + LENGTH]))
        for _ in range(dice.randint(1, 4)):
            wire[dice.randrange(len(wire))] = dice.randrange(256)
        try:
            end = len(await (await answer(server, caller, bytes(wire))).read(2**20))
        except UpstreamFailure as caught:
            end = caught.reason
        assert end in {*range(len(wire)), FailureReason.PROTOCOL, FailureReason.CUT}


async def test_bytes_before_garbage_are_handed_over(server: ScriptedServer, caller: Caller) -> None:
    wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"
    seen: list[bytes] = []
    with pytest.raises(UpstreamFailure) as caught:
        await (await answer(server, caller, wire)).stream(seen.append)
    assert caught.value.reason is FailureReason.PROTOCOL
    assert seen == [b"ok"]


@pytest.mark.parametrize("interim", [INTERIM, INTERIM * 50])
async def test_interim_answers_are_skipped(server: ScriptedServer, caller: Caller, interim: bytes) -> None:
    for pieces in ((interim + LENGTH,), (interim, LENGTH)):
        response = await answer(server, caller, *pieces)
        assert response.status == 200
        assert response.header(b"link") is None
        assert await response.read(100) == b"hello world"


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 12_000 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 " + b"a" * 70_000,
        INTERIM * 1500,
    ],
)
async def test_a_head_over_the_bound_is_too_large(
    server: ScriptedServer, caller: Caller, wire: bytes
) -> None:
    sending = caller.start()
    peer = await server.accept()
    await peer.request()
    await peer.say(wire)
    with pytest.raises(UpstreamFailure) as caught:
        await sending
    assert caught.value.reason is FailureReason.TOO_LARGE
    await peer.gone()


async def test_a_large_body_right_behind_the_head_is_no_large_head(
    server: ScriptedServer, caller: Caller
) -> None:
    response = await answer(
        server, caller, b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"a" * 200_000
    )
    assert await response.read(200_000) == b"a" * 200_000


@pytest.mark.parametrize(
    "tail", [b"2;" + b"a" * 100_000, b"0\r\nx: " + b"a" * 100_000, b"0\r\n" + b"x: y\r\n" * 30_000]
)
async def test_endless_framing_is_a_protocol_failure(
    server: ScriptedServer, caller: Caller, tail: bytes
) -> None:
    reading = caller.fetch()
    peer = await server.accept()
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", tail)
    with pytest.raises(UpstreamFailure) as caught:
        await reading
    assert caught.value.reason is FailureReason.PROTOCOL
    await peer.gone()


@pytest.mark.parametrize(
    ("wire", "status", "body", "kept"),
    [
        (LENGTH, 200, b"hello world", True),
        (CHUNKED, 200, b"hello world", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 500, b"", True),
        (b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n", 302, b"", True),
        (b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok",
            200,
            b"ok",
            True,
        ),
        # more than one answer to one request: the rest belongs to nobody
        (OK + OK, 200, b"ok", False),
        (OK + b"H", 200, b"ok", False),
        (OK + b"garbage", 200, b"ok", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n" + OK, 204, b"", False),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc", 204, b"", False),
    ],
)
async def test_when_a_connection_is_kept(
    server: ScriptedServer, caller: Caller, wire: bytes, status: int, body: bytes, kept: bool
) -> None:
    sending = caller.start()
    peer = await server.accept()
    await peer.request()
    await peer.say(wire)
    response = await sending
    assert response.status == status
    assert await response.read(100) == body
    if not kept:
        assert caller.connections()[1] == 0, "nothing to give to the next request"
        await peer.gone()
        await turns_until(lambda: caller.connections() == (0, 0))
        return
    assert caller.connections() == (1, 1)
    again = caller.start()
    await peer.request()
    await peer.say(OK)
    response = await again
    assert response.reused
    assert response.headers == [(b"content-length", b"2")]
    assert await response.read(2) == b"ok"


async def test_a_body_over_the_limit_is_too_large(server: ScriptedServer, caller: Caller) -> None:
    for wire in (LENGTH, LENGTH[:-5], CHUNKED, CHUNKED[:-9]):
        sending = caller.start()
        peer = await server.accept()
        await peer.request()
        await peer.say(wire)
        with pytest.raises(UpstreamFailure) as caught:
            await (await sending).read(10)
        assert caught.value.reason is FailureReason.TOO_LARGE
        await peer.hang_up()


async def test_a_body_is_taken_once(server: ScriptedServer, caller: Caller) -> None:
    response = await answer(server, caller, LENGTH)
    assert await response.read(11) == b"hello world"
    with pytest.raises(RuntimeError):
        await response.read(11)
    with pytest.raises(RuntimeError):
        response.stream(print)
    response = await answer(server, caller, LENGTH[:-1])
    response.close()
    response.close()
    with pytest.raises(RuntimeError):
        response.stream(print)


@pytest.mark.parametrize("closing", [False, True])
async def test_an_early_answer_to_a_large_request_is_delivered(
    server: ScriptedServer, caller: Caller, closing: bool
) -> None:
    sending = caller.start(b"x" * 20_000_000)
    peer = await server.accept()
    await peer.head()
    await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
    if closing:
        await peer.hang_up()
    response = await sending
    assert response.status == 413
    assert await response.read(3) == b"big"
    await peer.gone()
    assert caller.connections() == (0, 0)


async def test_a_large_body_arrives_whole(server: ScriptedServer, caller: Caller) -> None:
    body = random.Random(5).randbytes(3_000_000)
    sending = caller.start(body)
    peer = await server.accept()
    _, received = await peer.request()
    await peer.say(OK)
    assert received == body
    assert await (await sending).read(2) == b"ok"
    assert caller.connections() == (1, 1)
