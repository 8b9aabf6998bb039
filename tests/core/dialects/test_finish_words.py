"""Every finish word of the table, whole and streamed, in each lane; and what becomes of a word that is not in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.core.body.envelope import read_body
from penstock.core.dialects.finish_words import (
    CHAT,
    FINISH_WORDS,
    MESSAGES,
    RESPONSES,
    UNKNOWN_END,
    FinishWord,
    failed_end,
    good_end,
    meaning_in,
)
from penstock.core.dialects.interface import Lane, Prepared
from penstock.core.dialects.lanes import Crossing, stream_lane
from penstock.core.dialects.registry import caller_side, upstream_side
from penstock.core.neutral.events import Failed, Reply
from penstock.core.neutral.fold import fold
from penstock.core.profile import DEFAULT_PROFILE, Profile

PAGE = (Path(__file__).parents[3] / "docs" / "translation.md").read_text("utf-8")
DIALECTS = ("chat", "messages", "responses")
TEXT = "half"
UNKNOWN = ("end_of_days", "stopped", "STOP WORD", "ok")
"""Words that no vendor is known to send."""


def whole(dialect: str, word: str) -> bytes:
    """A whole answer that ends with this word."""
    body: dict[str, Any] = {"id": "x", "model": "up"}
    match dialect:
        case "chat":
            choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": word}
            body |= {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        case "messages":
            body |= {"type": "message", "role": "assistant", "stop_reason": word}
            body |= {"content": [{"type": "text", "text": TEXT}]}
        case _:
            body |= {"status": "incomplete", "incomplete_details": {"reason": word}}
            content = [{"type": "output_text", "text": TEXT, "annotations": []}]
            body |= {"output": [{"type": "message", "role": "assistant", "content": content}]}
    return json.dumps(body).encode()


def stream(dialect: str, word: str) -> bytes:
    """The same as a stream."""
    match dialect:
        case "chat":
            rows = [
                {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
                for delta, finish in (({"content": TEXT}, None), ({}, word))
            ]
            chunks = [json.dumps({"id": "x", "model": "up", **row}) for row in rows]
            return b"".join(f"data: {chunk}\n\n".encode() for chunk in (*chunks, "[DONE]"))
        case "messages":
            events: list[dict[str, Any]] = [
                {"type": "message_start", "message": {"id": "x", "model": "up", "content": []}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": word}, "usage": {"output_tokens": 2}},
                {"type": "message_stop"},
            ]
        case _:
            response = json.loads(whole(dialect, word))
            events = [
                {"type": "response.created", "response": {"id": "x", "model": "up", "status": "in_progress"}},
                {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": TEXT},
                {"type": "response.incomplete", "response": response},
            ]
    return b"".join(f"event: {row['type']}\ndata: {json.dumps(row)}\n\n".encode() for row in events)


def replies(dialect: str, word: str, profile: Profile = DEFAULT_PROFILE) -> list[Reply]:
    """What a translator reads of it: whole, in one read, and byte by byte."""
    side = upstream_side(dialect)
    found = [fold(side.decode_response(whole(dialect, word), profile))]
    for size in (1 << 20, 1):
        decoder = side.ResponseDecoder(profile=profile)
        data = stream(dialect, word)
        events = [event for at in range(0, len(data), size) for event in decoder.feed(data[at : at + size])]
        found.append(fold([*events, *decoder.finish()]))
    return found


def lane_of(caller: str, upstream: str) -> Lane:
    body = {"model": "pub", "stream": True, "max_tokens": 9}
    body |= {"input": "hi"} if caller == "responses" else {"messages": [{"role": "user", "content": "hi"}]}
    side = caller_side(caller)
    envelope = read_body(json.dumps(body).encode(), side.body)
    same = caller == upstream
    crossing = Crossing(side, upstream_side(upstream), same, DEFAULT_PROFILE, "pub", "x", 1)
    return stream_lane(crossing, envelope, Prepared(b""), b"text/event-stream")


def passed(dialect: str, word: str) -> tuple[bytes, Failed | None]:
    passing = upstream_side(dialect).passing
    assert passing is not None
    out, _, failed, _ = passing.response(whole(dialect, word), model="pub")
    return out, failed


each_row = pytest.mark.parametrize("row", FINISH_WORDS, ids=lambda row: f"{row.dialect}-{row.word}")


@each_row
def test_a_word_means_what_its_row_says(row: FinishWord) -> None:
    for reply in replies(row.dialect, row.word):
        if row.meaning in ("failed", "overloaded"):
            assert reply.failure is not None
            assert reply.failure.kind == ("api_error" if row.meaning == "failed" else "overloaded_error")
            assert not reply.failure.truncated
        else:
            assert (reply.failure, reply.reason) == (
                None,
                "end_turn" if row.meaning == "tool_use" and row.dialect == "chat" else row.meaning,
            )


@each_row
@pytest.mark.parametrize("caller", DIALECTS)
def test_no_lane_hides_a_failure(row: FinishWord, caller: str) -> None:
    lane = lane_of(caller, row.dialect)
    out = lane.feed(stream(row.dialect, row.word)) + lane.finish()
    if row.meaning in ("failed", "overloaded"):
        assert lane.failure is not None
        assert lane.failure.kind != UNKNOWN_END
        for end in (b"[DONE]", b"message_stop", b"response.completed", b"response.incomplete"):
            assert end not in out
    else:
        assert lane.failure is None
        assert lane.done


@each_row
def test_a_whole_answer_that_passes_as_bytes_is_looked_at_too(row: FinishWord) -> None:
    out, failed = passed(row.dialect, row.word)
    if row.meaning in ("failed", "overloaded"):
        assert (out, failed is None) == (b"", False)
    else:
        assert failed is None
        assert out == whole(row.dialect, row.word).replace(b'"up"', b'"pub"')


@pytest.mark.parametrize("word", UNKNOWN)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_word_that_is_not_known_is_no_good_end(dialect: str, word: str) -> None:
    for reply in replies(dialect, word):
        assert reply.failure is not None
        assert reply.failure.kind == UNKNOWN_END
        assert word in reply.failure.message
    for caller in DIALECTS:
        lane = lane_of(caller, dialect)
        out = lane.feed(stream(dialect, word)) + lane.finish()
        if caller == dialect:  # its own format has the word: the caller reads it
            assert lane.failure is None
            assert word.encode() in out
        else:
            assert lane.failure is not None
            assert lane.failure.kind == UNKNOWN_END
    assert passed(dialect, word) == (whole(dialect, word).replace(b'"up"', b'"pub"'), None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_operator_says_what_a_word_of_its_own_server_means(dialect: str) -> None:
    profile = Profile(good_ends="done, end_of_days")
    for reply in replies(dialect, "end_of_days", profile):
        assert (reply.failure, reply.reason) == (None, "end_turn")
    assert all(reply.failure is not None for reply in replies(dialect, "days", profile))


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("STOP", "end_turn"),
        ("MAX_TOKENS", "max_tokens"),
        ("SAFETY", "refusal"),
        ("content_filter: PROHIBITED_CONTENT", "refusal"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "failed"),
        ("Network_Error", "failed"),
        ("COMPLETE", "end_turn"),
        (": stop", None),
        ("", None),
    ],
)
def test_capitals_and_what_follows_a_colon_do_not_count(word: str, meaning: str | None) -> None:
    assert meaning_in(CHAT, word) == meaning


def test_a_state_that_is_none_of_an_answer_is_a_failure() -> None:
    side = upstream_side("responses")
    good = json.loads(whole("responses", "max_output_tokens"))
    for status, truncated in (("queued", True), ("in_progress", True), ("parked", False)):
        body = json.dumps({**good, "status": status, "incomplete_details": None}).encode()
        failure = fold(side.decode_response(body, DEFAULT_PROFILE)).failure
        assert failure is not None
        assert failure.truncated is truncated
    for status in (None, "completed"):
        body = json.dumps({**good, "status": status, "incomplete_details": None}).encode()
        assert fold(side.decode_response(body, DEFAULT_PROFILE)).reason == "end_turn"
    nothing = json.dumps({**good, "incomplete_details": None}).encode()
    assert fold(side.decode_response(nothing, DEFAULT_PROFILE)).reason == "max_tokens"


def test_each_word_has_one_row_and_says_where_it_was_read() -> None:
    keys = [(row.dialect, row.word) for row in FINISH_WORDS]
    assert len(keys) == len(set(keys))
    for row in FINISH_WORDS:
        assert row.word == row.word.lower()
        assert row.vendors
        assert "2026-1" in row.source or "2026-0" in row.source or not row.source
    for words in (CHAT, MESSAGES, RESPONSES):
        assert failed_end(words, "error") is not None
        assert failed_end(words, "nobody_says_so") is None
        assert isinstance(good_end(words, "nobody_says_so"), Failed)


@each_row
def test_a_row_is_on_the_page(row: FinishWord) -> None:
    assert (
        f"| {row.dialect} | `{row.word}` | {row.meaning} | {row.vendors} | {row.source or 'unverified'} |"
        in PAGE
    )
