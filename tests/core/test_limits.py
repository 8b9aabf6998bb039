"""Days and headers: every number a caller is told comes from one state and agrees with the others."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.registry import caller_side
from penstock.core.limits import (
    DAY_SECONDS,
    DayRule,
    Header,
    LimitState,
    day_of,
    limit_headers,
    reset_of,
    seconds_until,
)

NOON = 20_000 * DAY_SECONDS + DAY_SECONDS // 2


@given(st.floats(0, 4e9))
def test_a_day_ends_where_the_next_begins(now: float) -> None:
    day = day_of(now)
    assert day * DAY_SECONDS <= now < reset_of(day)
    assert day_of(reset_of(day)) == day + 1
    assert datetime.fromtimestamp(reset_of(day), UTC).timetuple()[3:6] == (0, 0, 0)


def headers_of(state: LimitState, now: float, dialect: str) -> list[Header]:
    """All limit headers of an answer in a dialect."""
    own = caller_side(dialect).limit_headers
    return [
        *limit_headers(state, now),
        *(() if own is None else own(state.limit, state.reset, b"%d" % max(0, state.remaining))),
    ]


def test_the_headers_are_the_documented_ones() -> None:
    state = LimitState(limit=5000, remaining=4999, reset=reset_of(20_000), concurrent_limit=1, in_use=1)
    assert dict(headers_of(state, NOON + 0.5, "chat")) == {
        b"x-ratelimit-limit": b"5000",
        b"x-ratelimit-remaining": b"4999",
        b"x-ratelimit-reset": b"1728086400",
        b"ratelimit-policy": b'"day";q=5000;w=86400',
        b"ratelimit": b'"day";r=4999;t=43200',
    }
    assert dict(headers_of(state, NOON + 0.5, "messages")) == {
        **dict(headers_of(state, NOON + 0.5, "chat")),
        b"anthropic-ratelimit-requests-limit": b"5000",
        b"anthropic-ratelimit-requests-remaining": b"4999",
        b"anthropic-ratelimit-requests-reset": b"2024-10-05T00:00:00Z",
    }


def test_the_window_of_the_door_has_its_own_name_and_length() -> None:
    state = LimitState(60, 59, NOON + 30, 0, 0, "refused", 60)
    headers = dict(headers_of(state, NOON, "responses"))
    assert headers[b"ratelimit-policy"] == b'"refused";q=60;w=60'
    assert headers[b"ratelimit"] == b'"refused";r=59;t=30'


@given(
    st.integers(0, 10**6),
    st.integers(-5, 10**6),
    st.floats(0, 4e9),
    st.sampled_from(["chat", "messages", "responses"]),
)
def test_all_notations_say_the_same(limit: int, remaining: int, now: float, dialect: str) -> None:
    state = LimitState(limit, remaining, reset_of(day_of(now)), 1, 0)
    listed = headers_of(state, now, dialect)
    headers = dict(listed)
    assert len(headers) == len(listed), "no header twice"
    left = int(headers[b"x-ratelimit-remaining"])
    assert left == max(0, remaining)
    until = int(headers[b"ratelimit"].partition(b";t=")[2])
    assert headers[b"ratelimit"] == b'"day";r=%d;t=%d' % (left, until)
    reset = int(headers[b"x-ratelimit-reset"])
    assert reset - 1 < now + until < reset + 1
    if dialect == "messages":
        instant = datetime.fromisoformat(headers[b"anthropic-ratelimit-requests-reset"].decode())
        assert instant.timestamp() == reset
        assert headers[b"anthropic-ratelimit-requests-remaining"] == headers[b"x-ratelimit-remaining"]
        assert headers[b"anthropic-ratelimit-requests-limit"] == headers[b"x-ratelimit-limit"]


@given(st.integers(0, 10**9), st.floats(0, 1e9))
def test_waiting_as_long_as_told_is_long_enough_and_no_longer_than_needed(instant: int, now: float) -> None:
    left = seconds_until(instant, now)
    assert now + left >= instant
    assert left >= 0
    assert left == 0 or now + left - 1 < instant


# ---- which day, when the clock is wrong


def test_a_small_step_back_over_midnight_does_not_reopen_the_day() -> None:
    rule = DayRule()
    midnight = reset_of(20_000)
    assert rule.day_at(midnight - 1, 0) == 20_000
    assert rule.day_at(midnight + 1, 2) == 20_001
    assert rule.day_at(midnight - 7200, 3) == 20_001
    assert rule.day_told(midnight - 7200) == 20_001, "what is told is what is counted in"
    assert rule.day_at(midnight + 5, 7208) == 20_001
    assert rule.stepped() is None, "the clock came back by itself"


def test_a_clock_that_was_a_year_ahead_does_not_close_a_year_of_days() -> None:
    rule = DayRule()
    assert rule.day_at(NOON + 365 * DAY_SECONDS, 0) == 20_365
    assert rule.day_at(NOON, 1) == 20_000
    assert rule.day_told(NOON) == 20_000


@pytest.mark.parametrize(
    ("step", "told"), [(3599, None), (3601, 3601), (26 * 3600, 26 * 3600), (-7200, None)]
)
def test_a_jump_forward_of_more_than_an_hour_is_told_once(step: int, told: float | None) -> None:
    rule = DayRule()
    rule.day_at(NOON, 100)
    rule.day_at(NOON + 10, 110)
    rule.day_at(NOON + 20 + step, 120)
    assert rule.stepped() == told
    rule.day_at(NOON + 30 + step, 130)
    assert rule.stepped() is None


def test_time_that_passes_is_no_jump() -> None:
    rule = DayRule()
    for hour in range(100):
        assert rule.day_at(NOON + hour * 7200, hour * 7200) == day_of(NOON + hour * 7200)
    assert rule.stepped() is None


def test_what_is_told_of_a_request_is_the_day_in_which_it_came() -> None:
    rule = DayRule()
    midnight = reset_of(20_000)
    rule.day_at(midnight - 1, 0)
    rule.day_at(midnight + 1, 2)
    assert rule.day_told(midnight - 1) == 20_000, (
        "a request counted before midnight whose head is sent after it"
    )


@given(st.lists(st.floats(-3 * DAY_SECONDS, 3 * DAY_SECONDS), max_size=30))
def test_the_day_goes_back_only_with_a_clock_that_is_more_than_a_day_behind(steps: list[float]) -> None:
    rule = DayRule()
    held = rule.day_at(NOON, 0)
    for monotonic, step in enumerate(steps):
        now = NOON + step
        day = rule.day_at(now, monotonic)
        assert day == (held if held - day_of(now) == 1 else day_of(now))
        assert rule.day_told(now) == day
        held = day
