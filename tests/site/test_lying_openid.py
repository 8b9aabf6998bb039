"""A provider of sign-in that lies: a clear page, no session, in bounded time and memory, and well again later."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from penstock.site.oauth import client
from penstock.site.oauth.client import MOST_BYTES
from tests.samples import sample
from tests.site.page_reader import Hotel, Reader, open_hotel
from tests.site.test_oauth import ANN, SECRET, Issuer, id_token, running

CANARY = "canary-of-the-provider"
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Liar(Issuer):
    """A provider that is honest but for what ``lies`` has for a path, and for the claims that are changed."""

    def __init__(self) -> None:
        super().__init__()
        self.lies: dict[str, Answering] = {}
        self.changed: dict[str, Any] = {}
        self.told: dict[str, Any] = {}

    async def configuration(self, request: web.Request) -> web.StreamResponse:  # pyright: ignore[reportIncompatibleMethodOverride] - a liar answers otherwise
        if "configuration" in self.lies:
            return await self.lies["configuration"](request)
        honest = await super().configuration(request)
        assert honest.text is not None
        return web.json_response(changed(msgspec.json.decode(honest.text), self.told))

    async def token(self, request: web.Request) -> web.StreamResponse:  # pyright: ignore[reportIncompatibleMethodOverride] - a liar answers otherwise
        return await self.lies.get("token", super().token)(request)

    async def userinfo(self, request: web.Request) -> web.StreamResponse:  # pyright: ignore[reportIncompatibleMethodOverride] - a liar answers otherwise
        return await self.lies.get("userinfo", super().userinfo)(request)

    def id_claims(self, nonce: str) -> dict[str, Any]:
        return changed(super().id_claims(nonce), self.changed)

    def be_honest(self) -> None:
        self.lies, self.changed, self.told = {}, {}, {}
        self.claims = {"sub": "1", "email": ANN, "email_verified": True}


def changed(claims: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The claims with these changed, and those left out that are ``...``."""
    return {name: value for name, value in (claims | changes).items() if value is not ...}


@pytest.fixture
async def liar() -> AsyncGenerator[Liar]:
    made = Liar()
    async with running(made):
        yield made


@pytest.fixture
async def federated(liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Hotel]:
    monkeypatch.setattr(client, "SECONDS", 0.5)
    monkeypatch.setattr(client, "STEP_SECONDS", 1.5)
    async with open_hotel(
        tmp_path, oidc_issuer=liar.url, oidc_client="penstock", oidc_secret=SECRET, oidc_name="Example ID"
    ) as hotel:
        yield hotel


async def try_in(reader: Reader, liar: Liar) -> tuple[int, str]:
    """As far as one gets: the status and the text of the last page."""
    away = await reader.get("/signin/with/oidc")
    if away.status_code != 303:
        return away.status_code, away.text
    answer = await reader.get("/signin/with/oidc/back", params=liar.approve(away.headers["location"]))
    return answer.status_code, answer.text


async def refused_and_well_again(hotel: Hotel, liar: Liar, caplog: pytest.LogCaptureFixture) -> None:
    reader = hotel.reader()
    with caplog.at_level(logging.INFO):
        async with asyncio.timeout(30):
            status, text = await try_in(reader, liar)
    assert status in {400, 403, 503}
    assert 'class="note bad"' in text
    assert not await reader.is_in()
    for secret in (CANARY, SECRET, ANN, *liar.tokens):
        assert secret not in text
        assert all(
            secret not in record.getMessage()
            for record in caplog.records
            if record.name.startswith("penstock")
        )
    liar.be_honest()
    client.SECONDS, client.STEP_SECONDS = 60.0, 120.0  # who is honest may be slow; monkeypatch puts them back
    assert (await try_in(reader, liar))[0] == 303
    assert await reader.is_in()


# ---- answers that are none


def says(body: bytes, *, status: int = 200, kind: str = "application/json", **headers: str) -> Answering:
    async def answer(_request: web.Request) -> web.StreamResponse:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, content_type=kind, headers=more)

    return answer


async def hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("it was waited for")


async def drips(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(300):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    for _ in range(4000):
        await response.write(b" " * 65536)
    raise AssertionError("it was all read")


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


ANSWERS: dict[str, Answering] = {
    "hangs": hangs,
    "drips": drips,
    "endless": endless,
    "cut": cut,
    "too long": says(b'{"a": "' + b"x" * MOST_BYTES + b'"}'),
    "compressed": says(b"\x1f\x8b" + b"\0" * 100, content_encoding="gzip"),
    "empty": says(b""),
    "a page": says(b"<html>" + CANARY.encode(), kind="text/html"),
    "a list": says(b"[]"),
    "a number": says(b"1"),
    "null": says(b"null"),
    "a text": says(b'"error access_token issuer"'),
    "deep": says(b"[" * 100_000),
    "a long number": says(b"9" * 100_000),
    "not UTF-8": says(b'{"issuer": "\xff\xfe"}'),
    "an error": says(
        b'{"error": "server_error", "error_description": "' + CANARY.encode() + b'"}', status=500
    ),
    "an odd error": says(
        b'{"error": ["' + CANARY.encode() + b'"], "error_description": {"a": 1}}', status=400
    ),
    "a redirect": says(b"", status=302, location="http://127.0.0.1:1/"),
    "an empty object": says(b"{}"),
    "members of the wrong type": says(
        b'{"access_token": ["x"], "token_type": 1, "id_token": {}, "expires_in": "x", "email": 1, "email_verified": {}}'
    ),
    "a token that breaks the line": says(
        b'{"access_token": "a\\r\\nx: y", "token_type": "Bearer", "id_token": "a.b.c"}'
    ),
    "a token of an unknown type": says(b'{"access_token": "a", "token_type": "x", "id_token": "a.e30.c"}'),
    "a token that is over": says(
        b'{"access_token": "a", "token_type": "Bearer", "expires_in": -1, "id_token": "a.e30.c"}'
    ),
}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path, name)
        for turn, path in enumerate(("configuration", "token", "userinfo"))
        for name in sample(list(ANSWERS), 6, turn)
    ],
)
async def test_an_answer_that_is_none_signs_nobody_in(
    federated: Hotel, liar: Liar, caplog: pytest.LogCaptureFixture, path: str, name: str
) -> None:
    liar.lies[path] = ANSWERS[name]
    await refused_and_well_again(federated, liar, caplog)


# ---- claims


NOW = time.time()


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"}, {"issuer": ...}, {"issuer": 1}, {"issuer": None}, {"issuer": []},
        {"token_endpoint": ...}, {"token_endpoint": 1}, {"token_endpoint": ["http://127.0.0.1:1/"]},
        {"token_endpoint": "file:///etc/passwd"}, {"token_endpoint": "/token"}, {"token_endpoint": "http://"},
        {"token_endpoint": "http://user:x@127.0.0.1:1/"}, {"token_endpoint": "http://127.0.0.1:1/\r\nx: y"},
        {"token_endpoint": "http://127.0.0.1:1/"}, {"token_endpoint": "http://127.0.0.1:99999/"},
        {"token_endpoint": "http://[::1/"}, {"token_endpoint": "http://" + "x" * 3000},
        {"authorization_endpoint": "javascript:alert(1)"}, {"authorization_endpoint": "//evil.example"},
        {"authorization_endpoint": "data:text/html,x"}, {"userinfo_endpoint": "http://127.0.0.1:1/"},
        {"userinfo_endpoint": None},
    ],
    ids=repr,
)  # fmt: skip
async def test_a_configuration_that_is_not_the_issuers_own(
    federated: Hotel, liar: Liar, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    liar.told = changes
    await refused_and_well_again(federated, liar, caplog)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"}, {"iss": ...}, {"iss": 1}, {"aud": "other"}, {"aud": []}, {"aud": ["other"]},
        {"aud": ["penstock", "other"]}, {"aud": {"penstock": 1}}, {"aud": None}, {"azp": "other"}, {"azp": 1},
        {"aud": ["penstock", "other"], "azp": "other"}, {"exp": NOW - 3600}, {"exp": ...}, {"exp": str(NOW + 300)},
        {"exp": None}, {"iat": NOW + 3600}, {"iat": "x"}, {"nonce": ...}, {"nonce": "other"}, {"nonce": 1}, {"nonce": "\u00fc"},
        {"nonce": ""}, {"sub": ...}, {"sub": ""}, {"sub": "x" * 10_000}, {"sub": 1}, {"sub": "2"}, {"sub": None},
    ],
)  # fmt: skip
async def test_an_id_token_of_something_else(
    federated: Hotel, liar: Liar, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    liar.changed = changes
    await refused_and_well_again(federated, liar, caplog)


@pytest.mark.parametrize(
    "changes",
    [
        {"email": [ANN]}, {"email": 1}, {"email": {"a": ANN}}, {"email": ""}, {"email": "ann\x00@example.com"}, {"email": None},
        {"email": "x" * 100_000 + "@example.com"}, {"email": "ann@example.com\r\nBcc: bob@example.com"}, {"email": "\ud83d"},
        {"email": "ann"}, {"email": "=?utf-8?q?ann?=@example.com"}, {"email_verified": "false"}, {"email_verified": 1},
        {"email_verified": "True"}, {"email_verified": ["true"]}, {"email_verified": None}, {"sub": "2"}, {"sub": ...},
        {"sub": 1}, {"sub": ["1"]}, {"sub": "x" * 10_000},
    ],
    ids=lambda changes: repr(changes)[:40],
)  # fmt: skip
async def test_an_address_that_nobody_vouches_for(
    federated: Hotel, liar: Liar, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    liar.claims = changed({"sub": "1", "email": ANN, "email_verified": True}, changes)
    await refused_and_well_again(federated, liar, caplog)


@pytest.mark.parametrize(
    "changes",
    [{"aud": ["penstock"]}, {"azp": "penstock"}, {"aud": ["penstock", "other"], "azp": "penstock"}],
    ids=repr,
)
async def test_what_a_good_id_token_may_say_too(
    federated: Hotel, liar: Liar, changes: dict[str, Any]
) -> None:
    client.SECONDS, client.STEP_SECONDS = 60.0, 120.0
    liar.changed = changes
    assert (await try_in(federated.reader(), liar))[0] == 303


@pytest.mark.parametrize("algorithm", ["none", "HS256", "x" * 10_000])
async def test_what_an_id_token_is_signed_with_vouches_for_nothing(
    federated: Hotel, liar: Liar, caplog: pytest.LogCaptureFixture, algorithm: str
) -> None:
    """No keys are fetched: a token of any algorithm is held to the same claims."""

    async def token(_request: web.Request) -> web.StreamResponse:
        liar.tokens.add(CANARY + "-token")
        signed = id_token(liar.id_claims("of another sign-in"), algorithm)
        return web.json_response(
            {"access_token": CANARY + "-token", "token_type": "Bearer", "id_token": signed}
        )

    liar.lies["token"] = token
    await refused_and_well_again(federated, liar, caplog)


async def test_many_who_wait_for_a_provider_that_hangs_are_bounded(
    federated: Hotel, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_AT_ONCE", 3)
    liar.lies["configuration"] = hangs
    readers = [federated.reader() for _ in range(8)]
    answers = await asyncio.gather(*(reader.get("/signin/with/oidc") for reader in readers))
    assert {answer.status_code for answer in answers} == {503}
    assert all("retry-after" in answer.headers for answer in answers)
    liar.be_honest()
    client.SECONDS, client.STEP_SECONDS = 60.0, 120.0
    assert (await try_in(readers[0], liar))[0] == 303
