"""What a request has of types that a format did not know when it was written down: never a reason to refuse the turn.

A block, part or item stays in the conversation as text, as far as it says something that a model can read. A tool becomes
a function where it is like one; any other could be run by the format's own provider only, and is left out. Both are told.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from penstock.core.neutral.request import MOST_LOSSES
from penstock.errors import InvalidRequest

Members = dict[str, Raw]

_OPAQUE = frozenset(
    {"id", "type", "status", "call_id", "encrypted_content", "fingerprint", "signature", "cache_control"}
)
"""Members that mean nothing to another model."""
_MOST_OPAQUE = 16 * 1024
"""Bytes of a member that is kept as text: a longer one is data (an image, a sound), and paid for by the token."""
_SHOWN = 60

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(Members).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_text = msgspec.json.Decoder(str).decode


def said_by(kind: str, members: Members) -> str | None:
    """What something of an unknown type says, as text; None for nothing that a model can read."""
    kept = {
        name: value
        for name, value in members.items()
        if name not in _OPAQUE and len(bytes(value)) <= _MOST_OPAQUE
    }
    if not kept:
        return None
    if kept.keys() == {"text"} and bytes(kept["text"]).startswith(b'"'):
        return _text(kept["text"])
    return f"[{kind.replace('_', ' ')[:_SHOWN]}: {_encode(kept).decode()}]"


@dataclass(frozen=True, slots=True)
class KnownTypes:
    """What a format knows: ``tools`` says whether a type is one of its tools', '' for none; ``parts`` are those of messages.

    ``tool`` makes a tool of an unknown type a function of the format; None where it is not like one. ``nested``: parts that
    hold a list of parts in their ``content``.
    """

    tools: Callable[[str], bool]
    parts: frozenset[str]
    tool: Callable[[Members], Raw | None]
    nested: frozenset[str] = frozenset()


class Loosened:
    """A body without what is of an unknown type: ``body``, its ``losses``, and whether the provider's search was offered."""

    __slots__ = ("_known", "body", "left_out", "losses", "web_search")

    def __init__(self, body: bytes, known: KnownTypes) -> None:
        """Raises ``msgspec.ValidationError`` where the body is of another kind altogether."""
        self._known = known
        self.losses: dict[str, str] = {}
        self.left_out = False
        self.web_search = False
        fields = _object(body)
        changed: Members = {}
        tools, messages = fields.get("tools"), fields.get("messages")
        if tools is not None and bytes(tools).startswith(b"["):
            kept = [made for raw in _list(tools) if (made := self._tool(raw)) is not None]
            changed["tools"] = Raw(_encode(kept))
            self._check_choice(fields, empty=not kept)
        if messages is not None and bytes(messages).startswith(b"["):
            changed["messages"] = Raw(_encode([self._message(raw) for raw in _list(messages)]))
        self.body = _encode(fields | changed)

    def _lose(self, field: str, outcome: str) -> None:
        if len(self.losses) < MOST_LOSSES:
            self.losses.setdefault(field, outcome)

    def _tool(self, raw: Raw) -> Raw | None:
        members = _members(raw)
        kind = _kind_of(members)
        if not members or kind is None or self._known.tools(kind):
            return raw
        if kind.startswith("web_search"):
            self.web_search = True
            return None
        made = self._known.tool(members)
        self.left_out = self.left_out or made is None
        self._lose(f"tools.{kind}", "dropped" if made is None else "function")
        return made

    def _check_choice(self, fields: Members, *, empty: bool) -> None:
        """Refuse a call that is forced where no tool is left that could be called."""
        choice = fields.get("tool_choice")
        forced = choice is not None and bytes(choice) == b'"required"'
        if choice is not None and bytes(choice).startswith(b"{"):
            forced = _kind_of(_members(choice)) == "any"
        if self.left_out and empty and forced:
            raise InvalidRequest(
                "tool_choice: none of the tools is available with this model.", param="tool_choice"
            )

    def _message(self, raw: Raw) -> Raw:
        members = _members(raw)
        content = members.get("content")
        if content is None or not bytes(content).startswith(b"["):
            return raw
        return Raw(_encode({**members, "content": self._parts(content)}))

    def _parts(self, content: Raw) -> list[Raw]:
        return [made for raw in _list(content) if (made := self._part(raw)) is not None]

    def _part(self, raw: Raw) -> Raw | None:
        members = _members(raw)
        kind = _kind_of(members)
        if not members or kind is None:
            return raw
        if kind in self._known.parts:
            inner = members.get("content")
            if kind in self._known.nested and inner is not None and bytes(inner).startswith(b"["):
                return Raw(_encode({**members, "content": self._parts(inner)}))
            return raw
        said = said_by(kind, members)
        self._lose(f"messages.{kind}", "dropped" if said is None else "text")
        return None if said is None else Raw(_encode({"type": "text", "text": said}))


def _members(raw: Raw) -> Members:
    return _object(raw) if bytes(raw).startswith(b"{") else {}


def _kind_of(members: Members) -> str | None:
    """The type; '' where there is none, None where it is no text."""
    raw = members.get("type")
    if raw is None or bytes(raw) == b"null":
        return ""
    return _text(raw) if bytes(raw).startswith(b'"') else None
