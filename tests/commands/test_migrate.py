"""``penstock migrate``: says what it will do, and keeps what it changes."""

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from penstock.store.instance_lock import InstanceLock
from penstock.store.journal import Journal
from penstock.store.sql import backup, database, migrate
from penstock.store.sql.backend import StoreError
from penstock.store.sql.backup import back_up
from penstock.store.sql.schema import HEAD
from tests.commands.conftest import Call
from tests.stores import Engine

STEP = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "{}", {!r}, None, None
def upgrade() -> None:
    op.execute("{}")
"""


@pytest.fixture
def older(data: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation from before the newest step, which adds a table; its database."""
    call("user", "create", "--email", "ann@example.com", "--verified")
    steps = tmp_path / "migrations"
    shutil.copytree(migrate.SCRIPTS, steps)
    shutil.rmtree(steps / "versions")
    (steps / "versions").mkdir()
    (steps / "versions" / "before.py").write_text(STEP.format("before", None, "SELECT 1"))
    (steps / "versions" / "newest.py").write_text(STEP.format(HEAD, "before", "CREATE TABLE later (id int)"))
    monkeypatch.setattr(migrate, "SCRIPTS", steps)
    monkeypatch.setattr(migrate, "OLDER", ("before",))
    monkeypatch.setattr(database, "OLDER", ("before",))
    _execute(data / "penstock.db", "UPDATE alembic_version SET version_num = 'before'")
    return data / "penstock.db"


def _execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    conn = sqlite3.connect(path)
    with conn:
        rows = conn.execute(statement).fetchall()
    conn.close()
    return rows


def _copies(data: Path) -> list[Path]:
    return list(data.glob("*.backup"))


def test_an_older_database_is_copied_for_its_owner_alone_before_it_is_changed(
    call: Call, data: Path, older: Path
) -> None:
    done = call("migrate", "--json")
    (copy,) = _copies(data)
    assert done.json == {"before": "before", "after": HEAD, "backup": str(copy)}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert _execute(copy, "SELECT version_num FROM alembic_version") == [("before",)]
    assert _execute(copy, "SELECT email FROM users") == [("ann@example.com",)]
    assert _execute(older, "SELECT * FROM later") == []


def test_without_a_backup_none_is_made(call: Call, data: Path, older: Path) -> None:
    assert call("migrate", "--no-backup").out == f"Migrated from before to schema {HEAD}.\n"
    assert (_copies(data), _execute(older, "SELECT * FROM later")) == ([], [])


def test_check_says_what_there_is_to_do_and_does_nothing(call: Call, data: Path, older: Path) -> None:
    checked = call("migrate", "--check")
    assert (checked.code, checked.out) == (1, f"to do: from before to schema {HEAD}\n")
    assert _execute(older, "SELECT version_num FROM alembic_version") == [("before",)]
    assert _copies(data) == []
    call("migrate")
    assert call("migrate", "--check").code == 0


def test_check_makes_no_database(call: Call, data: Path) -> None:
    assert call("migrate", "--check", "--json").json == {"before": None, "after": HEAD, "backup": None}
    assert not data.exists()


def test_while_a_server_runs_nothing_is_changed(call: Call, data: Path, older: Path) -> None:
    lock = InstanceLock.take(data)
    refused = call("migrate")
    lock.release()
    assert (refused.code, "already served" in refused.err) == (1, True)
    assert _execute(older, "SELECT version_num FROM alembic_version") == [("before",)]


@pytest.mark.parametrize("check", [("--check",), ()])
def test_a_database_of_a_newer_program_is_refused(call: Call, data: Path, check: tuple[str, ...]) -> None:
    call("migrate")
    _execute(data / "penstock.db", "UPDATE alembic_version SET version_num = '0099'")
    refused = call("migrate", *check)
    assert (refused.code, "newer than this program" in refused.err) == (1, True)


def test_check_reads_postgresql_too(call: Call, postgresql: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", postgresql.url)
    checked = call("migrate", "--check")
    assert (checked.code, checked.out) == (0, f"The database is at schema {HEAD} already.\n")


def test_a_copy_that_has_no_room_is_not_begun(
    call: Call, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("migrate")
    full = shutil.disk_usage(data)._replace(free=4096)
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda _path: full)
    with pytest.raises(StoreError, match="0 MiB left"):
        back_up(data / "penstock.db", "x")
    assert _copies(data) == []


def test_a_journal_that_the_new_program_cannot_read_is_told_before_anything_is_changed(
    call: Call, data: Path, older: Path
) -> None:
    journal = Journal.open(data / "journal", "b0", 1 << 20)
    journal.current.append(b"of another version")
    journal.close(keep=True)
    for command in (("migrate", "--check"), ("migrate",), ("user", "list")):
        refused = call(*command)
        assert (refused.code, "start that version once" in refused.err) == (1, True), command
    assert _execute(older, "SELECT version_num FROM alembic_version") == [("before",)]
    assert _copies(data) == []
    for file in (data / "journal").iterdir():
        file.unlink()
    assert call("migrate").code == 0
