"""Every chunk, event and whole answer of Chat and Messages that we write, against the newest types of the official SDKs."""

import json
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from penstock.core.dialects.registry import caller_side
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Metered,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.fold import fold
from penstock.core.neutral.usage import Usage
from penstock.core.sse import Frames

USAGE = Metered(Usage(30, 12, 60, 10, 3))
ANSWERS: dict[str, list[AnyEvent]] = {
    "all": [
        ThoughtDelta("a"),
        ThoughtSigned("sig"),
        ThoughtRedacted("op"),
        TextDelta("x"),
        Cited("https://a.example", "A", "so"),
        CallOpened("c1", "get"),
        CallArgs('{"a":1}'),
        CallOpened("c2", "now"),
        USAGE,
        Stopped("tool_use", None, None, "flex"),
    ],
    "cut": [TextDelta("Cut"), USAGE, Stopped("max_tokens")],
    "window": [TextDelta("Cut"), USAGE, Stopped("context_window")],
    "refused": [TextDelta("Why"), USAGE, Stopped("refusal", None, "I will not.")],
    "sequence": [TextDelta("x"), USAGE, Stopped("stop_sequence", "END")],
    "paused": [TextDelta("x"), USAGE, Stopped("pause_turn")],
    "nothing": [USAGE, Stopped("end_turn")],
}
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def written(dialect: str, events: list[AnyEvent]) -> list[Any]:
    """The frames of a stream that a caller gets."""
    writer = caller_side(dialect).ResponseEncoder(
        model="m", reply_id="r", created=1, include_usage=True, input_estimate=3
    )
    frames = Frames().feed(writer.write([Started("up", "m"), *events]))
    return [json.loads(frame.data) for frame in frames if frame.data != b"[DONE]"]


def whole(dialect: str, events: list[AnyEvent]) -> Any:
    reply = fold([Started("up", "m"), *events])
    return json.loads(caller_side(dialect).encode_response(reply, model="m", reply_id="r", created=1))


@pytest.mark.parametrize("name", ANSWERS)
def test_chat(name: str) -> None:
    frames = written("chat", ANSWERS[name])
    for frame in frames:
        ChatCompletionChunk.model_validate(frame, strict=True)
    last = frames[-2]
    assert last["choices"][0]["finish_reason"]
    assert last.get("service_tier") == ("flex" if name == "all" else None)
    ChatCompletion.model_validate(whole("chat", ANSWERS[name]), strict=True)


@pytest.mark.parametrize("name", ANSWERS)
def test_messages(name: str) -> None:
    for frame in written("messages", ANSWERS[name]):
        EVENT.validate_python(frame, strict=True)
    Message.model_validate(whole("messages", ANSWERS[name]), strict=True)
