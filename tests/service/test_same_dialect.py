"""The lane of bytes: towards an upstream of the caller's own dialect nothing changes but the model and what is ours."""

from typing import Any

import msgspec
import pytest

from tests.service.conversations import DIALECTS, FRAMES, PATHS, REPLIES, Answer, body_of, request, text_of
from tests.service.running_service import VENDOR_KEY, House
from tests.service.scripted import Asked

# As no encoder would write it: spacing, escapes, number forms, unknown fields and objects, and the model in the middle.
_ODD = {
    "chat": (
        b'{ "x_unknown" : {"b":1.50, "a" : [ 1e2 ,-0.0]},"messages":[ {"role":"user","content":"caf\\u00e9 \xc3\xa9\\/"} ],'
        b'"model":"wire-chat","stream":%b,"seed":12345678901234567890, "logit_bias":{"50256":-100},"metadata":{"model":"x"}%b}'
    ),
    "messages": (
        b'{ "x_unknown" : {"b":1.50, "a" : [ 1e2 ,-0.0]},"messages":[ {"role":"user","content":"caf\\u00e9 \xc3\xa9\\/"} ],'
        b'"model":"wire-messages","stream":%b,"max_tokens":77,"context_management":{"edits":[{"type":"clear_thinking_20251015"}]}'
        b',"metadata":{"user_id":"{\\"device_id\\":1}","model":"x"}%b}'
    ),
}


def _members(body: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_upstream_gets_the_callers_own_bytes_with_another_model(
    house: House, dialect: str, stream: bool
) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    options = b',"stream_options":{"include_usage":true,"x":[ 1 ]}' if stream and dialect == "chat" else b""
    body = _ODD[dialect] % (b"true" if stream else b"false", options)
    wire.script = lambda asked: asked.stream(*FRAMES[dialect]) if stream else asked.answer(REPLIES[dialect])
    answer = await house.post(dialect, body, user)
    assert answer.status == 200
    asked = await wire.next()
    given, got = _members(body), _members(asked.body)
    assert list(got) == list(given)
    assert got.pop("model") == b'"up-%b"' % dialect.encode()
    del given["model"]
    assert got == given
    again = await house.post(dialect, body, user)
    assert again.body == answer.body
    assert (await wire.next()).body == asked.body, "the same request gives the same upstream body"
    assert asked.path == f"/base/v1{PATHS[dialect].removeprefix('/api/v1')}"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_of_a_key_that_is_there_twice_the_last_one_is_sent_once(house: House, dialect: str) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    wire.script = lambda asked: asked.answer(REPLIES[dialect])
    tail = (
        b'"max_tokens":5,"model":"wire-%b","messages":[{"role":"user","content":"second"}]}'
        % dialect.encode()
    )
    body = b'{"model":"no-such-model","messages":[{"role":"user","content":"first"}],"temperature":2,"temperature":0.5,'
    assert (await house.post(dialect, body + tail, user)).status == 200
    asked = await wire.next()
    assert asked.body.count(b'"model"') == asked.body.count(b'"messages"') == 1
    assert asked.body.count(b'"temperature"') == 1
    assert asked.json["model"] == f"up-{dialect}"
    assert asked.json["messages"] == [{"role": "user", "content": "second"}]
    assert asked.json["temperature"] == 0.5


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_whole_answer_comes_back_byte_for_byte_but_for_the_model(house: House, dialect: str) -> None:
    user = await house.user()
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.answer(REPLIES[dialect])
    answer = await house.ask(dialect, f"wire-{dialect}", user)
    ours, theirs = b'"model":"wire-%b"' % dialect.encode(), b'"model":"up-%b"' % dialect.encode()
    assert answer.body == REPLIES[dialect].replace(theirs, ours, 1)
    row = await house.row(user)
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (11, 5, False)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_comes_back_byte_for_byte_but_for_the_model_however_it_is_cut(
    house: House, dialect: str
) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    extra = b'event: x_future\r\ndata: {"type":"x_future","choices":[{"index":0,"delta":{}}]}\r\n\r\n: a comment\n\n'
    frames = (*FRAMES[dialect][:2], extra, *FRAMES[dialect][2:])
    sent = b"".join(frames)
    ours, theirs = b'"model":"wire-%b"' % dialect.encode(), b'"model":"up-%b"' % dialect.encode()
    fields: dict[str, Any] = {"stream": True} | (
        {"stream_options": {"include_usage": True}} if dialect == "chat" else {}
    )
    for size in (1, 7, 64, 100_000):
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
        wire.script = lambda asked, pieces=pieces: asked.stream(*pieces)
        answer = await house.ask(dialect, f"wire-{dialect}", user, **fields)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.body == sent.replace(theirs, ours)
    for row in await house.rows(user):
        assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (11, 5, False)
        assert (row["outcome"], row["status"], row["counted"]) == ("completed", 200, True)


async def test_usage_is_always_asked_of_a_stream_and_withheld_from_who_did_not_ask(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-chat"]
    wire.script = lambda asked: asked.stream(*FRAMES["chat"])
    for given, told in (
        (..., False),
        (None, False),
        ({"include_usage": False, "x": 1}, False),
        ({"include_usage": True}, True),
    ):
        answer = await house.ask("chat", "wire-chat", user, stream=True, stream_options=given)
        assert (b'"usage"' in answer.body) is told, given
        assert answer.frames[-1].data == b"[DONE]"
        options = (await wire.next()).json["stream_options"]
        assert options == {**(given if isinstance(given, dict) else {}), "include_usage": True}
    assert {row["output_tokens"] for row in await house.rows(user)} == {5}
    wire.script = lambda asked: asked.answer(REPLIES["chat"])
    for stream in (False, ...):
        await house.ask("chat", "wire-chat", user, stream=stream)
        assert "stream_options" not in (await wire.next()).json


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_headers_cross_by_list_in_both_directions(house: House, dialect: str, stream: bool) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    theirs = {
        "set-cookie": "session=1",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-limit": "9999",
        "anthropic-ratelimit-requests-limit": "9999",
        "anthropic-organization-id": "the-operators",
        "openai-organization": "the-operators",
        "server": "secret-upstream",
        "request-id": "req_of_theirs",
        "x-request-id": "req_of_theirs",
        "cf-ray": "1",
        "retry-after": "1",
        "x-should-retry": "true",
        "access-control-allow-origin": "*",
    }

    def script(asked: Asked) -> None:
        if stream:
            asked.begin(*FRAMES[dialect], headers=theirs)
            asked.end()
        else:
            asked.answer(REPLIES[dialect], headers=theirs)

    wire.script = script
    ours = {
        "cookie": "penstock=1",
        "x-forwarded-for": "203.0.113.9",
        "x-real-ip": "203.0.113.9",
        "forwarded": "for=203.0.113.9",
        "proxy-authorization": "Basic eDp5",
        "x-api-key": user.key,
        "accept-encoding": "gzip, br",
        "accept": "text/html",
        "user-agent": "claude-cli/2.1.330 (external)",
        "x-stainless-lang": "js",
        "x-claude-code-session-id": "abc",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219, effort-2025-11-24",
        "openai-organization": "org-of-the-caller",
        "origin": "https://example.com",
        "te": "trailers",
        "x-simulate": "hang",
    }
    answer = await house.ask(dialect, f"wire-{dialect}", user, headers=ours, stream=stream)
    assert answer.status == 200
    asked = await wire.next()
    credential = (
        {"authorization": f"Bearer {VENDOR_KEY}"}
        if dialect == "chat"
        else {
            "x-api-key": VENDOR_KEY,
            "anthropic-version": "2023-06-01",
            "anthropic-beta": "claude-code-20250219, effort-2025-11-24",
        }
    )
    expected = credential | {
        "host": f"127.0.0.1:{wire.port}",
        "content-type": "application/json",
        "content-length": str(len(asked.body)),
        "user-agent": "penstock",
    }
    got = {name.lower(): value for name, value in asked.headers.items()}
    assert got.pop("accept-encoding", "identity") in ("identity", "gzip", "gzip, deflate")
    assert got == expected
    assert user.key.encode() not in asked.head + asked.body
    _only_ours(answer, stream)


def _only_ours(answer: Answer, stream: bool) -> None:
    allowed = {
        "content-type",
        "x-request-id",
        "x-content-type-options",
        "request-id",
        "x-penstock-attempts",
        "x-penstock-route",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "ratelimit",
        "ratelimit-policy",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        "date",
    }
    allowed |= (
        {"transfer-encoding", "cache-control", "x-accel-buffering"}
        if stream
        else {"content-length", "cache-control"}
    )
    assert answer.headers.keys() <= allowed
    assert answer.headers["x-request-id"] != "req_of_theirs"
    assert answer.headers["x-ratelimit-limit"] == "50000"


@pytest.mark.parametrize("betas", ["one two", "one\x01two", "x" * 200, ",".join(["beta-1"] * 1000)])
async def test_a_malformed_list_of_betas_is_refused_by_name(house: House, betas: str) -> None:
    user = await house.user()
    answer = await house.ask("messages", "wire-messages", user, headers={"anthropic-beta": betas})
    assert answer.status == 400
    assert house.asked == 0


async def test_a_stream_is_decided_by_the_body_alone(house: House) -> None:
    user = await house.user()
    for dialect in DIALECTS:
        for accept in ("application/json", "text/event-stream", "*/*"):
            whole = await house.ask(
                dialect, f"{dialect}-plain", user, headers={"accept": accept}, stream=False
            )
            assert whole.headers["content-type"] == "application/json"
            flowing = await house.ask(
                dialect, f"{dialect}-plain", user, headers={"accept": accept}, stream=True
            )
            assert flowing.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_comes_token_by_token(house: House, dialect: str) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
    asked = await wire.next()
    content = 2 if dialect == "chat" else 3
    rest = FRAMES[dialect][content:]
    asked.begin(*FRAMES[dialect][:content])
    head = await caller.head()
    assert head.status == 200
    sent = await caller.more()
    for frame in rest[:-2]:
        asked.frames(frame)
        piece = await caller.more()
        assert piece == frame.replace(b"up-" + dialect.encode(), b"wire-" + dialect.encode())
        sent += piece
    asked.frames(*rest[-2:])
    asked.end()
    await caller.rest(head)
    assert head.whole
    assert head.body.endswith(b"data: [DONE]\n\n" if dialect == "chat" else b'"message_stop"}\n\n')


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_connection_serves_one_request_after_another(house: House, dialect: str) -> None:
    user = await house.user()
    caller = await house.call()
    for stream in (False, True, False, True):
        await caller.send(
            request(
                "POST",
                PATHS[dialect],
                {"x-api-key": user.key},
                body_of(dialect, f"{dialect}-plain", stream=stream),
            )
        )
        answer = await caller.answer()
        assert answer.status == 200
        assert "simulated" in text_of(dialect, answer)
        await caller.send(request("GET", "/v1/models", {"x-api-key": user.key}))
        assert (await caller.answer()).status == 200
    assert len(await house.rows(user)) == 4
