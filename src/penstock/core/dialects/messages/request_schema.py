"""Schema of a Messages request, as the API defines it: ``decode_request`` decodes into it.

Structures follow the API's own definitions; a field that is not listed in one is ignored, because callers send new ones
every month.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.neutral.request import Effort

CALL_ID_LIMIT = 128
"""The longest id of a tool call that clients of the dialect, or its API, take."""


class Cache(msgspec.Struct):
    ttl: str | None = None


class Block(msgspec.Struct, tag_field="type"):
    cache_control: Cache | None = None


class Text(Block, tag="text", kw_only=True):
    text: str
    citations: list[Raw] | None = None


class Base64(msgspec.Struct, tag_field="type", tag="base64"):
    media_type: str
    data: str


class Url(msgspec.Struct, tag_field="type", tag="url"):
    url: str


class File(msgspec.Struct, tag_field="type", tag="file"):
    file_id: str


class Plain(msgspec.Struct, tag_field="type", tag="text"):
    data: str


class Image(Block, tag="image", kw_only=True):
    source: Base64 | Url | File


class Flat(msgspec.Struct, tag_field="type", tag="content"):
    content: str | list[Text | Image]


class Document(Block, tag="document", kw_only=True):
    source: Base64 | Url | File | Plain | Flat
    title: str | None = None
    context: str | None = None
    citations: Raw | UnsetType = UNSET


class SearchResult(Block, tag="search_result", kw_only=True):
    source: str
    title: str
    content: list[Text]


class Thinking(Block, tag="thinking", kw_only=True):
    thinking: str
    signature: str | None = None


class Redacted(Block, tag="redacted_thinking", kw_only=True):
    data: str


class ToolUse(Block, tag="tool_use", kw_only=True):
    id: str
    name: str
    input: Raw


class ToolReference(Block, tag="tool_reference", kw_only=True):
    tool_name: str


class BrowserState(Block, tag="browser_state", kw_only=True):
    content: Raw | UnsetType = UNSET


class ToolResult(Block, tag="tool_result", kw_only=True):
    tool_use_id: str
    content: str | list[Text | Image | Document | SearchResult | ToolReference | BrowserState] | None = None
    is_error: bool | None = None


class ServerToolUse(Block, tag="server_tool_use", kw_only=True):
    id: str = ""
    name: str
    input: Raw


class McpToolUse(Block, tag="mcp_tool_use", kw_only=True):
    id: str = ""
    server_name: str = ""
    name: str
    input: Raw


class Served(Block, kw_only=True):
    tool_use_id: str = ""
    is_error: bool | None = None
    content: Raw | UnsetType = UNSET


class WebSearchResult(Served, tag="web_search_tool_result"): ...


class WebFetchResult(Served, tag="web_fetch_tool_result"): ...


class CodeResult(Served, tag="code_execution_tool_result"): ...


class BashResult(Served, tag="bash_code_execution_tool_result"): ...


class EditorResult(Served, tag="text_editor_code_execution_tool_result"): ...


class ToolSearchResult(Served, tag="tool_search_tool_result"): ...


class McpResult(Served, tag="mcp_tool_result"): ...


class McpListing(Served, tag="mcp_tool_listing"): ...


class AdvisorResult(Served, tag="advisor_tool_result"): ...


class Compaction(Block, tag="compaction", kw_only=True):
    content: str | None = None


class Fallback(Block, tag="fallback"): ...


class ToolAddition(Block, tag="tool_addition"): ...


class ToolRemoval(Block, tag="tool_removal"): ...


class Upload(Block, tag="container_upload"): ...


AnyServed = (
    WebSearchResult
    | WebFetchResult
    | CodeResult
    | BashResult
    | EditorResult
    | ToolSearchResult
    | McpResult
    | McpListing
    | AdvisorResult
)
AnyBlock = (
    Text
    | Image
    | Document
    | SearchResult
    | Thinking
    | Redacted
    | ToolUse
    | ToolResult
    | ServerToolUse
    | McpToolUse
    | AnyServed
    | Compaction
    | Fallback
    | ToolAddition
    | ToolRemoval
    | Upload
)


class Message(msgspec.Struct):
    role: str
    content: str | list[AnyBlock]
    output_config: Raw | UnsetType = UNSET
    clear_at: Raw | UnsetType = UNSET


class Tool(msgspec.Struct):
    """A tool; some of the provider's own have no name."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Raw | UnsetType = UNSET
    strict: bool | None = None
    cache_control: Cache | None = None
    input_examples: list[Raw] | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    eager_input_streaming: bool | None = None


class ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(msgspec.Struct):
    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | None = None
    display: str | None = None


class Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: Raw


class OutputConfig(msgspec.Struct):
    effort: Effort | None = None
    format: Format | None = None
    task_budget: Raw | UnsetType = UNSET


class Metadata(msgspec.Struct):
    user_id: str | None = None


class Body(msgspec.Struct):
    model: str
    messages: list[Message]
    max_tokens: int | None = None
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    cache_control: Cache | None = None


# The public input schemas of the typed client tools, in words of our own.
TYPED_TOOLS: dict[str, tuple[str, bytes]] = {
    "bash_": (
        "Run a command in a persistent shell session and return its output.",
        (
            b'{"type":"object","properties":{"command":{"type":"string","description":"The command to run"},'
            b'"restart":{"type":"boolean","description":"Start the shell anew instead of running a command"}}}'
        ),
    ),
    "text_editor_": (
        "View, create and edit text files.",
        (
            b'{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert"]},'
            b'"path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},'
            b'"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},'
            b'"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command","path"]}'
        ),
    ),
    "memory_": (
        "Keep notes in files below /memories that outlast the conversation.",
        (
            b'{"type":"object","properties":{"command":{"type":"string",'
            b'"enum":["view","create","str_replace","insert","delete","rename"]},"path":{"type":"string"},'
            b'"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},'
            b'"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"old_path":{"type":"string"},'
            b'"new_path":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},'
            b'"required":["command"]}'
        ),
    ),
}
