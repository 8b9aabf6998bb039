"""Faults that a hostile reading of the service found, each held down by the request that showed it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.api.body_memory import STEP
from penstock.core.catalog import Target
from penstock.core.routing.rules import RULES
from penstock.domain.catalog import catalog_store
from penstock.providers.table import KINDS
from penstock.relay import relayed_call as relaying
from penstock.relay.answer_memory import STEP as ANSWER_STEP
from penstock.relay.relay import Relay
from penstock.upstream import Sending, UpstreamClient
from tests.service.conversations import DIALECTS, FRAMES, PATHS, REPLIES, body_of
from tests.service.running_service import VENDOR_KEY, House, User, catalogue, open_house
from tests.service.scripted import PATIENCE, Asked

both = pytest.mark.parametrize("dialect", DIALECTS)


async def test_a_list_of_betas_that_is_none_is_refused_at_once(house: House) -> None:
    """One pattern for the whole list took time exponential in its length, and blocked everybody meanwhile."""
    user = await house.user()
    body = body_of("messages", "messages-plain")
    answer = await house.post("messages", body, user, {"anthropic-beta": "a," * 1500 + "b b"})
    assert (answer.status, answer.code) == (400, "invalid_request")


@both
async def test_the_slot_is_free_when_the_caller_has_its_last_byte(house: House, dialect: str) -> None:
    """Also while the provider has not ended its body."""
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    wire.script = lambda asked: asked.begin(*FRAMES[dialect])
    answer = await house.ask(dialect, f"pair-{dialect}", user, stream=True)
    assert answer.status == 200
    assert house.held(user) == 0


@both
async def test_a_404_counts_against_a_provider_only_where_another_answers_the_same(
    house: House, dialect: str
) -> None:
    """A caller may bring a 404 about, with the id of a file for one; it must not take the provider from the others."""
    user = await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    wire.script = spare.script = lambda asked: asked.answer(b"{}", 404)
    for _ in range(8):
        answer = await house.ask(dialect, f"pair-{dialect}", user)
        assert (answer.status, answer.code) == (502, "provider_credentials")
    assert len(wire.asked) + len(spare.asked) == 16
    spare.script = lambda asked: asked.answer(REPLIES[dialect])
    asked = len(wire.asked)
    for _ in range(16):
        assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
    assert len(wire.asked) <= asked + 1


async def test_a_schema_with_an_odd_format_is_no_fault_of_ours(house: House) -> None:
    user = await house.user()
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": {}}}}
    asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    house.wires["wire-messages"].script = lambda asked: asked.answer(REPLIES["messages"])
    answer = await house.ask("chat", "pair-messages", user, response_format=asked)
    assert answer.status < 500
    body = json.dumps(json.loads(body_of("chat", "pair-messages", response_format=asked)))
    odd = body.replace('"format": {}', '"maximum": 1e400').encode()
    assert (await house.post("chat", odd, user)).status == 400


async def test_a_caller_that_is_known_sees_its_own_limits_on_every_route(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", cache_seconds=30.0) as house:
        user = await house.user()
        first = await house.http("GET", "/v1/models", user.key)
        for method, path in (("GET", "/v1/nothing"), ("PUT", PATHS["chat"]), ("GET", "/v1")):
            answer = await house.http(method, path, user.key)
            assert answer.headers["x-ratelimit-limit"] == first.headers["x-ratelimit-limit"]


@both
async def test_nobody_may_keep_an_answer_that_was_for_a_key(house: House, dialect: str) -> None:
    user = await house.user()
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.answer(REPLIES[dialect])
    for answer in (
        await house.ask(dialect, f"pair-{dialect}", user),
        await house.http("GET", "/v1/models", user.key),
    ):
        assert answer.headers["cache-control"] == "no-store"


def _begun(user: User, length: int) -> bytes:
    """A request whose body is announced and does not come."""
    head = f"POST {PATHS['chat']} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {user.key}\r\ncontent-length: {length}\r\n\r\n"
    return head.encode()


async def _taken(house: House, size: int) -> None:
    """Bodies take this much memory, in bytes; what the sockets carry needs a few turns of the loop to arrive."""
    async with asyncio.timeout(60):
        while house.taken != size:  # noqa: ASYNC110 - the memory of a service is no event to wait for
            await asyncio.sleep(0)


async def test_bodies_in_receipt_are_bounded_for_a_user_and_for_all(tmp_path: Path) -> None:
    """Forty unfinished bodies of one user on a plan of one at a time took more than a gigabyte."""
    async with open_house(tmp_path / "data", max_body=10_000, max_bodies=35_000) as house:
        first, second = await house.user("one"), await house.user("one")
        begun = [await house.send(_begun(user, 9_000)) for user in (first, first, second)]
        await _taken(house, 27_000)
        refused = await (await house.send(_begun(first, 9_000))).answer()
        assert (refused.status, refused.code) == (429, "concurrent_limit_reached")
        full = await (await house.send(_begun(second, 9_000))).answer()
        assert (full.status, full.code, full.headers["retry-after"]) == (503, "overloaded", "2")
        for caller in begun:
            caller.leave()
        await _taken(house, 0)
        assert (await house.ask("chat", "chat-plain", first)).status == 200
        await _taken(house, 0)


@both
async def test_what_a_failed_attempt_estimated_is_not_in_the_row_of_the_next(
    house: House, dialect: str
) -> None:
    user = await house.user()

    def cut(asked: Asked) -> None:
        asked.begin()
        asked.cut()

    house.wires[f"wire-{dialect}"].script = cut
    house.wires[f"spare-{dialect}"].script = lambda asked: asked.stream(*FRAMES[dialect])
    answer = await house.ask(dialect, f"pair-{dialect}", user, stream=True)
    assert (answer.status, answer.whole) == (200, True)
    row = await house.row(user)
    assert (row["attempts"], row["estimated"]) == (2, False)
    assert (row["input_tokens"], row["output_tokens"]) == (11, 5)


@both
async def test_all_attempts_of_a_request_share_its_total_deadline(tmp_path: Path, dialect: str) -> None:
    async with open_house(tmp_path / "data", upstream_total=0.3) as house:
        user = await house.user()
        answer = await house.ask(dialect, f"pair-{dialect}", user)
        assert (answer.status, answer.code) == (502, "provider_timeout")
        assert house.wires[f"spare-{dialect}"].asked == []


async def test_a_secret_that_vanishes_is_no_unsigned_request(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    user = await house.user()
    assert house.service is not None
    monkeypatch.setattr(house.service._secrets, "_environ", {})
    house.service._secrets.refresh()
    answer = await house.ask("chat", "wire-chat", user)
    assert (answer.status, answer.code) == (502, "provider_credentials")
    counted = await house.http(
        "POST",
        "/v1/messages/count_tokens",
        user.key,
        body=b'{"model":"wire-messages","messages":[{"role":"user","content":"x"}]}',
    )
    assert (counted.status, counted.code) == (502, "provider_credentials")
    assert house.asked == 0
    assert "a provider's secret cannot be had" in caplog.text
    assert await house.used(user) == 0


async def test_a_stream_that_cannot_be_kept_alive_leaves_the_others_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_house(tmp_path / "data", keepalive=0.1, head_hold=0.0) as house:
        user = await house.user()
        broken = await house.begin("chat", "wire-chat", user, stream=True)
        await house.wires["wire-chat"].next()
        await broken.head()
        assert house.service is not None
        assert house.service._api is not None
        (delivery,) = house.service._api._relay.streams._deliveries
        delivery._side = delivery._exchange = None  # pyright: ignore[reportAttributeAccessIssue]
        other = await house.begin("messages", "wire-messages", user, stream=True)
        await house.wires["wire-messages"].next()
        await other.head()
        for _ in range(3):
            await other.until(b": keep-alive\n\n")
        assert caplog.text.count("a stream could not be kept alive") == 1


async def test_a_ledger_that_has_stopped_writing_by_a_fault_of_ours_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests went on into the journal, and nobody was told that none of them got any further."""

    def faulty(*_arguments: object) -> None:
        raise LookupError("a bug")

    user = await house.user()
    monkeypatch.setattr("penstock.domain.ledger.ledger.booking", faulty)
    assert (await house.ask("chat", "chat-plain", user)).status == 200
    async with asyncio.timeout(PATIENCE):
        while (await house.page("/readyz")).body == b"ready\n":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert (await house.page("/readyz")).body == b"ready\nledger does not work\n"
    assert 'penstock_part_up{part="ledger"} 0.0' in (await house.page("/metrics")).body.decode()
    monkeypatch.undo()
    await house.restart()
    assert (await house.row(user))["outcome"] == "completed"


# ---- what a changed line of the relay showed that nobody looked at


def _relay(house: House) -> Relay:
    assert house.service is not None
    assert house.service._api is not None
    return house.service._api._relay


async def test_what_cannot_be_said_to_the_next_provider_leaves_the_failure_of_the_first(house: House) -> None:
    document = catalogue(1, {name: wire.port for name, wire in house.wires.items()})
    targets = (
        Target("wire-messages", "up-messages", priority=0),
        Target("spare-chat", "up-chat", priority=1),
    )
    model = replace(next(m for m in document.models if m.id == "wire-messages"), id="both", targets=targets)
    plans = tuple(replace(plan, models=(*plan.models, "both")) for plan in document.plans)
    async with house.store.database.transaction() as conn:
        document = replace(document, models=(*document.models, model), plans=plans)
        await catalog_store.apply_document(conn, document, KINDS, 2)
    await house.restart()
    user = await house.user()
    house.wires["wire-messages"].script = lambda asked: asked.answer(b"{}", 500)
    house.wires["spare-chat"].script = lambda asked: asked.answer(REPLIES["chat"])
    strict = {"x-penstock-strict": "1"}
    answer = await house.ask("messages", "both", user, headers=strict, top_k=5)
    assert (answer.status, answer.code) == (502, "provider_error")
    assert house.wires["spare-chat"].asked == []
    assert (await house.ask("messages", "both", user, headers=strict)).status == 200


async def test_a_later_attempt_has_what_is_left_of_the_time_of_all(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    begin = UpstreamClient.begin

    def noting(client: UpstreamClient, *args: Any, **named: Any) -> Sending:
        given.append(args[2].total)
        return begin(client, *args, **named)

    monkeypatch.setattr(UpstreamClient, "begin", noting)
    relay = _relay(house)
    clock = relay.clock

    def late(asked: Asked) -> None:
        relay.clock = lambda: clock() + 100
        asked.answer(b"{}", 500)

    user = await house.user()
    house.wires["wire-chat"].script = late
    house.wires["spare-chat"].script = lambda asked: asked.stream(*FRAMES["chat"])
    assert (await house.ask("chat", "pair-chat", user, stream=True)).status == 200
    total = house.settings.upstream_total
    assert given[0] == total
    assert 0 < given[1] <= total - 100


@both
async def test_a_stream_that_was_answered_is_a_success_of_its_provider(house: House, dialect: str) -> None:
    """Five failures in a row open a circuit. They count once the other has answered, here not by a stream."""
    user = await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    spare.script = lambda asked: asked.answer(REPLIES[dialect])

    def failing(asked: Asked) -> None:
        asked.answer(b"{}", 500)

    for script in (*[failing] * 4, lambda asked: asked.stream(*FRAMES[dialect]), *[failing] * 4):
        wire.script = script
        stream = script is not failing
        assert (await house.ask(dialect, f"pair-{dialect}", user, stream=stream)).status == 200
    assert len(wire.asked) == 9


@both
async def test_of_those_who_come_together_one_alone_probes_a_provider_that_failed(
    house: House, dialect: str
) -> None:
    user = await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    wire.script = lambda asked: asked.answer(b"{}", 500)
    spare.script = lambda asked: asked.answer(REPLIES[dialect])
    for _ in range(7):
        assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
    assert len(wire.asked) == 5, "the circuit is open"
    relay = _relay(house)
    clock = relay.clock
    relay.clock = lambda: clock() + 1.2 * RULES.open_first
    wire.script = None
    while len(wire.asked) > 0:
        wire.asked.remove(await wire.next())
    probing = await house.begin(dialect, f"pair-{dialect}", user)
    asked = await wire.next()
    assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
    assert len(wire.asked) == 1, "the other one goes by"
    asked.answer(REPLIES[dialect])
    assert (await probing.answer()).status == 200
    wire.script = lambda asked: asked.answer(REPLIES[dialect])
    assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
    assert len(wire.asked) == 2, "the next one probes again"


@both
async def test_a_provider_that_does_not_end_its_body_is_left_and_the_answer_is_complete(
    house: House, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_LINGER", 0.0)
    user = await house.user()
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.begin(*FRAMES[dialect])
    answer = await house.ask(dialect, f"wire-{dialect}", user, stream=True)
    assert answer.whole
    await house.wires[f"wire-{dialect}"].asked[0].left()
    row = await house.row(user)
    assert (row["outcome"], row["status"], row["error_code"]) == ("completed", 200, None)


@both
async def test_a_refusal_by_the_provider_counts_against_its_caller_when_the_head_has_gone(
    tmp_path: Path, dialect: str
) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0, errors_per_minute=1) as house:
        user = await house.user()
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        head = await caller.head()
        assert head.status == 200
        asked.answer(b"{}", 400)
        assert b"refused the request as invalid" in (await caller.rest(head)).body
        answer = await house.ask(dialect, f"{dialect}-plain", user)
        assert (answer.status, answer.code) == (429, "too_many_refused_requests")


async def test_a_secret_that_was_changed_is_the_one_that_is_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await house.user()
    wire = house.wires["wire-chat"]
    wire.script = lambda asked: asked.answer(REPLIES["chat"])
    assert (await house.ask("chat", "wire-chat", user)).status == 200
    assert house.service is not None
    monkeypatch.setattr(house.service._secrets, "_environ", {"VENDOR_KEY": "another-key-0123456789"})
    house.service._secrets.refresh()
    assert (await house.ask("chat", "wire-chat", user)).status == 200
    sent = [asked.headers["authorization"] for asked in wire.asked]
    assert sent == [f"Bearer {VENDOR_KEY}", "Bearer another-key-0123456789"]


async def test_what_is_announced_and_does_not_come_takes_nobodys_room(tmp_path: Path) -> None:
    """Sixteen users of a plan of one at a time had filled the memory of all with a few bytes."""
    async with open_house(tmp_path / "data", max_body=2_000_000, max_bodies=4_000_000) as house:
        strangers = [await house.user("one") for _ in range(16)]
        begun = [await house.send(_begun(user, 2_000_000) + b"{") for user in strangers for _ in range(2)]
        chunked = _begun(strangers[0], 7).replace(b"content-length: 7", b"transfer-encoding: chunked")
        begun.append(await house.send(chunked + b"1\r\n{\r\n"))
        await _taken(house, 33 * STEP)
        other = await house.user("one")
        for content in ("Hello", "x" * 200_000):
            body = body_of("chat", "chat-plain", messages=[{"role": "user", "content": content}])
            assert (await house.post("chat", body, other)).status == 200
        for caller in begun:
            caller.leave()
        await _taken(house, 0)


async def test_bodies_that_do_come_leave_room_for_those_who_hold_none(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", max_body=1_000_000, max_bodies=4_000_000) as house:
        heavy = [await house.user("one") for _ in range(5)]
        begun = [
            await house.send(_begun(user, 1_000_000) + b" " * 990_000) for user in heavy for _ in range(2)
        ]
        answers = [asyncio.create_task(caller.answer()) for caller in begun]
        done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        assert {(answer.result().status, answer.result().code) for answer in done} == {(503, "overloaded")}
        assert house.taken <= 4_000_000 - 500_000
        assert (await house.ask("chat", "chat-plain", await house.user("one"))).status == 200
        for answer in waiting:
            answer.cancel()


async def test_a_body_is_refused_where_its_users_room_ends(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", max_body=300_000, max_bodies=3_000_000) as house:
        user = await house.user("one")
        begun = [await house.send(_begun(user, 300_000) + b" " * 299_000) for _ in range(2)]
        await _taken(house, 600_000)
        third = await (await house.send(_begun(user, 300_000) + b" " * 299_000)).answer()
        assert (third.status, third.code) == (429, "concurrent_limit_reached")
        assert house.taken == 600_000
        for caller in begun:
            caller.leave()
        await _taken(house, 0)


async def test_whole_answers_have_a_bound_in_common(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", max_reply=6_000_000, max_replies=6_000_000) as house:
        user, other = await house.user(), await house.user()
        wire = house.wires["wire-chat"]
        first = await house.begin("chat", "wire-chat", user)
        asked = await wire.next()
        asked.begin(b'{"x":"', b"x" * 5_000_000, kind="application/json")
        async with asyncio.timeout(60):
            while house.answers_taken < 4 * ANSWER_STEP:  # noqa: ASYNC110 - as in _taken
                await asyncio.sleep(0)
        wire.script = lambda asked: asked.answer(b'{"x":"' + b"x" * 5_000_000 + b'"}')
        refused = await house.ask("chat", "wire-chat", other)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert await house.used(other) == 0, "it is given back"
        wire.script = lambda asked: asked.answer(REPLIES["chat"])
        assert (await house.ask("chat", "wire-chat", other)).status == 200, "ordinary ones go on"
        first.leave()
        await asked.left()
        async with asyncio.timeout(60):
            while house.answers_taken:  # noqa: ASYNC110 - as in _taken
                await asyncio.sleep(0)
