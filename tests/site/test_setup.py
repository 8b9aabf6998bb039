"""The set-up link: of many who use it one is first, and it leads to an owner with a password of their own."""

import asyncio
import secrets

from sqlalchemy import func, select, update

from penstock.domain.staff import setup_link
from penstock.domain.trail.entries import SYSTEM
from penstock.store.sql.schema import setup_links, staff, trail, users
from tests.service.running_service import MORNING
from tests.site.page_reader import PASSWORD, Hotel
from tests.site.staff import member

NOW = int(MORNING * 1000)


async def link(hotel: Hotel, now: int = NOW) -> str:
    async with hotel.house.store.database.transaction() as conn:
        return await setup_link.new_link(conn, SYSTEM, now=now, entropy=secrets.token_bytes)


async def test_the_link_signs_the_owner_in_with_a_password_of_their_own(hotel: Hotel) -> None:
    token = await link(hotel)
    reader = hotel.reader()
    assert "Become the owner" in (await reader.get("/setup")).text
    answer = await reader.post("/setup", code=token, email="root@example.com", password=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin")
    assert (await reader.get("/admin")).status_code == 200
    again = hotel.reader()
    assert (await again.sign_in("root@example.com")).status_code == 303
    assert (await again.get("/admin")).status_code == 200
    async with hotel.house.store.database.connect() as conn:
        told = str((await conn.execute(select(trail))).all())
        assert (await conn.execute(select(staff.c.role))).scalars().all() == ["owner"]
    assert token not in told
    assert "owner_made" in told


async def test_case_1_of_fifty_claims_at_once_one_wins(hotel: Hotel) -> None:
    token = await link(hotel)
    readers = [hotel.reader(f"198.51.100.{number}") for number in range(50)]
    for reader in readers:
        await reader.get("/setup")
    answers = await asyncio.gather(
        *(
            reader.post("/setup", code=token, email=f"root{number}@example.com", password=PASSWORD)
            for number, reader in enumerate(readers)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [303, *[410] * 49]
    async with hotel.house.store.database.connect() as conn:
        assert await conn.scalar(select(func.count()).select_from(staff)) == 1
        owners = await conn.scalars(select(users.c.email).where(users.c.email.like("root%")))
        assert len(list(owners)) == 1


async def test_case_1_after_half_an_hour_it_is_gone(hotel: Hotel) -> None:
    token = await link(hotel)
    async with hotel.house.store.database.transaction() as conn:
        await conn.execute(update(setup_links).values(expires_at=NOW))
    answer = await hotel.reader().post("/setup", code=token, email="root@example.com", password=PASSWORD)
    assert answer.status_code == 410
    assert "penstock setup-link" in answer.text


async def test_a_bad_address_or_password_uses_no_link(hotel: Hotel) -> None:
    token = await link(hotel)
    reader = hotel.reader()
    for email, password in (
        ("root", PASSWORD),
        ("root@example.com", "short"),
        ("demo@penstock.localhost", PASSWORD),
    ):
        answer = await reader.post("/setup", code=token, email=email, password=password)
        assert answer.status_code == 400, (email, answer.text)
    answer = await reader.post("/setup", code=token, email="root@example.com", password=PASSWORD)
    assert answer.status_code == 303


async def test_there_is_none_where_there_is_an_owner(hotel: Hotel) -> None:
    token = await link(hotel)
    await member(hotel, "owner")
    answer = await hotel.reader().post("/setup", code=token, email="root@example.com", password=PASSWORD)
    assert answer.status_code == 410


async def test_somebody_who_has_an_account_becomes_the_owner_with_the_new_password(hotel: Hotel) -> None:
    before = await hotel.reader().join("ann@example.com")
    token = await link(hotel)
    reader = hotel.reader()
    answer = await reader.post(
        "/setup", code=token, email="ann@example.com", password="quite another sentence"
    )
    assert answer.status_code == 303
    assert not await before.is_in(), "whoever was signed in is signed out"
    assert (await hotel.reader().sign_in("ann@example.com", "quite another sentence")).status_code == 303
