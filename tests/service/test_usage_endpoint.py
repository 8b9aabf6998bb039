"""``GET /usage``: what the account of a key has used, as the ledger has it, and nobody else's."""

from pathlib import Path
from typing import Any

import pytest

from penstock.domain.ledger.usage_endpoint import question_of
from penstock.errors import InvalidRequest
from tests.service.running_service import House, User, open_house

DAY = 20_833
"""The day of the house: 2027-01-15."""


async def busy(house: House) -> tuple[User, str]:
    """Two keys, two models, two hours and two days, with a failure and a refusal."""
    user = await house.user()
    other = User(user.id, user.email, await house.key(user.id))
    for model, who in (("chat-plain", user), ("messages-plain", user), ("chat-plain", other)):
        await house.ask("chat", model, who)
    house.clock.now += 3600
    await house.ask("chat", "chat-error-500", user)
    await house.ask("chat", "no-such-model", user)
    house.clock.now += 86_400
    await house.ask("chat", "chat-plain", other)
    await house.ask("chat", "chat-plain", await house.user())
    await house.rows(user)
    assert house.service is not None
    assert house.service.refusals is not None
    await house.service.refusals.flush()
    return user, other.key


async def asked(house: House, user: User, query: str) -> Any:
    answer = await house.http("GET", f"/v1/usage{query}", user.key)
    assert answer.status == 200, answer.error
    return answer.json


async def test_the_sums_are_those_of_the_rows(house: House) -> None:
    user, _ = await busy(house)
    rows = await house.rows(user)
    told = await asked(house, user, "")
    assert (told["object"], told["span"]) == ("usage", "day")
    assert (told["start"], told["end"]) == ("2027-01-10T00:00:00Z", "2027-01-17T00:00:00Z")
    assert [(one["start"], one["requests"], one["counted"], one["failed"]) for one in told["data"]] == [
        ("2027-01-15T00:00:00Z", 4, 3, 1),
        ("2027-01-16T00:00:00Z", 1, 1, 0),
    ]
    for name in ("input_tokens", "output_tokens"):
        assert sum(one[name] for one in told["data"]) == sum(row[name] or 0 for row in rows)
    assert told["refused"] == [{"start": "2027-01-15T00:00:00Z", "code": "model_not_found", "requests": 1}]
    assert all("model" not in one and "key_id" not in one for one in told["data"])


async def test_it_is_told_apart_by_hour_model_and_key(house: House) -> None:
    user, _ = await busy(house)
    keys = {row["key_id"] for row in await house.rows(user)}
    told = await asked(house, user, "?by=hour&group=model,key&from=2027-01-15&to=2027-01-15")
    found = [(one["start"][11:13], one["model"], one["requests"]) for one in told["data"]]
    assert sorted(found) == [
        ("08", "chat-plain", 1), ("08", "chat-plain", 1), ("08", "messages-plain", 1), ("09", "chat-error-500", 1),
    ]  # fmt: skip
    assert {one["key_id"] for one in told["data"]} == keys
    assert {one["key_name"] for one in told["data"]} >= {"default"}
    by_key = await asked(house, user, "?group=key")
    assert sorted(one["requests"] for one in by_key["data"]) == [1, 1, 3]
    by_model = await asked(house, user, "?group=model")
    assert {one["model"] for one in by_model["data"]} == {"chat-plain", "messages-plain", "chat-error-500"}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=week", "by"),
        ("group=client", "group"),
        ("from=yesterday", "from"),
        ("to=2027-13-01", "to"),
        ("from=2027-01-02&to=2027-01-01", "from"),
        ("from=2026-01-01&to=2027-01-15", "from"),
        ("by=hour&from=2026-12-01&to=2027-01-15", "from"),
        ("to=9999-12-31", "to"),
        ("from=9999-12-30&to=9999-12-31", "to"),
        ("from=0001-01-01&to=0001-01-05", "to"),
        ("from=1969-12-31&to=1970-01-02", "from"),
        ("&".join(f"x{number}=1" for number in range(21)), None),
    ],
)
async def test_what_cannot_be_asked(house: House, query: str, param: str | None) -> None:
    user = await house.user()
    answer = await house.http("GET", f"/v1/usage?{query}", user.key, headers={"x-error-format": "native"})
    assert (answer.status, answer.json["error"]["param"]) == (400, param)
    with pytest.raises(InvalidRequest):
        question_of(query.encode(), house.clock.now)


async def test_the_longest_spans_are_asked(house: House) -> None:
    user = await house.user()
    assert (await asked(house, user, "?from=2026-01-15&to=2027-01-15"))["data"] == []
    assert (await asked(house, user, "?by=hour&from=2026-12-16&to=2027-01-15"))["data"] == []


async def test_it_is_for_who_has_a_key_counts_nothing_and_is_not_asked_without_end(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", token_counts_per_minute=3) as house:
        user = await house.user()
        assert (await house.http("GET", "/v1/usage")).status == 401
        assert (await house.http("POST", "/v1/usage", user.key)).status == 405
        answers = [await house.http("GET", "/v1/usage", user.key) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert "questions about usage" in answers[-1].error
        assert await house.used(user) == 0
