"""Providers that answer as nobody should: the caller is told honestly, nothing is kept, the next request is served.

Each way of answering is written once, as bytes on the provider's socket, and tried for callers of each format in front of
upstreams of each, whole and streamed; ``make chaos`` tries all of them in each lane. What is expected is one word for
either: ``ok``, a code that comes as 502, or ``late`` and a code, which comes as an error event behind output.
"""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncGenerator, Callable
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core.routing.pace import Clocks
from penstock.relay.relay import Relay
from penstock.upstream import Deadlines
from tests.core.dialects.test_answered import frames
from tests.service.conversations import PATHS, Answer
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE, Asked
from tests.service.test_garbled_answers import FORMATS
from tests.service.test_garbled_answers import asked as request_of

SECRET = b"internal-host-17 sk-vendor-words"
"""In what a provider should not say, and no caller should read."""
MAX_REPLY = 1_000_000
CHUNKED = b"transfer-encoding: chunked\r\n"
SERVED = ("ok", "ok")
CUT = ("provider_cut", "provider_cut")
CUT_LATER = ("provider_cut", "late provider_cut")
GARBLED = ("provider_garbled", "provider_garbled")
GARBLED_LATER = ("provider_garbled", "late provider_garbled")
FAILED = ("provider_error", "provider_error")
EITHER = ("either", "either")
"""Served or told as garbled: it is a matter of the lane whether what is wrong has to be read."""
TRIED = int(os.environ.get("PENSTOCK_TEST_WAYS", "8"))
"""How many ways each lane is tried with, another part of them in each."""

Way = Callable[[Asked, str, bool], None]


class Case(msgspec.Struct, frozen=True):
    """A way of answering, and what comes of it for whole answers and for streams."""

    way: Way
    whole: str
    streamed: str


# ---- the pieces of an answer


def whole_of(dialect: str, text: str = "Hi there", **more: Any) -> bytes:
    """A good answer of this dialect."""
    said: dict[str, Any] = {"id": "x", "model": f"up-{dialect}"}
    match dialect:
        case "chat":
            message = {"role": "assistant", "content": text}
            said |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        case "messages":
            said |= {"type": "message", "role": "assistant", "stop_reason": "end_turn"}
            said |= {"content": [{"type": "text", "text": text}]}
        case _:
            content = [{"type": "output_text", "text": text, "annotations": []}]
            said |= {"object": "response", "status": "completed"}
            said |= {"output": [{"type": "message", "role": "assistant", "content": content}]}
    return json.dumps(said | more).encode()


def body_of(dialect: str, stream: bool) -> bytes:
    return b"".join(frames(dialect, f"up-{dialect}")) if stream else whole_of(dialect)


def start_of(dialect: str, stream: bool) -> bytes:
    """As much of a good body as has some text in it, and no end."""
    if not stream:
        return whole_of(dialect)[:-1]
    return b"".join(frames(dialect, f"up-{dialect}")[: 3 if dialect == "messages" else 2])


def head(*lines: bytes, status: bytes = b"200 OK", kind: bytes = b"") -> bytes:
    typed = b"content-type: %b\r\n" % kind if kind else b""
    return b"HTTP/1.1 %b\r\n%b%b\r\n" % (status, typed, b"".join(lines))


def length(size: int) -> bytes:
    return b"content-length: %d\r\n" % size


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(data: bytes, *lines: bytes, more: int = 0, **named: Any) -> bytes:
    return head(length(len(data) + more), *lines, **named) + data


# ---- ways of answering


def says(make: Callable[[str, bool], bytes]) -> Way:
    """Write this, and keep the connection open."""
    return lambda asked, dialect, stream: asked.write(make(dialect, stream))


def hangs_up(make: Callable[[str, bool], bytes]) -> Way:
    """Write this, and close."""

    def way(asked: Asked, dialect: str, stream: bool) -> None:
        asked.write(make(dialect, stream))
        asked.cut()

    return way


def packed(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _squeezed(data: bytes) -> bytes:
    return sized(data, b"content-encoding: gzip\r\n")


def _with(make: Callable[[bytes], bytes]) -> Callable[[str, bool], bytes]:
    """A good answer with its body changed."""
    return lambda dialect, stream: sized(make(body_of(dialect, stream)))


def _usage(**numbers: object) -> Callable[[str, bool], bytes]:
    """An answer with these numbers for every count."""

    def make(dialect: str, stream: bool) -> bytes:
        names = ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens")
        usage = json.dumps(dict.fromkeys(names, "N")).replace('"N"', str(numbers["each"])).encode()
        if not stream:
            return sized(whole_of(dialect, usage="U").replace(b'"U"', usage))
        made = frames(dialect, f"up-{dialect}")
        place = {"chat": -2, "messages": -2, "responses": -1}[dialect]
        event = json.loads(made[place].removeprefix(b"data: "))
        holder = event["response"] if dialect == "responses" else event
        holder["usage"] = "U"
        made[place] = b"data: %b\n\n" % json.dumps(event).replace('"U"', usage.decode()).encode()
        return sized(b"".join(made))

    return make


ERROR = b'{"type":"error","error":{"type":"api_error","message":"%b"}}' % SECRET


@cache
def bomb() -> bytes:
    return packed(bytes(64 << 20))


ODD = b"\xff\xfe\xed\xa0\x80\xc0\xaf"
"""No UTF-8."""

WAYS: dict[str, Case] = {
    # the head
    "not a byte": Case(lambda asked, _dialect, _stream: asked.cut(), *CUT),
    "a reset": Case(lambda asked, _dialect, _stream: asked.reset(), *CUT),
    "cut in the status line": Case(hangs_up(lambda _d, _s: b"HTTP/1.1 20"), *CUT),
    "cut in a header": Case(hangs_up(lambda _d, _s: b"HTTP/1.1 200 OK\r\ncontent-ty"), *CUT),
    "cut in the end of the head": Case(hangs_up(lambda _d, _s: b"HTTP/1.1 200 OK\r\n\r"), *CUT),
    "no HTTP": Case(says(lambda _d, _s: b"SSH-2.0-" + SECRET + b"\r\n\r\n"), *GARBLED),
    "an endless header": Case(says(lambda _d, _s: b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000), *GARBLED),
    "headers without end": Case(says(lambda _d, _s: b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000), *GARBLED),
    "an endless reason": Case(says(lambda _d, _s: b"HTTP/1.1 200 " + b"a" * 300_000), *GARBLED),
    "a flood of 100": Case(says(lambda _d, _s: b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000), *GARBLED),
    "some of 103, then the answer": Case(
        says(lambda d, s: b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 5 + sized(body_of(d, s))), *SERVED
    ),
    "another protocol": Case(
        says(
            lambda _d, _s: head(
                b"connection: upgrade\r\nupgrade: websocket\r\n", status=b"101 Switching Protocols"
            )
        ),
        *GARBLED,
    ),
    "two lengths": Case(says(lambda d, s: head(length(5), length(6)) + body_of(d, s)), *GARBLED),
    "a length and chunks": Case(says(lambda d, s: head(length(5), CHUNKED) + chunk(body_of(d, s))), *GARBLED),
    # the body's length
    "a head and no body": Case(hangs_up(lambda _d, _s: head(length(500))), *CUT),
    "cut in the body": Case(hangs_up(lambda d, s: head(length(5000)) + start_of(d, s)), *CUT_LATER),
    "cut between two chunks": Case(hangs_up(lambda d, s: head(CHUNKED) + chunk(start_of(d, s))), *CUT_LATER),
    "cut in a chunk": Case(
        hangs_up(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + b"ff\r\ndata: {"), *CUT_LATER
    ),
    "cut in a frame": Case(
        hangs_up(lambda d, s: head(CHUNKED) + chunk(start_of(d, s) + b'data: {"')), *CUT_LATER
    ),
    "a length that is too long": Case(
        hangs_up(lambda d, s: sized(body_of(d, s), more=9)), "provider_cut", "ok"
    ),
    "a length that is too short": Case(
        says(lambda d, s: head(length(len(start_of(d, s)))) + body_of(d, s)),
        "provider_garbled",
        "late provider_cut",
    ),
    "chunks without their end": Case(
        hangs_up(lambda d, s: head(CHUNKED) + chunk(body_of(d, s))), "provider_cut", "ok"
    ),
    "until the close": Case(hangs_up(lambda d, s: head() + body_of(d, s)), *SERVED),
    "a chunk longer than it says": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + b"2\r\ntoo long\r\n"), *GARBLED_LATER
    ),
    "a chunk shorter than it says": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + b"9\r\nshort\r\n0\r\n\r\n"), *GARBLED_LATER
    ),
    "a chunk of no size": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + b"zz\r\n"), *GARBLED_LATER
    ),
    "a chunk of any size": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + b"f" * 20 + b"\r\n"), *GARBLED_LATER
    ),
    "an endless extension": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + b"2;" + b"a" * 400_000), *GARBLED_LATER
    ),
    "an endless trailer": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + b"0\r\n" + b"x: y\r\n" * 70_000),
        *GARBLED_LATER,
    ),
    "two answers": Case(says(lambda d, s: sized(body_of(d, s)) + sized(b"POISON")), *SERVED),
    "an answer and rubbish": Case(says(lambda d, s: sized(body_of(d, s)) + b"POISON" * 1000), *SERVED),
    # compression
    "a bomb": Case(says(lambda _d, _s: _squeezed(bomb())), *GARBLED),
    "half of it packed": Case(says(lambda d, s: _squeezed(packed(body_of(d, s))[:30])), *GARBLED),
    "packed by another name": Case(
        says(lambda d, s: sized(body_of(d, s), b"content-encoding: br\r\n")), *GARBLED
    ),
    "packed, and not said": Case(says(_with(packed)), *GARBLED),
    "packed well": Case(says(lambda d, s: _squeezed(packed(body_of(d, s)))), *SERVED),
    # sizes
    "a whole answer without end": Case(
        says(lambda _d, _s: head(CHUNKED) + chunk(b"{" + b" " * 70_000) * 40), "provider_garbled", "endless"
    ),
    "a line without end": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + chunk(b"data: " + b"a" * (5 << 20))),
        *GARBLED_LATER,
    ),
    "a frame without end": Case(
        says(lambda d, s: head(CHUNKED) + chunk(start_of(d, s)) + chunk(b"data: aaaaaaaaaa\n" * (5 << 16))),
        *GARBLED_LATER,
    ),
    # statuses
    "204": Case(says(lambda _d, _s: head(status=b"204 No Content")), "provider_garbled", "provider_cut"),
    "200 and nothing": Case(says(lambda _d, _s: sized(b"")), "provider_garbled", "provider_cut"),
    "304": Case(says(lambda _d, _s: head(length(7), status=b"304 Not Modified")), *FAILED),
    "302": Case(
        says(lambda _d, _s: sized(SECRET, b"location: http://127.0.0.1:1/\r\n", status=b"302 Found")), *FAILED
    ),
    "500 that breaks off": Case(hangs_up(lambda _d, _s: sized(SECRET, more=9, status=b"500 X")), *FAILED),
    "400 that breaks off": Case(
        hangs_up(lambda _d, _s: sized(SECRET, more=9, status=b"400 X")), "provider_cut", "provider_cut"
    ),
    "a status of none": Case(says(lambda _d, _s: sized(SECRET, status=b"999 X")), *FAILED),
    # types and texts
    "a page": Case(says(lambda _d, _s: sized(b"<html>" + SECRET, kind=b"text/html")), *GARBLED),
    "the wrong type": Case(says(lambda d, s: sized(body_of(d, s), kind=b"image/png")), *SERVED),
    "the other type": Case(
        says(lambda d, s: sized(body_of(d, s), kind=b"application/json" if s else b"text/event-stream")),
        *SERVED,
    ),
    "a whole answer for a stream, a stream for a whole answer": Case(
        says(lambda d, s: sized(body_of(d, not s), kind=b"application/json" if s else b"text/event-stream")),
        "either",
        "ok",
    ),
    "an error in a good answer": Case(
        says(lambda _d, s: sized(b"event: error\ndata: %b\n\n" % ERROR if s else ERROR)), *FAILED
    ),
    "an error behind some text": Case(
        says(lambda d, s: sized((start_of(d, True) + b"event: error\ndata: %b\n\n" % ERROR) if s else ERROR)),
        "provider_error",
        "late provider_error",
    ),
    "NUL in the text": Case(says(_with(lambda body: body.replace(b"Hi", b"\\u0000Hi"))), *SERVED),
    "NUL as it is": Case(
        says(lambda d, s: sized(start_of(d, True) + b'data: {"a":"\0"}\n\n' if s else b"\0" + whole_of(d))),
        *GARBLED_LATER,
    ),
    "no UTF-8": Case(says(_with(lambda body: body.replace(b"Hi", b"Hi" + ODD))), *EITHER),
    "a lone surrogate": Case(says(_with(lambda body: body.replace(b"Hi", b"Hi\\ud800"))), *EITHER),
    "nested without end": Case(says(_with(lambda _body: b"data: " + b"[" * 100_000 + b"\n\n")), *GARBLED),
    # numbers
    "counts of 10^30": Case(says(_usage(each=10**30)), *SERVED),
    "counts of 5,000 digits": Case(says(_usage(each="9" * 5000)), *EITHER),
    "counts below none": Case(says(_usage(each=-5)), *SERVED),
    "counts of 1e300": Case(says(_usage(each=1e300)), *SERVED),
    "counts of text": Case(says(_usage(each='"x"')), *SERVED),
    "counts of no JSON": Case(says(_usage(each="NaN")), *GARBLED_LATER),
    # after the end
    "more after the end": Case(
        says(lambda d, s: sized(body_of(d, s) + (b'data: {"POISON":1}\n\n' * 3 if s else b"  \n"))), *SERVED
    ),
    "an error after the end": Case(
        says(lambda d, s: sized(body_of(d, s) + (b"event: error\ndata: %b\n\n" % ERROR if s else b""))),
        *SERVED,
    ),
}


# ---- what is expected of all of them


def relay_of(house: House) -> Relay:
    assert house.service is not None
    assert house.service._api is not None
    return house.service._api._relay


async def ask(house: House, caller: str, model: str, user: User, *, stream: bool) -> Answer:
    path = PATHS.get(caller, "/api/v1/responses")
    return await house.http("POST", path, user.key, body=request_of(caller, model, stream=stream))


async def check(
    house: House, caller: str, upstream: str, user: User, answer: Answer, expected: str, told: object
) -> None:
    """The answer, the row, what is left behind; then an honest request at the same provider."""
    late, code = expected.startswith("late "), expected.removeprefix("late ")
    assert SECRET not in answer.body, told
    assert b"POISON" not in answer.body, told
    row = await house.row(user)
    if code == "either":  # as far as it has to be read in this lane
        bad = row["outcome"] != "completed"
        late = bad and answer.status == 200
        code = "provider_garbled" if bad else "ok"
    counted = code == "ok" or (late and row["counted"])
    if code == "ok":
        assert (answer.status, answer.whole) == (200, True), (told, answer)
        assert b"Hi" in answer.body, told
        assert b'"error":{' not in answer.body, (told, answer)
        assert (row["outcome"], row["status"], row["error_code"]) == ("completed", 200, None), told
    elif late:
        assert (answer.status, answer.whole) == (200, True), (told, answer)
        assert b"error" in answer.frames[-1].data or b"error" in answer.frames[-2].data, told
        assert (row["outcome"], row["status"], row["error_code"]) == ("upstream_error", 200, code), told
    else:
        assert (answer.status, answer.code) == (502, code), (told, answer)
        assert (row["outcome"], row["status"], row["error_code"]) == ("upstream_error", 502, code), told
    if expected != "either":
        assert counted == (code == "ok" or late), told
    assert (row["counted"], row["refund_reason"]) == (counted, None if counted else "no_output"), told
    assert await house.used(user) == counted, told
    await nothing_left(house, user, told)
    wire = house.wires[f"wire-{upstream}"]
    wire.hasty = None
    wire.script = lambda asked: asked.answer(whole_of(upstream, "well again"))
    honest = await ask(house, caller, f"wire-{upstream}", user, stream=False)
    assert honest.status == 200, (told, honest)
    assert b"well again" in honest.body, told
    await nothing_left(house, user, told)


async def nothing_left(house: House, user: User, told: object) -> None:
    """No call, no slot, no memory, and no connection that somebody still uses."""
    relay = relay_of(house)
    assert (relay.calls, house.held(user), house.taken, house.answers_taken) == ({}, 0, 0, 0), told
    async with asyncio.timeout(PATIENCE):
        while any(stats.open != stats.idle for stats in relay.client.stats().values()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    async with open_house(tmp_path / "data", max_reply=MAX_REPLY) as opened:
        yield opened


lanes = pytest.mark.parametrize(
    ("caller", "upstream"), [(caller, upstream) for caller in FORMATS for upstream in FORMATS]
)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@lanes
@streamed
async def test_every_way_of_answering(house: House, caller: str, upstream: str, stream: bool) -> None:
    wire = house.wires[f"wire-{upstream}"]
    lane = FORMATS.index(caller) * 6 + FORMATS.index(upstream) * 2 + stream
    for name, case in islice(cycle(WAYS.items()), lane * 7, lane * 7 + min(TRIED, len(WAYS))):
        expected = case.streamed if stream else case.whole
        if expected == "endless":
            continue
        user = await house.user()
        wire.script = lambda asked, case=case: case.way(asked, upstream, stream)
        answer = await ask(house, caller, f"wire-{upstream}", user, stream=stream)
        await check(house, caller, upstream, user, answer, expected, name)


@lanes
@streamed
@pytest.mark.parametrize("sent", ["nothing", "half a head", "a head", "a beginning"])
async def test_a_provider_that_hangs(
    house: House, caller: str, upstream: str, stream: bool, sent: str
) -> None:
    user, relay = await house.user(), relay_of(house)
    usual = relay.timings
    relay.timings = replace(
        usual,
        deadlines=Deadlines(first_byte=0.05, idle=0.05, total=30.0 if stream else 0.05),
        clocks=Clocks(content=0.05, thinking=0.05, slope=0.0),
    )
    pieces = {
        "nothing": b"",
        "half a head": b"HTTP/1.1 200 OK\r\nconte",
        "a head": head(CHUNKED),
        "a beginning": head(CHUNKED) + chunk(start_of(upstream, stream)),
    }
    wire = house.wires[f"wire-{upstream}"]
    wire.script = lambda asked: asked.write(pieces[sent])
    answer = await ask(house, caller, f"wire-{upstream}", user, stream=stream)
    relay.timings = usual
    await wire.asked[-1].left()
    late = "late " if stream and sent == "a beginning" else ""
    await check(house, caller, upstream, user, answer, late + "provider_timeout", sent)


HASTY: dict[str, Case] = {
    "an answer": Case(says(lambda d, s: sized(body_of(d, s))), *SERVED),
    "an answer and a close": Case(says(lambda d, s: sized(body_of(d, s), b"connection: close\r\n")), *SERVED),
    "500": Case(says(lambda _d, _s: sized(SECRET, status=b"500 X")), *FAILED),
    "503 and a close": Case(
        hangs_up(lambda _d, _s: sized(SECRET, status=b"503 X")), "provider_overloaded", "provider_overloaded"
    ),
    "rubbish": Case(says(lambda _d, _s: b"\0" * 9), *GARBLED),
}


@lanes
@streamed
async def test_an_answer_before_the_request_was_read(
    house: House, caller: str, upstream: str, stream: bool
) -> None:
    wire = house.wires[f"wire-{upstream}"]
    body = json.loads(request_of(caller, f"wire-{upstream}", stream=stream))
    if caller == "responses":
        body["input"] = "x" * 300_000
    else:
        body["messages"][0]["content"] = "x" * 300_000
    for name, case in HASTY.items():
        user = await house.user()
        wire.script = None
        wire.hasty = lambda asked, case=case: case.way(asked, upstream, stream)
        path = PATHS.get(caller, "/api/v1/responses")
        answer = await house.http("POST", path, user.key, body=json.dumps(body).encode())
        expected = case.streamed if stream else case.whole
        await check(house, caller, upstream, user, answer, expected, name)
