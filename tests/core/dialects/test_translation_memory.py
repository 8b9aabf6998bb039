"""What is remembered of a conversation changes nothing but the work: bytes, losses and refusals are those of the long way."""

import gc
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.bodies import Dialect
from bench.bodies import body as bench_body
from penstock.core.dialects import translation_memory
from penstock.core.dialects.chat import decode_request as chat_decoding
from penstock.core.dialects.chat import encode_request as chat_encoding
from penstock.core.dialects.interface import Prepared
from penstock.core.dialects.messages import decode_request as messages_decoding
from penstock.core.dialects.messages import encode_request as messages_encoding
from penstock.core.dialects.registry import caller_side
from penstock.core.dialects.responses import conversation_reader as responses_reading
from penstock.core.dialects.responses import encode_request as responses_encoding
from penstock.core.dialects.responses.tools import Toolbox
from penstock.core.dialects.translation_memory import (
    LEAST_BODY,
    MOST_CONVERSATIONS,
    MOST_KEPT,
    Conversations,
    TranslationMemory,
    TranslationScope,
)
from penstock.core.neutral.events import CallOpened
from penstock.core.neutral.request import MOST_LOSSES, Thought
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.reasoning.cache import PlacedReasoning, ReasoningCache, ReasoningScope
from penstock.errors import InvalidRequest
from tests.core.dialects.conversations import histories
from tests.core.dialects.remembering import MOST, outcome, same, scanned, scope

LANES: list[tuple[Dialect, str]] = [
    ("chat", "messages"),
    ("messages", "chat"),
    ("chat", "responses"),
    ("responses", "chat"),
    ("responses", "messages"),
    ("messages", "responses"),
]
lanes = pytest.mark.parametrize(("caller", "upstream"), LANES)
one_of_each = pytest.mark.parametrize(
    ("caller", "upstream"), [("chat", "messages"), ("messages", "responses"), ("responses", "chat")]
)
"""Each caller's side and each upstream's."""
PROFILES = [
    Profile(),
    Profile(native_anthropic=True, system_turns=True, thinking="adaptive", sampling=False),
    Profile(system_turns=True, structured_output=False, thinking="none"),
    Profile(roles_alternate=True, user_after_tool=False, system_anywhere=False, prefill="continue"),
    Profile(user_after_tool=False, json_schema=False, cache_control=True, prefill="prefix"),
    Profile(
        reasoning_field="reasoning_content", reasoning_required=True, tool_id_length=9, null_content=False
    ),
    Profile(reasoning_field="think_tags", system_as_string=True, strict_tools=False, forced_tools=False),
    Profile(call_signatures=True, tool_images=True, cache_breakpoints=True, thinks_by_default=True),
]

WARM = TranslationMemory(MOST)
"""Of all examples: each finds what the others have left."""


@lanes
@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_with_memory_all_is_the_same(caller: str, upstream: str, data: st.DataObject) -> None:
    """Bytes, losses and refusals, request by request of two conversations that take turns."""
    one, other = data.draw(histories(caller)), data.draw(histories(caller))
    profiles = data.draw(st.lists(st.sampled_from(PROFILES), min_size=1, max_size=2))
    reasoning = ReasoningScope(ReasoningCache(1 << 20), "usr_1", "p", 40)
    for at in range(max(len(one), len(other))):
        for sent in (one[at : at + 1], other[at : at + 1]):
            for body in sent:
                try:
                    envelope = scanned(caller, body)
                except InvalidRequest:  # before it is translated
                    continue
                for profile in profiles:
                    same(envelope, caller, upstream, profile, scope(WARM), reasoning)
        if (
            at == 1
        ):  # what a model thought is learnt between two requests, and goes into turns that were there before
            for id in ("call_0", "call_1"):
                for arguments in ("{}", '{"x": 1.0}', '{"x": [1.0]}'):
                    reasoning.keep(CallOpened(id, "f"), arguments, (PlacedReasoning(Thought("why"), 0),))


@pytest.fixture(autouse=True)
def with_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the folder's own: here each test says with what. Short conversations are gone on from, too."""
    monkeypatch.setattr(translation_memory, "_BETWEEN_MARKS", 1)


# ---- written examples


@cache
def long_request(caller: Dialect) -> bytes:
    """A long agent's request, which is the same each time."""
    return bench_body(caller, "large", "m", stream=True)


def grown(caller: Dialect, count: int | None = None, **fields: Any) -> bytes:
    """The long request with its first ``count`` turns."""
    request = json.loads(long_request(caller))
    field = caller_side(caller).body.turns
    return json.dumps({**request, field: request[field][:count], **fields}).encode()


@lanes
def test_a_long_conversation_grows(caller: Dialect, upstream: str) -> None:
    mine = scope()
    for count in range(1, 30):
        same(scanned(caller, grown(caller, count)), caller, upstream, DEFAULT_PROFILE, mine)


REQUESTS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[3] / "bench" / "fuzz_requests.json").read_text()
)


@lanes
def test_requests_that_say_everything(caller: Dialect, upstream: str) -> None:
    mine = scope()
    field = caller_side(caller).body.turns
    for profile in PROFILES:
        for request in REQUESTS[caller]:
            rows = request[field]
            for count in (*range(1, len(rows) + 1), len(rows) - 1, len(rows)):
                body = json.dumps({**request, field: rows[:count]}, indent=count % 2 or None).encode()
                same(scanned(caller, body), caller, upstream, profile, mine)


class Counted:
    """Counts the calls of what does the work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *places: tuple[type, str]) -> None:
        self.calls = 0
        for owner, name in places:
            work = getattr(owner, name)

            def counting(*args: Any, work: Any = work, **kwargs: Any) -> Any:
                self.calls += 1
                return work(*args, **kwargs)

            monkeypatch.setattr(owner, name, counting)


DECODING = (
    (chat_decoding.ConversationReader, "add"),
    (messages_decoding.RequestReader, "turn"),
    (responses_reading.ConversationReader, "take_item"),
)


@one_of_each
def test_only_what_is_new_is_decoded_and_encoded(
    caller: Dialect, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = Counted(
        monkeypatch,
        *DECODING,
        (chat_decoding.RequestReader, "offered"),
        (messages_decoding.RequestReader, "tool"),
        (Toolbox, "add"),
    )
    encoded = Counted(
        monkeypatch,
        (chat_encoding.RequestWriter, "assistant"),
        (chat_encoding.RequestWriter, "user_turn"),
        (messages_encoding.RequestWriter, "arranged"),
        (messages_encoding.RequestWriter, "tool"),
        (chat_encoding.RequestWriter, "tool"),
        (responses_encoding.RequestWriter, "assistant"),
        (responses_encoding.RequestWriter, "user_turn"),
        (responses_encoding.RequestWriter, "tool"),
    )
    mine = scope()
    outcome(scanned(caller, grown(caller, 61)), caller, upstream, memory=mine)
    before = decoded.calls, encoded.calls
    assert min(before) > 30
    outcome(scanned(caller, grown(caller, 63)), caller, upstream, memory=mine)
    assert decoded.calls - before[0] <= 4
    assert encoded.calls - before[1] <= 5


@one_of_each
def test_a_change_in_the_middle_is_seen(caller: Dialect, upstream: str) -> None:
    """The family: a turn edited, gone, or another one at its place, far from the end."""
    mine = scope()
    request = json.loads(grown(caller, 41))
    field = caller_side(caller).body.turns
    rows = request[field]
    edited = [{**rows[20], "content": "something else"} if at == 20 else row for at, row in enumerate(rows)]
    for turns in (rows, edited, rows[:11] + rows[13:], rows[4:], rows, rows[::-1]):
        body = json.dumps({**request, field: turns}).encode()
        same(scanned(caller, body), caller, upstream, DEFAULT_PROFILE, mine)


@one_of_each
@pytest.mark.parametrize("text", ["", ",", "]", " , ]"])
def test_bytes_that_begin_alike_but_say_something_else(caller: Dialect, upstream: str, text: str) -> None:
    mine = scope()
    for tail in ("one", "one" + text, text + "one", text):
        turns = [{"role": "user", "content": "long " * 20}, {"role": "user", "content": tail}]
        forms: list[dict[str, Any]] = [{}, {"indent": 2}, {"separators": (",", ":")}]
        for form in forms:
            field = caller_side(caller).body.turns
            body = json.dumps({"model": "m", "max_tokens": 9, field: turns, "tools": []}, **form).encode()
            same(scanned(caller, body), caller, upstream, DEFAULT_PROFILE, mine)


@one_of_each
def test_other_tools_with_the_same_turns(caller: Dialect, upstream: str) -> None:
    mine = scope()
    tools = json.loads(grown(caller))["tools"]
    for some in (tools, tools[:3], tools[1:4], [], tools):
        out = same(scanned(caller, grown(caller, 31, tools=some)), caller, upstream, DEFAULT_PROFILE, mine)
        assert isinstance(out, Prepared)
        assert len(json.loads(out.body).get("tools", [])) == len(some)


@one_of_each
def test_each_model_and_profile_has_its_own(caller: Dialect, upstream: str) -> None:
    mine, body = scope(), scanned(caller, grown(caller, 31))
    for model in ("a", "b"):
        for profile in PROFILES:
            for _ in range(2):
                told = outcome(body, caller, upstream, profile, mine, model=model)
                assert told == outcome(body, caller, upstream, profile, model=model)


def test_what_answers_must_look_like_may_change_between_two_requests() -> None:
    """An instruction in the system prompt, which the turns before have in them."""
    mine = scope()
    plain = {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}
    for fields in ({}, plain, {}, plain):
        body = scanned("messages", grown("messages", 31, **fields))
        same(body, "messages", "chat", Profile(json_schema=False), mine)


@one_of_each
@pytest.mark.parametrize("other", [("usr_2", "key_1"), ("usr_1", "key_2")])
def test_what_came_with_one_key_is_found_with_no_other(
    caller: Dialect, upstream: str, other: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = TranslationMemory(MOST)
    body = scanned(caller, grown(caller, 31))
    outcome(body, caller, upstream, memory=scope(memory))
    counters = [
        Counted(monkeypatch, *DECODING),
        Counted(
            monkeypatch,
            (chat_encoding.RequestWriter, "user_turn"),
            (messages_encoding.RequestWriter, "block"),
            (responses_encoding.RequestWriter, "user_turn"),
        ),
    ]
    outcome(body, caller, upstream, memory=scope(memory))
    again = [counter.calls for counter in counters]
    outcome(body, caller, upstream, memory=scope(memory, *other))
    for counter, calls in zip(counters, again, strict=True):
        assert counter.calls - calls > 5 * max(calls, 1)


def told(
    caller: str, upstream: str, rows: list[dict[str, Any]], profile: Profile = DEFAULT_PROFILE
) -> Prepared:
    """What comes of a conversation that grew turn by turn."""
    mine, out = scope(), None
    for count in range(1, len(rows) + 1):
        body = json.dumps({"model": "m", "max_tokens": 9, "messages": rows[:count]}).encode()
        out = same(scanned(caller, body), caller, upstream, profile, mine)
    assert isinstance(out, Prepared)
    return out


def called(id: str, **more: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": id, "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls, **more}


GO_ON = {"role": "user", "content": "go on"}


def test_ids_are_unique_across_what_is_remembered() -> None:
    """Some clients count their calls anew in every turn."""
    rows = [GO_ON]
    for _ in range(4):
        rows += [called("call_0"), {"role": "tool", "tool_call_id": "call_0", "content": "r"}, GO_ON]
    out = told("chat", "messages", rows)
    blocks = [block for row in json.loads(out.body)["messages"] for block in row["content"]]
    used = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert len({*used}) == 4
    assert used == [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]


def test_losses_of_remembered_turns_are_told_again() -> None:
    said = {"role": "assistant", "content": "no", "refusal": "no", "novel": 1}
    out = told("chat", "messages", [GO_ON, said, GO_ON, {"role": "assistant", "content": "a"}, GO_ON])
    assert [loss.field for loss in out.losses] == ["messages.refusal", "messages.novel"]


def test_a_legacy_call_is_answered_after_a_mark() -> None:
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    answer = {"role": "function", "name": "f", "content": "r"}
    out = told("chat", "messages", [GO_ON, legacy, answer, {"role": "assistant", "content": "a"}, GO_ON])
    rows = json.loads(out.body)["messages"]
    assert rows[1]["content"][0]["id"] == rows[2]["content"][0]["tool_use_id"] == "call_function_1"


def test_results_that_wait_are_no_place_to_go_on_from() -> None:
    """A tool's result is of the user's turn after it, which has not begun."""
    result = {"role": "tool", "tool_call_id": "call_0", "content": "r"}
    out = told(
        "chat",
        "messages",
        [GO_ON, called("call_0"), result, GO_ON, {"role": "assistant", "content": "a"}, GO_ON],
    )
    kinds = [[block["type"] for block in row["content"]] for row in json.loads(out.body)["messages"]]
    assert kinds == [["text"], ["tool_use"], ["tool_result", "text"], ["text"], ["text"]]


def items(*rows: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": [{"role": "user", "content": "x"}, *rows], **fields}).encode()


def test_losses_of_items_are_bounded() -> None:
    half = MOST_LOSSES // 2 + 1
    rows = [
        {
            "type": "message",
            "role": "user",
            "content": "y",
            **{f"novel{turn}_{at:03}": 1 for at in range(half)},
        }
        for turn in range(2)
    ]
    out = same(scanned("responses", items(*rows)), "responses", "chat", DEFAULT_PROFILE, scope())
    assert isinstance(out, Prepared)
    assert len(out.losses) <= MOST_LOSSES


def test_a_later_item_may_bring_the_tools_that_name_earlier_calls() -> None:
    """Two tools of one name, of which one is known only later: what was decoded by then is decoded anew."""
    mine, call = scope(), {"type": "function_call", "call_id": "c", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "r"}
    spaced = [{**call, "name": "b", "namespace": "a"}, result]
    found = {"type": "tool_search_output", "call_id": "s", "tools": [{"type": "function", "name": "a__b"}]}
    flat = [{**call, "name": "a__b"}, result]
    names: list[set[str]] = []
    for rows in (
        spaced,
        [*spaced, *flat],
        [*spaced, *flat, found],
        [*spaced, *flat, found, *flat],
        [found, *spaced, *flat],
    ):
        out = same(scanned("responses", items(*rows)), "responses", "chat", DEFAULT_PROFILE, mine)
        assert isinstance(out, Prepared)
        names.append(
            {
                each["function"]["name"]
                for row in json.loads(out.body)["messages"]
                for each in row.get("tool_calls", ())
            }
        )
    assert [len(each) for each in names] == [1, 2, 2, 2, 2]
    # whichever is known first keeps its name
    assert names[0] < names[1] != names[2] == names[3] == names[4]


def test_other_tools_may_name_earlier_calls_anew() -> None:
    """The same two tools, where the list has the flat one from some request on, and no more from another."""
    mine, call = scope(), {"type": "function_call", "call_id": "c", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "r"}
    rows = [{**call, "name": "b", "namespace": "a"}, result, {**call, "name": "a__b"}, result]
    listed = [{"type": "function", "name": "a__b", "parameters": {"type": "object"}}]
    for tools in ([], listed, listed, []):
        rows += [{**call, "name": "b", "namespace": "a"}, result]
        body = scanned("responses", items(*rows, tools=tools))
        assert isinstance(same(body, "responses", "chat", DEFAULT_PROFILE, mine), Prepared)


def test_what_one_turn_says_in_several_items_is_gone_on_from_within_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = scope()
    rows: list[dict[str, Any]] = []
    for at in range(40):
        rows.append(
            {"type": "function_call", "call_id": f"c{at}", "name": "f", "arguments": '{"x": "yyyyyyyy"}'}
        )
        same(scanned("responses", items(*rows)), "responses", "messages", DEFAULT_PROFILE, mine)
    body = scanned("responses", items(*rows))
    decoded = Counted(monkeypatch, *DECODING)
    outcome(body, "responses", "messages", memory=mine)
    assert decoded.calls == 0
    # one that goes another way in the middle of the turn has nothing of what followed there
    for at in (39, 20, 7):
        other = {**rows[at], "call_id": f"other{at}"}
        same(scanned("responses", items(*rows[:at], other)), "responses", "messages", DEFAULT_PROFILE, mine)


def test_a_turn_that_leaves_nothing_is_no_place_to_go_on_from() -> None:
    """The end of a request is judged by what was said last, which is then before it."""
    mine = scope()
    rows = [{"role": "assistant", "content": text} for text in ("a", "")]
    for turns in ([GO_ON, *rows, GO_ON], [GO_ON, *rows]):
        body = json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode()
        same(scanned("messages", body), "messages", "responses", DEFAULT_PROFILE, mine)


# ---- its bounds


@one_of_each
def test_small_bodies_are_not_looked_for(caller: Dialect, upstream: str) -> None:
    memory = TranslationMemory(MOST)
    mine = TranslationScope(memory, "usr_1", "key_1")
    outcome(scanned(caller, bench_body(caller, "small", "m", stream=True)), caller, upstream, memory=mine)
    assert memory.decoded.size + memory.encoded.size == 0
    large = grown(caller, 31)
    assert len(large) > LEAST_BODY
    outcome(scanned(caller, large), caller, upstream, memory=mine)
    assert memory.decoded.size > 0
    assert memory.encoded.size > 0


@one_of_each
def test_none_is_kept_where_the_operator_wants_none(caller: Dialect, upstream: str) -> None:
    memory = TranslationMemory(0)
    outcome(scanned(caller, grown(caller, 31)), caller, upstream, memory=scope(memory))
    assert memory.decoded.size + memory.encoded.size == 0


TEXTS = {"ascii": "words of a file ", "two bytes": "naïve ✓ 字 ", "four bytes": "a🙂b "}


@one_of_each
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_all_conversations_together_stay_within_the_bound(caller: Dialect, upstream: str, text: str) -> None:
    """Counted by ourselves, and by Python."""
    most = 2 << 20
    memory = TranslationMemory(most)
    request = json.loads(grown(caller, 41))
    field = caller_side(caller).body.turns
    turns = [{"role": "user", "content": "(number) " + text * 100}, *request[field]]
    turns = [{**turn, "content": turn.get("content") or ""} for turn in turns]
    written = json.dumps({**request, field: turns}, ensure_ascii=False)

    def ask(at: int) -> None:
        body = written.replace("(number)", str(at)).encode()
        mine = scope(memory, f"usr_{at % 5}")
        assert isinstance(outcome(scanned(caller, body), caller, upstream, memory=mine), Prepared)
        assert memory.decoded.size <= most // 2
        assert memory.encoded.size <= most // 2

    ask(-1)
    tracemalloc.start()
    try:
        for at in range(20):
            ask(at)
        gc.collect()  # what is left over of a request is not what is kept of it
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most // 4 < memory.decoded.size + memory.encoded.size
    assert taken < most


class Sized:
    def __init__(self, cost: int) -> None:
        self.cost = cost


def test_the_least_recently_used_go_first() -> None:
    kept: Conversations[Sized] = Conversations(100)
    one, two, three = Sized(40), Sized(40), Sized(40)
    kept.keep("a", one)
    kept.keep("b", two)
    kept.keep("a", one, one)
    kept.keep("c", three)
    assert (kept.find("a"), kept.find("b"), kept.find("c")) == ((one,), (), (three,))
    kept.keep("d", Sized(101))
    assert (kept.find("d"), kept.size) == ((), 80)
    kept.keep("a", two)
    assert (kept.find("a"), kept.find("c")) == ((two, one), ())
    kept.keep("a", three)
    assert kept.find("a") == (three, two)


def test_of_one_key_so_many_conversations_are_kept_and_of_all_so_many_keys() -> None:
    kept: Conversations[Sized] = Conversations(1 << 20)
    for _ in range(MOST_CONVERSATIONS + 3):
        kept.keep("a", Sized(1))
    assert len(kept.find("a")) == MOST_CONVERSATIONS
    for at in range(MOST_KEPT + 3):
        kept.keep(at, Sized(1))
    assert kept.size == MOST_KEPT


def test_what_is_not_used_is_forgotten() -> None:
    memory = TranslationMemory(MOST)
    old, used = scope(memory, "usr_old"), scope(memory, "usr_used")
    body = scanned("chat", grown("chat", 31))
    for each in (old, used):
        outcome(body, "chat", "messages", memory=each)
    memory.grow_older()
    outcome(body, "chat", "messages", memory=used)
    memory.grow_older()
    assert not old.decoded("chat").all()
    assert used.decoded("chat").all()
    assert used.encoded("messages", "up", DEFAULT_PROFILE).all()
    memory.grow_older()
    assert memory.decoded.size + memory.encoded.size == 0


def test_two_threads_at_once() -> None:
    """Large bodies are translated beside the loop."""
    memory = TranslationMemory(3 << 20)
    bodies = [
        scanned("chat", grown("chat", 20 + count, user=f"u{at}")) for at in range(4) for count in range(12)
    ]
    wanted = [outcome(body, "chat", "messages") for body in bodies]

    def all_of_them(start: int) -> None:
        for at in range(3 * len(bodies)):
            nth = (start + at) % len(bodies)
            mine = scope(memory, f"usr_{nth % 3}")
            assert outcome(bodies[nth], "chat", "messages", memory=mine) == wanted[nth]

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(all_of_them, start) for start in (0, 17)]:
            done.result()
    assert memory.decoded.size <= 3 << 19
