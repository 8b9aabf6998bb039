"""The request bodies that are sent: a short question (1.5 KB) and a long agent conversation (107 KB), in each dialect."""

import json
from typing import Literal

Dialect = Literal["chat", "messages", "responses"]
Size = Literal["small", "large"]
Json = dict[str, object]

_SYSTEM = (
    "You are a careful coding assistant in a user's repository. Follow the instructions, prefer small changes, say in one "
    "paragraph what you did, and never invent the name of a file. Where a tool can answer a question, use the tool. "
)
_CODE = (
    "def handle(request):\n    value = request.get(\"name\", '')\n    if not value:\n"
    "        raise ValueError(\"name is \\\"missing\\\"\")\n    return {'ok': True, 'value': value.strip()}  # naïve ✓\n"
)
_LARGE_TOOLS = 24
_LARGE_CONVERSATION = 72_800  # characters of JSON; with the tools and the system text it makes 107 KB


def _schema(*, large: bool) -> Json:
    properties: Json = {
        "path": {"type": "string", "description": "Path of the file, relative to the repository's root"},
        "pattern": {"type": "string", "description": "A regular expression to look for"},
    }
    for option in range(6 if large else 0):
        properties[f"option_{option}"] = {
            "type": "string",
            "enum": ["auto", "never", "always"],
            "description": f"Option {option}: what the tool does with a file that is larger than the limit, and with links",
        }
    return {"type": "object", "properties": properties, "required": ["path"], "additionalProperties": False}


def _tool(dialect: Dialect, number: int, *, large: bool) -> Json:
    name = f"tool_{number}"
    description = "Search the repository for a pattern and return the lines that match, with their numbers."
    if dialect == "messages":
        return {"name": name, "description": description, "input_schema": _schema(large=large)}
    function = {"name": name, "description": description, "parameters": _schema(large=large)}
    if dialect == "responses":
        return {"type": "function", **function}
    return {"type": "function", "function": function}


def _round(dialect: Dialect, number: int) -> list[Json]:
    """One question of a long conversation: asked, a tool called, its result, the answer."""
    arguments = {"path": f"src/file_{number}.py", "pattern": "def .*"}
    result = _CODE * 8
    asked: Json = {"role": "user", "content": f"Question {number}: what does this file do?\n" + _CODE * 3}
    answered: Json = {"role": "assistant", "content": "It handles a request and returns the value. " * 4}
    if dialect == "messages":
        name = f"toolu_{number:08d}"
        use: Json = {"type": "tool_use", "id": name, "name": "tool_1", "input": arguments}
        back: Json = {"type": "tool_result", "tool_use_id": name, "content": result}
        return [asked, {"role": "assistant", "content": [use]}, {"role": "user", "content": [back]}, answered]
    name = f"call_{number:08d}"
    if dialect == "responses":
        called = {"call_id": name, "name": "tool_1", "arguments": json.dumps(arguments)}
        return [
            asked,
            {"type": "function_call", **called},
            {"type": "function_call_output", "call_id": name, "output": result},
            answered,
        ]
    call: Json = {
        "id": name,
        "type": "function",
        "function": {"name": "tool_1", "arguments": json.dumps(arguments)},
    }
    return [
        asked,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "content": result},
        answered,
    ]


def body(dialect: Dialect, size: Size, model: str, *, stream: bool) -> bytes:
    """The JSON of one request, compact and in UTF-8, the same bytes each time."""
    large = size == "large"
    conversation: list[Json] = []
    number = 0
    while large and len(json.dumps(conversation)) < _LARGE_CONVERSATION:
        conversation += _round(dialect, number)
        number += 1
    question = "Please look at the function below and say in two sentences what it does.\n" + _CODE
    conversation.append({"role": "user", "content": question})
    system = _SYSTEM * (8 if large else 1)
    request: Json = {"model": model}
    if dialect == "chat":
        request["messages"] = [{"role": "system", "content": system}, *conversation]
    elif dialect == "messages":
        request |= {"system": system, "messages": conversation}
    else:
        request |= {"instructions": system, "input": conversation, "store": False}
    request |= {"max_output_tokens" if dialect == "responses" else "max_tokens": 1024, "temperature": 0.2}
    request["tools"] = [_tool(dialect, i, large=large) for i in range(_LARGE_TOOLS if large else 2)]
    if stream:
        request["stream"] = True
        if dialect == "chat":
            request["stream_options"] = {"include_usage": True}
    return json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode()
