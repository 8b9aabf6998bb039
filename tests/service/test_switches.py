"""The operator's word: what is drained gets nothing new, what is reset is asked again; and what the operator is told."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from penstock.core.routing.bounds.rate_headers import Amount
from penstock.core.routing.switches import Reach, Switch
from penstock.domain.accounts import accounts
from penstock.domain.catalog import upstream_state
from penstock.operations.alerts import Alerts
from penstock.operations.upstreams import Alert, UpstreamWatch, worker_views
from penstock.store.sql.schema import outbox, staff
from tests.service.conversations import FRAMES
from tests.service.running_service import House, open_house
from tests.service.scripted import PATIENCE, Asked
from tests.service.test_routing import known, refusing, relay_of, well


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncGenerator[House]:
    """A service that looks for the operator's word at every turn."""
    async with open_house(tmp_path / "data", revision_poll=0.02) as house:
        yield house


async def say(house: House, switch: Switch) -> None:
    async with house.store.database.transaction() as conn:
        await upstream_state.say(conn, switch)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - a round of maintenance that tells nobody
            await asyncio.sleep(0.01)


def switches_of(house: House) -> int:
    return len(relay_of(house).router._catalog().switches)


def watch_of(house: House) -> UpstreamWatch:
    more = relay_of(house).metrics.more
    owner = getattr(more, "__self__", None)
    assert isinstance(owner, UpstreamWatch)
    return owner


async def test_case_36_what_is_drained_gets_nothing_new_and_ends_what_runs(quick: House) -> None:
    user = await quick.user()
    well(quick, "chat", "spare")
    wire = quick.wires["wire-chat"]
    running: list[Asked] = []

    def script(asked: Asked) -> None:
        running.append(asked)
        asked.begin(*FRAMES["chat"][:-2])

    wire.script = script
    caller = await quick.begin("chat", "pair-chat", user, stream=True)
    await until(lambda: bool(running))
    await say(quick, Switch(Reach("wire-chat"), "drain", why="rest"))
    await until(lambda: switches_of(quick) == 1)
    for n in range(10):
        answer = await quick.ask("chat", "pair-chat", user, stream=n % 2 == 0)
        assert (answer.status, answer.headers["x-penstock-attempts"]) == (200, "1")
    assert len(wire.asked) == 1
    running[0].stream_on(*FRAMES["chat"][-2:])
    ended = await caller.answer()
    assert b"[DONE]" in ended.body
    refused = await quick.ask("chat", "wire-chat", user)
    assert (refused.status, refused.json["code"]) == (503, "no_provider")
    assert "taken the providers of wire-chat out of use" in refused.body.decode()
    well(quick, "chat", "wire")
    await say(quick, Switch(Reach("wire-chat"), "on"))
    await until(lambda: switches_of(quick) == 0)
    assert (await quick.ask("chat", "wire-chat", user)).status == 200


async def test_a_drain_ends_by_itself(quick: House) -> None:
    user = await quick.user()
    well(quick, "chat", "wire")
    end = int(quick.clock.now * 1000) + 60_000
    await say(quick, Switch(Reach("wire-chat", model="up-chat"), "drain", until=end))
    await until(lambda: switches_of(quick) == 1)
    assert (await quick.ask("chat", "wire-chat", user)).status == 503
    quick.clock.now += 61
    await until(lambda: switches_of(quick) == 0)
    assert (await quick.ask("chat", "wire-chat", user)).status == 200


async def test_all_that_is_drained_is_no_reason_to_simulate(quick: House) -> None:
    user = await quick.user()
    for provider in ("wire-chat", "spare-chat"):
        await say(quick, Switch(Reach(provider), "off"))
    await until(lambda: switches_of(quick) == 2)
    assert (await quick.ask("chat", "pair-chat", user)).status == 503
    listed = await quick.http("GET", "/v1/models/pair-chat", user.key)
    assert listed.status == 200, "it is out of use for now, and not gone"


async def test_what_is_reset_is_asked_again(quick: House) -> None:
    user = await quick.user()
    well(quick, "chat", "spare")
    quick.wires["wire-chat"].script = refusing(402, "pay first")
    for _ in range(3):
        await quick.ask("chat", "pair-chat", user)
    assert known(quick, "wire-chat", "up-chat").off
    well(quick, "chat", "wire")
    at = int(quick.clock.now * 1000) + 1
    await say(quick, Switch(Reach("wire-chat"), "on", reset_at=at))
    await until(lambda: known(quick, "wire-chat", "up-chat").normal)
    answer = await quick.ask("chat", "pair-chat", user)
    assert answer.headers["x-penstock-route"] == "weight"
    # and is not reset a second time
    quick.wires["wire-chat"].script = refusing(402, "pay first")
    for _ in range(3):
        await quick.ask("chat", "pair-chat", user)
    watch_of(quick).look()
    assert known(quick, "wire-chat", "up-chat").off


async def test_a_worker_tells_what_it_knows_in_its_file_and_its_metrics(quick: House) -> None:
    user = await quick.user()
    well(quick, "chat", "spare")
    quick.wires["wire-chat"].script = refusing(403, "the mill is down")
    await quick.ask("chat", "pair-chat", user)
    watch = watch_of(quick)
    watch.look()
    (view,) = worker_views(quick.settings.data / "upstreams")
    (failures,) = view.failures
    assert (failures.provider, failures.counts) == ("wire-chat", {"auth": 1})
    assert failures.last[0].message == "the mill is down"
    asked = {leg.provider: (leg.asked, leg.in_flight) for leg in view.snapshot.legs}
    assert asked["wire-chat"] == asked["spare-chat"] == (1, 0)
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in watch.metrics()
        for sample in family.samples
    }
    assert told["penstock_upstream_attempts_total", "wire-chat", "up-chat", "", "auth"] == 1
    assert told["penstock_upstream_attempts_total", "wire-chat", "up-chat", "", ""] == 0
    assert told["penstock_upstream_attempts_total", "spare-chat", "up-chat", "", ""] == 1
    assert told["penstock_upstream_state", "spare-chat", "up-chat", "", "healthy"] == 1
    assert told["penstock_retry_tokens", "pair-chat"] == 200
    await quick.stop()
    assert worker_views(quick.settings.data / "upstreams") == []


# ---- alerts


async def test_what_is_out_is_told_once_an_hour_and_mailed_where_nobody_else_does(house: House) -> None:
    user = await house.user()
    async with house.store.database.transaction() as conn:
        role = {"role": "admin", "source": "hand", "granted_by": "", "created_at": 0}
        await conn.execute(staff.insert().values(user_id=user.id, **role))
        assert await accounts.admins(conn) == [user.email]
    for place in ("wire", "spare"):
        house.wires[f"{place}-chat"].script = refusing(402, "pay first")
    for _ in range(3):
        await house.ask("chat", "pair-chat", user)
    found = watch_of(house).look()
    assert [(it.kind, it.about) for it in found] == [
        ("credential_off", "spare-chat"),
        ("credential_off", "wire-chat"),
    ]
    assert "pay first" not in str(found)
    now = int(house.clock.now * 1000)
    for _ in range(3):
        alerts = Alerts(
            house.store.database, house.store.secrets_file, brand="Mill", entropy=secrets.token_bytes
        )
        for _ in range(2):
            await alerts.tell(found, now=now)
    assert await mails(house) == 0, "of a credential another mail tells, with the provider's words"
    out = [Alert("model_out", name, f"All providers of {name} are out.") for name in ("m", "n")]
    for _ in range(3):
        alerts = Alerts(
            house.store.database, house.store.secrets_file, brand="Mill", entropy=secrets.token_bytes
        )
        await alerts.tell(out, now=now)
    assert await mails(house) == 1, "two causes of one kind, three servers"
    alerts = Alerts(house.store.database, house.store.secrets_file, brand="Mill", entropy=secrets.token_bytes)
    await alerts.tell(out, now=now + 3_600_000)
    assert await mails(house) == 2


async def mails(house: House) -> int:
    async with house.store.database.connect() as conn:
        return len((await conn.execute(select(outbox.c.id).where(outbox.c.kind == "upstream_alert"))).all())


async def test_a_model_whose_providers_are_all_out_for_a_minute_is_told_of(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await house.user()
    for place in ("wire", "spare"):
        house.wires[f"{place}-chat"].script = refusing(402, "pay first")
    for _ in range(3):
        await house.ask("chat", "pair-chat", user)
    watch = watch_of(house)
    kinds = {alert.kind for alert in watch.look()}
    assert kinds == {"credential_off"}
    later = watch._clock() + 61
    monkeypatch.setattr(watch, "_clock", lambda: later)
    known(house, "wire-chat", "up-chat").credential._open_until = later + 60
    known(house, "spare-chat", "up-chat").credential._open_until = later + 60
    out = [alert.about for alert in watch.look() if alert.kind == "model_out"]
    assert "pair-chat" in out
    well(house, "chat", "spare")
    house_health = relay_of(house).router.health
    house_health.reset(lambda key: key[0] == "spare-chat", later)
    assert "pair-chat" not in [alert.about for alert in watch.look() if alert.kind == "model_out"]


async def test_who_has_little_left_of_its_limits_for_minutes_is_told_of(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    well(house, "chat", "wire")
    assert (await house.ask("chat", "pair-chat", await house.user())).status == 200
    watch, health = watch_of(house), relay_of(house).router.health
    found, now = known(house, "wire-chat", "up-chat"), watch._clock()
    monkeypatch.setattr(watch, "_clock", lambda: now)

    def told(left: float) -> list[str]:
        health.paced(found, (Amount("requests", 100.0, left, reset=1e6),), now)
        return [alert.about for alert in watch.look() if alert.kind == "headroom"]

    assert told(4.0) == [], "not at once"
    now += 301
    assert told(4.0) == ["wire-chat:up-chat"]
    assert told(10.0) == [], "a tenth is enough"
    assert told(4.0) == []
    assert told(100.0) == []
    assert health.abnormal == 0
    now += 301
    assert told(4.0) == [], "what was before counts no more"
