"""The two limits of a plan, raced, restarted and changed while they are used: never one over, never one lost."""

import asyncio
import contextlib
import io
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.cli import main
from penstock.domain.ledger.reconciliation import compare
from tests.service.conversations import DIALECTS, FRAMES, PATHS, REPLIES, body_of, request
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE, Asked

both = pytest.mark.parametrize("dialect", DIALECTS)
MIDNIGHT = 1_800_057_600.0
"""The end of the day that it is in the house."""


@both
async def test_64_who_race_for_10_slots_are_never_11(house: House, dialect: str) -> None:
    user = await house.user("ten")
    wire = house.wires[f"wire-{dialect}"]
    for number in range(1, 4):
        callers = await asyncio.gather(
            *(house.begin(dialect, f"wire-{dialect}", user, stream=n % 2 == 1) for n in range(64))
        )
        answers = [asyncio.ensure_future(caller.answer()) for caller in callers]
        holders = [await wire.next() for _ in range(10)]
        waiting = set(answers)
        while len(waiting) > 10:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert {answer.result().code for answer in done} == {"concurrent_limit_reached"}
        assert len(wire.asked) == 10 * number
        for asked in holders:
            _answer(asked, dialect)
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
    assert await house.used(user) == 30
    assert len(await house.rows(user)) == 30


def _answer(asked: Asked, dialect: str) -> None:
    if asked.json.get("stream"):
        asked.stream(*FRAMES[dialect])
    else:
        asked.answer(REPLIES[dialect])


async def test_64_who_race_for_the_last_requests_of_a_day_get_exactly_those(house: House) -> None:
    for _ in range(4):
        user = await house.user("few")
        answers = await asyncio.gather(
            *(
                house.ask(DIALECTS[n % 2], f"{DIALECTS[n % 2]}-plain", user, stream=n % 3 == 0)
                for n in range(64)
            )
        )
        assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 59
        for answer in answers:
            if answer.status == 429:
                assert answer.code == "daily_limit_reached"
                assert answer.headers["x-ratelimit-remaining"] == "0"
        left = sorted(
            int(answer.headers["x-ratelimit-remaining"]) for answer in answers if answer.status == 200
        )
        assert left[0] == 0
        assert await house.used(user) == 5
        assert len(await house.rows(user)) == 5


async def test_what_is_given_back_can_be_used_and_no_more(house: House) -> None:
    user = await house.user("few")
    for model, status in (
        ("chat-plain", 200),
        ("chat-error-500", 502),
        ("chat-error-400", 400),
        ("chat-plain", 200),
        ("chat-error-529", 502),
        ("chat-plain", 200),
        ("chat-plain", 200),
        ("chat-plain", 200),
        ("chat-plain", 429),
        ("chat-error-500", 429),
    ):
        assert (await house.ask("chat", model, user)).status == status
    report = await house.report(user)
    assert (report.counted, report.refunded, report.limit) == (5, 3, 5)


async def test_keys_of_one_user_share_its_limits_and_users_share_none(house: House) -> None:
    user, other = await house.user("few"), await house.user("few")
    second = await house.key(user.id)
    body = body_of("chat", "chat-plain")
    for n in range(5):
        key = second if n % 2 else user.key
        assert (await house.http("POST", PATHS["chat"], key, body=body)).status == 200
    for key in (second, user.key):
        assert (await house.http("POST", PATHS["chat"], key, body=body)).status == 429
    assert (await house.ask("chat", "chat-plain", other)).headers["x-ratelimit-remaining"] == "4"


# ---- ten and more ways for a request to end


async def _completes(house: House, dialect: str, user: User) -> None:
    for stream in (False, True):
        assert (await house.ask(dialect, f"{dialect}-plain", user, stream=stream)).status == 200


def _answers(model: str, status: int, **fields: object) -> Callable[[House, str, User], Awaitable[None]]:
    async def end(house: House, dialect: str, user: User) -> None:
        for stream in (False, True):
            named: dict[str, Any] = {"stream": stream} | fields
            answer = await house.ask(dialect, model.format(dialect), user, **named)
            assert answer.status == status

    return end


async def _breaks(house: House, dialect: str, user: User) -> None:
    answer = await house.ask(dialect, f"{dialect}-cut", user, stream=True)
    assert b"error" in answer.body


async def _leaves_early(house: House, dialect: str, user: User) -> None:
    caller = await house.begin(dialect, f"wire-{dialect}", user)
    asked = await house.wires[f"wire-{dialect}"].next()
    caller.leave()
    await asked.left()


async def _leaves_late(house: House, dialect: str, user: User) -> None:
    caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
    asked = await house.wires[f"wire-{dialect}"].next()
    asked.begin(*FRAMES[dialect][:3])
    await caller.head()
    caller.reset()
    await asked.left()


async def _sends_half(house: House, dialect: str, user: User) -> None:
    whole = request("POST", PATHS[dialect], {"x-api-key": user.key}, body_of(dialect, "x"))
    (await house.send(whole[:-1])).leave()


async def _too_slow(house: House, dialect: str, user: User) -> None:
    caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
    asked = await house.wires[f"wire-{dialect}"].next()
    asked.begin(*FRAMES[dialect][:3])
    assert b"error" in (await caller.answer()).body


WAYS: dict[str, Callable[[House, str, User], Awaitable[None]]] = {
    "complete": _completes,
    "bad body": _answers("{}-plain", 400, messages="x"),
    "bad stream flag": _answers("{}-plain", 400, stream="x"),
    "unknown model": _answers("no-such", 404),
    "nobody serves it": _answers("absent-model", 503),
    "refused by the provider": _answers("{}-error-400", 400),
    "failed": _answers("{}-error-500", 502),
    "garbage": _answers("{}-garbage", 502),
    "cut at once": _answers("{}-cut-at-once", 502),
    "broken off": _breaks,
    "the caller leaves before an answer": _leaves_early,
    "the caller leaves in a stream": _leaves_late,
    "the caller leaves in its body": _sends_half,
    "the provider falls silent": _too_slow,
}


@both
async def test_however_a_request_ends_its_slot_is_free(tmp_path: Path, dialect: str) -> None:
    # a model that thinks may be silent for as long as for its first content
    quick = {"upstream_idle": 0.05, "upstream_thinking": 3.0, "upstream_first_byte": 3.0}
    async with open_house(tmp_path / "data", **quick) as house:
        user = await house.user("one")
        for name, end in WAYS.items():
            await end(house, dialect, user)
            answer = await house.ask(dialect, f"{dialect}-plain", user)
            assert answer.status == 200, name
        rows = await house.rows(user)
        assert await house.used(user) == sum(row["counted"] for row in rows)


async def test_a_plan_may_let_requests_wait_for_their_turn(house: House) -> None:
    user = await house.user("patient")
    first = await house.begin("chat", "wire-chat", user)
    asked = await house.wires["wire-chat"].next()
    second = await house.begin("chat", "chat-plain", user)
    third = await house.begin("messages", "messages-plain", user)
    asked.answer(REPLIES["chat"])
    for caller in (first, second, third):
        assert (await caller.answer()).status == 200
    assert [row["model"] for row in await house.rows(user)] == ["wire-chat", "chat-plain", "messages-plain"]


@both
async def test_after_every_kind_of_answer_the_headers_say_what_the_ledger_holds(
    house: House, dialect: str
) -> None:
    user = await house.user("few")
    models = (
        "plain",
        "error-500",
        "no-such",
        "error-400",
        "cut",
        "garbage",
        "plain",
        "error-529",
        "plain",
        "plain",
    )
    for turn, model in enumerate((*models, "plain")):
        answer = await house.ask(dialect, f"{dialect}-{model}", user, stream=turn % 2 == 0)
        used = await house.used(user)
        told = await house.http("GET", "/v1/models", user.key)
        assert int(told.headers["x-ratelimit-remaining"]) == 5 - used
        if answer.status != 200:  # in a stream's head the request itself is counted, whatever becomes of it
            assert answer.headers["x-ratelimit-remaining"] == told.headers["x-ratelimit-remaining"]
    assert await house.used(user) == 5


_STEPS = (
    "penstock.relay.router.Router.select",
    "penstock.relay.failover.Attempts.only",
    "penstock.relay.failover.Attempts.limits",
    "penstock.relay.relayed_call.prepared_for",
    "penstock.domain.limits.Gate.count",
    "penstock.relay.relayed_call.kind_of",
    "penstock.domain.ledger.ledger.Ledger.open",
    "penstock.relay.router.Router.headers",
    "penstock.upstream.UpstreamClient.begin",
    "penstock.upstream.UpstreamResponse.gather",
    "penstock.upstream.UpstreamResponse.deliver",
    "penstock.relay.stream.ResponseStream.attach",
    "penstock.relay.stream.ResponseStream.sink",
    "penstock.relay.relayed_call.whole_answer",
    "penstock.relay.relayed_call.RelayedCall._start",
    "penstock.relay.failover.Attempts.content",
    "penstock.relay.failover.Attempts.succeeded",
)
"""Each step of a request, as what may have a bug in it."""


@both
@pytest.mark.parametrize("step", _STEPS)
async def test_a_bug_in_any_step_costs_no_slot_no_count_and_no_second_request(
    house: House, dialect: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await house.user("one")

    met: list[str] = []

    def broken(*args: object, **kwargs: object) -> None:
        met.append(step)
        raise ZeroDivisionError

    for stream in (False, True):
        with monkeypatch.context() as context:
            context.setattr(step, broken)
            caller = await house.begin(dialect, f"{dialect}-plain", user, stream=stream)
            head = await caller.head()
            if head.status == 200:  # a bug that comes after the head cuts the answer, or was not met
                await caller.rest(head)
            else:
                assert head.status == 500
        assert (await house.ask(dialect, f"{dialect}-plain", user)).status == 200
    assert met
    rows = await house.rows(user)
    assert await house.used(user) == sum(row["counted"] for row in rows)
    assert house.held(user) == 0
    told = await house.http("GET", "/v1/models", user.key)
    assert int(told.headers["x-ratelimit-remaining"]) == 1000 - await house.used(user)
    assert b"penstock_running 0" in (await house.page("/metrics")).body


# ---- days


async def test_a_restart_keeps_the_days_count_exactly(house: House) -> None:
    user, spent = await house.user(), await house.user("few")
    for _ in range(7):
        assert (await house.ask("chat", "chat-plain", user)).status == 200
    assert (await house.ask("chat", "chat-error-500", user)).status == 502
    for _ in range(5):
        await house.ask("messages", "messages-plain", spent)
    caller = await house.begin("chat", "wire-chat", user, stream=True)
    (await house.wires["wire-chat"].next()).begin(*FRAMES["chat"][:3])
    await caller.head()
    await caller.until(b"Hi ")
    await house.restart()  # with one request running, of which the caller has something: it stays counted
    caller.leave()
    answer = await house.http("GET", "/v1/models", user.key)
    assert int(answer.headers["x-ratelimit-limit"]) - int(answer.headers["x-ratelimit-remaining"]) == 8
    assert (await house.ask("messages", "messages-plain", spent)).status == 429
    rows = await house.rows(user)
    assert sum(row["counted"] for row in rows) == await house.used(user) == 8


@both
async def test_at_midnight_utc_the_day_is_new_and_a_request_stays_in_its_own(
    house: House, dialect: str
) -> None:
    user = await house.user("few")
    house.clock.now = MIDNIGHT - 1
    for _ in range(4):
        assert (await house.ask(dialect, f"{dialect}-plain", user)).status == 200
    caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
    asked = await house.wires[f"wire-{dialect}"].next()
    spent = await house.ask(dialect, f"{dialect}-plain", user)
    assert (spent.status, spent.headers["retry-after"]) == (429, "1")
    assert int(spent.headers["x-ratelimit-reset"]) == MIDNIGHT
    house.clock.now = MIDNIGHT
    fresh = await house.ask(dialect, f"{dialect}-plain", user)
    assert (fresh.status, fresh.headers["x-ratelimit-remaining"]) == (200, "4")
    assert int(fresh.headers["x-ratelimit-reset"]) == MIDNIGHT + 86_400
    asked.answer(b"{}", 500)
    assert (await caller.answer(checked=False)).status == 502
    again = await house.ask(dialect, f"{dialect}-plain", user)
    assert again.headers["x-ratelimit-remaining"] == "3", "what was given back belongs to yesterday"
    days = [row["day"] for row in await house.rows(user)]
    assert days == [20833] * 5 + [20834] * 2
    house.clock.now = MIDNIGHT - 1
    assert (await house.report(user)).counted == 4


# ---- changes from outside


async def _cli(house: House, *arguments: str) -> str:
    """The command line on the house's data, on a loop and connections of its own, as in another process."""

    def run() -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main([*arguments, f"--data={house.settings.data}"]) == 0
        return out.getvalue()

    return await asyncio.to_thread(run)


async def _until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await found():  # noqa: ASYNC110 - the poll of the service is what is waited for
            await asyncio.sleep(0.01)


async def test_a_change_of_plan_is_felt_at_once_and_compares_the_days_count_with_the_new_limit(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path / "data", cache_seconds=0.2) as house:
        user = await house.user("few")
        for _ in range(5):
            await house.ask("chat", "chat-plain", user)
        assert (await house.ask("chat", "chat-plain", user)).status == 429
        await _cli(house, "user", "set", f"--email={user.email}", "--plan=one")

        async def served() -> bool:
            answer = await house.ask("chat", "chat-plain", user)
            return answer.status == 200 and answer.headers["x-ratelimit-remaining"] == "994"

        await _until(served)
        await _cli(house, "user", "set", f"--email={user.email}", "--plan=few")

        async def refused() -> bool:
            answer = await house.ask("chat", "chat-plain", user)
            return answer.status == 429 and answer.headers["x-ratelimit-remaining"] == "0"

        await _until(refused)


async def test_what_is_remembered_of_a_key_is_forgotten_within_five_seconds(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", cache_seconds=0.2) as house:
        assert type(house.settings)().cache_seconds <= 5
        user = await house.user()
        assert (await house.ask("chat", "chat-plain", user)).status == 200
        made = msgspec.json.decode(await _cli(house, "key", "create", f"--email={user.email}", "--json"))
        assert (await house.http("GET", "/v1/models", made["key"])).status == 200
        await _cli(house, "key", "revoke", f"--email={user.email}", f"--name={made['name']}")

        async def dead() -> bool:
            return (await house.http("GET", "/v1/models", made["key"])).status == 401

        await _until(dead)
        await _cli(house, "user", "set", f"--email={user.email}", "--disabled")

        async def closed() -> bool:
            return (await house.ask("chat", "chat-plain", user)).status == 403

        await _until(closed)


async def test_the_command_line_reports_what_the_ledger_holds(house: House) -> None:
    house.clock.now = 1_800_000_000
    user = await house.user("one")
    models = ("chat-plain", "chat-error-500", "chat-error-400", "no-such", "chat-plain")
    answers = [await house.ask("chat", model, user) for model in models]
    await house.rows(user)
    told = msgspec.json.decode(
        await _cli(house, "usage", f"--email={user.email}", "--day=2027-01-15", "--json")
    )
    assert (told["counted"], told["refunded"], told["limit"], told["plan"]) == (2, 2, 1000, "one")
    sent = [answer for answer in answers if answer.status != 404]
    assert [(line["id"], line["status"]) for line in told["requests"]] == [
        (answer.headers["x-request-id"], answer.status) for answer in sent
    ]


async def test_a_change_of_the_catalogue_is_followed(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", revision_poll=0.05) as house:
        user = await house.user()
        file = tmp_path / "more.toml"
        file.write_text(
            '[[model]]\nid = "brand-new"\ntargets = [{ provider = "sim-chat", model = "sim-ok" }]\n'
            '[[plan]]\nid = "lab"\ndaily_requests = 7\nconcurrent_requests = 1\nmodels = ["brand-new"]\n'
        )
        await _cli(house, "catalog", "apply", str(file))

        async def served() -> bool:
            answer = await house.ask("chat", "brand-new", user)
            return answer.status == 200 and answer.headers["x-ratelimit-limit"] == "7"

        await _until(served)
        assert (await house.ask("chat", "chat-plain", user)).status == 403


async def test_a_wall_clock_that_steps_grants_no_day_twice_and_is_told_the_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_house(tmp_path / "data", revision_poll=0.05) as house:
        user = await house.user("few")

        async def asked(at: float, times: int) -> list[int]:
            house.clock.now = at
            statuses: list[int] = []
            for _ in range(times):
                # unchecked: after a step back the day that is told ends more than a day ahead
                caller = await house.begin("chat", "chat-plain", user)
                statuses.append((await caller.answer(checked=False)).status)
                caller.leave()
            return statuses

        assert await asked(MIDNIGHT - 10, 6) == [200] * 5 + [429]
        assert await asked(MIDNIGHT + 10, 3) == [200] * 3
        assert await asked(MIDNIGHT - 7200, 3) == [200] * 2 + [429], "it is still the new day"
        assert await asked(MIDNIGHT + 20, 1) == [429]
        assert await asked(MIDNIGHT + 20 + 26 * 3600, 6) == [200] * 5 + [429]
        async with asyncio.timeout(60):
            while "the wall clock jumped forward" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.01)
        rows = await house.rows(user)
        day = int(MIDNIGHT // 86_400)
        assert Counter(row["day"] for row in rows) == {day - 1: 5, day: 5, day + 1: 5}
        async with house.store.database.connect() as conn:
            for number in (day - 1, day, day + 1):
                assert await compare(conn, number) == []
