"""Heads of requests are remembered without being confused, and heads of answers are read as the parser has read them."""

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.upstream import Origin, UpstreamResponse
from penstock.upstream.request_head import Heads
from penstock.upstream.response import Offer
from penstock.upstream.response_head import last_head

ORIGIN = Origin("https", "a.example", 443)
START = b"POST /x HTTP/1.1\r\nhost: a.example\r\naccept-encoding: identity\r\n"

# What the parser might be lenient about, and what would hide or forge a line.
PIECES = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\r\n ", b" ", b"\t", b":", b": ", b";", b"\0", b"\x01",
        b"\x7f", b"\x80", b"0", b"5", b"a", b"content-length: 5\r\n", b"Content-Encoding", b"gzip", b"x: y\r\n",
        b"HTTP/1.1 100 Go\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200\r\n", b"transfer-encoding: chunked\r\n",
    ]
)  # fmt: skip
ANSWERS = st.sampled_from(
    [
        b"HTTP/1.1 200 Fine\r\nContent-Type: t\r\nSet-Cookie: a\r\nset-cookie:b \r\nx:\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nx: y\r\n\r\nhe\r\n\r\nllo",
        b"\r\n\r\nHTTP/1.0 200 OK\r\nserver: old\r\n\r\nhello\r\n\r\nworld",
    ]
)


class Oracle:
    """httptools' own account of an answer's head."""

    def __init__(self, wire: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.interims = 0
        self.whole = False
        self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(wire)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.whole:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.whole:
            return
        if self._parser.get_status_code() < 200:
            self.interims += 1
            self.headers.clear()
        else:
            self.whole = True


class NoWire:
    """For answers whose body nobody takes."""

    taker: Offer | None = None

    def pause(self) -> None:
        raise AssertionError

    suspend = resume = drop = pause


@given(ANSWERS, st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3), PIECES), max_size=4))
@settings(max_examples=500, deadline=None)
def test_headers_are_what_the_parser_has_seen(wire: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for at, lost, piece in changes:
        wire = wire[:at] + piece + wire[at + lost :]
    oracle = Oracle(wire)
    if not oracle.whole:
        return
    head = last_head(wire, oracle.interims)
    response = UpstreamResponse(NoWire(), 0.0, reused=False)
    problem = response.begin(200, head)
    codings = [value for name, value in oracle.headers if name.endswith(b"-encoding")]
    if codings:
        assert problem or response.header(b"content-encoding") in (None, b"", b"identity")
        return
    assert not problem
    assert response.headers == oracle.headers
    for name, _ in oracle.headers:
        first = next(value for key, value in oracle.headers if key == name)
        assert response.header(name) == first.strip(b" \t")
    framed = {b"content-length", b"transfer-encoding"} & {name for name, _ in oracle.headers}
    assert response.until_close() == (not framed)


def test_there_is_no_head_where_none_ends() -> None:
    for received in (b"", b"\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\nHTTP/1.1 200 OK\r\nx: y\r\n"):
        assert last_head(received, 0) == b""
    assert last_head(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\n", 1) == b""


def test_a_remembered_head_differs_in_the_length_alone() -> None:
    heads = Heads(ORIGIN)
    for length in (7, 0, 123_456):
        for headers in ([(b"a", b"1")], ((b"a", b"1"),)):
            assert (
                heads.head(b"POST", b"/x", headers, length)
                == START + b"a: 1\r\ncontent-length: %d\r\n\r\n" % length
            )
    assert heads.head(b"GET", b"/x", [(b"a", b"1")], 0) == START.replace(b"POST", b"GET") + b"a: 1\r\n\r\n"


def test_what_differs_is_never_confused() -> None:
    heads = Heads(ORIGIN)
    asked = [
        (method, path, headers)
        for method in (b"POST", b"GET")
        for path in (b"/x", b"/y")
        for headers in (
            (),
            ((b"a", b"1"),),
            ((b"a", b"2"),),
            ((b"a", b"1"), (b"b", b"2")),
            ((b"b", b"2"), (b"a", b"1")),
        )
    ]
    fresh = [Heads(ORIGIN).head(*key, 5) for key in asked]
    assert len(set(fresh)) == len(asked)
    for _ in range(2):
        assert [heads.head(*key, 5) for key in asked] == fresh


def test_a_list_changed_afterwards_is_a_different_head() -> None:
    heads = Heads(ORIGIN)
    headers = [(b"a", b"1")]
    heads.head(b"POST", b"/x", headers, 1)
    headers[0] = (b"a", b"2\r\nb: 3")
    for _ in range(2):
        with pytest.raises(ValueError, match="line end"):
            heads.head(b"POST", b"/x", headers, 1)


def test_what_callers_pass_through_fills_no_memory() -> None:
    heads = Heads(ORIGIN)
    for number in range(1000):
        heads.head(b"POST", b"/x", [(b"beta", b"%d" % number)], 1)
        heads.head(b"POST", b"/x", [(b"beta", b"%d" % number * 1000)], 1)
    assert len(heads._known) <= 256
    assert all(len(start) <= 2048 for start in heads._known.values())
