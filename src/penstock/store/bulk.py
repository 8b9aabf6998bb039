"""Statements over many rows at once, as SQL text that is built once per size.

One statement for 64 rows is one call into the database, and so one release of the interpreter's lock, where
``executemany`` makes 64: under load each of those waits its turn behind the event loop.
"""

from collections.abc import Iterator, Sequence

LARGEST = 64
"""Rows per statement: 64 rows of 18 columns stay far below SQLite's 32,766 parameters."""

Value = str | int | None
Row = tuple[Value, ...]


class Bulk:
    """A statement with a list of as many rows as are given, in powers of two up to ``LARGEST``.

    ``before`` and ``after`` are the text around the list, ``row`` is one of its rows, such as ``(?, ?, 0)``. Both SQLite
    and PostgreSQL name the columns of a ``VALUES`` list ``column1`` and so on.
    """

    __slots__ = ("_texts",)

    def __init__(self, before: str, row: str, after: str) -> None:
        self._texts: dict[int, str] = {}
        size = LARGEST
        while size:
            self._texts[size] = before + ", ".join([row] * size) + after
            size >>= 1

    def statements(self, rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
        """The SQL and parameters that together cover ``rows``, in order."""
        start = 0
        left = len(rows)
        for size, text in self._texts.items():
            while left >= size:
                yield text, tuple([value for row in rows[start : start + size] for value in row])
                start += size
                left -= size
