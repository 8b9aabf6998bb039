"""Keys as their owner works with them: changed in place, bounded to models that there are, ended ones out of the way."""

import re
from pathlib import Path

import pytest

from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.domain.keys import management
from penstock.domain.keys.management import KeyRow
from penstock.providers.table import KINDS
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.test_dashboard import ANN, on_lab


async def keys_of(hotel: Hotel, user_id: str) -> dict[str, KeyRow]:
    async with hotel.house.store.database.connect() as conn:
        return {row.name: row for row in await management.list_keys(conn, user_id)}


async def id_of(reader: Reader, name: str) -> str:
    """The id of the key that is called so."""
    page = (await reader.get("/keys")).text
    found = re.search(r"/keys/(key_\w+)/change", page[page.index(f"Key {name}") :])
    assert found is not None
    return found[1]


async def test_a_key_is_renamed_and_bounded_and_freed_again(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    id = (await keys_of(hotel, user.id))["default"].id
    answer = await reader.post(
        f"/keys/{id}/change",
        None,
        **{
            "name": "laptop",
            "model:chat-plain": "on",
            "model:messages-plain": "on",
            "addresses": "127.0.0.1, 10.0.0.0/8",
            "expires": "2027-03-01",
        },
    )
    assert answer.headers["location"] == "/keys?notice=key-changed"
    row = (await keys_of(hotel, user.id))["laptop"]
    assert set(row.models or ()) == {"chat-plain", "messages-plain"}
    assert row.addresses == ("127.0.0.1", "10.0.0.0/8")
    assert row.expires_at == 1_803_859_200_000
    assert (await hotel.house.ask("chat", "chat-plain", user)).status == 200
    assert (await hotel.house.ask("chat", "chat-thinking", user)).code == "model_not_on_plan"
    page = (await reader.get("/keys")).text
    for said in ('value="laptop"', 'value="2027-03-01"', 'value="127.0.0.1 10.0.0.0/8"'):
        assert said in page, said
    assert re.search(r'name="model:chat-plain" checked', page)
    await reader.post(f"/keys/{id}/change", name="laptop")
    row = (await keys_of(hotel, user.id))["laptop"]
    assert (row.models, row.addresses, row.expires_at) == (None, None, None)
    assert (await hotel.house.ask("chat", "chat-thinking", user)).status == 200
    assert "key changed" in (await reader.get("/settings")).text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "laptop", "model:claude-haiku-4.5": "on", "model:nope": "on"}, "has no model nope"),
        ({"name": "laptop", "models": "claude-haiku-4.5 nope"}, "has no model nope"),
        ({"name": "laptop", "model:claude-opus-4.6": "on"}, "has no model claude-opus-4.6"),
        ({"name": "laptop", "addresses": "here"}, "is not an IP address"),
        ({"name": "laptop", "expires": "2020-01-01"}, "lies in the future"),
        ({"name": "x" * 101}, "1 to 100"),
        ({"name": "other"}, "already"),
    ],
)
async def test_what_a_key_cannot_be_changed_to_or_made_as(
    hotel: Hotel, fields: dict[str, str], said: str
) -> None:
    reader = await hotel.reader().join(ANN)
    await reader.post("/keys", name="other")
    id = await id_of(reader, "default")
    for path in (f"/keys/{id}/change", "/keys"):
        answer = await reader.post(path, None, **fields)
        assert answer.status_code == 400, path
        assert said in answer.text, path
    assert 'value="default"' in answer.text, "nothing has changed"
    assert f'value="{fields["name"][:100]}' in answer.text, "what was filled in is still there"


async def test_the_snippet_names_a_model_that_the_key_may_use(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    await on_lab(hotel, reader)
    page = (await reader.post("/keys", None, **{"name": "one", "model:messages-plain": "on"})).text
    made = page[page.index('class="card marked"') :]
    commands = made[: made.index("</section>")]
    assert "messages-plain" in commands
    assert "claude-" not in commands.replace("Claude Code", "").replace("claude</code>", "").replace(
        "\nclaude", ""
    )


async def test_a_model_that_left_the_plan_stays_in_the_list_of_a_key(hotel: Hotel) -> None:
    async with hotel.house.store.database.transaction() as conn:
        both = Plan("mixed", "Mixed", 10, 1, ("chat-plain", "messages-plain"))
        await catalog_store.apply_document(conn, CatalogDocument((), (), (both,)), KINDS, 1)
    await hotel.house.restart()
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader, plan="mixed")
    await reader.post("/keys", None, **{"name": "one", "model:messages-plain": "on"})
    async with hotel.house.store.database.transaction() as conn:
        less = Plan("mixed", "Mixed", 10, 1, ("chat-plain",))
        await catalog_store.apply_document(conn, CatalogDocument((), (), (less,)), KINDS, 2)
    await hotel.house.restart()
    reader = hotel.reader()
    await reader.sign_in(ANN)
    page = (await reader.get("/keys")).text
    assert "not served" in page
    id = (await keys_of(hotel, user.id))["one"].id
    await reader.post(f"/keys/{id}/change", None, **{"name": "two", "model:messages-plain": "on"})
    assert (await keys_of(hotel, user.id))["two"].models == ("messages-plain",)


async def test_ended_keys_are_shown_where_they_are_asked_for(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    await reader.post("/keys", name="gone")
    id = await id_of(reader, "gone")
    await reader.post(f"/keys/{id}/revoke")
    page = (await reader.get("/keys")).text
    assert "Key gone" not in page
    assert "Show 1 that no longer work" in page
    ended = (await reader.get("/keys?ended=yes")).text
    assert "Key gone" in ended
    assert "revoked" in ended
    assert (await reader.post(f"/keys/{id}/change", name="back")).status_code == 400


async def test_the_playground_leaves_no_keys_behind(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    key = [(await reader.post("/playground/key")).text for _ in range(3)][-1]
    await hotel.house.ask("chat", "chat-plain", type(user)(user.id, user.email, key))
    await hotel.house.rows(user)
    for path in ("/keys", "/keys?ended=yes"):
        page = (await reader.get(path)).text
        assert "Playground " not in page, path
    log = (await reader.get("/requests")).text
    assert "Playground" in log
    assert "Playground</option>" not in log


async def test_the_playground_is_one_key_and_none_of_the_number_that_one_may_have(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    for number in range(management.MAX_KEYS - 1):
        await hotel.house.key(user.id, management.KeyWish(f"mine {number}"))
    first, second = [(await reader.post("/playground/key")).text for _ in range(2)]
    hotel.house.clock.now += 4000
    third = (await reader.post("/playground/key")).text
    assert [(await hotel.house.http("GET", "/v1/models", key)).status for key in (first, second, third)] == [
        401,
        401,
        200,
    ]
    async with hotel.house.store.database.connect() as conn:
        keys = await management.list_keys(conn, user.id)
    assert len([key for key in keys if key.of_playground]) == 1
    assert len(keys) == management.MAX_KEYS + 1
    refused = await reader.post("/keys", name="one too many")
    assert refused.status_code == 400


async def test_a_key_of_others_is_not_changed(hotel: Hotel) -> None:
    ann, bob = await hotel.reader().join(ANN), await hotel.reader().join("bob@example.com")
    (id,) = re.findall(r"/keys/(key_\w+)/change", (await ann.get("/keys")).text)
    answer = await bob.post(f"/keys/{id}/change", name="mine")
    assert answer.status_code == 400
    assert "no key" in answer.text
    assert 'value="default"' in (await ann.get("/keys")).text


async def test_a_wrong_password_leaves_the_part_of_the_key_open(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    (id,) = re.findall(r"/keys/(key_\w+)/show", (await reader.get("/keys")).text)
    page = (await reader.post(f"/keys/{id}/show", password="not it")).text
    assert '<details class="more" open>' in page
    assert re.search(r"sk-ps-\w{49}", (await reader.post(f"/keys/{id}/show", password=PASSWORD)).text)


async def test_times_of_keys_are_told_from_now(tmp_path: Path) -> None:
    async with open_hotel(tmp_path) as hotel:
        reader: Reader = await hotel.reader().join(ANN)
        assert re.search(r"Made <span [^>]*>just now", (await reader.get("/keys")).text)
        hotel.house.clock.now += 7200
        page = (await reader.get("/keys")).text
        assert "2 h ago" in page
        assert "2027-01-15 08:00 UTC" in page
