"""Wildcards: one row of the catalogue that passes every name on to a provider, and who may use what it stands for."""

import pytest

from penstock.core.catalog import Model, is_wildcard
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.models_endpoint import list_models
from penstock.domain.catalog.toml_document import CatalogError, check, parse
from penstock.errors import ModelNotFound, ModelNotOnPlan
from penstock.providers.table import KINDS

TEXT = """
[[provider]]
id = "openai"
[[provider]]
id = "openrouter"
[[model]]
id = "gpt-6-luna"
aliases = ["openai/luna"]
targets = [{ provider = "openai", model = "gpt-6-luna" }]
[[model]]
id = "openai/*"
targets = [{ provider = "openai", model = "*" }, { provider = "openrouter", model = "openai/*", priority = 1 }]
[[model]]
id = "openai/deep/*"
targets = [{ provider = "openrouter", model = "*:deep" }]
[[plan]]
id = "all"
daily_requests = 10
concurrent_requests = 1
models = ["gpt-6-luna", "openai/*", "openai/deep/*"]
[[plan]]
id = "one"
daily_requests = 10
concurrent_requests = 1
models = ["gpt-6-luna"]
[[plan]]
id = "wild"
daily_requests = 10
concurrent_requests = 1
models = ["openai/*"]
"""


def catalog(*keys: str) -> Catalog:
    document = parse(TEXT, KINDS)
    check(document, document)
    return Catalog(
        providers=document.providers,
        models=document.models,
        plans=document.plans,
        available={"", *(f"env:{key}" for key in keys)}.__contains__,
        simulator=KINDS["simulator"],
    )


REAL = catalog("OPENAI_API_KEY", "OPENROUTER_API_KEY")


def targets(model: Model) -> list[tuple[str, str]]:
    return [(target.provider, target.model) for target in model.targets]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/gpt-9", [("openai", "gpt-9"), ("openrouter", "openai/gpt-9")]),
        (
            "openai/ft:gpt-4o:acme/x",
            [("openai", "ft:gpt-4o:acme/x"), ("openrouter", "openai/ft:gpt-4o:acme/x")],
        ),
        ("openai/deep/o3", [("openrouter", "o3:deep")]),
        ("openai/luna", [("openai", "gpt-6-luna")]),
        ("gpt-6-luna", [("openai", "gpt-6-luna")]),
    ],
)
def test_the_longest_beginning_passes_a_name_on_that_is_no_id_and_no_alias(
    name: str, expected: list[tuple[str, str]]
) -> None:
    found = REAL.resolve(name, "all", kind="chat")
    assert targets(found.model) == expected
    assert REAL.resolve(name, "all", kind="chat").model is found.model


@pytest.mark.parametrize(
    "name", ["openai/", "openai/*", "openai", "openai/a b", "openai/-x", "openai/" + "x" * 200, "other/x"]
)
def test_what_is_no_name_is_not_passed_on(name: str) -> None:
    with pytest.raises(ModelNotFound) as error:
        REAL.resolve(name, "all", kind="chat")
    assert "*" not in error.value.message.replace(name, "")


def test_plans_and_keys_know_it_by_the_wildcard_and_a_key_also_by_one_name() -> None:
    with pytest.raises(ModelNotOnPlan, match="it is on: all, wild"):
        REAL.resolve("openai/gpt-9", "one", kind="chat")
    assert REAL.resolve("openai/gpt-9", "all", frozenset({"openai/*"}), "chat").model.listed == "openai/*"
    assert REAL.resolve("openai/gpt-9", "all", frozenset({"openai/gpt-9"}), "chat").model.id == "openai/gpt-9"
    with pytest.raises(ModelNotOnPlan, match="its own list"):
        REAL.resolve("openai/gpt-9", "all", frozenset({"openai/gpt-8", "gpt-6-luna"}), "chat")


def test_it_is_in_no_list_and_serves_a_plan_all_the_same() -> None:
    assert [model.id for model in REAL.offered("all")] == ["gpt-6-luna"]
    assert b"*" not in list_models(REAL, "all")
    assert REAL.plan_trouble("wild") is None
    assert catalog("OPENROUTER_API_KEY").plan_trouble("one") is not None


def test_without_a_key_the_simulator_takes_what_is_passed_on() -> None:
    found = catalog().resolve("openai/gpt-9", "all", kind="chat")
    assert targets(found.model) == [("simulator", "gpt-9")]
    assert catalog().needs(found.model) == ("OPENAI_API_KEY", "OPENROUTER_API_KEY")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('id = "openai*"', "write a wildcard as a beginning, a slash and one"),
        ('id = "openai/*/*"', "matching regex"),
        ('id = "openai/*"\naliases = ["x"]', "neither aliases nor auto"),
        ('id = "openai/*"\nkind = "embedding"', "a wildcard is for chat"),
        ('id = "plain"', "stands for what the id of a wildcard ends with"),
    ],
)
def test_a_wildcard_that_cannot_be_is_refused_with_its_place(change: str, says: str) -> None:
    text = f'[[provider]]\nid = "openai"\n[[model]]\n{change}\ntargets = [{{ provider = "openai", model = "*" }}]\n'
    said = refused(text)
    assert "model[0]" in said
    assert says in said


def refused(text: str) -> str:
    """What is said of a document that cannot be applied."""
    try:
        document = parse(text, KINDS)
        check(document, document)
    except CatalogError as error:
        return str(error)
    raise AssertionError("it can be applied")


def test_a_target_of_a_wildcard_says_where_the_name_goes_and_auto_takes_none() -> None:
    text = """
[[provider]]
id = "openai"
[[model]]
id = "o/*"
targets = [{ provider = "openai", model = "x" }]
[[model]]
id = "a"
auto = ["o/*"]
"""
    said = refused(text)
    assert 'model[0].targets[0].model: write "*" once' in said
    assert 'model[1].auto[0]: "o/*" is a wildcard' in said
    assert is_wildcard("o/*")
