"""The house that most conversations happen in."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.service.running_service import House, open_house
from tests.stores import engine, postgresql

__all__ = ["engine", "house", "postgresql"]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    """A running service with the settings of production, but for the limit of refusals."""
    async with open_house(tmp_path / "data") as opened:
        yield opened
