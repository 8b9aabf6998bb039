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


def test_the_secrets_of_buckets_and_collectors_are_read_from_stdin(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://otlp.example.com/v1/traces"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"Authorization=Basic {SECRET}\n"))
    made = call("export", "add", "spans", "--kind", "otlp", "--url", url, "--json")
    assert (made.code, made.json["secret"]) == (0, ""), made.err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SECRET}\n"))
    lake = (
        "--kind",
        "s3",
        "--url",
        "https://s3.example.com/b",
        "--region",
        "r",
        "--key-id",
        "K",
        "--shape",
        "focus",
    )
    assert call("export", "add", "lake", *lake).code == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SECRET}\n"))
    refused = call("export", "add", "others", "--kind", "otlp", "--url", url)
    assert refused.code == 1
    assert SECRET not in refused.err
    listed = call("export", "list")
    found = {
        it["name"]: (it["host"], it["shape"]) for it in call("export", "list", "--json").json["destinations"]
    }
    assert found == {"spans": ("otlp.example.com", "receipts"), "lake": ("s3.example.com", "focus")}
    assert SECRET not in listed.out


def test_what_is_sent_of_the_past_is_told_and_can_be_stopped(call: Call) -> None:
    assert call("export", "add", "lake", "--kind", "file").code == 0
    assert call("export", "backfills").out.count("\n") == 1
    span = ("--from", "2020-01-01", "--until", "2020-02-01T12:00:00Z")
    made = call("export", "backfill", "lake", *span)
    assert "2020-01-01 00:00 to 2020-02-01 12:00" in made.out
    (found,) = call("export", "backfills", "--json").json["backfills"]
    assert (found["delivered"], found["done_at"]) == (0, None)
    assert "on its way" in call("export", "backfills").out
    assert call("export", "backfill", "lake", *span).code == 1
    assert call("export", "stop-backfill", "lake", "--json").json["stopped"] is True
    assert "stopped" in call("export", "backfills").out
    assert call("export", "stop-backfill", "lake").code == 1
    assert call("export", "backfill", "none", *span).code == 1
    assert call("export", "remove", "lake", "--json").json["name"] == "lake"
