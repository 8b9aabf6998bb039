"""Events of the staff reach webhooks and mail addresses by rules: signed, once, again after a day, and over once."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, insert, select, update

from penstock.domain.accounts import accounts
from penstock.domain.notifications import deliveries, rules, staff_events, webhooks
from penstock.domain.notifications.rules import RuleWish
from penstock.domain.notifications.staff_events import Condition, Teller
from penstock.domain.notifications.webhooks import NewWebhook
from penstock.domain.trail.entries import SYSTEM
from penstock.operations.conditions import conditions_of_parts
from penstock.operations.health import Health
from penstock.operations.notifier import Notifier, try_webhook
from penstock.operations.upstreams import Alert, UpstreamWatch
from penstock.store.sql.schema import deliveries as delivery_rows
from penstock.store.sql.schema import outbox, plan_wishes
from penstock.store.sql.schema import staff_events as staff_event_rows
from penstock.store.sql.schema import webhooks as webhook_rows
from tests.service.receivers import Receiver, receiving, trusting
from tests.service.running_service import House, open_house
from tests.stores import Engine, engine

__all__ = ["engine"]

OUT = Condition("model.out", "m-1", "All providers of m-1 are out (server).")


class Office:
    """A house whose staff are told, and what they are told."""

    def __init__(self, house: House, receiver: Receiver) -> None:
        self.house = house
        self.receiver = receiver

    @property
    def now(self) -> int:
        return int(self.house.clock.now * 1000)

    @property
    def notifier(self) -> Notifier:
        assert self.house.service is not None
        assert self.house.service.notifier is not None
        return self.house.service.notifier

    @property
    def teller(self) -> Teller:
        return self.notifier._teller

    @property
    def watch(self) -> UpstreamWatch:
        """What this process knows of upstreams."""
        found: Any = self.notifier._sees[1]
        watch: UpstreamWatch = found.__self__
        return watch

    async def hook(self, name: str = "pager", shape: str = "plain", url: str = "") -> NewWebhook:
        async with self.house.store.database.transaction() as conn:
            return await webhooks.add_webhook(
                conn,
                self.house.store.secrets_file,
                name,
                url or self.receiver.url,
                shape,
                SYSTEM,
                now=self.now,
                entropy=secrets.token_bytes,
            )

    async def rule(self, **said: Any) -> None:
        async with self.house.store.database.transaction() as conn:
            wish = RuleWish(**said)
            await rules.add_rule(conn, wish, SYSTEM, now=self.now, entropy=secrets.token_bytes)

    async def sees_only(self, *seen: Condition) -> None:
        """What a process sees, said and not yet sent."""
        async with self.house.store.database.transaction() as conn:
            await staff_events.observe(conn, self.teller, seen, now=self.now)

    async def sees(self, *seen: Condition) -> int:
        """What a process sees, said and sent; how many messages arrived."""
        await self.sees_only(*seen)
        return await self.notifier.round()

    async def later(self, seconds: float) -> int:
        self.house.clock.now += seconds
        return await self.notifier.round()

    async def kept(self) -> list[deliveries.Delivery]:
        async with self.house.store.database.connect() as conn:
            return await deliveries.newest_deliveries(conn)


@pytest.fixture
async def office(engine: Engine, tmp_path: Path) -> AsyncGenerator[Office]:
    async with receiving() as receiver:
        more = trusting(tmp_path)
        async with open_house(tmp_path / "data", database_url=engine.url, **more) as house:
            yield Office(house, receiver)


def beside(office: Office, *seen: Condition, poll: float = 86_400.0) -> Notifier:
    """Another server's notifier, and what that server sees."""
    store = office.house.store
    settings = replace(office.house.settings, notify_poll=poll)
    return Notifier(
        store.database,
        store.secrets_file,
        settings,
        office.notifier._metrics,
        sees=(lambda: list(seen),),
        now=office.house.clock,
        mail_queued=lambda: None,
    )


async def test_what_lasts_is_told_once_again_after_a_day_and_over_once(office: Office) -> None:
    made = await office.hook()
    await office.rule(event="*", webhook="pager")
    assert await office.sees(OUT) == 1
    (first,) = office.receiver.got
    assert first.first == "POST /hooks/canary-path-77d1?token=canary-query-02ba HTTP/1.1"
    assert first.is_signed(made.secret)
    assert not first.is_signed("whsec_" + "A" * 43 + "=")
    assert first.headers["content-type"] == "application/json"
    assert abs(int(first.named["webhook-timestamp"]) - office.house.clock.now) < 2
    told = first.json
    assert (told["type"], told["service"]) == ("model.out", "Penstock")
    assert told["data"]["state"] == "opened"
    assert (told["data"]["object"], told["data"]["severity"]) == ("m-1", "critical")
    for _ in range(3):
        office.house.clock.now += 60
        assert await office.sees(OUT) == 0, "it is told once"
    office.house.clock.now += 86_400
    assert await office.sees(OUT) == 1
    assert office.receiver.got[1].json["data"]["state"] == "still_open"
    assert office.receiver.got[1].json["data"]["since"] == told["data"]["since"]
    assert await office.later(100) == 0, "a server may be late"
    assert await office.later(100) == 1
    assert office.receiver.got[2].json["data"]["state"] == "recovered"
    assert await office.later(1000) == 0
    assert await office.sees(OUT) == 1, "it has come back"
    assert office.receiver.got[3].json["data"]["state"] == "opened"
    assert len({message.id for message in office.receiver.got}) == 4


async def test_a_message_that_is_not_taken_is_sent_again_under_its_id(office: Office) -> None:
    await office.hook()
    await office.rule(event="model", webhook="pager")
    for answer, location in ((500, ""), (302, office.receiver.url), (None, "")):
        office.receiver.answer, office.receiver.location = answer, location
        office.notifier._outward = replace(office.notifier._outward, seconds=0.5)
        before = office.receiver.connections
        sent = await office.sees(OUT) if answer == 500 else await office.later(50 if answer else 65)
        assert sent == 0
        assert office.receiver.connections == before + 1, "nothing is followed"
    waits = (await office.kept())[0]
    assert (waits.state, waits.tries, waits.error) == ("waits", 3, "no answer within 0.5 s")
    office.receiver.answer = 204
    office.notifier._outward = replace(office.notifier._outward, seconds=5.0)
    async with office.house.store.database.transaction() as conn:
        await staff_events.observe(conn, office.teller, [OUT], now=office.now)
    assert await office.later(3600) >= 1
    assert len({message.id for message in office.receiver.got[:4]}) == 1
    async with office.house.store.database.transaction() as conn:
        await deliveries.deliver_again(conn, waits.id, SYSTEM, now=office.now, entropy=secrets.token_bytes)
    count = len(office.receiver.got)
    assert await office.notifier.round() >= 1
    assert office.receiver.got[count].id == waits.id, "sent again by hand, it is the same message"


async def test_a_message_nobody_takes_is_given_up_and_its_webhook_is_told_of_elsewhere(
    office: Office,
) -> None:
    await office.hook("broken")
    async with receiving() as other:
        await office.hook("good", url=other.url)
        await office.rule(event="model", webhook="broken")
        await office.rule(event="webhook.failing", webhook="good")
        office.receiver.answer = 503
        await office.sees(OUT)
        for _ in range(deliveries.TRIES + 2):
            await office.later(3 * 3600)
        mine = [it for it in await office.kept() if it.event == "model.out"]
        assert {it.state for it in mine} == {"given up"}
        assert [message.json["type"] for message in other.got][:1] == ["webhook.failing"]


async def spoil(office: Office, *these: str) -> None:
    """What these deliveries, or webhooks, have sealed does not open any more."""
    async with office.house.store.database.transaction() as conn:
        for table in (delivery_rows, webhook_rows):
            await conn.execute(
                update(table).where(table.c.id.in_(these)).values(sealed=b"\x01" + b"00000000" * 8)
            )


async def test_a_message_that_does_not_open_holds_up_none_behind_it(office: Office) -> None:
    await office.hook()
    await office.rule(event="*", webhook="pager")
    office.receiver.answer = 503
    assert await office.sees(OUT) == 0
    (kept,) = await office.kept()
    await spoil(office, kept.id)
    office.receiver.answer = 204
    office.house.clock.now += 3600
    assert await office.sees(OUT, replace(OUT, object="m-2")) == 1
    (spoilt,) = [it for it in await office.kept() if it.id == kept.id]
    assert (spoilt.state, spoilt.tries) == ("waits", 2)
    assert spoilt.error is not None
    assert spoilt.error.startswith("cannot be opened: ")
    for _ in range(deliveries.TRIES):
        await office.later(3 * 3600)
    assert [it.state for it in await office.kept() if it.id == kept.id] == ["given up"]


async def test_a_digest_leaves_out_what_does_not_open(office: Office) -> None:
    await office.hook()
    await office.rule(event="*", webhook="pager", at_once=False)
    await office.sees(OUT, replace(OUT, object="m-2"))
    first, second = await office.kept()
    await spoil(office, first.id)
    office.house.clock.now += 86_400
    await office.notifier.round()
    (digest,) = [message.json for message in office.receiver.got if message.json["type"] == "digest.daily"]
    opened = [each["object"] for each in digest["data"]["events"] if each["state"] == "opened"]
    assert len(opened) == 1
    states = {it.id: it.state for it in await office.kept()}
    assert (states[first.id], states[second.id]) == ("given up", "sent")


async def test_a_webhook_whose_address_does_not_open_holds_up_no_other(office: Office) -> None:
    async with receiving() as other:
        broken = await office.hook("broken")
        await office.hook("good", url=other.url)
        for name in ("broken", "good"):
            await office.rule(event="model", webhook=name)
        await spoil(office, broken.id)
        assert await office.sees(OUT) == 1
        assert len(other.got) == 1
        (waits,) = [it for it in await office.kept() if it.state == "waits"]
        assert waits.target == broken.id
        assert waits.error is not None
        assert waits.error.startswith("its address cannot be opened: ")


async def test_gone_is_given_up_at_once(office: Office) -> None:
    await office.hook()
    await office.rule(event="*", webhook="pager")
    office.receiver.answer = 410
    await office.sees(OUT)
    assert [(it.state, it.tries) for it in await office.kept()] == [("given up", 1)]


async def test_of_many_an_hour_the_rest_comes_in_one(office: Office) -> None:
    await office.hook()
    await office.rule(event="*", webhook="pager")
    many = [replace(OUT, object=f"m-{number}", text=f"m-{number} is out") for number in range(150)]
    assert await office.sees(*many) == 20
    async with office.house.store.database.transaction() as conn:
        office.house.clock.now += 3600
        await staff_events.observe(conn, office.teller, many, now=office.now)
    assert await office.notifier.round() == 1
    summary = office.receiver.got[20].json
    assert summary["type"] == "summary"
    assert len(summary["data"]["events"]) == 100
    assert summary["data"]["more"] == 30


async def test_rules_choose_by_event_and_severity_and_one_target_is_told_once(office: Office) -> None:
    async with receiving() as other:
        await office.hook()
        await office.hook("other", url=other.url)
        await office.rule(event="*", webhook="pager")
        await office.rule(event="model", webhook="pager")
        await office.rule(event="*", least="critical", webhook="other")
        await office.rule(event="plan.asked", webhook="other")
        await office.sees(OUT, Condition("mail.failing", "mail", "Mails do not go out"))
        assert sorted(it.json["type"] for it in office.receiver.got) == ["mail.failing", "model.out"]
        assert [it.json["type"] for it in other.got] == ["model.out"]


async def test_quiet_hours_hold_back_and_the_digest_collects(office: Office) -> None:
    """It is 08:00 UTC in the house."""
    await office.hook()
    await office.rule(event="model", webhook="pager", quiet="07:30-09:15")
    assert await office.sees(OUT) == 0
    async with office.house.store.database.transaction() as conn:
        office.house.clock.now += 75 * 60
        await staff_events.observe(conn, office.teller, [OUT], now=office.now)
    assert await office.notifier.round() == 1
    await office.rule(event="mail", webhook="pager", at_once=False)
    assert await office.sees(OUT, Condition("mail.failing", "mail", "Mails do not go out")) == 0
    assert {it.state for it in await office.kept()} == {"sent", "collected"}
    await office.later(24 * 3600)
    digest = [it.json for it in office.receiver.got if it.json["type"] == "digest.daily"]
    assert len(digest) == 1
    told = [(it["event"], it["state"]) for it in digest[0]["data"]["events"]]
    assert told == [("mail.failing", "opened"), ("mail.failing", "recovered")]


async def test_without_a_digest_for_admins_rules_get_theirs_and_old_rows_go(
    engine: Engine, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        more = {**trusting(tmp_path), "digest_at": "never"}
        async with open_house(tmp_path / "data", database_url=engine.url, **more) as house:
            office = Office(house, receiver)
            removed = await office.hook("old")
            await office.hook()
            await office.rule(event="*", webhook="pager", at_once=False)
            async with house.store.database.transaction() as conn:
                id = accounts.new_user_id(secrets.token_bytes(16))
                await accounts.create_user(
                    conn, "root@example.com", plan="lab", admin=True, verified=True, now=1, id=id
                )
                hook = await webhooks.webhook_named(conn, removed.id)
                await webhooks.remove_webhook(conn, hook, SYSTEM, now=office.now, entropy=secrets.token_bytes)
            await office.sees(OUT)
            midnight = 16 * 3600
            assert await office.later(midnight - 1) == 0
            assert await office.later(1) == 1, "at 00:00"
            (digest,) = [message.json for message in receiver.got]
            assert digest["type"] == "digest.daily"
            for _ in range(2):
                await office.later(86_400)
            await office.later(100 * 86_400)
            await office.later(86_400)
            async with house.store.database.connect() as conn:
                assert list(await conn.scalars(select(outbox.c.kind))) == []
                assert list(await conn.scalars(select(webhook_rows.c.name))) == ["pager"]
                assert await conn.scalar(select(staff_event_rows.c.id).limit(1)) is None
            assert len(await office.kept()) == 0


async def test_new_accounts_are_told_without_their_addresses(office: Office) -> None:
    await office.hook()
    await office.rule(event="account.signed_up", webhook="pager")
    await office.notifier.round()
    async with office.house.store.database.transaction() as conn:
        for number in range(3):
            id = accounts.new_user_id(secrets.token_bytes(16))
            await accounts.create_user(
                conn,
                f"canary{number}@example.com",
                plan="lab",
                admin=False,
                verified=True,
                now=office.now + 1,
                id=id,
            )
    office.house.clock.now += 5
    assert await office.notifier.round() == 3
    assert await office.later(70) == 0, "each is told once"
    assert await office.later(70) == 0
    assert not any(b"canary" in message.body for message in office.receiver.got)
    assert office.receiver.got[0].json["data"]["state"] == "happened"


async def test_of_two_servers_one_sends_and_one_writes_the_digest(office: Office) -> None:
    """Each sees the same, and neither knows of the other but by the database."""
    await office.hook()
    await office.rule(event="*", webhook="pager")
    store, other = office.house.store, beside(office, OUT)
    office.notifier._sees = (lambda: [OUT],)
    counts = await asyncio.gather(office.notifier.round(), other.round())
    await asyncio.gather(office.notifier.round(), other.round())
    assert sum(counts) <= 1
    assert len(office.receiver.got) == 1
    async with store.database.transaction() as conn:
        id = accounts.new_user_id(secrets.token_bytes(16))
        await accounts.create_user(
            conn, "root@example.com", plan="lab", admin=True, verified=True, now=1, id=id
        )
    office.house.clock.now += 25 * 3600
    await asyncio.gather(office.notifier.round(), other.round())
    await asyncio.gather(office.notifier.round(), other.round())
    async with store.database.connect() as conn:
        kinds = list(await conn.scalars(select(outbox.c.kind)))
    assert kinds == ["digest_daily"]
    assert [message.json["data"]["state"] for message in office.receiver.got] == ["opened", "still_open"]


async def test_after_a_while_without_a_leader_others_may_say_first_what_they_see(office: Office) -> None:
    """The database was away for all, or the leader was started anew."""
    await office.hook()
    await office.rule(event="*", webhook="pager")
    seen = [OUT]
    first, other = beside(office, poll=5.0), beside(office, poll=5.0)
    other._sees = (lambda: list(seen),)

    async def rounds(*servers: Notifier, seconds: int) -> None:
        for _ in range(seconds // 5):
            for each in servers:
                await each.round()
            office.house.clock.now += 5

    def told() -> list[str]:
        return [it.json["data"]["state"] for it in office.receiver.got]

    await rounds(first, other, seconds=200)
    for away in (110, 180, 3600):
        office.house.clock.now += away
        await rounds(first, other, seconds=30)
        assert told() == ["opened"], f"without anybody for {away} s"
    await rounds(other, seconds=100)
    await rounds(beside(office, poll=5.0), other, seconds=30)
    office.house.clock.now += 119
    await beside(office, poll=5.0).round()
    await rounds(first, other, seconds=30)
    assert told() == ["opened"], "started anew"
    seen.clear()
    await rounds(first, other, seconds=300)
    assert told() == ["opened", "recovered"], "and what is over is told"


async def test_a_receiver_that_hangs_lets_a_server_see_and_lead_meanwhile(office: Office) -> None:
    """Otherwise what it alone sees would be over to the others."""
    await office.hook()
    await office.rule(event="*", webhook="pager")
    office.receiver.answer = None
    ours, other = beside(office, OUT), beside(office)
    for each in (ours, other):
        each._settings = replace(each._settings, notify_poll=0.01)
        each._outward = replace(each._outward, seconds=0.5)
    await office.sees_only(*(replace(OUT, object=f"m-{number}") for number in range(20, 40)))

    async def seen_now() -> bool:
        async with office.house.store.database.connect() as conn:
            found = await staff_events.lasting_events(conn)
        return any(it.object == OUT.object and it.seen_at == office.now for it in found)

    async with ours.running(), other.running():
        for _ in range(5):
            await office.receiver.messages(1)
            async with asyncio.timeout(3):
                while not await seen_now():  # noqa: ASYNC110 - a round that tells nobody
                    await asyncio.sleep(0.01)
            office.house.clock.now += 45
    async with office.house.store.database.connect() as conn:
        states = [it for it in await staff_events.lasting_events(conn) if it.object == OUT.object]
    assert len(states) == 1, "it lasts"


async def test_a_receiver_that_hangs_holds_up_no_other_and_wastes_no_tries(office: Office) -> None:
    async with receiving() as other:
        await office.hook("hanging")
        await office.hook("good", url=other.url)
        await office.rule(event="model", webhook="hanging")
        await office.rule(event="mail", webhook="good")
        office.receiver.answer = None
        office.notifier._outward = replace(office.notifier._outward, seconds=0.2)
        many = [replace(OUT, object=f"m-{number}") for number in range(10)]
        await office.sees_only(*many)
        sending = asyncio.ensure_future(office.notifier.round())
        await office.receiver.messages(2)
        await office.sees_only(Condition("mail.failing", "mail", "Mails do not go out"))
        await other.messages(1)
        assert len(office.receiver.got) < 8, "it came between two of those that nobody takes"
        assert await sending >= 1
        waits = [it.tries for it in await office.kept() if it.event == "model.out"]
        assert waits == [1] * 10


async def test_of_two_servers_one_sends_each_message_to_a_slow_receiver(office: Office) -> None:
    await office.hook()
    await office.rule(event="*", webhook="pager")
    clock = office.house.clock
    many = [replace(OUT, object=f"m-{number}") for number in range(20)]
    await office.sees_only(*many)

    def ticking() -> float:
        clock.now += 2
        return clock.now

    servers = [beside(office), beside(office)]
    for each in servers:
        each._now = ticking

    async def send(server: Notifier) -> None:
        while len(office.receiver.got) < 20:
            await server._send_due()

    await asyncio.gather(*(send(each) for each in servers))
    assert len({message.id for message in office.receiver.got}) == len(office.receiver.got) == 20


async def test_a_refused_key_and_a_part_that_fails_are_told_without_anybodys_words(office: Office) -> None:
    """From the provider's answer to the webhook."""
    house, canary = office.house, "canary-of-the-provider"
    await office.hook()
    await office.rule(event="*", webhook="pager", least="warning")
    for status, event in ((401, "provider_key.refused"), (402, "provider_key.out_of_money")):
        body = f'{{"error": {{"message": "{canary}"}}}}'.encode()
        wire = "wire-chat" if status == 401 else "wire-messages"
        house.wires[wire].script = lambda asked, body=body, status=status: asked.answer(body, status)
        for _ in range(3):  # one caller's word is not enough for a credential to be switched off
            assert (await house.ask("chat", wire, await house.user())).status == 502
        watch = office.watch
        watch.look()
        await office.notifier.round()
        told = [message.json["data"] for message in office.receiver.got if message.json["type"] == event]
        assert [(it["state"], it["severity"], it["object"]) for it in told] == [("opened", "critical", wire)]
    assert not any(canary.encode() in message.body for message in office.receiver.got)
    health = Health({"mail": lambda: f"{canary} 550", "redis": lambda: canary}, owed=lambda: 0)
    health.differences = 2
    found = conditions_of_parts(health)
    assert [(it.event, it.object) for it in found] == [
        ("mail.failing", "mail"),
        ("service.part_down", "redis"),
        ("ledger.difference", "ledger"),
    ]
    assert not any(canary in it.text for it in found)


async def test_what_lasts_is_told_as_it_is_by_now(office: Office) -> None:
    await office.hook()
    await office.rule(event="*", webhook="pager")
    await office.sees(replace(OUT, text="in 1 place"))
    for minutes in range(3):
        office.house.clock.now += 60
        assert await office.sees(replace(OUT, text=f"in {minutes + 2} places")) == 0, "it is not told anew"
    async with office.house.store.database.connect() as conn:
        (event,) = await staff_events.lasting_events(conn)
    assert event.text == "in 4 places"
    office.house.clock.now += 86_400
    await office.sees(replace(OUT, text="in 9 places"))
    await office.later(80)
    await office.later(80)
    told = [(it.json["data"]["state"], it.json["data"]["text"]) for it in office.receiver.got]
    assert told == [("opened", "in 1 place"), ("still_open", "in 9 places"), ("recovered", "in 9 places")]


async def test_a_wish_for_another_plan_is_another_event(office: Office) -> None:
    await office.hook()
    await office.rule(event="plan.asked", webhook="pager")
    user = accounts.new_user_id(secrets.token_bytes(16))
    async with office.house.store.database.transaction() as conn:
        await accounts.create_user(
            conn, "ann@example.com", plan="lab", admin=False, verified=True, now=1, id=user
        )
    for plan in ("pro", "starter"):
        async with office.house.store.database.transaction() as conn:
            await conn.execute(delete(plan_wishes))
            await conn.execute(insert(plan_wishes).values(user_id=user, plan_id=plan, created_at=office.now))
        assert await office.later(60) == 1
        told = office.receiver.got[-1].json["data"]
        assert (told["state"], told["object"]) == ("opened", f"{user}:{plan}")
        assert told["text"].endswith(plan)


async def test_names_that_are_too_long_are_cut_and_stay_two(office: Office) -> None:
    """A provider may call a model as it likes."""
    await office.hook()
    await office.rule(event="*", webhook="pager")
    name = "provider:" + "m" * 256
    long = [replace(OUT, object=f"{name}-{end}", text=f"{name}-{end} " * 2) for end in "ab"]
    assert await office.sees(*long) == 2
    assert await office.sees(*long) == 0
    assert {len(it.json["data"]["object"]) for it in office.receiver.got} == {200}
    assert {len(it.json["data"]["text"]) for it in office.receiver.got} == {300}
    async with office.house.store.database.transaction() as conn:
        once = Condition("account.signed_up", name, name * 2)
        for expected in (True, False):
            assert await staff_events.happened(conn, office.teller, once, 1, now=office.now) is expected


async def test_names_that_callers_chose_are_told_to_nobody(office: Office) -> None:
    """Behind a wildcard a provider's model is a caller's word."""
    house = office.house
    house.wires["wire-chat"].script = lambda asked: asked.answer(b"{}", 402)
    for _ in range(3):
        await house.ask("chat", "wire-chat", await house.user())
    watch = office.watch
    watch.look()
    watch._found = [
        Alert("headroom", f"wire-chat:{name}", f"{name} is near its end", leg=("wire-chat", name))
        for name in ("up-chat", "canary-word")
    ]
    assert [(it.event, it.object) for it in watch.conditions()] == [
        ("target.near_limit", "wire-chat:up-chat")
    ]


@pytest.mark.parametrize("shape", ["slack", "discord", "teams"])
async def test_chats_get_a_text(office: Office, shape: str) -> None:
    await office.hook(shape=shape)
    await office.rule(event="*", webhook="pager")
    await office.sees(replace(OUT, text="<!channel> & @everyone is out"))
    said = office.receiver.got[0].json
    if shape == "slack":
        assert said == {"text": "Penstock: [critical] &lt;!channel&gt; &amp; @everyone is out"}
    elif shape == "discord":
        assert said["allowed_mentions"] == {"parse": []}
        assert said["content"] == "Penstock: [critical] <!channel> & @everyone is out"
    else:
        block = said["attachments"][0]["content"]["body"][0]
        assert said["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"
        assert block["text"] == "Penstock: [critical] <!channel> & @everyone is out"


async def test_what_is_inside_our_network_is_not_reached(office: Office) -> None:
    await office.hook()
    store, settings = office.house.store, office.house.settings
    for networks in ((), ("10.0.0.0/8",)):
        _, tried = await try_webhook(
            store.database,
            store.secrets_file,
            replace(settings, webhook_addresses=networks),
            "pager",
            now=office.house.clock.now,
        )
        assert not tried.taken
        assert "not listed" in tried.error
    assert not office.receiver.connections
    _, tried = await try_webhook(
        store.database, store.secrets_file, settings, "pager", now=office.house.clock.now
    )
    assert (tried.taken, tried.status) == (True, 204)
    assert office.receiver.got[0].json["type"] == "webhook.test"
    _, tried = await try_webhook(
        store.database,
        store.secrets_file,
        replace(settings, webhook_ca=None),
        "pager",
        now=office.house.clock.now,
    )
    assert tried.error == "no answer: tls", "a certificate of nobody's"
