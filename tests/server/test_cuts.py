"""The corpus in every reading: cut anywhere, in two reads, in three or byte by byte, it is answered as it is in one."""

import asyncio
import atexit
import os
import re
import socket
from collections.abc import Iterator
from itertools import combinations, islice, pairwise
from typing import Any

import pytest

from penstock.server.connection import CallerConnection, Phase
from penstock.server.listen import Application, ASGIApp
from penstock.server.shared_state import SharedState
from tests.server.running_server import chunked, echo, get, post, reject
from tests.server.test_corpus import CLOSES, CODED, CORPUS, LIMITS, OK

READINGS = int(os.environ.get("PENSTOCK_TEST_CUTS", "60"))
"""How many readings of a request are tried, spread evenly: of all with one cut first, then of those with two."""
TURNS = 1000
"""Of the loop: more than any of these answers needs."""
FOLLOWERS = post(b"2nd", path="/v1/second") + chunked(b"3", b"rd", path=b"/v1/third") + get("/v1/fourth")
_SOCKET = socket.socket()
atexit.register(_SOCKET.close)


class Socket(asyncio.Transport):
    """The caller's socket: keeps what is written, and is read by the test."""

    def __init__(self, protocol: CallerConnection) -> None:
        super().__init__({"socket": _SOCKET, "peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self._protocol = protocol
        self.written = b""
        self.reading = True
        self.open = True
        self.ended = False
        """Nothing more is written."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        assert not self.ended
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.ended = True
        if self.open:
            self.open = False
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def answered(wire: SharedState, reads: list[bytes]) -> tuple[bytes, bool]:
    """What was written in answer to these reads, but for its dates, and whether the connection was ended then."""
    connection = CallerConnection(wire)
    plug = Socket(connection)
    connection.connection_made(plug)
    for data in reads:
        for _ in range(TURNS):
            if plug.reading or not plug.open:
                break
            await asyncio.sleep(0)
        if not plug.open:
            break
        connection.data_received(data)
        await asyncio.sleep(0)
    for _ in range(TURNS):
        waits = connection._phase is Phase.HEAD and connection._head is None and not connection._held
        if plug.ended or (waits and connection.call is None):
            break
        await asyncio.sleep(0)
    else:
        raise AssertionError("no answer, and no wait for the next request")
    ended = plug.ended
    plug.close()
    await asyncio.sleep(0)
    return re.sub(rb"\r\ndate: [^\r]*", b"", plug.written), ended


def spread(found: Iterator[tuple[int, ...]], total: int, most: int) -> Iterator[tuple[int, ...]]:
    """At most so many of the ``total``, evenly."""
    return islice(found, 0, None, max(1, -(-total // most))) if most > 0 else iter(())


def readings(raw: bytes) -> Iterator[list[bytes]]:
    """Ways to read it."""
    yield [raw[at : at + 1] for at in range(len(raw))]
    places = len(raw) - 1
    once = spread(combinations(range(1, len(raw)), 1), places, READINGS)
    twice = spread(combinations(range(1, len(raw)), 2), places * (places - 1) // 2, READINGS - places)
    for cuts in (*once, *twice):
        ends = (0, *cuts, len(raw))
        yield [raw[start:end] for start, end in pairwise(ends)]


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    """The same as ``echo``, of the site."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    out = scope["method"].encode() + b":" + body
    headers = [(b"x-path", scope["path"].encode()), (b"content-length", b"%d" % len(out))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("site", [None, asgi_echo], ids=["data plane", "site"])
async def test_a_request_and_its_followers_in_every_reading(name: str, site: ASGIApp | None) -> None:
    raw, status = CORPUS[name]
    raw += FOLLOWERS
    if site is not None and name in CODED:
        status = 415
    application = Application(echo, lambda _path: site is None, site, reject)
    wire = SharedState(application, LIMITS, asyncio.get_running_loop())
    try:
        whole, ended = await answered(wire, [raw])
        statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", whole)]
        closes = status != OK or name in CLOSES
        assert (statuses, ended) == ([status] if closes else [OK] * 4, closes)
        for reads in readings(raw):
            assert await answered(wire, reads) == (whole, ended), [len(read) for read in reads]
        assert not wire.connections
        assert not wire.exchanges
        assert not wire.site_tasks
    finally:
        wire.timer.cancel()
