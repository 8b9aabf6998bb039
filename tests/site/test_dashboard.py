"""What an account sees: its keys, requests, receipts, slots and plan, and nothing of anybody else's."""

import asyncio
import csv
import io
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from penstock.domain.accounts import accounts
from penstock.errors import PenstockError
from penstock.relay import relayed_call as relaying
from penstock.site.explanations import REMEDIES
from penstock.site.pages import browser
from penstock.store.sql.schema import audit
from tests.service.conversations import REPLIES, body_of
from tests.service.running_service import User
from tests.service.scripted import PATIENCE
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel

ANN = "ann@example.com"


async def on_lab(hotel: Hotel, reader: Reader, address: str = ANN, *, plan: str = "lab") -> User:
    """The account of a reader, on a plan that has every model of the tests."""
    key = await reader.key()
    async with hotel.house.store.database.transaction() as conn:
        user = await accounts.user_by_email(conn, address)
        await accounts.change_user(conn, user.id, accounts.Changes(plan_id=plan), now=1)
    return User(user.id, address, key)


# ---- keys


async def test_a_key_is_made_shown_rolled_and_revoked(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    page = (await reader.post("/keys", name="laptop", models="claude-haiku-4.5", addresses="127.0.0.1")).text
    made = re.search(r"sk-ps-\w{49}", page)
    assert made is not None
    assert (await hotel.house.http("GET", "/v1/models", made[0])).status == 200
    plain = (await reader.get("/keys")).text
    assert made[0] not in plain
    ids = re.findall(r"/keys/(key_\w+)/show", plain)
    assert len(ids) == 2
    shown = [await reader.post(f"/keys/{id}/show", password=PASSWORD) for id in ids]
    assert any(made[0] in answer.text for answer in shown)
    refused = await reader.post(f"/keys/{ids[0]}/show", password="wrong one")
    assert refused.status_code == 400
    assert "sk-ps-" not in re.sub(r"sk-ps-\w{6}\.\.\.", "", refused.text)
    rolled = await reader.post(f"/keys/{ids[0]}/roll", grace="3600")
    assert re.search(r"sk-ps-\w{49}", rolled.text)
    for id in ids:
        await reader.post(f"/keys/{id}/revoke")
    assert (await hotel.house.http("GET", "/v1/models", made[0])).status == 401
    async with hotel.house.store.database.connect() as conn:
        done = [row.action for row in await conn.execute(select(audit.c.action))]
    assert done.count("key_shown") == 2
    assert {"key_created", "key_rolled", "key_revoked"} <= set(done)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"addresses": "not-an-address"}, "address"),
        ({"expires": "2020-01-01"}, "expir"),
        ({"expires": "tomorrow"}, "2026-12-31"),
        ({"name": "default"}, "already"),
    ],
)
async def test_a_key_that_cannot_be(hotel: Hotel, fields: dict[str, str], said: str) -> None:
    reader = await hotel.reader().join(ANN)
    answer = await reader.post("/keys", None, **fields)
    assert answer.status_code == 400
    assert said in answer.text


async def test_keys_of_others_are_not_there(hotel: Hotel) -> None:
    ann, bob = await hotel.reader().join(ANN), await hotel.reader().join("bob@example.com")
    (id,) = re.findall(r"/keys/(key_\w+)/show", (await ann.get("/keys")).text)
    for what, fields in (("show", {"password": PASSWORD}), ("roll", {"grace": "0"}), ("revoke", {})):
        answer = await bob.post(f"/keys/{id}/{what}", None, **fields)
        assert answer.status_code == 400, what
        assert "no key" in answer.text
    assert (await hotel.house.http("GET", "/v1/models", await ann.key())).status == 200


async def test_where_keys_are_not_kept_they_are_shown_once(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, keys_reveal=False) as hotel:
        reader = await hotel.reader().join(ANN)
        assert "/show" not in (await reader.get("/keys")).text
        assert re.search(r"sk-ps-\w{49}", (await reader.post("/keys", name="one")).text)


async def test_the_playground_has_a_key_for_an_hour(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    answer = await reader.post("/playground/key")
    assert answer.headers["cache-control"] == "no-store, private"
    assert (await hotel.house.http("GET", "/v1/models", answer.text)).status == 200
    again = (await reader.post("/playground/key")).text
    assert (await hotel.house.http("GET", "/v1/models", answer.text)).status == 401, "one at a time"
    hotel.house.clock.now += 3601
    assert (await hotel.house.http("GET", "/v1/models", again)).status == 401
    assert (await reader.http.post("/playground/key")).status_code == 403, "not without the form's token"


async def test_embedding_models_are_offered_nowhere_for_chat(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    await on_lab(hotel, reader)
    page = (await reader.get("/playground")).text
    assert '<option value="chat-plain"' in page
    assert "embedding" not in page
    assert "embedding" not in (await reader.get("/welcome")).text


# ---- requests


async def test_requests_their_receipts_and_the_file(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    await hotel.house.ask("chat", "chat-plain", user)
    await hotel.house.ask("messages", "chat-plain", user, headers={"user-agent": "=cmd|danger"})
    await hotel.house.ask("chat", "chat-error-500", user)
    rows = await hotel.house.rows(user)
    log = (await reader.get("/requests")).text
    assert all(row["id"] in log for row in rows)
    failed = (await reader.get("/requests?outcome=failed")).text
    assert [row["id"] in failed for row in rows] == [False, False, True]
    first, _, last = [(await reader.get(f"/requests/{row['id']}")).text for row in rows]
    assert "gave an answer" in first
    assert "not counted" in last
    assert "failed before it gave any output" in last
    lines = list(csv.DictReader(io.StringIO((await reader.get("/requests.csv")).text)))
    assert [line["id"] for line in lines] == [row["id"] for row in reversed(rows)]
    assert not any(cell.startswith("=") for line in lines for cell in line.values())


async def test_a_receipt_and_the_file_say_which_other_model_answered(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    wire = hotel.house.wires["wire-chat"]
    for named in (b"up-chat-2026-01-15", b"@SUM(<b>1)"):
        wire.script = lambda asked, named=named: asked.answer(REPLIES["chat"].replace(b"up-chat", named))
        await hotel.house.ask("chat", "wire-chat", user)
    same, other = [(await reader.get(f"/requests/{row['id']}")).text for row in await hotel.house.rows(user)]
    assert "another model" not in same
    assert "another model" in other
    assert "<code>@SUM(?b?1)</code>" in other
    lines = list(csv.DictReader(io.StringIO((await reader.get("/requests.csv")).text)))
    assert [line["answered_model"] for line in lines] == ["'@SUM(?b?1)", ""]


async def test_requests_of_others_are_not_there(hotel: Hotel) -> None:
    ann, bob = await hotel.reader().join(ANN), await hotel.reader().join("bob@example.com")
    user = await on_lab(hotel, ann)
    await hotel.house.ask("chat", "chat-plain", user)
    row = await hotel.house.row(user)
    assert (await ann.get(f"/requests/{row['id']}")).status_code == 200
    stranger = await bob.get(f"/requests/{row['id']}")
    assert stranger.status_code == 404
    assert row["id"] not in (await bob.get("/requests")).text
    assert row["id"] not in (await bob.get("/requests.csv")).text
    assert row["id"] not in (await bob.get("/settings/export")).text


async def test_a_refused_request_is_in_the_log_and_its_page_says_what_to_do(hotel: Hotel) -> None:
    ann, bob = await hotel.reader().join(ANN), await hotel.reader().join("bob@example.com")
    user = await on_lab(hotel, ann)
    sent = await hotel.house.ask("chat", "chat-plain", user)
    unknown = await hotel.house.ask("chat", "no-<b>such", user)
    id = unknown.headers["x-request-id"]
    await hotel.house.rows(user)
    log = (await ann.get("/requests")).text
    assert log.index(id) < log.index(sent.headers["x-request-id"]), "the newest first"
    only = (await ann.get("/requests?outcome=refused")).text
    assert id in only
    assert sent.headers["x-request-id"] not in only
    assert id not in (await ann.get("/requests?outcome=completed")).text
    page = (await ann.get(f"/requests/{id}")).text
    for said in ("model_not_found", "There is no model of this name", "does not count", "no-&lt;b&gt;such"):
        assert said in page, said
    assert (await bob.get(f"/requests/{id}")).status_code == 404
    lines = list(csv.DictReader(io.StringIO((await ann.get("/requests.csv")).text)))
    assert (lines[0]["id"], lines[0]["error_code"]) == (id, "model_not_found")
    overview = (await ann.get("/dashboard")).text
    assert "<dt>model not found</dt><dd>1</dd>" in overview
    assert '<p class="value">1 <small>of 50,000</small></p>' in overview, "not counted against the day"


async def test_a_log_of_sent_and_refused_requests_is_read_page_by_page(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    ids: list[str] = []
    for number in range(120):
        hotel.house.clock.now += number % 3
        model = "chat-plain" if number % 2 else "no-such-model"
        ids.append((await hotel.house.ask("chat", model, user)).headers["x-request-id"])
    await hotel.house.rows(user)
    seen: list[str] = []
    path = "/requests"
    for _ in range(3):
        page = (await reader.get(path)).text
        seen += re.findall(r'href="/requests/(req_\w+)"', page)
        older = re.search(r'href="(/requests\?[^"]*before=[^"]+)"', page)
        path = "" if older is None else older[1].replace("&amp;", "&")
    assert seen == ids[::-1]
    assert path == ""


async def test_the_page_of_a_full_house_names_what_held_it_and_when_that_ended(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader, plan="one")
    wire = hotel.house.wires["wire-chat"]
    caller = await hotel.house.begin("chat", "wire-chat", user)
    asked = await wire.next()
    answer = await hotel.house.ask("chat", "chat-plain", user)
    assert answer.status == 429
    path = answer.headers["link"].split(">")[0].removeprefix("<")
    page = (await reader.get(path)).text
    assert "1 of 1, on the plan one" in page
    assert "running, or not written yet" in page
    assert "not yet" in page
    asked.answer(REPLIES["chat"])
    held = (await caller.answer()).headers["x-request-id"]
    await hotel.house.rows(user)
    page = (await reader.get(path)).text
    assert f'<a href="/requests/{held}"><code>{held}</code></a>' in page
    assert "after this request" in page
    assert "running, or not written yet" not in page


async def test_the_page_of_a_spent_day_says_when_it_ends(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader, plan="few")
    answer = [await hotel.house.ask("chat", "chat-plain", user) for _ in range(6)][-1]
    page = (await reader.get(f"/requests/{answer.headers['x-request-id']}")).text
    assert "5 of 5, on the plan few" in page
    assert "2027-01-16 00:00:00" in page
    assert "in 16 h" in page
    await hotel.house.rows(user)
    assert "<dt>daily limit reached</dt><dd>1</dd>" in (await reader.get("/dashboard")).text


async def test_the_page_of_too_many_refused_says_what_they_were(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, errors_per_minute=3) as hotel:
        reader = await hotel.reader().join(ANN)
        user = await on_lab(hotel, reader)
        answer = [await hotel.house.ask("chat", "no-such-model", user) for _ in range(4)][-1]
        assert answer.code == "too_many_refused_requests"
        page = (await reader.get(f"/requests/{answer.headers['x-request-id']}")).text
        assert "3 x <code>model_not_found</code>" in page


def test_every_error_has_a_remedy_and_leads_somewhere() -> None:
    def below(error: type[PenstockError]) -> set[type[PenstockError]]:
        return {error}.union(*(below(sub) for sub in error.__subclasses__()))

    codes = {error.code for error in below(PenstockError) if error.__module__ == "penstock.errors"}
    assert codes - REMEDIES.keys() == {"missing_api_key"}, "which has no account"


async def test_the_pages_of_remedies_are_there(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    for remedy in REMEDIES.values():
        if remedy.path:
            assert (await reader.get(remedy.path)).status_code in {200, 303}, remedy.path


async def test_a_long_log_is_read_page_by_page(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    for _ in range(60):
        await hotel.house.ask("chat", "chat-plain", user)
    rows = {row["id"] for row in await hotel.house.rows(user)}
    first = (await reader.get("/requests")).text
    older = re.search(r'href="(/requests\?[^"]*before=[^"]+)"', first)
    assert older is not None
    second = (await reader.get(older[1].replace("&amp;", "&"))).text
    seen = [set(re.findall(r"/requests/(req_\w+)", page)) for page in (first, second)]
    assert seen[0] | seen[1] == rows
    assert not seen[0] & seen[1]
    assert (await reader.get("/requests?before=x")).status_code == 400


async def test_the_overview_counts_what_the_ledger_counts(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    empty = (await reader.get("/dashboard")).text
    assert "No requests in these days" in empty
    user = await on_lab(hotel, reader)
    for model in ("chat-plain", "messages-plain", "chat-error-500"):
        await hotel.house.ask("chat", model, user)
    await hotel.house.rows(user)
    page = (await reader.get("/dashboard?days=30")).text
    assert '<p class="value">2 <small>of 50,000</small></p>' in page
    assert "3, 1 of them not counted" in page
    assert "<title>2027-01-15: chat-plain 1</title>" in page


async def test_the_first_minute_turns_green(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    waiting = (await reader.get("/welcome")).text
    assert "Waiting for your first request" in waiting
    assert "data-done" not in waiting
    user = await on_lab(hotel, reader)
    await hotel.house.ask("chat", "chat-plain", user)
    row = await hotel.house.row(user)
    page = (await reader.get("/welcome")).text
    assert "data-done" in page
    assert f"/requests/{row['id']}" in page
    assert user.key not in page


# ---- live slots


async def running(hotel: Hotel, reader: Reader) -> str:
    """The id of the request that the page of live slots shows, once it has reached its provider."""
    async with asyncio.timeout(PATIENCE):
        while not hotel.house.visits:  # noqa: ASYNC110 - the simulator's journal is a list
            await asyncio.sleep(0)
    page = (await reader.get("/slots")).text
    assert "1 of 64 in use" in page
    (id,) = re.findall(r'name="id" value="(req_\w+)"', page)
    return id


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", ["chat", "messages"])
async def test_a_running_request_can_be_ended_by_its_owner_alone(
    hotel: Hotel, dialect: str, stream: bool
) -> None:
    ann, bob = await hotel.reader().join(ANN), await hotel.reader().join("bob@example.com")
    user = await on_lab(hotel, ann)
    model = f"{dialect}-hang-mid" if stream else f"{dialect}-hang"
    caller = await hotel.house.begin(dialect, model, user, stream=stream)
    head = await caller.head() if stream else None
    id = await running(hotel, ann)
    assert (await bob.get("/slots")).text.count("req_") == 0
    await bob.post("/slots/end", id=id)
    assert hotel.house.held(user) == 1
    await ann.post("/slots/end", id=id)
    if head is not None:
        assert b"has ended this request" in (await caller.rest(head)).body
    else:
        answer = await caller.answer()
        assert (answer.status, answer.code) == (400, "ended_by_owner")
    row = await hotel.house.row(user)
    assert (row["outcome"], row["counted"], row["error_code"]) == ("ended_by_owner", True, "ended_by_owner")
    assert hotel.house.held(user) == 0


async def test_the_receipt_of_a_request_that_the_database_has_nothing_of_yet_says_that_it_runs(
    hotel: Hotel,
) -> None:
    ann, bob = await hotel.reader().join(ANN), await hotel.reader().join("bob@example.com")
    user = await on_lab(hotel, ann)
    assert hotel.house.service is not None
    assert hotel.house.service._api is not None
    hotel.house.service._api._relay.ledger._hold = 3600.0
    caller = await hotel.house.begin("chat", "chat-hang", user)
    id = await running(hotel, ann)
    mine, other = await ann.get(f"/requests/{id}"), await bob.get(f"/requests/{id}")
    assert (mine.status_code, other.status_code) == (404, 404)
    assert "This request is running" in mine.text
    assert "There is no such request" in other.text
    await ann.post("/slots/end", id=id)
    await caller.answer()
    await hotel.house.row(user)
    assert (await ann.get(f"/requests/{id}")).status_code == 200


@pytest.mark.parametrize("dialect", ["chat", "messages"])
async def test_a_request_can_be_ended_before_it_has_reached_its_provider(
    hotel: Hotel, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    ann = await hotel.reader().join(ANN)
    user = await on_lab(hotel, ann)
    loop, begun, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    prepare = relaying.prepared_for

    def held(*args: Any, **kwargs: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(PATIENCE)
        return prepare(*args, **kwargs)

    monkeypatch.setattr(relaying, "prepared_for", held)
    text = [{"role": "user", "content": "x" * 300_000}]
    asked = asyncio.create_task(
        hotel.house.post(dialect, body_of(dialect, f"{dialect}-plain", messages=text), user)
    )
    await begun.wait()
    (id,) = re.findall(r'name="id" value="(req_\w+)"', (await ann.get("/slots")).text)
    await ann.post("/slots/end", id=id)
    answer = await asked
    go.set()
    assert (answer.status, answer.code) == (400, "ended_by_owner")
    assert await hotel.house.rows(user) == []
    assert hotel.house.held(user) == 0


# ---- the plan


async def test_another_plan_is_asked_of_the_operator(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    async with hotel.house.store.database.transaction() as conn:
        await accounts.create_user(
            conn, "boss@example.com", plan="pro", admin=True, verified=True, now=1, id="usr_boss"
        )
    assert (await reader.post("/plan/ask", plan="no-such-plan")).status_code == 400
    assert (await reader.post("/plan/ask", plan="ten")).status_code == 303
    assert "asked for" in (await reader.get("/plan")).text
    await hotel.posted()
    (mail,) = hotel.mailbox.texts("boss@example.com")
    assert f"penstock user set --email {ANN} --plan ten" in mail


async def test_a_receipt_and_the_files_say_what_few_answers_are_billed_by(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    user = await on_lab(hotel, reader)
    wire = hotel.house.wires["wire-chat"]
    for more in (b"", b',"service_tier":"priority"'):
        counts = b'"usage":{"server_tool_use":{"web_search_requests":37},' if more else b'"usage":{'
        body = REPLIES["chat"].replace(b'"usage":{', counts).removesuffix(b"}") + more + b"}"
        wire.script = lambda asked, body=body: asked.answer(body)
        await hotel.house.ask("chat", "wire-chat", user)
    plain, special = [
        (await reader.get(f"/requests/{row['id']}")).text for row in await hotel.house.rows(user)
    ]
    assert "Searches" not in plain
    assert "Service tier" not in plain
    assert "<dt>Searches</dt><dd>37</dd>" in special
    assert "<code>priority</code>" in special
    lines = list(csv.DictReader(io.StringIO((await reader.get("/requests.csv")).text)))
    assert [(line["service_tier"], line["web_searches"]) for line in lines] == [("priority", "37"), ("", "")]
    sums = list(csv.DictReader(io.StringIO((await reader.get("/usage.csv")).text)))
    assert [line["web_searches"] for line in sums] == ["37"]


async def test_live_slots_say_what_runs(hotel: Hotel) -> None:
    ann = await hotel.reader().join(ANN)
    user = await on_lab(hotel, ann)
    caller = await hotel.house.begin(
        "chat",
        "chat-hang",
        user,
        headers={"user-agent": "claude-cli/2.1.330 (external, sdk-cli)"},
        stream=True,
    )
    id = await running(hotel, ann)
    page = (await ann.get("/slots")).text
    (line,) = re.findall(rf'<tr data-key="{id}">.*?</tr>', page, re.DOTALL)
    for label, said in (("Model", "chat-hang"), ("Client", "claude-code"), ("Streamed", "yes")):
        assert f'data-label="{label}">{said}</td>' in line
    assert 'data-label="Key">-' not in line
    await ann.post("/slots/end", id=id)
    await caller.answer()


async def test_settings_switch_the_mails_about_the_day(hotel: Hotel) -> None:
    ann = await hotel.reader().join(ANN)
    box = r'<input type="checkbox" name="day" value="yes"( checked)?>'
    for fields, checked in (({}, ""), ({"day": "yes"}, " checked")):
        assert (await ann.post("/settings/mails", **fields)).status_code == 303
        assert re.findall(box, (await ann.get("/settings")).text) == [checked]


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Safari/537.36",
            "Chrome on Linux",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:150.0) Gecko/20100101 Firefox/150.0",
            "Firefox on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/150.0 Safari/537.36 Edg/150.0", "Edge on Windows"),
        ("something/1", "something/1"),
        ("", "unknown"),
    ],
)
def test_browsers_are_called_as_people_call_them(agent: str, said: str) -> None:
    assert browser(agent) == said
