"""What the server makes of every kind of malformed, hostile or merely unusual request, byte for byte on a socket."""

import asyncio
import gzip
import zlib

import pytest

from penstock.server.listen import ServerLimits
from tests.server.running_server import Server, chunked, get, post, serving

H = b"Host: a\r\n"
OK = 200
LIMITS = ServerLimits(header_bytes=2048, header_count=10, request_line=1024, max_body=1000)

# name, request, status. Whatever is refused also closes; whatever is served leaves the connection usable, unless the
# row is in CLOSES.
CORPUS = {
    # host
    "plain": (get(), OK),
    "no host": (b"GET /v1 HTTP/1.1\r\n\r\n", 400),
    "no host, HTTP/1.0": (b"GET /v1 HTTP/1.0\r\n\r\n", 400),
    "two hosts": (b"GET /v1 HTTP/1.1\r\n" + H + H + b"\r\n", 400),
    "two different hosts": (b"GET /v1 HTTP/1.1\r\n" + H + b"Host: b\r\n\r\n", 400),
    "empty host": (b"GET /v1 HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "host with a slash": (b"GET /v1 HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with a user": (b"GET /v1 HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "host with a space": (b"GET /v1 HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host list": (b"GET /v1 HTTP/1.1\r\nHost: a,b/\r\n\r\n", 400),
    "host with a bad port": (b"GET /v1 HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400),
    "host in UTF-8": (b"GET /v1 HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", 400),
    "host and port": (b"GET /v1 HTTP/1.1\r\nHost: a.example:8484\r\n\r\n", OK),
    "host IPv6": (b"GET /v1 HTTP/1.1\r\nHost: [::1]:8484\r\n\r\n", OK),
    "host after white space": (b"GET /v1 HTTP/1.1\r\nHost:  \ta \t\r\n\r\n", OK),
    # request line
    "lower-case method": (b"get /v1 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "unknown method": (b"BREW /v1 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "TRACE": (b"TRACE /v1 HTTP/1.1\r\n" + H + b"\r\n", 405),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\n" + H + b"\r\n", 405),
    "PURGE": (b"PURGE /v1 HTTP/1.1\r\n" + H + b"\r\n", 405),
    "HTTP/0.9": (b"GET /v1\r\n\r\n", 400),
    "HTTP/0.9 and a second request": (b"GET /v1\r\n" + get(), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /v1 HTTP/2.0\r\n" + H + b"\r\n", 400),
    "HTTP/1.2": (b"GET /v1 HTTP/1.2\r\n" + H + b"\r\n", 400),
    "lower-case version": (b"GET /v1 http/1.1\r\n" + H + b"\r\n", 400),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "two spaces": (b"GET  /v1 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "tab": (b"GET\t/v1 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "space in the target": (b"GET /v1/a b HTTP/1.1\r\n" + H + b"\r\n", 400),
    "space after the version": (b"GET /v1 HTTP/1.1 \r\n" + H + b"\r\n", 400),
    "fragment": (b"GET /v1#x HTTP/1.1\r\n" + H + b"\r\n", 400),
    "UTF-8 in the target": (b"GET /v1/\xc3\xa9 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "UTF-8 in the query": (b"GET /v1?\xc3\xa9 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "no slash": (b"GET v1 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "asterisk": (b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
    "OPTIONS asterisk": (b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", OK),
    "absolute form": (b"GET http://a/v1 HTTP/1.1\r\n" + H + b"\r\n", OK),
    "absolute form without a path": (b"GET http://a HTTP/1.1\r\n" + H + b"\r\n", OK),
    "absolute form, another host": (b"GET http://b/v1 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "absolute form, another scheme": (b"GET ftp://a/v1 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "empty lines before": (b"\r\n\r\n\r\n" + get(), OK),
    # line ends and header grammar
    "bare LF": (b"GET /v1 HTTP/1.1\nHost: a\n\n", 400),
    "bare LF after a header": (b"GET /v1 HTTP/1.1\r\nHost: a\n\r\n", 400),
    "bare LF at the end": (b"GET /v1 HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare CR in a value": (b"GET /v1 HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n", 400),
    "two CR": (b"GET /v1 HTTP/1.1\r\r\n" + H + b"\r\n", 400),
    "obs-fold": (b"GET /v1 HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
    "obs-fold by tab": (b"GET /v1 HTTP/1.1\r\n" + H + b"X: a\r\n\tb\r\n\r\n", 400),
    "white space before the first header": (b"GET /v1 HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "space before the colon": (b"GET /v1 HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "no colon": (b"GET /v1 HTTP/1.1\r\n" + H + b"X\r\n\r\n", 400),
    "no name": (b"GET /v1 HTTP/1.1\r\n" + H + b": x\r\n\r\n", 400),
    "NUL in a value": (b"GET /v1 HTTP/1.1\r\n" + H + b"X: a\x00b\r\n\r\n", 400),
    "control in a value": (b"GET /v1 HTTP/1.1\r\n" + H + b"X: a\x01b\r\n\r\n", 400),
    "NUL in a name": (b"GET /v1 HTTP/1.1\r\n" + H + b"X\x00: a\r\n\r\n", 400),
    "UTF-8 in a name": (b"GET /v1 HTTP/1.1\r\n" + H + b"\xc3\xa9: a\r\n\r\n", 400),
    "UTF-8 in a value": (b"GET /v1 HTTP/1.1\r\n" + H + b"X: \xc3\xa9\r\n\r\n", OK),
    "empty value": (b"GET /v1 HTTP/1.1\r\n" + H + b"X:\r\n\r\n", OK),
    # sizes
    "long target": (get("/v1/" + "a" * 1024), 431),
    "longest target": (get("/v1/" + "a" * 1020), OK),
    "endless target": (b"GET /v1/" + b"a" * 8000, 431),
    "long query": (get("/v1?" + "a" * 1024), 431),
    "large header": (get("/v1", "X: " + "a" * 2048), 431),
    "endless header": (b"GET /v1 HTTP/1.1\r\nX: " + b"a" * 8000, 431),
    "endless header name": (b"GET /v1 HTTP/1.1\r\n" + b"a" * 8000, 431),
    "eleven headers": (get("/v1", *[f"X-{i}: y" for i in range(10)]), 431),
    "ten headers": (get("/v1", *[f"X-{i}: y" for i in range(9)]), OK),
    # framing
    "length": (post(b"abc"), OK),
    "length after white space": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length:  3 \r\n\r\nabc", OK),
    "length of zero": (post(b""), OK),
    "two lengths": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "two different lengths": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
    ),
    "length list": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "length with a plus": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: +3\r\n\r\nabc", 400),
    "negative length": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: -3\r\n\r\nabc", 400),
    "hexadecimal length": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "empty length": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length:\r\n\r\nabc", 400),
    "length of many digits": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", 400),
    "length with leading zeros": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: 003\r\n\r\nabc", OK),
    "length over the limit": (b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: 1001\r\n\r\n", 413),
    "length at the limit": (post(b"x" * 1000), OK),
    "length and chunked": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked and length": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked": (chunked(b"abc", b"de"), OK),
    "chunked, empty": (chunked(), OK),
    "chunked, upper case": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        OK,
    ),
    "chunked twice": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked in two headers": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "gzip, chunked": (b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: identity\r\n\r\nabc", 400),
    "xchunked": (b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked after a vertical tab": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked with a space before the colon": (
        b"POST /v1 HTTP/1.1\r\n" + H + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked in HTTP/1.0": (
        b"POST /v1 HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunk with an extension": (chunked().replace(b"0\r\n\r\n", b"3;a=b\r\nabc\r\n0\r\n\r\n"), OK),
    "chunk with a huge extension": (chunked().replace(b"0\r\n\r\n", b"3;a=" + b"b" * 20000 + b"\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk with leading zeros": (chunked().replace(b"0\r\n\r\n", b"003\r\nabc\r\n00\r\n\r\n"), OK),
    "trailer": (chunked(b"abc", trailer=b"X: y\r\n"), OK),
    "trailer that is a framing header": (chunked(b"abc", trailer=b"Content-Length: 5\r\n"), 400),
    "huge trailer": (chunked(b"abc", trailer=b"X: " + b"y" * 20000 + b"\r\n"), 400),
    "chunk longer than its size": (chunked().replace(b"0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n"), 400),
    "chunk shorter than its size": (chunked().replace(b"0\r\n\r\n", b"3\r\nab\r\n0\r\n\r\n"), 400),
    "chunk size with a space": (chunked().replace(b"0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n"), 400),
    "chunk size of a sign": (chunked().replace(b"0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk size with 0x": (chunked().replace(b"0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk size too large": (chunked().replace(b"0\r\n\r\n", b"ffffffffffffffffff\r\n"), 400),
    "chunk size ends with a bare LF": (chunked().replace(b"0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n"), 400),
    "chunk ends with a bare LF": (chunked().replace(b"0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n"), 400),
    "chunk extension ends with a bare LF": (chunked().replace(b"0\r\n\r\n", b"3;a\nabc\r\n0\r\n\r\n"), 400),
    "chunked ends with a bare LF": (chunked(b"abc").replace(b"0\r\n\r\n", b"0\r\n\n"), 400),
    "chunked over the limit": (chunked(b"x" * 999, b"xx"), 413),
    "chunked at the limit": (chunked(b"x" * 500, b"y" * 500), OK),
    # encodings, upgrades
    "gzip body": (post(gzip.compress(b"abc"), "Content-Encoding: gzip"), OK),
    "gzip body that is none": (post(b"abc", "Content-Encoding: gzip"), 400),
    "deflate, identity": (post(zlib.compress(b"abc"), "Content-Encoding: deflate, identity"), OK),
    "deflate, gzip": (post(gzip.compress(zlib.compress(b"abc")), "Content-Encoding: deflate, gzip"), 415),
    "a made-up coding": (post(b"abc", "Content-Encoding: made-up"), 415),
    "gzip over the limit": (post(gzip.compress(b"x" * 1001), "Content-Encoding: gzip"), 413),
    "gzip at the limit": (post(gzip.compress(b"x" * 1000), "Content-Encoding: gzip"), OK),
    "chunked gzip": (chunked(gzip.compress(b"abc")).replace(H, H + b"Content-Encoding: gzip\r\n"), OK),
    "two content encodings": (post(b"abc", "Content-Encoding: identity", "Content-Encoding: gzip"), 400),
    "identity body": (post(b"abc", "Content-Encoding: Identity"), OK),
    "h2c upgrade": (get("/v1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"), OK),
    "h2c upgrade with a body": (post(b"abc", "Connection: Upgrade", "Upgrade: h2c"), OK),
    "h2c upgrade with chunks": (
        chunked(b"abc").replace(H, H + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        OK,
    ),
    "web socket": (get("/v1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"), OK),
    # ends
    "connection: close": (get("/v1", "Connection: close"), OK),
    "connection: close in a list": (get("/v1", "Connection: keep-alive, Close"), OK),
    "connection: close in a second header": (get("/v1", "Connection: keep-alive", "Connection: close"), OK),
    "HTTP/1.0": (get("/v1", version="1.0"), OK),
    "HTTP/1.0 keep-alive": (get("/v1", "Connection: keep-alive", version="1.0"), OK),
}  # fmt: skip
CODED = {
    "gzip body", "gzip body that is none", "deflate, identity", "gzip over the limit", "gzip at the limit", "chunked gzip",
}  # fmt: skip
"""Bodies in a coding that the data plane takes. Pages take none: 415."""

CLOSES = {
    "connection: close",
    "connection: close in a list",
    "connection: close in a second header",
    "HTTP/1.0",
    "HTTP/1.0 keep-alive",
}


async def check(server: Server, name: str, pieces: list[bytes]) -> None:
    status = CORPUS[name][1]
    caller = await server.call()
    for piece in pieces:
        await caller.send(piece)
    answer = await caller.answer()
    assert answer.status == status, (name, answer)
    closes = status != OK or name in CLOSES
    assert (answer.headers.get(b"connection") == b"close") is closes, name
    if closes:
        assert await caller.closed() == b"", name
    else:
        await caller.send(get("/v1/next"))
        assert (await caller.answer()).headers[b"x-path"] == b"/v1/next", name


@pytest.mark.parametrize("name", CORPUS)
async def test_request_in_one_piece(name: str) -> None:
    async with serving(limits=LIMITS) as server:
        await check(server, name, [CORPUS[name][0]])


@pytest.mark.parametrize("name", CORPUS)
async def test_request_in_small_pieces(name: str) -> None:
    """The same, however the bytes happen to be split; a refusal may come before the last of them is sent."""
    raw, status = CORPUS[name]
    size = 1 if len(raw) < 300 else 97
    async with serving(limits=LIMITS) as server:
        caller = await server.call()
        for at in range(0, len(raw), size):
            caller.writer.write(raw[at : at + size])
            await asyncio.sleep(0)
        assert (await caller.answer()).status == status


async def test_a_bad_request_harms_nobody_else() -> None:
    async with serving(limits=LIMITS) as server:
        good = await server.call()
        for raw, _ in CORPUS.values():
            bad = await server.call()
            await bad.send(raw)
            await good.send(post(b"good"))
            assert (await good.answer()).body == b"POST:good"
            bad.leave()
