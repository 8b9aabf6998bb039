"""Whether what callers were answered, the rows in the database and the day's counts are one number."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 15.0
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Counts:
    """What a database holds: rows of requests, and the sum of what counts against plans, of all accounts and days."""

    rows: int
    counted: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was added since the beginning of a measurement: answers with 200 that the load generator saw, rows, counts."""

    answered: int
    rows: int
    counted: int

    @property
    def agrees(self) -> bool:
        """Whether nothing was lost or told twice."""
        return self.answered == self.rows == self.counted

    def __str__(self) -> str:
        shown = f"answers {self.answered:,}, rows {self.rows:,}, counted {self.counted:,}"
        return f"{shown}: {'equal' if self.agrees else 'THEY DIFFER'}"


def read_counts(database: Path) -> Counts:
    """Look into a SQLite database that a server may have open."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as conn:
        (rows,) = conn.execute("SELECT count(*) FROM requests").fetchone()
        (counted,) = conn.execute("SELECT coalesce(sum(used), 0) FROM usage_days").fetchone()
    return Counts(rows, counted)


def settled(look: Callable[[], Counts], before: Counts, answered: int) -> Ledger:
    """Wait for the rows of what was answered, which come a moment later; what there is then, or after some seconds."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        now = look()
        ledger = Ledger(answered, now.rows - before.rows, now.counted - before.counted)
        if ledger.agrees or time.monotonic() > deadline:
            return ledger
        time.sleep(_PAUSE)
