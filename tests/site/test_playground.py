"""The playground in a real browser: what it sends in each format, shows as code, and remembers; and how a request ends there.

One house and one browser serve all tests; each has a window of its own, which remembers nothing of the others.
"""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Request, Route

from penstock.domain.accounts import accounts
from penstock.domain.keys import management
from penstock.providers.simulator.script import AFTER_TOOL, OPENING
from tests.clients.installed import NODE, NODE_MODULES
from tests.clients.running import PNG
from tests.service.running_service import User
from tests.site.chromium import launched
from tests.site.page_reader import COOKIE, Hotel, Reader, open_hotel
from tests.site.test_browser import AXE, THEMES, WIDTHS

pytestmark = [
    pytest.mark.xdist_group("playground"),
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]

FORMATS = ("chat", "responses", "messages")
PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}


class House(msgspec.Struct, frozen=True):
    """The house, its browser, and who is signed in."""

    hotel: Hotel
    browser: Browser
    reader: Reader
    user: User

    async def window(self, width: int = 1280, token: str = "") -> "Window":
        context = await self.browser.new_context(viewport={"width": width, "height": 900})
        cookie: Any = {"name": COOKIE, "value": token or self.reader.token, "url": self.hotel.origin}
        await context.add_cookies([cookie])
        return Window(self, await context.new_page())


class Window:
    """A window with the playground in it."""

    def __init__(self, house: House, page: Page) -> None:
        self.house = house
        self.page = page
        self.sent: list[Request] = []
        self.complaints: list[str] = []
        page.set_default_timeout(120_000)
        page.on("request", lambda request: self.sent.append(request) if "/api/v1/" in request.url else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if self._is_trouble(said) else None)

    @staticmethod
    def _is_trouble(said: Any) -> bool:
        return said.type in {"error", "warning"} and "Failed to load resource" not in said.text

    async def open(self, dialect: str = "chat", model: str = "chat-plain") -> "Window":
        await self.page.goto(f"{self.house.hotel.origin}/playground")
        await self.page.wait_for_selector("#playground[data-ready]")
        await self.page.select_option("[name=dialect]", dialect)
        await self.page.select_option("[name=model]", model)
        return self

    async def say(self, text: str) -> None:
        await self.page.fill("#say", text)
        await self.page.click("[data-send]")

    async def answered(self) -> str:
        """The newest answer, once it is whole."""
        await self.page.wait_for_selector("[data-send]:not([hidden])")
        return await self.page.locator("article").last.inner_text()

    async def told(self, text: str) -> None:
        await self.page.wait_for_selector(f"[data-facts]:has-text('{text}')")

    async def shown(self, name: str) -> str:
        found = await self.page.locator(f"[data-shown={name}]").text_content()
        assert found is not None
        return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    async with open_hotel(tmp_path_factory.mktemp("playground")) as hotel, launched() as browser:
        reader = await hotel.reader().join("ann@example.com")
        yield House(hotel, browser, reader, await on_lab(hotel, "ann@example.com", await reader.key()))


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> AsyncGenerator[House]:
    """The same for one test: its windows are closed with it."""
    yield shared
    for context in shared.browser.contexts:
        await context.close()


async def on_lab(hotel: Hotel, email: str, key: str) -> User:
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, email)
        await accounts.change_user(conn, user.id, accounts.Changes(plan_id="lab"), now=1)
    return User(user.id, email, key)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for is a number
            await asyncio.sleep(0.01)


def a_picture(folder: Path) -> Path:
    picture = folder / "dot.png"
    picture.write_bytes(base64.b64decode(PNG))
    return picture


async def run(command: list[str], folder: Path) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("dialect", FORMATS)
async def test_what_is_shown_as_code_is_what_was_sent(house: House, tmp_path: Path, dialect: str) -> None:
    window = await (await house.window()).open(dialect, f"{dialect}-plain")
    page = window.page
    fields = {"system": 'Be "brief", don\'t', "temperature": "0.5", "top": "0.9", "max": "300"}
    for name, value in {**fields, "more": '{"metadata": {"user_id": "é\\u2028 1"}}'}.items():
        await page.fill(f"[name={name}]", value)
    await page.select_option("[name=effort]", "low")
    if dialect != "responses":
        await page.fill("[name=stop]", "END\nSTOP")
    await page.click("[data-example]")
    await page.set_input_files("[data-pick]", a_picture(tmp_path))
    await page.wait_for_selector("[data-thumbs] img")
    await window.say("It's $HOME, `date` and \\n")
    await window.answered()
    (request,) = window.sent
    assert request.url.endswith(f"/api/v1{PATHS[dialect]}")
    body = request.post_data_buffer
    assert body is not None
    assert body.decode() in await window.shown("request")
    sent = json.loads(body)
    assert (sent["temperature"], sent["top_p"], sent["metadata"]) == (0.5, 0.9, {"user_id": "é\u2028 1"})
    assert PNG in json.dumps(sent)
    assert len(sent["tools"]) == 1
    heard = house.hotel.house.visits
    by_page = heard[-1].body
    assert PNG.encode() in by_page
    programs = {name: await window.shown(name) for name in ("curl", "python", "javascript")}
    shown = await page.get_attribute("#playground", "data-key")
    assert shown is not None
    assert shown.startswith(house.user.key[:12])
    for name, program in programs.items():
        assert shown in program
        programs[name] = program.replace(shown, house.user.key)
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "shown.mjs").write_text(programs["javascript"], "utf-8")
    before = len(heard)
    await run(["bash", "-c", programs["curl"]], tmp_path)
    assert heard[-1].body == by_page, "the very bytes"
    await run([sys.executable, "-c", programs["python"]], tmp_path)
    assert json.loads(heard[-1].body) == json.loads(by_page)
    await run([str(NODE), "--preserve-symlinks-main", "shown.mjs"], tmp_path)
    assert json.loads(heard[-1].body) == json.loads(by_page)
    assert len(heard) == before + 3
    assert window.complaints == []


@pytest.mark.parametrize("dialect", FORMATS)
async def test_a_tool_gets_its_result_and_the_next_turn_may_be_in_another_format(
    house: House, dialect: str
) -> None:
    model = f"{dialect}-tools"
    window = await (await house.window()).open(dialect, model)
    page = window.page
    await page.click("[data-example]")
    await window.say("How is the weather?")
    await window.told("asks for a tool")
    assert "asks for the tool weather" in await window.answered()
    places = page.locator("[data-results] textarea")
    calls = await places.count()
    assert calls >= 1
    for at in range(calls):
        await places.nth(at).fill(f"Rain {at}.")
    await page.locator("[data-results] textarea").last.press("Control+Enter")
    await window.told("The answer is complete")
    assert (await window.answered()).startswith(AFTER_TOOL)
    assert all(f"Rain {at}." in house.hotel.house.visits[-1].body.decode() for at in range(calls))
    other = FORMATS[(FORMATS.index(dialect) + 1) % 3]
    await page.select_option("[name=dialect]", other)
    await page.select_option("[name=choice]", "none")
    await window.say("Thank you.")
    await window.told("The answer is complete")
    assert (await window.answered()).startswith(OPENING)
    assert window.sent[-1].url.endswith(PATHS[other])
    assert "Rain 0." in (window.sent[-1].post_data or "")
    assert window.complaints == []


async def test_a_whole_answer_is_read_as_a_streamed_one(house: House) -> None:
    window = await (await house.window()).open()
    for dialect in FORMATS:
        await window.page.select_option("[name=dialect]", dialect)
        await window.page.uncheck("[name=stream]")
        await window.say("Hello")
        await window.told("The answer is complete")
        answer = await window.answered()
        assert answer.startswith(OPENING)
        assert "tokens read" in answer
        assert '"stream"' not in (window.sent[-1].post_data or "")
        assert (await window.shown("answer")).startswith("200")
    assert window.complaints == []


async def test_an_error_has_its_words_its_id_and_the_way_to_its_receipt(house: House) -> None:
    window = await (await house.window()).open(model="chat-error-500")
    page = window.page
    await window.say("Will it?")
    await page.wait_for_selector("article.bad")
    told = await page.inner_text("article.bad")
    assert "provider_error" in told
    assert await page.input_value("#say") == "Will it?", "nothing has to be typed again"
    id = await page.inner_text("article.bad code")
    assert id in told
    await house.hotel.house.rows(house.user)
    await page.click("article.bad a:has-text('its receipt')")
    await page.wait_for_url(f"**/requests/{id}")
    assert id in await page.inner_text("main")
    # One that is refused before it reaches a provider has a page that explains it, too.
    await window.open("messages", "chat-plain")
    await page.fill("[name=more]", '{"max_tokens": "many"}')
    await window.say("Refused")
    await page.wait_for_selector("article.bad")
    assert "max_tokens" in await page.inner_text("article.bad p")
    await page.click("article.bad a:has-text('its receipt')")
    await page.wait_for_selector("main:has-text('refused')")
    assert window.complaints == []


async def test_an_error_in_the_stream_is_told_and_what_came_is_left(house: House) -> None:
    for dialect in FORMATS:
        window = await (await house.window()).open(dialect, "chat-error-in-stream")
        await window.say("Break")
        await window.page.wait_for_selector("article.bad")
        assert await window.page.inner_text("article.failed .text")
        assert await window.page.inner_text("article.bad code")
        assert window.complaints == []


async def test_stop_frees_the_slot_and_keeps_what_came(house: House) -> None:
    window = await (await house.window()).open(model="chat-hang-mid")
    page = window.page
    await window.say("Go on")
    await page.wait_for_selector("article.model .text")
    await until(lambda: house.hotel.house.held(house.user) == 1)
    assert await page.evaluate("document.activeElement.matches('[data-stop]')")
    await page.keyboard.press("Enter")
    await window.told("Stopped. What had come is kept.")
    await until(lambda: house.hotel.house.held(house.user) == 0)
    await page.select_option("[name=model]", "chat-plain")
    await window.say("Then this")
    await window.told("The answer is complete")
    roles = [row["role"] for row in json.loads(window.sent[-1].post_data or "{}")["messages"]]
    assert roles == ["user", "assistant", "user"]
    await page.select_option("[name=model]", "chat-hang")
    await window.say("Never")
    await until(lambda: house.hotel.house.held(house.user) == 1)
    await page.keyboard.press("Escape")
    await window.told("Stopped before anything came")
    await until(lambda: house.hotel.house.held(house.user) == 0)
    assert await page.input_value("#say") == "Never"
    assert window.complaints == []


async def test_who_leaves_and_comes_back_finds_all_as_it_was_until_it_is_cleared(
    house: House, tmp_path: Path
) -> None:
    window = await (await house.window()).open("messages", "messages-plain")
    page = window.page
    await page.fill("[name=system]", "Be brief")
    await window.say("Remember me")
    await window.told("The answer is complete")
    await page.fill("#say", "half a sent")
    await page.set_input_files("[data-pick]", a_picture(tmp_path))
    await page.wait_for_selector("[data-thumbs] img")
    code = await window.shown("curl")
    asked_before = len(window.sent)
    await page.click("aside >> text=Overview")
    await page.click("aside >> text=Playground")
    await page.wait_for_selector("#playground[data-ready]")
    assert (await page.locator("article").all_inner_texts())[0] == "Remember me"
    assert await page.locator("article").count() == 2
    assert await page.input_value("[name=system]") == "Be brief"
    assert await page.input_value("[name=dialect]") == "messages"
    assert await page.input_value("[name=model]") == "messages-plain"
    assert await page.input_value("#say") == "half a sent"
    assert await page.locator("[data-thumbs] img").count() == 1
    assert await window.shown("curl") == code
    assert len(window.sent) == asked_before, "coming back asks nothing"
    await window.say("Again")
    await window.told("The answer is complete")
    assert len(json.loads(window.sent[-1].post_data or "{}")["messages"]) == 3
    # Another account in the same browser sees nothing of it.
    other = await house.hotel.reader().join("bob@example.com")
    cookies: Any = [{"name": COOKIE, "value": other.token, "url": house.hotel.origin}]
    await page.context.add_cookies(cookies)
    await page.goto(f"{house.hotel.origin}/playground")
    await page.wait_for_selector("#playground[data-ready]")
    assert await page.locator("article").count() == 0
    cookies[0]["value"] = house.reader.token
    await page.context.add_cookies(cookies)
    await page.reload()
    await page.wait_for_selector("#playground[data-ready]")
    assert await page.locator("article").count() == 4
    await page.click("[data-clear]")
    await window.told("Cleared")
    await page.reload()
    await page.wait_for_selector("#playground[data-ready]")
    assert await page.locator("article").count() == 0
    assert await page.input_value("[name=system]") == ""
    assert window.complaints == []


async def test_signing_out_takes_what_was_kept_along(house: House) -> None:
    reader = await house.hotel.reader().join("cyd@example.com")
    await on_lab(house.hotel, "cyd@example.com", "")
    window = await (await house.window(token=reader.token)).open()
    page = window.page
    await window.say("Mine alone")
    await window.told("The answer is complete")
    await page.click("header >> text=Sign out")
    await page.wait_for_selector("text=You are signed out")
    assert "playground" not in await page.evaluate(
        "indexedDB.databases().then((all) => all.map((one) => one.name))"
    )
    assert window.complaints == []


async def test_two_windows_take_turns_with_the_one_key(house: House) -> None:
    one, two = await (await house.window()).open(), await (await house.window()).open()
    for window in (one, two, one):
        await window.say("Hello")
        await window.told("The answer is complete")
        assert (await window.answered()).startswith(OPENING)
    async with house.hotel.house.store.database.connect() as conn:
        keys = await management.list_keys(conn, house.user.id)
    assert [key.name for key in keys if key.of_playground] == ["Playground page"]


async def test_a_field_that_is_wrong_says_so_and_nothing_is_sent(house: House) -> None:
    window = await (await house.window(390)).open()
    page = window.page
    assert not await page.locator("[name=temperature]").is_visible(), "on a phone the parameters are folded"
    for name, wrong in (
        ("temperature", "hot"),
        ("max", "1.5"),
        ("tools", "[{]"),
        ("more", "[]"),
        ("top", "2"),
    ):
        await page.evaluate("document.querySelector('[data-wishes]').open = true")
        await page.fill(f"[name={name}]", wrong)
        await page.evaluate("document.querySelector('[data-wishes]').open = false")
        await window.say("Hello")
        await page.wait_for_selector(f"#wrong-{name}:not(:empty)")
        assert await page.evaluate("document.activeElement.name") == name
        await page.fill(f"[name={name}]", "")
        assert await page.inner_text(f"#wrong-{name}") == ""
    assert window.sent == []
    assert window.complaints == []


async def test_by_keyboard_alone_with_a_conversation_in_it_nothing_is_wrong(house: House) -> None:
    window = await (await house.window()).open()
    page = window.page
    await page.focus("#say")
    await page.keyboard.type("Hello there, " + "unbreakable" * 30)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.matches('[data-send]')")
    await page.keyboard.press("Enter")
    await window.told("The answer is complete")
    assert await page.evaluate("document.activeElement.id") == "say"
    await page.keyboard.type("And more")
    await page.keyboard.press("Control+Enter")
    await page.wait_for_selector("article.model >> nth=1")
    await window.told("The answer is complete")
    wrong: list[str] = []
    for theme in THEMES:
        await page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 900})
            await page.evaluate("document.querySelector('[data-wishes]').open = true")
            if await page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0:
                wrong.append(f"{width}: too wide")
        await page.evaluate(AXE.read_text("utf-8"))
        found = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
        wrong += [
            f"{theme}: {one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]
    assert wrong + window.complaints == []


async def test_who_is_quicker_than_the_page_loses_nothing_and_sends_nothing_elsewhere(house: House) -> None:
    """What is typed before the program is there: a form that a browser sent by itself would have it in its address."""
    window = await house.window()
    page, there = window.page, asyncio.Event()

    async def late(route: Route) -> None:
        await there.wait()
        await route.continue_()

    await page.route("**/playground*.js*", late)
    await page.goto(f"{house.hotel.origin}/playground", wait_until="commit")
    await page.fill("#say", "Hello early")
    await page.fill("[name=stop]", "x")
    assert await page.is_disabled("[data-send]")
    await page.press("[name=stop]", "Enter")  # which sends a form whose button can be pressed
    there.set()
    await page.wait_for_selector("#playground[data-ready]")
    assert page.url == f"{house.hotel.origin}/playground"
    assert await page.input_value("#say") == "Hello early"
    await page.click("[data-send]")
    await window.told("The answer is complete")
    assert b"Hello early" in (window.sent[-1].post_data_buffer or b"")
    assert window.complaints == []
