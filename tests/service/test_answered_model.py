"""An answer by a model that was not asked for is recorded and counted, in every lane; the caller sees the public name alone."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.dialects.test_answered import frames, whole
from tests.service.conversations import PATHS, body_of
from tests.service.running_service import House

FORMATS = ("chat", "messages", "responses")


def lanes() -> Iterator[tuple[str, str, bool]]:
    """Every format of callers with every format of upstreams, whole and streamed."""
    for caller in FORMATS:
        for upstream in FORMATS:
            yield from ((caller, upstream, stream) for stream in (False, True))
    yield "embeddings", "embeddings", False


def asked(caller: str, model: str, *, stream: bool) -> bytes:
    if caller == "responses":
        return json.dumps({"model": model, "input": "Hello", "stream": stream}).encode()
    return body_of(caller, model, stream=stream) if stream else body_of(caller, model)


def answering(upstream: str, name: str | None, *, stream: bool) -> Any:
    """A script that answers in the name of this model."""
    if upstream == "embeddings":
        body = {"data": [{"embedding": "AAAA"}], "model": name, "usage": {"prompt_tokens": 5}}
        return lambda asked: asked.answer(json.dumps(body).encode())
    if stream:
        return lambda asked: asked.stream(*frames(upstream, name))
    return lambda asked: asked.answer(whole(upstream, name))


async def counted(house: House, provider: str) -> float:
    """How many answers of a provider were another model's, by the metrics."""
    text = (await house.page("/metrics")).body.decode()
    start = f'penstock_answers_by_another_model_total{{provider="{provider}"}} '
    return sum(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize(("caller", "upstream", "stream"), [*lanes()])
async def test_the_row_says_which_model_answered(
    house: House, caller: str, upstream: str, stream: bool
) -> None:
    wire, public = house.wires[f"wire-{upstream}"], f"wire-{upstream}"
    ours = "up-embed" if upstream == "embeddings" else f"up-{upstream}"
    names = {
        ours: None,
        f"{ours}-2026-01-15": None,
        f"models/{ours.upper()}": None,
        "": None,
        "dearest": "dearest",
        public: public,
        f"{ours}-mini": f"{ours}-mini",
        'two\x1b[31m"': "two?31m?",
        "x" * 5000: "x" * 128,
    }
    for name, recorded in names.items():
        user = await house.user()
        wire.script = answering(upstream, name, stream=stream)
        path = PATHS.get(caller, "/api/v1/responses")
        answer = await house.http("POST", path, user.key, body=asked(caller, public, stream=stream))
        assert answer.status == 200
        assert name in ("", public, ours) or json.dumps(name).encode() not in answer.body
        row = await house.row(user)
        assert (row["outcome"], row["upstream_model"]) == ("completed", ours)
        assert row["answered_model"] == recorded, name
        (line,) = (await house.report(user)).requests
        assert line.answered_model == recorded
    assert await counted(house, f"wire-{upstream}") == len([name for name in names.values() if name])


@pytest.mark.parametrize("dialect", ["chat", "messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_failed_attempt_named_is_not_of_the_answer(
    house: House, dialect: str, stream: bool
) -> None:
    user = await house.user()
    wire, spare = house.wires[f"wire-{dialect}"], house.wires[f"spare-{dialect}"]
    wire.script = lambda asked: (
        asked.stream(frames(dialect, "dearest")[-2], b"data: {]\n\n")  # counts, which are kept back
        if stream and dialect == "chat"
        else asked.answer(b'{"error": {"message": "no"}, "model": "dearest"}')
    )
    spare.script = lambda asked: asked.answer(b"{}", 500)
    assert (await house.ask(dialect, f"pair-{dialect}", user, stream=stream)).status == 502
    row = await house.row(user)
    assert (row["attempts"], row["answered_model"]) == (2, None)


@pytest.mark.parametrize("dialect", ["chat", "messages"])
async def test_a_stream_that_breaks_off_says_who_had_begun_it(house: House, dialect: str) -> None:
    user = await house.user()
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.stream(*frames(dialect, "dearest")[:3])
    await house.ask(dialect, f"wire-{dialect}", user, stream=True)
    row = await house.row(user)
    assert (row["error_code"], row["answered_model"]) == ("provider_cut", "dearest")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_another_model_goes_on_with(house: House, stream: bool) -> None:
    user = await house.user()
    names = iter(("up-messages", "dearest"))
    pause = {"stop_reason": "pause_turn", "content": [{"type": "text", "text": "a"}]}

    def answer(asked: Any) -> None:
        name = next(names)
        if not stream:
            more = pause if name != "dearest" else {"stop_reason": "end_turn", "content": []}
            asked.answer(json.dumps({"model": name, "type": "message", **more}).encode())
            return
        sent = b"".join(frames("messages", name))
        asked.stream(sent.replace(b"end_turn", b"pause_turn") if name != "dearest" else sent)

    house.wires["wire-messages"].script = answer
    # only an upstream with tools of its own pauses
    asked = await house.ask("chat", "search-messages", user, stream=stream, web_search_options={})
    assert asked.status == 200
    assert (await house.row(user))["answered_model"] == "dearest"
