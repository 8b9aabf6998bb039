"""An upgrade is whole or did not happen, and a database of another program is refused."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from penstock.store.sql import migrate as migration
from penstock.store.sql.backend import StoreError
from penstock.store.sql.database import OLDER, Database
from penstock.store.sql.migrate import migrate_database
from penstock.store.sql.schema import HEAD


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def statements(path: Path) -> dict[str, list[str]]:
    """What makes up each table and index, in any order of columns and constraints."""
    conn = sqlite3.connect(path)
    rows = conn.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    conn.close()
    return {name: sorted(part.strip().rstrip(",") for part in sql.splitlines()) for name, sql in rows}


def script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parents[1] / "migrations"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def test_the_program_knows_its_own_steps() -> None:
    revisions = [step.revision for step in script().walk_revisions()]
    assert script().get_heads() == [HEAD]
    assert set(revisions) == {HEAD, *OLDER}


def test_a_database_at_the_head_is_left_alone(tmp_path: Path) -> None:
    migrate_database(url(tmp_path / "p.db"))
    before = (tmp_path / "p.db").read_bytes()
    assert migrate_database(url(tmp_path / "p.db")) == (HEAD, HEAD)
    assert (tmp_path / "p.db").read_bytes() == before


async def test_a_migrated_database_is_one_the_server_opens(tmp_path: Path) -> None:
    migrate_database(url(tmp_path / "p.db"))
    database = await Database.open(url(tmp_path / "p.db"), migrate=False)
    await database.close()


def test_a_step_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    conn = sqlite3.connect(tmp_path / "p.db")
    conn.execute("CREATE VIEW usage_days AS SELECT 1 AS in_the_way")
    conn.commit()
    conn.close()
    with pytest.raises(StoreError, match="usage_days"):
        migrate_database(url(tmp_path / "p.db"))
    assert set(statements(tmp_path / "p.db")) == {"usage_days"}


@pytest.mark.parametrize("revision", ["0099", "x"])
def test_a_newer_database_is_refused(tmp_path: Path, revision: str) -> None:
    migrate_database(url(tmp_path / "p.db"))
    conn = sqlite3.connect(tmp_path / "p.db")
    conn.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    conn.commit()
    conn.close()
    with pytest.raises(StoreError, match="newer"):
        migrate_database(url(tmp_path / "p.db"))


def run(address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penstock.store.sql.migrate"],
        input=address,
        capture_output=True,
        text=True,
        check=False,
    )


def test_as_a_process_it_takes_the_address_from_stdin_and_answers_in_one_line(tmp_path: Path) -> None:
    done = run(url(tmp_path / "p.db"))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"empty -> {HEAD}\n", "")
    failed = run("postgresql://user:secret@localhost/p")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert "secret" not in failed.stderr
