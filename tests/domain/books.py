"""Rows and ends of requests as the relay writes them, for tests of the ledger and the limits."""

from pathlib import Path

from sqlalchemy import select

from penstock.core.turn import Usage
from penstock.domain.ledger import Ledger, OpenRow, Settlement
from penstock.domain.usage import reconcile
from penstock.store.database import Database
from penstock.store.schema import requests, usage_days

DAY = 20_000


def url(directory: Path) -> str:
    return f"sqlite:///{directory}/penstock.db"


def row(id: str, user: str = "usr_a", day: int = DAY) -> OpenRow:
    return OpenRow(
        id=id,
        user_id=user,
        key_id="key_a",
        day=day,
        created_at=day * 86_400_000,
        dialect="chat",
        model="m",
        requested_model="m",
        stream=False,
        client="curl",
        provider="p",
        upstream_model="um",
        upstream_dialect="chat",
    )


def end(
    id: str, *, refund: str | None = None, outcome: str = "completed", status: int | None = 200
) -> Settlement:
    return Settlement(
        id=id,
        status=status,
        outcome=outcome,
        counted=refund is None,
        refund_reason=refund,
        error_code=None,
        usage=Usage(input=3, output=4),
        estimated=False,
        provider="p",
        upstream_model="um",
        upstream_dialect="chat",
        attempts=1,
        first_byte_ms=1,
        total_ms=2,
        translation=None,
    )


async def used(database: Database, user: str = "usr_a", day: int = DAY) -> tuple[int, int]:
    """What counts of a day, and what was refunded."""
    async with database.connect() as conn:
        found = await conn.execute(
            select(usage_days.c.used, usage_days.c.refunded).where(
                usage_days.c.user_id == user, usage_days.c.day == day
            )
        )
        return tuple(found.one_or_none() or (0, 0))


async def states(database: Database) -> dict[str, tuple[str, str | None, bool]]:
    """State, outcome and whether it counts, by request."""
    async with database.connect() as conn:
        found = await conn.execute(
            select(requests.c.id, requests.c.state, requests.c.outcome, requests.c.counted)
        )
        return {id: (state, outcome, counted) for id, state, outcome, counted in found}


async def agree(database: Database, day: int = DAY) -> None:
    async with database.connect() as conn:
        assert await reconcile(conn, day) == []


async def open_ledger(database: Database, boot: str) -> Ledger:
    return await Ledger.open(database, boot=boot)
