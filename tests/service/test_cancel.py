"""A caller that goes away, at any moment: the provider is let go, the slot is free, and the books say who left."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.service.conversations import DIALECTS, FRAMES, PATHS, REPLIES, Caller, body_of, request
from tests.service.replies import said
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE, Asked

both = pytest.mark.parametrize("dialect", DIALECTS)
upstreams = pytest.mark.parametrize("upstream", DIALECTS)
streamed = pytest.mark.parametrize("stream", [False, True])
leaving = pytest.mark.parametrize("leave", ["close", "reset", "half-close"])


def _leave(caller: Caller, how: str) -> None:
    match how:
        case "close":
            caller.writer.close()
        case "reset":
            caller.reset()
        case _:
            caller.writer.write_eof()


async def _freed(house: House, dialect: str, user: User) -> None:
    """The user, who has one slot, can go on."""
    house.wires[f"spare-{dialect}"].script = lambda asked: asked.answer(REPLIES[dialect])
    answer = await house.ask(dialect, f"{dialect}-plain", user)
    assert answer.status == 200


async def _gone(house: House, user: User, *, counted: bool = True, **expected: Any) -> None:
    """The first row of the user says that the caller left."""
    row, *_ = await house.rows(user)
    assert (row["outcome"], row["status"], row["counted"]) == ("client_gone", None, counted)
    for name, value in expected.items():
        assert row[name] == value


@both
async def test_before_the_body_is_complete_nothing_has_happened(house: House, dialect: str) -> None:
    user = await house.user("one")
    body = body_of(dialect, f"wire-{dialect}")
    whole = request("POST", PATHS[dialect], {"x-api-key": user.key}, body)
    for cut in (1, 40, len(whole) - len(body), len(whole) - 1):
        for how in ("close", "reset", "half-close"):
            caller = await house.send(whole[:cut])
            _leave(caller, how)
    await _freed(house, dialect, user)
    assert len(await house.rows(user)) == 1
    assert await house.used(user) == 1
    assert house.wires[f"wire-{dialect}"].asked == []


@both
@upstreams
@streamed
@leaving
async def test_before_the_first_byte_of_an_answer(
    house: House, dialect: str, upstream: str, stream: bool, leave: str
) -> None:
    user = await house.user("one")
    caller = await house.begin(dialect, f"pair-{upstream}", user, stream=stream)
    asked = await house.wires[f"wire-{upstream}"].next()
    _leave(caller, leave)
    await asked.left()
    await _freed(house, dialect, user)
    await _gone(house, user, attempts=1)
    assert await house.used(user) == 2
    assert house.wires[f"spare-{upstream}"].asked == [], "nobody waits for another try"


@both
@upstreams
@leaving
async def test_in_the_middle_of_a_stream(house: House, dialect: str, upstream: str, leave: str) -> None:
    user = await house.user("one")
    caller = await house.begin(dialect, f"wire-{upstream}", user, stream=True)
    asked = await house.wires[f"wire-{upstream}"].next()
    asked.begin(*FRAMES[upstream][:3])
    await caller.head()
    await caller.until(b"Hi ")
    _leave(caller, leave)
    await asked.left()
    await _freed(house, dialect, user)
    await _gone(house, user, estimated=True)
    row, *_ = await house.rows(user)
    assert row["input_tokens"] > 0
    assert row["first_byte_ms"] is not None


@both
@leaving
async def test_in_the_middle_of_an_answer_that_is_no_stream(house: House, dialect: str, leave: str) -> None:
    user = await house.user("one")
    caller = await house.begin(dialect, f"wire-{dialect}", user)
    asked = await house.wires[f"wire-{dialect}"].next()
    asked.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
    _leave(caller, leave)
    await asked.left()
    await _freed(house, dialect, user)
    await _gone(house, user)


@both
async def test_after_the_head_was_sent_and_before_the_provider_said_anything(
    tmp_path: Path, dialect: str
) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        user = await house.user("one")
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        await caller.head()
        caller.leave()
        await asked.left()
        await _freed(house, dialect, user)
        await _gone(house, user)


@both
async def test_while_the_next_provider_is_tried(house: House, dialect: str) -> None:
    user = await house.user("one")
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.answer(b"{}", 500)
    caller = await house.begin(dialect, f"pair-{dialect}", user)
    asked = await house.wires[f"spare-{dialect}"].next()
    caller.leave()
    await asked.left()
    await _freed(house, dialect, user)
    await _gone(house, user, attempts=2, provider=f"spare-{dialect}")


async def test_while_an_error_of_the_provider_is_read(house: House) -> None:
    user = await house.user("one")
    caller = await house.begin("messages", "wire-messages", user)
    asked = await house.wires["wire-messages"].next()
    asked.write(b"HTTP/1.1 400 Bad\r\ncontent-length: 1000\r\n\r\n{")
    caller.leave()
    await asked.left()
    await _freed(house, "messages", user)
    await _gone(house, user)


async def test_while_it_waits_for_its_turn(house: House) -> None:
    user = await house.user("patient")
    first = await house.begin("chat", "wire-chat", user)
    asked = await house.wires["wire-chat"].next()
    waiting = [await house.begin("chat", "chat-plain", user) for _ in range(3)]
    last = await house.begin("chat", "chat-echo", user)
    assert house.visits == []
    for caller in waiting:
        caller.leave()
    assert house.service is not None
    assert house.service._api is not None
    async with asyncio.timeout(PATIENCE):
        while len(house.service._api._relay.calls) > 2:  # noqa: ASYNC110 - until it has seen them leave
            await asyncio.sleep(0)
    asked.answer(REPLIES["chat"])
    assert (await first.answer()).status == 200
    assert (await last.answer()).status == 200
    rows = await house.rows(user)
    assert [row["model"] for row in rows] == ["wire-chat", "chat-echo"]
    assert await house.used(user) == 2


async def test_while_tokens_are_counted(house: House) -> None:
    user = await house.user("one")
    body = body_of("messages", "wire-messages")
    path = "/v1/messages/count_tokens"
    caller = await house.send(request("POST", path, {"x-api-key": user.key}, body))
    asked = await house.wires["wire-messages"].next()
    caller.leave()
    await asked.left()
    assert await house.rows(user) == []


@both
async def test_a_caller_that_left_after_its_answer_has_had_it(house: House, dialect: str) -> None:
    user = await house.user("one")
    for stream in (False, True):
        caller = await house.begin(dialect, f"{dialect}-plain", user, stream=stream)
        assert (await caller.answer()).status == 200
        caller.reset()
        await _freed(house, dialect, user)
    assert {row["outcome"] for row in await house.rows(user)} == {"completed"}


async def test_a_storm_of_leavers_leaves_no_connection_and_no_slot_behind(house: House) -> None:
    user = await house.user("ten")
    wire = house.wires["wire-messages"]
    for _ in range(6):
        callers = [
            await house.begin("messages", "wire-messages", user, stream=bool(n % 2)) for n in range(10)
        ]
        asked = [await wire.next() for _ in callers]
        for n, one in enumerate(asked):
            if n % 3 == 0 and b'"stream":true' in one.body:
                one.begin(*FRAMES["messages"][:3])
        for caller in callers:
            caller.leave()
        await asyncio.gather(*(one.left() for one in asked))
        assert wire.lines == set()
    answers = await asyncio.gather(*(house.ask("messages", "messages-plain", user) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}
    rows = await house.rows(user)
    assert [row["outcome"] for row in rows].count("client_gone") == 60
    assert await house.used(user) == 70


# ---- a caller that does not read

_DELTA = FRAMES["chat"][1].replace(b"Hi ", b"x" * 65_000)


async def _idle_reader(house: House, user: User, frames: int) -> tuple[Caller, Asked]:
    """A caller with a small buffer who has asked for a stream and reads nothing of it."""
    assert house.listener is not None
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", house.listener.port))
    reader, writer = await asyncio.open_connection(sock=plug, limit=1 << 16)
    caller = Caller(reader, writer, lambda _answer: None)
    house.callers.append(caller)
    body = body_of("chat", "wire-chat", stream=True)
    await caller.send(request("POST", PATHS["chat"], {"x-api-key": user.key}, body))
    asked = await house.wires["wire-chat"].next()
    asked.begin(FRAMES["chat"][0], *[_DELTA] * frames)
    return caller, asked


def _held_for(house: House) -> int:
    """Bytes that the service holds for its callers."""
    assert house.listener is not None
    wire: Any = house.listener._wire
    return sum(connection.transport.get_write_buffer_size() for connection in wire.connections)


async def _watched(house: House, asked: Asked) -> tuple[int, int]:
    """How many bytes were held here at most until the provider was left, and how many the provider kept in the end."""
    most, unsent = 0, 0
    while not asked.gone.is_set():
        most, unsent = max(most, _held_for(house)), asked.unsent or unsent
        await asyncio.sleep(0)
    return most, unsent


async def test_a_reader_that_stops_stops_the_provider_and_is_left_in_the_end(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", caller_stall=0.3, body_rate=1) as house:
        user, other = await house.user("one"), await house.user("one")
        caller, asked = await _idle_reader(house, user, 512)  # 32 MB
        watching = asyncio.create_task(_watched(house, asked))
        assert (await house.ask("chat", "chat-plain", other)).status == 200, "nobody else waits"
        most, unsent = await watching
        assert 0 < most < 512 * 1024
        assert unsent > 8 << 20, "the rest had to stay with the provider"
        await _freed(house, "chat", user)
        await _gone(house, user, estimated=True)
        caller.leave()


async def test_a_slow_reader_gets_everything_and_the_providers_deadline_does_not_run_meanwhile(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path / "data", upstream_idle=0.3) as house:
        user = await house.user("one")
        caller, asked = await _idle_reader(house, user, 160)  # 10 MB
        # Longer than the provider's deadline: what is tested is that nothing happens.
        await asyncio.sleep(1.0)
        assert not asked.gone.is_set()
        asked.frames(*FRAMES["chat"][3:])
        asked.end()
        answer = await caller.rest(await caller.head())
        assert len(said("chat", answer).text) == 160 * 65_000
        assert (await house.row(user))["outcome"] == "completed"
