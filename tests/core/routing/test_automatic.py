"""The rule of an ``auto`` model."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.core.catalog import AutoRule, Capabilities, Model, Price, Target, When, lacking
from penstock.core.routing.automatic import Asking, Chosen, KeptModels, automatic, fits

BLIND = Model(id="blind", name="Blind")
TOOLLESS = Model(id="toolless", name="T", capabilities=Capabilities(vision=True, documents=True, tools=False))
SEEING = Model(id="seeing", name="Seeing", capabilities=Capabilities(vision=True))
ORDER = (BLIND, TOOLLESS, SEEING)
AUTO = Model(id="auto", name="Auto", auto=("blind", "toolless", "seeing"))


def well(_model: Model) -> bool:
    return True


def chosen(*features: str, model: Model = AUTO, candidates: tuple[Model, ...] = ORDER) -> Model | None:
    found = automatic(model, candidates, msgspec.convert({"features": features}, Asking), well=well)
    return None if found is None else found.model


def test_auto_takes_the_first_that_can() -> None:
    assert chosen() is BLIND
    assert chosen("images") is TOOLLESS
    assert chosen("images", "tools") is SEEING
    assert chosen("documents", "tools") is None
    assert chosen(candidates=()) is None
    assert chosen(candidates=(SEEING, BLIND)) is BLIND, "in the order of the list"
    assert lacking(SEEING) == {"documents"}


def test_one_whose_upstreams_are_out_comes_after_those_that_are_well_and_one_that_is_too_small_never() -> (
    None
):
    state: dict[str, bool | None] = {"blind": None, "toolless": False, "seeing": True}

    def found(candidates: tuple[Model, ...] = ORDER) -> Model | None:
        made = automatic(AUTO, candidates, Asking(), well=lambda model: state[model.id])
        return None if made is None else made.model

    assert found() is SEEING
    state["seeing"] = False
    assert found() is TOOLLESS
    assert found((BLIND,)) is None


# ---- rules


@pytest.mark.parametrize(
    ("when", "good", "bad"),
    [
        (When(tools=True), Asking(("tools",)), Asking()),
        (When(tools=False), Asking(("images",)), Asking(("tools",))),
        (When(images=True), Asking(("images", "tools")), Asking(("tools",))),
        (When(documents=False), Asking(), Asking(("documents",))),
        (When(stream=True), Asking(stream=True), Asking()),
        (When(stream=False), Asking(), Asking(stream=True)),
        (When(input_tokens_over=100), Asking(prompt=101), Asking(prompt=100)),
        (When(input_tokens_under=100), Asking(prompt=99), Asking(prompt=100)),
        (When(max_tokens_under=100), Asking(longest=99), Asking(longest=100)),
        (When(max_tokens_under=100), Asking(longest=1), Asking(longest=None)),
        (When(dialect="chat"), Asking(dialect="chat"), Asking(dialect="messages")),
        (When(plan="pro"), Asking(plan="pro"), Asking(plan="free")),
        (When(client="codex"), Asking(client="codex"), Asking()),
    ],
)
def test_a_rule_fits_by_each_of_its_words(when: When, good: Asking, bad: Asking) -> None:
    assert fits(when, good)
    assert not fits(when, bad)
    assert fits(When(), good)
    assert fits(When(), bad)
    assert not fits(replace(when, plan="no such plan"), good), "all of them together"


RULED = replace(
    AUTO,
    rules=(
        AutoRule(When(input_tokens_over=1000), ("seeing", "blind")),
        AutoRule(When(tools=False, input_tokens_under=10), ("toolless",)),
    ),
)


def test_the_first_rule_that_fits_says_the_models_and_the_list_is_behind_it() -> None:
    def found(asked: Asking, state: dict[str, bool | None] | None = None) -> Chosen | None:
        return automatic(RULED, ORDER, asked, well=lambda model: (state or {}).get(model.id, True))

    assert found(Asking(prompt=2000)) == Chosen(SEEING, 0)
    assert found(Asking(prompt=5)) == Chosen(TOOLLESS, 1)
    assert found(Asking(prompt=500)) == Chosen(BLIND, None)
    assert found(Asking(("documents",), prompt=2000)) == Chosen(TOOLLESS, None), "none of the rule's can"
    assert found(Asking(prompt=2000), {"seeing": False}) == Chosen(BLIND, 0)
    assert found(Asking(prompt=5), {"toolless": False}) == Chosen(BLIND, None)
    out: dict[str, bool | None] = {"blind": False, "toolless": False, "seeing": False}
    assert found(Asking(prompt=2000), out) == Chosen(SEEING, 0)


def test_a_conversation_stays_with_its_model_as_long_as_that_can_take_it() -> None:
    def found(asked: Asking, state: dict[str, bool | None]) -> str:
        made = automatic(RULED, ORDER, asked, well=lambda model: state.get(model.id, True), kept="seeing")
        return "" if made is None else made.model.id

    assert found(Asking(prompt=5), {}) == "seeing"
    assert found(Asking(("documents",)), {}) == "toolless"
    assert found(Asking(prompt=5), {"seeing": False}) == "toolless"
    assert found(Asking(prompt=5), {"seeing": None}) == "toolless"


def test_what_costs_more_or_says_no_price_is_not_chosen() -> None:
    cheap, dear = Price(1, 5), Price(5, 5.5)
    candidates = (
        BLIND,
        replace(TOOLLESS, targets=(Target("p", "up", price=dear),)),
        replace(SEEING, targets=(Target("p", "up", price=dear), Target("q", "up", price=cheap))),
    )
    limited = replace(AUTO, most_usd_per_million=Price(2, 5))
    assert chosen(model=limited, candidates=candidates) == candidates[2]
    assert (
        chosen(model=replace(AUTO, most_usd_per_million=Price(5, 5.5)), candidates=candidates)
        == candidates[1]
    )
    assert chosen(model=replace(AUTO, most_usd_per_million=Price(0, 0)), candidates=candidates) is None


# ---- what is kept


@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from(["a", "b"]), st.floats(0, 50)), max_size=60))
def test_what_is_kept_is_the_last_and_bounded(turns: list[tuple[int, str, float]]) -> None:
    kept, last, now = KeptModels(most=5, seconds=100.0), dict[int, tuple[str, float]](), 0.0
    for key, model, later in turns:
        now += later
        kept.keep(key, model, now)
        last.pop(key, None)
        last[key] = (model, now)
    for key, (model, at) in list(last.items())[-5:]:
        assert kept.get(key, now) == (model if now - at < 100.0 else "")
    assert len(kept._kept) <= 5
    assert kept.get(99, now) == ""


def test_what_is_kept_is_forgotten_after_a_while_and_the_oldest_first() -> None:
    kept = KeptModels(most=2, seconds=100.0)
    kept.keep(1, "a", 0.0)
    kept.keep(2, "b", 1.0)
    kept.keep(1, "c", 2.0)
    kept.keep(3, "d", 3.0)
    assert [kept.get(key, 4.0) for key in (1, 2, 3)] == ["c", "", "d"]
    assert kept.get(1, 102.0) == ""
