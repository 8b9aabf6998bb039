"""Before content: whatever an attempt has said at its start, a failure of it is made good by the next, and leaves no byte."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.service.conversations import FRAMES, REPLIES, Answer
from tests.service.replies import said
from tests.service.running_service import House, open_house
from tests.service.scripted import ENDINGS, Asked
from tests.service.test_attempts import written
from tests.service.test_honesty import assert_broken
from tests.service.test_routing import health_of

CALLERS = ("chat", "messages", "responses")
callers = pytest.mark.parametrize("dialect", CALLERS)
upstreams = pytest.mark.parametrize("upstream", CALLERS)


def event(kind: str, **rest: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **rest}))


def response(status: str, output: list[object]) -> dict[str, object]:
    return {
        "id": "resp_up", "object": "response", "created_at": 7, "status": status, "model": "up-responses", "output": output,
        "usage": {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16} if status == "completed" else None,
    }  # fmt: skip


PART = {"type": "output_text", "text": "Hi  there", "annotations": []}
MESSAGE = {"type": "message", "id": "msg_up", "role": "assistant", "status": "completed", "content": [PART]}
EMPTY = {**MESSAGE, "status": "in_progress", "content": []}
RESPONSES = (
    event("response.created", sequence_number=0, response=response("in_progress", [])),
    event("response.in_progress", sequence_number=1, response=response("in_progress", [])),
    event("response.output_item.added", sequence_number=2, output_index=0, item=EMPTY),
    event(
        "response.content_part.added", sequence_number=3, item_id="msg_up", output_index=0, content_index=0,
        part={**PART, "text": ""},
    ),
    event(
        "response.output_text.delta", sequence_number=4, item_id="msg_up", output_index=0, content_index=0, delta="Hi ",
    ),
    event(
        "response.output_text.delta", sequence_number=5, item_id="msg_up", output_index=0, content_index=0, delta=" there",
    ),
    event("response.output_item.done", sequence_number=6, output_index=0, item=MESSAGE),
    event("response.completed", sequence_number=7, response=response("completed", [MESSAGE])),
)  # fmt: skip
STREAMS = {**FRAMES, "responses": RESPONSES}
STARTS = {"chat": 1, "messages": 2, "responses": 4}
"""How many frames of a stream come before its content."""
ERRORS = {
    "chat": b'data: {"error":{"message":"boom","type":"server_error"}}\n\n',
    "messages": event("error", error={"type": "api_error", "message": "boom"}),
    "responses": event(
        "response.failed", sequence_number=9,
        response={**response("failed", []), "error": {"code": "server_error", "message": "boom"}},
    ),
}  # fmt: skip
_TOO_LONG = "prompt is too long: 250000 tokens > 200000 maximum"
TOO_LONG = {
    "messages": event("error", error={"type": "invalid_request_error", "message": _TOO_LONG}),
    "responses": event(
        "response.failed", sequence_number=9,
        response={**response("failed", []), "error": {"code": "context_length_exceeded", "message": _TOO_LONG}},
    ),
}  # fmt: skip
BREAKS: dict[str, Callable[[Asked, str], None]] = {
    **{how: lambda asked, _, end=end: end(asked) for how, end in ENDINGS.items()},
    "error event": lambda asked, upstream: asked.stream_on(ERRORS[upstream]),
}


def breaking(frames: tuple[bytes, ...], how: str, upstream: str) -> Callable[[Asked], None]:
    """An upstream that begins with these frames and then breaks."""

    def script(asked: Asked) -> None:
        asked.begin(*frames)
        BREAKS[how](asked, upstream)

    return script


def text_of(dialect: str, answer: Answer) -> str:
    """What a whole stream says, after its grammar was checked."""
    if dialect != "responses":
        return said(dialect, answer).text
    assert answer.whole
    events = [frame.json for frame in answer.frames]
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    return "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")


def assert_answered_by_the_other(dialect: str, answer: Answer) -> None:
    assert answer.status == 200
    assert text_of(dialect, answer) == "Hi  there"
    for start in (
        b'"type":"message_start"',
        b'"type":"response.created"',
        b'"role":"assistant","content":""',
    ):
        assert answer.body.count(start) <= 1, "the start-up of one attempt"


@callers
@upstreams
@pytest.mark.parametrize("how", BREAKS)
async def test_case_6_and_7_an_attempt_that_breaks_after_its_start_is_followed_by_the_next(
    house: House, dialect: str, upstream: str, how: str
) -> None:
    user = await house.user()
    wire, spare = house.wires[f"wire-{upstream}"], house.wires[f"spare-{upstream}"]
    frames = STREAMS[upstream]
    for start in range(1, STARTS[upstream] + 1):
        wire.script = breaking(frames[:start], how, upstream)
        spare.script = lambda asked: asked.stream(*frames)
        answer = await house.ask(dialect, f"pair-{upstream}", user, stream=True)
        assert_answered_by_the_other(dialect, answer)
        assert b"boom" not in answer.body
        row = (await house.rows(user))[-1]
        assert (row["provider"], row["attempts"]) == (f"spare-{upstream}", 2)
        assert (row["outcome"], row["counted"]) == ("completed", True)
    assert await house.used(user) == STARTS[upstream]


@callers
@upstreams
@pytest.mark.parametrize("how", BREAKS)
async def test_case_8_after_the_head_has_gone_out_a_failure_is_still_made_good(
    tmp_path: Path, dialect: str, upstream: str, how: str
) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        user = await house.user()
        wire, spare = house.wires[f"wire-{upstream}"], house.wires[f"spare-{upstream}"]
        frames = STREAMS[upstream]
        spare.script = lambda asked: asked.stream(*frames)
        caller = await house.begin(dialect, f"pair-{upstream}", user, stream=True)
        asked = await wire.next()
        asked.begin(*frames[: STARTS[upstream]])
        head = await caller.head()
        head.body = await caller.until(b": keep-alive\n\n")
        BREAKS[how](asked, upstream)
        assert_answered_by_the_other(dialect, await caller.rest(head))
        row = await house.row(user)
        assert (row["provider"], row["attempts"], row["outcome"]) == (f"spare-{upstream}", 2, "completed")


@pytest.mark.parametrize("dialect", ["chat", "messages"])
@upstreams
async def test_after_the_head_the_failure_of_the_last_attempt_is_told_once(
    tmp_path: Path, dialect: str, upstream: str
) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        user = await house.user()
        wire, spare = house.wires[f"wire-{upstream}"], house.wires[f"spare-{upstream}"]
        spare.script = lambda asked: asked.answer(b"{}", 500)
        caller = await house.begin(dialect, f"pair-{upstream}", user, stream=True)
        asked = await wire.next()
        asked.begin(*STREAMS[upstream][: STARTS[upstream]])
        head = await caller.head()
        head.body = await caller.until(b": keep-alive\n\n")
        asked.cut()
        answer = await caller.rest(head)
        assert_broken(dialect, answer)
        assert len(answer.frames) == 1, "the error and nothing else"
        row = await house.row(user)
        assert (row["outcome"], row["status"], row["attempts"], row["counted"]) == (
            "upstream_error",
            200,
            2,
            False,
        )
        assert await house.used(user) == 0
        assert (await house.ask("chat", "chat-plain", user)).status == 200, "the slot is free"


@pytest.mark.parametrize("upstream", ["responses", "messages"])
@pytest.mark.parametrize("how", ["cut", "too long"])
async def test_an_error_after_comments_is_the_first_event(tmp_path: Path, upstream: str, how: str) -> None:
    """Also one that no other attempt would mend, so that the start that is held is still there."""
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        caller = await house.begin("responses", f"wire-{upstream}", await house.user(), stream=True)
        asked = await house.wires[f"wire-{upstream}"].next()
        asked.begin(*STREAMS[upstream][: STARTS[upstream]])
        head = await caller.head()
        head.body = await caller.until(b": keep-alive\n\n")
        if how == "cut":
            asked.cut()
        else:
            asked.stream_on(TOO_LONG[upstream])
        (event,) = (await caller.rest(head)).frames
        assert (event.json["type"], event.json["sequence_number"]) == ("response.failed", 0)


@callers
async def test_the_bytes_of_the_start_are_those_of_the_provider(house: House, dialect: str) -> None:
    wire = house.wires[f"wire-{dialect}"]
    frames = STREAMS[dialect]
    caller = await house.begin(dialect, f"wire-{dialect}", await house.user(), stream=True)
    asked = await wire.next()
    asked.begin(b": a comment\n\n")
    for frame in frames:  # each comes in a read of its own, so that the start is held
        await asyncio.sleep(0.02)
        asked.frames(frame)
    asked.end()
    answer = await caller.rest(await caller.head())
    ours = answer.body.replace(b'"model":"wire-%b"' % dialect.encode(), b'"model":"up-%b"' % dialect.encode())
    kept = [frame for frame in frames if dialect != "chat" or b'"usage"' not in frame]
    assert ours == b": a comment\n\n" + b"".join(kept)


@callers
@upstreams
async def test_an_answer_without_content_is_whole(house: House, dialect: str, upstream: str) -> None:
    user = await house.user()
    without = {
        "chat": (FRAMES["chat"][0], *FRAMES["chat"][3:]),
        "messages": (FRAMES["messages"][0], *FRAMES["messages"][5:]),
        "responses": (*RESPONSES[:2], event("response.completed", sequence_number=2, response=response("completed", []))),
    }  # fmt: skip
    house.wires[f"wire-{upstream}"].script = lambda asked: asked.stream(*without[upstream])
    answer = await house.ask(dialect, f"pair-{upstream}", user, stream=True)
    assert answer.status == 200
    assert text_of(dialect, answer) == ""
    row = await house.row(user)
    assert (row["outcome"], row["attempts"]) == ("completed", 1)


def emptied(upstream: str, *, told: bool) -> tuple[tuple[bytes, ...], bytes]:
    """A stream and a whole answer that end well with nothing in them; ``told``: and say so in their usage."""
    if upstream == "chat":
        frames = (FRAMES["chat"][0], *FRAMES["chat"][3:])
        kept = (*frames[:2], frames[2].replace(b'"completion_tokens":5', b'"completion_tokens":0'), frames[3])
        whole = (
            REPLIES["chat"]
            .replace(b"Hi  there", b"")
            .replace(b'"completion_tokens":5', b'"completion_tokens":0')
        )
        return (kept, whole) if told else ((*frames[:2], frames[3]), whole[: whole.index(b',"usage"')] + b"}")
    if upstream == "messages":
        end = FRAMES["messages"][5].replace(b'"output_tokens":5', b'"output_tokens":0')
        start = FRAMES["messages"][0].replace(b'"output_tokens":1', b'"output_tokens":0')
        whole = (
            REPLIES["messages"]
            .replace(b'{"type":"text","text":"Hi  there"}', b"")
            .replace(b'tokens":5', b'tokens":0')
        )
        return (
            start,
            *FRAMES["messages"][1:2] * told,
            *FRAMES["messages"][4:5] * told,
            end,
            FRAMES["messages"][6],
        ), whole
    usage = {"input_tokens": 11, "output_tokens": 0, "total_tokens": 11} if told else None
    done = {
        **response("completed", [{**MESSAGE, "content": [{**PART, "text": ""}]}] if told else []),
        "usage": usage,
    }
    return (
        *RESPONSES[:2],
        event("response.completed", sequence_number=2, response=done),
    ), msgspec.json.encode(done)


@callers
async def test_an_answer_with_nothing_in_it_is_asked_for_once_more_elsewhere_and_counts_for_nobody(
    house: House, dialect: str
) -> None:
    good = {**REPLIES, "responses": msgspec.json.encode(response("completed", [MESSAGE]))}
    for upstream in CALLERS:
        wire, spare = house.wires[f"wire-{upstream}"], house.wires[f"spare-{upstream}"]
        for told, streamed in ((True, True), (False, True), (True, False), (False, False)):
            user = await house.user()
            frames, whole = emptied(upstream, told=told)
            health_of(house).reset(lambda _: True, 0.0)

            def nothing(asked: Asked, frames: tuple[bytes, ...] = frames, whole: bytes = whole) -> None:
                asked.stream(*frames) if asked.json.get("stream") else asked.answer(whole)

            wire.script = spare.script = nothing
            before = len(wire.asked)
            answer = await house.ask(dialect, f"wire-{upstream}", user, stream=streamed)
            assert (answer.status, answer.whole) == (200, True), (
                "where there is no other, the caller has it as it is"
            )
            assert b"error" not in answer.body.replace(b'"error":null', b"")
            assert len(wire.asked) == before + 1
            answer = await house.ask(dialect, f"pair-{upstream}", user, stream=streamed)
            assert (answer.status, answer.headers["x-penstock-attempts"]) == (200, "2"), (
                "and the second has the last word"
            )
            rows = await house.rows(user)
            assert [(row["outcome"], row["counted"], row["refund_reason"]) for row in rows] == [
                ("completed", False, "no_output")
            ] * 2
            assert await house.used(user) == 0

            spare.script = lambda asked, upstream=upstream: (
                asked.stream(*STREAMS[upstream]) if asked.json.get("stream") else asked.answer(good[upstream])
            )
            answer = await house.ask(dialect, f"pair-{upstream}", user, stream=streamed)
            assert answer.status == 200
            assert b"Hi " in answer.body
            assert answer.headers["x-penstock-route"] == "after_empty"
            row = (await house.rows(user))[-1]
            assert (row["provider"], row["attempts"], row["counted"]) == (f"spare-{upstream}", 2, True)
            trails = list((await written(house, user)).values())
            found = [[each.failure for each in trail] for trail in trails]
            assert found == [["empty"], ["empty", "empty"], ["empty", ""]]


@upstreams
async def test_what_a_caller_shows_before_text_goes_out_at_once(house: House, upstream: str) -> None:
    """A tool that the provider runs, a call of the caller's own: nobody waits for text to see it."""
    shown = {
        "chat": FRAMES["chat"][1].replace(
            b'"content":"Hi "', b'"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]'
        ),
        "messages": event(
            "content_block_start", index=0,
            content_block={"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        ),
        "responses": event(
            "response.output_item.added", sequence_number=2, output_index=0,
            item={"type": "web_search_call", "id": "ws", "status": "in_progress"},
        ),
    }[upstream]  # fmt: skip
    caller = await house.begin(upstream, f"wire-{upstream}", await house.user(), stream=True)
    asked = await house.wires[f"wire-{upstream}"].next()
    asked.begin(STREAMS[upstream][0], shown)
    head = await caller.head()
    head.body = await caller.until(shown.split(b"data: ", 1)[1][-30:])
    asked.cut()
    await caller.rest(head)


@callers
@upstreams
@pytest.mark.parametrize("how", BREAKS)
async def test_where_there_is_no_other_a_failure_after_the_start_is_one_of_the_status(
    house: House, dialect: str, upstream: str, how: str
) -> None:
    user = await house.user()
    house.wires[f"wire-{upstream}"].script = breaking(STREAMS[upstream][: STARTS[upstream]], how, upstream)
    answer = await house.ask(dialect, f"wire-{upstream}", user, stream=True)
    assert answer.status == 502
    assert answer.code.startswith("provider_")
    assert b"boom" not in answer.body
    row = await house.row(user)
    assert (row["outcome"], row["status"], row["counted"]) == ("upstream_error", 502, False)
