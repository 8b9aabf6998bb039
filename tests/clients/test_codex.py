"""Codex against a running service: whole turns with tools, resumed, over upstreams of all three dialects."""

from pathlib import Path
from typing import Any

import pytest

from penstock.providers.simulator.script import AFTER_TOOL
from tests.clients.codex import codex
from tests.clients.running import Running

pytestmark = pytest.mark.xdist_group("clients")

PROMPT = "Print the marker {}."


def said(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The completed items of a kind."""
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    return [item for item in items if item["type"] == kind]


def failure(events: list[dict[str, Any]]) -> str:
    """What the user is told when the turn fails."""
    (failed,) = [event for event in events if event["type"] == "turn.failed"]
    return failed["error"]["message"]


def test_two_turns_with_a_tool_each(everywhere: Running, tmp_path: Path) -> None:
    user = everywhere.user("pro", "codex-turns")
    first, second = PROMPT.format("of-codex-1"), PROMPT.format("of-codex-2")
    events = [
        *codex(tmp_path, everywhere.base, user.key, "claude-sonnet-4.6", first),
        *codex(tmp_path, everywhere.base, user.key, "claude-sonnet-4.6", "resume", "--last", second),
    ]
    commands = said(events, "command_execution")
    assert [command["aggregated_output"] for command in commands] == ["simulated\n", "simulated\n"]
    answers = [item["text"] for item in said(events, "agent_message") if item["text"].startswith(AFTER_TOOL)]
    assert len(answers) == 2
    usages = [event["usage"] for event in events if event["type"] == "turn.completed"]
    assert len(usages) == 2
    assert all(usage["input_tokens"] > 1000 and usage["output_tokens"] > 10 for usage in usages)
    assert [(arrival.path, arrival.status) for arrival in everywhere.of(user)] == [
        ("/api/v1/responses", 200)
    ] * 4
    assert {body["model"] for body in everywhere.heard(first)} == {"claude-sonnet-4-6"}
    assert len(everywhere.heard(first)) == 4, "the second turn has the first one in it"


def test_a_model_whose_metadata_codex_has(everywhere: Running, tmp_path: Path) -> None:
    """For these it offers tools that are no functions (``tool_search`` and the like), in the first request already."""
    user = everywhere.user("drills", "codex-knows")
    prompt = PROMPT.format("of-codex-knows")
    events = codex(tmp_path, everywhere.base, user.key, "gpt-5.5", prompt)
    assert said(events, "agent_message")
    assert {arrival.status for arrival in everywhere.of(user)} == {200}
    assert not [event for event in events if event["type"] in ("error", "turn.failed")]


def test_a_prompt_grows_by_its_end_alone(everywhere: Running, tmp_path: Path) -> None:
    """Prompt caches live on this: what was sent before stands unchanged at the beginning of what is sent next."""
    user = everywhere.user("pro", "codex-cache")
    prompt = PROMPT.format("of-codex-cache")
    codex(tmp_path, everywhere.base, user.key, "claude-sonnet-4.6", prompt)
    first, second = (body.get("messages") or body["input"] for body in everywhere.heard(prompt))
    assert second[: len(first)] == first
    assert len(second) > len(first)


def test_reasoning_comes_back_to_the_model_that_did_it(everywhere: Running, tmp_path: Path) -> None:
    user = everywhere.user("drills", "codex-thinks")
    prompt = PROMPT.format("of-codex-thinks")
    events = codex(tmp_path, everywhere.base, user.key, "drill-thinks", prompt)
    assert said(events, "reasoning")[0]["text"].startswith("This reasoning is simulated")
    _, second = everywhere.heard(prompt)
    sent = str(second.get("messages") or second["input"])
    assert "This reasoning is simulated" in sent
    if everywhere.lane != "chat":
        assert "c2ltdWxhdGVkL" in sent, "with the signature, as it was"


def test_a_tool_of_a_namespace(everywhere: Running, tmp_path: Path) -> None:
    user = everywhere.user("drills", "codex-namespace")
    prompt = PROMPT.format("of-codex-namespace")
    codex(tmp_path, everywhere.base, user.key, "drill-namespace", prompt)
    _, second = everywhere.heard(prompt)
    sent = str(second.get("messages") or second["input"])
    assert "close_agent" in sent
    assert "unsupported call" not in sent, "Codex knew the tool by the name it got"


def test_a_stream_that_breaks_is_told_in_our_words(everywhere: Running, tmp_path: Path) -> None:
    user = everywhere.user("drills", "codex-breaks")
    events = codex(tmp_path, everywhere.base, user.key, "drill-breaks", PROMPT.format("of-codex-breaks"))
    assert "The provider" in failure(events)
    assert "simulated" not in failure(events).lower()


def test_a_prompt_that_does_not_fit_is_known_as_one(everywhere: Running, tmp_path: Path) -> None:
    user = everywhere.user("drills", "codex-refused")
    events = codex(tmp_path, everywhere.base, user.key, "drill-refused", PROMPT.format("of-codex-refused"))
    assert "ran out of room in the model's context window" in failure(events), "Codex's words for the code"
    assert [arrival.status for arrival in everywhere.of(user)] == [400]


def test_a_model_that_the_plan_has_not(everywhere: Running, tmp_path: Path) -> None:
    user = everywhere.user("free", "codex-plan")
    events = codex(tmp_path, everywhere.base, user.key, "claude-opus-4.6", PROMPT.format("of-codex-plan"))
    assert "claude-opus-4.6 is not on your plan (free)" in failure(events)
