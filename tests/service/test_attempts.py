"""The trail of a request: its attempts are written down where there were several or one failed, and nothing else is."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from penstock.core.limits import day_of
from penstock.domain.ledger import attempts as trail
from penstock.relay.trail import kept_words
from penstock.store.sql.schema import attempts
from tests.service.conversations import DIALECTS, FRAMES, body_of
from tests.service.running_service import House, User
from tests.service.scripted import Asked
from tests.service.test_routing import refusing, well

both = pytest.mark.parametrize("dialect", DIALECTS)
SAID = "The mill is down until the river rises."


async def written(house: House, user: User) -> dict[str, list[trail.AttemptMade]]:
    """The attempts of the user's requests, by their ids, once all are written."""
    rows = await house.rows(user)
    assert house.service is not None
    assert house.service._api is not None
    trails = house.service._api._relay.failover.trails
    assert not trails._open, "nothing is kept of what has ended"
    assert not trails._answers
    await trails._log.flush()
    async with house.store.database.connect() as conn:
        return {row["id"]: list(await trail.find(conn, row["id"], row["day"])) for row in rows}


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_case_38_two_attempts_are_two_rows_and_their_headers_agree(
    house: House, dialect: str, *, stream: bool
) -> None:
    user = await house.user()
    well(house, dialect)
    error = msgspec.json.encode({"type": "error", "error": {"type": "x", "message": SAID}})
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.answer(
        error, 402, headers={"x-request-id": "up-1", "retry-after": "2"}
    )
    answer = await house.ask(dialect, f"pair-{dialect}", user, stream=stream)
    ((first, second),) = (await written(house, user)).values()
    assert (first.number, first.provider, first.failure, first.status) == (
        1,
        f"wire-{dialect}",
        "quota",
        402,
    )
    assert (first.reason, first.message, first.upstream_request_id) == ("weight", SAID, "up-1")
    assert (first.retry_after_ms, first.maybe_billed, first.first_ms) == (2000, False, None)
    assert (second.number, second.provider, second.failure, second.status) == (2, f"spare-{dialect}", "", 200)
    assert (second.reason, second.message, second.maybe_billed) == ("after_quota", None, False)
    assert second.output_tokens is not None
    assert 0 <= first.started_ms <= first.ended_ms <= second.started_ms <= second.ended_ms
    assert answer.headers["x-penstock-attempts"] == "2"
    assert answer.headers["server-timing"].startswith("a1;dur=")
    assert ';desc="quota", a2;dur=' in answer.headers["server-timing"]
    assert SAID not in answer.body.decode() + str(answer.headers)


@both
async def test_an_ordinary_request_has_none(house: House, dialect: str) -> None:
    user = await house.user()
    well(house, dialect, "wire")
    answer = await house.ask(dialect, f"pair-{dialect}", user)
    assert list((await written(house, user)).values()) == [[]]
    assert "server-timing" not in answer.headers
    # nor has one whose caller is wrong, by the provider's word
    house.wires[f"wire-{dialect}"].script = refusing(400, "messages: too many")
    assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 400
    assert list((await written(house, user)).values()) == [[], []]


@both
async def test_one_that_fails_after_content_is_written_alone(house: House, dialect: str) -> None:
    user = await house.user()

    def cut(asked: Asked) -> None:
        asked.begin(*FRAMES[dialect][:-2])
        asked.cut()

    house.wires[f"wire-{dialect}"].script = cut
    await house.ask(dialect, f"wire-{dialect}", user, stream=True)
    ((only,),) = (await written(house, user)).values()
    assert (only.failure, only.status, only.number) == ("broken", 200, 1)
    assert only.first_ms is not None


@both
async def test_all_that_fail_are_written_and_the_last_word_stays_with_the_operator(
    house: House, dialect: str
) -> None:
    user = await house.user()
    for place in ("wire", "spare"):
        house.wires[f"{place}-{dialect}"].script = refusing(401, f"key sk-live-{place} is not taken")
    answer = await house.ask(dialect, f"pair-{dialect}", user)
    assert (answer.status, answer.json["code"]) == (502, "provider_credentials")
    assert "sk-live" not in answer.body.decode()
    (made,) = (await written(house, user)).values()
    assert [(each.failure, each.status) for each in made] == [("auth", 401), ("auth", 401)]
    assert made[0].message == "key (hidden) is not taken"


@both
async def test_what_a_provider_quotes_of_the_request_is_not_kept(house: House, dialect: str) -> None:
    user = await house.user()
    secret = "my grandmother's recipe for plum jam"
    house.wires[f"wire-{dialect}"].script = refusing(403, f"cannot parse: {secret}")
    await house.post(
        dialect,
        body_of(dialect, f"wire-{dialect}", messages=[{"role": "user", "content": f"Improve {secret}!"}]),
        user,
    )
    (made,) = (await written(house, user)).values()
    assert {each.message for each in made} == {"cannot parse:(...)"}


@pytest.mark.parametrize(
    ("said", "body", "kept"),
    [
        ("", b"x", None),
        ("overloaded", b'{"a": "overloaded"}', "overloaded"),
        ("model is overloaded at the moment", b"{}", "model is overloaded at the moment"),
        ("bad: a b c d e f g h i j k l m n", b"a b c d e f g h i j k l m n", "(It quotes the request.)"),
        ("x" * 30, b"--" + b"x" * 30, "(It quotes the request.)"),
        ("  spaced   out  ", b"{}", "  spaced   out  "),
        (
            "bad: \u6885\u5b50\u679c\u9171\u6885\u5b50\u679c\u9171",
            rb"\u6885\u5b50\u679c\u9171" * 2,
            "(It quotes the request.)",
        ),
        ("over", b"x" * 1_048_577, "(The request is too long to see whether it is quoted.)"),
        ("x" * 501, b"{}", "x" * 500),
    ],
)
def test_words_that_are_kept(said: str, body: bytes, kept: str | None) -> None:
    assert kept_words(said, body) == kept


async def test_attempts_go_with_the_requests_of_their_day(house: House) -> None:
    user = await house.user()
    for place in ("wire", "spare"):
        house.wires[f"{place}-chat"].script = refusing(500, "no")
    await house.ask("chat", "pair-chat", user)
    await written(house, user)
    today = day_of(house.clock.now)
    async with house.store.database.transaction() as conn:
        assert await trail.forget_before(conn, today) == 0
        assert await trail.forget_before(conn, today + 1) == 2
        left: list[Any] = list(await conn.execute(select(attempts)))
    assert left == []


async def test_what_cannot_be_written_waits_and_is_bounded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "_WAITING", 3)
    log = trail.AttemptLog(house.store.database)
    made = trail.AttemptMade(
        1, "p", "", "m", "chat", "only", "broken", None, None, 0, None, 1, None, None, None, False, None
    )
    log.note("req_000000000000000000000001", 5, [msgspec.structs.replace(made, number=n) for n in range(5)])
    assert (len(log._rows), log._lost) == (3, 2)
    await log.flush()
    async with house.store.database.connect() as conn:
        assert [it.number for it in await trail.find(conn, "req_000000000000000000000001", 5)] == [0, 1, 2]
