"""What upstreams may send and hardly ever do: each is read, relayed or told, and nothing of it is lost in silence."""

import json
from typing import Any

import pytest

from penstock.core.body.splice import find_values
from penstock.core.dialects.chat.tool_call_assembly import Extent
from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.registry import caller_side, passing_of, upstream_side
from penstock.core.dialects.upstream_error_text import words
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    Metered,
    Reply,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtSigned,
)
from penstock.core.neutral.fold import events_of, fold
from penstock.core.neutral.request import Document, Hosted, Image, Text, Thought, ToolCall, ToolResult
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE
from penstock.core.reasoning.signature import ReasoningOrigin, read_signature, sign_reasoning
from penstock.core.sse import MAX_FRAME
from penstock.core.tools.names import NO_NAMES
from tests.core.dialects.sides import stream_of

MAX_BODY = 64 * 1024 * 1024
NAMES = ("chat", "messages", "responses")


def data(*rows: Any, end: bytes = b"") -> bytes:
    return b"".join(b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows) + end


def events(dialect: str, stream: bytes) -> list[AnyEvent]:
    reader = upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE)
    found = [*reader.feed(stream), *reader.finish()]
    assert reader.feed(stream) == []
    assert sum(isinstance(event, Stopped | Failed) for event in found) == 1
    return found


def whole(dialect: str, answer: Any) -> Reply:
    return fold(upstream_side(dialect).decode_response(json.dumps(answer).encode(), DEFAULT_PROFILE))


def written(reply: Reply, dialect: str) -> dict[str, Any]:
    return json.loads(caller_side(dialect).encode_response(reply, model="m", reply_id="r", created=1))


def metered(dialect: str, stream: bytes, model: str | None = "public") -> tuple[bytes, Any]:
    lane = stream_of(dialect)(model=model, withhold_usage=False)
    out = lane.feed(stream)
    return out + lane.finish(), lane


# ---- of every dialect


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_or_an_event_without_end_is_given_up(name: str) -> None:
    for start, size in ((b'{"a":"', MAX_BODY), (b'data: {"a":"', MAX_FRAME)):
        reader = upstream_side(name).ResponseDecoder(profile=DEFAULT_PROFILE)
        (failed,) = reader.feed(start + b" " * size)
        assert isinstance(failed, Failed)
        assert "larger than" in failed.message
        assert reader.finish() == reader.feed(b"data: {}\n\n") == []
        lane = stream_of(name)(model=None, withhold_usage=False)
        assert lane.feed(start + b" " * size) == b""
        assert lane.failure is not None
        assert "larger than" in lane.failure.message
        assert lane.feed(b"data: {}\n\n") == lane.finish() == b""


@pytest.mark.parametrize("name", NAMES)
def test_an_error_in_place_of_a_stream_is_a_failure_of_the_lane(name: str) -> None:
    out, lane = metered(name, b'{"error":{"message":"CUDA","type":"server_error"},"type":"error"}')
    assert out == b""
    assert lane.failure is not None
    assert "CUDA" in lane.failure.message


@pytest.mark.parametrize(("name", "kind"), [("messages", "message_start"), ("responses", "response.created")])
def test_the_model_changes_in_an_event_of_several_lines(name: str, kind: str) -> None:
    member = "message" if name == "messages" else "response"
    start = json.dumps({"type": kind, member: {"id": "1", "model": "up"}}, indent=1)
    lines = "".join(f"data: {line}\n" for line in start.split("\n"))
    out, _ = metered(name, f"event: {kind}\n{lines}\n".encode())
    event, _, rest = out.decode().partition("\n")
    assert event == f"event: {kind}"
    assert json.loads(rest.removeprefix("data: "))[member]["model"] == "public"


@pytest.mark.parametrize("name", ["messages", "responses"])
def test_events_that_mean_nothing_are_relayed_and_hurt_nobody(name: str) -> None:
    noise = b"data: \n\n" + data(
        {"type": "message_of_tomorrow", "index": {}}, {"type": "response.new", "delta": []}
    )
    assert noise in metered(name, noise)[0]
    assert [type(event) for event in events(name, noise)] == [Failed]
    assert isinstance(events(name, b"data: {\n\n")[-1], Failed)


@pytest.mark.parametrize("name", ["messages", "responses"])
def test_an_error_that_cannot_be_read_is_still_one(name: str) -> None:
    deep = b"[" * 5000
    kind = b'"error"' if name == "messages" else b'"response.failed"'
    for frame in (
        b'data: {"type":"error","error":"no","index":{}}\n\n',
        b'data: {"type":"error","error":{"message":"\xff"}}\n\n',
        b'event: error\ndata: {"type":"error","error":' + deep + b"]" * 5000 + b"}\n\n",
        b'data: {"type":' + kind + b',"item":' + deep + b"\n\n",
    ):
        assert isinstance(events(name, frame)[-1], Failed)


def test_an_event_of_the_wrong_types_is_judged_by_its_name() -> None:
    delta = b'data: {"type":"content_block_delta","index":{}}\n\n'
    named = b'event: content_block_delta\ndata: {"type":5}\n\n'
    unknown = b'event: of_tomorrow\ndata: {"type":5}\n\n'
    for frame in (delta, named):
        (failed,) = events("messages", frame)
        assert isinstance(failed, Failed)
        assert "malformed content_block_delta event" in failed.message
    assert messages().reason == fold(events("messages", data(START) + unknown + data(STOP))).reason


@pytest.mark.parametrize("name", NAMES)
def test_what_no_model_says_is_left_out_of_what_is_written(name: str) -> None:
    parts = (
        Text("Hi"), Image("https://x"), Document("https://x"), ToolResult("1"),
        Thought("", sign_reasoning(ReasoningOrigin("up"))), Thought("hm", "EuSig"), ToolCall("call_1", "get", ""),
    )  # fmt: skip
    reply = Reply("r", "up", parts, Usage(), "tool_use")
    told = json.dumps(written(reply, name))
    assert "https://x" not in told
    assert "get" in told
    assert [type(event) for event in events_of(reply)].count(TextDelta) == 1


def test_events_of_a_reply_fold_to_it_again() -> None:
    parts = (Text("a"), Thought("", "s"), ToolCall("1", "n", "{}"))
    for reply in (
        Reply("r", "m", parts, Usage(1), None, failure=Failed("api_error", "x")),
        Reply("r", "m", parts, Usage(1), "end_turn"),
    ):
        assert fold(events_of(reply)) == reply
    empty = Reply("r", "m", (Text(""), ToolCall("1", "n", "")), Usage(), None)
    assert [type(event) for event in events_of(empty)] == [Started, CallOpened, Metered]


def test_a_citation_after_another_block_has_no_place() -> None:
    for name in ("messages", "responses"):
        writer = caller_side(name).ResponseEncoder(
            model="m", reply_id="r", created=1, include_usage=False, input_estimate=0
        )
        out = writer.write(
            [
                Started("r", "m"), ThoughtDelta("hm"), Cited("https://a.example", "A"), CallArgs("{}"),
                TextDelta("x"), CallArgs('{"b":1}'), Stopped("end_turn"), TextDelta("late"),
            ]
        )  # fmt: skip
        assert b"late" not in out
        assert b'{\\"b\\":1}' not in out


def test_the_lane_counts_the_events_of_its_caller() -> None:
    for name, number in (("responses", 2), ("chat", 0)):
        writer = caller_side(name).ResponseEncoder(
            model="m", reply_id="r", created=1, include_usage=False, input_estimate=0
        )
        lane = Translation(upstream_side("chat").ResponseDecoder(profile=DEFAULT_PROFILE), writer)
        lane.feed(data({"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}))
        assert lane.sequence == number


def test_nothing_is_renamed_where_no_name_was_changed() -> None:
    said: list[AnyEvent] = [CallOpened("1", "get")]
    assert NO_NAMES.restored(said) is said


def test_an_error_is_found_in_a_list_of_problems() -> None:
    assert words({"detail": [{"loc": ["body", "n"], "msg": "bad"}, "worse"]})
    assert words({"detail": ["only text"]}) == "only text"


def test_a_key_that_cannot_be_decoded_is_no_key() -> None:
    assert find_values(b'{"\\ud8zz":1,"model":"a"}', ("model",)) == [(20, 23)]


@pytest.mark.parametrize("at", range(1, 12))
def test_an_escape_may_be_cut_in_arguments(at: int) -> None:
    text = '{"a\\"}":"\\\\"}rest'
    extent = Extent()
    used = extent.feed(text[:at])
    assert (used, extent.done) == (at, False)
    assert at + extent.feed(text[at:]) == len(text) - len("rest")
    assert extent.done


# ---- Chat


def choice(delta: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish, **more}]}


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (choice(error={"message": "no room", "code": 503}), "no room"),
        (choice(error={"x": 1}), "an error object without a message"),
        (choice(finish="error"), "finish_reason error"),
        ({"id": "c", "choices": [], "error": {"message": "x"}, "usage": {"prompt_tokens": 3}}, "x"),
    ],
)
def test_an_error_of_a_choice_ends_a_chat_stream(row: Any, message: str) -> None:
    found = events("chat", data(choice({"content": "Hi"}), row, end=DONE))
    assert isinstance(found[-1], Failed)
    assert found[-1].message == message
    counted = [event.usage.input for event in found if isinstance(event, Metered)]
    assert counted == ([3] if "usage" in row else [])


def test_white_space_alone_is_what_a_chat_model_said() -> None:
    assert fold(events("chat", data(choice({"content": " \n"}, "stop"), end=DONE))).parts == (Text(" \n"),)


def test_annotations_of_other_kinds_are_no_citations() -> None:
    for notes in ([{"type": "file_citation"}, 5], {"a": 1}, "x"):
        reply = fold(events("chat", data(choice({"content": "Hi", "annotations": notes}, "stop"), end=DONE)))
        assert (reply.parts, reply.citations, reply.failure) == ((Text("Hi"),), (), None)


def test_reasoning_details_of_one_index_are_put_together() -> None:
    first = {"type": "reasoning.text", "index": 0, "text": "h", "format": None, "id": "x"}
    second = {"type": "reasoning.text", "index": 0, "text": "m", "signature": "s", "id": None}
    stream = data(
        *(choice({"reasoning_details": [row]}) for row in (first, second)), choice(finish="stop"), end=DONE
    )
    (thought,) = fold(events("chat", stream)).parts
    assert isinstance(thought, Thought)
    assert thought.text == "hm"


@pytest.mark.parametrize(
    ("lists", "carried"),
    [
        ([[("a", None, "AA"), ("b", None, "BB")]], ["AA", "BB"]),
        ([[("a", 0, "AA"), ("b", 0, "BB")]], ["AA", "BB"]),
        ([[(None, None, "AA"), (None, None, "BB")]], ["AA", "BB"]),
        ([[("a", None, "AA")], [("b", None, "BB")]], ["AA", "BB"]),
        ([[("a", None, "A")], [(None, None, "A")], [("a", None, "A")]], ["AAA"]),
        ([[("a", 0, "A")], [(None, 0, "A")], [("b", 1, "B")], [("b", 1, "B")]], ["AA", "BB"]),
        ([[("a", None, "A"), ("b", None, "B")], [("b", None, "B")], [(None, None, "B")]], ["A", "BBB"]),
    ],
)
def test_what_is_encrypted_apart_goes_back_apart(
    lists: list[list[tuple[str | None, int | None, str]]], carried: list[str]
) -> None:
    def details(rows: list[tuple[str | None, int | None, str]]) -> list[dict[str, Any]]:
        return [{"type": "reasoning.encrypted", "id": id, "index": at, "data": data} for id, at, data in rows]

    rows = [choice({"reasoning_details": details(each)}) for each in lists]
    (thought,) = fold(events("chat", data(*rows, choice(finish="stop"), end=DONE))).parts
    assert isinstance(thought, Thought)
    origin = read_signature(thought.signature or "")
    assert origin is not None
    assert [entry["data"] for entry in json.loads(origin.carrier)] == carried


def test_a_message_in_place_of_a_delta_counts_before_the_finish() -> None:
    row = {"id": "c", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
    late = {"id": "c", "choices": [{"index": 0, "message": {"content": "Hi"}}]}
    assert fold(events("chat", data(row, late, end=DONE))).parts == (Text("Hi"),)


def test_thinking_as_text_in_a_list_of_parts() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}]
    thought, text = fold(events("chat", data(choice({"content": parts}, "stop"), end=DONE))).parts
    assert isinstance(thought, Thought)
    assert (thought.text, text) == ("hm", Text("Hi"))


def test_a_fragment_that_is_longer_than_what_came_before_is_no_repeat() -> None:
    calls = [{"index": 0, "id": "1", "function": {"name": "get", "arguments": '{"a"'}}]
    more = [{"index": 0, "function": {"arguments": " :  1234}"}}]
    reply = fold(
        events("chat", data(choice({"tool_calls": calls}), choice({"tool_calls": more}, "stop"), end=DONE))
    )
    assert reply.parts == (ToolCall("1", "get", '{"a" :  1234}'),)


def test_chunks_one_a_line_end_where_the_body_does() -> None:
    lines = [json.dumps(row).encode() for row in (choice({"content": "a"}), choice({"content": "b"}, "stop"))]
    for body in (b"\n".join(lines), b"\n\n".join(lines), b"\n".join(lines) + b"\n"):
        assert fold(events("chat", body)).parts == (Text("ab"),)
    (cut,) = (event for event in events("chat", lines[0] + b"\n{") if isinstance(event, Failed))
    assert cut.truncated
    error = b'\n{"error":{"message":"x"}}'
    for rest in (b"", b"\n" + lines[1]):
        failed = events("chat", lines[0] + error + rest)[-1]
        assert isinstance(failed, Failed)
        assert failed.message == "x"


def test_the_chat_meter_reads_what_it_relays() -> None:
    call = {"tool_calls": [{"index": 0}, {"index": 1, "function": {"arguments": "{}"}}]}
    stream = data({"id": "c", "model": "up", "x": 1}, {**choice(call, "tool_calls"), "model": "up"}, end=DONE)
    out, lane = metered("chat", stream)
    assert out == stream.replace(b'"up"', b'"public"')
    assert (lane.output_bytes, lane.stop, lane.failure) == (2, "tool_use", None)
    # a key that is written with escapes, and one that stands twice
    odd = b'data: {"id":"c","mod\\u0065l":"up","choices":[]}\n\n'
    twice = b'data: {"id":"c","model":"up","model":"up","choices":[]}\n\n'
    out, _ = metered("chat", odd + twice + DONE)
    assert out.count(b'"public"') == 3
    assert b'"up"' not in out


def test_a_whole_chat_answer_has_our_model() -> None:
    body = {"id": "c", "object": "chat.completion", "model": "up", "created": 1}
    answer = {
        **body,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    }
    for fields in (
        answer,
        {**answer, "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
    ):
        raw = json.dumps(fields).encode()
        out, _, failed, _ = passing_of("chat").response(raw, model="public")
        assert (out, failed) == (raw.replace(b'"up"', b'"public"'), None)
        assert passing_of("chat").response(raw, model=None)[0] == raw


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"base_resp": {"status_code": 1008, "status_msg": "no money"}, "choices": "x"}, "no money"),
        ({"detail": "gone"}, "gone"),
    ],
)
def test_errors_that_have_no_error_member(row: Any, message: str) -> None:
    found = events("chat", data(choice({"content": "Hi"}), row, end=DONE))[-1]
    assert isinstance(found, Failed)
    assert found.message == message


def test_a_chunk_that_means_nothing_is_passed_over() -> None:
    rows = ({"id": "c"}, {"msg": None, "x": 1})
    reply = fold(events("chat", data(choice({"content": "Hi"}), *rows, choice(finish="stop"), end=DONE)))
    assert (reply.parts, reply.reason) == ((Text("Hi"),), "end_turn")


def fragment(arguments: str | None = None, **more: Any) -> dict[str, Any]:
    name = more.pop("name", None)
    return choice({"tool_calls": [{**more, "function": {"name": name, "arguments": arguments}}]})


def test_a_call_that_is_spoken_of_again_by_its_id() -> None:
    rows = (
        fragment('{"a":', id="1", name="a"),
        fragment('{"b":2}', id="2", name="b"),
        fragment("1}", id="1"),
    )
    assert fold(events("chat", data(*rows, choice(finish="tool_calls"), end=DONE))).parts == (
        ToolCall("1", "a", '{"a":1}'),
        ToolCall("2", "b", '{"b":2}'),
    )


def test_arguments_without_a_name_are_a_failure_and_nothing_without_a_name_is_nothing() -> None:
    found = events("chat", data(fragment('{"a":1}', index=0), choice(finish="tool_calls"), end=DONE))[-1]
    assert isinstance(found, Failed)
    assert found.message == "a tool call without a name"
    rows = (fragment("", index=0, id="1"), fragment("{}", index=1, id="2", name="b"))
    assert fold(events("chat", data(*rows, choice(finish="tool_calls"), end=DONE))).parts == (
        ToolCall("2", "b", "{}"),
    )


def test_arguments_so_far_again_and_again() -> None:
    rows = (
        fragment('{"a":"x', index=0, id="1", name="a"),
        fragment('{"a":"x', index=0),
        fragment('{"a":"xy"}', index=0),
    )
    (call,) = fold(events("chat", data(*rows, choice(finish="tool_calls"), end=DONE))).parts
    assert call == ToolCall("1", "a", '{"a":"xy"}')


def test_the_model_of_like_and_of_broken_lines_changes() -> None:
    rows = [{"id": str(at), "model": "up", **choice({"tool_calls": [{"index": 0}]})} for at in range(3)]
    out, _ = metered("chat", data(*rows, end=DONE))
    assert out.count(b'"public"') == 3
    lines = b'event: x\ndata: {"model":"up",\ndata: "choices":[]}\n\n'
    for start in (lines, lines.removeprefix(b"event: x\n")):
        out, _ = metered("chat", start + DONE)
        assert out == start.split(b"data")[0] + b'data: {"model":"public", "choices":[]}\n\n' + DONE


@pytest.mark.parametrize("name", NAMES)
def test_a_metered_frame_may_come_in_three_reads(name: str) -> None:
    stream = {
        "chat": data(choice({"content": "Hi"}), end=DONE),
        "messages": data(START, STOP),
        "responses": data({"type": "response.created", "response": {"model": "up"}}),
    }[name]
    lane = stream_of(name)(model="up", withhold_usage=False)
    out = b"".join(lane.feed(piece) for piece in (stream[:5], stream[5:9], stream[9:]))
    assert out == stream


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_no_answer(name: str) -> None:
    reader = upstream_side(name).ResponseDecoder(profile=DEFAULT_PROFILE)
    assert reader.feed(b" ") == reader.feed(b"") == []
    assert isinstance(reader.finish()[-1], Failed)


# ---- Messages


START = {"type": "message_start", "message": {"id": "m", "model": "up"}}
STOP = {"type": "message_stop"}


def messages(*rows: dict[str, Any]) -> Reply:
    return fold(events("messages", data(START, *rows, STOP)))


def opened(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **members: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": members}


def test_a_thought_may_begin_with_its_text() -> None:
    reply = messages(
        opened(0, {"type": "thinking", "thinking": "h", "signature": "s"}),
        delta(0, type="thinking_delta", thinking="m"),
    )
    assert reply.parts == (Thought("hm", "s"),)


def test_a_signature_of_a_block_that_never_began_is_kept() -> None:
    for signature, parts in (("EuSig", (Thought("", "EuSig"),)), ("", ())):
        assert messages(delta(0, type="signature_delta", signature=signature)).parts == parts


def test_text_of_a_block_that_never_began_waits_for_the_call_before_it() -> None:
    reply = messages(
        opened(0, {"type": "tool_use", "id": "a", "name": "get"}),
        delta(1, type="text_delta", text="Hi"),
        delta(2, type="text_delta", text="!"),
        delta(0, type="input_json_delta", partial_json='{"a":1}'),
        {"type": "content_block_stop", "index": 0},
    )
    assert reply.parts[0] == ToolCall("a", "get", '{"a":1}')
    assert "".join(part.text for part in reply.parts if isinstance(part, Text)) == "Hi!"


def test_blocks_without_what_they_are_made_of_are_empty() -> None:
    reply = messages(
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_delta", "index": 0},
        opened(1, {"type": "text", "text": ""}),
        delta(1, type="text_delta", text=""),
        delta(1, type="thinking_delta", thinking=""),
        delta(1, type="citations_delta"),
        delta(1, type="delta_of_tomorrow"),
        {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": 5}},
    )
    assert (reply.parts, reply.reason, reply.detail) == ((), "refusal", None)


def test_a_whole_messages_answer_with_every_block() -> None:
    note = {"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "c"}
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "thinking", "thinking": "unsigned"},
        {"type": "redacted_thinking", "data": "=="},
        {"type": "text", "text": "Hi", "citations": [note, {"type": "char_location"}, 5]},
        {"type": "text", "text": ""},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "tool_use", "id": "a", "name": "get"},
    ]
    reply = whole("messages", {"type": "message", "content": content, "stop_reason": "tool_use"})
    assert reply.parts == (
        Thought("hm", "s"), Thought("unsigned"), Thought(redacted="=="), Text("Hi"), ToolCall("a", "get", "{}"),
        Hosted("search", "s", "web_search"),
    )  # fmt: skip
    assert [cited.url for cited in reply.citations] == ["https://a.example"]
    assert (reply.usage, reply.reason) == (Usage(), "tool_use")


def test_the_first_bytes_may_be_white_space() -> None:
    reader = upstream_side("messages").ResponseDecoder(profile=DEFAULT_PROFILE)
    assert reader.feed(b"\n ") == []
    assert isinstance(
        reader.feed(b'{"type":"message","content":[]}') or reader.finish()[-1], Failed | Stopped
    )


def test_the_last_event_of_a_metered_stream_may_lack_its_empty_line() -> None:
    for name, last in (("messages", STOP), ("responses", {"type": "response.completed", "response": {}})):
        start = data(START if name == "messages" else {"type": "response.created", "response": {}})
        out, lane = metered(name, start + data(last).rstrip(b"\n"))
        assert out == (start + data(last)).replace(b'"up"', b'"public"')
        assert (lane.done, lane.failure) == (True, None)
        _, lane = metered(name, start + data({"type": "ping"}).rstrip(b"\n"))
        assert lane.failure.truncated
    out, lane = metered("messages", data({"type": "message_start"}, {"type": "message_delta"}, STOP))
    assert (out.count(b"data:"), lane.failure) == (3, None)


# ---- Responses


def test_an_empty_delta_and_an_annotation_of_another_kind_say_nothing() -> None:
    item = {"type": "message", "id": "m1"}
    stream = data(
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_text.delta", "output_index": 0, "delta": ""},
        {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": 5},
        {
            "type": "response.output_text.annotation.added",
            "output_index": 0,
            "annotation": {"type": "file_path"},
        },
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"},
        {"type": "response.completed", "response": {}},
    )
    reply = fold(events("responses", stream))
    assert (reply.parts, reply.citations) == ((Text("Hi"),), ())


def test_arguments_that_come_when_another_call_is_on_are_too_late() -> None:
    def added(at: int) -> dict[str, Any]:
        item = {"type": "function_call", "id": f"f{at}", "call_id": f"c{at}", "name": "get"}
        return {"type": "response.output_item.added", "output_index": at, "item": item}

    def done(at: int) -> dict[str, Any]:
        return {**added(at), "type": "response.output_item.done"}

    late = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"a":1}'}
    stream = data(added(0), done(0), added(1), late, {"type": "response.completed", "response": {}})
    assert fold(events("responses", stream)).parts == (
        ToolCall("c0", "get", "{}"),
        ToolCall("c1", "get", "{}"),
    )


def test_an_item_that_is_done_twice_says_everything_once() -> None:
    item = {"type": "function_call", "id": "f", "call_id": "c", "name": "get", "arguments": '{"a":1}'}
    text = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hi"}]}
    done = [{"type": "response.output_item.done", "output_index": 0, "item": item}]
    late = {
        "type": "response.output_text.delta",
        "item_id": "m",
        "output_index": 1,
        "content_index": 1,
        "delta": "!",
    }
    said = {"type": "response.output_item.done", "output_index": 1, "item": text}
    note = {"type": "response.output_text.annotation.added", "output_index": 1}
    stream = data(*done, *done, said, late, note, {"type": "response.completed", "response": {}})
    reply = fold(events("responses", stream))
    assert reply.parts[0] == ToolCall("c", "get", '{"a":1}')
    assert "".join(part.text for part in reply.parts if isinstance(part, Text)) == "Hi!"


def test_an_error_of_the_wrong_types_is_still_one() -> None:
    (failed,) = events("responses", data({"type": "error", "output_index": {}, "message": "no room"}))
    assert isinstance(failed, Failed)
    assert failed.message == "no room"


def test_a_thought_after_its_signature() -> None:
    assert fold([ThoughtDelta("a"), ThoughtSigned("s"), ThoughtSigned("t")]).parts == (
        Thought("a", "s"),
        Thought("", "t"),
    )
