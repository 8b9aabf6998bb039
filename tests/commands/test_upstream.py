"""``penstock upstreams``, ``upstream`` and ``route explain`` on an installation without a server, and on one with one."""

import asyncio
import io
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.core.catalog import Credential, Upstream
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.profile import DEFAULT_PROFILE
from penstock.core.routing.candidates import Attempt
from penstock.core.routing.circuit_breaker import Hint
from penstock.core.routing.health import Failure, Health
from penstock.core.routing.snapshot import taken
from penstock.operations import upstreams as watching
from penstock.operations.upstreams import FailureSeen, FailuresOfLeg, WorkerView
from tests.commands.conftest import Call, Outcome
from tests.service.scripted import Asked, scripted

CATALOGUE = """
[[provider]]
id = "mill"
kind = "custom"
speaks = {{ chat = "http://127.0.0.1:{port}/v1" }}
credentials = [
    {{ id = "a", secret = "env:MILL_A", weight = 3 }},
    {{ id = "b", secret = "env:MILL_B", group = "org2" }},
]

[[provider]]
id = "spare"
kind = "custom"
speaks = {{ chat = "http://127.0.0.1:{port}/v1" }}

[[model]]
id = "flour"
targets = [{{ provider = "mill", model = "rye" }}, {{ provider = "spare", model = "rye", priority = 1 }}]
context_tokens = 8000

[[plan]]
id = "lab"
daily_requests = 10
concurrent_requests = 1
models = ["flour"]
"""


@pytest.fixture
def mill(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A catalogue with a pool of two credentials and a spare."""
    monkeypatch.setenv("MILL_A", "key-a")
    monkeypatch.setenv("MILL_B", "key-b")
    apply(call, tmp_path, 9)
    return call


def apply(call: Call, folder: Path, port: int) -> None:
    file = folder / "catalogue.toml"
    file.write_text(CATALOGUE.format(port=port))
    assert call("catalog", "apply", str(file), "--prune").code == 0


def legs(call: Call, *arguments: str) -> dict[str, dict[str, Any]]:
    told = call(*(arguments or ("upstreams",)), "--json").json["upstreams"]
    return {f"{leg['provider']}/{leg['credential']}:{leg['model']}": leg for leg in told}


def know(
    folder: Path,
    *failed: tuple[str, str, FailureClass],
    told: tuple[str, str, FailureClass] | None = None,
    worker: int = 1,
) -> None:
    """A worker tells what it knows, after these failures of a provider's credential, and what it was ``told`` of one."""
    health = Health()
    rows = {
        "mill": Upstream("mill", "custom", (), credentials=(Credential("a", ""), Credential("b", ""))),
        "spare": Upstream("spare", "custom", ()),
    }
    for provider, credential, found in failed:
        pooled = next((each for each in rows[provider].credentials if each.id == credential), None)
        known = health.of(Attempt(rows[provider], "rye", "chat", "http://x/v1", DEFAULT_PROFILE, pooled))
        health.sent(known, 100.0)
        health.failed(Failure(known, found, 100.0, 100.0, retry_after=40.0))
        health.left(known, 100.0, probe=False)
    if told is not None:
        provider, _, found = told
        known = health.of(Attempt(rows[provider], "rye", "chat", "http://x/v1", DEFAULT_PROFILE))
        health.hear(known.allowance, Hint(opened=False, until=140.0, cause=found), 100.0)
    seen = FailureSeen(1_700_000_000_000, "quota", 402, "pay first", "up-7")
    failures = (FailuresOfLeg("mill", "rye", "a", {"quota": 3}, (seen,)),)
    view = WorkerView(worker, 1_700_000_000_000, taken(health, 100.0), failures)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{worker}.json").write_bytes(msgspec.json.encode(view))


def test_upstreams_without_a_server_says_so(mill: Call) -> None:
    found = legs(mill)
    assert list(found) == ["mill/a:rye", "mill/b:rye", "spare/:rye"]
    assert {leg["state"] for leg in found.values()} == {"unused"}
    assert found["mill/a:rye"]["models"] == ["flour"]
    assert "No server runs on this machine" in mill("upstreams").out
    assert mill("upstreams", "--model", "bran").code == 1


def test_upstreams_tell_what_the_workers_know(mill: Call, data: Path) -> None:
    know(data / watching.VIEWS, ("mill", "a", FailureClass.QUOTA), ("spare", "", FailureClass.RATE))
    found = legs(mill)
    assert {name: leg["state"] for name, leg in found.items()} == {
        "mill/a:rye": "off",
        "mill/b:rye": "unused",
        "spare/:rye": "cooled",
    }
    assert (found["mill/a:rye"]["why"], found["mill/a:rye"]["failures"]) == ("quota", {"quota": 3})
    assert found["spare/:rye"]["until"] == 1_700_000_040_000
    shown = mill("upstream", "show", "mill/a").out
    assert "quota: 402 pay first up-7" in shown
    assert "spare" not in shown


def test_upstreams_tell_what_was_met_elsewhere_and_what_was_met_here_before_that(
    mill: Call, data: Path
) -> None:
    folder = data / watching.VIEWS
    know(folder, told=("spare", "", FailureClass.RATE))
    assert legs(mill)["spare/:rye"]["hinted"]
    assert mill("upstreams").out.count("rate, as another process says") == 1
    for met, other in ((1, 2), (2, 1)):
        know(folder, ("spare", "", FailureClass.RATE), worker=met)
        know(folder, told=("spare", "", FailureClass.RATE), worker=other)
        assert not legs(mill)["spare/:rye"]["hinted"]
        assert "another process" not in mill("upstreams").out
    assert mill("upstream", "disable", "spare:rye").code == 0
    know(folder, told=("spare", "", FailureClass.RATE), worker=1)
    know(folder, told=("spare", "", FailureClass.RATE), worker=2)
    assert not legs(mill)["spare/:rye"]["hinted"], "it is the operator's word"


def test_drain_disable_enable_and_reset(mill: Call) -> None:
    said = mill("upstream", "drain", "mill/a", "--for", "2h", "--why", "key is rotated", "--json").json
    assert (said["upstream"], said["state"], said["why"], said["reset"]) == (
        "mill/a",
        "drain",
        "key is rotated",
        False,
    )
    assert mill("upstream", "disable", "spare:rye").out == "spare:rye is disabled.\n"
    found = legs(mill)
    assert (found["mill/a:rye"]["state"], found["mill/a:rye"]["why"]) == ("drained", "key is rotated")
    assert found["mill/a:rye"]["until"] == said["until"]
    assert (found["mill/b:rye"]["state"], found["spare/:rye"]["state"]) == ("unused", "disabled")
    assert mill("upstream", "reset", "mill/a").out.startswith("mill/a is drained until ")
    assert mill("upstream", "enable", "mill/a").out.startswith("mill/a is in use")
    assert mill("upstream", "enable", "spare:rye").code == 0
    assert {leg["state"] for leg in legs(mill).values()} == {"unused"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("drain", "nobody"), "no model of the catalogue is served by nobody"),
        (("drain", "mill/c"), "served by mill/c"),
        (("drain", "mill:oats"), "served by mill:oats"),
        (("drain", ":rye"), "names no provider"),
        (("drain", "mill", "--for", "soon"), "'soon' is not a time"),
        (("drain", "mill", "--for", "0s"), "'0s' is not a time"),
        (("show", "mill/c"), "served by mill/c"),
        (("test", "nobody"), "served by nobody"),
    ],
)
def test_what_is_not_there_cannot_be_steered(mill: Call, arguments: tuple[str, ...], said: str) -> None:
    failed = mill("upstream", *arguments)
    assert failed.code == 1
    assert said in failed.err


def test_route_explain_by_what_the_workers_know_and_the_operator_has_said(mill: Call, data: Path) -> None:
    healthy = mill("route", "explain", "--model", "flour", "--json").json
    assert {leg["credential"] or leg["provider"]: leg["odds"] for leg in healthy["legs"]} == {
        "a": 0.75,
        "b": 0.25,
        "spare": 0.0,
    }
    assert (healthy["first"], healthy["after"]["quota"]) == ("mill/a:rye", "mill/b:rye")
    assert healthy["after"]["overload"] == "spare:rye"
    know(data / watching.VIEWS, ("mill", "a", FailureClass.QUOTA))
    told = mill("route", "explain", "--model", "flour", "--json").json
    assert {leg["kept_out"] for leg in told["legs"] if leg["credential"] == "a"} == {"off (quota)"}
    assert told["first"] == "mill/b:rye"
    mill("upstream", "drain", "mill/b")
    told = mill("route", "explain", "--model", "flour", "--json").json
    assert (told["first"], told["switched"]) == ("spare:rye", ["mill/b: drain"])
    left = mill("route", "explain", "--model", "flour", "--without", "spare").out
    assert "left out, as you asked" in left
    assert "The operator has said: mill/b: drain" in left


def test_route_explain_of_a_body_and_of_an_account(mill: Call, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    text = "grain " * 20_000
    body.write_bytes(msgspec.json.encode({"model": "flour", "messages": [{"role": "user", "content": text}]}))
    told = mill("route", "explain", "--model", "flour", "--body", str(body), "--json").json
    assert told["prompt"] > 8000
    assert all("no room" in leg["kept_out"] for leg in told["legs"])
    assert told["first"] == ""
    assert mill("user", "create", "--email", "ann@example.com", "--plan", "lab").code == 0
    assert mill("route", "explain", "--model", "flour", "--as", "ann@example.com").code == 0
    for wrong in (
        ("--model", "bran"),
        (),
        ("--model", "flour", "--as", "bob@example.com"),
        ("--model", "flour", "--dialect", "latin"),
        ("--model", "flour", "--body", "nowhere.json"),
        ("req_0123456789abcdef00000001",),
        ("req_0123456789abcdef00000001", "--model", "flour"),
    ):
        failed = mill("route", "explain", *wrong)
        assert (failed.code, failed.err.count("\n")) == (1, 1), wrong


def test_upstream_test_sends_a_real_request_and_puts_what_answers_back(mill: Call, tmp_path: Path) -> None:
    seen: list[str] = []

    def script(asked: Asked) -> None:
        seen.append(asked.headers.get("authorization", ""))
        if "key-a" in asked.headers.get("authorization", ""):
            asked.answer(b'{"error": {"message": "You exceeded your current quota."}}', 429)
        else:
            asked.answer(b'{"choices": [{"message": {"role": "assistant", "content": "OK"}}]}')

    async def conversation() -> Outcome:
        async with scripted() as wire:
            wire.script = script
            await asyncio.to_thread(apply, mill, tmp_path, wire.port)
            return await asyncio.to_thread(mill, "upstream", "test", "mill", "--json")

    done = asyncio.run(conversation())
    told = {test["upstream"]: test for test in done.json["tests"]}
    assert (told["mill/a:rye"]["answers"], told["mill/a:rye"]["failure"]) == (False, "quota")
    assert "current quota" in told["mill/a:rye"]["message"]
    assert told["mill/b:rye"]["answers"]
    assert (done.code, done.err) == (1, "penstock: not all of them answer\n")
    assert seen == ["Bearer key-a", "Bearer key-b"]


def test_keys_are_added_rotated_and_removed_from_the_shell(
    mill: Call, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entered(key: str, *arguments: str) -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO(key + "\n"))
        return mill("upstream", "key", *arguments)

    first, second = "canary-shell-key-one-4f2a", "canary-shell-key-two-7b1c"
    assert entered(first, "add", "mill", "--unchecked", "--json").json == {"key": "mill/key-1"}
    assert "already" in entered(first, "add", "mill", "--unchecked").err
    assert "masked" in entered("sk-****", "add", "mill", "--unchecked").err
    assert "nothing is saved" in entered(second, "add", "mill").err, "nobody answers there"
    assert "/key-1:rye" in mill("upstreams").out
    assert entered(second, "rotate", "mill/key-1", "--unchecked", "--json").json == {"key": "mill/key-2"}
    keys = {it["id"]: it for it in mill("upstream", "key", "list", "mill", "--json").json["keys"]}
    assert list(keys) == ["a", "b", "key-2", "key-1"]
    assert (keys["a"]["secret"], keys["a"]["managed_by"]) == ("env:MILL_A", "environment")
    assert keys["key-2"]["secret"].endswith("7b1c")
    assert keys["key-1"]["retire_at"] is not None
    assert legs(mill)["mill/key-1:rye"]["state"] == "drained"
    rotated = mill("secrets", "rotate", "--json").json
    assert rotated["resealed"] == 2
    assert mill("upstream", "key", "remove", "mill/key-1", "--leaked").code == 0
    assert "comes from env:MILL_A" in mill("upstream", "key", "remove", "mill/a").err
    assert "has no key x" in mill("upstream", "key", "remove", "mill/x").err
    told = mill("catalog", "export").out
    with sqlite3.connect(data / "penstock.db") as database:
        actions = {action for (action,) in database.execute("SELECT action FROM trail")}
    database.close()
    assert {"credential_added", "credential_rotated", "credential_removed"} <= actions
    files = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    for key in (first, second):
        assert key not in told
        assert key.encode() not in files
