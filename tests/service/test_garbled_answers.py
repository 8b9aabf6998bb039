"""An answer that cannot be read is told as such: in the status, in the event, in the row, in the log and in the metrics."""

import json
import logging
from typing import Any

import pytest

from tests.core.dialects.test_answered import frames
from tests.service.conversations import PATHS
from tests.service.running_service import House

FORMATS = ("chat", "messages", "responses")
GARBAGE = b"data: {]\n\n"
ERRORS = b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"secret words"}}\n\n'
LATER = 3
CONTENT = {"chat": 3, "messages": 3, "responses": 2}
"""So many frames hold content; a failure before that is one of the status."""
callers = pytest.mark.parametrize("caller", FORMATS)
upstreams = pytest.mark.parametrize("upstream", FORMATS)


def asked(caller: str, model: str, *, stream: bool) -> bytes:
    said: dict[str, Any] = {"model": model, "stream": stream}
    said |= (
        {"input": "Hello"} if caller == "responses" else {"messages": [{"role": "user", "content": "Hello"}]}
    )
    return json.dumps(said | ({"max_tokens": 9} if caller == "messages" else {})).encode()


async def failures(house: House, provider: str, code: str) -> float:
    text = (await house.page("/metrics")).body.decode()
    start = f'penstock_upstream_failures_total{{code="{code}",provider="{provider}"}} '
    return sum(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


@callers
@upstreams
@pytest.mark.parametrize(
    ("place", "broken", "code"),
    [
        (0, GARBAGE, "provider_garbled"),
        (LATER, GARBAGE, "provider_garbled"),
        (0, ERRORS, "provider_error"),
        (LATER, ERRORS, "provider_error"),
        (LATER, b"", "provider_cut"),
    ],
    ids=["garbage first", "garbage later", "an error first", "an error later", "an early end"],
)
async def test_a_stream(
    house: House,
    caplog: pytest.LogCaptureFixture,
    caller: str,
    upstream: str,
    place: int,
    broken: bytes,
    code: str,
) -> None:
    user, provider = await house.user(), f"wire-{upstream}"
    sent = frames(upstream, f"up-{upstream}")[: min(place, CONTENT[upstream])]
    house.wires[provider].script = lambda asked: asked.stream(*sent, broken)
    with caplog.at_level(logging.WARNING, "penstock"):
        path = PATHS.get(caller, "/api/v1/responses")
        answer = await house.http("POST", path, user.key, body=asked(caller, provider, stream=True))
    assert b"secret words" not in answer.body
    row = await house.row(user)
    assert (row["outcome"], row["error_code"]) == ("upstream_error", code)
    assert [vars(record).get("code") for record in caplog.records if record.message == "provider failed"] == [
        code
    ]
    assert await failures(house, provider, code) == 1
    if not place:
        assert (answer.status, answer.code, row["status"]) == (502, code, 502)
        return
    assert (answer.status, row["status"]) == (200, 200)
    last = (
        answer.frames[-1]
        if caller != "chat"
        else [each for each in answer.frames if b"error" in each.data][-1]
    )
    told = json.dumps(last.json)
    wanted = {
        "provider_garbled": "could not be read",
        "provider_error": "reported an error",
        "provider_cut": "broke off",
    }
    assert wanted[code] in told
    assert caller != "chat" or f'"{code}"' in told, "the other formats have no place for our codes"


@callers
@upstreams
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "provider_garbled"),
        (b"{]", "provider_garbled"),
        (b"[]", "provider_garbled"),
        (b"{}", "provider_garbled"),
        (b"<html>", "provider_garbled"),
        (b'{"error":{"message":"secret words"}}', "provider_error"),
    ],
)
async def test_a_whole_answer(house: House, caller: str, upstream: str, body: bytes, code: str) -> None:
    user, provider = await house.user(), f"wire-{upstream}"
    house.wires[provider].script = lambda asked: asked.answer(body)
    path = PATHS.get(caller, "/api/v1/responses")
    answer = await house.http("POST", path, user.key, body=asked(caller, provider, stream=False))
    assert (answer.status, answer.code) == (502, code)
    assert b"secret words" not in answer.body
    row = await house.row(user)
    assert (row["outcome"], row["error_code"], row["counted"]) == ("upstream_error", code, False)
    assert await failures(house, provider, code) == 1
