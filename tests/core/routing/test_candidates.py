"""The candidates of a model: who can be asked at all, in which dialect, and in which tiers."""

import msgspec

from penstock.core.catalog import (
    DialectName,
    Model,
    ModelKind,
    Target,
    Upstream,
    with_profile_values,
)
from penstock.core.endpoints import FORMATS, formats_of
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.routing.candidates import Attempt, Group, Upstreams

BOTH = Upstream("both", "custom", (("messages", "https://b/m"), ("chat", "https://b/c")))
CHAT = Upstream("chat", "custom", (("chat", "https://c/v1"),))
MESSAGES = Upstream("messages", "anthropic", (("messages", "https://m/v1"),))
UPSTREAMS = Upstreams((BOTH, CHAT, MESSAGES))


def model(*targets: Target) -> Model:
    return Model(id="m", name="M", targets=targets)


def grouped(*targets: Target, dialect: DialectName = "chat") -> Group:
    return UPSTREAMS.group(model(*targets), dialect, FORMATS)


def tiers(*targets: Target, dialect: DialectName = "chat") -> list[list[tuple[str, str]]]:
    """By tier, providers and the dialects that they are asked in."""
    return [
        [(each.attempt.provider, each.attempt.dialect) for each in tier.candidates]
        for tier in grouped(*targets, dialect=dialect).tiers
    ]


def test_an_embedding_model_goes_where_embeddings_are_spoken_and_no_chat_model_does() -> None:
    urls = (("embeddings", "https://e/v1"), ("chat", "https://e/v1"))
    upstreams = Upstreams((Upstream("e", "custom", urls), Upstream("only", "custom", urls[:1]), CHAT))
    targets = model(*(Target(id, "up") for id in ("chat", "e", "only")))

    def tried(dialect: DialectName, kind: ModelKind) -> list[tuple[str, str]]:
        group = upstreams.group(targets, dialect, formats_of(kind))
        return [
            (each.attempt.provider, each.attempt.dialect) for tier in group.tiers for each in tier.candidates
        ]

    assert tried("embeddings", "embedding") == [("e", "embeddings"), ("only", "embeddings")]
    assert tried("messages", "chat") == [("chat", "chat"), ("e", "chat")]


def test_priority_makes_tiers_then_the_callers_dialect_then_weight() -> None:
    targets = (
        Target("messages", "a", priority=1),
        Target("chat", "a", priority=1),
        Target("messages", "b"),
        Target("both", "b", weight=0),
    )
    assert tiers(*targets) == [
        [("both", "chat")],
        [("messages", "messages")],
        [("chat", "chat")],
        [("messages", "messages")],
    ]
    assert tiers(*targets, dialect="messages") == [
        [("messages", "messages")], [("both", "messages")], [("messages", "messages")], [("chat", "chat")],
    ]  # fmt: skip
    group = grouped(Target("chat", "a", weight=3), Target("chat", "b"), Target("both", "c", priority=4))
    assert [(tier.priority, tier.cumulative) for tier in group.tiers] == [(0, [3.0, 4.0]), (4, [1.0])]
    assert group.size == 3


def test_a_provider_that_speaks_the_callers_dialect_is_asked_in_it_and_else_in_its_first() -> None:
    assert tiers(Target("both", "a"), dialect="chat") == [[("both", "chat")]]
    assert tiers(Target("both", "a"), dialect="messages") == [[("both", "messages")]]
    assert tiers(Target("both", "a"), dialect="responses") == [[("both", "messages")]]
    assert tiers(Target("both", "a", via=("messages",)), dialect="chat") == [[("both", "messages")]]


def test_an_attempt_says_where_and_how() -> None:
    special = Profile(top_k=True)
    upstream = msgspec.structs.replace(CHAT, model_profiles=(("special-*", special), ("*", DEFAULT_PROFILE)))
    group = Upstreams((upstream,)).group(model(Target("chat", "special-1")), "messages", FORMATS)
    attempt = group.tiers[0].candidates[0].attempt
    assert attempt == Attempt(upstream, "special-1", "chat", "https://c/v1", special)
    assert (attempt.key, attempt.origin) == (("chat", "special-1", ""), "https://c")
    assert not attempt.simulated
    assert not attempt.local
    assert upstream.profile_of("other") is DEFAULT_PROFILE
    assert (upstream.url("chat"), upstream.url("messages")) == ("https://c/v1", None)


def test_what_cannot_serve_is_left_out() -> None:
    assert tiers(Target("gone", "a"), Target("chat", "a")) == [[("chat", "chat")]]
    assert tiers(Target("chat", "a", via=("messages",))) == []
    assert tiers() == []


def test_what_a_target_has_room_for_is_its_own_else_its_models() -> None:
    targets = (Target("chat", "a"), Target("chat", "b", context_tokens=8_000, max_output_tokens=500))
    upstreams = Upstreams((CHAT,))
    wide = Model(id="w", name="W", targets=targets, context_tokens=200_000)
    group = upstreams.group(wide, "chat", FORMATS)
    assert [(each.room, each.longest) for each in group.tiers[0].candidates] == [
        (200_000, None),
        (8_000, 500),
    ]
    assert (group.room, group.longest) == (8_000, 500)
    assert grouped(Target("chat", "a")).room > 1e18


def test_a_group_is_worked_out_once_for_a_model_of_a_catalogue() -> None:
    upstreams = Upstreams((CHAT,))
    first = model(Target("chat", "a"))
    group = upstreams.group(first, "chat", FORMATS)
    assert upstreams.group(first, "chat", FORMATS) is group
    assert upstreams.group(model(Target("chat", "b")), "chat", FORMATS) is not group


def test_habits_that_are_given_change_and_the_others_stay() -> None:
    special = Upstream("s", "custom", (), model_profiles=(("r*", Profile(top_k=True, max_stop=2)),))
    changed = with_profile_values(special, {"max_stop": 1})
    assert changed.profile == Profile(max_stop=1)
    assert changed.profile_of("r1") == Profile(top_k=True, max_stop=1)
    assert with_profile_values(special, {}) is special
