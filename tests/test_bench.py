"""The pure parts of the benchmarks: whose key is next, when a ledger agrees, and what is said of pairs of runs."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.__main__ import main
from bench.bodies import Dialect, Size, body
from bench.gauges import machine
from bench.keys import REST_SECONDS, Rotation
from bench.ledger import Counts, Ledger, read_counts, settled
from bench.measure import Reading, first_token_added, paired_ratio
from bench.report import Results, markdown
from bench.route_simulation import CASES, Case, Simulation
from bench.scenarios import PATH, SCENARIOS
from penstock.core.dialects.registry import caller_side

READING = Reading(
    good=10, failed=0, failure="", per_second=1.0, cpu_request=10.0, cpu_chunk=2.0, core_use=0.1, foreign=0.0, load_use=0.1,
    latency_p50=1.0, latency_p99=2.0, first_p50=1.0, first_p99=2.0, delay_p50=0.1, delay_p99=0.2,
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 100)), max_size=30))
def test_no_key_is_used_again_before_it_has_rested(runs: list[tuple[int, float]]) -> None:
    keys = Rotation(Path("keys"), 50)
    last_used: dict[int, float] = {}
    now = 1000.0
    for count, pause in runs:
        now += pause
        now += keys.rest(now)
        for key in ((keys.first + offset) % keys.count for offset in range(count)):
            assert now - last_used.get(key, 0.0) > REST_SECONDS - 1e-6
            last_used[key] = now
        keys.used(count, now)


@pytest.mark.parametrize(
    ("ledger", "agrees"),
    [
        (Ledger(5, 5, 5), True),
        (Ledger(0, 0, 0), True),
        (Ledger(5, 4, 5), False),
        (Ledger(5, 5, 4), False),
        (Ledger(4, 5, 5), False),
    ],
)
def test_a_ledger_says_whether_its_three_numbers_are_one(ledger: Ledger, agrees: bool) -> None:
    assert ledger.agrees == agrees
    assert ("equal" if agrees else "THEY DIFFER") in str(ledger)


def test_rows_that_come_a_moment_later_are_waited_for() -> None:
    seen = iter([Counts(3, 4), Counts(6, 7), Counts(8, 9)])
    assert settled(lambda: next(seen), Counts(3, 4), 5) == Ledger(5, 5, 5)


def test_counts_are_those_of_all_accounts_and_days(tmp_path: Path) -> None:
    file = tmp_path / "penstock.db"
    with sqlite3.connect(file) as conn:
        conn.execute("CREATE TABLE requests (id TEXT)")
        conn.execute("CREATE TABLE usage_days (user_id TEXT, day INTEGER, used INTEGER)")
        assert read_counts(file) == Counts(0, 0)
        conn.executemany("INSERT INTO requests VALUES (?)", [("a",), ("b",), ("c",)])
        conn.executemany("INSERT INTO usage_days VALUES (?, ?, ?)", [("u", 1, 1), ("u", 2, 1), ("v", 2, 1)])
        conn.commit()
    assert read_counts(file) == Counts(3, 3)


def test_what_is_added_and_by_nginx_are_medians_over_pairs() -> None:
    direct = [replace(READING, first_p50=first) for first in (1.0, 10.0, 2.0)]
    ours = [
        replace(READING, first_p50=first, cpu_chunk=cpu)
        for first, cpu in ((2.0, 4.0), (10.5, 8.0), (4.0, 2.0))
    ]
    relayed = next(scenario for scenario in SCENARIOS if scenario.name == "relay-paced")
    assert first_token_added(ours, direct) == 1.0
    assert paired_ratio(ours, direct, relayed) == 2.0
    assert first_token_added([replace(READING, first_p50=None)], [READING]) is None


@pytest.mark.parametrize("peers", ["plain", "spin"])
def test_a_record_says_how_its_peers_waited(peers: str) -> None:
    runs = {"direct": [READING], "nginx": [READING], "penstock": [READING]}
    results = Results(
        "make bench", "today", machine(), {}, peers,
        readings={scenario.name: runs for scenario in SCENARIOS}, ledgers={"pass-small": Ledger(5, 5, 5)},
    )  # fmt: skip
    text = markdown(results)
    assert f"*{peers}*" in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings
    assert all(line.endswith(f"({peers})") for line in headings)
    assert ("what the request path must reach" in text) == (peers == "spin")
    assert f'"peers": "{peers}"' in results.as_json()


def test_every_scenario_that_is_judged_exists() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert set(PATH) <= set(names)


@pytest.mark.parametrize("size", ["small", "large"])
def test_what_is_sent_says_the_same_in_each_dialect(size: Size) -> None:
    dialects: tuple[Dialect, ...] = ("chat", "messages", "responses")
    sent = [body(dialect, size, "m", stream=False) for dialect in dialects]
    asked = [
        caller_side(dialect).decode_request(data)[0] for dialect, data in zip(dialects, sent, strict=True)
    ]
    assert {len(request.tools) for request in asked} == {24 if size == "large" else 2}
    assert all(
        request.turns[-1] == asked[0].turns[-1] and request.tools == asked[0].tools for request in asked
    )
    kilobytes = {round(len(data) / 1000) for data in sent}
    assert kilobytes <= (set(range(100, 112)) if size == "large" else {1, 2})


def test_a_scenario_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "path,nothing"])
    assert "unknown: nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("case", "errors", "attempts", "p99", "waited"),
    [
        (CASES[0], 0.0, 1.0, 1.6, 0.0),
        (CASES[1], 0.001, 1.07, 1.7, 0.0),
        (CASES[2], 0.002, 1.08, 16.0, 0.075),
        (CASES[3], 0.0, 1.01, 6.0, 0.002),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_a_tenth_of_the_simulation_of_many_gateways(
    case: Case, errors: float, attempts: float, p99: float, waited: float
) -> None:
    """The rules of choice as production imports them; the whole of it, and its numbers, are in bench/records."""
    figures = Simulation(case, seed=1, servers=50, gateways=16, rate=1500.0, seconds=4.0).run()
    assert figures.errors <= errors * figures.requests
    assert figures.attempts <= attempts * figures.requests
    assert sorted(figures.firsts)[int(len(figures.firsts) * 0.99)] <= p99
    assert figures.waited <= waited * figures.requests
