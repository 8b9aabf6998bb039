"""Tools of a Responses request: which functions they become, and what a choice among them means.

Custom tools become functions with one string, tools of a namespace get one name; ``Tool.caller`` keeps what the caller
calls them, by which answers are put back into the caller's own form. Tools that the provider itself would run are refused:
an answer would silently lack what they do. Web search alone is only noted, because Codex always offers it.
"""

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.responses import request_schema as wire
from penstock.core.neutral.request import CallerName, Tool, ToolChoice
from penstock.core.tools.names import joined, marked
from penstock.errors import InvalidRequest

Lose = Callable[[str, str], None]
"""Takes a field and what became of it."""

_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_CUSTOM_INPUT = Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')
_SEARCH = "web_search"

_tool = msgspec.json.Decoder(wire.Tool).decode


class Toolbox:
    """The tools of one request; ``name`` gives each the name under which the model knows it."""

    __slots__ = ("_lose", "_names", "_origins", "tools", "web_search")

    def __init__(self, lose: Lose) -> None:
        self._lose = lose
        self.tools: list[Tool] = []
        self.web_search = False
        self._names: dict[tuple[str | None, str], str] = {}
        self._origins: dict[str, tuple[str | None, str]] = {}

    def add(self, raw: Raw, path: str, namespace: str | None = None) -> None:
        """Take one tool of the request. Raises ``InvalidRequest``."""
        try:
            tool = _tool(raw)
        except msgspec.ValidationError as error:
            raise invalid(error, path) from error
        self._tell(tool)
        match tool.type:
            case "function":
                self._function(tool, path, namespace)
            case "custom":
                self._custom(tool, path, namespace)
            case "namespace" if namespace is None:
                self._lose("tools.namespace", "flattened")
                for at, inner in enumerate(tool.tools or ()):
                    self.add(inner, f"{path}.tools[{at}]", _named(tool, path))
            case kind if kind.startswith(_SEARCH):
                self.web_search = True
            case kind:
                raise InvalidRequest(
                    f"{path}: tools of type {kind[:60]!r} are not available with this model; "
                    "offer a function that does it.",
                    param=path,
                )

    def name(self, namespace: str | None, name: str) -> str:
        """The one name of a tool, whether it is offered or only called in the history; no two tools share one."""
        key = (namespace or None, name)
        known = self._names.get(key)
        if known is None:
            known = joined(*key)
            if self._origins.setdefault(known, key) != key:
                known = marked(known, f"{namespace or ''}\n{name}")
                self._origins[known] = key
            self._names[key] = known
        return known

    def choice(self, choice: str | wire.Choice | None) -> ToolChoice | None:
        """What ``tool_choice`` means. One of several allowed tools leaves only those in ``tools``."""
        match choice:
            case None:
                return None
            case "auto" | "none":
                return ToolChoice(choice)
            case "required":
                return ToolChoice("any")
            case wire.Choice(type="function" | "custom"):
                return ToolChoice("tool", self._chosen(choice))
            case wire.Choice(type="allowed_tools"):
                return self._allowed(choice)
            case wire.Choice(type=kind):
                raise InvalidRequest(
                    f"tool_choice: tools of type {kind[:60]!r} are not available with this model.",
                    param="tool_choice",
                )
            case _:
                raise InvalidRequest(
                    "tool_choice must be none, auto, required or an object.", param="tool_choice"
                )

    def _chosen(self, choice: wire.Choice) -> str:
        if not choice.name:
            raise InvalidRequest("tool_choice.name is required.", param="tool_choice.name")
        return self.name(choice.namespace, choice.name)

    def _allowed(self, choice: wire.Choice) -> ToolChoice:
        self._lose("tool_choice.allowed_tools", "filtered")
        allowed = {self._chosen(tool) for tool in choice.tools or () if tool.type in ("function", "custom")}
        kept = [tool for tool in self.tools if tool.name in allowed]
        if not kept:
            raise InvalidRequest("tool_choice allows none of the tools.", param="tool_choice")
        self.tools = kept
        return ToolChoice("any" if choice.mode == "required" else "auto")

    # ---- single tools

    def _function(self, tool: wire.Tool, path: str, namespace: str | None) -> None:
        own = _named(tool, path)
        schema = _NO_PARAMETERS
        if tool.parameters is not UNSET and bytes(tool.parameters) not in {b"null", b"{}"}:
            if bytes(tool.parameters)[:1] != b"{":
                raise InvalidRequest(f"{path}.parameters must be an object.", param=f"{path}.parameters")
            schema = tool.parameters.copy()
        name = self.name(namespace, own)
        caller = CallerName(own, namespace) if name != own else None
        self.tools.append(Tool(name, schema, tool.description, tool.strict, None, caller))

    def _custom(self, tool: wire.Tool, path: str, namespace: str | None) -> None:
        """A free-text tool as a function with one string; what its grammar asks for is in words only."""
        own = _named(tool, path)
        self._lose("tools.custom", "function")
        description = tool.description or ""
        grammar = tool.format
        if grammar is not None and grammar.definition:
            asked = (
                f"The input must match this {grammar.syntax or 'grammar'} definition:\n{grammar.definition}"
            )
            description = f"{description}\n\n{asked}" if description else asked
        caller = CallerName(own, namespace, custom=True)
        name = self.name(namespace, own)
        self.tools.append(Tool(name, _CUSTOM_INPUT, description or None, None, None, caller))

    def _tell(self, tool: wire.Tool) -> None:
        if tool.defer_loading:
            self._lose("tools.defer_loading", "loaded")
        if tool.allowed_callers is not None:
            self._lose("tools.allowed_callers", "dropped")
        if tool.output_schema is not UNSET:
            self._lose("tools.output_schema", "dropped")


def _named(tool: wire.Tool, path: str) -> str:
    if not tool.name:
        raise InvalidRequest(f"{path}.name must not be empty.", param=f"{path}.name")
    return tool.name
