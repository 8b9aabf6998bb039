"""Who asks with an address learns nothing of whether it has an account, and of what kind: the answers are the same."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from penstock.domain.accounts import accounts
from tests.site.page_reader import Hotel, Reader, open_hotel
from tests.site.test_sign_in import switch_on

OTHER = "another long sentence"
KNOWN = ("ann", "una", "dan", "lea", "fay")
"""Those who have an account: verified, not verified, disabled, leaving, and with a second factor."""
UNKNOWN = "new"
Way = Callable[[Hotel, Reader, str], Awaitable[list[httpx2.Response]]]


@pytest.fixture
async def hotel(tmp_path: Path) -> AsyncGenerator[Hotel]:
    generous = dict.fromkeys(("sign_in_tries", "sign_in_tries_network", "sign_ups_network"), 10_000)
    async with open_hotel(tmp_path, **generous) as opened:
        yield opened


def address(name: str) -> str:
    """All of one length, so that the sizes of pages are compared too."""
    return f"{name}@example.com"


async def accounts_of_each_kind(hotel: Hotel) -> None:
    for name in KNOWN:
        hotel.house.clock.now += 3600
        reader = hotel.reader()
        if name == "una":
            await reader.sign_up(address(name))
            continue
        await reader.join(address(name))
        if name == "fay":
            await switch_on(reader, hotel)
    async with hotel.house.store.database.transaction() as conn:
        dan = await accounts.user_by_email(conn, address("dan"))
        await accounts.change_user(conn, dan.id, accounts.Changes(disabled=True), now=1)
        lea = await accounts.user_by_email(conn, address("lea"))
        await accounts.set_leaving(conn, lea.id, int(hotel.house.clock.now * 1000))
    hotel.house.clock.now += 86_400


def told(answer: httpx2.Response, name: str) -> tuple[int, list[tuple[str, str]], str]:
    """Status, headers and page, but for the address itself and what is another in each browser."""
    headers = [
        (key, re.sub(r"penstock=[^;]+", "penstock=X", value))
        for key, value in answer.headers.multi_items()
        if key != "date"
    ]
    text = re.sub(r"\"[0-9a-f]{32}\"", "X", answer.text).replace(address(name), "ADDRESS")
    return answer.status_code, headers, text


async def coming_in(hotel: Hotel, reader: Reader, email: str) -> list[httpx2.Response]:
    return [await reader.post("/signin", email=email, password=OTHER)]


async def signing_up(hotel: Hotel, reader: Reader, email: str) -> list[httpx2.Response]:
    return [
        await reader.post("/signup", email=email, password=OTHER),
        await reader.get("/verify"),
        await reader.post("/verify/resend"),
        await reader.post("/verify", code="123456"),
        await reader.post("/verify", code="x"),
        await reader.post("/signup", email=email, password=OTHER),
        await reader.get("/verify"),
    ]


async def forgetting(hotel: Hotel, reader: Reader, email: str) -> list[httpx2.Response]:
    return [
        await reader.post("/forgot", email=email),
        await reader.get("/reset"),
        await reader.post("/reset/resend"),
        await reader.post("/reset", code="123456", password=OTHER),
        await reader.post("/reset", code="x", password=OTHER),
        await reader.post("/reset", code="123456", password="x"),
        await reader.post("/forgot", email=email),
        await reader.get("/reset"),
    ]


@pytest.mark.parametrize("way", [coming_in, signing_up, forgetting])
async def test_known_and_unknown_addresses_are_answered_alike(hotel: Hotel, way: Way) -> None:
    await accounts_of_each_kind(hotel)
    expected = None
    for name in (UNKNOWN, *KNOWN):
        reader = hotel.reader()
        await reader.get("/signin")
        answers = [told(answer, name) for answer in await way(hotel, reader, address(name))]
        assert all(status in {200, 303, 400, 429} for status, _, _ in answers), (name, answers)
        assert expected is None or answers == expected, name
        expected = answers


async def test_a_code_page_waits_as_long_for_each(hotel: Hotel) -> None:
    """Another code may be asked for after the same time, and so many times, whoever is asked for."""
    await accounts_of_each_kind(hotel)
    start, told_of = hotel.house.clock.now, list[list[tuple[int, str | None, str | None]]]()
    for name in (UNKNOWN, *KNOWN):
        hotel.house.clock.now = start
        reader = hotel.reader()
        await reader.post("/forgot", email=address(name))
        await reader.post("/signup", email=address(name), password=OTHER)
        found = []
        for path in ("/reset/resend", "/verify/resend") * 5:
            hotel.house.clock.now += 40
            answer = await reader.post(path)
            found.append(
                (answer.status_code, answer.headers.get("location"), answer.headers.get("retry-after"))
            )
        told_of.append(found)
    assert all(found == told_of[0] for found in told_of[1:]), told_of
