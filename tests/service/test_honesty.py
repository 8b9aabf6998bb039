"""Status honesty: a failure is told as one, by the status while that is possible and by the dialect's error event after."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.conversations import DIALECTS, FRAMES, REPLIES, Answer, frames_of
from tests.service.replies import said
from tests.service.running_service import House, open_house
from tests.service.scripted import CLEAN_END, ENDINGS, Asked

both = pytest.mark.parametrize("dialect", DIALECTS)
upstreams = pytest.mark.parametrize("upstream", DIALECTS)
streamed = pytest.mark.parametrize("stream", [False, True])
ENDS = {"chat": b"[DONE]", "messages": b"message_stop"}


def assert_broken(dialect: str, answer: Answer, kind: str = "api_error") -> str:
    """A stream that ended with the dialect's error event and nothing else; gives its text."""
    assert answer.status == 200
    assert answer.whole, "the HTTP framing ends cleanly, the error event says the rest"
    assert ENDS[dialect] not in answer.body
    last = answer.frames[-1]
    error = last.json["error"]
    if dialect == "messages":
        assert last.event == "error"
        assert last.json["type"] == "error"
    assert error["type"] == kind
    assert last.json["request_id" if dialect == "messages" else "error"]
    return error["message"]


# ---- before the first byte


FAILURES = {
    "error-401": "provider_credentials",
    "error-403": "provider_credentials",
    "error-404": "provider_credentials",
    "error-429": "provider_overloaded",
    "error-500": "provider_error",
    "error-503": "provider_overloaded",
    "error-529": "provider_overloaded",
    "html": None,
    "garbage": None,
    "empty": None,
    "error-200": "provider_overloaded",
    "error-first": None,
    "cut-at-once": "provider_cut",
}


@both
@upstreams
@streamed
async def test_a_provider_that_fails_before_its_first_word_is_a_502(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    for failure, code in FAILURES.items():
        if failure == "error-first" and not stream:
            continue
        user = await house.user()
        answer = await house.ask(dialect, f"{upstream}-{failure}", user, stream=stream)
        assert answer.status == 502, failure
        assert answer.code == (code or answer.code)
        assert answer.code.startswith("provider_")
        assert answer.headers["content-type"] == "application/json"
        waits = failure in ("error-429", "error-503", "error-529")
        assert answer.headers["retry-after"] == ("7" if waits else "5")
        assert b"imulated" not in answer.body, "the provider's own text stays with the operator"
        assert answer.headers["x-ratelimit-remaining"] == answer.headers["x-ratelimit-limit"]
        row = await house.row(user)
        assert (row["outcome"], row["status"], row["counted"]) == ("upstream_error", 502, False)
        assert (row["refund_reason"], row["error_code"]) == ("no_output", answer.code)


def _half_a_body(asked: Asked) -> None:
    asked.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n")
    asked.cut()


EARLY: dict[str, Callable[[Asked], None]] = {
    "status": lambda asked: asked.answer(b"{}", 500),
    "reset": lambda asked: asked.reset(),
    "closed": lambda asked: asked.cut(),
    "garbage": lambda asked: asked.answer(b"\x00\xff{", kind="text/plain"),
    "half a body": _half_a_body,
    "not http": lambda asked: asked.write(b"SSH-2.0-OpenSSH_9\r\n\r\n"),
}


@both
@streamed
@pytest.mark.parametrize("how", EARLY)
async def test_a_provider_that_fails_early_is_followed_by_the_next_one_and_counts_once(
    house: House, dialect: str, stream: bool, how: str
) -> None:
    user = await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    wire.script = EARLY[how]
    good = FRAMES[dialect]
    spare.script = lambda asked: asked.stream(*good) if stream else asked.answer(REPLIES[dialect])
    answer = await house.ask(dialect, f"pair-{dialect}", user, stream=stream)
    assert answer.status == 200
    assert said(dialect, answer).text == "Hi  there"
    assert wire.asked[0].body == spare.asked[0].body
    row = await house.row(user)
    assert (row["provider"], row["attempts"]) == (f"spare-{dialect}", 2)
    assert (row["outcome"], row["status"], row["counted"]) == ("completed", 200, True)
    assert await house.used(user) == 1


@both
async def test_a_provider_that_keeps_failing_is_asked_no_more_for_a_while(house: House, dialect: str) -> None:
    user = await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    wire.script = lambda asked: asked.answer(b"{}", 500)
    spare.script = lambda asked: asked.answer(REPLIES[dialect])
    for _ in range(8):
        assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
    assert (len(wire.asked), len(spare.asked)) == (5, 8)
    assert [row["attempts"] for row in await house.rows(user)] == [2] * 5 + [1] * 3


@both
@streamed
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_the_provider_refuses_goes_back_in_its_own_words_and_nowhere_else(
    house: House, dialect: str, stream: bool, status: int
) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    text = "prompt is too long: 212345 tokens > 200000 maximum — «»"
    body = f'{{"type":"error","error":{{"type":"invalid_request_error","message":"{text}"}}}}'.encode()
    wire.script = lambda asked: asked.answer(body, status)
    for form in ("simple", "native"):
        answer = await house.ask(
            dialect, f"pair-{dialect}", user, stream=stream, headers={"x-error-format": form}
        )
        assert answer.status == (413 if status == 413 else 400)
        assert answer.error == text
        assert answer.code == ("request_too_large" if status == 413 else "context_length_exceeded")
    assert house.wires[f"spare-{dialect}"].asked == [], "another provider would refuse it as well"
    for row in await house.rows(user):
        assert (row["outcome"], row["counted"], row["refund_reason"]) == (
            "refused",
            False,
            "provider_refused",
        )


@both
@upstreams
async def test_the_words_for_a_prompt_that_is_too_long_reach_the_caller_of_either_dialect(
    house: House, dialect: str, upstream: str
) -> None:
    answer = await house.ask(dialect, f"{upstream}-overflow", await house.user(), stream=True)
    assert answer.status == 400
    words = {
        "messages": "prompt is too long: 212345 tokens > 200000 maximum",
        "chat": "This model's maximum context length is 128000 tokens. However, your messages resulted in 212345 tokens.",
    }
    if (dialect, upstream) == ("messages", "chat"):
        assert answer.error == "prompt is too long: 212345 tokens > 128000 maximum"
    else:
        assert answer.error == words[upstream]


@both
@streamed
async def test_no_other_text_of_the_provider_ever_reaches_a_caller(
    house: House, dialect: str, stream: bool
) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    secret = "internal-host-17.example key sk-vendor-1234567890"
    error = f'{{"type":"error","error":{{"type":"api_error","message":"{secret}"}},"message":"{secret}"}}'.encode()
    event = b"event: error\ndata: " + error + b"\n\n"
    scripts = [
        lambda asked, status=status: asked.answer(error, status, headers={"x-detail": secret})
        for status in (401, 402, 403, 404, 405, 408, 409, 418, 429, 500, 502, 503, 504, 529)
    ]
    scripts += [
        lambda asked: asked.answer(error),
        lambda asked: asked.answer(
            b"HTTP/1.1 302 Found\r\nlocation: http://x/", 302, headers={"location": "http://x/"}
        ),
        lambda asked: asked.stream(event),
        lambda asked: asked.stream(*FRAMES[dialect][:3], event),
    ]
    for script in scripts:
        wire.script = script
        answer = await house.ask(dialect, f"wire-{dialect}", user, stream=stream)
        assert answer.status == 502 or (stream and answer.frames[-1].json["error"])
        everything = answer.body.decode() + str(answer.headers)
        for word in ("internal-host", "sk-vendor", "http://x/"):
            assert word not in everything


# ---- the hold of the head


@both
async def test_a_provider_that_is_slow_to_begin_gets_a_head_and_a_keep_alive_then_the_answer(
    tmp_path: Path, dialect: str
) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        user = await house.user()
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        head = await caller.head()  # the provider has not even sent its own head
        assert head.status == 200
        head.body = await caller.more()
        assert head.body == b": keep-alive\n\n"
        asked.stream(*FRAMES[dialect])
        answer = await caller.rest(head)
        assert said(dialect, answer).text == "Hi  there"
        assert (await house.row(user))["outcome"] == "completed"


@both
@pytest.mark.parametrize("how", ["status", "reset", "refused", "cut", "garbage"])
async def test_a_failure_after_the_hold_is_an_error_event(tmp_path: Path, dialect: str, how: str) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        user = await house.user()
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        head = await caller.head()
        head.body = await caller.more()
        kind = "api_error"
        match how:
            case "status":
                asked.answer(b"{}", 529)
                kind = "overloaded_error"
            case "reset":
                asked.reset()
            case "refused":
                asked.answer(b'{"error":{"message":"max_tokens is too large"}}', 400)
                kind = "invalid_request_error"
            case "cut":
                asked.begin()
                asked.cut()
            case _:
                asked.stream(b"nothing that anybody knows\n\n", b"data: {]\n\n")
        answer = await caller.rest(head)
        text = assert_broken(dialect, answer, kind)
        if how == "refused":
            assert text == "max_tokens is too large"
        row = await house.row(user)
        assert (row["status"], row["counted"]) == (200, False)
        assert row["outcome"] == ("refused" if how == "refused" else "upstream_error")
        assert await house.used(user) == 0


# ---- in the middle of a stream

BREAKS: dict[str, Callable[[Asked], None]] = {
    **ENDINGS,
    "error event": lambda asked: asked.frames(
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"boom"}}\n\n'
    ),
}


@both
@upstreams
@pytest.mark.parametrize("how", BREAKS)
async def test_a_stream_that_breaks_is_never_a_clean_end_and_is_not_tried_again(
    house: House, dialect: str, upstream: str, how: str
) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{upstream}"]
    caller = await house.begin(dialect, f"pair-{upstream}", user, stream=True)
    asked = await wire.next()
    asked.begin(*FRAMES[upstream][:4] if upstream == "messages" else FRAMES[upstream][:3])
    head = await caller.head()
    head.body = await caller.until(b"there")
    BREAKS[how](asked)
    answer = await caller.rest(head)
    assert_broken(dialect, answer)
    assert b"boom" not in answer.body
    if how not in (CLEAN_END, "garbage"):
        await asked.left()
    row = await house.row(user)
    assert (row["outcome"], row["status"], row["counted"], row["attempts"]) == (
        "upstream_error",
        200,
        True,
        1,
    )
    assert row["estimated"] is True
    assert row["output_tokens"] >= 1
    assert house.wires[f"spare-{upstream}"].asked == []


@both
@upstreams
async def test_the_simulators_broken_streams_end_in_an_error_event(
    house: House, dialect: str, upstream: str
) -> None:
    user = await house.user()
    for failure in ("cut", "unfinished", "error-in-stream"):
        answer = await house.ask(dialect, f"{upstream}-{failure}", user, stream=True)
        kind = "overloaded_error" if failure == "error-in-stream" and upstream == "messages" else "api_error"
        assert_broken(dialect, answer, kind)
        assert b"imulated error" not in answer.body


@both
@streamed
async def test_what_we_write_ourselves_is_utf_8_whatever_the_provider_sends(
    house: House, dialect: str, stream: bool
) -> None:
    other = "chat" if dialect == "messages" else "messages"
    answer = await house.ask(dialect, f"{other}-badutf8", await house.user(), stream=stream)
    assert answer.status == 200
    assert answer.body.decode()


@both
async def test_overload_in_a_stream_keeps_its_name(house: House, dialect: str) -> None:
    wire = house.wires[f"wire-{dialect}"]
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"x","code":"overloaded_error"}}'
    event = b"event: error\ndata: " + error + b"\n\n"
    wire.script = lambda asked: asked.stream(*FRAMES[dialect][:4], event)
    answer = await house.ask(dialect, f"wire-{dialect}", await house.user(), stream=True)
    assert_broken(dialect, answer, "overloaded_error")


# ---- keep-alives


@both
@upstreams
async def test_silence_is_filled_with_what_the_dialects_clients_take(
    tmp_path: Path, dialect: str, upstream: str
) -> None:
    async with open_house(tmp_path / "data", keepalive=0.01) as house:
        caller = await house.begin(dialect, f"wire-{upstream}", await house.user(), stream=True)
        asked = await house.wires[f"wire-{upstream}"].next()
        asked.begin(*FRAMES[upstream][:3])
        head = await caller.head()
        alive = b'event: ping\ndata: {"type": "ping"}\n\n' if dialect == "messages" else b": keep-alive\n\n"
        head.body = await caller.until(b"Hi ")
        for _ in range(2):
            piece = await caller.more()
            if dialect == "messages":
                (frame,) = frames_of(piece)
                assert (frame.event, frame.json) == ("ping", {"type": "ping"})
            else:
                assert piece == alive
            head.body += piece
        asked.frames(*FRAMES[upstream][3:])
        asked.end()
        assert said(dialect, await caller.rest(head)).text == "Hi  there"


# ---- deadlines


@both
@pytest.mark.parametrize(
    ("setting", "answered", "stream"),
    [
        ("upstream_first_byte", 0, True),
        ("upstream_idle", 3, True),
        ("upstream_total", 0, False),
        ("upstream_total", 0, True),
        ("upstream_total", 3, True),
    ],
)
async def test_the_providers_deadlines_end_in_an_honest_error(
    tmp_path: Path, dialect: str, setting: str, answered: int, stream: bool
) -> None:
    # a model that thinks may be silent for as long as for its first content
    limits = {"upstream_thinking": 0.1, "upstream_first_byte": 3.0, setting: 0.1}
    async with open_house(tmp_path / "data", **limits) as house:
        user = await house.user()
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=stream)
        asked = await house.wires[f"wire-{dialect}"].next()
        if answered:
            asked.begin(*FRAMES[dialect][:answered])
        answer = await caller.answer()
        await asked.left()
        if answered:
            assert_broken(dialect, answer)
            assert b"Hi " in answer.body
        else:
            assert (answer.status, answer.code) == (502, "provider_timeout")
        row = await house.row(user)
        assert (row["error_code"], row["counted"]) == ("provider_timeout", answered > 0)
        assert row["outcome"] == "upstream_error"


@both
async def test_a_provider_that_cannot_be_reached_is_a_502_and_the_next_is_tried(
    house: House, dialect: str
) -> None:
    user = await house.user()
    house.wires[f"spare-{dialect}"].script = lambda asked: asked.answer(REPLIES[dialect])
    await house.wires[f"wire-{dialect}"].shut()
    answer = await house.ask(dialect, f"wire-{dialect}", user)
    assert (answer.status, answer.code) == (502, "provider_unreachable")
    assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200


@both
async def test_a_pooled_connection_that_the_provider_has_closed_is_no_failure(
    house: House, dialect: str
) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]

    def once(asked: Asked) -> None:
        asked.answer(REPLIES[dialect])
        asked.cut()

    wire.script = once
    for number in range(1, 9):
        assert (await house.ask(dialect, f"wire-{dialect}", user)).status == 200
        assert len(wire.asked) == number
    assert {row["attempts"] for row in await house.rows(user)} == {1}


@both
async def test_an_answer_that_is_too_large_is_refused_and_memory_stays_bounded(
    tmp_path: Path, dialect: str
) -> None:
    async with open_house(tmp_path / "data", max_reply=100_000) as house:
        user = await house.user()
        answer = await house.ask(dialect, f"{dialect}-huge", user)
        assert (answer.status, answer.code) == (502, "provider_garbled")
        streamed = await house.ask(dialect, f"{dialect}-huge", user, stream=True)
        assert len(said(dialect, streamed).text) > 8_000_000


@both
async def test_what_comes_after_the_dialects_end_is_no_part_of_the_answer(house: House, dialect: str) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
    asked = await wire.next()
    asked.begin(*FRAMES[dialect], b'data: {"more":1}\n\n')
    answer = await caller.answer()  # though the provider does not end its body
    assert said(dialect, answer).text == "Hi  there"
    assert b"more" not in answer.body
    asked.cut()
    row = await house.row(user)
    assert (row["outcome"], row["counted"]) == ("completed", True)
    other = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
    asked = await wire.next()
    asked.begin(*FRAMES[dialect])
    await other.answer()
    await asked.left()  # the provider that never ends is let go
