"""Compaction for callers of Responses: a summary takes a conversation's place, whatever the upstream speaks."""

import json
from typing import Any

import pytest
from openai.types.responses import ResponseCompactionItem

from penstock.core.dialects.interface import Asked
from penstock.core.dialects.lanes import Crossing, stream_lane, whole_reply
from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.dialects.responses.dialect import COMPACTING
from penstock.core.dialects.summary import (
    INSTRUCTION,
    INTRODUCTION,
    UNREADABLE,
    SummaryDecoder,
    opened_summary,
    sealed_summary,
)
from penstock.core.endpoints import ENDPOINTS
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtSigned,
)
from penstock.core.neutral.fold import fold
from penstock.core.profile import Profile
from penstock.core.sse import Frames

UPSTREAMS = ("chat", "messages", "responses")
GET = {"type": "function", "name": "get", "parameters": {"type": "object"}}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Remember 42."},
    {"type": "function_call", "call_id": "c1", "name": "get", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "x"},
    {"role": "assistant", "content": "Yes."},
]
TRIGGERED: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [*HISTORY, {"type": "compaction_trigger"}],
    "tools": [GET, {"type": "web_search"}],
    "text": {"format": {"type": "json_object"}},
}
ANSWER: list[AnyEvent] = [
    Started("x", "up"),
    ThoughtDelta("hm"),
    ThoughtSigned("sig"),
    TextDelta("It is "),
    Cited("https://a.example", "A"),
    TextDelta("42."),
    CallOpened("c9", "get"),
    CallArgs("{}"),
    Stopped("end_turn"),
]


def envelope(body: dict[str, Any]) -> Any:
    return read_envelope(json.dumps(body).encode(), "responses")


def sent(body: dict[str, Any], upstream: str, profile: Profile | None = None) -> tuple[dict[str, Any], str]:
    prepared = prepare(
        envelope(body), caller="responses", upstream=upstream, model="up", profile=profile or Profile()
    )
    return json.loads(prepared.body), translation_header(prepared.losses)


def spoken(upstream: str, events: list[AnyEvent], *, stream: bool) -> bytes:
    """What an upstream that speaks this dialect says."""
    side = caller_side(upstream)
    if not stream:
        return side.encode_response(fold(events), model="up", reply_id="r", created=1)
    writer = side.ResponseEncoder(model="up", reply_id="r", created=1, include_usage=True, input_estimate=1)
    return writer.write(events)


def crossing(upstream: str) -> Crossing:
    return Crossing(
        caller_side("responses"),
        upstream_side(upstream),
        False,
        Profile(),
        "public",
        "resp_1",
        7,
        clock=lambda: 9.9,
    )


def streamed(upstream: str, events: list[AnyEvent]) -> tuple[list[dict[str, Any]], Any]:
    way = crossing(upstream)
    prepared = prepare(
        envelope(TRIGGERED), caller="responses", upstream=upstream, model="up", profile=Profile()
    )
    lane = stream_lane(way, envelope(TRIGGERED), prepared, b"text/event-stream")
    out = lane.feed(spoken(upstream, events, stream=True)) + lane.finish()
    return [json.loads(frame.data) for frame in Frames().feed(out)], lane


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_trigger_asks_the_model_for_a_summary(upstream: str) -> None:
    body, _ = sent(TRIGGERED, upstream)
    said = body.get("messages") or body["input"]
    last = said[-1]["content"]
    assert (last if isinstance(last, str) else last[-1]["text"]) == INSTRUCTION
    assert "Remember 42." in json.dumps(said)
    assert len(body["tools"]) == 1, "calls of it are in the conversation"
    assert body["tool_choice"] in ("none", {"type": "none"})
    assert "response_format" not in body
    assert "text" not in body


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_the_stream_holds_one_item_which_is_the_summary(upstream: str) -> None:
    frames, lane = streamed(upstream, ANSWER)
    assert [frame["type"] for frame in frames] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    assert [frame["sequence_number"] for frame in frames] == [0, 1, 2, 3, 4]
    item = frames[3]["item"]
    ResponseCompactionItem.model_validate(item, strict=True)
    assert opened_summary(item["encrypted_content"]) == "It is 42."
    assert frames[4]["response"]["output"] == [item]
    assert frames[4]["response"]["completed_at"] == 9
    assert lane.done
    assert lane.failure is None


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_whole_answer_holds_the_same(upstream: str) -> None:
    way = crossing(upstream)
    asked = way.asked(envelope(TRIGGERED))
    prepared = prepare(
        envelope(TRIGGERED), caller="responses", upstream=upstream, model="up", profile=Profile()
    )
    reply = whole_reply(way, prepared, spoken(upstream, ANSWER, stream=False), None, asked)
    whole = json.loads(
        way.caller.encode_response(reply, model="m", reply_id="resp_1", created=1, asked=asked)
    )
    (item,) = whole["output"]
    assert opened_summary(item["encrypted_content"]) == "It is 42."
    assert whole["status"] == "completed"
    made = json.loads(COMPACTING.encode_response(reply, model="m", reply_id="resp_1", created=1, asked=asked))
    assert made["output"] == [item]


@pytest.mark.parametrize(
    "events",
    [
        [Started("x", "up"), ThoughtDelta("hm"), ThoughtSigned("s"), Stopped("end_turn")],
        [Started("x", "up"), CallOpened("c", "get"), CallArgs("{}"), Stopped("tool_use")],
        [Started("x", "up"), TextDelta("It is"), Stopped("max_tokens")],
        [Started("x", "up"), TextDelta("I will not."), Stopped("refusal", None, "I will not.")],
    ],
    ids=["thoughts", "call", "cut", "refusal"],
)
def test_what_is_no_summary_is_a_failure_and_never_a_lost_conversation(events: list[AnyEvent]) -> None:
    frames, lane = streamed("messages", events)
    assert lane.failure is not None
    assert not any(frame["type"] == "response.output_item.done" for frame in frames)
    way = crossing("messages")
    prepared = prepare(
        envelope(TRIGGERED), caller="responses", upstream="messages", model="up", profile=Profile()
    )
    body = spoken("messages", events, stream=False)
    assert whole_reply(way, prepared, body, None, Asked(compacts=True)).failure is not None


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_the_item_comes_back_as_what_it_says(upstream: str) -> None:
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": sealed_summary("It is 42.")}
    body, told = sent({"model": "m", "input": [item, {"role": "user", "content": "What is it?"}]}, upstream)
    said = json.dumps(body.get("messages") or body["input"])
    assert json.dumps(INTRODUCTION + "It is 42.") in said
    assert "gwc1." not in said
    assert told == ("input.compaction=text" if upstream == "responses" else "")


@pytest.mark.parametrize("kind", ["compaction", "compaction_summary", "context_compaction"])
def test_what_another_provider_compacted_is_left_out_and_told(kind: str) -> None:
    item = {"type": kind, "encrypted_content": "gAAA"}
    body, told = sent({"model": "m", "input": [item, {"role": "user", "content": "x"}]}, "chat")
    assert body["messages"][0] == {"role": "user", "content": UNREADABLE}
    assert told == f"input.{kind}=dropped"
    body, told = sent({"model": "m", "input": [item, {"role": "user", "content": "x"}]}, "responses")
    assert body["input"][0] == item, "its maker can read it"
    assert opened_summary("gwc1.###") is None
    assert opened_summary("gwc1.AA") is None
    assert opened_summary(None) is None


def test_an_upstream_that_compacts_itself_gets_the_trigger() -> None:
    body, _ = sent(TRIGGERED, "responses", Profile(compaction=True))
    assert body["input"] == TRIGGERED["input"]
    word = {"model": "m", "input": [{"role": "user", "content": "What is a compaction_trigger?"}]}
    body, _ = sent(word, "responses")
    assert body["input"] == word["input"], "it is a word like any other"


def test_the_endpoint_gives_the_users_messages_and_the_item() -> None:
    row = next(row for row in ENDPOINTS if row.path == "/responses/compact")
    side = row.side
    assert side is not None
    read = side.asked
    assert read is not None
    asked = read(envelope({"model": "m", "input": HISTORY}))
    request, _ = side.decode_request(json.dumps({"model": "m", "input": HISTORY}).encode())
    assert INSTRUCTION in str(request.turns[-1])
    twice, _ = side.decode_request(json.dumps(TRIGGERED).encode())
    assert str(twice).count("write now") == 1
    reply = fold([Started("x", "up"), TextDelta("It is 42."), Stopped("end_turn")])
    made = json.loads(side.encode_response(reply, model="m", reply_id="resp_1", created=5, asked=asked))
    user, item = made["output"]
    text = {"type": "input_text", "text": "Remember 42."}
    assert user == {"type": "message", "role": "user", "content": [text]}
    assert opened_summary(item["encrypted_content"]) == "It is 42."
    assert (made["object"], made["id"], made["created_at"]) == ("response.compaction", "resp_1", 5)
    assert made["usage"]["input_tokens"] == 0
    assert not side.passes


def test_of_long_messages_the_newest_are_kept() -> None:
    items = [{"role": "user", "content": f"{nth} {'x' * 100_000}"} for nth in range(4)]
    read = COMPACTING.asked
    assert read is not None
    kept = json.loads(b"[%b]" % read(envelope({"model": "m", "input": items})).kept)
    assert [message["content"][0]["text"][0] for message in kept] == ["2", "3"]
    kept = json.loads(b"[%b]" % read(envelope({"model": "m", "input": "hi"})).kept)
    assert kept[0]["content"] == [{"type": "input_text", "text": "hi"}]


def test_items_that_are_damaged_go_on_as_they_are() -> None:
    damaged: list[dict[str, Any]] = [
        {"type": "compaction", "encrypted_content": "gwc1.###"},
        {"type": "compaction", "encrypted_content": ["gwc1.x"], "role": 5, "content": 5},
        {"type": "brand_new", "encrypted_content": "gwc1.x"},
        {"type": "brand_new", "content": 5, "said": "compaction_trigger"},
    ]
    sealed = {"type": "compaction", "encrypted_content": sealed_summary("It is 42.")}
    body, _ = sent({"model": "m", "input": [*damaged, sealed]}, "responses")
    assert body["input"][:4] == damaged
    assert body["input"][4]["role"] == "user"


def test_a_decoder_of_summaries_names_the_model_and_knows_no_forms() -> None:
    decoder = SummaryDecoder(upstream_side("chat").ResponseDecoder(profile=Profile()))
    frame = b'data: {"id":"x","model":"up","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    assert decoder.feed(frame) == [Started("x", "up"), TextDelta("a")]
    assert decoder.form_of(frame) is None
    assert decoder.answered == "up"


def test_codes_of_summaries() -> None:
    assert sealed_summary("x").startswith("gwc1.")
    assert opened_summary("other") is None
