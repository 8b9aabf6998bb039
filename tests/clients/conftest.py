"""The running services that clients are pointed at: the same models behind a messages upstream and behind a chat one."""

from collections.abc import Generator

import pytest

from tests.clients.running import LANES, Lane, Running, running


def _lane(request: pytest.FixtureRequest) -> Lane:
    return request.param


@pytest.fixture(scope="session", params=LANES)
def penstock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """A whole Penstock; each test runs once over each lane."""
    lane = _lane(request)
    with running(lane, tmp_path_factory.mktemp(f"penstock-{lane}")) as service:
        yield service
