"""The lane of bytes: a request for an upstream of the caller's own dialect, with what has to differ.

That is the model, the usage that we want to count, and reasoning: another provider's is left out where signatures are
checked, and what a Chat caller left out is put back where the upstream wants it.
"""

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.responses.encrypted_reasoning import is_our_encrypted_content
from penstock.core.neutral.request import Loss
from penstock.core.profile import Profile, extra_fields
from penstock.core.reasoning.cache import REASONING_FIELDS, ReasoningScope, restore_in_messages
from penstock.core.reasoning.signature import SIGNATURE_PREFIX
from penstock.core.tools.names import NO_NAMES, ToolNames
from penstock.errors import InvalidRequest


class Prepared(msgspec.Struct, frozen=True):
    """What goes to the upstream, what of the caller's request it does not say, and the way back for tool names.

    ``recall`` keeps the reply's thoughts, where the caller may not send them back; with ``hides_thoughts`` the caller gets
    thoughts without their text.
    """

    body: bytes
    losses: tuple[Loss, ...] = ()
    names: ToolNames = NO_NAMES
    recall: ReasoningScope | None = None
    hides_thoughts: bool = False


_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def with_extra(prepared: Prepared, profile: Profile) -> Prepared:
    """What goes to the upstream with the fields that its profile adds."""
    fields = _fields(prepared.body)
    more = {name: raw for name, raw in extra_fields(profile.extra_body).items() if name not in fields}
    return msgspec.structs.replace(prepared, body=_encode(fields | more))


_CALLS = b'"tool_calls"'
_OUR_SIGNATURE = f'"{SIGNATURE_PREFIX}'.encode()
_list = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_blocks = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Signed(msgspec.Struct):
    type: str = ""
    signature: str | None = None


_signed = msgspec.json.Decoder(_Signed).decode


def passed(
    envelope: Envelope, model: str, profile: Profile, recall: ReasoningScope | None = None
) -> Prepared:
    """The caller's body with what has to differ for ``model`` (the upstream's own id)."""
    if envelope.dialect == "responses":
        return _same_responses(envelope, model, profile)
    if envelope.dialect == "chat":
        return _chat(envelope, model, profile, recall)
    if profile.native_anthropic and _OUR_SIGNATURE in envelope.body:
        turns = _without_our_thoughts(bytes(envelope.fields["messages"]))
        if turns is not None:
            return Prepared(
                envelope.encode(model, {"messages": turns}), (Loss("messages.thinking", "dropped"),)
            )
    return Prepared(envelope.encode(model))


def _chat(envelope: Envelope, model: str, profile: Profile, recall: ReasoningScope | None) -> Prepared:
    changes: dict[str, bytes] = {}
    if envelope.stream and not envelope.include_usage and profile.stream_options:
        changes["stream_options"] = envelope.usage_options()
    if recall is None or not (profile.reasoning_field in REASONING_FIELDS or profile.call_signatures):
        return Prepared(envelope.encode(model, changes))
    if _CALLS in envelope.body:
        messages = restore_in_messages(bytes(envelope.fields["messages"]), recall, profile)
        if messages is not None:
            changes["messages"] = messages
    return Prepared(envelope.encode(model, changes), recall=recall if "tools" in envelope.fields else None)


def _without_our_thoughts(turns: bytes) -> bytes | None:
    """The messages without thinking that another provider's model did, or None where there is none.

    A conversation that has moved to Anthropic would be refused for signatures that Anthropic did not make. All other
    blocks stay as they were, byte for byte.
    """
    rows = _list(turns)
    changed = False
    for row in rows:
        content = bytes(row.get("content", Raw()))
        if content.startswith(b"[") and _OUR_SIGNATURE in content:
            blocks = _blocks(content)
            kept = [block for block in blocks if not _is_our_thought(block)]
            if len(kept) < len(blocks):
                changed = True
                row["content"] = Raw(_encode(kept))
    if not changed:
        return None
    return _encode([row for row in rows if bytes(row.get("content", Raw())) != b"[]"])


def _is_our_thought(block: Raw) -> bool:
    try:
        found = _signed(block)
    except msgspec.ValidationError:
        return False
    return found.type == "thinking" and (found.signature or "").startswith(SIGNATURE_PREFIX)


# ---- Responses

_OUR_THOUGHTS = (_OUR_SIGNATURE, b'"gwe1.')
_REASONING = "reasoning.encrypted_content"


class _Item(msgspec.Struct):
    type: str | None = None
    encrypted_content: str | None = None


_items = msgspec.json.Decoder(list[Raw]).decode
_item = msgspec.json.Decoder(_Item).decode
_words = msgspec.json.Decoder(list[str] | None).decode


def _same_responses(envelope: Envelope, model: str, profile: Profile) -> Prepared:
    """The caller's body, but stored nowhere: what one caller stores at the operator's provider is not another's to read.

    Where the caller wanted to have it stored, so that reasoning could be referred to, it is asked for in the form that
    can be sent back.
    """
    changes: dict[str, bytes] = {}
    losses: list[Loss] = []
    stored = envelope.fields.get("store")
    if stored is None or bytes(stored) != b"false":
        changes["store"] = b"false"
        if stored is not None and bytes(stored) == b"true":
            losses.append(Loss("store", "dropped"))
        if profile.encrypted_reasoning:
            included = _included(envelope)
            if _REASONING not in included:
                changes["include"] = _encode([*included, _REASONING])
    if any(mark in envelope.body for mark in _OUR_THOUGHTS):
        items = _without_our_reasoning(bytes(envelope.fields["input"]))
        if items is not None:
            changes["input"] = items
            losses.append(Loss("input.reasoning", "dropped"))
    return Prepared(envelope.encode(model, changes), tuple(losses))


def _included(envelope: Envelope) -> list[str]:
    raw = envelope.fields.get("include")
    try:
        return [] if raw is None else _words(raw) or []
    except msgspec.ValidationError as error:
        raise InvalidRequest("include must be a list of strings.", param="include") from error


def _without_our_reasoning(items: bytes) -> bytes | None:
    """The input without reasoning that another provider's model did, or None where there is none."""
    if not items.startswith(b"["):
        return None
    rows = _items(items)
    kept = [row for row in rows if not _is_our_reasoning(row)]
    return _encode(kept) if len(kept) < len(rows) else None


def _is_our_reasoning(row: Raw) -> bool:
    try:
        item = _item(row)
    except msgspec.ValidationError:
        return False
    return item.type == "reasoning" and is_our_encrypted_content(item.encrypted_content or "")
