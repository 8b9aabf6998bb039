"""What a provider says in a failure that its status has decided is heard beside the request, bounded, and never quotes it."""

import asyncio
import gzip
from pathlib import Path

import msgspec
import pytest

from penstock.domain.ledger.attempts import AttemptMade, find
from penstock.relay import last_words
from penstock.relay.quotations import runs_in
from penstock.relay.trail import Trails
from penstock.store.sql.schema import requests
from tests.service.conversations import DIALECTS, body_of
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE, Asked
from tests.service.test_routing import Script, refusing, well

both = pytest.mark.parametrize("dialect", DIALECTS)
SAID = "The mill is down until the river rises."


def trails_of(house: House) -> Trails:
    assert house.service is not None
    assert house.service._api is not None
    return house.service._api._relay.failover.trails


async def attempts(house: House, user: User) -> list[AttemptMade]:
    """Those of the user's newest request, once they are written."""
    row = (await house.rows(user))[-1]
    trails = trails_of(house)
    async with asyncio.timeout(PATIENCE):
        while trails._hearing:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
    assert not trails._parked
    assert not trails._open
    assert not trails._answers
    assert not trails._words._hearings
    await trails._log.flush()
    async with house.store.database.connect() as conn:
        return list(await find(conn, row["id"], row["day"]))


def head(asked: Asked, status: int, rest: bytes, kind: bytes = b"application/json") -> None:
    asked.write(b"HTTP/1.1 %d Scripted\r\ncontent-type: %b\r\n%b\r\n\r\n" % (status, kind, rest))


def zipped(asked: Asked) -> None:
    body = gzip.compress(msgspec.json.encode({"error": {"message": SAID}}))
    asked.answer(body, 503, headers={"content-encoding": "gzip"})


def paged(asked: Asked) -> None:
    page = f"<!DOCTYPE html>\n<html><head><TITLE>\n502: Bad gateway &amp; more</title></head>{'<p>x' * 9000}"
    asked.answer(page.encode(), 502, kind="text/html")


def cut_off(asked: Asked) -> None:
    head(asked, 502, b"content-length: 500", b"text/html")
    asked.write(b"<html><title>504 Gateway Time-out</title>")
    asked.cut()


def bomb(asked: Asked) -> None:
    asked.answer(gzip.compress(b"x" * 50_000_000), 500, headers={"content-encoding": "gzip"})


def broken(asked: Asked) -> None:
    asked.answer(b"\x1f\x8b\x08nothing of the kind", 500, headers={"content-encoding": "gzip"})


def words(body: bytes, status: int) -> Script:
    return lambda asked: asked.answer(body, status)


@both
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "status", "kept"),
    [
        (refusing(500, SAID), 500, SAID),
        (refusing(529, SAID, "overloaded_error"), 529, SAID),
        (refusing(404, SAID), 404, SAID),
        (refusing(418, SAID), 418, SAID),
        (words(SAID.encode(), 503), 503, SAID),
        (words(b"", 503), 503, None),
        (words(b"[" * 5000, 500), 500, None),
        (words(b"<html>no title", 500), 500, None),
        (zipped, 503, SAID),
        (bomb, 500, None),
        (broken, 500, None),
        (paged, 502, "502: Bad gateway & more"),
        (cut_off, 502, "504 Gateway Time-out"),
    ],
)
async def test_words_of_a_failure_are_on_its_attempt_and_nowhere_else(
    house: House, dialect: str, script: Script, status: int, kept: str | None, *, stream: bool
) -> None:
    user = await house.user()
    well(house, dialect)
    house.wires[f"wire-{dialect}"].script = script
    answer = await house.ask(dialect, f"pair-{dialect}", user, stream=stream)
    assert answer.status == 200
    first, second = await attempts(house, user)
    assert (first.status, first.message) == (status, kept)
    assert (second.status, second.message) == (200, None)
    assert SAID not in answer.body.decode() + str(answer.headers)


@both
async def test_nobody_waits_for_words_that_come_late(house: House, dialect: str) -> None:
    user = await house.user()
    well(house, dialect)
    asked: list[Asked] = []

    def late(it: Asked) -> None:
        head(it, 500, b"x-request-id: up-1\r\ncontent-length: 500")
        asked.append(it)

    house.wires[f"wire-{dialect}"].script = late
    body = msgspec.json.encode({"error": {"message": SAID, "more": "x" * 1000}})[:500]
    assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200, (
        "the answer is here, the words are not"
    )
    asked[0].write(f'{{"error": {{"message": "{SAID}"}}}}'.encode().ljust(len(body)))
    first, _ = await attempts(house, user)
    assert (first.message, first.upstream_request_id) == (SAID, "up-1")
    assert house.service is not None
    seen = trails_of(house)._failures.all()
    assert [it.message for leg in seen for it in leg.last] == [SAID]
    await house.ask(dialect, f"pair-{dialect}", user)
    assert len(house.wires[f"wire-{dialect}"].lines) == 1, "its connection has been kept"


@pytest.mark.parametrize("endless", [False, True])
async def test_a_body_that_never_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, endless: bool
) -> None:
    """By its size, or by the moment that it has: nothing else would end it before the test is over."""
    monkeypatch.setattr(last_words, "HEARD_SECONDS", 600.0 if endless else 0.05)
    asked: list[Asked] = []

    def never(it: Asked) -> None:
        head(it, 500, b"transfer-encoding: chunked")
        asked.append(it)
        for _ in range(40 if endless else 0):
            it.frames(b"no end of it " * 100)

    async with open_house(tmp_path / "data", upstream_idle=600.0, upstream_total=600.0) as house:
        user = await house.user()
        for place in ("wire", "spare"):
            house.wires[f"{place}-chat"].script = never
        answer = await house.ask("chat", "pair-chat", user)
        assert answer.status == 502
        for it in asked:
            await it.left()
        assert [each.message for each in await attempts(house, user)] == [None, None]


async def test_a_service_that_stops_writes_down_what_it_has_heard(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await house.user()
    well(house, "chat")
    monkeypatch.setattr(last_words, "HEARD_SECONDS", 60.0)

    def half(asked: Asked) -> None:
        head(asked, 503, b"content-length: 5000", b"text/plain")
        asked.write(SAID.encode())

    house.wires["wire-chat"].script = half
    await house.ask("chat", "pair-chat", user)
    trails = trails_of(house)
    assert trails._parked
    await house.stop()
    assert not trails._parked
    async with house.store.database.connect() as conn:
        ((id, day),) = await conn.execute(requests.select().with_only_columns(requests.c.id, requests.c.day))
        assert [each.message for each in await find(conn, id, day)] == [SAID, None]


QUOTED = "my grandmother's recipe for plum jam"


@both
@pytest.mark.parametrize(
    ("body", "status", "kept"),
    [
        (msgspec.json.encode({"error": {"message": f"cannot parse: {QUOTED}"}}), 500, "cannot parse:(...)"),
        (msgspec.json.encode({"message": f"<{QUOTED}>"}), 529, "<(...)>"),
        (msgspec.json.encode([{"detail": QUOTED}]), 404, "(...)"),
        (f"<html><title>{QUOTED}</title>".encode(), 502, "(...)"),
    ],
)
async def test_what_it_quotes_of_the_request_is_not_kept(
    house: House, dialect: str, body: bytes, status: int, kept: str
) -> None:
    user = await house.user()
    turns = [{"role": "user", "content": f"Improve {QUOTED}! {'and more ' * 400}"}]
    house.wires[f"wire-{dialect}"].script = words(body, status)
    await house.post(dialect, body_of(dialect, f"wire-{dialect}", messages=turns), user)
    assert {each.message for each in await attempts(house, user)} == {kept}


async def test_a_storm_is_heard_in_part(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await house.user()
    monkeypatch.setattr(last_words, "_COMPARED_A_SECOND", 2000)
    trails_of(house)._words._left = 2000.0
    house.wires["wire-chat"].script = refusing(500, SAID)
    turns = [{"role": "user", "content": "x" * 1500}]
    for heard in (SAID, None):
        await house.post("chat", body_of("chat", "wire-chat", messages=turns), user)
        assert {each.message for each in await attempts(house, user)} <= {heard, None}
        if heard:
            assert (await attempts(house, user))[0].message == heard
    huge = [{"role": "user", "content": "x" * 300_000}]
    await house.post("chat", body_of("chat", "wire-chat", messages=huge), user)
    assert {each.message for each in await attempts(house, user)} == {None}


async def test_of_many_answers_that_say_nothing_yet_some_are_heard(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_words, "_AT_ONCE", 1)
    user = await house.user()
    slow: list[Asked] = []

    def half(asked: Asked) -> None:
        head(asked, 503, b"content-length: 5000", b"text/plain")
        slow.append(asked)

    for place in ("wire", "spare"):
        house.wires[f"{place}-chat"].script = half
    assert (await house.ask("chat", "pair-chat", user)).status == 502
    await slow[1].left()
    slow[0].write(SAID.encode().ljust(5000))
    assert [each.message for each in await attempts(house, user)] == [SAID, None]


def test_runs_are_found_wherever_they_stand_in_a_long_body() -> None:
    run = b"eight or more"
    for at in (0, 1, 7, 8, 2500, 4087):
        body = (b"." * at + run).ljust(4100, b".")
        assert runs_in(body, [run, b"eight of none", b"or other things"]) == {run}
    assert runs_in(b"." * 4100, [run]) == set()
    assert runs_in(b"eight or" + b"." * 4100, [run]) == set(), "its beginning alone is not the run"
