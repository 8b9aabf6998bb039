"""Providers and their keys on the admin pages: what is entered is used and found nowhere, and every step can be taken back."""

import asyncio
import base64
import logging
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from penstock.cli import main
from penstock.core.catalog import Upstream
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.circuit_breaker import Hint
from penstock.domain.catalog import catalog_store, kept_keys, upstream_state
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.kept_keys import UnusableKey, check_seals, checked_key
from penstock.domain.staff import provider_changes
from penstock.operations import provider_check
from penstock.operations.reach import way_to
from penstock.providers.table import KINDS
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.schema import changes, provider_keys, trail
from tests.service.conversations import REPLIES
from tests.service.running_service import User
from tests.service.scripted import PATIENCE, Asked
from tests.service.test_routing import relay_of
from tests.site.page_reader import Hotel, Reader, open_hotel
from tests.site.staff import member
from tests.site.test_admin_api import Staffed

KEYS = tuple(f"canary-provider-key-{number}-0b7d4e9a1f" for number in range(4))
WRONG = "canary-wrong-key-5c2a8e77d1"
PASSPHRASE = "canary-proxy-passphrase-77e0"


class Mill:
    """A provider that takes these keys, and counts who has asked it for an answer."""

    def __init__(self, hotel: Hotel) -> None:
        wire = hotel.house.wires["wire-chat"]
        self.url = f"http://127.0.0.1:{wire.port}/base/v1"
        self.taken = set(KEYS)
        self.asked: list[str] = []
        wire.script = self.answer

    def answer(self, asked: Asked) -> None:
        key = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if key not in self.taken:
            asked.answer(b'{"error": {"message": "Incorrect API key: ' + key.encode() + b'"}}', 401)
        elif asked.path.endswith("/models"):
            asked.answer(b'{"data": [{"id": "rye"}, {"id": "oat"}]}')
        else:
            self.asked.append(key)
            asked.answer(REPLIES["chat"])


@pytest.fixture
async def hotel(tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path, revision_poll=0.02, session_idle=1e6, session_lifetime=1e6) as found:
        yield found


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - a round of maintenance that tells nobody
            await asyncio.sleep(0.01)


async def newest(hotel: Hotel) -> str:
    """The newest change's operation."""
    async with hotel.house.store.database.connect() as conn:
        found = await conn.scalar(select(changes.c.operation).order_by(changes.c.at.desc()).limit(1))
    assert found is not None
    return found


async def pool(hotel: Hotel, provider: str = "mill") -> dict[str, str]:
    """The references of a provider's keys; empty where there is no such provider."""
    async with hotel.house.store.database.connect() as conn:
        document = await catalog_store.load_document(conn, KINDS)
    rows = [row for row in document.providers if row.id == provider]
    return {it.id: it.secret for row in rows for it in provider_changes.pool_of(row)}


async def said(hotel: Hotel) -> dict[str, str]:
    async with hotel.house.store.database.connect() as conn:
        return {str(it.reach): it.state for it in await upstream_state.all_said(conn)}


async def serve(hotel: Hotel, owner: Reader) -> User:
    """Have the mill serve a model, and somebody who may ask for it."""
    published = await owner.post("/admin/providers/mill/publish", **{"model-rye": "on", "plan": "lab"})
    assert published.headers["location"] == "/admin/providers/mill?notice=catalog-saved", published.text
    house = hotel.house
    assert house.service is not None
    source = relay_catalog(hotel)
    await until(lambda: "rye" in source().models and source().served(source().models["rye"]))
    return await house.user()


def relay_catalog(hotel: Hotel) -> Callable[[], Catalog]:
    return relay_of(hotel.house).router._catalog


async def add_mill(owner: Reader, mill: Mill, **more: str) -> httpx2.Response:
    return await owner.post(
        "/admin/providers/new",
        **{"kind": "custom", "id": "mill", "url": mill.url, "format": "chat", "secret": KEYS[0], **more},
    )


async def test_a_key_is_checked_kept_rotated_and_found_nowhere(
    hotel: Hotel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    owner, mill = await member(hotel, "owner"), Mill(hotel)
    pages = await case_10_only_what_is_taken_is_saved(hotel, owner, mill)
    user = await serve(hotel, owner)
    assert (await hotel.house.ask("chat", "rye", user)).status == 200
    assert mill.asked == [KEYS[0]]
    pages += await case_11_an_empty_field_keeps_the_key(hotel, owner)
    await a_rotation_is_used_and_taken_back(hotel, owner, mill, user)
    await what_comes_from_outside_stays(owner)
    await what_another_process_says_is_told(hotel, owner)
    viewer = await member(hotel, "viewer")
    for path in (
        "/admin/providers", "/admin/providers/mill", "/admin/providers/mill/keys/key-2", "/admin/audit", "/admin/changes",
        f"/admin/changes/{await newest(hotel)}",
    ):  # fmt: skip
        answer = await viewer.get(path)
        assert answer.status_code == 200, path
        pages.append(answer.text)
    text = (await owner.get("/admin/catalog/edit?kind=provider&id=mill")).text
    assert "kept:mill/pvk_" in text
    pages += [text, *[(await owner.get(path)).text for path in ("/admin/audit.jsonl", "/metrics")]]
    mill.taken.clear()
    failed = await hotel.house.ask("chat", "rye", user)
    assert failed.status == 502
    await hotel.house.rows(user)
    receipt = (await viewer.get(f"/admin/requests/{failed.headers['x-request-id']}")).text
    assert f"key-2 <code>\u2022\u2022\u2022\u2022 {KEYS[1][-4:]}</code>" in receipt
    assert "Incorrect API key" in receipt
    pages += [failed.body.decode(), str(failed.headers), receipt]
    lines = [(record.name, f"{record.getMessage()} {record.__dict__}") for record in caplog.records]
    assert {name for name, line in lines if any(key in line for key in (*KEYS, WRONG))} == set()
    await case_16_no_key_is_found(hotel, pages)


async def case_10_only_what_is_taken_is_saved(hotel: Hotel, owner: Reader, mill: Mill) -> list[str]:
    refused = await add_mill(owner, mill, secret=WRONG)
    assert refused.status_code == 422
    assert "The key is refused" in refused.text
    assert await pool(hotel) == {}
    added = await add_mill(owner, mill)
    assert added.headers["location"] == "/admin/providers/mill?notice=provider-added", added.text
    assert not relay_catalog(hotel)().models.get("rye")
    twice = await add_mill(owner, mill)
    assert twice.status_code == 409
    listed = await owner.post("/admin/providers/mill/models")
    assert "rye" in listed.text
    return [refused.text, twice.text, listed.text]


async def case_11_an_empty_field_keeps_the_key(hotel: Hotel, owner: Reader) -> list[str]:
    there = "/admin/providers/mill/keys/key-1"
    kept = await pool(hotel)
    assert (await owner.post(f"{there}/change", weight="3", group="", secret="")).status_code == 303
    assert await pool(hotel) == kept
    page = (await owner.get(there)).text
    assert f"\u2022\u2022\u2022\u2022 {KEYS[0][-4:]}" in page
    for wrong in ("\u2022\u2022\u2022\u2022 9a1f", "sk-a****", "env:OPENAI_API_KEY", "kept:mill/x"):
        answer = await owner.post(f"{there}/change", weight="3", group="", secret=wrong)
        assert answer.status_code == 422, wrong
    tested = await owner.post("/admin/providers/mill/test", key="key-1", model="rye")
    assert "works" in tested.text
    return [page, tested.text]


async def a_rotation_is_used_and_taken_back(hotel: Hotel, owner: Reader, mill: Mill, user: User) -> None:
    there = "/admin/providers/mill/keys/key-1"
    hotel.house.clock.now += 1  # the newest change comes first
    rotated = await owner.post(f"{there}/rotate", secret=KEYS[1], reason="it is old")
    assert rotated.status_code == 303, rotated.text
    assert list(await pool(hotel)) == ["key-2", "key-1"]
    assert (await said(hotel))["mill/key-1"] == "drain"
    await until(lambda: len(relay_catalog(hotel)().switches) == 1)
    mill.asked.clear()
    for _ in range(4):
        assert (await hotel.house.ask("chat", "rye", user)).status == 200
    assert set(mill.asked) == {KEYS[1]}
    assert (await owner.post(f"/admin/changes/{await newest(hotel)}/undo")).status_code == 303
    assert list(await pool(hotel)) == ["key-1"]
    assert (await said(hotel))["mill/key-1"] == "on"
    hotel.house.clock.now += 1
    await owner.post(f"{there}/rotate", secret=KEYS[1])
    gone = await owner.post(f"{there}/remove", typed="key-1")
    assert gone.status_code == 303, "another one serves the model"
    refused = await owner.post("/admin/providers/mill/keys/key-2/remove", typed="key-2")
    assert "its only key" in refused.text
    assert refused.status_code == 409


async def what_comes_from_outside_stays(owner: Reader) -> None:
    outside = "/admin/providers/wire-chat/keys/outside"
    page = (await owner.get(outside)).text
    assert "env:VENDOR_KEY" in page
    assert "change it there" in page
    answer = await owner.post(f"{outside}/remove", typed="outside")
    assert answer.status_code == 409
    assert "comes from env:VENDOR_KEY" in answer.text


async def what_another_process_says_is_told(hotel: Hotel, owner: Reader) -> None:
    relay = relay_of(hotel.house)
    health, now = relay.router.health, relay.clock()
    (known,) = (it for it in health.all() if it.key == ("mill", "rye", "key-2"))
    health.hear(known.credential, Hint(opened=True, until=now + 60.0, cause=FailureClass.QUOTA), now)
    async with asyncio.timeout(PATIENCE):
        while (
            page := (await owner.get("/admin/providers/mill/keys/key-2")).text
        ) and "another process" not in page:
            pass  # reading lets the rounds of maintenance run
    assert page.count("quota, as another process says") == 2, "of the key, and with its model"
    health.hear(known.credential, None, now)


async def case_16_no_key_is_found(hotel: Hotel, told: list[str], *, used: bool = True) -> None:
    async with hotel.house.store.database.connect() as conn:
        written = str((await conn.execute(select(trail))).all()) + str(
            (await conn.execute(select(changes))).all()
        )
        exported = await catalog_store.export_document(conn, KINDS)
        actions = set(await conn.scalars(select(trail.c.action)))
        fingerprints = list(await conn.scalars(select(provider_keys.c.fingerprint)))
    assert {"credential_added", "credential_rotated", "credential_removed"} <= actions
    assert not used or "provider_tested" in actions
    assert not used or {"upstream_switched", "catalog_changed", "change_undone"} <= actions
    assert any(one in written for one in fingerprints)
    data = hotel.house.store.settings.data
    files = b"".join(path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file())
    for secret in (*KEYS, WRONG):
        assert secret.encode() not in files
        assert [text for text in (*told, written, exported) if secret in text] == []


async def test_case_15_the_ring_is_rotated_under_the_keys_and_nobody_else_gets_one(hotel: Hotel) -> None:
    owner, mill = await member(hotel, "owner"), Mill(hotel)
    await add_mill(owner, mill)
    user, store = await serve(hotel, owner), hotel.house.store
    entropy = secrets.token_bytes
    old, statuses, over = store.secrets_file.seal_id, list[int](), asyncio.Event()

    async def ask_on() -> None:
        while not over.is_set():
            statuses.append((await hotel.house.ask("chat", "rye", user)).status)

    asking = [asyncio.create_task(ask_on()) for _ in range(8)]
    await until(lambda: len(statuses) > 8)
    command = ["secrets", "rotate", "--json", "--data", str(store.settings.data)]
    assert await asyncio.to_thread(main, command) == 0
    async with store.database.connect() as conn:
        sealed = await conn.scalar(select(provider_keys.c.sealed))
    assert sealed is not None
    assert SecretsFile.sealed_with(sealed) not in {old, ""}
    before = len(statuses)
    fresh = await hotel.house.user()
    assert (await hotel.house.ask("chat", "rye", fresh)).status == 200
    await until(lambda: len(statuses) > before + 16)
    over.set()
    await asyncio.gather(*asking)
    assert set(statuses) == {200}
    other = SecretsFile.make(store.settings.data / "other.json", entropy)
    async with store.database.connect() as conn:
        await check_seals(conn, store.secrets_file)
        with pytest.raises(SecretsFileError, match="keys of mill"):
            await check_seals(conn, other)
        document = await catalog_store.load_document(conn, KINDS)
        row = next(row for row in document.providers if row.id == "mill")
        (opened,) = await kept_keys.open_keys(conn, store.secrets_file, [row])
        assert opened.value == KEYS[0].encode()
        assert KEYS[0] not in repr(opened)
        moved = replace(row, speaks=(("chat", "https://evil.example"),))
        (opened,) = await kept_keys.open_keys(conn, store.secrets_file, [moved])
        assert opened.value is None
        assert "evil.example" in opened.problem
        (shut,) = await kept_keys.open_keys(conn, other, [row])
        assert shut.shut
    stolen = '[[provider]]\nid = "evil"\nkind = "custom"\nspeaks = { chat = "https://evil.example" }\nsecret = "%s"\n'
    text = stolen % (await pool(hotel))["key-1"]
    assert (await owner.post("/admin/catalog/preview", text=text)).status_code == 422
    await what_is_not_needed_goes(hotel, owner)
    await hotel.house.stop()
    command = [sys.executable, "-m", "penstock", "serve", "--port", "0", "--data", str(store.settings.data)]
    wrong = {**os.environ, "PENSTOCK_SECRET_FILE": str(store.settings.data / "other.json")}
    started = await asyncio.to_thread(
        subprocess.run, command, env=wrong, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert started.returncode == 1
    assert "put the secrets file back" in started.stderr


async def what_is_not_needed_goes(hotel: Hotel, owner: Reader) -> None:
    store, entropy = hotel.house.store, secrets.token_bytes
    stays = int(store.settings.rotated_key_stays)
    await owner.post("/admin/providers/mill/keys/key-1/rotate", secret=KEYS[1])
    for wait, left in ((stays - 5, 2), (stays + 5, 1)):
        now = int((hotel.house.clock.now + wait) * 1000)
        async with store.database.transaction() as conn:
            system = provider_changes.system_change(conn, store.secrets_file, KINDS, now=now, entropy=entropy)
            await provider_changes.retire_due(system)
        assert len(await pool(hotel)) == left
    assert await said(hotel) == {}, "a key of the same name would begin anew"
    refused = await owner.post("/admin/providers/mill/remove", typed="mill")
    assert "Nobody else serves rye" in refused.text
    targets = '[{ provider = "sim-chat", model = "x" }, { provider = "mill", model = "rye" }]'
    text = f'[[model]]\nid = "rye"\ntargets = {targets}\n'
    preview = await owner.post("/admin/catalog/preview", text=text)
    seen = re.search(r'name="seen" value="([^"]*)"', preview.text)
    assert seen is not None
    await owner.post("/admin/catalog/apply", text=text, seen=seen[1], back="/admin/models")
    hotel.house.clock.now += 2 * stays
    removed = await owner.post("/admin/providers/mill/remove", typed="mill")
    assert removed.headers["location"] == "/admin/providers?notice=provider-saved", removed.text
    assert await pool(hotel) == {}
    assert (await owner.post(f"/admin/changes/{await newest(hotel)}/undo")).status_code == 303
    assert list(await pool(hotel)) == ["key-2"]
    async with store.database.transaction() as conn:
        document = await catalog_store.load_document(conn, KINDS)
        now = int(hotel.house.clock.now * 1000)
        assert await kept_keys.tidy_keys(conn, document.providers, now=now) == 0
        later = now + 31 * 86_400_000
        assert await kept_keys.tidy_keys(conn, document.providers, now=later) == 1, "key-1, which nobody has"
        assert [it.last4 for it in (await kept_keys.kept_keys(conn)).values()] == [KEYS[1][-4:]]


async def test_a_pool_takes_keys_beside_the_environment_and_is_switched(hotel: Hotel) -> None:
    owner, mill = await member(hotel, "owner"), Mill(hotel)
    mill.taken.add("vendor-key-0123456789")
    new = "/admin/providers/wire-chat/keys/new"
    refused = await owner.post(new, secret=WRONG)
    assert refused.status_code == 422
    added = await owner.post(new, secret=KEYS[0], weight="2", id="mine")
    assert added.status_code == 303, added.text
    assert await pool(hotel, "wire-chat") == {
        "outside": "env:VENDOR_KEY",
        "mine": (await pool(hotel, "wire-chat"))["mine"],
    }
    leaked = await owner.post("/admin/providers/wire-chat/keys/mine/remove", typed="mine", leaked="yes")
    assert leaked.status_code == 303
    async with hotel.house.store.database.connect() as conn:
        assert await kept_keys.kept_keys(conn) == {}

    at = "/admin/providers/wire-chat/switch"
    question = (await owner.get(f"{at}?state=drain")).text
    assert "0 requests run there" in question
    assert (await owner.get(f"{at}?state=x")).status_code == 400
    assert (await owner.post(at, **{"state": "drain", "for": "1h", "reason": "rest"})).status_code == 303
    page = (await owner.get("/admin/providers/wire-chat")).text
    assert "drained" in page
    assert "rest" in page
    await until(lambda: len(relay_catalog(hotel)().switches) == 1)
    user = await hotel.house.user()
    assert (await hotel.house.ask("chat", "wire-chat", user)).status == 503
    assert (await owner.post(at, state="on")).status_code == 303
    assert (await owner.post("/admin/providers/wire-chat/reset", key="outside")).status_code == 303
    await until(lambda: not relay_catalog(hotel)().switches)
    assert (await hotel.house.ask("chat", "wire-chat", user)).status == 200
    for kind, url in (("vertex", ""), ("azure", ""), ("custom", ""), ("custom", "http://192.0.2.1/v1")):
        answer = await owner.post("/admin/providers/new", kind=kind, id="x", url=url, secret=KEYS[3])
        assert answer.status_code in {400, 422}, kind
        assert KEYS[3] not in answer.text


async def test_the_password_of_a_proxy_is_kept_like_a_key_and_for_that_proxy_alone(hotel: Hotel) -> None:
    owner, staffed = await member(hotel, "owner", "owner@example.com"), Staffed(hotel)
    await add_mill(owner, Mill(hotel))
    at, user, call = "/admin/providers/mill/proxy", f"ann:{PASSPHRASE}", await staffed.caller()
    for fields, status in (
        ({"proxy": "http://127.0.0.1:9", "secret": "no-colon"}, 409), ({"proxy": "", "secret": user}, 409),
        ({"proxy": f"http://{user}@127.0.0.1:9"}, 422), ({"proxy": "https://127.0.0.1:9"}, 422),
        ({"proxy": "http://127.0.0.1:9", "secret": "ann:\u2022\u2022\u2022"}, 422),
    ):  # fmt: skip
        answer = await owner.post(at, **fields)
        assert (answer.status_code, PASSPHRASE in answer.text.replace(f'value="http://{user}', "")) == (
            status,
            False,
        ), fields
    assert (await owner.post(at, proxy="http://127.0.0.1:9", secret=user)).status_code == 303
    row = await mill_row(hotel)
    assert row.reach.proxy_secret.startswith("kept:mill/pvk_")
    page = (await owner.get("/admin/providers/mill")).text
    assert "http://127.0.0.1:9" in page
    assert PASSPHRASE not in page
    source = relay_catalog(hotel)
    await until(lambda: source().upstreams["mill"].reach.proxy_secret == row.reach.proxy_secret)
    assert hotel.house.service is not None
    way = way_to(source().upstreams["mill"], row.speaks[0][1], hotel.house.service._secrets)
    assert way is not None
    assert way.proxy is not None
    assert way.proxy.authorization == b"Basic " + base64.b64encode(user.encode())
    # another proxy never gets it, by the text of the catalogue neither
    store = hotel.house.store
    async with store.database.connect() as conn:
        moved = replace(row, reach=replace(row.reach, proxy="http://127.0.0.2:9"))
        found = await kept_keys.open_keys(conn, store.secrets_file, [row, moved])
    by_place = [(it.reference == row.reach.proxy_secret, it.value is None) for it in found]
    assert by_place == [(False, False), (True, False), (False, False), (True, True)]
    assert (await owner.post(at, proxy="http://127.0.0.2:9")).status_code == 409
    same = await call("POST /providers/mill/proxy", {"proxy": "http://127.0.0.1:9"})
    assert (same.status_code, same.json()["secret"]) == (200, row.reach.proxy_secret)
    assert (
        await asyncio.to_thread(
            main, ["upstream", "key", "proxy", "mill", "--address", "", "--data", str(store.settings.data)]
        )
        == 0
    )
    row = await mill_row(hotel)
    assert (row.reach.proxy, row.reach.proxy_secret) == ("", "")
    actions = {it["action"] for it in await staffed.entries(object_id="mill/proxy")}
    assert actions == {"credential_added", "credential_removed"}
    files = b"".join(path.read_bytes() for path in sorted(store.settings.data.rglob("*")) if path.is_file())
    assert PASSPHRASE.encode() not in files
    await call.http.aclose()


async def mill_row(hotel: Hotel) -> Upstream:
    async with hotel.house.store.database.connect() as conn:
        document = await catalog_store.load_document(conn, KINDS)
    return next(row for row in document.providers if row.id == "mill")


async def test_programs_do_with_keys_what_the_pages_do_and_no_answer_has_one(hotel: Hotel) -> None:
    owner, mill, staffed = await member(hotel, "owner", "owner@example.com"), Mill(hotel), Staffed(hotel)
    await add_mill(owner, mill)
    user, call = await serve(hotel, owner), await staffed.caller()
    keys, told = "/providers/mill/keys", list[str]()

    async def ask(route: str, body: object = None, status: int = 200, key: str = "") -> Any:
        answer = await call(route, body, {"idempotency-key": key} if key else {})
        told.append(answer.text)
        assert answer.status_code == status, (route, answer.text)
        return answer.json()

    (first,) = (await ask(f"GET {keys}"))["data"]
    assert (first["id"], first["secret"], first["managed_by"]) == (
        "key-1",
        f"\u2022\u2022\u2022\u2022 {KEYS[0][-4:]}",
        "page",
    )
    refused = await ask(f"POST {keys}", {"secret": WRONG}, 422)
    assert (refused["code"], refused["field"], refused["fault"]) == ("key_not_taken", "secret", "caller")
    assert (await ask(f"POST {keys}", {"secret": "sk-\u2022\u2022\u2022\u2022"}, 422))[
        "code"
    ] == "unusable_key"
    assert (await ask("POST /providers/nobody/keys", {"secret": KEYS[1]}, 404))["code"] == "not_found"
    assert list(await pool(hotel)) == ["key-1"]
    body = {"secret": KEYS[1], "weight": 2, "reason": "more room"}
    for _ in range(2):  # the second is the stored answer of the first
        added = await ask(f"POST {keys}", body, key="once")
        assert (added["id"], added["weight"], added["problem"]) == ("key-2", 2, "")
    await ask(f"POST {keys}?dry_run=1", {"secret": KEYS[2]}, 400)
    assert list(await pool(hotel)) == ["key-1", "key-2"]
    changed = await ask(f"POST {keys}/key-2/change", {"group": "second"})
    assert (changed["weight"], changed["group"]) == (2, "second")
    fresh = await ask(f"POST {keys}/key-1/rotate", {"secret": KEYS[2]})
    assert fresh["id"] == "key-3"
    assert (await ask(f"GET {keys}/key-1"))["retire_at"] is not None
    assert (await said(hotel))["mill/key-1"] == "drain"
    await ask(f"POST {keys}/key-1/remove", {"leaked": True, "reason": "seen in a chat"})
    assert (await ask(f"POST {keys}/key-1/remove", {}, 404))["code"] == "no_such_upstream"
    assert list(await pool(hotel)) == ["key-3", "key-2"]
    await until(lambda: len(relay_catalog(hotel)().upstreams["mill"].credentials) == 2)
    mill.asked.clear()
    for _ in range(6):
        assert (await hotel.house.ask("chat", "rye", user)).status == 200
    assert set(mill.asked) <= {KEYS[1], KEYS[2]}
    entries = await staffed.entries(object_kind="credential")
    assert {it["action"] for it in entries if it["actor_kind"] == "token"} == {
        "credential_removed", "credential_rotated", "credential_added",
    }  # fmt: skip
    viewer = await staffed.caller("viewer")
    assert (await viewer(f"POST {keys}", {"secret": KEYS[3]})).status_code == 403
    assert (await viewer(f"GET {keys}")).status_code == 200
    await case_16_no_key_is_found(hotel, told, used=False)
    for each in staffed.callers:
        await each.http.aclose()


@pytest.mark.parametrize(
    ("url", "address", "fine"),
    [
        ("https://llm.example.com/v1", "203.0.114.5", True),
        ("http://llm.example.com/v1", "203.0.114.5", False),
        ("http://gpu/v1", "10.1.2.3", True),
        ("http://localhost:11434/v1", "127.0.0.1", True),
        ("https://metadata.example/v1", "169.254.169.254", False),
        ("https://metadata.example/v1", "::ffff:169.254.169.254", False),
        ("http://metadata.example/v1", "fd00:ec2::254", False),
        ("http://metadata.example/v1", "100.100.100.200", False),
    ],
)
async def test_no_provider_is_where_clouds_hand_out_credentials(url: str, address: str, fine: bool) -> None:
    row = replace(KINDS["custom"], speaks=(("chat", url),))
    wrong = await provider_check.wrong_address(row, lambda _: [address])
    assert (wrong == "") == fine


@pytest.mark.parametrize(
    "text", ["", "\u2022\u2022 4f2a", "sk-****", "a\nb", "schl\u00fcssel", "env:X", "x" * 9000]
)
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UnusableKey) as refused:
        checked_key(text)
    assert refused.value.status == 422
    assert not text or text not in refused.value.message
