"""nginx and Caddy with the files of ``deploy/`` in front of a gateway: what goes through, and that nothing is held back."""

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest
import trustme

from tests.deploy.conftest import DEPLOY, MODEL, Gateway

pytestmark = pytest.mark.xdist_group("fronts")

NAME = "llm.example.com"
ASK = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}


class Front(msgspec.Struct, frozen=True):
    """Where the front is reached, and the file of the authority that vouches for it; None where it has no TLS."""

    url: str
    authority: Path | None


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return plug.getsockname()[1]


def given(text: str, **changes: str) -> str:
    """``text`` with each of the changes made; every one must be there to make."""
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextmanager
def running(command: list[str], port: int, environ: dict[str, str] | None = None) -> Generator[None]:
    """A server, from when it takes connections on ``port``."""
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        while True:
            assert process.poll() is None, process.communicate()[0]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def nginx(gateway: Gateway, folder: Path) -> Generator[Front]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate = authority.issue_cert("127.0.0.1", NAME)
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(folder / "cert.pem"), append=True)
    port, plain = free_port(), free_port()
    site = given(
        (DEPLOY / "nginx.conf").read_text("utf-8"),
        **{
            "server 127.0.0.1:8484": f"server 127.0.0.1:{gateway.port}",
            "listen 443": f"listen 127.0.0.1:{port}",
            "listen 80": f"listen 127.0.0.1:{plain}",
            "/etc/ssl/penstock.pem": str(folder / "cert.pem"),
            "/etc/ssl/penstock.key": str(folder / "key.pem"),
        },
    )
    paths = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 64; }}\nhttp {{ access_log off; {paths}\n{site}\n}}\n"
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with running([program, "-c", str(folder / "nginx.conf")], port):
        yield Front(f"https://127.0.0.1:{port}", folder / "authority.pem")


@contextmanager
def caddy(gateway: Gateway, folder: Path) -> Generator[Front]:
    port = free_port()
    environ = {
        "PENSTOCK_DOMAIN": f"http://127.0.0.1:{port}",
        "PENSTOCK_UPSTREAM": f"127.0.0.1:{gateway.port}",
        "CADDY_ADMIN": f"127.0.0.1:{free_port()}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")]
    with running([shutil.which(command[0]) or "/usr/bin/caddy", *command[1:]], port, environ):
        yield Front(f"http://127.0.0.1:{port}", None)


FRONTS = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(params=FRONTS, scope="module")
def front(
    request: pytest.FixtureRequest, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Front]:
    folder = tmp_path_factory.mktemp("front")
    with FRONTS[request.param](gateway, folder) as made:
        yield made


def client(front: Front, gateway: Gateway) -> httpx2.Client:
    return httpx2.Client(
        base_url=f"{front.url}/api/v1",
        headers={"x-api-key": gateway.key},
        verify=ssl.create_default_context(cafile=front.authority),
        timeout=120,
        trust_env=False,
    )


def test_a_stream_arrives_as_it_is_made(front: Front, gateway: Gateway) -> None:
    # The provider falls silent after a few events: a front that holds anything back would never show them.
    with client(front, gateway) as caller, caller.stream("POST", "/chat/completions", json=ASK) as response:
        assert response.status_code == 200
        assert "x-ratelimit-remaining" in response.headers
        lines = response.iter_lines()
        events = [line for line in (next(lines) for _ in range(8)) if line.startswith("data: ")]
        assert len(events) >= 3


def test_a_caller_that_leaves_gives_its_slot_back(front: Front, gateway: Gateway) -> None:
    # The plan has one slot, and the stream would hold it for ever; the second caller waits for it.
    for _ in range(2):
        with (
            client(front, gateway) as caller,
            caller.stream("POST", "/chat/completions", json=ASK) as response,
        ):
            assert response.status_code == 200, response.read()


def test_browsers_are_told_once_to_keep_to_https(front: Front, gateway: Gateway) -> None:
    with client(front, gateway) as caller:
        for path in ("/models", "/no-such-route", "../../", "../../metrics"):
            answer = caller.get(path)
            assert answer.headers.get_list("strict-transport-security") == ["max-age=31536000"], path


def test_the_callers_address_and_errors_come_through(front: Front, gateway: Gateway) -> None:
    with client(front, gateway) as caller:
        unknown = caller.post("/messages", json={"model": "no-such-model", "max_tokens": 1, "messages": []})
        assert unknown.status_code in {400, 404}
        assert unknown.json()["request_id"] == unknown.headers["x-request-id"]
        assert caller.get("/models").status_code == 200
        big = caller.post(
            "/chat/completions", content=b" " * (33 * 2**20), headers={"content-type": "application/json"}
        )
        assert big.status_code == 413


def test_a_form_is_taken_from_behind_any_port(front: Front, gateway: Gateway) -> None:
    with client(front, gateway) as browser:
        page = browser.get(f"{front.url}/signup").text
        found = re.search(r'name="form_token" value="(\w+)"', page)
        assert found is not None
        answer = browser.post(
            f"{front.url}/signup",
            data={
                "form_token": found[1],
                "email": f"{front.url[-5:]}@example.com",
                "password": "a password of ours",
            },
            headers={"origin": front.url, "sec-fetch-site": "same-origin"},
        )
        assert answer.status_code == 303, answer.text
