"""Compaction in the Responses dialect: the item that takes a conversation's place, where we had a summary of it written.

A client asks by a ``compaction_trigger`` as the last item, or by ``POST /responses/compact``, and sends the item back in
later requests. Ours holds the summary itself, so any model can go on from it; another's can be read by its maker alone.
Facts: OpenAI's Python package 3.57.0, and Codex's ``compact_remote_v2.rs`` and ``endpoint/compact.rs``, read 2026-11-30.
"""

import base64

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.summary import INTRODUCTION

TRIGGER = "compaction_trigger"
ITEMS = frozenset({"compaction", "compaction_summary", "context_compaction"})
"""Types of items that stand for a conversation; Codex has used all three."""
MARK = b'"gwc1.'
"""Begins the content of such an item that is ours, as it stands in a body."""

_PREFIX = "gwc1."
_MOST_KEPT = 256 * 1024
"""Bytes of the user's messages that ``/responses/compact`` repeats, the newest: Codex itself keeps 64,000 tokens of them."""


class _Summary(msgspec.Struct, frozen=True, array_like=True):
    text: str


class _Item(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    content: str | list[Raw] | None = None
    encrypted_content: str | None = None


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """A message of the user as it is given back."""

    content: list[Raw]
    role: str = "user"


class _Text(msgspec.Struct, frozen=True, tag_field="type", tag="input_text"):
    text: str


class Compaction(msgspec.Struct, frozen=True, tag_field="type", tag="compaction"):
    """The item."""

    id: str
    encrypted_content: str


_encode = msgspec.json.Encoder().encode
_summary = msgspec.json.Decoder(_Summary).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_item = msgspec.json.Decoder(_Item).decode


def sealed_summary(text: str) -> str:
    """The ``encrypted_content`` for a summary."""
    return _PREFIX + base64.urlsafe_b64encode(_encode(_Summary(text))).decode("ascii").rstrip("=")


def opened_summary(encrypted_content: str | None) -> str | None:
    """The summary in an item's content; None where it is not ours."""
    if encrypted_content is None or not encrypted_content.startswith(_PREFIX):
        return None
    text = encrypted_content.removeprefix(_PREFIX)
    try:
        return _summary(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)).text
    except ValueError:
        return None


def wants_compaction(envelope: Envelope) -> bool:
    """Whether a request asks that its conversation be compacted."""
    if TRIGGER.encode() not in envelope.body:
        return False
    return any(item.type == TRIGGER for item in _read(envelope.value("input")))


def readable(items: list[Raw]) -> list[Raw]:
    """The items with those of our own making as messages, which an upstream can read."""
    return [_readable(raw) if MARK in bytes(raw) else raw for raw in items]


def _readable(raw: Raw) -> Raw:
    try:
        item = _item(raw)
    except msgspec.ValidationError:
        return raw
    summary = opened_summary(item.encrypted_content) if item.type in ITEMS else None
    return raw if summary is None else Raw(_encode(_said(INTRODUCTION + summary)))


def _said(text: str) -> _Message:
    return _Message([Raw(_encode(_Text(text)))])


def kept_messages(envelope: Envelope) -> bytes:
    """The user's messages of a request, as items parted by commas: the newest ones, as far as they are kept."""
    raw = envelope.value("input")
    said = [_said(msgspec.json.decode(raw, type=str))] if raw.startswith(b'"') else []
    for item in _read(raw):
        if item.role == "user" and item.type in (None, "message") and item.content:
            content = item.content
            said.append(_said(content) if isinstance(content, str) else _Message(content))
    kept: list[bytes] = []
    size = 0
    for message in reversed(said):
        encoded = _encode(message)
        size += len(encoded)
        if size > _MOST_KEPT:
            break
        kept.append(encoded)
    return b",".join(reversed(kept))


def _read(raw: bytes) -> list[_Item]:
    items: list[_Item] = []
    for each in _items(raw) if raw.startswith(b"[") else ():
        try:
            items.append(_item(each))
        except msgspec.ValidationError:  # an item of another kind
            continue
    return items
