"""Routing through the whole service: one provider fails in some way, the other is well, and nobody notices.

The numbers are those of the acceptance cases; their clocks are shortened.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core.catalog import Target
from penstock.core.routing.health import Health, UpstreamHealth
from penstock.core.routing.rules import RoutingRules
from penstock.domain.catalog import catalog_store
from penstock.providers.table import KINDS
from penstock.relay.relay import Relay
from tests.service.conversations import DIALECTS, FRAMES, REPLIES, Answer, body_of
from tests.service.running_service import House, User, catalogue, open_house
from tests.service.scripted import PATIENCE, Asked

both = pytest.mark.parametrize("dialect", DIALECTS)
Script = Callable[[Asked], None]


def relay_of(house: House) -> Relay:
    assert house.service is not None
    assert house.service._api is not None
    return house.service._api._relay


def health_of(house: House) -> Health:
    return relay_of(house).router.health


def known(house: House, provider: str, model: str) -> UpstreamHealth:
    """What is known of a provider's model."""
    return health_of(house)._upstreams[provider, model, ""]


def ruled(house: House, **rules: Any) -> RoutingRules:
    """The house with other constants of routing."""
    health = health_of(house)
    health.rules = replace(health.rules, **rules)
    for model in health._models.values():
        model.pace._rules = model.budget._rules = health.rules
    return health.rules


async def add_model(house: House, id: str, *targets: Target, **fields: Any) -> None:
    """A further model, on every plan."""
    document = catalogue(1, {name: wire.port for name, wire in house.wires.items()})
    model = replace(next(m for m in document.models if m.id == "wire-chat"), id=id, targets=targets, **fields)
    plans = tuple(replace(plan, models=(*plan.models, id)) for plan in document.plans)
    async with house.store.database.transaction() as conn:
        document = replace(document, models=(*document.models, model), plans=plans)
        await catalog_store.apply_document(conn, document, KINDS, 2)
    await house.restart()


async def equals(house: House, dialect: str, **fields: Any) -> str:
    """A model with the wire and the spare of a dialect as equals."""
    targets = (Target(f"wire-{dialect}", f"up-{dialect}"), Target(f"spare-{dialect}", f"up-{dialect}"))
    await add_model(house, "equals", *targets, **fields)
    return "equals"


def well(house: House, dialect: str, place: str = "spare") -> None:
    """A provider answers whatever comes, a stream or not."""

    def script(asked: Asked) -> None:
        if asked.json.get("stream"):
            asked.stream(*FRAMES[dialect])
        else:
            asked.answer(REPLIES[dialect])

    house.wires[f"{place}-{dialect}"].script = script


def refusing(status: int, message: str, code: str = "") -> Script:
    error = {"type": "x", "message": message, **({"code": code} if code else {})}
    return lambda asked: asked.answer(msgspec.json.encode({"type": "error", "error": error}), status)


def cut_short(asked: Asked) -> None:
    """A connection that is closed within the head of the answer."""
    asked.write(b"HTTP/1.1 200 OK\r\n")
    asked.cut()


# ---- 1 to 3: credit and credentials


@both
@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "Your credit balance is too low to access the API.", ""),
        (401, "no", ""),
        (402, "no", ""),
        (403, "no", ""),
        (404, "no", ""),
        (429, "You exceeded your current quota.", "insufficient_quota"),
    ],
)
async def test_case_1_and_2_an_account_that_is_not_taken_costs_nobody_anything(
    house: House, dialect: str, status: int, message: str, code: str
) -> None:
    user = await house.user()
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    wire.script = refusing(status, message, code)
    answers = await asyncio.gather(
        *(house.ask(dialect, f"pair-{dialect}", user, stream=n % 2 == 0) for n in range(12))
    )
    answers += [await house.ask(dialect, f"pair-{dialect}", user) for _ in range(8)]
    assert {answer.status for answer in answers} == {200}
    assert len(wire.asked) <= 14, "those that came together"
    before = len(wire.asked)
    for _ in range(10):
        answer = await house.ask(dialect, f"pair-{dialect}", user)
        assert (answer.status, answer.headers["x-penstock-attempts"]) == (200, "1")
        assert answer.headers["x-penstock-route"] == "tier_down"
    assert len(wire.asked) == before
    assert {row["counted"] for row in await house.rows(user)} == {True}


@both
async def test_case_3_a_prompt_that_quotes_a_bill_switches_nothing_off(house: House, dialect: str) -> None:
    user = await house.user()
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    said = "credit balance is too low"
    wire.script = refusing(400, f"this cannot be: {said}")
    body = body_of(dialect, f"pair-{dialect}", messages=[{"role": "user", "content": f"What is '{said}'?"}])
    answer = await house.post(dialect, body, user)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert known(house, f"wire-{dialect}", f"up-{dialect}").normal


# ---- 4 to 11: clocks before content


@both
async def test_case_4_streams_of_a_provider_that_hangs_are_answered_by_the_other(
    tmp_path: Path, dialect: str
) -> None:
    async with open_house(tmp_path / "data", upstream_headers=1.0) as house:
        model = await equals(house, dialect)
        user = await house.user()
        well(house, dialect)
        ruled(
            house, open_first=600.0, open_most=600.0
        )  # on a busy machine the usual few seconds may be over meanwhile
        wire = house.wires[f"wire-{dialect}"]
        for _ in range(3):
            answers = await asyncio.gather(*(house.ask(dialect, model, user, stream=True) for _ in range(8)))
            assert {(answer.status, answer.whole) for answer in answers} == {(200, True)}
        assert known(house, f"wire-{dialect}", f"up-{dialect}").suspect or len(wire.asked) < 5
        before = len(wire.asked)
        for _ in range(10):
            assert (await house.ask(dialect, model, user, stream=True)).headers["x-penstock-attempts"] == "1"
        assert len(wire.asked) <= before + 1


@both
async def test_case_5_whole_answers_of_a_provider_that_hangs_are_answered_by_the_other(
    house: House, dialect: str
) -> None:
    user = await house.user()
    well(house, dialect)
    relay = relay_of(house)
    relay.timings = replace(relay.timings, clocks=replace(relay.timings.clocks, whole=2.0))
    ruled(house, whole_shortest=0.1)
    for _ in range(6):
        assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
    assert len(house.wires[f"wire-{dialect}"].asked) == 5, "then it is out"


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_case_5_who_leaves_after_the_slow_mark_has_voted(
    house: House, dialect: str, stream: bool
) -> None:
    user = await house.user()
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    for slow, out in ((60.0, False), (-1.0, True)):
        for _ in range(5):
            ruled(house, slow_least=slow)
            caller = await house.begin(dialect, f"pair-{dialect}", user, stream=stream)
            asked = await wire.next()
            caller.leave()
            await asked.left()
        await house.rows(user)
        assert known(house, f"wire-{dialect}", f"up-{dialect}").suspect is out


@both
async def test_case_7_silence_after_the_start_is_made_good(tmp_path: Path, dialect: str) -> None:
    async with open_house(tmp_path / "data", upstream_first_byte=0.3, upstream_thinking=0.3) as house:
        user = await house.user()
        well(house, dialect)
        start = 2 if dialect == "messages" else 1
        house.wires[f"wire-{dialect}"].script = lambda asked: asked.begin(*FRAMES[dialect][:start])
        answer = await house.ask(dialect, f"pair-{dialect}", user, stream=True)
        assert (answer.status, answer.whole) == (200, True)
        assert answer.headers["x-penstock-attempts"] == "2"
        assert answer.headers["x-penstock-route"] == "after_slow"


@both
async def test_case_9_where_there_is_no_other_an_answer_that_has_begun_is_waited_for(
    tmp_path: Path, dialect: str
) -> None:
    async with open_house(tmp_path / "data", upstream_first_byte=3.0, upstream_thinking=3.0) as house:
        user = await house.user()
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        await asyncio.sleep(0.2)
        asked.begin(FRAMES[dialect][0])
        await asyncio.sleep(3.6)
        asked.stream_on(*FRAMES[dialect][1:])
        assert (await caller.answer()).whole


@both
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["x-stainless-read-timeout", "x-stainless-timeout"])
async def test_case_11_a_client_that_says_how_long_it_waits_is_told_before(
    house: House, dialect: str, stream: bool, name: str
) -> None:
    user = await house.user()
    ruled(house, client_margin=0.4)
    began = time.monotonic()
    answer = await house.ask(dialect, f"pair-{dialect}", user, stream=stream, headers={name: "1"})
    assert (answer.status, answer.code) == (502, "provider_timeout")
    assert time.monotonic() - began < 10
    assert house.wires[f"spare-{dialect}"].asked == []


@both
async def test_a_client_that_says_nonsense_of_its_patience_is_served(house: House, dialect: str) -> None:
    user = await house.user()
    well(house, dialect, "wire")
    for said in ("0", "-1", "1e300", "soon", "9" * 40, ""):
        headers = {"x-stainless-read-timeout": said, "x-stainless-timeout": said}
        assert (await house.ask(dialect, f"wire-{dialect}", user, headers=headers)).status == 200


# ---- 16: one alone


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_case_16_a_provider_that_is_alone_is_asked_once_more(
    tmp_path: Path, dialect: str, stream: bool
) -> None:
    async with open_house(tmp_path / "data", upstream_again=True) as house:
        user = await house.user()
        wire = house.wires[f"wire-{dialect}"]
        good = (lambda asked: asked.stream(*FRAMES[dialect])) if stream else (
            lambda asked: asked.answer(REPLIES[dialect])
        )  # fmt: skip
        for script in (refusing(500, "no"), cut_short, lambda asked: asked.answer(b"<html>")):
            scripts = iter([script, good])
            wire.script = lambda asked, scripts=scripts: next(scripts)(asked)
            answer = await house.ask(dialect, f"wire-{dialect}", user, stream=stream)
            assert (answer.status, answer.headers["x-penstock-attempts"]) == (200, "2")
            assert answer.headers["x-penstock-route"] == "after_broken"
        wire.script = refusing(500, "no")
        before = len(wire.asked)
        assert (await house.ask(dialect, f"wire-{dialect}", user, stream=stream)).status == 502
        assert len(wire.asked) == before + 2, "and not a third time"
        rows = await house.rows(user)
        assert [row["attempts"] for row in rows] == [2, 2, 2, 2]
        assert [row["counted"] for row in rows] == [True, True, True, False]


@both
async def test_what_would_fail_again_is_not_asked_again(tmp_path: Path, dialect: str) -> None:
    async with open_house(tmp_path / "data", upstream_again=True) as house:
        user = await house.user()
        wire = house.wires[f"wire-{dialect}"]
        for status, headers in (
            (400, {}),
            (401, {}),
            (404, {}),
            (413, {}),
            (429, {}),
            (503, {"retry-after": "30"}),
        ):
            before = len(wire.asked)
            wire.script = lambda asked, status=status, headers=headers: asked.answer(
                b"{}", status, headers=headers
            )
            assert (await house.ask(dialect, f"wire-{dialect}", user)).status in (400, 413, 502)
            assert len(wire.asked) == before + 1, status
            await house.restart()


async def test_who_leaves_while_the_second_try_is_waited_for_is_asked_for_no_more(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", upstream_again=True) as house:
        user = await house.user()
        wire = house.wires["wire-chat"]
        relay_of(house).router._draw = lambda: 0.999
        caller = await house.begin("chat", "wire-chat", user)
        (await wire.next()).answer(b"{}", 500)
        while not any(call._timer for call in relay_of(house).calls.values()):  # noqa: ASYNC110 - a state of the relay
            await asyncio.sleep(0)
        caller.leave()
        assert (await house.row(user))["outcome"] == "client_gone"
        await asyncio.sleep(0.7)
        assert len(wire.asked) == 1
        assert known(house, "wire-chat", "up-chat").in_flight == 0


# ---- 17: poison


@both
async def test_case_17_one_users_poison_changes_nothing_for_others(house: House, dialect: str) -> None:
    poisoner, other = await house.user(), await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]

    def script(asked: Asked) -> None:
        if b"poison" in asked.body:
            asked.answer(b"{}", 500)
        else:
            asked.answer(REPLIES[dialect])

    wire.script = spare.script = script
    body = body_of(dialect, f"pair-{dialect}", messages=[{"role": "user", "content": "poison"}])
    for number in range(12):
        assert (await house.post(dialect, body, poisoner)).status == 502
        answer = await house.ask(dialect, f"pair-{dialect}", other)
        assert (answer.status, answer.headers["x-penstock-route"]) == (200, "weight"), number
    assert len([asked for asked in spare.asked if b"poison" in asked.body]) == 1, "it is known then"
    assert health_of(house).abnormal == 0


# ---- 18 to 21: probes and rests


async def opened(house: House, dialect: str, user: User) -> UpstreamHealth:
    """The wire of the pair is out, and a probe is due."""
    wire = house.wires[f"wire-{dialect}"]
    wire.script = refusing(500, "no")
    ruled(house, open_first=0.001)
    for number in range(6):
        assert (await house.ask(dialect, f"pair-{dialect}", user, temperature=number / 10)).status == 200
    wire.script = None
    while len(wire.asked) > 0:
        wire.asked.remove(await wire.next())
    found = known(house, f"wire-{dialect}", f"up-{dialect}")
    assert found.suspect
    found.target._open_until = 0.0
    found.target._set()
    health_of(house).refresh(found, 0.0)
    return found


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_case_18_a_probe_that_ends_in_the_callers_400_shows_that_the_provider_works(
    house: House, dialect: str, stream: bool
) -> None:
    user = await house.user()
    well(house, dialect)
    found = await opened(house, dialect, user)
    house.wires[f"wire-{dialect}"].script = refusing(400, "no such field")
    for _ in range(2):
        answer = await house.ask(dialect, f"pair-{dialect}", user, stream=stream)
        assert answer.status == 400
    assert not found.suspect


@both
async def test_case_18_a_probe_whose_caller_leaves_is_followed_by_the_next(
    house: House, dialect: str
) -> None:
    user = await house.user()
    well(house, dialect)
    found = await opened(house, dialect, user)
    wire = house.wires[f"wire-{dialect}"]
    caller = await house.begin(dialect, f"pair-{dialect}", user)
    asked = await wire.next()
    assert found.probing
    caller.leave()
    await asked.left()
    await house.rows(user)
    assert (found.probing, found.in_flight) == (False, 0)
    well(house, dialect, "wire")
    answer = await house.ask(dialect, f"pair-{dialect}", user)
    assert (answer.status, answer.headers["x-penstock-route"]) == (200, "probe")


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_case_19_a_probe_that_hangs_is_left_soon_for_the_other(
    house: House, dialect: str, stream: bool
) -> None:
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    user = await house.user()
    found = await opened(house, dialect, user)
    ruled(house, probe_shortest=0.2, probe_unknown=0.2)
    for start in ((), FRAMES[dialect][:1]) if stream else ((),):
        if not found.suspect:
            found.target._open(relay_of(house).clock(), health_of(house).rules, 0.5)
        # it stays on its way beside the other, and what comes of it in the end is known
        for good, still_out in ((False, True), (True, True), (True, False)):
            found.target._open_until = 0.0
            found.target._set()
            health_of(house).refresh(found, 0.0)
            caller = await house.begin(dialect, f"pair-{dialect}", user, stream=stream)
            asked = await wire.next()
            if start:
                asked.begin(*start)
            answer = await caller.answer()
            assert (answer.status, answer.whole, answer.headers["x-penstock-attempts"]) == (200, True, "2")
            assert (found.probing, found.in_flight) == (True, 1)
            other = await house.ask(dialect, f"pair-{dialect}", user)
            assert other.headers["x-penstock-attempts"] == "1", "one probe at a time"
            if not good and start:
                asked.cut()
            elif not good:
                asked.answer(b"{}", 500)
            elif not stream:
                asked.answer(REPLIES[dialect])
            elif start:
                asked.stream_on(*FRAMES[dialect][1:])
            else:
                asked.stream(*FRAMES[dialect])
            async with asyncio.timeout(PATIENCE):
                while found.in_flight:  # noqa: ASYNC110 - a state of the relay
                    await asyncio.sleep(0)
            assert (found.probing, found.suspect) == (False, still_out)
    assert {row["outcome"] for row in await house.rows(user)} == {"completed"}
    counted = (await house.page("/metrics")).body.decode()
    for result, times in (("works", 2), ("fails", 1)):
        line = (
            f'penstock_hedges_total{{provider="wire-{dialect}",result="{result}"}} {times * (1 + stream)}.0'
        )
        assert line in counted


@both
async def test_case_20_a_reset_that_was_told_is_kept(house: House, dialect: str) -> None:
    user = await house.user()
    well(house, dialect)
    wire = house.wires[f"wire-{dialect}"]
    found: UpstreamHealth | None = None
    for status, name, value, low, high in (
        (429, "retry-after", "30", 29.0, 30.0),
        (429, "retry-after", "2.5", 1.0, 2.5),
        (429, "retry-after-ms", "1500", 0.5, 1.5),
        (503, "retry-after", "20", 19.0, 20.0),
        (529, "retry-after", "600", 29.0, 30.0),
        (429, "retry-after", "Fri, 15 Jan 2027 08:00:40 GMT", 35.0, 41.0),
        (429, "retry-after", "soon", 1.0, 2.0),
        (429, "retry-after", "-1", 1.0, 2.0),
        (429, "retry-after", "1e300", 1.0, 2.0),
        (429, "retry-after", "Fri, 15 Jan 1999 08:00:40 GMT", 1.0, 2.0),
    ):
        wire.script = lambda asked, status=status, headers={name: value}: asked.answer(
            b"{}", status, headers=headers
        )
        answer: Answer = await house.ask(dialect, f"pair-{dialect}", user)
        assert (answer.status, answer.headers["x-penstock-attempts"]) == (200, "2")
        found = known(house, f"wire-{dialect}", f"up-{dialect}")
        assert low <= found.until - relay_of(house).clock() <= high, (name, value)
        asked = len(wire.asked)
        assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
        assert len(wire.asked) == asked
        for circuit in found.circuits:
            circuit.close(0.0)
        health_of(house).refresh(found, 0.0)


# ---- 15: all are out


@both
async def test_case_15_where_all_are_out_few_are_asked_and_the_true_cause_is_told(
    house: House, dialect: str
) -> None:
    users = [await house.user() for _ in range(3)]
    for place in ("wire", "spare"):
        house.wires[f"{place}-{dialect}"].script = refusing(503, "no")
    statuses = []
    for number in range(60):
        answer = await house.ask(dialect, f"pair-{dialect}", users[number % 3], temperature=number / 100)
        statuses.append((answer.status, answer.code))
    assert set(statuses) == {(502, "provider_overloaded")}
    asked = [len(house.wires[f"{place}-{dialect}"].asked) for place in ("wire", "spare")]
    assert sum(asked) < 60
    refused = await house.ask(dialect, f"pair-{dialect}", users[0])
    if refused.headers.get("retry-after"):
        assert 1 <= int(refused.headers["retry-after"]) <= 30
    rows = [row for user in users for row in await house.rows(user)]
    assert {row["counted"] for row in rows} == {False}
    assert 0 in {row["attempts"] for row in rows}, "some had no attempt at all"


# ---- 29: what fits where


@both
async def test_case_29_a_long_prompt_goes_where_there_is_room(house: House, dialect: str) -> None:
    wire, spare = Target(f"wire-{dialect}", f"up-{dialect}", context_tokens=8_000), Target(
        f"spare-{dialect}", f"up-{dialect}", priority=1, context_tokens=200_000
    )  # fmt: skip
    await add_model(house, "two-sizes", wire, spare)
    await add_model(house, "small", wire)
    await add_model(house, "two-sizes", wire, spare)
    user = await house.user()
    well(house, dialect)
    well(house, dialect, "wire")
    long = [{"role": "user", "content": "word " * 12_000}]
    answer = await house.ask(dialect, "two-sizes", user, messages=long)
    assert (answer.status, answer.headers["x-penstock-route"]) == (200, "caller")
    assert house.wires[f"wire-{dialect}"].asked == []
    answer = await house.ask(dialect, "two-sizes", user)
    assert (answer.status, answer.headers["x-penstock-route"]) == (200, "weight")
    await add_model(house, "small", wire)
    answer = await house.ask(dialect, "small", user, messages=long)
    assert (answer.status, answer.code) == (400, "context_length_exceeded")
    if dialect == "messages":
        assert b"prompt is too long" in answer.body
    assert len(house.wires[f"wire-{dialect}"].asked) == 1
    nearly = [{"role": "user", "content": "word " * 8_000}]
    assert (await house.ask(dialect, "small", user, messages=nearly)).status == 200, (
        "an estimate refuses nobody"
    )


# ---- what is seen of it


@both
async def test_headers_tell_how_many_attempts_were_made_and_why_the_last_one_was(
    house: House, dialect: str
) -> None:
    user = await house.user()
    well(house, dialect, "wire")
    well(house, dialect)
    for model, route in ((f"wire-{dialect}", "only"), (f"pair-{dialect}", "weight")):
        for stream in (True, False):
            answer = await house.ask(dialect, model, user, stream=stream)
            assert answer.headers["x-penstock-attempts"] == "1"
            assert answer.headers["x-penstock-route"] == route
    house.wires[f"wire-{dialect}"].script = refusing(500, "no")
    answer = await house.ask(dialect, f"pair-{dialect}", user)
    assert answer.headers["x-penstock-attempts"] == "2"
    assert answer.headers["x-penstock-route"] == "after_broken"
    assert "x-penstock-provider" not in answer.headers
    relay_of(house).router.tells_provider = True
    for place, reset in (("spare", False), ("spare", False), ("wire", True)):
        if reset:
            well(house, dialect, "wire")
            health_of(house).reset(lambda _: True, 0.0)
        answer = await house.ask(dialect, f"pair-{dialect}", user)
        assert answer.headers["x-penstock-provider"] == f"{place}-{dialect}"
    measured = relay_of(house).metrics.render().decode()
    counted = f'penstock_failovers_total{{class="broken",from="wire-{dialect}",to="spare-{dialect}"}}'
    assert counted in measured


@both
async def test_nothing_is_in_flight_after_anything(house: House, dialect: str) -> None:
    user = await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    well(house, dialect)
    for script in (
        refusing(500, "no"),
        refusing(400, "no"),
        lambda asked: asked.cut(),
        lambda asked: asked.begin(b"x"),
    ):
        wire.script = script
        for stream in (True, False):
            caller = await house.begin(dialect, f"pair-{dialect}", user, stream=stream)
            if script is not wire.script:
                break
            try:
                async with asyncio.timeout(0.3):
                    await caller.answer()
            except TimeoutError:
                caller.leave()
    await house.rows(user)
    assert spare.asked
    assert [each.in_flight for each in health_of(house)._upstreams.values()] == [0] * len(
        health_of(house)._upstreams
    )
