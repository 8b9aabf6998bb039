"""A wildcard over real sockets: the name goes on as it is, and a name that the provider does not have is its caller's."""

import json
from typing import Any

import pytest

from penstock.core.catalog import Capabilities, Model, Target
from penstock.domain.catalog.publishing import publish_models
from penstock.operations import model_endings
from penstock.providers.retirements import Retirement
from penstock.providers.table import KINDS
from tests.service.conversations import PATHS, body_of
from tests.service.running_service import House

GOOD = {
    "object": "chat.completion",
    "model": "gpt-9-2026-01-01",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}
GONE = {
    "error": {
        "message": "The model `nope` does not exist",
        "type": "invalid_request_error",
        "code": "model_not_found",
    }
}


async def with_wildcard(house: House) -> None:
    """``wire-chat/*`` goes to the scripted provider of that name."""
    wildcard = Model(
        "lab/*",
        "Everything",
        targets=(Target("wire-chat", "*"),),
        capabilities=Capabilities(vision=True, documents=True),
    )
    async with house.store.database.transaction() as conn:
        await publish_models(conn, (), (wildcard,), KINDS, 1)
    await house.restart()


@pytest.mark.parametrize("caller", ["chat", "messages"])
async def test_the_name_goes_on_and_the_answer_has_the_callers(house: House, caller: str) -> None:
    await with_wildcard(house)
    user, wire = await house.user(), house.wires["wire-chat"]
    seen: list[Any] = []

    def answer(asked: Any) -> None:
        seen.append(asked.json["model"])
        asked.answer(json.dumps(GOOD).encode())

    wire.script = answer
    for name in ("gpt-9", "ft:gpt-9:acme"):
        told = await house.http("POST", PATHS[caller], user.key, body=body_of(caller, f"lab/{name}"))
        assert told.status == 200
        assert json.loads(told.body)["model"] == f"lab/{name}"
    assert seen == ["gpt-9", "ft:gpt-9:acme"]
    metrics = (await house.page("/metrics")).body.decode()
    assert 'model="lab/*"' in metrics
    assert "gpt-9" not in metrics
    row = (await house.rows(user))[-1]
    assert (row["model"], row["upstream_model"]) == ("lab/ft:gpt-9:acme", "ft:gpt-9:acme")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_name_that_the_provider_does_not_have_is_a_404_and_holds_nothing_against_it(
    house: House, stream: bool
) -> None:
    await with_wildcard(house)
    user, wire = await house.user(), house.wires["wire-chat"]

    def answer(asked: Any) -> None:
        gone = asked.json["model"] == "nope"
        asked.answer(json.dumps(GONE if gone else GOOD).encode(), 404 if gone else 200)

    wire.script = answer
    body = body_of("chat", "lab/nope", stream=stream) if stream else body_of("chat", "lab/nope")
    for _ in range(3):
        told = await house.http("POST", PATHS["chat"], user.key, body=body)
        assert told.status == 404
        assert "lab/*" in told.body.decode()
    assert {row["error_code"] for row in await house.rows(user)} == {"model_not_found"}
    told = await house.http("POST", PATHS["chat"], user.key, body=body_of("chat", "lab/there"))
    assert told.status == 200


async def test_answers_of_a_model_that_ends_say_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 31, over the wire: on answers that are translated and told, and on plain ones."""
    end = Retirement("custom", "gpt-9", "2026-12-11", "gpt-10", "")
    monkeypatch.setattr(model_endings, "retirement", lambda _kind, name: end if name == "gpt-9" else None)
    ending = Model("old", "Old", targets=(Target("wire-chat", "gpt-9"),))
    async with house.store.database.transaction() as conn:
        await publish_models(conn, (), (ending,), KINDS, 1)
    await house.restart()
    house.wires["wire-chat"].script = lambda asked: asked.answer(json.dumps(GOOD).encode())
    user = await house.user()
    for caller, more in (("chat", {}), ("messages", {"top_k": 5})):
        body = json.dumps({**json.loads(body_of(caller, "old")), **more}).encode()
        told = await house.http("POST", PATHS[caller], user.key, body=body)
        assert told.status == 200
        assert told.headers["sunset"] == "Fri, 11 Dec 2026 00:00:00 GMT"
        assert told.headers["deprecation"].startswith("@")
