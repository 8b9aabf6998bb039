"""Translation memory: what was decoded and encoded of a conversation, so that its next request is only what it adds.

Agents send the same tools and the same history with each request. Two halves know nothing of each other, and each
compares all that it rests on, so there is no state that could be forgotten in a key:

- *decoded*: by the bytes of the tools, and of the messages from the first one on. A decoder goes on from a ``Mark``, a
  place between two messages; all that it had gathered by then follows from the bytes before it.
- *encoded*: by the turns and the tools as values, under everything else that their encoder was told. An encoder goes on
  from a mark before a turn of the assistant that both requests have: no encoder looks across one.

Whatever goes wrong on the way is left to the long way, which has the words. A key finds only what came with it: nobody can
learn from the time of an answer what others have sent.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.body.request_parts import RequestParts
from penstock.core.neutral.request import Loss, Tool, Turn
from penstock.core.neutral.size import OVERHEAD, turn_bytes
from penstock.core.profile import Profile

LEAST_BODY = 8 * 1024
"""Bytes of a body from which it is worth remembering; a shorter one is decoded sooner than it is found."""
MOST_CONVERSATIONS = 8
"""Of one key, for one model: as many as an agent and its helpers lead at a time."""
MOST_KEPT = 512
"""Of all of them together, so that their bytes are quickly added up."""
_BETWEEN_MARKS = 256
"""Bytes between two marks in what a caller sent: fewer are decoded again as quickly as a mark is made."""

_items = msgspec.json.Decoder(list[Raw]).decode
_SPACE = b" \t\r\n"


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A place in a conversation to go on from: how much there was by then of everything that is gathered in order.

    ``at`` counts messages on the way in and turns on the way out, ``end`` is where the last message ends in the bytes.
    ``bytes`` is what all before it takes in memory.
    """

    at: int
    end: int = 0
    turns: int = 0
    rows: int = 0
    losses: int = 0
    more: int = 0
    """Losses of the second kind, or names."""
    calls: int = 0
    called: str = ""
    bytes: int = 0
    parts: int = 0
    """Of the last turn, to which messages after it may add; 0 for none."""


BEGINNING = Mark(0)


class Cost(Protocol):
    """What is kept of one conversation."""

    @property
    def cost(self) -> int:
        """Bytes that it takes, about."""
        ...


T = TypeVar("T", bound=Cost)


class Conversations(Generic[T]):
    """Conversations of all keys. Where they take more than ``most`` bytes, the least recently used go."""

    __slots__ = ("_age", "_kept", "_most")

    def __init__(self, most: int) -> None:
        self._kept: OrderedDict[Hashable, tuple[int, tuple[T, ...]]] = OrderedDict()
        self._most = most
        self._age = 0

    @property
    def size(self) -> int:
        """Bytes of all that is kept, about."""
        # added up each time: large bodies are looked at in a thread, and a sum that both change would drift
        return sum([kept.cost for _, found in [*self._kept.values()] for kept in found])

    def find(self, key: Hashable) -> tuple[T, ...]:
        """Those under ``key``, the latest first."""
        return self._kept.get(key, (0, ()))[1]

    def keep(self, key: Hashable, kept: T, instead: T | None = None) -> None:
        """Keep one, ``instead`` of the one that it goes on from."""
        if kept.cost > self._most:
            return
        others = [each for each in self.find(key) if each is not instead]
        room = self._most - kept.cost
        staying: list[T] = []
        for each in others[: MOST_CONVERSATIONS - 1]:
            room -= each.cost
            if room < 0:
                break
            staying.append(each)
        self._kept[key] = self._age, (kept, *staying)
        with suppress(KeyError):  # the other thread has just given them up
            self._kept.move_to_end(key)
            while self.size > self._most or len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)

    def grow_older(self) -> None:
        """Forget what was not used since this was called last."""
        for key, (age, _) in [*self._kept.items()]:
            if age < self._age:
                self._kept.pop(key, None)
        self._age += 1


class DecodedTools(msgspec.Struct, frozen=True):
    """Tools as their caller wrote them, and what they were decoded into."""

    raw: bytes
    tools: tuple[Tool, ...]
    search: bool
    losses: tuple[Loss, ...]


class DecodedConversation(msgspec.Struct, frozen=True):
    """The messages of a request as their caller wrote them, and what they were decoded into, mark by mark."""

    raw: bytes
    turns: tuple[Turn, ...]
    losses: tuple[Loss, ...]
    names: tuple[str, ...]
    marks: tuple[Mark, ...]
    tools: DecodedTools
    cost: int

    def common(self, raw: bytes) -> int:
        """The number of marks, from the first on, before which ``raw`` has the same messages."""
        mine, marks = memoryview(self.raw), self.marks
        if not marks or raw.startswith(mine[: marks[-1].end]):
            return len(marks)
        low, high, same = 0, len(marks) - 1, 0
        while low < high:
            middle = (low + high + 1) // 2
            if raw.startswith(mine[same : marks[middle - 1].end], same):
                low, same = middle, marks[middle - 1].end
            else:
                high = middle - 1
        return low


class EncodedTools(msgspec.Struct, frozen=True):
    """Tools, and the JSON list that they were encoded as."""

    tools: tuple[Tool, ...]
    search: bool
    encoded: bytes
    losses: tuple[Loss, ...]


NO_TOOLS = EncodedTools((), search=False, encoded=b"[]", losses=())


class EncodedTurns(msgspec.Struct, frozen=True):
    """Turns, and the messages that they were encoded as, mark by mark; ``instruction`` is what else these say."""

    turns: tuple[Turn, ...]
    instruction: str | None
    rows: tuple[bytes, ...]
    losses: tuple[Loss, ...]
    more: tuple[Loss, ...]
    calls: tuple[str, ...]
    marks: tuple[Mark, ...]
    cost: int

    @property
    def encoded(self) -> Raw:
        """All messages, as a JSON list."""
        return Raw(b"[%b]" % b",".join(self.rows))

    def common(self, turns: Sequence[Turn]) -> int:
        """The number of turns with which both begin."""
        for at, (one, other) in enumerate(zip(self.turns, turns, strict=False)):
            if one is not other and one != other:
                return at
        return min(len(self.turns), len(turns))


class EncodedConversation(msgspec.Struct, frozen=True):
    """A request that was encoded."""

    turns: EncodedTurns
    tools: EncodedTools

    @property
    def cost(self) -> int:
        """Bytes that it takes, about."""
        return self.turns.cost + 3 * len(self.tools.encoded)


class TranslationMemory:
    """What this process remembers of the requests that it translated; ``most`` bytes, 0 for nothing."""

    __slots__ = ("decoded", "encoded", "on")

    def __init__(self, most: int) -> None:
        self.on = most > 0
        self.decoded: Conversations[DecodedConversation] = Conversations(most // 2)
        self.encoded: Conversations[EncodedConversation] = Conversations(most // 2)

    def grow_older(self) -> None:
        """Forget what was not used since this was called last."""
        self.decoded.grow_older()
        self.encoded.grow_older()


class Shelf(msgspec.Struct, Generic[T], frozen=True):
    """What is kept of one key's conversations for one purpose."""

    conversations: Conversations[T]
    key: Hashable

    def all(self) -> tuple[T, ...]:
        """All of it, the latest first."""
        return self.conversations.find(self.key)

    def keep(self, kept: T, instead: T | None) -> None:
        """Keep one more, ``instead`` of the one that it continues."""
        self.conversations.keep(self.key, kept, instead)


class TranslationScope(msgspec.Struct, frozen=True):
    """The part of the memory that is for one key of one account."""

    memory: TranslationMemory
    account: str
    api_key: str
    least: int = LEAST_BODY
    """Bytes of a body from which it is looked for."""

    def takes(self, envelope: Envelope) -> bool:
        """Whether a body is worth it."""
        return self.memory.on and len(envelope.body) >= self.least

    def decoded(self, caller: str) -> Shelf[DecodedConversation]:
        """Of what came in the dialect ``caller``."""
        return Shelf(self.memory.decoded, (self.account, self.api_key, caller))

    def encoded(self, upstream: str, model: str, profile: Profile) -> Shelf[EncodedConversation]:
        """Of what went to such an upstream: all that an encoder is told besides the request."""
        return Shelf(self.memory.encoded, (self.account, self.api_key, upstream, model, profile))


# ---- on the way in


class MessageDecoder(Protocol):
    """Decodes the messages of one request, one after the other."""

    turns: list[Turn]
    names: dict[str, None]
    called: str

    @property
    def told(self) -> list[Loss]:
        """Losses so far."""
        ...

    @property
    def lost(self) -> int:
        """How many."""
        ...

    def lose(self, field: str, outcome: str = "dropped") -> None:
        """Note a loss."""
        ...

    def begin(self, messages: bytes) -> None:
        """These are the messages, a JSON list. Raises ``ValueError``."""
        ...

    def take(self, at: int) -> bool:
        """Take the next one, number ``at``; whether all that it says is in the turns. Raises ``InvalidRequest``."""
        ...

    def finish(self) -> None:
        """There are no more."""
        ...


class Place(msgspec.Struct, frozen=True):
    """Where a reading begins: behind so many ``marks`` of a conversation that begins alike; of none, at the beginning."""

    before: DecodedConversation | None
    marks: int

    @property
    def mark(self) -> Mark:
        """The last of these marks."""
        return BEGINNING if self.before is None else self.before.marks[self.marks - 1]

    def rest(self, raw: bytes) -> bytes:
        """The messages after it, as a list of their own."""
        rest = raw[self.mark.end :].lstrip(_SPACE)
        if self.mark.end:
            # what is left of the list after one of its objects
            rest = b"[" + rest[1:] if rest.startswith(b",") else b"[]"
        return rest


FROM_THE_START = Place(None, 0)


def find_place(raw: bytes, known: Iterable[DecodedConversation]) -> Place:
    """The last place up to which a known conversation has the same messages."""
    found = FROM_THE_START
    for each in known:
        common = each.common(raw)
        if common and each.marks[common - 1].end > found.mark.end:
            found = Place(each, common)
    return found


def decode_conversation(
    raw: bytes, decoder: MessageDecoder, place: Place, tools: DecodedTools
) -> tuple[DecodedConversation, DecodedConversation | None]:
    """Let ``decoder`` decode the messages after ``place``; and the conversation that this one continues.

    Raises what ``decoder`` raises, and ``ValueError`` where something else than messages is there.
    """
    before, mark = place.before, place.mark
    placed: list[Mark] = []
    if before is not None:
        placed += before.marks[: place.marks]
        decoder.turns += before.turns[: mark.turns]
        if decoder.turns and 0 < mark.parts < len(decoder.turns[-1].parts):
            last = decoder.turns[-1]
            decoder.turns[-1] = Turn(last.role, last.parts[: mark.parts])
        decoder.names.update(dict.fromkeys(before.names[: mark.more]))
        decoder.called = mark.called
        for loss in before.losses[: mark.losses]:
            decoder.lose(loss.field, loss.outcome)
    rest = place.rest(raw)
    end, spent, marked = mark.end or 1, mark.bytes, mark.end
    turns, names = decoder.turns, decoder.names
    decoder.begin(rest)
    for at, message in enumerate(_items(rest), mark.at):
        begin = raw.index(b"{", end)  # between two objects there are white space and a comma alone
        end = begin + len(message)
        had, named = len(turns), len(names)
        last = turns[-1] if turns else None
        settled = decoder.take(at)
        spent += len(message)
        if last is not None and turns[had - 1] is not last:
            spent += turn_bytes(turns[had - 1]) - turn_bytes(last)
        for turn in turns[had:]:
            spent += turn_bytes(turn)
        if len(names) > named:
            spent += 2 * len(message)
        if settled and end - marked >= _BETWEEN_MARKS:
            marked = end
            spent += OVERHEAD
            lost, called = decoder.lost, decoder.called
            parts = len(turns[-1].parts) if turns else 0
            placed.append(Mark(at + 1, end, len(turns), 0, lost, len(names), 0, called, spent, parts))
    decoder.finish()
    found = DecodedConversation(
        raw,
        tuple(decoder.turns),
        tuple(decoder.told),
        tuple(decoder.names),
        tuple(placed),
        tools,
        spent + OVERHEAD + 3 * len(tools.raw),
    )
    return found, before if before is not None and 2 * place.marks >= len(before.marks) else None


class ConversationSource:
    """What one reading of a request finds on the shelf, and what it puts there."""

    __slots__ = ("_known", "_shelf", "offered", "parts", "place")

    def __init__(self, parts: RequestParts, shelf: Shelf[DecodedConversation]) -> None:
        self.parts = parts
        self._shelf = shelf
        self._known = shelf.all()
        self.offered = self.tools(parts.tools)
        """The tools, where they are known already; else whoever reads them puts them here."""
        self.place = find_place(parts.messages, self._known)
        """Where the messages are decoded from; who finds that what is before it means something else now puts another here."""

    def tools(self, raw: bytes) -> DecodedTools | None:
        """What these were decoded into; None where they are not known."""
        return next((each.tools for each in self._known if each.tools.raw == raw), None)

    def conversation(self, decoder: MessageDecoder) -> DecodedConversation:
        """The messages, decoded from where none is known. Raises ``ValueError`` before the tools are there."""
        if self.offered is None:
            raise ValueError("the tools come first")
        found, before = decode_conversation(self.parts.messages, decoder, self.place, self.offered)
        self._shelf.keep(found, before)
        return found


# ---- on the way out


def segments(turns: Sequence[Turn], start: int) -> list[tuple[int, int]]:
    """Where the parts of a conversation begin and end of which each is encoded alone: before each turn of the assistant.

    Leading system turns belong to the part after them.
    """
    begins = [start]
    spoken = start > 0
    for at in range(start, len(turns)):
        role = turns[at].role
        if role == "assistant" and spoken and at > start:
            begins.append(at)
        spoken = spoken or role != "system"
    return list(zip(begins, [*begins[1:], len(turns)], strict=True))


Json = dict[str, object]


def changes_speaker(before: Json, after: Json) -> bool:
    """Whether the assistant begins to speak: no format of messages by role joins these."""
    return before["role"] != _ASSISTANT and after["role"] == _ASSISTANT


_ASSISTANT = "assistant"


class TurnsEncoder(Protocol):
    """Encodes the turns of one request, part by part."""

    calls: list[str]
    """The ids of calls so far, in order."""

    @property
    def lost(self) -> tuple[int, int]:
        """How many losses there are so far, and how many of them of order."""
        ...

    @property
    def told(self) -> list[Loss]:
        """Losses so far but those of order."""
        ...

    @property
    def told_of_order(self) -> list[Loss]:
        """Losses of order so far, which are told before or after all others."""
        ...

    def resume(self, losses: Sequence[Loss], more: Sequence[Loss], calls: Sequence[str]) -> None:
        """Begin with what was there by a mark."""
        ...

    def part(self, turns: Sequence[Turn], *, first: bool, last: bool) -> list[Json]:
        """The messages of a part. Raises ``InvalidRequest``."""
        ...

    def apart(self, before: Json, after: Json) -> bool:
        """Whether nothing joins two messages of which the second begins a part."""
        ...

    def ordered(self, messages: list[Json]) -> list[Json]:
        """The messages as they may follow each other; no two are joined of which only the second is the assistant's."""
        ...

    def end(self, messages: list[Json]) -> None:
        """These are the last ones. Raises ``InvalidRequest``."""
        ...


def encode_conversation(
    known: Sequence[EncodedConversation],
    turns: Sequence[Turn],
    instruction: str | None,
    encoder: TurnsEncoder,
) -> tuple[list[Json], EncodedTurns, EncodedConversation | None]:
    """Let ``encoder`` encode the turns that no known conversation begins with.

    The last messages, from one of the assistant's on where there is one; all of them; and the conversation that this one
    continues. Raises what ``encoder`` raises.
    """
    before: EncodedConversation | None = None
    placed: list[Mark] = []
    for each in known:
        if each.turns.instruction == instruction:
            common = each.turns.common(turns)
            # the turn after a mark, the assistant's, is a condition of it
            held = [mark for mark in each.turns.marks if mark.at < common]
            if held and (not placed or held[-1].at > placed[-1].at):
                before, placed = each, held
    mark = placed[-1] if placed else BEGINNING
    rows: list[bytes] = []
    if before is not None:
        old = before.turns
        rows += old.rows[: mark.rows]
        encoder.resume(old.losses[: mark.losses], old.more[: mark.more], old.calls[: mark.calls])
        if 2 * len(placed) < len(old.marks):
            before = None
    spent = mark.bytes
    pending: list[Json] = []
    for start, end in segments(turns, mark.at):
        (losses, more), calls = encoder.lost, len(encoder.calls)
        some = turns[start:end]
        part = encoder.part(some, first=start == 0, last=end == len(turns))
        if pending and part and encoder.apart(pending[-1], part[0]):
            more -= encoder.lost[1]  # what is pending may lose something of its order, as this part may have
            for row in encoder.ordered(pending):
                encoded = _encode(row)
                rows.append(encoded)
                spent += len(encoded)
            spent += OVERHEAD
            placed.append(Mark(start, 0, 0, len(rows), losses, more + encoder.lost[1], calls, "", spent))
            pending = []
        pending += part
        for turn in some:
            spent += turn_bytes(turn)
    last = encoder.ordered(pending)
    encoder.end(last)
    ending = [_encode(row) for row in last]
    found = EncodedTurns(
        tuple(turns),
        instruction,
        (*rows, *ending),
        tuple(encoder.told),
        tuple(encoder.told_of_order),
        tuple(encoder.calls),
        tuple(placed),
        spent + sum(map(len, ending)) + OVERHEAD,
    )
    return last, found, before


class ConversationSink:
    """What one writing of a request finds on the shelf, and what it puts there."""

    __slots__ = ("_known", "_tools", "_turns")

    def __init__(self, known: Sequence[EncodedConversation]) -> None:
        self._known = known
        self._tools = NO_TOOLS
        self._turns: tuple[EncodedTurns, EncodedConversation | None] | None = None

    def conversation(
        self, turns: Sequence[Turn], instruction: str | None, encoder: TurnsEncoder
    ) -> tuple[list[Json], EncodedTurns]:
        """The last messages and all of them, encoded from where none is known. Raises what ``encoder`` raises."""
        last, found, before = encode_conversation(self._known, turns, instruction, encoder)
        self._turns = found, before
        return last, found

    def tools(
        self, tools: tuple[Tool, ...], *, search: bool, encode: Callable[[], tuple[bytes, Iterable[Loss]]]
    ) -> EncodedTools:
        """The tools, encoded where they are not known."""
        known = (each.tools for each in self._known)
        found = next((each for each in known if each.search is search and each.tools == tools), None)
        if found is None:
            encoded, losses = encode()
            found = EncodedTools(tools, search, encoded, tuple(losses))
        self._tools = found
        return found

    def remember(self, shelf: Shelf[EncodedConversation]) -> None:
        """Keep what was written, once it is complete."""
        if self._turns is not None:
            turns, before = self._turns
            shelf.keep(EncodedConversation(turns, self._tools), before)


_encode = msgspec.json.Encoder().encode
