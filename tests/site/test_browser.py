"""The pages in a real browser: from the landing page to the first green request and on, and how each of them looks to it.

One walk, in the order in which a person goes; then every page is judged at two widths and in two themes: no message on the
console, nothing that the content policy refuses, nothing wider than the window, nothing serious that axe-core finds.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page

from penstock.domain.accounts import accounts
from penstock.site.document_pages import ENTRIES
from tests.samples import sample
from tests.service.running_service import User
from tests.site.chromium import browser, started
from tests.site.page_reader import PASSWORD, Hotel, open_hotel

__all__ = ["browser", "started"]

AXE = Path(__file__).parents[2] / ".clients" / "node_modules" / "axe-core" / "axe.min.js"
ANN = "ann@example.com"
PUBLIC = (
    "/", "/pricing", "/models", "/models/claude-haiku-4.5", "/status", "/docs/quickstart", "/docs/claude-code",
    "/docs/limits", "/docs/moving", "/docs/api", "/docs/search?q=limit",
    "/signin", "/signup", "/forgot", "/terms", "/privacy", "/changelog",
)  # fmt: skip
PRIVATE = (
    "/dashboard",
    "/welcome",
    "/keys",
    "/requests",
    "/usage",
    "/slots",
    "/playground",
    "/plan",
    "/settings",
)
WIDTHS = (1280, 390)
CLIPPED = """[...document.querySelectorAll(".prose .snippet, .tabs .snippet")].flatMap((snippet) => {
  const pre = snippet.querySelector("pre"), button = snippet.querySelector("button");
  if (!pre.offsetParent) return [];
  const words = pre.textContent.slice(0, 40);
  const lies = button.getBoundingClientRect().left < pre.getBoundingClientRect().right;
  return [...(pre.scrollWidth > pre.clientWidth ? [`clipped: ${words}`] : []), ...(lies ? [`under its button: ${words}`] : [])];
})"""
"""What of a page's code does not show whole at this width, or is under its button."""
CUT = """[...document.querySelectorAll("main .scroll:has(> table.cards)")]
  .filter((box) => box.scrollWidth > box.clientWidth)
  .map((box) => `${box.ariaLabel} is ${box.scrollWidth - box.clientWidth} pixels wider than its box`)"""
"""Which of a page's tables do not show whole, though they may be cards."""
FLAT = """[...document.querySelectorAll("svg.chart")].map((chart) => chart.getBoundingClientRect())
  .filter((box) => box.height && box.height < 150).map((box) => `a chart is ${box.height} pixels high`)"""
OVER = """[...document.querySelectorAll("svg.chart")].flatMap((chart) => {
  const boxes = [...chart.querySelectorAll("text")].map((word) => word.getBoundingClientRect()).filter((box) => box.width);
  const over = (one, two) => one.left < two.right && two.left < one.right
    && one.top < two.bottom - 2 && two.top < one.bottom - 2;
  return boxes.flatMap((one, at) => boxes.slice(at + 1).filter((two) => over(one, two)).map(() => "words of a chart overlap"));
})"""
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(loop_scope="module")
async def hotel(tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path) as opened:
        yield opened


class Watched:
    """A page of the browser, and what it complained of."""

    def __init__(self, page: Page, hotel: Hotel) -> None:
        self.page = page
        self.hotel = hotel
        self.complaints: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))

    def _said(self, message: ConsoleMessage) -> None:
        # A form that is refused answers 4xx, which the browser notes as well.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(f"{self.page.url}: {message.text}")

    async def go(self, path: str) -> None:
        await self.page.goto(self.hotel.origin + path)

    async def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            await self.page.fill(f"main [name={name}]:visible", value)

    async def press(self, text: str, then: str = "") -> None:
        """Press a button, until the page says ``then``."""
        await self.page.click(f"main button:has-text('{text}')")
        await self._says(then)

    async def enter(self, then: str) -> None:
        """Press Enter where the focus is, until the page says ``then``."""
        await self.page.keyboard.press("Enter")
        await self._says(then)

    async def send(self, then: str, **fields: str) -> None:
        """Fill a form and send it by Enter, until the page says ``then``."""
        await self.fill(**fields)
        await self.enter(then)

    async def menu(self, entry: str) -> None:
        """Go to a page by the menu beside."""
        await self.page.click(f"aside >> text={entry}")

    async def _says(self, then: str) -> None:
        if then:
            await self.page.wait_for_selector(f"text={then}")

    async def judge(self, path: str, themes: Sequence[Theme] = THEMES) -> list[str]:
        """What is wrong with a page, in both widths and these themes; of two it is loaded in one width in each.

        Nothing moves on the way from one to the other: half of it would be measured.
        """
        wrong: list[str] = []
        for number, width in enumerate(WIDTHS):
            await self.page.set_viewport_size({"width": width, "height": 800})
            for turn, theme in enumerate((*themes[number:], *themes[:number])):
                await self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                if turn == 0:
                    await self.go(path)
                wide = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                if wide > 0:
                    wrong.append(f"{path} at {width}: {wide} pixels too wide")
                for seen in (CUT, FLAT, OVER):
                    wrong += [f"{path} at {width}: {line}" for line in await self.page.evaluate(seen)]
        wrong += [
            f"{path} in {theme}: {line}"
            for theme in themes
            for line in await self._violations(theme, themes[0])
        ]
        return wrong

    async def _violations(self, theme: Theme, first: Theme) -> list[str]:
        """What axe-core finds serious in the page as it is; in a theme that is not the ``first``, of its colours alone."""
        await self.page.emulate_media(color_scheme=theme)
        await self.page.evaluate(f"globalThis.axe ?? (() => {{ {AXE.read_text('utf-8')} }})()")
        of = (
            {}
            if theme == first
            else {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
        )
        found = await self.page.evaluate("(how) => axe.run(how)", {"resultTypes": ["violations"], **of})
        serious = [one for one in found["violations"] if one["impact"] in {"serious", "critical"}]
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in serious]


async def watched(browser: Browser, hotel: Hotel) -> Watched:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=False)
    return Watched(await context.new_page(), hotel)


async def photograph(reader: Watched, pages: Sequence[str]) -> None:
    """A picture of each page in both themes and widths, for a person to look at, into the folder PENSTOCK_TEST_SHOTS."""
    folder = os.environ.get("PENSTOCK_TEST_SHOTS")
    for path in pages if folder else ():
        name = re.sub(r"[^\w.]+", "-", path).strip("-") or "home"
        for theme in THEMES:
            await reader.page.emulate_media(color_scheme=theme)
            for width in WIDTHS:
                await reader.page.set_viewport_size({"width": width, "height": 900})
                await reader.go(path)
                await reader.page.screenshot(
                    path=Path(folder or "") / f"{name}-{width}-{theme}.png", full_page=True
                )


async def join(reader: Watched) -> None:
    """Sign up, with the code from the mail."""
    await reader.go("/")
    await reader.page.click("header >> text=Get a key")
    await reader.fill(email=ANN, password=PASSWORD)
    await reader.press("Sign up")
    await reader.page.wait_for_url("**/verify")
    await reader.hotel.posted()
    await reader.fill(code=reader.hotel.mailbox.code(ANN))
    await reader.press("Verify")
    await reader.page.wait_for_url("**/welcome")


async def test_from_the_landing_page_to_the_first_green_request_and_on(
    browser: Browser, hotel: Hotel
) -> None:
    reader = await watched(browser, hotel)
    page = reader.page
    await join(reader)
    assert await page.locator("#first .waiting").count() == 1
    command = await page.locator(".tabs .panel").first.locator("pre").inner_text()
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=120
    )
    assert "simulated" in done.stdout
    await page.wait_for_selector("#first .arrived")
    await page.click("text=Its receipt")
    assert "counted" in await page.inner_text("main")
    await page.click("aside >> text=Overview")
    assert await page.locator("svg.chart.wide rect").count() == 1

    await page.click("aside >> text=API keys")
    await page.fill("#n-new", "laptop")
    await reader.press("Make the key")
    made = (await page.locator(".card.marked pre").first.inner_text()).strip()
    assert (await hotel.house.http("GET", "/v1/models", made)).status == 200
    page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await page.click(".key:has-text('laptop') >> summary")
    await page.click(".key:has-text('laptop') >> button:has-text('Roll')")
    assert (await page.locator(".card.marked pre").first.inner_text()).strip() != made
    assert (await hotel.house.http("GET", "/v1/models", made)).status == 401
    await page.click(".key:has-text('laptop'):has-text('works') >> summary")
    await page.click(".key:has-text('laptop'):has-text('works') >> button:has-text('Revoke')")
    await page.wait_for_selector("text=The key is revoked")

    await page.click("aside >> text=Playground")
    await page.fill("#say", "Hello")
    await page.click("[data-send]")
    await page.wait_for_selector("[data-facts]:has-text('The answer is complete')")
    assert (await page.inner_text("article.model")).startswith("This answer is simulated")

    await page.click("header >> text=Sign out")
    await page.wait_for_selector("text=You are signed out")
    await page.click("text=Forgotten password")
    hotel.house.clock.now += 61
    await reader.fill(email=ANN)
    await reader.press("Send the code")
    await page.wait_for_url("**/reset")
    await hotel.posted()
    await reader.fill(code=hotel.mailbox.code(ANN), password="another long sentence")
    await reader.press("Set the password")
    await page.wait_for_url("**/dashboard?notice=password")
    assert reader.complaints == []


async def test_focus_stays_where_it_is_while_a_page_is_fetched_again(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    page = reader.page
    await join(reader)
    key = (await page.locator(".card pre").first.inner_text()).strip()
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, ANN)
        await accounts.change_user(conn, user.id, accounts.Changes(plan_id="lab"), now=1)
    ann = User(user.id, ANN, key)
    first = await hotel.house.begin("chat", "chat-hang", ann)
    while hotel.house.held(ann) < 1:  # noqa: ASYNC110 - the slot is a number
        await asyncio.sleep(0.01)
    second = await hotel.house.begin("chat", "chat-hang", ann)
    while hotel.house.held(ann) < 2:  # noqa: ASYNC110 - the slot is a number
        await asyncio.sleep(0.01)
    await reader.go("/slots")
    await page.evaluate("document.querySelectorAll('main tr button')[1].focus()")
    held = await page.evaluate("document.activeElement.closest('tr').dataset.key")
    # The row before it goes, and its age changes: it is still the same button that has the focus.
    first.leave()
    hotel.house.clock.now += 120
    await page.wait_for_selector("text=1 of 64 in use")
    await page.wait_for_selector("main td:has-text('2 min')")
    assert await page.evaluate("document.activeElement.closest('tr')?.dataset.key") == held
    await page.keyboard.press("Enter")
    await page.wait_for_selector("text=The request is being ended")
    async with asyncio.timeout(60):
        while hotel.house.held(ann):  # noqa: ASYNC110 - the slot is a number
            await asyncio.sleep(0.01)
    second.leave()
    assert reader.complaints == []


async def test_how_the_pages_of_everybody_look(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    wrong: list[str] = []
    for turn, path in enumerate(PUBLIC):
        # pages of the documentation have one template, and differ in their text alone
        wrong += await reader.judge(path, sample(THEMES, 1, turn) if path.startswith("/docs/") else THEMES)
    await photograph(reader, PUBLIC)
    assert wrong + reader.complaints == []


async def test_how_the_pages_of_an_account_look(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    await join(reader)
    key = (await reader.page.locator(".card pre").first.inner_text()).strip()
    body = b'{"model": "claude-haiku-4.5", "messages": [{"role": "user", "content": "Hello"}]}'
    answer = await hotel.house.http("POST", "/v1/chat/completions", key, body=body)
    assert answer.status in {200, 403}
    wrong = [one for path in PRIVATE for one in await reader.judge(path)]
    await photograph(reader, PRIVATE)
    assert wrong + reader.complaints == []


async def test_no_code_is_clipped_and_no_button_lies_on_it(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    wrong: list[str] = []
    places = ("/", "/models/claude-haiku-4.5", "/docs/api")
    for path in (*places, *(f"/docs/{entry.slug}" for entry in ENTRIES)):
        await reader.go(path)
        wrong += [f"{path}: {line}" for line in await reader.page.evaluate(CLIPPED)]
    assert wrong + reader.complaints == []


async def test_who_looks_for_a_word_finds_its_place_by_keyboard(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    await reader.go("/docs")
    await reader.page.focus("#docs-q")
    await reader.page.keyboard.type("retry-after")
    await reader.page.keyboard.press("Enter")
    await reader.page.wait_for_url("**/docs/search?q=retry-after")
    await reader.page.click(".found a:has-text('Trying again')")
    await reader.page.wait_for_url("**/docs/errors#trying-again")
    assert await reader.page.locator("#trying-again").count() == 1
    assert reader.complaints == []


async def test_the_rows_of_long_tables_are_found_by_their_words(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    page = reader.page
    for path, has in (("/docs/chat", 0), ("/docs/translation", 1)):
        await reader.go(path)
        assert await page.locator("#rows-q").count() == has, path
    all_rows = await page.locator(".prose tbody tr:visible").count()
    headings = await page.locator(".prose h2:visible").count()
    await page.focus("#rows-q")
    await page.keyboard.type("Temperature clamped")
    found = await page.locator(".prose tbody tr:visible").all_inner_texts()
    assert 0 < len(found) < all_rows
    assert all("temperature" in row.lower() and "clamped" in row.lower() for row in found)
    assert await page.locator("[role=status]:visible").inner_text() == f"{len(found)} of {all_rows} rows"
    left = await page.locator(".prose h2:visible").count()
    assert 0 < left < headings, "of headings, those above such rows"
    assert await page.locator(".prose > p:visible").count() == 1, "the field, and no text between"
    await page.fill("#rows-q", "no such word anywhere")
    assert await page.locator(".prose :is(h2, h3, tbody tr):visible").count() == 0
    await page.fill("#rows-q", "")
    assert await page.locator(".prose tbody tr:visible").count() == all_rows
    assert await page.locator(".prose h2:visible").count() == headings
    assert reader.complaints == []


async def test_without_scripts_the_pages_work(browser: Browser, hotel: Hotel) -> None:
    context = await browser.new_context(java_script_enabled=False)
    reader = Watched(await context.new_page(), hotel)
    await join(reader)
    await reader.go("/keys")
    await reader.fill(name="plain")
    await reader.press("Make the key")
    assert "sk-ps-" in await reader.page.locator(".card.marked pre").first.inner_text()
    await reader.go("/docs/quickstart")
    await reader.page.click(".tabs label:has-text('Python')")
    assert await reader.page.locator(".tabs .panel:visible").count() == 1
    assert "from openai" in await reader.page.locator(".tabs .panel:visible").inner_text()


async def test_on_a_phone_every_place_is_in_the_menu(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    await join(reader)
    await reader.page.set_viewport_size({"width": 390, "height": 800})
    await reader.go("/models")
    await reader.page.click("header summary")
    places = await reader.page.locator("header .menu a:visible").all_inner_texts()
    assert places == ["Models", "Plans", "Docs", "Status"]
    await reader.page.click("header .menu >> text=Sign out")
    await reader.page.wait_for_selector("text=You are signed out")
    await reader.page.click("header summary")
    await reader.page.click("header .menu >> text=Sign in")
    await reader.page.wait_for_url("**/signin")
    assert reader.complaints == []


async def test_the_theme_is_the_readers_choice(browser: Browser, hotel: Hotel) -> None:
    reader = await watched(browser, hotel)
    await reader.go("/")
    light = await reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
    await reader.page.click("[data-theme-switch]")
    dark = await reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    await reader.go("/pricing")
    assert await reader.page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
