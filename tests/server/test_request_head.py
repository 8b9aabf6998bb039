"""The head of a request and the chunked body on their own: any split of the bytes gives the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import HeadersTooLarge, InvalidRequest, PenstockError
from penstock.server.chunked import ChunkedReader
from penstock.server.forwarded import MOST_HOPS, Proxies
from penstock.server.limits import ServerLimits
from penstock.server.request_head import RememberedHead, RequestHead
from tests.server.running_server import chunked
from tests.server.test_corpus import CORPUS

LIMITS = ServerLimits(header_bytes=2048, header_count=10, request_line=1024)


def read(raw: bytes, cuts: list[int]) -> tuple[object, ...]:
    """What a head is read as when it comes in these pieces."""
    head = RequestHead(LIMITS)
    used = 0
    try:
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            at = start
            while at < end and not head.complete:
                at = head.feed(raw[start:end], at - start) + start
            if head.complete:
                used = at
                break
        if not head.complete:
            return ("incomplete",)
        head.check()
    except PenstockError as error:
        return (error.status,)
    return (head.method, head.path, head.query, head.headers, head.fields, head.length, head.keep_alive, used)


@given(st.sampled_from([raw for raw, _ in CORPUS.values() if len(raw) < 1000]), st.data())
def test_head_is_the_same_at_every_split(raw: bytes, data: st.DataObject) -> None:
    raw = raw.lstrip(b"\r\n")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    assert read(raw, cuts) == read(raw, [])


def remembered(raw: bytes) -> RememberedHead | None:
    head = RequestHead(LIMITS)
    head.feed(raw, 0)
    head.check()
    return head.remembered_head()


SERVED = sorted(
    raw.lstrip(b"\r\n")
    for raw, status in CORPUS.values()
    if status == 200 and read(raw.lstrip(b"\r\n"), [])[0] in {"POST", "GET", "OPTIONS"}
)


@given(st.sampled_from(SERVED), st.data())
def test_a_head_known_by_the_last_is_read_as_if_it_were_not(first: bytes, data: st.DataObject) -> None:
    remembered_head = remembered(first)
    if remembered_head is None:
        assert b"expect" in first.lower() or len(first) > 1000, first
        return
    another = data.draw(st.sampled_from(SERVED))
    length = data.draw(
        st.one_of(st.integers(0, 10**19).map(b"%d".__mod__), st.text("0123456789 \t+-x,\r\n").map(str.encode))
    )
    at = data.draw(st.integers(0, len(first)))
    changed = first[:at] + data.draw(st.binary(max_size=1)) + first[at + 1 :]
    cut = first[:at]
    numbered = re.sub(rb"(?i)(content-length:\s*)[0-9]+", lambda found: found[1] + length, first)
    for second in (first, another, numbered, changed, cut):
        for before in (b"", b"x"):
            match = remembered_head.match(before + second, len(before))
            if match is not None:
                head, used = match
                known = (head.method, head.path, head.query, head.headers, head.fields, head.length)
                assert (*known, head.keep_alive, used - len(before)) == read(second, [])


def test_a_head_is_known_by_the_last_whatever_its_length() -> None:
    remembered_head = remembered(b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-length: \t7\r\nX: y\r\n\r\n")
    assert remembered_head is not None
    for length in (7, 0, 12, 10**18 - 1):
        raw = b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-length: \t%d\r\nX: y\r\n\r\nbody" % length
        match = remembered_head.match(raw, 0)
        assert match is not None
        head, used = match
        assert (head.length, raw[used:]) == (length, b"body")
        assert head.headers == read(raw, [])[3]
        assert head.fields[b"content-length"] == b"%d" % length


def test_heads_near_the_limits_or_with_expectations_are_not_remembered() -> None:
    long = b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX: %b\r\n\r\n"
    room = LIMITS.header_bytes - len(long % b"")
    assert remembered(long % (b"x" * (room - 18))) is not None
    assert remembered(long % (b"x" * (room - 17))) is None
    assert remembered(b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: x\r\n\r\n") is None


@given(
    st.lists(
        st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n"]))
    ),
    st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ: \r\n"]),
    st.binary(max_size=20),
    st.data(),
)
def test_chunked_body_ends_where_it_ends(
    chunks: list[bytes], trailer: bytes, after: bytes, data: st.DataObject
) -> None:
    raw = chunked(*chunks, trailer=trailer).partition(b"\r\n\r\n")[2]
    stream = raw + after
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=8)))
    reader = ChunkedReader()
    body, used = b"", 0
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if reader.complete:
            break
        piece, at = reader.feed(stream[start:end], 0)
        body += piece
        used = start + at
    assert reader.complete
    assert (body, used) == (b"".join(chunks), len(raw))


@pytest.mark.parametrize(
    "raw",
    [
        b"CONNECT \n\r\n#",
        b"CONNECT a:1\n\n#",
        b"CONNECT \n\r\nGET /v1 HTTP/1.1\r\nHost: a\r\n",
        b"CONNECT a\n\nHost: a\r\n\r\n",
    ],
)
def test_a_change_of_protocols_before_the_end_of_the_head_is_refused(raw: bytes) -> None:
    """However it comes; its sender is not waited for."""
    for pieces in ([raw], [raw[:-1], raw[-1:]], [raw[at : at + 1] for at in range(len(raw))]):
        # by what has come: the check of a whole head would refuse it as well
        with pytest.raises(InvalidRequest):
            feed_pieces(pieces)


def feed_pieces(pieces: list[bytes]) -> RequestHead:
    head = RequestHead(ServerLimits())
    for piece in pieces:
        head.feed(piece, 0)
    return head


def read_pieces(pieces: list[bytes]) -> None:
    feed_pieces(pieces).check()


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode()) for value in values]


def test_the_nearest_untrusted_address_is_the_client() -> None:
    proxies = Proxies(("10.0.0.0/8", "::1", "192.0.2.1"))
    cases = {
        (): "10.0.0.1",
        ("198.51.100.1",): "198.51.100.1",
        ("6.6.6.6, 198.51.100.1",): "198.51.100.1",
        ("6.6.6.6", "198.51.100.1"): "198.51.100.1",
        ("6.6.6.6, 198.51.100.1, 10.9.9.9, 192.0.2.1",): "198.51.100.1",
        ("6.6.6.6, 198.51.100.1", "10.9.9.9"): "198.51.100.1",
        ("10.1.1.1, 10.2.2.2",): "10.1.1.1",
        ("unknown, 10.2.2.2",): "10.2.2.2",
        ("6.6.6.6, <script>",): "10.0.0.1",
        ("6.6.6.6,",): "10.0.0.1",
        ("198.51.100.1:4711",): "198.51.100.1",
        ("[2001:db8::1]:4711",): "2001:db8::1",
        ("2001:DB8:0::1",): "2001:db8::1",
        ("::ffff:198.51.100.1",): "198.51.100.1",
        ("fe80::1%eth0",): "fe80::1",
        ("[fe80::1%25eth0]:4711",): "fe80::1",
        ("::ffff:198.51.100.1%1",): "198.51.100.1",
        ("fe80::1%\x1b[31m\x99<script>",): "fe80::1",
        ("::1%lo",): "::1",
        ("6.6.6.6, %eth0",): "10.0.0.1",
    }
    assert {values: proxies.client("10.0.0.1", forwarded(*values)) for values in cases} == cases


def test_a_chain_of_proxies_is_looked_at_so_far_and_no_farther() -> None:
    proxies = Proxies(("10.0.0.0/8",))
    chain = [f"10.0.{number // 256}.{number % 256}" for number in range(3000)]
    inside = "198.51.100.1, " + ", ".join(chain[: MOST_HOPS - 1])
    cases = {
        (", ".join(chain),): chain[-MOST_HOPS],
        tuple(chain): chain[-MOST_HOPS],
        (", ".join(chain[:2000]), ", ".join(chain[2000:2010])): chain[2010 - MOST_HOPS],
        (inside,): "198.51.100.1",
        ("6.6.6.6, " + inside,): "198.51.100.1",
        (inside + ", 10.9.9.9",): chain[0],
    }
    assert [proxies.client("10.0.0.1", forwarded(*values)) for values in cases] == list(cases.values())


@pytest.mark.parametrize(
    "token", ["fe80::1%" + "x" * 3000, "1" * 5000, "[" * 9000, "0" * 65, "::" + "0" * 80]
)
def test_what_is_longer_than_an_address_is_none(token: str) -> None:
    assert Proxies(("10.0.0.0/8",)).client("10.0.0.1", forwarded(f"6.6.6.6, {token}")) == "10.0.0.1"


def test_who_is_trusted() -> None:
    assert not Proxies(()).trust("127.0.0.1")
    proxies = Proxies(("10.0.0.0/8", "2001:db8::/32"))
    assert proxies.trust("10.1.2.3")
    assert proxies.trust("::ffff:10.1.2.3")
    assert proxies.trust("2001:db8::5")
    assert not proxies.trust("11.1.2.3")
    assert not proxies.trust("")


def test_scheme() -> None:
    proxies = Proxies(("10.0.0.0/8",))
    for value, scheme in {"https": "https", "HTTP": "http", "http, https": "https", "wss": "http"}.items():
        assert proxies.scheme([(b"x-forwarded-proto", value.encode())]) == scheme
    assert proxies.scheme([]) == "http"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Length: 1234567890123456789",
        b"Content-Length: 1x",
        b"X-API-Key: a\r\nX-API-Key: a",
        b"Authorization: a\r\nAuthorization: a",
        b"Host: a",
    ],
)
def test_what_leaves_the_end_of_a_body_or_its_sender_open_is_refused_without_the_parser(lines: bytes) -> None:
    """The parser refuses most of it too; the rules are to hold with one that does not."""
    head = RequestHead(LIMITS)
    head.raw = b"POST /v1 HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n\r\n"
    with pytest.raises(InvalidRequest):
        head.check()


def test_a_head_is_read_no_further_than_its_limits() -> None:
    most = LIMITS.header_bytes + LIMITS.request_line
    raw = b"POST /v1 HTTP/1.1\r\nX: " + b"x" * most
    head = RequestHead(LIMITS)
    assert head.feed(raw[:most], 0) == most
    with pytest.raises(HeadersTooLarge):
        head.feed(raw[most:], 0)
    assert len(head.raw) == most


@pytest.mark.parametrize("size", [7, 60_000])
def test_a_body_that_is_mostly_framing_is_refused(size: int) -> None:
    """In pieces of any size; chunks of 24 bytes and more are no trouble however many they are."""

    def read_on(chunk: bytes) -> bool:
        reader = ChunkedReader()
        whole = chunk * 16_000
        for at in range(0, len(whole), size):
            reader.feed(whole[at : at + size], 0)
        return True

    assert read_on(b"18\r\n" + b"x" * 24 + b"\r\n")
    with pytest.raises(InvalidRequest, match="mostly framing"):
        read_on(b"1\r\nx\r\n")
    with pytest.raises(InvalidRequest, match="mostly framing"):
        read_on(b"18;an=extension\r\n" + b"x" * 24 + b"\r\n")


@pytest.mark.parametrize("end", [b"XY", b"\r\r", b"\n\n", b"\rX"])
def test_a_chunk_ends_with_a_line_end_and_nothing_else(end: bytes) -> None:
    for raw in (b"3\r\nabc%b0\r\n\r\n", b"3\r\nabc%b3\r\nabc\r\n0\r\n\r\n"):
        with pytest.raises(InvalidRequest):
            ChunkedReader().feed(raw % end, 0)


@pytest.mark.parametrize(
    ("extension", "taken"),
    [
        (b"", True),
        (b";a", True),
        (b";a=b", True),
        (b";a;b=c;d", True),
        (b'; a = "b" ; c', True),
        (b';a="x;y=z"', True),
        (b';a="\\"";b', True),
        (b';a=""', True),
        (b";", False),
        (b"; ", False),
        (b";;", False),
        (b";a;", False),
        (b";=b", False),
        (b";a=", False),
        (b";a=;b", False),
        (b';a="b', False),
        (b';a="b\\"', False),
        (b';a="b"c', False),
        (b';a=b"c"', False),
        (b';"a"', False),
        (b";a b", False),
        (b" ;a", False),
        (b";a=\x00", False),
        (b";a=\xff", False),
        (b";" + b" " * 4000, False),
        (b";a" * 1900 + b"=", False),
        (b';a="' + b"\\\\" * 1900, False),
    ],
)
def test_an_extension_of_a_chunk_has_a_name_and_closes_its_quote(extension: bytes, taken: bool) -> None:
    """In the size of a chunk and of the last one, whole and in pieces."""
    for raw in (
        b"3%b\r\nabc\r\n0\r\n\r\n" % extension,
        b"3\r\nabc\r\n0%b\r\n\r\n" % extension,
    ):
        for size in (len(raw), 1):
            reader = ChunkedReader()
            body = b""
            try:
                for at in range(0, len(raw), size):
                    body += reader.feed(raw[at : at + size], 0)[0]
            except InvalidRequest:
                assert not taken
            else:
                assert taken
                assert (body, reader.complete) == (b"abc", True)
