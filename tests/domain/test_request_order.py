"""The log by size: what a sort of all rows would list, page after page, with any filter, and without reading all of them."""

import random
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import event, select

from penstock.core.neutral.usage import Usage
from penstock.domain.ledger import request_order
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.request_log import Filter
from penstock.domain.ledger.request_order import ORDERS
from penstock.errors import InvalidRequest
from penstock.store.sql.database import Database
from tests.domain.ledger_rows import DAY, end, open_ledger, row
from tests.stores import Engine

HOUR = 3_600_000
COUNT = 150


@pytest.fixture
async def books(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    """A hundred and fifty requests of five days: of two models and keys, many of one size, some without any, one that runs."""
    chance = random.Random(7)
    database = await engine.open(tmp_path)
    ledger = await open_ledger(database, "b1")
    for number in range(COUNT):
        # Three hours a day, with ten requests in each.
        at = (DAY + number // 30) * 24 * HOUR + number % 30 * HOUR // 10 + chance.randrange(1000)
        opened = msgspec.structs.replace(
            row(f"r{number}", "usr_a" if number % 10 else "usr_b", at // (24 * HOUR)),
            created_at=at,
            key_id=f"key_{number % 2}",
            model=f"m{number % 3}",
            requested_model=f"m{number % 3}",
        )
        await ledger.opened(opened)
        failed = number % 17 == 0
        ledger.settle(
            msgspec.structs.replace(
                end(f"r{number}", outcome="upstream_error" if failed else "completed"),
                usage=Usage(
                    input=chance.choice((10, 10, 4000, chance.randrange(5000))), output=chance.randrange(9)
                ),
                first_byte_ms=None if failed else chance.randrange(3000),
                total_ms=chance.randrange(60_000),
            )
        )
    await ledger.opened(row("runs", "usr_a", DAY + 4))
    await ledger.close()
    yield database
    await database.close()


async def listed(database: Database, chosen: Filter, most: int) -> list[str]:
    found: list[str] = []
    while True:
        async with database.connect() as conn:
            rows, cursor = await request_order.page(conn, "usr_a", chosen, most)
        found += [it.id for it in rows]
        if not cursor:
            return found
        chosen = msgspec.structs.replace(chosen, before=cursor)


async def sorted_rows(database: Database, chosen: Filter) -> list[str]:
    """The same by reading everything."""
    column = ORDERS[chosen.order].column
    async with database.connect() as conn:
        found = (await conn.execute(select(entries).where(entries.c.user_id == "usr_a"))).mappings().all()
    fitting = [
        it
        for it in found
        if it[column] is not None
        and chosen.model in ("", it["model"])
        and chosen.key_id in ("", it["key_id"])
        and (
            chosen.outcome in ("", it["outcome"])
            or (chosen.outcome == "failed" and it["outcome"] != "completed")
        )
        and (chosen.first is None or it["created_at"] >= chosen.first * 24 * HOUR)
        and (chosen.last is None or it["created_at"] < (chosen.last + 1) * 24 * HOUR)
    ]
    fitting.sort(key=lambda it: (it[column], it["created_at"]), reverse=True)
    return [it["id"] for it in fitting][: request_order.MOST_LISTED]


FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "a model": {"model": "m1"},
    "a key": {"key_id": "key_1"},
    "failed": {"outcome": "failed"},
    "days": {"first": DAY + 1, "last": DAY + 2},
    "all of these": {"model": "m2", "key_id": "key_0", "first": DAY + 1, "outcome": "completed"},
    "nothing": {"model": "gone"},
    "refused": {"outcome": "refused"},
}


async def test_it_lists_what_a_sort_of_all_rows_does(books: Database) -> None:
    for number, (said, parts) in enumerate(FILTERS.items()):
        for order in ORDERS if said == "all" else (list(ORDERS)[number % len(ORDERS)],):
            chosen = Filter(order=order, **parts)
            want = [] if said == "refused" else await sorted_rows(books, chosen)
            assert await listed(books, chosen, 40) == want, (said, order)
            assert len(want) > 3 or said in {"nothing", "refused"} or (said == "failed" and order == "first")


async def test_it_ends_where_it_says(books: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_order, "MOST_LISTED", 20)
    chosen = Filter(order="whole")
    want = await sorted_rows(books, chosen)
    assert len(want) == 20
    assert await listed(books, chosen, 7) == await listed(books, chosen, 3) == want
    async with books.connect() as conn:
        for before in ("20.1.1.r1", "x.1.1.r1", "1.-1.1.r1", "7", "1..1.r", "9" * 40):
            with pytest.raises(InvalidRequest):
                await request_order.page(conn, "usr_a", msgspec.structs.replace(chosen, before=before))


async def test_it_reads_no_more_hours_than_it_lists(books: Database) -> None:
    read: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        read.append(statement)

    async with books.connect() as conn:
        event.listen(conn.sync_connection, "before_cursor_execute", note)
        rows, _ = await request_order.page(conn, "usr_a", Filter(order="whole"), 5)
    assert len(rows) == 5
    hours = sum(statement.count(") AS spot_") for statement in read)
    # Some seventy hours of a kind have rows; those beside the first of a statement are read with it.
    assert 5 <= hours <= 32
