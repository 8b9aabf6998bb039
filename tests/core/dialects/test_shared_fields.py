"""Fields that Chat and Responses have in the same words: exact in both directions, and in answers."""

import json
from typing import Any

import pytest

from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.events import AnyEvent, Started, Stopped, TextDelta
from penstock.core.neutral.fold import fold
from penstock.core.profile import Profile
from penstock.core.sse import Frames
from penstock.providers.profiles import OPENAI, OPENAI_CLASSIC

CHAT: dict[str, Any] = {
    "model": "M",
    "messages": [{"role": "user", "content": "hi"}],
    "verbosity": "low",
    "service_tier": "flex",
    "prompt_cache_key": "k1",
    "prompt_cache_retention": "24h",
    "metadata": {"a": "b"},
    "safety_identifier": "u",
}
RESPONSES: dict[str, Any] = {
    "model": "M",
    "input": "hi",
    "text": {"verbosity": "low"},
    "service_tier": "flex",
    "prompt_cache_key": "k1",
    "prompt_cache_retention": "24h",
    "metadata": {"a": "b"},
    "safety_identifier": "u",
}
SAME = ("service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier")


def sent(body: dict[str, Any], caller: str, upstream: str, profile: Profile) -> tuple[dict[str, Any], str]:
    envelope = read_envelope(json.dumps(body).encode(), caller)
    prepared = prepare(envelope, caller=caller, upstream=upstream, model="up", profile=profile)
    return json.loads(prepared.body), translation_header(prepared.losses)


def test_from_chat_to_responses() -> None:
    body, told = sent(CHAT, "chat", "responses", OPENAI)
    assert told == ""
    assert body["text"] == {"verbosity": "low"}
    assert body["metadata"] == {"a": "b"}
    assert {name: body[name] for name in SAME} == {name: CHAT[name] for name in SAME}


def test_from_responses_to_chat_where_metadata_is_for_what_is_stored() -> None:
    body, told = sent(RESPONSES, "responses", "chat", OPENAI)
    assert told == "metadata=dropped"
    assert body["verbosity"] == "low"
    assert "metadata" not in body
    assert {name: body[name] for name in SAME} == {name: CHAT[name] for name in SAME}


def test_verbosity_beside_a_form() -> None:
    form = {"type": "json_object"}
    body, _ = sent({**CHAT, "response_format": form}, "chat", "responses", OPENAI)
    assert body["text"] == {"format": form, "verbosity": "low"}


@pytest.mark.parametrize(
    ("caller", "upstream", "body"),
    [
        ("chat", "responses", CHAT),
        ("responses", "chat", RESPONSES),
        ("chat", "messages", CHAT),
        ("responses", "messages", RESPONSES),
    ],
)
def test_elsewhere_they_are_dropped_and_told(caller: str, upstream: str, body: dict[str, Any]) -> None:
    made, told = sent(body, caller, upstream, Profile(user_field="safety_identifier"))
    verbosity = "text.verbosity" if caller == "responses" else "verbosity"
    assert set(told.split("; ")) == {
        f"{name}=dropped"
        for name in (verbosity, "service_tier", "prompt_cache_key", "prompt_cache_retention", "metadata")
    }
    assert not {"verbosity", "service_tier", "prompt_cache_key", "prompt_cache_retention"} & made.keys()


def test_what_asks_for_nothing_is_not_told() -> None:
    idle = {"service_tier": "auto", "metadata": {}}
    assert sent({**idle, "model": "M", "input": "hi"}, "responses", "chat", Profile())[1] == ""
    assert sent({**idle, "model": "M", "messages": CHAT["messages"]}, "chat", "messages", Profile())[1] == ""


def test_models_that_know_no_verbosity() -> None:
    body, told = sent(CHAT, "chat", "responses", OPENAI_CLASSIC)
    assert told == "verbosity=dropped"
    assert "text" not in body


def test_the_callers_own_key_of_a_cache_is_the_one() -> None:
    body, _ = sent(
        {**CHAT, "user": "user_1_session_2", "safety_identifier": None}, "chat", "responses", OPENAI
    )
    assert body["prompt_cache_key"] == "k1"


@pytest.mark.parametrize(("caller", "upstream"), [("chat", "responses"), ("responses", "chat")])
@pytest.mark.parametrize("tier", ["flex", None])
def test_the_tier_that_served_is_in_the_answer(caller: str, upstream: str, tier: str | None) -> None:
    events: list[AnyEvent] = [Started("x", "m"), TextDelta("hi"), Stopped("end_turn", None, None, tier)]
    side, back = caller_side(upstream), caller_side(caller)
    whole = side.encode_response(fold(events), model="m", reply_id="r", created=1)
    reply = fold(upstream_side(upstream).decode_response(whole, Profile()))
    said = json.loads(back.encode_response(reply, model="m", reply_id="r", created=1))
    writer = side.ResponseEncoder(model="m", reply_id="r", created=1, include_usage=True, input_estimate=1)
    decoder = upstream_side(upstream).ResponseDecoder(profile=Profile())
    read = [*decoder.feed(writer.write(events)), *decoder.finish()]
    again = back.ResponseEncoder(model="m", reply_id="r", created=1, include_usage=False, input_estimate=1)
    frames = [json.loads(frame.data) for frame in Frames().feed(again.write(read)) if frame.data != b"[DONE]"]
    last = frames[-1].get("response", frames[-1])
    if caller == "responses":
        assert (said["service_tier"], last["service_tier"]) == (tier or "default", tier or "default")
    else:
        plain = tier or ("default" if upstream == "responses" else None)
        assert (said.get("service_tier"), last.get("service_tier")) == (plain, plain)
