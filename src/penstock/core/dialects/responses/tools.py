"""Tools of a Responses request: which functions they become, and what a choice among them means.

Custom tools become functions with one string, tools of a namespace get one name; ``Tool.caller`` keeps what the caller
calls them, by which answers are put back into the caller's own form. Other tools that the caller runs itself become functions
too (``client_tools.py``), and so does one of an unknown type that has a name and parameters. What only a provider could run
is left out and told, unless a call of it is forced. Web search is noted for upstreams that have it.
"""

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.responses import request_schema as wire
from penstock.core.neutral.request import CallerName, Tool, ToolChoice
from penstock.core.tools.client_tools import BY_KIND, ClientTool, run_by_client
from penstock.core.tools.names import joined, marked
from penstock.errors import InvalidRequest

Lose = Callable[[str, str], None]
"""Takes a field and what became of it."""

_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_CUSTOM_INPUT = Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')
_SEARCH = "web_search"
_OWN = frozenset({"function", "custom", "namespace"})
"""Types whose members are checked; what is wrong with one of them is the caller's to hear."""

_tool = msgspec.json.Decoder(wire.Tool).decode
_kind = msgspec.json.Decoder(wire.Kind).decode


class Toolbox:
    """The tools of one request; ``name`` gives each the name under which the model knows it."""

    __slots__ = ("_left_out", "_lose", "_names", "_offered", "_origins", "tools", "web_search")

    def __init__(self, lose: Lose) -> None:
        self._lose = lose
        self.tools: list[Tool] = []
        self.web_search = False
        self._names: dict[tuple[str | None, str], str] = {}
        self._origins: dict[str, tuple[str | None, str]] = {}
        self._offered: set[str] = set()
        self._left_out = False

    def add(self, raw: Raw, path: str, namespace: str | None = None, *, again: bool = False) -> None:
        """Take one tool of the request. Raises ``InvalidRequest``. ``again``: it may be offered already, and is once then."""
        try:
            tool = _tool(raw)
        except msgspec.ValidationError as error:
            kind = _kind_of(raw)
            if kind is None or kind in _OWN:
                raise invalid(error, path) from error
            self._leave_out(kind)
            return
        if again and tool.type in ("function", "custom") and self._known(namespace, tool):
            return
        client = run_by_client(tool.type, tool.execution, tool.environment and tool.environment.type)
        match tool.type:
            case "function":
                self._function(tool, path, namespace)
            case "custom":
                self._custom(tool, path, namespace)
            case "namespace" if namespace is None:
                self._lose("tools.namespace", "flattened")
                for at, inner in enumerate(tool.tools or ()):
                    self.add(inner, f"{path}.tools[{at}]", _named(tool, path), again=again)
            case kind if kind.startswith(_SEARCH):
                self.web_search = True
            case _ if client is not None:
                self._client(client, tool, again=again)
            case kind if _callable(tool):
                self._lose(f"tools.{kind}", "function")
                self._function(tool, path, namespace)
            case kind:
                self._leave_out(kind)
                return
        self._tell(tool)

    def copy(self, lose: Lose) -> "Toolbox":
        """One with the same tools and names, which tells ``lose`` from now on."""
        other = Toolbox(lose)
        other.tools = [*self.tools]
        other.web_search = self.web_search
        other._names = {**self._names}
        other._origins = {**self._origins}
        other._offered = {*self._offered}
        other._left_out = self._left_out
        return other

    @property
    def known(self) -> int:
        """The number of tools that have a name."""
        return len(self._names)

    def keys(self, start: int) -> list[tuple[str | None, str]]:
        """What these tools are known by, in the order in which they were named, from number ``start`` on."""
        return [*self._names][start:] if start < len(self._names) else []

    def recall(self, key: tuple[str | None, str]) -> None:
        """Name a tool that another one with the same tools has named."""
        self._name(key, key[1] if key[0] == "" else joined(*key))

    def client_name(self, client: ClientTool) -> str:
        """The one name of a tool that the caller runs and that has none of its own."""
        return self._name(("", client.kind), client.kind)

    def name(self, namespace: str | None, name: str) -> str:
        """The one name of a tool, whether it is offered or only called in the history; no two tools share one."""
        client = ("", name)
        if namespace is None and client in self._names and (None, name) not in self._names:
            return self._names[client]  # a call that did not fit the tool's own form is a function call
        return self._own(namespace, name)

    def _own(self, namespace: str | None, name: str) -> str:
        return self._name((namespace or None, name), joined(namespace, name))

    def _name(self, key: tuple[str | None, str], name: str) -> str:
        known = self._names.get(key)
        if known is None:
            known = name
            if self._origins.setdefault(known, key) != key:
                known = marked(known, "\n".join((key[0] or "", key[1])))
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
                if self._left_out and not self.tools:
                    raise InvalidRequest(
                        "tool_choice: none of the tools is available with this model.", param="tool_choice"
                    )
                return ToolChoice("any")
            case wire.Choice(type="allowed_tools"):
                return self._allowed(choice)
            case wire.Choice() if (name := self._chosen(choice)) is not None:
                return ToolChoice("tool", name)
            case wire.Choice(type=kind):
                raise InvalidRequest(
                    f"tool_choice: tools of type {kind[:60]!r} are not available with this model.",
                    param="tool_choice",
                )
            case _:
                raise InvalidRequest(
                    "tool_choice must be none, auto, required or an object.", param="tool_choice"
                )

    def _chosen(self, choice: wire.Choice) -> str | None:
        """The name of a tool that is chosen; None where only the provider could run it."""
        if choice.type in ("function", "custom"):
            if not choice.name:
                raise InvalidRequest("tool_choice.name is required.", param="tool_choice.name")
            return self.name(choice.namespace, choice.name)
        client = BY_KIND.get(choice.type)
        name = None if client is None else self.client_name(client)
        return name if name in self._offered else None

    def _allowed(self, choice: wire.Choice) -> ToolChoice:
        self._lose("tool_choice.allowed_tools", "filtered")
        allowed = {self._chosen(tool) for tool in choice.tools or ()}
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
        name = self._own(namespace, own)
        caller = CallerName(own, namespace) if name != own else None
        self._offer(Tool(name, schema, tool.description, tool.strict, None, caller))

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
        name = self._own(namespace, own)
        self._offer(Tool(name, _CUSTOM_INPUT, description or None, None, None, caller))

    def _client(self, client: ClientTool, tool: wire.Tool, *, again: bool) -> None:
        """A tool that the caller runs as the function that stands for it; its own words and schema where it has some."""
        name = self.client_name(client)
        if again and name in self._offered:
            return
        self._lose(f"tools.{client.kind}", "function")
        schema = client.schema
        if tool.parameters is not UNSET and bytes(tool.parameters)[:1] == b"{":
            schema = tool.parameters.copy()
        description = tool.description or client.description
        self._offer(Tool(name, schema, description, caller=CallerName(client.kind, kind=client.kind)))

    def _offer(self, tool: Tool) -> None:
        self.tools.append(tool)
        self._offered.add(tool.name)

    def _known(self, namespace: str | None, tool: wire.Tool) -> bool:
        return self._names.get((namespace or None, tool.name or "")) in self._offered

    def _leave_out(self, kind: str) -> None:
        self._left_out = True
        self._lose(f"tools.{kind}", "dropped")

    def _tell(self, tool: wire.Tool) -> None:
        if tool.defer_loading:
            self._lose("tools.defer_loading", "loaded")
        if tool.allowed_callers is not None:
            self._lose("tools.allowed_callers", "dropped")
        if tool.output_schema is not UNSET:
            self._lose("tools.output_schema", "dropped")


def _callable(tool: wire.Tool) -> bool:
    """Whether a tool of an unknown type is like a function."""
    return bool(tool.name) and tool.parameters is not UNSET and bytes(tool.parameters)[:1] == b"{"


def _kind_of(raw: Raw) -> str | None:
    try:
        return _kind(raw).type or "function"
    except msgspec.ValidationError:
        return None


def _named(tool: wire.Tool, path: str) -> str:
    if not tool.name:
        raise InvalidRequest(f"{path}.name must not be empty.", param=f"{path}.name")
    return tool.name
