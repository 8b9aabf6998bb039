"""Conversations that change their model: reasoning goes back to who made it, and the others answer without it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.service.conversations import Answer
from tests.service.running_service import House, User
from tests.service.scripted import Asked
from tests.service.test_routing import equals, health_of, relay_of

streamed = pytest.mark.parametrize("stream", [False, True])
SIGNED = "c0ffee0123"
MINE = {"role": "user", "content": "What is it?"}
MORE = {"role": "user", "content": "And now?"}
THINKING = {"type": "thinking", "thinking": "let me see", "signature": SIGNED}
SAID = {"type": "text", "text": "forty-two"}
CHAT = (
    b'{"id":"x","model":"up-chat","choices":[{"index":0,"message":{"role":"assistant","content":"2"},'
    b'"finish_reason":"stop"}]}'
)
HIDDEN = {"type": "redacted_thinking", "data": "b3BhcXVl"}


def _reply(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "up-messages",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 5},
    }


def _frame(kind: str, **data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **data}))


def _frames(content: list[dict[str, Any]]) -> bytes:
    begun = {**_reply([]), "stop_reason": None}
    out = [_frame("message_start", message=begun)]
    for at, block in enumerate(content):
        begin, deltas = dict(block), list[dict[str, Any]]()
        if block["type"] == "thinking":
            begin |= {"thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        elif block["type"] == "text":
            begin["text"] = ""
            deltas = [{"type": "text_delta", "text": block["text"]}]
        out.append(_frame("content_block_start", index=at, content_block=begin))
        out += [_frame("content_block_delta", index=at, delta=delta) for delta in deltas]
        out.append(_frame("content_block_stop", index=at))
    out.append(_frame("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}))
    return b"".join([*out, _frame("message_stop")])


def _says(content: list[dict[str, Any]]) -> Callable[[Asked], None]:
    def script(asked: Asked) -> None:
        if asked.json.get("stream"):
            asked.stream(_frames(content))
        else:
            asked.answer(msgspec.json.encode(_reply(content)))

    return script


def _refuses(sign: str, error: dict[str, Any], content: list[dict[str, Any]]) -> Callable[[Asked], None]:
    """An upstream that answers 400 as long as ``sign`` is in the body."""

    def script(asked: Asked) -> None:
        if sign.encode() in asked.body:
            asked.answer(msgspec.json.encode(error), status=400)
        else:
            _says(content)(asked)

    return script


def _invalid(place: str = "messages.1.content.0") -> dict[str, Any]:
    said = f"{place}: Invalid `signature` in `thinking` block"
    return {"type": "error", "error": {"type": "invalid_request_error", "message": said}}


def _content(answer: Answer) -> list[dict[str, Any]]:
    """The blocks of an answer, as a client keeps them."""
    assert answer.status == 200
    if answer.headers["content-type"] == "application/json":
        return answer.json["content"]
    blocks: list[dict[str, Any]] = []
    for frame in answer.frames:
        event = frame.json
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            match delta["type"]:
                case "signature_delta":
                    blocks[-1]["signature"] = delta["signature"]
                case "thinking_delta":
                    blocks[-1]["thinking"] += delta["thinking"]
                case _:
                    blocks[-1]["text"] += delta["text"]
    return blocks


def _told(answer: Answer) -> str:
    assert answer.status == 200
    return answer.headers.get("x-penstock-translation", "")


async def _asked(house: House, wire: str) -> Any:
    return (await house.wires[wire].next()).json


async def _vendors_answer(
    house: House, user: User, content: list[dict[str, Any]], stream: bool
) -> list[dict[str, Any]]:
    house.wires["spare-messages"].script = _says(content)
    answer = await house.ask("messages", "mini-messages", user, messages=[MINE], stream=stream)
    await house.wires["spare-messages"].next()
    return _content(answer)


@streamed
async def test_what_another_vendor_signed_goes_back_to_it_and_not_to_anthropic(
    house: House, stream: bool
) -> None:
    user = await house.user()
    kept = await _vendors_answer(house, user, [THINKING, HIDDEN, SAID], stream)
    assert kept[0]["thinking"] == THINKING["thinking"]
    assert kept[2] == SAID
    history = [MINE, {"role": "assistant", "content": kept}, MORE]
    house.wires["wire-messages"].script = _refuses("thinking", _invalid(), [SAID])
    answer = await house.ask("messages", "wire-messages", user, messages=history, stream=stream)
    assert _told(answer) == "messages.thinking=dropped; messages.redacted_thinking=dropped"
    asked = await _asked(house, "wire-messages")
    assert asked["messages"] == [MINE, {"role": "assistant", "content": [SAID]}, MORE]
    answer = await house.ask("messages", "mini-messages", user, messages=history, stream=stream)
    assert _told(answer) == ""
    asked = await _asked(house, "spare-messages")
    assert asked["messages"][1]["content"] == [THINKING, HIDDEN, SAID]


@pytest.mark.parametrize("signature", ["", None, ...])
async def test_a_thought_without_a_signature_does_not_go_to_anthropic(house: House, signature: Any) -> None:
    user = await house.user()
    thought = {
        name: value for name, value in (THINKING | {"signature": signature}).items() if value is not ...
    }
    house.wires["wire-messages"].script = _refuses('"thinking"', _invalid(), [SAID])
    history = [MINE, {"role": "assistant", "content": [thought, SAID]}, MORE]
    answer = await house.ask("messages", "wire-messages", user, messages=history)
    assert _told(answer) == "messages.thinking=dropped"
    assert (await _asked(house, "wire-messages"))["messages"][1]["content"] == [SAID]


@streamed
async def test_what_is_refused_as_another_models_is_asked_once_more_without(
    house: House, stream: bool
) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = _refuses(SIGNED, _invalid(), [SAID])
    history = [MINE, {"role": "assistant", "content": [THINKING, SAID]}, MORE]
    answer = await house.ask("messages", "wire-messages", user, messages=history, stream=stream)
    assert _told(answer) == "messages.thinking=dropped"
    assert _content(answer) == [SAID]
    assert (await wire.next()).json["messages"] == history
    again: Any = (await wire.next()).json
    assert again["messages"] == [MINE, {"role": "assistant", "content": [SAID]}, MORE]
    row = await house.row(user)
    assert (row["counted"], row["outcome"]) == (True, "completed")
    assert await house.used(user) == 1


async def test_thoughts_of_the_loop_under_way_stay_where_an_earlier_one_is_refused(house: House) -> None:
    user = await house.user()
    own = {"type": "thinking", "thinking": "mine", "signature": "EuSig"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}]}
    history = [
        MINE,
        {"role": "assistant", "content": [THINKING, SAID]},
        MORE,
        {"role": "assistant", "content": [own, call]},
        result,
    ]
    wire = house.wires["wire-messages"]
    wire.script = _refuses(SIGNED, _invalid("messages.1.content.0"), [SAID])
    thinking = {"type": "enabled", "budget_tokens": 1024}
    fields: dict[str, Any] = {"messages": history, "thinking": thinking, "max_tokens": 4096}
    answer = await house.ask("messages", "wire-messages", user, **fields)
    assert _told(answer) == "messages.thinking=dropped"
    await wire.next()
    again: Any = (await wire.next()).json
    assert again["messages"][3]["content"] == [own, call]
    assert again["thinking"] == thinking
    wire.script = _refuses("EuSig", _invalid("messages.3.content.0"), [SAID])
    answer = await house.ask("messages", "wire-messages", user, **fields)
    assert _told(answer) == "messages.thinking=dropped; thinking=disabled"
    await wire.next()
    again = (await wire.next()).json
    assert again["messages"][3]["content"] == [call]
    assert again["thinking"] == {"type": "disabled"}


async def test_what_is_refused_without_reasoning_too_is_told_and_asked_no_more(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(msgspec.json.encode(_invalid()), status=400)
    history = [MINE, {"role": "assistant", "content": [THINKING, SAID]}, MORE]
    answer = await house.ask("messages", "wire-messages", user, messages=history)
    assert (answer.status, "Invalid `signature`" in answer.error) == (400, True)
    await wire.next()
    assert SIGNED.encode() not in (await wire.next()).body
    answer = await house.ask("messages", "wire-messages", user, messages=[MINE])
    assert answer.status == 400
    assert (await wire.next()).json["messages"] == [MINE]
    strict = {"x-penstock-strict": "1"}
    answer = await house.ask("messages", "wire-messages", user, messages=history, headers=strict)
    assert answer.status == 400
    assert (await wire.next()).json["messages"] == history
    assert await house.used(user) == 0


@streamed
async def test_the_same_through_chat(house: House, stream: bool) -> None:
    user = await house.user()
    house.wires["spare-messages"].script = _says([THINKING, SAID])
    answer = await house.ask("chat", "mini-messages", user, stream=stream)
    await house.wires["spare-messages"].next()
    details: list[dict[str, Any]] = []
    if stream:
        for frame in answer.frames[:-1]:
            details += frame.json["choices"][0]["delta"].get("reasoning_details", [])
    else:
        details = answer.json["choices"][0]["message"]["reasoning_details"]
    history = [MINE, {"role": "assistant", "content": "forty-two", "reasoning_details": details}, MORE]
    await house.ask("chat", "mini-messages", user, messages=history)
    assert (await _asked(house, "spare-messages"))["messages"][1]["content"] == [THINKING, SAID]
    house.wires["wire-messages"].script = _refuses("thinking", _invalid(), [SAID])
    answer = await house.ask("chat", "wire-messages", user, messages=history)
    assert _told(answer) == "messages.thinking=dropped"
    assert (await _asked(house, "wire-messages"))["messages"][1]["content"] == [SAID]
    house.wires["wire-chat"].script = lambda asked: asked.answer(CHAT)
    answer = await house.ask("chat", "wire-chat", user, messages=history)
    assert _told(answer) == "messages.thinking=dropped"
    assert (await _asked(house, "wire-chat"))["messages"][1] == {"role": "assistant", "content": "forty-two"}


async def _responses(house: House, model: str, user: User, given: list[Any]) -> Answer:
    body = msgspec.json.encode({"model": model, "input": given})
    return await house.http("POST", "/api/v1/responses", user.key, body=body)


async def test_the_same_through_responses(house: House) -> None:
    user = await house.user()
    house.wires["spare-messages"].script = _says([THINKING, SAID])
    answer = await _responses(house, "mini-messages", user, [MINE])
    await house.wires["spare-messages"].next()
    given = [MINE, *answer.json["output"], MORE]
    await _responses(house, "mini-messages", user, given)
    assert (await _asked(house, "spare-messages"))["messages"][1]["content"] == [THINKING, SAID]
    house.wires["wire-messages"].script = _refuses("thinking", _invalid(), [SAID])
    answer = await _responses(house, "wire-messages", user, given)
    assert _told(answer) == "input.reasoning=dropped"
    assert (await _asked(house, "wire-messages"))["messages"][1]["content"] == [SAID]


ITEM: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAforeign"}
OUTPUT = [
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "hi"}],
    }
]
RESPONSE = {
    "id": "resp_up",
    "object": "response",
    "model": "up-responses",
    "status": "completed",
    "output": OUTPUT,
}


def _decrypts(asked: Asked) -> None:
    """An account that cannot decrypt what another's model thought."""
    if b"gAAAAforeign" in asked.body:
        said = "The encrypted content for item rs_1 could not be verified. Reason: Encrypted content could not be decrypted."
        error = {"message": said, "type": "invalid_request_error", "code": "invalid_encrypted_content"}
        asked.answer(msgspec.json.encode({"error": error}), status=400)
    else:
        asked.answer(msgspec.json.encode(RESPONSE))


async def test_what_another_account_encrypted_is_left_out(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-responses"]
    wire.script = _decrypts
    own = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAAown"}
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
    done = {"type": "function_call_output", "call_id": "c1", "output": "2"}
    given = [MINE, ITEM, *OUTPUT, MORE, own, call, done]
    answer = await _responses(house, "wire-responses", user, given)
    assert _told(answer) == "input.reasoning=dropped"
    assert (await wire.next()).json["input"] == given
    assert (await wire.next()).json["input"] == [MINE, *OUTPUT, MORE, own, call, done]
    answer = await _responses(house, "wire-responses", user, [MINE, ITEM, call, done])
    assert _told(answer) == "input.reasoning=dropped"
    await wire.next()
    assert (await wire.next()).json["input"] == [MINE, call, done]


async def test_case_28_what_an_account_has_encrypted_goes_back_to_it_while_that_is_to_be_had(
    house: House,
) -> None:
    user = await house.user()
    wire, spare = house.wires["wire-responses"], house.wires["spare-responses"]
    await equals(house, "responses")
    wire.script, spare.script = _decrypts, lambda asked: asked.answer(msgspec.json.encode(RESPONSE))
    given = [MINE, ITEM, *OUTPUT, MORE]

    async def ask(session: int, turns: list[Any], **headers: str) -> Answer:
        body = msgspec.json.encode({"model": "equals", "input": turns})
        named = {
            "X-Session-Id": f"s{session}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return await house.http("POST", "/api/v1/responses", user.key, body=body, headers=named)

    assert (await ask(0, given, X_Penstock_Provider='{"only":["spare-responses"]}')).status == 200
    later = [*given, *OUTPUT, {**ITEM, "id": "rs_9", "encrypted_content": "gAAAAforeign-too"}, MORE]
    for session in range(8):
        answer = await ask(session, later if session % 2 else given)
        assert _told(answer) == ""
    assert wire.asked == [], "though some of these conversations would be at home there"
    known = health_of(house)._upstreams["spare-responses", "up-responses", ""]
    known.target._open(relay_of(house).clock(), replace(health_of(house).rules, open_first=600.0), 0.5)
    health_of(house).refresh(known, 0.0)
    assert _told(await ask(0, given)) == "input.reasoning=dropped"


async def test_the_same_for_a_translated_request(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-responses"]
    wire.script = lambda asked: asked.answer(msgspec.json.encode({**RESPONSE, "output": [ITEM, *OUTPUT]}))
    kept = _content(await house.ask("messages", "wire-responses", user, messages=[MINE]))
    await wire.next()
    wire.script = _decrypts
    history = [MINE, {"role": "assistant", "content": kept}, MORE]
    answer = await house.ask("messages", "wire-responses", user, messages=history)
    assert _told(answer) == "messages.thinking=dropped"
    asked: Any = (await wire.next()).json
    assert asked["input"][1]["encrypted_content"] == "gAAAAforeign"
    asked = (await wire.next()).json
    assert [item.get("role") for item in asked["input"]] == ["user", "assistant", "user"]


async def test_googles_signatures_are_googles(house: House) -> None:
    user = await house.user()
    extra = {"google": {"thought_signature": "R29vZ2xl"}}
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    loop = [
        MINE,
        {"role": "assistant", "content": None, "tool_calls": [{**call, "extra_content": extra}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    for wire in ("wire-chat", "spare-chat"):
        house.wires[wire].script = lambda asked: asked.answer(CHAT)
    answer = await house.ask("chat", "wire-chat", user, messages=loop)
    assert _told(answer) == "messages.thinking=dropped"
    assert (await _asked(house, "wire-chat"))["messages"][1]["tool_calls"] == [call]
    answer = await house.ask("chat", "google-chat", user, messages=loop)
    assert _told(answer) == ""
    assert (await _asked(house, "spare-chat"))["messages"] == loop
    house.wires["wire-messages"].script = _says([SAID])
    answer = await house.ask("chat", "wire-messages", user, messages=loop)
    assert _told(answer) == "messages.thinking=dropped"


async def test_a_vendor_with_closed_messages_gets_its_own_member_alone(house: House) -> None:
    user = await house.user()
    house.wires["wire-chat"].script = lambda asked: asked.answer(CHAT)
    said = {
        "role": "assistant",
        "content": "hi",
        "reasoning_content": "hm",
        "reasoning_details": [{"type": "x"}],
    }
    answer = await house.ask("chat", "groq-chat", user, messages=[MINE, said, MORE])
    assert _told(answer) == "messages.thinking=dropped"
    asked = await _asked(house, "wire-chat")
    assert asked["messages"][1] == {"role": "assistant", "content": "hi", "reasoning": "hm"}


async def test_a_chat_vendor_that_refuses_members_is_asked_without_them(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-chat"]

    def script(asked: Asked) -> None:
        if b"reasoning_content" in asked.body:
            said = "messages.1.assistant.reasoning_content: property 'messages.1.assistant.reasoning_content' is unsupported"
            asked.answer(msgspec.json.encode({"message": said, "code": "wrong_api_format"}), status=400)
        else:
            asked.answer(CHAT)

    wire.script = script
    said = {"role": "assistant", "content": "hi", "reasoning_content": "hm"}
    answer = await house.ask("chat", "wire-chat", user, messages=[MINE, said, MORE])
    assert _told(answer) == "messages.thinking=dropped"
    assert (await wire.next()).json["messages"] == [MINE, said, MORE]
    assert (await wire.next()).json["messages"] == [MINE, {"role": "assistant", "content": "hi"}, MORE]


async def test_tokens_are_counted_without_what_cannot_be_read(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(b'{"input_tokens":7}')
    history = [MINE, {"role": "assistant", "content": [{**THINKING, "signature": ""}, SAID]}, MORE]
    body = msgspec.json.encode({"model": "wire-messages", "messages": history})
    answer = await house.http("POST", "/v1/messages/count_tokens", user.key, body=body)
    assert answer.json == {"input_tokens": 7}
    asked: Any = (await wire.next()).json
    assert asked["messages"][1]["content"] == [SAID]


async def test_a_refused_body_of_an_odd_shape_is_the_callers(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(msgspec.json.encode(_invalid()), status=400)
    history = [MINE, {"role": "assistant", "content": [THINKING, SAID]}, MORE]
    answer = await house.ask("messages", "wire-messages", user, messages=history, thinking=7)
    assert answer.status == 400
    answer = await house.ask("messages", "wire-messages", user, messages=[{"role": "user"}, *history[1:]])
    assert answer.status == 400
