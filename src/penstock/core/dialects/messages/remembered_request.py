"""Decodes and encodes Messages requests that go on from earlier ones: ``core/dialects/translation_memory.py`` says how.

The work itself is that of ``decode_request`` and ``encode_request``; here are the places where it may begin late.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from penstock.core.body.request_parts import RequestParts
from penstock.core.dialects.messages import request_schema as wire
from penstock.core.dialects.messages.decode_request import ConversationReader, RequestReader
from penstock.core.dialects.messages.encode_request import Json, RequestWriter
from penstock.core.dialects.translation_memory import (
    ConversationSink,
    ConversationSource,
    DecodedConversation,
    DecodedTools,
    EncodedConversation,
    Shelf,
    changes_speaker,
)
from penstock.core.neutral.request import AnyPart, Loss, Request, Role, Tool, Turn
from penstock.core.profile import Profile

_body = msgspec.json.Decoder(wire.Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_tools = msgspec.json.Decoder(list[wire.Tool]).decode
_encode = msgspec.json.Encoder().encode


def decode_remembered(parts: RequestParts, shelf: Shelf[DecodedConversation]) -> tuple[Request, list[Loss]]:
    """What ``decode_request`` gives, decoding only what the shelf has not.

    Raises ``InvalidRequest`` or ``ValueError`` where anything is wrong; ``decode_request`` has the words.
    """
    return _Reading(parts, shelf).request(_body(parts.rest), _fields(parts.rest))


def encode_remembered(
    request: Request, *, model: str, profile: Profile, shelf: Shelf[EncodedConversation]
) -> tuple[bytes, list[Loss]]:
    """What ``encode_request`` gives or raises, encoding only what the shelf has not."""
    writing = _Writing(profile, shelf.all())
    encoded = writing.request(request, model)
    writing.sink.remember(shelf)
    return encoded


class _Reading(RequestReader):
    """One reading of a body in parts."""

    __slots__ = ("_source",)

    def __init__(self, parts: RequestParts, shelf: Shelf[DecodedConversation]) -> None:
        super().__init__()
        self._source = ConversationSource(parts, shelf)

    def turns(self, messages: list[wire.Message]) -> Iterable[Turn]:  # noqa: ARG002 - they are in the parts
        source = self._source
        if source.offered is None:
            reading = RequestReader()
            raw = source.parts.tools
            tools, searches = reading.tools(_tools(raw))
            if reading.left_out:
                raise ValueError("a choice of what is left out is refused")
            source.offered = DecodedTools(raw, tools, searches, tuple(reading.losses))
        found = source.conversation(ConversationReader())
        self._lose(found.losses)
        return found.turns

    def tools(self, offered: list[wire.Tool]) -> tuple[tuple[Tool, ...], bool]:  # noqa: ARG002 - the same
        known = self._source.offered
        if known is None:
            raise ValueError("the turns come first")
        self._lose(known.losses)
        return known.tools, known.search

    def _lose(self, losses: Iterable[Loss]) -> None:
        for loss in losses:
            self.lose(loss.field, loss.outcome)


class _Writing(RequestWriter):
    """One request being written that may go on from an earlier one."""

    __slots__ = ("sink",)

    def __init__(self, profile: Profile, known: Sequence[EncodedConversation]) -> None:
        super().__init__(profile)
        self.sink = ConversationSink(known)

    def conversation(self, turns: list[Turn]) -> tuple[list[Json], object]:
        last, found = self.sink.conversation(turns, None, _Turns(self.profile))
        self.losses.update(dict.fromkeys((*found.more, *found.losses)))
        return last, found.encoded

    def tools(self, request: Request) -> object:
        def encode() -> tuple[bytes, Iterable[Loss]]:
            writing = RequestWriter(self.profile)
            return _encode(writing.tools(request)), writing.losses

        known = self.sink.tools(request.tools, search=request.web_search, encode=encode)
        self.losses.update(dict.fromkeys(known.losses))
        return Raw(known.encoded)


class _Turns(RequestWriter):
    """The turns of one request, part by part."""

    __slots__ = ("_order", "calls")

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.calls: list[str] = []
        self._order: dict[Loss, None] = {}

    @property
    def lost(self) -> tuple[int, int]:
        """How many losses there are so far, and how many of order."""
        return len(self.losses), len(self._order)

    @property
    def told(self) -> list[Loss]:
        """Losses so far but those of order."""
        return list(self.losses)

    @property
    def told_of_order(self) -> list[Loss]:
        """Losses of order so far, which are told before all others: rows are arranged before their blocks are written."""
        return list(self._order)

    def arranged(self, turns: Sequence[Turn]) -> list[tuple[Role, list[AnyPart]]]:
        losses, self.losses = self.losses, self._order
        try:
            return super().arranged(turns)
        finally:
            self.losses = losses

    def called(self, id: str) -> str:
        self.calls.append(id)
        return super().called(id)

    def resume(self, losses: Sequence[Loss], more: Sequence[Loss], calls: Sequence[str]) -> None:
        """Begin with what was there by a mark."""
        self.losses.update(dict.fromkeys(losses))
        self._order.update(dict.fromkeys(more))
        for id in calls:
            self.called(id)

    def part(self, turns: Sequence[Turn], *, first: bool, last: bool) -> list[Json]:  # noqa: ARG002 - each is alike
        """The messages of a part."""
        return self.messages(turns)

    def apart(self, before: Json, after: Json) -> bool:
        """Whether nothing joins two messages."""
        return changes_speaker(before, after)

    def ordered(self, messages: list[Json]) -> list[Json]:
        """The messages as they are: they were arranged before."""
        return messages
