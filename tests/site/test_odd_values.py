"""Every page and route with every odd value, on both engines: an answer that says what is wrong, and never our own failure."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.routes import ROUTES as API_ROUTES
from penstock.domain.accounts.sessions import form_token
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog_store import default_catalog
from penstock.domain.catalog.toml_document import CatalogDocument, parse
from penstock.providers.table import KINDS
from tests.samples import sample
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.test_dashboard import on_lab
from tests.site.test_roles import FILL, ROUTES, routes
from tests.stores import Engine, engine

__all__ = ["engine"]

ANN = "ann@example.com"
ODD = (
    "%00", "x%00y", "%C2%B2.x", "%D9%A3.x", "%ED%A0%80", "%FF", "9" * 15 + ".x", "9" * 400, "-1.x", ".", "", "%F4%8F%BF%BF",
    "1e999", "%2e%2e%2f", "%0D%0A", "%25", "NaN", "0.%27", "a" * 5000,
)  # fmt: skip
QUERIES = (
    "next",
    "days",
    "model",
    "key",
    "outcome",
    "before",
    "notice",
    "code",
    "state",
    "error",
    "id",
    "limit",
)
FORM = {
    "email": "bob@example.com", "password": PASSWORD, "current": PASSWORD, "code": "123456", "name": "x", "models": "",
    "addresses": "", "expires": "", "grace": "0", "id": "x", "plan": "ten", "next": "/",
}  # fmt: skip
HEADERS = (
    {"host": "[::::]"}, {"host": "[....]"}, {"host": "x:99999"}, {"origin": "http://["}, {"origin": "http://x:y"},
    {"cookie": "penstock=%00; penstock=\xb2"}, {"user-agent": "\xb2\xff"}, {"referer": "http://["}, {"accept": ""},
    {"content-type": "multipart/form-data"}, {"range": "bytes=9-1"}, {"if-modified-since": "\xb2"},
)  # fmt: skip


@pytest.fixture
async def hotel(engine: Engine, tmp_path: Path) -> AsyncGenerator[Hotel]:
    generous = dict.fromkeys(("sign_in_tries", "sign_in_tries_network", "sign_ups_network"), 10_000)
    async with open_hotel(tmp_path, database_url=engine.url, **generous) as opened:
        yield opened


def filled(path: str, value: str) -> str:
    for name in FILL:
        path = path.replace(name, value)
    return path


def encoded(fields: dict[str, str]) -> str:
    """A form whose odd values are encoded already."""
    return "&".join(f"{name}={value}" for name, value in fields.items())


def forms(turn: int) -> Iterator[dict[str, str]]:
    """Each odd value in all fields, and in one where the others are right; some of them, and others in another ``turn``."""
    yield from sample(list(_forms()), 10, turn)


def _forms() -> Iterator[dict[str, str]]:
    plain = {name: quote(value) for name, value in FORM.items()}
    for odd in ODD:
        yield dict.fromkeys(FORM, odd)
    for number, name in enumerate(FORM):
        yield plain | {name: ODD[number % len(ODD)]}
        yield plain | {name: ODD[(number + 6) % len(ODD)]}


async def post(reader: Reader, path: str, body: str) -> int:
    if not reader.token:
        await reader.get("/signin")
    headers = {
        "sec-fetch-site": "same-origin",
        "content-type": "application/x-www-form-urlencoded",
        "x-form-token": form_token(reader.token),
    }
    return (await reader.http.post(path, content=body, headers=headers)).status_code


async def test_pages_with_odd_addresses(hotel: Hotel) -> None:
    signed_in, stranger = await hotel.reader().join(ANN), hotel.reader()
    for turn, (path, methods) in enumerate(routes(hotel).items()):
        if "GET" not in methods:
            continue
        for odd in sample(ODD, 7, turn):
            asked = filled(path, odd) + "?" + encoded(dict.fromkeys(QUERIES, odd))
            for reader in (signed_in, stranger) if ROUTES[path] != "open" else (stranger,):
                answer = await reader.get(asked)
                assert answer.status_code < 500, (asked, answer.text)
                assert answer.headers["x-content-type-options"] == "nosniff", asked
                if "%00" in odd:
                    assert answer.status_code == 400, asked
    assert (await signed_in.get("/requests?before=%C2%B2.x")).status_code == 400
    assert await signed_in.is_in()


async def test_forms_with_odd_fields(hotel: Hotel) -> None:
    signed_in, stranger = await hotel.reader().join(ANN), hotel.reader()
    leaving = "/settings/leave"  # the last one: whoever has left may send no more forms
    paths = sorted(routes(hotel).items(), key=lambda item: item[0] == leaving)
    for turn, (path, methods) in enumerate(paths):
        if "POST" not in methods or path == "/signout":
            continue
        for fields in forms(turn):
            reader = signed_in if ROUTES[path] == "account" else stranger
            status = await post(reader, filled(path, "x"), encoded(fields))
            assert status < 500 or status == 503, (path, fields, status)
            if "%00" in encoded(fields):
                assert status in ({303, 400, 403} if path == leaving else {303, 400}), (
                    "refused, or not even read"
                )
            if not await signed_in.is_in():
                await signed_in.sign_in(ANN)
        for odd in sample(ODD, 5, turn):
            assert await post(signed_in, filled(path, odd), "") < 500, (path, odd)


async def test_pages_with_odd_headers(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    for headers in HEADERS:
        for path in ("/", "/settings", "/signin", "/no-such-page", "/static/app.css", "/metrics"):
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            for method in ("GET", "POST", "HEAD"):
                answer = await reader.http.request(method, path, headers=raw)
                assert answer.status_code < 500, (headers, path, answer.text)


async def test_an_origin_that_is_no_address_is_refused(hotel: Hotel) -> None:
    answer = await hotel.reader().post("/signin", {"origin": "http://["}, email=ANN, password=PASSWORD)
    assert answer.status_code == 400


async def test_the_api_with_odd_names(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    key = {"x-api-key": user.key}
    for route in API_ROUTES:
        for odd in ODD:
            answer = await reader.get(
                f"/api/v1{route.path}/{odd}?limit={odd}&after_id={odd}&before_id={odd}", headers=key
            )
            assert answer.status_code < 500, (route, odd, answer.text)
            assert answer.headers["x-content-type-options"] == "nosniff", route
        for model in ("\0", "\u00b2", "x" * 5000, "", [], {}, None, 10**30, "\u202e"):
            body = msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "x"}]})
            for sent in (body, body.replace(b'"x"', b'"\\ud800"'), b"[]", b"{}", b"", b"9" * 4000):
                answer = await reader.http.post(f"/api/v1{route.path}", content=sent, headers=key)
                assert answer.status_code < 500, (route, sent, answer.text)
                assert answer.headers["x-content-type-options"] == "nosniff", route


@pytest.mark.parametrize("lacks", ["models on plans", "plans", "models", "everything"])
async def test_pages_of_odd_catalogues(tmp_path: Path, lacks: str) -> None:
    async with open_hotel(tmp_path) as hotel:
        await hotel.reader().join(ANN)
        whole = parse(default_catalog(), KINDS)
        bare = tuple(msgspec.structs.replace(plan, models=()) for plan in whole.plans)
        odd = {
            "models on plans": msgspec.structs.replace(whole, plans=bare),
            "plans": msgspec.structs.replace(whole, plans=bare[:1]),
            "models": msgspec.structs.replace(whole, plans=bare, models=()),
            "everything": CatalogDocument(providers=(), models=(), plans=bare[:1]),
        }[lacks]
        async with hotel.house.store.database.transaction() as conn:
            await catalog_store.apply_document(conn, odd, KINDS, 2, prune=True)
        await hotel.house.restart()
        reader = hotel.reader()
        await reader.sign_in(ANN)
        assert await reader.is_in()
        for path, kind in ROUTES.items():
            if kind != "operator" and "{" not in path:
                answer = await reader.get(path)
                assert answer.status_code < 500, (path, answer.text)
        for model in whole.models:
            assert (await reader.get(f"/models/{model.id}")).status_code in {200, 404}
        assert (await hotel.reader().get("/models")).status_code == 200


async def test_a_page_that_fails_is_protected_as_any_other(
    hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = hotel.reader()

    def broken(*_arguments: object, **_named: object) -> Response:
        raise ZeroDivisionError

    good = await reader.get("/")
    protective = {
        name: good.headers[name]
        for name in ("content-security-policy", "x-content-type-options", "referrer-policy")
    }
    assert hotel.house.service is not None
    assert hotel.house.service.site_process is not None
    app = hotel.house.service.site_process.site

    async def failing(_request: Request) -> Response:
        raise ZeroDivisionError

    app.add_route("/fails", failing)
    for path in ("/fails", "/no-such-page", "/settings", "/static/none", "/signup?x=%00", "/healthz"):
        answer = await reader.get(path)
        assert protective.items() <= dict(answer.headers).items(), path
    assert (await reader.get("/fails")).status_code == 500
    assert "went wrong" in (await reader.get("/fails")).text
    monkeypatch.setattr("penstock.site.pages.Pages.render", broken)
    last = await reader.get("/fails")
    assert last.status_code == 500
    assert protective.items() <= dict(last.headers).items(), "nor can the page that tells so be made"
