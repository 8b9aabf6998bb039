"""What staff do on the admin pages: each action with what it changes, its entry in the trail, and its undoing."""

import html
import re

import pytest
from sqlalchemy import select, update

from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import parse
from penstock.domain.trail import chain
from penstock.providers.table import KINDS
from penstock.store.sql.schema import api_keys, audit, changes, outbox, trail
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.staff import id_of, member

ANN = "ann@example.com"
SENT = (
    "/keys",
    "/settings/password",
    "/settings/leave",
    "/plan/ask",
    "/slots/end",
    "/playground/key",
    "/settings/sessions/end",
    "/signout",
)
"""Forms of an account."""


@pytest.fixture
async def ann(hotel: Hotel) -> Reader:
    return await hotel.reader("198.51.100.250").join(ANN)


@pytest.fixture
async def owner(hotel: Hotel) -> Reader:
    return await member(hotel, "owner")


async def actions(hotel: Hotel) -> list[str]:
    async with hotel.house.store.database.connect() as conn:
        return list(await conn.scalars(select(trail.c.action).order_by(trail.c.at, trail.c.id)))


async def operation(hotel: Hotel) -> str:
    """The newest change's."""
    async with hotel.house.store.database.connect() as conn:
        found = await conn.scalar(select(changes.c.operation).order_by(changes.c.at.desc()).limit(1))
    assert found is not None
    return found


async def test_an_account_is_disabled_after_a_question_and_comes_back(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    id = await id_of(hotel, ANN)
    question = (await owner.get(f"/admin/users/{id}/disable")).text
    assert "0 requests run at the moment" in question
    done = await owner.post(f"/admin/users/{id}/disable", reason="asked by mail")
    assert done.headers["location"] == f"/admin/users/{id}?notice=admin-saved"
    assert not await ann.is_in()
    assert "disabled" in (await owner.get(f"/admin/users/{id}")).text
    page = (await owner.get("/admin/audit?action=user_changed")).text
    assert "asked by mail" in page
    answer = await owner.post(f"/admin/changes/{await operation(hotel)}/undo")
    assert answer.headers["location"] == "/admin/changes?notice=undone"
    assert (await hotel.reader().sign_in(ANN)).status_code == 303
    assert {"user_changed", "change_undone"} <= set(await actions(hotel))


async def test_an_account_is_deleted_once_its_address_was_typed_and_can_be_kept(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    id, key = await id_of(hotel, ANN), await ann.key()
    there = f"/admin/users/{id}"
    assert "Its keys (1) stop" in (await owner.get(f"{there}/delete")).text
    assert (await owner.post(f"{there}/delete", typed="bob@example.com")).status_code == 400
    assert await ann.is_in()
    assert (await owner.post(f"{there}/delete", typed="Ann@example.com")).status_code == 303
    assert not await ann.is_in()
    assert (await ann.http.get("/api/v1/models", headers={"x-api-key": key})).status_code == 403
    await hotel.posted()
    assert any("will be deleted on" in text for text in hotel.mailbox.texts(ANN))
    assert (await owner.post(f"{there}/keep")).status_code == 303
    assert (await ann.http.get("/api/v1/models", headers={"x-api-key": key})).status_code == 200
    assert {"user_deleted", "user_kept"} <= set(await actions(hotel))


async def test_a_plan_is_set_with_a_preview_and_its_owner_is_mailed(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    id = await id_of(hotel, ANN)
    await ann.post("/plan/ask", plan="pro")
    assert "One account asks for another plan" in (await owner.get("/admin")).text
    assert ANN in (await owner.get("/admin/users?state=wish")).text
    question = (await owner.get(f"/admin/users/{id}/plan?plan=pro")).text
    assert "50,000 a day, 10 at once" in question
    await owner.post(f"/admin/users/{id}/plan", plan="pro")
    await hotel.posted()
    assert any("plan to pro" in text for text in hotel.mailbox.texts(ANN))
    assert "asks for another plan" not in (await owner.get("/admin")).text
    first = await operation(hotel)
    await owner.post(f"/admin/users/{id}/plan", plan="starter")
    refused = await owner.post(f"/admin/changes/{first}/undo")
    assert refused.status_code == 409
    assert "was changed since" in refused.text
    assert (await owner.get(f"/admin/users/{id}/plan?plan=none")).status_code == 400


async def test_a_key_is_revoked_and_comes_back_within_ten_minutes(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    key, id = await ann.key(), await id_of(hotel, ANN)
    page = (await owner.get(f"/admin/users/{id}")).text
    found = re.search(r"/admin/users/\w+/keys/(key_\w+)/revoke", page)
    assert found is not None
    assert "was never used" in (await owner.get(found[0])).text
    assert (await owner.post(found[0])).status_code == 303
    headers = {"x-api-key": key}
    assert (await ann.http.get("/api/v1/models", headers=headers)).status_code == 401
    other = await member(hotel, "admin")
    first = await operation(hotel)
    assert (await other.post(f"/admin/changes/{first}/undo")).status_code == 409, "only by whoever did it"
    assert (await owner.post(f"/admin/changes/{first}/undo")).status_code == 303
    assert (await ann.http.get("/api/v1/models", headers=headers)).status_code == 200
    await owner.post(found[0], reason="leaked")
    assert (await owner.post(f"/admin/changes/{await operation(hotel)}/undo")).status_code == 409


async def test_case_8_the_pages_of_an_account_are_seen_and_nothing_is_changed(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    id = await id_of(hotel, ANN)
    begun = await owner.post(f"/admin/users/{id}/view")
    assert begun.headers["location"] == "/dashboard"
    for path in ("/dashboard", "/keys", "/requests", "/usage", "/slots", "/playground", "/plan", "/settings"):
        page = await owner.get(path)
        assert page.status_code == 200, path
        assert "as their owner does" in page.text, path
    assert ANN in (await owner.get("/settings")).text
    for path in SENT:
        assert (await owner.post(path, name="x", plan="pro", current=PASSWORD)).status_code == 403, path
    for path in ("/requests.csv", "/usage.csv", "/settings/export", "/welcome"):
        assert (await owner.get(path)).status_code == 403, path
    assert "Overview" in (await owner.get("/admin")).text, "the staff's own pages are theirs"
    stopped = await owner.post("/admin/view/stop")
    assert stopped.headers["location"] == f"/admin/users/{id}"
    assert "owner@example.com" in (await owner.get("/settings")).text
    told = await actions(hotel)
    assert (told.count("view_started"), told.count("view_stopped")) == (1, 1)
    async with hotel.house.store.database.connect() as conn:
        own = list(await conn.scalars(select(audit.c.action).where(audit.c.user_id == id)))
    assert {"viewed_by_staff", "view_by_staff_ended"} <= set(own)
    assert await ann.is_in()


async def test_case_8_it_ends_after_half_an_hour_and_with_the_role(
    hotel: Hotel, ann: Reader, owner: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await id_of(hotel, ANN)
    assert await ann.is_in()
    monkeypatch.setattr("penstock.domain.staff.view_as.VIEW_MS", -1)
    await owner.post(f"/admin/users/{id}/view")
    assert "as their owner does" not in (await owner.get("/dashboard")).text
    monkeypatch.setattr("penstock.domain.staff.view_as.VIEW_MS", 60_000)
    viewer = await member(hotel, "viewer")
    assert (await viewer.post(f"/admin/users/{id}/view")).status_code == 403
    staff = await owner.post(f"/admin/users/{await id_of(hotel, 'viewer@example.com')}/view")
    assert staff.status_code == 403, "an account of the staff is not viewed"


async def test_case_9_one_box_finds_everything_and_keeps_no_key(
    hotel: Hotel, ann: Reader, owner: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    key, id = await ann.key(), await id_of(hotel, ANN)
    answer = await ann.http.post(
        "/api/v1/chat/completions",
        json={"model": "claude-haiku-4.5", "messages": [{"role": "user", "content": "Hello"}]},
        headers={"x-api-key": key},
    )
    assert answer.status_code == 200
    request = answer.headers["x-request-id"]
    await ann.http.post("/api/v1/chat/completions", json={"model": "none"}, headers={"x-api-key": key})
    there = f"/admin/users/{id}"
    for typed in (key, ANN, "ANN@example.com", "ann@", id, key[:12], key[-4:]):
        found = await owner.post("/admin/search", q=typed)
        assert (found.status_code, found.headers.get("location")) == (303, there), typed
        assert key not in found.text
    assert hotel.house.service is not None
    page = await owner.get(f"/admin/requests/{request}")
    if page.status_code == 404:
        assert "has run for some seconds" in page.text
    assert "Nothing is called so" in (await owner.post("/admin/search", q="nobody@example.com")).text
    assert key not in caplog.text
    async with hotel.house.store.database.connect() as conn:
        assert key not in str((await conn.execute(select(trail))).all())
        assert (await conn.scalar(select(api_keys.c.id).where(api_keys.c.user_id == id))) is not None


async def test_a_plan_is_edited_with_counts_and_undone(hotel: Hotel, ann: Reader, owner: Reader) -> None:
    assert await ann.is_in()
    preview = await owner.post(
        "/admin/plans/free/change",
        **{
            "name": "Free",
            "daily_requests": "77",
            "concurrent_requests": "2",
            "queue_seconds": "0",
            "model-claude-haiku-4.5": "on",
        },
    )
    assert preview.status_code == 200
    assert "accounts on free will have the new limits" in preview.text
    fields = dict(re.findall(r'name="(text|seen|back)" value="([^"]*)"', preview.text))
    fields["text"] = fields["text"].replace("&#34;", '"').replace("&quot;", '"')
    stale = await owner.post("/admin/catalog/apply", **{**fields, "seen": "sha256:00000000"})
    assert stale.status_code == 409
    done = await owner.post("/admin/catalog/apply", **fields, reason="less for all")
    assert done.headers["location"] == "/admin/plans/free?notice=catalog-saved", done.text
    async with hotel.house.store.database.connect() as conn:
        row = (await conn.execute(select(trail).where(trail.c.action == "catalog_changed"))).one()
    assert '"daily_requests":77' in row.after
    first = await operation(hotel)
    page = (await owner.get(f"/admin/changes/{first}")).text
    assert "daily_requests = 77" in page
    for role, may_see in (("admin", True), ("viewer", False), ("support", False), ("billing", False)):
        seen = (await (await member(hotel, role)).get(f"/admin/changes/{first}")).text
        assert ("daily_requests = " in seen) is may_see, role
        assert ("It was changed." in seen) is not may_see, role
    assert (await owner.post(f"/admin/changes/{first}/undo")).status_code == 303
    assert (await owner.post(f"/admin/changes/{first}/undo")).status_code == 409
    exported = (await owner.get("/admin/catalog/edit?kind=plan&id=free")).text
    assert "daily_requests = 5000" in exported


async def test_the_boxes_of_a_plan_change_no_order(hotel: Hotel, owner: Reader) -> None:
    page = (await owner.get("/admin/plans/free")).text
    ticked = re.findall(r'name="(model-[^"]+)" checked', page)
    assert len(ticked) == 4
    limits = {"name": "Free", "concurrent_requests": "1", "queue_seconds": "0"}
    fields = {**limits, **dict.fromkeys(reversed(ticked), "on")}
    same = await owner.post("/admin/plans/free/change", **fields, daily_requests="5000")
    assert "it is like this already" in same.text
    other = await owner.post("/admin/plans/free/change", **fields, daily_requests="6000")
    assert "updated plan free (daily_requests)" in other.text
    assert (await owner.post("/admin/plans/free/change", **fields, daily_requests="x")).status_code == 400


async def test_what_is_no_catalogue_is_told_beside_its_text(hotel: Hotel, owner: Reader) -> None:
    for text in ("[[plan]", '[[model]]\nid = "x"\ntargets = [{ provider = "none", model = "y" }]'):
        answer = await owner.post("/admin/catalog/preview", text=text)
        assert answer.status_code == 422
        assert 'role="alert"' in answer.text


async def test_case_4_the_last_owner_stays(hotel: Hotel, owner: Reader) -> None:
    email, id = "owner@example.com", await id_of(hotel, "owner@example.com")
    for role in ("viewer", "none"):
        answer = await owner.post("/admin/staff/set", email=email, role=role, current=PASSWORD)
        assert answer.status_code == 409
        assert "the last owner" in answer.text
    assert (await owner.post(f"/admin/users/{id}/disable")).status_code == 409
    assert "the last owner" in (await owner.post("/settings/leave", current=PASSWORD)).text
    await hotel.reader("198.51.100.77").join("second@example.com")
    wrong = await owner.post("/admin/staff/set", email="second@example.com", role="owner", current="no")
    assert wrong.status_code == 400, "a role wants the password"
    await owner.post("/admin/staff/set", email="second@example.com", role="owner", current=PASSWORD)
    answer = await owner.post("/admin/staff/set", email=email, role="none", current=PASSWORD)
    assert answer.status_code == 303
    assert (await owner.get("/admin")).status_code == 303, "who has lost a role is signed out"


async def test_the_staff_need_a_second_factor_once_they_come_by_https(hotel: Hotel, owner: Reader) -> None:
    folder = hotel.house.store.settings.data.parent / "other"
    async with open_hotel(folder, public_url="https://llm.example.com") as other:
        reader = await member(other, "owner")
        page = await reader.get("/admin")
        assert page.status_code == 403
        assert "second factor" in page.text
    assert (await owner.get("/admin")).status_code == 200


async def test_the_trail_is_verified_and_taken_away_on_its_page(hotel: Hotel, owner: Reader) -> None:
    async with hotel.house.store.database.transaction() as conn:
        while await chain.seal(conn):
            pass
    page = (await owner.post("/admin/audit/verify")).text
    assert "are as they were written" in page
    lines = (await owner.get("/admin/audit.jsonl")).text.splitlines()
    assert len(lines) == 1, "what is sealed"
    async with hotel.house.store.database.transaction() as conn:
        await conn.execute(update(trail).where(trail.c.seq == 1).values(reason="x"))
    assert "Broken at entry 1" in (await owner.post("/admin/audit/verify")).text


async def test_mails_are_seen_without_their_text_and_sent_again(hotel: Hotel, owner: Reader) -> None:
    assert (await owner.post("/admin/mail/test")).status_code == 303
    await hotel.posted()
    assert any("asked for on the admin pages" in text for text in hotel.mailbox.texts("owner@example.com"))
    page = (await owner.get("/admin/mail")).text
    assert "asked for on the admin pages" not in page
    assert "sent" in page
    async with hotel.house.store.database.connect() as conn:
        id = await conn.scalar(select(outbox.c.id).limit(1))
    assert id is not None
    assert (await owner.post("/admin/mail/again", id=id)).status_code == 400, "it was sent"


async def test_settings_say_where_they_come_from_and_hide_secrets(hotel: Hotel, owner: Reader) -> None:
    page = (await owner.get("/admin/settings")).text
    assert "mail_url" in page
    assert "default" in page
    for path in ("/admin/jobs", "/admin/live", "/admin/models?served=no", "/admin/providers/sim-chat"):
        assert (await owner.get(path)).status_code == 200, path


async def test_an_incident_is_told_from_its_beginning_to_its_end(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    said = {
        "title": "Slow <answers>",
        "state": "investigating",
        "text": "We look into it.",
        "models": "claude-haiku-4.5",
    }
    stranger = hotel.reader()
    assert "Slow" not in (await stranger.get("/status")).text
    assert (await owner.post("/admin/notices/incidents", **said)).headers["location"].endswith("notice=told")
    page = (await stranger.get("/status")).text
    assert "Slow &lt;answers&gt;" in page
    assert page.index("investigating") < page.index("We look into it.")
    assert "owner@example.com" not in page
    found = (await stranger.get("/status.json")).json()["incidents"]
    assert [(it["state"], it["models"]) for it in found] == [("investigating", ["claude-haiku-4.5"])]
    there = f"/admin/notices/incidents/{found[0]['id']}"
    hotel.house.clock.now += 60
    assert (await owner.post(there, state="resolved", text="It was the network.")).status_code == 303
    page = (await stranger.get("/status")).text
    assert (
        page.index("Incidents of the last")
        < page.index("It was the network.")
        < page.index("We look into it.")
    )
    for wrong in ({"state": "gone"}, {"models": "none-such"}, {"title": ""}, {"text": " "}):
        assert (await owner.post("/admin/notices/incidents", **{**said, **wrong})).status_code == 400, wrong
    assert (
        await owner.post("/admin/notices/incidents/inc_none", state="resolved", text="x")
    ).status_code == 404
    assert {"incident_opened", "incident_updated"} <= set(await actions(hotel))


async def test_a_banner_is_seen_by_those_it_is_for_until_it_is_withdrawn(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    stranger = hotel.reader()
    await owner.post("/admin/notices/announcements", text="New models", plan="", days="3")
    await owner.post("/admin/notices/announcements", text="For pro alone", plan="pro", days="3")
    for reader, pro in ((stranger, False), (ann, False)):
        page = (await reader.get("/status")).text
        assert ("New models" in page, "For pro alone" in page) == (True, pro)
    page = (await owner.get("/admin/notices")).text
    withdrawn = re.findall(r"/admin/notices/announcements/ann_\w+/withdraw", page)
    assert len(withdrawn) == 2
    for path in withdrawn:
        assert (await owner.post(path)).status_code == 303
    assert "New models" not in (await ann.get("/dashboard")).text
    assert (await owner.post(withdrawn[0])).status_code == 404
    for wrong in ({"days": "0"}, {"days": "x"}, {"plan": "none"}, {"text": ""}):
        sent = {"text": "t", "plan": "", "days": "3", **wrong}
        assert (await owner.post("/admin/notices/announcements", **sent)).status_code == 400, wrong
    assert {"announced", "announcement_withdrawn"} <= set(await actions(hotel))


async def test_an_account_is_made_for_somebody_and_its_key_is_shown_once(hotel: Hotel, owner: Reader) -> None:
    page = (await owner.post("/admin/users/new", email="guest@example.com", plan="pro", verified="yes")).text
    (key,) = set(re.findall(r"sk-ps-\w{49}", page))
    assert (await hotel.house.http("GET", "/v1/models", key)).status == 200
    id = await id_of(hotel, "guest@example.com")
    assert key not in (await owner.get(f"/admin/users/{id}")).text
    again = await owner.post("/admin/users/new", email="Guest@example.com", plan="starter")
    assert again.status_code == 400
    assert 'value="Guest@example.com"' in again.text, "what was filled in stays"
    assert re.search(r"<option selected>starter", again.text)
    unknown = await owner.post("/admin/users/new", email="other@example.com", plan="none")
    assert unknown.status_code == 400
    closed = (await owner.post("/admin/users/new", email="other@example.com", plan="free")).text
    assert "answers 403 until the address is verified" in closed
    assert {"user_made"} <= set(await actions(hotel))


async def test_staff_make_bound_and_roll_keys(hotel: Hotel, ann: Reader, owner: Reader) -> None:
    id = await id_of(hotel, ANN)
    there = f"/admin/users/{id}/keys"
    fields = {"name": "ci", "model:claude-haiku-4.5": "on", "daily": "9", "expires": "2027-03-01"}
    page = (await owner.post(f"{there}/new", **fields)).text
    (made,) = set(re.findall(r"sk-ps-\w{49}", page))
    assert made not in (await ann.get("/keys")).text
    found = re.search(rf"{there}/(key_\w+)\">ci<", (await owner.get(f"/admin/users/{id}")).text)
    assert found is not None
    form = (await owner.get(f"{there}/{found[1]}")).text
    for said in ('value="ci"', 'value="9"', 'value="2027-03-01"'):
        assert said in form, said
    assert re.search(r'name="model:claude-haiku-4.5" checked', form)
    refused = await owner.post(f"{there}/{found[1]}", name="build", daily="9999999")
    assert refused.status_code == 400
    assert 'value="build"' in refused.text, "what was filled in stays"
    assert (await owner.post(f"{there}/{found[1]}", name="build", daily="8")).status_code == 303
    assert (await owner.post(f"{there}/{found[1]}/roll", grace="5")).status_code == 400
    page = (await owner.post(f"{there}/{found[1]}/roll", grace="0")).text
    (rolled,) = set(re.findall(r"sk-ps-\w{49}", page))
    assert [(await hotel.house.http("GET", "/v1/models", key)).status for key in (made, rolled)] == [401, 200]
    assert "no longer works" in (await owner.get(f"{there}/{found[1]}")).text
    assert {"key_made", "key_changed", "key_rolled"} <= set(await actions(hotel))
    other = await id_of(hotel, "owner@example.com")
    assert (await owner.get(f"/admin/users/{other}/keys/{found[1]}")).status_code == 404


async def test_a_model_is_removed_with_who_used_it_and_comes_back(hotel: Hotel, owner: Reader) -> None:
    there = "/admin/models/remove"
    question = (await owner.get(f"{there}?id=claude-haiku-4.5")).text
    assert "the plans free" in question
    assert "in seven days it had 0 requests" in question
    assert (await owner.get(f"{there}?id=none")).status_code == 404
    done = await owner.post(there, id="claude-haiku-4.5", reason="too old")
    assert done.headers["location"] == "/admin/models?notice=catalog-saved"
    text = "/admin/catalog/edit?kind=model&id="
    assert (await owner.get(f"{text}claude-haiku-4.5")).status_code == 404
    assert (await owner.get(f"{text}claude-sonnet-4.6")).status_code == 200, "no other"
    assert "too old" in (await owner.get("/admin/audit?action=catalog_changed")).text
    assert (await owner.post(f"/admin/changes/{await operation(hotel)}/undo")).status_code == 303
    assert (await owner.get(f"{text}claude-haiku-4.5")).status_code == 200


async def test_a_model_is_removed_alone_whatever_others_are_served_by(hotel: Hotel) -> None:
    document = """
[[provider]]
id = "mill"
speaks = { chat = "http://127.0.0.1:9/v1" }
[[model]]
id = "mill/rye"
targets = [{ provider = "mill", model = "rye" }]
[[model]]
id = "fast"
targets = [{ provider = "mill", model = "rye" }]
[[model]]
id = "mill/rye-2"
targets = [{ provider = "mill", model = "rye-2" }]
"""
    async with hotel.house.store.database.transaction() as conn:
        await catalog_store.apply_document(conn, parse(document, KINDS), KINDS, 1)
    await hotel.house.restart()
    owner = await member(hotel, "owner")
    done = await owner.post("/admin/models/remove", id="mill/rye")
    assert done.status_code == 303, done.text
    left = [
        (await owner.get(f"/admin/catalog/edit?kind=model&id={name}")).status_code
        for name in ("mill/rye", "fast", "mill/rye-2")
    ]
    assert left == [404, 200, 200]


async def test_older_requests_stay_on_their_day_over_midnight(hotel: Hotel, owner: Reader) -> None:
    user = await hotel.house.user()
    hotel.house.clock.now += 15.9 * 3600  # it was eight
    for _ in range(51):
        await hotel.house.ask("chat", "chat-plain", user)
    assert len(await hotel.house.rows(user)) == 51
    first = (await owner.get("/admin/requests")).text
    older = re.search(r'href="(/admin/requests\?[^"]*before=[^"]*)"', first)
    assert older is not None
    hotel.house.clock.now += 3600
    assert "/admin/requests/req_" not in (await owner.get("/admin/requests")).text
    second = (await owner.get(html.unescape(older[1]))).text
    shown = [set(re.findall(r"/admin/requests/(req_\w+)", page)) for page in (first, second)]
    assert [len(each) for each in shown] == [50, 1]
    assert not shown[0] & shown[1]
    for wrong in ("x", "1.x", "1.2", "20468.-1.req_1", "1234567.1.a"):
        assert (await owner.get(f"/admin/requests?before={wrong}")).status_code == 400, wrong


async def test_a_plan_is_made_by_a_form_with_its_preview(hotel: Hotel, owner: Reader) -> None:
    there = "/admin/plans/new"
    limits = {"name": "Team", "daily_requests": "900", "concurrent_requests": "3", "queue_seconds": "0"}
    assert 'name="model-claude-haiku-4.5"' in (await owner.get(there)).text
    for wrong, said in (
        ({"id": "free"}, "a plan of this id already"),
        ({"id": "Team 1"}, "Team 1"),
        ({"id": "team", "daily_requests": "many"}, "is a whole number"),
    ):
        answer = await owner.post(there, **{**limits, **wrong, "model-claude-haiku-4.5": "on"})
        assert answer.status_code == 422, wrong
        assert said in answer.text
        assert 'name="model-claude-haiku-4.5" checked' in answer.text, "what was filled in stays"
    preview = await owner.post(there, id="team", **limits, **{"model-claude-haiku-4.5": "on"})
    assert "added plan team" in preview.text
    fields = dict(re.findall(r'name="(text|seen|back)" value="([^"]*)"', preview.text))
    fields["text"] = fields["text"].replace("&#34;", '"').replace("&quot;", '"')
    done = await owner.post("/admin/catalog/apply", **fields)
    assert done.headers["location"] == "/admin/plans?notice=catalog-saved"
    page = (await owner.get("/admin/plans/team")).text
    assert 'value="900"' in page


async def test_what_is_worst_stands_first_of_what_needs_somebody(
    hotel: Hotel, ann: Reader, owner: Reader
) -> None:
    await ann.post("/plan/ask", plan="pro")
    async with hotel.house.store.database.transaction() as conn:
        lost = {
            "id": "mail_x",
            "kind": "code",
            "recipient": ANN,
            "created_at": int(hotel.house.clock.now * 1000),
            "tries": 8,
        }
        await conn.execute(outbox.insert().values(**lost, error="550 no such mailbox"))
    page = (await owner.get("/admin")).text
    needs = re.findall(r'<li><span class="badge (\w+)">', page[page.index("Needs you") : page.index("</ul>")])
    assert set(needs) == {"bad", "warn"}
    assert needs == sorted(needs), "bad before warn"
    assert "one mail was given up in a week: 550 no such mailbox" in page
