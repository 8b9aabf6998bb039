"""A model that refuses: another one answers where somebody has asked for that, and else the refusal goes out as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.core.catalog import Fallback
from tests.service.conversations import Answer
from tests.service.running_service import House, open_house
from tests.service.scripted import Asked
from tests.service.test_attempts import written
from tests.service.test_choice import add_rows, at, wanting
from tests.service.test_matrix import WHOLE
from tests.service.test_routing import health_of, refusing
from tests.service.test_startup import CALLERS, EMPTY, MESSAGE, STREAMS, event, response

Play = Callable[[Asked], None]
WORDS = "I will not say"
PART = {"type": "refusal", "refusal": WORDS}
REFUSED = {**MESSAGE, "content": [PART]}
_CHUNK = b'data: {"id":"chatcmpl-up","object":"chat.completion.chunk","created":7,"model":"up-chat",%b}\n\n'
_USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def chat_frames(delta: dict[str, str], end: str) -> tuple[bytes, ...]:
    return (
        STREAMS["chat"][0],
        *(
            _CHUNK
            % (b'"choices":' + msgspec.json.encode([{"index": 0, "delta": each, "finish_reason": reason}]))
            for each, reason in ((delta, None), ({}, end))
        ),
        *STREAMS["chat"][4:],
    )


def chat_whole(message: dict[str, Any], end: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": end}
    whole = {
        "id": "chatcmpl-up",
        "object": "chat.completion",
        "created": 7,
        "model": "up-chat",
        "usage": _USAGE,
    }
    return msgspec.json.encode({**whole, "choices": [choice]})


STREAMED: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    "chat": (chat_frames({"refusal": WORDS}, "stop"), chat_whole({"content": None, "refusal": WORDS}, "stop")),
    "chat, filtered": (chat_frames({}, "content_filter"), chat_whole({"content": None}, "content_filter")),
    "messages": (
        (
            STREAMS["messages"][0],
            event("message_delta", delta={"stop_reason": "refusal", "stop_sequence": None}, usage={"output_tokens": 5}),
            STREAMS["messages"][-1],
        ),
        msgspec.json.encode(
            {
                "id": "msg_up", "type": "message", "role": "assistant", "model": "up-messages", "content": [],
                "stop_reason": "refusal", "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 5},
            }
        ),
    ),
    "responses": (
        (
            *STREAMS["responses"][:2],
            event("response.output_item.added", sequence_number=2, output_index=0, item=EMPTY),
            event(
                "response.content_part.added", sequence_number=3, item_id="msg_up", output_index=0, content_index=0,
                part={**PART, "refusal": ""},
            ),
            event(
                "response.refusal.delta", sequence_number=4, item_id="msg_up", output_index=0, content_index=0, delta=WORDS
            ),
            event(
                "response.refusal.done", sequence_number=5, item_id="msg_up", output_index=0, content_index=0, refusal=WORDS
            ),
            event("response.output_item.done", sequence_number=6, output_index=0, item=REFUSED),
            event("response.completed", sequence_number=7, response=response("completed", [REFUSED])),
        ),
        msgspec.json.encode(response("completed", [REFUSED])),
    ),
}  # fmt: skip
"""Streams and whole answers that refuse, by the format and how it says so."""
callers = pytest.mark.parametrize("dialect", CALLERS)
forms = pytest.mark.parametrize("form", STREAMED)
streamed = pytest.mark.parametrize("stream", [True, False])


def playing(frames: tuple[bytes, ...], whole: bytes) -> Play:
    return lambda asked: asked.stream(*frames) if asked.json.get("stream") else asked.answer(whole)


async def two_models(house: House, upstream: str, *, operators: bool, **fields: Any) -> None:
    """``one`` at the wire, and ``two`` at the spare, which is asked where ``one`` refuses, if the ``operators`` say so."""
    other = (Fallback("two", ("refusal",)),) if operators else ()
    await add_rows(
        house,
        at("one", "wire", dialect=upstream, fallback=other, **fields),
        at("two", "spare", dialect=upstream),
    )
    house.wires[f"spare-{upstream}"].script = playing(STREAMS[upstream], WHOLE[upstream])


def refuses(answer: Answer) -> bool:
    """Whether an answer is a refusal in its format."""
    return any(
        mark in answer.body for mark in (b'"content_filter"', b'"stop_reason":"refusal"', WORDS.encode())
    )


@callers
@forms
@streamed
async def test_another_model_answers_where_one_refuses_and_else_the_refusal_goes_out(
    house: House, dialect: str, form: str, stream: bool
) -> None:
    user = await house.user()
    upstream = form.split(",", maxsplit=1)[0]
    await two_models(house, upstream, operators=True)
    wire, spare = house.wires[f"wire-{upstream}"], house.wires[f"spare-{upstream}"]
    wire.script = playing(*STREAMED[form])
    answer = await house.ask(dialect, "one", user, stream=stream)
    assert (answer.status, answer.whole, answer.headers["x-penstock-model"]) == (200, True, "two")
    assert answer.headers["x-penstock-route"] == "fallback_model"
    assert b"Hi " in answer.body
    assert not refuses(answer)
    row = await house.row(user)
    assert (row["outcome"], row["counted"], row["attempts"]) == ("completed", True, 2)
    assert (row["provider"], row["answered_model"]) == (f"spare-{upstream}", "two")
    (trail,) = (await written(house, user)).values()
    assert [(each.failure, each.maybe_billed) for each in trail] == [("refusal", True), ("", False)]
    assert health_of(house).abnormal == 0, "whoever refuses works"

    spare.script = refusing(500, "no")
    answer = await house.ask(dialect, "one", user, stream=stream)
    assert (answer.status, answer.whole) == (200, True)
    assert refuses(answer), "nobody else has answered"
    assert b"Hi " not in answer.body
    row = await house.row(user, of=2)
    assert (row["outcome"], row["counted"], row["attempts"]) == ("completed", True, 2)
    assert (row["provider"], row["answered_model"], row["input_tokens"]) == (f"wire-{upstream}", None, 11)

    spare.script = playing(*STREAMED[form])
    answer = await house.ask(dialect, "one", user, stream=stream)
    assert (answer.status, answer.whole, refuses(answer)) == (200, True, True), "both refuse"
    assert await house.used(user) == 3
    assert {known.in_flight for known in health_of(house).all()} == {0}


@callers
@streamed
async def test_nobody_else_is_asked_where_nobody_has_said_so(
    house: House, dialect: str, stream: bool
) -> None:
    user = await house.user()
    await two_models(house, dialect, operators=False)
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    frames, whole = STREAMED[dialect]
    wire.script = playing(frames, whole)
    named = wanting(dialect, "two")
    for fields in ({}, named):
        answer = await house.ask(dialect, "one", user, stream=stream, **fields)
        assert refuses(answer)
        ours = answer.body.replace(b'"model":"one"', b'"model":"up-%b"' % dialect.encode())
        kept = [frame for frame in frames if dialect != "chat" or b'"usage"' not in frame]
        assert ours == (b"".join(kept) if stream else whole), "and not a byte of it is changed"
    assert spare.asked == []
    headers = {"X-Penstock-Fallback-On": "overflow, refusal"}
    answer = await house.ask(dialect, "one", user, stream=stream, headers=headers, **named)
    assert (answer.status, answer.headers["x-penstock-model"]) == (200, "two")
    assert not refuses(answer)


@callers
@streamed
async def test_a_filter_before_the_model_is_a_refusal_too(house: House, dialect: str, stream: bool) -> None:
    user = await house.user()
    await two_models(house, dialect, operators=True)
    script = refusing(400, "The prompt was filtered.", "content_filter")
    house.wires[f"wire-{dialect}"].script = script
    answer = await house.ask(dialect, "one", user, stream=stream)
    assert (answer.status, answer.headers["x-penstock-model"]) == (200, "two")
    answer = await house.ask(dialect, f"pair-{dialect}", user, stream=stream)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.error == "The prompt was filtered.", "in the provider's own words"
    assert answer.headers["x-penstock-attempts"] == "1" if "x-penstock-attempts" in answer.headers else True
    rows = await house.rows(user)
    assert [row["counted"] for row in rows] == [True, False]
    house.wires[f"spare-{dialect}"].script = script
    answer = await house.ask(dialect, "one", user, stream=stream)
    assert (answer.status, answer.code) == (400, "invalid_request"), "both of them filter"


@callers
async def test_a_refusal_after_content_is_the_answer(house: House, dialect: str) -> None:
    user = await house.user()
    await two_models(house, dialect, operators=True)
    said = {"chat": 2, "messages": 5, "responses": 5}[dialect]
    end = STREAMED[dialect][0][-1:] if dialect == "responses" else STREAMED[dialect][0][1:]
    caller = await house.begin(dialect, "one", user, stream=True)
    asked = await house.wires[f"wire-{dialect}"].next()
    asked.begin(*STREAMS[dialect][:said])
    head = await caller.head()
    asked.stream_on(*end)
    answer = await caller.rest(head)
    assert (answer.status, refuses(answer)) == (200, True)
    assert b"Hi " in answer.body
    assert house.wires[f"spare-{dialect}"].asked == []


@callers
async def test_after_the_head_has_gone_out_another_model_still_answers(tmp_path: Path, dialect: str) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        user = await house.user()
        await two_models(house, dialect, operators=True)
        spare = house.wires[f"spare-{dialect}"]
        for script, refused in ((spare.script, False), (refusing(500, "no"), True)):
            spare.script = script
            caller = await house.begin(dialect, "one", user, stream=True)
            asked = await house.wires[f"wire-{dialect}"].next()
            head = await caller.head()
            head.body = await caller.until(b": keep-alive\n\n")
            asked.stream(*STREAMED[dialect][0])
            answer = await caller.rest(head)
            assert (answer.whole, refuses(answer), b"Hi " in answer.body) == (True, refused, not refused)
        assert [row["outcome"] for row in await house.rows(user)] == ["completed"] * 2


@callers
async def test_who_ends_a_request_that_another_model_answers_has_ended_it(house: House, dialect: str) -> None:
    user = await house.user()
    await two_models(house, dialect, operators=True)
    house.wires[f"wire-{dialect}"].script = playing(*STREAMED[dialect])
    spare = house.wires[f"spare-{dialect}"]
    spare.script = None
    caller = await house.begin(dialect, "one", user, stream=True)
    asked = await spare.next()
    caller.leave()
    await asked.left()
    row = await house.row(user)
    assert (row["outcome"], row["attempts"], row["counted"]) == ("client_gone", 2, True)
    assert {known.in_flight for known in health_of(house).all()} == {0}
