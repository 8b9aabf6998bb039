"""``penstock drill``: what it asks for, what it leaves, and what it tells at its end."""

import time
from pathlib import Path

import pytest

from penstock.operations.drill import Drill, begin_drill, read_drill
from tests.commands.conftest import Call


@pytest.fixture
def key(call: Call) -> str:
    """The id of somebody's key."""
    call("user", "create", "--email", "ann@example.com", "--verified")
    (row,) = call("key", "list", "--email", "ann@example.com", "--json").json["keys"]
    return str(row["id"])


def test_what_is_wrong_is_said_before_anything_is_played(call: Call, key: str, data: Path) -> None:
    for arguments, said in (
        (("--key", "none", "--provider", "anthropic"), "no key with the id"),
        (("--key", key, "--provider", "nobody"), "no provider 'nobody'; there are"),
        (("--key", key, "--provider", "anthropic", "--fault", "flood"), "no fault that can be played: hang"),
        (("--key", key, "--provider", "anthropic", "--seconds", "0"), "from 1 to 3600"),
        (("--key", key, "--provider", "anthropic", "--seconds", "3601"), "from 1 to 3600"),
    ):
        outcome = call("drill", *arguments)
        assert outcome.code != 0
        assert said in outcome.err
    assert read_drill(data, time.time()) is None


def test_it_waits_ends_and_tells_how_requests_have_ended(call: Call, key: str, data: Path) -> None:
    outcome = call(
        "drill", "--key", key, "--provider", "anthropic", "--fault", "429", "--seconds", "1", "--json"
    )
    assert outcome.json == {"key": key, "provider": "anthropic", "fault": "429", "seconds": 1, "outcomes": []}
    assert "anthropic fails (429) for this key alone" in outcome.err
    assert read_drill(data, time.time()) is None
    assert not (data / "drill.json").exists()


def test_one_that_runs_is_shown_by_doctor_and_can_be_ended(call: Call, key: str, data: Path) -> None:
    assert call("drill", "--stop").out == "No drill was running.\n"
    begin_drill(data, Drill(key, "anthropic", "hang", time.time() + 60))
    told = [finding for finding in call("doctor", "--json").json["findings"] if finding["subject"] == "drill"]
    assert len(told) == 1
    assert f"anthropic fails (hang) for key {key}" in told[0]["text"]
    assert call("drill", "--stop").out == "The drill with anthropic is over.\n"
    assert read_drill(data, time.time()) is None
