"""The same conversations with real servers: aiohttp, uvicorn, and nginx and HAProxy in front of one of them."""

import asyncio
import contextlib
import hashlib
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from aiohttp import web

from penstock.upstream import Deadlines, FailureReason, Origin, UpstreamClient, UpstreamFailure
from tests.upstream.scripted import PATIENT, Caller

Message = MutableMapping[str, object]
EVENT = b'data: {"n": %d}\n\n'

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 8m; keepalive_requests 7; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;
  upstream app {{ server 127.0.0.1:{behind}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header connection ""; proxy_buffering off;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 256
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
  timeout http-keep-alive 30s
frontend in
  bind 127.0.0.1:{port}
  http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt 8388608 }}
  default_backend app
backend app
  server one 127.0.0.1:{behind}
"""


class Doings:
    """What the application behind a server has noticed."""

    def __init__(self) -> None:
        self.left = asyncio.Event()


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return plug.getsockname()[1]


@asynccontextmanager
async def aiohttp_server(doings: Doings) -> AsyncGenerator[int]:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(
            body=await request.read(), headers={"x-token": request.headers.get("x-token", "")}
        )

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for n in range(200):
            await response.write(EVENT % n)
        await response.write_eof()
        return response

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(EVENT % 0)
                await asyncio.sleep(0.01)
        finally:
            doings.left.set()

    app = web.Application(client_max_size=8 * 2**20)
    app.router.add_post("/echo", echo)
    app.router.add_post("/stream", stream)
    app.router.add_post("/endless", endless)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@asynccontextmanager
async def uvicorn_server(doings: Doings) -> AsyncGenerator[int]:
    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        assert isinstance(scope["path"], str)
        assert isinstance(scope["headers"], list)
        token = dict(scope["headers"]).get(b"x-token", b"")
        body = b""
        while True:
            message = await receive()
            assert isinstance(message["body"], bytes)
            body += message["body"]
            if len(body) > 8 * 2**20:
                await send(
                    {"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]}
                )
                await send({"type": "http.response.body", "body": b""})
                return
            if not message["more_body"]:
                break
        path = scope["path"]
        status = 200 if path in ("/echo", "/stream", "/endless") else 404
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-token", token)]})
        if path == "/echo":
            await send({"type": "http.response.body", "body": body})
        elif path == "/stream":
            for n in range(200):
                await send({"type": "http.response.body", "body": EVENT % n, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif path == "/endless":
            leaving = asyncio.ensure_future(receive())
            while not leaving.done():
                await send({"type": "http.response.body", "body": EVENT % 0, "more_body": True})
                await asyncio.sleep(0.01)
            doings.left.set()
        else:
            await send({"type": "http.response.body", "body": b""})

    plug = socket.socket()
    plug.bind(("127.0.0.1", 0))
    plug.listen(128)
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, http="httptools", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with contextlib.closing(plug):
        serving = asyncio.create_task(server.serve(sockets=[plug]))
        yield plug.getsockname()[1]
        server.should_exit = True
        await serving


@asynccontextmanager
async def front(name: str, config: str, behind: int, folder: Path) -> AsyncGenerator[int]:
    """Run nginx or HAProxy with this configuration in front of the port ``behind``."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed: scripts/services.sh does it")
    port = free_port()
    file = folder / f"{name}.conf"
    file.write_text(config.format(folder=folder, port=port, behind=behind))
    command = [program, "-p", str(folder), "-c", str(file), "-e", "stderr"]
    if name == "haproxy":
        command = [program, "-db", "-f", str(file)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while True:
            if process.returncode is not None:
                raise AssertionError((await process.communicate())[1].decode())
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)  # the program does not tell when it listens
            else:
                writer.close()
                await writer.wait_closed()
                break
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


@pytest.fixture
async def doings() -> Doings:
    return Doings()


@pytest.fixture(params=["aiohttp", "uvicorn", "nginx", "haproxy"])
async def caller(request: pytest.FixtureRequest, doings: Doings, tmp_path: Path) -> AsyncIterator[Caller]:
    """A client for each of the servers in turn."""
    async with contextlib.AsyncExitStack() as stack:
        match request.param:
            case "aiohttp":
                port = await stack.enter_async_context(aiohttp_server(doings))
            case "uvicorn":
                port = await stack.enter_async_context(uvicorn_server(doings))
            case "nginx":
                behind = await stack.enter_async_context(uvicorn_server(doings))
                port = await stack.enter_async_context(front("nginx", NGINX, behind, tmp_path))
            case _:
                behind = await stack.enter_async_context(aiohttp_server(doings))
                port = await stack.enter_async_context(front("haproxy", HAPROXY, behind, tmp_path))
        client = UpstreamClient()
        yield Caller(client, Origin("http", "127.0.0.1", port))
        await client.close()
        assert all(stats.open == 0 for stats in client.stats().values())


async def echo(caller: Caller, body: bytes, token: bytes = b"") -> bytes:
    response = await caller.client.send(
        caller.origin, b"POST", b"/echo", [(b"x-token", token)], body, PATIENT
    )
    assert response.status == 200
    assert response.header(b"x-token") == token
    return await response.read(2**24)


async def test_bodies_of_all_sizes_come_back(caller: Caller) -> None:
    for size in (0, 1, 1500, 16 * 1024, 16 * 1024 + 1, 107_000, 5_000_000):
        body = random.Random(size).randbytes(size)
        returned = await echo(caller, body, b"%d" % size)
        assert hashlib.sha256(returned).digest() == hashlib.sha256(body).digest()


async def test_many_at_once_and_one_after_another_get_their_own(caller: Caller) -> None:
    async def worker(number: int) -> None:
        for turn in range(20):
            token = b"%d-%d" % (number, turn)
            assert await echo(caller, token * 20, token) == token * 20

    await asyncio.gather(*(worker(number) for number in range(30)))
    opened, idle = caller.connections()
    assert opened == idle <= 30


async def test_connections_are_kept(caller: Caller) -> None:
    reused = 0
    for _ in range(12):
        response = await caller.post(path=b"/echo")
        assert await response.read(10) == b"{}"
        reused += response.reused
    # nginx is set up to close after seven; all others keep the one
    assert reused >= 10


async def test_a_stream_arrives_whole(caller: Caller) -> None:
    for _ in range(3):
        seen: list[bytes] = []
        response = await caller.post(path=b"/stream", stream=True)
        assert response.status == 200
        await response.stream(seen.append)
        assert b"".join(seen) == b"".join(EVENT % n for n in range(200))
    assert caller.connections() == (1, 1)


async def test_leaving_is_seen_by_the_application(caller: Caller, doings: Doings) -> None:
    response = await caller.post(path=b"/endless", stream=True)
    enough = asyncio.Event()
    done = response.stream(lambda _: enough.set())
    await enough.wait()
    response.close()
    assert done.cancelled()
    await doings.left.wait()


async def test_a_failure_status_is_an_answer(caller: Caller) -> None:
    response = await caller.post(path=b"/nowhere")
    assert response.status == 404
    await response.read(10_000)


async def test_a_body_over_the_servers_limit_gets_its_413(caller: Caller) -> None:
    for _ in range(5):
        response = await caller.post(b"x" * 12_000_000, path=b"/echo")
        assert response.status == 413
        response.close()
    # and nothing of it is left in the way of the next
    assert await echo(caller, b"next") == b"next"


async def test_deadlines_hold_against_a_stream_that_never_ends(caller: Caller, doings: Doings) -> None:
    response = await caller.post(path=b"/endless", stream=True, deadlines=Deadlines(total=0.5))
    with pytest.raises(UpstreamFailure) as caught:
        await response.stream(lambda _: None)
    assert caught.value.reason is FailureReason.TOTAL_TIMEOUT
    await doings.left.wait()
