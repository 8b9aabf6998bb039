"""Webhooks, rules and exports by pages and programs: secrets once, undo, and canaries that are found nowhere."""

import asyncio
import base64
import logging
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from penstock.cli import main
from penstock.domain.notifications import staff_events
from penstock.domain.notifications.staff_events import Condition
from penstock.store.sql.schema import metadata
from tests.service.receivers import Receiver, receiving, trusting
from tests.site.page_reader import Reader, open_hotel
from tests.site.staff import member
from tests.site.test_admin_api import Caller, Staffed
from tests.stores import Engine, engine

__all__ = ["engine"]

THERE = "/admin/notifications"
BUCKET_SECRET = "canary-bucket/secret-5dd1+x"
HEADER_SECRET = "canary-header-71c0f2"
URL = "https://hooks.example.com/canary-path?token=canary-query"


async def _undo(owner: Reader) -> int:
    """Undo the newest change."""
    owner.hotel.house.clock.now += 1
    page = (await owner.get("/admin/changes")).text
    newest = re.findall(r"/admin/changes/(opn_\w+)", page)[0]
    return (await owner.post(f"/admin/changes/{newest}/undo")).status_code


async def test_webhooks_rules_and_exports_come_and_go_by_pages_and_can_be_had_back(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, **trusting(tmp_path)) as hotel:
        owner, viewer = await member(hotel, "owner"), await member(hotel, "viewer")
        made = (await owner.post(f"{THERE}/webhooks", name="pager", url=URL, shape="plain")).text
        assert re.search(r"whsec_[\w+/]{43}=", made)
        page = (await owner.get(THERE)).text
        assert "hooks.example.com" in page
        assert "canary" not in page
        assert "whsec_" not in page
        for wrong in (
            {"name": "pager", "url": URL, "shape": "plain"},
            {"name": "x", "url": "http://hooks.example.com/canary-plain", "shape": "plain"},
            {"name": "x", "url": URL, "shape": "loud"},
            {"name": "", "url": URL, "shape": "plain"},
        ):
            refused = await owner.post(f"{THERE}/webhooks", **wrong)
            assert refused.status_code == 400
            assert "canary" not in refused.text
        (id,) = set(re.findall(r"whk_\w+", page))
        rule = {"event": "*", "least": "warning", "target": id, "recipient": "", "when": "once", "quiet": ""}
        assert (await owner.post(f"{THERE}/rules", **rule)).status_code == 303
        for wrong in ({"event": "weather"}, {"least": "loud"}, {"quiet": "late"}, {"quiet": "07:00-07:00"}):
            assert (await owner.post(f"{THERE}/rules", **{**rule, **wrong})).status_code == 400, wrong
        assert (await owner.post(f"{THERE}/rules", **{**rule, "target": "mail"})).status_code == 400
        assert (await owner.post(f"{THERE}/rules", **{**rule, "target": "whk_none"})).status_code == 404
        (rule_id,) = set(re.findall(r"rul_\w+", (await owner.get(THERE)).text))

        hotel.house.clock.now += 1
        assert (await owner.post(f"{THERE}/rules/{rule_id}/remove")).status_code == 303
        assert rule_id not in (await owner.get(THERE)).text
        assert await _undo(owner) == 303
        assert rule_id in (await owner.get(THERE)).text
        assert (await owner.post(f"{THERE}/webhooks/{id}/remove")).status_code == 303
        page = (await owner.get(THERE)).text
        assert id not in page
        assert rule_id not in page, "its rules have no effect"
        assert await _undo(owner) == 303
        page = (await owner.get(THERE)).text
        assert id in page
        assert rule_id in page

        assert (await owner.post("/admin/exports/add", name="lake", kind="file", url="")).status_code == 200
        for wrong in (
            {"name": "lake", "kind": "file", "url": ""},
            {"name": "../x", "kind": "file", "url": ""},
            {"name": "b", "kind": "file", "url": URL},
            {"name": "b", "kind": "webhook", "url": ""},
            {"name": "b", "kind": "floppy", "url": ""},
        ):
            refused = await owner.post("/admin/exports/add", **wrong)
            assert refused.status_code == 400, wrong
            assert "canary" not in refused.text
        for number in range(4):
            await owner.post("/admin/exports/add", name=f"d{number}", kind="webhook", url=URL)
        full = await owner.post("/admin/exports/add", name="d9", kind="file", url="")
        assert full.status_code == 400, "five at most"
        page = (await owner.get("/admin/exports")).text
        assert "canary" not in page
        hotel.house.clock.now += 1
        assert (await owner.post("/admin/exports/lake/remove")).status_code == 303
        assert "destination lake" not in (await owner.get("/admin/exports")).text
        assert await _undo(owner) == 303
        assert "destination lake" in (await owner.get("/admin/exports")).text

        async with hotel.house.store.database.transaction() as conn:
            service = hotel.house.service
            assert service is not None
            assert service.notifier is not None
            lasts = [Condition("export.failing", "lake", "The export lake takes nothing")]
            await staff_events.observe(
                conn, service.notifier._teller, lasts, now=int(hotel.house.clock.now * 1000)
            )
        overview = (await viewer.get("/admin")).text
        assert "The export lake takes nothing" in overview
        assert 'href="/admin/exports"' in overview
        shown = (await viewer.get(THERE)).text + (await viewer.get("/admin/exports")).text
        assert "hooks.example.com" in shown
        assert f"/{id}/remove" not in shown
        assert (await viewer.post(f"{THERE}/webhooks/{id}/test")).status_code == 403
        assert (await viewer.post("/admin/exports/lake/remove")).status_code == 403


async def _everything_goes_to(
    receiver: Receiver, call: Caller, owner: Reader, seen: list[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """A webhook and exports of every kind there; what was answered is seen but for the two that show secrets once."""
    hook = (await call("POST /webhooks", {"name": "pager", "url": receiver.url})).json()
    exported = (
        await call("POST /exports", {"name": "billing", "kind": "webhook", "url": receiver.url})
    ).json()
    await call("POST /exports", {"name": "lake", "kind": "file"})
    bucket = {"kind": "s3", "url": receiver.url.partition("?")[0], "region": "r", "key_id": "K"}
    for path in ("", "x" * 400):
        secret = {"name": f"archive{path}", **bucket, "secret": BUCKET_SECRET}
        seen.append((await call("POST /exports", secret)).text)
    form = {"name": "second", **bucket, "secret": BUCKET_SECRET}
    seen.append((await owner.post("/admin/exports/add", **form)).text)
    seen.append((await owner.post("/admin/exports/add", **form)).text)
    spans = {"kind": "otlp", "url": bucket["url"], "secret": f"x-key={HEADER_SECRET}"}
    seen.append((await call("POST /exports", {"name": "spans", **spans})).text)
    seen.append((await call("POST /exports", {"name": "x y", **spans})).text)
    seen.append((await call("POST /exports/lake/backfill", {"from": "2027-01-01"})).text)
    await call("POST /notification-rules", {"event": "*", "webhook": "pager"})
    return hook, exported


async def test_canaries_of_webhooks_and_exports_are_found_nowhere(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 16: in no log, page, metric, answer, export or file, while all of it is used, fails, and is sealed anew."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    async with (
        receiving() as receiver,
        open_hotel(tmp_path, database_url=engine.url, **trusting(tmp_path)) as hotel,
    ):
        house, staffed = hotel.house, Staffed(hotel)
        owner = await member(hotel, "owner", "owner@example.com")
        call = await staffed.caller()
        hook, exported = await _everything_goes_to(receiver, call, owner, seen)
        service = house.service
        assert service is not None
        assert service.notifier is not None
        assert service.exporter is not None
        user = await house.user()
        for answer in (500, 302, 200):
            receiver.answer, receiver.location = answer, receiver.url if answer == 302 else ""
            await house.ask("chat", "chat-plain", user)
            await house.rows(user)
            async with house.store.database.transaction() as conn:
                seen_now = [Condition("model.out", f"m-{answer}", "out")]
                await staff_events.observe(
                    conn, service.notifier._teller, seen_now, now=int(house.clock.now * 1000)
                )
            await service.notifier.round()
            await service.exporter.round()
            seen.append((await call("POST /webhooks/pager/test", {})).text)
            seen.append((await owner.post(f"{THERE}/webhooks/{hook['id']}/test")).text)
            house.clock.now += 600
        assert receiver.connections > 6
        for route in (
            "webhooks",
            "notification-rules",
            "deliveries",
            "exports",
            "backfills",
            "trail?limit=200",
            "changes?limit=200",
        ):
            answered = await call(f"GET /{route}")
            assert answered.status_code == 200, route
            seen.append(answered.text)
        pages = (THERE, "/admin/exports", "/admin/audit", "/admin/changes", "/admin/settings", "/admin/jobs")
        seen += [(await owner.get(path)).text for path in pages]
        seen.append((await house.page("/metrics")).body.decode())
        data = str(house.settings.data)
        where = ["--data", data]
        if engine.name == "sqlite":
            assert await asyncio.to_thread(main, ["secrets", "rotate", *where]) == 0
            before = len(receiver.got)
            again = await call("POST /webhooks/pager/test", {})
            assert again.json()["taken"], "sealed anew, it works still"
            assert receiver.got[before].is_signed(hook["secret"])
        ours = [message.body.decode("latin-1") for message in receiver.got]
        await call.http.aclose()
        async with house.store.database.connect() as conn:
            rows = [
                repr(tuple(row))
                for table in metadata.sorted_tables
                for row in await conn.execute(select(table))
            ]
        seen += rows
    kept = b"".join(path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file())
    records = "\n".join(f"{it.getMessage()} {it.__dict__} {it.exc_text}" for it in caplog.records)
    assert "a webhook did not take a message" in records
    for secret in (
        hook["secret"],
        exported["secret"],
        BUCKET_SECRET,
        HEADER_SECRET,
        "canary-path-77d1",
        "canary-query-02ba",
        "canary-answer-9e1",
    ):
        for form in (secret, base64.b64encode(secret.encode()).decode()[:-4], secret.encode().hex()):
            assert form.encode() not in kept, "in the data directory"
            assert form not in records, "in a log"
            assert not any(form in text for text in seen), "in an answer"
            assert not any(form in text for text in ours), "in a message"
    assert not any("@example.com" in text for text in ours), "an address"


async def test_the_past_is_sent_and_stopped_by_every_way_alike(tmp_path: Path) -> None:
    async with open_hotel(tmp_path) as hotel:
        owner = await member(hotel, "owner", "owner@example.com")
        viewer = await member(hotel, "viewer", "viewer@example.com")
        call = await Staffed(hotel).caller()
        where = ["--data", str(hotel.house.settings.data)]
        there = "/admin/exports/lake/backfill"
        await owner.post("/admin/exports/add", name="lake", kind="file", url="", shape="focus")
        page = (await owner.get("/admin/exports")).text
        assert "file focus" in page
        assert "Of the past" not in page
        for wrong in ({"from": "", "until": ""}, {"from": "2027-01-02", "until": "2027-01-01"}):
            assert (await owner.post(there, **wrong)).status_code == 400
        assert (await owner.post("/admin/exports/none/backfill", **{"from": "2027-01-01"})).status_code == 404

        assert (await owner.post(there, **{"from": "2027-01-01", "until": "2027-01-02"})).status_code == 303
        page = (await owner.get("/admin/exports")).text
        assert "Of the past" in page
        assert "on its way" in page
        assert (await owner.post(there, **{"from": "2027-01-01"})).status_code == 400, "one at a time"
        assert "/backfill/stop" not in (await viewer.get("/admin/exports")).text
        assert (await viewer.post(f"{there}/stop")).status_code == 403
        assert (await viewer.post(there, **{"from": "2027-01-01"})).status_code == 403
        assert (await owner.post(f"{there}/stop")).status_code == 303
        assert "stopped" in (await owner.get("/admin/exports")).text
        assert (await owner.post(f"{there}/stop")).status_code == 404

        made = (await call("POST /exports/lake/backfill", {"from": "2027-01-01T00:00:00Z"})).json()
        assert (made["begins_at"], made["delivered"], made["stopped"]) == (1_798_761_600_000, 0, False)
        assert (await call("POST /exports/lake/backfill", {"from": "soon"})).status_code == 400
        assert (await call("POST /exports/lake/backfill/stop", {})).json()["stopped"]
        command = ["export", "backfill", "lake", "--from", "2026-12-01", "--until", "2026-12-24"]
        assert await asyncio.to_thread(main, [*command, *where]) == 0
        assert await asyncio.to_thread(main, ["export", "backfills", *where]) == 0
        assert await asyncio.to_thread(main, ["export", "stop-backfill", "lake", *where]) == 0
        assert await asyncio.to_thread(main, ["export", "stop-backfill", "lake", *where]) == 1
        listed = (await call("GET /backfills")).json()["data"]
        assert [it["stopped"] for it in listed] == [True, True, True]
        trail = (await call("GET /trail?limit=100")).text
        assert (trail.count("backfill_started"), trail.count("backfill_stopped")) == (3, 3)
        await call.http.aclose()


async def test_the_digest_says_what_waits_once_and_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    """It is 08:00 UTC, which is 10:00 in Cairo, when the house opens."""
    more = {**trusting(tmp_path), "digest_at": "10:30", "report_zone": "Africa/Cairo"}
    async with open_hotel(tmp_path, **more) as hotel:
        service = hotel.house.service
        assert service is not None
        notifier = service.notifier
        assert notifier is not None

        async def digests(hours: float, *seen: Condition) -> list[str]:
            hotel.house.clock.now += hours * 3600
            async with hotel.house.store.database.transaction() as conn:
                now = int(hotel.house.clock.now * 1000)
                await staff_events.observe(conn, notifier._teller, seen, now=now)
            await notifier.round()
            await hotel.posted()
            return [text for text in hotel.mailbox.texts("owner@example.com") if "All of it:" in text]

        await notifier.round()
        hotel.house.clock.now += 60
        await member(hotel, "owner", "owner@example.com")
        out = Condition("model.out", "m-1", "All providers of m-1 are out")
        assert await digests(0) == []
        (first,) = await digests(1)
        assert "1 new account" in first
        assert "Waits" not in first
        assert len(await digests(23)) == 1, "the next is due in half an hour"
        assert len(await digests(2)) == 1, "nothing to say, no mail"
        assert len(await digests(20, out)) == 1
        (_, second) = await digests(3, out)
        assert "[critical] All providers of m-1 are out" in second
        assert "Waits for somebody: 1" in second
        assert len(await digests(1, out)) == 2, "once a day"
        assert len(await digests(22)) == 2
        (*_, third) = await digests(2)
        assert "[critical] over: All providers of m-1 are out" in third
        assert "Waits" not in third
