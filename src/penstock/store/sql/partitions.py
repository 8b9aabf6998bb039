"""Partitions of the request log on PostgreSQL, one a month, so that an old month is forgotten by dropping a table.

Where rows are kept for less than two months there is one for each day. Days that no partition was made for, such as those
of a clock that is wrong, are in the default partition, so that no row is ever refused; they are moved once theirs is made.
Whoever uses the log waits while a partition is made: a statement that was planned without it would miss what moved there.
"""

import re
from datetime import date, timedelta
from typing import Final

import msgspec
from sqlalchemy import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

AHEAD: Final = 35
"""Days for which partitions are made ahead: at least one whole month to come."""
SHORT: Final = 62
"""Where rows are kept for fewer days, a partition is a day's."""

_EPOCH: Final = date(1970, 1, 1)
_CALENDAR: Final = range((date(9999, 1, 1) - _EPOCH).days)
"""Days that have a month. A row of another stays in the default partition."""
_BOUNDS = re.compile(r"FOR VALUES FROM \('?(-?\d+)'?\) TO \('?(-?\d+)'?\)")


class Partition(msgspec.Struct, frozen=True):
    """Part of the log: the days from ``first`` to before ``end``."""

    name: str
    first: int
    end: int


def is_partitioned(connection: Connection) -> bool:
    """Whether this database keeps the log in partitions."""
    return connection.dialect.name == "postgresql"


def make_others(connection: Connection) -> None:
    """The default partition, which a log without any cannot take rows without."""
    connection.exec_driver_sql("CREATE TABLE requests_other PARTITION OF requests DEFAULT")


def partitions(connection: Connection) -> list[Partition]:
    """All but the default one, by their days."""
    rows = connection.exec_driver_sql(
        "SELECT child.relname, pg_get_expr(child.relpartbound, child.oid) FROM pg_inherits"
        " JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = 'requests'::regclass"
    )
    found: list[Partition] = []
    for name, bound in rows:
        match = _BOUNDS.fullmatch(str(bound))
        if match is not None:
            found.append(Partition(str(name), int(match[1]), int(match[2])))
    return sorted(found, key=lambda part: part.first)


def make_ahead(connection: Connection, today: int, *, kept: int = 0) -> list[str]:
    """Partitions for today and what comes, and for the days of rows that are in the default one; those that were made.

    ``kept`` is for how many days rows are kept; 0: for ever.
    """
    stray = connection.exec_driver_sql("SELECT DISTINCT day FROM requests_other").scalars()
    return make_for(connection, sorted({*range(today, today + AHEAD + 1), *stray}), kept=kept)


def make_for(connection: Connection, days: list[int], *, kept: int = 0) -> list[str]:
    """Partitions for these days, where there are none; gives those that were made."""
    have = partitions(connection)
    made: list[str] = []
    for day in days:
        if day not in _CALENDAR or any(part.first <= day < part.end for part in have):
            continue
        first, end = _span(day, daily=0 < kept < SHORT)
        # Where another kind of partition begins or ends within, the new one has what is left between them.
        first = max([first, *(part.end for part in have if part.end <= day)])
        end = min([end, *(part.first for part in have if part.first > day)])
        part = Partition(_name(first, end), first, end)
        _attach(connection, part)
        have.append(part)
        made.append(part.name)
    return made


def drop_before(connection: Connection, day: int) -> list[Partition]:
    """Drop the partitions all of whose days are before ``day``; gives them."""
    old = [part for part in partitions(connection) if part.end <= day]
    for part in old:
        connection.execute(_About(part, "DROP TABLE {name}"))
    return old


def _attach(connection: Connection, part: Partition) -> None:
    connection.exec_driver_sql("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
    for statement in _ATTACHING:
        connection.execute(_About(part, statement))


_ATTACHING: Final = (
    "CREATE TABLE {name} (LIKE requests INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
    (
        "WITH moved AS (DELETE FROM requests_other WHERE day >= {first} AND day < {end} RETURNING *)"
        " INSERT INTO {name} SELECT * FROM moved"
    ),
    "ALTER TABLE requests ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({end})",
)


class _About(ExecutableDDLElement):
    """A statement about a partition: its name and bounds cannot be parameters."""

    def __init__(self, part: Partition, template: str) -> None:
        self.part = part
        self.template = template


@compiles(_About)
def _written(about: _About, compiler: DDLCompiler, **_options: object) -> str:
    part = about.part
    return about.template.format(name=compiler.preparer.quote(part.name), first=part.first, end=part.end)


def _span(day: int, *, daily: bool) -> tuple[int, int]:
    """The month that a day is in, or the day alone."""
    if daily:
        return day, day + 1
    first = (_EPOCH + timedelta(days=day)).replace(day=1)
    return (first - _EPOCH).days, ((first + timedelta(days=31)).replace(day=1) - _EPOCH).days


def _name(first: int, end: int) -> str:
    if _span(first, daily=False) == (first, end):
        return f"requests_{_EPOCH + timedelta(days=first):%Y_%m}"
    return f"requests_{first}_{end}"
