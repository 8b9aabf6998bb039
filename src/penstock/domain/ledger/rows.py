"""Rows of the ledger: what it keeps of a request, and the statements that write it.

The statements are text for a whole batch, built once; their values are always parameters. They are written for SQLite
and PostgreSQL alike. A request that has ended by the time its batch is written is one ``INSERT``; one that has not is an
``INSERT`` of an open row, and an ``UPDATE`` later.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from penstock.core.neutral.usage import Usage
from penstock.store.sql.bulk import Bulk, BulkRow

MAX_COUNT = 2**63 - 1


class OpenRow(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="row"):
    """A request that is about to be sent. ``created_at`` is in epoch milliseconds, ``day`` a UTC day number."""

    id: str
    user_id: str
    key_id: str
    day: int
    created_at: int
    dialect: str
    model: str
    requested_model: str
    stream: bool
    client: str
    provider: str
    upstream_model: str
    upstream_dialect: str


class Settlement(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="end"):
    """How a request ended. Times are in milliseconds.

    With ``counted`` False it is refunded, for ``refund_reason``. ``attempts`` 1 says that the provider, model and dialect
    are still those of the ``OpenRow``. ``answered_model`` is the model that the answer names, where that is another than
    ``upstream_model``; a journal of an earlier program has none.
    """

    id: str
    status: int | None
    outcome: str
    counted: bool
    refund_reason: str | None
    error_code: str | None
    usage: Usage
    estimated: bool
    provider: str
    upstream_model: str
    upstream_dialect: str
    attempts: int
    first_byte_ms: int | None
    total_ms: int | None
    translation: str | None
    answered_model: str | None = None


_INSERT = Bulk(
    "INSERT INTO requests (id, user_id, key_id, day, created_at, boot, dialect, model, requested_model, stream, client,"
    " provider, upstream_model, upstream_dialect, state, attempts, counted, estimated) VALUES ",
    "(" + ", ".join("?" * 14) + ", 'open', 0, TRUE, FALSE)",
    "",
)
_INSERT_SETTLED = Bulk(
    "INSERT INTO requests (id, user_id, key_id, day, created_at, boot, dialect, model, requested_model, stream, client,"
    " provider, upstream_model, upstream_dialect, state, status, outcome, counted, refund_reason, error_code, input_tokens,"
    " output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, estimated, attempts, first_byte_ms, total_ms,"
    " translation, answered_model) VALUES ",
    "(" + ", ".join("?" * 14) + ", 'settled'" + ", ?" * 16 + ")",
    "",
)
_COUNT = Bulk(
    "INSERT INTO usage_days (user_id, day, used, refunded) VALUES ",
    "(?, ?, ?, ?)",
    " ON CONFLICT (user_id, day) DO UPDATE SET used = usage_days.used + excluded.used,"
    " refunded = usage_days.refunded + excluded.refunded",
)
_SETTLE = Bulk(
    "UPDATE requests SET state = 'settled', status = v.column2, outcome = v.column3, counted = v.column4,"
    " refund_reason = v.column5, error_code = v.column6, input_tokens = v.column7, output_tokens = v.column8,"
    " cache_read_tokens = v.column9, cache_write_tokens = v.column10, reasoning_tokens = v.column11,"
    " estimated = v.column12, provider = v.column13, upstream_model = v.column14, upstream_dialect = v.column15,"
    " attempts = v.column16, first_byte_ms = v.column17, total_ms = v.column18, translation = v.column19,"
    " answered_model = v.column20 FROM (VALUES ",
    "(" + ", ".join("?" * 21) + ")",
    ") AS v WHERE requests.id = v.column1 AND requests.day = v.column21 AND requests.state = 'open'",
    (
        *("text", "int", "text", "bool", "text", "text", *["bigint"] * 5, "bool"),
        *("text", "text", "text", "int", "int", "int", "text", "text", "int"),
    ),
)
_SETTLE_PLAIN = Bulk(
    "UPDATE requests SET state = 'settled', attempts = 1, status = v.column2, outcome = v.column3,"
    " input_tokens = v.column4, output_tokens = v.column5, cache_read_tokens = v.column6,"
    " cache_write_tokens = v.column7, reasoning_tokens = v.column8, first_byte_ms = v.column9, total_ms = v.column10"
    " FROM (VALUES ",
    "(" + ", ".join("?" * 11) + ")",
    ") AS v WHERE requests.id = v.column1 AND requests.day = v.column11 AND requests.state = 'open'",
    ("text", "int", "text", *["bigint"] * 5, "int", "int", "int"),
)
"""For almost every request, at half the cost: what it leaves out is already in the open row."""


class Batch(msgspec.Struct, frozen=True):
    """What is written in one transaction: rows that the database has not, and ends of these and of rows that are open there.

    ``open_rows`` are the ones there; an end that is not of a new row is of one of them. Of a request's ends only the first is
    in a batch.
    """

    new: Sequence[OpenRow]
    ends: Sequence[Settlement]
    open_rows: Mapping[str, OpenRow]

    def ended(self) -> list[tuple[OpenRow, Settlement]]:
        """Each end with its row."""
        rows = {row.id: row for row in self.new}
        found: list[tuple[OpenRow, Settlement]] = []
        for end in self.ends:
            row = rows.get(end.id) or self.open_rows.get(end.id)
            if row is not None:
                found.append((row, end))
        return found


def booking(batch: Batch, boot: str) -> Iterator[tuple[str, BulkRow]]:
    """The statements that write a batch, and count it by user and day.

    The order of the keys is the same in every process, so that two of them do not wait for each other.
    """
    ends = {end.id: end for end in batch.ends}
    whole_count: list[BulkRow] = []
    open_: list[BulkRow] = []
    counts: dict[tuple[str, int], list[int]] = {}
    for row in batch.new:
        end = ends.pop(row.id, None)
        count = counts.setdefault((row.user_id, row.day), [0, 0])
        if end is None:
            open_.append(_opened(row, boot))
            count[0] += 1
        else:
            whole_count.append(_whole(row, end, boot))
            count[not end.counted] += 1
    plain: list[BulkRow] = []
    other: list[BulkRow] = []
    for end in ends.values():
        row = batch.open_rows[end.id]
        if is_plain_settlement(end):
            plain.append(_settled_plainly(end, row.day))
        else:
            other.append(_settled(end, row.day))
        if not end.counted:
            count = counts.setdefault((row.user_id, row.day), [0, 0])
            count[0] -= 1
            count[1] += 1
    yield from _INSERT_SETTLED.statements(whole_count)
    yield from _INSERT.statements(open_)
    yield from _SETTLE_PLAIN.statements(plain)
    yield from _SETTLE.statements(other)
    yield from _COUNT.statements([(*key, *counts[key]) for key in sorted(counts)])


def is_plain_settlement(end: Settlement) -> bool:
    """Whether a request went as its open row foresaw: one attempt, counted, nothing to explain."""
    return (
        end.counted
        and end.attempts == 1
        and end.error_code is None
        and end.refund_reason is None
        and end.translation is None
        and end.answered_model is None
        and not end.estimated
    )


def _asked(row: OpenRow, boot: str) -> BulkRow:
    """What a row says of the request itself."""
    return (
        row.id,
        row.user_id,
        row.key_id,
        row.day,
        row.created_at,
        boot,
        row.dialect,
        row.model,
        fit(row.requested_model, 128),
        row.stream,
        fit(row.client, 64),
    )


def _opened(row: OpenRow, boot: str) -> BulkRow:
    return (*_asked(row, boot), row.provider, fit(row.upstream_model, 256), row.upstream_dialect)


def _whole(row: OpenRow, end: Settlement, boot: str) -> BulkRow:
    usage = end.usage
    return (
        *_asked(row, boot),
        end.provider,
        fit(end.upstream_model, 256),
        end.upstream_dialect,
        end.status,
        fit(end.outcome, 32),
        end.counted,
        None if end.refund_reason is None else fit(end.refund_reason, 32),
        None if end.error_code is None else fit(end.error_code, 64),
        whole_count(usage.input),
        whole_count(usage.output),
        whole_count(usage.cache_read),
        whole_count(usage.cache_write),
        whole_count(usage.reasoning),
        end.estimated,
        end.attempts,
        whole_count(end.first_byte_ms),
        whole_count(end.total_ms),
        None if end.translation is None else fit(end.translation, 4096),
        end.answered_model,
    )


def _settled_plainly(end: Settlement, day: int) -> BulkRow:
    usage = end.usage
    return (
        end.id,
        end.status,
        fit(end.outcome, 32),
        whole_count(usage.input),
        whole_count(usage.output),
        whole_count(usage.cache_read),
        whole_count(usage.cache_write),
        whole_count(usage.reasoning),
        whole_count(end.first_byte_ms),
        whole_count(end.total_ms),
        day,
    )


def _settled(end: Settlement, day: int) -> BulkRow:
    usage = end.usage
    return (
        end.id,
        end.status,
        fit(end.outcome, 32),
        end.counted,
        None if end.refund_reason is None else fit(end.refund_reason, 32),
        None if end.error_code is None else fit(end.error_code, 64),
        whole_count(usage.input),
        whole_count(usage.output),
        whole_count(usage.cache_read),
        whole_count(usage.cache_write),
        whole_count(usage.reasoning),
        end.estimated,
        end.provider,
        fit(end.upstream_model, 256),
        end.upstream_dialect,
        end.attempts,
        whole_count(end.first_byte_ms),
        whole_count(end.total_ms),
        None if end.translation is None else fit(end.translation, 4096),
        end.answered_model,
        day,
    )


def fit_record(record: OpenRow | Settlement) -> OpenRow | Settlement:
    """The same record with values that every format can hold: callers and upstreams name and count what they like."""
    match record:
        case OpenRow():
            return msgspec.structs.replace(
                record,
                requested_model=fit(record.requested_model, 128),
                client=fit(record.client, 64),
                upstream_model=fit(record.upstream_model, 256),
            )
        case Settlement():
            usage = record.usage
            return msgspec.structs.replace(
                record,
                upstream_model=fit(record.upstream_model, 256),
                translation=None if record.translation is None else fit(record.translation, 4096),
                first_byte_ms=whole_count(record.first_byte_ms),
                total_ms=whole_count(record.total_ms),
                usage=Usage(
                    input=whole_count(usage.input),
                    output=whole_count(usage.output),
                    cache_read=whole_count(usage.cache_read),
                    cache_write=whole_count(usage.cache_write),
                    reasoning=whole_count(usage.reasoning),
                    cache_write_1h=whole_count(usage.cache_write_1h),
                ),
            )


def fit(text: str, most: int) -> str:
    """Text that every database stores: no lone surrogates, no NUL, no more than the column's length."""
    if len(text) <= most and text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:most]


def whole_count(count: int | None) -> int | None:
    """A count as a 64-bit integer that is not negative: an upstream can answer with any number."""
    if count is None or 0 <= count <= MAX_COUNT:
        return count
    return 0 if count < 0 else MAX_COUNT


def first_of_each(settlements: Sequence[Settlement]) -> list[Settlement]:
    """Only the first settlement of each row."""
    first: dict[str, Settlement] = {}
    for settlement in settlements:
        first.setdefault(settlement.id, settlement)
    return list(first.values())
