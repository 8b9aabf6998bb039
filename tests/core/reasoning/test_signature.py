"""Gateway signatures: deterministic, recognisable, and read back without trust in what returns."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.reasoning.signature import (
    ReasoningOrigin,
    carried_entries,
    is_ours,
    read_signature,
    sign_reasoning,
)


@given(st.text(max_size=30), st.text(max_size=200))
def test_there_and_back(model: str, carrier: str) -> None:
    origin = ReasoningOrigin(model, carrier)
    signed = sign_reasoning(origin)
    assert signed == sign_reasoning(ReasoningOrigin(model, carrier))
    assert is_ours(signed)
    assert signed.isascii()
    assert read_signature(signed) == origin


def test_others_are_not_ours() -> None:
    assert not is_ours("EqQBCgIYAhIM1gbcDa9GJwZA2b3h")
    assert read_signature("EqQBCgIYAhIM1gbcDa9GJwZA2b3h") is None


@given(st.text(max_size=40))
def test_a_damaged_one_reads_as_nothing(noise: str) -> None:
    assert read_signature("gw1." + noise) is None or isinstance(
        read_signature("gw1." + noise), ReasoningOrigin
    )
    assert read_signature(noise) is None or noise.startswith("gw1.")


def test_a_cut_one_reads_as_nothing() -> None:
    signed = sign_reasoning(ReasoningOrigin("some-model", '[{"type":"reasoning.encrypted"}]'))
    assert read_signature(signed[:-4]) is None
    assert read_signature("gw1.") is None


def test_a_carrier_of_values_alone_carries_nothing() -> None:
    assert len(carried_entries('[{"type":"reasoning.encrypted","data":"x"},7]')) == 2
    for strange in ("", "7", "{}", "[" + "[]," * 5000 + "[]]", "[" * 9999):
        assert carried_entries(strange) == []
