"""Assembly of tool calls in a Chat stream: fragments of several calls in any order in, one call after another out."""

import re

from msgspec import Raw

from penstock.core.dialects.chat.response_schema import CallFragment, present
from penstock.core.neutral.events import AnyEvent, CallArgs, CallOpened, ThoughtSigned
from penstock.core.reasoning.tool_call_signatures import carried_signature
from penstock.core.tools.call_ids import ReplyCalls

_STRING_MARK = re.compile(r'["\\]')
_MARK = re.compile(r'["{}\[\]]')
_COMPARED = 256 * 1024
"""Characters up to which a call's arguments are kept after they were given out, to know them if they come once more."""


class Extent:
    """Follows JSON text to the end of its first object: strings, escapes and brackets are all that it looks at."""

    __slots__ = ("_depth", "_escaped", "_in_string", "done")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.done = False

    def feed(self, text: str) -> int:
        """How much of ``text`` belongs to the object: all of it, or up to the bracket that closes it."""
        at = 1 if self._escaped and text else 0
        if at:
            self._escaped = False
        size = len(text)
        while at < size:
            found = (_STRING_MARK if self._in_string else _MARK).search(text, at)
            if found is None:
                break
            at = found.end()
            mark = found.group()
            if mark == '"':
                self._in_string = not self._in_string
            elif mark == "\\":
                if at == size:
                    self._escaped = True
                at += 1
            elif mark in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    self.done = True
                    return at
        return size

    @property
    def in_string(self) -> bool:
        """Whether the text so far ends inside a string."""
        return self._in_string


class _Call:
    """One call as far as it is known. ``pieces`` are its arguments; the first ``sent`` of them were given out."""

    __slots__ = ("extent", "extra", "forgotten", "id", "name", "opened", "pieces", "repeats", "sent", "size")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.extra: Raw | None = None
        self.pieces: list[str] = []
        self.size = 0
        self.sent = 0
        self.opened = False
        self.forgotten = False  # what was given out is not kept any more: nothing is compared with it
        self.repeats = False  # each fragment is all of the arguments so far, not what is new
        self.extent = Extent()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def blank(self) -> bool:
        """Complete, but only ``{}``: some upstreams send that as a placeholder before the real arguments."""
        return self.extent.done and self.size <= 8 and not self.sent and self.text.strip() == "{}"

    def add(self, text: str) -> None:
        """Take a fragment of the arguments."""
        if self.extent.done:
            if not self.blank or not text.strip().startswith("{"):
                return  # the whole arguments once more, or white space after them
            self.pieces, self.size, self.extent = [], 0, Extent()
        elif not self.size:
            if text.strip() in {"", "null"}:
                return
        elif len(text) >= self.size and text[0] in "{ \n" and self._is_repeat(text):
            self.repeats = True
            text = text[self.size :]
        used = self.extent.feed(text)
        rest, text = text[used:], text[:used]
        if text:
            self.pieces.append(text)
            self.size += len(text)
        if rest.strip() and self.blank:
            self.add(rest)

    def give(self) -> list[str]:
        """The pieces that were not given out yet."""
        due = self.pieces[self.sent :]
        self.sent = len(self.pieces)
        if self.size > _COMPARED:
            self.pieces, self.sent, self.forgotten = [], 0, True
        return due

    def _is_repeat(self, text: str) -> bool:
        """Whether a fragment holds everything so far and more, rather than going on from it.

        ``{"a":`` after ``{"a":`` may be either, since an object may stand where a value is awaited; anywhere else a
        second ``{`` would not be JSON.
        """
        if self.forgotten:
            return self.repeats
        so_far = self.text
        if not text.startswith(so_far):
            return False
        return self.repeats or self.extent.in_string or so_far.rstrip()[-1:] not in {":", "[", ","}


class Calls:
    """The calls of one reply. One is open at a time; what arrives for a later one waits until it is complete."""

    __slots__ = ("_by_index", "_current", "_model", "_names", "_order")

    def __init__(self) -> None:
        self._order: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._current = 0
        self._names = ReplyCalls()
        self._model = ""

    def name_reply(self, reply_id: str, model: str) -> None:
        """Give the reply's id, from which ids of calls without one are made, and whose calls they are."""
        self._model = model
        self._names.begin(reply_id)

    @property
    def any(self) -> bool:
        """Whether a call has been given out."""
        return any(call.opened for call in self._order)

    @property
    def busy(self) -> bool:
        """Whether a call is under way, so that nothing else may be given out."""
        return self._current < len(self._order) and not self._order[self._current].extent.done

    @property
    def nameless(self) -> bool:
        """Whether a call that has arguments never got a name."""
        return any(call.pieces and not call.name for call in self._order)

    def add(self, fragments: list[CallFragment]) -> list[AnyEvent]:
        """Take the fragments of one chunk; the events that are due."""
        many = len(fragments) > 1
        for position, fragment in enumerate(fragments):
            function = fragment.function
            name = (function.name if function else None) or ""
            arguments = (function.arguments if function else None) or ""
            call = self._find(fragment, name, arguments, position if many else None)
            call.id = call.id or fragment.id or ""
            call.name = call.name or name
            if present(fragment.extra_content):
                call.extra = fragment.extra_content.copy()
            if arguments:
                call.add(arguments)
        return self._due(flush=False)

    def close(self) -> None:
        """Something else has begun, and nothing is added to the calls so far. Only while not ``busy``."""
        self._current = len(self._order)

    def flush(self) -> list[AnyEvent]:
        """The events of everything still waiting, complete or not."""
        return self._due(flush=True)

    def _find(self, fragment: CallFragment, name: str, arguments: str, position: int | None) -> _Call:
        id, index = fragment.id or "", fragment.index
        if index is not None:
            call = self._by_index.get(index)
            if call is None or _begins_another(call, id, name, arguments):
                call = self._by_index[index] = self._new()
            return call
        last = self._order[-1] if self._order else None
        if id:
            known = next((call for call in self._order if call.id == id), None)
            if known is not None:
                return known
            return last if last is not None and not last.id and not name else self._new()
        at = len(self._order) - 1 if position is None else position
        call = self._order[at] if 0 <= at < len(self._order) else None
        if call is None or (name and call.name and _begins_another(call, id, name, arguments)):
            return self._new()
        return call

    def _new(self) -> _Call:
        call = _Call()
        self._order.append(call)
        return call

    def _due(self, *, flush: bool) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        while self._current < len(self._order):
            call = self._order[self._current]
            following = self._current + 1 < len(self._order)
            done = call.extent.done
            if not call.opened:
                if not (call.name and (call.id or done)) and not flush:
                    break
                if not call.name and flush:
                    self._current += 1
                    continue
                call.opened = True
                if call.extra is not None:
                    events.append(ThoughtSigned(carried_signature(self._model, call.extra)))
                events.append(CallOpened(self._names.name(call.id), call.name))
            if not call.blank:  # a call without arguments has {}
                events += [CallArgs(piece) for piece in call.give()]
            if not (flush or (done and following)):
                break
            self._current += 1
        return events


def _begins_another(call: _Call, id: str, name: str, arguments: str) -> bool:
    """Whether a fragment under the key of ``call`` is really the next call: upstreams that number every call 0."""
    if not name:
        return False
    if id and call.id and id != call.id:
        return call.extent.done or not call.pieces
    if id and id == call.id:
        return False
    text = arguments.strip()
    if call.forgotten or not call.extent.done or call.blank:
        return False
    return text.startswith("{") and text != call.text.strip()
