"""The groups of ``xdist_group`` reach the scheduler: else each worker starts the heavy services of every group."""

import pytest


@pytest.mark.xdist_group("groups")
def test_a_group_is_a_part_of_the_name_by_which_tests_are_handed_out(request: pytest.FixtureRequest) -> None:
    grouped = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith("@groups") == grouped
