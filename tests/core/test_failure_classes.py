"""The failure classes: signs are recognised as vendors send them, callers' words are none, and every class is handled."""

import json
from pathlib import Path

import pytest

from penstock.core.dialects.context_overflow import overflow_in
from penstock.core.dialects.upstream_error_text import codes_of, error_text, kind_of
from penstock.core.failure_classes.classes import HANDLING, Again, Against, FailureClass, Next, is_callers
from penstock.core.failure_classes.signs import (
    INSIDE,
    SIGNS,
    SPOKEN,
    Sign,
    class_inside,
    class_of_code,
    class_of_refusal,
)
from penstock.errors import Fault

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
PROVIDERS_OWN = (
    FailureClass.QUOTA,
    FailureClass.AUTH,
    FailureClass.RATE,
    FailureClass.OVERLOAD,
    FailureClass.MISSING,
)


def refused(status: int, body: object, asked: bytes = b'{"messages":[]}') -> FailureClass:
    raw = json.dumps(body).encode()
    text = error_text(status, raw) or ""
    too_long = overflow_in(text, raw) is not None
    return class_of_refusal(status, codes_of(raw), text, asked, too_long=too_long)


def inside(kind: str, text: str, asked: bytes = b"") -> FailureClass:
    return class_inside(kind, text, asked, too_long=overflow_in(text, b"") is not None)


def bodies(sign: Sign) -> list[object]:
    """Error bodies with this sign, in the shapes that vendors use."""
    if sign.words:
        text = f"Sorry: {sign.words.capitalize()}, see our page."
        return [
            {"error": {"message": text, "type": "invalid_request_error"}},
            {"message": text},
            [{"error": {"message": text}}],
        ]
    code: object = int(sign.code) if sign.code.isdecimal() else sign.code.upper()
    return [
        {"error": {"message": "no", "code": code}},
        {"error": {"message": "no", "type": str(code)}},
        {"code": code, "message": "no"},
        {"base_resp": {"status_code": code, "status_msg": "no"}},
    ]


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: f"{sign.found}-{sign.code or sign.words}")
def test_a_sign_is_seen_in_every_shape_and_under_each_of_its_statuses(sign: Sign) -> None:
    for status in sign.statuses:
        for body in bodies(sign):
            assert refused(status, body) is sign.found
            assert is_callers(sign.found) is (sign.found is FailureClass.REASONING_REJECTED)
    if sign.words:
        assert inside("api_error", f"So: {sign.words}", b"{}") is sign.found


@pytest.mark.parametrize("sign", [sign for sign in SIGNS if sign.words], ids=lambda sign: sign.words)
def test_words_that_the_caller_wrote_are_no_sign(sign: Sign) -> None:
    asked = json.dumps(
        {"messages": [{"role": "user", "content": f"why {sign.words.upper()}?"}]}, ensure_ascii=False
    ).encode()
    body = {"error": {"message": f"cannot read: why {sign.words}?", "type": "invalid_request_error"}}
    assert refused(400, body, asked) is FailureClass.CALLER
    assert inside("api_error", f"why {sign.words}", asked) is FailureClass.BROKEN


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (400, FailureClass.CALLER), (401, FailureClass.AUTH), (402, FailureClass.QUOTA), (403, FailureClass.AUTH),
        (404, FailureClass.MISSING), (405, FailureClass.MISSING), (408, FailureClass.BROKEN),
        (409, FailureClass.BROKEN), (413, FailureClass.CALLER), (422, FailureClass.CALLER),
        (429, FailureClass.RATE), (451, FailureClass.BROKEN), (500, FailureClass.BROKEN), (502, FailureClass.BROKEN),
        (503, FailureClass.OVERLOAD), (504, FailureClass.BROKEN), (529, FailureClass.OVERLOAD),
    ],
)  # fmt: skip
def test_without_a_sign_the_status_decides(status: int, found: FailureClass) -> None:
    for body in (
        {},
        {"error": {"message": "temperature must be a number", "type": "x", "code": None}},
        [],
        "no",
        5,
    ):
        assert refused(status, body) is found
    assert class_of_refusal(status, codes_of(b"<html>"), "", b"", too_long=False) is found
    assert class_of_refusal(status, codes_of(b"[" * 5000), "", b"", too_long=False) is found


def test_a_code_of_the_wrong_status_says_nothing() -> None:
    assert refused(500, {"error": {"code": "insufficient_quota", "message": "x"}}) is FailureClass.BROKEN
    assert refused(413, {"error": {"message": "credit balance is too low"}}) is FailureClass.CALLER
    assert class_of_code("invalid_request_error") is None
    assert refused(400, {"error": {"code": "x" * 65, "message": "x"}}) is FailureClass.CALLER


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_a_prompt_that_is_too_long_is_a_class_of_its_own(status: int) -> None:
    text = "This model's maximum context length is 10 tokens. However, you requested 11 tokens"
    assert refused(status, {"error": {"message": text}}) is FailureClass.TOO_LONG
    assert inside("invalid_request_error", text, b"") is FailureClass.TOO_LONG
    assert refused(429, {"error": {"message": text}}) is FailureClass.RATE


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ({"code": 402, "message": "Insufficient credits"}, FailureClass.QUOTA),
        ({"type": "insufficient_quota", "message": "x"}, FailureClass.QUOTA),
        (
            {"type": "invalid_request_error", "code": "billing_hard_limit_reached", "message": "x"},
            FailureClass.QUOTA,
        ),
        ({"type": "overloaded_error", "message": "Overloaded"}, FailureClass.OVERLOAD),
        ({"code": "rate_limit_exceeded", "message": "x"}, FailureClass.RATE),
        ({"code": 429, "message": "x"}, FailureClass.RATE),
        ({"code": 401, "message": "x"}, FailureClass.AUTH),
        ({"code": "model_not_found", "message": "x"}, FailureClass.MISSING),
        ({"code": 404, "message": "x"}, FailureClass.MISSING),
        ({"code": 400, "message": "x"}, FailureClass.BROKEN),
        ({"code": "server_error", "message": "x"}, FailureClass.BROKEN),
        ({"message": "x"}, FailureClass.BROKEN),
    ],
)
def test_an_error_inside_a_good_answer_is_classed_too(error: object, found: FailureClass) -> None:
    for value in ({"error": error}, error):
        assert inside(kind_of(value), "x", b"") is found


@pytest.mark.parametrize("code", [1002, 1004, 1008, 1039, 1041, 2049, 2056])
def test_the_codes_of_minimax_are_classed(code: int) -> None:
    assert inside(kind_of({"code": code}), "x", b"") in PROVIDERS_OWN
    assert inside(kind_of({"code": 1000}), "x", b"") is FailureClass.BROKEN


def test_every_class_is_handled() -> None:
    assert set(HANDLING) == set(FailureClass)
    for found, row in HANDLING.items():
        assert (row.status, row.code) == (200, "") or row.code
        if row.fault is Fault.PROVIDER:
            assert row.status in (200, 502)
            assert not row.words
            assert row.refunded
        if row.against is Against.NOTHING:
            assert row.fault is not Fault.PROVIDER or found is FailureClass.STALE
        assert is_callers(found) == (row.fault is Fault.CALLER and row.error is not None)
    for found in PROVIDERS_OWN:
        assert HANDLING[found].next is not Next.NOBODY
        assert HANDLING[found].fault is Fault.PROVIDER
    assert {row.again for row in HANDLING.values()} == set(Again)
    assert {row.next for row in HANDLING.values()} == set(Next)
    assert {row.against for row in HANDLING.values()} == set(Against)


def test_each_sign_has_one_row() -> None:
    keys = [(sign.code, sign.words) for sign in SIGNS]
    assert len(keys) == len(set(keys))
    for sign in SIGNS:
        assert bool(sign.code) != bool(sign.words)
        assert (sign.code + sign.words) == (sign.code + sign.words).lower()
        assert INSIDE not in sign.statuses
        assert set(sign.statuses) & SPOKEN


@pytest.mark.parametrize("found", FailureClass)
def test_a_class_is_on_the_page(found: FailureClass) -> None:
    row = HANDLING[found]
    told = f"{row.status} `{row.code}`" if row.code else f"{row.status}"
    assert f"| `{found}` | {row.fault} | {row.next} | {row.again} | {row.against} | {told} |" in PAGE
