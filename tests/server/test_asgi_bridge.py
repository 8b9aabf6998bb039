"""The ASGI site beside the data plane: uvicorn's cycle under the server's limits."""

import asyncio

import pytest

from penstock.exchange import Exchange
from penstock.server.limits import AsgiMessage
from penstock.server.listen import ServerLimits
from tests.server.running_server import chunked, echo, get, post, serving, within

QUICK = ServerLimits(max_body=200_000, body_deadline=0.15, body_rate=1_000_000, caller_stall=0.3)
PATIENT = 30.0


class Site:
    """A site that answers with what it got, and remembers its scopes and how its callers went."""

    def __init__(self) -> None:
        self.scopes: list[AsgiMessage] = []
        self.gone = asyncio.Event()
        self.waiting = asyncio.Event()

    async def __call__(self, scope: AsgiMessage, receive, send) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/early":
            await respond(send, b"early")
            return
        if scope["path"] == "/fails":
            raise ZeroDivisionError
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            body += message["body"]
            more = message["more_body"]
        if scope["path"] == "/wait":
            self.waiting.set()
            assert (await receive())["type"] == "http.disconnect"
            self.gone.set()
            return
        await respond(send, b"site:" + body)
        if scope["path"] == "/after":
            await self.gone.wait()


async def respond(send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-from", b"site")]})
    for at in range(0, len(body), 100_000):
        await send({"type": "http.response.body", "body": body[at : at + 100_000], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("size", [0, 3, 100_000, 200_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_site_and_data_plane_share_a_connection(size: int, framing: str) -> None:
    body = b"x" * size
    raw = post(body, path="/form") if framing == "length" else chunked(*[body][: bool(body)], path=b"/form")
    async with serving(site=Site(), limits=QUICK) as server:
        caller = await server.call()
        await caller.send(get("/v1/a") + raw + get("/v1/b") + get("/page"))
        assert (await caller.answer()).body == b"GET:"
        form = await caller.answer()
        assert (form.body, form.headers[b"x-from"]) == (b"site:" + body, b"site")
        assert (await caller.answer()).headers[b"x-path"] == b"/v1/b"
        assert (await caller.answer()).body == b"site:"


async def test_scope() -> None:
    site = Site()
    async with serving(site=site) as server:
        await server.ask(get("/a%20b/%2F?q=%20", "X: Y"))
        await server.ask(get("/old", version="1.0"))
    scope = site.scopes[0]
    assert scope["type"] == "http"
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b//", b"/a%20b/%2F")
    assert (scope["query_string"], scope["root_path"], scope["http_version"]) == (b"q=%20", "", "1.1")
    assert scope["headers"] == [(b"host", b"a"), (b"x", b"Y")]
    assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
    assert scope["server"] == ("127.0.0.1", server.listener.port)
    assert site.scopes[1]["http_version"] == "1.0"


async def test_forwarded_headers_count_from_trusted_proxies_only() -> None:
    site, clients = Site(), list[str]()

    async def handler(exchange: Exchange) -> None:
        clients.append(exchange.client)
        await echo(exchange)

    lines = ["X-Forwarded-For: 6.6.6.6, 192.0.2.7", "X-Forwarded-Proto: https"]
    for trusted in ((), ("127.0.0.0/8",)):
        async with serving(handler, site=site, limits=ServerLimits(trusted_proxies=trusted)) as server:
            await server.ask(get("/page", *lines))
            await server.ask(get("/v1/x", *lines))
    assert [(s["client"][0], s["scheme"]) for s in site.scopes] == [
        ("127.0.0.1", "http"),
        ("192.0.2.7", "https"),
    ]
    assert clients == ["127.0.0.1", "192.0.2.7"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (post(b"x" * 200_001, path="/form")[:-200_001], 413),
        (chunked(b"x" * 150_000, b"x" * 50_001, path=b"/form")[:-5], 413),
        (post(b"abc", "Content-Encoding: gzip", path="/form"), 415),
        (post(b"abc", path="/form")[:-1], 408),
        (chunked(path=b"/form")[:-5] + b"nonsense\r\n", 400),
        (b"GET /page HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_limits_hold_for_the_site(raw: bytes, status: int) -> None:
    async with serving(site=Site(), limits=QUICK) as server:
        caller = await server.call()
        await caller.send(raw)
        answer = await asyncio.wait_for(caller.answer(), PATIENT)
        assert (answer.status, answer.headers[b"connection"]) == (status, b"close")
        assert b"x-from" not in answer.headers
        assert await caller.closed() == b""


async def test_continue_for_the_site() -> None:
    async with serving(site=Site()) as server:
        caller = await server.call()
        await caller.send(post(b"abc", "Expect: 100-continue", path="/form")[:-3])
        assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await caller.send(b"abc")
        assert (await caller.answer()).body == b"site:abc"


async def test_body_the_site_did_not_want_is_skipped() -> None:
    async with serving(site=Site()) as server:
        caller = await server.call()
        await caller.send(post(b"x" * 150_000, path="/early")[:-100_000])
        assert (await caller.answer()).body == b"early"
        await caller.send(b"x" * 100_000 + get("/v1/next"))
        assert (await caller.answer()).body == b"GET:"


async def test_early_answer_reaches_a_caller_who_asked_to_close_and_is_still_sending() -> None:
    async with serving(site=Site()) as server:
        caller = await server.call()
        caller.writer.write(post(b"x" * 8_000_000, "Connection: close", path="/early")[:-1])
        assert (await caller.answer()).body == b"early"
        assert await caller.closed() == b""


async def test_site_is_told_when_its_caller_leaves() -> None:
    site = Site()
    async with serving(site=site) as server:
        caller = await server.call()
        await caller.send(get("/wait"))
        await within(PATIENT, site.waiting.wait())
        caller.leave()
        await within(PATIENT, site.gone.wait())


async def test_background_work_does_not_hold_up_the_next_request() -> None:
    site = Site()
    async with serving(site=site) as server:
        caller = await server.call()
        await caller.send(get("/after") + get("/v1/next"))
        assert (await caller.answer()).body == b"site:"
        assert (await caller.answer()).body == b"GET:"
        site.gone.set()


async def test_site_that_fails_answers_500(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(site=Site()) as server:
        caller = await server.call()
        await caller.send(get("/fails"))
        assert (await caller.answer()).status == 500
        assert await caller.closed() == b""
    assert "ZeroDivisionError" in caplog.text


async def test_reader_who_stopped_is_cut_off_from_the_site() -> None:
    ended = asyncio.Event()

    async def site(scope: AsgiMessage, receive, send) -> None:
        await respond(send, b"x" * 30_000_000)
        ended.set()

    async with serving(site=site, limits=QUICK) as server:
        caller = await server.call(limit=1024)
        await caller.send(get("/page"))
        await within(PATIENT, ended.wait())
        await within(PATIENT, caller.ended())
