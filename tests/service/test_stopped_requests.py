"""The end of the drain: what still runs is told so in its own form, and its row says whose doing it was."""

import asyncio

import pytest

from tests.service.conversations import DIALECTS, FRAMES, frames_of
from tests.service.running_service import House

both = pytest.mark.parametrize("dialect", DIALECTS)
ERRORS = {"chat": b'"type":"error","error":{', "messages": b"event: error\n"}


async def _row(house: House) -> tuple[object, ...]:
    async with house.store.database.connect() as conn:
        found = await conn.exec_driver_sql(
            "select outcome, error_code, status, counted, refund_reason from requests join kinds on kinds.id = requests.kind"
        )
        (row,) = found.all()
    return tuple(row)


@both
async def test_a_stream_ends_with_an_error_event(house: House, dialect: str) -> None:
    user = await house.user()
    caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
    asked = await house.wires[f"wire-{dialect}"].next()
    asked.begin(*FRAMES[dialect][:3])
    head = await caller.head()
    head.body = await caller.until(b"Hi ")
    rest = asyncio.create_task(caller.rest(head))
    await house.stop()
    answer = await rest
    assert answer.whole
    assert frames_of(answer.body)
    assert ERRORS[dialect] in answer.body
    assert b"stopped before the answer was complete" in answer.body
    assert await _row(house) == ("error", "draining", 200, 1, None)


@both
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_what_has_not_begun_is_a_503_and_given_back(house: House, dialect: str, stream: bool) -> None:
    user = await house.user()
    caller = await house.begin(dialect, f"wire-{dialect}", user, stream=stream)
    await house.wires[f"wire-{dialect}"].next()
    answer, _ = await asyncio.gather(caller.answer(), house.stop())
    assert (answer.status, answer.code) == (503, "draining")
    assert "retry-after" in answer.headers
    assert await _row(house) == ("error", "draining", 503, 0, "draining")
    await house.start()
    again = await house.http("GET", "/v1/models", user.key)
    assert again.headers["x-ratelimit-remaining"] == "50000"


async def test_one_that_still_sends_its_body_is_told_too(house: House) -> None:
    user = await house.user()
    caller = await house.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: 9\r\n\r\n{"
        % user.key.encode()
    )
    while not house.taken:
        await house.http("GET", "/v1/models", user.key)
    answer, _ = await asyncio.gather(caller.answer(), house.stop())
    assert (answer.status, answer.code) == (503, "draining")
