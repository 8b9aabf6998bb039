"""What few answers are billed by: tiers, sound, predictions and runs of a provider's tools, whole and streamed alike."""

import json
from typing import Any

import pytest

from penstock.domain.ledger.reconciliation import compare, repair
from tests.core.dialects.special_answers import (
    CHAT,
    MESSAGES,
    RESPONSES,
    TOOLS,
    chat_answer,
    messages_answer,
    responses_answer,
)
from tests.service.conversations import PATHS, body_of
from tests.service.running_service import House, User

DAY = 20_833
COLUMNS = (
    "service_tier", "audio_input_tokens", "audio_output_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
    "web_searches", "web_fetches", "code_runs", "file_searches", "other_tool_runs",
)  # fmt: skip


async def ask(
    house: House, user: User, caller: str, upstream: str, sent: list[bytes], *, stream: bool
) -> bytes:
    model = f"wire-{upstream}"
    wire = house.wires[model]
    wire.script = lambda asked: asked.stream(*sent) if stream else asked.answer(sent[0])
    if caller == "responses":
        body = json.dumps({"model": model, "input": "Hello", "stream": stream}).encode()
    else:
        more = {"stream_options": {"include_usage": True}} if caller == "chat" and stream else {}
        body = body_of(caller, model, stream=stream, **more)
    answer = await house.http("POST", PATHS.get(caller, "/v1/responses"), user.key, body=body)
    assert answer.status == 200, answer.body
    return answer.body


def said_in(caller: str, body: bytes, *, stream: bool) -> dict[str, Any]:
    """The last object of an answer that has a usage: its tier and usage."""
    if not stream:
        return json.loads(body)
    found = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    found = [each.get("response") or each for each in found]
    whole = [each for each in found if each.get("usage")][-1]
    tiers = [each["service_tier"] for each in found if caller == "chat" and each.get("service_tier")]
    return whole | ({"service_tier": tiers[-1]} if tiers else {})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
async def test_the_row_has_it_whatever_the_formats_are(house: House, caller: str, stream: bool) -> None:
    cases: list[tuple[str, str, list[bytes], dict[str, Any]]] = [
        *(
            ("messages", name, messages_answer(more, tools, stream=stream), row)
            for name, (more, tools, row) in MESSAGES.items()
        ),
        *(
            ("chat", name, chat_answer(more, tier, stream=stream), row)
            for name, (more, tier, row) in CHAT.items()
        ),
        *(
            ("responses", name, responses_answer(items, tier, stream=stream), row)
            for name, (items, tier, row) in RESPONSES.items()
        ),
    ]
    if stream:
        items, tier, row = RESPONSES["runs"]
        cases.append(
            ("responses", "not repeated", responses_answer(items, tier, stream=True, empty=True), row)
        )
    for upstream, name, sent, expected in cases:
        user = await house.user()
        await ask(house, user, caller, upstream, sent, stream=stream)
        row = await house.row(user)
        assert {column: row[column] for column in COLUMNS if row[column] is not None} == expected, (
            upstream,
            name,
        )
        assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (40, 9, False), (
            upstream,
            name,
        )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_is_translated_says_it_where_its_format_has_a_field(
    house: House, stream: bool
) -> None:
    user = await house.user()
    searched = messages_answer({"server_tool_use": TOOLS, "service_tier": "priority"}, [], stream=stream)
    usual = messages_answer({"service_tier": "standard"}, [], stream=stream)
    batch = messages_answer({"service_tier": "batch"}, [], stream=stream)
    for caller, none in (("chat", None), ("responses", "default")):
        for sent, tier in ((searched, "priority"), (usual, "default"), (batch, none)):
            body = await ask(house, user, caller, "messages", sent, stream=stream)
            assert said_in(caller, body, stream=stream).get("service_tier") == tier
    items, _, _ = RESPONSES["runs"]
    sent = responses_answer(items, "priority", stream=stream)
    told = said_in(
        "messages", await ask(house, user, "messages", "responses", sent, stream=stream), stream=stream
    )
    assert told["usage"]["server_tool_use"] == {"web_search_requests": 2, "web_fetch_requests": 1}
    assert told["usage"]["service_tier"] == "priority"
    sent = chat_answer({}, "flex", stream=stream)
    told = said_in("messages", await ask(house, user, "messages", "chat", sent, stream=stream), stream=stream)
    assert not {"service_tier", "server_tool_use"} & set(told["usage"])


async def test_it_is_in_the_sums_which_are_those_of_the_rows(house: House) -> None:
    user = await house.user()
    more, tools, _ = MESSAGES["code beside searches"]
    sent = messages_answer(more | {"service_tier": "priority"}, tools, stream=False)
    await ask(house, user, "messages", "messages", sent, stream=False)
    more, tier, _ = CHAT["sound and predictions"]
    await ask(house, user, "chat", "chat", chat_answer(more, tier, stream=False), stream=False)
    await ask(house, user, "chat", "chat", chat_answer({}, None, stream=False), stream=False)
    rows = await house.rows(user)
    told = (await house.http("GET", "/v1/usage?group=model", user.key)).json["data"]
    of_model = {one["model"]: {name: one[name] for name in COLUMNS if name in one} for one in told}
    assert of_model == {
        "wire-messages": {"web_searches": 3, "web_fetches": 1, "code_runs": 2},
        "wire-chat": {
            "audio_input_tokens": 11,
            "audio_output_tokens": 5,
            "accepted_prediction_tokens": 7,
            "rejected_prediction_tokens": 1,
        },
    }
    assert len(rows) == 3
    assert house.service is not None
    database = house.store.database
    async with database.connect() as conn:
        assert await compare(conn, DAY) == []
        assert (await conn.exec_driver_sql("SELECT count(*) FROM usage_special")).scalar_one() == 2
    async with database.transaction() as conn:
        await conn.exec_driver_sql("UPDATE usage_special SET web_searches = 99, code_runs = 0")
    assert {one.column for one in await repair(database, DAY)} == {"web_searches", "code_runs"}
    async with database.connect() as conn:
        assert await compare(conn, DAY) == []
