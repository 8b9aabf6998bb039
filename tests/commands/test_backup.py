"""The commands of docs/operations/backup.md bring an installation back."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.commands.conftest import Call
from tests.stores import Engine, execute

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "backup.md"


def commands(engine: str) -> list[str]:
    """How to copy, and how to bring back."""
    section = PAGE.read_text().split(f"## {engine}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def run(script: str, data: Path, copies: Path) -> None:
    copies.mkdir(exist_ok=True)
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), *map(str, programs), os.environ["PATH"]])
    environ = os.environ | {"PATH": path, "PENSTOCK_DATA": str(data), "COPIES": str(copies)}
    # The doctor's verdict is about providers, too, of which there are none.
    script = script.replace("penstock doctor\n", "")
    done = subprocess.run(
        ["sh", "-eu", "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_sqlite_installation_comes_back(call: Call, data: Path, tmp_path: Path) -> None:
    copy, restore = commands("SQLite")
    call("user", "create", "--email", "ann@example.com", "--verified")
    users = call("user", "list", "--json").out
    run(copy, data, tmp_path / "copies")
    call("user", "create", "--email", "bob@example.com", "--verified")
    shutil.rmtree(data)
    run(restore, data, tmp_path / "copies")
    assert call("user", "list", "--json").out == users


def test_a_postgresql_installation_comes_back(
    call: Call, data: Path, tmp_path: Path, postgresql: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, restore = commands("PostgreSQL")
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", postgresql.url)
    call("user", "create", "--email", "ann@example.com", "--verified")
    users = call("user", "list", "--json").out
    run(copy, data, tmp_path / "copies")
    name = make_url(postgresql.url).database
    execute(f"DROP DATABASE {name} WITH (FORCE)")
    execute(f"CREATE DATABASE {name}")
    shutil.rmtree(data)
    run(restore, data, tmp_path / "copies")
    assert call("user", "list", "--json").out == users
