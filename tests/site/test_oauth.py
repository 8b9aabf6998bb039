"""Signing in by way of others: a whole OpenID provider and one like GitHub's, on this machine; and those who cheat."""

import secrets
import sys
import time
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import msgspec
import pytest
from aiohttp import web
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from penstock.domain.accounts import accounts
from penstock.settings import Settings, SettingsError
from penstock.site.oauth.providers import GITHUB
from penstock.site.process import oauth_of
from tests.site.page_reader import COOKIE, PASSWORD, Hotel, Reader, open_hotel
from tests.site.test_sign_in import switch_on

ANN = "ann@example.com"
SECRET = "the-operators-own"


def id_token(claims: Any, algorithm: str = "RS256") -> str:
    """One that nobody signed: it comes straight from the provider, so that the connection vouches for it."""
    parts = (msgspec.json.encode({"alg": algorithm}), msgspec.json.encode(claims), b"signature")
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class Issuer:
    """An OpenID provider: whoever comes is the one that ``claims`` says."""

    def __init__(self) -> None:
        self.claims: Any = {"sub": "1", "email": ANN, "email_verified": True}
        self.port = 0
        self.codes: dict[str, tuple[str, str]] = {}
        """The challenge and the nonce of each code."""
        self.tokens: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def configuration(self, _request: web.Request) -> web.Response:
        names = {
            "authorization_endpoint": "authorize",
            "token_endpoint": "token",
            "userinfo_endpoint": "userinfo",
        }
        found = {name: f"{self.url}/{path}" for name, path in names.items()}
        return web.json_response({"issuer": self.url, **found})

    def id_claims(self, nonce: str) -> dict[str, Any]:
        """What an ID token says."""
        now = int(time.time())
        return {
            "iss": self.url, "sub": "1", "aud": "penstock", "exp": now + 300, "iat": now, "nonce": nonce,
        }  # fmt: skip

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        challenge, nonce = self.codes.pop(str(form["code"]), (None, ""))
        right = challenge == create_s256_code_challenge(str(form["code_verifier"]))
        known = b64decode(request.headers["authorization"].split()[1]).decode() == f"penstock:{SECRET}"
        if not right or not known:
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = secrets.token_hex(8)
        self.tokens.add(token)
        signed = id_token(self.id_claims(nonce))
        return web.json_response({"access_token": token, "token_type": "Bearer", "id_token": signed})

    async def userinfo(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.json_response({}, status=401)
        return web.json_response(self.claims)

    def approve(self, url: str) -> dict[str, str]:
        """What the person's browser comes back with."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert query["code_challenge_method"] == "S256"
        assert query["response_type"] == "code"
        code = secrets.token_hex(8)
        self.codes[code] = (query["code_challenge"], query.get("nonce", ""))
        return {"code": code, "state": query["state"]}


@asynccontextmanager
async def running(issuer: Issuer) -> AsyncGenerator[None]:
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", issuer.configuration)
    app.router.add_post("/token", issuer.token)
    app.router.add_get("/userinfo", issuer.userinfo)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.port = runner.addresses[0][1]
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    made = Issuer()
    async with running(made):
        yield made


@pytest.fixture
async def federated(issuer: Issuer, tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(
        tmp_path, oidc_issuer=issuer.url, oidc_client="penstock", oidc_secret=SECRET, oidc_name="Example ID"
    ) as hotel:
        yield hotel


async def come(reader: Reader, issuer: Issuer, **changes: str) -> httpx2.Response:
    """Off to the provider and back."""
    await reader.get("/signin")
    away = await reader.get("/signin/with/oidc")
    assert away.status_code == 303
    assert away.headers["location"].startswith(f"{issuer.url}/authorize?")
    return await reader.get(
        "/signin/with/oidc/back", params={**issuer.approve(away.headers["location"]), **changes}
    )


async def test_whoever_is_vouched_for_has_an_account_that_works_at_once(
    federated: Hotel, issuer: Issuer
) -> None:
    reader = federated.reader()
    assert "Go on with Example ID" in (await reader.get("/signin")).text
    answer = await come(reader, issuer)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    assert await reader.is_in()
    assert (await federated.house.http("GET", "/v1/models", await reader.key())).status == 200
    again = federated.reader()
    await come(again, issuer)
    async with federated.house.store.database.connect() as conn:
        assert len(await accounts.list_users(conn)) == 1, "the same account"


@pytest.mark.parametrize(
    "claims", [{"email": ANN}, {"email": ANN, "email_verified": False}, {"email_verified": True}, [], "x"]
)
async def test_an_address_that_is_not_verified_is_worth_nothing(
    federated: Hotel, issuer: Issuer, claims: Any
) -> None:
    issuer.claims = claims
    reader = federated.reader()
    answer = await come(reader, issuer)
    assert answer.status_code == 403
    assert "no verified e-mail address" in answer.text
    assert not await reader.is_in()


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sub": "1", "email": ANN, "preferred_username": ANN}, 303),  # Microsoft Entra ID
        ({"sub": "1", "email": ANN, "email_verified": None}, 303),
        ({"sub": "1", "email": ANN, "email_verified": True}, 303),
        ({"sub": "1", "email": ANN, "email_verified": False}, 403),
        ({"sub": "1", "email": ANN, "email_verified": "false"}, 403),
        ({"sub": "1", "email": ANN, "email_verified": 1}, 403),
        ({"sub": "2", "email": ANN}, 403),
        ({"sub": "1", "preferred_username": ANN}, 403),
        ({"sub": "1", "email": "eve@elsewhere.example"}, 403),
    ],
)
async def test_an_operator_can_vouch_for_a_provider_that_leaves_the_claim_out(
    issuer: Issuer, tmp_path: Path, claims: dict[str, Any], status: int
) -> None:
    async with open_hotel(
        tmp_path, oidc_issuer=issuer.url, oidc_client="penstock", oidc_secret=SECRET, oidc_trusts_email=True,
        signup_domains=("example.com",),
    ) as hotel:  # fmt: skip
        issuer.claims = claims
        reader = hotel.reader()
        assert (await come(reader, issuer)).status_code == status
        assert await reader.is_in() is (status == 303)


async def test_a_password_from_before_is_dropped_where_nobody_had_verified_it(
    federated: Hotel, issuer: Issuer
) -> None:
    thief = federated.reader()
    await thief.sign_up(ANN, "the password of a thief")
    owner = federated.reader()
    await come(owner, issuer)
    assert await owner.is_in()
    assert (await federated.reader().sign_in(ANN, "the password of a thief")).status_code == 400


async def test_a_verified_account_keeps_its_password_and_its_second_factor(
    federated: Hotel, issuer: Issuer
) -> None:
    await federated.reader().join(ANN)
    reader = federated.reader()
    assert (await come(reader, issuer)).headers["location"] == "/dashboard"
    assert (await federated.reader().sign_in(ANN, PASSWORD)).status_code == 303


async def test_a_second_factor_is_wanted_of_who_is_vouched_for_too(federated: Hotel, issuer: Issuer) -> None:
    await switch_on(await federated.reader().join(ANN), federated)
    reader = federated.reader()
    assert (await come(reader, issuer)).headers["location"].startswith("/signin/code")
    assert not await reader.is_in()


async def test_an_answer_is_good_once_in_its_own_browser_and_in_time(
    federated: Hotel, issuer: Issuer
) -> None:
    reader, other = federated.reader(), federated.reader()
    await other.get("/signin")
    await reader.get("/signin")
    back = issuer.approve((await reader.get("/signin/with/oidc")).headers["location"])
    assert (await other.get("/signin/with/oidc/back", params=back)).status_code == 403
    late = issuer.approve((await reader.get("/signin/with/oidc")).headers["location"])
    federated.house.clock.now += 601
    assert (await reader.get("/signin/with/oidc/back", params=late)).status_code == 403
    for changes in ({"state": "x"}, {"state": ""}, {"code": ""}, {"code": "guessed"}):
        assert (await come(reader, issuer, **changes)).status_code == 403, changes
    assert not await reader.is_in()
    assert not await other.is_in()


async def test_whoever_has_no_cookie_yet_gets_one_at_the_beginning(federated: Hotel, issuer: Issuer) -> None:
    reader = federated.reader()
    away = await reader.get("/signin/with/oidc")
    assert "HttpOnly; SameSite=Lax" in away.headers["set-cookie"]
    before = reader.token
    answer = await reader.get("/signin/with/oidc/back", params=issuer.approve(away.headers["location"]))
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    assert await reader.is_in()
    assert reader.token != before, "a token that was made for a stranger is nobody's session"


@pytest.mark.parametrize("cookie", [None, "", "x", "0" * 43], ids=["none", "empty", "odd", "made up"])
@pytest.mark.parametrize("first", [False, True], ids=["stranger without", "stranger with"])
async def test_an_answer_that_a_stranger_brought_about_signs_nobody_in(
    federated: Hotel, issuer: Issuer, cookie: str | None, first: bool
) -> None:
    """Otherwise a link makes somebody work in the stranger's account, and leave keys and prompts there."""
    stranger, victim = federated.reader(), federated.reader()
    if first:
        await stranger.get("/signin")
    link = issuer.approve((await stranger.get("/signin/with/oidc")).headers["location"])
    if cookie is not None:
        victim.http.cookies.set(COOKIE, cookie)
    answer = await victim.get("/signin/with/oidc/back", params=link)
    assert answer.status_code == 403
    assert "begun in another browser" in answer.text
    assert not await victim.is_in()
    assert issuer.tokens == set(), "the code was not even asked about"


async def test_who_is_signed_in_is_not_moved_to_another_account(federated: Hotel, issuer: Issuer) -> None:
    victim = await federated.reader().join("bob@example.com")
    stranger = federated.reader()
    link = issuer.approve((await stranger.get("/signin/with/oidc")).headers["location"])
    assert (await victim.get("/signin/with/oidc/back", params=link)).status_code == 403
    assert "bob@example.com" in (await victim.get("/settings")).text


async def test_a_beginning_from_before_a_sign_in_is_over_with_it(federated: Hotel, issuer: Issuer) -> None:
    reader = federated.reader()
    early = issuer.approve((await reader.get("/signin/with/oidc")).headers["location"])
    await reader.join("bob@example.com")
    assert (await reader.get("/signin/with/oidc/back", params=early)).status_code == 403


async def test_the_verifier_is_not_in_the_state(federated: Hotel, issuer: Issuer) -> None:
    """Not even for whoever can open the seal: it takes the cookie, too."""
    reader = federated.reader()
    challenges: set[str] = set()
    for _ in range(2):
        url = (await reader.get("/signin/with/oidc")).headers["location"]
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        sealed = urlsafe_b64decode(query["state"])
        opened = federated.house.store.secrets_file.unseal(sealed, b"federation|state")
        state = msgspec.msgpack.decode(opened)
        assert reader.token.encode() not in opened
        for value in state.values() if isinstance(state, dict) else state:
            text = value if isinstance(value, str) else str(value)
            assert create_s256_code_challenge(text) != query["code_challenge"]
        challenges.add(query["code_challenge"])
    assert len(challenges) == 2, "another one each time"


async def test_where_the_provider_is_away(tmp_path: Path) -> None:
    async with open_hotel(
        tmp_path, oidc_issuer="http://127.0.0.1:1", oidc_client="c", oidc_secret="s"
    ) as hotel:
        reader = hotel.reader()
        answer = await reader.get("/signin/with/oidc")
        assert answer.status_code == 503
        assert "does not answer" in answer.text


@pytest.mark.parametrize("where", ["configuration", "token", "userinfo"])
@pytest.mark.parametrize("said", [b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"\xff", b"{"])
async def test_a_provider_that_says_nothing_that_can_be_read_is_away(
    tmp_path: Path, where: str, said: bytes
) -> None:
    async def odd(request: web.Request) -> web.Response:
        return web.Response(body=said, content_type="application/json")

    issuer = Issuer()
    setattr(issuer, where, odd)
    async with (
        running(issuer),
        open_hotel(tmp_path, oidc_issuer=issuer.url, oidc_client="penstock", oidc_secret=SECRET) as hotel,
    ):
        reader = hotel.reader()
        await reader.get("/signin")
        answer = await reader.get("/signin/with/oidc")
        if where != "configuration":
            query = issuer.approve(answer.headers["location"])
            answer = await reader.get("/signin/with/oidc/back", params=query)
        assert answer.status_code == 503
        assert not await reader.is_in()


async def test_what_is_not_configured_is_not_there(hotel: Hotel) -> None:
    reader = hotel.reader()
    assert "Go on with" not in (await reader.get("/signin")).text
    assert (await reader.get("/signin/with/github")).status_code == 404


async def test_closed_sign_up_is_closed_for_strangers_by_every_way(issuer: Issuer, tmp_path: Path) -> None:
    async with open_hotel(
        tmp_path, signup="closed", oidc_issuer=issuer.url, oidc_client="penstock", oidc_secret=SECRET
    ) as hotel:
        assert (await come(hotel.reader(), issuer)).status_code == 403


async def test_github_tells_addresses_in_a_list(issuer: Issuer, tmp_path: Path) -> None:
    issuer.claims = [
        {"email": "old@example.com", "primary": False, "verified": True},
        {"email": ANN, "primary": True, "verified": True},
    ]
    async with open_hotel(tmp_path, github_client="penstock", github_secret=SECRET) as hotel:
        assert hotel.house.service is not None
        assert hotel.house.service.site_process is not None
        providers = hotel.house.service.site_process.oauth.providers
        assert providers["github"].token == GITHUB.token
        providers["github"] = msgspec.structs.replace(
            providers["github"],
            authorize=f"{issuer.url}/authorize",
            token=f"{issuer.url}/token",
            emails=f"{issuer.url}/userinfo",
        )
        reader = hotel.reader()
        await reader.get("/signin")
        back = issuer.approve((await reader.get("/signin/with/github")).headers["location"])
        assert (await reader.get("/signin/with/github/back", params=back)).headers["location"] == "/dashboard"
        assert ANN in (await reader.get("/settings")).text


def test_without_its_packages_it_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "penstock.site.oauth.client", raising=False)
    monkeypatch.setitem(sys.modules, "authlib.integrations.httpx_client", None)
    assert oauth_of(Settings()).providers == {}
    with pytest.raises(SettingsError, match=r"Google needs more packages: .*penstock\[oidc\]"):
        oauth_of(Settings(google_client="c", google_secret="s"))
