"""The whole service below a path of its host, behind a proxy that takes the path off and behind one that does not."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from starlette.routing import Mount, Route

from penstock.settings import SettingsError, load
from penstock.settings.load import OWN_PATHS
from tests.service.conversations import body_of
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel

BASE = "/gate/penstock"
PUBLIC = f"https://llm.example.com:8443{BASE}"
ANN = "ann@example.com"
LINK = re.compile(r'\s(?:href|src|action|data-poll)="(/[^"#]*)')


@pytest.fixture
async def below(tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path, public_url=f"{PUBLIC}/") as hotel:
        yield hotel


class TakingOff(httpx2.AsyncHTTPTransport):
    """A proxy that takes the path off; the browser before it knows nothing of that."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raw = request.url.raw_path.decode()
        assert raw.startswith(BASE)
        request.url = request.url.copy_with(raw_path=raw.removeprefix(BASE).encode() or b"/")
        return await super().handle_async_request(request)


def browser(hotel: Hotel, *, takes_off: bool) -> Reader:
    """Somebody who finds the service below its path."""
    reader = hotel.reader()
    transport = TakingOff(trust_env=False) if takes_off else httpx2.AsyncHTTPTransport(trust_env=False)
    reader.http = httpx2.AsyncClient(
        base_url=f"{hotel.origin}{BASE}", transport=transport, follow_redirects=False, timeout=120
    )
    return reader


@pytest.mark.parametrize("takes_off", [False, True], ids=["kept", "taken off"])
async def test_every_link_of_a_page_is_below_and_leads_somewhere(below: Hotel, takes_off: bool) -> None:
    reader = browser(below, takes_off=takes_off)
    assert (await reader.post("/signup", email=ANN, password=PASSWORD)).headers[
        "location"
    ] == f"{BASE}/verify"
    await below.posted()
    verified = await reader.post("/verify", code=below.mailbox.code(ANN))
    assert verified.headers["location"] == f"{BASE}/welcome", verified.text
    assert f"path={BASE}/welcome;" in verified.headers["set-cookie"].lower()
    seen: set[str] = set()
    waiting = ["/", "/dashboard"]
    while waiting and len(seen) < 60:
        path = waiting.pop()
        answer = await reader.get(path)
        if answer.status_code in {302, 303}:
            assert answer.headers["location"].startswith(f"{BASE}/"), path
            continue
        assert answer.status_code == 200, (path, answer.status_code)
        if "text/html" not in answer.headers["content-type"]:
            continue
        for link in LINK.findall(answer.text):
            assert link.startswith(f"{BASE}/"), (path, link)
            inside = link.removeprefix(BASE).replace("&amp;", "&")
            if inside not in seen and "/show" not in inside and "action" not in inside:
                seen.add(inside)
                gone = inside.startswith(("/sign", "/keys/", "/settings/", "/requests/", "/slots/", "/plan/"))
                if not gone and inside not in _FORMS:
                    waiting.append(inside)
        assert f'data-base="{BASE}"' in answer.text
    assert len(seen) > 25


_FORMS = frozenset(
    ("/verify", "/verify/again", "/welcome/done", "/plan", "/dashboard/key", "/playground/key")
)


@pytest.mark.parametrize("before", [BASE, ""], ids=["kept", "taken off"])
async def test_forms_redirects_and_cookies_stay_below(below: Hotel, before: str) -> None:
    reader = below.reader("203.0.113.9")
    secure = {"x-forwarded-proto": "https"}
    page = await reader.get(f"{before}/signup", headers=secure)
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Secure-penstock=")
    assert f"; Path={BASE}; " in cookie
    token = re.search(r'name="form_token" value="(\w+)"', page.text)
    assert token is not None
    answer = await reader.http.post(
        f"{before}/signup",
        data={"form_token": token[1], "email": ANN, "password": PASSWORD},
        headers={
            **secure,
            "cookie": cookie.partition(";")[0],
            "host": "penstock",
            "origin": "https://llm.example.com:8443",
        },
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/verify"), answer.text
    away = await below.reader().get(f"{before}/dashboard?x=1")
    assert away.headers["location"] == f"{BASE}/signin?next=/dashboard%3Fx%3D1"
    slash = await below.reader().get(f"{before}/pricing/")
    assert slash.headers["location"] == f"{BASE}/pricing"


@pytest.mark.parametrize("before", [BASE, ""], ids=["kept", "taken off"])
async def test_the_api_and_what_machines_read(below: Hotel, before: str) -> None:
    user = await below.house.user()
    for prefix in ("/v1", "/api/v1", "/api/v1/v1"):
        body = body_of("chat", "chat-plain")
        answer = await below.house.http("POST", f"{before}{prefix}/chat/completions", user.key, body=body)
        assert answer.status == 200, answer.body
    refused = await below.house.http("GET", f"{before}/v1/models")
    assert refused.headers["link"] == f'<{BASE}/docs/authentication>; rel="help"'
    reader = below.reader()
    contract = (await reader.get(f"{before}/openapi.json")).json()
    assert contract["servers"] == [{"url": f"{PUBLIC}/api/v1"}]
    assert f"{PUBLIC}/docs/" in (await reader.get(f"{before}/llms.txt")).text
    assert f"Disallow: {BASE}/dashboard" in (await reader.get(f"{before}/robots.txt")).text
    assert f"{PUBLIC}/api/v1" in (await reader.get(f"{before}/docs/curl")).text
    assert (await reader.get(f"{before}/healthz")).text == "ok\n"


@pytest.mark.parametrize("path", [f"{BASE}x/models", f"{BASE}.html", "/gate", f"{BASE}{BASE}/models"])
async def test_what_only_begins_alike_is_not_below(below: Hotel, path: str) -> None:
    assert (await below.reader().get(path)).status_code == 404


async def test_without_one_nothing_changes(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, public_url="https://llm.example.com") as hotel:
        page = await hotel.reader().get("/")
        assert "data-base" not in page.text
        assert (await hotel.reader().get(f"{BASE}/")).status_code == 404


async def test_no_path_of_ours_can_be_the_base(below: Hotel, monkeypatch: pytest.MonkeyPatch) -> None:
    process = below.house.service and below.house.service.site_process
    assert process is not None
    ours = {
        route.path.split("/")[1]
        for route in process.site.routes
        if isinstance(route, Route | Mount) and not route.path.startswith("/{")
    }
    assert ours - {""} <= OWN_PATHS
    for name in ("docs", "api", "v1"):
        for url in (f"https://h/{name}", f"https://h/{name}/more"):
            with pytest.raises(SettingsError, match="cannot be what all"):
                load({"PENSTOCK_PUBLIC_URL": url})
    for url in ("https://h/a?b", "https://h/a#b", "https://h//", "https://h/a b", "https://h/%2f"):
        with pytest.raises(SettingsError, match="is not a URL"):
            load({"PENSTOCK_PUBLIC_URL": url})
    monkeypatch.chdir("/")
    assert load({"PENSTOCK_PUBLIC_URL": "https://h/a/b/"}).settings.base_path == "/a/b"
