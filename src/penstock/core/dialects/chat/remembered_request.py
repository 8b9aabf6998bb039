"""Decodes and encodes Chat requests that go on from earlier ones: ``core/dialects/translation_memory.py`` says how.

The work itself is that of ``decode_request`` and ``encode_request``; here are the places where it may begin late.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from penstock.core.body.request_parts import RequestParts
from penstock.core.dialects.chat import request_schema as wire
from penstock.core.dialects.chat.conversation_reader import ConversationReader
from penstock.core.dialects.chat.decode_request import RequestReader, finished
from penstock.core.dialects.chat.encode_request import RequestWriter, check_messages, ordered
from penstock.core.dialects.openai.encode_request import Json
from penstock.core.dialects.translation_memory import (
    ConversationSink,
    ConversationSource,
    DecodedConversation,
    DecodedTools,
    EncodedConversation,
    Shelf,
    changes_speaker,
)
from penstock.core.neutral.request import Loss, Request, Tool, Turn
from penstock.core.profile import Profile

_body = msgspec.json.Decoder(wire.Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_tools = msgspec.json.Decoder(list[wire.FunctionTool | wire.CustomTool]).decode
_encode = msgspec.json.Encoder().encode


def decode_remembered(parts: RequestParts, shelf: Shelf[DecodedConversation]) -> tuple[Request, list[Loss]]:
    """What ``decode_request`` gives, decoding only what the shelf has not.

    Raises ``InvalidRequest`` or ``ValueError`` where anything is wrong; ``decode_request`` has the words.
    """
    sent = _body(parts.rest)
    reading = _Reading(parts, shelf)
    return finished(reading, sent, _fields(parts.rest), reading.conversation.names)


def encode_remembered(
    request: Request, *, model: str, profile: Profile, shelf: Shelf[EncodedConversation]
) -> tuple[bytes, list[Loss]]:
    """What ``encode_request`` gives or raises, encoding only what the shelf has not."""
    writing = _Writing(model, profile, shelf.all())
    body = _encode(writing.body(request))
    writing.sink.remember(shelf)
    return body, writing.losses


class _Reading(RequestReader):
    """One reading of a body in parts."""

    __slots__ = ("_source", "conversation")

    def __init__(self, parts: RequestParts, shelf: Shelf[DecodedConversation]) -> None:
        super().__init__()
        self._source = ConversationSource(parts, shelf)
        self.conversation = ConversationReader(RequestReader())

    def tools(self, sent: wire.Body) -> tuple[Tool, ...]:
        source = self._source
        if source.offered is None:
            reading = RequestReader()
            raw = source.parts.tools
            tools = tuple(reading.offered(_tools(raw)))
            source.offered = DecodedTools(raw, tools, search=False, losses=tuple(reading.told))
        for loss in source.offered.losses:
            self.lose(loss.field, loss.outcome)
        functions = super().tools(sent)
        return (*source.offered.tools, *functions) if functions else source.offered.tools

    def turns(self, messages: list[wire.AnyMessage]) -> tuple[Turn, ...]:  # noqa: ARG002 - they are in the parts
        found = self._source.conversation(self.conversation)
        for loss in found.losses:
            self.lose(loss.field, loss.outcome)
        return found.turns


class _Writing(RequestWriter):
    """One request being written that may go on from an earlier one."""

    __slots__ = ("sink",)

    def __init__(self, model: str, profile: Profile, known: Sequence[EncodedConversation]) -> None:
        super().__init__(model, profile)
        self.sink = ConversationSink(known)

    def conversation(self, turns: tuple[Turn, ...], instruction: str | None) -> tuple[list[Json], object]:
        encoder = _Turns(self.model, self.profile, instruction)
        last, found = self.sink.conversation(turns, instruction, encoder)
        for loss in (*found.losses, *found.more):
            self.lose(loss.field, loss.outcome)
        return last, found.encoded

    def tools(self, tools: tuple[Tool, ...]) -> object:
        def encode() -> tuple[bytes, list[Loss]]:
            writing = RequestWriter(self.model, self.profile)
            return _encode(writing.tools(tools)), writing.losses

        known = self.sink.tools(tools, search=False, encode=encode)
        for loss in known.losses:
            self.lose(loss.field, loss.outcome)
        return Raw(known.encoded)


class _Turns(RequestWriter):
    """The turns of one request, part by part."""

    __slots__ = ("_instruction", "_order", "calls")

    def __init__(self, model: str, profile: Profile, instruction: str | None) -> None:
        super().__init__(model, profile)
        self._instruction = instruction
        self._order: dict[str, str] = {}
        self.calls: list[str] = []

    @property
    def lost(self) -> tuple[int, int]:
        """How many losses there are so far, and how many of order."""
        return len(self._losses), len(self._order)

    @property
    def told(self) -> list[Loss]:
        """Losses so far."""
        return self.losses

    @property
    def told_of_order(self) -> list[Loss]:
        """Losses of ``ordered`` so far, which are told after all others."""
        return [Loss(field, outcome) for field, outcome in self._order.items()]

    def resume(self, losses: Sequence[Loss], more: Sequence[Loss], calls: Sequence[str]) -> None:  # noqa: ARG002 - ids depend on nothing here
        """Begin with what was there by a mark."""
        for loss in losses:
            self.lose(loss.field, loss.outcome)
        for loss in more:
            self._order.setdefault(loss.field, loss.outcome)

    def part(self, turns: Sequence[Turn], *, first: bool, last: bool) -> list[Json]:
        """The messages of a part. Raises ``InvalidRequest``."""
        return self.messages(turns, self._instruction, leading=first, ends=last)

    def apart(self, before: Json, after: Json) -> bool:
        """Whether nothing joins two messages."""
        return changes_speaker(before, after)

    def ordered(self, messages: list[Json]) -> list[Json]:
        """The messages in an order of roles that the upstream takes."""
        return ordered(messages, self.profile, self._lose_order)

    def _lose_order(self, field: str, outcome: str) -> None:
        self._order.setdefault(field, outcome)

    def end(self, messages: list[Json]) -> None:
        """These are the last ones. Raises ``InvalidRequest``."""
        check_messages(messages)
