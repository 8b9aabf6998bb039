"""The commands, called in this process: what they print, what they change, and how they fail."""

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock import __version__
from penstock.core.api_key import display, is_well_formed
from penstock.domain.revisions import read_revisions
from penstock.settings import load, markdown
from penstock.store.sql.database import open_database
from tests.commands.conftest import Call, postgresql

__all__ = ["postgresql"]

EMAIL = "--email=ann@example.com"


@pytest.fixture
def ann(call: Call) -> dict[str, Any]:
    return call("user", "create", EMAIL, "--plan=pro", "--verified", "--json").json


def test_a_user_gets_a_first_key(call: Call) -> None:
    made = call(
        "user", "create", "--email", "Ann@Example.com", "--plan", "pro", "--admin", "--verified", "--json"
    )
    assert (made.code, made.err) == (0, "")
    assert list(made.json) == ["id", "email", "plan", "key"]
    assert (made.json["email"], made.json["plan"]) == ("Ann@example.com", "pro")
    assert made.json["id"].startswith("usr_")
    assert is_well_formed(made.json["key"])
    (listed,) = call("user", "list", "--json").json["users"]
    assert listed | {"created_at": 0} == {
        "id": made.json["id"], "email": "Ann@example.com", "plan": "pro", "admin": True, "verified": True,
        "disabled": False, "created_at": 0,
    }  # fmt: skip


def test_people_read_sentences(call: Call) -> None:
    made = call("user", "create", EMAIL)
    assert "Made ann@example.com on the free plan (usr_" in made.out
    assert "penstock user set --email ann@example.com --verified" in made.out
    assert (
        call("user", "set", EMAIL, "--verified", "--plan=pro").out
        == "ann@example.com: verified, on the pro plan.\n"
    )
    assert "verified" in call("user", "list").out
    assert display(made.out.split("Key: ")[1].split()[0]) in call("key", "list", EMAIL).out


def test_an_account_can_be_closed_and_opened(call: Call, ann: dict[str, Any]) -> None:
    assert call("user", "set", EMAIL, "--disabled", "--json").json["disabled"] is True
    assert call("user", "set", EMAIL, "--enabled", "--unverified", "--json").json["disabled"] is False
    assert call("user", "set", EMAIL, "--admin", "--json").json | {"created_at": 0} == {
        "id": ann["id"], "email": "ann@example.com", "plan": "pro", "admin": True, "verified": False,
        "disabled": False, "created_at": 0,
    }  # fmt: skip


CHANGES = (
    ("user", "set", EMAIL, "--disabled"),
    ("user", "set", EMAIL, "--enabled", "--plan=free"),
    ("user", "set", EMAIL, "--unverified"),
    ("user", "set", EMAIL, "--verified"),
    ("key", "create", EMAIL, "--name=laptop"),
    ("key", "roll", EMAIL, "--name=laptop", "--grace=60"),
    ("key", "revoke", EMAIL, "--name=laptop"),
)
"""What is done to an account or its keys, one after the other."""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_servers_are_told_of_whatever_is_done_to_an_account_or_its_keys(
    call: Call, data: Path, engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "postgresql":
        monkeypatch.setenv("PENSTOCK_DATABASE_URL", request.getfixturevalue("postgresql").url)
    call("user", "create", EMAIL, "--plan=pro", "--verified", "--json")

    async def revision() -> int:
        database = await open_database(load(os.environ).settings)
        found = await read_revisions(database)
        await database.close()
        return found.keys

    before = asyncio.run(revision())
    for arguments in CHANGES:
        assert call(*arguments).code == 0, arguments
        after = asyncio.run(revision())
        assert after > before, arguments
        before = after
    assert call("user", "set", EMAIL, "--admin").code == 0
    assert call("user", "list").code == 0
    assert asyncio.run(revision()) == before, "nothing that authentication rests on"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("user", "create", EMAIL), "There is already an account for ann@example.com."),
        (("user", "create", "--email=nobody"), "An e-mail address has the form name@example.com."),
        (
            ("user", "create", "--email=b@example.com", "--plan=gold"),
            "There is no plan 'gold'; there are free, starter, pro.",
        ),
        (
            ("user", "set", EMAIL),
            "nothing to change: say --plan, --verified, --disabled, --enabled or --admin",
        ),
        (("user", "set", "--email=b@example.com", "--verified"), "There is no account for b@example.com."),
        (("key", "create", EMAIL, "--name=default"), "There is a key named 'default' already."),
        (("key", "create", EMAIL, "--address=here"), "'here' is not an IP address or network"),
        (("key", "create", EMAIL, "--expires-days=0"), "--expires-days is a number of days from 1 to 36500"),
        (("key", "revoke", EMAIL, "--name=laptop"), "ann@example.com has no such working key"),
        (("key", "list", "--email=b@example.com"), "There is no account for b@example.com."),
        (("catalog", "apply", "nowhere.toml"), "cannot read nowhere.toml"),
        (("usage", EMAIL, "--day=yesterday"), "'yesterday' is not a day such as 2026-11-25"),
        (("serve", "--workers=2"), "several workers need PostgreSQL and Redis"),
        (("serve", "--port=70000"), "--port: '70000' is not a whole number from 0 to 65535"),
    ],
)
def test_a_failure_is_one_line_and_code_1(
    call: Call, ann: dict[str, Any], arguments: tuple[str, ...], complaint: str
) -> None:
    failed = call(*arguments)
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.count("\n") == 1
    assert failed.err.startswith(f"penstock: {complaint}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "create"), ("user", "create", EMAIL, "--colour=red"), ("sevre",), ("key", "list", "ann@example.com"),
        ("user", "create", EMAIL, "--admin=maybe"), ("usage", "--email"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_line_and_code_2(call: Call, arguments: tuple[str, ...]) -> None:
    failed = call(*arguments)
    assert (failed.code, failed.out) == (2, "")
    assert failed.err.startswith("penstock: ")
    assert failed.err.count("\n") == 1
    assert "Traceback" not in failed.err


def test_keys_are_made_rolled_and_revoked(call: Call, ann: dict[str, Any]) -> None:
    laptop = call(
        "key", "create", EMAIL, "--name=laptop", "--model=claude-haiku-4.5", "--address=10.0.0.0/8", "--address=::1",
        "--expires-days=30", "--json",
    ).json  # fmt: skip
    assert list(laptop) == ["id", "name", "key"]
    assert laptop["name"] == "laptop"
    listed = call("key", "list", EMAIL, "--json").json["keys"]
    assert [key["name"] for key in listed] == ["laptop", "default"]
    assert listed[0]["models"] == ["claude-haiku-4.5"]
    assert listed[0]["addresses"] == ["10.0.0.0/8", "::1"]
    assert listed[0]["shown"] == display(laptop["key"])
    assert laptop["key"] not in str(listed)

    rolled = call("key", "roll", EMAIL, "--name=laptop", "--grace=3600", "--json").json
    assert rolled["name"] == "laptop"
    assert rolled["key"] != laptop["key"]
    assert call("key", "roll", EMAIL).err == (
        "penstock: ann@example.com has several keys (laptop, default): say --name or --id\n"
    )
    revoked = call("key", "revoke", EMAIL, "--name=laptop", "--json").json["revoked"]
    assert set(revoked) == {laptop["id"], rolled["id"]}
    assert [key["works"] for key in call("key", "list", EMAIL, "--json").json["keys"]] == [False, False, True]
    assert call("key", "roll", EMAIL).out.startswith("Made the key 'default' (key_")


def test_the_catalogue_is_exported_changed_and_applied(call: Call, tmp_path: Path) -> None:
    exported = call("catalog", "export").out
    file = tmp_path / "catalog.toml"
    file.write_text(exported)
    assert call("catalog", "apply", str(file)).out == "Nothing changes.\n"
    file.write_text(exported.replace("daily_requests = 5000\n", "daily_requests = 6000\n"))
    (change,) = call("catalog", "apply", str(file), "--json").json["changes"]
    assert change == {"kind": "plan", "id": "free", "action": "updated", "fields": ["daily_requests"]}
    shown = call("catalog", "show", "--json").json
    assert shown["plans"][0]["daily_requests"] == 6000
    assert shown["simulated"] is True
    assert {model["id"] for model in shown["models"]} >= {"claude-haiku-4.5", "auto-kiro"}
    haiku = next(model for model in shown["models"] if model["id"] == "claude-haiku-4.5")
    assert haiku["plans"] == ["free", "starter", "pro"]
    assert "ANTHROPIC_API_KEY" in haiku["needs"]
    assert "claude-haiku-4.5" in call("catalog", "show").out


def test_an_embedding_model_keeps_its_kind(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    target = 'targets = [{ provider = "openai", model = "text-embedding-3-small" }]\n'
    file.write_text(f'[[model]]\nid = "e"\nkind = "embedding"\n{target}')
    assert call("catalog", "apply", str(file)).out == "added model e\n"
    exported = call("catalog", "export").out
    assert 'kind = "embedding"' in exported
    other = tmp_path / "exported.toml"
    other.write_text(exported)
    assert call("catalog", "apply", str(other)).out == "Nothing changes.\n"
    kinds = {model["id"]: model["kind"] for model in call("catalog", "show", "--json").json["models"]}
    assert (kinds["e"], kinds["claude-haiku-4.5"]) == ("embedding", "chat")
    assert re.search(r"^e +embedding ", call("catalog", "show").out, re.MULTILINE)
    file.write_text(f'[[model]]\nid = "e"\n{target}')
    (change,) = call("catalog", "apply", str(file), "--json").json["changes"]
    assert (change["action"], change["fields"]) == ("updated", ["kind"])


def test_mistakes_in_a_catalogue_are_one_line_each(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text('[[plan]]\nid = "free"\ndaly_requests = 1\n\n[[modle]]\nid = "x"\n')
    failed = call("catalog", "apply", str(file))
    assert failed.code == 1
    assert all(line.startswith("penstock: ") for line in failed.err.splitlines())
    assert "daly_requests" in failed.err
    assert "modle" in failed.err


def test_a_day_without_requests(call: Call, ann: dict[str, Any]) -> None:
    used = call("usage", EMAIL, "--day=2026-11-25", "--json").json
    assert used == {
        "email": "ann@example.com", "plan": "pro", "day": "2026-11-25", "counted": 0, "refunded": 0, "limit": 50_000,
        "requests": [],
    }  # fmt: skip
    assert "0 of 50,000 requests counted, 0 refunded" in call("usage", EMAIL).out


def plant(
    planting: sqlite3.Connection, user: str, state: str, model: str, *, answered: str | None = None
) -> None:
    """A request of day 20000."""
    planting.execute(
        "INSERT INTO kinds (id, state, dialect, model, stream, client, provider, upstream_model, upstream_dialect, attempts,"
        " counted, estimated) VALUES (1, ?, 'chat', ?, 0, '', 'p', 'm', 'chat', 1, 1, 0)",
        (state, model),
    )
    planting.execute(
        "INSERT INTO requests (day, id, user_id, key_id, created_at, kind, boot, answered_model)"
        " VALUES (20000, x'0072', ?, 'k', 1728000000000, 1, ?, ?)",
        (user, "b" if state == "open" else None, answered),
    )


def test_a_day_says_which_other_model_answered(call: Call, ann: dict[str, Any], data: Path) -> None:
    with sqlite3.connect(data / "penstock.db") as planting:
        plant(planting, ann["id"], "settled", "cheap", answered="dearest")
    planting.close()
    (line,) = call("usage", EMAIL, "--day=2024-10-04", "--json").json["requests"]
    assert (line["model"], line["answered_model"]) == ("cheap", "dearest")
    assert "cheap (answered by dearest)" in call("usage", EMAIL, "--day=2024-10-04").out


def test_a_planted_difference_is_shown_and_repaired(call: Call, ann: dict[str, Any], data: Path) -> None:
    with sqlite3.connect(data / "penstock.db") as planting:
        insert = "INSERT INTO usage_days (user_id, day, used, refunded) VALUES (?, 20000, 3, 0)"
        planting.execute(insert, (ann["id"],))
        plant(planting, "usr_b", "open", "m")
    planting.close()
    shown = call("reconcile", "--day", "2024-10-04", "--json")
    assert (shown.code, shown.json["day"], shown.json["repaired"]) == (1, "2024-10-04", False)
    wrong = {"table": "usage_days", "of": [ann["id"], 20000], "column": "used", "kept": 3, "rows": 0}
    missing = {"table": "usage_days", "of": ["usr_b", 20000], "column": "used", "kept": 0, "rows": 1}
    assert shown.json["differences"] == sorted([wrong, missing], key=lambda it: it["of"])
    assert call("reconcile", "--day", "2024-10-04").out.count("usage_days") == 2
    assert call("reconcile", "--day", "2024-10-04", "--repair").code == 0
    assert "every count and sum" in call("reconcile", "--day", "2024-10-04").out
    assert call("reconcile", "--day", "2024-10").code == 1


def test_settings_are_shown_with_their_origin(
    call: Call, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_METRICS_TOKEN", "hunter2")
    monkeypatch.setenv("PENSTOCK_DRIAN", "1")
    shown = call("settings", "--json")
    assert "PENSTOCK_DRIAN is set but means nothing here; did you mean PENSTOCK_DRAIN?" in shown.err
    assert shown.json["data"] == {"value": str(data), "origin": "PENSTOCK_DATA (environment)"}
    assert shown.json["port"] == {"value": "8484", "origin": "default"}
    assert "hunter2" not in shown.out + call("settings").out
    assert call("settings", "--markdown").out == markdown()


def test_bad_settings_stop_every_command(call: Call, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.setenv("PENSTOCK_DRAIN", "soon")
    monkeypatch.setenv("PENSTOCK_PORT", "http")
    failed = call("user", "list")
    assert failed.code == 1
    assert failed.err.splitlines() == [
        "penstock: PENSTOCK_PORT (environment): 'http' is not a whole number from 0 to 65535",
        "penstock: PENSTOCK_DRAIN (environment): 'soon' is not a number of seconds",
    ]
    assert not data.exists()


def test_data_and_config_say_which_installation(call: Call, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (tmp_path / "p.toml").write_text(f'data = "{tmp_path}/third"')
    call("user", "create", EMAIL, "--data", str(other))
    assert "ann" in call("user", "list", "--data", str(other)).out
    assert "ann" not in call("user", "list").out
    assert call("settings", "--config", "nowhere.toml").err.startswith("penstock: ")
    assert (
        call("settings", "--config", "p.toml", "--json").json["data"]["origin"]
        == "PENSTOCK_DATA (environment)"
    )


def test_keys_are_not_kept_when_they_may_not_be_shown(
    call: Call, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_KEYS_REVEAL", "false")
    call("user", "create", EMAIL)
    assert call("secrets", "rotate", "--json").json["resealed"] == 0


def test_a_secrets_file_is_made_for_servers_to_come_and_never_replaced(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "shared.json"
    assert str(file) in call("secrets", "make", str(file)).out
    before = file.read_bytes()
    assert call("secrets", "make", str(file)).code == 1
    assert file.read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o600


def test_secrets_rotate(call: Call, ann: dict[str, Any]) -> None:
    first = call("secrets", "rotate", "--json").json
    assert first["resealed"] == 1
    assert call("secrets", "rotate").out.startswith("New pepper ")
    assert call("doctor", "--json").json["ok"] is True


def test_the_wrong_secrets_file_is_noticed(call: Call, ann: dict[str, Any], data: Path) -> None:
    file = data / "secrets.json"
    kept = file.read_bytes()
    file.unlink()
    assert "there is no secrets file" in call("user", "list").err
    assert not file.exists(), "a new one would only hide the loss"
    call("user", "create", EMAIL, "--data=other")
    file.touch(0o600)
    file.write_bytes((data.parent / "other" / "secrets.json").read_bytes())
    failed = call("user", "list")
    assert failed.code == 1
    assert "1 API key was made with pepper" in failed.err
    file.write_bytes(kept)
    assert call("user", "list").code == 0


def test_migrate_says_what_it_did(call: Call, data: Path) -> None:
    first = call("migrate", "--json")
    assert first.json["before"] is None
    assert call("migrate").out == f"The database is at schema {first.json['after']} already.\n"
    assert call("user", "create", EMAIL).code == 0


def test_a_data_directory_that_cannot_be(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = call("user", "list", "--data", str(tmp_path / "file" / "data"))
    assert failed.code == 1
    assert failed.err.startswith("penstock: cannot write ")
    assert failed.err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("serve",), ("user", "create"), ("user", "set"), ("user", "list"), ("key", "create"), ("key", "list"),
        ("key", "revoke"), ("key", "roll"), ("catalog", "show"), ("catalog", "apply"), ("catalog", "export"), ("usage",),
        ("reconcile",), ("settings",), ("doctor",), ("secrets", "rotate"), ("secrets", "make"), ("migrate",),
        ("move",), ("simulate",), ("upstreams",), ("upstream", "show"), ("upstream", "test"), ("upstream", "drain"),
        ("upstream", "disable"), ("upstream", "enable"), ("upstream", "reset"), ("route", "explain"),
    ],
)  # fmt: skip
def test_help_has_an_example(call: Call, command: tuple[str, ...]) -> None:
    shown = call(*command, "--help")
    assert shown.code == 0
    assert f"Example: penstock {' '.join(command)}" in shown.out


def test_the_program_itself(call: Call, data: Path) -> None:
    assert call("--version").out == f"{__version__}\n"
    assert "catalog" in call("--help").out
    as_module = subprocess.run(
        [sys.executable, "-m", "penstock", "user", "create", EMAIL, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert as_module.stdout.count("\n") == 1
    closed = subprocess.run(
        f"{sys.executable} -m penstock user list | true",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in closed.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "penstock", "usage"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2


@pytest.mark.parametrize(("given", "frozen"), [("", True), ('["--version"]', False)])
def test_at_its_end_a_program_does_not_look_through_what_it_loaded(given: str, frozen: bool) -> None:
    """Whoever else calls it has a process that goes on."""
    told = "atexit.register(lambda: print(gc.get_freeze_count() > 0))"  # registered first, called last
    code = f"import atexit, gc; from penstock.cli import main; {told}; main({given})"
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{__version__}\n{frozen}\n"


def test_a_key_gets_limits_within_its_plans_and_loses_them(call: Call, ann: dict[str, Any]) -> None:
    made = call("key", "create", EMAIL, "--name=ci", "--daily=50", "--concurrent=2", "--json")
    assert made.code == 0

    def limits() -> tuple[int | None, int | None]:
        keys = {key["name"]: key for key in call("key", "list", EMAIL, "--json").json["keys"]}
        assert keys["default"]["daily_requests"] is None
        return keys["ci"]["daily_requests"], keys["ci"]["concurrent_requests"]

    assert limits() == (50, 2)
    assert "as the plan" in call("key", "list", EMAIL).out
    assert call("key", "limit", EMAIL, "--name=ci", "--daily=7", "--json").json["daily_requests"] == 7
    assert limits() == (7, 2)
    told = call("key", "limit", EMAIL, "--name=ci", "--daily=0", "--concurrent=1").out
    assert told == "The key 'ci': as the plan a day, 1 at once.\n"
    assert limits() == (None, 1)
    for wrong in ("--daily=50001", "--daily=-1", "--concurrent=11"):
        refused = call("key", "limit", EMAIL, "--name=ci", wrong)
        assert refused.code != 0
        assert "as its plan has" in refused.err
    assert call("key", "limit", EMAIL, "--name=ci").code != 0
    rolled = call("key", "roll", EMAIL, "--name=ci", "--json")
    assert rolled.code == 0
    assert limits() == (None, 1)


def test_an_admin_is_told_how_to_get_a_password(call: Call) -> None:
    assert "Forgotten password" in call("user", "create", EMAIL, "--admin", "--verified").out


def test_a_backup_is_one_moments_whole_and_in_the_trail(
    call: Call, ann: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    made = call("backup", str(copies), "--json").json
    assert made["copy"] == str(copies / "penstock.db")
    assert stat.S_IMODE((copies / "penstock.db").stat().st_mode) == 0o600
    assert [path.name for path in copies.iterdir()] == ["penstock.db"]
    users = call("user", "list", "--json").out
    call("user", "create", "--email", "later@example.com")
    assert "Copied to" in call("backup", str(copies)).out, "it takes the older one's place"
    assert call("backup", "--made", "--json").json["copy"] is None
    found = call("audit", "list", "--json").json["entries"]
    assert [it["action"] for it in found][:2] == ["backup_made", "backup_made"]
    (copies / "secrets.json").write_bytes((data / "secrets.json").read_bytes())
    (copies / "secrets.json").chmod(0o600)
    assert call("user", "list", "--json", "--data", str(copies)).out != users
    for wrong in ((), (str(copies), "--made"), (str(data),), (str(data / "penstock.db" / "x"),)):
        assert call("backup", *wrong).code == 1, wrong
    assert sorted(path.name for path in copies.iterdir() if path.name.endswith(".part")) == []
