"""Messages streams: recorded ones read at any split, written ones held to the grammar, metered ones left as they were."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.messages.dialect import (
    Passthrough,
    ResponseDecoder,
    ResponseEncoder,
    decode_response,
    encode_response,
    error_frame,
    error_text,
    passthrough_response,
)
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    Metered,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import Text, Thought, ToolCall
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE
from penstock.errors import ProviderCut
from tests.core.dialects.chat_grammar import check_messages, frames

VECTORS = sorted(path for path in (Path(__file__).parents[3] / "vectors" / "messages").iterdir())
CASES = {path.name: (path / "upstream.sse").read_bytes() for path in VECTORS}
STREAMS = {name: stream for name, stream in CASES.items() if stream[:1] not in b"{<"}


def read(pieces: list[bytes]) -> list[AnyEvent]:
    reader = ResponseDecoder()
    events = [event for piece in pieces for event in reader.feed(piece)]
    events += reader.finish()
    assert reader.done
    assert reader.finish() == reader.feed(b"data: more\n\n") == []
    return events


def expected(name: str) -> list[AnyEvent]:
    lines = (VECTORS[0].parent / name / "events.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=AnyEvent) for line in lines]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


def write(events: list[AnyEvent]) -> bytes:
    return ResponseEncoder(
        model="m", reply_id="msg_1", created=1, include_usage=True, input_estimate=7
    ).write(events)


# ---- reading


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_stream_gives_its_events(name: str) -> None:
    assert read([CASES[name]]) == expected(name)


@pytest.mark.parametrize("name", CASES)
def test_byte_by_byte_it_gives_the_same(name: str) -> None:
    stream = CASES[name]
    assert read([stream[at : at + 1] for at in range(len(stream))]) == expected(name)


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", STREAMS)
def test_other_line_ends_give_the_same(name: str, ending: bytes) -> None:
    stream = CASES[name].replace(b"\n", ending)
    assert read([stream]) == expected(name)
    assert read([stream[at : at + 1] for at in range(len(stream))]) == expected(name)


@given(
    st.sampled_from(sorted(CASES)),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_any_split_gives_the_same(name: str, places: list[int], ending: bytes) -> None:
    stream = CASES[name] if name not in STREAMS else CASES[name].replace(b"\n", ending)
    assert read(cut(stream, places)) == expected(name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_missing_last_blank_line_loses_nothing(name: str) -> None:
    assert read([CASES[name].rstrip(b"\n")]) == expected(name)


@pytest.mark.parametrize("name", CASES)
def test_it_ends_exactly_once(name: str) -> None:
    ends = [event for event in expected(name) if isinstance(event, Stopped | Failed)]
    assert len(ends) == 1
    assert isinstance(expected(name)[-1], Stopped | Failed)


@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    stream = bytearray(CASES[data.draw(st.sampled_from(sorted(CASES)))])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(stream)))
        stream[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6))
    events = read(cut(bytes(stream), data.draw(st.lists(st.integers(0, 5000), max_size=3))))
    assert sum(isinstance(event, Stopped | Failed) for event in events) == 1
    check_messages(write(events))
    meter = Passthrough(model="m", withhold_usage=False)
    meter.feed(bytes(stream))
    meter.finish()
    assert meter.done != (meter.failure is not None)


@given(st.binary(max_size=60))
def test_garbage_is_a_failure_and_never_an_exception(data: bytes) -> None:
    assert isinstance(read([data])[-1], Failed)
    assert isinstance(decode_response(data, DEFAULT_PROFILE)[-1], Failed)
    assert passthrough_response(data, model="m")[2] is not None
    error_text(400, data)


def test_an_event_without_end_is_given_up() -> None:
    reader = ResponseDecoder()
    events: list[AnyEvent] = []
    for _ in range(5):
        events += reader.feed(b"x" * 1024 * 1024)
    assert [type(event) for event in events] == [Failed]
    assert reader.done


# ---- whole answers


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
ids = st.from_regex(r"toolu_[A-Za-z0-9]{1,8}", fullmatch=True)
objects = st.dictionaries(texts, st.integers() | texts | st.lists(texts, max_size=2), min_size=1, max_size=3)
# text and signed thoughts in turn, so that each is a part of its own when folded
blocks = st.one_of(
    texts.map(Text),
    st.builds(Thought, st.just("") | texts, texts),
    texts.map(lambda data: Thought(redacted=data)),
    st.builds(lambda id, name, given: ToolCall(id, name, json.dumps(given)), ids, texts, objects),
)
counts = st.none() | st.integers(0, 10**6)
usages = st.builds(
    Usage, input=counts, output=counts, cache_read=counts, cache_write=counts, reasoning=counts
)
reasons: list[StopReason] = [
    "end_turn",
    "max_tokens",
    "context_window",
    "stop_sequence",
    "tool_use",
    "refusal",
    "pause_turn",
]


@st.composite
def replies(draw: st.DrawFn) -> list[AnyEvent]:
    """A reply as events, its text and arguments in pieces."""
    events: list[AnyEvent] = [Started("msg_1", "m")]
    before: object = None
    for part in draw(st.lists(blocks, max_size=6)):
        match part:
            case Text(text):
                if before is Text:
                    continue
                events += [TextDelta(piece) for piece in _pieces(draw, text)]
            case Thought(text, signature, redacted):
                if redacted is not None:
                    events.append(ThoughtRedacted(redacted))
                else:
                    events += [ThoughtDelta(piece) for piece in _pieces(draw, text)]
                    events.append(ThoughtSigned(signature or ""))
            case ToolCall(id, name, arguments):
                id = f"{id}_{len(events)}"  # no two calls of a reply have one
                events.append(CallOpened(id, name))
                events += [CallArgs(piece) for piece in _pieces(draw, arguments)]
        before = type(part)
    events.append(Metered(draw(usages)))
    reason = draw(st.sampled_from(reasons))
    sequence = draw(texts) if reason == "stop_sequence" else None
    events.append(Stopped(reason, sequence, draw(st.none() | texts) if reason == "refusal" else None))
    return events


def _pieces(draw: st.DrawFn, text: str) -> list[str]:
    at = draw(st.integers(0, len(text)))
    return [piece for piece in (text[:at], text[at:]) if piece]


@given(replies())
def test_a_written_stream_reads_back_and_keeps_the_grammar(events: list[AnyEvent]) -> None:
    stream = write(events)
    check_messages(stream)
    before, after = fold(events), fold(read([stream]))
    assert after.parts == before.parts
    assert (after.reason, after.stop_sequence, after.detail) == (
        before.reason,
        before.stop_sequence,
        before.detail,
    )
    for name in ("input", "output", "cache_read", "cache_write", "reasoning"):
        known = getattr(before.usage, name)
        assert known is None or getattr(after.usage, name) == known


@given(replies())
def test_streamed_and_whole_say_the_same(events: list[AnyEvent]) -> None:
    reply = fold(events)
    whole = fold(
        decode_response(encode_response(reply, model="m", reply_id="msg_1", created=1), DEFAULT_PROFILE)
    )
    assert whole == reply
    streamed = fold(read([write(events)]))
    assert msgspec.structs.replace(streamed, usage=reply.usage) == reply


def test_a_whole_answer_is_what_the_api_defines() -> None:
    events: list[AnyEvent] = [
        Started("x", "up"),
        ThoughtDelta("hm"),
        TextDelta("Hi"),
        Cited("https://a.example", "A", "so"),
        CallOpened("functions.a:0", "a"),
        CallOpened("toolu_2", "b"),
        CallArgs("[1]"),
        Metered(Usage(1, 2, 3, 4, 5, 1)),
        Stopped("refusal", None, "no"),
    ]
    body = json.loads(encode_response(fold(events), model="public", reply_id="msg_1", created=1))
    assert body == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "public",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": body["content"][0]["signature"]},
            {
                "type": "text",
                "text": "Hi",
                "citations": [
                    {
                        "type": "web_search_result_location",
                        "url": "https://a.example",
                        "title": "A",
                        "cited_text": "so",
                        "encrypted_index": "",
                    }
                ],
            },
            {"type": "tool_use", "id": "gwi_ZnVuY3Rpb25zLmE6MA", "name": "a", "input": {}},
            {"type": "tool_use", "id": "toolu_2", "name": "b", "input": {"__raw_arguments": "[1]"}},
        ],
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": None, "explanation": "no"},
        "usage": {
            "input_tokens": 1,
            "output_tokens": 2,
            "cache_creation_input_tokens": 4,
            "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 1},
            "cache_read_input_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    }
    assert body["content"][0]["signature"].startswith("gw1.")


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_place_of_an_answer_is_read_to_its_end(name: str) -> None:
    assert decode_response(STREAMS[name], DEFAULT_PROFILE) == expected(name)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "overloaded_error"),
        (b'{"error":{"message":"no","code":429}}', "rate_limit_error"),
        (b'{"error":"no"}', "api_error"),
        (b'{"id":"x"}', "api_error"),
        (b'{"content":5}', "api_error"),
        (b"<html></html>", "api_error"),
        (b"", "api_error"),
        (b"[]", "api_error"),
        (b"[" * 100_000, "api_error"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(body: bytes, kind: str) -> None:
    (failed,) = decode_response(body, DEFAULT_PROFILE)
    assert isinstance(failed, Failed)
    assert failed.kind == kind
    out, _, metered, _ = passthrough_response(body, model="m")
    assert (out, metered) == (b"", failed)


# ---- writing


def test_an_error_is_terminal_and_in_our_words() -> None:
    events = frames(
        write([Started("", ""), TextDelta("Hi"), Failed("x", "secret"), TextDelta("no"), Stopped("end_turn")])
    )
    assert [event["type"] for event in events[-2:]] == ["content_block_delta", "error"]
    assert events[-1]["error"] == {"type": "api_error", "message": "The provider broke off its answer."}
    assert events[-1]["request_id"] == "msg_1"
    assert error_frame(ProviderCut("cut"), "req_1") == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"cut"},"request_id":"req_1"}\n\n'
    )


def test_a_failure_before_the_start_is_an_error_alone() -> None:
    assert [event["type"] for event in frames(write([Failed("api_error", "x")]))] == ["error"]


def test_usage_is_estimated_until_it_is_known() -> None:
    events = frames(write([Started("", ""), TextDelta("x" * 9), Stopped("end_turn")]))
    assert events[0]["message"]["usage"] == {"input_tokens": 7, "output_tokens": 0}
    assert events[-2]["usage"] == {"input_tokens": 7, "output_tokens": 3}


# ---- metering


# what a meter does not look into, it does not judge
ONLY_READ = {"arguments-of-a-call-never-begun"}


@pytest.mark.parametrize("name", STREAMS)
def test_a_metered_stream_is_untouched_up_to_an_error(name: str) -> None:
    stream = CASES[name]
    meter = Passthrough(model=None, withhold_usage=False)
    out = meter.feed(stream) + meter.finish()
    rest = stream[len(out) :]
    assert stream == out + rest
    last = expected(name)[-1]
    if isinstance(last, Stopped):
        assert (meter.done, meter.failure, meter.stop) == (True, None, last.reason)
        assert rest in (b"", b"data: [DONE]\n\n")
    elif name not in ONLY_READ:
        assert (meter.done, meter.failure) == (False, last)
        assert not rest or b"error" in rest.split(b"\n\n")[0] or name == "33-garbage-event"
    if name not in ONLY_READ:
        assert meter.usage == fold(expected(name)).usage


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_only_the_model_changes(name: str, ending: bytes) -> None:
    stream = CASES[name].replace(b"\n", ending)
    meter = Passthrough(model='public "1"', withhold_usage=False)
    out = meter.feed(stream) + meter.finish()
    assert out.count(rb'"model":"public \"1\""') == stream.count(b'"model":"claude-x"')
    back = out.replace(rb'"public \"1\""', b'"claude-x"')
    assert stream.startswith(back)
    assert name in ONLY_READ or meter.done == isinstance(expected(name)[-1], Stopped)


@given(
    st.sampled_from(sorted(CASES)),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_metering_does_not_depend_on_the_split(name: str, places: list[int], ending: bytes) -> None:
    stream = CASES[name].replace(b"\n", ending)
    whole = Passthrough(model="p", withhold_usage=False)
    out = whole.feed(stream) + whole.finish()
    meter = Passthrough(model="p", withhold_usage=False)
    pieces = [meter.feed(piece) for piece in cut(stream, places)]
    # bar the LF of the very last CRLF: its CR alone ended the last frame, and after that nothing is relayed
    assert (b"".join(pieces) + meter.finish()).rstrip(b"\r\n") == out.rstrip(b"\r\n")
    assert (meter.usage, meter.failure, meter.done, meter.stop, meter.output_bytes) == (
        whole.usage,
        whole.failure,
        whole.done,
        whole.stop,
        whole.output_bytes,
    )
    assert all(not piece or piece.endswith((b"\n\n", b"\r\n\r\n", b"\n\r")) for piece in pieces)


@given(replies())
def test_the_length_of_what_was_generated_is_measured(events: list[AnyEvent]) -> None:
    meter = Passthrough(model="m", withhold_usage=False)
    meter.feed(write(events))
    generated = [
        event.text if isinstance(event, TextDelta | ThoughtDelta) else event.fragment
        for event in events
        if isinstance(event, TextDelta | ThoughtDelta | CallArgs)
    ]
    # a text may hold the two bytes that end a JSON string; it is an estimate
    if not any('"}' in text for text in generated):
        assert meter.output_bytes == sum(len(msgspec.json.encode(text)) - 2 for text in generated)


def test_a_plain_answer_in_place_of_a_stream_becomes_one() -> None:
    meter = Passthrough(model="public", withhold_usage=False)
    out = meter.feed(CASES["json-instead-of-a-stream"]) + meter.finish()
    check_messages(out)
    assert fold(read([out])).parts == fold(expected("json-instead-of-a-stream")).parts
    assert (meter.done, meter.stop, meter.usage.output) == (True, "tool_use", 4)
    assert b'"model":"public"' in out


def test_a_metered_answer_changes_its_model_only() -> None:
    body = CASES["json-instead-of-a-stream"]
    assert passthrough_response(body, model=None) == (body, Usage(3, 4), None, "claude-x")
    out, usage, failed, named = passthrough_response(body, model="public")
    assert (out, usage, failed, named) == (
        body.replace(b'"model":"claude-x"', b'"model":"public"'),
        Usage(3, 4),
        None,
        "claude-x",
    )
    inner = body.replace(b'{"x":1}', b'{"model":"claude-x"}')
    assert passthrough_response(inner, model="p")[0].count(b'"model":"claude-x"') == 1


def test_a_model_inside_the_text_stays() -> None:
    stream = write([Started("", ""), TextDelta('{"message_start":{"model":"m"}}'), Stopped("end_turn")])
    meter = Passthrough(model="p", withhold_usage=False)
    assert meter.feed(stream) == stream.replace(b'"model":"m","content"', b'"model":"p","content"')


def test_frames_are_relayed_as_soon_as_they_are_whole() -> None:
    stream = CASES["worked-text-and-two-tools"]
    meter = Passthrough(model="p", withhold_usage=False)
    for frame in stream.removesuffix(b"\n\n").split(b"\n\n"):
        assert meter.feed(frame + b"\n") == b""
        assert meter.feed(b"\n").startswith(frame[:20])
    assert meter.done


# ---- blocks that come out of order


def sent(*events: dict[str, object]) -> bytes:
    """A whole stream with these events between its beginning and its end."""
    start = {"type": "message_start", "message": {"id": "m", "model": "x"}}
    return b"".join(
        f"data: {json.dumps(event)}\n\n".encode() for event in (start, *events, {"type": "message_stop"})
    )


def block(index: int, **fields: object) -> dict[str, object]:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(index: int, type: str, **fields: object) -> dict[str, object]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": type, **fields}}


def stop(index: int) -> dict[str, object]:
    return {"type": "content_block_stop", "index": index}


def test_what_waited_for_a_call_goes_on_in_the_order_of_its_blocks() -> None:
    stream = sent(
        block(0, type="tool_use", id="c", name="n"),
        block(2, type="text", text="third"),
        block(1, type="text", text="second "),
        delta(0, "input_json_delta", partial_json="{}"),
        stop(0),
        stop(1),
        stop(2),
    )
    assert fold(read([stream])).parts == (ToolCall("c", "n", "{}"), Text("second third"))


def test_the_signature_that_comes_last_is_the_one_of_the_thought() -> None:
    stream = sent(
        block(0, type="thinking", thinking="hm", signature="first"),
        delta(0, "signature_delta", signature="second"),
        delta(0, "signature_delta", signature=""),
        stop(0),
    )
    assert fold(read([stream])).parts == (Thought("hm", "second"),)


def test_a_call_without_a_name_is_none() -> None:
    """No client could tell which tool it calls; what comes after it stands."""
    start = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
    )
    stream = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"up"}}\n\n'
        + start % (0, b'{"type":"tool_use","id":"t","name":"","input":{"a":1}}')
        + b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"input_json_delta","partial_json":"{}"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        + start
        % (1, b'{"type":"text","text":"said"}')
        + b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    assert read([stream]) == [Started("m", "up"), TextDelta("said"), Stopped("end_turn")]
    body = (
        b'{"type":"message","id":"m","model":"up","stop_reason":"end_turn","content":'
        b'[{"type":"tool_use","id":"t","input":{}},{"type":"text","text":"said"}]}'
    )
    assert decode_response(body) == [Started("m", "up"), TextDelta("said"), Stopped("end_turn")]


@pytest.mark.parametrize("id", [None, "", "call_0"])
def test_two_calls_of_a_reply_have_two_ids_whole_and_streamed(id: str | None) -> None:
    block = {"type": "tool_use", "id": id, "name": "f", "input": {}}
    whole = {"id": "msg_1", "model": "m", "content": [block, block], "stop_reason": "tool_use"}
    reply = fold(decode_response(json.dumps(whole).encode(), DEFAULT_PROFILE))
    names = [part.id for part in reply.parts if isinstance(part, ToolCall)]
    assert names == (["call_0", "call_0-gwr2"] if id else ["call_msg1_0", "call_msg1_1"])
    rows: list[dict[str, Any]] = [{"type": "message_start", "message": {"id": "msg_1", "model": "m"}}]
    for at in range(2):
        rows.append({"type": "content_block_start", "index": at, "content_block": block})
        rows.append({"type": "content_block_stop", "index": at})
    rows += [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]
    stream = b"".join(f"event: {row['type']}\ndata: {json.dumps(row)}\n\n".encode() for row in rows)
    assert fold(read([stream])).parts == reply.parts
