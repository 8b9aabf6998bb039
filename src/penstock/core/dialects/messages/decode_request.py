"""Decodes a Messages request into the neutral form, and says what that form could not carry.

Unknown fields are ignored inside the body's objects and reported by name at its top level.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, assert_never

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.messages import request_schema as wire
from penstock.core.neutral.request import (
    MOST_LOSSES,
    AnyPart,
    CacheTtl,
    Document,
    Image,
    Loss,
    OutputFormat,
    Request,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from penstock.core.reasoning.redact import unhidden
from penstock.errors import InvalidRequest

_body = msgspec.json.Decoder(wire.Body).decode
_messages = msgspec.json.Decoder(list[wire.Message]).decode
_top_level = msgspec.json.Decoder(dict[str, Raw]).decode
_KNOWN = frozenset(wire.Body.__struct_fields__)
_REFUSED = ("container", "mcp_servers")
"""Top-level fields whose loss would change what the caller gets."""


def decode_request(body: bytes) -> tuple[Request, list[Loss]]:
    """The neutral request of a Messages body, and what of the body it does not hold.

    Raises ``InvalidRequest`` with ``param`` naming the field.
    """
    try:
        return RequestReader().request(_body(body), _top_level(body))
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON.") from error


def _ttl(cache: wire.Cache | None) -> CacheTtl | None:
    if cache is None:
        return None
    return "1h" if cache.ttl == "1h" else "5m"


class RequestReader:
    """One request being read; collects losses, each once and in order."""

    __slots__ = ("losses",)

    def __init__(self) -> None:
        self.losses: dict[Loss, None] = {}

    def lose(self, field: str, outcome: str = "dropped") -> None:
        if len(self.losses) < MOST_LOSSES:
            self.losses[Loss(field, outcome)] = None

    def request(self, sent: wire.Body, names: dict[str, Raw]) -> tuple[Request, list[Loss]]:
        for name, raw in names.items():
            if name not in _KNOWN and bytes(raw) not in (b"null", b"[]", b"{}"):
                if name in _REFUSED:
                    raise InvalidRequest(f"{name} is not available with this model.", param=name)
                self.lose(name)
        turns: list[Turn] = []
        if sent.system:
            turns.append(Turn("system", self.system(sent.system)))
        turns.extend(self.turns(sent.messages))
        if sent.cache_control is not None:
            turns = _marked(turns, _ttl(sent.cache_control))
        output = sent.output_config or wire.OutputConfig()
        if output.task_budget is not UNSET:
            self.lose("output_config.task_budget")
        choice = sent.tool_choice
        if choice is not None and choice.type == "tool" and not choice.name:
            raise InvalidRequest(
                "tool_choice.name is required for a choice of type tool.", param="tool_choice.name"
            )
        tools, searches = self.tools(sent.tools or [])
        request = Request(
            model=sent.model,
            turns=tuple(turns),
            tools=tools,
            web_search=searches,
            tool_choice=ToolChoice(choice.type, choice.name) if choice else None,
            parallel_tools=False if choice and choice.disable_parallel_tool_use else None,
            max_tokens=sent.max_tokens,
            temperature=sent.temperature,
            top_p=sent.top_p,
            top_k=sent.top_k,
            stop=tuple(sent.stop_sequences or ()),
            stream=bool(sent.stream),
            effort=output.effort,
            thinking=self.thinking(sent.thinking),
            output=OutputFormat(schema=output.format.schema.copy()) if output.format else None,
            user=sent.metadata.user_id if sent.metadata else None,
        )
        return request, list(self.losses)

    def system(self, system: str | list[wire.Text]) -> tuple[AnyPart, ...]:
        if isinstance(system, str):
            return (Text(system),)
        return tuple(self.text(block) for block in system)

    def thinking(self, config: wire.ThinkingConfig | None) -> Thinking | None:
        if config is None:
            return None
        shown: bool | None = None
        if config.display == "summarized":
            shown = True
        elif config.display == "omitted":
            shown = False
        elif config.display is not None:
            self.lose("thinking.display")
        mode = config.type
        if mode == "between_tools":
            self.lose("thinking.type", "adaptive")
            mode = "adaptive"
        return Thinking(mode, config.budget_tokens, shown)

    def turns(self, messages: list[wire.Message]) -> Iterable[Turn]:
        return [self.turn(message, f"messages[{at}]") for at, message in enumerate(messages)]

    def tools(self, offered: list[wire.Tool]) -> tuple[tuple[Tool, ...], bool]:
        """The tools, and whether the provider's own search is among them."""
        tools = tuple(
            self.tool(tool, f"tools[{at}]") for at, tool in enumerate(offered) if not _is_search(tool)
        )
        return tools, any(map(_is_search, offered))

    def tool(self, tool: wire.Tool, name: str) -> Tool:
        if tool.type is not None and tool.type != "custom":
            for prefix, (description, schema) in wire.TYPED_TOOLS.items():
                if tool.type.startswith(prefix):
                    self.lose("tools.type", "synthesized")
                    return Tool(
                        tool.name,
                        Raw(schema),
                        tool.description or description,
                        None,
                        _ttl(tool.cache_control),
                    )
            raise InvalidRequest(
                f"{name}: tools of type {tool.type!r} are not available with this model.", param=name
            )
        if tool.input_schema is UNSET:
            raise InvalidRequest(f"{name}.input_schema is required.", param=f"{name}.input_schema")
        schema = tool.input_schema.copy()
        if not bytes(schema).startswith(b"{"):
            raise InvalidRequest(f"{name}.input_schema must be an object.", param=f"{name}.input_schema")
        description = tool.description
        if tool.input_examples:
            self.lose("tools.input_examples", "described")
            examples = "\n".join(bytes(example).decode() for example in tool.input_examples)
            description = f"{description or ''}\n\nExamples of input:\n{examples}".strip()
        if tool.defer_loading:
            self.lose("tools.defer_loading", "loaded")
        if tool.allowed_callers is not None:
            self.lose("tools.allowed_callers")
        if tool.eager_input_streaming is not None:
            self.lose("tools.eager_input_streaming")
        return Tool(tool.name, schema, description, tool.strict, _ttl(tool.cache_control))

    def turn(self, message: wire.Message, name: str) -> Turn:
        role = message.role
        if role not in ("user", "assistant", "system"):
            raise InvalidRequest(f"{name}.role must be user, assistant or system.", param=f"{name}.role")
        if message.output_config is not UNSET:
            self.lose("messages.output_config")
        if message.clear_at is not UNSET:
            self.lose("messages.clear_at")
        content = message.content
        if isinstance(content, str):
            return Turn(role, (Text(content),))
        parts: list[AnyPart] = []
        for at, block in enumerate(content):
            found = self.block(block, role, f"{name}.content[{at}]")
            parts.extend(found)
        return Turn(role, tuple(parts))

    def block(  # noqa: PLR0911 - a table
        self, block: wire.AnyBlock, role: Literal["user", "assistant", "system"], name: str
    ) -> list[AnyPart]:
        match block:
            case wire.Text():
                return [self.text(block)]
            case wire.ToolAddition() | wire.ToolRemoval():
                added = isinstance(block, wire.ToolAddition)
                self.lose("messages.tool_addition" if added else "messages.tool_removal")
                return []
            case wire.Fallback():
                self.lose("messages.fallback")
                return []
            case wire.Upload():
                raise InvalidRequest(
                    f"{name}: container uploads are not available with this model.", param=name
                )
            case _ if role == "system":
                raise InvalidRequest(f"{name}: a system message holds text only.", param=name)
            case wire.ToolUse():
                return [self.call(block, role, name)]
            case wire.ToolResult():
                return [self.result(block, role, name)]
            case wire.Thinking() | wire.Redacted():
                return [self.thought(block, role, name)]
            case wire.Image():
                return [self.image(block, name)]
            case wire.Document():
                return [*self.document(block, name)]
            case wire.SearchResult():
                return [self.search_result(block)]
            case wire.ServerToolUse() | wire.McpToolUse():
                self.lose("messages.server_tools", "text")
                return [Text(f"[used {block.name} with {bytes(block.input).decode()}]")]
            case wire.Compaction():
                self.lose("messages.compaction", "text")
                return [Text(block.content)] if block.content else []
            case _:
                self.lose("messages.server_tools", "text")
                text = "" if block.content is UNSET else bytes(block.content).decode()
                return [Text(f"[tool result: {text}]")]

    def text(self, block: wire.Text) -> Text:
        if block.citations:
            self.lose("messages.citations")
        return Text(block.text, _ttl(block.cache_control))

    def call(self, block: wire.ToolUse, role: str, name: str) -> ToolCall:
        if role != "assistant":
            raise InvalidRequest(f"{name}: tool_use belongs in an assistant message.", param=name)
        arguments = bytes(block.input)
        if not arguments.startswith(b"{"):
            raise InvalidRequest(f"{name}.input must be an object.", param=f"{name}.input")
        return ToolCall(block.id, block.name, arguments.decode(), _ttl(block.cache_control))

    def result(self, block: wire.ToolResult, role: str, name: str) -> ToolResult:
        if role != "user":
            raise InvalidRequest(f"{name}: tool_result belongs in a user message.", param=name)
        parts: list[Text | Image | Document] = []
        content = block.content
        if isinstance(content, str):
            parts.append(Text(content))
        elif content is not None:
            for at, inner in enumerate(content):
                match inner:
                    case wire.Text():
                        parts.append(self.text(inner))
                    case wire.Image():
                        parts.append(self.image(inner, f"{name}.content[{at}]"))
                    case wire.Document():
                        parts.extend(self.document(inner, f"{name}.content[{at}]"))
                    case wire.SearchResult():
                        parts.append(self.search_result(inner))
                    case wire.ToolReference():
                        self.lose("messages.tool_reference", "text")
                        parts.append(Text(f"[tool: {inner.tool_name}]"))
                    case wire.BrowserState():
                        self.lose("messages.browser_state", "text")
                        state = "" if inner.content is UNSET else bytes(inner.content).decode()
                        parts.append(Text(f"[browser state: {state}]"))
                    case _:
                        assert_never(inner)
        return ToolResult(block.tool_use_id, tuple(parts), bool(block.is_error), _ttl(block.cache_control))

    def thought(self, block: wire.Thinking | wire.Redacted, role: str, name: str) -> Thought:
        if role != "assistant":
            raise InvalidRequest(f"{name}: thinking belongs in an assistant message.", param=name)
        if isinstance(block, wire.Redacted):
            return Thought(redacted=block.data)
        return unhidden(Thought(block.thinking, block.signature or None))

    def image(self, block: wire.Image, name: str) -> Image:
        cache = _ttl(block.cache_control)
        match block.source:
            case wire.Base64(media_type, data):
                return Image(media_type=media_type, data=data, cache=cache)
            case wire.Url(url):
                return Image(url=url, cache=cache)
            case wire.File():
                raise _no_files(name)
            case _:
                assert_never(block.source)

    def document(self, block: wire.Document, name: str) -> list[Text | Image | Document]:
        if block.context:
            self.lose("messages.document.context")
        if block.citations is not UNSET and bytes(block.citations) not in (b"null", b'{"enabled":false}'):
            self.lose("messages.document.citations")
        cache = _ttl(block.cache_control)
        match block.source:
            case wire.Base64(media_type, data):
                return [Document(media_type=media_type, data=data, title=block.title, cache=cache)]
            case wire.Url(url):
                return [Document(url=url, title=block.title, cache=cache)]
            case wire.Plain(data):
                return [Document(media_type="text/plain", data=data, title=block.title, cache=cache)]
            case wire.Flat(content):
                self.lose("messages.document.content", "flattened")
                if isinstance(content, str):
                    return [Document(media_type="text/plain", data=content, title=block.title, cache=cache)]
                text = "\n".join(inner.text for inner in content if isinstance(inner, wire.Text))
                images = [self.image(inner, name) for inner in content if isinstance(inner, wire.Image)]
                return [Document(media_type="text/plain", data=text, title=block.title, cache=cache), *images]
            case wire.File():
                raise _no_files(name)
            case _:
                assert_never(block.source)

    def search_result(self, block: wire.SearchResult) -> Text:
        self.lose("messages.search_result", "text")
        text = "\n".join(inner.text for inner in block.content)
        return Text(f"{block.title}\n{block.source}\n{text}", _ttl(block.cache_control))


class ConversationReader:
    """The messages of a request, one after the other: each is a turn, and says nothing of the others."""

    __slots__ = ("_left", "_reading", "called", "names", "turns")

    def __init__(self) -> None:
        self._reading = RequestReader()
        self._left: Iterator[wire.Message] = iter(())
        self.turns: list[Turn] = []
        self.names: dict[str, None] = {}
        self.called = ""

    @property
    def told(self) -> list[Loss]:
        """The losses so far."""
        return list(self._reading.losses)

    @property
    def lost(self) -> int:
        """How many."""
        return len(self._reading.losses)

    def lose(self, field: str, outcome: str = "dropped") -> None:
        """Note a loss."""
        self._reading.lose(field, outcome)

    def begin(self, messages: bytes) -> None:
        """These are the messages. Raises ``msgspec.ValidationError``."""
        self._left = iter(_messages(messages))

    def take(self, at: int) -> bool:
        """Take the next message, number ``at``."""
        self.turns.append(self._reading.turn(next(self._left), f"messages[{at}]"))
        return True

    def finish(self) -> None:
        """There are no more."""


def _is_search(tool: wire.Tool) -> bool:
    return tool.type is not None and tool.type.startswith("web_search_")


def _no_files(name: str) -> InvalidRequest:
    field = f"{name}.source"
    return InvalidRequest(f"{field}: files of the Files API are not available with this model.", param=field)


def _marked(turns: list[Turn], ttl: CacheTtl | None) -> list[Turn]:
    """The turns with a cache mark on the last block that takes one: what a top-level ``cache_control`` means."""
    for at in range(len(turns) - 1, -1, -1):
        parts = turns[at].parts
        for last in range(len(parts) - 1, -1, -1):
            part = parts[last]
            if not isinstance(part, Thought):
                marked = msgspec.structs.replace(part, cache=ttl)
                changed = Turn(turns[at].role, (*parts[:last], marked, *parts[last + 1 :]))
                return [*turns[:at], changed, *turns[at + 1 :]]
    return turns
