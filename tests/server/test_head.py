"""The head of a request and the chunked body on their own: any split of the bytes gives the same."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock.wire.chunked import ChunkedReader
from penstock.wire.forwarded import Proxies
from penstock.wire.head import Head
from penstock.wire.terms import ServerLimits
from tests.server.rig import chunked
from tests.server.test_corpus import CORPUS

LIMITS = ServerLimits(header_bytes=2048, header_count=10, request_line=1024)


def read(raw: bytes, cuts: list[int]) -> tuple[object, ...]:
    """What a head is read as when it comes in these pieces."""
    head = Head(LIMITS)
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
    }
    assert {values: proxies.client("10.0.0.1", forwarded(*values)) for values in cases} == cases


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
