"""Reasoning restoration: reasoning that a Chat caller left out is put back for upstreams that want to see it again."""

import msgspec
from msgspec import Raw

from penstock.core.neutral.request import Thought
from penstock.core.profile import Profile
from penstock.core.reasoning import signature
from penstock.core.reasoning.cache import ReasoningScope
from penstock.core.reasoning.tool_call_signatures import SKIPPED, extra_of

_encode = msgspec.json.Encoder(order="sorted").encode


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct, frozen=True):
    id: str = ""
    function: _Function = _Function()
    extra_content: Raw | None = None


_messages = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_calls = msgspec.json.Decoder(list[_Call]).decode
_CARRIERS = frozenset(
    {"reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "reasoning_text"}
)


def restore_reasoning_in_messages(messages: bytes, scope: ReasoningScope, profile: Profile) -> bytes | None:
    """The Chat messages with the reasoning that their caller left out; None where there is none to add.

    Everything else stays byte for byte.
    """
    rows = _messages(messages)
    changed = False
    for row in rows:
        sent = row.get("tool_calls")
        if sent is None:
            continue
        try:
            calls = _calls(sent)
        except msgspec.ValidationError:
            continue
        found = [
            [placed.thought for placed in scope.find(call.id, call.function.name, call.function.arguments)]
            for call in calls
        ]
        if profile.call_signatures and calls and all(call.extra_content is None for call in calls):
            row["tool_calls"] = _signed(sent, found)
            changed = True
        if profile.reasoning_field in REASONING_FIELDS:
            thoughts = [thought for of_call in found for thought in of_call]
            changed = _reasoned(row, thoughts, profile) or changed
    return _encode(rows) if changed else None


REASONING_FIELDS = frozenset({"reasoning_content", "reasoning"})


def _reasoned(row: dict[str, Raw], thoughts: list[Thought], profile: Profile) -> bool:
    """Put reasoning into a message with calls; whether there was any to put."""
    field = profile.reasoning_field
    if any(_says_something(row.get(name)) for name in _CARRIERS):
        return False
    if not thoughts and not (profile.reasoning_required and field not in row):
        return False
    row[field] = Raw(_encode("".join(thought.text for thought in thoughts)))
    origins = [signature.read_signature(thought.signature) for thought in thoughts if thought.signature]
    details = [entry for origin in origins if origin for entry in signature.carried_entries(origin.carrier)]
    if details:
        row["reasoning_details"] = Raw(_encode(details))
    return True


def _signed(sent: Raw, found: list[list[Thought]]) -> Raw:
    """The calls with the signatures that stood on them; the first has one, if only to say that it is lost."""
    calls = _messages(sent)
    for at, (call, thoughts) in enumerate(zip(calls, found, strict=True)):
        known = next((extra for thought in thoughts if (extra := extra_of(thought)) is not None), None)
        if known is not None:
            call["extra_content"] = known
        elif not at:
            call["extra_content"] = SKIPPED
    return Raw(_encode(calls))


def _says_something(raw: Raw | None) -> bool:
    return raw is not None and bytes(raw) not in {b"null", b'""', b"[]"}
