"""nginx and Caddy with the lines of the documentation, below a path that they leave or take off."""

import os
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.test_fronts import free_port, running
from tests.site.page_reader import PASSWORD, Hotel, open_hotel

pytestmark = pytest.mark.xdist_group("fronts")

PAGE = (ROOT / "docs" / "operations" / "deployment.md").read_text("utf-8")
EXAMPLES = re.findall(r"```(nginx|caddy)\n# (the path (?:stays|is taken off))\n(.*?)```", PAGE, re.DOTALL)
WEB_SOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "x",
    "sec-websocket-version": "13",
}


def command(kind: str, lines: str, port: int, behind: int, folder: Path) -> list[str]:
    """What runs the front with these lines."""
    if kind == "caddy":
        text = lines.replace("host.example.com", f"http://127.0.0.1:{port}").replace(":8484", f":{behind}")
        (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + text)
        program = shutil.which("caddy") or "/usr/bin/caddy"
        return [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    paths = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 64; }}\nhttp {{ access_log off; {paths}\n"
        f"upstream penstock {{ server 127.0.0.1:{behind}; }}\n"
        f"server {{ listen 127.0.0.1:{port}; {lines} }} }}\n"
    )
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(folder / "nginx.conf")]


@asynccontextmanager
async def front(kind: str, lines: str, folder: Path) -> AsyncGenerator[tuple[Hotel, httpx2.AsyncClient]]:
    port = free_port()
    public = f"http://127.0.0.1:{port}/penstock"
    environ = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    async with open_hotel(folder / "hotel", public_url=public) as hotel:
        behind = int(hotel.origin.rpartition(":")[2])
        with running(command(kind, lines, port, behind, folder), port, environ):
            async with httpx2.AsyncClient(trust_env=False, timeout=120) as browser:
                yield hotel, browser


def test_there_is_an_example_of_each() -> None:
    assert len({(kind, what) for kind, what, _ in EXAMPLES}) == 4


@pytest.mark.parametrize(
    ("kind", "what", "lines"), EXAMPLES, ids=[f"{kind}, {what}" for kind, what, _ in EXAMPLES]
)
async def test_the_service_works_below_a_path(tmp_path: Path, kind: str, what: str, lines: str) -> None:
    del what
    async with front(kind, lines, tmp_path) as (hotel, browser):
        public = hotel.house.settings.public_url
        bare = await browser.get(public)
        assert (bare.status_code, bare.headers["location"].removeprefix(public[: -len("/penstock")])) == (
            308,
            "/penstock/",
        )
        page = await browser.get(f"{public}/signup")
        assert page.status_code == 200
        for link in re.findall(r'<(?:link|script)[^>]*(?:href|src)="([^"]+)"', page.text):
            assert (await browser.get(httpx2.URL(public).join(link))).status_code == 200, link
        token = re.search(r'name="form_token" value="(\w+)"', page.text)
        assert token is not None
        sent = await browser.post(
            f"{public}/signup",
            data={"form_token": token[1], "email": "ann@example.com", "password": PASSWORD},
            headers={"origin": public.removesuffix("/penstock"), "sec-fetch-site": "same-origin"},
        )
        assert (sent.status_code, sent.headers["location"]) == (303, "/penstock/verify"), sent.text
        user = await hotel.house.user()
        models = await browser.get(f"{public}/api/v1/models", headers={"x-api-key": user.key})
        assert models.status_code == 200
        socket = await browser.get(f"{public}/v1/responses", headers={**WEB_SOCKET, "x-api-key": user.key})
        assert socket.status_code == 426
