"""Foreign reasoning in a Responses body: items that only another provider, or another account, can decrypt are left out."""

import re

import msgspec
from msgspec import Raw

from penstock.core.dialects.interface import Relieved
from penstock.core.neutral.request import Loss
from penstock.core.reasoning.signature import ENCRYPTED_PREFIX, MAKER_PREFIX, SIGNATURE_PREFIX

_PREFIXES = (SIGNATURE_PREFIX, MAKER_PREFIX, ENCRYPTED_PREFIX)
MARKS = tuple(prefix.encode() for prefix in _PREFIXES)
"""What strings begin with in a body that may hold reasoning of ours."""
_LEFT_OUT = Loss("messages.thinking", "dropped")
_NAMED = re.compile(r"for item (rs_\w+)")


class _Item(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    id: str | None = None
    encrypted_content: str | None = None


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_item = msgspec.json.Decoder(_Item).decode
_encode = msgspec.json.Encoder().encode


def without_our_reasoning(items: bytes) -> bytes | None:
    """The input without reasoning that another provider's model did, or None where there is none."""
    if not items.startswith(b"["):
        return None
    rows = _items(items)
    kept = [row for row in rows if not _is_ours(_read(row))]
    return _encode(kept) if len(kept) < len(rows) else None


def without_reasoning(body: bytes, said: str) -> Relieved | None:
    """A body that was refused, without the reasoning that it was refused for; None where it has none.

    Reasoning since the user's last message stays where the vendor ``said`` that an earlier item is at fault: the turn under
    way goes on from it, and what was before it matters little.
    """
    fields = _fields(body)
    given = bytes(fields.get("input", Raw()))
    if not given.startswith(b"["):
        return None
    rows = _items(given)
    items = [_read(row) for row in rows]
    turn = max((at for at, item in enumerate(items) if item.role == "user"), default=-1)
    named = _NAMED.search(said)
    earlier = named is not None and any(item.id == named.group(1) for item in items[: turn + 1])
    kept = [
        row
        for at, (row, item) in enumerate(zip(rows, items, strict=True))
        if item.type != "reasoning" or (earlier and at > turn)
    ]
    if len(kept) == len(rows):
        return None
    fields["input"] = Raw(_encode(kept))
    return Relieved(_encode(fields), (_LEFT_OUT,))


def _read(row: Raw) -> _Item:
    try:
        return _item(row)
    except msgspec.ValidationError:
        return _Item()


def _is_ours(item: _Item) -> bool:
    return item.type == "reasoning" and (item.encrypted_content or "").startswith(_PREFIXES)
