"""The first key: in clear where the address of a new account was just verified, and elsewhere after the password."""

import re

import httpx2

from penstock.domain.accounts import accounts
from tests.site.page_reader import COOKIE, PASSWORD, Hotel, Reader

ANN = "ann@example.com"
PERMIT = "penstock_first_key"


def shown(answer: httpx2.Response) -> bool:
    assert answer.status_code == 200
    return re.search(r"sk-ps-\w{49}", answer.text) is not None


async def shown_to(reader: Reader) -> bool:
    return shown(await reader.get("/welcome"))


async def test_the_first_key_is_shown_for_minutes_where_the_address_was_verified(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    assert await shown_to(reader)
    hotel.house.clock.now += 599
    assert await shown_to(reader)
    hotel.house.clock.now += 1
    page = await reader.get("/welcome")
    assert not shown(page)
    assert "after your password" in page.text
    assert "sk-ps-YOUR-KEY" in page.text


async def test_another_browser_of_the_account_is_not_shown_it(hotel: Hotel) -> None:
    first = await hotel.reader().join(ANN)
    other = hotel.reader()
    await other.sign_in(ANN)
    assert not await shown_to(other)
    other.http.cookies.set(PERMIT, first.http.cookies.get(PERMIT) or "", path="/welcome")
    assert not await shown_to(other), "it is of use to one session"
    await first.post("/signout")
    await first.sign_in(ANN)
    assert not await shown_to(first), "a new session, and so the password"


async def test_a_permit_of_one_account_is_none_for_another(hotel: Hotel) -> None:
    stranger, victim = await hotel.reader().join("bob@example.com"), await hotel.reader().join(ANN)
    permit = stranger.http.cookies.get(PERMIT) or ""
    assert permit
    session = hotel.reader()
    for forged in ("", "x", "A" * 80, "é", permit, permit[:-2] + "AA"):
        cookie = f"{COOKIE}={victim.token}; {PERMIT}={forged}".encode()
        page = await session.get("/welcome", headers={b"cookie": cookie})
        assert not shown(page)


async def test_that_it_was_shown_is_noted_once_for_the_owner(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    assert "key shown" not in (await reader.get("/settings")).text
    for _ in range(5):
        await reader.get("/welcome")
    assert (await reader.get("/settings")).text.count("key shown") == 1


async def test_who_verifies_an_old_account_is_not_shown_its_key(hotel: Hotel) -> None:
    """An operator took the verification back: it is not a new account, and its key may be in use."""
    await hotel.reader().join(ANN)
    hotel.house.clock.now += 86_401
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, ANN)
        await accounts.change_user(conn, user.id, accounts.Changes(verified=False), now=1)
    reader = hotel.reader()
    assert (await reader.sign_in(ANN)).headers["location"] == "/verify"
    await hotel.posted()
    await reader.post("/verify", code=hotel.mailbox.code(ANN))
    assert not await shown_to(reader)


async def test_a_new_password_by_mail_shows_no_key(hotel: Hotel) -> None:
    await hotel.reader().sign_up(ANN)
    hotel.house.clock.now += 61
    reader = hotel.reader()
    await reader.post("/forgot", email=ANN)
    await hotel.posted()
    await reader.post("/reset", code=hotel.mailbox.code(ANN), password=PASSWORD)
    assert await reader.is_in()
    assert not await shown_to(reader)


async def test_the_cookie_that_allows_it_is_closed_to_scripts_and_other_pages(hotel: Hotel) -> None:
    reader = hotel.reader()
    await reader.sign_up(ANN)
    answer = await reader.post("/verify", code=hotel.mailbox.code(ANN))
    (cookie,) = (line for line in answer.headers.get_list("set-cookie") if line.startswith(PERMIT))
    assert "HttpOnly" in cookie
    assert "Path=/welcome" in cookie
    assert "Max-Age=600" in cookie
    assert "samesite=lax" in cookie.lower()
