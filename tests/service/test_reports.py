"""Public reports of people who run or use gateways, each tried as a small conversation; ``tests/reports.md`` lists them.

The right answers were written down before the product was asked.
"""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core.catalog import DialectName, Target
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.providers.table import KINDS
from tests.service.conversations import Answer, frames_of
from tests.service.replies import said
from tests.service.running_service import House, User, catalogue, open_house
from tests.service.scripted import Asked

streamed = pytest.mark.parametrize("stream", [False, True])
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PLACES: tuple[tuple[str, str, DialectName, str], ...] = (
    ("openai-chat", "openai", "chat", "gpt-5.6-sol"),
    ("openai-responses", "openai", "responses", "gpt-5.6-sol"),
    ("kimi-chat", "moonshot", "chat", "kimi-k3"),
    ("gemini-chat", "gemini", "chat", "gemini-3.6-flash"),
    ("ollama-chat", "ollama", "chat", "qwen3:14b"),
    ("vllm-chat", "vllm", "chat", "qwen3.6"),
    ("claude-messages", "anthropic", "messages", "claude-opus-4-8"),
)
"""Providers beside those of the house: id, kind, what it speaks and the model there; all of them behind the house's wires."""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[House]:
    """The house with a model for each of ``PLACES``, named like its provider."""
    async with open_house(tmp_path / "data") as house:
        ports = {name: wire.port for name, wire in house.wires.items()}
        usual = catalogue(1, ports)
        pattern = next(model for model in usual.models if model.id == "wire-chat")
        providers, models = [], []
        for id, kind, dialect, model in PLACES:
            speaks = ((dialect, f"http://127.0.0.1:{ports[f'wire-{dialect}']}/v1"),)
            providers.append(replace(KINDS[kind], id=id, kind=kind, secret="env:VENDOR_KEY", speaks=speaks))
            capabilities = pattern.capabilities
            if dialect == "messages":
                capabilities = replace(capabilities, thinking="adaptive")
            targets = (Target(id, model),)
            models.append(replace(pattern, id=id, name=id, targets=targets, capabilities=capabilities))
        names = tuple(id for id, *_ in PLACES)
        plans = tuple(replace(plan, models=(*plan.models, *names)) for plan in usual.plans)
        async with house.store.database.transaction() as conn:
            document = CatalogDocument(tuple(providers), tuple(models), plans)
            await catalog_store.apply_document(conn, document, KINDS, 2)
        await house.restart()
        yield house


async def _ask(house: House, dialect: str, model: str, user: User | None = None, **fields: Any) -> Answer:
    return await house.ask(dialect, model, user or await house.user(), **fields)


def _heard(house: House, wire: str) -> Any:
    """The body that this wire got last."""
    return house.wires[wire].asked[-1].json


def _json(value: Any) -> Callable[[Asked], None]:
    return lambda asked: asked.answer(msgspec.json.encode(value))


# ---- what upstreams say


def _chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "up", "choices": [choice]}
    return b"data: %b\n\n" % msgspec.json.encode(head | more)


_USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
_COUNTED = b"data: %b\n\ndata: [DONE]\n\n" % msgspec.json.encode(
    {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "up",
        "choices": [],
        "usage": _USAGE,
    }
)


def _calls(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(calls)}


def _call(index: int, arguments: str, *, begin: bool = False) -> dict[str, Any]:
    named = {"id": f"call_{index}", "type": "function"} if begin else {}
    function = {"name": f"tool_{index}"} if begin else {}
    return {"index": index, **named, "function": {**function, "arguments": arguments}}


def _chat_reply(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    head = {"id": "c", "object": "chat.completion", "created": 7, "model": "up", "choices": [choice]}
    return head | {"usage": _USAGE} | more


def _messages_reply(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "up",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 5},
    }


def _response(output: list[Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 7,
        "model": "up",
        "status": status,
        "output": output,
        "usage": {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16},
    } | more


def _events(*events: dict[str, Any]) -> bytes:
    out = []
    for number, event in enumerate(events):
        data = msgspec.json.encode({**event, "sequence_number": number})
        out.append(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), data))
    return b"".join(out)


def _tools(dialect: str, *names: str, schema: dict[str, Any] = SCHEMA) -> list[dict[str, Any]]:
    if dialect == "chat":
        return [{"type": "function", "function": {"name": name, "parameters": schema}} for name in names]
    if dialect == "messages":
        return [{"name": name, "input_schema": schema} for name in names]
    return [{"type": "function", "name": name, "parameters": schema, "strict": False} for name in names]


def _called(dialect: str, answer: Answer) -> list[tuple[str, Any]]:
    """The calls of a streamed or whole answer: name and arguments."""
    if dialect != "responses":
        return [(call.name, call.json) for call in said(dialect, answer).calls]
    items = _final(answer)["output"]
    return [
        (item["name"], msgspec.json.decode(item["arguments"]))
        for item in items
        if item["type"] == "function_call"
    ]


def _final(answer: Answer) -> Any:
    """A whole Responses answer, or the one at the end of a stream."""
    if answer.headers["content-type"] == "application/json":
        return answer.json
    last = answer.frames[-1].json
    assert last["type"] in ("response.completed", "response.incomplete")
    return last["response"]


# ---- streaming

_SEVERAL = {
    "at once": [_calls(*(_call(n, f'{{"n":{n}}}', begin=True) for n in range(3)))],
    "in turn": [
        _calls(piece)
        for n in range(3)
        for piece in (_call(n, "", begin=True), _call(n, '{"n":'), _call(n, f"{n}}}"))
    ],
    "interleaved": [
        *(_calls(_call(n, "", begin=True)) for n in range(3)),
        *(_calls(_call(n, '{"n":')) for n in range(3)),
        *(_calls(_call(n, f"{n}}}")) for n in range(3)),
    ],
    "two by two": [
        _calls(*(_call(n, "", begin=True) for n in range(3))),
        _calls(*(_call(n, '{"n":') for n in range(3))),
        _calls(*(_call(n, f"{n}}}") for n in range(3))),
    ],
}


@pytest.mark.parametrize("caller", ["messages", "responses"])
@pytest.mark.parametrize("way", _SEVERAL)
async def test_streaming_several_calls_of_a_chat_stream_stay_apart(
    home: House, caller: str, way: str
) -> None:
    frames = [_chunk({"role": "assistant", **delta}) for delta in _SEVERAL[way]]
    home.wires["wire-chat"].script = lambda asked: asked.stream(*frames, _chunk({}, "tool_calls"), _COUNTED)
    tools = _tools(caller, "tool_0", "tool_1", "tool_2")
    answer = await _ask(home, caller, "wire-chat", stream=True, tools=tools)
    assert _called(caller, answer) == [(f"tool_{n}", {"n": n}) for n in range(3)]
    if caller == "messages":
        assert said(caller, answer).reason == "tool_use"


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
async def test_streaming_an_event_that_breaks_off_does_not_swallow_the_error(
    home: House, dialect: str
) -> None:
    begun = {
        "chat": (_chunk({"role": "assistant", "content": "Hi"}), b'data: {"id":"c","choices":[{"ind'),
        "messages": (
            _events(
                {"type": "message_start", "message": _messages_reply() | {"stop_reason": None}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
            ),
            b'event: content_block_delta\ndata: {"type":"content_bl',
        ),
        "responses": (
            _events(
                {"type": "response.created", "response": _response([], "in_progress")},
                {
                    "type": "response.output_item.added",
                    "output_index": 0,
                    "item": {"id": "msg_1", "type": "message", "role": "assistant", "content": []},
                },
                {
                    "type": "response.output_text.delta",
                    "item_id": "msg_1",
                    "output_index": 0,
                    "content_index": 0,
                    "delta": "Hi",
                },
            ),
            b'event: response.output_text.delta\ndata: {"type":"resp',
        ),
    }[dialect]

    def script(asked: Asked) -> None:
        asked.begin(*begun)
        asked.cut()

    home.wires[f"wire-{dialect}"].script = script
    answer = await _ask(home, dialect, f"wire-{dialect}", stream=True)
    assert answer.status == 200
    frames = frames_of(answer.body)
    for frame in frames:
        assert isinstance(frame.json, dict)
    last = frames[-1].json
    assert last.get("type") in ("error", "response.failed") or "error" in last
    assert b"Hi" in answer.body


@pytest.mark.parametrize("caller", ["messages", "responses"])
async def test_streaming_the_last_piece_of_arguments_beside_the_finish_reason(
    home: House, caller: str
) -> None:
    frames = [
        _chunk({"role": "assistant", **_calls(_call(0, '{"path":"a', begin=True))}),
        _chunk(_calls(_call(0, '.txt","text":"x'))),
        _chunk(_calls(_call(0, 'y"}')), "tool_calls", usage=_USAGE),
    ]
    home.wires["wire-chat"].script = lambda asked: asked.stream(*frames, b"data: [DONE]\n\n")
    answer = await _ask(home, caller, "wire-chat", stream=True, tools=_tools(caller, "tool_0"))
    assert _called(caller, answer) == [("tool_0", {"path": "a.txt", "text": "xy"})]


@pytest.mark.parametrize("caller", ["chat", "messages"])
@pytest.mark.parametrize("finish", ["nothing", "arguments.done", "in the end only"])
async def test_streaming_responses_events_without_item_done(home: House, caller: str, finish: str) -> None:
    item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "tool_0", "arguments": ""}
    whole = item | {"arguments": '{"city":"SF"}', "status": "completed"}
    place = {"item_id": "fc_1", "output_index": 0}
    delta = "response.function_call_arguments.delta"
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response([], "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": delta, **place, "delta": '{"city"'},
        {"type": delta, **place, "delta": ':"SF"}'},
    ]
    if finish == "arguments.done":
        done = {"type": "response.function_call_arguments.done", **place, "arguments": '{"city":"SF"}'}
        events.append(done)
    output = [whole] if finish == "in the end only" else []
    events.append({"type": "response.completed", "response": _response(output)})
    home.wires["wire-responses"].script = lambda asked: asked.stream(_events(*events))
    answer = await _ask(home, caller, "wire-responses", stream=True, tools=_tools(caller, "tool_0"))
    assert answer.status == 200
    assert _called(caller, answer) == [("tool_0", {"city": "SF"})]
    assert said(caller, answer).reason == {"chat": "tool_calls", "messages": "tool_use"}[caller]


# ---- tools


async def test_tools_parallel_calls_of_a_responses_upstream_have_an_index_each(home: House) -> None:
    events: list[dict[str, Any]] = [{"type": "response.created", "response": _response([], "in_progress")}]
    items = [
        {"id": f"fc_{n}", "type": "function_call", "call_id": f"call_{n}", "name": "add", "arguments": ""}
        for n in range(3)
    ]
    for n, item in enumerate(items):
        events.append({"type": "response.output_item.added", "output_index": n, "item": item})
    delta = "response.function_call_arguments.delta"
    for piece in ('{"n":', "{}}}"):
        for n in range(3):
            text = piece if piece.startswith('{"') else f"{n}}}"
            events.append({"type": delta, "item_id": f"fc_{n}", "output_index": n, "delta": text})
    whole = [item | {"arguments": f'{{"n":{n}}}', "status": "completed"} for n, item in enumerate(items)]
    for n, item in enumerate(whole):
        events.append({"type": "response.output_item.done", "output_index": n, "item": item})
    events.append({"type": "response.completed", "response": _response(whole)})
    home.wires["wire-responses"].script = lambda asked: asked.stream(_events(*events))
    answer = await _ask(home, "chat", "wire-responses", stream=True, tools=_tools("chat", "add"))
    assert _called("chat", answer) == [("add", {"n": n}) for n in range(3)]


@streamed
async def test_tools_codex_history_with_a_namespace_and_a_word_before_the_output(
    home: House, stream: bool
) -> None:
    member = _tools("responses", "search")[0]
    tools = [{"type": "namespace", "name": "mcp__docs__", "description": "d", "tools": [member]}]
    call = {"type": "function_call", "call_id": "call_1", "arguments": '{"city":"a"}'}
    history = [
        {"role": "user", "content": "Look it up"},
        {**call, "name": "search", "namespace": "mcp__docs__"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "One moment."}],
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "found"},
    ]

    def script(asked: Asked) -> None:
        body: Any = asked.json
        name = body["tools"][0]["function"]["name"]
        function = {"name": name, "arguments": '{"city":"b"}'}
        calls = _calls({"index": 0, "id": "call_2", "type": "function", "function": function})
        if stream:
            asked.stream(_chunk({"role": "assistant", **calls}), _chunk({}, "tool_calls"), _COUNTED)
        else:
            asked.answer(msgspec.json.encode(_chat_reply({"content": None, **calls}, "tool_calls")))

    home.wires["wire-chat"].script = script
    answer = await _ask(home, "responses", "wire-chat", tools=tools, input=history, stream=stream)
    assert answer.status == 200
    heard = _heard(home, "wire-chat")
    (offered,) = heard["tools"]
    at = next(n for n, turn in enumerate(heard["messages"]) if turn.get("tool_calls"))
    assert heard["messages"][at]["tool_calls"][0]["function"]["name"] == offered["function"]["name"]
    assert heard["messages"][at + 1] == {"role": "tool", "tool_call_id": "call_1", "content": "found"}
    assert "One moment." in msgspec.json.encode(heard["messages"]).decode()
    (item,) = [item for item in _final(answer)["output"] if item["type"] == "function_call"]
    assert (item["name"], item["namespace"]) == ("search", "mcp__docs__")


@pytest.mark.parametrize("upstream", ["chat", "responses"])
async def test_tools_any_is_required(home: House, upstream: str) -> None:
    home.wires[f"wire-{upstream}"].script = _json(
        _chat_reply({"content": "Hi"})
        if upstream == "chat"
        else _response([{"id": "m", "type": "message", "role": "assistant", "content": []}])
    )
    choice = {"type": "any", "disable_parallel_tool_use": True}
    tools = _tools("messages", "tool_0", "tool_1")
    answer = await _ask(home, "messages", f"wire-{upstream}", tools=tools, tool_choice=choice)
    assert answer.status == 200
    heard = _heard(home, f"wire-{upstream}")
    assert heard["tool_choice"] == "required"
    assert heard["parallel_tool_calls"] is False


_ADDRESS = f"data:image/png;base64,{PNG}"
_PICTURE = {"type": "image_url", "image_url": {"url": _ADDRESS}}


@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
async def test_tools_a_picture_in_a_chat_callers_tool_message(home: House, upstream: str) -> None:
    home.wires[f"wire-{upstream}"].script = _json(
        {
            "chat": _chat_reply({"content": "Hi"}),
            "messages": _messages_reply({"type": "text", "text": "Hi"}),
            "responses": _response([{"id": "m", "type": "message", "role": "assistant", "content": []}]),
        }[upstream]
    )
    call = {"id": "call_1", "type": "function", "function": {"name": "shot", "arguments": "{}"}}
    result = [{"type": "text", "text": "The screen"}, _PICTURE]
    history = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    tools = _tools("chat", "shot")
    answer = await _ask(home, "chat", f"wire-{upstream}", messages=history, tools=tools)
    assert answer.status == 200
    heard = _heard(home, f"wire-{upstream}")
    if upstream == "messages":
        (block,) = heard["messages"][-1]["content"]
        assert block["type"] == "tool_result"
        text, image = block["content"]
        assert text["text"] == "The screen"
        assert image["source"] == {"type": "base64", "media_type": "image/png", "data": PNG}
    elif upstream == "responses":
        output = heard["input"][-1]
        assert output["type"] == "function_call_output"
        assert [part["type"] for part in output["output"]] == ["input_text", "input_image"]
        assert output["output"][1]["image_url"] == _ADDRESS
    else:
        assert heard["messages"][-1]["content"] == result


@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
async def test_tools_a_picture_by_address_in_a_result(home: House, upstream: str) -> None:
    home.wires[f"wire-{upstream}"].script = _json(
        {
            "chat": _chat_reply({"content": "Hi"}),
            "messages": _messages_reply({"type": "text", "text": "Hi"}),
            "responses": _response([{"id": "m", "type": "message", "role": "assistant", "content": []}]),
        }[upstream]
    )
    address = "https://pictures.example/a.jpg"
    image = {"type": "image", "source": {"type": "url", "url": address}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [image]}
    history = [
        {"role": "user", "content": "Look"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}],
        },
        {"role": "user", "content": [result]},
    ]
    tools = _tools("messages", "read")
    answer = await _ask(home, "messages", f"wire-{upstream}", messages=history, tools=tools)
    assert answer.status == 200
    heard = _heard(home, f"wire-{upstream}")
    if upstream == "messages":
        assert heard["messages"] == history
    elif upstream == "responses":
        (part,) = heard["input"][-1]["output"]
        assert (part["type"], part["image_url"]) == ("input_image", address)
    else:
        assert heard["messages"][-2]["role"] == "tool"
        assert heard["messages"][-1]["role"] == "user"
        assert {"url": address}.items() <= heard["messages"][-1]["content"][-1]["image_url"].items()


# ---- reasoning


@pytest.mark.parametrize("caller", ["messages", "responses"])
@pytest.mark.parametrize("finish", ["stop", "length"])
async def test_reasoning_under_ollamas_name(home: House, caller: str, finish: str) -> None:
    frames = [_chunk({"role": "assistant", "content": "", "reasoning": text}) for text in ("let me ", "see")]
    if finish == "stop":
        frames.append(_chunk({"content": "Forty-two"}))
    frames.append(_chunk({"content": ""}, finish))
    home.wires["wire-chat"].script = lambda asked: asked.stream(*frames, _COUNTED)
    answer = await _ask(home, caller, "ollama-chat", stream=True)
    assert answer.status == 200
    if caller == "messages":
        found = said(caller, answer)
        assert found.thought == "let me see"
        assert found.text == ("Forty-two" if finish == "stop" else "")
        assert found.reason == ("end_turn" if finish == "stop" else "max_tokens")
    else:
        response = _final(answer)
        first = response["output"][0]
        assert first["type"] == "reasoning"
        assert "let me see" in msgspec.json.encode(first["summary"]).decode()
        assert response["status"] == ("completed" if finish == "stop" else "incomplete")


@streamed
async def test_reasoning_geminis_signature_that_a_client_drops(home: House, stream: bool) -> None:
    user = await home.user()
    function = {"name": "list_all", "arguments": "{}"}
    signed = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function, **signed}

    def script(asked: Asked) -> None:
        if stream:
            asked.stream(_chunk({"role": "assistant", **_calls(call)}, "tool_calls"), _COUNTED)
        else:
            asked.answer(msgspec.json.encode(_chat_reply(_calls(call), "tool_calls")))

    home.wires["wire-chat"].script = script
    tools = _tools("chat", "list_all")
    assert (await _ask(home, "chat", "gemini-chat", user, tools=tools, stream=stream)).status == 200
    kept = {"id": "call_1", "type": "function", "function": function}
    history = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [kept]},
        {"role": "tool", "tool_call_id": "call_1", "content": "none"},
    ]
    answer = await _ask(home, "chat", "gemini-chat", user, tools=tools, messages=history, stream=stream)
    assert answer.status == 200
    assert _heard(home, "wire-chat")["messages"][1]["tool_calls"][0].items() >= signed.items()


@pytest.mark.parametrize("caller", ["chat", "responses"])
@pytest.mark.parametrize("model", ["claude-messages", "wire-messages"])
async def test_reasoning_goes_behind_a_forced_call_of_claude_and_is_told(
    home: House, caller: str, model: str
) -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "tool_0", "input": {}}
    home.wires["wire-messages"].script = _json(_messages_reply(block, stop="tool_use"))
    effort: dict[str, Any] = (
        {"reasoning_effort": "high"} if caller == "chat" else {"reasoning": {"effort": "high"}}
    )
    offered = {"tools": _tools(caller, "tool_0"), "tool_choice": "required"}
    answer = await _ask(home, caller, model, None, **offered, **effort)
    assert answer.status == 200, answer.body
    heard = _heard(home, "wire-messages")
    assert heard["tool_choice"]["type"] == "any"
    assert "thinking" not in heard
    name = "reasoning_effort" if caller == "chat" else "reasoning.effort"
    assert f"{name}=disabled" in answer.headers["x-penstock-translation"]


# ---- usage


@streamed
async def test_usage_what_a_responses_upstream_read_from_its_cache(home: House, stream: bool) -> None:
    usage = {
        "input_tokens": 12000,
        "input_tokens_details": {"cached_tokens": 11008},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12040,
    }
    part = {"type": "output_text", "text": "Hi", "annotations": []}
    item = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    whole = _response([item], usage=usage)
    events = _events(
        {"type": "response.created", "response": _response([], "in_progress", usage=None)},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
        {
            "type": "response.output_text.delta",
            "item_id": "m",
            "output_index": 0,
            "content_index": 0,
            "delta": "Hi",
        },
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    )
    wire = home.wires["wire-responses"]
    wire.script = (lambda asked: asked.stream(events)) if stream else _json(whole)
    user = await home.user()
    answer = await _ask(home, "messages", "wire-responses", user, stream=stream)
    assert answer.status == 200
    if stream:
        (end,) = [frame.json for frame in answer.frames if frame.event == "message_delta"]
    else:
        end = answer.json
    assert end["usage"]["cache_read_input_tokens"] == 11008
    assert end["usage"]["input_tokens"] == 992
    assert end["usage"]["output_tokens"] == 40
    row = await home.row(user)
    assert (row["cache_read_tokens"], row["output_tokens"]) == (11008, 40)


@streamed
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
async def test_usage_reasoning_that_is_counted_beside_the_completion(
    home: House, caller: str, apart: bool, stream: bool
) -> None:
    completion = 673 if apart else 1582
    usage = {
        "prompt_tokens": 3110,
        "completion_tokens": completion,
        "completion_tokens_details": {"reasoning_tokens": 909},
        "total_tokens": 4692,
    }
    wire = home.wires["wire-chat"]
    if stream:
        counted = _chunk({}, "stop", usage=usage)
        wire.script = lambda asked: asked.stream(
            _chunk({"role": "assistant", "content": "Hi"}), counted, b"data: [DONE]\n\n"
        )
    else:
        wire.script = _json(_chat_reply({"content": "Hi"}, usage=usage))
    user = await home.user()
    answer = await _ask(home, caller, "gemini-chat", user, stream=stream)
    assert answer.status == 200
    row = await home.row(user)
    assert (row["input_tokens"], row["output_tokens"]) == (3110, 1582)
    if caller == "responses":
        assert _final(answer)["usage"]["output_tokens"] == 1582
    if caller == "messages":
        assert said("messages", answer).tokens == (3110, 1582)


async def test_usage_at_the_start_of_a_translated_stream_and_of_a_count(home: House) -> None:
    frames = [_chunk({"role": "assistant", "content": "Hi"}), _chunk({}, "stop")]
    home.wires["wire-chat"].script = lambda asked: asked.stream(*frames, _COUNTED)
    user = await home.user()
    answer = await _ask(home, "messages", "wire-chat", user, stream=True)
    start = answer.frames[0].json["message"]["usage"]
    assert start["input_tokens"] > 0
    assert said("messages", answer).tokens == (11, 5)
    body = msgspec.json.encode(
        {"model": "wire-chat", "messages": [{"role": "user", "content": "Hello there"}]}
    )
    path = "/api/v1/messages/count_tokens?beta=true"
    counted = await home.http("POST", path, user.key, body=body)
    assert counted.status == 200
    assert counted.json["input_tokens"] > 0


# ---- finish reasons


@pytest.mark.parametrize("caller", ["messages", "responses"])
async def test_finish_reason_that_is_empty_in_every_chunk(home: House, caller: str) -> None:
    stub = {"function_call": {"name": "", "arguments": ""}}
    frames = [
        _chunk({"role": "assistant", "content": "Let me see.", **stub}, ""),
        _chunk({"content": "", **_calls(_call(0, "", begin=True)), **stub}, ""),
        _chunk({"content": "", **_calls(_call(0, '{"n":0}')), **stub}, ""),
        _chunk({"content": "", **stub}, "tool_calls"),
    ]
    home.wires["wire-chat"].script = lambda asked: asked.stream(*frames, _COUNTED)
    answer = await _ask(home, caller, "wire-chat", stream=True, tools=_tools(caller, "tool_0"))
    assert _called(caller, answer) == [("tool_0", {"n": 0})]
    if caller == "messages":
        found = said(caller, answer)
        assert (found.text, found.reason) == ("Let me see.", "tool_use")


@streamed
@pytest.mark.parametrize("calls", ["none", "empty", "nameless"])
async def test_finish_reason_tool_calls_without_a_call(home: House, calls: str, stream: bool) -> None:
    nameless = {"index": 0, "id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    delta: dict[str, Any] = {"none": {}, "empty": {"tool_calls": []}, "nameless": _calls(nameless)}[calls]
    wire = home.wires["wire-chat"]
    if stream:
        frames = [_chunk({"role": "assistant", "content": "Well."}), _chunk(delta), _chunk({}, "tool_calls")]
        wire.script = lambda asked: asked.stream(*frames, _COUNTED)
    else:
        wire.script = _json(_chat_reply({"content": "Well.", **delta}, "tool_calls"))
    answer = await _ask(home, "messages", "wire-chat", stream=stream, tools=_tools("messages", "tool_0"))
    found = said("messages", answer)
    assert (found.text, found.calls, found.reason) == ("Well.", [], "end_turn")


# ---- errors


async def test_errors_prompt_and_answer_together_are_too_long(home: House) -> None:
    refused = {
        "object": "error",
        "type": "BadRequestError",
        "message": "Requested token count exceeds the model's maximum context length of 262144 tokens. You requested a "
        "total of 262462 tokens: 230462 tokens from the input messages and 32000 tokens for the completion.",
    }
    home.wires["wire-chat"].script = lambda asked: asked.answer(msgspec.json.encode(refused), 400)
    agent = {"user-agent": "claude-cli/2.1.220 (external, cli)"}
    answer = await _ask(home, "messages", "vllm-chat", stream=True, headers=agent)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    wanted = "input length and `max_tokens` exceed context limit: 230462 + 32000 > 262144"
    assert wanted in answer.error


@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
async def test_errors_a_previous_response_is_refused_by_the_code_that_clients_know(
    home: House, upstream: str
) -> None:
    user = await home.user()
    for headers in ({"user-agent": "GitHubCopilotChat/0.65.0"}, {"x-stainless-lang": "js"}):
        for name, code in (
            ("previous_response_id", "previous_response_not_found"),
            ("conversation", "invalid_request"),
        ):
            answer = await _ask(
                home, "responses", f"wire-{upstream}", user, headers=headers, **{name: "resp_123"}
            )
            assert answer.status == 400
            error = answer.json["error"]
            assert (error["code"], error["param"]) == (code, name)
    answer = await _ask(home, "responses", f"wire-{upstream}", user, previous_response_id="resp_123")
    assert (answer.status, answer.code) == (400, "previous_response_not_found")
    assert home.asked == 0


# ---- schemas


@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
async def test_schemas_references_and_tuples_in_a_tool_for_kimi(home: House, caller: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "at": {"$ref": "#/$defs/Place", "description": "where"},
            "foo": {"$ref": "#/components/schemas/Foo", "description": "a foo"},
            "more": {"$ref": "#/properties/range"},
            "range": {"type": "array", "items": [{"type": "string"}, {"type": "number"}]},
        },
        "$defs": {"Place": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    home.wires["wire-chat"].script = _json(_chat_reply({"content": "Hi"}))
    tools = _tools(caller, "go", schema=schema)
    answer = await _ask(home, caller, "kimi-chat", tools=tools)
    assert answer.status == 200
    sent = _heard(home, "wire-chat")["tools"][0]["function"]["parameters"]
    array = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}
    assert sent["properties"] == {
        "at": {"$ref": "#/$defs/Place"},
        "foo": {"description": "a foo"},
        "more": array,
        "range": array,
    }
    assert sent["$defs"] == schema["$defs"]


async def test_schemas_of_an_answer_from_chat_to_responses(home: House) -> None:
    home.wires["wire-responses"].script = _json(
        _response([{"id": "m", "type": "message", "role": "assistant", "content": []}])
    )
    schema = {
        "type": "object",
        "properties": {"facts": {"type": "array", "items": {"type": "string"}}},
        "required": ["facts"],
        "additionalProperties": False,
    }
    wanted = {"name": "Facts", "strict": True, "schema": schema}
    form = {"type": "json_schema", "json_schema": wanted}
    answer = await _ask(home, "chat", "wire-responses", response_format=form)
    assert answer.status == 200
    assert _heard(home, "wire-responses")["text"]["format"] == {"type": "json_schema", **wanted}


# ---- headers


async def test_headers_the_callers_own_betas(home: House) -> None:
    home.wires["wire-messages"].script = _json(_messages_reply({"type": "text", "text": "Hi"}))
    betas = "interleaved-thinking-2025-05-14,context-1m-2025-08-07,thinking-binding-controls-2026-08-01"
    for model in ("claude-messages", "wire-messages"):
        answer = await _ask(home, "messages", model, headers={"anthropic-beta": betas})
        assert answer.status == 200
        sent = home.wires["wire-messages"].asked[-1].headers["anthropic-beta"]
        assert set(betas.split(",")) <= {beta.strip() for beta in sent.split(",")}


# ---- fields


@pytest.mark.parametrize("caller", ["responses", "messages"])
async def test_fields_an_answers_limit_before_openais_chat(home: House, caller: str) -> None:
    home.wires["wire-chat"].script = _json(_chat_reply({"content": "Hi"}))
    name = "max_output_tokens" if caller == "responses" else "max_tokens"
    answer = await _ask(home, caller, "openai-chat", None, **{name: 500})
    assert answer.status == 200
    heard = _heard(home, "wire-chat")
    assert heard["max_completion_tokens"] == 500
    assert "max_tokens" not in heard


SCORES = [
    {
        "token": "Hi",
        "logprob": -0.5,
        "bytes": [72, 105],
        "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}],
    },
    {"token": "!", "logprob": -1.25, "bytes": [33], "top_logprobs": []},
]


async def test_fields_log_probabilities_of_a_chat_upstream_for_a_responses_caller(home: House) -> None:
    reply = _chat_reply({"content": "Hi!"})
    reply["choices"][0]["logprobs"] = {"content": SCORES, "refusal": None}
    home.wires["wire-chat"].script = _json(reply)
    fields: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    answer = await _ask(home, "responses", "wire-chat", **fields)
    assert answer.status == 200
    assert "x-penstock-translation" not in answer.headers
    heard = _heard(home, "wire-chat")
    assert (heard["logprobs"], heard["top_logprobs"]) == (True, 1)
    (message,) = answer.json["output"]
    assert message["content"][0]["logprobs"] == SCORES


async def test_fields_log_probabilities_of_a_responses_caller_are_left_out_and_told(home: House) -> None:
    upstream = "messages"
    home.wires[f"wire-{upstream}"].script = _json(_messages_reply())
    user = await home.user()
    fields: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = await _ask(home, "responses", f"wire-{upstream}", user, **fields)
    assert answer.status == 200
    told = answer.headers["x-penstock-translation"]
    assert "top_logprobs=dropped" in told
    assert "include=dropped" in told
    assert "logprobs" not in _heard(home, f"wire-{upstream}")
    strict = {"x-penstock-strict": "1"}
    answer = await _ask(home, "responses", f"wire-{upstream}", user, headers=strict, **fields)
    assert answer.status == 400
