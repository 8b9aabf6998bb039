"""Rate headers: every form that a vendor has, to within ten milliseconds; and what makes no sense says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.routing.bounds.rate_headers import Amount, amounts_of, reset_seconds, told_wait

NOW = 1_800_000_000.25
"""2027-01-15 08:00:00.25 UTC."""


def wait_of(body: bytes = b"", **headers: str) -> float | None:
    found = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return told_wait(found.get, body, NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("12.345", 12.345),
        ("6m0s", 360),
        ("1m30s", 90),
        ("1.2s", 1.2),
        ("120ms", 0.12),
        ("7.66s", 7.66),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723),
        ("1d2h", 93_600),
        ("0s", 0),
        ("500us", 0),
        ("\u00b5s", None),
        ("350\u00b5s", 0),
        ("2027-01-15T08:00:10Z", 9.75),
        ("2027-01-15T08:00:10.500Z", 10.25),
        ("2027-01-15T09:00:10+01:00", 9.75),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 59.75),
        ("1800000030", 29.75),
        ("1800000030.75", 30.5),
        ("1800000030250", 30),
        (" 30 ", 30),
    ],
)
def test_case_22_every_form_of_a_reset(value: str, seconds: float | None) -> None:
    found = reset_seconds(value.encode(), NOW)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=0.01))


NONSENSE = [
    "", "-1", "0", "-30", "soon", "1e300", "inf", "nan", "1e5", "0x10", "9" * 17, "9" * 400, "5 s", "m", "s", "ms",
    "2020-01-01T00:00:00Z", "Fri, 15 Jan 2021 08:01:00 GMT", "1700000000", "1700000000000", "2027-13-45T00:00:00Z",
    "9999-12-31T23:59:59Z", "99999999h", "Mon, 99 Foo 2027 00:00:00 GMT", "\xff\xfe",
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE)
def test_case_22_what_makes_no_sense_says_nothing(value: str) -> None:
    assert reset_seconds(value.encode("latin-1"), NOW) is None


@given(st.binary(max_size=80))
def test_nothing_that_is_sent_breaks_it(value: bytes) -> None:
    for found in (
        reset_seconds(value, NOW),
        told_wait(lambda _: value, b"", NOW),
        told_wait(lambda _: None, value, NOW),
    ):
        assert found is None or 0 <= found <= 86_400 * 31
    for each in amounts_of([(b"ratelimit", value), (b"x-ratelimit-remaining-requests", value)], NOW):
        assert each.remaining >= 0


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry_after": "30"}, b"", 30),
        ({"retry_after": "1.5"}, b"", 1.5),
        ({"retry_after": "0"}, b"", 0),
        ({"retry_after": "Fri, 15 Jan 2027 08:01:00 GMT"}, b"", 59.75),
        ({"retry_after_ms": "1250"}, b"", 1.25),
        ({"x_ms_retry_after_ms": "250", "retry_after": "1"}, b"", 0.25),
        ({}, b'{"error":{"details":[{"@type":"x.RetryInfo","retryDelay":"37s"}]}}', 37),
        ({}, b'{"error":{"details":[{"retryDelay": "0.847655010s"}]}}', 0.848),
        ({}, b"Rate limit reached. Please try again in 1.2s.", 1.2),
        ({}, b"Please try again in 120ms.", 0.12),
        ({}, b"Please retry after 45 seconds.", 45),
        ({}, b"Try again in 2 minutes", 120),
        ({"retry_after": "-1"}, b"try again in 1s", None),
        ({"retry_after": "soon"}, b"", None),
        ({"retry_after": "1e300"}, b"", None),
        ({"retry_after": "Fri, 15 Jan 2021 08:01:00 GMT"}, b"", None),
        ({"retry_after_ms": "x"}, b"", None),
        ({}, b"in a while", None),
    ],
)
def test_case_22_every_form_of_a_wish(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    found = wait_of(body, **headers)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=0.01))


def amounts(**headers: str) -> tuple[Amount, ...]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return amounts_of([(b"content-type", b"application/json"), *pairs], NOW)


def test_anthropic_says_what_refills() -> None:
    found = amounts(
        anthropic_ratelimit_requests_limit="50",
        anthropic_ratelimit_requests_remaining="49",
        anthropic_ratelimit_requests_reset="2027-01-15T08:00:01.25Z",
        anthropic_ratelimit_input_tokens_limit="40000",
        anthropic_ratelimit_input_tokens_remaining="0",
        anthropic_ratelimit_input_tokens_reset="2027-01-15T08:00:30.25Z",
        anthropic_ratelimit_output_tokens_limit="8000",
        anthropic_ratelimit_output_tokens_remaining="8000",
        anthropic_ratelimit_output_tokens_reset="garbage",
    )
    assert found == (
        Amount("requests", 50, 49, 1.0, refills=True),
        Amount("input", 40000, 0, 30.0, refills=True),
        Amount("output", 8000, 8000, None, refills=True),
    )


def test_openai_groq_and_azure_say_it_by_durations() -> None:
    openai = amounts(
        x_ratelimit_limit_requests="10000",
        x_ratelimit_remaining_requests="9999",
        x_ratelimit_reset_requests="8.64s",
        x_ratelimit_limit_tokens="200000",
        x_ratelimit_remaining_tokens="199000",
        x_ratelimit_reset_tokens="6m0s",
    )
    assert openai == (Amount("requests", 10000, 9999, 8.64), Amount("tokens", 200000, 199000, 360.0))
    assert amounts(x_ratelimit_remaining_tokens="-1", x_ratelimit_reset_tokens="-1") == ()
    azure = amounts(x_rate_limit_remaining_tokens="100", x_rate_limit_reset_tokens="0")
    assert azure == (Amount("tokens", None, 100, None),)


def test_others_say_it_in_the_forms_of_the_ietf_and_since_1970() -> None:
    openrouter = amounts(x_ratelimit_limit="20", x_ratelimit_remaining="0", x_ratelimit_reset="1800000030250")
    assert openrouter == (Amount("requests", 20, 0, 30.0),)
    newer = amounts(ratelimit='"default";r=5;t=30', ratelimit_policy='"default";q=100;w=60')
    assert newer == (Amount("requests", 100, 5, 30.0),)
    older = amounts(ratelimit_limit="100", ratelimit_remaining="7", ratelimit_reset="12")
    assert older == (Amount("requests", 100, 7, 12.0),)
    joined = amounts(ratelimit="limit=100, remaining=50, reset=5")
    assert joined == (Amount("requests", 100, 50, 5.0),)
    assert amounts(ratelimit='"default"') == amounts() == ()
