"""Decodes and encodes Responses requests that go on from earlier ones: ``core/dialects/translation_memory.py`` says how.

The work itself is that of ``decode_request`` and ``encode_request``; here are the places where it may begin late. What calls
are named depends on the tools: where these are not the ones of before, all items are decoded again. Items may bring tools
as well; the scanner cuts no such body in parts, so that none comes here.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from penstock.core.body.request_parts import RequestParts
from penstock.core.dialects.openai.encode_request import Json
from penstock.core.dialects.responses import request_schema as wire
from penstock.core.dialects.responses.conversation_reader import ConversationReader
from penstock.core.dialects.responses.decode_request import RequestReader, finished
from penstock.core.dialects.responses.encode_request import RequestWriter, check_items, is_assistants
from penstock.core.dialects.responses.tools import Toolbox
from penstock.core.dialects.translation_memory import (
    FROM_THE_START,
    ConversationSink,
    ConversationSource,
    DecodedConversation,
    DecodedTools,
    EncodedConversation,
    Shelf,
)
from penstock.core.neutral.request import Loss, Request, Turn
from penstock.core.profile import Profile

_body = msgspec.json.Decoder(wire.Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


def decode_remembered(parts: RequestParts, shelf: Shelf[DecodedConversation]) -> tuple[Request, list[Loss]]:
    """What ``decode_request`` gives, decoding only what the shelf has not.

    Raises ``InvalidRequest`` or ``ValueError`` where anything is wrong; ``decode_request`` has the words.
    """
    return finished(_Reading(parts, shelf), _body(parts.rest), _fields(parts.rest))


def encode_remembered(
    request: Request, *, model: str, profile: Profile, shelf: Shelf[EncodedConversation]
) -> tuple[bytes, list[Loss]]:
    """What ``encode_request`` gives or raises, encoding only what the shelf has not."""
    writing = _Writing(model, profile, shelf.all())
    body = _encode(writing.body(request))
    writing.sink.remember(shelf)
    return body, writing.losses


class _Tools(DecodedTools, frozen=True):
    """Tools with their names."""

    toolbox: Toolbox


class _Reading(RequestReader):
    """One reading of a body in parts."""

    __slots__ = ("_source",)

    def __init__(self, parts: RequestParts, shelf: Shelf[DecodedConversation]) -> None:
        super().__init__()
        self._source = ConversationSource(parts, shelf)

    def conversation(self, tools: list[Raw], items: list[Raw]) -> ConversationReader:  # noqa: ARG002 - they are in the parts
        source = self._source
        known = self._offered()
        self.toolbox = known.toolbox.copy(self.lose)
        for loss in known.losses:
            self.lose(loss.field, loss.outcome)
        reading = ConversationReader(self.toolbox)
        source.offered = known
        source.conversation(reading)
        return reading

    def _offered(self) -> _Tools:
        """The tools of the request; and they decide where the source goes on from."""
        source = self._source
        raw = source.parts.tools
        before = source.place.before
        if before is not None and before.tools.raw != raw:
            source.place = FROM_THE_START
        known = source.tools(raw)
        if isinstance(known, _Tools):
            return known
        reading = RequestReader()
        for tool in _list(raw):
            reading.toolbox.add(tool, "tools")
        losses = tuple(Loss(field, outcome) for field, outcome in reading.losses.items())
        return _Tools(raw, (), False, losses, reading.toolbox)


class _Writing(RequestWriter):
    """One request being written that may go on from an earlier one."""

    __slots__ = ("sink",)

    def __init__(self, model: str, profile: Profile, known: Sequence[EncodedConversation]) -> None:
        super().__init__(model, profile)
        self.sink = ConversationSink(known)

    def conversation(self, turns: Sequence[Turn]) -> object:
        _, found = self.sink.conversation(turns, None, _Turns(self.model, self.profile))
        for loss in found.losses:
            self.lose(loss.field, loss.outcome)
        return found.encoded

    def tools(self, request: Request) -> object:
        def encode() -> tuple[bytes, list[Loss]]:
            writing = RequestWriter(self.model, self.profile)
            return _encode(writing.tools(request)), writing.losses

        known = self.sink.tools(request.tools, search=request.web_search, encode=encode)
        for loss in known.losses:
            self.lose(loss.field, loss.outcome)
        return Raw(known.encoded)


class _Turns(RequestWriter):
    """The turns of one request, part by part: each is written alone, so nothing has an order, and no id depends on another."""

    __slots__ = ("calls",)

    def __init__(self, model: str, profile: Profile) -> None:
        super().__init__(model, profile)
        self.calls: list[str] = []

    @property
    def lost(self) -> tuple[int, int]:
        """How many losses there are so far; none of order."""
        return len(self._losses), 0

    @property
    def told(self) -> list[Loss]:
        """Losses so far."""
        return self.losses

    @property
    def told_of_order(self) -> list[Loss]:
        """None."""
        return []

    def resume(self, losses: Sequence[Loss], more: Sequence[Loss], calls: Sequence[str]) -> None:  # noqa: ARG002 - there are none
        """Begin with what was there by a mark."""
        for loss in losses:
            self.lose(loss.field, loss.outcome)

    def part(self, turns: Sequence[Turn], *, first: bool, last: bool) -> list[Json]:  # noqa: ARG002 - each is alike
        """The items of a part."""
        return self.items(turns)

    def apart(self, before: Json, after: Json) -> bool:  # noqa: ARG002 - whatever is before it
        """Whether the second is the assistant's, so that the end of a request can be judged from there on."""
        return is_assistants(after)

    def ordered(self, messages: list[Json]) -> list[Json]:
        """The items as they are."""
        return messages

    def end(self, messages: list[Json]) -> None:
        """These are the last ones. Raises ``InvalidRequest``."""
        check_items(messages)
