"""Commands called in this process, on an installation of the test's own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.cli import main
from tests.stores import postgresql

__all__ = ["Call", "Outcome", "call", "data", "postgresql"]


class Outcome(msgspec.Struct, frozen=True):
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return msgspec.json.decode(self.out)


Call = Callable[..., Outcome]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory that commands work on; nothing else is set."""
    for name in list(os.environ):
        if name.startswith("PENSTOCK_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "data"
    monkeypatch.setenv("PENSTOCK_DATA", str(directory))
    return directory


@pytest.fixture
def call(data: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """``call("user", "list")``."""

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run
