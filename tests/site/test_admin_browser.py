"""The admin pages in a real browser: the set-up link, dangerous actions with their undoing, and how each page looks to it."""

import asyncio
import secrets

import pytest
from playwright.async_api import Browser

from penstock.domain.accounts import accounts
from penstock.domain.captures.kept import captures_of
from penstock.domain.captures.orders import begin_capture, running_orders
from penstock.domain.exports import backfills, destinations
from penstock.domain.exports.places import DestinationWish
from penstock.domain.keys import management
from penstock.domain.notifications import rules, staff_events, webhooks
from penstock.domain.notifications.rules import RuleWish
from penstock.domain.notifications.staff_events import Condition
from penstock.domain.staff import setup_link
from penstock.domain.trail.entries import SYSTEM
from tests.samples import sample
from tests.service.running_service import MORNING
from tests.service.scripted import PATIENCE
from tests.site.chromium import browser, started
from tests.site.page_reader import PASSWORD, Hotel
from tests.site.staff import id_of
from tests.site.test_browser import THEMES, Watched, hotel, photograph, watched

__all__ = ["browser", "hotel", "started"]

ANN = "ann.with.an.address.that.is.rather.long@department.example.com"
NAME = """((it) => (it.labels?.[0] ?? it).textContent)(document.activeElement)"""
"""What the thing that has the focus is called."""
PAGES = (
    "/admin", "/admin/live", "/admin/requests", "/admin/users", "/admin/users/new",
    "/admin/plans", "/admin/plans/free", "/admin/plans/new", "/admin/models",
    "/admin/models/claude-haiku-4.5", "/admin/providers", "/admin/providers/sim-chat", "/admin/mail", "/admin/staff",
    "/admin/providers/new", "/admin/providers/wire-chat", "/admin/providers/wire-chat/keys/new",
    "/admin/providers/wire-chat/keys/outside", "/admin/providers/wire-chat/keys/outside/rotate",
    "/admin/providers/wire-chat/switch?state=drain", "/admin/providers/wire-chat/remove",
    "/admin/tokens", "/admin/audit", "/admin/captures", "/admin/changes", "/admin/notices", "/admin/notifications",
    "/admin/exports",
    "/admin/settings", "/admin/jobs", "/admin/catalog/edit?kind=model", "/admin/models/remove?id=claude-haiku-4.5",
)  # fmt: skip

pytestmark = [
    pytest.mark.xdist_group("admin-browser"),
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]


async def owner(browser: Browser, hotel: Hotel) -> Watched:
    """Whoever opened the set-up link, on the overview; with somebody to look after."""
    async with hotel.house.store.database.transaction() as conn:
        now = int(MORNING * 1000)
        token = await setup_link.new_link(conn, SYSTEM, now=now, entropy=secrets.token_bytes)
    ann = await hotel.reader("198.51.100.9").join(ANN)
    key = await ann.key()
    for model in ("claude-haiku-4.5", "none"):
        await ann.http.post(
            "/api/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "Hello"}]},
            headers={"x-api-key": key},
        )
    await ann.post("/plan/ask", plan="pro")
    reader = await watched(browser, hotel)
    await reader.go(f"/setup#{token}")
    assert "#" not in reader.page.url.rstrip("#"), "the secret has left the address"
    await reader.fill(email="root@example.com", password=PASSWORD)
    await reader.press("Become the owner")
    await reader.page.wait_for_url("**/admin")
    return reader


async def test_the_owner_comes_in_and_takes_care_of_somebody(browser: Browser, hotel: Hotel) -> None:
    reader = await owner(browser, hotel)
    page = reader.page
    assert "asks for another plan" in await page.inner_text("main")
    await page.fill("#finder-q", "ann.with")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/admin/users/usr_*")
    await page.select_option("#plan-of", "pro")
    await reader.press("Put on this plan")
    await reader.press("Put on pro", "Done. It is in the audit log")
    hotel.house.clock.now += 60  # the newest change comes first
    await page.click("main >> text=Disable")
    await reader.fill(reason="a test")
    await reader.press("Disable the account")
    await page.wait_for_selector(".badge:has-text('disabled')")
    await page.click("section:has-text('Changes by staff') >> tbody a >> nth=0")
    await reader.press("Undo this change", "The change is undone")
    await page.goto(f"{hotel.origin}/admin/users/{await id_of(hotel, ANN)}")
    assert await page.locator(".badge:has-text('open')").count() == 1
    await reader.press("View as this person", "as their owner does")
    await page.click("text=Stop viewing")
    await page.wait_for_url("**/admin/users/usr_*")
    await reader.menu("Plans")
    await page.click("main a[href='/admin/plans/free']")
    await page.fill("#p-daily", "77")
    await reader.enter("What would change")
    await reader.press("Apply", "Applied.")
    async with hotel.house.store.database.connect() as conn:
        assert (await accounts.user_by_email(conn, ANN)).plan_id == "pro"
    await a_provider_is_added_drained_and_published_from(reader, hotel)
    await somebody_is_captured_and_read(reader, hotel)
    await an_account_and_a_key_are_made_by_keyboard(reader)
    await a_webhook_is_added_with_a_rule_and_comes_back(reader)
    assert reader.complaints == []


async def an_account_and_a_key_are_made_by_keyboard(reader: Watched) -> None:
    """By tabulator, space, enter and letters alone."""
    page = reader.page

    async def on_to(word: str) -> None:
        """Tab until what is called so has the focus."""
        for _ in range(80):
            await page.keyboard.press("Tab")
            if word in await page.evaluate(NAME):
                return
        raise AssertionError(f"{word} is not reached")

    await on_to("Users")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/admin/users")
    await on_to("Make an account")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/users/new")
    await on_to("E-mail address")
    await page.keyboard.type("guest@example.com")
    await on_to("Plan")
    await page.keyboard.type("pro")
    await on_to("Make the account")
    await reader.enter("The account is made")
    await on_to("To the account")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/users/usr_*")
    await on_to("Make a key")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/keys/new")
    await on_to("Name")
    await page.keyboard.type("ci")
    await on_to("claude-haiku-4.5")
    await page.keyboard.press("Space")
    await reader.enter("The key ci")


async def a_provider_is_added_drained_and_published_from(reader: Watched, hotel: Hotel) -> None:
    page, wire = reader.page, hotel.house.wires["wire-chat"]
    wire.script = lambda asked: asked.answer(b'{"data": [{"id": "rye"}]}')
    await reader.menu("Providers")
    await page.click("text=Add a provider")
    await page.select_option("#f-kind", "custom")
    await reader.send(
        "The provider has answered and is added",
        id="mill",
        url=f"http://127.0.0.1:{wire.port}/v1",
        secret="a-key-of-the-mill-4f2a",
    )
    assert "a-key-of" not in await page.content()
    await page.focus("#keys >> text=key-1")
    await reader.enter("4f2a")
    await page.click("main >> text=Drain")
    await reader.fill(reason="a test")
    await reader.press("Drain it")
    await page.wait_for_selector(".badge:has-text('drained')")
    await reader.press("Enable", "Said.")
    await page.click("main >> text=mill")
    await reader.press("See what it has")
    await page.check("input[name='model-rye']")
    await reader.press("Publish what is ticked", "Applied.")


async def somebody_is_captured_and_read(reader: Watched, hotel: Hotel) -> None:
    page = reader.page
    await reader.menu("Captures")
    await reader.send("Said.", email=ANN, reason="ticket 42", current=PASSWORD)
    await captured(hotel)
    await page.click("text=What is kept")
    await page.fill("input[name='reason']", "ticket 42")
    await reader.enter("That you have read it is in the audit log")
    assert "Say something" in await page.inner_text("main")
    await reader.menu("Captures")
    await reader.press("End it")
    await page.wait_for_selector(".badge:has-text('ended')")


async def captured(hotel: Hotel) -> None:
    """Ann asks something, and it is kept."""
    ann = hotel.readers[0]
    key = await hotel.house.key(await id_of(hotel, ANN))
    async with asyncio.timeout(PATIENCE):
        while True:
            await ann.http.post(
                "/api/v1/chat/completions",
                json={
                    "model": "claude-haiku-4.5",
                    "messages": [{"role": "user", "content": "Say something"}],
                },
                headers={"x-api-key": key},
            )
            await asyncio.sleep(0.2)
            async with hotel.house.store.database.connect() as conn:
                if await captures_of(
                    conn, (await running_orders(conn, now=int(hotel.house.clock.now * 1000)))[0].id
                ):
                    return


async def a_webhook_is_added_with_a_rule_and_comes_back(reader: Watched) -> None:
    page = reader.page
    await reader.menu("Notifications")
    await page.select_option("#w-shape", "slack")
    await reader.send("The secret of pager", name="pager", url="https://hooks.example.com/secret-path")
    assert "whsec_" in await page.inner_text("main")
    await page.select_option("#r-event", "model")
    await page.select_option("#r-least", "critical")
    await page.focus("#r-quiet")
    await page.keyboard.type("22:00-07:00")
    await reader.enter("Events go by it from now on")
    text = await page.inner_text("main")
    assert "22:00-07:00" in text
    assert "whsec_" not in text
    assert "secret-path" not in await page.content()
    await page.focus("button[aria-label='Remove the webhook pager']")
    await reader.enter("the change can be undone")
    await page.goto(page.url.partition("/admin")[0] + "/admin/changes")
    await page.click("main tbody tr:has-text('webhook'):has-text('removed') >> a")
    await reader.press("Undo this change", "The change is undone")
    await reader.menu("Notifications")
    await page.wait_for_selector("td:has-text('hooks.example.com')")
    await reader.menu("Exports")
    await reader.fill(name="lake")
    await page.select_option("#d-kind", "file")
    await reader.press("Add it", "lake is added")
    await page.focus("summary:has-text('Send lake')")
    await page.keyboard.press("Enter")
    await page.fill("details:has-text('Send lake') >> input[name=from]", "2026-01-01")
    await reader.press("Send them", "What was settled then is sent")
    await page.wait_for_selector("h2:has-text('Of the past')")


async def something_goes_out(hotel: Hotel) -> None:
    """So that the pages have something to show: a webhook that refuses, a rule, what lasts, and exports."""
    store, now = hotel.house.store, int(hotel.house.clock.now * 1000)
    service, ann = hotel.house.service, await id_of(hotel, ANN)
    assert service is not None
    assert service.notifier is not None
    async with store.database.transaction() as conn:
        url = "https://127.0.0.1:9/x"
        for name in ("pager", "chat"):
            await webhooks.add_webhook(
                conn, store.secrets_file, name, url, "plain", SYSTEM, now=now, entropy=secrets.token_bytes
            )
        wish = RuleWish("*", "warning", "pager", quiet="12:00-13:00")
        await rules.add_rule(conn, wish, SYSTEM, now=now, entropy=secrets.token_bytes)
        for name, kind, where in (("lake", "file", ""), ("billing", "webhook", url)):
            await destinations.add_destination(
                conn,
                store.secrets_file,
                DestinationWish(name, kind, where),
                SYSTEM,
                now=now,
                entropy=secrets.token_bytes,
            )
        found = await destinations.destination_named(conn, "billing")
        await backfills.start_backfill(
            conn, found, "2027-01-01", "", SYSTEM, now=now, entropy=secrets.token_bytes
        )
        long = RuleWish("model", "info", recipient=ANN)
        await rules.add_rule(conn, long, SYSTEM, now=now, entropy=secrets.token_bytes)
        seen = [
            Condition("model.out", "m-1", "All providers of m-1 are out (server)."),
            Condition("backup.old", "backup", "No backup was made for more than 36 hours"),
            Condition("abuse.burst", "sign-ups", "52 new accounts within an hour"),
        ]
        await staff_events.observe(conn, service.notifier._teller, seen, now=now)
        reason = "a reason that is not short, and then some " * 3
        await begin_capture(conn, ann, "", reason, 3, SYSTEM, now=now, entropy=secrets.token_bytes)
    await service.notifier.round()


async def test_how_the_pages_of_the_staff_look(browser: Browser, hotel: Hotel) -> None:
    reader = await owner(browser, hotel)
    await something_goes_out(hotel)
    id = await id_of(hotel, ANN)
    await reader.go("/admin/requests")
    receipt = await reader.page.get_attribute("main tbody a >> nth=0", "href")
    assert receipt is not None
    async with hotel.house.store.database.connect() as conn:
        key = (await management.list_keys(conn, id))[0].id
    person = f"/admin/users/{id}"
    steps = ("", "/disable", "/delete", "/plan?plan=pro", "/keys/new", f"/keys/{key}", f"/keys/{key}/revoke")
    pages = (*PAGES, *(f"{person}{step}" for step in steps), receipt, "/setup")
    wrong: list[str] = []
    for turn, path in enumerate(pages):
        wrong += await reader.judge(path, sample(THEMES, 1, turn))
        if path != "/setup":
            places = await reader.page.locator("aside [aria-current]").count()
            wrong += [] if places == 1 else [f"{path}: {places} places of the menu are this page's"]
    assert wrong + reader.complaints == []
    await photograph(reader, pages)
