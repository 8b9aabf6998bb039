"""Hosted tools, block by block and item by item: what is read of them, and what is written."""

import base64
import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from penstock.core.dialects.chat.dialect import CHAT
from penstock.core.dialects.foreign_reasoning.messages import without_reasoning
from penstock.core.dialects.messages import hosted_tools as blocks
from penstock.core.dialects.messages.dialect import MESSAGES
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import read_envelope
from penstock.core.dialects.responses import hosted_tools as items
from penstock.core.dialects.responses.dialect import RESPONSES
from penstock.core.neutral.events import AnyEvent, HostedUsed, Reply
from penstock.core.neutral.fold import events_of, fold
from penstock.core.neutral.request import Citation, Hosted, Page, Request, Text, Thought, Turn
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.reasoning.encrypted_reasoning import (
    opened,
    opened_hosted,
    sealed_hosted,
    sealed_redacted,
)
from penstock.core.reasoning.maker import maker_mark, marked_events, own_again
from penstock.core.tools.hosted import told

CALL = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}


def raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


def result(content: Any, kind: str = "web_search", **more: Any) -> dict[str, Any]:
    return {"type": f"{kind}_tool_result", "tool_use_id": "s1", "content": content} | more


@pytest.mark.parametrize(
    ("content", "pages", "output", "failed"),
    [
        ([], (), "", False),
        ([{"url": "u", "title": "t"}], (Page("u", "t"),), "", False),
        ([{"url": "u", "page_age": "May"}], (Page("u", "", "May"),), "", False),
        ("words", (), "words", False),
        ({"error_code": "unavailable"}, (), "unavailable", True),
        ({"stdout": "a", "stderr": "b", "return_code": 1}, (), "a\nb", True),
        ({"stdout": "a", "return_code": 0}, (), "a", False),
        ({"encrypted_stdout": "zz", "stdout": ""}, (), "", False),
        ([{"type": "text", "text": "said"}], (), "said", False),
        ({"tool_references": [{"tool_name": "add"}, {}]}, (), "add", False),
        ({"url": "u", "content": {"title": "t", "source": {"type": "text", "data": "d"}}}, (Page("u", "t", "d"),), "", False),
        ({"url": "u", "content": {"source": {"type": "base64", "data": "zz"}}}, (Page("u"),), "", False),
        ({"url": "u", "content": {"source": {"type": "text"}}}, (Page("u"),), "", False),
        ({"url": "u", "content": {}}, (Page("u"),), "", False),
        ({"url": "u", "content": 7}, (Page("u"),), "", False),
        ({"url": 7}, (), "", False),
        (7, (), "", False),
    ],
)  # fmt: skip
def test_what_is_read_of_a_result(content: Any, pages: tuple[Page, ...], output: str, failed: bool) -> None:
    found = blocks.hosted_of(raw(CALL), raw(result(content)))
    assert found == Hosted(
        "search", "s1", "web_search", '{"query":"x"}', pages, output, failed, "",
        msgspec.json.encode([CALL, result(content)]).decode(),
    )  # fmt: skip


def test_halves_of_a_tools_use() -> None:
    assert blocks.hosted_of(raw(CALL), None) == Hosted("search", "s1", "web_search", '{"query":"x"}')
    alone = blocks.hosted_of(None, raw({"type": "bash_code_execution_tool_result", "is_error": True}))
    assert alone == Hosted("code", "", "bash_code_execution", failed=True)
    assert blocks.hosted_of(None, raw({"type": 7})) == Hosted("other", "", "tool")
    assert (
        blocks.hosted_of(raw({"type": "server_tool_use", "id": "a", "name": "advisor"}), None).kind == "other"
    )
    server = {"type": "mcp_tool_use", "id": "m", "name": "ask", "server_name": "wiki", "input": {}}
    assert blocks.hosted_of(raw(server), None) == Hosted("mcp", "m", "ask", "{}", server="wiki")


PAGES = (Page("https://a.example", "A", "read"), Page("https://b.example"))


@pytest.mark.parametrize(
    ("hosted", "name", "kind", "content"),
    [
        (Hosted("search", "ws_1", "s", "{}", PAGES[1:]), "web_search", "server_tool_use",
         [{"type": "web_search_result", "url": "https://b.example", "title": "", "encrypted_content": "srvtoolu_gw_",
           "page_age": None}]),
        (Hosted("search", "ws_1", "s", "{}", failed=True), "web_search", "server_tool_use",
         {"type": "web_search_tool_result_error", "error_code": "unavailable"}),
        (Hosted("fetch", "ws_1", "f", "{}", failed=True), "web_fetch", "server_tool_use",
         {"type": "web_fetch_tool_result_error", "error_code": "unavailable"}),
        (Hosted("fetch", "ws_1", "f"), "web_fetch", "server_tool_use",
         {"type": "web_fetch_result", "url": "", "content": {"type": "document", "title": "",
          "source": {"type": "text", "media_type": "text/plain", "data": ""}}, "retrieved_at": None}),
        (Hosted("code", "ci_1", "c", "{}", output="1"), "code_execution", "server_tool_use",
         {"type": "code_execution_result", "stdout": "1", "stderr": "", "return_code": 0, "content": []}),
        (Hosted("code", "ci_1", "c", "{}", output="1", failed=True), "code_execution", "server_tool_use",
         {"type": "code_execution_result", "stdout": "", "stderr": "1", "return_code": 1, "content": []}),
        (Hosted("mcp", "mcp_1", "ask", "{}", output="1"), "ask", "mcp_tool_use", [{"type": "text", "text": "1"}]),
        (Hosted("mcp", "mcp_1", "ask"), "ask", "mcp_tool_use", []),
    ],
)  # fmt: skip
def test_what_is_written_for_a_messages_caller(hosted: Hosted, name: str, kind: str, content: Any) -> None:
    call, came = json.loads(msgspec.json.encode(blocks.blocks_of(hosted)))
    assert (call["type"], call["name"], call["id"], call["input"]) == (
        kind,
        name,
        "srvtoolu_gw_" + hosted.id,
        {},
    )
    assert (came["tool_use_id"], came["content"]) == (call["id"], content)
    back = blocks.hosted_of(raw(call), raw(came))
    assert (back.kind, back.id, back.failed, back.raw) == (hosted.kind, hosted.id, hosted.failed, "")


def test_what_has_no_blocks_is_left_out() -> None:
    assert blocks.blocks_of(Hosted("other", "x", "advisor")) == []


def test_before_anthropic_results_of_others_are_text() -> None:
    ours = blocks.blocks_of(Hosted("search", "ws_1", "web_search", '{"query":"x"}', PAGES[:1]))
    checked = {"type": "web_search_result_location", "url": "u", "encrypted_index": "Eo"}
    unchecked = {**checked, "encrypted_index": ""}
    text = {"type": "text", "text": "hi"}
    rows = [
        {"role": "user", "content": "srvtoolu_gw_"},
        {
            "role": "assistant",
            "content": [*ours, CALL, result([]), {**text, "citations": [checked, unchecked]}],
        },
        {"role": "assistant", "content": [{**text, "citations": [unchecked]}, ours[0], text]},
        {"role": "assistant", "content": [ours[1]]},
    ]
    found = blocks.without_strange_results(msgspec.json.encode(rows))
    out = json.loads(found)
    said = '[used web_search with {"query":"x"}]'
    assert out[0] == rows[0]
    assert out[1]["content"] == [
        {"type": "text", "text": f"{said}\n[tool result: A\nhttps://a.example]"}, CALL, result([]),
        {**text, "citations": [checked]},
    ]  # fmt: skip
    assert out[2]["content"] == [text, text, {"type": "text", "text": said}]
    assert out[3]["content"][0]["text"].endswith("https://a.example]")
    odd = [
        {"role": "user", "content": [{**text, "more": {"encrypted_index": ""}}, {**text, "citations": None}]}
    ]
    assert json.loads(blocks.without_strange_results(msgspec.json.encode(odd))) == [
        {"role": "user", "content": [{**text, "more": {"encrypted_index": ""}}, {**text, "citations": None}]}
    ]


def test_citations_of_pages_alone_are_read() -> None:
    page = {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "c"}
    assert blocks.citation_of(raw(page)) == Citation("u", "t", "c")
    for other in ({"type": "char_location"}, {**page, "url": ""}, {**page, "url": 7}, 7):
        assert blocks.citation_of(raw(other)) is None


# ---- Responses


@pytest.mark.parametrize(
    ("item", "hosted"),
    [
        ({"type": "web_search_call", "id": "ws_1"}, Hosted("search", "ws_1", "web_search", '{"query":""}')),
        ({"type": "web_search_call", "id": "ws_1", "action": {"queries": ["a", "b"], "sources": [{}, {"url": "u"}]}},
         Hosted("search", "ws_1", "web_search", '{"query":"a, b"}', (Page("u"),))),
        ({"type": "web_search_call", "id": "ws_1", "status": "failed", "action": None},
         Hosted("search", "ws_1", "web_search", '{"query":""}', failed=True)),
        ({"type": "web_search_call", "action": {"url": "u", "pattern": "p"}},
         Hosted("fetch", "", "web_fetch", '{"url":"u","pattern":"p"}', (Page("u"),))),
        ({"type": "code_interpreter_call", "code": "1", "outputs": [{"logs": "a"}, {"url": "u"}, {}]},
         Hosted("code", "", "code_execution", '{"code":"1"}', (), "a\nu\n")),
        ({"type": "code_interpreter_call", "code": None, "outputs": None, "container_id": "c"},
         Hosted("code", "", "code_execution", '{"code":"","container_id":"c"}')),
        ({"type": "mcp_call", "name": "ask", "arguments": "{", "output": "o", "server_label": "w"},
         Hosted("mcp", "", "ask", "{}", (), "o", server="w")),
        ({"type": "mcp_call", "arguments": {}, "error": {"m": 1}}, Hosted("mcp", "", "", "{}", (), '{"m":1}', failed=True)),
        ({"type": "mcp_call", "arguments": '{"a":1}', "error": "no"}, Hosted("mcp", "", "", '{"a":1}', (), "no", failed=True)),
        ({"type": "image_generation_call"}, None),
        ({"type": "web_search_call", "action": 7}, None),
        ({"type": 7}, None),
    ],
)  # fmt: skip
def test_what_is_read_of_an_item(item: dict[str, Any], hosted: Hosted | None) -> None:
    assert items.hosted_in(raw(item)) == hosted


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws_1", "status": "completed",
         "action": {"type": "search", "query": "x", "sources": []}},
        {"type": "web_search_call", "id": "ws_1", "status": "failed", "action": {"type": "open_page", "url": "u"}},
        {"type": "web_search_call", "id": "ws_1", "status": "completed",
         "action": {"type": "find_in_page", "url": "u", "pattern": "p"}},
        {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "container_id": "c", "outputs": []},
        {"type": "mcp_call", "id": "mcp_1", "status": "completed", "server_label": "w", "name": "ask", "arguments": '{"a":1}',
         "output": "o", "error": None},
        {"type": "mcp_call", "id": "mcp_1", "status": "failed", "server_label": "w", "name": "ask", "arguments": "{}",
         "output": None, "error": "no"},
    ],
)  # fmt: skip
def test_items_come_back_as_they_were(item: dict[str, Any]) -> None:
    hosted = items.hosted_in(raw(item))
    assert hosted is not None
    assert items.is_from_here(hosted)
    assert items.item_of(hosted, hosted.id) == item
    kept = {name: value for name, value in item.items() if name != "id"}
    assert items.item_of(hosted, None) == kept
    assert items.kind_of(hosted) == item["type"]
    assert items.item_of(hosted, "a", "in_progress")["status"] == "in_progress"
    assert item["id"].startswith(items.prefix_of(item["type"]))


def test_what_no_upstream_of_the_format_did() -> None:
    assert not items.is_from_here(Hosted("search", "srvtoolu_1", "web_search"))
    assert not items.is_from_here(Hosted("other", "ws_1", "advisor"))
    odd = Hosted("code", "x", "bash", '{"command":"ls","code":7}')
    assert items.item_of(odd, None)["code"] == "ls"
    assert items.item_of(Hosted("code", "x", "bash", "[]", output="1"), None)["outputs"] == [
        {"type": "logs", "logs": "1"}
    ]
    assert items.hosted_of(items.HostedItem("web_search_call", action=UNSET)) is not None


def test_it_travels_sealed() -> None:
    hosted = Hosted("search", "s1", "web_search", "{}", PAGES, raw="[]")
    sealed = sealed_hosted(hosted)
    assert opened_hosted(sealed) == hosted
    assert opened("", sealed) is None
    for other in (None, "gAAA", "gwe1.!", sealed_redacted("x"), "gwe1.WyJob3N0ZWQiLCJ7Il0"):
        assert opened_hosted(other) is None


FORGED = [
    "[]",
    "garbage",
    "7",
    "[7,8]",
    "[" + ",".join(["[]"] * 300_000) + "]",
    json.dumps([CALL]),
    json.dumps([CALL, result([]), result([])]),
    json.dumps([result([]), CALL]),
    json.dumps([CALL, {"type": "text", "text": "x"}]),
    json.dumps([{"type": "tool_addition", "id": "s1"}, result([])]),
    json.dumps([CALL, result([], tool_use_id="other")]),
    json.dumps([CALL | {"id": None}, result([], tool_use_id=None)]),
    json.dumps([CALL, result(7)])[:-2] + "[" * 5000 + "]" * 5000 + "}]",
    json.dumps([CALL, result([[]] * 3000)]),
]


@pytest.mark.parametrize("raw", FORGED, ids=range(len(FORGED)))
def test_what_a_caller_has_written_in_place_of_a_seal_goes_out_as_text(raw: str) -> None:
    hosted = Hosted("search", "s1", "web_search", "{}", PAGES[:1], raw=raw)
    assert blocks.raw_blocks(hosted) == []
    assert MESSAGES.upstream is not None
    turns = (Turn("user", (Text("q"),)), Turn("assistant", (hosted,)), Turn("user", (Text("r"),)))
    body, _ = MESSAGES.upstream.encode_request(Request("m", turns), model="m", profile=Profile())
    assert json.loads(body)["messages"][1]["content"] == [{"type": "text", "text": told(hosted)}]


def test_a_seal_with_more_values_than_an_answer_has_is_none() -> None:
    pages = tuple([Page("u")] * 5000)
    assert opened_hosted(sealed_hosted(Hosted("search", "s1", "web_search", "{}", pages))) is not None
    many = base64.urlsafe_b64encode(msgspec.json.encode(["hosted", json.dumps([[]] * 5000)])).decode()
    assert opened_hosted(f"gwe1.{many}") is None


def test_an_answer_goes_back_as_it_was_whatever_stands_in_it() -> None:
    more = [
        {"url": f"https://a.example/{n}", "page_age": None, "encrypted_content": "z" * 99} for n in range(50)
    ]
    lines = {"type": "text_editor_code_execution_result", "lines": ["- a", "+ b c"] * 400, "n": 1e300}
    for content in (more, [lines], {"error_code": "x"}, "words"):
        pair = [CALL, result(content, new_field=[1, {"a": None}])]
        hosted = Hosted("search", "s1", "web_search", raw=msgspec.json.encode(pair).decode())
        assert json.loads(msgspec.json.encode(blocks.raw_blocks(hosted))) == pair


# ---- whose it is


def test_what_only_its_maker_can_read_goes_to_its_maker() -> None:
    mark, other = maker_mark("minimax"), maker_mark("zai")
    part = Hosted("search", "s1", "web_search", raw="[]")
    events: list[AnyEvent] = [HostedUsed(part), HostedUsed(Hosted("mcp", "m", "ask"))]
    (first, second) = marked_events(events, mark)
    assert isinstance(first, HostedUsed)
    assert first.part.raw == mark + "[]"
    assert second == events[1]

    def left(part: Hosted, mark: str, *, native: bool) -> str:
        request = own_again(Request("m", (Turn("assistant", (part,)),)), mark, native=native)
        (found,) = request.turns[0].parts
        assert isinstance(found, Hosted)
        return found.raw

    assert left(first.part, mark, native=False) == "[]"
    assert left(first.part, other, native=False) == ""
    assert left(first.part, other, native=True) == ""
    assert left(part, other, native=True) == "[]"
    assert left(part, other, native=False) == ""


# ---- in answers and requests


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(event) for event in events)


def used(body: bytes) -> list[Hosted]:
    assert MESSAGES.upstream is not None
    events = MESSAGES.upstream.decode_response(body, DEFAULT_PROFILE)
    return [event.part for event in events if isinstance(event, HostedUsed)]


def streamed(content: list[dict[str, Any]], *deltas: str) -> bytes:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "model": "x", "content": []}}
    ]
    for at, block in enumerate(content):
        events.append({"type": "content_block_start", "index": at, "content_block": block})
        if "input" in block:
            events += [
                {
                    "type": "content_block_delta",
                    "index": at,
                    "delta": {"type": "input_json_delta", "partial_json": piece},
                }
                for piece in deltas
            ]
        events.append({"type": "content_block_stop", "index": at})
    return sse(
        *events, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}
    )


@pytest.mark.parametrize("content", [[CALL, result([])], [CALL], [result([])], [result([]), CALL]])
def test_whole_and_streamed_are_the_same(content: list[dict[str, Any]]) -> None:
    whole = msgspec.json.encode({"id": "m", "model": "x", "content": content, "stop_reason": "end_turn"})
    assert used(whole) == used(streamed(content)) == used(streamed(content, '{"query":', '"x"}', ""))
    assert used(streamed(content, "{", "broken"))[0].id == "s1"
    no_text = streamed(content, '{"query":"x"}').replace(b'"name":', b'"\x80":1,"name":')
    assert [part.id for part in used(no_text)] == [part.id for part in used(whole)]
    assert len(used(whole)) == max(1, len(content) - (content[0] is CALL and len(content) == 2))


def test_a_history_before_responses_upstreams() -> None:
    assert RESPONSES.upstream is not None
    search = Hosted("search", "srvtoolu_1", "web_search", '{"query":"x"}', PAGES)
    own = Hosted("search", "ws_1", "web_search", '{"query":"x"}')
    turns = (
        Turn("user", (Text("q"),)),
        Turn("assistant", (search, Text("a", cites=(Citation("u", "t"),)), own, Text("b"))),
        Turn("user", (search, Text("c"))),
    )
    for profile, count in ((Profile(), 5), (Profile(web_search="mapped"), 6)):
        body, losses = RESPONSES.upstream.encode_request(Request("m", turns), model="m", profile=profile)
        given = json.loads(body)["input"]
        assert len(given) == count
        assert {loss.field for loss in losses} == {"messages.user.hosted"}
        said = next(item for item in given if item.get("role") == "assistant")["content"][0]
        (note,) = said["annotations"]
        assert said["text"][note["start_index"] : note["end_index"]] == "a"
    assert given[1] == {"type": "web_search_call", "status": "completed", "action": {
        "type": "search", "query": "x", "sources": [{"type": "url", "url": page.url} for page in PAGES],
    }}  # fmt: skip


def test_told_in_words() -> None:
    assert told(Hosted("search", "s", "web_search", "{}")) == "[used web_search with {}]"
    assert told(Hosted("code", "s", "run", "{}", failed=True)) == "[used run with {}]\n[tool error: ]"
    assert told(Hosted("search", "s", "find", "{}", PAGES, "and")) == (
        "[used find with {}]\n[tool result: A\nhttps://a.example\nread\nhttps://b.example\nand]"
    )


# ---- across the formats

OTHER_TOOL = Hosted("other", "a1", "advisor")
SEARCHED = Hosted(
    "search",
    "s1",
    "web_search",
    '{"query":"x"}',
    PAGES[:1],
    raw=msgspec.json.encode([CALL, result([])]).decode(),
)
SPOKEN = Turn("assistant", (SEARCHED, OTHER_TOOL, Text("a", cites=(Citation("u"),))))
USED = (Turn("user", (Text("q"),)), SPOKEN, Turn("user", (Text("r"),)))


def test_a_history_before_messages_and_chat_upstreams() -> None:
    assert MESSAGES.upstream is not None
    assert CHAT.upstream is not None
    body, _ = MESSAGES.upstream.encode_request(Request("m", USED), model="m", profile=Profile())
    content = json.loads(body)["messages"][1]["content"]
    assert content[:2] == [CALL, result([])]
    assert content[2] == {"type": "text", "text": "[used advisor with {}]"}
    hidden = Turn("assistant", (Thought(redacted=maker_mark("zai") + "x"), Text("a")))
    body, losses = MESSAGES.upstream.encode_request(
        Request("m", (*USED[:1], hidden, *USED[2:])), model="m", profile=Profile()
    )
    assert json.loads(body)["messages"][1]["content"] == [{"type": "text", "text": "a"}]
    assert [loss.field for loss in losses] == ["messages.redacted_thinking"]
    strange = Turn("user", (SEARCHED, Text("a")))
    body, losses = CHAT.upstream.encode_request(Request("m", (*USED, strange)), model="m", profile=Profile())
    said = json.loads(body)["messages"][1]["content"]
    assert said.startswith('[used web_search with {"query":"x"}]\n[tool result: A\nhttps://a.example\nread]')
    assert {loss.field for loss in losses} == {"messages.citations", "messages.user.hosted"}


def test_an_answer_before_every_caller() -> None:
    reply = Reply("r", "m", (SEARCHED, OTHER_TOOL, Text("a")), Usage(), "end_turn")
    assert fold(events_of(reply)).parts == reply.parts
    for dialect in (MESSAGES, RESPONSES, CHAT):
        assert dialect.caller is not None
        whole = json.loads(dialect.caller.encode_response(reply, model="m", reply_id="r", created=0))
        if dialect is MESSAGES:
            assert [block["type"] for block in whole["content"]] == [
                "server_tool_use",
                "web_search_tool_result",
                "text",
            ]
        elif dialect is RESPONSES:
            assert [item["type"] for item in whole["output"]] == ["reasoning", "web_search_call", "message"]
        else:
            assert whole["choices"][0]["message"]["content"] == "a"


def test_a_responses_history_with_what_its_maker_wants_back() -> None:
    assert RESPONSES.caller is not None
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": sealed_hosted(SEARCHED)}
    item = {"type": "web_search_call", "id": "ws_1", "action": {"query": "x"}}
    ran = {"type": "mcp_call", "id": "mcp_1", "name": "ask"}
    note = {"type": "url_citation", "url": "u", "title": "t"}
    parts = [{"type": "output_text", "text": text, "annotations": [note, 7]} for text in ("", "a")]
    said = {"type": "message", "role": "assistant", "content": parts}
    given = [{"role": "user", "content": "q"}, sealed, item, sealed, ran, item, said]
    request, losses = RESPONSES.caller.decode_request(msgspec.json.encode({"model": "m", "input": given}))
    found = Hosted("search", "ws_1", "web_search", '{"query":"x"}')
    asked = Hosted("mcp", "mcp_1", "ask")
    assert request.turns[1].parts == (
        SEARCHED,
        SEARCHED,
        asked,
        found,
        Text("a", cites=(Citation("u", "t"),)),
    )
    assert {loss.field for loss in losses} == {"input.mcp_call", "input.web_search_call"}


def test_what_we_wrote_is_text_before_anthropic_and_its_counter() -> None:
    ours = blocks.blocks_of(Hosted("search", "ws_1", "web_search", "{}"))
    rows = [{"role": "user", "content": "q"}, {"role": "assistant", "content": ours}]
    body = msgspec.json.encode({"model": "m", "messages": rows, "max_tokens": 9})
    native = Profile(native_anthropic=True)
    envelope = read_envelope(body, "messages")
    out = prepare(envelope, caller="messages", upstream="messages", model="m", profile=native)
    assert [f"{loss.field}={loss.outcome}" for loss in out.losses] == ["messages.server_tools=text"]
    wanted = [
        rows[0],
        {"role": "assistant", "content": [{"type": "text", "text": "[used web_search with {}]"}]},
    ]
    assert json.loads(out.body)["messages"] == wanted
    assert MESSAGES.upstream is not None
    assert MESSAGES.upstream.counter is not None
    counted = MESSAGES.upstream.counter.readable(envelope, native, "anthropic")
    assert json.loads(counted["messages"]) == wanted


def test_results_that_cannot_be_read_go_with_their_citations() -> None:
    cited = {"type": "text", "text": "a", "citations": [{"encrypted_index": "Eo"}]}
    said = {"role": "assistant", "content": [CALL, result([{"encrypted_content": "zz"}]), cited]}
    rows: list[Any] = [
        {"role": "user", "content": "q"},
        said,
        {"role": "user", "content": [{"type": "text", "text": "r"}]},
    ]
    refusal = "Invalid `encrypted_content` in `search_result` block"
    found = without_reasoning(msgspec.json.encode({"messages": rows}), refusal)
    assert found is not None
    kept = {"role": "assistant", "content": [{"type": "text", "text": "a"}]}
    assert json.loads(found.body)["messages"] == [rows[0], kept, rows[2]]
    assert without_reasoning(msgspec.json.encode({"messages": rows[:1]}), refusal) is None
