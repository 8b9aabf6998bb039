"""Rows of the ledger: what it keeps of a request, and the statements that write it.

The statements are text for a whole batch, built once; their values are always parameters. They are written for SQLite
and PostgreSQL alike. A request that has ended by the time its row is written is one ``INSERT``; one that has not is an
``INSERT`` of an open row, and an ``UPDATE`` later.
"""

import secrets
from collections.abc import Collection, Iterator, Sequence
from itertools import chain

import msgspec

from penstock.core.neutral.usage import Special
from penstock.domain.ledger.kinds import End, Kind, KindRow, KnownKind
from penstock.domain.ledger.values import fit, whole_count
from penstock.store.sql.bulk import Bulk, BulkRow
from penstock.store.sql.schema import SPECIAL

DAY_MS = 86_400_000


class OpenRow(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="row"):
    """A request that is about to be sent, all in one. ``created_at`` is in epoch milliseconds, ``day`` a UTC day number."""

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
    credential: str | None = None
    reason: str | None = None
    actor_id: str | None = None

    @property
    def kind(self) -> Kind:
        """What it has in common with others."""
        return Kind(
            self.dialect,
            self.model,
            self.requested_model,
            self.stream,
            self.client,
            self.provider,
            self.upstream_model,
            self.upstream_dialect,
            self.credential,
            self.reason,
        )


class Row(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A request that was recorded. ``key`` is its id as it is stored, ``since`` when it was recorded, on the loop's clock."""

    id: str
    kind: KnownKind
    user_id: str
    key_id: str
    day: int
    created_at: int
    key: bytes
    since: float = 0.0
    actor_id: str | None = None
    """Who acted, where that is not the account ``user_id`` itself."""


Ended = tuple[Row, End]


class Batch(msgspec.Struct, frozen=True):
    """What is written in one transaction."""

    opening: Sequence[Row]
    """Rows that the database has not, of requests that run."""
    whole: Sequence[Ended]
    """Rows that it has not, and their ends."""
    ending: Sequence[Ended]
    """Rows that are open there, and their ends."""

    @property
    def size(self) -> int:
        """How many rows and ends the database gets."""
        return len(self.opening) + len(self.whole) + len(self.ending)

    def rows(self) -> Iterator[Row]:
        """Every row of it."""
        yield from self.opening
        for row, _ in self.whole:
            yield row
        for row, _ in self.ending:
            yield row

    def ended(self) -> list[Ended]:
        """Every end, with its row."""
        return [*self.whole, *self.ending]

    def kinds(self) -> dict[int, KindRow]:
        """The kinds that its rows name."""
        found = {row.kind.opened.id: row.kind.opened for row in self.opening}
        for pairs in (self.whole, self.ending):
            for row, end in pairs:
                kind = row.kind.ended(end)
                found[kind.id] = kind
        return found


_KINDS = Bulk(
    f"INSERT INTO kinds ({', '.join(KindRow.__struct_fields__)}) VALUES ",  # noqa: S608 - names of this program alone
    f"({', '.join('?' * len(KindRow.__struct_fields__))})",
    " ON CONFLICT (id) DO NOTHING",
)
_INSERT = Bulk(
    "INSERT INTO requests (day, id, user_id, key_id, created_at, requested_model, kind, boot) VALUES ",
    f"({', '.join('?' * 8)})",
    "",
)
_INSERT_SETTLED = Bulk(
    "INSERT INTO requests (day, id, user_id, key_id, created_at, requested_model, kind, input_tokens, output_tokens,"
    " cache_read_tokens, cache_write_tokens, reasoning_tokens, first_byte_ms, total_ms, translation,"
    " answered_model) VALUES ",
    f"({', '.join('?' * 16)})",
    "",
)
_SPECIAL = Bulk(
    "UPDATE requests SET "  # noqa: S608 - names of this program alone
    + ", ".join(f"{name} = v.column{at}" for at, name in enumerate(("service_tier", *SPECIAL), 3))
    + " FROM (VALUES ",
    f"({', '.join('?' * (3 + len(SPECIAL)))})",
    ") AS v WHERE requests.day = v.column1 AND requests.id = v.column2",
    ("int", "bytea", "text", *["bigint"] * len(SPECIAL)),
)
"""What few have is written after the rest, so that the others have no part in it."""
_ACT = Bulk(
    "UPDATE requests SET actor_id = v.column3 FROM (VALUES ",
    "(?, ?, ?)",
    ") AS v WHERE requests.day = v.column1 AND requests.id = v.column2",
    ("int", "bytea", "text"),
)
_COUNT = Bulk(
    "INSERT INTO usage_days (user_id, day, used, refunded) VALUES ",
    "(?, ?, ?, ?)",
    " ON CONFLICT (user_id, day) DO UPDATE SET used = usage_days.used + excluded.used,"
    " refunded = usage_days.refunded + excluded.refunded",
)
SettledKey = tuple[int, bytes]
"""A request that was settled: its day, and its key."""
_SETTLED_AT_ONCE = 500
"""Requests in one row of ``settled_batches``."""
_SETTLED = Bulk(
    "INSERT INTO settled_batches (id, at, members) SELECT v.column1, v.column2, v.column3 FROM (VALUES ",
    "(?, ?, ?)",
    ") AS v WHERE EXISTS (SELECT 1 FROM destinations WHERE removed_at IS NULL)",
    ("bytea", "bigint", "bytea"),
)
"""For exports; nothing is written where there is no destination."""
_pack_keys = msgspec.msgpack.Encoder().encode
settled_keys = msgspec.msgpack.Decoder(list[SettledKey]).decode
"""The requests of a row of ``settled_batches``."""
_SETTLE = Bulk(
    "UPDATE requests SET boot = NULL, kind = v.column3, input_tokens = v.column4, output_tokens = v.column5,"
    " cache_read_tokens = v.column6, cache_write_tokens = v.column7, reasoning_tokens = v.column8,"
    " first_byte_ms = v.column9, total_ms = v.column10, translation = v.column11,"
    " answered_model = v.column12 FROM (VALUES ",
    f"({', '.join('?' * 12)})",
    ") AS v WHERE requests.day = v.column1 AND requests.id = v.column2 AND requests.boot IS NOT NULL",
    ("int", "bytea", *["bigint"] * 6, "int", "int", "text", "text"),
)


def booking(batch: Batch, boot: str, stored: Collection[int] = ()) -> Iterator[tuple[str, BulkRow]]:
    """The statements that write a batch, and count it by user and day. ``stored`` are the kinds that the database has.

    The order of the keys is the same in every process, so that two of them do not wait for each other.
    """
    kinds = batch.kinds()
    yield from _KINDS.statements(
        [msgspec.structs.astuple(kinds[id]) for id in sorted(kinds) if id not in stored]
    )
    counts: dict[tuple[str, int], list[int]] = {}
    for row in batch.opening:
        counts.setdefault((row.user_id, row.day), [0, 0])[0] += 1
    for row, end in batch.whole:
        of_user = (row.user_id, row.day)
        count = counts.get(of_user)
        if count is None:
            count = counts[of_user] = [0, 0]
        count[not end.counted] += 1
    for row, end in batch.ending:
        if not end.counted:
            count = counts.setdefault((row.user_id, row.day), [0, 0])
            count[0] -= 1
            count[1] += 1
    yield from _INSERT_SETTLED.statements([_whole(row, end) for row, end in batch.whole])
    yield from _INSERT.statements([(*_asked(row), row.kind.opened.id, boot) for row in batch.opening])
    acted = [(row.day, row.key, row.actor_id) for row in batch.rows() if row.actor_id is not None]
    if acted:
        yield from _ACT.statements(acted)
    yield from _SETTLE.statements([(row.day, row.key, *_told(row, end)) for row, end in batch.ending])
    yield from _SPECIAL.statements(
        [
            (row.day, row.key, *_specially(end.usage.special))
            for row, end in chain(batch.whole, batch.ending)
            if end.usage.special is not None
        ]
    )
    yield from _COUNT.statements([(*key, *counts[key]) for key in sorted(counts)])
    yield from _SETTLED.statements(_settled(batch))


def _settled(batch: Batch) -> list[BulkRow]:
    """Which requests the batch settles, for those that are exported; ``at`` is when about the last of them ended."""
    pairs = batch.ended()
    found: list[BulkRow] = []
    for start in range(0, len(pairs), _SETTLED_AT_ONCE):
        some = pairs[start : start + _SETTLED_AT_ONCE]
        last, end = some[-1]
        at = last.created_at + min(whole_count(end.total_ms) or 0, DAY_MS)
        found.append((secrets.token_bytes(16), at, _pack_keys([(row.day, row.key) for row, _ in some])))
    return found


def _asked(row: Row) -> BulkRow:
    """What a row says of the request itself."""
    return (row.day, row.key, row.user_id, row.key_id, row.created_at, row.kind.requested_model)


def _whole(row: Row, end: End) -> BulkRow:
    return (*_asked(row), *_told(row, end))


def _specially(special: Special) -> BulkRow:
    counts = (whole_count(getattr(special, name)) or None for name in SPECIAL)
    return (fit(special.service_tier, 32) or None, *counts)


def _told(row: Row, end: End) -> BulkRow:
    """What a row says of how the request ended."""
    usage, translation, answered = end.usage, end.translation, end.answered_model
    return (
        row.kind.ended(end).id,
        whole_count(usage.input),
        whole_count(usage.output),
        whole_count(usage.cache_read),
        whole_count(usage.cache_write),
        whole_count(usage.reasoning),
        whole_count(end.first_byte_ms),
        whole_count(end.total_ms),
        None if translation is None else fit(translation, 4096),
        None if answered is None else fit(answered, 128),
    )
