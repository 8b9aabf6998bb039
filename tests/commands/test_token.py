"""Tokens of the admin API from the command line, and what staff do to accounts and changes there."""

from tests.commands.conftest import Call

EMAIL = "--email=ann@example.com"


def test_a_token_is_made_for_somebody_of_the_staff_shown_once_and_ended(call: Call) -> None:
    call("user", "create", EMAIL, "--admin", "--verified")
    made = call(
        "token", "make", "ci", EMAIL, "--role=admin", "--scope=catalog:write", "--days=7", "--json"
    ).json
    assert made["token"].startswith("pa-ps-")
    assert "named 'ci' already" in call("token", "make", "ci", EMAIL).err
    (shown,) = call("token", "list", "--json").json["tokens"]
    assert (shown["role"], shown["scopes"], shown["maker"]) == ("admin", ["catalog:write"], "ann@example.com")
    assert made["token"] not in call("token", "list", "--json").out
    assert "works until" in call("token", "list").out
    for wrong in (("--days=9999",), ("--role=boss",), ("--scope=everything",), ("--address=nowhere",)):
        assert call("token", "make", "other", EMAIL, *wrong).code == 1, wrong
    assert call("token", "revoke", "ci", "--json").json["revoked_at"] is not None
    assert "no such token" in call("token", "revoke", "ci").err
    assert "revoked" in call("token", "list").out
    assert "Token: pa-ps-" in call("token", "make", "ci", EMAIL).out


def test_an_account_is_deleted_kept_and_signed_out_and_changes_are_undone(call: Call) -> None:
    call("user", "create", EMAIL, "--verified")
    assert call("user", "delete", EMAIL).code == 1
    assert call("user", "delete", EMAIL, "--yes").out == "ann@example.com is deleted in seven days.\n"
    assert call("user", "keep", EMAIL).out == "ann@example.com is kept.\n"
    assert call("user", "sign-out", EMAIL, "--json").json["email"] == "ann@example.com"
    call("user", "set", EMAIL, "--plan=pro")
    (change,) = call("audit", "changes", "--json").json["changes"]
    assert "can be undone" in call("audit", "changes").out
    assert call("audit", "undo", change["operation"]).code == 0
    assert call("audit", "undo", change["operation"]).code == 1
    assert call("user", "list", "--json").json["users"][0]["plan"] == "free"
