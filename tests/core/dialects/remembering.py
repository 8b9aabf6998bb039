"""A request translated with and without memory: what comes of it has to be the same."""

import json
from typing import Any

import msgspec

from penstock.core.body.envelope import Envelope, read_body, scan_body
from penstock.core.dialects import prepare
from penstock.core.dialects.interface import Prepared
from penstock.core.dialects.registry import caller_side
from penstock.core.dialects.translation_memory import TranslationMemory, TranslationScope
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.errors import InvalidRequest

Outcome = Prepared | tuple[str, str | None]
MOST = 64 << 20


def scope(
    memory: TranslationMemory | None = None, account: str = "usr_1", key: str = "key_1"
) -> TranslationScope:
    """A memory that bodies of any size are looked for in."""
    return TranslationScope(TranslationMemory(MOST) if memory is None else memory, account, key, least=0)


def scanned(dialect: str, body: bytes) -> Envelope:
    """The envelope of a body, with the places of its members where a scanner takes it."""
    rules = caller_side(dialect).body
    return scan_body(body, rules, rules.scan) or read_body(body, rules)


def outcome(
    envelope: Envelope,
    caller: str,
    upstream: str,
    profile: Profile = DEFAULT_PROFILE,
    memory: TranslationScope | None = None,
    reasoning: ReasoningScope | None = None,
    model: str = "up",
) -> Outcome:
    """What is prepared, or the words with which it is refused."""
    try:
        return prepare.prepare(
            envelope,
            caller=caller,
            upstream=upstream,
            model=model,
            profile=profile,
            reasoning=reasoning,
            memory=memory,
        )
    except InvalidRequest as error:
        return str(error), error.param


def same(
    envelope: Envelope,
    caller: str,
    upstream: str,
    profile: Profile,
    memory: TranslationScope,
    reasoning: ReasoningScope | None = None,
) -> Outcome:
    """What comes of it, which is the same without memory, with it, and when it is sent again."""
    long = outcome(envelope, caller, upstream, profile, None, reasoning)
    for _ in range(2):
        told = outcome(envelope, caller, upstream, profile, memory, reasoning)
        assert told == long, (caller, upstream, profile, envelope.body)
    return long


def shorter(dialect: str, body: bytes) -> list[bytes]:
    """The same request with ever more of its turns, up to all of them, and then again without the last one."""
    rows: Any
    field = caller_side(dialect).body.turns
    try:
        sent: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        rows = sent.get(field)
    except ValueError:
        return []
    if not isinstance(rows, list) or len(body) > 100_000:
        return []
    kept: list[Any] = rows
    counts = [*range(max(1, len(kept) - 5), len(kept) + 1), len(kept) - 1]
    return [json.dumps({**sent, field: kept[:count]}).encode() for count in counts if count > 0]
