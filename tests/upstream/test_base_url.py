"""A base URL becomes an origin and a path, or an error that says what is wrong with it."""

import pytest

from penstock.upstream import Origin, parse_base_url
from penstock.upstream.request_head import Heads


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://api.anthropic.com/v1", Origin("https", "api.anthropic.com", 443), b"/v1"),
        ("https://api.anthropic.com/v1/", Origin("https", "api.anthropic.com", 443), b"/v1"),
        ("https://api.example", Origin("https", "api.example", 443), b""),
        ("https://api.example/", Origin("https", "api.example", 443), b""),
        ("HTTP://LocalHost:11434/v1", Origin("http", "localhost", 11434), b"/v1"),
        ("http://127.0.0.1", Origin("http", "127.0.0.1", 80), b""),
        ("http://[::1]:8000/a/b", Origin("http", "::1", 8000), b"/a/b"),
        ("https://xn--bcher-kva.example/%7Ea", Origin("https", "xn--bcher-kva.example", 443), b"/%7Ea"),
        ("https://host.example.:8443", Origin("https", "host.example.", 8443), b""),
    ],
)
def test_good(url: str, origin: Origin, path: bytes) -> None:
    assert parse_base_url(url) == (origin, path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "http://"),
        ("api.example/v1", "http://"),
        ("ftp://api.example", "http://"),
        ("//api.example", "http://"),
        ("https://", "host"),
        ("https:///v1", "host"),
        ("https://:443/v1", "host"),
        ("https://a..example", "host"),
        ("https://.example", "host"),
        ("https://" + "a" * 64 + ".example", "host"),
        ("https://api.example:0", "port"),
        ("https://api.example:65536", "port"),
        ("https://api.example:http", "port"),
        ("https://[::1", "host"),
        ("https://[nonsense]/", "host"),
        ("https://api.example/v1?key=1", "query"),
        ("https://api.example/v1?", "query"),
        ("https://api.example/v1#top", "fragment"),
        ("https://bücher.example", "ASCII"),
        ("https://api.example/a b", "blank"),
        ("https://api.example/a\r\nx: y", "printable"),
        ("https://api.example\\evil.example", "printable"),
        ("https://api!example/v1", "host"),
        ("https://[fe80::1%25eth0]/", "host"),
    ],
)
def test_bad(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_base_url(url)
    assert "base URL" in str(caught.value)


def test_a_secret_in_the_url_is_refused_without_repeating_it() -> None:
    for url in ("https://user:sk-hidden@api.example/v1", "https://sk hidden@x", "https://x/?key=sk-hidden"):
        with pytest.raises(ValueError, match=r"secret|query") as caught:
            parse_base_url(url)
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (Origin("http", "a.example", 80), b"a.example"),
        (Origin("https", "a.example", 443), b"a.example"),
        (Origin("http", "a.example", 443), b"a.example:443"),
        (Origin("https", "::1", 8443), b"[::1]:8443"),
        (Origin("http", "::1", 80), b"[::1]"),
    ],
)
def test_the_host_header_names_the_port_only_where_it_is_not_the_default(origin: Origin, host: bytes) -> None:
    assert b"\r\nhost: %b\r\n" % host in Heads(origin).head(b"GET", b"/", (), 0)
