"""Upstream error bodies of every usual shape: their text and their kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.upstream_error_text import error_text, kind_of, page_title, words

TEXTS = [
    (b'{"error":{"message":"bad","type":"invalid_request_error"}}', "bad"),
    (b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long"}}', "prompt is too long"),
    (b'{"error":"bad"}', "bad"),
    (b'{"message":"bad"}', "bad"),
    (b'{"detail":"bad"}', "bad"),
    (b'{"detail":[{"loc":["body","messages",0],"msg":"field required","type":"missing"}]}', "body.messages.0: field required"),
    (b'[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]', "bad"),
    (b'{"object":"error","message":"bad","code":400}', "bad"),
    (b'{"code":1008,"msg":"bad"}', "bad"),
    (b'{"error":{"message":{"detail":"bad"}}}', "bad"),
    (b"Bad gateway", "Bad gateway"),
    (b"<html>Bad gateway</html>", None),
    (b"", None),
    (b"{}", None),
    (b'{"error":null}', None),
    (b'{"error":{"message":""}}', None),
    (b"\xff\xfe\x00", "\ufffd\ufffd\x00"),
    (b"x" * 600, None),
    (b'"text alone"', "text alone"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), TEXTS)
def test_text(body: bytes, text: str | None) -> None:
    assert error_text(400, body) == text


KINDS = [
    ({"type": "overloaded_error"}, "overloaded_error"),
    ({"error": {"type": "rate_limit_error"}}, "rate_limit_error"),
    ({"code": 429}, "rate_limit_error"),
    ({"code": "429"}, "rate_limit_error"),
    ({"status": 529}, "overloaded_error"),
    ({"code": "rate_limit_exceeded"}, "rate_limit_error"),
    ({"code": "context_length_exceeded"}, "invalid_request_error"),
    ({"type": "BadRequestError", "code": None}, "invalid_request_error"),
    ({"type": "insufficient_quota"}, "billing_error"),
    ({"type": "server_error", "code": 500}, "api_error"),
    ({"code": True}, "api_error"),
    ({"type": [], "code": {}, "status": 1.5}, "api_error"),
    ({}, "api_error"),
    ("text", "api_error"),
    (None, "api_error"),
]


@pytest.mark.parametrize(("value", "kind"), KINDS)
def test_kind(value: object, kind: str) -> None:
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"<html>\r\n<head><title>502 Bad Gateway</title></head>", "502 Bad Gateway"),
        (b"  <!DOCTYPE html><TITLE lang='en'>\n a &lt;b&gt; \xff\n</TITLE>", "a <b> \ufffd"),
        (b"<html><title></title>", ""),
        (b"<html><p>no title</p>", ""),
        (b"<title>" + b"x" * 301 + b"</title>", ""),
        (b'{"text": "<title>no page</title>"}', ""),
        (b"", ""),
    ],
)
def test_page_title(body: bytes, title: str) -> None:
    assert page_title(body) == title


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    text = error_text(500, body)
    assert text is None or text.strip()


def test_deep_nesting_ends() -> None:
    assert error_text(500, b'{"error":' * 5000 + b"1" + b"}" * 5000) is None
    value: object = "deep"
    for _ in range(10):
        value = {"error": value}
    assert words(value) is None
