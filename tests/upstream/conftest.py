"""A client, and a server that says what the test tells it to."""

from collections.abc import AsyncIterator

import pytest

from penstock.upstream import UpstreamClient
from tests.upstream.scripted import Caller, ScriptedServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer.start() as server:
        yield server


@pytest.fixture
async def caller(server: ScriptedServer) -> AsyncIterator[Caller]:
    """A client for the scripted server; when the test ends, closing it must leave nothing open."""
    client = UpstreamClient()
    caller = Caller(client, server.origin)
    yield caller
    await client.close()
    assert all(stats.open == 0 for stats in client.stats().values())
    assert not caller.busy()
