"""Captures: off unless an owner says so, exact, sealed, marked for who is captured, read for a reason, and gone after days."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from penstock.domain.accounts import accounts
from penstock.domain.captures import kept, orders
from penstock.domain.captures.kept import CaptureRead
from penstock.domain.trail.entries import SYSTEM
from penstock.errors import OperatorError
from penstock.operations import captures as captures_module
from penstock.operations.captures import redaction_named
from penstock.store.sql.schema import captures, trail
from tests.service.conversations import DIALECTS, body_of
from tests.service.running_service import User
from tests.service.scripted import PATIENCE
from tests.service.test_routing import refusing, well
from tests.site.page_reader import PASSWORD, Hotel, Reader, open_hotel
from tests.site.staff import member
from tests.site.test_dashboard import ANN, on_lab
from tests.stores import Engine, engine

__all__ = ["engine"]

PROMPT = "canary-captured-prompt-19ac"
KEY_TOLD = "sk-live-canary-told-0123456789"
DAY = 86_400


@pytest.fixture
async def hotel(tmp_path: Path, engine: Engine) -> AsyncGenerator[Hotel]:
    async with open_hotel(
        tmp_path, revision_poll=0.02, session_idle=1e7, session_lifetime=1e7, database_url=engine.url
    ) as found:
        yield found


async def until(done: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - a round of maintenance that tells nobody
            await asyncio.sleep(0.01)


def at_work(hotel: Hotel) -> captures_module.Captures:
    assert hotel.house.service is not None
    assert hotel.house.service._api is not None
    found = hotel.house.service._api._captures
    assert found is not None
    return found


async def begun(hotel: Hotel, owner: Reader, email: str, **more: str) -> str:
    """Have somebody captured, once the service knows it: the order's id."""
    fields = {"email": email, "days": "3", "reason": "ticket 42", "current": PASSWORD, **more}
    answer = await owner.post("/admin/captures/begin", **fields)
    assert answer.headers.get("location") == "/admin/captures?notice=captured", answer.text
    await until(lambda: at_work(hotel)._orders)
    return next(iter(at_work(hotel)._orders.values())).id


async def kept_rows(hotel: Hotel, of: int) -> list[Any]:
    """So many captured requests, once they are written."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with hotel.house.store.database.connect() as conn:
                rows = list(
                    await conn.execute(select(captures).order_by(captures.c.at, captures.c.request_id))
                )
            if len(rows) >= of:
                assert len(rows) == of
                return rows
            await asyncio.sleep(0.01)


async def content(hotel: Hotel, request_id: str) -> CaptureRead:
    store = hotel.house.store
    async with store.database.transaction() as conn:
        return await kept.read_capture(
            conn, store.secrets_file, request_id, "a test", SYSTEM, now=1, entropy=secrets.token_bytes
        )


def turns(text: str = PROMPT) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_what_an_account_asks_and_gets_is_kept_exactly_and_nothing_of_others(
    hotel: Hotel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    house, owner = hotel.house, await member(hotel, "owner")
    ann = await hotel.reader("198.51.100.77").join(ANN)
    user, other = await on_lab(hotel, ann), await house.user()
    for dialect in DIALECTS:
        well(house, dialect, "wire")
    await house.ask("chat", "wire-chat", user)
    assert not at_work(hotel)._orders, "it is off"
    await begun(hotel, owner, ANN)
    sent: dict[str, tuple[bytes, bytes, int]] = {}
    for dialect in DIALECTS:
        for stream in (False, True):
            body = body_of(dialect, f"wire-{dialect}", messages=turns(), stream=stream)
            answer = await house.post(dialect, body, user)
            sent[answer.headers["x-request-id"]] = body, answer.body, answer.status
    house.wires["wire-chat"].script = refusing(400, f"cannot read {PROMPT}")
    body = body_of("chat", "wire-chat", messages=turns())
    refused = await house.post("chat", body, user)
    sent[refused.headers["x-request-id"]] = body, refused.body, 400
    await house.post("chat", body_of("chat", "chat-plain", messages=turns("not kept")), other)
    rows = await kept_rows(hotel, len(sent))
    for row in rows:
        found = await content(hotel, row.request_id)
        asked, answered, status = sent[row.request_id]
        assert (found.asked.encode(), found.answered.encode(), found.status) == (asked, answered, status)
        assert not found.cut
        assert row.bytes == len(asked) + len(answered)
    assert all(PROMPT.encode() not in row.sealed for row in rows)
    assert PROMPT not in "\n".join(f"{it.getMessage()} {it.__dict__}" for it in caplog.records)
    files = b"".join(path.read_bytes() for path in house.store.settings.data.rglob("*") if path.is_file())
    assert PROMPT.encode() not in files


async def test_whose_it_is_has_all_of_it_in_the_file_of_their_data(hotel: Hotel) -> None:
    house, owner = hotel.house, await member(hotel, "owner")
    ann = await hotel.reader("198.51.100.77").join(ANN)
    bob = await hotel.reader("198.51.100.78").join("bob@example.com")
    user = await on_lab(hotel, ann)
    well(house, "chat", "wire")
    assert (await ann.get("/settings/export")).json()["captures"] == []
    await begun(hotel, owner, ANN)
    # more than are read at once
    answers = [await house.ask("chat", "wire-chat", user) for _ in range(11)]
    await kept_rows(hotel, len(answers))
    found = (await ann.get("/settings/export")).json()["captures"]
    assert {it["request_id"] for it in found} == {answer.headers["x-request-id"] for answer in answers}
    assert len(found) == len(answers)
    assert {it["answered"] for it in found} == {answer.body.decode() for answer in answers}
    assert (await bob.get("/settings/export")).json()["captures"] == []


async def test_one_key_is_captured_and_its_owner_sees_it_as_long(hotel: Hotel) -> None:
    house, owner = hotel.house, await member(hotel, "owner")
    ann, bob = (
        await hotel.reader("198.51.100.77").join(ANN),
        await hotel.reader("198.51.100.78").join("bob@example.com"),
    )
    user = await on_lab(hotel, ann)
    second = User(user.id, user.email, await house.key(user.id))
    well(house, "chat", "wire")
    await house.ask("chat", "wire-chat", second)
    key_id = (await house.row(user))["key_id"]
    mark = "The operator keeps what is asked and answered"
    assert mark not in (await ann.get("/dashboard")).text
    order = await begun(hotel, owner, ANN, key=key_id)
    assert mark in (await ann.get("/dashboard")).text
    assert mark not in (await bob.get("/dashboard")).text
    assert mark not in (await hotel.reader().get("/")).text
    log = (await ann.get("/settings")).text
    assert "capture begun" in log
    await house.ask("chat", "wire-chat", user)
    answer = await house.ask("chat", "wire-chat", second)
    (row,) = await kept_rows(hotel, 1)
    assert (row.request_id, row.key_id) == (answer.headers["x-request-id"], key_id)
    ended = await owner.post(f"/admin/captures/{order}/end")
    assert ended.status_code == 303
    await until(lambda: not at_work(hotel)._orders)
    assert mark not in (await ann.get("/dashboard")).text
    await house.ask("chat", "wire-chat", second)
    # by its time, too
    await begun(hotel, owner, ANN, key=key_id)
    house.clock.now += 3 * DAY + 1
    await house.ask("chat", "wire-chat", second)
    await until(lambda: not at_work(hotel)._orders)
    assert mark not in (await ann.get("/dashboard")).text
    await house.ask("chat", "wire-chat", second)
    await at_work(hotel).flush()
    await kept_rows(hotel, 1)


async def test_owners_alone_begin_and_read_and_say_why(hotel: Hotel) -> None:
    house, owner, admin = hotel.house, await member(hotel, "owner"), await member(hotel, "admin")
    ann = await hotel.reader("198.51.100.77").join(ANN)
    user = await on_lab(hotel, ann)
    for wrong in (
        {"current": "no"}, {"reason": ""}, {"days": "31"}, {"days": "0"}, {"key": "key_x"}, {"email": "nobody@example.com"},
    ):  # fmt: skip
        fields = {"email": ANN, "days": "3", "reason": "x", "current": PASSWORD, **wrong}
        answer = await owner.post("/admin/captures/begin", **fields)
        assert 400 <= answer.status_code < 500, wrong
    assert not at_work(hotel)._orders
    assert (
        await admin.post("/admin/captures/begin", email=ANN, days="3", reason="x", current=PASSWORD)
    ).status_code == 403
    order = await begun(hotel, owner, ANN)
    twice = await owner.post("/admin/captures/begin", email=ANN, days="3", reason="x", current=PASSWORD)
    assert "captured already" in twice.text
    well(house, "chat", "wire")
    id = (
        await house.post("chat", body_of("chat", "wire-chat", messages=turns("<b>bold</b>")), user)
    ).headers["x-request-id"]
    await kept_rows(hotel, 1)
    assert (await admin.get("/admin/captures")).status_code == 200
    assert (await admin.get(f"/admin/captures/{order}")).status_code == 403
    listed = (await owner.get(f"/admin/captures/{order}")).text
    assert id in listed
    assert "bold" not in listed
    read = f"/admin/captures/{id}/read"
    assert (await admin.post(read, order=order, reason="curious")).status_code == 403
    assert (await owner.post(read, order=order, reason=" ")).status_code == 400
    page = await owner.post(read, order=order, reason="ticket 42")
    assert "&lt;b&gt;bold&lt;/b&gt;" in page.text
    receipt = (await admin.get(f"/admin/requests/{id}")).text
    assert f'<a href="/admin/captures/{order}">captured</a>' in receipt
    assert "bold" not in receipt
    async with house.store.database.connect() as conn:
        rows = list(await conn.execute(select(trail).where(trail.c.object_kind == "capture")))
        said = [(row.action, row.reason, row.object_id) for row in rows]
        assert "bold" not in str(rows)
    assert sorted(said) == [
        ("capture_begun", "ticket 42", user.id),
        ("capture_read", "ticket 42", user.id),
    ]
    assert (await owner.post("/admin/captures/req_none/read", order=order, reason="x")).status_code == 404
    assert (await owner.get("/admin/captures/cap_none")).status_code == 404


async def test_it_is_cut_redacted_and_gone_after_its_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def redact(text: bytes) -> bytes:
        if b"broken" in text:
            raise ValueError(text)
        return text.replace(b"Bramble", b"(horse)")

    monkeypatch.setattr(
        captures_module,
        "entry_points",
        lambda group: (
            [SimpleNamespace(name="horses", load=lambda: redact)] if group == "penstock.redactions" else []
        ),
    )
    async with open_hotel(
        tmp_path, revision_poll=0.02, capture_bytes=2000, capture_redaction="horses", capture_days=7
    ) as hotel:
        house, owner = hotel.house, await member(hotel, "owner")
        ann = await hotel.reader("198.51.100.77").join(ANN)
        user = await on_lab(hotel, ann)
        await begun(hotel, owner, ANN)
        well(house, "chat", "wire")
        said = f"My horse is Bramble, my key {KEY_TOLD}."
        short = await house.post("chat", body_of("chat", "wire-chat", messages=turns(said)), user)
        await kept_rows(hotel, 1)
        found = await content(hotel, short.headers["x-request-id"])
        assert "My horse is (horse), my key (hidden)" in found.asked
        await house.post("chat", body_of("chat", "wire-chat", messages=turns("broken")), user)
        long = await house.post("chat", body_of("chat", "wire-chat", messages=turns("x" * 5000)), user)
        await kept_rows(hotel, 2)
        found = await content(hotel, long.headers["x-request-id"])
        assert (len(found.asked), found.cut) == (1000, True)
        store, now = house.store, int(house.clock.now * 1000)
        async with store.database.transaction() as conn:
            assert await kept.forget_captures(conn, before=now - 6 * DAY * 1000) == 0
            assert await kept.forget_captures(conn, before=now + 1) == 2
        # who is deleted takes what is kept of them along
        await house.post("chat", body_of("chat", "wire-chat", messages=turns()), user)
        await kept_rows(hotel, 1)
        async with store.database.transaction() as conn:
            await accounts.set_leaving(conn, user.id, now)
            await accounts.delete_leavers(conn, now=now + 30 * DAY * 1000)
        await kept_rows(hotel, 0)
    with pytest.raises(OperatorError, match="no package here"):
        redaction_named("nothing")


async def test_never_takes_the_way_out(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, revision_poll=0.02, captures="never") as hotel:
        house, owner = hotel.house, await member(hotel, "owner")
        ann = await hotel.reader("198.51.100.77").join(ANN)
        user = await on_lab(hotel, ann)
        refused = await owner.post("/admin/captures/begin", email=ANN, days="3", reason="x", current=PASSWORD)
        assert (refused.status_code, "ruled out" in refused.text) == (409, True)
        async with house.store.database.transaction() as conn:
            await orders.begin_capture(
                conn, user.id, "", "by hand", 3, SYSTEM,
                now=int(house.clock.now * 1000), entropy=secrets.token_bytes,
            )  # fmt: skip
        assert house.service is not None
        assert house.service._api is not None
        assert house.service._api._captures is None
        well(house, "chat", "wire")
        assert (await house.ask("chat", "wire-chat", user)).status == 200
        await house.row(user)
        await kept_rows(hotel, 0)
