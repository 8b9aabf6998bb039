"""Tool-call ids between dialects: legal outside, the same again inside."""

import re

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.chat.request_schema import CALL_ID_LIMIT as CHAT_LIMIT
from penstock.core.dialects.messages.request_schema import CALL_ID_LIMIT as MESSAGES_LIMIT
from penstock.core.tools.call_ids import (
    ReplyCalls,
    distinct,
    inward,
    outward,
    plain,
    shortened,
)

LEGAL = re.compile(r"[A-Za-z0-9_-]+\Z")


def test_legal_ids_pass() -> None:
    for id in ("toolu_01A09q90qw90lq917835lq9", "call_0", "a-b_c"):
        assert outward(id, CHAT_LIMIT) == id
        assert inward(id) == id


def test_an_illegal_id_is_coded() -> None:
    assert outward("functions.add:0", CHAT_LIMIT) == "gwi_ZnVuY3Rpb25zLmFkZDow"
    assert inward("gwi_ZnVuY3Rpb25zLmFkZDow") == "functions.add:0"


def test_an_id_that_looks_coded_is_coded_again() -> None:
    assert inward(outward("gwi_ZnVuY3Rpb25zLmFkZDow", MESSAGES_LIMIT)) == "gwi_ZnVuY3Rpb25zLmFkZDow"


def test_a_damaged_code_is_left_alone() -> None:
    for id in ("gwi_", "gwi_%%%", "gwi__w", "gwi_a", "gwi_é", "gwi_7aCA", "gwi_YWLtsIBj"):
        assert inward(id) == id


def test_repeats_are_told_apart_and_undone() -> None:
    assert distinct("call_0", 2) == "call_0-gwr2"
    assert plain("call_0-gwr2") == plain("call_0") == "call_0"


@given(st.text(max_size=120), st.sampled_from([CHAT_LIMIT, 64, MESSAGES_LIMIT]))
def test_any_id(id: str, limit: int) -> None:
    out = outward(id, limit)
    assert LEGAL.match(out)
    assert len(out) <= limit
    assert outward(id, limit) == out
    assert inward(out) == id or out.startswith("gwh_")
    short = shortened(id, limit)
    assert len(short) <= limit
    assert short == id or len(id) > limit


@given(st.lists(st.text(max_size=60), unique=True, max_size=8))
def test_different_ids_stay_different(ids: list[str]) -> None:
    assert len({outward(id, CHAT_LIMIT) for id in ids}) == len(ids)


def test_calls_of_a_reply_have_ids_of_their_own() -> None:
    calls = ReplyCalls()
    calls.begin("msg_01.a")
    assert [calls.name(id) for id in ("a", "a", "", "a-gwr2", "", "a")] == [
        "a",
        "a-gwr2",
        "call_msg01a_2",
        "a-gwr2-gwr2",
        "call_msg01a_4",
        "a-gwr3",
    ]
    taken = ReplyCalls()
    assert [taken.name(id) for id in ("a-gwr2", "a", "a")] == ["a-gwr2", "a", "a-gwr3"]


@given(st.lists(st.sampled_from(["", "a", "a-gwr2", "a-gwr2-gwr2", "call_r_0", "call_r_1"]), max_size=12))
def test_no_two_of_them_are_alike(given_ids: list[str]) -> None:
    calls = ReplyCalls()
    calls.begin("r")
    names = [calls.name(id) for id in given_ids]
    assert len(set(names)) == len(names)
    assert all(names)
