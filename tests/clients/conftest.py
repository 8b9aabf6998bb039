"""The running services that clients are pointed at: the same models behind a messages upstream and behind a chat one."""

from collections.abc import Generator

import pytest

from tests.clients.running import EVERY_LANE, LANES, Lane, Running, running


def _lane(request: pytest.FixtureRequest) -> Lane:
    return request.param


@pytest.fixture(scope="session", params=LANES)
def penstock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """A whole Penstock; each test runs once over each lane."""
    lane = _lane(request)
    with running(lane, tmp_path_factory.mktemp(f"penstock-{lane}")) as service:
        yield service


@pytest.fixture(scope="session", params=EVERY_LANE)
def everywhere(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Running]:
    """The same over every dialect that an upstream may speak, for clients of the Responses format."""
    lane = _lane(request)
    with running(lane, tmp_path_factory.mktemp(f"everywhere-{lane}")) as service:
        yield service


@pytest.fixture(scope="session")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """One service, for those who change between providers of every dialect."""
    with running("chat", tmp_path_factory.mktemp("changing")) as service:
        yield service
