"""Tool names between dialects: a name that an upstream would refuse is changed on the way there and restored in answers.

Upstreams take ``[A-Za-z0-9_-]`` and at most 64 characters; callers come with longer names (MCP), other characters, and
namespaces. A new name depends on the old one alone, so that prompt caches keep; the way back is a map made from the
request, because a tool can only be called by a request that offers it.
"""

import hashlib
import re
from collections.abc import Iterable

import msgspec

from penstock.core.neutral.events import AnyEvent, CallOpened
from penstock.core.neutral.request import CallerName, Request, Tool, ToolCall, ToolChoice, Turn

LIMIT = 64

_LEGAL = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]+")
_MARK = 8
"""Hexadecimal digits of a hash that stand for what a name lost."""


class ToolNames(msgspec.Struct, frozen=True):
    """The way back: ``callers`` gives the caller's name for each name that an upstream knows under another one."""

    callers: dict[str, CallerName]

    def __bool__(self) -> bool:
        return bool(self.callers)

    def restored(self, events: list[AnyEvent]) -> list[AnyEvent]:
        """``events`` of an upstream with the caller's own names."""
        if not self.callers:
            return events
        return [self._opened(event) if isinstance(event, CallOpened) else event for event in events]

    def _opened(self, event: CallOpened) -> CallOpened:
        known = self.callers.get(event.name)
        if known is None:
            return event
        return CallOpened(event.id, known.name, known.namespace, known.custom, known.kind)


NO_NAMES = ToolNames({})


def joined(namespace: str | None, name: str) -> str:
    """One name for a tool of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def legal(name: str) -> str:
    """``name`` where upstreams take it, else its likeness with a hash of it at the end."""
    return name if _LEGAL.match(name) else marked(name, name)


def marked(name: str, origin: str) -> str:
    """A legal name like ``name``, told apart from all others by a hash of ``origin``."""
    mark = hashlib.sha256(origin.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK]
    return f"{_ILLEGAL.sub('_', name)[: LIMIT - _MARK - 1]}_{mark}"


def fit_tool_names(request: Request) -> tuple[Request, ToolNames]:
    """The request with names that every upstream takes, and the way back to those that the caller gave."""
    # a long conversation calls the same tools again and again
    renamed = {name: legal(name) for name in {*_names(request)} if not _LEGAL.match(name)}
    callers: dict[str, CallerName] = {}
    for tool in request.tools:
        new = renamed.get(tool.name, tool.name)
        if tool.caller is not None or new != tool.name:
            callers[new] = tool.caller or CallerName(tool.name)
    names = ToolNames(callers) if callers else NO_NAMES
    if not renamed:
        return request, names
    changed = msgspec.structs.replace(
        request,
        tools=tuple(_tool(tool, renamed) for tool in request.tools),
        tool_choice=_choice(request.tool_choice, renamed),
        turns=tuple(_turn(turn, renamed) for turn in request.turns),
    )
    return changed, names


def _names(request: Request) -> Iterable[str]:
    for tool in request.tools:
        yield tool.name
    if request.tool_choice is not None and request.tool_choice.name is not None:
        yield request.tool_choice.name
    for turn in request.turns:
        for part in turn.parts:
            if isinstance(part, ToolCall):
                yield part.name


def _tool(tool: Tool, renamed: dict[str, str]) -> Tool:
    new = renamed.get(tool.name)
    return tool if new is None else msgspec.structs.replace(tool, name=new)


def _choice(choice: ToolChoice | None, renamed: dict[str, str]) -> ToolChoice | None:
    if choice is None or choice.name not in renamed:
        return choice
    return ToolChoice(choice.mode, renamed[choice.name])


def _turn(turn: Turn, renamed: dict[str, str]) -> Turn:
    if not any(isinstance(part, ToolCall) and part.name in renamed for part in turn.parts):
        return turn
    parts = (
        msgspec.structs.replace(part, name=renamed.get(part.name, part.name))
        if isinstance(part, ToolCall)
        else part
        for part in turn.parts
    )
    return Turn(turn.role, tuple(parts))
