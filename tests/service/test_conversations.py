"""What callers say and get: Chat and Messages callers before Chat and Messages upstreams, streamed and whole.

Callers of Responses are in ``test_responses.py``.
"""

from typing import Any

import msgspec
import pytest

from tests.service.conversations import DIALECTS, FRAMES, REPLIES
from tests.service.replies import Said, said
from tests.service.running_service import House, User

# (of the caller, of the upstream, streamed)
WAYS = [
    (caller, upstream, stream) for caller in DIALECTS for upstream in DIALECTS for stream in (False, True)
]
ways = pytest.mark.parametrize(
    ("dialect", "upstream", "stream"),
    WAYS,
    ids=[f"{a}-to-{b}-{'streamed' if s else 'whole'}" for a, b, s in WAYS],
)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
REASONS = {
    "chat": {
        "end": "stop",
        "length": "length",
        "tools": "tool_calls",
        "stop": "stop",
        "refusal": "content_filter",
    },
    "messages": {
        "end": "end_turn",
        "length": "max_tokens",
        "tools": "tool_use",
        "stop": "stop_sequence",
        "refusal": "refusal",
    },
}


async def _ask(house: House, dialect: str, model: str, user: User, *, stream: bool, **fields: Any) -> Said:
    if stream and dialect == "chat":
        fields["stream_options"] = {"include_usage": True}
    answer = await house.ask(dialect, model, user, stream=stream, **fields)
    assert answer.status == 200, answer.body
    found = said(dialect, answer)
    assert found.model == model
    return found


def _heard(house: House) -> Any:
    """The body that the upstream got last."""
    return msgspec.json.decode(house.visits[-1].body)


@ways
async def test_text_and_its_tokens(house: House, dialect: str, upstream: str, stream: bool) -> None:
    user = await house.user()
    first = await _ask(house, dialect, f"{upstream}-plain", user, stream=stream)
    assert first.text.startswith("This answer is simulated by Penstock; no model has read the question.")
    assert first.reason == REASONS[dialect]["end"]
    assert first.tokens is not None
    row = await house.row(user)
    assert first.tokens == (row["input_tokens"], row["output_tokens"])
    assert min(first.tokens) > 0
    assert (row["dialect"], row["upstream_dialect"], row["stream"]) == (dialect, upstream, stream)
    assert (row["outcome"], row["status"], row["estimated"]) == ("completed", 200, False)
    assert row["translation"] is None


@ways
async def test_the_same_request_gives_the_same_upstream_body_and_answer(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    one, two = [
        await _ask(house, dialect, f"{upstream}-plain", user, stream=stream, temperature=0.3)
        for _ in range(2)
    ]
    assert one == two
    assert house.visits[0].body == house.visits[1].body


@ways
async def test_system_turns_and_what_was_said_before(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    turns = [
        {"role": "user", "content": "Which city?"},
        {"role": "assistant", "content": "Paris — «é» 🗼"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And the river"}, {"type": "text", "text": "there?"}],
        },
    ]
    fields: dict[str, Any] = {"messages": turns}
    if dialect == "chat":
        fields["messages"] = [{"role": "system", "content": "Be brief."}, *turns]
    else:
        fields["system"] = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    found = await _ask(house, dialect, f"{upstream}-echo", user, stream=stream, **fields)
    assert found.text == "And the river\nthere?"
    heard = _heard(house)
    if upstream == "messages":
        system = heard["system"] if dialect == "messages" or "system" in heard else heard["messages"]
        assert "Be brief." in msgspec.json.encode(system).decode()
        roles = ["user", "assistant", "user"]
    else:
        assert heard["messages"][0]["role"] == "system" if dialect == "chat" or upstream != dialect else True
        roles = ["system", "user", "assistant", "user"]
    assert [turn["role"] for turn in heard["messages"]] == roles
    assert "Paris — «é» 🗼" in house.visits[-1].body.decode()


def _tools(dialect: str) -> list[dict[str, Any]]:
    named = [("get_weather", "The weather"), ("get_time", "The time")]
    if dialect == "chat":
        return [
            {"type": "function", "function": {"name": name, "description": text, "parameters": SCHEMA}}
            for name, text in named
        ]
    return [{"name": name, "description": text, "input_schema": SCHEMA} for name, text in named]


def _results(dialect: str, found: Said) -> list[dict[str, Any]]:
    """The history in which the calls were answered, the second one by an error."""
    ask = {"role": "user", "content": "What is it like in Paris?"}
    one, two = found.calls
    if dialect == "chat":
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in found.calls
        ]
        return [
            ask,
            {"role": "assistant", "content": found.text or None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": one.id, "content": "sunny"},
            {"role": "tool", "tool_call_id": two.id, "content": "Error: no clock"},
        ]
    text = [{"type": "text", "text": found.text}] if found.text else []
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.json} for call in found.calls
    ]
    results = [
        {"type": "tool_result", "tool_use_id": one.id, "content": "sunny"},
        {
            "type": "tool_result",
            "tool_use_id": two.id,
            "is_error": True,
            "content": [{"type": "text", "text": "Error: no clock"}],
        },
    ]
    return [ask, {"role": "assistant", "content": [*text, *calls]}, {"role": "user", "content": results}]


@ways
async def test_parallel_tool_calls_and_their_results(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    tools = _tools(dialect)
    found = await _ask(house, dialect, f"{upstream}-tools", user, stream=stream, tools=tools)
    assert [call.name for call in found.calls] == ["get_weather", "get_time"]
    assert all(set(call.json) == {"city"} for call in found.calls)
    assert len({call.id for call in found.calls}) == 2
    assert found.reason == REASONS[dialect]["tools"]
    history = _results(dialect, found)
    after = await _ask(
        house, dialect, f"{upstream}-tools", user, stream=stream, tools=tools, messages=history
    )
    assert "the tool's result has arrived" in after.text
    assert after.reason == REASONS[dialect]["end"]
    heard = _heard(house)
    if upstream == "chat":
        results = [turn for turn in heard["messages"] if turn["role"] == "tool"]
        called = [call["id"] for turn in heard["messages"] for call in turn.get("tool_calls") or ()]
        assert [turn["tool_call_id"] for turn in results] == called
    else:
        blocks = [block for turn in heard["messages"] for block in turn["content"] if isinstance(block, dict)]
        results = [block for block in blocks if block["type"] == "tool_result"]
        called = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert [block["tool_use_id"] for block in results] == called
    assert len(called) == 2
    text = msgspec.json.encode(results).decode()
    assert "sunny" in text
    assert "no clock" in text


@ways
async def test_a_tool_can_be_forced_and_calls_kept_to_one(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    forced: Any = {"type": "tool", "name": "get_time", "disable_parallel_tool_use": True}
    fields: dict[str, Any] = {"tool_choice": forced}
    if dialect == "chat":
        forced = {"type": "function", "function": {"name": "get_time"}}
        fields = {"tool_choice": forced, "parallel_tool_calls": False}
    found = await _ask(
        house, dialect, f"{upstream}-tools", user, stream=stream, tools=_tools(dialect), **fields
    )
    assert [call.name for call in found.calls] == ["get_time"]
    assert found.text == ""


@ways
async def test_images_by_data_and_by_address_are_passed_on_and_never_fetched(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    address = f"http://127.0.0.1:{house.wires['spare-chat'].port}/picture.png"
    if dialect == "chat":
        pictures = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "image_url", "image_url": {"url": address}},
        ]
    else:
        pictures = [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            {"type": "image", "source": {"type": "url", "url": address}},
        ]
    content = [{"type": "text", "text": "What is this?"}, *pictures]
    turns = [{"role": "user", "content": content}]
    assert (await _ask(house, dialect, f"{upstream}-plain", user, stream=stream, messages=turns)).text
    blocks = _heard(house)["messages"][0]["content"][1:]
    if upstream == "chat":
        assert [block["image_url"]["url"] for block in blocks] == [f"data:image/png;base64,{PNG}", address]
    else:
        assert blocks[0]["source"] == {"type": "base64", "media_type": "image/png", "data": PNG}
        assert blocks[1]["source"] == {"type": "url", "url": address}
    assert house.wires["spare-chat"].asked == []


@ways
async def test_stop_sequences_limits_and_refusals_say_why_the_answer_ended(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    stop = {"stop": ["Penstock;"]} if dialect == "chat" else {"stop_sequences": ["Penstock;"]}
    found = await _ask(house, dialect, f"{upstream}-plain", user, stream=stream, **stop)
    assert found.text.rstrip() == "This answer is simulated by"
    # a Chat upstream does not say whether it was a stop sequence
    ends = {REASONS[dialect]["stop"], *([REASONS[dialect]["end"]] if upstream == "chat" else [])}
    assert found.reason in ends
    short = await _ask(house, dialect, f"{upstream}-plain", user, stream=stream, max_tokens=3)
    assert short.text == "This answer is"
    assert short.reason == REASONS[dialect]["length"]
    assert short.tokens is not None
    assert short.tokens[1] == 3
    refused = await _ask(house, dialect, f"{upstream}-refusal", user, stream=stream)
    assert refused.reason == REASONS[dialect]["refusal"]


@ways
async def test_reasoning_comes_apart_from_the_answer(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    fields: dict[str, Any] = {"reasoning_effort": "low", "max_tokens": 3000}
    if dialect == "messages":
        fields = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 3000}
    found = await _ask(house, dialect, f"{upstream}-thinking", user, stream=stream, **fields)
    assert found.thought.startswith("This reasoning is simulated")
    assert found.text.startswith("This answer is simulated")


@ways
async def test_an_upstream_that_counts_nothing_is_estimated_and_marked(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    found = await _ask(house, dialect, f"{upstream}-no-usage", user, stream=stream)
    assert (found.tokens is not None) or dialect == upstream, "what we write has counts in it"
    row = await house.row(user)
    assert row["estimated"] is True
    assert row["input_tokens"] > 0
    assert row["output_tokens"] > 0


@ways
async def test_pings_drips_and_one_body_for_a_stream_are_taken_as_they_are_meant(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    user = await house.user()
    plain = await _ask(house, dialect, f"{upstream}-plain", user, stream=stream)
    for name in ("drip", "pings", "whole"):
        found = await _ask(house, dialect, f"{upstream}-{name}", user, stream=stream)
        assert found.text.startswith("This answer is simulated by Penstock")
        assert found.reason == plain.reason
    assert {row["outcome"] for row in await house.rows(user)} == {"completed"}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_translation_loses_is_told_in_the_callers_words_and_kept_in_the_books(
    house: House, stream: bool
) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: (
        asked.stream(*FRAMES["messages"]) if stream else asked.answer(REPLIES["messages"])
    )
    answer = await house.ask(
        "chat",
        "wire-messages",
        user,
        stream=stream,
        temperature=1.7,
        seed=1,
        logit_bias={"1": 2},
        x_future=True,
    )
    assert answer.status == 200
    told = answer.headers["x-penstock-translation"].split("; ")
    assert set(told) == {
        "temperature=clamped(1.7->1)",
        "seed=dropped",
        "logit_bias=dropped",
        "x_future=dropped",
    }
    assert len(told) == 4
    asked = await wire.next()
    assert asked.json["temperature"] == 1
    assert not {"seed", "logit_bias", "x_future"} & asked.json.keys()
    assert (await house.row(user))["translation"] == answer.headers["x-penstock-translation"]
    plain = await house.ask("chat", "wire-messages", user, stream=stream, temperature=0.5)
    assert "x-penstock-translation" not in plain.headers


async def test_a_loss_is_refused_by_name_before_anything_is_sent_where_the_caller_is_strict(
    house: House,
) -> None:
    user = await house.user()
    strict = {"x-penstock-strict": "1", "x-error-format": "native"}
    answer = await house.ask("chat", "wire-messages", user, headers=strict, temperature=1.7)
    assert answer.status == 400
    assert answer.json["error"]["param"] == "temperature"
    answer = await house.ask("messages", "wire-chat", user, headers=strict, top_k=5)
    assert answer.json["error"]["param"] == "top_k"
    assert house.asked == 0
    assert await house.used(user) == 0
    house.wires["wire-chat"].script = lambda asked: asked.answer(REPLIES["chat"])
    assert (
        await house.ask("chat", "wire-chat", user, headers=strict, temperature=1.7, top_k=5)
    ).status == 200
    assert (
        await house.ask("messages", "wire-chat", user, headers={"x-penstock-strict": "0"}, top_k=5)
    ).status == 200


async def test_what_cannot_be_said_there_is_a_400_that_names_the_field_and_costs_nothing(
    house: House,
) -> None:
    user = await house.user()
    native = {"x-error-format": "native"}
    for dialect, model, field, value in (
        ("chat", "wire-messages", "n", 2),
        ("chat", "wire-messages", "modalities", ["text", "audio"]),
        ("messages", "wire-chat", "stop_sequences", ["a", "b", "c", "d", "e"]),
    ):
        answer = await house.ask(dialect, model, user, headers=native, **{field: value})
        assert answer.status == 400, field
        assert answer.json["error"]["param"] == field
    assert house.asked == 0
    assert await house.used(user) == 0
