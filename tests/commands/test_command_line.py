"""The command line: a plain ``serve`` is understood without what reads every other, and both understand the same."""

import re
from pathlib import Path

import pytest

from penstock.cli import plain_serve
from penstock.commands.registry import LINES, app
from tests.commands.conftest import Call


@pytest.mark.parametrize(
    "line",
    [
        "serve",
        "serve --port 9000",
        "serve --host 0.0.0.0 --port 0 --workers 4",
        "serve --data /srv/penstock --config penstock.toml",
    ],
)
def test_a_plain_serve_means_the_same_on_the_quick_way(line: str) -> None:
    options = plain_serve(line.split())
    assert options is not None
    _, bound, _ = app.parse_args(line.split())
    place = bound.arguments.pop("place", None)
    slow = {name: str(value) for name, value in bound.arguments.items()}
    for name in ("data", "config"):
        value: Path | None = getattr(place, name, None)
        slow |= {} if value is None else {name: str(value)}
    assert options == slow


@pytest.mark.parametrize(
    "line",
    [
        "",
        "user list",
        "serve --help",
        "serve --port",
        "serve --port nine",
        "serve --port -1",
        "serve --port=9000",
        "serve --port 1 --port 2",
        "serve --data --port",
        "serve 9000",
        "serve --Port 9000",
    ],
)
def test_all_else_goes_the_long_way(line: str) -> None:
    assert plain_serve(line.split()) is None


def test_what_is_wrong_is_said_in_one_line_with_its_exit_code(call: Call) -> None:
    for line, code in {"serve --port nine": 2, "nothing": 2, "serve --workers 2": 1}.items():
        outcome = call(*line.split())
        assert outcome.code == code
        assert outcome.out == ""
        assert all(text.startswith("penstock: ") for text in outcome.err.splitlines())


def test_every_command_has_its_line_in_the_help(call: Call) -> None:
    named = {name for name in app if not name.startswith("-")}
    assert set(LINES) == named
    listed = call("--help").out
    for name, line in LINES.items():
        assert re.search(rf"{name} +{re.escape(line[:40])}", listed), name
