"""How quick a model is, and how long an attempt may take."""

import math

import pytest

from penstock.core.routing.pace import Clocks, Pace, Size, Times, stream_kind, whole_kind
from penstock.core.routing.rules import RULES

CLOCKS = Clocks()
SMALL = Size(prompt=0, asked=0)


def paced(seconds: list[float], kind: int = 0) -> Pace:
    pace = Pace(RULES)
    for number in range(RULES.samples):
        pace.add(kind, seconds[number % len(seconds)], float(number))
    return pace


def test_quantiles_are_within_a_tenth() -> None:
    times = Times()
    for number in range(1, 1001):
        times.add(number / 100, 1.0)
    for found, true in ((times.median, 5.0), (times.p95, 9.5), (times.p99, 9.9)):
        assert true <= found * 1.01
        assert found <= true * 1.1
    for odd in (0.0, 1e9):
        assert times.add(odd, 1.0) >= 0.0


def test_an_hour_ago_is_forgotten() -> None:
    times = Times()
    times.add(1.0, 10_000.0)
    times.add(1.0, 11_000.0)
    assert times.count == 2
    times.add(1.0, 12_000.0)
    assert times.count == 3, "half an hour ago still counts"
    times.add(1.0, 20_000.0)
    assert times.count == 1


def test_a_sample_is_told_in_averages() -> None:
    pace = Pace(RULES)
    assert pace.add(0, 2.0, 0.0) == 1.0
    assert pace.add(0, 4.0, 0.0) == 2.0
    assert pace.add(0, 2.2, 0.0) == pytest.approx(1.0)
    assert pace.add(1, 9.0, 0.0) == 1.0, "another size"


def test_sizes_have_classes() -> None:
    assert [stream_kind(tokens) for tokens in (0, 2_000, 2_001, 16_001, 64_001)] == [0, 0, 1, 2, 3]
    assert [whole_kind(tokens) for tokens in (0, 257, 1_025, 4_097)] == [4, 5, 6, 7]


def test_case_9_and_10_a_thinking_model_and_a_long_prompt_have_their_time() -> None:
    pace = Pace(RULES)
    for size, other, head, content in (
        (SMALL, True, 15.0, 60.0),
        (Size(0, 0, thinks=True), True, 15.0, 120.0),
        (Size(300_000, 0), True, 87.0, 132.0),
        (Size(300_000, 0, thinks=True), True, 87.0, 192.0),
        (SMALL, False, 60.0, math.inf),
    ):
        limits = pace.stream_limits(size, CLOCKS, other=other)
        assert (limits.head, limits.content) == (head, content)
    learned = paced([60.0])
    assert learned.stream_limits(Size(0, 0, thinks=True), CLOCKS, other=True).content > 110.0


def test_where_another_is_there_a_models_own_times_bound_an_attempt() -> None:
    assert paced([1.0]).stream_limits(SMALL, CLOCKS, other=True).content == RULES.attempt_least
    limits = paced([10.0]).stream_limits(SMALL, CLOCKS, other=True)
    assert 20.0 <= limits.content <= 22.0
    assert limits.head == 15.0
    assert paced([1.0]).stream_limits(SMALL, CLOCKS, other=True).head == RULES.attempt_least
    assert paced([1.0]).stream_limits(Size(5_000, 0), CLOCKS, other=True).content > 60.0, "another size"


def test_whole_answers_have_the_time_that_their_length_asks_for() -> None:
    pace = Pace(RULES)
    for size, other, first, whole in (
        (SMALL, False, 60.0, 60.0),
        (Size(0, 3_000), False, 230.0, 230.0),
        (Size(0, 3_000), True, 138.0, 230.0),
        (Size(1_000_000, 60), False, 274.0, 274.0),
        (Size(0, 99_000), True, 360.0, 600.0),
    ):
        limits = pace.whole_limits(size, CLOCKS, other=other)
        assert (limits.head, limits.content, limits.whole) == (first, first, whole)
    learned = paced([1.0], whole_kind(3_000))
    assert learned.whole_limits(Size(0, 3_000), CLOCKS, other=True).content == RULES.whole_least
    assert learned.whole_limits(Size(0, 3_000), CLOCKS, other=False).content == 230.0


def test_a_caller_has_found_it_slow_after_ten_seconds_or_three_medians() -> None:
    assert Pace(RULES).slow_mark(0) == RULES.slow_least
    assert 29.0 < paced([10.0]).slow_mark(0) < 34.0


def test_a_probe_has_as_long_as_nearly_all_others_need() -> None:
    assert Pace(RULES).probe_limit(0) == RULES.probe_unknown
    assert paced([0.5]).probe_limit(0) == RULES.probe_shortest
    assert 4.0 <= paced([4.0]).probe_limit(0) <= 4.4
