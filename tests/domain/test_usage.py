"""An account's day, read back from what the ledger wrote."""

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.core.limits import day_of
from penstock.core.neutral.usage import Usage
from penstock.domain.ledger.ledger import Ledger, OpenRow, Settlement
from penstock.domain.ledger.usage import day_report
from penstock.store.sql.database import Database
from tests.domain.people import make_user, open_database
from tests.stores import Engine


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(engine, tmp_path) as database:
        yield database


def opened(user_id: str, id: str, at: float, day: int) -> OpenRow:
    return OpenRow(
        id=id, user_id=user_id, key_id="key_1", day=day, created_at=int(at * 1000), dialect="chat",
        model="claude-haiku-4.5", requested_model="claude-haiku-4.5", stream=False, client="curl", provider="anthropic",
        upstream_model="claude-haiku-4-5", upstream_dialect="messages",
    )  # fmt: skip


def settled(id: str, *, status: int, refund: str | None) -> Settlement:
    return Settlement(
        id=id, status=status, outcome="completed", counted=refund is None, refund_reason=refund, error_code=None,
        usage=Usage(input=1, output=2), estimated=False, provider="anthropic", upstream_model="claude-haiku-4-5",
        upstream_dialect="messages", attempts=1, first_byte_ms=1, total_ms=2, translation=None,
    )  # fmt: skip


async def test_the_day_adds_up(database: Database) -> None:
    user = await make_user(database)
    other = await make_user(database, "eve@example.com")
    now = time.time()
    day = day_of(now)
    ledger = await Ledger.start(database, boot=secrets.token_hex(8))
    for id, owner, on in (
        ("req_1", user, day),
        ("req_2", user, day),
        ("req_3", user, day - 1),
        ("req_4", other, day),
    ):
        await ledger.opened(opened(owner.id, id, now + int(id[-1]), on))
    ledger.settle(settled("req_1", status=200, refund=None))
    ledger.settle(settled("req_2", status=502, refund="no_output"))
    await ledger.close()
    async with database.connect() as conn:
        report = await day_report(conn, user, day)
        assert (report.counted, report.refunded, report.limit) == (1, 1, 10)
        assert [(line.id, line.status, line.refund_reason) for line in report.requests] == [
            ("req_1", 200, None),
            ("req_2", 502, "no_output"),
        ]
        assert [line.id for line in (await day_report(conn, user, day, most=1)).requests] == ["req_2"]
        before = await day_report(conn, user, day - 1)
        assert (before.counted, before.refunded) == (1, 0)
        assert [(line.id, line.state, line.status) for line in before.requests] == [("req_3", "open", None)]
        assert (await day_report(conn, user, day - 2)).requests == ()
