"""Preferences: what a caller may ask only narrows, is read strictly, and makes an order of the same targets."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import Model, Price, Target, Upstream, causes_named
from penstock.core.routing.candidates import Candidate, Group, Upstreams
from penstock.core.routing.preferences import Preference, Speed, narrowed, read_preference, with_tags
from penstock.errors import InvalidRequest

TAGS = {"a": ("eu", "zdr"), "b": ("us",), "c": (), "d": ("zdr",)}
PRICES = {"a": Price(3, 15), "b": Price(1, 5), "c": None, "d": Price(2, 10)}


def group() -> Group:
    """a and b are equals, c is behind them, and d translates."""
    upstreams = Upstreams(
        Upstream(
            name, "custom", (("messages" if name == "d" else "chat", f"https://{name}"),), tags=TAGS[name]
        )
        for name in "abcd"
    )
    targets = tuple(
        Target(
            name, "up", priority=name in "cd", price=PRICES[name], tags=("no-train",) if name == "b" else ()
        )
        for name in "abcd"
    )
    return upstreams.group(Model("m", "M", targets=targets), "chat", ("chat", "messages"))


def order(
    preference: Preference, slow: dict[str, float] | None = None, rates: dict[str, float] | None = None
) -> str:
    """The tiers as words: letters of one tier together."""

    def measured(candidate: Candidate) -> Speed:
        name = candidate.attempt.provider
        return Speed((slow or {}).get(name, 1.0), (rates or {}).get(name, 0.0))

    found = narrowed(group(), preference, "chat", measured)
    return " ".join("".join(key[0] for key in tier.keys) for tier in found.tiers)


@pytest.mark.parametrize(
    ("preference", "expected"),
    [
        (Preference(), "ab c d"),
        (Preference(only=("a", "d")), "a d"),
        (Preference(ignore=("a",)), "b c d"),
        (Preference(order=("d", "b")), "d b a c"),
        (Preference(order=("d", "b"), allow_fallbacks=False), "d b"),
        (Preference(only=("a",), allow_fallbacks=False), "a"),
        (Preference(allow_fallbacks=False), "ab"),
        (Preference(sort="price"), "b d a c"),
        (Preference(order=("c",), sort="price"), "c b d a"),
        (Preference(sort="latency"), "abcd"),
        (Preference(max_price=Price(2, 10)), "b d"),
        (Preference(own=True), "ab c"),
        (Preference(requires=("zdr",)), "a d"),
        (Preference(requires=("zdr", "eu")), "a"),
        (Preference(requires=("no-train",)), "b"),
        (Preference(requires=("mars",)), ""),
        (Preference(only=("nobody",)), ""),
        (Preference(only=("a",), ignore=("a",)), ""),
    ],
)
def test_the_order_that_is_asked(preference: Preference, expected: str) -> None:
    assert order(preference) == expected


def test_by_latency_the_quicker_come_first() -> None:
    assert order(Preference(sort="latency"), {"a": 3.0, "d": 0.5}) == "d bc a"


def test_by_throughput_those_within_a_fifth_come_together_and_the_unknown_is_found_out() -> None:
    rates = {"a": 20.0, "b": 85.0, "c": 100.0}
    assert order(Preference(sort="throughput"), rates=rates) == "bcd a"


NAMES = st.lists(st.sampled_from("abcdx"), max_size=3, unique=True).map(tuple)
PREFERENCES = st.builds(
    Preference,
    only=NAMES,
    order=NAMES,
    ignore=NAMES,
    allow_fallbacks=st.booleans(),
    sort=st.sampled_from(["", "price", "latency", "throughput"]),
    max_price=st.none() | st.builds(Price, st.integers(0, 4), st.integers(0, 20)),
    own=st.booleans(),
    requires=st.lists(st.sampled_from(["eu", "zdr", "us"]), max_size=2).map(tuple),
)


@given(PREFERENCES, st.lists(st.sampled_from(["eu", "zdr"]), max_size=2).map(tuple))
def test_it_only_narrows_and_no_wish_widens_what_a_plan_demands(
    preference: Preference, demanded: tuple[str, ...]
) -> None:
    plain = {c.key: c for tier in group().tiers for c in tier.candidates}
    both = with_tags(preference, demanded)
    assert both is not None
    found = [c for tier in narrowed(group(), both, "chat", lambda _: Speed()).tiers for c in tier.candidates]
    assert len({c.key for c in found}) == len(found)
    for candidate in found:
        assert candidate.key in plain
        assert candidate.tags.issuperset(demanded)
        assert candidate.attempt.provider not in preference.ignore
        assert not preference.only or candidate.attempt.provider in preference.only


# ---- reading


def read(**members: object) -> Preference | None:
    return read_preference(msgspec.json.encode(members), "provider")


def test_what_is_written_is_read() -> None:
    assert read() is read(order=None, zdr=False) is read_preference(b"null", "provider") is None
    assert read(only=["a"], allow_fallbacks=False) == Preference(only=("a",), allow_fallbacks=False)
    assert read(order=["b", "a"], ignore=["c"], sort="price") == Preference(
        order=("b", "a"), ignore=("c",), sort="price"
    )
    assert read(max_price={"prompt": 2.5}) == Preference(max_price=Price(2.5, float("inf")))
    assert read(data_collection="deny", zdr=True) == Preference(requires=("no-train", "zdr"))
    assert read(data_collection="allow") is None
    assert read(require_parameters=True) == Preference(own=True)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"quantizations": ["int4"]}, "quantizations"),
        ({"preferred_min_throughput": 10}, "preferred_min_throughput"),
        ({"ordre": ["a"]}, "ordre"),
        ({"sort": "distance"}, "sort"),
        ({"only": "a"}, "only"),
        ({"zdr": "yes"}, "zdr"),
        ({"max_price": {"image": 1}}, "max_price"),
        ({"only": ["a"] * 33}, "33"),
    ],
)
def test_case_32_an_unknown_member_is_refused_by_its_name(members: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(**members)
    assert named in raised.value.message or named == "33"


@pytest.mark.parametrize("raw", [b'"a"', b"[1]", b"{", b"\xff", b"1", b""])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_preference(raw, "provider")


def test_the_words_for_whom_nobody_is_left() -> None:
    said = Preference(
        only=("a",), ignore=("b",), requires=("eu",), max_price=Price(1, 1), own=True, allow_fallbacks=False
    ).demands
    for word in ("only a", "not b", "tagged eu", "max_price", "translation", "others"):
        assert word in said
    assert Preference(only=("a", "b")).demands == "only a, b"


def test_tags_are_added_to_what_is_asked() -> None:
    asked = Preference(only=("a",), requires=("zdr",))
    assert with_tags(None, ()) is None
    assert with_tags(asked, ()) is asked
    assert with_tags(None, ("eu",)) == Preference(requires=("eu",))
    assert with_tags(asked, ("eu", "zdr")) == Preference(only=("a",), requires=("eu", "zdr"))


@pytest.mark.parametrize(
    ("said", "causes"),
    [
        ("", ("down",)),
        ("overflow", ("down", "overflow")),
        ("refusal,overflow", ("down", "overflow", "refusal")),
        ("anything", ("down",)),
    ],
)
def test_why_another_model_answers_is_as_the_caller_says(said: str, causes: tuple[str, ...]) -> None:
    assert causes_named(said) == causes
