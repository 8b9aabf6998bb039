"""A plan bounds what a request may cost, wherever its body says it: before a provider is contacted, in every format."""

import asyncio
import itertools
import threading
from typing import Any

import msgspec
import pytest

from penstock.api import request_body
from penstock.domain.keys.management import KeyWish
from tests.service.conversations import DIALECTS, REPLIES, body_of
from tests.service.running_service import House, User

BESIDE: dict[str, dict[str, Any]] = {
    "models": {"models": ["claude-opus-4.6"], "route": "fallback"},
    "fallbacks": {"fallbacks": [{"model": "claude-opus-4.6"}]},
    "tool": {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4.6"}]},
    "model-list": {"model_list": [{"model_name": "x", "litellm_params": {"model": "claude-opus-4.6"}}]},
    "other-case": {"Model": "claude-opus-4.6"},
    "of-no-catalogue": {"models": ["vendor/dearest"]},
    "variant": {"models": ["up-chat:nitro"]},
    "alias": {"models": ["claude-opus-4-6"]},
    "family": {"models": ["claude-opus-99"]},
}


async def narrow(house: House, *models: str) -> User:
    """Someone whose key has only these models."""
    user = await house.user()
    key = await house.key(user.id, KeyWish(models=models))
    return User(user.id, user.email, key)


@pytest.mark.parametrize(
    ("dialect", "lane", "kind"),
    [
        *itertools.product(DIALECTS, DIALECTS, BESIDE),
        *(("embeddings", "embeddings", kind) for kind in BESIDE if kind != "tool"),
    ],
)
async def test_a_model_beside_the_model_is_one_of_plan_and_key_or_refused(
    house: House, dialect: str, lane: str, kind: str
) -> None:
    fields = BESIDE[kind]
    user = await narrow(house, f"wire-{lane}")
    answer = await house.post(dialect, body_of(dialect, f"wire-{lane}", **fields), user)
    assert (answer.status, answer.code) == (403, "model_not_on_plan")
    assert house.asked == 0
    assert await house.rows(user) == []
    assert await house.used(user) == 0


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("lane", DIALECTS)
async def test_a_tool_that_the_conversation_brings_is_looked_at_like_any(
    house: House, dialect: str, lane: str
) -> None:
    advisor = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4.6"}
    block = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": advisor}}
    turns = [{"role": "user", "content": "Hello"}, {"role": "system", "content": [block]}]
    user = await narrow(house, f"wire-{lane}")
    answer = await house.post(dialect, body_of(dialect, f"wire-{lane}", messages=turns), user)
    assert (answer.status, answer.code) == (403, "model_not_on_plan")
    assert house.asked == 0


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["claude-opus-4.6", "claude-opus-4-6", "claude-opus-4-6-20260101"])
async def test_one_that_they_have_goes_on_as_it_was_written(house: House, dialect: str, name: str) -> None:
    user = await narrow(house, f"wire-{dialect}", "claude-opus-4.6")
    wire = house.wires[f"wire-{dialect}"]
    wire.script = lambda asked: asked.answer(REPLIES[dialect])
    more = {"models": [f"up-{dialect}", name], "x_more": {"a": 1.50}}
    answer = await house.post(dialect, body_of(dialect, f"wire-{dialect}", **more), user)
    assert answer.status == 200
    assert "x-penstock-translation" not in answer.headers
    sent = msgspec.json.decode((await wire.next()).body)
    assert {field: sent[field] for field in more} == more


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_is_dearer_is_left_out_and_told(house: House, dialect: str) -> None:
    user = await house.user()
    wire = house.wires[f"wire-{dialect}"]
    wire.script = lambda asked: asked.answer(REPLIES[dialect])
    dear = body_of(dialect, f"wire-{dialect}", service_tier="priority", n=128, speed="fast", seed=7)
    answer = await house.post(dialect, dear, user)
    assert answer.status == 200
    told = "service_tier=dropped; n=dropped; speed=dropped"
    assert answer.headers["x-penstock-translation"] == told
    assert (await house.row(user))["translation"] == told
    sent = msgspec.json.decode((await wire.next()).body)
    assert sent["seed"] == 7
    assert not {"service_tier", "n", "speed"} & sent.keys()
    strict = await house.post(dialect, dear, user, {"x-penstock-strict": "1"})
    assert (strict.status, "service_tier" in strict.error) == (400, True)


async def test_how_many_answers_a_request_may_have_is_the_operators_to_say(house: House) -> None:
    await house.restart(max_choices=2)
    user = await house.user()
    wire = house.wires["wire-chat"]
    wire.script = lambda asked: asked.answer(REPLIES["chat"])
    for number, passed in ((2, True), (3, False)):
        assert (await house.post("chat", body_of("chat", "wire-chat", n=number), user)).status == 200
        assert ("n" in msgspec.json.decode((await wire.next()).body)) is passed


async def test_counting_names_no_other_model_either(house: House) -> None:
    user = await narrow(house, "wire-messages")
    for fields in (BESIDE["fallbacks"], BESIDE["tool"]):
        body = body_of("messages", "wire-messages", **fields)
        answer = await house.http("POST", "/v1/messages/count_tokens", user.key, body=body)
        assert (answer.status, answer.code) == (403, "model_not_on_plan")
    assert house.asked == 0


async def test_a_large_body_is_looked_at_as_well(house: House) -> None:
    user = await narrow(house, "wire-chat")
    large = [{"role": "user", "content": "x" * 300_000}]
    bodies = [body_of("chat", "wire-chat", messages=large, **fields) for fields in BESIDE.values()]
    answers = await asyncio.gather(*(house.post("chat", body, user) for body in bodies))
    assert {answer.status for answer in answers} == {403}
    assert house.asked == 0


async def test_much_to_look_at_is_looked_at_beside_the_loop(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    bounded = request_body.bounded

    def noted(*args: Any) -> Any:
        threads.append(threading.current_thread().name.partition("_")[0])
        return bounded(*args)

    monkeypatch.setattr(request_body, "bounded", noted)
    user = await house.user()
    for many in ({"x_one": 1}, {f"k{at}": at for at in range(5000)}):
        assert (await house.post("chat", body_of("chat", "messages-plain", **many), user)).status == 200
    assert threads == [threading.main_thread().name, "aside"]
