"""What the books and the limits promise, with the data in PostgreSQL: the same conversations once more."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.service.running_service import House, open_house
from tests.service.test_counting import (
    test_a_request_is_counted_and_in_the_journal_before_the_provider_gets_it,
    test_a_stream_that_breaks_off_after_some_output_counts,
    test_no_output_is_given_back,
    test_what_the_provider_refuses_is_given_back_and_counts_as_refused,
    test_who_leaves_later_gets_nothing_back,
)
from tests.service.test_limits import (
    test_64_who_race_for_10_slots_are_never_11,
    test_64_who_race_for_the_last_requests_of_a_day_get_exactly_those,
    test_a_change_of_plan_is_felt_at_once_and_compares_the_days_count_with_the_new_limit,
    test_a_restart_keeps_the_days_count_exactly,
    test_after_every_kind_of_answer_the_headers_say_what_the_ledger_holds,
    test_what_is_given_back_can_be_used_and_no_more,
)
from tests.stores import Engine

__all__ = [
    "test_64_who_race_for_10_slots_are_never_11",
    "test_64_who_race_for_the_last_requests_of_a_day_get_exactly_those",
    "test_a_change_of_plan_is_felt_at_once_and_compares_the_days_count_with_the_new_limit",
    "test_a_request_is_counted_and_in_the_journal_before_the_provider_gets_it",
    "test_a_restart_keeps_the_days_count_exactly",
    "test_a_stream_that_breaks_off_after_some_output_counts",
    "test_after_every_kind_of_answer_the_headers_say_what_the_ledger_holds",
    "test_no_output_is_given_back",
    "test_what_is_given_back_can_be_used_and_no_more",
    "test_what_the_provider_refuses_is_given_back_and_counts_as_refused",
    "test_who_leaves_later_gets_nothing_back",
]


@pytest.fixture
async def house(postgresql: Engine, tmp_path: Path) -> AsyncGenerator[House]:
    """A running service whose data are in PostgreSQL."""
    async with open_house(tmp_path / "data", database_url=postgresql.url) as opened:
        yield opened
