"""A customer's day in a real browser, walked in three ways: by mouse, by keyboard alone, and by a finger on a phone.

Sign-up, some two hundred requests of several models, failed ones and both 429s among them, overview, log, filters, receipts of
each kind, explanations, usage, keys, playground, files. The steps are the same in each way (``tests/site/ways.py``); each page
on the way is judged as it then is: by axe-core, and for what a narrow window leaves out of sight.
"""

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator

from penstock.domain.accounts import accounts
from tests.service.conversations import Answer
from tests.service.running_service import User
from tests.service.scripted import PATIENCE
from tests.site.chromium import browser, started
from tests.site.page_reader import PASSWORD, Hotel, open_hotel
from tests.site.test_browser import AXE, CUT, PRIVATE, Watched
from tests.site.ways import WAYS, Finger, Keyboard, Mouse, Way, opened

__all__ = ["browser", "started"]

ANN = "ann@example.com"
GOOD = 200
"""Requests that are answered; there are some fifty to a page of the log."""
MODELS = (
    ("chat", "chat-plain"),
    ("messages", "messages-plain"),
    ("responses", "responses-plain"),
    ("chat", "messages-tool"),
)
BAD = (
    ("chat", "chat-error-500", False),
    ("messages", "messages-error-400", False),
    ("chat", "chat-cut", True),
)
REFUSED = (("chat", "no-such-model"), ("chat", "absent-model"))
UNSEEN = """[...document.querySelectorAll("main table.data:not(details:not([open]) *)")].flatMap((table) => {
  const box = table.closest(".scroll");
  const cut = [...table.querySelectorAll("td, th[scope=row]")].filter((cell) => cell.getClientRects().length
    && (cell.getBoundingClientRect().right > innerWidth + 1 || cell.getBoundingClientRect().left < -1));
  const led = box && box.tabIndex === 0 && !table.matches(".cards");
  return cut.length && !led ? [`${box?.ariaLabel}: ${cut.length} cells are out of sight`] : [];
})"""
"""Which tables have cells beside the window, and no way to them."""
UNZONED = """[...document.querySelectorAll("main time[datetime]")]
  .filter((time) => !/ (P[DS]T|GMT[+-]\\d+)$/.test(time.textContent))
  .filter((time) => !time.closest(".log") || !document.querySelector("[data-zone]"))
  .map((time) => `of which zone is ${time.textContent}?`)"""
"""Which times do not say whose they are, and stand in no table that does."""

pytestmark = [
    pytest.mark.xdist_group("walk"),
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(loop_scope="module")
async def hotel(tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path) as house:
        yield house


class Walk:
    """Somebody on the way through the pages."""

    def __init__(self, way: Way, hotel: Hotel) -> None:
        self.way = way
        self.page = way.page
        self.hotel = hotel
        self.watched = Watched(way.page, hotel)
        self.page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        self.page.set_default_timeout(60_000)

    # ---- what a person does

    async def press(self, text: str, within: str = "main") -> None:
        """The link, button or summary that says this."""
        await self.way.press(self.named(text, within))

    def named(self, text: str, within: str = "main") -> Locator:
        """What begins with these words."""
        which = ", ".join(f"{within} {kind}:visible" for kind in ("a", "button", "summary"))
        return self.page.locator(which).filter(has_text=re.compile(rf"^\s*{re.escape(text)}")).first

    async def go(self, name: str) -> None:
        """To a place of the account, by its menu."""
        await self.press(name, "aside")
        await self.page.wait_for_selector(f"aside a[aria-current]:has-text('{name}')")

    async def write(self, name: str, text: str) -> None:
        await self.way.write(self.page.locator(f"main [name={name}]:visible").first, text)

    async def choose(self, name: str, option: str) -> None:
        await self.way.choose(self.page.locator(f"main [name={name}]:visible").first, option)

    async def file(self, text: str) -> str:
        """The file that this link leads to."""
        async with self.page.expect_download() as coming:
            await self.press(text)
        path = await (await coming.value).path()
        return await asyncio.to_thread(path.read_text, "utf-8")

    async def reads(self, *texts: str) -> None:
        """Each of these stands on the page, now or soon."""
        for text in texts:
            await self.page.locator("main", has_text=text).wait_for()

    # ---- what is wrong with what they see

    async def look(self, *, closely: bool = True) -> None:
        """Judge the page as it is now; ``closely``: by axe-core as well, which takes as long as three pages."""
        wide = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            self.way.note(f"{wide} pixels too wide")
        for seen in (CUT, UNSEEN, UNZONED):
            for line in await self.page.evaluate(seen):
                self.way.note(line)
        if not closely or isinstance(self.way, Mouse):  # by keyboard the page is the same
            return
        await self.page.evaluate(f"globalThis.axe ?? (() => {{ {AXE.read_text('utf-8')} }})()")
        found = await self.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        for one in found["violations"]:
            if one["impact"] in {"serious", "critical"}:
                self.way.note(f"{one['id']}: {one['nodes'][0]['html'][:200]}")

    # ---- the day

    async def join(self) -> User:
        """Sign up with the code from the mail, and be put on a plan that has every model."""
        await self.page.goto(self.hotel.origin + "/")
        await self.press("Get a key", "header")
        await self.write("email", ANN)
        await self.write("password", PASSWORD)
        await self.press("Sign up")
        await self.page.wait_for_url("**/verify")
        await self.hotel.posted()
        await self.write("code", self.hotel.mailbox.code(ANN))
        await self.press("Verify")
        await self.page.wait_for_url("**/welcome")
        key = (await self.page.locator(".card pre").first.inner_text()).strip()
        await self.way.mark(self.page.locator("main .tabs input[value=Python]"))
        await self.page.locator(".tabs .panel:visible", has_text="from openai").wait_for()
        async with self.hotel.house.store.database.connect() as conn:
            user = User((await accounts.user_by_email(conn, ANN)).id, ANN, key)
        await self.put_on(user, "lab")
        return user

    async def put_on(self, user: User, plan: str) -> None:
        async with self.hotel.house.store.database.transaction() as conn:
            await accounts.change_user(conn, user.id, accounts.Changes(plan_id=plan), now=1)

    async def work(self, user: User) -> dict[str, str]:
        """A day's requests; the ids of those that are looked at, by their code."""
        house = self.hotel.house
        waiting = [house.ask(*MODELS[at % len(MODELS)], user, stream=at % 3 == 0) for at in range(GOOD)]
        answers: list[Answer] = []
        for at in range(0, GOOD, 40):
            answers += await asyncio.gather(*waiting[at : at + 40])
            house.clock.now += 60
        assert {answer.status for answer in answers} == {200}
        ids = {"completed": answers[-1].headers["x-request-id"]}
        for dialect, model, stream in BAD:
            ids[model] = (await house.ask(dialect, model, user, stream=stream)).headers["x-request-id"]
        for dialect, model in REFUSED:
            ids[model] = (await house.ask(dialect, model, user)).headers["x-request-id"]
        await self.put_on(user, "one")
        running = await house.begin("chat", "chat-hang", user)
        async with asyncio.timeout(PATIENCE):
            while house.held(user) < 1:  # noqa: ASYNC110 - the slot is a number
                await asyncio.sleep(0.01)
        ids["slots"] = await self.refused(user, 429)
        running.leave()
        await self.put_on(user, "few")
        ids["day"] = await self.refused(user, 429)
        await self.put_on(user, "lab")
        await house.rows(user)
        return ids

    async def refused(self, user: User, status: int, model: str = "chat-plain") -> str:
        answer = await self.hotel.house.ask("chat", model, user)
        assert answer.status == status
        return answer.headers["x-request-id"]

    async def overview(self) -> None:
        await self.go("Overview")
        await self.reads("What went wrong", "Refused, and not counted", "daily limit reached")
        await self.press("As a table")
        await self.look()
        await self.press("Show these requests")
        await self.page.wait_for_url("**/requests?outcome=failed")

    async def log(self) -> None:
        """Filters, order, pages, and the file of what is filtered."""
        await self.go("Requests")
        await self.look()
        await self.choose("model", "messages-tool")
        await self.press("Filter")
        await self.reads(f"{GOOD // len(MODELS)} sent, {GOOD // len(MODELS)} of them counted; 0 refused")
        assert await self.page.locator("tbody tr").count() == GOOD // len(MODELS)
        await self.choose("sort", "slowest of all")
        await self.press("Filter")
        await self.page.wait_for_url("**sort=whole")
        await self.reads("largest at most")
        told = list(csv.DictReader(io.StringIO(await self.file("Download CSV"))))
        assert {row["model"] for row in told} == {"messages-tool"}
        assert len(told) == GOOD // len(MODELS)
        await self.press("Clear")
        await self.press("Older")
        await self.page.wait_for_url("**before=**")
        await self.press("More filters")
        await self.choose("status", "429")
        await self.press("Filter")
        await self.reads("0 sent, 0 of them counted; 2 refused")
        await self.look(closely=False)

    async def receipt(self, id: str, *says: str, closely: bool = False) -> None:
        """Found by its id."""
        await self.go("Requests")
        await self.press("More filters")
        await self.write("id", id)
        await self.press("Filter")
        await self.page.wait_for_url(f"**/requests/{id}")
        await self.reads(*says)
        await self.look(closely=closely)

    async def receipts(self, ids: dict[str, str]) -> None:
        await self.receipt(ids["completed"], "counted", "Read from cache", closely=True)
        await self.receipt(ids["chat-error-500"], "not counted", "provider_error")
        if isinstance(self.way, Mouse):  # the same two pages again, with other words
            await self.receipt(ids["chat-cut"], "What happened")
            await self.receipt(ids["messages-error-400"], "invalid_request")
            await self.receipt(ids["absent-model"], "no_provider")
        await self.receipt(ids["no-such-model"], "model_not_found", "There is no model of this name")
        await self.receipt(ids["day"], "The limit, as it was then", "requests a day", closely=True)
        await self.receipt(ids["slots"], "What held the slots", "requests at once", closely=True)
        await self.way.press(self.page.locator("main table a").first)
        await self.page.wait_for_selector("h1:has-text('Receipt')")

    async def usage(self) -> None:
        await self.go("Usage")
        for choice, in_address in (
            ("2 days", "length=day"),
            ("tokens written", "show=written"),
            ("client", "by=client"),
        ):
            await self.press(choice, "main nav")
            await self.page.wait_for_url(f"**{in_address}**")
        await self.press("As a table")
        await self.look()
        assert len((await self.file("Download CSV")).splitlines()) > 1

    async def keys(self) -> None:
        """Made, shown again, renamed, rolled, revoked."""
        await self.go("API keys")
        await self.way.write(self.page.locator("#n-new"), "laptop")
        await self.press("Make the key")
        made = (await self.page.locator(".card.marked pre").first.inner_text()).strip()
        await self.change("laptop")
        await self.look()
        await self.way.write(self.page.locator(".key[aria-label='Key laptop'] [name=name]"), "desk")
        await self.way.mark(self.page.locator(".key[aria-label='Key laptop'] [name='model:chat-plain']"))
        await self.press("Save", ".key[aria-label='Key laptop']")
        await self.reads("Only for chat-plain.")
        await self.change("desk")
        await self.way.write(self.page.locator(".key[aria-label='Key desk'] [name=password]"), PASSWORD)
        await self.press("Show the key", ".key[aria-label='Key desk']")
        assert (await self.page.locator(".card.marked pre").first.inner_text()).strip() == made
        await self.change("desk")
        await self.choose("grace", "the old key ends in an hour")
        await self.press("Roll", ".key[aria-label='Key desk']")
        await self.page.locator(".card.marked pre", has_not_text=made).first.wait_for()
        await self.change("desk")
        await self.press("Revoke", ".key[aria-label='Key desk']")
        await self.reads("The key is revoked")
        await self.press("Show 1 that no longer work")
        await self.page.locator(".badge", has_text="revoked").wait_for()
        await self.look(closely=False)

    async def change(self, name: str) -> None:
        await self.press("Change", f".key[aria-label='Key {name}']")

    async def playground(self) -> None:
        """A question in one format, an answer that fails, and what was sent as code."""
        await self.go("Playground")
        await self.page.wait_for_selector("#playground[data-ready]")
        await self.choose("model", "chat-plain")
        await self.choose("dialect", "Messages")
        await self.write("say", "Hello")
        await self.press("Send")
        await self.page.wait_for_selector("[data-facts]:has-text('The answer is complete')")
        await self.look()
        await self.way.mark(self.page.locator("[name=tab-exchange][value=Python]"))
        await self.page.locator(".tabs .panel:visible", has_text="anthropic").wait_for()
        await self.choose("model", "chat-error-500")
        await self.write("say", "Once more")
        await self.press("Send")
        await self.page.wait_for_selector("article.bad")
        await self.look()
        await self.press("What to do, and its receipt", "article.bad")
        await self.reads("provider_error")

    async def slots(self, user: User) -> None:
        running = await self.hotel.house.begin("chat", "chat-hang", user)
        async with asyncio.timeout(PATIENCE):
            while self.hotel.house.held(user) < 1:  # noqa: ASYNC110 - the slot is a number
                await asyncio.sleep(0.01)
        await self.go("Live slots")
        await self.reads("1 of 64 in use")
        await self.look(closely=False)
        await self.press("End it")
        await self.reads("The request is being ended")
        await self.reads("Nothing is running")
        running.leave()

    async def leave(self) -> None:
        """The wish for a plan, everything as a file, and out."""
        await self.go("Plan")
        await self.press("Ask for ten")
        await self.page.locator(".badge", has_text="asked for").wait_for()
        await self.go("Settings")
        told = json.loads(await self.file("Download as JSON"))
        assert len(told["requests"]) > GOOD
        await self.look(closely=False)
        if isinstance(self.way, Finger):
            await self.press("Menu", "header")
            await self.press("Sign out", "header .menu")
        else:
            await self.press("Sign out", "header")
        await self.page.wait_for_selector("text=You are signed out")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.lower())
async def test_a_day_of_a_customer(browser: Browser, hotel: Hotel, way: type[Way]) -> None:
    walk = Walk(await opened(way, browser), hotel)
    user = await walk.join()
    ids = await walk.work(user)
    await walk.overview()
    await walk.log()
    await walk.receipts(ids)
    await walk.usage()
    await walk.keys()
    await walk.playground()
    await walk.slots(user)
    await walk.leave()
    assert "\n".join(walk.way.faults + walk.watched.complaints) == ""


async def test_tab_leads_to_every_place_of_a_page_and_one_sees_where(browser: Browser, hotel: Hotel) -> None:
    """In a narrow window: as on a phone with a keyboard, or with the text four times as large."""
    way = await opened(Keyboard, browser)
    walk = Walk(way, hotel)
    user = await walk.join()
    for at in range(5):
        await hotel.house.ask(*MODELS[at % len(MODELS)], user)
    id = await walk.refused(user, 404, "no-such-model")
    await way.page.set_viewport_size({"width": 390, "height": 800})
    for path in (*PRIVATE, f"/requests/{id}", "/", "/docs/moving", "/docs/translation"):
        await walk.page.goto(hotel.origin + path)
        await way.all_places()
    assert "\n".join(way.faults + walk.watched.complaints) == ""
