"""What fails in a round of maintenance is told, and neither ends the rounds nor the server's own end."""

import asyncio
from pathlib import Path

import pytest

from penstock.domain.ledger import retention
from penstock.errors import DatabaseUnavailable
from penstock.operations import maintenance
from tests.service.running_service import open_house

PATIENCE = 30
"""Seconds after which a test says that something hangs."""


@pytest.mark.parametrize(
    "failure", [ValueError("a column of text"), TypeError("None"), DatabaseUnavailable("away")], ids=repr
)
async def test_a_slow_round_that_fails_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, failure: Exception
) -> None:
    rounds = 0
    third = asyncio.Event()

    async def keep(*_: object) -> int:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            third.set()
        raise failure

    monkeypatch.setattr(retention, "keep", keep)
    monkeypatch.setattr(maintenance, "_FIRST_SLOW_SECONDS", 0.0)
    monkeypatch.setattr(maintenance, "_SLOW_SECONDS", 0.01)
    async with asyncio.timeout(PATIENCE), open_house(tmp_path):
        await third.wait()
    told = [record for record in caplog.records if record.name == maintenance.__name__]
    assert {record.levelname for record in told} == {
        "WARNING" if isinstance(failure, DatabaseUnavailable) else "ERROR"
    }
