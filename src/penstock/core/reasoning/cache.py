"""Reasoning cache: keeps reasoning for a while by the tool calls that came of it, for callers that do not send it back.

Most Chat clients drop reasoning and its signatures, which DeepSeek, Kimi and MiniMax want to see again in a tool loop and
Anthropic checks. A call is known again by its id, its name and its arguments together, because some models number their
calls from 0 in every turn. Keys are digests, and hold whose call it was and which provider made it.
"""

import hashlib
from collections import OrderedDict
from contextlib import suppress

import msgspec

from penstock.core.body.value_limits import real
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.request import AnyPart, Request, Text, Thought, ToolCall, Turn
from penstock.core.neutral.text_pieces import TextPieces
from penstock.core.tools.call_ids import inward, outward, plain


class PlacedReasoning(msgspec.Struct, frozen=True, gc=False):
    """Reasoning before a call; ``after`` so many characters of text that the turn had said by then."""

    thought: Thought
    after: int


_decode = msgspec.json.Decoder(float_hook=real).decode
_encode = msgspec.json.Encoder(order="sorted").encode
_OVERHEAD = 400
"""Bytes that an entry takes besides its text, about."""


class ReasoningCache:
    """Reasoning kept in this process. Where it takes more than ``most`` bytes, the least recently used is given up."""

    __slots__ = ("_kept", "_size", "most")

    def __init__(self, most: int) -> None:
        """``most`` 0 keeps nothing."""
        self._kept: OrderedDict[bytes, tuple[PlacedReasoning, ...]] = OrderedDict()
        self.most = most
        """Bytes."""
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: bytes, thoughts: tuple[PlacedReasoning, ...]) -> None:
        """Keep ``thoughts``, in place of what ``key`` had."""
        cost = _cost(thoughts)
        if cost > self.most:
            return
        before = self._kept.pop(key, None)
        self._size += cost - (0 if before is None else _cost(before))
        self._kept[key] = thoughts
        while self._size > self.most:
            _, least = self._kept.popitem(last=False)
            self._size -= _cost(least)

    def find(self, key: bytes) -> tuple[PlacedReasoning, ...]:
        """What was kept, if it still is."""
        found = self._kept.get(key, ())
        if found:
            # large bodies are looked at in a thread, while the loop may be giving this one up
            with suppress(KeyError):
                self._kept.move_to_end(key)
        return found


def _cost(thoughts: tuple[PlacedReasoning, ...]) -> int:
    return _OVERHEAD + sum(
        _bytes(placed.thought.text)
        + _bytes(placed.thought.signature or "")
        + _bytes(placed.thought.redacted or "")
        for placed in thoughts
    )


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


class ReasoningScope(msgspec.Struct, frozen=True):
    """One provider's reasoning for one user. ``limit``: how long the ids may be that the caller sees; None: any."""

    thoughts: ReasoningCache
    user: str
    provider: str
    limit: int | None = None

    def keep(self, call: CallOpened, arguments: str, thoughts: tuple[PlacedReasoning, ...]) -> None:
        """Keep the reasoning before ``call``, which has its upstream's id."""
        id = call.id if self.limit is None else inward(outward(call.id, self.limit))
        self.thoughts.keep(self._key(id, call.name, arguments), thoughts)

    def find(self, id: str, name: str, arguments: str) -> tuple[PlacedReasoning, ...]:
        """The reasoning before this call."""
        return self.thoughts.find(self._key(id, name, arguments)) if len(self.thoughts) else ()

    def _key(self, id: str, name: str, arguments: str) -> bytes:
        try:  # callers may format anew what they send back
            written = _encode(_decode(arguments)) if arguments.strip() else b"{}"
        except (ValueError, RecursionError):
            written = arguments.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(written, digest_size=16)
        for part in (self.user, self.provider, plain(id), name):
            digest.update(b"\0" + part.encode("utf-8", "surrogatepass"))
        return digest.digest()


# ---- what is kept


class ReasoningRecorder:
    """Follows the events of one reply, and keeps the reasoning before its calls once it is complete."""

    __slots__ = (
        "_arguments",
        "_before",
        "_call",
        "_calls",
        "_pieces",
        "_placed",
        "_recall",
        "_said",
        "_since",
        "_size",
    )

    def __init__(self, recall: ReasoningScope) -> None:
        self._recall = recall
        self._said = 0
        self._size = (
            0  # characters of reasoning and arguments; more than the cache takes are not kept here either
        )
        self._pieces = TextPieces()
        self._since = 0  # characters said when the open thought began
        self._placed: list[PlacedReasoning] = []
        self._call: CallOpened | None = None
        self._before: list[PlacedReasoning] = []
        self._arguments = TextPieces()
        self._calls: list[tuple[CallOpened, str, tuple[PlacedReasoning, ...]]] = []

    def take(self, event: AnyEvent) -> None:
        """Take the next event."""
        if self._size > self._recall.thoughts.most:
            return
        match event:
            case TextDelta(text):
                self._close()
                self._said += len(text)
            case CallArgs(fragment):
                self._arguments.add(fragment)
                self._grow(fragment)
            case ThoughtDelta(text):
                if not self._pieces:
                    self._since = self._said
                self._pieces.add(text)
                self._grow(text)
            case ThoughtSigned(signed):
                at = self._since if self._pieces else self._said
                self._placed.append(PlacedReasoning(Thought(self._pieces.text(), signed), at))
                self._pieces = TextPieces()
            case ThoughtRedacted(data):
                self._close()
                self._placed.append(PlacedReasoning(Thought(redacted=data), self._said))
            case CallOpened():
                self._called()
                self._close()
                self._call, self._before, self._placed = event, self._placed, []
            case Stopped():
                self._called()
                for call, arguments, placed in self._calls:
                    self._recall.keep(call, arguments, placed)
            case _:
                pass

    def _grow(self, text: str) -> None:
        self._size += len(text)
        if self._size > self._recall.thoughts.most:
            self._pieces, self._arguments = TextPieces(), TextPieces()
            self._placed, self._before, self._calls = [], [], []

    def _close(self) -> None:
        if self._pieces:
            self._placed.append(PlacedReasoning(Thought(self._pieces.text()), self._since))
            self._pieces = TextPieces()

    def _called(self) -> None:
        """The call before is complete."""
        if self._call is not None and self._before:
            self._calls.append((self._call, self._arguments.text(), tuple(self._before)))
        self._call, self._arguments = None, TextPieces()


# ---- what is given back


def restore_reasoning(request: Request, recall: ReasoningScope) -> Request:
    """The request with the reasoning that its caller left out, where it stood."""
    if not len(recall.thoughts):
        return request
    turns = tuple(_turn(turn, recall) if turn.role == "assistant" else turn for turn in request.turns)
    return msgspec.structs.replace(request, turns=turns) if turns != request.turns else request


def _turn(turn: Turn, recall: ReasoningScope) -> Turn:
    if any(
        isinstance(part, Thought) and (part.signature or part.redacted is not None) for part in turn.parts
    ):
        return turn  # this caller keeps them
    found = {
        at: thoughts
        for at, part in enumerate(turn.parts)
        if isinstance(part, ToolCall) and (thoughts := recall.find(part.id, part.name, part.arguments))
    }
    if not found:
        return turn
    parts: list[AnyPart] = []
    said: list[AnyPart] = []  # since the last call that something was thought before
    start = 0
    for at, part in enumerate(turn.parts):
        if isinstance(part, Thought):
            continue  # the same without what makes it good
        if at in found:
            parts += _among(said, found[at], start)
            start += sum(len(inner.text) for inner in said if isinstance(inner, Text))
            said = []
        said.append(part)
    return Turn(turn.role, (*parts, *said))


def _among(said: list[AnyPart], thoughts: tuple[PlacedReasoning, ...], start: int) -> list[AnyPart]:
    """``said`` with ``thoughts`` where they stood in its text, of which the first character is the ``start``th."""
    parts: list[AnyPart] = []
    left = list(thoughts)
    for part in said:
        if isinstance(part, Text):
            text = part.text
            while left and left[0].after < start + len(text):
                cut = max(0, left[0].after - start)
                if cut:
                    parts.append(Text(text[:cut]))
                    text = text[cut:]
                    start += cut
                parts.append(left.pop(0).thought)
            start += len(text)
            parts.append(msgspec.structs.replace(part, text=text))
        else:
            parts.append(part)
    return [*parts, *(placed.thought for placed in left)]
