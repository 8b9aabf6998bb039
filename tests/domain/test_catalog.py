"""The snapshot: what names mean, for whom, and what is said when they mean nothing."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import Model, Target, Upstream
from penstock.domain.catalog.catalog import Catalog, Plan
from penstock.domain.catalog.catalog_store import default_catalog
from penstock.domain.catalog.toml_document import CatalogDocument, check, parse
from penstock.errors import InvalidRequest, ModelNotFound, ModelNotOnPlan, NoProvider
from penstock.providers.table import KINDS

DEFAULT = parse(default_catalog(), KINDS)
FREE = {"claude-haiku-4.5", "claude-sonnet-4.6", "deepseek-3.2", "minimax-m2.1"}
STARTER = FREE | {
    "auto-kiro",
    "claude-3.7-sonnet",
    "claude-sonnet-4",
    "claude-sonnet-4.5",
    "qwen3-coder-next",
}
PRO = STARTER | {"claude-opus-4.5", "claude-opus-4.6"}


def catalog(document: CatalogDocument = DEFAULT, keys: Iterable[str] = ()) -> Catalog:
    """A snapshot with these variables set and no others."""
    references = {f"env:{key}" for key in keys} | {""}
    return Catalog(
        providers=document.providers,
        models=document.models,
        plans=document.plans,
        available=references.__contains__,
        simulator=KINDS["simulator"],
        revision=1,
    )


SIMULATED = catalog()
ANTHROPIC = catalog(keys=["ANTHROPIC_API_KEY"])


# ---- the default catalogue


def test_the_default_catalogue_is_sound():
    check(DEFAULT, DEFAULT)
    assert {plan.id: set(plan.models) for plan in DEFAULT.plans} == {
        "free": FREE,
        "starter": STARTER,
        "pro": PRO,
    }
    assert {model.id for model in DEFAULT.models} == PRO
    assert [(p.id, p.daily_requests, p.concurrent_requests) for p in DEFAULT.plans] == [
        ("free", 5000, 1),
        ("starter", 20000, 3),
        ("pro", 50000, 10),
    ]


@pytest.mark.parametrize(
    "variable",
    ["ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "DASHSCOPE_API_KEY", "MINIMAX_API_KEY", "OPENROUTER_API_KEY"],
)
def test_each_documented_variable_serves_something_real(variable: str):
    served = catalog(keys=[variable])
    assert not served.simulated
    assert served.offered("pro")


@pytest.mark.parametrize(("plan", "expected"), [("free", FREE), ("starter", STARTER), ("pro", PRO)])
def test_without_keys_the_simulator_serves_every_model_of_the_plan(plan: str, expected: set[str]):
    assert SIMULATED.simulated
    assert {model.id for model in SIMULATED.offered(plan)} == expected
    for model in SIMULATED.offered(plan):
        assert model.auto or [target.provider for target in model.targets] == ["simulator"]


def test_with_a_key_what_it_cannot_serve_is_unlisted_and_says_what_would_serve_it():
    assert not ANTHROPIC.simulated
    offered = {model.id for model in ANTHROPIC.offered("pro")}
    assert offered == PRO - {"deepseek-3.2", "qwen3-coder-next", "minimax-m2.1"}
    with pytest.raises(NoProvider, match="MINIMAX_API_KEY, OPENROUTER_API_KEY"):
        ANTHROPIC.resolve("minimax-m2.1", "pro")


def test_what_would_serve_a_model_is_told_of_simulated_ones_too():
    assert SIMULATED.needs(SIMULATED.models["minimax-m2.1"]) == ("MINIMAX_API_KEY", "OPENROUTER_API_KEY")
    assert "ANTHROPIC_API_KEY" in SIMULATED.needs(SIMULATED.models["auto-kiro"])


def test_a_key_for_none_of_the_models_leaves_them_simulated():
    assert catalog(keys=["OPENAI_API_KEY"]).simulated


def test_simulated_and_real_are_mixed_only_where_the_catalogue_says_so():
    row = Upstream(id="drill", kind="simulator", speaks=())
    model = Model(id="drill", name="Drill", targets=(Target("drill", "sim-slow"),))
    document = CatalogDocument((*DEFAULT.providers, row), (*DEFAULT.models, model), DEFAULT.plans)
    real = catalog(document, ["ANTHROPIC_API_KEY"])
    assert not real.simulated
    assert real.served(real.models["drill"])
    assert real.upstreams["drill"].speaks == KINDS["simulator"].speaks
    assert not real.served(real.models["deepseek-3.2"])
    alone = catalog(document)
    assert alone.simulated
    assert alone.models["drill"].targets == model.targets


# ---- names


@pytest.mark.parametrize(
    ("name", "plan", "expected"),
    [
        ("claude-sonnet-4.6", "free", "claude-sonnet-4.6"),
        ("claude-sonnet-4-6", "free", "claude-sonnet-4.6"),
        ("claude-sonnet-4-6-20260217", "free", "claude-sonnet-4.6"),
        ("claude-haiku-4-5-20251001", "free", "claude-haiku-4.5"),
        ("claude-sonnet-4-20250514", "pro", "claude-sonnet-4"),
        ("claude-3-7-sonnet-20250219", "starter", "claude-3.7-sonnet"),
        ("claude-3-7-sonnet-latest", "starter", "claude-3.7-sonnet"),
        ("MiniMax-M2.1", "free", "minimax-m2.1"),
        # what Claude Code asks for by itself
        ("claude-sonnet-5-5", "free", "claude-sonnet-4.6"),
        ("claude-haiku-5-5", "free", "claude-haiku-4.5"),
        ("claude-opus-5-5", "pro", "claude-opus-4.6"),
        ("claude-opus-4-8", "pro", "claude-opus-4.6"),
        ("claude-opus-4-8", "free", "claude-sonnet-4.6"),
        ("claude-opus-4-8", "starter", "claude-sonnet-4.6"),
        ("claude-3-5-haiku-20241022", "free", "claude-haiku-4.5"),
    ],
)
def test_a_name_means(name: str, plan: str, expected: str):
    for snapshot in (SIMULATED, ANTHROPIC):
        if not snapshot.served(snapshot.models[expected]):
            continue
        found = snapshot.resolve(name, plan)
        assert (found.model.id, found.alias) == (expected, name != expected)
        assert snapshot.resolve(name, plan) is found


@pytest.mark.parametrize(
    "name", ["gpt-5", "", "claude", "claude-fable-5-1", "Claude-Sonnet-4.6", "anthropic/claude-opus"]
)
def test_any_other_name_is_not_found_and_the_plans_models_are_named(name: str):
    with pytest.raises(
        ModelNotFound, match=r"claude-sonnet-4\.6, claude-haiku-4\.5, deepseek-3\.2, minimax-m2\.1\."
    ):
        SIMULATED.resolve(name, "free")


def test_a_long_name_is_not_repeated_whole():
    with pytest.raises(ModelNotFound) as caught:
        SIMULATED.resolve("x" * 100_000, "free")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", ["claude-opus-4.6", "claude-opus-4-6", "claude-opus-4-5-20251101"])
def test_a_model_of_a_higher_plan_says_which(name: str):
    with pytest.raises(ModelNotOnPlan, match="is on: pro"):
        SIMULATED.resolve(name, "free")


def test_not_being_on_the_plan_comes_before_not_being_served():
    with pytest.raises(ModelNotOnPlan):
        catalog(keys=["DEEPSEEK_API_KEY"]).resolve("claude-opus-4.6", "free")


def test_a_key_narrows_the_plan():
    allowed = frozenset({"claude-haiku-4.5", "claude-opus-4.6"})
    assert SIMULATED.resolve("claude-haiku-4-5", "free", allowed).model.id == "claude-haiku-4.5"
    assert SIMULATED.resolve("claude-sonnet-5-5", "free", allowed).model.id == "claude-haiku-4.5"
    with pytest.raises(ModelNotOnPlan, match="This key"):
        SIMULATED.resolve("claude-sonnet-4.6", "free", allowed)
    with pytest.raises(ModelNotOnPlan, match="is on: pro"):
        SIMULATED.resolve("claude-opus-4.6", "free", allowed)
    assert [model.id for model in SIMULATED.offered("free", allowed)] == ["claude-haiku-4.5"]


def test_auto_chooses_among_what_the_plan_has_and_what_is_served():
    chosen = [model.id for model in SIMULATED.resolve("auto-kiro", "starter").candidates]
    assert chosen[:2] == ["claude-sonnet-4.6", "claude-sonnet-4.5"]
    assert set(chosen) <= STARTER
    only = catalog(keys=["DEEPSEEK_API_KEY"]).resolve("auto-kiro", "starter")
    assert [model.id for model in only.candidates] == ["deepseek-3.2"]
    with pytest.raises(ModelNotOnPlan):
        SIMULATED.resolve("auto-kiro", "free")


def test_a_plan_that_is_gone_has_no_models():
    assert SIMULATED.offered("gone") == ()
    with pytest.raises(ModelNotOnPlan):
        SIMULATED.resolve("claude-sonnet-4.6", "gone")


# ---- properties

NAMES = st.sampled_from(
    [model.id for model in DEFAULT.models]
    + [alias.replace("*", "20260101") for model in DEFAULT.models for alias in model.aliases]
    + ["claude-opus-9", "claude-haiku-x", "claude-sonnet-5-5", "claude-fable-1"]
)
VARIABLES = sorted({row.secret.removeprefix("env:") for row in DEFAULT.providers})


@given(
    name=NAMES | st.text(max_size=20),
    plan=st.sampled_from(["free", "starter", "pro", "gone"]),
    allowed=st.none() | st.frozensets(st.sampled_from(sorted(PRO))),
    keys=st.frozensets(st.sampled_from(VARIABLES)),
)
def test_resolving_never_leaves_the_plan_the_key_or_what_is_served(
    name: str, plan: str, allowed: frozenset[str] | None, keys: frozenset[str]
):
    snapshot = catalog(keys=keys)
    members = set(snapshot.plans[plan].models) if plan in snapshot.plans else set[str]()
    try:
        found = snapshot.resolve(name, plan, allowed)
    except (ModelNotFound, ModelNotOnPlan, NoProvider):
        return
    assert found.model.id in members
    assert allowed is None or found.model.id in allowed
    assert found.candidates
    for candidate in found.candidates:
        assert candidate.id in members
        assert snapshot.served(candidate)


def test_what_is_remembered_is_bounded():
    snapshot = catalog()
    for number in range(5000):
        assert snapshot.resolve(f"claude-sonnet-4-6-{number}", "free").model.id == "claude-sonnet-4.6"
        assert snapshot.offered("free", frozenset({str(number)})) == ()
    assert len(snapshot._known) <= 4096
    assert len(snapshot._offered) <= 4096


def test_patterns_are_tried_in_the_catalogues_order():
    models = (
        Model(id="first", name="First", aliases=("m-*",), targets=(Target("p", "1"),)),
        Model(id="second", name="Second", aliases=("m-2-*", "m-exact"), targets=(Target("p", "2"),)),
    )
    provider = msgspec.structs.replace(KINDS["custom"], id="p", speaks=(("chat", "http://127.0.0.1:1/v1"),))
    plan = Plan("any", "Any", 1, 1, ("first", "second"))
    snapshot = catalog(CatalogDocument((provider,), models, (plan,)))
    assert snapshot.resolve("m-2-x", "any").model.id == "first"
    assert snapshot.resolve("m-exact", "any").model.id == "second"


# ---- kinds

EMBEDDING = parse(
    """
    [[provider]]
    id = "openai"

    [[model]]
    id = "e"
    kind = "embedding"
    aliases = ["claude-haiku-of-vectors"]
    targets = [{ provider = "openai", model = "text-embedding-3-small" }]

    [[model]]
    id = "c"
    targets = [{ provider = "openai", model = "gpt-5" }]

    [[plan]]
    id = "pro"
    daily_requests = 1
    concurrent_requests = 1
    models = ["e", "c"]
    """,
    KINDS,
)


def test_a_model_of_another_kind_is_refused_with_the_routes_that_call_it():
    found = catalog(EMBEDDING, ["OPENAI_API_KEY"])
    assert found.resolve("e", "pro", None, "embedding").model.id == "e"
    assert found.resolve("e", "pro").model.id == "e"
    assert found.resolve("c", "pro", None, "chat").model.id == "c"
    for name in ("e", "claude-haiku-of-vectors"):
        with pytest.raises(InvalidRequest, match=r"e is an embedding model.*use POST /embeddings") as caught:
            found.resolve(name, "pro", None, "chat")
        assert caught.value.param == "model"
    with pytest.raises(
        InvalidRequest, match=r"c is a chat model.*use POST /chat/completions or POST /messages"
    ):
        found.resolve("c", "pro", None, "embedding")
    with pytest.raises(ModelNotFound, match=r"plan \(pro\): c\."):
        found.resolve("x", "pro", None, "chat")
    with pytest.raises(ModelNotFound, match=r"plan \(pro\): e\."):
        found.resolve("x", "pro", None, "embedding")


def test_offered_by_kind():
    found = catalog(EMBEDDING, ["OPENAI_API_KEY"])
    assert [model.id for model in found.offered("pro")] == ["e", "c"]
    assert [model.id for model in found.offered("pro", kind="chat")] == ["c"]
    assert [model.id for model in found.offered("pro", kind="embedding")] == ["e"]


def test_without_a_provider_the_simulator_has_embeddings_too():
    found = catalog(EMBEDDING)
    assert found.simulated
    assert found.models["e"].targets == (Target("simulator", "e"),)
    assert found.upstreams["simulator"].url("embeddings") is not None
