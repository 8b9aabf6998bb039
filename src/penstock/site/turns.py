"""Turns of the event loop, for what is as long as an account is old: some rows at a time, and others are served in between."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final, TypeVar

ROWS_OF_A_TURN: Final = 50
"""Lines of a file that are written before others have their turn: they take two to three milliseconds."""

Row = TypeVar("Row")


async def in_turns(rows: Sequence[Row]) -> AsyncGenerator[Sequence[Row]]:
    """The rows, ``ROWS_OF_A_TURN`` at a time; before each of them but the first whoever waits for the loop has it."""
    for start in range(0, len(rows), ROWS_OF_A_TURN):
        if start:
            await asyncio.sleep(0)
        yield rows[start : start + ROWS_OF_A_TURN]
