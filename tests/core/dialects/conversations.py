"""Generated conversations of each dialect: requests that grow, are sent again, lose their end, and change."""

import json
from typing import Any

from hypothesis import strategies as st

from penstock.core.dialects.registry import caller_side
from penstock.core.neutral.request import Hosted
from penstock.core.reasoning.encrypted_reasoning import sealed_hosted

Json = dict[str, Any]

words = st.sampled_from(
    ["a", "bc", "naïve ✓", "", "  ", "x ", '{\\"q', "[tool_error]\nbad", "x-anthropic-billing-header: 1"]
)
ids = st.sampled_from(["call_0", "call_1", "functions.f:0", "gwi_Zg", "i" * 70])
names = st.sampled_from(["f", "g", "mcp.server/tool", "n" * 70])
marks = st.sampled_from(
    [
        {},
        {},
        {},
        {"cache_control": {"type": "ephemeral"}},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
)
extras = st.sampled_from([{}, {}, {}, {"new": 1}, {"name": "n"}, {"other": None, "zz": 2}])
image_url = {"url": "data:image/png;base64,AA==", "detail": "low"}
DOCUMENT = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "d"},
    "title": "T",
    "context": "c",
}
PDF = {"type": "file", "file": {"file_data": "JVBERi0=", "filename": "a.pdf"}}


@st.composite
def chat_messages(draw: st.DrawFn) -> Json:
    role = draw(
        st.sampled_from(
            [
                "user",
                "user",
                "assistant",
                "assistant",
                "assistant",
                "tool",
                "tool",
                "system",
                "developer",
                "function",
            ]
        )
    )
    more = {**draw(marks), **draw(extras)}
    text = draw(words)
    parts = [{"type": "text", "text": text or "t", **draw(marks)}]
    match role:
        case "user":
            kind = draw(st.integers(0, 5))
            if kind == 0:
                parts.append({"type": "image_url", "image_url": image_url})
            elif kind == 1:
                parts.append(PDF)
            elif kind == 2:
                parts.append({"type": "text", "text": "m", "prompt_cache_breakpoint": {"mode": "explicit"}})
            content: object = parts if kind < 4 else text
        case "assistant":
            content = draw(st.sampled_from([None, text, parts]))
            if content is None or draw(st.booleans()):
                calls = [
                    {
                        "id": draw(ids),
                        "type": "function",
                        "function": {
                            "name": draw(names),
                            "arguments": draw(st.sampled_from(["{}", '{"x": 1.0}', "", "{bro"])),
                        },
                    }
                    for _ in range(draw(st.integers(1, 3)))
                ]
                more = {**more, "tool_calls": calls}
            more |= draw(
                st.sampled_from(
                    [
                        {},
                        {},
                        {"reasoning_content": "hm"},
                        {"refusal": "no"},
                        {"thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]},
                        {"function_call": {"name": "f", "arguments": "{}"}},
                        {
                            "tool_calls": [
                                {"id": "c", "type": "custom", "custom": {"name": "f", "input": "i"}}
                            ]
                        },
                    ]
                )
            )
            content = (
                ""
                if content is None and "tool_calls" not in more and "function_call" not in more
                else content
            )
        case "tool":
            content = draw(st.sampled_from([text, parts, [{"type": "image_url", "image_url": image_url}]]))
            more = {**more, "tool_call_id": draw(ids)}
        case "function":
            content = text
            more = {**more, "name": "f"}
        case _:
            content = draw(st.sampled_from([text, parts]))
    if draw(st.integers(0, 60)) == 0:
        content = [{"type": "input_audio", "input_audio": {}}]
    return {"role": role, "content": content, **more}


@st.composite
def messages_messages(draw: st.DrawFn) -> Json:
    role = draw(st.sampled_from(["user", "user", "assistant", "assistant", "system"]))
    more = draw(st.sampled_from([{}, {}, {}, {"output_config": {}}, {"clear_at": 1}, {"new": 1}]))
    if draw(st.integers(0, 3)) == 0:
        return {"role": role, "content": draw(words), **more}
    blocks: list[Json] = []
    for _ in range(draw(st.integers(0, 3))):
        text: Json = {"type": "text", "text": draw(words), **draw(marks)}
        if role == "system":
            blocks.append(text)
        elif role == "user":
            inner = draw(
                st.sampled_from(
                    [
                        "r",
                        [text],
                        [
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                            }
                        ],
                        None,
                    ]
                )
            )
            blocks.append(
                draw(
                    st.sampled_from(
                        [
                            text,
                            text,
                            {
                                "type": "tool_result",
                                "tool_use_id": draw(ids),
                                "content": inner,
                                "is_error": draw(st.booleans()),
                                **draw(marks),
                            },
                            {"type": "image", "source": {"type": "url", "url": "https://e/x.png"}},
                            {
                                "type": "document",
                                "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                                "title": "T",
                                "context": "c",
                            },
                            {
                                "type": "search_result",
                                "source": "s",
                                "title": "t",
                                "content": [{"type": "text", "text": "x"}],
                            },
                            {"type": "web_search_tool_result", "content": []},
                        ]
                    )
                )
            )
        else:
            blocks.append(
                draw(
                    st.sampled_from(
                        [
                            text,
                            text,
                            {
                                "type": "tool_use",
                                "id": draw(ids),
                                "name": draw(names),
                                "input": {"x": [1.0]},
                                **draw(marks),
                            },
                            {"type": "tool_use", "id": draw(ids), "name": draw(names), "input": {}},
                            {"type": "thinking", "thinking": "t", "signature": "sig"},
                            {"type": "redacted_thinking", "data": "opaque"},
                            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                        ]
                    )
                )
            )
    if draw(st.integers(0, 60)) == 0:
        blocks.append({"type": "container_upload"})
    return {"role": role, "content": blocks, **more}


SERVED = Hosted("search", "ws_1", "web_search", '{"query":"q"}')
RARE_ITEMS: list[Json] = [
    {"type": "additional_tools", "tools": [{"type": "function", "name": "g"}]},
    {"type": "additional_tools", "tools": [{"type": "custom", "name": "f"}, {"type": "local_shell"}]},
    {"type": "tool_search_output", "call_id": "call_0", "tools": [{"type": "function", "name": "mcp__f"}]},
    {"type": "tool_search_output", "tools": [{"type": "namespace", "name": "mcp", "tools": [{"name": "f"}]}]},
    {"type": "configuration_update", "reasoning": {"effort": "low", "mode": "x"}},
    {"type": "configuration_update", "text": {"format": {"type": "json_object"}}},
    {"type": "compaction_trigger"},
    {"type": "compaction", "encrypted_content": "unknown"},
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    },
    {"type": "reasoning", "summary": [], "encrypted_content": sealed_hosted(SERVED)},
    {"type": "mcp_list_tools", "server_label": "s"},
    {"type": "local_shell_call", "call_id": "call_1", "action": {"type": "exec", "command": ["ls"]}},
    {"type": "local_shell_call_output", "call_id": "call_1", "output": "a"},
    {"type": "custom_tool_call", "call_id": "call_0", "name": "f", "input": "i"},
    {"type": "function_call", "call_id": "call_0", "name": "f", "namespace": "mcp", "arguments": ""},
    {"type": "function_call", "call_id": "call_1", "name": "mcp__f", "arguments": "{}"},
    {"type": "novel", "text": "t"},
]
"""Items that change what others mean, or are of tools that are none of the caller's functions."""


@st.composite
def response_items(draw: st.DrawFn) -> Json:
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return {"type": "function_call", "call_id": draw(ids), "name": draw(names), "arguments": "{}"}
    if kind == 1:
        return {"type": "function_call_output", "call_id": draw(ids), "output": draw(words)}
    if kind == 2:
        return {"type": "reasoning", "summary": [{"type": "summary_text", "text": draw(words)}]}
    if kind == 3:
        return draw(st.sampled_from(RARE_ITEMS))
    more = draw(st.sampled_from([{}, {}, {"phase": "final_answer"}, {"new": 1}]))
    role = draw(st.sampled_from(["user", "assistant", "developer"]))
    return {"role": role, "content": draw(words), **more}


schema = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


EXAMPLES = {"name": "e", "input_schema": schema, "input_examples": [{}], "defer_loading": True}
SCHEMA_FORMAT = {"type": "json_schema", "json_schema": {"name": "o", "schema": schema}}


@st.composite
def fields_of(draw: st.DrawFn, caller: str) -> Json:
    """What a request says besides its turns."""
    fields: Json = {"model": "m", "stream": draw(st.booleans())}
    offered = draw(st.lists(names, max_size=3, unique=True))
    mark, strict = draw(marks), draw(st.sampled_from([{}, {"strict": True}]))
    if caller == "messages":
        fields["max_tokens"] = draw(st.sampled_from([100, 30_000]))
        tools: list[Json] = [{"name": name, "input_schema": schema, **mark, **strict} for name in offered]
        tools += draw(
            st.sampled_from(
                [
                    [],
                    [],
                    [{"type": "bash_20250124", "name": "bash"}],
                    [EXAMPLES],
                ]
            )
        )
        fields |= draw(
            st.sampled_from([{}, {"system": "S"}, {"system": [{"type": "text", "text": "S", **mark}]}])
        )
        fields |= draw(st.sampled_from([{}, {}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}]))
        fields |= draw(
            st.sampled_from(
                [{}, {}, {"output_config": {"format": {"type": "json_schema", "schema": schema}}}]
            )
        )
        fields |= draw(
            st.sampled_from([{}, {}, {"cache_control": {"type": "ephemeral"}}, {"top_k": 3, "zz": 1}])
        )
    elif caller == "chat":
        tools = [
            {"type": "function", "function": {"name": name, "parameters": schema, **strict}, **mark}
            for name in offered
        ]
        tools += draw(st.sampled_from([[], [], [{"type": "custom", "custom": {"name": "free"}}]]))
        fields |= draw(st.sampled_from([{}, {}, {"functions": [{"name": "old", "parameters": schema}]}]))
        fields |= draw(st.sampled_from([{}, {}, {"reasoning_effort": "high"}, {"seed": 1, "zz": 1}]))
        fields |= draw(
            st.sampled_from(
                [
                    {},
                    {},
                    {"response_format": {"type": "json_object"}},
                    {
                        "response_format": {
                            "type": "json_schema",
                            "json_schema": {"name": "o", "schema": schema},
                        }
                    },
                ]
            )
        )
        fields |= draw(
            st.sampled_from([{}, {}, {"tool_choice": "required"}, {"temperature": 1.5}, {"max_tokens": 9}])
        )
    else:
        fields["store"] = False
        tools = [{"type": "function", "name": name, "parameters": schema} for name in offered]
        tools += draw(st.sampled_from([[], [], [{"type": "custom", "name": "f"}, {"type": "web_search"}]]))
        fields |= draw(
            st.sampled_from([{}, {"instructions": "S"}, {"reasoning": {"effort": "high"}, "zz": 1}])
        )
        fields |= draw(st.sampled_from([{}, {}, {"tool_choice": "required"}, {"include": ["other"]}]))
    if tools or draw(st.booleans()):
        fields["tools"] = tools
    return fields


ROWS = {"chat": chat_messages(), "messages": messages_messages(), "responses": response_items()}
FORMS: list[dict[str, Any]] = [{"separators": (",", ":"), "ensure_ascii": False}, {}, {"indent": 1}]


@st.composite
def histories(draw: st.DrawFn, caller: str) -> list[bytes]:
    """The requests of a conversation: it grows, is sent again, loses its end, and now and then an earlier turn changes."""
    field = caller_side(caller).body.turns
    rows = draw(st.lists(ROWS[caller], min_size=1, max_size=4))
    fields, form = draw(fields_of(caller)), draw(st.sampled_from(FORMS))
    sent: list[bytes] = []
    for _ in range(draw(st.integers(2, 6))):
        turns = [*rows]
        if draw(st.integers(0, 3)) == 0:
            fields = draw(fields_of(caller))
        # the order of members is the caller's
        first = draw(st.booleans())
        request = {field: turns, **fields} if first else {**fields, field: turns}
        sent.append(json.dumps(request, **form).encode())
        what = draw(st.integers(0, 7))
        if what == 0 and len(rows) > 1:
            rows = rows[: draw(st.integers(1, len(rows) - 1))]
        elif what == 1:
            at = draw(st.integers(0, len(rows) - 1))
            rows = [*rows[:at], draw(ROWS[caller]), *rows[at + 1 :]]
        elif what > 1:
            rows = [*rows, *draw(st.lists(ROWS[caller], min_size=1, max_size=3))]
    return sent
