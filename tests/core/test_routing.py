"""The plan of attempts: who is tried, in which order, and what health does to it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import (
    Capabilities,
    DialectName,
    Feature,
    Model,
    ModelKind,
    Target,
    Upstream,
    lacking,
    with_profile_values,
)
from penstock.core.circuit_breaker import (
    CLOSED,
    PROBE_AFTER,
    CircuitKey,
    CircuitState,
    after_failure,
    after_probe,
    after_success,
    state,
)
from penstock.core.endpoints import FORMATS, formats_of
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.routing import MOST_ATTEMPTS, Attempt, Upstreams, automatic, plan

BOTH = Upstream("both", "custom", (("messages", "https://b/m"), ("chat", "https://b/c")))
CHAT = Upstream("chat", "custom", (("chat", "https://c/v1"),))
MESSAGES = Upstream("messages", "anthropic", (("messages", "https://m/v1"),))
UPSTREAMS = Upstreams((BOTH, CHAT, MESSAGES))


def model(*targets: Target) -> Model:
    return Model(id="m", name="M", targets=targets)


def planned(
    *targets: Target,
    dialect: DialectName = "chat",
    features: tuple[Feature, ...] = (),
    health: dict[CircuitKey, CircuitState] | None = None,
    spread: float = 0.0,
    now: float = 0.0,
) -> list[tuple[str, str]]:
    attempts = plan(
        model(*targets),
        UPSTREAMS,
        health or {},
        features=features,
        dialect=dialect,
        formats=FORMATS,
        now=now,
        spread=spread,
    )
    return [(attempt.provider, attempt.dialect) for attempt in attempts]


def test_an_embedding_model_goes_where_embeddings_are_spoken_and_no_chat_model_does() -> None:
    urls = (("embeddings", "https://e/v1"), ("chat", "https://e/v1"))
    upstreams = Upstreams((Upstream("e", "custom", urls), Upstream("only", "custom", urls[:1]), CHAT))
    targets = model(*(Target(id, "up") for id in ("chat", "e", "only")))

    def tried(dialect: DialectName, kind: ModelKind) -> list[tuple[str, str]]:
        attempts = plan(
            targets,
            upstreams,
            {},
            features=(),
            dialect=dialect,
            formats=formats_of(kind),
            now=0.0,
            spread=0.0,
        )
        return [(attempt.provider, attempt.dialect) for attempt in attempts]

    assert tried("embeddings", "embedding") == [("e", "embeddings"), ("only", "embeddings")]
    assert tried("messages", "chat") == [("chat", "chat"), ("e", "chat")]


def broken(now: float) -> CircuitState:
    health = CLOSED
    for _ in range(5):
        health = after_failure(health, now)
    return health


# ---- order


def test_priority_comes_first_and_the_callers_dialect_within_it():
    targets = (
        Target("messages", "a", priority=1),
        Target("chat", "a", priority=1),
        Target("messages", "b"),
    )
    assert planned(*targets) == [("messages", "messages"), ("chat", "chat"), ("messages", "messages")]
    assert planned(*targets, dialect="messages")[1] == ("messages", "messages")


def test_a_provider_that_speaks_the_callers_dialect_is_asked_in_it_and_else_in_its_first():
    assert planned(Target("both", "a"), dialect="chat") == [("both", "chat")]
    assert planned(Target("both", "a"), dialect="messages") == [("both", "messages")]
    assert planned(Target("both", "a"), dialect="responses") == [("both", "messages")]
    assert planned(Target("both", "a", via=("messages",)), dialect="chat") == [("both", "messages")]


def test_an_attempt_says_where_and_how():
    special = Profile(top_k=True)
    upstream = msgspec.structs.replace(CHAT, model_profiles=(("special-*", special), ("*", DEFAULT_PROFILE)))
    attempts = plan(
        model(Target("chat", "special-1")),
        Upstreams((upstream,)),
        {},
        features=(),
        dialect="messages",
        formats=FORMATS,
        now=0.0,
        spread=0.0,
    )
    assert attempts == (Attempt(upstream, "special-1", "chat", "https://c/v1", special),)
    assert attempts[0].key == ("chat", "special-1")
    assert not attempts[0].simulated
    assert upstream.profile_of("other") is DEFAULT_PROFILE
    assert (upstream.url("chat"), upstream.url("messages")) == ("https://c/v1", None)


def test_what_cannot_serve_is_left_out():
    assert planned(Target("gone", "a"), Target("chat", "a")) == [("chat", "chat")]
    assert planned(Target("chat", "a", lacks=("images",)), features=("images",)) == []
    assert planned(Target("chat", "a", lacks=("images",)), features=("tools",)) == [("chat", "chat")]
    assert planned(Target("chat", "a", via=("messages",))) == []
    assert planned() == []


def test_no_more_than_three_attempts():
    targets = [Target("chat", str(number)) for number in range(9)]
    assert len(planned(*targets)) == MOST_ATTEMPTS == 3


# ---- weights


@pytest.mark.parametrize(("spread", "expected"), [(0.0, "abc"), (0.24, "abc"), (0.25, "bac"), (0.99, "bac")])
def test_the_spread_draws_by_weight_and_weight_nothing_comes_last(spread: float, expected: str):
    targets = model(
        Target("chat", "a", weight=1), Target("chat", "c", weight=0), Target("chat", "b", weight=3)
    )
    attempts = plan(
        targets, UPSTREAMS, {}, features=(), dialect="chat", formats=FORMATS, now=0.0, spread=spread
    )
    assert [attempt.model for attempt in attempts] == list(expected)


def test_the_shares_are_the_weights():
    targets = model(
        Target("chat", "a", weight=2), Target("chat", "b", weight=1), Target("chat", "c", weight=1)
    )
    orders: dict[tuple[str, ...], int] = {}
    for step in range(1000):
        order = tuple(
            attempt.model
            for attempt in plan(
                targets,
                UPSTREAMS,
                {},
                features=(),
                dialect="chat",
                formats=FORMATS,
                now=0.0,
                spread=step / 1000,
            )
        )
        orders[order] = orders.get(order, 0) + 1
    first = {name: sum(count for order, count in orders.items() if order[0] == name) for name in "abc"}
    assert first == {"a": 500, "b": 250, "c": 250}
    # What is left of the number draws the second: after "a", "b" and "c" come equally often.
    assert abs(orders["a", "b", "c"] - orders["a", "c", "b"]) <= 2


# ---- health


def test_a_circuit_opens_after_five_failures_of_the_last_ten():
    health = CLOSED
    for _ in range(4):
        health = after_failure(health, 1.0)
    for _ in range(6):
        health = after_success(health)
    assert state(health, 1.0) == "closed"
    # The four old failures are falling out of the window one by one.
    for _ in range(4):
        health = after_failure(health, 2.0)
        assert state(health, 2.0) == "closed"
    health = after_failure(health, 2.0)
    assert state(health, 2.0) == "open"


def test_success_costs_nothing_while_all_is_well():
    assert after_success(CLOSED) is CLOSED


def test_after_fifteen_seconds_one_probe_is_let_through():
    health = broken(100.0)
    assert state(health, 100.0 + PROBE_AFTER - 0.1) == "open"
    later = 100.0 + PROBE_AFTER
    assert state(health, later) == "probe"
    sent = after_probe(health, later)
    assert state(sent, later + 1) == "open"
    assert state(sent, later + PROBE_AFTER) == "probe"  # one that never reported does not block for ever
    assert after_success(sent) == CLOSED
    again = after_failure(sent, later + 2)
    assert state(again, later + PROBE_AFTER + 1) == "open"
    assert state(again, later + 2 + PROBE_AFTER) == "probe"


def test_an_open_circuit_is_last_but_not_never():
    targets = (Target("both", "a"), Target("chat", "a", priority=5))
    health = {("both", "a"): broken(0.0)}
    assert planned(*targets, health=health) == [("chat", "chat"), ("both", "chat")]
    assert planned(Target("both", "a"), health=health) == [("both", "chat")]
    # A probe has its usual place, and says what it is.
    attempts = plan(
        model(*targets),
        UPSTREAMS,
        health,
        features=(),
        dialect="chat",
        formats=FORMATS,
        now=PROBE_AFTER,
        spread=0.0,
    )
    assert [(attempt.provider, attempt.probe) for attempt in attempts] == [("both", True), ("chat", False)]


# ---- the auto rule


def test_auto_takes_the_first_that_can():
    blind = Model(id="blind", name="Blind")
    toolless = Model(
        id="toolless", name="T", capabilities=Capabilities(vision=True, documents=True, tools=False)
    )
    seeing = Model(id="seeing", name="Seeing", capabilities=Capabilities(vision=True))
    order = (blind, toolless, seeing)
    assert automatic(order, ()) is blind
    assert automatic(order, ("images",)) is toolless
    assert automatic(order, ("images", "tools")) is seeing
    assert automatic(order, ("documents", "tools")) is None
    assert automatic((), ()) is None
    assert lacking(seeing) == {"documents"}


# ---- properties

TARGETS = st.lists(
    st.builds(
        Target,
        provider=st.sampled_from(["both", "chat", "messages", "gone"]),
        model=st.sampled_from(["a", "b"]),
        priority=st.integers(0, 2),
        weight=st.integers(0, 3),
        via=st.sampled_from([(), ("chat",), ("messages",)]),
        lacks=st.sampled_from([(), ("images",)]),
    ),
    max_size=6,
)
HEALTH = st.dictionaries(
    st.tuples(st.sampled_from(["both", "chat", "messages"]), st.sampled_from(["a", "b"])),
    st.sampled_from([CLOSED, broken(0.0), broken(90.0)]),
)


@given(
    targets=TARGETS,
    health=HEALTH,
    features=st.sampled_from([(), ("images",)]),
    dialect=st.sampled_from(["chat", "messages", "responses"]),
    spread=st.floats(0, 1, exclude_max=True),
)
def test_every_plan_keeps_the_rules(
    targets: list[Target],
    health: dict[CircuitKey, CircuitState],
    features: tuple[Feature, ...],
    dialect: DialectName,
    spread: float,
):
    attempts = plan(
        model(*targets),
        UPSTREAMS,
        health,
        features=features,
        dialect=dialect,
        formats=FORMATS,
        now=100.0,
        spread=spread,
    )
    able = [
        target
        for target in targets
        if (row := UPSTREAMS.get(target.provider)) is not None
        and not set(features) & set(target.lacks)
        and (not target.via or any(name in target.via for name, _ in row.speaks))
    ]
    assert len(attempts) == min(len(able), MOST_ATTEMPTS)
    for attempt in attempts:
        assert attempt.upstream.url(attempt.dialect) == attempt.url
        assert any(target.model == attempt.model and target.provider == attempt.provider for target in able)
    opened = [state(health.get(attempt.key, CLOSED), 100.0) == "open" for attempt in attempts]
    assert opened == sorted(opened)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
def test_health_never_forgets_more_than_ten_and_always_lets_a_probe_through_in_the_end(
    outcomes: list[tuple[bool, int]],
):
    health, now = CLOSED, 0.0
    for good, pause in outcomes:
        now += pause
        health = after_success(health) if good else after_failure(health, now)
        assert health.outcomes < 1 << 10
        assert (health.opened_at is None) == (health.outcomes.bit_count() < 5)
        assert state(health, now + PROBE_AFTER) != "open"


def test_habits_that_are_given_change_and_the_others_stay() -> None:
    special = Upstream("s", "custom", (), model_profiles=(("r*", Profile(top_k=True, max_stop=2)),))
    changed = with_profile_values(special, {"max_stop": 1})
    assert changed.profile == Profile(max_stop=1)
    assert changed.profile_of("r1") == Profile(top_k=True, max_stop=1)
    assert with_profile_values(special, {}) is special
