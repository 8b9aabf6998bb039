"""Anthropic's two API versions, 2023-06-01 and 2026-10-21: what each caller sends, and what each upstream gets.

The newer one refuses sampling parameters, a document of the assistant's and citations in a user's text. That is the
upstream's to say where it speaks Messages; a translated request is asked in the older one, which takes all of both.
"""

from typing import Any

import msgspec
import pytest

from tests.service.running_service import House

OLD, NEW = "2023-06-01", "2026-10-21"
SAMPLING = {"temperature": 1.0, "top_p": 0.9, "top_k": 5}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
CITED = {"type": "text", "text": "hi", "citations": [{"type": "char_location", "cited_text": "h"}]}
ROWS: dict[str, dict[str, Any]] = {
    "sampling": SAMPLING,
    "a-document-of-the-assistant": {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [PDF]}]
    },
    "citations-in-a-users-text": {"messages": [{"role": "user", "content": [CITED]}]},
}
ANSWER = (
    b'{"type":"message","role":"assistant","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}'
)


@pytest.mark.parametrize("version", [None, OLD, NEW])
@pytest.mark.parametrize("row", ROWS)
async def test_a_messages_upstream_gets_the_callers_version_and_bytes(
    house: House, version: str | None, row: str
) -> None:
    user, wire = await house.user(), house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(ANSWER)
    headers = {} if version is None else {"anthropic-version": version}
    answer = await house.ask("messages", "wire-messages", user, headers=headers, **ROWS[row])
    assert answer.status == 200
    asked = await wire.next()
    assert asked.headers["anthropic-version"] == (version or OLD)
    assert ROWS[row].items() <= asked.json.items()


@pytest.mark.parametrize("row", ROWS)
async def test_what_an_upstream_says_of_a_version_reaches_the_caller(house: House, row: str) -> None:
    user, wire = await house.user(), house.wires["wire-messages"]
    words = "temperature: Extra inputs are not permitted"
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
    wire.script = lambda asked: asked.answer(msgspec.json.encode(refusal), 400)
    headers = {"anthropic-version": NEW}
    answer = await house.ask("messages", "wire-messages", user, headers=headers, **ROWS[row])
    assert (answer.status, answer.error) == (400, words)


async def test_translated_requests_are_asked_in_the_older_version_with_their_sampling(house: House) -> None:
    user, wire = await house.user(), house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(ANSWER)
    await house.ask("chat", "wire-messages", user, headers={"anthropic-version": NEW}, **SAMPLING)
    asked = await wire.next()
    assert asked.headers["anthropic-version"] == OLD
    assert SAMPLING.items() <= asked.json.items()


@pytest.mark.parametrize("version", [OLD, NEW])
async def test_another_upstream_gets_no_version_and_what_it_takes(house: House, version: str) -> None:
    user, wire = await house.user(), house.wires["wire-chat"]
    wire.script = lambda asked: asked.answer(
        b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
    )
    answer = await house.ask(
        "messages", "wire-chat", user, headers={"anthropic-version": version}, **SAMPLING
    )
    assert answer.status == 200
    assert answer.headers["x-penstock-translation"] == "top_k=dropped"
    asked = await wire.next()
    assert "anthropic-version" not in asked.headers
    assert (asked.json["temperature"], asked.json["top_p"]) == (1.0, 0.9)
    cited = await house.ask(
        "messages", "wire-chat", user, headers={"anthropic-version": version},
        **ROWS["citations-in-a-users-text"],
    )  # fmt: skip
    assert cited.headers["x-penstock-translation"] == "messages.citations=dropped"
