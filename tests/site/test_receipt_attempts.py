"""The attempts of a request on its receipt: times and classes for everybody, the provider's own words for administrators."""

from pathlib import Path

import msgspec

from penstock.store.sql.schema import staff
from tests.service.test_routing import refusing, well
from tests.site.page_reader import Hotel, open_hotel
from tests.site.staff import member
from tests.site.test_dashboard import ANN, on_lab

SAID = "<b>The mill</b> is down until the river rises."


async def test_a_receipt_tells_the_attempts_and_whose_words_are_whose(hotel: Hotel) -> None:
    house = hotel.house
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    well(house, "chat")
    house.wires["wire-chat"].script = lambda asked: asked.answer(
        msgspec.json.encode({"error": {"message": SAID}}), 403, headers={"x-request-id": "up-77"}
    )
    await house.ask("chat", "pair-chat", user)
    well(house, "chat", "wire")
    house.clock.now += 60
    await house.ask("chat", "chat-plain", user)
    twice, once = [(await reader.get(f"/requests/{row['id']}")).text for row in await house.rows(user)]
    assert "<h2>Attempts</h2>" in twice
    assert "<h2>Attempts</h2>" not in once
    assert "It did not take our credentials." in twice
    assert ">answered<" in twice
    assert "wire-chat" in twice
    assert "mill" not in twice
    assert "up-77" not in twice
    async with house.store.database.transaction() as conn:
        role = {"role": "admin", "source": "hand", "granted_by": "", "created_at": 0}
        await conn.execute(staff.insert().values(user_id=user.id, **role))
    (first, _) = await house.rows(user)
    own = (await reader.get(f"/requests/{first['id']}")).text
    assert "403 &lt;b&gt;The mill&lt;/b&gt; is down until the river rises." in own
    assert "<code>up-77</code>" in own


async def test_where_providers_are_not_told_the_attempts_name_none(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, providers_told=False) as hotel:
        reader = await hotel.reader().join(ANN)
        user = await on_lab(hotel, reader)
        for place in ("wire", "spare"):
            hotel.house.wires[f"{place}-chat"].script = refusing(401, "no")
        await hotel.house.ask("chat", "pair-chat", user)
        page = (await reader.get(f"/requests/{(await hotel.house.row(user))['id']}")).text
    assert page.count("It did not take our credentials.") == 2
    assert "wire-chat" not in page.split("<h2>Attempts</h2>")[1]


async def test_a_providers_page_has_its_own_words_of_what_failed_for_staff_alone(hotel: Hotel) -> None:
    house = hotel.house
    owner = await member(hotel, "owner")
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    there = "/admin/providers/wire-chat"
    assert "What it said" not in (await owner.get(there)).text
    well(house, "chat")
    house.wires["wire-chat"].script = lambda asked: asked.answer(
        msgspec.json.encode({"error": {"message": SAID}}), 402
    )
    await house.ask("chat", "pair-chat", user)
    row = await house.row(user)
    await owner.get(f"/admin/requests/{row['id']}")  # what is known of attempts is written down
    await reader.get(f"/requests/{row['id']}")
    page = (await owner.get(there)).text
    words = page[page.index("What it said") :]
    assert "&lt;b&gt;The mill&lt;/b&gt; is down" in words
    assert f"/admin/requests/{row['id']}" in words
    assert ">402<" in words
    assert "The mill" not in (await owner.get("/admin/providers/sim-chat")).text, "those of another"
    assert (await reader.get(there)).status_code == 404
