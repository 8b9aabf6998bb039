"""The model that an answer names is known in every lane, streamed and whole, however the stream was cut."""

import json
from typing import Any

import pytest

from penstock.core.dialects.interface import EventDecoder, EventEncoder, Lane
from penstock.core.dialects.lanes import ObservedPassthrough, Translation
from penstock.core.dialects.messages.paused_turn import PausedTurnDecoder
from penstock.core.dialects.registry import caller_side, passing_of, upstream_side
from penstock.core.neutral.events import AnyEvent
from penstock.core.profile import DEFAULT_PROFILE
from tests.core.dialects.messages.test_paused_turn import streamed
from tests.core.dialects.sides import PASSED_THROUGH, stream_of

PIECES: dict[str, dict[str, Any]] = {
    "chat": {"choices": [{"index": 0, "delta": {"content": "Hi "}}]},
    "messages": {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Hi "},
    },
    "responses": {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hi ",
    },
}
LISTS = {"chat": "choices", "messages": "content", "responses": "output"}
"""Where a whole answer has what it says."""


def frames(dialect: str, *names: str | None) -> list[bytes]:
    """A stream in which each event that can name a model names one of these, the last one from there on."""
    first, last = names[0], names[-1]
    match dialect:
        case "chat":
            events = [{"model": name, **PIECES["chat"]} for name in (first, *names, last)]
            events.append({"model": last, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            events.append(
                {"model": last, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
            )
        case "messages":
            events = [
                {"type": "message_start", "message": {"id": "m", "model": last, "content": []}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                PIECES["messages"],
                {"type": "content_block_stop", "index": 0},
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn"},
                    "usage": {"output_tokens": 2},
                },
                {"type": "message_stop"},
            ]
        case _:
            ended = {"id": "r", "status": "completed", "output": [], "model": last}
            events = [{"type": "response.created", "response": {"id": "r", "model": name}} for name in names]
            events += [PIECES["responses"], {"type": "response.completed", "response": ended}]
    return [b"data: %b\n\n" % json.dumps(event).encode() for event in events] + (
        [b"data: [DONE]\n\n"] if dialect == "chat" else []
    )


def whole(dialect: str, name: str | None) -> bytes:
    said: dict[str, Any] = {LISTS[dialect]: [], "model": name, "status": "completed"}
    if dialect == "chat":
        said["choices"] = [
            {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        ]
    return json.dumps(said).encode()


class Deaf:
    """Listens to nothing."""

    def take(self, event: AnyEvent) -> None:
        """Take the next event."""


def encoder() -> EventEncoder:
    make = caller_side("chat").ResponseEncoder
    return make(model="public", reply_id="r", created=0, include_usage=False, input_estimate=0)


def decoder(dialect: str) -> EventDecoder:
    return upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE)


def lanes(dialect: str) -> list[Lane]:
    """Every way by which a stream of this dialect crosses."""

    def passing(model: str | None) -> Lane:
        return stream_of(dialect)(model=model, withhold_usage=True)

    found: list[Lane] = [passing("public"), passing("up"), passing(None)]
    found.append(ObservedPassthrough(passing("public"), decoder(dialect), Deaf()))
    found.append(Translation(decoder(dialect), encoder()))
    if dialect == "messages":
        found.append(Translation(PausedTurnDecoder(), encoder()))
    return found


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
@pytest.mark.parametrize(
    ("names", "answered"),
    [
        (("up",), "up"),
        (("other",), "other"),
        (("public",), "public"),
        (("up", "other"), "other"),
        (("", "other"), "other"),
        ((None, "other"), "other"),
        (("",), ""),
        ((None,), ""),
    ],
)
@pytest.mark.parametrize("size", [1, 50, 100_000])
def test_a_stream_in_each_lane(dialect: str, names: tuple[str | None, ...], answered: str, size: int) -> None:
    sent = b"".join(frames(dialect, *names))
    for lane in lanes(dialect):
        assert lane.answered == ""
        for at in range(0, len(sent), size):
            lane.feed(sent[at : at + size])
        lane.finish()
        assert (lane.done, lane.failure, lane.answered) == (True, None, answered), type(lane)


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
@pytest.mark.parametrize("name", ["other", None, ""])
def test_a_whole_answer_in_place_of_a_stream(dialect: str, name: str | None) -> None:
    for lane in lanes(dialect):
        lane.feed(whole(dialect, name))
        lane.finish()
        assert (lane.failure, lane.answered) == (None, name or "")


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
@pytest.mark.parametrize("name", ["other", "public", None, ""])
def test_a_whole_answer(dialect: str, name: str | None) -> None:
    for model in ("public", None):
        assert passing_of(dialect).response(whole(dialect, name), model=model)[2:] == (None, name or "")


@pytest.mark.parametrize("dialect", PASSED_THROUGH)
def test_what_is_no_answer_names_nothing(dialect: str) -> None:
    for lane in lanes(dialect):
        lane.feed(b'{"error": {"message": "no"}, "model": "other"}')
        lane.finish()
        assert lane.failure is not None
        assert lane.answered == ""


def test_of_a_paused_turn_the_last_answer_that_names_a_model_counts() -> None:
    reader = PausedTurnDecoder()
    paused = streamed([{"type": "text", "text": "part 1."}], "pause_turn")
    start = b'data: {"type":"message_start","message":{"id":"m","model":"%b"}}\n\n'
    reader.feed(start % b"first" + paused)
    assert reader.answered == "first"
    reader.resume(b'{"messages": [{"role": "user", "content": "x"}]}')
    assert reader.answered == "first"
    reader.feed(start % b"next" + paused)
    assert reader.answered == "next"
