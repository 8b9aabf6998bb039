"""``python -m bench.client``: what the upstream client costs beside a bare parser on the same core.

Both keep the same number of requests in flight against the same server on the other core, in turns of a fraction of a second;
what is printed is CPU time a request: the median of each, and of the difference in each pair. The bare client writes one
ready-made request again and again and notes the end of each answer: no deadlines, no pool, no tasks, no checks. It is the
floor for a client in Python. ``PYTHONPATH=OTHER/src`` measures the client of another work tree.
"""

import argparse
import asyncio
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httptools
import uvloop

from bench.bodies import Size, body
from bench.build import BUILD, ROOT, NotBuilt
from bench.gauges import machine
from bench.subjects import GATEWAY_CORE, LOAD_CORE, UPSTREAM_KEY, Place, free_port, start, upstream
from penstock.upstream import Deadlines, Origin, UpstreamClient

_PATH = b"/v1/chat/completions"
_HEADERS = (
    (b"authorization", b"Bearer " + UPSTREAM_KEY.encode()),
    (b"content-type", b"application/json"),
    (b"user-agent", b"penstock"),
)
_DEADLINES = Deadlines()
_MOST = 1 << 20
_PATIENCE = 10.0
_ANSWER = b'{"choices":[{"message":{"content":"' + b"The quick brown fox. " * 45 + b'"}}]}'
_VENDOR_HEAD = b"".join(
    b"%b: %b\r\n" % header
    for header in (
        (b"Date", b"Mon, 01 Jun 2026 12:00:00 GMT"),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(_ANSWER)),
        (b"Connection", b"keep-alive"),
        (b"Server", b"edge"),
        (b"x-request-id", b"req_0123456789abcdef0123456789abcdef"),
        (b"openai-processing-ms", b"512"),
        (b"openai-version", b"2020-10-01"),
        (b"x-ratelimit-limit-requests", b"10000"),
        (b"x-ratelimit-limit-tokens", b"2000000"),
        (b"x-ratelimit-remaining-requests", b"9999"),
        (b"x-ratelimit-remaining-tokens", b"1999000"),
        (b"x-ratelimit-reset-requests", b"6ms"),
        (b"x-ratelimit-reset-tokens", b"30ms"),
        (b"cf-cache-status", b"DYNAMIC"),
        (b"cf-ray", b"0123456789abcdef-FRA"),
        (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
        (b"x-content-type-options", b"nosniff"),
    )
)
_VENDOR_ANSWER = b"HTTP/1.1 200 OK\r\n" + _VENDOR_HEAD + b"\r\n" + _ANSWER


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. ``vendor``: 18 response headers, as the large vendors send them, instead of two."""

    name: str
    size: Size
    vendor: bool
    tls: bool


CASES = (
    Case("1.5 KB", "small", vendor=False, tls=False),
    Case("1.5 KB, 18 response headers", "small", vendor=True, tls=False),
    Case("1.5 KB, 18 response headers, TLS", "small", vendor=True, tls=True),
    Case("107 KB", "large", vendor=False, tls=False),
)


class VendorServer(asyncio.Protocol):
    """Answers every request with the same bytes, as soon as its ``content-length`` has arrived."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._missing = 0

    def data_received(self, data: bytes) -> None:
        """Head and body; a caller sends the next request only after the answer."""
        if not self._missing:
            head, _, _ = data.partition(b"\r\n\r\n")
            _, _, rest = head.partition(b"content-length: ")
            self._missing = len(head) + 4 + int(rest.partition(b"\r\n")[0])
        self._missing -= len(data)
        if not self._missing:
            self._transport.write(_VENDOR_ANSWER)


class BareClient(asyncio.Protocol):
    """One connection of the floor: writes the request, lets httptools find the answer's end, and writes it again."""

    def __init__(self, request: bytes, quota: list[int], done: asyncio.Future[None]) -> None:
        self._request = request
        self._quota = quota
        self._done = done
        self._complete = False
        self._parts: list[bytes] = []
        self.on_body = self._parts.append

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open; opening it is not what is measured."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def begin(self) -> None:
        """Write the first request."""
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Part of an answer; after the last, the next request."""
        self._parser.feed_data(data)
        if not self._complete:
            return
        if self._parser.get_status_code() != 200:
            raise RuntimeError("the server refused")
        self._complete = False
        b"".join(self._parts)
        self._parts.clear()
        quota = self._quota
        quota[0] -= 1
        if quota[0] > 0:
            self._transport.write(self._request)
        elif not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server should not do that."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed"))

    def on_message_complete(self) -> None:
        """The parser has seen the end."""
        self._complete = True

    def close(self) -> None:
        """Be done."""
        self._transport.abort()


class Bench:
    """Both clients against one server, each for ``requests`` at a time with ``at_once`` in flight."""

    def __init__(
        self, origin: Origin, content: bytes, tls: ssl.SSLContext | None, requests: int, at_once: int
    ) -> None:
        self._origin = origin
        self._content = content
        self._tls = tls
        self._requests = requests
        self._at_once = at_once
        self._client = UpstreamClient(ssl_context=tls)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()

    async def ours(self) -> float:
        """CPU microseconds a request."""
        left = self._requests
        client, origin, content = self._client, self._origin, self._content

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                response = await client.send(origin, b"POST", _PATH, _HEADERS, content, _DEADLINES)
                try:
                    if response.status != 200:
                        raise RuntimeError("the server refused")
                    await response.read(_MOST)
                finally:
                    response.close()

        before = time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(caller())
        return (time.process_time() - before) / self._requests * 1e6

    async def bare(self) -> float:
        """CPU microseconds a request."""
        head = b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\naccept-encoding: identity\r\n" % _PATH
        head += b"".join(b"%b: %b\r\n" % header for header in _HEADERS)
        request = head + b"content-length: %d\r\n\r\n" % len(self._content) + self._content
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        quota = [self._requests]
        clients = [
            (
                await loop.create_connection(
                    lambda: BareClient(request, quota, done),
                    self._origin.host,
                    self._origin.port,
                    ssl=self._tls,
                )
            )[1]
            for _ in range(self._at_once)
        ]
        before = time.process_time()
        for client in clients:
            client.begin()
        await done
        spent = (time.process_time() - before) / self._requests * 1e6
        for client in clients:
            client.close()
        return spent


async def measure(
    case: Case, port: int, tls: ssl.SSLContext | None, options: argparse.Namespace
) -> list[tuple[float, float]]:
    """Pairs of (bare, ours), the first of them left out: it opens connections and warms caches."""
    origin = Origin("https" if case.tls else "http", "127.0.0.1", port)
    content = body("chat", case.size, "mock-chat", stream=False)
    requests = options.requests if case.size == "small" else options.requests // 4
    bench = Bench(origin, content, tls, requests, options.at_once)
    try:
        pairs = [(await bench.bare(), await bench.ours()) for _ in range(options.pairs + 1)]
    finally:
        await bench.close()
    return pairs[1:]


@contextmanager
def vendor(place: Path, *, tls: bool) -> Generator[tuple[int, ssl.SSLContext | None]]:
    """A ``VendorServer`` in a process on the load's core: its port, and for TLS what trusts it."""
    port = free_port()
    command = [sys.executable, "-m", "bench.client", "--serve", str(port)]
    context = None
    if tls:
        made = subprocess.run(
            [
                str(ROOT / ".venv" / "bin" / "python"),
                "-m",
                "trustme",
                "-q",
                "-i",
                "127.0.0.1",
                "-d",
                str(place),
            ],
            check=False,
        )
        if made.returncode:
            raise NotBuilt("trustme makes the certificate: run `make env`")
        context = ssl.create_default_context(cafile=str(place / "client.pem"))
        command += [str(place / "server.pem"), str(place / "server.key")]
    surroundings = dict(os.environ, PYTHONPATH=str(ROOT))
    program = start("vendor", command, LOAD_CORE, place / "vendor.log", surroundings)
    try:
        until = time.monotonic() + _PATIENCE
        while b"serving" not in (place / "vendor.log").read_bytes():
            if time.monotonic() > until or program.process.poll() is not None:
                raise NotBuilt(f"the server did not start:\n{program.output()}")
            time.sleep(0.01)
        yield port, context
    finally:
        program.stop()


async def serve(port: int, certificate: list[str]) -> None:
    """Be the vendor until ended."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    server = await asyncio.get_running_loop().create_server(VendorServer, "127.0.0.1", port, ssl=context)
    print("serving", flush=True)
    await server.serve_forever()


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.client", description="The upstream client beside a bare parser."
    )
    parser.add_argument("--pairs", type=int, default=15, help="pairs of runs in each case (15)")
    parser.add_argument(
        "--requests", type=int, default=8000, help="requests of a run; a quarter for 107 KB (8000)"
    )
    parser.add_argument("--at-once", type=int, default=32, help="requests in flight (32)")
    parser.add_argument("--only", help="cases whose name holds this text")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(int(options.serve[0]), options.serve[1:]))
        return
    os.sched_setaffinity(0, {GATEWAY_CORE})
    run = BUILD / "client"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    facts = machine()
    print(f"Python {sys.version.split()[0]}, uvloop {uvloop.__version__}, {facts.cpu}, Linux {facts.kernel}")
    print("CPU microseconds a request\n")
    print("| case | bare parser | this client | difference |\n|---|---|---|---|")
    for case in CASES:
        if options.only and options.only not in case.name:
            continue
        if case.vendor:
            with vendor(run, tls=case.tls) as (port, context):
                pairs = uvloop.run(measure(case, port, context, options))
        else:
            place = Place(run, BUILD)
            with upstream(place):
                pairs = uvloop.run(measure(case, place.upstream_port, None, options))
        floor, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        gap = statistics.median(ours - floor for floor, ours in pairs)
        print(f"| {case.name} | {floor:.1f} | {ours:.1f} | {gap:.1f} |", flush=True)


if __name__ == "__main__":
    main()
