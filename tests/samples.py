"""A part of many like cases, for ``make test``; ``make chaos`` takes them all."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from zlib import crc32

ALL = "PENSTOCK_TEST_ALL" in os.environ
"""Whether nothing is left out."""

ONE_OF: Mapping[str, int] = {
    "clients/test_claude_code.py": 2,
    "clients/test_conversations.py": 2,
    "clients/test_frameworks.py": 2,
    "clients/test_sdks.py": 4,
    "domain/test_key_authentication.py": 3,
    "domain/test_ledger.py": 2,
    "domain/test_ledger_away.py": 2,
    "domain/test_ledger_held.py": 2,
    "service/test_bad_input.py": 3,
    "service/test_choice.py": 2,
    "service/test_conversations.py": 2,
    "service/test_cost_bounds.py": 3,
    "service/test_deep_answers.py": 2,
    "service/test_failed_answers.py": 3,
    "service/test_formats.py": 4,
    "service/test_garbled_answers.py": 3,
    "service/test_honesty.py": 5,
    "service/test_hostile_providers.py": 3,
    "service/test_kill.py": 2,
    "service/test_limits.py": 2,
    "service/test_lying_postgresql.py": 2,
    "service/test_on_postgresql.py": 2,
    "service/test_outages.py": 2,
    "service/test_recovery.py": 2,
    "service/test_refused_answers.py": 4,
    "service/test_reports.py": 3,
    "service/test_routing.py": 2,
    "service/test_startup.py": 5,
    "service/test_states.py": 3,
    "service/test_two_servers.py": 2,
    "site/test_lying_openid.py": 3,
    "site/test_oauth.py": 2,
    "site/test_odd_values.py": 2,
    "site/test_sign_in.py": 2,
    "site/test_usage_pages.py": 2,
    "store/test_counters.py": 2,
    "store/test_earlier_schemas.py": 4,
    "store/test_lying_postgresql.py": 2,
    "store/test_migrations.py": 2,
    "store/test_transfer.py": 2,
}
"""Files whose tests have many like cases: of each test one case of so many is taken, another one in each test."""

FUZZ = "test_fuzz.py"
LONG = ("byte_by_byte", "hundred_thousand", "one_character_edit", "other_line_ends", "agree_with_each_other")
"""Examples of the core that take long and no branch of their own: tests/test_coverage.py leaves them and ``FUZZ`` out."""

K = TypeVar("K")
V = TypeVar("V")


def taken(items: Sequence[V], name_of: Callable[[V], tuple[str, str]]) -> tuple[list[V], list[V]]:
    """The cases that are taken, and those that are left out; ``name_of`` gives a case's file and the name of its test."""
    if ALL:
        return list(items), []
    seen: dict[tuple[str, str], int] = {}
    kept: list[V] = []
    left: list[V] = []
    for item in items:
        file, name = name_of(item)
        number = ONE_OF.get(file, 1)
        turn = seen.get((file, name), crc32(name.encode()) % number if number > 1 else 0)
        seen[file, name] = turn + 1
        (kept if turn % number == 0 else left).append(item)
    named = {name_of(item) for item in kept}
    for item in [item for item in left if name_of(item) not in named]:  # a test of few cases
        if name_of(item) not in named:
            named.add(name_of(item))
            left.remove(item)
            kept.append(item)
    return kept, left


def sample(cases: Sequence[V], number: int, turn: int = 0) -> list[V]:
    """So many of the cases, spread evenly; another ``turn`` takes others."""
    if ALL or number >= len(cases):
        return list(cases)
    return [cases[(at * len(cases) // number + turn) % len(cases)] for at in range(number)]


def sample_of(cases: Mapping[K, V], number: int, turn: int = 0) -> dict[K, V]:
    """The same of cases with names."""
    return {name: cases[name] for name in sample(list(cases), number, turn)}
