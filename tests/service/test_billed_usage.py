"""All that a provider bills is counted: what a compaction or an advisor took beside the answer, whole and streamed alike."""

import json
from typing import Any

import pytest

from tests.service.conversations import PATHS, body_of
from tests.service.running_service import House

CACHED = {
    "cache_creation_input_tokens": 70,
    "cache_read_input_tokens": 900,
    "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 30},
}
MESSAGE = {"type": "message", "input_tokens": 23000, "output_tokens": 1000}
COMPACTION = {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500}
ADVISOR = {"type": "advisor_message", "model": "claude-z", "input_tokens": 500, "output_tokens": 60}
SERVED = {"type": "fallback_message", "model": "claude-w", "input_tokens": 23000, "output_tokens": 1000}
DECLINED = {"type": "message", "model": "up-messages", "input_tokens": 400, "output_tokens": 0}

Counts = tuple[int | None, int | None, int | None, int | None]
"""Input, output, and what was read from and written to a cache, as the row has them."""

CASES: dict[str, tuple[Any, Counts, str | None]] = {
    "none": (None, (23000, 1000, None, None), None),
    "no list": ({"compaction": 1}, (23000, 1000, None, None), None),
    "wrong inside": ([COMPACTION, 7], (23000, 1000, None, None), None),
    "a compaction": ([COMPACTION, MESSAGE], (203000, 4500, None, None), None),
    "two, with caches": (
        [COMPACTION | CACHED, MESSAGE, COMPACTION | CACHED],
        (383000, 8000, 1800, 140),
        None,
    ),
    "an advisor": ([MESSAGE, ADVISOR], (23500, 1060, None, None), None),
    "a loop of server tools": ([MESSAGE, MESSAGE], (23000, 1000, None, None), None),
    "a fallback": ([DECLINED, SERVED], (23000, 1000, None, None), "claude-w"),
    "a kind that is not known": (
        [MESSAGE, {"type": "new", "input_tokens": 9}],
        (23000, 1000, None, None),
        None,
    ),
}


def answer_of(iterations: object, *, stream: bool) -> list[bytes]:
    """A whole answer, or the frames of a stream."""
    counts: dict[str, Any] = {"input_tokens": 23000, "output_tokens": 1000}
    if iterations is not None:
        counts["iterations"] = iterations
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up-messages"}
    text = {"type": "text", "text": "Hi"}
    if not stream:
        body = message | {"content": [text], "stop_reason": "end_turn", "usage": counts}
        return [json.dumps(body).encode()]
    begun = message | {"content": [], "usage": {"input_tokens": 23000, "output_tokens": 1}}
    del counts["input_tokens"]  # said at the start
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts},
        {"type": "message_stop"},
    ]
    return [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events
    ]


def told(caller: str, body: bytes, *, stream: bool) -> tuple[int, int]:
    """Input and output, as the caller's own format says them."""
    if not stream:
        usage = json.loads(body)["usage"]
    else:
        events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
        usages = [event.get("usage") or (event.get("response") or {}).get("usage") for event in events]
        usage = [one for one in usages if one][-1]
    if caller == "chat":
        return usage["prompt_tokens"], usage["completion_tokens"]
    return usage["input_tokens"], usage["output_tokens"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
async def test_what_was_billed_beside_the_answer_is_counted(house: House, caller: str, stream: bool) -> None:
    wire = house.wires["wire-messages"]
    for name, (iterations, counts, model) in CASES.items():
        user = await house.user()
        sent = answer_of(iterations, stream=stream)
        wire.script = lambda asked, sent=sent: asked.stream(*sent) if stream else asked.answer(sent[0])
        if caller == "responses":
            body = json.dumps({"model": "wire-messages", "input": "Hello", "stream": stream}).encode()
        else:
            more = {"stream_options": {"include_usage": True}} if caller == "chat" and stream else {}
            body = body_of(caller, "wire-messages", stream=stream, **more)
        answer = await house.http("POST", PATHS.get(caller, "/v1/responses"), user.key, body=body)
        assert answer.status == 200, answer.body
        row = await house.row(user)
        columns = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        assert tuple(row[column] for column in columns) == counts, name
        assert row["answered_model"] == model, name
        assert not row["estimated"]
        if caller == "messages":
            ours = b"".join(sent).replace(
                b'"model": "up-messages", "content"', b'"model": "wire-messages", "content"'
            )
            assert answer.body.replace(b'"wire-messages"', b'"up-messages"') == ours.replace(
                b'"wire-messages"', b'"up-messages"'
            ), name
        else:
            whole = sum(count or 0 for count in (counts[0], *counts[2:]))
            assert told(caller, answer.body, stream=stream) == (whole, counts[1]), name
