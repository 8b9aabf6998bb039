"""``penstock move``: an installation goes on with PostgreSQL as it was with SQLite."""

import io
import sys
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.engine import make_url

from penstock.domain.ledger.ledger import DIRECTORY
from penstock.domain.ledger.rows import OpenRow
from penstock.store.instance_lock import InstanceLock
from penstock.store.journal import Journal
from tests.commands.conftest import Call
from tests.stores import Engine

SECRET = "not-for-the-screen"
NOWHERE = "postgresql://127.0.0.1:1/penstock"


def with_password(url: str) -> str:
    """A server that asks for none takes any."""
    parsed = make_url(url)
    return parsed.set(password=parsed.password or SECRET).render_as_string(hide_password=False)


ROW = OpenRow(
    id="r1",
    user_id="u1",
    key_id="k1",
    day=20_000,
    created_at=20_000 * 86_400_000,
    dialect="chat",
    model="m",
    requested_model="m",
    stream=False,
    client="",
    provider="p",
    upstream_model="u",
    upstream_dialect="chat",
)


def test_people_and_keys_are_there_after_the_move(
    call: Call, data: Path, postgresql: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("user", "create", "--email", "ann@example.com", "--verified").code == 0
    users, keys = call("user", "list", "--json").out, call("key", "list", "ann@example.com", "--json").out
    done = call("move", "--to", postgresql.url)
    assert (done.code, "PENSTOCK_DATABASE_URL=postgresql://" in done.out) == (0, True), done.err
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", postgresql.url)
    (data / "penstock.db").rename(data / "away.db")
    assert call("user", "list", "--json").out == users
    assert call("key", "list", "ann@example.com", "--json").out == keys


def test_it_answers_in_json_and_never_shows_the_password(
    call: Call, postgresql: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("user", "create", "--email", "ann@example.com", "--verified")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{with_password(postgresql.url)}\n"))
    done = call("move", "--to", "-", "--json")
    assert done.code == 0, done.err
    assert set(done.json) == {"from", "to", "tables"}
    assert {"name": "users", "rows": 1}.items() <= next(
        table for table in done.json["tables"] if table["name"] == "users"
    ).items()
    assert SECRET not in done.out + done.err
    again = call("move", "--to", with_password(postgresql.url))
    assert (again.code, "not empty" in again.err, SECRET in again.err) == (1, True, False)


def test_what_a_killed_server_left_in_its_journal_goes_too(
    call: Call, data: Path, postgresql: Engine
) -> None:
    call("user", "create", "--email", "ann@example.com", "--verified")
    journal = Journal.open(data / DIRECTORY, "boot-1", 1 << 20)
    journal.current.append(msgspec.msgpack.encode(ROW))
    journal.close(keep=True)
    done = call("move", "--to", postgresql.url, "--json")
    rows = {table["name"]: table["rows"] for table in done.json["tables"]}
    assert (rows["requests"], rows["usage_days"]) == (1, 1)
    assert list((data / DIRECTORY).iterdir()) == []


def test_while_a_server_runs_it_is_refused(call: Call, data: Path, postgresql: Engine) -> None:
    call("user", "create", "--email", "ann@example.com", "--verified")
    lock = InstanceLock.take(data)
    refused = call("move", "--to", postgresql.url)
    lock.release()
    assert (refused.code, "already served" in refused.err) == (1, True)
    assert call("move", "--to", postgresql.url).code == 0


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("sqlite:////tmp/other.db", "takes a PostgreSQL"),
        ("nonsense", "not a URL"),
        (NOWHERE, "cannot be reached"),
    ],
)
def test_what_is_no_postgresql_is_told(call: Call, to: str, says: str) -> None:
    call("user", "create", "--email", "ann@example.com", "--verified")
    refused = call("move", "--to", to)
    assert (refused.code, says in refused.err) == (1, True), refused.err


def test_where_there_is_nothing_to_move_nothing_is_made(
    call: Call, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not exist" in call("move", "--to", NOWHERE).err
    assert not data.exists()
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", NOWHERE)
    assert "on PostgreSQL already" in call("move", "--to", NOWHERE).err
