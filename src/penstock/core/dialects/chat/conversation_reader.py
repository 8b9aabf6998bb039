"""The conversation of a Chat request, one message after the other: results of tools wait for the user's next words.

What a message itself says is read by whoever reads the request, ``MessageReader``.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, assert_never

import msgspec
from msgspec import Raw

from penstock.core.dialects.chat import request_schema as wire
from penstock.core.neutral.request import (
    AnyPart,
    CacheTtl,
    Document,
    Image,
    Loss,
    Role,
    Text,
    Thought,
    ToolResult,
    Turn,
)
from penstock.core.tools.call_ids import inward
from penstock.errors import InvalidRequest

_messages = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_typed_messages = msgspec.json.Decoder(list[wire.AnyMessage]).decode


class MessageReader(Protocol):
    """Reads what single messages say. Each method raises ``InvalidRequest`` that names ``path``."""

    losses: dict[str, str]

    @property
    def told(self) -> list[Loss]:
        """The losses so far."""
        ...

    def lose(self, field: str, outcome: str = "dropped") -> None:
        """Note a loss."""
        ...

    def result(self, call_id: str, message: wire.ToolMessage | wire.FunctionMessage, path: str) -> ToolResult:
        """What the caller's tool gave back."""
        ...

    def parts(self, content: wire.Content, path: str, role: str) -> list[Text | Image | Document]:
        """The parts of a message's content."""
        ...

    def assistant(self, message: wire.Assistant, path: str, function_id: str) -> list[AnyPart]:
        """What the assistant said; ``function_id`` is for a legacy function call, which has none."""
        ...


class ConversationReader:
    """The messages of a request, one after the other."""

    __slots__ = ("_left", "_reading", "_results", "called", "names", "turns")

    def __init__(self, reading: MessageReader) -> None:
        self._reading = reading
        self._results: list[AnyPart] = []
        self._left: Iterator[tuple[wire.AnyMessage, dict[str, Raw]]] = iter(())
        self.turns: list[Turn] = []
        self.names: dict[str, None] = {}
        self.called = ""
        """The id made for the last legacy function call, which has none."""

    @property
    def told(self) -> list[Loss]:
        """The losses so far."""
        return self._reading.told

    @property
    def lost(self) -> int:
        """How many."""
        return len(self._reading.losses)

    def lose(self, field: str, outcome: str = "dropped") -> None:
        """Note a loss."""
        self._reading.lose(field, outcome)

    def begin(self, messages: bytes) -> None:
        """These are the messages. Raises ``msgspec.ValidationError``."""
        self._left = zip(_typed_messages(messages), _messages(messages), strict=True)

    def take(self, at: int) -> bool:
        """Take the next message, number ``at``; whether all that it says is in the turns."""
        message, names = next(self._left)
        for name in names:
            self.names[name] = None
        self.add(at, message)
        return not self._results

    def add(self, at: int, message: wire.AnyMessage) -> None:
        """Take a message that is decoded already."""
        reading, turns, path = self._reading, self.turns, f"messages[{at}]"
        match message:
            case wire.ToolMessage(tool_call_id=id):
                self._results.append(reading.result(inward(id), message, path))
                return
            case wire.FunctionMessage():
                call_id = self.called or f"call_{message.name}"
                self._results.append(reading.result(call_id, message, path))
                return
            case wire.User():
                parts = reading.parts(message.content, path, "user")
                _add(turns, "user", [*self._results, *_marked(parts, message.cache_control)])
                self._results = []
                return
            case _:
                _add(turns, "user", self._results)
                self._results = []
        match message:
            case wire.System() | wire.Developer():
                parts = reading.parts(message.content, path, "system")
                _add(turns, "system", _marked(parts, message.cache_control))
            case wire.Assistant():
                self.called = f"call_function_{at}"
                parts = reading.assistant(message, path, self.called)
                _add(turns, "assistant", _marked(parts, message.cache_control))
            case _:
                assert_never(message)

    def finish(self) -> None:
        """There are no more. Raises ``InvalidRequest``."""
        _add(self.turns, "user", self._results)
        if not any(turn.role != "system" for turn in self.turns):
            raise InvalidRequest("messages must hold something besides instructions.", param="messages")


def ttl_of(mark: wire.Cache | None) -> CacheTtl | None:
    """The lifetime that a cache mark asks for."""
    if mark is None:
        return None
    return "1h" if mark.ttl == "1h" else "5m"


def _add(turns: list[Turn], role: Role, parts: list[AnyPart]) -> None:
    """Add a turn; one without any content says nothing and upstreams refuse it."""
    if parts:
        turns.append(Turn(role, tuple(parts)))


def _marked(parts: Sequence[AnyPart], mark: wire.Cache | None) -> list[AnyPart]:
    """``parts`` with a message's own cache mark on the last of them that can bear one."""
    ttl = ttl_of(mark)
    if ttl is None:
        return list(parts)
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        if not isinstance(part, Thought):
            return [*parts[:at], msgspec.structs.replace(part, cache=ttl), *parts[at + 1 :]]
    return list(parts)
