"""The hotel that pages are read in."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.site.page_reader import Hotel, open_hotel


@pytest.fixture
async def hotel(tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path) as opened:
        yield opened
