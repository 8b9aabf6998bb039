"""Decodes a Messages request into the neutral form, and says what that form could not carry.

Unknown fields are ignored inside the body's objects and reported by name at its top level.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, assert_never, get_args

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.messages import request_schema as wire
from penstock.core.dialects.messages.hosted_tools import citation_of, hosted_of
from penstock.core.dialects.unknown import KnownTypes, Loosened
from penstock.core.neutral.request import (
    MOST_LOSSES,
    AnyPart,
    CacheTtl,
    Document,
    Hosted,
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
_encode = msgspec.json.Encoder().encode
_top_level = msgspec.json.Decoder(dict[str, Raw]).decode
_KNOWN = frozenset(wire.Body.__struct_fields__)
_BLOCKS = frozenset(block.__struct_config__.tag for block in get_args(wire.AnyBlock)) | frozenset(
    inner.__struct_config__.tag for inner in (wire.ToolReference, wire.BrowserState)
)
_KNOWN_TYPES = KnownTypes(
    lambda _: True, frozenset(map(str, _BLOCKS)), lambda _: None, frozenset({"tool_result"})
)


def decode_request(body: bytes) -> tuple[Request, list[Loss]]:
    """The neutral request of a Messages body, and what of the body it does not hold.

    Raises ``InvalidRequest`` with ``param`` naming the field.
    """
    reading = RequestReader()
    try:
        try:
            sent = _body(body)
        except msgspec.ValidationError:
            loosened = Loosened(body, _KNOWN_TYPES)
            body = loosened.body
            sent = _body(body)
            for field, outcome in loosened.losses.items():
                reading.lose(field, outcome)
        return reading.request(sent, _top_level(body))
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

    __slots__ = ("left_out", "losses")

    def __init__(self) -> None:
        self.left_out: set[str] = set()  # names of tools that only their provider could run
        self.losses: dict[Loss, None] = {}

    def lose(self, field: str, outcome: str = "dropped") -> None:
        if len(self.losses) < MOST_LOSSES:
            self.losses[Loss(field, outcome)] = None

    def request(self, sent: wire.Body, names: dict[str, Raw]) -> tuple[Request, list[Loss]]:
        for name, raw in names.items():
            if name not in _KNOWN and bytes(raw) not in (b"null", b"[]", b"{}"):
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
        tools, searches = self.tools(sent.tools or [])
        choice = sent.tool_choice
        if choice is not None and self.left_out:
            self.check_choice(choice, empty=not tools)
        if choice is not None and choice.type == "tool" and not choice.name:
            raise InvalidRequest(
                "tool_choice.name is required for a choice of type tool.", param="tool_choice.name"
            )
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

    def check_choice(self, choice: wire.ToolChoice, *, empty: bool) -> None:
        """Refuse a forced call of what was left out."""
        if choice.name in self.left_out or (choice.type == "any" and empty):
            raise InvalidRequest(
                "tool_choice: the tool that must be called is not available with this model.",
                param="tool_choice",
            )

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
        read = (self.tool(tool, f"tools[{at}]") for at, tool in enumerate(offered) if not _is_search(tool))
        return tuple(tool for tool in read if tool is not None), any(map(_is_search, offered))

    def tool(self, tool: wire.Tool, name: str) -> Tool | None:
        """A tool as a function; None where only its provider could run it, which is told."""
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
            if tool.input_schema is UNSET:
                self.left_out.add(tool.name)
                self.lose(f"tools.{tool.type}")
                return None
            self.lose(f"tools.{tool.type}", "function")
        if not tool.name:
            raise InvalidRequest(f"{name}.name is required.", param=f"{name}.name")
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
        served: dict[str, tuple[int, Raw]] = {}  # calls of hosted tools: their place, and the block
        for at, block in enumerate(content):
            if role != "system" and isinstance(block, wire.ServerToolUse | wire.McpToolUse):
                served[block.id] = (len(parts), _again(block))
                parts.append(self.hosted(served[block.id][1], None))
            elif role != "system" and isinstance(block, wire.Served):
                place, call = served.get(block.tool_use_id, (-1, None))
                if call is None:
                    parts.append(self.hosted(None, _again(block)))
                else:
                    parts[place] = self.hosted(call, _again(block))
            else:
                parts.extend(self.block(block, role, f"{name}.content[{at}]"))
        return Turn(role, tuple(parts))

    def hosted(self, call: Raw | None, result: Raw | None) -> Hosted:
        """What a tool of the provider did; what its maker alone could read is left out: that is asked as it came."""
        self.lose("messages.server_tools", "text")
        return msgspec.structs.replace(hosted_of(call, result), raw="")

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
            case wire.Compaction():
                self.lose("messages.compaction", "text")
                return [Text(block.content)] if block.content else []
            case _:  # of hosted tools, which are read with the blocks round them
                return []

    def text(self, block: wire.Text) -> Text:
        cites = [citation_of(each) for each in block.citations or ()]
        if None in cites:
            self.lose("messages.citations")
        return Text(
            block.text, _ttl(block.cache_control), tuple(cited for cited in cites if cited is not None)
        )

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


def _again(block: wire.ServerToolUse | wire.McpToolUse | wire.Served) -> Raw:
    return Raw(_encode(block))


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
