"""Models that end: their answers say so ahead, and from the day on a 404 names what follows, whatever was decided before."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import CatalogError, check, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.providers.table import KINDS
from tests.service.conversations import DIALECTS, PATHS
from tests.service.running_service import House
from tests.service.scripted import PATIENCE
from tests.service.test_choice import add_rows, at
from tests.service.test_routing import relay_of, well

both = pytest.mark.parametrize("dialect", DIALECTS)
NATIVE = {"x-error-format": "native"}
END = {
    "deprecation": "@1798848000",  # 2027-01-02
    "sunset": "Mon, 01 Feb 2027 00:00:00 GMT",
    "link": '</api/v1/models/new/one>; rel="successor-version"',
    "x-penstock-successor": "new/one",
}
DAY = 86_400.0


async def ending_house(house: House, dialect: str, **more: Any) -> None:
    """A house with a model that ends on 2027-02-01, in 17 days, and the one that follows."""
    fields = {"sunset": "2027-02-01", "successor": "new/one", **more}
    old = at("old", "wire", dialect=dialect, aliases=("old-alias", "old-2*"), **fields)
    house.settings = replace(house.settings, revision_poll=0.02)
    await add_rows(house, old, at("new/one", "spare", dialect=dialect))
    for place in ("wire", "spare"):
        well(house, dialect, place)


async def until_served(house: House, *, served: bool) -> None:
    """The service has looked at the catalogue again."""
    async with asyncio.timeout(PATIENCE):
        while ("old" in relay_of(house).router._catalog().models) != served:  # noqa: ASYNC110 - a round that tells nobody
            await asyncio.sleep(0.01)


@both
async def test_case_31_the_end_is_told_on_answers_and_is_a_404_that_names_the_successor(
    house: House, dialect: str
) -> None:
    await ending_house(house, dialect)
    user = await house.user()
    before = await house.ask(dialect, "old", user)
    assert (before.status, {name: before.headers.get(name) for name in END}) == (200, END)
    assert "sunset" not in (await house.ask(dialect, "new/one", user)).headers
    shown = (await house.http("GET", "/api/v1/models/old", user.key)).json
    assert (shown["lifecycle"], shown["retires_at"]) == ("deprecated", "2027-02-01T00:00:00Z")
    house.clock.now += 17 * DAY
    await until_served(house, served=False)
    asked = house.asked
    for name in ("old", "old-alias", "old-2026"):
        for stream in (False, True):
            gone = await house.ask(dialect, name, user, stream=stream, headers=NATIVE)
            assert gone.status == 404
            error = gone.json["error"]
            assert error["message"] == "old is served no more since 2027-02-01. new/one takes its place."
            assert error["type"] == "not_found_error"
            if dialect == "messages":
                assert gone.json["type"] == "error"
            assert all(gone.headers[it] == END[it] for it in END if it != "link")
            assert END["link"] in gone.headers["link"]
    plain = await house.ask(dialect, "old", user)
    assert plain.json["error"].endswith("new/one takes its place.")
    assert plain.code == "model_not_found"
    assert house.asked == asked
    one = await house.http("GET", "/api/v1/models/old", user.key)
    assert (one.status, one.headers["x-penstock-successor"]) == (404, "new/one")
    listed = [it["id"] for it in (await house.http("GET", "/api/v1/models", user.key)).json["data"]]
    assert "old" not in listed
    assert "new/one" in listed
    if dialect == "messages":
        counted = await house.http(
            "POST",
            f"{PATHS[dialect]}/count_tokens",
            user.key,
            body=b'{"model":"old","messages":[{"role":"user","content":"x"}]}',
        )
        assert counted.status == 404
    assert (await house.page("/models/old")).status == 404
    # the end is taken back
    async with house.store.database.transaction() as conn:
        document = await catalog_store.load_document(conn, KINDS)
        kept = [replace(it, sunset="") if it.id == "old" else it for it in document.models]
        await catalog_store.apply_document(conn, replace(document, models=tuple(kept)), KINDS, 3)
    await until_served(house, served=True)
    assert (await house.ask(dialect, "old", user)).status == 200


async def test_case_31_it_is_on_the_status_page_and_in_its_feed(house: House) -> None:
    await ending_house(house, "chat")
    page = (await house.page("/status")).body.decode()
    assert "<code>old</code> on 2027-02-01 (UTC)" in page
    feed = await house.page("/status.atom")
    assert feed.headers["content-type"].startswith("application/atom+xml")
    text = feed.body.decode()
    assert "<title>old ends on 2027-02-01</title>" in text
    assert "<updated>2027-01-02T00:00:00Z</updated>" in text
    assert "new/one takes its place." in text
    told = (await house.page("/status.json")).json["endings"]
    assert [(it["model"], it["day"], it["successor"]) for it in told] == [("old", "2027-02-01", "new/one")]
    assert "ends on 2027-02-01" in (await house.page("/models")).body.decode()
    house.clock.now -= 20 * DAY
    assert "old" not in (await house.page("/status.atom")).body.decode(), "the notice has not begun"


TEXT = """
[[provider]]
id = "openai"
[[model]]
id = "old"
targets = [{ provider = "openai", model = "x" }]
sunset = 2027-02-01
successor = "new"
[[model]]
id = "new"
targets = [{ provider = "openai", model = "y" }]
"""


def test_an_end_is_written_and_read_and_what_is_wrong_in_it_is_named() -> None:
    document = parse(TEXT, KINDS)
    assert (document.models[0].sunset, document.models[0].successor) == ("2027-02-01", "new")
    assert parse(dump(document), KINDS) == document
    with pytest.raises(CatalogError, match=r"model\[0\].*sunset"):
        parse(TEXT.replace("2027-02-01", '"soon"'), KINDS)
    for wrong, said in (
        ('successor = "neww"', 'model[0].successor: unknown model "neww"; did you mean "new"?'),
        ('successor = "old"', "model[0].successor: a model does not follow itself"),
    ):
        whole = parse(TEXT.replace('successor = "new"', wrong), KINDS)
        with pytest.raises(CatalogError) as found:
            check(whole, whole)
        assert found.value.problems == (said,)
