"""Turns that a Messages upstream pauses: what goes back to it, and the one reply that its answers add up to."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.messages import dialect as messages
from penstock.core.dialects.messages.paused_turn import PausedTurnDecoder, Said, continued
from penstock.core.dialects.messages.response_schema import Block, Delta, StreamEvent
from penstock.core.neutral.events import AnyEvent, CallOpened, Failed, Reply, Stopped
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import AnyPart, Hosted, Page, Text, Thought, ToolCall
from penstock.core.neutral.usage import Special, Usage

_SEARCH = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "penstock"},
}
_FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "EqgfCi"}
    ],
}
_CITATION = {
    "type": "web_search_result_location",
    "url": "https://a.example",
    "title": "A",
    "cited_text": "water",
    "encrypted_index": "Eo8B",
}
_SERVED = Hosted(
    "search",
    "srvtoolu_1",
    "web_search",
    '{"query":"penstock"}',
    (Page("https://a.example", "A"),),
    raw=msgspec.json.encode([_SEARCH, _FOUND]).decode(),
)


def _plain(parts: Sequence[AnyPart]) -> tuple[AnyPart, ...]:
    """The parts without the white space that this vendor writes between JSON's members."""

    def plain(text: str) -> str:
        return msgspec.json.format(text, indent=-1)

    return tuple(
        msgspec.structs.replace(part, input=plain(part.input), raw=plain(part.raw))
        if isinstance(part, Hosted)
        else part
        for part in parts
    )


_CITED = {"type": "text", "text": "A gate.", "citations": [_CITATION]}
_THOUGHT = {"type": "thinking", "thinking": "I look.", "signature": "c2ln"}
_BLOCKS: list[dict[str, Any]] = [
    _THOUGHT,
    {"type": "redacted_thinking", "data": "b3BhcXVl"},
    {"type": "text", "text": "I search."},
    _SEARCH,
    _FOUND,
    _CITED,
]
_REQUEST = b'{"model":"m","system":[{"type":"text","text":"S"}],"messages":[{"role":"user","content":"Hi"}],"max_tokens":9}'


def whole(blocks: list[dict[str, Any]], reason: str = "pause_turn", **usage: Any) -> bytes:
    """An answer that came as one object."""
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5, **usage},
        }
    ).encode()


def _frame(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def _deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and what comes then."""
    match block["type"]:
        case "text":
            pieces = [{"type": "text_delta", "text": piece} for piece in block["text"]]
            cited = [{"type": "citations_delta", "citation": it} for it in block.get("citations", ())]
            return {"type": "text", "text": ""}, [*pieces, *cited]
        case "thinking":
            pieces = [{"type": "thinking_delta", "thinking": piece} for piece in block["thinking"]]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*pieces, signed]
        case "server_tool_use" | "tool_use":
            written = json.dumps(block["input"])
            pieces = [{"type": "input_json_delta", "partial_json": it} for it in ("", *written)]
            return {**block, "input": {}}, pieces
        case _:
            return block, []


def streamed(blocks: list[dict[str, Any]], reason: str = "pause_turn") -> bytes:
    """An answer as a stream, a character at a time."""
    begun = {"id": "msg_1", "model": "m", "content": [], "usage": {"input_tokens": 10, "output_tokens": 1}}
    out = [_frame("message_start", message=begun)]
    for index, block in enumerate(blocks):
        start, deltas = _deltas(block)
        out.append(_frame("content_block_start", index=index, content_block=start))
        out += [_frame("content_block_delta", index=index, delta=delta) for delta in deltas]
        out.append(_frame("content_block_stop", index=index))
    end = {"stop_reason": reason, "stop_sequence": None}
    return b"".join(
        [*out, _frame("message_delta", delta=end, usage={"output_tokens": 5}), _frame("message_stop")]
    )


def _turns(body: bytes) -> list[dict[str, Any]]:
    return json.loads(body)["messages"]


@pytest.mark.parametrize("write", [whole, streamed])
def test_every_block_goes_back_as_it_came(write: Any) -> None:
    reader = PausedTurnDecoder()
    events = reader.whole(write(_BLOCKS))
    assert reader.paused
    assert not any(isinstance(event, Stopped) for event in events)
    body = reader.resume(_REQUEST)
    assert not reader.paused
    assert _turns(body) == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _BLOCKS}]
    assert body.startswith(_REQUEST[: _REQUEST.index(b"Hi") + 3])
    assert body.endswith(b'"max_tokens":9}')


@pytest.mark.parametrize("write", [whole, streamed])
def test_the_answers_add_up_to_one_reply(write: Any) -> None:
    reader = PausedTurnDecoder()
    events = reader.whole(write(_BLOCKS))
    body = reader.resume(_REQUEST)
    events += reader.whole(write([{"type": "text", "text": " More."}]))
    assert reader.paused
    body = reader.resume(body)
    assert [turn["role"] for turn in _turns(body)] == ["user", "assistant"], "the turn is one message"
    assert _turns(body)[1]["content"] == [*_BLOCKS, {"type": "text", "text": " More."}]
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    events += reader.whole(write([{"type": "text", "text": " Now:"}, call], "tool_use"))
    events += reader.finish()
    reply = fold(events)
    assert _plain(reply.parts) == (
        Thought("I look.", "c2ln"),
        Thought(redacted="b3BhcXVl"),
        Text("I search."),
        _SERVED,
        Text("A gate. More. Now:"),
        ToolCall("toolu_1", "add", '{"a": 1}'),
    )
    assert [cited.url for cited in reply.citations] == ["https://a.example"]
    assert (reply.id, reply.reason) == ("msg_1", "tool_use")
    assert reply.usage == Usage(input=30, output=15, special=Special(web_searches=1))
    assert sum(isinstance(event, Stopped) for event in events) == 1


def test_a_stream_runs_on_byte_by_byte_as_for_any_split() -> None:
    first, second = streamed(_BLOCKS), streamed([{"type": "text", "text": "Done."}], "end_turn")
    reader = PausedTurnDecoder()
    events: list[AnyEvent] = []
    for at in range(len(first)):
        events += reader.feed(first[at : at + 1])
    assert reader.paused
    assert reader.feed(b"more") == []
    reader.resume(_REQUEST)
    for at in range(len(second)):
        events += reader.feed(second[at : at + 1])
    events += reader.finish()
    reply: Reply = fold(events)
    assert _plain(reply.parts[-2:]) == (_SERVED, Text("A gate.Done."))
    assert reply.usage == Usage(input=20, output=10, special=Special(web_searches=1))


def test_counts_that_nobody_gave_stay_unknown() -> None:
    reader = PausedTurnDecoder()
    given: dict[str, Any] = {"cache_read_input_tokens": 3, "input_tokens": None, "output_tokens": None}
    events = reader.whole(whole(_BLOCKS, **given))
    reader.resume(_REQUEST)
    events += reader.whole(whole(_BLOCKS[2:3], "end_turn", **given))
    assert fold(events).usage == Usage(cache_read=6, special=Special(web_searches=1))


def test_a_pause_that_nobody_resumes_ends_the_reply() -> None:
    reader = PausedTurnDecoder()
    reader.feed(streamed(_BLOCKS))
    assert reader.finish() == [Stopped("pause_turn")]
    assert not reader.paused
    assert reader.finish() == []


def test_what_the_caller_has_to_answer_first_does_not_go_on() -> None:
    reader = PausedTurnDecoder()
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    events = reader.whole(whole([*_BLOCKS, call]))
    assert not reader.paused
    assert events[-1] == Stopped("tool_use")
    assert any(isinstance(event, CallOpened) for event in events)


@pytest.mark.parametrize("blocks", [[], [{"type": "text", "text": ""}]])
def test_a_pause_with_nothing_said_is_an_end(blocks: list[dict[str, Any]]) -> None:
    reader = PausedTurnDecoder()
    assert reader.whole(streamed(blocks))[-1] == Stopped("pause_turn")
    assert not reader.paused


def test_long_texts_go_back_whole() -> None:
    text = "".join(f"word {number} " for number in range(1000))
    reader = PausedTurnDecoder()
    reader.whole(streamed([{"type": "text", "text": text}]))
    assert _turns(reader.resume(_REQUEST))[1]["content"][0]["text"] == text


def test_blocks_that_cannot_go_back_end_the_reply() -> None:
    broken = streamed([{"type": "text", "text": "Hi"}]).replace(
        b'"content_block": {"type": "text", "text": ""}',
        b'"content_block": {"type": "text", "text": "\\ud800"}',
    )
    reader = PausedTurnDecoder()
    events = reader.whole(broken)
    assert not reader.paused
    assert isinstance(events[-1], Stopped | Failed)


@pytest.mark.parametrize("write", [whole, streamed])
@pytest.mark.parametrize("other", [b'"\xff": 1', b'"a": ' + b"[" * 900 + b"]" * 900, b'"a": "\xff"'])
def test_whatever_a_block_holds_the_reply_ends_or_goes_on(write: Any, other: bytes) -> None:
    answer = write([{"type": "text", "text": ""}]).replace(b'"text": ""', b'"text": "Hi", ' + other, 1)
    reader = PausedTurnDecoder()
    events = reader.whole(answer)
    if reader.paused:
        assert reader.resume(_REQUEST)
    else:
        assert isinstance(events[-1], Stopped | Failed)


def test_deltas_of_no_block_and_of_no_kind_are_no_blocks() -> None:
    blocks = [{"type": "text", "text": "Hi"}]
    odd = (
        _frame("content_block_delta", index=7, delta={"type": "text_delta", "text": "lost"})
        + _frame("content_block_delta", index=0)
        + _frame("content_block_delta", index=0, delta={"type": "new_delta"})
        + _frame("content_block_start", index=3)
    )
    stream = streamed(blocks)
    at = stream.index(b"event: content_block_stop")
    reader = PausedTurnDecoder()
    reader.whole(stream[:at] + odd + stream[at:])
    assert _turns(reader.resume(_REQUEST))[1]["content"] == blocks


@pytest.mark.parametrize("cut", [1, 300])
def test_what_is_larger_than_any_answer_is_not_kept(cut: int) -> None:
    piece = "x" * (4_000_000 if cut == 1 else 230_000)
    said = Said()
    start = b'{"type":"content_block_start","content_block":{"type":"text","text":""}}'
    said.take(StreamEvent(type="content_block_start", content_block=Block("text")), start)
    for _ in range(17 if cut == 1 else cut):
        said.take(StreamEvent(type="content_block_delta", delta=Delta(text=piece)), b"")
    assert said.content() == []


def test_blocks_that_are_no_blocks_are_not_kept() -> None:
    said = Said()
    said.take_whole(b'{"content": 7}')
    assert said.content() == []


def test_a_call_that_broke_off_ends_the_reply() -> None:
    stream = streamed([_SEARCH]).replace(b'"partial_json": "}"', b'"partial_json": ""')
    reader = PausedTurnDecoder()
    assert reader.whole(stream)[-1] == Stopped("pause_turn")
    assert not reader.paused


def test_a_citation_that_is_none_is_none() -> None:
    stream = streamed([_CITED]).replace(b'"citation":', b'"cited":')
    reader = PausedTurnDecoder()
    reader.whole(stream)
    assert _turns(reader.resume(_REQUEST))[1]["content"] == [{"type": "text", "text": "A gate."}]


def test_thoughts_without_a_signature_go_back_without_one() -> None:
    stream = streamed([_THOUGHT]).replace(b'"signature_delta"', b'"unknown_delta"').replace(b"c2ln", b"")
    reader = PausedTurnDecoder()
    reader.whole(stream)
    assert _turns(reader.resume(_REQUEST))[1]["content"] == [{**_THOUGHT, "signature": ""}]


def test_answers_that_are_no_answers_fail_as_ever() -> None:
    reader = PausedTurnDecoder()
    assert isinstance(reader.whole(b'{"content": 7}')[-1], Failed)
    assert not reader.paused


def test_a_last_message_in_words_is_followed_by_another() -> None:
    prefilled = b'{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"I"}]}'
    turns = _turns(continued(prefilled, [msgspec.Raw(b'{"type":"text","text":"J"}')]))
    assert [turn["content"] for turn in turns[1:]] == ["I", [{"type": "text", "text": "J"}]]


def test_the_lane_neither_ends_nor_fails_while_the_turn_is_paused() -> None:
    reader = PausedTurnDecoder()
    writer = messages.ResponseEncoder(
        model="m", reply_id="x", created=1, include_usage=True, input_estimate=1
    )
    lane = Translation(reader, writer)
    lane.feed(streamed(_BLOCKS))
    assert (lane.ended, lane.done, lane.failure) == (False, False, None)
    reader.resume(_REQUEST)
    lane.feed(streamed([{"type": "text", "text": "Done."}], "end_turn"))
    assert lane.done
    assert lane.usage == Usage(input=20, output=10, special=Special(web_searches=1))


@pytest.mark.parametrize("write", [whole, streamed])
def test_a_search_that_a_pause_parts_is_told_once_it_is_done(write: Any) -> None:
    reader = PausedTurnDecoder()
    events = reader.whole(write([_SEARCH]))
    reader.resume(_REQUEST)
    events += reader.whole(write([_FOUND, {"type": "text", "text": "A gate."}], "end_turn"))
    assert _plain(fold([*events, *reader.finish()]).parts) == (_SERVED, Text("A gate."))
