"""The simulator over real sockets: what it answers, and how it fails when it is told to."""

import asyncio
import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.providers.simulator.handler import SCENARIOS
from penstock.providers.simulator.request import scenarios_of
from penstock.providers.simulator.script import FREE_TEXT
from tests.providers.conftest import Answer, Sim

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/some/prefix/v1/messages", "/v1/responses"
PATHS = {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES}
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 3},
        "note": {"type": "string"},
    },
    "required": ["city", "days"],
}


def question(dialect: str, text: str = "What is a penstock?", **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", **fields}
    if dialect == "responses":
        body["input"] = [{"role": "user", "content": [{"type": "input_text", "text": text}]}]
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if dialect == "messages":
        body.setdefault("max_tokens", 1000)
    return body


def tool(dialect: str, name: str = "weather", schema: object = SCHEMA) -> dict[str, object]:
    match dialect:
        case "chat":
            return {"type": "function", "function": {"name": name, "parameters": schema}}
        case "messages":
            return {"name": name, "input_schema": schema}
        case _:
            return {"type": "function", "name": name, "parameters": schema}


def events(answer: Answer) -> list[dict[str, Any]]:
    """The decoded data of each frame, ``[DONE]`` left out."""
    frames = [frame for frame in answer.body.decode().split("\n\n") if frame]
    lines = [line for frame in frames for line in frame.split("\n") if line.startswith("data: ")]
    return [msgspec.json.decode(line[6:]) for line in lines if line != "data: [DONE]"]


def said(dialect: str, answer: Answer) -> str:
    """The text of an answer, whole or streamed."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return "".join(streamed(dialect, answer))
    body = answer.json()
    match dialect:
        case "chat":
            return body["choices"][0]["message"]["content"] or ""
        case "messages":
            return "".join(block["text"] for block in body["content"] if block["type"] == "text")
        case _:
            items = [item for item in body["output"] if item["type"] == "message"]
            return "".join(part["text"] for item in items for part in item["content"])


def streamed(dialect: str, answer: Answer) -> Iterator[str]:
    for event in events(answer):
        match dialect:
            case "chat":
                yield from (choice["delta"].get("content") or "" for choice in event["choices"])
            case "messages":
                yield event.get("delta", {}).get("text", "")
            case _:
                yield event["delta"] if event["type"] == "response.output_text.delta" else ""


dialects = pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])


# ---- good answers


@dialects
async def test_the_same_question_has_the_same_answer_whole_or_streamed(sim: Sim, dialect: str):
    whole = await sim.ask(PATHS[dialect], question(dialect))
    again = await sim.ask(PATHS[dialect], question(dialect))
    stream = await sim.ask(PATHS[dialect], question(dialect, stream=True))
    other = await sim.ask(PATHS[dialect], question(dialect, text="Another"))
    assert whole.body == again.body
    assert said(dialect, whole) == said(dialect, stream)
    assert said(dialect, whole).startswith("This answer is simulated by Penstock; no model")
    assert said(dialect, whole) != said(dialect, other)
    assert stream.whole
    assert (await sim.visit()).outcome == "completed"


async def test_the_dialects_say_the_same(sim: Sim):
    answers = [said(name, await sim.ask(path, question(name))) for name, path in PATHS.items()]
    assert len(set(answers)) == 1


async def test_the_ends_of_the_streams(sim: Sim):
    chat = await sim.ask(CHAT, question("chat", stream=True))
    assert chat.body.endswith(b"data: [DONE]\n\n")
    assert all("usage" not in event for event in events(chat))
    counted = await sim.ask(CHAT, question("chat", stream=True, stream_options={"include_usage": True}))
    assert events(counted)[-1]["choices"] == []
    assert events(counted)[-1]["usage"]["total_tokens"] > 0
    messages = await sim.ask(MESSAGES, question("messages", stream=True))
    kinds = [event["type"] for event in events(messages)]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    responses = await sim.ask(RESPONSES, question("responses", stream=True))
    numbers = [event["sequence_number"] for event in events(responses)]
    assert numbers == list(range(len(numbers)))
    assert events(responses)[-1]["type"] == "response.completed"


async def test_nothing_of_the_request_is_in_the_answer_but_for_echo(sim: Sim):
    secret = "sk-ant-very-secret"
    for dialect, path in PATHS.items():
        for stream in (False, True):
            plain = await sim.ask(path, question(dialect, text=secret, stream=stream))
            assert secret.encode() not in plain.body
            echoed = await sim.ask(path, question(dialect, text=secret, stream=stream), "echo")
            assert said(dialect, echoed) == secret


@dialects
async def test_a_limit_of_tokens_is_kept(sim: Sim, dialect: str):
    field = "max_output_tokens" if dialect == "responses" else "max_tokens"
    answer = await sim.ask(PATHS[dialect], {**question(dialect), field: 3})
    assert said(dialect, answer) == "This answer is"
    body = answer.json()
    reason = {
        "chat": lambda: body["choices"][0]["finish_reason"] == "length",
        "messages": lambda: body["stop_reason"] == "max_tokens" and body["usage"]["output_tokens"] == 3,
        "responses": lambda: body["incomplete_details"] == {"reason": "max_output_tokens"},
    }
    assert reason[dialect]()


async def test_stop_sequences_stop_it(sim: Sim):
    chat = await sim.ask(CHAT, question("chat", stop=["by "]))
    assert said("chat", chat) == "This answer is simulated "
    messages = (await sim.ask(MESSAGES, question("messages", stop_sequences=["zzz", "is"]))).json()
    assert (messages["stop_reason"], messages["stop_sequence"]) == ("stop_sequence", "is")
    assert messages["content"][0]["text"] == "Th"


async def test_thinking_when_it_is_asked_for(sim: Sim):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    blocks = (await sim.ask(MESSAGES, question("messages", thinking=thinking))).json()["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert blocks[0]["signature"]
    hidden = {"type": "adaptive", "display": "omitted"}
    blocks = (await sim.ask(MESSAGES, question("messages", thinking=hidden))).json()["content"]
    assert (blocks[0]["thinking"], bool(blocks[0]["signature"])) == ("", True)
    stream = events(await sim.ask(MESSAGES, question("messages", thinking=thinking, stream=True)))
    deltas = [
        event["delta"]["type"]
        for event in stream
        if event["type"] == "content_block_delta" and event["index"] == 0
    ]
    assert deltas[-1] == "signature_delta"
    assert deltas.count("signature_delta") == 1
    message = (await sim.ask(CHAT, question("chat", reasoning_effort="low"))).json()["choices"][0]["message"]
    assert message["reasoning_content"].startswith("This reasoning is simulated")
    none = (await sim.ask(CHAT, question("chat", reasoning_effort="none"))).json()["choices"][0]["message"]
    assert "reasoning_content" not in none


async def test_counting_tokens_agrees_with_the_usage(sim: Sim):
    body = question("messages", tools=[tool("messages")], tool_choice={"type": "none"})
    counted = (await sim.ask(MESSAGES + "/count_tokens", body)).json()
    used = (await sim.ask(MESSAGES, body)).json()["usage"]
    assert counted == {"input_tokens": used["input_tokens"]}
    marked = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    used = (await sim.ask(MESSAGES, question("messages", system=marked))).json()["usage"]
    assert used["cache_read_input_tokens"] > 0


# ---- tools


def calls(dialect: str, answer: Answer) -> list[tuple[str, object]]:
    body = answer.json()
    match dialect:
        case "chat":
            entries = [call["function"] for call in body["choices"][0]["message"].get("tool_calls", [])]
            return [(entry["name"], msgspec.json.decode(entry["arguments"])) for entry in entries]
        case "messages":
            return [
                (block["name"], block["input"]) for block in body["content"] if block["type"] == "tool_use"
            ]
        case _:
            items = [item for item in body["output"] if item["type"] == "function_call"]
            return [(item["name"], msgspec.json.decode(item["arguments"])) for item in items]


@dialects
async def test_an_offered_tool_is_called_with_arguments_that_fit(sim: Sim, dialect: str):
    answer = await sim.ask(PATHS[dialect], question(dialect, tools=[tool(dialect)]))
    assert calls(dialect, answer) == [("weather", {"city": "simulated", "days": 3})]


async def test_how_a_call_is_chosen(sim: Sim):
    tools = [tool("messages"), tool("messages", "Bash", {"type": "object", "required": ["command"]})]

    async def called(scenario: str | None = None, **fields: Any) -> list[str]:
        answer = await sim.ask(MESSAGES, question("messages", tools=tools, **fields), scenario)
        return [name for name, _ in calls("messages", answer)]

    assert await called() == ["Bash"]  # known to be harmless, so before the first one
    assert await called(tool_choice={"type": "tool", "name": "weather"}) == ["weather"]
    assert await called(tool_choice={"type": "none"}) == []
    assert await called("tool=weather") == ["weather"]
    assert await called("tools=3") == ["Bash", "weather", "Bash"]
    assert await called("tools=3", tool_choice={"type": "auto", "disable_parallel_tool_use": True}) == [
        "Bash"
    ]
    assert await called("ok") == []
    assert await called("tool=absent") == []


async def test_a_harmless_tool_is_called_harmlessly(sim: Sim):
    bash = tool("messages", "Bash", {"type": "object", "required": ["command"]})
    answer = await sim.ask(MESSAGES, question("messages", tools=[bash]))
    assert calls("messages", answer)[0][1] == {"command": "echo simulated", "description": "Print one word"}


async def test_tools_of_an_item_are_offered_too(sim: Sim):
    """Codex offers its tools in an item, in a namespace; what is in other items is not on offer."""
    offered = {"type": "additional_tools", "role": "developer", "tools": [tool("responses")]}
    body = question("responses")
    body["input"] = [offered, *body["input"]]
    assert calls("responses", await sim.ask(RESPONSES, body)) == [
        ("weather", {"city": "simulated", "days": 3})
    ]
    body["input"][0] = offered | {
        "tools": [{"type": "namespace", "name": "functions", "tools": [tool("responses")]}]
    }
    assert calls("responses", await sim.ask(RESPONSES, body)) == [
        ("weather", {"city": "simulated", "days": 3})
    ]
    for other in (
        {"type": "message", "role": "developer"},
        {"type": "additional_tools", "tools": None},
        None,
    ):
        body["input"][0] = other if other is None else {**offered, **other}
        assert calls("responses", await sim.ask(RESPONSES, body)) == []


async def test_a_program_for_codex_is_harmless(sim: Sim):
    """Where free text is code, it prints a word; another tool with free text gets what is no code."""
    program = 'text(await tools.exec_command({cmd: "echo simulated"}))'
    for name, expected in (("exec", program), ("apply_patch", FREE_TEXT)):
        answer = await sim.ask(RESPONSES, question("responses", tools=[{"type": "custom", "name": name}]))
        (call,) = [item for item in answer.json()["output"] if item["type"] == "custom_tool_call"]
        assert call["input"] == expected
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    answer = await sim.ask(
        MESSAGES, question("messages", tools=[tool("messages", "functions__exec", schema)])
    )
    assert calls("messages", answer) == [("functions__exec", {"input": program})]


@dialects
async def test_after_a_tools_result_there_is_text(sim: Sim, dialect: str):
    body = question(dialect, tools=[tool(dialect)])
    match dialect:
        case "chat":
            turns = [
                {"role": "assistant", "tool_calls": []},
                {"role": "tool", "tool_call_id": "x", "content": "18"},
            ]
        case "messages":
            turns = [
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "18"}]}
            ]
            # Claude Code puts a system message after the results.
            turns.append({"role": "system", "content": "Be brief."})
        case _:
            turns = [{"type": "function_call_output", "call_id": "x", "output": "18"}]
    key = "input" if dialect == "responses" else "messages"
    body[key] = [*body[key], *turns]
    answer = await sim.ask(PATHS[dialect], body)
    assert calls(dialect, answer) == []
    assert "the tool's result has arrived" in said(dialect, answer)


async def test_structured_answers_fit_their_schema(sim: Sim):
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA}}
    chat = await sim.ask(CHAT, question("chat", response_format=wanted))
    assert msgspec.json.decode(said("chat", chat)) == {"city": "simulated", "days": 3}
    output = {"format": {"type": "json_schema", "schema": SCHEMA}}
    messages = await sim.ask(MESSAGES, question("messages", output_config=output))
    assert msgspec.json.decode(said("messages", messages)) == {"city": "simulated", "days": 3}
    free = await sim.ask(CHAT, question("chat", response_format={"type": "json_object"}))
    assert msgspec.json.decode(said("chat", free)) == {"simulated": True}


# ---- failures


@dialects
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503, 529])
async def test_an_error_of_any_class(sim: Sim, dialect: str, status: int):
    answer = await sim.ask(PATHS[dialect], question(dialect, stream=True, model=f"sim-error-{status}"))
    assert answer.status == status
    body = answer.json()
    assert body["error"]["message"] == f"A simulated error with status {status}."
    assert (body.get("type") == "error") == (dialect == "messages")
    assert ("retry-after" in answer.headers) == (status in (429, 503, 529))


async def test_overflow_has_the_vendors_words(sim: Sim):
    messages = await sim.ask(MESSAGES, question("messages"), "overflow")
    assert (messages.status, messages.json()["error"]["message"]) == (
        400,
        "prompt is too long: 212345 tokens > 200000 maximum",
    )
    chat = await sim.ask(CHAT, question("chat"), "overflow")
    assert (chat.status, chat.json()["error"]["code"]) == (400, "context_length_exceeded")


@dialects
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_connection(sim: Sim, dialect: str, stream: bool):
    answer = await sim.ask(PATHS[dialect], question(dialect, stream=stream), "cut")
    assert answer.status == 200
    assert answer.body
    assert not answer.whole
    visit = await sim.visit()
    await visit.ended.wait()
    assert visit.outcome == "cut"


@dialects
async def test_an_error_in_the_stream(sim: Sim, dialect: str):
    answer = await sim.ask(PATHS[dialect], question(dialect, stream=True), "error-in-stream=4")
    last = events(answer)[-1]
    assert "A simulated error" in msgspec.json.encode(last).decode()
    assert answer.whole
    assert len(events(answer)) == 5
    assert b"[DONE]" not in answer.body


@dialects
async def test_a_stream_that_only_stops(sim: Sim, dialect: str):
    answer = await sim.ask(PATHS[dialect], question(dialect, stream=True), "unfinished")
    assert answer.whole
    text = answer.body.decode()
    assert not any(
        end in text for end in ("[DONE]", "message_stop", "response.completed", '"finish_reason":"stop"')
    )
    assert said(dialect, answer)


@pytest.mark.parametrize("scenario", ["hang", "hang-mid=2"])
@pytest.mark.parametrize("stream", [False, True])
async def test_hanging_until_the_caller_goes(sim: Sim, scenario: str, stream: bool):
    _, writer = await sim.open(CHAT, question("chat", stream=stream), scenario)
    visit = await sim.visit()
    assert visit.outcome == "running"
    writer.close()
    await visit.ended.wait()
    assert visit.outcome == "caller gone"
    assert visit.ended_at is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_hanging_until_the_test_lets_it_go_on(sim: Sim, stream: bool):
    plain = await sim.ask(CHAT, question("chat", stream=stream))
    asking = asyncio.ensure_future(sim.ask(CHAT, question("chat", stream=stream), "hang-mid"))
    visit = await sim.visit(1)
    visit.proceed.set()
    answer = await asking
    assert answer.body == plain.body
    assert answer.whole


@dialects
async def test_dripping_changes_no_byte(sim: Sim, dialect: str):
    for stream in (False, True):
        body = question(dialect, stream=stream)
        assert (await sim.ask(PATHS[dialect], body, "drip=7")).body == (
            await sim.ask(PATHS[dialect], body)
        ).body


async def test_other_misbehaviour(sim: Sim):
    stream = question("chat", stream=True)
    assert (await sim.ask(CHAT, stream, "error-200")).json()["error"]["message"]
    html = await sim.ask(CHAT, stream, "html")
    assert (html.status, html.headers["content-type"]) == (200, "text/html")
    assert (await sim.ask(CHAT, stream, "empty")).body == b""
    assert said("chat", await sim.ask(CHAT, stream, "empty-text")) == ""
    whole = await sim.ask(CHAT, stream, "whole")
    assert whole.json()["object"] == "chat.completion"
    for asked in (stream, question("chat")):
        spoilt = await sim.ask(CHAT, asked, "badutf8")
        with pytest.raises(UnicodeDecodeError):
            spoilt.body.decode()
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode((await sim.ask(CHAT, asked, "garbage")).body)
    assert "usage" not in (await sim.ask(CHAT, question("chat"), "no-usage")).json()
    huge = await sim.ask(CHAT, stream, "huge=100")
    assert 100_000 < len(said("chat", huge)) < 110_000
    pinged = await sim.ask(MESSAGES, question("messages", stream=True), "pings")
    assert b"event: ping\n" in pinged.body
    refused = (await sim.ask(MESSAGES, question("messages"), "refusal")).json()
    assert refused["stop_reason"] == "refusal"
    many = await sim.ask(CHAT, question("chat"), "words=500")
    assert len(said("chat", many).split()) > 500


async def test_a_slow_reader_holds_the_simulator_back(sim: Sim):
    reader, writer = await sim.open(CHAT, question("chat", stream=True), "huge=40000")
    await reader.readuntil(b"\r\n\r\n")
    visit = await sim.visit()
    # It stops writing long before the 40 MB that nobody reads; then it is read to the end.
    assert visit.outcome == "running"
    size = 0
    while piece := await reader.read(1 << 20):
        size += len(piece)
    writer.close()
    await visit.ended.wait()
    assert (visit.outcome, size > 40_000_000) == ("completed", True)


async def test_what_it_does_not_know(sim: Sim):
    assert (await sim.ask("/v1/images/variations", {})).status == 404
    assert (await sim.ask(CHAT, b"", method="GET")).status == 404
    assert (await sim.ask(CHAT, b"[1]")).status == 400
    assert (await sim.ask(CHAT, b"{")).status == 400
    listed = (await sim.ask("/v1/models", b"", method="GET")).json()
    assert "sim-ok" in [entry["id"] for entry in listed["data"]]


async def test_any_json_is_answered(sim: Sim):
    odd = [
        {},
        {"messages": 3, "tools": "x", "stop": 5, "thinking": [], "max_tokens": True},
        {
            "messages": [None, "x", {"role": 7, "content": {"a": 1}}],
            "tools": [None, {"function": {"name": 3}}],
        },
        {"messages": [], "stream": "yes", "tool_choice": 1, "response_format": {"type": "json_schema"}},
    ]
    for body in odd:
        for path in PATHS.values():
            assert (await sim.ask(path, body)).status == 200


# ---- how scenarios are named


@pytest.mark.parametrize(
    ("model", "header", "expected"),
    [
        ("claude-sonnet-4.6", None, {}),
        ("sim-ok", None, {"ok": ""}),
        ("vendor/model:sim-slow=50+sim-tools=2", None, {"slow": "50", "tools": "2"}),
        ("sim-error-in-stream=3", None, {"error-in-stream": "3"}),
        ("simulator", None, {}),
        ("maxim-sim", None, {}),
        ("sim-ok", "slow=5, sim-thinking", {"slow": "5", "thinking": ""}),
        ("sim-ok", "", {}),
    ],
)
def test_scenarios_are_named_by_model_or_header(model: str, header: str | None, expected: dict[str, str]):
    assert scenarios_of(model, header) == expected


def test_every_scenario_is_described_in_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
    for name, does in SCENARIOS.items():
        assert f"| `{name}` | {does} |" in text


# ---- embeddings

EMBEDDINGS = "/v1/embeddings"


@pytest.mark.parametrize("value", ["Hello", ["Hello", "there"], [1, 2], [[1], [2, 3]], ["Hello", 7], 3])
async def test_embeddings_are_unit_vectors_of_their_inputs(sim: Sim, value: Any):
    body = {"model": "m", "input": value}
    first, again = await sim.ask(EMBEDDINGS, body), await sim.ask(EMBEDDINGS, body)
    assert first.body == again.body
    answer = first.json()
    assert (answer["object"], answer["model"]) == ("list", "m")
    for index, entry in enumerate(answer["data"]):
        assert (entry["object"], entry["index"], len(entry["embedding"])) == ("embedding", index, 256)
        assert sum(number * number for number in entry["embedding"]) == pytest.approx(1)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"]


async def test_embeddings_in_both_encodings_and_any_length(sim: Sim):
    ask = {"model": "m", "input": "Hello", "dimensions": 5}
    numbers = (await sim.ask(EMBEDDINGS, ask)).json()["data"][0]["embedding"]
    packed = (await sim.ask(EMBEDDINGS, ask | {"encoding_format": "base64"})).json()["data"][0]["embedding"]
    assert struct.unpack("<5f", base64.b64decode(packed)) == pytest.approx(numbers)
    for wrong in (0, 5000, "5"):
        assert (await sim.ask(EMBEDDINGS, ask | {"dimensions": wrong})).status == 400
    assert (await sim.ask(EMBEDDINGS, b"{")).status == 400
    assert (await sim.ask(EMBEDDINGS, b"", method="GET")).status == 404


@pytest.mark.parametrize(
    ("scenario", "status"), [("error-429", 429), ("overflow", 400), ("error-200", 200), ("html", 200)]
)
async def test_embeddings_fail_as_told(sim: Sim, scenario: str, status: int):
    answer = await sim.ask(EMBEDDINGS, {"model": f"sim-{scenario}", "input": "x"})
    assert (answer.status, b'"embedding"' in answer.body) == (status, False)


async def test_embeddings_without_counts_cut_and_late(sim: Sim):
    ask = {"model": "m", "input": "x"}
    assert "usage" not in (await sim.ask(EMBEDDINGS, ask, "no-usage")).json()
    assert not (await sim.ask(EMBEDDINGS, ask, "cut")).whole
    late = asyncio.create_task(sim.ask(EMBEDDINGS, ask, "hang"))
    visit = await sim.visit(2)
    assert not late.done()
    visit.proceed.set()
    assert (await late).status == 200
