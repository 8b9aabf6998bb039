"""Every route of the pages against everybody who may come to it: one table, made from the router, so that none is forgotten."""

from pathlib import Path
from typing import Literal

import httpx2
import pytest
from sqlalchemy import select
from starlette.routing import Mount, Route

from penstock.domain.accounts import accounts
from penstock.domain.accounts.sessions import form_token
from penstock.store.sql.schema import api_keys, users
from tests.service.running_service import User
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.staff import appoint

Kind = Literal["open", "strangers", "account", "operator"]

# Every route, and for whom it is: everybody, those who come in, who is signed in, the operator's own machine.
ROUTES: dict[str, Kind] = {
    "/": "open",
    "/pricing": "open",
    "/models": "open",
    "/models/{id:path}": "open",
    "/status": "open",
    "/status.json": "open",
    "/status.atom": "open",
    "/terms": "open",
    "/privacy": "open",
    "/changelog": "open",
    "/llms.txt": "open",
    "/openapi.json": "open",
    "/robots.txt": "open",
    "/docs": "open",
    "/docs/api": "open",
    "/docs/api/admin": "open",
    "/docs/search": "open",
    "/docs/{slug}.md": "open",
    "/docs/{slug}": "open",
    "/signup": "strangers",
    "/verify": "strangers",
    "/verify/resend": "strangers",
    "/signin": "strangers",
    "/signin/code": "strangers",
    "/signin/with/{provider}": "strangers",
    "/signin/with/{provider}/back": "strangers",
    "/signout": "strangers",
    "/setup": "strangers",
    "/forgot": "strangers",
    "/reset": "strangers",
    "/reset/resend": "strangers",
    "/dashboard": "account",
    "/welcome": "account",
    "/requests": "account",
    "/requests.csv": "account",
    "/requests/{id}": "account",
    "/usage": "account",
    "/usage.csv": "account",
    "/slots": "account",
    "/slots/end": "account",
    "/plan": "account",
    "/plan/ask": "account",
    "/keys": "account",
    "/keys/{id}/change": "account",
    "/keys/{id}/show": "account",
    "/keys/{id}/roll": "account",
    "/keys/{id}/revoke": "account",
    "/playground": "account",
    "/playground/key": "account",
    "/settings": "account",
    "/settings/password": "account",
    "/settings/email": "account",
    "/settings/email/code": "account",
    "/settings/email/code/resend": "account",
    "/settings/factor": "account",
    "/settings/factor/confirm": "account",
    "/settings/factor/off": "account",
    "/settings/sessions/end": "account",
    "/settings/mails": "account",
    "/settings/export": "account",
    "/settings/leave": "account",
    "/settings/stay": "account",
    "/healthz": "operator",
    "/readyz": "operator",
    "/metrics": "operator",
}
FILL = {"{id:path}": "claude-haiku-4.5", "{slug}": "quickstart", "{id}": "req_of_ann", "{provider}": "github"}
ROLES = ("anonymous", "unverified", "user", "other user", "disabled", "admin", "key only")


def routes(hotel: Hotel, *, staff: bool = False) -> dict[str, set[str]]:
    """The router's paths and their methods: those of the staff (tests/site/test_admin_roles.py), or all others."""
    assert hotel.house.service is not None
    assert hotel.house.service.site_process is not None
    found: dict[str, set[str]] = {}
    for route in hotel.house.service.site_process.site.routes:
        if isinstance(route, Route):
            if route.path.startswith("/admin") != staff:
                continue
            found.setdefault(route.path, set()).update(route.methods or ())
        else:
            assert isinstance(route, Mount)
            assert route.path == "/static"
    return found


def address(path: str) -> str:
    for name, value in FILL.items():
        path = path.replace(name, value)
    return path


async def people(hotel: Hotel) -> dict[str, Reader]:
    """One reader for each role."""
    readers = {
        "anonymous": hotel.reader("198.51.100.1"),
        "unverified": hotel.reader("198.51.100.2"),
        "user": await hotel.reader("198.51.100.3").join("ann@example.com"),
        "other user": await hotel.reader("198.51.100.4").join("bob@example.com"),
        "disabled": await hotel.reader("198.51.100.5").join("dan@example.com"),
        "admin": await hotel.reader("198.51.100.6").join("eve@example.com"),
        "key only": hotel.reader("198.51.100.7"),
    }
    await readers["unverified"].sign_up("una@example.com")
    readers["key only"].http.headers["x-api-key"] = await readers["user"].key()
    readers["key only"].http.headers["authorization"] = f"Bearer {await readers['user'].key()}"
    async with hotel.house.store.database.transaction() as conn:
        for email, changes in (("dan@example.com", accounts.Changes(disabled=True)),):
            user = await accounts.user_by_email(conn, email)
            await accounts.change_user(conn, user.id, changes, now=1)
    await appoint(hotel, "eve@example.com", "admin")
    return readers


async def test_the_table_has_every_route_and_no_other(hotel: Hotel) -> None:
    assert set(routes(hotel)) == set(ROUTES)


async def test_every_route_for_everybody(hotel: Hotel) -> None:
    readers = await people(hotel)
    for role, reader in readers.items():
        inside = role in {"user", "other user", "admin"}
        for path, kind in ROUTES.items():
            methods = routes(hotel)[path]
            if "GET" in methods:
                answer = await reader.get(address(path))
                check_get(role, path, kind, answer, inside=inside)
            if "POST" in methods and path not in {"/signout", "/settings/leave"}:
                answer = await reader.post(address(path))
                check_post(role, path, kind, answer, inside=inside)


def check_get(role: str, path: str, kind: Kind, answer: httpx2.Response, *, inside: bool) -> None:
    told = (role, path, answer.status_code)
    assert answer.status_code < 500, told
    assert "default-src 'none'" in answer.headers["content-security-policy"], told
    if kind == "account" and not inside:
        assert answer.status_code == 303, told
        assert answer.headers["location"].startswith("/signin?next="), told
        return
    if kind == "account":
        expected = 404 if "{id}" in path else 303 if path == "/settings/email/code" else 200
        assert answer.status_code == expected, told
        assert "no-store" in answer.headers["cache-control"], told
    elif inside and answer.headers.get("content-type", "").startswith("text/html") and kind != "operator":
        assert "no-store" in answer.headers["cache-control"], told
    if kind == "open":
        assert answer.status_code in {200, 302}, told


def check_post(role: str, path: str, kind: Kind, answer: httpx2.Response, *, inside: bool) -> None:
    told = (role, path, answer.status_code)
    if kind == "account" and not inside:
        assert answer.status_code == 401, told
    else:
        assert answer.status_code < 500, told
        assert answer.status_code != 401, told


async def test_no_form_is_taken_without_its_token(hotel: Hotel) -> None:
    reader = await hotel.reader().join("ann@example.com")
    for path, methods in routes(hotel).items():
        if "POST" not in methods or path in {"/verify", "/reset", "/signin/code", "/settings/email/code"}:
            continue  # those four look first whether a code was asked for
        plain = await reader.http.post(address(path), data={"current": PASSWORD})
        assert plain.status_code == 403, path
        foreign = await reader.post(address(path), {"origin": "https://evil.example"}, current=PASSWORD)
        assert foreign.status_code == 403, path
    assert await reader.is_in(), "nothing was done by any of them"


async def test_what_a_code_is_asked_for_is_not_taken_without_the_token_either(hotel: Hotel) -> None:
    reader = hotel.reader()
    await reader.sign_up("ann@example.com")
    code = hotel.mailbox.code("ann@example.com")
    assert (await reader.http.post("/verify", data={"code": code})).status_code == 403
    await reader.post("/forgot", email="ann@example.com")
    assert (await reader.http.post("/reset", data={"code": code})).status_code in {303, 403}
    async with hotel.house.store.database.connect() as conn:
        assert await conn.scalar(select(users.c.verified_at)) is None


async def test_the_api_takes_no_cookie_and_pages_take_no_key(hotel: Hotel) -> None:
    reader = await hotel.reader().join("ann@example.com")
    assert (await reader.http.get("/api/v1/models")).status_code == 401
    body = {"model": "claude-haiku-4.5", "messages": [{"role": "user", "content": "Hello"}]}
    answer = await reader.http.post(
        "/api/v1/chat/completions", json=body, headers={"x-form-token": form_token(reader.token)}
    )
    assert answer.status_code == 401
    key = await reader.key()
    stranger = hotel.reader()
    for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
        assert (await stranger.get("/keys", headers=headers)).status_code == 303


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1:1", "penstock.test"])
async def test_who_may_see_a_page_is_not_a_matter_of_its_host(hotel: Hotel, host: str) -> None:
    answer = await hotel.reader().get("/keys", headers={"host": host})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/signin?next=/keys"


@pytest.mark.parametrize(
    "path", ["//keys", "/keys/", "/./keys", "/static/../keys", "/KEYS", "/keys%2f", "/keys;x"]
)
async def test_no_spelling_of_a_path_opens_it(hotel: Hotel, path: str) -> None:
    caller = await hotel.house.call()
    await caller.send(f"GET {path} HTTP/1.1\r\nhost: penstock.test\r\n\r\n".encode())
    answer = await caller.answer(checked=False)
    caller.leave()
    assert answer.status in {303, 307, 400, 404}
    assert b"sk-ps-" not in answer.body


async def test_the_keys_of_an_account_go_with_it(tmp_path: Path) -> None:
    async with open_hotel(tmp_path) as hotel:
        reader = await hotel.reader().join("ann@example.com")
        key = await reader.key()
        async with hotel.house.store.database.transaction() as conn:
            user = await accounts.user_by_email(conn, "ann@example.com")
            await accounts.set_leaving(conn, user.id, 1)
            await accounts.delete_leavers(conn, now=2)
            assert (
                await conn.execute(select(api_keys.c.id).where(api_keys.c.user_id == user.id))
            ).all() == []
        refused = await hotel.house.ask("chat", "chat-plain", User(user.id, user.email, key))
        assert refused.status == 401
