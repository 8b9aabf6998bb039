"""Models that their vendors end are told thirty days ahead, with what follows and what is left."""

from datetime import date

import pytest

from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.toml_document import parse
from penstock.operations.model_endings import endings
from penstock.providers.table import KINDS

TEXT = """
[[provider]]
id = "openai"
[[provider]]
id = "openrouter"
[[model]]
id = "five"
targets = [{ provider = "openai", model = "gpt-5" }]
[[model]]
id = "mini"
targets = [
    { provider = "openai", model = "gpt-5-mini" },
    { provider = "openrouter", model = "openai/gpt-5-mini", priority = 1 },
]
[[model]]
id = "six"
targets = [{ provider = "openai", model = "gpt-6-luna" }]
"""


def catalog(*keys: str) -> Catalog:
    document = parse(TEXT, KINDS)
    return Catalog(
        providers=document.providers,
        models=document.models,
        plans=(),
        available={f"env:{key}" for key in keys}.__contains__,
        simulator=KINDS["simulator"],
    )


@pytest.mark.parametrize(
    ("day", "told"),
    [
        ("2026-11-10", []),
        ("2026-11-11", ["five", "mini"]),
        ("2026-12-10", ["five", "mini"]),
        ("2027-06-01", ["five", "mini"]),
    ],
)
def test_it_is_told_from_thirty_days_ahead_on(day: str, told: list[str]) -> None:
    found = list(endings(catalog("OPENAI_API_KEY"), date.fromisoformat(day)))
    assert [each.model for each in found] == told


def test_the_sentence_has_the_day_the_successor_and_what_is_left() -> None:
    five, mini = endings(catalog("OPENAI_API_KEY", "OPENROUTER_API_KEY"), date(2026, 12, 1))
    assert five.told(date(2026, 12, 1)) == (
        "five: openai's gpt-5 ends on 2026-12-11; its vendor names gpt-6.1-sol as what follows; nothing else serves it"
    )
    assert "ended on 2026-12-11" in five.told(date(2026, 12, 11))
    assert mini.told(date(2026, 12, 1)).endswith("its other providers serve it still")


def test_a_vendor_without_a_key_and_a_simulated_catalogue_end_nothing() -> None:
    assert not list(endings(catalog("OPENROUTER_API_KEY"), date(2027, 1, 1)))
    assert not list(endings(catalog(), date(2027, 1, 1)))
