"""The choice of an upstream through the whole service: affinity, allowances, places, lists of models, preferences and tags.

The numbers are those of the acceptance cases; their clocks are shortened.
"""

from collections.abc import Callable

import msgspec
import pytest

from penstock.core.catalog import Target
from tests.service.conversations import REPLIES, body_of
from tests.service.running_service import House
from tests.service.scripted import Asked
from tests.service.test_routing import add_model, both, equals, known, relay_of, ruled, well

Script = Callable[[Asked], None]


def asked_at(house: House, dialect: str) -> tuple[int, int]:
    """How often the wire and the spare were asked."""
    return len(house.wires[f"wire-{dialect}"].asked), len(house.wires[f"spare-{dialect}"].asked)


# ---- affinity


@both
@pytest.mark.parametrize("way", ["header", "body", "beginning"])
async def test_case_25_the_turns_of_a_conversation_meet_one_provider(
    house: House, dialect: str, way: str
) -> None:
    user = await house.user()
    model = await equals(house, dialect)
    well(house, dialect)
    well(house, dialect, "wire")
    where: set[tuple[bool, bool]] = set()
    for number in range(12):
        before = asked_at(house, dialect)
        turns = [{"role": "user", "content": f"{number} " + "word " * 1000 * (way == "beginning")}]
        for _ in range(3):
            body = body_of(dialect, model, messages=turns)
            if way == "body":
                named = msgspec.json.decode(body)
                named["metadata"] = {"user_id": f"u_session_{number}"}
                body = msgspec.json.encode(named)
            headers = {"X-Session-Id": f"s{number}"} if way == "header" else {}
            answer = await house.post(dialect, body, user, headers=headers)
            assert (answer.status, answer.headers["x-penstock-route"]) == (200, "sticky")
            turns += [{"role": "assistant", "content": "so"}, {"role": "user", "content": "and?"}]
        after = asked_at(house, dialect)
        where.add((after[0] > before[0], after[1] > before[1]))
    assert where == {(True, False), (False, True)}


@both
async def test_a_model_that_is_not_sticky_and_a_short_request_go_anywhere(house: House, dialect: str) -> None:
    user = await house.user()
    well(house, dialect)
    well(house, dialect, "wire")
    model = await equals(house, dialect)
    assert (await house.ask(dialect, model, user)).headers["x-penstock-route"] in ("weight", "load")
    model = await equals(house, dialect, sticky=False)
    answer = await house.ask(dialect, model, user, headers={"X-Session-Id": "s"})
    assert answer.headers["x-penstock-route"] in ("weight", "load")
    await add_model(house, "alone", Target(f"wire-{dialect}", f"up-{dialect}"))
    answer = await house.ask(dialect, "alone", user, headers={"X-Session-Id": "s"})
    assert answer.headers["x-penstock-route"] == "only"


# ---- allowances


def telling(dialect: str, status: int = 200, **headers: str) -> Script:
    """An upstream that answers with these headers; where ``status`` is an error, it refuses with them."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}

    def script(asked: Asked) -> None:
        body = REPLIES[dialect] if status == 200 else b'{"error":{"message":"slower"}}'
        asked.answer(body, status, headers=told)

    return script


@both
async def test_case_23_a_provider_with_little_left_is_asked_less_and_one_with_nothing_not_at_all(
    house: House, dialect: str
) -> None:
    user = await house.user()
    model = await equals(house, dialect, sticky=False)
    ruled(house, headroom_every=0.0)
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    name = "anthropic-ratelimit-requests" if dialect == "messages" else "x-ratelimit"
    end = "" if dialect == "messages" else "-requests"
    reset = "2027-01-15T09:00:00Z" if dialect == "messages" else "59m0s"
    said = {f"{name}-limit{end}": "1000", f"{name}-remaining{end}": "50", f"{name}-reset{end}": reset}
    wire.script = telling(dialect, **said)
    assert (await house.ask(dialect, model, user)).status == 200
    known_wire = known(house, f"wire-{dialect}", f"up-{dialect}")
    for _ in range(40):
        answer = await house.ask(dialect, model, user)
        assert answer.status == 200
        assert not [key for key in answer.headers if "reset-requests" in key or key.endswith("-remaining-requests")]
        if known_wire.low:
            break
    assert known_wire.low
    before = asked_at(house, dialect)
    for _ in range(30):
        await house.ask(dialect, model, user)
    after = asked_at(house, dialect)
    assert after[0] - before[0] < (after[1] - before[1]) / 2
    said[f"{name}-remaining{end}"] = "0"
    wire.script = telling(dialect, **said)
    for _ in range(200):
        await house.ask(dialect, model, user)
        if known_wire.until:
            break
    assert known_wire.until
    before = asked_at(house, dialect)
    for _ in range(10):
        await house.ask(dialect, model, user)
    assert asked_at(house, dialect)[0] == before[0]


@both
async def test_case_20_and_21_a_refusal_for_a_rate_is_kept_to_and_the_later_time_wins(
    house: House, dialect: str
) -> None:
    user = await house.user()
    model = await equals(house, dialect)
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    waits = iter(["60", "1"])
    wire.script = lambda asked: telling(dialect, 429, retry_after=next(waits, "1"))(asked)
    callers = [await house.begin(dialect, model, user) for _ in range(12)]
    assert {(await caller.answer()).status for caller in callers} == {200}
    assert 1 <= len(wire.asked) <= 12
    rest = known(house, f"wire-{dialect}", f"up-{dialect}").until - relay_of(house).clock()
    assert 50 < rest <= 60
    before = len(wire.asked)
    for _ in range(6):
        assert (await house.ask(dialect, model, user)).headers["x-penstock-attempts"] == "1"
    assert len(wire.asked) == before
