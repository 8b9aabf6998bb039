"""``penstock serve`` and ``penstock simulate`` as an operator starts them: separate processes, real sockets."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest

from penstock.core.api_key import is_well_formed
from penstock.operations.first_start import DEMO_EMAIL

PENSTOCK = [sys.executable, "-m", "penstock"]


class Server:
    """A running ``penstock serve``; ``greeting`` is what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.greeting = ""
        assert process.stdout is not None
        while not self.greeting.rstrip().endswith("/data"):
            line = process.stdout.readline()
            assert line, "it ended before it had started"
            self.greeting += line
        found = re.search(r"http://127\.0\.0\.1:(\d+)\n", self.greeting)
        assert found is not None
        self.port = int(found[1])

    @property
    def demo_key(self) -> str | None:
        found = re.search(r"Demo key +(sk-ps-\w+)\n", self.greeting)
        return found and found[1]

    def status(self, path: str, key: str = "") -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def chat(self, key: str) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = b'{"model": "claude-haiku-4.5", "messages": [{"role": "user", "content": "Hello"}]}'
        connection.request("POST", "/api/v1/chat/completions", body, {"x-api-key": key})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def stop(self) -> str:
        """End it as a service manager does; gives what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate()
        assert self.process.returncode == 0
        return err


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    keep = {name: text for name, text in os.environ.items() if not name.endswith("_API_KEY")}
    return {name: text for name, text in keep.items() if not name.startswith("PENSTOCK_")} | {
        "PENSTOCK_DATA": str(tmp_path / "data"),
        "PENSTOCK_PORT": "0",
        "PENSTOCK_DRAIN_DELAY": "0",
        "PENSTOCK_CACHE_SECONDS": "0",
    }


@contextmanager
def serving(environ: dict[str, str]) -> Generator[Server]:
    process = subprocess.Popen(
        [*PENSTOCK, "serve"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.communicate()


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PENSTOCK, *arguments], env=environ, capture_output=True, text=True, check=False)


def test_the_first_start_makes_a_demo_user_and_later_ones_show_its_key_again(environ: dict[str, str]) -> None:
    with serving(environ) as server:
        key = server.demo_key
        assert key is not None
        assert is_well_formed(key)
        assert "answered by the built-in simulator" in server.greeting
        assert "ANTHROPIC_API_KEY" in server.greeting
        assert server.status("/api/v1/models", key) == 200
        assert server.status("/api/v1/models") == 401
        assert key not in server.stop()
    with serving(environ) as server:
        assert server.demo_key == key
        assert server.status("/v1/models", key) == 200
        made = msgspec.json.decode(run(environ, "key", "create", f"--email={DEMO_EMAIL}", "--json").stdout)
        assert server.status("/v1/models", made["key"]) == 200, "made by another process"
        assert run(environ, "key", "revoke", f"--email={DEMO_EMAIL}", "--name=demo").returncode == 0
        assert server.status("/v1/models", key) == 401, "revoked by another process"
        assert run(environ, "user", "set", f"--email={DEMO_EMAIL}", "--disabled").returncode == 0
        assert server.status("/v1/models", made["key"]) == 403
        assert run(environ, "secrets", "rotate").returncode == 0
        assert run(environ, "user", "set", f"--email={DEMO_EMAIL}", "--enabled").returncode == 0
        newer = msgspec.json.decode(run(environ, "key", "create", f"--email={DEMO_EMAIL}", "--json").stdout)
        assert server.status("/v1/models", newer["key"]) == 200, "made with a pepper newer than the server"
        assert server.status("/v1/models", made["key"]) == 200
        server.stop()


def test_what_the_operator_vouches_for_is_said_at_the_start(environ: dict[str, str]) -> None:
    trusting = {"PENSTOCK_OIDC_CLIENT": "c", "PENSTOCK_OIDC_TRUSTS_EMAIL": "yes"}
    with serving(environ | trusting | {"PENSTOCK_OIDC_ISSUER": "http://127.0.0.1:1"}) as server:
        assert "oidc_trusts_email is on" in server.stop()
    with serving(environ) as server:
        assert "oidc_trusts_email" not in server.stop()


@pytest.mark.parametrize(
    ("command", "variable", "url", "says"),
    [
        ("serve", "DATABASE", "postgresql://u:tiger@127.0.0.1:1/p?sslmode=requires", "sslmode is one of"),
        ("migrate", "DATABASE", "postgresql://u:tiger@127.0.0.1:1/p?sslmode=requires", "sslmode is one of"),
        ("migrate", "DATABASE", "postgresql://u:tiger@127.0.0.1:1/p?channel_binding=require", "verify-full"),
        ("serve", "DATABASE", "postgresql://u:1?tiger@127.0.0.1:1/p", "%40"),
        ("serve", "REDIS", "redis://u:tiger@127.0.0.1:1?tls=yes", "not known: tls"),
        ("serve", "MAIL", "smtp://u:tiger@127.0.0.1:1?tls=yes", "not known: tls"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line_without_its_password(
    environ: dict[str, str], command: str, variable: str, url: str, says: str
) -> None:
    refused = run(environ | {f"PENSTOCK_{variable}_URL": url}, command)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert (refused.stderr.count("\n"), "tiger" in refused.stderr + refused.stdout) == (1, False)


def test_what_was_used_is_in_the_books_after_the_end(environ: dict[str, str]) -> None:
    with serving(environ) as server:
        key = server.demo_key
        assert key is not None
        assert server.chat(key) == 200
        server.stop()
    used = msgspec.json.decode(run(environ, "usage", f"--email={DEMO_EMAIL}", "--json").stdout)
    assert (used["counted"], used["refunded"], used["limit"]) == (1, 0, 50_000)
    assert [line["status"] for line in used["requests"]] == [200]
    (row,) = msgspec.json.decode(run(environ, "key", "list", f"--email={DEMO_EMAIL}", "--json").stdout)[
        "keys"
    ]
    assert row["last_used_at"] is not None


def test_where_keys_are_not_kept_the_greeting_says_how_to_get_another(environ: dict[str, str]) -> None:
    environ["PENSTOCK_KEYS_REVEAL"] = "false"
    with serving(environ) as server:
        assert server.demo_key is not None
        server.stop()
    with serving(environ) as server:
        assert server.demo_key is None
        assert (
            f"cannot be shown again; for a new one: penstock key create --email {DEMO_EMAIL}"
            in server.greeting
        )
        server.stop()


def test_one_server_for_a_data_directory(environ: dict[str, str]) -> None:
    with serving(environ) as server:
        second = run(environ, "serve")
        assert second.returncode == 1
        assert f"is already served by process {server.process.pid}" in second.stderr
        assert second.stderr.count("\n") == 1
        server.stop()


def test_case_2_an_address_that_others_can_reach_wants_an_owner_and_gets_no_demo(
    environ: dict[str, str],
) -> None:
    refused = run(environ, "serve", "--host=0.0.0.0")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr == (
        "penstock: 0.0.0.0 can be reached by others, and there is no owner yet; make the link to become one, "
        "and start within 30 minutes: penstock setup-link\n"
    )
    assert msgspec.json.decode(run(environ, "user", "list", "--json").stdout) == {"users": []}
    assert run(environ, "user", "create", "--email=root@example.com", "--admin", "--verified").returncode == 0
    environ |= {"PENSTOCK_HOST": "0.0.0.0", "PENSTOCK_PUBLIC_URL": "http://127.0.0.1:1"}
    with serving(environ) as server:
        assert server.demo_key is None
        assert DEMO_EMAIL not in server.greeting
        server.stop()


def test_a_port_in_use_is_one_line(environ: dict[str, str]) -> None:
    with serving(environ) as server:
        environ["PENSTOCK_DATA"] += "2"
        refused = run(environ, "serve", f"--port={server.port}")
        assert refused.returncode == 1
        assert "the port is in use" in refused.stderr
        assert refused.stderr.count("\n") == 1
        server.stop()


def test_the_simulator_runs_alone(environ: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*PENSTOCK, "simulate", "--port=0"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.fullmatch(
            r"Simulating a provider on http://127\.0\.0\.1:(\d+)/v1\n", process.stdout.readline()
        )
        assert found is not None
        connection = HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        connection.request(
            "POST", "/v1/chat/completions", b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}'
        )
        response = connection.getresponse()
        assert response.status == 200
        assert b"simulated" in response.read()
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()


STARTER = """
import asyncio, os
from penstock.operations.first_start import first_start, open_store
from penstock.providers.secrets import Secrets
from penstock.settings import load

async def start():
    async with open_store(load(os.environ).settings) as store:
        return (await first_start(store, Secrets({}))).demo_key

input()
print(asyncio.run(start()))
"""


def test_processes_that_start_at_once_make_one_demo_user(environ: dict[str, str]) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    outputs = [racer.communicate() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers), outputs
    (key,) = {out.strip() for out, _ in outputs}
    assert is_well_formed(key)
    (user,) = msgspec.json.decode(run(environ, "user", "list", "--json").stdout)["users"]
    assert (user["email"], user["plan"], user["verified"], user["admin"]) == (DEMO_EMAIL, "pro", True, False)
