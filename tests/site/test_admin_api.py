"""The admin API: who may do what, once for each key, in pages, with errors that say whose fault they are."""

import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.domain.accounts import accounts
from penstock.domain.staff import membership, tokens
from penstock.domain.staff.tokens import TokenWish
from penstock.domain.trail.entries import SYSTEM
from penstock.site.admin_api.dispatch import AdminApi
from penstock.site.admin_api.parity import BASE
from tests.site.page_reader import PLAIN, Hotel, open_hotel


class Caller:
    """A program with a token."""

    def __init__(self, hotel: Hotel, token: str) -> None:
        self.token = token
        self.http = httpx2.AsyncClient(
            base_url=hotel.origin,
            headers={"authorization": f"Bearer {token}"} if token else {},
            verify=PLAIN,
            trust_env=False,
            timeout=120,
        )

    async def __call__(
        self, route: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        """``call("POST /users/usr_x/disable", {...})``."""
        method, _, path = route.partition(" ")
        more = {} if body is None else {"json": body}
        return await self.http.request(method, f"{BASE}{path}", headers=headers or {}, **more)


class Staffed:
    """A hotel with an owner, and programs that act for them."""

    def __init__(self, hotel: Hotel) -> None:
        self.hotel = hotel
        self.callers: list[Caller] = []

    @property
    def api(self) -> AdminApi:
        assert self.hotel.house.service is not None
        assert self.hotel.house.service.site_process is not None
        return self.hotel.house.service.site_process.admin_api

    async def person(self, email: str, role: str = "") -> str:
        """The id of a new account."""
        async with self.hotel.house.store.database.transaction() as conn:
            id = accounts.new_user_id(secrets.token_bytes(16))
            user = await accounts.create_user(
                conn, email, plan="free", admin=False, verified=True, now=1, id=id
            )
            if role:
                await membership.give(conn, user, role, SYSTEM, now=1, entropy=secrets.token_bytes)
        return id

    async def caller(
        self, role: str = "owner", *, scopes: tuple[str, ...] = ("all",), maker: str = "owner@example.com"
    ) -> Caller:
        """A program with a new token of the maker."""
        store = self.hotel.house.store
        async with store.database.transaction() as conn:
            made = await tokens.make_token(
                conn,
                store.secrets_file,
                await accounts.user_by_email(conn, maker),
                TokenWish(f"{role} {len(self.callers)}", role, scopes),
                SYSTEM,
                longest_days=365,
                now=int(self.hotel.house.clock.now * 1000),
                entropy=secrets.token_bytes,
            )
        caller = Caller(self.hotel, made.token)
        self.callers.append(caller)
        return caller

    async def entries(self, **chosen: str) -> list[dict[str, Any]]:
        """The trail, as an owner reads it."""
        call = self.callers[0]
        query = "&".join(f"{name}={value}" for name, value in chosen.items())
        return (await call(f"GET /trail?{query}")).json()["data"]


@pytest.fixture
async def staffed(tmp_path: Path) -> AsyncGenerator[Staffed]:
    async with open_hotel(tmp_path) as hotel:
        found = Staffed(hotel)
        await found.person("owner@example.com", "owner")
        await found.caller()
        try:
            yield found
        finally:
            for caller in found.callers:
                await caller.http.aclose()


async def test_smoke(staffed: Staffed) -> None:
    call = staffed.callers[0]
    ann = await staffed.person("ann@example.com")
    for row in staffed.api.rows:
        if not row.route.startswith("GET"):
            continue
        path = row.route.replace("{id:path}", "claude-haiku-4.5").replace("{id}", ann)
        answer = await call(path)
        print(row.name, answer.status_code, answer.text[:300])
