"""The first minute says what is true: green for an answer alone, what to do otherwise, nothing sold that nobody serves."""

import asyncio
import re
from pathlib import Path

import pytest

from penstock.cli import main
from penstock.domain.accounts import accounts
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.providers.table import KINDS
from tests.site.page_reader import Hotel, open_hotel
from tests.site.test_dashboard import ANN, on_lab


async def set_plan(hotel: Hotel, plan: Plan) -> None:
    """The catalogue has this plan, and the service knows it."""
    async with hotel.house.store.database.transaction() as conn:
        await catalog_store.apply_document(conn, CatalogDocument((), (), (plan,)), KINDS, 1)
    await hotel.house.restart()


async def test_only_an_answer_turns_the_page_green(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    assert "Waiting for your first request" in (await reader.get("/welcome")).text

    async def tells(model: str, *said: str) -> None:
        answer = await hotel.house.ask("chat", model, user)
        hotel.house.clock.now += 1
        await hotel.house.rows(user)
        page = (await reader.get("/welcome")).text
        assert "data-done" not in page
        assert "It works" not in page
        assert f'/requests/{answer.headers["x-request-id"]}"' in page
        for text in ("it was not answered", *said):
            assert text in page, text

    await tells("chat-error-500", "502", "provider_error", "Send it again")
    await tells("no-such-model", "404", "model_not_found", "Copy one from the list of models")
    await tells("absent-model", "503", "no_provider", "Take another model")
    await hotel.house.ask("chat", "chat-plain", user)
    await hotel.house.rows(user)
    page = (await reader.get("/welcome")).text
    assert "data-done" in page
    assert "It works" in page
    await hotel.house.ask("chat", "chat-error-500", user)
    await hotel.house.rows(user)
    assert "data-done" in (await reader.get("/welcome")).text, "what worked has worked"


async def test_one_that_the_caller_broke_off_is_no_answer(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    caller = await hotel.house.begin("chat", "chat-hang-mid", user, stream=True)
    await caller.head()
    caller.leave()
    await hotel.house.rows(user)
    page = (await reader.get("/welcome")).text
    assert "data-done" not in page
    assert "It ended before its answer was whole" in page


PAGES = ("/welcome", "/dashboard", "/playground", "/", "/pricing", "/plan", "/models/absent-model")


async def test_a_plan_of_which_nothing_is_served_sells_nothing_and_shows_no_command(hotel: Hotel) -> None:
    await set_plan(hotel, Plan("bare", "Bare", 10, 1, ("absent-model",)))
    reader = await hotel.reader().join(ANN)
    await on_lab(hotel, reader, plan="bare")
    for path in PAGES:
        page = (await reader.get(path)).text
        assert "MODEL" not in page, path
        if path not in {"/", "/models/absent-model"}:
            assert "absent-model" not in page, path
    for path in PAGES[:3]:
        assert "is connected to a provider yet" in (await reader.get(path)).text, path
    made = (await reader.post("/keys", name="one")).text
    assert "MODEL" not in made
    assert "is connected to a provider yet" in made


async def test_plans_count_and_list_what_is_served(hotel: Hotel) -> None:
    await set_plan(hotel, Plan("mixed", "Mixed", 10, 1, ("chat-plain", "absent-model", "messages-plain")))
    page = (await hotel.reader().get("/")).text
    card = page[page.index("<h3>Mixed</h3>") :]
    card = card[: card.index("</article>")]
    assert "2 models" in card
    assert "absent-model" not in card


async def test_every_page_names_one_base_url(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    await on_lab(hotel, reader)
    for path in ("/", "/welcome", "/dashboard", "/models/chat-plain", "/docs/claude-code", "/docs/python"):
        page = (await reader.get(path)).text
        assert "/api/v1" in page
        assert not re.search(r"\d/api(?!/v1)", page), path


# ---- another plan


async def test_a_wish_that_reaches_nobody_is_not_said_to_have_been_told(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    assert "nobody is mailed" in (await reader.get("/plan")).text
    answer = await reader.post("/plan/ask", plan="ten")
    page = (await reader.get(answer.headers["location"])).text
    assert "no operator has an address here" in page
    assert "being mailed" not in page
    async with hotel.house.store.database.transaction() as conn:
        await accounts.create_user(
            conn, "boss@example.com", plan="lab", admin=True, verified=True, now=1, id="usr_boss"
        )
    assert "They are mailed when you ask" in (await reader.get("/plan")).text
    answer = await reader.post("/plan/ask", plan="one")
    assert "The operator is being mailed" in (await reader.get(answer.headers["location"])).text


async def test_the_operator_finds_the_wish_and_the_person_is_told_of_the_plan(
    hotel: Hotel, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = await hotel.reader().join(ANN)
    await reader.post("/plan/ask", plan="ten")

    async def cli(*words: str) -> str:
        assert await asyncio.to_thread(main, [*words, f"--data={hotel.house.settings.data}"]) == 0
        return capsys.readouterr().out

    wishes = await cli("user", "wishes")
    assert [word in wishes for word in (ANN, "free", "ten")] == [True] * 3
    before = len(hotel.mailbox.texts(ANN))
    await cli("user", "set", f"--email={ANN}", "--plan=ten")
    await hotel.posted()
    assert "has set your plan to ten" in hotel.mailbox.texts(ANN)[-1]
    assert ANN not in await cli("user", "wishes")
    await cli("user", "set", f"--email={ANN}", "--plan=ten")
    await hotel.posted()
    assert len(hotel.mailbox.texts(ANN)) == before + 1, "not for what was so already"
    page = (await reader.get("/plan")).text
    assert "asked for" not in page


# ---- what the operator has to see


async def test_the_page_of_the_code_says_where_it_is_when_mail_is_printed(tmp_path: Path) -> None:
    async with open_hotel(tmp_path / "printed", mail_url="console:") as hotel:
        reader = hotel.reader()
        await reader.post("/signup", email=ANN, password="a long enough sentence")
        assert "prints each one where it was started" in (await reader.get("/verify")).text
        hotel.house.clock.now += 61
        await reader.post("/forgot", email=ANN)
        assert "prints each one where it was started" in (await reader.get("/reset")).text
    async with open_hotel(tmp_path / "sent") as hotel:
        reader = hotel.reader()
        await reader.post("/signup", email=ANN, password="a long enough sentence")
        assert "where it was started" not in (await reader.get("/verify")).text


@pytest.mark.parametrize(
    ("plan", "signup", "said"),
    [
        ("bare", "open", "none of whose chat models is served"),
        ("gone", "open", "which is not in the catalogue"),
        ("lab", "open", ""),
        ("bare", "closed", ""),
    ],
)
async def test_the_operator_is_told_of_a_plan_for_new_people_that_serves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, plan: str, signup: str, said: str
) -> None:
    async with open_hotel(tmp_path) as hotel:
        await set_plan(hotel, Plan("bare", "Bare", 10, 1, ("absent-model",)))
        caplog.clear()
        await hotel.house.restart(signup_plan=plan, signup=signup)
        told = [one.getMessage() for one in caplog.records if "PENSTOCK_SIGNUP_PLAN" in one.getMessage()]
        assert [said in text for text in told] == ([True] if said else [])


async def test_programs_of_the_docs_name_models_that_the_reader_can_call(hotel: Hotel) -> None:
    await set_plan(hotel, Plan("own", "Own", 10, 1, ("chat-plain", "messages-plain")))
    stranger = hotel.reader()
    assert "claude-sonnet-4.6" in (await stranger.get("/docs/python")).text
    reader = await hotel.reader().join(ANN)
    await on_lab(hotel, reader, plan="own")
    for path in ("/docs/python", "/docs/python.md", "/docs/opencode", "/docs/quickstart"):
        page = (await reader.get(path)).text
        programs = " ".join(re.findall(r"<pre.*?</pre>|```.*?```", page, re.DOTALL))
        assert not re.search(r"claude-(sonnet|haiku)-4\.6|claude-haiku-4\.5", programs), path
        assert re.search(r"(chat|messages)-plain", programs), path


async def test_models_that_nobody_serves_are_not_listed_among_the_others(hotel: Hotel) -> None:
    page = (await hotel.reader().get("/models")).text
    listed, _, idle = page.partition("that no provider serves yet")
    assert "no provider<" not in listed
    assert "available<" not in idle
    assert "absent-model" in idle
