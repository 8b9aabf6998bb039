"""The pages, with the data in PostgreSQL: the conversations that write the most, once more."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.site.page_reader import Hotel, open_hotel
from tests.site.test_admin_api import (
    staffed,
    test_a_dry_run_answers_and_changes_nothing_and_a_revision_can_be_asked_for,
    test_a_write_is_done_once_for_each_key_and_answered_alike,
    test_what_is_read_is_what_the_contract_says,
)
from tests.site.test_dashboard import (
    test_a_key_is_made_shown_rolled_and_revoked,
    test_a_long_log_is_read_page_by_page,
    test_another_plan_is_asked_of_the_operator,
    test_requests_their_receipts_and_the_file,
    test_the_overview_counts_what_the_ledger_counts,
)
from tests.site.test_first_key import (
    test_another_browser_of_the_account_is_not_shown_it,
    test_that_it_was_shown_is_noted_once_for_the_owner,
)
from tests.site.test_request_log import (
    test_days_and_keys_bound_it,
    test_each_filter_finds_what_it_says_and_adds_it_up,
    test_many_pages_of_a_filter_have_each_row_once,
)
from tests.site.test_sign_in import (
    test_a_key_exists_from_sign_up_and_works_once_the_address_is_verified,
    test_a_new_password_ends_every_session_and_is_told,
    test_an_account_can_be_left_and_kept_after_all,
    test_an_account_that_leaves_has_no_other_session_and_none_that_waits,
    test_an_account_that_leaves_is_gone_for_its_keys_until_it_comes_back,
    test_another_address,
    test_guesses_are_counted_by_address_whatever_is_sent_anew,
    test_sessions_are_listed_ended_and_end_by_themselves,
    test_the_second_factor,
)
from tests.site.test_sign_in_limits import (
    test_a_code_that_is_sent_twice_at_once_sets_one_password,
    test_a_new_person_signs_up_beside_a_stranger_who_does_so_in_their_name,
    test_too_many_codes_of_the_second_factor_are_429_and_say_when,
)
from tests.site.test_usage_pages import test_the_figures_are_those_of_the_rows
from tests.stores import Engine, postgresql

__all__ = [
    "postgresql",
    "staffed",
    "test_a_code_that_is_sent_twice_at_once_sets_one_password",
    "test_a_dry_run_answers_and_changes_nothing_and_a_revision_can_be_asked_for",
    "test_a_key_exists_from_sign_up_and_works_once_the_address_is_verified",
    "test_a_key_is_made_shown_rolled_and_revoked",
    "test_a_long_log_is_read_page_by_page",
    "test_a_new_password_ends_every_session_and_is_told",
    "test_a_new_person_signs_up_beside_a_stranger_who_does_so_in_their_name",
    "test_a_write_is_done_once_for_each_key_and_answered_alike",
    "test_an_account_can_be_left_and_kept_after_all",
    "test_an_account_that_leaves_has_no_other_session_and_none_that_waits",
    "test_an_account_that_leaves_is_gone_for_its_keys_until_it_comes_back",
    "test_another_address",
    "test_another_browser_of_the_account_is_not_shown_it",
    "test_another_plan_is_asked_of_the_operator",
    "test_days_and_keys_bound_it",
    "test_each_filter_finds_what_it_says_and_adds_it_up",
    "test_guesses_are_counted_by_address_whatever_is_sent_anew",
    "test_many_pages_of_a_filter_have_each_row_once",
    "test_requests_their_receipts_and_the_file",
    "test_sessions_are_listed_ended_and_end_by_themselves",
    "test_that_it_was_shown_is_noted_once_for_the_owner",
    "test_the_figures_are_those_of_the_rows",
    "test_the_overview_counts_what_the_ledger_counts",
    "test_the_second_factor",
    "test_too_many_codes_of_the_second_factor_are_429_and_say_when",
    "test_what_is_read_is_what_the_contract_says",
]


@pytest.fixture
async def hotel(postgresql: Engine, tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path, database_url=postgresql.url) as opened:
        yield opened
