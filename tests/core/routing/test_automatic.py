"""The rule of an ``auto`` model."""

from penstock.core.catalog import Capabilities, Model, lacking
from penstock.core.routing.automatic import automatic

BLIND = Model(id="blind", name="Blind")
TOOLLESS = Model(id="toolless", name="T", capabilities=Capabilities(vision=True, documents=True, tools=False))
SEEING = Model(id="seeing", name="Seeing", capabilities=Capabilities(vision=True))
ORDER = (BLIND, TOOLLESS, SEEING)


def well(_model: Model) -> bool:
    return True


def test_auto_takes_the_first_that_can() -> None:
    assert automatic(ORDER, (), well=well) is BLIND
    assert automatic(ORDER, ("images",), well=well) is TOOLLESS
    assert automatic(ORDER, ("images", "tools"), well=well) is SEEING
    assert automatic(ORDER, ("documents", "tools"), well=well) is None
    assert automatic((), (), well=well) is None
    assert lacking(SEEING) == {"documents"}


def test_one_whose_upstreams_are_out_comes_after_those_that_are_well_and_one_that_is_too_small_never() -> (
    None
):
    state: dict[str, bool | None] = {"blind": None, "toolless": False, "seeing": True}
    assert automatic(ORDER, (), well=lambda model: state[model.id]) is SEEING
    state["seeing"] = False
    assert automatic(ORDER, (), well=lambda model: state[model.id]) is TOOLLESS
    assert automatic((BLIND,), (), well=lambda model: state[model.id]) is None
