"""The choice of an upstream through the whole service: affinity, allowances, places, lists of models, preferences and tags.

The numbers are those of the acceptance cases; their clocks are shortened.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core.catalog import AutoRule, Fallback, Model, Target, When
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.bounds import headroom
from penstock.core.routing.health import Failure
from penstock.core.routing.pace import whole_kind
from penstock.domain.catalog import catalog_store
from penstock.domain.keys.management import KeyWish
from penstock.providers.table import KINDS
from tests.service.conversations import FRAMES, REPLIES, Answer, body_of
from tests.service.running_service import House, User, catalogue, open_house
from tests.service.scripted import Asked
from tests.service.test_routing import (
    add_model,
    both,
    equals,
    health_of,
    known,
    refusing,
    relay_of,
    ruled,
    well,
)

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
    told = (await house.page("/metrics")).body.decode()
    assert 'penstock_affinity_total{result="kept"} 36.0' in told
    assert 'penstock_choices_total{reason="sticky"} 36.0' in told


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
    house: House, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an allowance fills up again within a minute, and on a busy machine seconds go by
    monkeypatch.setattr(headroom, "_MINUTE", 86_400.0)
    user = await house.user()
    model = await equals(house, dialect, sticky=False)
    # answers of less than a millisecond differ by chance, and that is not what is tried here
    ruled(house, headroom_every=0.0, slower_weighs=0.0, quicker_weighs=0.0)
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    name = "anthropic-ratelimit-requests" if dialect == "messages" else "x-ratelimit"
    end = "" if dialect == "messages" else "-requests"
    reset = "2027-01-15T09:00:00Z" if dialect == "messages" else "59m0s"
    said = {f"{name}-limit{end}": "1000", f"{name}-remaining{end}": "50", f"{name}-reset{end}": reset}
    wire.script = telling(dialect, 200, **said)
    assert (await house.ask(dialect, model, user)).status == 200
    known_wire = known(house, f"wire-{dialect}", f"up-{dialect}")
    for _ in range(40):
        answer = await house.ask(dialect, model, user)
        assert answer.status == 200
        assert not [
            key for key in answer.headers if "reset-requests" in key or key.endswith("-remaining-requests")
        ]
        if known_wire.low:
            break
    assert known_wire.low
    before = asked_at(house, dialect)
    for _ in range(30):
        await house.ask(dialect, model, user)
    after = asked_at(house, dialect)
    assert after[0] - before[0] < (after[1] - before[1]) / 2
    said |= {f"{name}-limit{end}": "2", f"{name}-remaining{end}": "0"}
    wire.script = telling(dialect, 200, **said)
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

    def script(asked: Asked) -> None:
        telling(dialect, 429, retry_after=next(waits, "1"))(asked)

    wire.script = script
    callers = [await house.begin(dialect, model, user) for _ in range(12)]
    assert {(await caller.answer()).status for caller in callers} == {200}
    assert 1 <= len(wire.asked) <= 12
    rest = known(house, f"wire-{dialect}", f"up-{dialect}").until - relay_of(house).clock()
    assert 50 < rest <= 60
    before = len(wire.asked)
    for _ in range(6):
        assert (await house.ask(dialect, model, user)).headers["x-penstock-attempts"] == "1"
    assert len(wire.asked) == before


# ---- places


async def narrow(house: House, dialect: str, places: int = 2, **fields: Any) -> str:
    """A model at one provider that takes so many requests at once."""
    target = Target(f"wire-{dialect}", f"up-{dialect}", in_flight=places)
    await add_model(house, "narrow", target, **fields)
    return "narrow"


def places_taken(house: House, dialect: str) -> int:
    return sum(each.taken for each in known(house, f"wire-{dialect}", f"up-{dialect}").capacities)


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_case_34_who_finds_all_places_taken_waits_for_its_turn_and_not_for_ever(
    tmp_path: Path, dialect: str, stream: bool
) -> None:
    async with open_house(tmp_path / "data", upstream_queue=30.0) as house:
        model = await narrow(house, dialect)
        users = [await house.user() for _ in range(4)]
        wire = house.wires[f"wire-{dialect}"]
        callers = [await house.begin(dialect, model, user, stream=stream) for user in users]
        first = [await wire.next(), await wire.next()]
        assert places_taken(house, dialect) == 2
        refused = await house.ask(dialect, model, users[0], stream=stream)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        for asked in first:
            give(asked, dialect)
        for _ in range(2):
            give(await wire.next(), dialect)
        assert {(await caller.answer()).status for caller in callers} == {200}
        assert len(wire.asked) == 4
        assert places_taken(house, dialect) == 0
        relay_of(house).queue.most_seconds = 0.1
        callers = [await house.begin(dialect, model, user, stream=stream) for user in users]
        late = [await caller.answer() for caller in callers[2:]]
        assert {(answer.status, answer.code) for answer in late} == {(503, "overloaded")}
        for asked in (await wire.next(), await wire.next()):
            give(asked, dialect)
        assert {(await caller.answer()).status for caller in callers[:2]} == {200}
        assert [len(await house.rows(user)) for user in users] == [2, 2, 1, 1]
        await nothing_left(house, dialect)


def give(asked: Asked, dialect: str) -> None:
    if asked.json.get("stream"):
        asked.stream(*FRAMES[dialect])
    else:
        asked.answer(REPLIES[dialect])


async def nothing_left(house: House, dialect: str) -> None:
    """No place is taken, nobody waits, no stream is kept alive."""
    relay = relay_of(house)
    for _ in range(1000):
        if not relay.calls:
            break
        await asyncio.sleep(0.02)
    assert not relay.calls
    assert places_taken(house, dialect) == 0
    assert not len(relay.queue._queue)
    assert not relay.streams._deliveries


@pytest.mark.parametrize("seed", range(3))
async def test_case_34_no_place_is_lost_whoever_leaves_and_whenever(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    async with open_house(tmp_path / "data", upstream_queue=0.3) as house:
        model = await narrow(house, "chat", 3)
        users = [await house.user() for _ in range(3)]
        wire = house.wires["wire-chat"]

        def script(asked: Asked) -> None:
            match draw.randrange(5):
                case 0:
                    asked.cut()
                case 1:
                    asked.answer(b"{}", draw.choice((400, 429, 500)))
                case 2:
                    asyncio.get_running_loop().call_later(0.2, give, asked, "chat")
                case _:
                    give(asked, "chat")

        wire.script = script
        callers = []
        for _ in range(40):
            stream = draw.random() < 0.5
            callers.append(await house.begin("chat", model, draw.choice(users), stream=stream))
            if draw.random() < 0.4:
                callers.pop(draw.randrange(len(callers))).leave()
            await asyncio.sleep(draw.choice((0, 0, 0.01)))
        for caller in callers:
            await caller.answer()
        await nothing_left(house, "chat")
        await house.restart()
        wire.script = lambda asked: give(asked, "chat")
        assert (await house.ask("chat", model, users[0])).status == 200


@both
async def test_case_35_a_stream_that_waits_for_its_turn_hears_of_it(tmp_path: Path, dialect: str) -> None:
    async with open_house(tmp_path / "data", head_hold=0.2, keepalive=0.2, upstream_queue=30.0) as house:
        wire = house.wires[f"wire-{dialect}"]
        model = await narrow(house, dialect, 1)
        patient, other = await house.user("patient"), await house.user()
        first = await house.begin(dialect, model, patient)
        asked = await wire.next()
        for user in (patient, other):  # one waits for its own slot, one for a place at the provider
            waiting = await house.begin(dialect, model, user, stream=True)
            await asyncio.sleep(1.2)
            waiting.leave() if user is patient else None
        give(asked, dialect)
        assert (await first.answer()).status == 200
        give(await wire.next(), dialect)
        answer = await waiting.answer()
        assert (answer.status, answer.whole) == (200, True)
        assert answer.body.count(b": keep-alive") >= 2
        first = await house.begin(dialect, model, patient)
        asked = await wire.next()
        waiting = await house.begin(dialect, model, patient, stream=True)
        await asyncio.sleep(0.8)
        give(asked, dialect)
        assert (await first.answer()).status == 200
        give(await wire.next(), dialect)
        answer = await waiting.answer()
        assert (answer.status, answer.whole) == (200, True)
        assert answer.body.startswith(b": keep-alive")
        await nothing_left(house, dialect)


async def test_case_35_who_has_waited_in_vain_is_told_in_the_stream(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", head_hold=0.1, upstream_queue=1.0) as house:
        model = await narrow(house, "chat", 1)
        user = await house.user()
        first = await house.begin("chat", model, user)
        asked = await house.wires["wire-chat"].next()
        answer = await house.ask("chat", model, user, stream=True)
        assert answer.status == 200
        assert b"overloaded" in answer.body
        assert b"[DONE]" not in answer.body
        give(asked, "chat")
        assert (await first.answer()).status == 200
        assert len(await house.rows(user)) == 1


@both
@pytest.mark.parametrize("alone", [True, False])
async def test_case_34_what_a_refusal_for_load_has_taught_is_kept_to(
    tmp_path: Path, dialect: str, alone: bool
) -> None:
    async with open_house(tmp_path / "data", upstream_queue=30.0) as house:
        user, name = await house.user(), f"{'wire' if alone else 'pair'}-{dialect}"
        wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
        well(house, dialect)
        callers = [await house.begin(dialect, name, user) for _ in range(6)]
        running = [await wire.next() for _ in callers]
        late = await house.begin(dialect, name, user)
        (await wire.next()).answer(b"{}", 529, headers={"retry-after": "0.2"})
        assert (await late.answer()).status == (502 if alone else 200)
        found = known(house, f"wire-{dialect}", f"up-{dialect}")
        assert found.learned is not None
        assert 4.0 < found.learned.limit < 5.0, "seven tenths of what ran"
        while found.target.until > relay_of(house).clock():  # noqa: ASYNC110 - a time that passes
            await asyncio.sleep(0.05)
        late = await house.begin(dialect, name, user, stream=True)
        if alone:
            while not relay_of(house).queue.waiting(name):  # noqa: ASYNC110 - a state of the relay
                await asyncio.sleep(0.01)
            assert len(wire.asked) == 7, "it waits"
            for asked in running[:2]:
                give(asked, dialect)
            give(await wire.next(), dialect)
        answer = await late.answer()
        assert (answer.status, answer.whole) == (200, True)
        assert answer.headers["x-penstock-route"] == ("only" if alone else "tier_full")
        assert len(spare.asked) == (0 if alone else 2)
        for asked in running[2 if alone else 0 :]:
            give(asked, dialect)
        assert {(await caller.answer()).status for caller in callers} == {200}
        await nothing_left(house, dialect)


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_of_the_operators_own_teaches_by_its_first_tokens(
    house: House, dialect: str, stream: bool
) -> None:
    user = await house.user()
    well(house, dialect, "wire")
    assert (await house.ask(dialect, f"wire-{dialect}", user)).status == 200
    found = known(house, f"wire-{dialect}", f"up-{dialect}")
    assert found.learned is None, "a vendor's first tokens say nothing of queues"
    found.local = True
    found.in_flight += 20
    ruled(house, gradient_tolerance=0.0)  # every answer is a slow one
    assert (await house.ask(dialect, f"wire-{dialect}", user, stream=stream)).status == 200
    await house.rows(user)
    assert found.learned is not None
    assert 4.0 <= found.learned.limit < 21.0
    assert found.bounded
    relay_of(house).queue.most_seconds = 0.1
    refused = await house.ask(dialect, f"wire-{dialect}", user, stream=stream)
    assert (refused.status, refused.code) == (503, "overloaded")


@both
async def test_case_34_who_has_time_comes_last_and_who_has_none_is_told_at_once(
    tmp_path: Path, dialect: str
) -> None:
    async with open_house(tmp_path / "data", upstream_queue=0.5) as house:
        model = await narrow(house, dialect, 2)
        flexible, other, third = [await house.user() for _ in range(3)]
        wire = house.wires[f"wire-{dialect}"]
        first = await house.begin(dialect, model, flexible, service_tier="flex")
        asked = await wire.next()
        second = await house.begin(dialect, model, third)
        waiting = await wire.next()
        patient = await house.begin(dialect, model, flexible, service_tier="flex")
        late = await house.ask(dialect, model, other)
        assert (late.status, late.code) == (503, "overloaded"), (
            "it has waited, and the one with time still does"
        )
        kind = whole_kind(1000 if dialect == "messages" else 4096)
        for _ in range(20):
            relay_of(house).router.health.model(model).pace.add(kind, 9.0, relay_of(house).clock())
        impatient = {"x-stainless-read-timeout": "10"}
        hurried = await house.ask(dialect, model, other, headers=impatient)
        assert (hurried.status, hurried.code) == (503, "overloaded")
        relay_of(house).queue.most_seconds = 30.0
        usual = await house.begin(dialect, model, other)
        while relay_of(house).queue.waiting(model) < 2:  # noqa: ASYNC110 - a state of the relay
            await asyncio.sleep(0.01)
        give(asked, dialect)
        asked = await wire.next()
        assert "service_tier" not in asked.json, "the others come first"
        for each in (waiting, asked):
            give(each, dialect)
        give(await wire.next(), dialect)
        answers = [await caller.answer() for caller in (first, second, usual, patient)]
        assert {answer.status for answer in answers} == {200}
        waited = (await house.page("/metrics")).body.decode()
        for result, count in (("served", 2), ("in vain", 1)):
            line = f'penstock_queue_seconds_count{{model="{model}",result="{result}"}} {count}.0'
            assert line in waited
        await nothing_left(house, dialect)


# ---- auto models


async def add_rows(
    house: House,
    *models: Model,
    requires: tuple[str, ...] = (),
    tags: dict[str, tuple[str, ...]] | None = None,
) -> None:
    """Further models, on every plan; what every plan requires, and the tags of providers."""
    document = catalogue(1, {name: wire.port for name, wire in house.wires.items()})
    names = tuple(model.id for model in models)
    plans = tuple(
        replace(plan, models=(*plan.models, *names), requires=requires if plan.id == "lab" else ())
        for plan in document.plans
    )
    providers = tuple(replace(row, tags=(tags or {}).get(row.id, ())) for row in document.providers)
    document = replace(document, models=(*document.models, *models), plans=plans, providers=providers)
    async with house.store.database.transaction() as conn:
        await catalog_store.apply_document(conn, document, KINDS, 2)
    await house.restart()


def at(id: str, *providers: str, dialect: str, **fields: Any) -> Model:
    """A model at these providers, one behind the other."""
    targets = tuple(Target(f"{name}-{dialect}", f"up-{dialect}", n) for n, name in enumerate(providers))
    return Model(id, id, targets=targets, max_output_tokens=4096, **fields)


def out(house: House, provider: str, model: str) -> None:
    """A provider's model has just opened its circuit."""
    health = health_of(house)
    known_health = health.of(
        next(
            candidate.attempt
            for board in relay_of(house).router._boards.values()
            for tier in board.group.tiers
            for candidate in tier.candidates
            if candidate.place == (provider, model)
        )
    )
    now = relay_of(house).clock()
    for number in range(5):
        health.failed(Failure(known_health, FailureClass.SLOW, now, now, str(number)))


@both
async def test_case_30_an_auto_model_goes_to_the_next_and_a_conversation_stays_there(
    house: House, dialect: str
) -> None:
    user = await house.user()
    first, second = at("one", "wire", dialect=dialect), at("two", "spare", dialect=dialect)
    await add_rows(house, first, second, Model("auto-x", "A", auto=("one", "two")))
    well(house, dialect, "wire")
    well(house, dialect)
    answer = await house.ask(dialect, "auto-x", user)
    assert answer.headers["x-penstock-model"] == "one"
    out(house, f"wire-{dialect}", f"up-{dialect}")
    named = {"X-Session-Id": "a"}
    answer = await house.ask(dialect, "auto-x", user, headers=named)
    assert answer.headers["x-penstock-model"] == "two"
    await house.rows(user)
    health = known(house, f"wire-{dialect}", f"up-{dialect}")
    for circuit in health.circuits:
        circuit.close(relay_of(house).clock())
    health_of(house).refresh(health, relay_of(house).clock())
    assert (await house.ask(dialect, "auto-x", user)).headers["x-penstock-model"] == "one"
    for _ in range(2):
        answer = await house.ask(dialect, "auto-x", user, headers=named)
        assert answer.headers["x-penstock-model"] == "two"
    assert (await house.rows(user))[-1]["model"] == "two"


@both
async def test_an_auto_model_goes_by_its_rules(house: House, dialect: str) -> None:
    user = await house.user()
    well(house, dialect, "wire")
    well(house, dialect)
    first, second = at("one", "wire", dialect=dialect), at("two", "spare", dialect=dialect)
    rules = (AutoRule(When(input_tokens_over=2000), ("two",)), AutoRule(When(tools=True), ("two", "one")))
    await add_rows(house, first, second, Model("auto-x", "A", auto=("one",), rules=rules))
    tool = {"name": "look", "input_schema": {"type": "object"}}
    if dialect == "chat":
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    long = [{"role": "user", "content": "word " * 4000}]
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "one"),
        ({"tools": [tool]}, "two"),
        ({"messages": long}, "two"),
    )
    for fields, expected in cases:
        answer = await house.ask(dialect, "auto-x", user, **fields)
        assert (answer.status, answer.headers["x-penstock-model"]) == (200, expected)


# ---- further models


def wanting(dialect: str, *models: str) -> dict[str, Any]:
    """The field that names further models."""
    return (
        {"fallbacks": [{"model": model} for model in models]} if dialect == "messages" else {"models": models}
    )


@both
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("whose", ["caller", "operator"])
async def test_case_31_another_model_answers_where_all_of_the_first_fail(
    house: House, dialect: str, stream: bool, whose: str
) -> None:
    user = await house.user()
    operators = (Fallback("two"),) if whose == "operator" else ()
    first = at("one", "wire", dialect=dialect, fallback=operators)
    await add_rows(house, first, at("two", "spare", dialect=dialect))
    house.wires[f"wire-{dialect}"].script = refusing(500, "no")
    well(house, dialect)
    fields = wanting(dialect, "one", "two") if whose == "caller" else {}
    answer = await house.ask(dialect, "one", user, stream=stream, **fields)
    assert (answer.status, answer.headers["x-penstock-model"]) == (200, "two")
    assert answer.headers["x-penstock-route"] == "fallback_model"
    sent = house.wires[f"spare-{dialect}"].asked[-1].json
    assert not {"models", "fallbacks", "provider"} & sent.keys()
    (row,) = await house.rows(user)
    assert (row["counted"], row["provider"], row["answered_model"]) == (True, f"spare-{dialect}", "two")
    house.wires[f"spare-{dialect}"].script = refusing(529, "no")
    answer = await house.ask(dialect, "one", user, stream=stream, **fields)
    assert (answer.status, answer.code) == (502, "provider_error"), "the first model's failure is told"
    out(house, f"wire-{dialect}", f"up-{dialect}")
    well(house, dialect)
    health_of(house)._upstreams[f"spare-{dialect}", f"up-{dialect}", ""].target.close(relay_of(house).clock())
    health_of(house).refresh(known(house, f"spare-{dialect}", f"up-{dialect}"), relay_of(house).clock())
    answer = await house.ask(dialect, "one", user, stream=stream, **fields)
    assert (answer.status, answer.headers["x-penstock-model"]) == (200, "two")


@both
async def test_case_31_a_model_that_is_not_on_the_plan_is_refused_before_anything_is_sent(
    house: House, dialect: str
) -> None:
    user = await house.user()
    user = User(user.id, user.email, await house.key(user.id, KeyWish(models=(f"wire-{dialect}",))))
    well(house, dialect, "wire")
    answer = await house.ask(dialect, f"wire-{dialect}", user, **wanting(dialect, f"pair-{dialect}"))
    assert (answer.status, answer.code) == (403, "model_not_on_plan")
    assert house.asked == 0


@both
@pytest.mark.parametrize("whose", ["caller", "operator"])
async def test_a_longer_prompt_goes_to_a_larger_model_where_that_was_asked_for(
    house: House, dialect: str, whose: str
) -> None:
    user = await house.user()
    operators = (Fallback("two", ("overflow",)),) if whose == "operator" else ()
    first = at("one", "wire", dialect=dialect, fallback=operators, context_tokens=3000)
    await add_rows(house, first, at("two", "spare", dialect=dialect))
    said = "prompt is too long: 9000 tokens > 3000 maximum"
    house.wires[f"wire-{dialect}"].script = refusing(400, said)
    well(house, dialect)
    fields = wanting(dialect, "two") if whose == "caller" else {}
    headers = {"X-Penstock-Fallback-On": "overflow"} if whose == "caller" else {}
    for words in (1, 60_000):
        turns = [{"role": "user", "content": "word " * words}]
        body = body_of(dialect, "one", messages=turns, **fields)
        answer = await house.post(dialect, body, user, headers)
        assert (answer.status, answer.headers["x-penstock-model"]) == (200, "two"), words
        if whose == "caller":
            answer = await house.post(dialect, body, user)
            assert (answer.status, answer.code) == (400, "context_length_exceeded")


async def test_an_embedding_model_has_no_other(house: House) -> None:
    user = await house.user()
    answer = await house.ask("embeddings", "wire-embeddings", user, models=["pair-embeddings"])
    assert answer.status == 400
    assert "do not mix" in answer.error
    assert house.asked == 0


# ---- preferences and tags


@pytest.mark.parametrize(("dialect", "way"), [("chat", "body"), ("chat", "header"), ("messages", "header")])
async def test_case_32_a_caller_narrows_the_choice_and_gets_no_other(
    house: House, dialect: str, way: str
) -> None:
    user = await house.user()
    model = await equals(house, dialect)
    well(house, dialect)
    well(house, dialect, "wire")

    async def ask(**wish: object) -> Answer:
        if way == "body":
            return await house.ask(dialect, model, user, provider=wish)
        said = msgspec.json.encode(wish).decode()
        return await house.ask(dialect, model, user, headers={"X-Penstock-Provider": said})

    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    for _ in range(6):
        assert (await ask(only=[f"wire-{dialect}"])).status == 200
    assert (len(wire.asked), len(spare.asked)) == (6, 0)
    assert "provider" not in wire.asked[-1].json
    for _ in range(4):
        assert (await ask(order=[f"spare-{dialect}"])).status == 200
    assert (len(wire.asked), len(spare.asked)) == (6, 4)
    for place, rate in (("wire", 10.0), ("spare", 100.0)):
        known(house, f"{place}-{dialect}", f"up-{dialect}").rate = rate
    for _ in range(3):
        assert (await ask(sort="throughput")).status == 200
    assert (len(wire.asked), len(spare.asked)) == (6, 7)
    wire.script = refusing(500, "no")
    answer = await ask(only=[f"wire-{dialect}"], allow_fallbacks=False)
    assert (answer.status, answer.code) == (502, "provider_error")
    assert len(spare.asked) == 7
    for wish, named in (
        ({"quantizations": ["int4"]}, "quantizations"),
        ({"onyl": ["a"]}, "onyl"),
        ({"only": ["nobody"]}, "nobody"),
        ({"zdr": True}, "zdr"),
    ):
        answer = await ask(**wish)
        assert answer.status == 400
        assert named in answer.error
    assert len(spare.asked) == 7


@both
async def test_case_33_what_a_plan_requires_no_provider_is_without(house: House, dialect: str) -> None:
    user = await house.user()
    models = (
        at("one", "wire", dialect=dialect, fallback=(Fallback("two"),)),
        at("two", "spare", dialect=dialect),
        at("both", "wire", "spare", dialect=dialect),
    )
    await add_rows(house, *models, requires=("eu",), tags={f"spare-{dialect}": ("eu", "zdr")})
    well(house, dialect, "wire")
    well(house, dialect)
    answer = await house.ask(dialect, "one", user, **wanting(dialect, "both"))
    assert (answer.status, answer.code) == (503, "no_provider")
    assert "eu" in answer.error
    assert house.asked == 0
    wish = msgspec.json.encode({"order": [f"wire-{dialect}"], "zdr": True}).decode()
    said = {"X-Penstock-Provider": wish}
    for headers in ({}, said):
        assert (await house.ask(dialect, "both", user, headers=headers)).status == 200
    assert (len(house.wires[f"wire-{dialect}"].asked), len(house.wires[f"spare-{dialect}"].asked)) == (0, 2)
    house.wires[f"spare-{dialect}"].script = refusing(500, "no")
    assert (await house.ask(dialect, "both", user)).status == 502
    assert not house.wires[f"wire-{dialect}"].asked


async def test_what_openrouter_and_the_operator_want_for_themselves_goes_on(house: House) -> None:
    user = await house.user()
    well(house, "chat", "wire")
    await house.restart(caller_preferences=False)
    wish: dict[str, Any] = {"provider": {"order": ["Together"]}, "models": ["wire-chat"]}
    assert (await house.ask("chat", "wire-chat", user, **wish)).status == 200
    sent = house.wires["wire-chat"].asked[-1].json
    assert {name: sent[name] for name in wish} == wish
