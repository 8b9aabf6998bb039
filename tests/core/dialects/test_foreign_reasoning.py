"""Foreign reasoning, body by body: what stays, what goes, and that all else stays byte for byte."""

import json
from typing import Any

import msgspec
import pytest

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.chat.dialect import CHAT
from penstock.core.dialects.foreign_reasoning import chat, messages, responses
from penstock.core.dialects.lanes import MarkedPassthrough
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import passing_of, read_envelope
from penstock.core.failure_classes.reasoning_refusals import refuses_reasoning
from penstock.core.neutral.events import Reply
from penstock.core.neutral.request import Thought, ToolCall
from penstock.core.neutral.usage import Usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningCache, ReasoningScope
from penstock.core.reasoning.maker import maker_mark
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning

NATIVE = Profile(native_anthropic=True)
MARK, OTHER = maker_mark("minimax"), maker_mark("zai")
SCOPE = ReasoningScope(ReasoningCache(0), "user", "minimax")
GW = sign_reasoning(ReasoningOrigin("deepseek"))
TEXT = {"type": "text", "text": "hi"}
USER: dict[str, Any] = {"role": "user", "content": "x"}
RESULT: dict[str, Any] = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1"}],
}
CALL = {"type": "tool_use", "id": "t", "name": "add", "input": {}}


def thinking(signature: Any = ..., text: str = "hm") -> dict[str, Any]:
    block = {"type": "thinking", "thinking": text, "signature": signature}
    return {name: value for name, value in block.items() if value is not ...}


def redacted(data: str) -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": data}


def said(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def passed(
    profile: Profile, *rows: dict[str, Any], scope: ReasoningScope | None = SCOPE
) -> tuple[Any, list[str]]:
    body = msgspec.json.encode({"model": "a", "messages": rows, "max_tokens": 9})
    out = prepare(
        read_envelope(body, "messages"),
        caller="messages",
        upstream="messages",
        model="a",
        profile=profile,
        reasoning=scope,
    )
    if not out.losses:
        assert out.mark == ("" if profile.native_anthropic or scope is None else MARK)
    return json.loads(out.body)["messages"], [f"{loss.field}={loss.outcome}" for loss in out.losses]


ODD = {"type": "thinking", "thinking": "", "signature": 7}
GONE, UNSIGNED, HIDDEN = (
    "messages.thinking=dropped",
    "messages.thinking=unsigned",
    "messages.redacted_thinking=dropped",
)


@pytest.mark.parametrize(
    ("profile", "block", "left", "told"),
    [
        (NATIVE, thinking("EuSig"), thinking("EuSig"), []),
        (NATIVE, thinking("c0ffee"), thinking("c0ffee"), []),
        (NATIVE, thinking(""), None, [GONE]),
        (NATIVE, thinking(None), None, [GONE]),
        (NATIVE, thinking(), None, [GONE]),
        (NATIVE, thinking(GW), None, [GONE]),
        (NATIVE, thinking(OTHER + "c0ffee"), None, [GONE]),
        (NATIVE, redacted("opaque"), redacted("opaque"), []),
        (NATIVE, redacted(OTHER + "opaque"), None, [HIDDEN]),
        (NATIVE, ODD, ODD, []),
        (Profile(), thinking("EuSig"), thinking("EuSig"), []),
        (Profile(), thinking(""), thinking(""), []),
        (Profile(), thinking(MARK + "c0ffee"), thinking("c0ffee"), []),
        (Profile(), thinking(OTHER + "c0ffee"), thinking(""), [UNSIGNED]),
        (Profile(), thinking(GW), thinking(""), [UNSIGNED]),
        (Profile(), thinking(GW, ""), None, [GONE]),
        (Profile(), redacted(MARK + "opaque"), redacted("opaque"), []),
        (Profile(), redacted("opaque"), redacted("opaque"), []),
        (Profile(), redacted(OTHER + "opaque"), None, [HIDDEN]),
    ],
)  # fmt: skip
def test_a_block_before_each_upstream(
    profile: Profile, block: dict[str, Any], left: dict[str, Any] | None, told: list[str]
) -> None:
    wanted = said(TEXT) if left is None else said(left, TEXT)
    beside = {"role": "user", "content": [{"type": "text", "text": f'{GW} {MARK} "thinking"'}]}
    assert passed(profile, beside, said(block, TEXT), USER) == ([beside, wanted, USER], told)


def test_what_is_left_is_byte_for_byte_and_an_empty_message_goes() -> None:
    rows = (
        b'[{"role":"user","content":"x \\u00e9"},'
        b'{"role":"assistant","content":[{"type":"thinking","thinking":"h","signature":"%b"}]}'
        b',{"role": "user" , "content": "gw1."},{"role":"assistant","content":"said"}]'
    ) % GW.encode()
    found = messages.without_foreign(rows, MARK, checked=True)
    assert found is not None
    assert (
        found[0]
        == b'[{"role":"user","content":"x \\u00e9"},{"role":"user","content":"gw1."},{"role":"assistant","content":"said"}]'
    )
    assert messages.without_foreign(b'[{"role":"user","content":"\\"gw1."}]', MARK, checked=True) is None
    assert (
        messages.without_foreign(
            b'[{"role":"assistant","content":[{"type":"text","text":"thinking\\""}]}]', "", checked=True
        )
        is None
    )


def test_a_body_without_a_provider_stays_as_it_is() -> None:
    assert passed(Profile(), USER, said(thinking(GW)), scope=None) == ([USER, said(thinking(GW))], [])


@pytest.mark.parametrize(
    ("place", "asked", "kept", "told"),
    [
        ("messages.1.content.0: no", {"type": "enabled", "budget_tokens": 1024}, True, [GONE]),
        (
            "messages.3.content.0: no",
            {"type": "enabled", "budget_tokens": 1024},
            False,
            [GONE, "thinking=disabled"],
        ),
        ("messages.3.content.0: no", {"type": "adaptive"}, False, [GONE]),
        ("no place", None, False, [GONE]),
    ],
)
def test_what_is_refused_and_what_of_it_goes(place: str, asked: Any, kept: bool, told: list[str]) -> None:
    rows = [USER, said(thinking("a"), TEXT), USER, said(thinking("b"), CALL), RESULT]
    body: dict[str, Any] = {"model": "a", "messages": rows} | ({"thinking": asked} if asked else {})
    found = messages.without_reasoning(msgspec.json.encode(body), place)
    assert found is not None
    assert [f"{loss.field}={loss.outcome}" for loss in found.losses] == told
    out = json.loads(found.body)
    assert out["messages"] == [
        USER,
        said(TEXT),
        USER,
        said(thinking("b"), CALL) if kept else said(CALL),
        RESULT,
    ]
    assert out.get("thinking") == ({"type": "disabled"} if len(told) > 1 else asked)


def test_without_a_loop_thinking_stays_on() -> None:
    body = {"model": "a", "thinking": {"type": "enabled"}, "messages": [USER, said(thinking("a")), USER]}
    found = messages.without_reasoning(msgspec.json.encode(body), "")
    assert found is not None
    assert json.loads(found.body) == {**body, "messages": [USER, USER]}
    loop = {"model": "a", "messages": [said(thinking("a"), CALL), RESULT]}
    found = messages.without_reasoning(msgspec.json.encode(loop), "")
    assert found is not None
    assert json.loads(found.body)["messages"] == [said(CALL), RESULT]


def test_where_there_is_no_reasoning_nothing_is_asked_again() -> None:
    assert messages.without_reasoning(msgspec.json.encode({"messages": [USER]}), "") is None
    assert chat.without_reasoning(msgspec.json.encode({"messages": [USER]}), "") is None
    assert responses.without_reasoning(b'{"input":"x"}', "") is None
    assert responses.without_reasoning(b'{"input":[{"role":"user","content":"x"},7]}', "") is None


# ---- marks on answers


def frame(**event: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))


def delta(**inner: Any) -> bytes:
    return frame(type="content_block_delta", index=0, delta=inner)


def start(**block: Any) -> bytes:
    return frame(type="content_block_start", index=0, content_block=block)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (delta(type="signature_delta", signature="s"), delta(type="signature_delta", signature=MARK + "s")),
        (delta(type="signature_delta", signature=""), None),
        (delta(type="text_delta", text='"signature":"s"'), None),
        (start(**thinking("s")), start(**thinking(MARK + "s"))),
        (start(**thinking("")), None),
        (start(**redacted("d")), start(**redacted(MARK + "d"))),
        (start(**redacted("")), None),
        (start(type="tool_use", id="t", name="sign", input={"signature": "s"}), None),
        (b': "signature"\n\n', None),
        (b'data: {"signature": "s"\n\n', None),
        (b'event: x\ndata: {"delta":{"type":"signature_delta",\ndata: "signature":"s"}}\n\n',
         b'event: x\ndata: {"delta":{"type":"signature_delta", "signature":"%b"}}\n\n' % (MARK + "s").encode()),
    ],
)  # fmt: skip
def test_frames_get_a_mark_on_signatures_alone(before: bytes, after: bytes | None) -> None:
    assert messages.marked_frames(before * 2, MARK) == (before if after is None else after) * 2


def test_a_whole_answer_gets_its_marks() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "sign", "input": {"signature": "s"}}
    body: dict[str, Any] = {
        "id": "m",
        "content": [thinking("s"), thinking(""), redacted("d"), tool, TEXT],
        "x": {"signature": "s"},
    }
    wanted = {**body, "content": [thinking(MARK + "s"), thinking(""), redacted(MARK + "d"), tool, TEXT]}
    assert json.loads(messages.marked_whole(msgspec.json.encode(body), MARK)) == wanted
    for same in ({"content": [tool]}, {"content": [TEXT]}, {"x": {"signature": 1}}):
        raw = msgspec.json.encode(same)
        assert messages.marked_whole(raw, MARK) is raw


def test_the_lane_marks_and_goes_on_as_before() -> None:
    passing = passing_of("messages")
    assert passing.Stream is not None
    assert passing.marking is not None
    lane = MarkedPassthrough(passing.Stream(model=None, withhold_usage=False), passing.marking, MARK)
    begun = frame(type="message_start", message={"id": "m", "model": "up", "usage": {"input_tokens": 1}})
    text = delta(type="text_delta", text="hi")
    assert lane.feed(begun) == begun
    assert lane.feed(delta(type="signature_delta", signature="s")) == delta(
        type="signature_delta", signature=MARK + "s"
    )
    assert lane.feed(text) == text
    assert lane.feed_known(text, 0, len(text)) == text
    end = frame(type="message_stop")
    assert lane.feed(end) == end
    assert lane.finish() == b""
    assert (lane.done, lane.ended, lane.started, lane.stop, lane.answered) == (
        True,
        True,
        True,
        "end_turn",
        "up",
    )
    assert (lane.failure, lane.sequence, lane.usage.input, lane.output_bytes > 0) == (None, 0, 1, True)


# ---- Chat


CLOSED = Profile(closed_messages=True, reasoning_field="reasoning")
SIGNATURE = {"google": {"thought_signature": "R29v"}}
OURS = {"google": {"thought_signature": GW}}
PLAIN = {"data": "x"}
TOOL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def chat_passed(model: str, profile: Profile, row: dict[str, Any]) -> tuple[Any, list[str]]:
    body = msgspec.json.encode(
        {"model": model, "messages": [USER, {"role": "assistant", "content": "hi", **row}]}
    )
    envelope: Envelope = read_envelope(body, "chat")
    out = prepare(envelope, caller="chat", upstream="chat", model=model, profile=profile)
    left = json.loads(out.body)["messages"][1]
    return {name: v for name, v in left.items() if name not in ("role", "content")}, [
        f"{x.field}={x.outcome}" for x in out.losses
    ]


@pytest.mark.parametrize(
    ("model", "profile", "row", "left"),
    [
        ("m", Profile(), {"reasoning_content": "hm", "reasoning_details": [{"signature": "Eu"}]}, None),
        ("m", Profile(), {"reasoning_details": [{"signature": GW}, {"data": OTHER}, PLAIN]}, {"reasoning_details": [PLAIN]}),
        ("m", Profile(), {"reasoning_details": [{"index": 0, "text": "h"}, {"index": 0, "signature": GW}]}, {}),
        ("m", Profile(), {"thinking_blocks": [{"type": "thinking", "signature": GW}]}, {}),
        ("m", Profile(), {"reasoning_details": [GW, {"signature": 7}]}, None),
        ("m", Profile(), {"reasoning_details": GW}, None),
        ("m", Profile(), {"tool_calls": [{**TOOL, "extra_content": SIGNATURE}]}, {"tool_calls": [TOOL]}),
        ("vertex/Gemini-3", Profile(), {"tool_calls": [{**TOOL, "extra_content": SIGNATURE}]}, None),
        ("gemini", Profile(), {"reasoning_details": [{"signature": GW}]}, {}),
        ("m", Profile(call_signatures=True), {"tool_calls": [{**TOOL, "extra_content": SIGNATURE}]}, None),
        ("gemini", Profile(), {"tool_calls": [{**TOOL, "extra_content": OURS}]}, {"tool_calls": [TOOL]}),
        ("m", Profile(), {"tool_calls": [{**TOOL, "extra_content": None}]}, None),
        ("m", CLOSED, {"reasoning_content": "hm", "thinking_blocks": []}, {"reasoning": "hm"}),
        ("m", CLOSED, {"reasoning_content": "hm", "reasoning": "own"}, {"reasoning": "own"}),
        ("m", CLOSED, {"reasoning_details": []}, {}),
        ("m", CLOSED, {"reasoning": "own"}, None),
        ("m", Profile(closed_messages=True), {"reasoning_content": "hm"}, {}),
    ],
)  # fmt: skip
def test_members_of_chat_messages(model: str, profile: Profile, row: dict[str, Any], left: Any) -> None:
    found, told = chat_passed(model, profile, row)
    assert (found, told) == (row if left is None else left, [] if left is None else [GONE])


def test_calls_of_an_odd_shape_stay() -> None:
    rows = b'[{"role":"user","content":"x"},{"role":"assistant","tool_calls":["extra_content"],"n":{"extra_content":1}}]'
    assert chat.without_foreign(rows, "m", Profile()) is None
    odd = b'[{"role":"assistant","tool_calls":[7,{"extra_content":1}]}]'
    assert chat.without_foreign(odd, "m", Profile()) is None


def test_a_refused_chat_body_loses_all_of_it() -> None:
    row = {
        "role": "assistant",
        "content": "hi",
        "reasoning": "hm",
        "tool_calls": [{**TOOL, "extra_content": SIGNATURE}],
    }
    found = chat.without_reasoning(msgspec.json.encode({"messages": [USER, row]}), "")
    assert found is not None
    assert json.loads(found.body)["messages"] == [
        USER,
        {"role": "assistant", "content": "hi", "tool_calls": [TOOL]},
    ]


# ---- how vendors refuse it

REFUSALS = (
    "messages.1.content.0: Invalid `signature` in `thinking` block",
    "messages.3.content.0: Invalid signature in thinking block",
    "messages.1.content.0: Invalid `data` in `redacted_thinking` block",
    "messages.1.content.0.thinking.signature: Field required",
    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. These must stay.",
    "messages.1.content.0: Invalid `encrypted_content` in `search_result` block",
    "The encrypted content gAAA...DQ== could not be verified.",
    "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
    "Could not decrypt the provided encrypted_content. Ensure the value is the unmodified encrypted_content from before.",
    "Could not decode the compaction blob. Ensure it is unmodified from the compact response.",
    "Corrupted thought signature.",
    "Invalid thought signature.",
    "Unable to submit request because Thought signature is not valid.",
    "'messages.1' : for 'role:assistant' this must be satisfied[('messages.1' : property 'reasoning_content' is unsupported)]",
    "messages.2.assistant.reasoning_content: property 'messages.2.assistant.reasoning_content' is unsupported",
    "body.messages.3.assistant.reasoning_content: Extra inputs are not permitted",
    "Unknown parameter: 'messages[1].tool_calls[0].extra_content'.",
)  # fmt: skip
OTHERS = (
    "Function call is missing a thought_signature in functionCall parts.",
    "messages: roles must alternate",
    "Unknown parameter: 'reasonable'.",
    "prompt is too long: 3 tokens > 2 maximum",
    "max_tokens: Extra inputs are not permitted",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_each_vendors_sentence_is_known(text: str) -> None:
    assert refuses_reasoning(text, ())


@pytest.mark.parametrize("text", OTHERS)
def test_other_refusals_are_others(text: str) -> None:
    assert not refuses_reasoning(text, ("invalid_value",))


def test_a_code_says_it_too() -> None:
    assert refuses_reasoning("no", ("invalid_encrypted_content",))


# ---- signatures on the calls of a Chat caller

CARRIED = sign_reasoning(ReasoningOrigin("up", '{"id":"rs_1"}'))


def carried(extra: Any, **members: Any) -> tuple[Any, list[str]]:
    assert CHAT.caller is not None
    row = {"role": "assistant", "content": None, "tool_calls": [{**TOOL, "extra_content": extra}], **members}
    body = msgspec.json.encode({"model": "m", "messages": [USER, row]})
    request, losses = CHAT.caller.decode_request(body)
    thoughts = [part for part in request.turns[1].parts if isinstance(part, Thought)]
    return thoughts, [f"{loss.field}={loss.outcome}" for loss in losses]


def test_a_thought_comes_back_on_its_call() -> None:
    ours = {"google": {"thought_signature": CARRIED}}
    details = [{"type": "reasoning.text", "index": 0, "text": "hm", "signature": CARRIED}]
    assert carried(ours) == ([Thought("", CARRIED)], [])
    assert carried(ours, reasoning_content="hm") == ([Thought("hm", CARRIED)], [])
    assert carried(ours, reasoning_details=details) == ([Thought("hm", CARRIED)], [])
    other = [{**details[0], "signature": "EuSig"}]
    assert carried(ours, reasoning_details=other) == ([Thought("hm", "EuSig"), Thought("", CARRIED)], [])
    assert carried(SIGNATURE) == ([], [GONE])
    for nothing in (None, 7, {}, {"google": {}}):
        assert carried(nothing) == ([], [])


def test_a_thought_goes_out_on_its_call() -> None:
    assert CHAT.caller is not None
    calls = [ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}", custom=True), ToolCall("c", "h", "{}")]
    parts = (Thought("hm", CARRIED), *calls[:2], Thought("x", GW), calls[2])
    reply = Reply("r", "m", parts, Usage(), "tool_use")
    message = json.loads(CHAT.caller.encode_response(reply, model="m", reply_id="r", created=0))["choices"][
        0
    ]["message"]
    extras = [call.get("extra_content") for call in message["tool_calls"]]
    assert extras == [{"google": {"thought_signature": CARRIED}}, None, None]
    assert [entry.get("signature") for entry in message["reasoning_details"]] == [CARRIED, None]


def test_items_that_cannot_be_decrypted() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    own = {**item, "id": "rs_2"}
    given = [USER, item, USER, own]
    for words, left in (
        ("for item rs_1 no", [USER, USER, own]),
        ("for item rs_2 no", [USER, USER]),
        ("no", [USER, USER]),
    ):
        found = responses.without_reasoning(msgspec.json.encode({"input": given}), words)
        assert found is not None
        assert json.loads(found.body)["input"] == left
    assert responses.without_our_reasoning(b'"gw1."') is None
    assert responses.without_our_reasoning(msgspec.json.encode(given)) is None
    assert responses.without_our_reasoning(
        msgspec.json.encode([USER, {**item, "encrypted_content": GW}])
    ) == msgspec.json.encode([USER])


def test_members_of_a_user_stay() -> None:
    said = {
        "role": "user",
        "content": "hi",
        "tool_calls": [{**TOOL, "extra_content": SIGNATURE}],
        "reasoning": GW,
    }
    rows = [said, {"role": "assistant", "content": "x"}]
    assert chat.without_foreign(msgspec.json.encode(rows), "m", CLOSED) is None
