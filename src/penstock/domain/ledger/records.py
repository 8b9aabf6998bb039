"""Records: what the ledger writes in its journal, and reads there after a process has died.

The ordinary request is two short records of a fixed size, which name its kind and its caller by numbers. What a number means
is said by a record of its own, before the first that names it in the same segment of the journal: a segment is read alone.
Anything that has no room in those is a longer record with all its words, which is also the form of earlier versions.
A record begins with a byte that tells the forms apart; a longer one is a MessagePack array, whose first byte is 0x90 or more.
"""

import struct
from typing import Final

import msgspec

from penstock.core.neutral.usage import CLASSES, Special, Usage
from penstock.domain.ledger.kinds import MODEL_LENGTH, End, Kind, KnownKind, PlainEnd, Settlement
from penstock.domain.ledger.rows import OpenRow, Row
from penstock.domain.ledger.values import fit, fit_or_none, whole_count
from penstock.store.request_key import KEY_BYTES, id_of, key_of

_KIND: Final = 1
_CALLER: Final = 2
_ROW: Final = 3
_END: Final = 4

_NAMED = struct.Struct("<BI")
_FIXED_ROW = struct.Struct(f"<B{KEY_BYTES}sIIiq")
"""Form, key, kind, caller, day, created_at."""
_FIXED_END = struct.Struct(f"<B{KEY_BYTES}siIIIIIII")
"""Form, key, day, five counts of tokens, time to the first byte, time in all."""
_UNKNOWN = 2**32 - 1

_pack = msgspec.msgpack.Encoder().encode
_decode_kind = msgspec.msgpack.Decoder(Kind).decode
_decode_long = msgspec.msgpack.Decoder(OpenRow | Settlement).decode


class Caller:
    """Who sends requests, as the journal knows them."""

    __slots__ = ("actor_id", "key_id", "number", "told_in", "user_id")

    def __init__(self, user_id: str, key_id: str, number: int, actor_id: str | None = None) -> None:
        self.user_id = user_id
        self.actor_id = actor_id
        self.key_id = key_id
        self.number = number
        self.told_in = 0


class _CallerWords(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The words of a caller's record; earlier programs wrote the first two."""

    user_id: str
    key_id: str
    actor_id: str | None = None


_decode_caller = msgspec.msgpack.Decoder(_CallerWords).decode


class Found(msgspec.Struct, frozen=True):
    """What a journal has: its rows, and the first end of each request, which may be of a row that is not in it."""

    rows: dict[str, Row]
    ends: dict[str, tuple[int | None, End]]
    """With the day of the row, where it is known."""


def kind_record(kind: KnownKind) -> bytes:
    """What a kind's number means."""
    try:
        words = _pack(kind.kind)
    except UnicodeEncodeError:
        words = _pack(fitting(kind.kind))
    return _NAMED.pack(_KIND, kind.number) + words


def caller_record(caller: Caller) -> bytes:
    """What a caller's number means."""
    words = (caller.user_id, caller.key_id)
    return _NAMED.pack(_CALLER, caller.number) + _pack(
        words if caller.actor_id is None else (*words, caller.actor_id)
    )


def row_record(row: Row, caller: Caller) -> bytes:
    """A request that is about to be sent."""
    if len(row.key) == KEY_BYTES:
        try:
            return _FIXED_ROW.pack(_ROW, row.key, row.kind.number, caller.number, row.day, row.created_at)
        except struct.error:
            pass  # a clock beyond all calendars
    kind = fitting(row.kind.kind)
    return _pack(
        OpenRow(
            id_of(row.key),
            row.user_id,
            row.key_id,
            row.day,
            row.created_at,
            *msgspec.structs.astuple(kind),
            actor_id=row.actor_id,
        )
    )


def plain_record(row: Row, end: PlainEnd) -> bytes:
    """The ordinary end of a request."""
    usage, first, total = end.usage, end.first_byte_ms, end.total_ms
    came, went, hit, kept, thought = (
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        usage.reasoning,
    )
    if (
        usage.special is None
        and len(row.key) == KEY_BYTES
        and _UNKNOWN not in (came, went, hit, kept, thought, first, total)
    ):
        try:
            return _FIXED_END.pack(
                _END,
                row.key,
                row.day,
                _UNKNOWN if came is None else came,
                _UNKNOWN if went is None else went,
                _UNKNOWN if hit is None else hit,
                _UNKNOWN if kept is None else kept,
                _UNKNOWN if thought is None else thought,
                _UNKNOWN if first is None else first,
                _UNKNOWN if total is None else total,
            )
        except struct.error:
            pass  # a count of more than four thousand million, or less than none
    kind = row.kind.kind
    return end_record(
        Settlement(
            row.id,
            200,
            end.outcome,
            True,
            None,
            None,
            usage,
            False,
            kind.provider,
            kind.upstream_model,
            kind.upstream_dialect,
            1,
            end.first_byte_ms,
            end.total_ms,
            None,
            credential=kind.credential,
            reason=kind.reason,
        ),
        row.day,
    )


def end_record(end: Settlement, day: int) -> bytes:
    """Any end of a request, whose row is of ``day``."""
    end = msgspec.structs.replace(end, day=day)
    try:
        return _pack(end)
    except (UnicodeEncodeError, OverflowError):
        usage = end.usage
        return _pack(
            msgspec.structs.replace(
                end,
                upstream_model=fit(end.upstream_model, 256),
                translation=fit_or_none(end.translation, 4096),
                answered_model=fit_or_none(end.answered_model, 128),
                first_byte_ms=whole_count(end.first_byte_ms),
                total_ms=whole_count(end.total_ms),
                usage=Usage(
                    input=whole_count(usage.input),
                    output=whole_count(usage.output),
                    cache_read=whole_count(usage.cache_read),
                    cache_write=whole_count(usage.cache_write),
                    reasoning=whole_count(usage.reasoning),
                    cache_write_1h=whole_count(usage.cache_write_1h),
                    special=_fitting(usage.special),
                ),
            )
        )


def _fitting(special: Special | None) -> Special | None:
    if special is None:
        return None
    counts = (whole_count(getattr(special, name)) or 0 for name in CLASSES)
    return Special(fit(special.service_tier, 32), *counts)


def fitting(kind: Kind) -> Kind:
    """The same kind with words that every format can hold."""
    return msgspec.structs.replace(
        kind,
        requested_model=fit(kind.requested_model, MODEL_LENGTH),
        client=fit(kind.client, 64),
        upstream_model=fit(kind.upstream_model, 256),
    )


def read(records: list[bytes]) -> Found:
    """What is in a journal's records, in their order. Raises ``msgspec.DecodeError`` for one that this program cannot read."""
    rows: dict[str, Row] = {}
    ends: dict[str, tuple[int | None, End]] = {}
    kinds: dict[int, KnownKind] = {}
    callers: dict[int, _CallerWords] = {}
    known: dict[Kind, KnownKind] = {}
    for record in records:
        form = record[0] if record else 0
        try:
            if form == _KIND:
                kinds[_number(record)] = KnownKind(_decode_kind(record[_NAMED.size :]))
            elif form == _CALLER:
                callers[_number(record)] = _decode_caller(record[_NAMED.size :])
            elif form == _ROW:
                _, key, number, caller, day, created_at = _FIXED_ROW.unpack(record)
                id = id_of(key)
                who = callers[caller]
                rows[id] = Row(
                    id, kinds[number], who.user_id, who.key_id, day, created_at, key, 0.0, who.actor_id
                )
            elif form == _END:
                id, day, end = _plain_end(record)
                ends.setdefault(id, (day, end))
            else:
                long = _decode_long(record)
                if isinstance(long, Settlement):
                    ends.setdefault(long.id, (long.day, long))
                    continue
                kind = long.kind
                same = known.get(kind) or known.setdefault(kind, KnownKind(kind))
                rows[long.id] = Row(
                    long.id,
                    same,
                    long.user_id,
                    long.key_id,
                    long.day,
                    long.created_at,
                    key_of(long.id),
                    0.0,
                    long.actor_id,
                )
        except (struct.error, KeyError) as error:
            raise msgspec.DecodeError(f"a record of form {form} cannot be read") from error
    return Found(rows, ends)


def _number(record: bytes) -> int:
    return int(_NAMED.unpack_from(record)[1])


def _plain_end(record: bytes) -> tuple[str, int, PlainEnd]:
    _, key, day, *counts = _FIXED_END.unpack(record)
    told = [None if count == _UNKNOWN else count for count in counts]
    return id_of(key), day, PlainEnd(Usage(*told[:5]), told[5], told[6])
