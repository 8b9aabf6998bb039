"""Reasoning inside the text of a Chat upstream, told apart at any split, and put back as it was."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.chat.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.chat.encode_request import encode_request
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import Request, Text, Thought, ToolCall, ToolResult, Turn
from penstock.core.profile import Profile
from penstock.core.reasoning.think_tags import ThinkTags, tagged

TAGS = Profile(think_tags=True, reasoning_field="think_tags")
CASES = [
    ("<think>\nhm\n</think>\n\nHello", "hm", "Hello"),
    ("\n<think>hm</think>Hello", "hm", "Hello"),
    ("<think>\na\n\nb\n</think>\n\n", "a\n\nb", ""),
    ("<think></think>Hello", "", "Hello"),
    ("<think>hm", "hm", ""),
    ("<think>hm</thin", "hm</thin", ""),
    ("Hello <think>no</think>", "", "Hello <think>no</think>"),
    ("<thinker>", "", "<thinker>"),
    ("<thi", "", "<thi"),
    ("  Hello", "", "  Hello"),
    ("", "", ""),
    ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
]


def told_apart(pieces: list[str]) -> tuple[str, str]:
    tags = ThinkTags()
    found = [piece for text in pieces for piece in tags.feed(text)] + tags.finish()
    kinds = [kind for kind, _ in found]
    assert kinds == sorted(kinds, reverse=True), "thoughts come first"
    assert all(text for _, text in found)
    return tuple("".join(text for kind, text in found if kind == wanted) for wanted in ("thought", "text"))  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(("content", "thought", "text"), CASES)
def test_the_two_are_told_apart(content: str, thought: str, text: str) -> None:
    assert told_apart([content]) == (thought, text)


@given(st.sampled_from(CASES), st.lists(st.integers(0, 40), max_size=8))
def test_at_any_split(case: tuple[str, str, str], places: list[int]) -> None:
    content, thought, text = case
    marks = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    assert told_apart([content[start:end] for start, end in pairwise(marks)]) == (thought, text)


def chunk(**delta: Any) -> bytes:
    frame = {"id": "x", "model": "up", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    return b"data: " + json.dumps(frame).encode() + b"\n\n"


CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_and_a_whole_answer(size: int) -> None:
    content = "<think>\nhm</think>\n\nHello"
    stream = b"".join(chunk(content=content[at : at + size]) for at in range(0, len(content), size))
    reader = ResponseDecoder(profile=TAGS)
    events = reader.feed(stream + chunk(tool_calls=[CALL]) + b"data: [DONE]\n\n") + reader.finish()
    message = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    whole = {
        "id": "x",
        "model": "up",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
    }
    for reply in (fold(events), fold(decode_response(json.dumps(whole).encode(), TAGS))):
        thought, text, call = reply.parts
        assert isinstance(thought, Thought)
        assert (thought.text, text, call) == ("hm", Text("Hello"), ToolCall("c", "f", "{}"))
        assert thought.signature is not None


def test_an_answer_that_is_cut_in_its_tag_keeps_what_it_said() -> None:
    reader = ResponseDecoder(profile=TAGS)
    events = reader.feed(chunk(content="<thi") + b"data: [DONE]\n\n") + reader.finish()
    assert fold(events).parts == (Text("<thi"),)


def test_others_keep_their_tags() -> None:
    reader = ResponseDecoder(profile=Profile())
    events = reader.feed(chunk(content="<think>x</think>y") + b"data: [DONE]\n\n")
    assert fold(events).parts == (Text("<think>x</think>y"),)


def test_reasoning_goes_back_into_the_text() -> None:
    turns = (
        Turn("user", (Text("go"),)),
        Turn("assistant", (Thought("hm"), Text("Hello"), ToolCall("c", "f", "{}"))),
        Turn("user", (ToolResult("c"),)),
        Turn("assistant", (Thought("hm"), ToolCall("d", "f", "{}"))),
        Turn("user", (ToolResult("d"),)),
        Turn("assistant", (Thought(signature="x"), Text("no thought"))),
        Turn("user", (Text("go on"),)),
    )
    body, losses = encode_request(Request("m", turns), model="up", profile=TAGS)
    said = [row["content"] for row in json.loads(body)["messages"] if row["role"] == "assistant"]
    assert said == [tagged("hm", "Hello"), tagged("hm", ""), "no thought"]
    assert losses == []
