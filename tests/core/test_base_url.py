"""Base URLs: what is one, and what is told of one that is none."""

import pytest

from penstock.core.base_url import BaseUrl, split_base_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://api.example.com/v1", BaseUrl("https", "api.example.com", 443, b"/v1")),
        ("http://127.0.0.1:8000/", BaseUrl("http", "127.0.0.1", 8000, b"")),
        ("http://[::1]", BaseUrl("http", "::1", 80, b"")),
        ("HTTPS://Under_Score.Example.:8443/a/b//", BaseUrl("https", "under_score.example.", 8443, b"/a/b")),
    ],
)
def test_a_base_url_has_four_parts(url: str, parts: BaseUrl) -> None:
    assert split_base_url(url) == parts


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://key@a.example", "user information"),
        ("https://a.example/?key=x", "neither query nor fragment"),
        ("https://a.example/#x", "neither query nor fragment"),
        ("https://a.example/a b", "without blanks"),
        ("https://a.\\\\v1", "without blanks"),
        ("https://a.example/\x1b", "without blanks"),
        ("https://ä.example", "without blanks"),
        ("https://a.example:x", "no valid host or port"),
        ("https://a.example:0", "no valid host or port"),
        ("https://[fe80::1%eth0]/v1", "no valid host or port"),
        ("https://a..example", "no valid host or port"),
        ("https://a!b.example", "no valid host or port"),
        ("https:///v1", "no valid host or port"),
        ("ftp://a.example", "begin with http"),
        ("a.example/v1", "begin with http"),
    ],
)
def test_what_is_none_says_why(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as told:
        split_base_url(url)
    assert "key" not in str(told.value)
