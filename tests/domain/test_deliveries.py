"""Deliveries to staff: when each is due, what waits to be said with others, what is tried again, and what counts as taken."""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.mail import outbox
from penstock.domain.mail.outbox import Mail
from penstock.domain.notifications import deliveries, rules, webhooks
from penstock.domain.notifications.deliveries import KEEP_MS, TRIES, Custom, Delivery, DueLetter
from penstock.domain.notifications.digest import gather_digest
from penstock.domain.notifications.letters import Letter, Told, body_of_letter
from penstock.domain.notifications.rules import RuleWish
from penstock.domain.notifications.staff_events import Condition, Teller, close_unseen, happened, observe
from penstock.domain.trail.changes import CannotUndo, KeptChange, of_operation
from penstock.domain.trail.entries import SYSTEM
from penstock.errors import InvalidRequest
from penstock.store.sql.database import Database
from penstock.store.sql.schema import changes
from penstock.store.sql.schema import deliveries as delivery_rows
from tests.domain.people import NOW, make_vault, open_database
from tests.stores import Engine

HOUR = 3_600_000
MINUTE = 60_000
HOLD = 40_000
T = TypeVar("T")


class Desk:
    """Where staff are told, at 08:00 UTC. ``per_hour`` messages go to a target one by one."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.vault = make_vault(directory)
        self.custom = Custom(UTC, 2, "Acme")
        self.now = NOW

    async def do(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self.database.transaction() as conn:
            return await work(conn)

    async def hook(self, name: str = "pager") -> str:
        made = await self.do(
            lambda conn: webhooks.add_webhook(
                conn,
                self.vault,
                name,
                f"https://{name}.example/hook",
                "plain",
                SYSTEM,
                now=self.now,
                entropy=secrets.token_bytes,
            )
        )
        return made.id

    async def rule(self, **said: Any) -> None:
        wish = RuleWish(**said)
        await self.do(
            lambda conn: rules.add_rule(conn, wish, SYSTEM, now=self.now, entropy=secrets.token_bytes)
        )

    async def tell(self, about: str = "m-1", event: str = "model.out") -> int:
        told = Told(event, "opened", "critical", about, f"{about} is out", self.now, self.now)
        return await self.do(
            lambda conn: deliveries.fan_out(
                conn, self.vault, told, self.custom, now=self.now, entropy=secrets.token_bytes
            )
        )

    async def take(self) -> list[DueLetter]:
        """All that is due, by whichever server has its hands free."""
        taken: list[DueLetter] = []
        while targets := await self.do(lambda conn: deliveries.due_targets(conn, now=self.now)):
            for to in targets:
                due = await self.do(
                    lambda conn, to=to: deliveries.take_due(conn, self.vault, to, now=self.now, hold_ms=HOLD)
                )
                taken += [] if due is None else [due]
        return taken

    async def arrived(self, due: DueLetter) -> None:
        await self.do(lambda conn: deliveries.delivered(conn, due, now=self.now))

    async def refused(self, due: DueLetter, *, lasting: bool = False) -> None:
        await self.do(
            lambda conn: deliveries.delivery_failed(conn, due, "answered 503", lasting=lasting, now=self.now)
        )

    async def summaries(self) -> int:
        return await self.do(
            lambda conn: deliveries.bundle_hours(
                conn, self.vault, self.custom, now=self.now, entropy=secrets.token_bytes
            )
        )

    async def digests(self) -> int:
        return await self.do(
            lambda conn: deliveries.bundle_digests(
                conn, self.vault, now=self.now, entropy=secrets.token_bytes
            )
        )

    async def again(self, id: str) -> None:
        await self.do(
            lambda conn: deliveries.deliver_again(conn, id, SYSTEM, now=self.now, entropy=secrets.token_bytes)
        )

    async def failing(self) -> list[str]:
        return await self.do(lambda conn: deliveries.failing_targets(conn, since=NOW - HOUR))

    async def kept(self) -> list[Delivery]:
        return await self.do(deliveries.newest_deliveries)


@pytest.fixture
async def desk(engine: Engine, tmp_path: Path) -> AsyncGenerator[Desk]:
    async with open_database(engine, tmp_path) as opened:
        yield Desk(opened, tmp_path)


QUIET, LONGER, LOUD, DIGEST = {"quiet": "07:30-09:15"}, {"quiet": "07:30-10:00"}, {}, {"at_once": False}


@pytest.mark.parametrize(
    ("some", "due"),
    [
        ([QUIET, LOUD], 0),
        ([DIGEST, LOUD], 0),
        ([LONGER, QUIET], 75 * MINUTE),
        ([DIGEST, QUIET], 75 * MINUTE),
        ([DIGEST, DIGEST], None),
        ([LOUD, {"least": "critical"}], 0),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
async def test_of_several_rules_the_soonest_tells_and_once(
    desk: Desk, some: list[dict[str, Any]], due: int | None, *, turned: bool
) -> None:
    await desk.hook()
    for number, said in enumerate(reversed(some) if turned else some):
        await desk.rule(event=("model", "*")[number], webhook="pager", **said)
    assert await desk.tell() == 1
    (kept,) = await desk.kept()
    assert kept.due_at == (None if due is None else desk.now + due)
    assert kept.state == ("collected" if due is None else "waits")


async def test_one_in_hand_is_due_again_after_twice_the_time_until_it_is_given_up(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager")
    await desk.tell()
    for number in range(TRIES):
        (due,) = await desk.take()
        assert due.tries == number + 1
        assert await desk.take() == [], "nobody else takes it meanwhile"
        await desk.refused(due)
        desk.now += 30_000 << number
        if number < TRIES - 1:
            desk.now -= 1
            assert await desk.take() == []
            desk.now += 1
    assert await desk.take() == []
    (kept,) = await desk.kept()
    assert (kept.state, kept.error, kept.tries) == ("given up", "answered 503", TRIES)


async def test_one_in_hand_is_its_servers_until_the_hold_is_over_and_waits_from_its_failure_on(
    desk: Desk,
) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager")
    await desk.tell()
    (due,) = await desk.take()
    desk.now += HOLD - 1
    assert await desk.take() == []
    await desk.refused(due)
    assert (await desk.kept())[0].due_at == desk.now + 30_000
    desk.now += 30_000
    (lost,) = await desk.take()
    desk.now += HOLD
    (due,) = await desk.take()
    assert due.tries == 3, "whoever had it has died"
    await desk.refused(lost, lasting=True)
    assert (await desk.kept())[0].state == "waits", "another has it by now"
    await desk.arrived(due)
    await desk.refused(lost)
    assert (await desk.kept())[0].state == "sent"


async def test_a_mail_in_hand_is_its_servers_until_the_hold_is_over_and_waits_from_its_failure_on(
    desk: Desk,
) -> None:
    mail = Mail("test", "ann@example.com", "A subject", ("First.",))
    await desk.do(
        lambda conn: outbox.queue(conn, desk.vault, mail, now=desk.now, entropy=secrets.token_bytes)
    )

    async def take() -> outbox.Due | None:
        return await desk.do(lambda conn: outbox.take(conn, desk.vault, now=desk.now, hold_ms=HOLD))

    async def refused(due: outbox.Due) -> None:
        await desk.do(lambda conn: outbox.sending_failed(conn, due, "no", lasting=False, now=desk.now))

    due = await take()
    assert due is not None
    desk.now += HOLD - 1
    assert await take() is None
    await refused(due)
    desk.now += 30_000 - 1
    assert await take() is None
    desk.now += 1
    lost = await take()
    desk.now += HOLD
    due = await take()
    assert lost is not None
    assert due is not None
    await desk.do(lambda conn: outbox.was_sent(conn, due, now=desk.now))
    await refused(lost)
    desk.now += HOUR
    assert await take() is None, "it was sent, whatever befell the one before"


async def test_a_receiver_may_be_away_for_half_a_working_day(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager")
    await desk.tell()
    while (due_at := (await desk.kept())[0].due_at) is not None:
        desk.now = due_at
        for due in await desk.take():
            await desk.refused(due)
    assert 3.5 * HOUR <= desk.now - NOW <= 5 * HOUR, "about four hours, as the documents say"


async def test_what_was_given_up_is_in_the_next_digest_and_in_no_other(desk: Desk) -> None:
    """Giving up takes hours, so most of it was begun before the digest before."""
    await desk.hook()
    await desk.rule(event="*", webhook="pager")
    await desk.tell()
    mail = Mail("test", "ann@example.com", "A subject", ("First.",))
    await desk.do(
        lambda conn: outbox.queue(conn, desk.vault, mail, now=desk.now, entropy=secrets.token_bytes)
    )
    desk.now += HOUR
    first = desk.now

    async def taken() -> tuple[DueLetter, outbox.Due]:
        (due,) = await desk.take()
        mail = await desk.do(lambda conn: outbox.take(conn, desk.vault, now=desk.now, hold_ms=HOLD))
        assert mail is not None
        return due, mail

    async def waits(since: int) -> tuple[str, ...]:
        return (await desk.do(lambda conn: gather_digest(conn, since=since, now=desk.now))).waits

    due, letter = await taken()
    await desk.refused(due)
    await desk.do(lambda conn: outbox.sending_failed(conn, letter, "later", lasting=False, now=desk.now))
    assert await waits(NOW - HOUR) == ()
    desk.now += HOUR
    due, last = await taken()
    await desk.refused(due, lasting=True)
    await desk.do(lambda conn: outbox.sending_failed(conn, last, "never", lasting=True, now=desk.now))
    assert await waits(first) == ("1 mail given up", "1 message to staff given up")
    assert await waits(desk.now) == ()
    await desk.again(due.id)
    assert await waits(first) == ("1 mail given up",)


async def test_a_webhook_fails_from_its_third_refusal_until_it_takes_something(desk: Desk) -> None:
    id = await desk.hook()
    await desk.rule(event="*", webhook="pager")
    await desk.rule(event="*", recipient="ann@example.com")
    await desk.tell()
    for number in range(3):
        assert await desk.failing() == []
        for due in await desk.take():
            await desk.refused(due)
        desk.now += 30_000 << number
    assert await desk.failing() == [id], "and no mail address is a webhook"
    assert await desk.do(lambda conn: deliveries.failing_targets(conn, since=NOW + 1)) == []
    await desk.tell("m-2")
    assert await desk.failing() == [id]
    later = next(due for due in await desk.take() if due.kind == "webhook" and due.tries == 1)
    await desk.arrived(later)
    assert await desk.failing() == []
    desk.now += HOUR
    await desk.tell("m-3")
    for _ in range(3):
        for due in await desk.take():
            await desk.refused(due)
        desk.now += 2 * MINUTE
    assert await desk.failing() == [id], "what it took before says nothing of now"


async def test_a_webhook_that_has_lost_something_fails_at_once(desk: Desk) -> None:
    """One that answers 410 to all is never tried three times."""
    id = await desk.hook()
    await desk.rule(event="*", webhook="pager")
    await desk.tell()
    (due,) = await desk.take()
    assert await desk.failing() == []
    await desk.refused(due, lasting=True)
    assert await desk.failing() == [id]
    desk.now += 1
    await desk.tell("m-2")
    (due,) = await desk.take()
    await desk.arrived(due)
    assert await desk.failing() == []


async def test_what_does_not_open_is_no_fault_of_the_webhook(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager", at_once=False)
    await desk.tell()
    await desk.do(lambda conn: conn.execute(update(delivery_rows).values(sealed=b"\x01" + b"0" * 64)))
    assert await desk.digests() == 0
    assert [it.state for it in await desk.kept()] == ["given up"]
    assert await desk.failing() == []


async def test_a_webhook_is_not_put_back_beside_one_of_its_name(desk: Desk) -> None:
    first = await desk.hook()

    async def remove(id: str) -> KeptChange:
        async with desk.database.transaction() as conn:
            hook = await webhooks.webhook_named(conn, id)
            await webhooks.remove_webhook(conn, hook, SYSTEM, now=desk.now, entropy=secrets.token_bytes)
        async with desk.database.connect() as conn:
            operation = await conn.scalar(
                select(changes.c.operation).where(changes.c.object_id == id, changes.c.after.is_(None))
            )
            (change,) = await of_operation(conn, operation or "")
        return change

    change = await remove(first)
    second = await desk.hook()
    with pytest.raises(CannotUndo, match="of this name"):
        await desk.do(lambda conn: webhooks.undo_webhook(conn, change, now=desk.now))
    await remove(second)
    await desk.do(lambda conn: webhooks.undo_webhook(conn, change, now=desk.now))
    assert [it.id for it in await desk.do(webhooks.list_webhooks)] == [first]


async def test_the_digest_has_what_is_over_however_many_have_signed_up(desk: Desk) -> None:
    teller = Teller(desk.vault, desk.custom, 86_400_000, secrets.token_bytes)

    async def tell(conn: AsyncConnection) -> None:
        for number in range(510):
            await happened(conn, teller, Condition("account.signed_up", f"usr_{number}", "New"), NOW, now=NOW)
        await observe(conn, teller, [Condition("model.out", "m-1", "m-1 is out")], now=NOW + 1)
        await close_unseen(conn, teller, unseen_ms=1, now=NOW + 10)

    await desk.do(tell)
    found = await desk.do(lambda conn: gather_digest(conn, since=NOW - 1, now=NOW + 10))
    assert found.changed == ("[critical] over: m-1 is out",)


@pytest.mark.parametrize("shape", ["slack", "discord", "teams"])
@pytest.mark.parametrize(
    ("length", "count", "more"), [(60, 100, 7), (60, 100, 0), (300, 9, 0), (10, 5, 3), (10, 5, 0)]
)
def test_a_chat_is_told_how_many_it_is_not_told(shape: str, length: int, count: int, more: int) -> None:
    told = [
        Told("model.out", "opened", "critical", "m", f"{at:03}" + "x" * length, 1, 1) for at in range(count)
    ]
    said = body_of_letter(Letter("summary", 1, tuple(told), more), shape, "Acme").decode()
    named = sum(f"{at:03}x" in said for at in range(count))
    left = count + more - named
    assert named > 0
    assert (f"Acme: and {left} more" in said) is (left > 0)
    assert len(said) < 2200


def test_one_event_that_is_too_long_for_a_chat_is_cut() -> None:
    told = Told("model.out", "opened", "critical", "m", "x" * 5000, 1, 1)
    assert 1900 <= len(body_of_letter(Letter("model.out", 1, (told,)), "discord", "Acme")) < 2000


async def test_what_is_only_put_into_a_summary_has_not_been_taken(desk: Desk) -> None:
    id = await desk.hook()
    await desk.rule(event="model", webhook="pager")
    await desk.rule(event="mail", webhook="pager", at_once=False)
    for number in range(4):
        await desk.tell(f"m-{number}")
    await desk.tell("mail", "mail.failing")
    for number in range(3):
        for due in await desk.take():
            await desk.refused(due)
        desk.now += 30_000 << number
    assert await desk.failing() == [id]
    desk.now += HOUR
    assert (await desk.summaries(), await desk.digests()) == (1, 1)
    assert await desk.failing() == [id]


async def test_the_rest_of_an_hour_comes_in_one_when_its_oldest_is_an_hour_old(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager")
    for number in range(3):
        await desk.tell(f"m-{number}")
    sent = await desk.take()
    assert len(sent) == 2
    for due in sent:
        await desk.arrived(due)
    desk.now += MINUTE
    await desk.tell("mail", "mail.failing")
    desk.now += HOUR - MINUTE - 1
    assert await desk.summaries() == 0
    desk.now += 1
    assert await desk.summaries() == 1
    assert await desk.summaries() == 0
    (summary,) = [due for due in await desk.take() if due.letter.event == "summary"]
    assert [each.object for each in summary.letter.told] == ["m-2", "mail"]
    for number in range(2):
        await desk.tell(f"n-{number}")
    assert len([it for it in await desk.take() if it.tries == 1]) == 2, (
        "a summary is none of the hour's worth"
    )


async def test_quiet_hours_hold_back_the_summary_as_well(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="model", webhook="pager", quiet="07:30-09:15")
    await desk.rule(event="mail", webhook="pager")
    await desk.rule(event="ledger", webhook="pager", quiet="07:30-10:00")
    for number in range(3):
        await desk.tell(f"m-{number}")
    await desk.tell("ledger", "ledger.difference")
    desk.now += 70 * MINUTE
    assert await desk.summaries() == 0
    assert await desk.take() == []
    for number in range(3):
        await desk.tell(f"mail-{number}", "mail.failing")
    assert [due.letter.event for due in await desk.take()] == ["mail.failing"] * 2
    desk.now += 5 * MINUTE
    assert await desk.summaries() == 1
    summaries = [due.letter for due in await desk.take() if due.letter.event == "summary"]
    assert [each.object for letter in summaries for each in letter.told] == ["m-2", "mail-2"]
    desk.now += 45 * MINUTE
    assert await desk.summaries() == 1
    summaries = [due.letter for due in await desk.take() if due.tries == 1]
    assert [each.object for letter in summaries for each in letter.told] == ["ledger"]


async def test_what_quiet_hours_hold_counts_for_the_hour_in_which_it_is_sent(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="model", webhook="pager", quiet="07:30-11:00")
    await desk.rule(event="mail", webhook="pager")
    for number in range(6):
        await desk.tell(f"m-{number}")
        desk.now += HOUR // 2
    await desk.tell("mail", "mail.failing")
    assert await desk.summaries() == 1
    sent = await desk.take()
    assert sorted(due.letter.event for due in sent) == ["model.out", "model.out", "summary"]
    (summary,) = [due.letter for due in sent if due.letter.event == "summary"]
    assert [each.object for each in summary.told] == ["m-2", "m-3", "m-4", "m-5", "mail"]


async def test_what_quiet_hours_hold_takes_nothing_of_the_hour_that_is(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="model", webhook="pager", quiet="07:30-11:00")
    await desk.rule(event="mail", webhook="pager")
    for number in range(2):
        await desk.tell(f"m-{number}")
    for number in range(3):
        await desk.tell(f"mail-{number}", "mail.failing")
    assert sorted(due.letter.told[0].object for due in await desk.take()) == ["mail-0", "mail-1"]


async def test_what_a_target_does_not_take_counts_until_it_does(desk: Desk) -> None:
    """Otherwise all that has happened while it was away would come one by one."""
    await desk.hook()
    await desk.rule(event="*", webhook="pager")
    for number in range(2):
        await desk.tell(f"m-{number}")
    for hours in range(3):
        for due in await desk.take():
            await desk.refused(due)
        desk.now += HOUR if hours else 10 * MINUTE
        await desk.tell(f"n-{hours}")
        states = {it.state for it in await desk.kept() if it.created_at == desk.now}
        assert states == {"collected"}


async def test_the_backlog_leaves_out_what_quiet_hours_hold_and_counts_from_when_it_was_due(
    desk: Desk,
) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager", quiet="07:30-11:00")
    await desk.tell()

    async def backlog() -> tuple[int, int | None]:
        found = await desk.do(lambda conn: deliveries.backlog(conn, now=desk.now))
        return found.webhooks, found.webhooks_since

    assert await backlog() == (0, None)
    desk.now += 3 * HOUR - 1
    assert await backlog() == (0, None)
    desk.now += 1
    over = desk.now
    assert await backlog() == (1, over)
    for number in range(4):
        (due,) = await desk.take()
        await desk.refused(due)
        assert await backlog() == (1, over), "and it is due since then however often it was tried"
        desk.now += 30_000 << number
    await desk.arrived((await desk.take())[0])
    assert await backlog() == (0, None)
    await desk.do(
        lambda conn: outbox.queue(
            conn,
            desk.vault,
            Mail("test", "ann@example.com", "A subject", ("First.",)),
            now=desk.now,
            entropy=secrets.token_bytes,
        )
    )
    mails = await desk.do(lambda conn: deliveries.backlog(conn, now=desk.now + 5))
    assert (mails.mails, mails.mails_since) == (1, desk.now)


async def test_what_waits_to_be_said_with_others_is_not_sent_by_itself(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager", at_once=False)
    await desk.tell()
    (kept,) = await desk.kept()
    with pytest.raises(InvalidRequest):
        await desk.again(kept.id)
    with pytest.raises(InvalidRequest):
        await desk.again("msg_none")
    assert await desk.digests() == 1
    (digest,) = await desk.take()
    await desk.arrived(digest)
    await desk.again(kept.id)
    assert [(due.id, due.letter.event) for due in await desk.take()] == [(kept.id, "model.out")]
    await desk.again(digest.id)
    assert [due.id for due in await desk.take()] == [digest.id]


async def test_what_was_said_is_forgotten_after_its_days_and_what_is_due_is_not(desk: Desk) -> None:
    await desk.hook()
    await desk.rule(event="*", webhook="pager")
    await desk.tell("m-1")
    desk.now += 1
    await desk.tell("m-2")
    for due in await desk.take():
        if due.letter.told[0].object == "m-1":
            await desk.arrived(due)
        else:
            await desk.refused(due)
    for later, left in ((0, 2), (1, 1), (HOUR, 1)):
        await desk.do(lambda conn, at=NOW + KEEP_MS + later: deliveries.tidy_deliveries(conn, now=at))
        assert len(await desk.kept()) == left
    (due,) = await desk.kept()
    assert due.state == "waits"
