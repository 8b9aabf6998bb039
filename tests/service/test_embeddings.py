"""Embeddings: passed through as bytes, counted and recorded like any request, and never served by another model."""

import asyncio
import base64
import json
import struct
from typing import Any

import pytest

from penstock.domain.keys.management import KeyWish
from tests.service.conversations import PATHS, body_of
from tests.service.running_service import VENDOR_KEY, House

ASK = b'{ "input" : ["caf\\u00e9 \\/", "\xc3\xa9"],"model":"wire-embeddings","dimensions":2.0e0,"user":"u", "new":{"x":[1.50]}}'
# As no encoder would write it: spacing, number forms, and one that no decoder takes.
REPLY = (
    b'{"object": "list", "data": [{"object":"embedding","index":0,"embedding":[0.10,-1E-05, 1e999]}],'
    b' "model": "up-embed-2026", "usage": {"prompt_tokens": 5, "total_tokens": 5}, "x": 1}'
)


# ---- what crosses


async def test_both_ways_are_bytes_but_for_the_model(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    wire.script = lambda asked: asked.answer(REPLY)
    answer = await house.post("embeddings", ASK, user)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == REPLY.replace(b"up-embed-2026", b"wire-embeddings")
    asked = await wire.next()
    assert (asked.method, asked.path) == ("POST", "/base/v1/embeddings")
    assert asked.headers["authorization"] == f"Bearer {VENDOR_KEY}"
    assert b'["caf\\u00e9 \\/", "\xc3\xa9"]' in asked.body
    assert b'"dimensions":2.0e0' in asked.body
    assert b'{"x":[1.50]}' in asked.body
    assert json.loads(asked.body) == {**json.loads(ASK), "model": "up-embed"}


@pytest.mark.parametrize(
    "value",
    ["Hello", ["Hello", "there"], [15496, 11], [[15496], [11, 12]]],
    ids=["a text", "texts", "token ids", "lists of token ids"],
)
@pytest.mark.parametrize("encoding", [..., "float", "base64"])
async def test_every_form_of_input_and_answer(house: House, value: Any, encoding: Any) -> None:
    user = await house.user()
    answer = await house.ask(
        "embeddings", "embeddings-plain", user, input=value, encoding_format=encoding, dimensions=3
    )
    assert answer.status == 200
    assert answer.headers["x-penstock-upstream"] == "simulator"
    assert answer.json["model"] == "embeddings-plain"
    vectors = [entry["embedding"] for entry in answer.json["data"]]
    assert len(vectors) == (2 if isinstance(value, list) and not isinstance(value[0], int) else 1)
    for vector in vectors:
        numbers = struct.unpack("<3f", base64.b64decode(vector)) if encoding == "base64" else vector
        assert sum(number * number for number in numbers) == pytest.approx(1)


async def test_a_row_says_what_it_was(house: House) -> None:
    user = await house.user()
    house.wires["wire-embeddings"].script = lambda asked: asked.answer(REPLY)
    answer = await house.post("embeddings", ASK, user, {"user-agent": "OpenAI/Python 3.5"})
    row = await house.row(user)
    assert row["id"] == answer.headers["x-request-id"]
    told = {
        "dialect": "embeddings", "upstream_dialect": "embeddings", "model": "wire-embeddings", "provider": "wire-embeddings",
        "upstream_model": "up-embed", "stream": False, "client": "openai-sdk", "status": 200, "outcome": "completed",
        "counted": True, "input_tokens": 5, "output_tokens": 0, "estimated": False, "attempts": 1, "translation": None,
    }  # fmt: skip
    assert {name: row[name] for name in told} == told
    assert await house.used(user) == 1
    assert int(answer.headers["x-ratelimit-remaining"]) == int(answer.headers["x-ratelimit-limit"]) - 1


@pytest.mark.parametrize(("value", "tokens"), [("x" * 400, 100), ([[1, 2], [3]], 3)])
async def test_tokens_that_nobody_counted_are_estimated(house: House, value: Any, tokens: int) -> None:
    user = await house.user()
    assert (await house.ask("embeddings", "embeddings-no-usage", user, input=value)).status == 200
    row = await house.row(user)
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (tokens, 0, True)


async def test_a_large_batch_is_passed_on_undecoded(house: House) -> None:
    """Far more values than a body may have that is decoded, and an answer with numbers that no decoder takes."""
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    ids = b"[" + b",".join([b"[" + b"100, 20000,  300" + b",4" * 1000 + b"]"] * 2048) + b"]"
    vector = b"[" + b",".join([b"-1.10E-400"] * 1500) + b"]"
    data = b'"data":[' + b",".join([b'{"embedding":%b}' % vector] * 600) + b"]"
    wire.script = lambda asked: asked.answer(b'{"model":"up",%b}' % data)
    body = b'{"model":"wire-embeddings","input":%b}' % ids
    assert len(body) > 4_000_000
    answer = await house.post("embeddings", body, user)
    assert answer.status == 200
    assert (await wire.next()).body == body.replace(b"wire-embeddings", b"up-embed")
    assert answer.body == b'{"model":"wire-embeddings",%b}' % data
    assert (await house.row(user))["input_tokens"] == 2048 * 1003


# ---- what is refused


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"input": ...}, "input", "input is required"),
        ({"input": []}, "input", "input must not be empty"),
        ({"input": ""}, "input", "input must not be empty"),
        ({"input": {"a": 1}}, "input", "input must be"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"stream": True}, "stream", "embeddings are not streamed"),
    ],
)
async def test_a_wrong_body_is_refused_and_costs_nothing(
    house: House, fields: Any, param: str, said: str
) -> None:
    user = await house.user()
    for headers in ({}, {"x-error-format": "native"}):
        answer = await house.ask("embeddings", "embeddings-plain", user, headers=headers, **fields)
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert said in answer.error
        if headers:
            assert answer.json["error"]["param"] == param
    assert house.asked == 0
    assert await house.used(user) == 0


async def test_each_kind_of_model_has_its_routes(house: House) -> None:
    user = await house.user()
    for dialect in ("chat", "messages"):
        answer = await house.ask(dialect, "embeddings-plain", user)
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert "POST /embeddings" in answer.error
    body = body_of("messages", "embeddings-plain")
    counting = await house.http("POST", "/v1/messages/count_tokens", user.key, body=body)
    assert (counting.status, "POST /embeddings" in counting.error) == (400, True)
    answer = await house.ask("embeddings", "chat-plain", user)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "POST /chat/completions or POST /messages or POST /responses" in answer.error
    assert house.asked == 0
    unknown = await house.ask("embeddings", "no-such", user)
    assert unknown.status == 404
    assert "embeddings-plain" in unknown.error
    assert "chat-plain" not in unknown.error


async def test_keys_are_asked_for_and_their_lists_hold(house: House) -> None:
    assert (await house.post("embeddings", ASK, None)).status == 401
    user = await house.user()
    key = await house.key(user.id, KeyWish(models=("embeddings-plain",)))
    for model, status in (("embeddings-plain", 200), ("wire-embeddings", 403)):
        body = body_of("embeddings", model)
        assert (await house.http("POST", PATHS["embeddings"], key, body=body)).status == status


async def test_other_methods_and_other_prefixes(house: House) -> None:
    user = await house.user()
    assert (await house.http("GET", PATHS["embeddings"], user.key)).status == 405
    body = body_of("embeddings", "embeddings-plain")
    for prefix in ("/v1", "/api/v1/v1", "/v1/v1"):
        assert (await house.http("POST", f"{prefix}/embeddings", user.key, body=body)).status == 200


# ---- limits


async def test_the_day_ends_for_embeddings_as_for_the_rest(house: House) -> None:
    user = await house.user("few")
    for _ in range(5):
        assert (await house.ask("embeddings", "embeddings-plain", user)).status == 200
    answer = await house.ask("embeddings", "embeddings-plain", user)
    assert (answer.status, answer.code) == (429, "daily_limit_reached")
    assert answer.headers["x-should-retry"] == "false"
    assert len(await house.rows(user)) == 5


async def test_a_running_one_holds_a_slot_until_it_ends(house: House) -> None:
    user = await house.user("one")
    wire = house.wires["wire-embeddings"]
    first = await house.begin("embeddings", "wire-embeddings", user)
    asked = await wire.next()
    answer = await house.ask("embeddings", "embeddings-plain", user)
    assert (answer.status, answer.code) == (429, "concurrent_limit_reached")
    asked.answer(REPLY)
    assert (await first.answer()).status == 200
    assert (await house.ask("embeddings", "embeddings-plain", user)).status == 200


async def test_a_caller_that_leaves_ends_it_at_the_provider(house: House) -> None:
    user = await house.user("one")
    wire = house.wires["wire-embeddings"]
    caller = await house.begin("embeddings", "wire-embeddings", user)
    asked = await wire.next()
    asked.begin(REPLY[:40], kind="application/json")
    caller.leave()
    await asked.left()
    row = await house.row(user)
    assert (row["outcome"], row["status"], row["counted"]) == ("client_gone", None, True)
    assert house.held(user) == 0


# ---- failures


async def test_another_place_of_the_same_model_is_tried(house: House) -> None:
    user = await house.user()
    house.wires["wire-embeddings"].script = lambda asked: asked.answer(b"{}", 500)
    spare = house.wires["spare-embeddings"]
    spare.script = lambda asked: asked.answer(REPLY)
    answer = await house.ask("embeddings", "pair-embeddings", user)
    assert answer.status == 200
    assert b'"model": "pair-embeddings"' in answer.body
    assert (await spare.next()).json["model"] == "vendor/UP-Embed"
    row = await house.row(user)
    assert (row["attempts"], row["provider"], row["upstream_model"]) == (
        2,
        "spare-embeddings",
        "vendor/UP-Embed",
    )
    assert (row["outcome"], row["counted"]) == ("completed", True)


@pytest.mark.parametrize(
    ("scenario", "status", "code", "reason"),
    [
        ("error-400", 400, "invalid_request", "provider_refused"),
        ("overflow", 400, "context_length_exceeded", "provider_refused"),
        ("error-401", 502, "provider_credentials", "no_output"),
        ("error-500", 502, "provider_error", "no_output"),
        ("error-503", 502, "provider_overloaded", "no_output"),
        ("garbage", 502, "provider_garbled", "no_output"),
    ],
)
async def test_a_failure_is_told_and_refunded(
    house: House, scenario: str, status: int, code: str, reason: str
) -> None:
    user = await house.user()
    answer = await house.ask("embeddings", f"embeddings-{scenario}", user)
    assert (answer.status, answer.code) == (status, code)
    if status == 400:
        assert "A simulated error" in answer.error or "maximum context length" in answer.error
    else:
        assert "retry-after" in answer.headers
    row = await house.row(user)
    assert (row["counted"], row["refund_reason"], row["status"]) == (False, reason, status)
    assert await house.used(user) == 0


async def test_the_refusal_is_in_the_providers_own_words(house: House) -> None:
    user = await house.user()
    said = b'{"error":{"message":"\\u0024.input is invalid.","type":"invalid_request_error","param":null,"code":null}}'
    house.wires["wire-embeddings"].script = lambda asked: asked.answer(said, 400)
    answer = await house.ask("embeddings", "wire-embeddings", user)
    assert (answer.status, answer.error) == (400, "$.input is invalid.")


async def test_one_that_hangs_is_ended_by_its_owner(house: House) -> None:
    user = await house.user()
    caller = await house.begin("embeddings", "wire-embeddings", user)
    asked = await house.wires["wire-embeddings"].next()
    assert house.service is not None
    assert house.service._api is not None
    (request_id,) = house.service._api._relay.calls
    assert house.service._api._relay.end(user.id, request_id)
    assert (await caller.answer()).code == "ended_by_owner"
    await asked.left()


# ---- the lists


async def test_lists_for_those_who_chat_have_chat_models_alone(house: House) -> None:
    user = await house.user()

    async def listed(headers: dict[str, str]) -> dict[str, str]:
        answer = await house.http("GET", "/v1/models", user.key, headers=headers)
        return {entry["id"]: entry["kind"] for entry in answer.json["data"]}

    every = await listed({})
    assert (every["embeddings-plain"], every["chat-plain"]) == ("embedding", "chat")
    for agent in ("OpenAI/Python 3.5", "ai-sdk/openai/4", "python-requests/2"):
        assert await listed({"user-agent": agent}) == every
    path = "/v1/models/embeddings-plain"
    assert (await house.http("GET", path, user.key)).json["kind"] == "embedding"
    for headers in (
        {"anthropic-version": "2023-06-01"},
        {"user-agent": "claude-cli/2.1"},
        {"user-agent": "codex_cli_rs/0.16"},
    ):
        found = await listed(headers)
        assert set(found.values()) == {"chat"}
        assert len(found) == list(every.values()).count("chat")
        answer = await house.http("GET", path, user.key, headers=headers)
        assert answer.status == 404
        assert "wire-embeddings" not in answer.error


async def test_metrics_call_them_embeddings(house: House) -> None:
    user = await house.user()
    await asyncio.gather(*(house.ask("embeddings", "embeddings-plain", user) for _ in range(3)))
    lines = (await house.page("/metrics")).body.decode().splitlines()
    assert 'penstock_requests_total{dialect="embeddings",status="200"} 3.0' in lines
