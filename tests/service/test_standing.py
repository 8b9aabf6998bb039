"""Standing records: what decided one request decides the next one of its connection, until a cause of it changes.

Each cause is changed beneath a connection that goes on calling, and must be felt by it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from penstock.api.handler import Api
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.exchange import Exchange
from penstock.providers.table import KINDS
from tests.service.conversations import REPLIES, Answer, Caller, body_of
from tests.service.running_service import House, User, open_house, raw
from tests.service.scripted import PATIENCE

PATH = "/v1/chat/completions"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    async with open_house(tmp_path, revision_poll=0.02, cache_seconds=60.0) as opened:
        opened.wires["wire-chat"].script = lambda asked: asked.answer(REPLIES["chat"])
        yield opened


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that nothing was decided for."""
    seen: list[str] = []
    first = Api._first

    def noting(api: Api, exchange: Exchange) -> Coroutine[Any, Any, None]:
        seen.append(exchange.path)
        return first(api, exchange)

    monkeypatch.setattr(Api, "_first", noting)
    return seen


async def followed(house: House) -> None:
    """The service has seen what was written till now, so that its poll finds nothing new."""
    assert house.service is not None
    assert house.service._api is not None
    await house.service._api._keyring.follow()


async def again(caller: Caller, user: User, model: str = "wire-chat") -> Answer:
    await caller.send(raw("POST", PATH, user.key, body_of("chat", model), {}))
    return await caller.answer()


async def settled(house: House, user: User) -> Caller:
    """A connection whose next request is decided already."""
    caller = await house.call()
    for _ in range(2):
        assert (await again(caller, user)).status == 200
    return caller


async def sql(house: House, statement: str, user: User) -> None:
    async with house.store.database.transaction() as conn:
        await conn.execute(text(statement), {"user": user.id} if ":user" in statement else {})


async def test_the_second_request_of_a_connection_is_decided_by_the_first(
    house: House, long_ways: list[str]
) -> None:
    user = await house.user()
    await followed(house)
    caller = await house.call()
    for model in ("wire-chat", "pair-chat", "wire-chat"):
        assert (await again(caller, user, model)).status == 200
    assert long_ways == [PATH]
    assert [row["model"] for row in await house.rows(user)] == ["wire-chat", "pair-chat", "wire-chat"]
    assert (await again(caller, user, "nobody's")).status == 404
    assert (await again(caller, user)).status == 200


async def test_another_key_or_another_route_of_a_connection_is_decided_anew(
    house: House, long_ways: list[str]
) -> None:
    one, other = await house.user(), await house.user("few")
    await followed(house)
    caller = await settled(house, one)
    assert (await again(caller, other)).headers["x-ratelimit-limit"] == "5"
    assert (await again(caller, one)).headers["x-ratelimit-limit"] == "50000"
    assert len(long_ways) == 3
    assert await house.used(one) == 3
    assert await house.used(other) == 1


CAUSES: dict[str, tuple[str, int, str]] = {
    "the key is revoked": (
        "UPDATE api_keys SET revoked_at = 1 WHERE user_id = :user",
        401,
        "invalid_api_key",
    ),
    "the key is deleted": ("DELETE FROM api_keys WHERE user_id = :user", 401, "invalid_api_key"),
    "the key expires": ("UPDATE api_keys SET expires_at = 5 WHERE user_id = :user", 401, "invalid_api_key"),
    "the key may use other models": (
        """UPDATE api_keys SET models = '["pair-chat"]' WHERE user_id = :user""",
        403,
        "model_not_on_plan",
    ),
    "the key may be used elsewhere": (
        """UPDATE api_keys SET addresses = '["192.0.2.0/24"]' WHERE user_id = :user""",
        403,
        "address_not_allowed",
    ),
    "the account is disabled": ("UPDATE users SET disabled_at = 1 WHERE id = :user", 403, "account_disabled"),
    "the account leaves": ("UPDATE users SET leaving_at = 1 WHERE id = :user", 403, "account_leaving"),
    "the address is verified no more": (
        "UPDATE users SET verified_at = NULL WHERE id = :user",
        403,
        "email_not_verified",
    ),
}


async def until(told: Callable[[], Awaitable[bool]]) -> None:
    """The change is felt, and soon."""
    async with asyncio.timeout(PATIENCE):
        while not await told():  # noqa: ASYNC110 - the poll of the service is what is waited for
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("cause", CAUSES)
async def test_what_changes_about_a_key_or_its_account_is_felt(house: House, cause: str) -> None:
    statement, status, code = CAUSES[cause]
    user, neighbour = await house.user(), await house.user()
    caller, beside = await settled(house, user), await settled(house, neighbour)
    await sql(house, statement, user)

    async def refused() -> bool:
        answer = await again(caller, user)
        if answer.status == 200:
            return False
        assert (answer.status, answer.code) == (status, code)
        return True

    await until(refused)
    assert (await again(beside, neighbour)).status == 200


async def test_a_key_expires_at_its_moment_though_nothing_changes(house: House) -> None:
    user = await house.user()
    soon = int(house.clock.now * 1000) + 60_000
    await sql(house, f"UPDATE api_keys SET expires_at = {soon} WHERE user_id = :user", user)
    caller = await settled(house, user)
    house.clock.now += 61
    answer = await again(caller, user)
    assert (answer.status, answer.code) == (401, "invalid_api_key")


async def test_another_plan_of_the_account_is_felt(house: House) -> None:
    user = await house.user()
    caller = await settled(house, user)
    await sql(house, "UPDATE users SET plan_id = 'few' WHERE id = :user", user)

    async def limited() -> bool:
        return (await again(caller, user)).headers["x-ratelimit-limit"] == "5"

    await until(limited)


def _without_model(document: CatalogDocument) -> CatalogDocument:
    """Nothing is called by that name any more."""
    models = tuple(model for model in document.models if model.id != "wire-chat")
    return _on_no_plan(replace(document, models=models))


def _on_no_plan(document: CatalogDocument) -> CatalogDocument:
    return replace(document, plans=tuple(replace(plan, models=("pair-chat",)) for plan in document.plans))


def _served_by_nobody(document: CatalogDocument) -> CatalogDocument:
    rows = [
        replace(row, secret="env:ABSENT_KEY") if row.id == "wire-chat" else row for row in document.providers
    ]
    return replace(document, providers=tuple(rows))


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (_on_no_plan, 403, "model_not_on_plan"),
        (_without_model, 404, "model_not_found"),
        (_served_by_nobody, 503, "no_provider"),
    ],
)
async def test_another_catalogue_is_felt(
    house: House, change: Callable[[CatalogDocument], CatalogDocument], status: int, code: str
) -> None:
    user = await house.user()
    caller = await settled(house, user)
    async with house.store.database.transaction() as conn:
        document = change(await catalog_store.load_document(conn, KINDS))
        await catalog_store.apply_document(conn, document, KINDS, 2, prune=True)

    async def refused() -> bool:
        answer = await again(caller, user)
        if answer.status == 200:
            return False
        assert (answer.status, answer.code) == (status, code)
        return True

    await until(refused)


async def test_another_address_of_a_provider_is_felt(house: House) -> None:
    user = await house.user()
    caller = await settled(house, user)
    spare = house.wires["spare-chat"]
    spare.script = lambda asked: asked.answer(REPLIES["chat"])
    async with house.store.database.transaction() as conn:
        document = await catalog_store.load_document(conn, KINDS)
        speaks = next(row.speaks for row in document.providers if row.id == "spare-chat")
        rows = [replace(row, speaks=speaks) if row.id == "wire-chat" else row for row in document.providers]
        await catalog_store.apply_document(conn, replace(document, providers=tuple(rows)), KINDS, 2)

    async def elsewhere() -> bool:
        assert (await again(caller, user)).status == 200
        return bool(spare.asked)

    await until(elsewhere)


async def test_another_secret_of_a_provider_is_sent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await house.user()
    caller = await settled(house, user)
    assert house.service is not None
    monkeypatch.setattr(house.service._secrets, "_environ", {"VENDOR_KEY": "another-key-0123456789"})

    async def sent() -> bool:
        assert (await again(caller, user)).status == 200
        asked = house.wires["wire-chat"].asked[-1]
        return asked.headers["authorization"] == "Bearer another-key-0123456789"

    await until(sent)


async def test_a_provider_that_fails_is_passed_by_without_anything_being_decided_anew(
    house: House, long_ways: list[str]
) -> None:
    """Which provider is tried first is chosen for each request: its health is no part of what stands."""
    user = await house.user()
    await followed(house)
    wire, spare = house.wires["wire-chat"], house.wires["spare-chat"]
    spare.script = lambda asked: asked.answer(REPLIES["chat"])
    caller = await house.call()
    wire.script = lambda asked: asked.answer(b"{}", 500)
    for _ in range(8):
        assert (await again(caller, user, "pair-chat")).status == 200
    assert 0 < len(wire.asked) <= 5, "the circuit is open"
    assert long_ways == [PATH]


async def test_a_key_that_was_refused_too_often_is_refused_on_a_standing_connection(tmp_path: Path) -> None:
    async with open_house(tmp_path, errors_per_minute=3, cache_seconds=60.0) as house:
        house.wires["wire-chat"].script = lambda asked: asked.answer(REPLIES["chat"])
        user = await house.user()
        caller = await settled(house, user)
        for _ in range(3):
            assert (await again(caller, user, "nobody's")).status == 404
        answer = await again(caller, user)
        assert (answer.status, answer.code) == (429, "too_many_refused_requests")
