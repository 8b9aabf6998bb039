"""Foreign reasoning in a Chat body: members of messages that hold reasoning which the upstream cannot read are left out.

Chat has no field of its own for reasoning, so every vendor has another: what one gives, the next ignores or refuses. A
signature on a call (``extra_content``) is Google's, entries of ours only a gateway can read, and a vendor whose messages are
closed (``Profile.closed_messages``) gets none but its own member.
"""

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.interface import Relieved
from penstock.core.neutral.request import Loss
from penstock.core.profile import Profile
from penstock.core.reasoning.signature import MAKER_PREFIX, SIGNATURE_PREFIX, is_ours

LEFT_OUT = Loss("messages.thinking", "dropped")

MEMBERS = (
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "thinking_blocks",
    "reasoning_text",
    "reasoning_opaque",
)
"""Members of an assistant's message that hold reasoning, by the vendors and gateways that made them up."""
_TEXTS = ("reasoning_content", "reasoning", "reasoning_text")
_LISTS = ("reasoning_details", "thinking_blocks")
_OURS = (f'"{SIGNATURE_PREFIX}'.encode(), f'"{MAKER_PREFIX}'.encode())
_EXTRA = b'"extra_content"'
_OUR_MARKS = tuple(mark[1:] for mark in _OURS)
_EXTRA_MARK = _EXTRA[1:]
_MEMBER_MARKS = tuple(b'%b"' % name.encode() for name in MEMBERS)
MARKS = (*_OUR_MARKS, _EXTRA_MARK, *_MEMBER_MARKS)
"""What strings begin with in a body that may hold reasoning."""
_GOOGLE = "gemini"


class _Entry(msgspec.Struct):
    index: int | None = None
    signature: str | None = None
    data: str | None = None


_rows = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_entry = msgspec.json.Decoder(_Entry).decode
_encode = msgspec.json.Encoder().encode


def is_suspect(envelope: Envelope, model: str, profile: Profile) -> bool:
    """Whether a body may hold reasoning that ``model`` cannot read."""
    if envelope.shows(*_OUR_MARKS):
        return True
    if envelope.shows(_EXTRA_MARK) and not _takes_extra(model, profile):
        return True
    return profile.closed_messages and envelope.shows(*_MEMBER_MARKS)


def without_foreign(messages: bytes, model: str, profile: Profile) -> bytes | None:
    """The messages without reasoning that ``model`` cannot read; None where there is none. All else stays as it was."""
    rows = _rows(messages)
    changed = False
    for row in rows:
        if bytes(row.get("role", Raw())) != b'"assistant"':
            continue
        changed = _without_ours(row) or changed
        ours = any(mark in bytes(row.get("tool_calls", Raw())) for mark in _OURS)
        if ours or not _takes_extra(model, profile):
            changed = _without_extra(row) or changed
        if profile.closed_messages:
            changed = _closed(row, profile) or changed
    return _encode(rows) if changed else None


def without_reasoning(body: bytes, said: str) -> Relieved | None:  # noqa: ARG001 - no vendor of the format says which it means
    """A body that was refused, without any reasoning in its history; None where it has none."""
    fields = _fields(body)
    rows = _rows(fields["messages"])
    changed = False
    for row in rows:
        changed = _without_extra(row) or changed
        for name in MEMBERS:
            changed = row.pop(name, None) is not None or changed
    if not changed:
        return None
    fields["messages"] = Raw(_encode(rows))
    return Relieved(_encode(fields), (LEFT_OUT,))


def _takes_extra(model: str, profile: Profile) -> bool:
    """Whether Google's signatures can be read there: at Google, or at whoever serves its models."""
    return profile.call_signatures or _GOOGLE in model.lower()


def _without_ours(row: dict[str, Raw]) -> bool:
    changed = False
    for name in _LISTS:
        given = bytes(row.get(name, Raw()))
        if not given.startswith(b"[") or not any(mark in given for mark in _OURS):
            continue
        raws = _raws(given)
        entries = [_read(raw) for raw in raws]
        # a client that keeps the deltas of a stream sends an entry back in pieces, of which one is signed
        ours = {entry.index for entry in entries if entry.index is not None and _is_ours(entry)}
        kept = [
            raw
            for raw, entry in zip(raws, entries, strict=True)
            if not _is_ours(entry) and entry.index not in ours
        ]
        changed = changed or len(kept) < len(raws)
        if kept:
            row[name] = Raw(_encode(kept))
        else:
            del row[name]
    return changed


def _read(raw: Raw) -> _Entry:
    try:
        return _entry(raw)
    except msgspec.ValidationError:
        return _Entry()


def _is_ours(entry: _Entry) -> bool:
    return is_ours(entry.signature or "") or is_ours(entry.data or "")


def _without_extra(row: dict[str, Raw]) -> bool:
    given = bytes(row.get("tool_calls", Raw()))
    if _EXTRA not in given:
        return False
    try:
        calls = _rows(given)
    except msgspec.ValidationError:
        return False
    found = [bytes(call.pop("extra_content", Raw())) for call in calls]
    if not any(extra not in (b"", b"null") for extra in found):
        return False
    row["tool_calls"] = Raw(_encode(calls))
    return True


def _closed(row: dict[str, Raw], profile: Profile) -> bool:
    """Leave the one member that the vendor knows, with the text that another one has."""
    own = profile.reasoning_field
    strange = [name for name in MEMBERS if name in row and name != own]
    if not strange:
        return False
    if own in _TEXTS and own not in row:
        text = next((row[name] for name in _TEXTS if bytes(row.get(name, Raw())).startswith(b'"')), None)
        if text is not None:
            row[own] = text
    for name in strange:
        del row[name]
    return True
