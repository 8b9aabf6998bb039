"""The exchange over a real connection: bodies in, responses out, one request after another."""

import asyncio
import logging

import pytest

from penstock.errors import InvalidRequest, ReceiptTimeout, RequestTooLarge
from penstock.exchange import Exchange
from penstock.server.listen import ServerLimits
from tests.server.running_server import CLOSE, chunked, echo, get, post, serving, until, within

BIG = bytes(range(256)) * 4096  # 1 MiB


async def test_request_as_the_handler_sees_it() -> None:
    seen: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange)
        exchange.start(204, [])
        exchange.end()

    async with serving(handler) as server:
        await server.ask(get("/v1/a%2Fb/../c?beta=true", "X-Two: one ", "x-two: two", "X-Api-Key: K"))
    exchange = seen[0]
    assert (exchange.method, exchange.path, exchange.client) == ("GET", "/v1/a%2Fb/../c", "127.0.0.1")
    assert exchange.headers == [(b"host", b"a"), (b"x-two", b"one"), (b"x-two", b"two"), (b"x-api-key", b"K")]
    assert exchange.header(b"x-two") == b"one"
    assert exchange.header(b"x-api-key") == b"K"
    assert exchange.header(b"absent") is None


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 1_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_body_of_any_size(size: int, framing: str) -> None:
    body = BIG[:size]
    pieces = [body[at : at + 30_000] for at in range(0, size, 30_000)]
    async with serving() as server:
        caller = await server.call()
        await caller.send(post(body) if framing == "length" else chunked(*pieces))
        assert (await caller.answer()).body == b"POST:" + body
        await caller.send(get())
        assert (await caller.answer()).body == b"GET:"


async def test_chunks_that_look_like_the_end_of_a_body() -> None:
    chunks = [b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"a\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"\r"]
    raw = chunked(*chunks) + get("/v1/next")
    async with serving() as server:
        for size in (1, 2, 3, 5, 7, len(raw)):
            caller = await server.call()
            for at in range(0, len(raw), size):
                caller.writer.write(raw[at : at + size])
                await asyncio.sleep(0)
            assert (await caller.answer()).body == b"POST:" + b"".join(chunks)
            assert (await caller.answer()).headers[b"x-path"] == b"/v1/next"


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    running = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal running
        running += 1
        assert running == 1
        body = await exchange.body()
        await asyncio.sleep(0)
        running -= 1
        exchange.start(200, [])
        exchange.end(exchange.path.encode() + b":" + body)

    requests = [
        post(b"%d" % n, path=f"/v1/{n}") if n % 3 else chunked(b"%d" % n, path=b"/v1/%d" % n)
        for n in range(300)
    ]
    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(b"".join(requests))
        for n in range(300):
            assert (await caller.answer()).body == b"/v1/%d:%d" % (n, n)


async def test_pipelined_requests_wait_for_a_caller_who_reads() -> None:
    """A caller who asks on and on without reading is held back, not served into memory."""
    served = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal served
        served += 1
        exchange.start(200, [])
        exchange.end(BIG)

    async with serving(handler) as server:
        caller = await server.call(limit=1024)
        await caller.send(get() * 200)
        connection = server.connection
        await until(lambda: connection.flow.write_paused)
        before = served
        for _ in range(50):
            await asyncio.sleep(0)
        assert served == before < 200
        for _ in range(200):
            assert (await caller.answer()).body == BIG
    assert served == 200


async def test_the_next_request_starts_as_soon_as_the_response_ended() -> None:
    ended, release = asyncio.Event(), asyncio.Event()
    finished: list[str] = []

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.end()
        if exchange.path == "/v1/slow":
            ended.set()
            await release.wait()
        finished.append(exchange.path)

    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(get("/v1/slow") + get("/v1/fast"))
        assert (await caller.answer()).status == 200
        assert (await caller.answer()).status == 200
        caller.leave()  # and a handler past its end is not cancelled
        await ended.wait()
        await until(lambda: not server.listener._wire.connections)
        release.set()
        await until(lambda: len(finished) == 2)
    assert finished == ["/v1/fast", "/v1/slow"]


async def test_continue_is_sent_when_the_handler_asks_for_the_body() -> None:
    async with serving() as server:
        caller = await server.call()
        await caller.send(post(b"abc", "Expect: 100-continue")[:-3])
        assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await caller.send(b"abc")
        assert (await caller.answer()).body == b"POST:abc"


async def test_continue_is_not_sent_to_a_refused_caller() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(401, [])
        exchange.end(b"no")

    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(post(b"abc", "Expect: 100-continue")[:-3])
        answer = await caller.answer()
        assert (answer.status, answer.headers[b"connection"], caller.interim) == (401, b"close", [])
        assert await caller.closed() == b""


async def test_head_has_no_body() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [(b"content-length", b"5")] if exchange.path == "/v1/length" else [])
        exchange.write(b"he")
        exchange.end(b"llo")

    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(
            get("/v1/length").replace(b"GET", b"HEAD") + get("/v1/none").replace(b"GET", b"HEAD") + get()
        )
        first = await caller.answer(to_head=True)
        assert first.headers[b"content-length"] == b"5"
        assert b"transfer-encoding" not in (await caller.answer(to_head=True)).headers
        assert (await caller.answer()).body == b"hello"


@pytest.mark.parametrize("size", [1, 20_000])
async def test_framing_of_responses(size: int) -> None:
    part = b"x" * size

    async def handler(exchange: Exchange) -> None:
        exchange.start(
            200, [(b"content-length", b"%d" % (3 * size))] if exchange.path == "/v1/length" else []
        )
        if exchange.path == "/v1/flush":
            exchange.flush()
            exchange.flush()
        if exchange.path != "/v1/once":
            exchange.write(part)
            exchange.write(b"")
            exchange.write(part)
        exchange.end(part)

    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(get("/v1/length") + get("/v1/chunked") + get("/v1/flush") + get("/v1/once"))
        length, chunks, flushed, once = [await caller.answer() for _ in range(4)]
        assert length.body == chunks.body == flushed.body == 3 * part
        assert b"transfer-encoding" not in length.headers
        assert chunks.headers[b"transfer-encoding"] == flushed.headers[b"transfer-encoding"] == b"chunked"
        assert (once.body, once.headers[b"content-length"]) == (part, b"%d" % size)
        old = await server.ask(get("/v1/chunked", version="1.0"))
        assert old.body == 3 * part
        assert b"transfer-encoding" not in old.headers


async def test_head_and_first_bytes_leave_in_one_write() -> None:
    written: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        transport = exchange.line.transport  # pyright: ignore[reportAttributeAccessIssue]

        class Spy:
            def write(self, data: bytes) -> None:
                written.append(data)
                transport.write(data)

            def __getattr__(self, name: str) -> object:
                return getattr(transport, name)

        exchange.line.transport = Spy()  # pyright: ignore[reportAttributeAccessIssue]
        exchange.start(200, [])
        exchange.write(b"a")
        exchange.end(b"b")

    async with serving(handler) as server:
        assert (await server.ask(get())).body == b"ab"
    assert len(written) == 2
    assert written[0].endswith(b"\r\n\r\n1\r\na\r\n")
    assert written[1] == b"1\r\nb\r\n0\r\n\r\n"


async def test_refusal_reaches_a_caller_who_is_still_sending() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(401, [])
        exchange.end(b"no")

    async with serving(handler) as server:
        caller = await server.call()
        caller.writer.write(post(BIG * 8)[:-1])
        answer = await caller.answer()
        assert (answer.status, answer.body) == (401, b"no")
        assert answer.headers[b"connection"] == b"close"
        assert await caller.closed() == b""


async def test_short_rest_of_an_unwanted_body_is_skipped() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(401, [])
        exchange.end(exchange.path.encode())

    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(post(b"x" * 1000, path="/v1/one")[:-500])
        assert (await caller.answer()).body == b"/v1/one"
        await caller.send(b"x" * 500 + get("/v1/two"))
        assert (await caller.answer()).body == b"/v1/two"


async def test_nothing_is_read_ahead_of_a_handler_that_does_not_ask() -> None:
    go = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await go.wait()
        await echo(exchange)

    async with serving(handler) as server:
        caller = await server.call()
        caller.writer.write(post(BIG * 20))
        await until(lambda: server.listener._wire.exchanges)
        connection = server.connection
        await until(lambda: connection.flow.read_paused)
        exchange = next(iter(server.listener._wire.exchanges))
        assert sum(map(len, exchange.pieces)) < 2**19
        go.set()
        assert len((await caller.answer()).body) == 5 + 20 * len(BIG)


async def test_body_errors_are_raised_where_the_body_is_asked_for() -> None:
    caught: list[Exception] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await exchange.body()
        except (RequestTooLarge, ReceiptTimeout, InvalidRequest) as error:
            caught.append(error)
            exchange.start(error.status, [])
            exchange.end(b"mine")

    limits = ServerLimits(max_body=1000, body_deadline=0.1, body_rate=100_000)
    async with serving(handler, limits=limits) as server:
        large = await server.ask(post(b"x" * 1001)[:-1001])
        chunks = await server.ask(chunked(b"x" * 900, b"y" * 101)[:-5])
        broken = await server.ask(chunked()[:-5] + b"nonsense\r\n")
        late = await server.ask(post(b"x" * 10)[:-1])
    assert [a.status for a in (large, chunks, broken, late)] == [413, 413, 400, 408]
    assert all(
        a.body == b"mine" and a.headers[b"connection"] == b"close" for a in (large, chunks, broken, late)
    )
    assert list(map(type, caught)) == [RequestTooLarge, RequestTooLarge, InvalidRequest, ReceiptTimeout]


# ---- handlers that misbehave


async def fails(exchange: Exchange) -> None:
    raise ZeroDivisionError


async def returns(exchange: Exchange) -> None:
    await exchange.body()


async def twice(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.body()


async def splits(exchange: Exchange) -> None:
    exchange.start(200, [(b"x", b"a\r\nset-cookie: b")])


async def cancels(exchange: Exchange) -> None:
    raise asyncio.CancelledError


async def refuses(exchange: Exchange) -> None:
    raise InvalidRequest("No.")


@pytest.mark.parametrize(
    ("handler", "status", "logged"),
    [
        (fails, 500, 1),
        (returns, 500, 1),
        (twice, 500, 1),
        (splits, 500, 1),
        (cancels, 500, 1),
        (refuses, 400, 0),
    ],
)
async def test_handler_that_fails_before_it_answers(
    handler: object, status: int, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(handler) as server:  # pyright: ignore[reportArgumentType]
        caller = await server.call()
        await caller.send(post(b"secret body", "X-Api-Key: secret key"))
        answer = await caller.answer()
        assert answer.status == status
        assert CLOSE.partition(b": ")[2] == answer.headers[b"connection"]
        assert await caller.closed() == b""
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == logged
    assert "secret" not in caplog.text


async def late(exchange: Exchange) -> None:
    exchange.start(200, [])
    exchange.write(b"abc")
    raise ZeroDivisionError


async def cuts(exchange: Exchange) -> None:
    exchange.start(200, [])
    exchange.write(b"abc")
    exchange.abort()
    exchange.write(b"ignored")
    exchange.end()


async def short(exchange: Exchange) -> None:
    exchange.start(200, [(b"content-length", b"5")])
    exchange.write(b"abc")
    exchange.end()


async def too_long(exchange: Exchange) -> None:
    exchange.start(200, [(b"content-length", b"5")])
    exchange.write(b"abc")
    exchange.end(b"def")


@pytest.mark.parametrize("handler", [late, cuts, short, too_long])
async def test_response_that_is_cut_short_looks_cut(handler: object) -> None:
    async with serving(handler) as server:  # pyright: ignore[reportArgumentType]
        answer = await server.ask(get())
        assert (answer.status, answer.body, answer.whole) == (200, b"abc", False)


async def test_response_without_framing_is_cut_by_a_reset() -> None:
    """In HTTP/1.0 a clean close would be a clean end."""
    go = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, [])
        exchange.write(b"abc")
        await go.wait()
        exchange.abort()

    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(get(version="1.0"))
        await caller.reader.readuntil(b"abc")
        go.set()
        with pytest.raises(ConnectionResetError):
            await caller.closed()


@pytest.mark.parametrize("when", ["before start", "before flush"])
async def test_abort_before_anything_was_sent(when: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if when == "before flush":
            exchange.start(200, [])
        exchange.abort()

    async with serving(handler) as server:
        caller = await server.call()
        await caller.send(get())
        await within(5, caller.ended())


async def test_reject_that_fails_still_closes(caplog: pytest.LogCaptureFixture) -> None:
    def reject(exchange: Exchange, error: Exception) -> None:
        raise ZeroDivisionError

    async with serving(reject=reject) as server:
        caller = await server.call()
        await caller.send(b"nonsense\r\n\r\n")
        await within(5, caller.ended())
    assert "error response" in caplog.text


async def test_refused_request_is_described_as_far_as_it_was_understood() -> None:
    seen: list[Exchange] = []

    def reject(exchange: Exchange, error: Exception) -> None:
        seen.append(exchange)
        exchange.start(431, [])
        exchange.end()

    async with serving(reject=reject, limits=ServerLimits(header_bytes=1000)) as server:
        await server.ask(get("/v1/messages?x", "User-Agent: sdk", "X: " + "x" * 1000))
        await server.ask(b"nonsense\r\n\r\n")
    assert (seen[0].method, seen[0].path, seen[0].header(b"user-agent")) == ("GET", "/v1/messages", b"sdk")
    assert (seen[1].method, seen[1].path, seen[1].headers) == ("", "", [])
