"""The choice of an upstream through the whole service: affinity, allowances, places, lists of models, preferences and tags.

The numbers are those of the acceptance cases; their clocks are shortened.
"""

import msgspec
import pytest

from penstock.core.catalog import Target
from tests.service.conversations import body_of
from tests.service.running_service import House
from tests.service.test_routing import add_model, both, equals, well


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
