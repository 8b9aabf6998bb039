"""Kinds: what many requests have in common is said once, and every row names it by a number.

There are two. A ``Kind`` is what is known of a request when it is sent; whoever sends many of the same kind asks the ledger
for it once, ``Ledger.kind``, and gives the ``KnownKind`` with each. A ``KindRow`` is a row of the table ``kinds``: the same
words, and with them those of how a request ended, which are few. So a row is a number, its times and its tokens.

The number of a ``KindRow`` is a hash of its words. Every process finds the same one without asking anybody, and adds the row
with the first request that needs it. The table stays small, because each of its words is the catalogue's or ours: the name
that a caller asked for is the row's own, where it is another than the model's.
"""

from hashlib import blake2b
from typing import ClassVar

import msgspec

from penstock.core.neutral.usage import Usage
from penstock.domain.ledger.values import fit, fit_or_none

MODEL_LENGTH = 128
"""Characters of a requested model that are kept."""

_MOST_ENDS = 256
"""Ends that a known kind remembers; there are a dozen unless something is odd."""

_pack = msgspec.msgpack.Encoder().encode


class Kind(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a request when it is sent, but for who sends it, and when."""

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


class Settlement(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="end"):
    """How a request ended. Times are in milliseconds.

    With ``counted`` False it is refunded, for ``refund_reason``. ``attempts`` 1 says that the provider, model and dialect
    are still those of the request's kind. ``answered_model`` is the model that the answer names, where that is another than
    ``upstream_model``; a journal of an earlier program has none. ``day`` is that of the request's row, a UTC day number, where
    it is known. ``credential`` is the provider's that was used last, ``reason`` why it was asked.
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
    day: int | None = None
    credential: str | None = None
    reason: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a request went as its kind foresaw: a whole answer at the first attempt, and nothing to explain."""
        return (
            self.status == 200
            and self.outcome == "completed"
            and self.counted
            and self.attempts == 1
            and self.error_code is None
            and self.refund_reason is None
            and self.translation is None
            and self.answered_model is None
            and not self.estimated
        )


class PlainEnd(msgspec.Struct, frozen=True, gc=False):
    """The ordinary end: the first attempt gave a whole answer, with usage of the provider's own. Times are in milliseconds."""

    usage: Usage
    first_byte_ms: int | None
    total_ms: int | None

    outcome: ClassVar[str] = "completed"
    counted: ClassVar[bool] = True
    error_code: ClassVar[None] = None
    translation: ClassVar[None] = None
    answered_model: ClassVar[None] = None


End = Settlement | PlainEnd


class KindRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the table ``kinds``, its columns in their order."""

    id: int
    state: str
    dialect: str
    model: str
    stream: bool
    client: str
    provider: str
    upstream_model: str
    upstream_dialect: str
    credential: str | None
    reason: str | None
    attempts: int
    status: int | None
    outcome: str | None
    counted: bool
    refund_reason: str | None
    error_code: str | None
    estimated: bool


class KnownKind:
    """A kind as the ledger knows it: its rows of the table, and its number in the journal."""

    __slots__ = ("_ends", "kind", "model", "number", "opened", "plain", "requested_model", "told_in")

    def __init__(self, kind: Kind, number: int = 0) -> None:
        self.kind = kind
        self.number = number
        """What the journal calls it."""
        self.told_in = 0
        """The turn of the journal in which it was last said what the number means."""
        self.model = kind.model
        asked = fit(kind.requested_model, MODEL_LENGTH)
        self.requested_model = None if asked == kind.model else asked
        """For the request's own row; None where it is the model's."""
        self.opened = _kind_row(kind, "open", (0, None, None, True, None, None, False))
        self.plain = _kind_row(kind, "settled", (1, 200, "completed", True, None, None, False))
        self._ends: dict[tuple[object, ...], KindRow] = {}

    def ended(self, end: End) -> KindRow:
        """The row of the table for a request of this kind that ended so."""
        if isinstance(end, PlainEnd):
            return self.plain
        how = (
            end.attempts,
            end.status,
            fit(end.outcome, 32),
            end.counted,
            fit_or_none(end.refund_reason, 32),
            fit_or_none(end.error_code, 64),
            end.estimated,
        )
        key = (*how, end.provider, end.upstream_model, end.upstream_dialect, end.credential, end.reason)
        found = self._ends.get(key)
        if found is None:
            if len(self._ends) >= _MOST_ENDS:
                self._ends.clear()
            found = self._ends[key] = _kind_row(
                msgspec.structs.replace(
                    self.kind,
                    provider=end.provider,
                    upstream_model=end.upstream_model,
                    upstream_dialect=end.upstream_dialect,
                    credential=end.credential,
                    reason=end.reason,
                ),
                "settled",
                how,
            )
        return found


def _kind_row(
    kind: Kind, state: str, how: tuple[int, int | None, str | None, bool, str | None, str | None, bool]
) -> KindRow:
    """``how``: attempts, status, outcome, counted, refund reason, error code, estimated."""
    words = (
        state,
        kind.dialect,
        kind.model,
        kind.stream,
        fit(kind.client, 64),
        kind.provider,
        fit(kind.upstream_model, 256),
        kind.upstream_dialect,
        fit_or_none(kind.credential, 64),
        fit_or_none(kind.reason, 32),
        *how,
    )
    digest = blake2b(_pack(words), digest_size=8).digest()
    # Without the sign, so that it is the same number to everybody.
    return KindRow(int.from_bytes(digest, "big") >> 1, *words)
