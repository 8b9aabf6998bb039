"""Commands of the staff: the set-up link, roles, the trail; and what other commands leave in it."""

import sqlite3
from pathlib import Path

from penstock.domain.staff.setup_link import LIFETIME_MS
from tests.commands.conftest import Call

EMAIL = "--email=ann@example.com"


def test_the_link_is_made_while_there_is_no_owner(call: Call, data: Path) -> None:
    made = call("setup-link", "--json")
    assert made.json["url"].startswith("http://127.0.0.1:8484/setup#")
    token = made.json["url"].partition("#")[2]
    assert token not in call("audit", "list").out
    assert token.encode() not in (data / "penstock.db").read_bytes()
    assert "Whoever opens it first owns" in call("setup-link").out
    assert LIFETIME_MS == 30 * 60_000
    assert call("user", "create", EMAIL, "--admin").code == 0
    refused = call("setup-link")
    assert refused.code == 1
    assert "has an owner already" in refused.err


def test_the_first_admin_owns_and_the_next_do_not(call: Call) -> None:
    call("user", "create", EMAIL, "--admin")
    call("user", "create", "--email=bob@example.com", "--admin")
    staff = call("staff", "list", "--json").json["staff"]
    assert [(it["email"], it["role"]) for it in staff] == [
        ("ann@example.com", "owner"), ("bob@example.com", "admin"),
    ]  # fmt: skip
    assert "ann@example.com" in call("staff", "list").out


def test_case_4_the_last_owner_stays_whatever_command_is_called(call: Call) -> None:
    call("user", "create", EMAIL, "--admin")
    for command in (
        ("staff", "remove", EMAIL),
        ("staff", "set", EMAIL, "--role=viewer"),
        ("user", "set", EMAIL, "--disabled"),
        ("user", "set", EMAIL, "--no-admin"),
    ):
        refused = call(*command)
        assert refused.code == 1, command
        assert "is the last owner" in refused.err, command
    call("user", "create", "--email=bob@example.com")
    assert call("staff", "set", "--email=bob@example.com", "--role=owner").out == "bob@example.com: owner.\n"
    assert call("staff", "remove", EMAIL).out == "ann@example.com: not of the staff.\n"
    assert "is the last owner" in call("staff", "remove", "--email=bob@example.com").err


def test_a_role_that_is_none_is_refused(call: Call) -> None:
    call("user", "create", EMAIL)
    assert (
        "there are owner, admin, support, billing, viewer" in call("staff", "set", EMAIL, "--role=boss").err
    )
    assert call("staff", "group", "helpdesk").code == 1
    assert call("staff", "group", "helpdesk", "--role=support").code == 0
    assert "helpdesk" in call("staff", "list").out
    assert call("staff", "group", "helpdesk", "--remove").code == 0
    assert call("staff", "list", "--json").json["groups"] == {}


def test_commands_that_write_are_in_the_trail_and_it_verifies(call: Call, data: Path, tmp_path: Path) -> None:
    call("user", "create", EMAIL)
    call("user", "set", EMAIL, "--plan=pro")
    call("key", "create", EMAIL, "--name=laptop")
    call("key", "revoke", EMAIL, "--name=laptop")
    file = tmp_path / "more.toml"
    file.write_text('[[plan]]\nid = "team"\ndaily_requests = 9\nconcurrent_requests = 2\nmodels = []\n')
    call("catalog", "apply", str(file))
    call("secrets", "rotate")
    found = call("audit", "list", "--json").json["entries"]
    assert [it["action"] for it in reversed(found)] == [
        "user_made", "user_changed", "key_made", "key_revoked", "catalog_changed", "secrets_rotated",
    ]  # fmt: skip
    assert {it["actor_kind"] for it in found} == {"cli"}
    whole = call("audit", "verify", "--json")
    assert (whole.code, whole.json["broken"], whole.json["entries"]) == (0, None, 6)
    anchor = f"--anchor={whole.json['last']}:{whole.json['head']}"
    assert call("audit", "verify", anchor).code == 0
    assert call("audit", "verify", "--anchor=x").code == 1
    assert len(call("audit", "export").out.splitlines()) == 6
    with sqlite3.connect(data / "penstock.db") as conn:
        conn.execute("UPDATE trail SET actor_name = 'nobody' WHERE seq = 2")
    conn.close()
    broken = call("audit", "verify")
    assert (broken.code, broken.out) == (1, "broken at entry 2: a name or an address was changed\n")


def test_notices_are_told_by_commands_as_on_the_pages(call: Call) -> None:
    opened = call("notice", "open", "Slow answers", "--text=We look into it.", "--json").json
    assert (opened["state"], len(opened["words"])) == ("investigating", 1)
    done = call("notice", "update", opened["id"], "--state=resolved", "--text=Over.")
    assert done.out == f"{opened['id']}: Slow answers, resolved.\n"
    assert call("notice", "update", opened["id"], "--state=odd", "--text=x").code == 1
    banner = call("notice", "announce", "New models", "--days=2", "--json").json
    assert banner["id"] in call("notice", "list").out
    assert call("notice", "withdraw", banner["id"]).code == 0
    listed = call("notice", "list", "--json").json
    assert (len(listed["incidents"]), listed["announcements"]) == (1, [])
    assert "incident_opened" in call("audit", "list").out
