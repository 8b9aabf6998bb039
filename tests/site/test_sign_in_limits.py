"""Limits of sign-up, sign-in and codes: what is past one costs no work, and a stranger uses up nobody else's."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.domain.test_password_hasher import Held, come
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.test_sign_in import switch_on

ANN = "ann@example.com"
OTHER = "another long sentence"


async def made_by(hotel: Hotel, reader: Reader, path: str, **fields: str) -> tuple[int, int]:
    """The status of a form's answer, and how many hashes it cost."""
    before = hotel.hasher.made
    answer = await reader.post(path, **fields)
    return answer.status_code, hotel.hasher.made - before


# ---- limits before work


async def test_a_sign_up_past_its_networks_limit_costs_no_hash(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, sign_ups_network=2) as hotel:
        stranger = hotel.reader("198.51.100.1")
        done = [
            await made_by(hotel, stranger, "/signup", email=f"new{n}@example.com", password=PASSWORD)
            for n in range(4)
        ]
        assert done == [(303, 1), (303, 1), (429, 0), (429, 0)]
        other = hotel.reader("203.0.113.5")
        assert await made_by(hotel, other, "/signup", email=ANN, password=PASSWORD) == (303, 1)


@pytest.mark.parametrize("limit", ["codes_network", "codes_all"])
async def test_a_sign_up_past_a_limit_of_codes_costs_no_hash(tmp_path: Path, limit: str) -> None:
    async with open_hotel(tmp_path, **{limit: 1}) as hotel:
        stranger = hotel.reader()
        assert await made_by(hotel, stranger, "/signup", email=ANN, password=PASSWORD) == (303, 1)
        other = await made_by(hotel, stranger, "/signup", email="bob@example.com", password=PASSWORD)
        assert other == (429, 0)


async def test_a_second_sign_up_in_the_same_minute_costs_no_hash(hotel: Hotel) -> None:
    stranger = hotel.reader()
    assert await made_by(hotel, stranger, "/signup", email=ANN, password=PASSWORD) == (303, 1)
    assert await made_by(hotel, stranger, "/signup", email=ANN, password=PASSWORD) == (429, 0)


async def test_a_reset_with_a_wrong_code_or_too_many_costs_no_hash(hotel: Hotel) -> None:
    await hotel.reader().join(ANN)
    hotel.house.clock.now += 61
    reader = hotel.reader()
    await reader.post("/forgot", email=ANN)
    await hotel.posted()
    right = hotel.mailbox.code(ANN)
    wrong = f"{(int(right) + 1) % 1_000_000:06d}"
    for _ in range(5):
        assert await made_by(hotel, reader, "/reset", code=wrong, password=OTHER) == (400, 0)
    assert await made_by(hotel, reader, "/reset", code=right, password=OTHER) == (400, 0)
    hotel.house.clock.now += 61
    await reader.post("/reset/resend")
    await hotel.posted()
    right = hotel.mailbox.code(ANN)
    assert await made_by(hotel, reader, "/reset", code=right, password=OTHER) == (303, 1)


async def test_who_is_signed_in_has_a_bound_of_password_checks_too(tmp_path: Path) -> None:
    """The right password as well: each takes a hash, and by a change of it two."""
    async with open_hotel(tmp_path, sign_in_tries_network=3) as hotel:
        owner = await hotel.reader().join(ANN)
        forms = {"current": PASSWORD, "password": PASSWORD}
        done = [await made_by(hotel, owner, "/settings/password", **forms) for _ in range(4)]
        assert done == [(303, 2), (303, 2), (303, 2), (429, 0)]
        assert (await made_by(hotel, owner, "/settings/leave", current=PASSWORD))[1] == 0


async def test_what_the_hasher_has_no_room_for_is_not_counted(tmp_path: Path) -> None:
    """A person who is asked to come again in two seconds can."""
    async with open_hotel(
        tmp_path, sign_ups_network=1, sign_in_tries=1, passwords_at_once=1, passwords_waiting=1
    ) as hotel:
        hasher = hotel.hasher
        hasher._hash = slow = Held(hasher)
        full = [come(hasher, f"other {n}", f"198.51.100.{n}") for n in range(2)]
        reader = hotel.reader()
        assert (await reader.post("/signup", email=ANN, password=PASSWORD)).status_code == 503
        assert (await reader.sign_in(ANN)).status_code == 503
        slow.let_go.set()
        await asyncio.gather(*full)
        assert (await reader.sign_in(ANN)).status_code == 400
        await reader.join(ANN)


async def test_people_sign_in_beside_a_network_that_floods(tmp_path: Path) -> None:
    """Forty sign-ups at a time from one network, with the places of two."""
    async with open_hotel(tmp_path, passwords_at_once=1, passwords_waiting=4) as hotel:
        await hotel.reader("203.0.113.5").join(ANN)
        crowd = hotel.reader("198.51.100.1")
        await crowd.get("/signin")
        flood = [
            asyncio.create_task(crowd.post("/signup", email=f"new{n}@example.com", password=PASSWORD))
            for n in range(40)
        ]
        for n in range(5):
            answer = await hotel.reader(f"203.0.113.{n}").sign_in(ANN)
            assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
        statuses = {answer.status_code for answer in await asyncio.gather(*flood)}
        assert statuses <= {303, 429, 503}


async def test_a_code_that_is_sent_twice_at_once_sets_one_password(hotel: Hotel) -> None:
    await hotel.reader().join(ANN)
    hotel.house.clock.now += 61
    reader = hotel.reader()
    await reader.post("/forgot", email=ANN)
    await hotel.posted()
    code = hotel.mailbox.code(ANN)
    answers = await asyncio.gather(*(reader.post("/reset", code=code, password=OTHER) for _ in range(3)))
    places = [answer.headers.get("location", "") for answer in answers]
    assert sum(place.startswith("/dashboard") for place in places) == 1
    for answer, place in zip(answers, places, strict=True):  # one that came last finds no code any more
        assert answer.status_code == 400 or place.startswith(("/dashboard", "/forgot"))


# ---- no lockout by strangers


async def guesses(hotel: Hotel, networks: list[str], *, path: str = "/forgot", codes: int = 2) -> None:
    """Strangers, one in each network, ask for codes for Ann's address and guess."""
    for network in networks:
        stranger = hotel.reader(network)
        for _ in range(codes):
            await stranger.post(path, email=ANN, password=OTHER)
            for _ in range(5):
                await stranger.post(
                    "/reset" if path == "/forgot" else "/verify", code="123456", password=OTHER
                )
            hotel.house.clock.now += 61


@pytest.mark.parametrize("networks", [["198.51.100.1"], ["203.0.113.5"], ["198.51.100.1", "198.51.100.2"]])
async def test_an_owner_has_a_new_password_beside_strangers_who_guess(
    hotel: Hotel, networks: list[str]
) -> None:
    await hotel.reader("192.0.2.1").join(ANN)
    hotel.house.clock.now += 61
    owner = hotel.reader("203.0.113.5")
    await guesses(hotel, networks)
    assert (await owner.post("/forgot", email=ANN)).headers["location"] == "/reset"
    await hotel.posted()
    code = hotel.mailbox.code(ANN)
    await guesses(hotel, networks, codes=1)
    assert (await owner.post("/reset", code=code, password=OTHER)).status_code == 303
    assert await owner.is_in()


async def test_a_new_person_signs_up_beside_a_stranger_who_does_so_in_their_name(hotel: Hotel) -> None:
    await guesses(hotel, ["198.51.100.1"], path="/signup", codes=8)
    owner = await hotel.reader("203.0.113.5").join(ANN)
    assert await owner.is_in()


async def test_an_address_is_changed_beside_a_stranger_who_asks_for_the_new_one(hotel: Hotel) -> None:
    owner = await hotel.reader("203.0.113.5").join("bob@example.com")
    await guesses(hotel, ["198.51.100.1"], codes=8)
    await owner.post("/settings/email", current=PASSWORD, email=ANN)
    await hotel.posted()
    answer = await owner.post("/settings/email/code", code=hotel.mailbox.code(ANN))
    assert answer.status_code == 303


async def test_signing_in_elsewhere_before_the_code_is_not_kept_from_its_mail(hotel: Hotel) -> None:
    await hotel.reader("203.0.113.5").sign_up(ANN)
    hotel.house.clock.now += 61
    await guesses(hotel, ["198.51.100.1"], codes=8)
    other = hotel.reader("203.0.113.6")
    assert (await other.sign_in(ANN)).headers["location"] == "/verify"
    await hotel.posted()
    answer = await other.post("/verify", code=hotel.mailbox.code(ANN))
    assert answer.headers["location"] == "/welcome"


# ---- too often is told as that


async def test_too_many_codes_of_the_second_factor_are_429_and_say_when(hotel: Hotel) -> None:
    await switch_on(await hotel.reader().join(ANN), hotel)
    thief = hotel.reader("198.51.100.1")
    await thief.sign_in(ANN)
    answers = [await thief.post("/signin/code", code="123456") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [400] * 10 + [429] * 2
    assert "retry-after" not in answers[0].headers
    assert 0 < int(answers[-1].headers["retry-after"]) <= 900


async def test_every_page_that_refuses_too_many_tries_says_when(hotel: Hotel) -> None:
    """Settings, keys and the code for another address, as well as the pages of sign-in."""
    owner = await hotel.reader().join(ANN)
    id = re.search(r"/keys/(key_\w+)/show", (await owner.get("/keys")).text)
    assert id is not None
    for _ in range(8):
        await owner.post("/settings/leave", current="no")
    for path, fields in (
        ("/settings/leave", {"current": PASSWORD}),
        ("/settings/factor", {"current": PASSWORD}),
        (f"/keys/{id[1]}/show", {"password": PASSWORD}),
    ):
        answer = await owner.post(path, **fields)
        assert answer.status_code == 429, path
        assert int(answer.headers["retry-after"]) > 0
        assert "no-store" in answer.headers["cache-control"]
        assert "private" in answer.headers["cache-control"]
    hotel.house.clock.now += 900
    await owner.post("/settings/email", current=PASSWORD, email="ann@example.net")
    again = await owner.post("/settings/email/code/resend")
    assert (again.status_code, "retry-after" in again.headers) == (429, True)


async def test_a_full_hasher_is_503_where_a_key_is_shown_too(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, passwords_at_once=1, passwords_waiting=1) as hotel:
        owner = await hotel.reader().join(ANN)
        id = re.search(r"/keys/(key_\w+)/show", (await owner.get("/keys")).text)
        assert id is not None
        hotel.hasher._hash = slow = Held(hotel.hasher)
        full = [come(hotel.hasher, f"other {n}", f"198.51.100.{n}") for n in range(2)]
        answer = await owner.post(f"/keys/{id[1]}/show", password=PASSWORD)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "API keys" in answer.text
        slow.let_go.set()
        await asyncio.gather(*full)
