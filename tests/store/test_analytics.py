"""The way on to an analytics store, as the guide to capacity has it: its export runs, and its table takes what comes."""

import csv
import io
import re
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import insert

from penstock.store.sql.database import Database
from penstock.store.sql.schema import kinds, requests
from tests.store.test_transfer import value
from tests.stores import Engine

GUIDE = (Path(__file__).parents[2] / "docs" / "operations" / "capacity.md").read_text()
READERS = {
    "Int64": int,
    "Int32": int,
    "String": str,
    "Bool": lambda text: {"t": True, "f": False}[text],
}


def table() -> dict[str, str]:
    """The columns of the store's table, with their types."""
    inside = re.search(r"CREATE TABLE requests \((.*?)\n\) ENGINE", GUIDE, re.DOTALL)
    assert inside
    columns = (part.strip().split(" ", 1) for part in inside[1].split(","))
    return {name: kind for name, kind in columns}  # noqa: C416 - the lists have two members each


def export(first: int, end: int) -> str:
    """The export's query, from one millisecond to before another."""
    query = re.search(r"COPY \((SELECT .*?)\) TO STDOUT", GUIDE, re.DOTALL)
    assert query
    return query[1].replace("$FROM", str(first)).replace("$TO", str(end))


async def test_the_export_gives_what_the_table_takes(postgresql: Engine, tmp_path: Path) -> None:
    database = await Database.open(postgresql.url, directory=tmp_path)
    async with database.transaction() as conn:
        for number in range(9):
            row = {column.name: value(column, number) for column in requests.columns}
            kind = {column.name: value(column, number) for column in kinds.columns}
            kind["state"] = "open" if number == 4 else "settled"
            await conn.execute(insert(kinds).values(kind))
            row |= {"created_at": 1000 + number, "kind": kind["id"], "id": f"req_{number:024x}"}
            await conn.execute(insert(requests).values(row))
    await database.close()
    connection = await asyncpg.connect(postgresql.url)
    told = io.BytesIO()
    await connection.copy_from_query(export(1002, 1007), output=told, format="csv")
    await connection.close()
    types = list(table().items())
    rows = list(csv.reader(io.StringIO(told.getvalue().decode())))
    assert len(rows) == 4, "from 1002 to before 1007, without the one that is open"
    assert {row[0] for row in rows} == {f"req_{number:024x}" for number in (2, 3, 5, 6)}
    for row in rows:
        assert len(row) == len(types)
        for (_, kind), text in zip(types, row, strict=True):
            inner = re.sub(r"^(Nullable|LowCardinality)\((.*)\)$", r"\2", kind)
            if text or not kind.startswith("Nullable"):
                READERS[inner](text)


def test_the_table_has_the_columns_of_the_export_in_their_order() -> None:
    exported = [part.strip() for part in export(0, 1).split("FROM")[0].removeprefix("SELECT").split(",")]
    assert list(table()) == exported
    for name, kind in table().items():
        column = requests.c[name] if name in requests.c else kinds.c[name]
        assert column.nullable is kind.startswith("Nullable(") or kind.startswith("LowCardinality"), name


@pytest.mark.parametrize("part", ["ReplacingMergeTree", "ORDER BY (user_id, created_at, id)"])
def test_a_slice_that_is_sent_twice_is_kept_once(part: str) -> None:
    assert part in GUIDE
