"""Bulk statements: SQL over many rows at once, as text that is built once per size.

One statement for 64 rows is one call into the database, and so one release of the interpreter's lock, where
``executemany`` makes 64: under load each of those waits its turn behind the event loop.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

LARGEST = 64
"""Rows per statement: 64 rows of 18 columns stay far below SQLite's 32,766 parameters."""

Value = str | bytes | int | None
BulkRow = tuple[Value, ...]


class Bulk:
    """A statement with a list of as many rows as are given, in powers of two up to ``LARGEST``.

    ``before`` and ``after`` are the text around the list, ``row`` is one of its rows, such as ``(?, ?, 0)``. Both SQLite
    and PostgreSQL name the columns of a ``VALUES`` list ``column1`` and so on.
    """

    __slots__ = ("_texts",)

    def __init__(self, before: str, row: str, after: str, types: Sequence[str] = ()) -> None:
        """``types`` are those of a row's values, where PostgreSQL cannot tell them from a column they go into."""
        self._texts: dict[int, str] = {}
        size = LARGEST
        while size:
            text = self._texts[size] = before + ", ".join([row] * size) + after
            if types:
                _typed[text] = _number(text, types)
            size >>= 1

    def statements(self, rows: Sequence[BulkRow]) -> Iterator[tuple[str, BulkRow]]:
        """The SQL and parameters that together cover ``rows``, in order."""
        start = 0
        left = len(rows)
        for size, text in self._texts.items():
            while left >= size:
                yield text, tuple([value for row in rows[start : start + size] for value in row])
                start += size
                left -= size


_typed: dict[str, str] = {}
"""Statements with types, numbered when they were built."""


@lru_cache(maxsize=256)
def numbered(text: str) -> str:
    """A statement with ``$1``, ``$2`` for each ``?``, as PostgreSQL wants it. Our texts hold no other question marks."""
    return _typed.get(text) or _number(text, ())


def _number(text: str, types: Sequence[str]) -> str:
    first, *rest = text.split("?")
    cast = [f"::{types[number % len(types)]}" if types else "" for number in range(len(rest))]
    return first + "".join(f"${number}{cast[number - 1]}{part}" for number, part in enumerate(rest, 1))
