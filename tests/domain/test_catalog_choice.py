"""What the catalogue says of the choice: written, read back the same, kept in the database, and checked."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from penstock.core.catalog import AutoRule, Fallback, Price, Target, When
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.toml_document import CatalogDocument, CatalogError, check, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.providers.table import KINDS
from penstock.store.sql.database import Database
from tests.stores import Engine

WHOLE = """
[[provider]]
id = "anthropic"
tags = ["us", "zdr"]
in_flight = 200

[[provider]]
id = "openai"

[[model]]
id = "m"
targets = [
    { provider = "anthropic", model = "up", in_flight = 4, tags = ["eu"], price = { input = 3, output = 15.5 } },
    { provider = "openai", model = "up" },
]
sticky = false
fallback = [{ model = "n" }, { model = "o", on = ["down", "overflow"] }]

[[model]]
id = "n"
targets = [{ provider = "openai", model = "n", price = { input = 1, output = 2 } }]

[[model]]
id = "o"
targets = [{ provider = "openai", model = "o" }]

[[model]]
id = "auto-x"
auto = ["m", "n"]
rules = [
    { when = { tools = false, input_tokens_under = 2000, plan = "free" }, use = ["n"] },
    { when = { input_tokens_over = 120000 }, use = ["m"] },
]
most_usd_per_million = { input = 5, output = 25 }

[[plan]]
id = "free"
daily_requests = 1
concurrent_requests = 1
models = ["m", "n", "auto-x"]
weight = 3
requires = ["zdr"]
"""


def read(text: str) -> CatalogDocument:
    document = parse(text, KINDS)
    check(document, document)
    return document


def test_what_is_written_is_read_and_reads_back_the_same() -> None:
    document = read(WHOLE)
    first, *_, auto = document.models
    assert (document.providers[0].tags, document.providers[0].in_flight) == (("us", "zdr"), 200)
    assert document.providers[1].in_flight is None
    assert first.targets[0] == Target(
        "anthropic", "up", in_flight=4, tags=("eu",), price=Price(input=3, output=15.5)
    )
    assert not first.sticky
    assert first.fallback == (Fallback("n"), Fallback("o", ("down", "overflow")))
    assert auto.rules == (
        AutoRule(When(tools=False, input_tokens_under=2000, plan="free"), ("n",)),
        AutoRule(When(input_tokens_over=120_000), ("m",)),
    )
    assert auto.most_usd_per_million == Price(5, 25)
    assert (document.plans[0].weight, document.plans[0].requires) == (3, ("zdr",))
    assert read(dump(document)) == document
    assert dump(read(dump(document))) == dump(document)


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await engine.open(tmp_path)
    yield opened
    await opened.close()


async def test_the_database_keeps_it_and_tells_what_has_changed(database: Database) -> None:
    document = read(WHOLE)
    async with database.transaction() as conn:
        await catalog_store.apply_document(conn, document, KINDS, 1)
    async with database.connect() as conn:
        kept = await catalog_store.load_document(conn, KINDS)
    models = tuple(msgspec.structs.replace(model, created_at=1) for model in document.models)
    assert kept == msgspec.structs.replace(document, models=models)
    changed = read(
        WHOLE.replace("in_flight = 200", "in_flight = 9")
        .replace("weight = 3", "weight = 4")
        .replace("false\n", "true\n")
    )
    async with database.transaction() as conn:
        changes = await catalog_store.apply_document(conn, changed, KINDS, 2)
        assert {(each.id, each.fields) for each in changes} == {
            ("anthropic", ("in_flight",)),
            ("m", ("sticky",)),
            ("free", ("weight",)),
        }
        assert await catalog_store.apply_document(conn, changed, KINDS, 3) == []


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ('use = ["m"]', 'use = ["x"]', 'model[3].rules[1].use[0]: unknown model "x"'),
        ('use = ["m"]', 'use = ["auto-x"]', 'model[3].rules[1].use[0]: "auto-x" itself chooses'),
        (
            '{ model = "n" }',
            '{ model = "m" }',
            "model[0].fallback[0].model: a model does not stand in for itself",
        ),
        ('{ model = "n" }', '{ model = "auto-x" }', 'model[0].fallback[0].model: "auto-x" itself chooses'),
        ('on = ["down", "overflow"]', 'on = ["sulking"]', "model[0].fallback[1].on[0]"),
        ("tools = false", "toolz = false", 'rules[0].when.toolz: unknown key; did you mean "tools"?'),
        ("in_flight = 200", "in_flight = 0", "provider[0].in_flight"),
        ('tags = ["eu"]', 'tags = ["E U"]', "targets[0].tags[0]"),
        ("input = 3, output = 15.5", "input = 3", "targets[0].price"),
        (", price = { input = 1, output = 2 }", "", 'no target of "n" has a price'),
        ("sticky = false", "most_usd_per_million = { input = 1, output = 1 }", "model[0].auto: required"),
        ("weight = 3", "weight = 0", "plan[0].weight"),
        (
            'id = "o"\n',
            'id = "o"\nkind = "embedding"\n',
            'model[0].fallback[1].model: "o" is an embedding model',
        ),
        (
            'id = "o"\n',
            'id = "o"\nkind = "embedding"\nfallback = [{ model = "n" }]\n',
            "fallback: an embedding model has none",
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_place(was: str, becomes: str, told: str) -> None:
    assert was in WHOLE
    with pytest.raises(CatalogError) as caught:
        read(WHOLE.replace(was, becomes))
    assert any(told in problem for problem in caught.value.problems), caught.value.problems


def test_a_rules_models_are_candidates_as_far_as_the_plan_has_them() -> None:
    document = read(WHOLE.replace('use = ["m"]', 'use = ["o"]').replace("most_usd_per_million", "# "))

    def candidates(text: CatalogDocument) -> list[str]:
        catalog = Catalog(
            providers=text.providers,
            models=text.models,
            plans=text.plans,
            available=lambda _: True,
            simulator=KINDS["simulator"],
        )
        return [model.id for model in catalog.resolve("auto-x", "free").candidates]

    assert candidates(document) == ["m", "n"]
    plan = msgspec.structs.replace(document.plans[0], models=("m", "n", "o", "auto-x"))
    assert candidates(msgspec.structs.replace(document, plans=(plan,))) == ["m", "n", "o"]
