"""Drills: a provider fails for one key alone, nothing is held against it, and it ends by itself."""

import asyncio

import pytest

from penstock.operations.drill import FAULTS, Drill, begin_drill, end_drill, read_drill
from tests.samples import sample
from tests.service.conversations import CHAT_FRAMES, CHAT_REPLY
from tests.service.running_service import House, User

SECONDS = 600
LATE = {"hang", "hang-mid", "cut-mid", "unfinished"}
"""Faults that the caller of a whole answer waits for, or does not meet."""


async def key_id(house: House, user: User) -> str:
    """The id of the user's key."""
    await house.ask("chat", "chat-plain", user)
    return str((await house.rows(user))[-1]["key_id"])


def play(house: House, key: str, provider: str, fault: str, seconds: float = SECONDS) -> None:
    """Have it played, and have the service see it at once."""
    begin_drill(house.settings.data, Drill(key, provider, fault, house.clock.now + seconds))
    follow(house)


def follow(house: House) -> None:
    assert house.service is not None
    assert house.service._api is not None
    drills = house.service._api._relay.drills
    # the simulator that keeps a journal, in the place of the built-in one
    drills.simulator = house.service._api._catalog().upstreams["sim-chat"].url("chat") or ""
    drills.follow()


@pytest.mark.parametrize("fault", sample(list(FAULTS), 6))
async def test_one_key_meets_the_failure_and_nobody_else(house: House, fault: str) -> None:
    mine, other = await house.user(), await house.user()
    wire, spare = house.wires["wire-chat"], house.wires["spare-chat"]
    for place in (wire, spare):
        place.script = lambda asked: asked.answer(CHAT_REPLY)
    assert (await house.ask("chat", "pair-chat", mine)).status == 200
    key = await key_id(house, mine)
    play(house, key, "wire-chat", fault)
    before = len(wire.asked)
    house.visits.clear()
    if fault not in LATE:
        answer = await house.ask("chat", "pair-chat", mine)
        row = (await house.rows(mine))[-1]
        if fault == "400":
            assert answer.status == 400
        else:
            assert (answer.status, row["provider"], row["attempts"]) == (200, "spare-chat", 2)
    assert len(wire.asked) == before
    assert bool(house.visits) is (fault not in LATE)
    for visit in house.visits:
        headers = dict(visit.headers)
        assert headers[b"x-simulate"] == FAULTS[fault].encode()
        assert b"authorization" not in headers
    for _ in range(30):  # more than any breaker would have borne
        if fault not in LATE:
            await house.ask("chat", "pair-chat", mine)
    assert (await house.ask("chat", "pair-chat", other)).status == 200
    assert (await house.rows(other))[-1]["provider"] == "wire-chat"
    end_drill(house.settings.data)
    follow(house)
    assert (await house.ask("chat", "pair-chat", mine)).status == 200
    assert (await house.rows(mine))[-1]["provider"] == "wire-chat"


async def test_a_stream_that_is_cut_before_content_is_another_providers(house: House) -> None:
    user = await house.user()
    house.wires["spare-chat"].script = lambda asked: asked.stream(*CHAT_FRAMES)
    play(house, await key_id(house, user), "wire-chat", "cut")
    answer = await house.ask("chat", "pair-chat", user, stream=True)
    assert (answer.status, answer.whole) == (200, True)
    assert b"[DONE]" in answer.body
    assert (await house.rows(user))[-1]["attempts"] == 2


async def test_one_that_hangs_is_left_and_is_not_held_against_the_provider(house: House) -> None:
    user = await house.user()
    play(house, await key_id(house, user), "wire-chat", "hang")
    caller = await house.begin("chat", "wire-chat", user, stream=True)
    while not any(visit.outcome == "running" for visit in house.visits):  # noqa: ASYNC110 - the simulator tells nobody
        await asyncio.sleep(0.01)
    caller.leave()
    assert (await house.row(user, of=2))["outcome"] == "client_gone"
    assert house.wires["wire-chat"].asked == []


async def test_it_ends_by_itself_and_a_wrong_file_plays_nothing(house: House) -> None:
    user = await house.user()
    house.wires["wire-chat"].script = lambda asked: asked.answer(CHAT_REPLY)
    key = await key_id(house, user)
    play(house, key, "wire-chat", "500")
    assert (await house.ask("chat", "wire-chat", user)).status == 502
    house.clock.now += SECONDS + 1
    follow(house)
    assert (await house.ask("chat", "wire-chat", user)).status == 200
    data, now = house.settings.data, house.clock.now
    for drill in (
        Drill(key, "wire-chat", "no-such", now + 60),
        Drill(key, "wire-chat", "500", now + 7200),
        Drill(key, "wire-chat", "500", now),
    ):
        begin_drill(data, drill)
        assert read_drill(data, now) is None
    (data / "drill.json").write_text("{")
    assert read_drill(data, now) is None
    (data / "drill.json").unlink()
    end_drill(data)


async def test_maintenance_sees_it(house: House) -> None:
    await house.restart(revision_poll=0.05)
    user = await house.user()
    key = await key_id(house, user)
    begin_drill(house.settings.data, Drill(key, "wire-chat", "500", house.clock.now + SECONDS))
    assert house.service is not None
    assert house.service._api is not None
    drills = house.service._api._relay.drills
    while drills.current is None:  # noqa: ASYNC110 - a round that tells nobody
        await asyncio.sleep(0.01)
    assert (await house.ask("chat", "wire-chat", user)).status == 502
