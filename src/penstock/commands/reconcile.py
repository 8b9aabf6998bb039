"""``penstock reconcile``: compares the counts and sums of a day with the rows behind them, and repairs them."""

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import (
    HERE,
    CommandError,
    Installation,
    answer,
    answer_json,
    day_named,
    open_installation,
    table,
)
from penstock.commands.options import At
from penstock.domain.ledger.reconciliation import Difference, RowsGone, compare, repair


class _Outcome(msgspec.Struct):
    day: str
    repaired: bool
    differences: tuple[Difference, ...]


def reconcile(
    *,
    day: str | None = None,
    repair_: Annotated[bool, Parameter(name="--repair", negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> int:
    """Compare the counts and sums of a day (UTC) with the ledger's rows. Exit code 1 when any differs and stays so.

    Example: penstock reconcile --day 2026-11-25

    Parameters
    ----------
    day
        The day as YYYY-MM-DD; by default today.
    repair_
        Make the numbers those of the rows. Servers that run go on with the counts of today that they know.
    json
        Print {"day", "repaired", "differences": [{"table", "of", "column", "kept", "rows"}]}.
    """
    number, label = day_named(day)
    found = asyncio.run(_found(place, number, repair_))
    if json:
        answer_json(_Outcome(label, repair_ and bool(found), tuple(found)))
    elif not found:
        answer(f"{label}: every count and sum is that of the rows.")
    else:
        lines = [(it.table, " ".join(map(str, it.of)), it.column, str(it.kept), str(it.rows)) for it in found]
        answer(table(("TABLE", "OF", "NUMBER", "IS", "ROWS SAY"), lines))
        if repair_:
            answer(f"{len(found)} repaired.")
    return 1 if found and not repair_ else 0


async def _found(place: Installation, day: int, repairing: bool) -> list[Difference]:
    async with open_installation(place) as store:
        try:
            if repairing:
                return await repair(store.database, day)
            async with store.database.connect() as conn:
                return await compare(conn, day)
        except RowsGone:
            raise CommandError(
                "the rows of that day are not kept any more (see retain_days); its counts and sums stay as they are"
            ) from None
