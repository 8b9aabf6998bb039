"""What people change on the pages is felt by their next request to the same server, however long keys are remembered there."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.domain.accounts import accounts
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.staff import member

ANN = "ann@example.com"


@pytest.fixture
async def hotel(tmp_path: Path) -> AsyncIterator[Hotel]:
    """No poll comes in the time of a test."""
    async with open_hotel(tmp_path, cache_seconds=60.0, revision_poll=600.0) as opened:
        yield opened


async def status(hotel: Hotel, key: str) -> int:
    return (await hotel.house.http("GET", "/v1/models", key)).status


async def key_id(reader: Reader) -> str:
    (found,) = re.findall(r"/keys/(key_\w+)/show", (await reader.get("/keys")).text)
    return found


async def test_a_key_that_is_revoked_or_rolled_is_dead_at_once(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    first = await reader.key()
    assert await status(hotel, first) == 200
    page = (await reader.post(f"/keys/{await key_id(reader)}/roll", grace="0")).text
    (second,) = set(re.findall(r"sk-ps-\w{49}", page))
    assert [await status(hotel, key) for key in (first, second)] == [401, 200]
    await reader.post(f"/keys/{await key_id(reader)}/revoke")
    assert [await status(hotel, key) for key in (first, second)] == [401, 401]


async def test_an_account_that_leaves_is_out_at_once_and_back_at_once(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    key = await reader.key()
    assert await status(hotel, key) == 200
    await reader.post("/settings/leave", current=PASSWORD)
    assert await status(hotel, key) == 403
    await reader.post("/settings/stay")
    assert await status(hotel, key) == 200


async def test_what_another_process_changes_is_felt_after_the_next_commit_of_this_one(hotel: Hotel) -> None:
    """Any transaction of the server's own asks for the revision."""
    reader = await hotel.reader().join(ANN)
    key = await reader.key()
    assert await status(hotel, key) == 200
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, ANN)
        await accounts.change_user(conn, user.id, accounts.Changes(disabled=True), now=1)
    assert await status(hotel, key) == 200
    await hotel.reader().sign_in("bob@example.com")
    assert await status(hotel, key) == 403


async def test_a_verification_counts_at_once(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    key = await reader.key()
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, ANN)
        await accounts.change_user(conn, user.id, accounts.Changes(verified=False), now=1)
    assert await status(hotel, key) == 403
    asking = hotel.reader()
    await asking.post("/forgot", email=ANN)
    await hotel.posted()
    await asking.post("/reset", code=hotel.mailbox.code(ANN), password=f"{PASSWORD} anew")
    assert await status(hotel, key) == 200


async def test_a_key_gets_limits_within_its_plans(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    first = await reader.key()

    async def told() -> tuple[str, str]:
        headers = (await hotel.house.http("GET", "/v1/models", first)).headers
        return headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]

    plan = await told()
    id = await key_id(reader)
    assert (await reader.post(f"/keys/{id}/change", name="ci", daily="40", concurrent="1")).status_code == 303
    page = (await reader.get("/keys")).text
    assert "At most 40 a day." in page
    assert "At most 1 at once." in page
    assert await told() == ("40", "40")
    for wrong in (
        {"daily": "0"},
        {"daily": "99999999"},
        {"concurrent": "x"},
        {"concurrent": "-1"},
        {"daily": "1.5"},
    ):
        refused = await reader.post("/keys", name="no", **wrong)
        assert refused.status_code == 400, wrong
        assert "limit" in refused.text
    assert (await reader.post(f"/keys/{id}/change", name="ci", daily="", concurrent="")).status_code == 303
    assert "At most" not in (await reader.get("/keys")).text
    assert await told() == plan


async def test_whoever_changes_the_catalogue_sees_it_as_it_is_now(hotel: Hotel) -> None:
    """On the page that follows the change: a plan as it was before would be saved again as it was before."""
    owner = await member(hotel, "owner")
    form = {"name": "Free", "daily_requests": "77", "concurrent_requests": "1", "queue_seconds": "0"}
    preview = await owner.post("/admin/plans/free/change", **form, **{"model-claude-haiku-4.5": "on"})
    fields = dict(re.findall(r'name="(text|seen|back)" value="([^"]*)"', preview.text))
    done = await owner.post("/admin/catalog/apply", **{**fields, "text": html.unescape(fields["text"])})
    assert 'value="77"' in (await owner.get(done.headers["location"])).text
    assert ">77<" in (await owner.get("/admin/plans")).text

    wire = hotel.house.wires["wire-chat"]
    wire.script = lambda asked: asked.answer(b'{"data": [{"id": "rye"}]}')
    mill = {
        "kind": "custom",
        "id": "mill",
        "url": f"http://127.0.0.1:{wire.port}/v1",
        "secret": "a-key-of-the-mill",
    }
    done = await owner.post("/admin/providers/new", **mill)
    page = (await owner.get(done.headers["location"])).text
    assert ">unused<" in page
    assert "no secret" not in page
    await owner.post("/admin/models/remove", id="claude-haiku-4.5")
    assert (await owner.get("/admin/models/claude-haiku-4.5")).status_code == 404
