"""Circuit breakers: when one opens, for how long, and what closes it."""

from msgspec.structs import replace

from penstock.core.routing.circuit_breaker import Circuit, CircuitState, Window
from penstock.core.routing.rules import RULES

R = RULES


def outcomes(circuit: Circuit, now: float, said: str) -> None:
    """``+`` is a good one, ``-`` a failure, ``s`` a slow one."""
    for each in said:
        if each == "-":
            circuit.failed(now, now, R, u=0.5)
        else:
            circuit.succeeded(now, now, R, slow=each == "s")


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit()
    outcomes(circuit, now, "-----")
    return circuit


def probed(circuit: Circuit, now: float, said: str) -> None:
    circuit.probe(now, R)
    outcomes(circuit, now, said)


def test_five_in_a_row_or_half_of_ten_open_it() -> None:
    for said, state in (
        ("----", "closed"),
        ("-----", "open"),
        ("----+----", "closed"),
        ("+++++----", "closed"),
        ("+-" * 5, "open"),
        ("++-" * 6, "closed"),
        ("+" * 20 + "-----", "closed"),
        ("+" * 11 + "-----", "open"),
    ):
        circuit = Circuit()
        outcomes(circuit, 1.0, said)
        assert circuit.state is CircuitState(state), said


def test_only_the_last_half_minute_counts() -> None:
    circuit = Circuit()
    outcomes(circuit, 1.0, "+-" * 4)
    outcomes(circuit, 36.0, "-+-+")
    assert circuit.state is CircuitState.CLOSED


def test_each_opening_within_ten_minutes_is_twice_as_long_up_to_a_minute() -> None:
    circuit, now = Circuit(), 0.0
    outcomes(circuit, now, "-----")
    for seconds in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        assert circuit.until == now + seconds
        now = circuit.until
        probed(circuit, now, "-")
    now += R.openings_kept + 61.0
    probed(circuit, now, "-")
    assert circuit.until == now + 5.0
    for u, seconds in ((0.0, 4.0), (0.99, 5.98)):
        circuit = Circuit()
        for _ in range(5):
            circuit.failed(0.0, 0.0, R, u=u)
        assert abs(circuit.until - seconds) < 1e-9, "they do not all come back at once"


def test_two_good_probes_in_a_row_close_it() -> None:
    circuit = opened()
    assert circuit.suspect
    probed(circuit, 5.0, "+")
    assert (circuit.state, circuit.until) == (CircuitState.OPEN, 5.0)
    probed(circuit, 5.1, "-")
    assert circuit.until == 5.1 + 10.0
    for now in (16.0, 16.1):
        probed(circuit, now, "+")
    assert (circuit.state, circuit.until, circuit.normal) == (CircuitState.CLOSED, 0.0, True)
    outcomes(circuit, 16.2, "----")
    assert circuit.state is CircuitState.CLOSED, "what was before is forgotten"


def test_a_probe_that_says_nothing_frees_the_place_and_one_that_never_reports_holds_it_for_a_while() -> None:
    circuit = opened()
    circuit.probe(5.0, R)
    assert circuit.until == 5.0 + R.probe_held
    circuit.free(6.0)
    assert (circuit.until, circuit.probing) == (6.0, False)
    circuit.free(7.0)
    assert circuit.until == 6.0


def test_what_was_sent_before_the_circuit_changed_says_nothing() -> None:
    circuit = opened(10.0)
    circuit.probe(15.0, R)
    assert not circuit.succeeded(16.0, 9.0, R)
    assert not circuit.failed(16.0, 9.0, R, u=0.5)
    assert circuit.probing
    for now in (17.0, 17.1):
        probed(circuit, now, "+")
    for _ in range(9):
        circuit.failed(18.0, 16.0, R, u=0.5)
    assert circuit.state is CircuitState.CLOSED, "those had been on their way for long"


def test_a_last_resort_may_close_it_and_opens_nothing() -> None:
    circuit = opened()
    until = circuit.until
    assert not circuit.failed(2.0, 2.0, R, u=0.5)
    assert circuit.until == until
    outcomes(circuit, 2.0, "++")
    assert circuit.state is CircuitState.CLOSED


def test_of_two_rests_the_one_that_ends_later_counts() -> None:
    circuit = Circuit()
    circuit.cool(0.0, 60.0)
    circuit.cool(1.0, 1.0)
    assert (circuit.until, circuit.suspect, circuit.normal) == (60.0, False, False)
    assert not circuit.settle(59.0)
    assert circuit.settle(60.0)
    assert circuit.normal
    circuit = opened()
    circuit.cool(0.0, 1.0)
    assert circuit.until == 5.0


def test_a_rest_is_what_was_told_else_doubled() -> None:
    circuit = Circuit()
    for told, seconds in ((12.0, 12.0), (0.0, 0.2), (99.0, 30.0)):
        assert circuit.rest(told, 30.0, 15.0, 2.0, 0.2) == seconds
    for seconds in (2.0, 4.0, 8.0, 15.0, 15.0):
        assert circuit.rest(None, 30.0, 15.0, 2.0, 0.2) == seconds
        circuit.cool(0.0, seconds)
    circuit.succeeded(20.0, 20.0, R)
    assert circuit.rest(None, 30.0, 15.0, 2.0, 0.2) == 2.0


def test_what_is_off_is_tried_more_and_more_rarely_and_one_answer_brings_it_back() -> None:
    circuit, now = Circuit(), 0.0
    circuit.switch_off(now, R)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        assert circuit.off
        assert circuit.until == now + 60.0 * minutes
        assert not circuit.switch_off(now + 1.0, R), "it is known"
        now = circuit.until
        circuit.probe(now, R)
        circuit.switch_off(now, R)
    circuit.probe(circuit.until, R)
    circuit.succeeded(circuit.until, circuit.until, R)
    assert circuit.normal
    circuit.switch_off(0.0, R, 7_200.0)
    assert circuit.until == 7_200.0


def test_a_minute_with_a_tenth_of_failures_or_a_third_of_slow_ones_degrades() -> None:
    for said, degraded in (
        ("+" * 17 + "-", 0),
        ("+" * 18 + "--", 1),
        ("+" * 15 + "-----", 2),
        ("+" * 14 + "ssssss", 1),
        ("+" * 15 + "sssss", 0),
    ):
        circuit = Circuit()
        outcomes(circuit, 1.0, said)
        assert circuit.degraded == degraded, said
        assert circuit.normal == (degraded == 0)


def test_a_degraded_one_gets_worse_at_once_and_better_after_half_a_minute() -> None:
    circuit = Circuit()
    outcomes(circuit, 0.0, "+" * 18 + "--")
    assert not circuit.judge(1.0, R)
    outcomes(circuit, 2.0, "-+" * 7)
    assert circuit.degraded == 2
    outcomes(circuit, 20.0, "+")
    assert circuit.degraded == 2
    outcomes(circuit, 30.0, "-+")
    assert circuit.degraded == 2, "it still fails"
    circuit = Circuit()
    outcomes(circuit, 0.0, "+" * 18 + "--")
    outcomes(circuit, 34.9, "+")
    assert circuit.degraded == 0
    outcomes(circuit, 35.0, "-")
    assert circuit.degraded == 0, "the bad minute is over"


def test_a_window_forgets_what_is_over_a_minute_old() -> None:
    window = Window()
    window.count[window.bucket(0.0, R)] += 1
    window.bucket(59.0, R)
    assert window.last(12)[0] == 1
    window.bucket(60.0, R)
    assert window.last(12)[0] == 0
    window.count[window.bucket(61.0, R)] += 1
    window.bucket(6_000.0, R)
    assert window.last(12) == (0, 0, 0)
    short = replace(R, bucket=0.1)
    window.failed[window.bucket(6_000.05, short)] += 1.0
    assert window.last(6) == (0, 1.0, 0)
