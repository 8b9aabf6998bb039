"""The matrix: every fault of a provider, for callers of each format before upstreams of each, whole and streamed.

A cell is one request. Its provider fails in one way, and the other is well, or fails too, or there is none. What is expected
follows from when the fault comes and of which class it is; what holds in every cell is checked in every cell. ``make test``
takes cells spread over all faults, ``make chaos`` takes all.
"""

import asyncio
import dataclasses
import gzip
import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from penstock.core.failure_classes.classes import HANDLING, FailureClass, is_callers
from penstock.relay.relayed_call import RelayedCall
from tests.samples import sample
from tests.service.conversations import PATHS, REPLIES, Answer, body_of
from tests.service.dead_addresses import DEAF, DISTRUSTED, NAMELESS, REFUSING, dead_addresses
from tests.service.replies import said
from tests.service.running_service import House, User, raw
from tests.service.scripted import PATIENCE, Asked
from tests.service.test_routing import health_of, relay_of
from tests.service.test_startup import CALLERS, ERRORS, MESSAGE, STARTS, STREAMS, response, text_of

SECRET = "mill-stone-4711"
"""In every failing provider's words, which no caller reads; but where the request is what is wrong."""
HALF = "Half of it"
"""What a provider says before it breaks off."""
WHOLE = {**REPLIES, "responses": msgspec.json.encode(response("completed", [MESSAGE]))}
FRAMES = {
    dialect: tuple(frame.replace(b"Hi ", HALF.encode()) for frame in frames)
    for dialect, frames in STREAMS.items()
}
BREAKING = {"chat": 2, "messages": 3, "responses": 5}
"""How many frames of a stream end with its first content."""

Play = Callable[[Asked, str], None]


class Fault(NamedTuple):
    """One way to fail: how it is played, its class, and the code where that is not the class's."""

    name: str
    play: Play
    found: FailureClass
    code: str = ""
    phase: str = "before"
    """``before`` any content, ``content``: after it, in a stream alone; ``silent``: nothing comes until it is late.

    ``none``: it is odd, and no failure."""
    streams: tuple[bool, ...] = (False, True)
    place: str = "wire"
    """Whose fault it is: a provider's that is reached, or one of ``dead_addresses``."""
    hurried: str = ""
    """Which deadline is waited for, and is short then: ``connect`` or ``idle``."""


class Cell(NamedTuple):
    """One request of the matrix."""

    fault: Fault
    caller: str
    upstream: str
    stream: bool
    other: str
    """``well``, ``failing`` or ``none``."""

    def __str__(self) -> str:
        way = "stream" if self.stream else "whole"
        return f"{self.fault.name}, {self.caller} before {self.upstream}, {way}, other {self.other}"


def status(number: int, message: str = SECRET, code: str = "", **headers: str) -> Play:
    error = {"type": "x", "message": message, **({"code": code} if code else {})}
    body = msgspec.json.encode({"type": "error", "error": error})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked, _: asked.answer(body, number, headers=named)


def answering(body: bytes, kind: str = "application/json") -> Play:
    return lambda asked, _: asked.answer(body, kind=kind)


def beginning(many: dict[str, int], then: Callable[[Asked, str], None]) -> Play:
    def play(asked: Asked, upstream: str) -> None:
        asked.begin(*FRAMES[upstream][: many[upstream]])
        then(asked, upstream)

    return play


def shortened(asked: Asked, upstream: str) -> None:
    """More is announced than comes."""
    body = WHOLE[upstream]
    asked.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n" + body)
    asked.cut()


def nothing(_asked: Asked, _upstream: str) -> None:
    """Silence."""


def chatter(asked: Asked, _upstream: str) -> None:
    """Comments that say nothing."""
    asked.frames(b": still here\n\n" * 3)


def dripping(asked: Asked, upstream: str) -> None:
    """A good answer, a few bytes at a time."""
    whole, kind = WHOLE[upstream], "application/json"
    if asked.json.get("stream"):
        whole, kind = b"".join(STREAMS[upstream]), "text/event-stream"
    pieces = iter([whole[at : at + _DRIP] for at in range(0, len(whole), _DRIP)])
    asked.begin(kind=kind)

    def drop() -> None:
        piece = next(pieces, None)
        if piece is None:
            asked.end()
            return
        asked.frames(piece)
        asyncio.get_running_loop().call_soon(drop)

    drop()


_DRIP = 7
_BOMB = gzip.compress(bytes(4 << 20))


def bomb(asked: Asked, _upstream: str) -> None:
    """Four kilobytes that are four megabytes."""
    kind = "text/event-stream" if asked.json.get("stream") else "application/json"
    asked.answer(_BOMB, headers={"content-encoding": "gzip"}, kind=kind)


def spoilt(asked: Asked, upstream: str) -> None:
    """A byte that no UTF-8 text has, within what the answer says."""
    if asked.json.get("stream"):
        asked.stream(*(frame.replace(b" there", b" \xffthere") for frame in STREAMS[upstream]))
    else:
        asked.answer(WHOLE[upstream].replace(b"Hi  there", b"Hi \xff there"))


def headed(asked: Asked, _upstream: str) -> None:
    """A head without end."""
    asked.write(b"HTTP/1.1 200 OK\r\nx-secret: " + SECRET.encode() * 6000 + b"\r\n\r\n")


def unsought(asked: Asked, upstream: str) -> None:
    """A whole answer, though a stream was asked for."""
    asked.answer(WHOLE[upstream])


def event(asked: Asked, upstream: str) -> None:
    asked.stream_on(ERRORS[upstream].replace(b"boom", SECRET.encode()))


def cut(asked: Asked, _upstream: str) -> None:
    asked.cut()


def end(asked: Asked, _upstream: str) -> None:
    asked.end()


ONLY_STREAMS = (True,)
F = FailureClass
FAULTS = (
    Fault("connection refused", nothing, F.UNREACHABLE, place=REFUSING),
    Fault("connection that nobody takes", nothing, F.UNREACHABLE, place=DEAF, hurried="connect"),
    Fault("certificate of a stranger", nothing, F.UNREACHABLE, place=DISTRUSTED),
    Fault("name of no address", nothing, F.UNREACHABLE, place=NAMELESS),
    Fault("401", status(401), F.AUTH),
    Fault("402", status(402), F.QUOTA),
    Fault("403", status(403), F.AUTH),
    Fault("404", status(404), F.MISSING),
    Fault("408", status(408), F.BROKEN),
    Fault("409", status(409), F.BROKEN),
    Fault("429 with retry-after", status(429, retry_after="30"), F.RATE),
    Fault("429", status(429), F.RATE),
    Fault("429 of a quota", status(429, code="insufficient_quota"), F.QUOTA),
    Fault("400 of credit", status(400, "Your credit balance is too low."), F.QUOTA),
    Fault("400", status(400), F.CALLER),
    Fault("413", status(413), F.CALLER, "request_too_large"),
    Fault("422", status(422), F.CALLER),
    Fault("500", status(500), F.BROKEN),
    Fault("502", status(502), F.BROKEN),
    Fault("503 with retry-after", status(503, retry_after="20"), F.OVERLOAD),
    Fault("503", status(503), F.OVERLOAD),
    Fault("529", status(529), F.OVERLOAD),
    Fault("redirect", status(302, location="http://127.0.0.1:9/"), F.BROKEN),
    Fault("web page", answering(b"<html>" + SECRET.encode(), "text/html"), F.BROKEN, "provider_garbled"),
    Fault("garbage", answering(b"\x00\xff" + SECRET.encode()), F.BROKEN, "provider_garbled"),
    Fault("empty body", answering(b""), F.BROKEN, "either"),
    Fault("200 with an error", answering(b'{"error":{"message":"%b"}}' % SECRET.encode()), F.BROKEN),
    Fault("wrong length", shortened, F.BROKEN, "either"),
    Fault("huge head", headed, F.BROKEN, "provider_garbled"),
    Fault("bomb", bomb, F.BROKEN, "provider_garbled"),
    Fault("drip", dripping, F.BROKEN, phase="none"),
    Fault("bad UTF-8", spoilt, F.BROKEN, phase="none"),
    Fault("whole for a stream", unsought, F.BROKEN, phase="none", streams=ONLY_STREAMS),
    Fault("silence before the head", nothing, F.SLOW, phase="silent"),
    Fault("start, error", beginning(STARTS, event), F.BROKEN, streams=ONLY_STREAMS),
    Fault("start, silence", beginning(STARTS, nothing), F.SLOW, phase="silent", streams=ONLY_STREAMS),
    Fault("start, comments", beginning(STARTS, chatter), F.SLOW, phase="silent", streams=ONLY_STREAMS),
    Fault("start, cut", beginning(STARTS, cut), F.BROKEN, "provider_cut", streams=ONLY_STREAMS),
    Fault("start, end", beginning(STARTS, end), F.BROKEN, "provider_cut", streams=ONLY_STREAMS),
    Fault("content, error", beginning(BREAKING, event), F.BROKEN, phase="content", streams=ONLY_STREAMS),
    Fault("content, cut", beginning(BREAKING, cut), F.BROKEN, "provider_cut", "content", ONLY_STREAMS),
    Fault("content, end", beginning(BREAKING, end), F.BROKEN, "provider_cut", "content", ONLY_STREAMS),
    Fault(
        "content, silence", beginning(BREAKING, nothing), F.SLOW, "", "content", ONLY_STREAMS, hurried="idle"
    ),
)
"""All of them, in the order of the classes' table."""
TAKEN = 60
"""Cells of them in ``make test``."""
LEAVING = ((), STARTS, BREAKING)
"""A caller leaves before the head, after the start-up events, and after some content."""


def cells_of(fault: Fault) -> Iterator[Cell]:
    """All cells of a fault."""
    others = itertools.cycle(("well", "none", "failing"))
    for turn in range(3):  # so that cells that are next to each other differ in all of it
        for caller, upstream in itertools.product(CALLERS, CALLERS):
            for stream in fault.streams:
                yield Cell(fault, caller, upstream, stream, next(others))
        if turn < 2:
            next(others)


def taken(number: int) -> list[Cell]:
    """The cells of one fault that are tried: one or two, and of each fault others; or all."""
    many = (number + 1) * TAKEN // len(FAULTS) - number * TAKEN // len(FAULTS)
    return sample(list(cells_of(FAULTS[number])), many, 5 * number)


@contextmanager
def hurried(house: House, deadline: str) -> Generator[None]:
    """A new connection, or a pause within an answer, may take half a second."""
    relay = relay_of(house)
    usual = relay.timings
    if deadline:
        short = {deadline: _SHORT}
        relay.timings = replace(usual, deadlines=dataclasses.replace(usual.deadlines, **short))
        if deadline == "idle":  # of models that think it is as long as their first silence
            relay.timings = replace(relay.timings, clocks=replace(usual.clocks, thinking=_SHORT))
        relay._deadlines.clear()
        relay._alone = None
    try:
        yield
    finally:
        if deadline:
            relay.timings = usual
            relay._deadlines.clear()
            relay._alone = None


_SHORT = 0.5


async def the_call(house: House, *, begun: bool) -> RelayedCall:
    """The only call that runs; where its stream is to have ``begun``, once it has."""
    (call,) = relay_of(house).calls.values()
    async with asyncio.timeout(PATIENCE):
        while begun and (call._stream is None or call._stream.lane is None):  # noqa: ASYNC110 - a state of the relay
            await asyncio.sleep(0)
    return call


def forget(house: House) -> None:
    """Whatever is known against anybody."""
    health = health_of(house)
    health.reset(lambda _: True, 0.0)
    for known in health._models.values():
        known.budget.tokens = health.rules.tokens


async def played(house: House, cell: Cell, user: User, number: int) -> Answer:
    """The cell's request."""
    wire, spare = house.wires[f"wire-{cell.upstream}"], house.wires[f"spare-{cell.upstream}"]
    arrived = asyncio.Event()

    def fail(asked: Asked) -> None:
        cell.fault.play(asked, cell.upstream)
        arrived.set()

    wire.script = fail

    def well(asked: Asked) -> None:
        if cell.stream:
            asked.stream(*STREAMS[cell.upstream])
        else:
            asked.answer(WHOLE[cell.upstream])

    spare.script = well if cell.other == "well" else lambda asked: status(500)(asked, cell.upstream)
    place = "" if cell.fault.place == "wire" else f"{cell.fault.place}-"
    model = f"{'' if place else 'wire-'}{place}{cell.upstream}"
    if cell.other != "none":
        model = f"pair-{place}{cell.upstream}"
    turn = {"role": "user", "content": f"Hello {number}"}
    turns = "input" if cell.caller == "responses" else "messages"
    body = body_of(cell.caller, model, stream=cell.stream, **{turns: [turn]})
    caller = await house.send(raw("POST", PATHS[cell.caller], user.key, body, {}))
    if cell.fault.phase == "silent":
        await arrived.wait()
        call = await the_call(house, begun=cell.fault.streams == ONLY_STREAMS)
        call._late()  # the clocks are tried elsewhere: here it is late by our word
    return await caller.answer()


def check(cell: Cell, answer: Answer, row: dict[str, object], asked: int) -> None:
    """What is expected of a cell, and what holds in every one."""
    fault = cell.fault
    others, reached = cell.other != "none", fault.place == "wire"
    if fault.phase == "none":
        assert (answer.status, asked, row["attempts"]) == (200, 1, 1)
        assert (row["outcome"], row["counted"]) == ("completed", True)
        if fault.play is not spoilt:
            assert_said(cell, answer)
        elif cell.caller != cell.upstream:
            assert answer.body.decode(), "what we write ourselves is UTF-8"
    elif fault.phase == "content":
        assert answer.status == 200
        assert row["outcome"] == "upstream_error"
        assert row["counted"], "there was output"
        assert HALF.encode() in answer.body
        for good in (b"[DONE]", b"event: message_stop", b"event: response.completed"):
            assert good not in answer.body, "an end that is none"
        assert asked == 1, "and nobody else is asked"
    elif is_callers(fault.found):
        error = HANDLING[fault.found].error
        assert error is not None
        assert (answer.status, asked) == (413 if fault.code else error.status, 1)
        assert (row["outcome"], row["counted"]) == ("refused", False)
        assert SECRET in answer.error
    elif cell.other == "well":
        assert (answer.status, asked, row["attempts"]) == (200, 1 + reached, 2)
        assert answer.headers["x-penstock-route"] == f"after_{fault.found}"
        assert_said(cell, answer)
        assert (row["outcome"], row["counted"], row["provider"]) == (
            "completed",
            True,
            f"spare-{cell.upstream}",
        )
    else:
        code = "provider_error" if others else fault.code or HANDLING[fault.found].code
        assert answer.status == 502
        assert answer.code == code or (
            code == "either" and answer.code in ("provider_cut", "provider_garbled")
        )
        assert (asked, row["attempts"]) == (reached + others, 1 + others)
        assert (row["outcome"], row["counted"]) == ("upstream_error", False)
    if fault.phase != "content":
        assert HALF.encode() not in answer.body, "of a failed attempt"
    if not is_callers(fault.found):
        assert SECRET.encode() not in answer.body
    assert b"vendor-key" not in answer.body
    assert row["attempts"] == asked + (not reached)


def assert_said(cell: Cell, answer: Answer) -> None:
    """The answer says what a good one does, and is of the caller's format."""
    if cell.stream:
        assert text_of(cell.caller, answer) == "Hi  there"
    elif cell.caller != "responses":
        assert said(cell.caller, answer).text == "Hi  there"
    else:
        assert b"Hi  there" in answer.body


async def test_every_fault_is_made_good_or_told_as_it_is(house: House) -> None:
    wrong: list[str] = []
    async with dead_addresses(house):
        for at in range(len(FAULTS)):
            user, number = await house.user(), 0
            for cell in taken(at):
                number += 1
                try:
                    await tried(house, cell, user, number)
                except AssertionError as error:
                    wrong.append(f"{cell}: {error}")
                    user, number = await house.user(), 0
    assert not wrong, f"{len(wrong)} cells:\n" + "\n".join(wrong[:_SHOWN])


_SHOWN = 100


async def tried(house: House, cell: Cell, user: User, number: int) -> None:
    """Play a cell, the ``number``th of its user, and check it."""
    forget(house)
    before, used = house.asked, await house.used(user)
    with hurried(house, cell.fault.hurried):
        answer = await played(house, cell, user, number)
    assert answer.whole or cell.fault.phase == "content"
    rows = await house.rows(user)
    assert len(rows) == number, "one row"
    check(cell, answer, rows[-1], house.asked - before)
    assert await house.used(user) - used == int(rows[-1]["counted"]), "one count, or none"
    relay, health = relay_of(house), health_of(house)
    assert not relay.calls
    assert {known.in_flight for known in health.all()} <= {0}
    tokens = min(tokens for _, tokens in health.budgets())
    spent = cell.other == "failing" and rows[-1]["attempts"] == 2
    assert (tokens < health.rules.tokens) is spent, "what has helped is given back"


async def test_a_caller_who_leaves_is_asked_for_no_more(house: House) -> None:
    user = await house.user()
    pairs = list(itertools.product(CALLERS, CALLERS, (True, False)))
    moments = [(pair, moment) for pair in pairs for moment in (LEAVING if pair[2] else LEAVING[:1])]
    for number, ((dialect, upstream, stream), moment) in enumerate(sample(moments, 12)):
        forget(house)
        wire, spare = house.wires[f"wire-{upstream}"], house.wires[f"spare-{upstream}"]
        before = len(spare.asked)
        caller = await house.begin(dialect, f"pair-{upstream}", user, stream=stream)
        asked = await wire.next()  # nobody answers it
        if isinstance(moment, dict):
            asked.begin(*FRAMES[upstream][: moment[upstream]])
            await the_call(house, begun=True)
            if moment is BREAKING:
                await caller.head()
        caller.leave()
        await asked.left()
        rows = await house.rows(user)
        assert len(rows) == number + 1
        assert (rows[-1]["outcome"], rows[-1]["attempts"]) == ("client_gone", 1)
        assert len(spare.asked) == before
        assert {known.in_flight for known in health_of(house).all()} <= {0}
    assert (await house.ask("chat", "chat-plain", user)).status == 200, "the slots are free"
