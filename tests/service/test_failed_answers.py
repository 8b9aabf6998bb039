"""Failures that stand inside a good answer, and refusals that are not the caller's fault, over real sockets.

For callers of each format in front of upstreams of each: what the caller is told, what the row says, who is asked next.
"""

import json
from typing import Any

import pytest

from tests.core.dialects.test_finish_words import DIALECTS, stream, whole
from tests.service.conversations import PATHS, Answer
from tests.service.running_service import House, User
from tests.service.scripted import Asked

each_caller = pytest.mark.parametrize("caller", DIALECTS)
each_upstream = pytest.mark.parametrize("upstream", DIALECTS)
ENDS = (b"data: [DONE]", b"event: message_stop", b"event: response.completed", b"event: response.incomplete")


async def ask(
    house: House, caller: str, model: str, user: User, *, stream: bool = False, said: str = "Hello"
) -> Answer:
    """One small request of any of the three formats."""
    body: dict[str, Any] = {"model": model, "stream": stream}
    if caller == "responses":
        body["input"] = said
    else:
        body |= {"messages": [{"role": "user", "content": said}], "max_tokens": 64}
    path = (
        PATHS["chat"].replace("/chat/completions", "/responses") if caller == "responses" else PATHS[caller]
    )
    return await house.http("POST", path, user.key, body=json.dumps(body).encode())


@each_caller
@each_upstream
@pytest.mark.parametrize("word", ["network_error", "insufficient_system_resource", "error"])
async def test_a_finish_word_that_means_a_failure_is_one(
    house: House, caller: str, upstream: str, word: str
) -> None:
    wire = house.wires[f"wire-{upstream}"]
    code = "provider_overloaded" if word.startswith("insufficient") else "provider_error"
    wire.script = lambda asked: asked.answer(whole(upstream, word))
    user = await house.user()
    answer = await ask(house, caller, f"wire-{upstream}", user)
    assert (answer.status, answer.code) == (502, code)
    assert f'"{word}"'.encode() not in answer.body.replace(b'"error"', b"")
    row = await house.row(user)
    assert (row["outcome"], row["error_code"]) == ("upstream_error", code)
    assert (row["counted"], row["refund_reason"]) == (False, "no_output")

    wire.script = lambda asked: asked.stream(stream(upstream, word))
    user = await house.user()
    answer = await ask(house, caller, f"wire-{upstream}", user, stream=True)
    row = await house.row(user)
    assert (row["outcome"], row["error_code"]) == ("upstream_error", code)
    for end in ENDS:
        assert end not in answer.body
    if answer.status == 200:  # half of it had gone out
        assert b"half" in answer.body
        assert b"error" in answer.body
        assert row["counted"]
    else:
        assert (answer.status, row["counted"]) == (502, False)


@each_caller
@each_upstream
async def test_a_word_that_nobody_knows_is_never_told_as_a_good_end(
    house: House, caller: str, upstream: str
) -> None:
    wire, word = house.wires[f"wire-{upstream}"], "end_of_days"
    for streamed in (False, True):
        wire.script = (
            (lambda asked: asked.stream(stream(upstream, word)))
            if streamed
            else (lambda asked: asked.answer(whole(upstream, word)))
        )
        user = await house.user()
        answer = await ask(house, caller, f"wire-{upstream}", user, stream=streamed)
        row = await house.row(user)
        if caller == upstream:
            assert (answer.status, row["outcome"]) == (200, "completed")
            assert word.encode() in answer.body
        else:
            assert row["outcome"] == "upstream_error"
            assert not any(end in answer.body for end in ENDS)
            assert answer.status == 502 or streamed


QUOTA: dict[str, tuple[int, Any]] = {
    "anthropic": (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to go on."}}),
    "openai": (429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}),
    "zai": (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package."}}),
    "dashscope": (400, {"error": {"code": "Arrearage", "message": "make sure your account is in good standing."}}),
    "deepseek": (402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}),
    "minimax": (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
    "gemini": (400, [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]),
    "openrouter": (200, {"error": {"code": 402, "message": "Insufficient credits"}}),
}  # fmt: skip


@each_caller
@pytest.mark.parametrize("vendor", QUOTA)
async def test_a_vendors_words_about_its_account_are_no_callers_error(
    house: House, caller: str, vendor: str
) -> None:
    status, body = QUOTA[vendor]
    raw = json.dumps(body).encode()
    for streamed in (False, True):
        house.wires["wire-chat"].script = lambda asked: asked.answer(raw, status=status)
        user = await house.user()
        answer = await ask(house, caller, "wire-chat", user, stream=streamed)
        assert (answer.status, answer.code) == (502, "provider_credentials")
        for word in (b"alance", b"quota", b"redit ", b"API key", b"standing"):
            assert word not in answer.body
        row = await house.row(user)
        assert (row["outcome"], row["error_code"]) == ("upstream_error", "provider_credentials")
        assert (row["counted"], row["refund_reason"]) == (False, "no_output")


@pytest.mark.parametrize("vendor", QUOTA)
async def test_another_provider_answers_where_ones_account_is_used_up(house: House, vendor: str) -> None:
    status, body = QUOTA[vendor]
    raw = json.dumps(body).encode()
    house.wires["wire-chat"].script = lambda asked: asked.answer(raw, status=status)
    house.wires["spare-chat"].script = lambda asked: asked.answer(whole("chat", "stop"))
    user = await house.user()
    answer = await ask(house, "messages", "pair-chat", user)
    assert answer.status == 200
    assert answer.json["stop_reason"] == "end_turn"
    row = await house.row(user)
    assert (row["provider"], row["attempts"], row["counted"]) == ("spare-chat", 2, True)


async def test_a_prompt_that_quotes_such_words_switches_nothing_off(house: House) -> None:
    said = {"error": {"message": 'bad part: "credit balance is too low"', "type": "invalid_request_error"}}
    house.wires["wire-chat"].script = lambda asked: asked.answer(json.dumps(said).encode(), status=400)
    user = await house.user()
    answer = await ask(house, "chat", "wire-chat", user, said="what does 'credit balance is too low' mean?")
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert b"credit balance" in answer.body
    row = await house.row(user)
    assert (row["outcome"], row["refund_reason"]) == ("refused", "provider_refused")


@each_caller
async def test_a_prompt_that_is_too_long_is_the_callers_inside_a_good_answer_too(
    house: House, caller: str
) -> None:
    said = {"base_resp": {"status_code": 2013, "status_msg": "invalid params, context window exceeds limit"}}
    for streamed in (False, True):
        house.wires["wire-chat"].script = lambda asked: asked.answer(json.dumps(said).encode())
        user = await house.user()
        answer = await ask(house, caller, "wire-chat", user, stream=streamed)
        assert (answer.status, answer.code) == (400, "context_length_exceeded")
        row = await house.row(user)
        assert (row["counted"], row["refund_reason"]) == (False, "provider_refused")


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_a_refusal_whose_body_does_not_come_is_told_by_its_status(house: House, status: int) -> None:
    def half(asked: Asked) -> None:
        asked.write(b"HTTP/1.1 %d X\r\ncontent-length: 50\r\n\r\n{" % status)
        asked.cut()

    house.wires["wire-chat"].script = half
    user = await house.user()
    answer = await ask(house, "chat", "wire-chat", user)
    code = "provider_overloaded" if status == 429 else "provider_credentials"
    assert (answer.status, answer.code) == (502, code)
