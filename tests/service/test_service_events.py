"""Events of bursts, old backups, late jobs and newer versions: at the threshold, once for two servers, over."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select

from penstock.domain.notifications.jobs import done_until, note_done
from penstock.domain.notifications.staff_events import Condition, lasting_events
from penstock.domain.notifications.watch import BACKUP, Thresholds, conditions_in_books
from penstock.operations.conditions import conditions_of_parts
from penstock.operations.health import Health, JobTimes
from penstock.operations.maintenance import FOLLOWING, MAINTENANCE
from penstock.operations.notifier import Notifier
from penstock.operations.release_watch import (
    AGAIN_SECONDS,
    ASKED_SECONDS,
    ReleaseWatch,
    is_newer,
)
from penstock.store.sql.schema import jobs, refusal_hours, users
from tests.service.receivers import receiving, trusting
from tests.service.running_service import open_house
from tests.service.test_notifications import Office
from tests.stores import Engine, engine

__all__ = ["engine"]

HOUR = 3_600_000
NONE = Thresholds(0, 0, 0)
SETTINGS = {"abuse_sign_ups": 3, "abuse_refusals": 10, "backup_hours": 36}


@pytest.fixture
async def office(engine: Engine, tmp_path: Path) -> AsyncGenerator[Office]:
    async with receiving() as receiver:
        more = {**trusting(tmp_path), **SETTINGS}
        async with open_house(tmp_path / "data", database_url=engine.url, **more) as house:
            yield Office(house, receiver)


async def seen(office: Office, thresholds: Thresholds, *, now: int | None = None) -> list[Condition]:
    async with office.house.store.database.connect() as conn:
        found = await conditions_in_books(conn, thresholds, since=0, now=office.now if now is None else now)
    return [it for it in found if it.event in ("abuse.burst", "backup.old")]


async def account(office: Office, number: int, at: int) -> None:
    row = {"id": f"usr_{number}", "email": f"{number}@x.example", "email_canonical": f"{number}@x.example"}
    async with office.house.store.database.transaction() as conn:
        await conn.execute(insert(users).values(**row, plan_id="lab", created_at=at))


async def refused(office: Office, user: str, hour: int, requests: int, code: str = "bad_request") -> None:
    row = {"user_id": user, "hour": hour, "code": code, "key_id": "key_1", "requests": requests}
    async with office.house.store.database.transaction() as conn:
        await conn.execute(insert(refusal_hours).values(**row))


def states(office: Office) -> list[tuple[str, str, str]]:
    data = [message.json["data"] for message in office.receiver.got]
    return [(it["event"], it["object"], it["state"]) for it in data if it["event"] != "account.signed_up"]


async def test_a_burst_of_sign_ups_begins_at_its_threshold_and_is_over_an_hour_later(office: Office) -> None:
    await office.hook()
    await office.rule(event="abuse", webhook="pager")
    async with office.house.store.database.transaction() as conn:
        await conn.execute(delete(users).where(users.c.created_at > office.now - HOUR))
    at = office.now
    limit = Thresholds(0, 3, 0)
    for number, made in enumerate((at, at - HOUR + 1)):
        await account(office, number, made)
    assert await seen(office, limit) == [], "one fewer"
    await account(office, 2, at - HOUR)
    await account(office, 3, at + 1)
    assert await seen(office, limit) == [], "an hour ago to the moment, and what is to come by another clock"
    await account(office, 4, at)
    (burst,) = await seen(office, limit)
    assert (burst.object, burst.text) == ("sign-ups", "3 new accounts within an hour")
    assert await seen(office, NONE) == []
    assert await seen(office, Thresholds(0, 4, 0)) == []
    assert await seen(office, limit, now=at - 10 * HOUR) == [], "a clock that was set back"
    assert await seen(office, limit, now=at + 10 * HOUR) == [], "and one that jumped ahead"
    await office.notifier.round()
    await office.later(30)
    assert states(office) == [("abuse.burst", "sign-ups", "opened")]
    await office.later(3600)
    await office.later(200)
    assert states(office)[1:] == [("abuse.burst", "sign-ups", "recovered")]


async def test_a_burst_of_refusals_is_an_accounts_own_and_of_one_hour_of_the_clock(office: Office) -> None:
    hour = office.now // HOUR
    limit = Thresholds(0, 0, 10)
    await refused(office, "usr_a", hour, 5)
    await refused(office, "usr_a", hour, 4, "daily_limit")
    await refused(office, "usr_b", hour, 9)
    await refused(office, "usr_b", hour - 1, 9)
    await refused(office, "usr_c", hour - 2, 900)
    await refused(office, "usr_d", hour + 1, 900)
    assert await seen(office, limit) == [], "not together, not of an hour that is over, not of one to come"
    await refused(office, "usr_a", hour, 1, "model_not_on_plan")
    await refused(office, "usr_e", hour - 1, 10)
    found = {it.object: it.text for it in await seen(office, limit)}
    assert set(found) == {"usr_a", "usr_e"}
    assert found["usr_a"] == "10 refused requests of usr_a within an hour"
    assert {it.object for it in await seen(office, limit, now=office.now + HOUR)} == {"usr_a", "usr_d"}
    assert await seen(office, limit, now=office.now + 3 * HOUR) == []
    assert await seen(office, NONE) == []


async def test_an_old_backup_is_told_once_by_two_servers_and_is_over_with_the_next(office: Office) -> None:
    await office.hook()
    await office.rule(event="backup.old", webhook="pager")
    store = office.house.store
    other = Notifier(
        store.database,
        store.secrets_file,
        office.house.settings,
        office.notifier._metrics,
        sees=(),
        now=office.house.clock,
        mail_queued=lambda: None,
    )
    limit = Thresholds(36 * HOUR, 0, 0)
    assert await seen(office, limit) == [], "it was never used: copies may be made by what is not seen"
    async with store.database.transaction() as conn:
        await note_done(conn, BACKUP, at=office.now - 36 * HOUR)
    assert await seen(office, limit) == []
    assert await seen(office, limit, now=office.now - 1000 * HOUR) == [], "a clock that was set back"
    (old,) = await seen(office, limit, now=office.now + 1)
    assert old.text == "No backup was made for more than 36 hours"
    assert await seen(office, NONE, now=office.now + 1) == []
    office.house.clock.now += 1
    for _ in range(3):
        await asyncio.gather(office.notifier.round(), other.round())
        office.house.clock.now += 61
    assert states(office) == [("backup.old", "backup", "opened")]
    async with store.database.transaction() as conn:
        await note_done(conn, BACKUP, at=office.now)
        assert await done_until(conn, BACKUP) == office.now
    await office.later(200)
    await office.later(130)  # whoever leads for the first time waits for what others see
    assert states(office)[1:] == [("backup.old", "backup", "recovered")]
    async with store.database.connect() as conn:
        assert await lasting_events(conn) == []
        assert len(list(await conn.scalars(select(jobs.c.name).where(jobs.c.name == BACKUP)))) == 1


def test_a_job_is_late_after_twice_its_time_and_no_more_once_it_is_done() -> None:
    at = [100.0]
    times = JobTimes(lambda: at[0])
    times.expect("sweep", 60.0)
    times.expect("count", 600.0)
    at[0] += 120.0
    assert times.late() == {}, "twice its time to the moment"
    at[0] += 0.5
    assert times.late() == {"sweep": 120.5}
    times.done("sweep")
    assert times.late() == {}
    health = Health({}, owed=lambda: 0)
    health.jobs = times
    at[0] += 1200.0
    told = conditions_of_parts(health)
    assert [(it.event, it.object) for it in told] == [("job.late", "sweep"), ("job.late", "count")]
    assert told[0].text == "The job sweep has not come to its end for 20 minutes"


async def test_both_rounds_of_a_server_are_watched_and_its_wall_clock_may_jump(office: Office) -> None:
    (parts,) = [it for it in office.notifier._sees if getattr(it, "func", None) is conditions_of_parts]
    health: Health = vars(parts).get("args", getattr(parts, "args", [None]))[0]
    assert set(health.jobs._every) == {FOLLOWING, MAINTENANCE}
    office.house.clock.now += 10_000_000
    assert conditions_of_parts(health) == []
    done = health.jobs._done[FOLLOWING]
    async with asyncio.timeout(30):
        while health.jobs._done[FOLLOWING] == done:  # noqa: ASYNC110 - a round that tells nobody
            await asyncio.sleep(0.05)


# ---- newer versions


@asynccontextmanager
async def releases(told: list[bytes], asked: list[str]) -> AsyncGenerator[str]:
    """Answers with what is told now, on a loopback address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(told[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/penstock/json"


def page(body: object, status: str = "200 OK") -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(text), text)


@pytest.mark.parametrize(
    ("told", "ours", "newer"),
    [
        ("1.0.1", "1.0.0", True), ("v1.1", "1.0.9", True), ("1.10.0", "1.9.9", True), ("1.0", "1.0.0", False),
        ("1.0.0", "1.0.0", False), ("0.9.9", "1.0.0", False), ("1.0.0", "1.0.0rc1", True), ("1.0.0rc2", "0.9", False),
        ("", "1.0", False), ("latest", "1.0", False), ("2" * 40, "1.0", False), ("1.0.1\n", "1.0.0", False),
    ],
)  # fmt: skip
def test_only_a_release_after_ours_is_newer(told: str, ours: str, newer: bool) -> None:
    assert is_newer(told, ours) is newer


async def test_the_newest_version_is_asked_for_once_a_day_and_told_until_it_is_ours() -> None:
    at, told, asked = [0.0], [page({"info": {"version": "1.2.0"}})], list[str]()
    async with releases(told, asked) as url:
        watch = ReleaseWatch(url, "1.1.0", lambda: at[0])
        assert watch.conditions() == []
        await watch.look()
        (newer,) = watch.conditions()
        assert (newer.event, newer.object) == ("release.available", "1.2.0")
        assert asked[0].startswith("GET /penstock/json HTTP/1.1\r\n")
        assert "1.1.0" not in asked[0], "who asks says nothing of itself"
        at[0] += ASKED_SECONDS - 1
        await watch.look()
        assert len(asked) == 1
        at[0] += 1
        told[0] = page({"tag_name": "v1.1.0"})
        await watch.look()
        assert (len(asked), watch.conditions()) == (2, [])


BAD = pytest.mark.parametrize(
    "answer",
    [
        page({"version": "9"}, "500 Internal Server Error"), page({"version": "9"}, "302 Found"), page([]),
        page({"version": 9}),
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", b"nonsense\r\n\r\n", b"", page({}), page({"version": "\ud800"}),
        page({"version": "9"}, "404 Not Found"), page({"version": "latest"}), page({"version": "9.0rc1"}),
    ],
)  # fmt: skip


@BAD
async def test_an_answer_that_is_none_changes_nothing_and_is_asked_for_again(answer: bytes) -> None:
    at, told, asked = [0.0], [answer], list[str]()
    async with releases(told, asked) as url:
        watch = ReleaseWatch(url, "1.1.0", lambda: at[0])
        await watch.look()
        assert watch.conditions() == []
        told[0] = page({"version": "1.2"})
        at[0] += AGAIN_SECONDS
        await watch.look()
        assert [it.object for it in watch.conditions()] == ["1.2"]
        told[0] = answer
        for seconds in (ASKED_SECONDS, AGAIN_SECONDS):
            at[0] += seconds
            before = len(asked)
            await watch.look()
            assert len(asked) == before + 1
            assert [it.object for it in watch.conditions()] == ["1.2"], "what was known is known"
        told[0] = page({"version": "1.1.0"})
        at[0] += AGAIN_SECONDS
        await watch.look()
        assert watch.conditions() == []
    assert AGAIN_SECONDS < ASKED_SECONDS


async def test_a_server_that_has_no_answer_yet_believes_what_staff_were_told(tmp_path: Path) -> None:
    told, asked = [page({"version": "999.0"})], list[str]()
    async with releases(told, asked) as url, receiving() as receiver:
        for version in ("999.0", "999.1"):
            async with open_house(tmp_path / "a", release_url=url, **trusting(tmp_path)) as house:
                office = Office(house, receiver)
                if version == "999.0":
                    await office.hook()
                    await office.rule(event="release", webhook="pager")
                for _ in range(8):
                    await office.later(50)
                assert states(office) == [("release.available", "999.0", "opened")]
                watch = office.notifier._releases
                assert watch is not None
                if version == "999.1":
                    told[0] = page({"version": "999.1"})
                    watch._due = 0.0
                    for _ in range(5):
                        await office.later(50)
                    assert states(office)[1:] == [
                        ("release.available", "999.1", "opened"),
                        ("release.available", "999.0", "recovered"),
                    ]
            told[0] = page({}, "503 Service Unavailable")
    assert not ReleaseWatch(url, "999.0").knows


def test_a_version_that_we_have_by_now_is_not_believed() -> None:
    watch = ReleaseWatch("http://127.0.0.1:1/", "1.2.0")
    watch.suppose("1.2.0")
    assert watch.conditions() == []
    watch.suppose("1.3.0")
    assert [it.object for it in watch.conditions()] == ["1.3.0"]


async def test_without_an_address_nothing_is_asked_and_with_one_staff_are_told_once(tmp_path: Path) -> None:
    told, asked = [page({"version": "999.0"})], list[str]()
    async with releases(told, asked) as url, receiving() as receiver:
        async with open_house(tmp_path / "a") as house:
            assert Office(house, receiver).notifier._releases is None
        async with open_house(tmp_path / "b", release_url=url, **trusting(tmp_path)) as house:
            office = Office(house, receiver)
            await office.hook()
            await office.rule(event="release", webhook="pager")
            for _ in range(4):
                await office.later(40)
            assert states(office) == [("release.available", "999.0", "opened")]
            await office.later(30 * 86_400)
            assert [it[2] for it in states(office)] == ["opened"], "it is not told again"
    assert len(asked) == 1
