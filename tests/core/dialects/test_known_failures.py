"""The 46 ways in which other gateways are known to break a conversation: one test a row, named after its row.

The numbers are those that the directories of ``tests/vectors`` have; those hold what upstreams really sent, and these say in
short what must come of it. A stream here crosses whole and byte by byte, has to give the same both times, and has to be
legal in the caller's dialect.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from penstock.core.catalog import DialectName
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.events import Metered
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.tools.names import fit_tool_names
from tests.core.dialects.chat_grammar import check_chat, check_messages, frames
from tests.core.dialects.responses_grammar import check_responses
from tests.core.dialects.responses_grammar import frames as numbered

ROOT = Path(__file__).parents[2]

ELSEWHERE = {
    34: (
        "service/test_cancel.py",
        "test_before_the_first_byte_of_an_answer",
        "test_in_the_middle_of_a_stream",
        "test_in_the_middle_of_an_answer_that_is_no_stream",
    ),
    39: (
        "service/test_token_counts.py",
        "test_tokens_are_counted_exactly_by_a_messages_upstream_for_nothing",
        "test_tokens_of_a_model_without_a_counter_are_estimated_and_said_to_be",
        "test_a_messages_provider_that_does_not_count_is_not_believed",
    ),
}
"""Rows that need a caller, a server and an upstream: the file and the tests that hold them."""


def test_every_row_has_its_test() -> None:
    here = {int(name[5:7]) for name in globals() if re.match(r"test_\d\d_", name)}
    assert here | ELSEWHERE.keys() == set(range(1, 47))
    for path, *names in ELSEWHERE.values():
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert set(names) <= {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)}


# ---- streams that cross


CHECKS = {"chat": check_chat, "messages": check_messages, "responses": check_responses}


def crossed(stream: bytes, upstream: str, caller: str) -> bytes:
    """What the caller gets for an upstream's stream: the same whole and byte by byte, and legal."""
    written: list[bytes] = []
    for pieces in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        reader = upstream_side(upstream).ResponseDecoder(profile=DEFAULT_PROFILE)
        writer = caller_side(caller).ResponseEncoder(
            model="public", reply_id="reply-1", created=1, include_usage=True, input_estimate=7
        )
        out = [writer.write(reader.feed(piece)) for piece in pieces]
        written.append(b"".join(out) + writer.write(reader.finish()))
    assert written[0] == written[1]
    CHECKS[caller](written[0])
    return written[0]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One frame of a Chat upstream."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    row: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    return b"data: " + json.dumps({**row, "choices": [choice], **more}).encode() + b"\n\n"


def call(arguments: str | None = None, *, name: str | None = None, **more: Any) -> dict[str, Any]:
    """A fragment of a tool call in a Chat delta."""
    function = {"name": name, "arguments": arguments}
    return {**more, "function": {key: value for key, value in function.items() if value is not None}}


DONE = b"data: [DONE]\n\n"


def from_chat(*chunks: bytes, end: bytes | None = None) -> list[dict[str, Any]]:
    """The Messages events of these chunks and, unless given, an ordinary end."""
    end = chunk(finish="stop") + DONE if end is None else end
    return frames(crossed(b"".join(chunks) + end, "chat", "messages"))


def blocks(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that Messages events build; the arguments of a call are parsed as an SDK parses them."""
    built: list[dict[str, Any]] = []
    written: list[str] = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(built)
                built.append(dict(event["content_block"]))
                written.append("")
            case "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "input_json_delta":
                    written[-1] += delta["partial_json"]
                elif delta["type"] == "signature_delta":
                    built[-1]["signature"] = delta["signature"]
                else:
                    member = delta["type"].removesuffix("_delta")
                    built[-1][member] += delta[member]
            case _:
                pass
    for block, text in zip(built, written, strict=True):
        if text:
            block["input"] = json.loads(text)
    return built


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [block["type"] for block in blocks(events)]


def ended(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The one ``message_delta``."""
    (last,) = (event for event in events if event["type"] == "message_delta")
    return last


def event(kind: str, **members: Any) -> bytes:
    """One frame of a Messages or Responses upstream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def message_start(**usage: int) -> bytes:
    tokens = {"input_tokens": 5, "output_tokens": 1, **usage}
    return event("message_start", message={"id": "m1", "model": "up", "content": [], "usage": tokens})


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    """A whole block of a Messages upstream."""
    return b"".join(
        [
            event("content_block_start", index=index, content_block=start),
            *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
            event("content_block_stop", index=index),
        ]
    )


def text_block(index: int, text: str) -> bytes:
    return block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": text})


def tool_block(index: int, id: str, *fragments: str) -> bytes:
    start = {"type": "tool_use", "id": id, "name": f"name_{id}", "input": {}}
    return block(index, start, *({"type": "input_json_delta", "partial_json": part} for part in fragments))


def message_end(reason: str = "end_turn", **delta: Any) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None, **delta}
    return event("message_delta", delta=delta, usage={"output_tokens": 9}) + event("message_stop")


def from_messages(*parts: bytes) -> list[dict[str, Any]]:
    """The Chat chunks of these Messages frames after an ordinary start, without ``[DONE]``."""
    out = crossed(b"".join([message_start(), *parts]), "messages", "chat")
    lines = [line.removeprefix("data: ") for line in out.decode().split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row["choices"][0]["delta"] for row in chunks if row.get("choices")]


def chat_calls(chunks: list[dict[str, Any]]) -> dict[int, str]:
    """The arguments of each call by its index, added up as every Chat client does."""
    found: dict[int, str] = {}
    for delta in deltas(chunks):
        for fragment in delta.get("tool_calls", ()):
            text = fragment["function"].get("arguments") or ""
            found[fragment["index"]] = found.get(fragment["index"], "") + text
    return found


# ---- requests that cross


USER = {"role": "user", "content": "hi"}
NATIVE = Profile(native_anthropic=True, system_turns=True, thinking="adaptive", sampling=False)
DEEPSEEK = Profile(reasoning_field="reasoning_content", thinking_switch="thinking")


def sent(
    fields: dict[str, Any], caller: DialectName, upstream: str, profile: Profile = DEFAULT_PROFILE
) -> tuple[dict[str, Any], list[str]]:
    """The upstream's body, which is the same each time, and what is told of it."""
    raw = json.dumps(fields).encode()
    once, again = (
        prepare(read_envelope(raw, caller), caller=caller, upstream=upstream, model="up", profile=profile)
        for _ in range(2)
    )
    assert once == again
    return json.loads(once.body), [f"{loss.field}={loss.outcome}" for loss in once.losses]


def chat(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(rows), **fields}


def messages(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": list(rows), **fields}


def said(*parts: dict[str, Any], role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(id: str, name: str = "get") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {}}


def result(id: str, content: Any = "found") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content}


PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
ROUND = (USER, said(use("toolu_1")), said(result("toolu_1"), role="user"))
TOOL = {"name": "get", "input_schema": {"type": "object", "properties": {}}}


# ---- the rows


def test_01_name_and_arguments_in_one_chunk() -> None:
    events = from_chat(
        chunk({"role": "assistant", "content": "Look:"}),
        chunk({"tool_calls": [call('{"a":1}', name="get", index=0, id="call_1")]}),
    )
    assert [part.get("input") for part in blocks(events)] == [None, {"a": 1}]
    start, delta, _ = (row for row in events if row.get("index") == 1)
    assert start["content_block"]["input"] == {}
    assert delta["delta"]["partial_json"] == '{"a":1}'


def test_02_the_first_block_is_of_its_real_kind() -> None:
    for delta in (
        {"reasoning_content": "hm"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    ):
        events = from_chat(chunk(delta), chunk({"content": "Hi"}))
        assert kinds(events) == ["thinking", "text"]


def test_03_a_tool_first_has_neither_empty_text_nor_empty_arguments() -> None:
    events = from_chat(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "", "tool_calls": [call("", name="get", index=0, id="call_1")]}),
        chunk({"tool_calls": [call('{"a":1}', index=0)]}),
    )
    assert kinds(events) == ["tool_use"]
    assert [row["delta"] for row in events if row["type"] == "content_block_delta"] == [
        {"type": "input_json_delta", "partial_json": '{"a":1}'}
    ]


def test_04_the_text_that_ends_a_call_is_kept() -> None:
    events = from_chat(
        chunk({"tool_calls": [call('{"a":1}', name="get", index=0, id="call_1")]}),
        chunk({"content": "First"}),
        chunk({"content": " second", "reasoning_content": ""}),
    )
    assert kinds(events) == ["tool_use", "text"]
    assert blocks(events)[1]["text"] == "First second"


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
def test_05_with_calls_the_end_is_tool_use(finish: str) -> None:
    events = from_chat(
        chunk({"tool_calls": [call("{}", name="get", index=0, id="call_1")]}),
        end=chunk(finish=finish) + DONE,
    )
    assert ended(events)["delta"]["stop_reason"] == "tool_use"
    none = from_chat(chunk({"content": "Hi"}), end=chunk(finish=finish) + DONE)
    assert ended(none)["delta"]["stop_reason"] == "end_turn"


def test_06_parallel_calls_are_counted_by_themselves() -> None:
    chunks = from_messages(
        text_block(0, "I look twice."),
        tool_block(1, "a", '{"x":', "1}"),
        tool_block(2, "b", '{"y":2}'),
        message_end("tool_use"),
    )
    assert chat_calls(chunks) == {0: '{"x":1}', 1: '{"y":2}'}


def test_07_a_thought_that_is_only_a_signature_is_kept() -> None:
    empty = {"type": "thinking", "thinking": "", "signature": ""}
    signature = {"type": "signature_delta", "signature": "EuSig"}
    chunks = from_messages(block(0, empty, signature), text_block(1, "Hi"), message_end())
    details = [entry for delta in deltas(chunks) for entry in delta.get("reasoning_details", ())]
    assert [entry["signature"] for entry in details] == ["EuSig"]
    back, _ = sent(
        chat(USER, {"role": "assistant", "content": "Hi", "reasoning_details": details}, USER),
        "chat",
        "messages",
        NATIVE,
    )
    assert back["messages"][1]["content"][0] == {"type": "thinking", "thinking": "", "signature": "EuSig"}
    out = crossed(message_start() + block(0, empty, signature) + message_end(), "messages", "responses")
    assert numbered(out)[-1]["response"]["output"][0]["encrypted_content"]


@pytest.mark.parametrize("switch", [{}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}])
def test_08_reasoning_goes_back_in_a_tool_loop(switch: dict[str, Any]) -> None:
    events = from_chat(
        chunk({"reasoning_content": "hm"}),
        chunk({"tool_calls": [call("{}", name="get", index=0, id="call_1")]}),
    )
    turn = said(*blocks(events))
    body, told = sent(
        messages(USER, turn, said(result("call_1"), role="user"), **switch), "messages", "chat", DEEPSEEK
    )
    assert body["messages"][1]["reasoning_content"] == "hm"
    assert body["messages"][1]["tool_calls"][0]["id"] == "call_1"
    assert not [row for row in told if row.startswith("messages.thinking")]


def test_09_images_of_tool_results_are_kept() -> None:
    rows = (*ROUND[:2], said(result("toolu_1", [text("see"), PNG]), role="user"))
    body, told = sent(messages(*rows), "messages", "chat")
    assert [row["role"] for row in body["messages"]] == ["user", "assistant", "tool", "user"]
    assert "data:image/png;base64,AA==" in json.dumps(body["messages"][3])
    assert told == ["messages.tool_result.image=moved"]
    inline, told = sent(messages(*rows), "messages", "chat", Profile(tool_images=True))
    assert "data:image/png;base64,AA==" in json.dumps(inline["messages"][2])
    assert told == []
    exact, told = sent(messages(*rows), "messages", "responses")
    assert "data:image/png;base64,AA==" in json.dumps(exact["input"][-1]["output"])
    assert told == []


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens_details": {"cached_tokens": 80}},
        {"prompt_cache_hit_tokens": 80, "prompt_cache_miss_tokens": 20},
        {"cached_tokens": 80},
    ],
)
def test_10_cached_tokens_are_counted_once(usage: dict[str, Any]) -> None:
    total = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, **usage}
    events = from_chat(chunk({"content": "Hi"}), chunk(finish="stop", usage=total), end=DONE)
    told = ended(events)["usage"]
    assert (told["input_tokens"], told["cache_read_input_tokens"]) == (20, 80)
    back = crossed(
        message_start(input_tokens=20, cache_read_input_tokens=70, cache_creation_input_tokens=10)
        + text_block(0, "Hi")
        + message_end(),
        "messages",
        "chat",
    )
    counted = json.loads(back.decode().split("\n\n")[-3].removeprefix("data: "))["usage"]
    assert (counted["prompt_tokens"], counted["prompt_tokens_details"]["cached_tokens"]) == (100, 70)


def test_10_what_an_upstream_does_not_count_is_unknown_and_not_nothing() -> None:
    events = from_chat(
        chunk({"content": "Hi"}),
        chunk(finish="stop", usage={"prompt_tokens": 100, "completion_tokens": 5}),
        end=DONE,
    )
    assert ended(events)["usage"] == {"input_tokens": 100, "output_tokens": 5}


def test_11_the_last_usage_wins() -> None:
    first = {"prompt_tokens": 100, "completion_tokens": 5}
    last = {**first, "prompt_tokens_details": {"cached_tokens": 64}}
    later = chunk(usage=last).replace(b'[{"index": 0, "delta": {}, "finish_reason": null}]', b"[]")
    assert b'"choices": []' in later
    events = from_chat(chunk({"content": "Hi"}), chunk(finish="stop", usage=first), later, end=DONE)
    assert ended(events)["usage"] == {"input_tokens": 36, "output_tokens": 5, "cache_read_input_tokens": 64}


def test_12_blocks_are_contiguous_and_each_is_opened_before_it_is_closed() -> None:
    # legality is checked in every crossing; here the upstream does all it can to break it
    stream = b"".join(
        [
            message_start(),
            event("content_block_stop", index=0),
            text_block(3, "Hi"),
            event("content_block_stop", index=9),
            tool_block(7, "a", "{}"),
            message_end("tool_use"),
        ]
    )
    for caller in ("messages", "chat", "responses"):
        crossed(stream, "messages", caller)
    assert kinds(frames(crossed(stream, "messages", "messages"))) == ["text", "tool_use"]


def test_13_blocks_have_a_count_of_their_own() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    whole = {**reasoning, "summary": [{"type": "summary_text", "text": "hm"}]}
    function = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get", "arguments": ""}
    stream = b"".join(
        [
            event("response.created", response={"id": "r1", "model": "up", "output": []}),
            event("response.output_item.added", output_index=0, item=reasoning),
            event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="hm"),
            event("response.output_item.done", output_index=0, item=whole),
            # the same number again, for something else
            event("response.output_item.added", output_index=0, item=function),
            event("response.function_call_arguments.delta", output_index=0, item_id="fc_1", delta="{}"),
            event("response.output_item.done", output_index=0, item={**function, "arguments": "{}"}),
            event("response.completed", response={"id": "r1", "status": "completed", "output": []}),
        ]
    )
    events = frames(crossed(stream, "responses", "messages"))
    assert kinds(events) == ["thinking", "tool_use"]
    assert blocks(events)[0]["thinking"] == "hm"


@pytest.mark.parametrize("ids", [True, False])
def test_14_calls_without_an_index_are_told_apart(ids: bool) -> None:
    first, second = (call(f'{{"n":{at}}}', name="get") for at in (1, 2))
    fragments = [[{**first, "id": "call_1"}], [{**second, "id": "call_2"}]] if ids else [[first, second]]
    events = from_chat(*(chunk({"tool_calls": rows}) for rows in fragments))
    assert [part["input"] for part in blocks(events)] == [{"n": 1}, {"n": 2}]
    assert len({part["id"] for part in blocks(events)}) == 2


def test_15_interleaved_fragments_reach_their_own_call() -> None:
    events = from_chat(
        chunk({"tool_calls": [call("", name="a", index=0, id="call_1"), call("", name="b", index=1, id="call_2")]}),
        chunk({"tool_calls": [call('{"x":', index=1)]}),
        chunk({"tool_calls": [call('{"y":', index=0)]}),
        chunk({"tool_calls": [call("1}", index=1), call("2}", index=0)]}),
    )  # fmt: skip
    assert [(part["name"], part["input"]) for part in blocks(events)] == [("a", {"y": 2}), ("b", {"x": 1})]


def test_16_every_call_is_kept_under_a_legal_id() -> None:
    fragments = [call("{}", name="add", index=at, id=f"functions.add:{at}") for at in range(3)]
    events = from_chat(*(chunk({"tool_calls": [part]}) for part in fragments))
    built = blocks(events)
    assert [part["type"] for part in built] == ["tool_use"] * 3
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", part["id"]) for part in built)
    assert ended(events)["delta"]["stop_reason"] == "tool_use"
    answers = said(*(result(part["id"]) for part in built), role="user")
    body, _ = sent(messages(USER, said(*built), answers), "messages", "chat")
    assert [row["tool_call_id"] for row in body["messages"][2:]] == [f"functions.add:{at}" for at in range(3)]


def test_17_thinking_after_text_opens_the_next_block() -> None:
    events = from_chat(chunk({"content": "Hi"}), chunk({"reasoning_content": "hm"}), chunk({"content": "Ho"}))
    assert kinds(events) == ["text", "thinking", "text"]


def test_18_system_messages_in_the_middle_stay_in_their_place() -> None:
    rows = (USER, said(text("Ho")), {"role": "user", "content": "and?"})
    middle = {"role": "system", "content": "Today is Monday."}
    body, told = sent(chat(*rows, middle), "chat", "messages", NATIVE)
    assert [row["role"] for row in body["messages"]] == ["user", "assistant", "user", "system"]
    assert ("system" in body, told) == (False, [])
    body, told = sent(chat(*rows, middle), "chat", "messages")
    assert "system" not in body
    assert "Today is Monday." in json.dumps(body["messages"][-1])
    assert told == ["messages.system=wrapped"]
    body, told = sent(messages(*rows, middle), "messages", "chat")
    assert (body["messages"][-1]["role"], told) == ("system", [])


def test_19_the_billing_line_of_claude_code_stays_with_anthropic() -> None:
    line = text("x-anthropic-billing-header: cc_version=2; cch=1")
    other = text("x-anthropic-billing-header: cc_version=2; cch=2")
    bodies = [
        sent(messages(USER, system=[row, text("You are Claude Code.")]), "messages", "chat")[0]
        for row in (line, other)
    ]
    assert bodies[0] == bodies[1]
    assert "billing" not in json.dumps(bodies[0])
    native, _ = sent(messages(USER, system=[line]), "messages", "messages", NATIVE)
    assert native["system"] == [line]


def test_20_text_and_a_call_in_one_delta_are_both_kept() -> None:
    delta = {"content": "Hi", "tool_calls": [call("{}", name="get", index=0, id="call_1")]}
    assert kinds(from_chat(chunk(delta))) == ["text", "tool_use"]
    assert kinds(from_chat(chunk({**delta, "reasoning_content": "hm"}))) == ["thinking", "text", "tool_use"]


def test_21_the_stop_sequence_is_reported() -> None:
    finish = chunk(finish="stop").replace(b'"stop"}', b'"stop", "stop_reason": "###"}')
    assert b'"stop_reason": "###"' in finish
    delta = ended(from_chat(chunk({"content": "Hi"}), end=finish + DONE))["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == ("stop_sequence", "###")
    chunks = from_messages(text_block(0, "Hi"), message_end("stop_sequence", stop_sequence="###"))
    (finished,) = (
        row["choices"][0] for row in chunks if row["choices"] and row["choices"][0]["finish_reason"]
    )
    assert finished["finish_reason"] == "stop"
    assert "###" in json.dumps(finished)


def test_22_an_error_of_the_upstream_is_known_by_its_own_words() -> None:
    error = {"error": {"message": "CUDA error on node 7", "type": "InternalServerError", "code": 500}}
    stream = chunk({"content": "Hi"}) + f"data: {json.dumps(error)}\n\n".encode() + DONE
    reader = upstream_side("chat").ResponseDecoder(profile=DEFAULT_PROFILE)
    failed = [*reader.feed(stream), *reader.finish()][-1]
    # the operator reads the upstream's words; the caller is told in ours
    assert getattr(failed, "message", "") == "CUDA error on node 7"
    events = from_chat(stream, end=b"")
    assert [row["type"] for row in events][-1] == "error"
    assert "CUDA" not in json.dumps(events)


def test_23_reasoning_then_calls_are_blocks_apart() -> None:
    events = from_chat(
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "\n"}),
        chunk({"tool_calls": [call("{}", name="get", index=0, id="call_1")]}),
    )
    assert [kind for kind in kinds(events) if kind != "text"] == ["thinking", "tool_use"]


def test_24_a_character_cut_in_two_is_whole_again() -> None:
    words = "Grüße 日本 🎉 \u2028"
    arguments = json.dumps({"x": words}, ensure_ascii=False)
    stream = b"".join(
        [
            chunk({"content": words}),
            chunk({"tool_calls": [call(arguments, name="get", index=0, id="call_1")]}),
        ]
    )
    plain = re.sub(rb"(?:\\u[0-9a-f]{4})+", lambda found: json.loads(b'"' + found[0] + b'"').encode(), stream)
    for upstream in (stream, plain):
        built = blocks(from_chat(upstream))
        assert (built[0]["text"], built[1]["input"]) == (words, {"x": words})


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_25_every_line_end_and_data_without_a_space(ending: bytes) -> None:
    stream = b"".join([chunk({"content": "Hi"}), b": comment\n\n", chunk(finish="stop"), DONE])
    want = crossed(stream, "chat", "messages")
    assert crossed(stream.replace(b"\n", ending), "chat", "messages") == want
    assert crossed(stream.replace(b"data: ", b"data:").replace(b"\n", ending), "chat", "messages") == want


def test_26_the_limit_has_the_name_that_the_upstream_knows() -> None:
    assert sent(messages(USER), "messages", "chat")[0]["max_tokens"] == 100
    body, _ = sent(messages(USER), "messages", "chat", Profile(max_tokens_field="max_completion_tokens"))
    assert (body["max_completion_tokens"], "max_tokens" in body) == (100, False)
    for name in ("max_tokens", "max_completion_tokens"):
        assert sent(chat(USER, **{name: 9}), "chat", "messages")[0]["max_tokens"] == 9


def test_27_empty_texts_are_left_out() -> None:
    rows = (said(text(""), text("hi"), role="user"), said(text(""), use("toolu_1")), ROUND[2])
    out, _ = sent(messages(*rows), "messages", "chat")
    assert out["messages"][0]["content"] == "hi"
    assert not out["messages"][1].get("content")
    spoken = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", **call("{}", name="get", id="c1")}],
    }
    rows = (
        {**USER, "content": [text(""), text("hi")]},
        spoken,
        {"role": "tool", "tool_call_id": "c1", "content": ""},
    )
    body, _ = sent(chat(*rows), "chat", "messages")
    assert '"text": ""' not in json.dumps(body)
    assert [part["type"] for part in body["messages"][1]["content"]] == ["tool_use"]


def test_28_the_order_of_tools_and_keys_is_the_callers() -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in "zyxabc"}}
    tools = [{"name": name, "input_schema": schema} for name in ("zeta", "alpha", "mid")]
    arguments = {"z": 1.50, "a": {"y": 1, "b": 2}}
    turn = said({**use("toolu_1"), "input": arguments})
    body, _ = sent(messages(USER, turn, ROUND[2], tools=tools), "messages", "chat")
    assert [tool["function"]["name"] for tool in body["tools"]] == ["zeta", "alpha", "mid"]
    assert list(body["tools"][0]["function"]["parameters"]["properties"]) == list("zyxabc")
    assert json.loads(body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == arguments
    assert list(body).index("tools") < list(body).index("messages")


def test_29_cache_marks_are_carried() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    body, told = sent(chat({**USER, "content": [{**text("hi"), **mark}]}), "chat", "messages", NATIVE)
    assert body["messages"][0]["content"] == [{**text("hi"), **mark}]
    assert told == []
    marked = messages(said({**text("hi"), **mark}, role="user"))
    body, told = sent(marked, "messages", "chat", Profile(cache_control=True))
    assert body["messages"][0]["content"] == [{**text("hi"), **mark}]
    assert told == []
    assert sent(marked, "messages", "chat")[1] == ["cache_control=dropped"]


def test_30_a_call_without_arguments_has_an_empty_object() -> None:
    events = from_chat(
        chunk({"tool_calls": [call("", name="now", index=0, id="call_1")]}),
        chunk({"tool_calls": [call(name="then", index=1, id="call_2")]}),
    )
    assert [part["input"] for part in blocks(events)] == [{}, {}]
    assert chat_calls(from_messages(tool_block(0, "a"), message_end("tool_use"))) == {0: "{}"}
    for arguments in ("", " ", "{}"):
        called = {"type": "function", **call(arguments, name="now", id="c1")}
        rows = (
            USER,
            {"role": "assistant", "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c1", "content": "x"},
        )
        body, _ = sent(chat(*rows), "chat", "messages")
        assert body["messages"][1]["content"][0]["input"] == {}


def test_31_the_first_chunk_has_the_role() -> None:
    for parts in (text_block(0, "Hi"), tool_block(0, "a", "{}")):
        assert deltas(from_messages(parts, message_end()))[0]["role"] == "assistant"


def test_32_no_braces_come_before_the_fragments() -> None:
    chunks = from_messages(tool_block(0, "a", "", '{"location"', ':"Ulm"}'), message_end("tool_use"))
    assert chat_calls(chunks) == {0: '{"location":"Ulm"}'}
    events = from_chat(
        chunk({"tool_calls": [call("{}", name="get", index=0, id="call_1")]}),
        chunk({"tool_calls": [call('{"location":"Ulm"}', index=0)]}),
    )
    assert blocks(events)[0]["input"] == {"location": "Ulm"}


@pytest.mark.parametrize(
    ("upstream", "stream"),
    [
        ("chat", chunk({"content": "Hi"})),
        ("chat", chunk({"content": "Hi"}) + b'data: {"error":{"message":"x"}}\n\n' + DONE),
        ("chat", chunk({"tool_calls": [call('{"a":', name="get", index=0, id="call_1")]})),
        ("messages", message_start() + text_block(0, "Hi")),
        ("messages", message_start() + event("error", error={"type": "api_error", "message": "x"})),
        ("responses", event("response.created", response={"id": "r1", "model": "up"})),
    ],
)
def test_33_a_failure_in_the_middle_is_never_a_clean_end(upstream: str, stream: bytes) -> None:
    assert frames(crossed(stream, upstream, "messages"))[-1]["type"] == "error"
    out = crossed(stream, upstream, "chat")
    assert b"[DONE]" not in out
    assert b'"finish_reason":"' not in out
    assert json.loads(out.decode().split("\n\n")[-2].removeprefix("data: "))["error"]["message"]
    assert numbered(crossed(stream, upstream, "responses"))[-1]["type"] == "response.failed"


def response(*parts: bytes, output: list[dict[str, Any]] | None = None) -> bytes:
    return b"".join(
        [
            event("response.created", response={"id": "r1", "model": "up", "output": []}),
            *parts,
            event("response.completed", response={"id": "r1", "status": "completed", "output": output or []}),
        ]
    )


FUNCTION = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get", "arguments": ""}


def test_35_arguments_and_output_that_come_only_at_an_end() -> None:
    added = event("response.output_item.added", output_index=0, item=FUNCTION)
    whole = {**FUNCTION, "arguments": '{"a":1}'}
    done = event("response.function_call_arguments.done", output_index=0, item_id="fc_1", arguments='{"a":1}')
    closed = event("response.output_item.done", output_index=0, item=whole)
    shapes = (
        response(added, done, closed),
        response(added, closed),
        response(closed),
        response(output=[whole]),
    )
    for stream in shapes:
        (built,) = blocks(frames(crossed(stream, "responses", "messages")))
        assert (built["id"], built["name"], built["input"]) == ("call_1", "get", {"a": 1})


CODEX: dict[str, Any] = {
    "model": "m",
    "input": "hi",
    "tools": [{"type": "custom", "name": "apply_patch", "description": "d", "format": {"type": "text"}}],
}


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_36_codex_gets_its_custom_tools_with_their_whole_life(upstream: str) -> None:
    body, _ = sent(CODEX, "responses", upstream)
    name = "apply_patch"
    assert name in json.dumps(body["tools"])
    stream = {
        "chat": chunk({"tool_calls": [call('{"input":"*** x"}', name=name, index=0, id="call_1")]})
        + chunk(finish="tool_calls")
        + DONE,
        "messages": message_start()
        + block(
            0,
            {**use("call_1", name)},
            {"type": "input_json_delta", "partial_json": '{"input":"*** x"}'},
        )
        + message_end("tool_use"),
    }[upstream]
    _, names = fit_tool_names(caller_side("responses").decode_request(json.dumps(CODEX).encode())[0])
    reader = upstream_side(upstream).ResponseDecoder(profile=DEFAULT_PROFILE)
    writer = caller_side("responses").ResponseEncoder(
        model="public", reply_id="resp_1", created=1, include_usage=True, input_estimate=7
    )
    out = writer.write(names.restored([*reader.feed(stream), *reader.finish()]))
    check_responses(out)
    events = numbered(out)
    assert [row["type"].removeprefix("response.") for row in events] == [
        "created", "in_progress", "output_item.added", "custom_tool_call_input.delta",
        "custom_tool_call_input.done", "output_item.done", "completed",
    ]  # fmt: skip
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", name, "*** x")
    assert item["call_id"] == "call_1"
    assert item["id"]


def test_37_structured_output_is_the_native_one_beside_thinking() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "out", "schema": schema, "strict": True}}
    body, _ = sent(chat(USER, response_format=form, reasoning_effort="high"), "chat", "messages", NATIVE)
    assert body["output_config"]["format"] == {"type": "json_schema", "schema": schema}
    assert body["thinking"]["type"] == "adaptive"
    assert "tools" not in body
    assert "tool_choice" not in body
    config = {"format": {"type": "json_schema", "schema": schema}}
    body, _ = sent(messages(USER, output_config=config), "messages", "chat")
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert "tools" not in body


def test_38_what_only_anthropic_knows_goes_to_anthropic_only() -> None:
    fields = {"context_management": {"edits": []}, "diagnostics": {"x": 1}, "speed": "fast", "new_field": 1}
    body, told = sent(messages(USER, **fields), "messages", "chat")
    assert not fields.keys() & body.keys()
    assert {f"{name}=dropped" for name in fields} <= set(told)
    same, told = sent(messages(USER, **fields), "messages", "messages", NATIVE)
    assert {name: same[name] for name in fields} == fields
    assert told == []


def test_40_tool_results_come_first_and_together() -> None:
    tool = {"role": "tool", "tool_call_id": "c1", "content": "found"}
    called = {"role": "assistant", "tool_calls": [{"type": "function", **call("{}", name="get", id="c1")}]}
    body, _ = sent(chat(USER, called, tool, {"role": "user", "content": "and?"}), "chat", "messages")
    assert [part["type"] for part in body["messages"][2]["content"]] == ["tool_result", "text"]
    mixed = said(text("first this"), result("toolu_1"), role="user")
    body, _ = sent(messages(*ROUND[:2], mixed), "messages", "chat")
    assert [row["role"] for row in body["messages"]] == ["user", "assistant", "tool", "user"]


def test_41_text_after_a_call_does_not_end_the_session() -> None:
    turn = said(text("I read."), use("toolu_1"), text("Then I write."))
    body, told = sent(messages(USER, turn, ROUND[2]), "messages", "chat")
    assistant = body["messages"][1]
    assert assistant["content"] == "I read.Then I write."
    assert [row["id"] for row in assistant["tool_calls"]] == ["toolu_1"]
    assert told == ["messages.assistant.text=before_tool_calls"]


@pytest.mark.parametrize(("upstream", "limit"), [("chat", 40), ("responses", 64)])
def test_42_long_tool_ids_are_coded_and_stay_pairs(upstream: str, limit: int) -> None:
    long = "toolu_" + "x" * 300
    rows = (USER, said(use(long)), said(result(long), role="user"))
    body, _ = sent(messages(*rows), "messages", upstream, Profile(tool_id_limit=limit))
    if upstream == "chat":
        ids = [body["messages"][1]["tool_calls"][0]["id"], body["messages"][2]["tool_call_id"]]
    else:
        ids = [row["call_id"] for row in body["input"] if "call_id" in row]
    assert ids[0] == ids[1]
    assert len(ids[0]) <= limit


def test_43_what_comes_in_and_after_the_finish_is_kept() -> None:
    end = chunk({"content": "in"}, finish="stop") + chunk({"content": "after"}) + DONE
    events = from_chat(chunk({"content": "before"}), end=end)
    assert blocks(events)[0]["text"] == "beforeinafter"


def test_44_there_is_one_end() -> None:
    stream = b"".join(
        [
            message_start(),
            text_block(0, "Hi"),
            event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 3}),
            event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 4}),
            event("message_stop"),
        ]
    )
    last = ended(frames(crossed(stream, "messages", "messages")))
    assert (last["delta"]["stop_reason"], last["usage"]["output_tokens"]) == ("max_tokens", 4)
    reader = upstream_side("messages").ResponseDecoder(profile=DEFAULT_PROFILE)
    metered = [row.usage for row in reader.feed(stream) if isinstance(row, Metered)]
    assert metered[-1] == Usage(output=4)


def test_45_a_limit_is_asked_for_and_reported_as_one() -> None:
    for half in ({"content": "Hi"}, {"tool_calls": [call('{"a":', name="get", index=0, id="call_1")]}):
        events = from_chat(chunk(half), end=chunk(finish="length") + DONE)
        assert ended(events)["delta"]["stop_reason"] == "max_tokens"
    for reason in ("max_tokens", "model_context_window_exceeded"):
        chunks = from_messages(text_block(0, "Hi"), message_end(reason))
        assert [row["choices"][0]["finish_reason"] for row in chunks if row["choices"]][-1] == "length"
    assert sent(messages(USER), "messages", "chat")[0]["max_tokens"] == 100


def test_46_claude_code_and_its_tools_on_a_chat_upstream() -> None:
    """A whole round: what the model says crosses, Claude Code sends it back, and the next request holds it."""
    events = from_chat(
        chunk({"role": "assistant", "content": "", "reasoning_content": "I "}),
        chunk({"reasoning_content": "think"}),
        chunk({"content": "I look."}),
        chunk({"tool_calls": [call("", name="get", index=0, id="call_1")]}),
        chunk({"tool_calls": [call('{"a":', index=0)]}),
        chunk({"tool_calls": [call("1}", index=0)]}),
        chunk({"tool_calls": [call('{"b":2}', name="get", index=1, id="call_2")]}),
        end=chunk(finish="tool_calls") + DONE,
    )
    assert kinds(events) == ["thinking", "text", "tool_use", "tool_use"]
    built = blocks(events)
    answers = said(*(result(part["id"]) for part in built[2:]), text("go on"), role="user")
    body, told = sent(messages(USER, said(*built), answers, tools=[TOOL]), "messages", "chat", DEEPSEEK)
    assert told == []
    _, turn, *results, last = body["messages"]
    assert (turn["reasoning_content"], turn["content"]) == ("I think", "I look.")
    arguments = [json.loads(row["function"]["arguments"]) for row in turn["tool_calls"]]
    assert arguments == [{"a": 1}, {"b": 2}]
    assert [row["tool_call_id"] for row in results] == ["call_1", "call_2"]
    assert last == {"role": "user", "content": "go on"}
