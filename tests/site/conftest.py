"""The hotel that pages are read in."""

from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import jinja2
import pytest
from jinja2.bccache import Bucket

from penstock.site import pages
from tests.site.page_reader import Hotel, open_hotel


class CompiledOnce(jinja2.BytecodeCache):
    """Templates compiled by a test, for those after it."""

    def __init__(self) -> None:
        self._codes: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if found := self._codes.get(bucket.key):
            bucket.bytecode_from_string(found)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session")
def compiled() -> CompiledOnce:
    return CompiledOnce()


@pytest.fixture(autouse=True)
def templates(compiled: CompiledOnce, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hotel would compile its templates anew, which is half of what it costs."""
    monkeypatch.setattr(pages, "Environment", partial(jinja2.Environment, bytecode_cache=compiled))


@pytest.fixture
async def hotel(tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path) as opened:
        yield opened
