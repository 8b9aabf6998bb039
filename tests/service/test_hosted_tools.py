"""What tools of the provider did is part of the conversation: in the answer, in the next turn, and before another model."""

from typing import Any

import msgspec
import pytest

from tests.service.conversations import Answer
from tests.service.running_service import House, User
from tests.service.scripted import Asked

streamed = pytest.mark.parametrize("stream", [False, True])
MINE: dict[str, Any] = {"role": "user", "content": "What is new?"}
MORE: dict[str, Any] = {"role": "user", "content": "And then?"}
BLOB = "ErIECioIDBgC-opaque"
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "news"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "url": "https://a.example/1",
            "title": "First",
            "encrypted_content": BLOB,
            "page_age": "May 1",
        },
        {
            "type": "web_search_result",
            "url": "https://a.example/2",
            "title": "Second",
            "encrypted_content": BLOB,
        },
    ],
}
CITED = {
    "type": "text",
    "text": "It is so.",
    "citations": [
        {
            "type": "web_search_result_location",
            "url": "https://a.example/1",
            "title": "First",
            "cited_text": "so",
            "encrypted_index": "Eo8",
        }
    ],
}
CODE = {
    "type": "server_tool_use",
    "id": "srvtoolu_2",
    "name": "code_execution",
    "input": {"code": "print(1)"},
}
RAN = {
    "type": "code_execution_tool_result",
    "tool_use_id": "srvtoolu_2",
    "content": {
        "type": "code_execution_result",
        "stdout": "1\n",
        "stderr": "",
        "return_code": 0,
        "content": [],
    },
}
FETCH = {
    "type": "server_tool_use",
    "id": "srvtoolu_3",
    "name": "web_fetch",
    "input": {"url": "https://b.example"},
}
PAGE = {
    "type": "web_fetch_tool_result",
    "tool_use_id": "srvtoolu_3",
    "content": {
        "type": "web_fetch_result",
        "url": "https://b.example",
        "content": {
            "type": "document",
            "title": "B",
            "source": {"type": "text", "media_type": "text/plain", "data": "the page"},
        },
    },
}
DID = [SEARCH, FOUND, CODE, RAN, FETCH, PAGE, CITED]

WS = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "news", "sources": [{"type": "url", "url": "https://a.example/1"}]},
}
OPEN = {
    "type": "web_search_call",
    "id": "ws_2",
    "status": "completed",
    "action": {"type": "open_page", "url": "https://b.example"},
}
CI = {
    "type": "code_interpreter_call",
    "id": "ci_1",
    "status": "completed",
    "code": "print(1)",
    "container_id": "cntr_1",
    "outputs": [{"type": "logs", "logs": "1"}],
}
MCP = {
    "type": "mcp_call",
    "id": "mcp_1",
    "status": "completed",
    "server_label": "wiki",
    "name": "ask",
    "arguments": '{"q":"x"}',
    "output": "an answer",
    "error": None,
}
SAYS = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": "It is so.",
            "annotations": [
                {
                    "type": "url_citation",
                    "start_index": 0,
                    "end_index": 9,
                    "url": "https://a.example/1",
                    "title": "First",
                }
            ],
        }
    ],
}
ITEMS = [WS, OPEN, CI, MCP, SAYS]


def _messages(content: list[Any], *, stream: bool) -> bytes:
    reply = {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "up-messages",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 5},
    }
    if not stream:
        return msgspec.json.encode(reply)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**reply, "content": [], "stop_reason": None}}
    ]
    for at, block in enumerate(content):
        begun, deltas = dict(block), list[dict[str, Any]]()
        if "input" in block:
            given = msgspec.json.encode(block["input"]).decode()
            begun["input"] = {}
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in (given[:4], given[4:])]
        if block["type"] == "text":
            begun |= {"text": "", "citations": []}
            deltas = [{"type": "text_delta", "text": block["text"]}]
            deltas += [{"type": "citations_delta", "citation": each} for each in block["citations"]]
        events.append({"type": "content_block_start", "index": at, "content_block": begun})
        events += [{"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": at})
    events.append(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    )
    return _sse([*events, {"type": "message_stop"}])


def _responses(output: list[Any], *, stream: bool) -> bytes:
    response = {
        "id": "resp_up",
        "object": "response",
        "model": "up-responses",
        "status": "completed",
        "output": output,
    }
    if not stream:
        return msgspec.json.encode(response)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**response, "output": [], "status": "in_progress"}}
    ]
    for at, item in enumerate(output):
        begun = {"type": item["type"], "id": item["id"], "status": "in_progress"}
        events.append({"type": "response.output_item.added", "output_index": at, "item": begun})
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    return _sse([*events, {"type": "response.completed", "response": response}])


def _sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event)) for event in events
    )


def _says(body: Any, said: list[Any]) -> Any:
    def script(asked: Asked) -> None:
        if asked.json.get("stream"):
            asked.stream(body(said, stream=True))
        else:
            asked.answer(body(said, stream=False))

    return script


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    """The content of a Messages answer as the SDK gathers it."""
    assert answer.status == 200
    if answer.headers["content-type"] == "application/json":
        return answer.json["content"]
    blocks: list[dict[str, Any]] = []
    given = ""
    for frame in answer.frames:
        event = frame.json
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
            given = ""
        elif event["type"] == "content_block_stop" and given:
            blocks[-1]["input"] = msgspec.json.decode(given)
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            match delta["type"]:
                case "input_json_delta":
                    given += delta["partial_json"]
                case "citations_delta":
                    blocks[-1].setdefault("citations", []).append(delta["citation"])
                case _:
                    blocks[-1]["text"] += delta["text"]
    return blocks


async def _respond(house: House, model: str, user: User, given: list[Any], *, stream: bool = False) -> Answer:
    body = msgspec.json.encode({"model": model, "input": given, "stream": stream})
    return await house.http("POST", "/api/v1/responses", user.key, body=body)


def _output(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200
    if answer.headers["content-type"] == "application/json":
        return answer.json["output"]
    done = [frame.json["item"] for frame in answer.frames if frame.event == "response.output_item.done"]
    last = answer.frames[-1].json["response"]
    assert last["output"] == done
    return done


@streamed
async def test_a_messages_caller_gets_what_a_responses_upstream_did_and_it_goes_back(
    house: House, stream: bool
) -> None:
    user = await house.user()
    wire = house.wires["wire-responses"]
    wire.script = _says(_responses, ITEMS)
    answer = await house.ask("messages", "wire-responses", user, messages=[MINE], stream=stream)
    await wire.next()
    kept = _blocks(answer)
    kinds = [block["type"] for block in kept]
    assert kinds == [
        "server_tool_use",
        "web_search_tool_result",
        "server_tool_use",
        "web_fetch_tool_result",
        "server_tool_use",
        "code_execution_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "text",
    ]
    assert kept[0]["input"] == {"query": "news"}
    assert kept[1]["content"][0]["url"] == "https://a.example/1"
    assert all(
        call["id"] == result["tool_use_id"] for call, result in zip(kept[:8:2], kept[1:8:2], strict=True)
    )
    assert kept[3]["content"]["url"] == "https://b.example"
    assert (kept[4]["input"]["code"], kept[5]["content"]["stdout"]) == ("print(1)", "1")
    assert kept[7]["content"] == [{"type": "text", "text": "an answer"}]
    assert kept[8]["citations"][0]["url"] == "https://a.example/1"
    history = [MINE, {"role": "assistant", "content": kept}, MORE]
    await house.ask("messages", "wire-responses", user, messages=history, stream=stream)
    asked: Any = (await wire.next()).json
    assert asked["input"][1:-2] == [WS, OPEN, CI, MCP]
    said = asked["input"][-2]
    assert said["content"] == SAYS["content"]
    # another model, whose maker checks results: what was found is told, and nothing of ours is left
    messages = house.wires["wire-messages"]
    messages.script = _says(_messages, [CITED])
    answer = await house.ask("messages", "wire-messages", user, messages=history)
    assert answer.headers["x-penstock-translation"] == "messages.server_tools=text"
    sent: Any = (await messages.next()).json["messages"]
    texts = [block["text"] for block in sent[1]["content"] if block["type"] == "text"]
    assert len(texts) == len(sent[1]["content"]) == 5
    for told in ("https://a.example/1", "https://b.example", "print(1)", "an answer", "It is so."):
        assert any(told in text for text in texts)
    assert b"srvtoolu_gw_" not in msgspec.json.encode(sent)
    assert b"citations" not in msgspec.json.encode(sent)


@streamed
async def test_a_responses_caller_gets_what_a_messages_upstream_did_and_it_goes_back(
    house: House, stream: bool
) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = _says(_messages, DID)
    answer = await _respond(house, "wire-messages", user, [MINE], stream=stream)
    await wire.next()
    output = _output(answer)
    shown = [item for item in output if item["type"] != "reasoning"]
    assert [item["type"] for item in shown] == [
        "web_search_call",
        "code_interpreter_call",
        "web_search_call",
        "message",
    ]
    assert shown[0]["action"]["query"] == "news"
    assert [source["url"] for source in shown[0]["action"]["sources"]] == [
        "https://a.example/1",
        "https://a.example/2",
    ]
    assert (shown[1]["code"], shown[1]["outputs"]) == ("print(1)", [{"type": "logs", "logs": "1\n"}])
    assert shown[2]["action"] == {"type": "open_page", "url": "https://b.example"}
    assert shown[3]["content"][0]["annotations"][0]["url"] == "https://a.example/1"
    await _respond(house, "wire-messages", user, [MINE, *output, MORE], stream=stream)
    asked: Any = (await wire.next()).json
    assert asked["messages"][1]["content"][:6] == DID[:6]
    # a client that drops what it cannot read, and another model: what was found is told
    for model, given in (("wire-messages", shown), ("wire-chat", shown), ("wire-chat", output)):
        other = house.wires[model]
        other.script = _says(_messages, [CITED]) if model == "wire-messages" else _chat
        await _respond(house, model, user, [MINE, *given, MORE])
        body = (await other.next()).body
        assert BLOB.encode() not in body
        for told in (b"news", b"https://a.example/1", b"https://b.example", b"print(1)"):
            assert told in body


def _chat(asked: Asked) -> None:
    asked.answer(
        b'{"id":"x","model":"up-chat","choices":[{"index":0,"message":{"role":"assistant","content":"2"},'
        b'"finish_reason":"stop"}]}'
    )


async def test_a_chat_upstream_reads_titles_addresses_and_texts(house: House) -> None:
    user = await house.user()
    house.wires["wire-chat"].script = _chat
    error = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    failed = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_9", "content": error}
    result = {
        "type": "search_result",
        "source": "https://c.example",
        "title": "C",
        "content": [{"type": "text", "text": "c"}],
    }
    again = {**SEARCH, "id": "srvtoolu_9"}
    history = [
        MINE,
        {"role": "assistant", "content": [*DID, again, failed]},
        {"role": "user", "content": [result]},
    ]
    answer = await house.ask("messages", "wire-chat", user, messages=history)
    assert "messages.server_tools=text" in answer.headers["x-penstock-translation"]
    asked: Any = (await house.wires["wire-chat"].next()).json
    text = asked["messages"][1]["content"]
    assert BLOB not in msgspec.json.encode(asked).decode()
    for told in (
        "First\nhttps://a.example/1\nMay 1",
        "Second\nhttps://a.example/2",
        "B\nhttps://b.example\nthe page",
        "print(1)",
        "[tool error: max_uses_exceeded]",
        "It is so.",
    ):
        assert told in text
    assert asked["messages"][2]["content"] == "C\nhttps://c.example\nc"


@streamed
async def test_a_chat_caller_gets_citations(house: House, stream: bool) -> None:
    user = await house.user()
    for model, script in (
        ("wire-messages", _says(_messages, DID)),
        ("wire-responses", _says(_responses, ITEMS)),
    ):
        house.wires[model].script = script
        answer = await house.ask("chat", model, user, stream=stream)
        if stream:
            found = [frame.json["choices"][0]["delta"] for frame in answer.frames[:-1]]
            text = "".join(delta.get("content", "") for delta in found)
            notes = [note for delta in found for note in delta.get("annotations", ())]
        else:
            text, notes = (answer.json["choices"][0]["message"][name] for name in ("content", "annotations"))
        assert text == "It is so."
        assert [note["url_citation"]["url"] for note in notes] == ["https://a.example/1"]


async def test_what_anthropic_cannot_read_of_another_search_is_left_out(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]

    def script(asked: Asked) -> None:
        if BLOB.encode() in asked.body:
            said = "messages.1.content.1: Invalid `encrypted_content` in `search_result` block"
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
            asked.answer(msgspec.json.encode(error), status=400)
        else:
            asked.answer(_messages([CITED], stream=False))

    wire.script = script
    history = [MINE, {"role": "assistant", "content": [SEARCH, FOUND, CITED]}, MORE]
    answer = await house.ask("messages", "wire-messages", user, messages=history)
    assert answer.status == 200
    assert answer.headers["x-penstock-translation"] == "messages.server_tools=dropped"
    await wire.next()
    asked: Any = (await wire.next()).json
    assert asked["messages"][1]["content"] == [{"type": "text", "text": "It is so."}]
