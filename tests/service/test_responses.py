"""Callers of the Responses format, before upstreams of each dialect: the promises that the other two have are theirs too."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.service.conversations import FRAMES, REPLIES, Answer, Frame
from tests.service.running_service import House, User, open_house, raw

UPSTREAMS = ("chat", "messages", "responses")
before = pytest.mark.parametrize("upstream", UPSTREAMS)
streamed = pytest.mark.parametrize("stream", [False, True])
PATH = "/api/v1/responses"
TOOLS = [
    {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, "strict": False}
    for name in ("get_weather", "get_time")
]


def _body(model: str, /, **fields: Any) -> bytes:
    return msgspec.json.encode({"model": model, "input": "Hello"} | fields)


async def _ask(house: House, model: str, user: User, **fields: Any) -> Answer:
    return await house.http("POST", PATH, user.key, body=_body(model, **fields))


def _events(answer: Answer) -> list[Frame]:
    """The events of a stream, numbered without a gap."""
    frames = answer.frames
    for number, frame in enumerate(frames):
        assert (frame.json["type"], frame.json["sequence_number"]) == (frame.event, number)
    assert frames[0].event == "response.created"
    assert b"[DONE]" not in answer.body
    return frames


def _response(answer: Answer) -> Any:
    """The complete response, which a stream ends with."""
    if answer.headers["content-type"] == "application/json":
        return answer.json
    last = _events(answer)[-1]
    assert last.event in ("response.completed", "response.incomplete")
    return last.json["response"]


def _text(response: Any) -> str:
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


@before
@streamed
async def test_text_its_end_and_its_tokens(house: House, upstream: str, stream: bool) -> None:
    user = await house.user()
    for prefix in ("/api/v1", "/v1", "/api/v1/v1", "/v1/v1"):
        body = _body(f"{upstream}-plain", stream=stream)
        answer = await house.http("POST", f"{prefix}/responses?x=1", user.key, body=body)
        assert answer.status == 200
        response = _response(answer)
        assert response["status"] == "completed"
        assert response["model"] == f"{upstream}-plain"
        assert _text(response).startswith("This answer is simulated by Penstock")
    if stream:
        deltas = [
            frame.json["delta"] for frame in _events(answer) if frame.event == "response.output_text.delta"
        ]
        assert "".join(deltas) == _text(response)
    row = (await house.rows(user))[-1]
    assert (row["input_tokens"], row["output_tokens"]) == (
        response["usage"]["input_tokens"],
        response["usage"]["output_tokens"],
    )
    assert (row["dialect"], row["upstream_dialect"], row["outcome"]) == ("responses", upstream, "completed")


@before
@streamed
async def test_calls_of_tools_and_their_results(house: House, upstream: str, stream: bool) -> None:
    user = await house.user()
    answer = await _ask(house, f"{upstream}-tools", user, stream=stream, tools=TOOLS)
    calls = [item for item in _response(answer)["output"] if item["type"] == "function_call"]
    assert [call["name"] for call in calls] == ["get_weather", "get_time"]
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"} for call in calls
    ]
    history = [{"role": "user", "content": "And?"}, *calls, *results]
    after = await _ask(house, f"{upstream}-tools", user, stream=stream, tools=TOOLS, input=history)
    assert "the tool's result has arrived" in _text(_response(after))


@before
async def test_a_stream_that_breaks_ends_in_a_failed_response(house: House, upstream: str) -> None:
    user = await house.user()
    answer = await _ask(house, f"{upstream}-cut", user, stream=True)
    assert answer.whole
    last = _events(answer)[-1]
    assert last.event == "response.failed"
    assert last.json["response"]["status"] == "failed"
    assert last.json["response"]["error"]["message"]
    row = await house.row(user)
    assert (row["outcome"], row["status"]) == ("upstream_error", 200)


@before
@streamed
async def test_failures_before_the_first_byte_have_their_status(
    house: House, upstream: str, stream: bool
) -> None:
    user = await house.user()
    for model, status in (("error-500", 502), ("error-400", 400)):
        answer = await _ask(house, f"{upstream}-{model}", user, stream=stream)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
    assert await house.used(user) == 0


@before
@streamed
async def test_a_caller_that_leaves_ends_it(house: House, upstream: str, stream: bool) -> None:
    user = await house.user("one")
    caller = await house.call()
    asking = raw("POST", PATH, user.key, _body(f"wire-{upstream}", stream=stream), {})
    await caller.send(asking)
    asked = await house.wires[f"wire-{upstream}"].next()
    caller.leave()
    await asked.left()
    assert (await _ask(house, f"{upstream}-plain", user)).status == 200
    assert [row["outcome"] for row in await house.rows(user)] == ["client_gone", "completed"]


@pytest.mark.parametrize("upstream", ["chat", "messages"])
async def test_a_slow_provider_is_waited_for_with_comments(tmp_path: Path, upstream: str) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0, keepalive=0.01) as house:
        user = await house.user()
        caller = await house.send(raw("POST", PATH, user.key, _body(f"wire-{upstream}", stream=True), {}))
        asked = await house.wires[f"wire-{upstream}"].next()
        head = await caller.head()
        head.body = await caller.more()
        assert head.body == b": keep-alive\n\n"
        asked.begin(*FRAMES[upstream][:3])
        head.body += await caller.until(b"Hi ")
        head.body += await caller.until(b": keep-alive\n\n")
        asked.stream_on(*FRAMES[upstream][3:])
        assert _text(_response(await caller.rest(head))) == "Hi  there"


async def test_the_bytes_of_the_same_dialect_change_in_the_model_alone(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-responses"]
    reply = (
        b'{"id":"resp_up","object":"response", "status":"completed","model":"up-responses","x":[1e3],'
        b'"output":[{"type":"message","id":"m","role":"assistant","content":[{"type":"output_text","text":"Hi"}]}],'
        b'"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}'
    )
    wire.script = lambda asked: asked.answer(reply)
    body = b'{"x_future": {"a" :1.0},"model":"wire-responses","input":[ {"role":"user","content":"caf\\u00e9"} ]}'
    answer = await house.http("POST", PATH, user.key, body=body)
    assert answer.body == reply.replace(b'"up-responses"', b'"wire-responses"')
    asked = await wire.next()
    given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    got = msgspec.json.decode(asked.body, type=dict[str, msgspec.Raw])
    assert list(got) == [*given, "store"], "nothing of it is to be stored there"
    assert bytes(got["store"]) == b"false"
    assert bytes(got["input"]) == bytes(given["input"])
    assert bytes(got["x_future"]) == bytes(given["x_future"])
    assert bytes(got["model"]) == b'"up-responses"'
    assert asked.path == "/base/v1/responses"
    row = await house.row(user)
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (3, 4, False)


async def test_bad_input_names_its_field_and_reaches_nobody(house: House) -> None:
    user = await house.user("one")
    native = {"x-error-format": "native"}
    for field, value in (
        ("input", 5),
        ("input", {}),
        ("model", 5),
        ("stream", "yes"),
        ("max_output_tokens", "many"),
        ("tools", "x"),
        ("input", [{"type": "hologram"}]),
    ):
        body = _body("chat-plain", **{field: value})
        answer = await house.http("POST", PATH, user.key, body=body, headers=native)
        assert answer.status == 400, (field, value)
        assert (answer.json["error"]["param"] or "").startswith(field), answer.body
    answer = await house.http("POST", PATH, user.key, body=b"{", headers=native)
    assert answer.status == 400
    assert house.asked == 0
    assert await house.used(user) == 0
    house.wires["wire-chat"].script = lambda asked: asked.answer(REPLIES["chat"])
    assert (await _ask(house, "wire-chat", user)).status == 200
