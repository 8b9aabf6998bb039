"""What few answers are billed by, read from passed-through and translated answers alike, and written where there is a field."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from penstock.core.dialects.chat.encode_response import token_counts
from penstock.core.dialects.registry import DIALECTS, passing_of
from penstock.core.neutral.fold import fold
from penstock.core.neutral.usage import Special, Usage
from penstock.core.profile import Profile
from penstock.core.tools.hosted_runs import read_tool_use, runs_of, special_of
from tests.core.dialects.sides import stream_of
from tests.core.dialects.special_answers import (
    CHAT,
    IMAGE,
    MESSAGES,
    RESPONSES,
    SEARCH,
    chat_answer,
    messages_answer,
    responses_answer,
)


def answers(*, stream: bool) -> Iterator[tuple[str, list[bytes], dict[str, Any]]]:
    """The format, the answer, and what is counted of it."""
    for more, tools, row in MESSAGES.values():
        yield "messages", messages_answer(more, tools, stream=stream), row
    for more, tier, row in CHAT.values():
        yield "chat", chat_answer(more, tier, stream=stream), row
    for items, tier, row in RESPONSES.values():
        yield "responses", responses_answer(items, tier, stream=stream), row
    bare = {name: value for name, value in SEARCH.items() if name != "action"}
    yield "responses", responses_answer([bare], "default", stream=stream), {"web_searches": 1}


def counted(row: dict[str, Any]) -> Special | None:
    return Special(**row) if row else None


def test_of_a_whole_answer() -> None:
    for dialect, (body,), row in answers(stream=False):
        assert passing_of(dialect).response(body, model=None)[1].special == counted(row), (dialect, body)
        side = DIALECTS[dialect].upstream
        assert side is not None
        assert fold(side.decode_response(body, Profile())).usage.special == counted(row), (dialect, body)


def test_of_a_stream_in_one_piece_or_by_frames() -> None:
    for dialect, frames, row in answers(stream=True):
        ping = b'event: ping\ndata: {"type": "ping"}\n\n' if dialect != "chat" else b": x\n\n"
        with_pings = [each for frame in frames[:-1] for each in (frame, ping)] + frames[-1:]
        by_two = [frames[0], *(frame + ping for frame in frames[1:-1]), frames[-1]]
        for pieces in (frames, [b"".join(frames)], [frames[0], b"".join(with_pings[1:])], by_two):
            lane = stream_of(dialect)(model=None, withhold_usage=False)
            for piece in pieces:
                lane.feed(piece)
            lane.finish()
            assert lane.usage.special == counted(row), (dialect, pieces)
        side = DIALECTS[dialect].upstream
        assert side is not None
        reader = side.ResponseDecoder(profile=Profile())
        events = [event for frame in frames for event in reader.feed(frame)]
        assert fold([*events, *reader.finish()]).usage.special == counted(row), (dialect, frames)


def test_runs_that_the_end_of_a_stream_does_not_repeat() -> None:
    items, tier, row = RESPONSES["runs"]
    frames = responses_answer(items, tier, stream=True, empty=True)
    lane = stream_of("responses")(model=None, withhold_usage=False)
    lane.feed(b"".join(frames))
    assert lane.usage.special == counted(row)


@pytest.mark.parametrize(
    ("raw", "runs"),
    [
        (b"", None),
        (b"null", None),
        (b"[1, 2]", None),
        (b'{"web_search_requests": 2, "x": 1, "b_requests": true}', {"web_search": 2}),
    ],
)
def test_runs_that_a_usage_says(raw: bytes, runs: dict[str, int] | None) -> None:
    assert read_tool_use(msgspec.Raw(raw)) == runs


def test_runs_by_their_classes() -> None:
    assert special_of(runs_of(["image_generation", "mcp", "file_search"])) == Special(
        other_tool_runs=2, file_searches=1
    )
    assert special_of({"web_search": 0}) is None
    assert special_of({}, "flex") == Special("flex")
    assert IMAGE["type"] == "image_generation_call"


def test_chat_has_fields_for_sound_and_predictions() -> None:
    read = json.loads(_encoded(Usage(1, 2, special=Special(audio_input_tokens=3))))
    assert read["prompt_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 3}
    assert "completion_tokens_details" not in read
    for reasoning in (None, 4):
        usage = Usage(1, 2, reasoning=reasoning, special=Special(accepted_prediction_tokens=5))
        written = json.loads(_encoded(usage))["completion_tokens_details"]
        assert (written["reasoning_tokens"], written["accepted_prediction_tokens"]) == (reasoning or 0, 5)
        assert "prompt_tokens_details" not in json.loads(_encoded(usage))


def _encoded(usage: Usage) -> bytes:
    return msgspec.json.encode(token_counts(usage))
