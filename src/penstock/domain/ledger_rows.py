"""What the ledger keeps of a request, and the statements that write it.

The statements are text for a whole batch, built once; their values are always parameters. They are written for SQLite
and PostgreSQL alike.
"""

from collections.abc import Iterator, Sequence

import msgspec

from penstock.core.turn import Usage
from penstock.store.bulk import Bulk, Row

MAX_COUNT = 2**63 - 1


class OpenRow(msgspec.Struct, frozen=True, gc=False):
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


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """How a request ended. Times are in milliseconds.

    With ``counted`` False it is refunded, for ``refund_reason``. ``attempts`` 1 says that the provider, model and dialect
    are still those of the ``OpenRow``.
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


_INSERT = Bulk(
    "INSERT INTO requests (id, user_id, key_id, day, created_at, boot, dialect, model, requested_model, stream, client,"
    " provider, upstream_model, upstream_dialect, state, attempts, counted, estimated) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', 0, TRUE, FALSE)",
    "",
)
_COUNT = Bulk(
    "INSERT INTO usage_days (user_id, day, used, refunded) VALUES ",
    "(?, ?, ?, 0)",
    " ON CONFLICT (user_id, day) DO UPDATE SET used = usage_days.used + excluded.used",
)
_REFUND = Bulk(
    "UPDATE usage_days SET used = usage_days.used - back.n, refunded = usage_days.refunded + back.n"
    " FROM (SELECT user_id, day, count(*) AS n FROM requests WHERE state = 'open' AND id IN (",
    "?",
    ") GROUP BY user_id, day) AS back WHERE usage_days.user_id = back.user_id AND usage_days.day = back.day",
)
_SETTLE = Bulk(
    "UPDATE requests SET state = 'settled', status = v.column2, outcome = v.column3, counted = v.column4,"
    " refund_reason = v.column5, error_code = v.column6, input_tokens = v.column7, output_tokens = v.column8,"
    " cache_read_tokens = v.column9, cache_write_tokens = v.column10, reasoning_tokens = v.column11,"
    " estimated = v.column12, provider = v.column13, upstream_model = v.column14, upstream_dialect = v.column15,"
    " attempts = v.column16, first_byte_ms = v.column17, total_ms = v.column18, translation = v.column19"
    " FROM (VALUES ",
    "(" + ", ".join("?" * 19) + ")",
    ") AS v WHERE requests.id = v.column1 AND requests.state = 'open'",
    (
        *("text", "int", "text", "bool", "text", "text", *["bigint"] * 5, "bool"),
        *("text", "text", "text", "int", "int", "int", "text"),
    ),
)
_SETTLE_PLAIN = Bulk(
    "UPDATE requests SET state = 'settled', attempts = 1, status = v.column2, outcome = v.column3,"
    " input_tokens = v.column4, output_tokens = v.column5, cache_read_tokens = v.column6,"
    " cache_write_tokens = v.column7, reasoning_tokens = v.column8, first_byte_ms = v.column9, total_ms = v.column10"
    " FROM (VALUES ",
    "(" + ", ".join("?" * 10) + ")",
    ") AS v WHERE requests.id = v.column1 AND requests.state = 'open'",
    ("text", "int", "text", *["bigint"] * 5, "int", "int"),
)
"""For almost every request, at half the cost: what it leaves out is already in the open row."""


def opening(rows: Sequence[OpenRow], boot: str) -> Iterator[tuple[str, Row]]:
    """The statements that write new rows and count them."""
    values: list[Row] = []
    counts: dict[tuple[str, int], int] = {}
    for row in rows:
        counted = (row.user_id, row.day)
        counts[counted] = counts.get(counted, 0) + 1
        values.append(
            (
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
                row.provider,
                fit(row.upstream_model, 256),
                row.upstream_dialect,
            )
        )
    yield from _INSERT.statements(values)
    yield from _COUNT.statements([(user_id, day, n) for (user_id, day), n in counts.items()])


def settling(ends: Sequence[Settlement]) -> Iterator[tuple[str, Row]]:
    """The statements that refund and settle open rows; rows that are not open are left as they are."""
    # Refunds first: they look at the rows that are still open.
    yield from _REFUND.statements([(end.id,) for end in ends if not end.counted])
    yield from _SETTLE_PLAIN.statements([_settled_plainly(end) for end in ends if is_plain(end)])
    yield from _SETTLE.statements([_settled(end) for end in ends if not is_plain(end)])


def is_plain(end: Settlement) -> bool:
    """Whether a request went as its open row foresaw: one attempt, counted, nothing to explain."""
    return (
        end.counted
        and end.attempts == 1
        and end.error_code is None
        and end.refund_reason is None
        and end.translation is None
        and not end.estimated
    )


def _settled_plainly(end: Settlement) -> Row:
    usage = end.usage
    return (
        end.id,
        end.status,
        fit(end.outcome, 32),
        whole(usage.input),
        whole(usage.output),
        whole(usage.cache_read),
        whole(usage.cache_write),
        whole(usage.reasoning),
        whole(end.first_byte_ms),
        whole(end.total_ms),
    )


def _settled(end: Settlement) -> Row:
    usage = end.usage
    return (
        end.id,
        end.status,
        fit(end.outcome, 32),
        end.counted,
        None if end.refund_reason is None else fit(end.refund_reason, 32),
        None if end.error_code is None else fit(end.error_code, 64),
        whole(usage.input),
        whole(usage.output),
        whole(usage.cache_read),
        whole(usage.cache_write),
        whole(usage.reasoning),
        end.estimated,
        end.provider,
        fit(end.upstream_model, 256),
        end.upstream_dialect,
        end.attempts,
        whole(end.first_byte_ms),
        whole(end.total_ms),
        None if end.translation is None else fit(end.translation, 4096),
    )


def fit(text: str, most: int) -> str:
    """Text that every database stores: no lone surrogates, no NUL, no more than the column's length."""
    if len(text) <= most and text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:most]


def whole(count: int | None) -> int | None:
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
