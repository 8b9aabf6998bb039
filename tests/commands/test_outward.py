"""Where something is sent: an address that is a secret is read from stdin, where nobody sees it."""

import io
import sys

import pytest

from tests.commands.conftest import Call

SECRET = "T000/B000/secret-path"
ADDRESS = f"https://hooks.example.com/{SECRET}"


@pytest.mark.parametrize(
    ("command", "more", "listed"),
    [("webhook", ("-",), "webhooks"), ("export", ("--kind", "webhook", "--url", "-"), "destinations")],
)
def test_an_address_is_read_from_stdin_and_only_its_host_is_shown(
    call: Call, monkeypatch: pytest.MonkeyPatch, command: str, more: tuple[str, ...], listed: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{ADDRESS}\n"))
    made = call(command, "add", "pager", *more)
    assert made.code == 0, made.err
    (found,) = call(command, "list", "--json").json[listed]
    assert (found["name"], found["host"]) == ("pager", "hooks.example.com")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"http://{SECRET}\n"))
    refused = call(command, "add", "other", *more)
    assert refused.code == 1
    assert "https" in refused.err
    assert SECRET not in made.out + refused.out + refused.err + call(command, "list").out
