"""Claude Code against a running service: whole turns with a tool, and what it asks for on the side."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.limits import DAILY_TEXT
from penstock.providers.simulator.script import AFTER_TOOL
from tests.clients.claude_code import claude
from tests.clients.running import ON_PRO, Running, User

pytestmark = pytest.mark.xdist_group("claude-code")

PROMPT = "Print the marker {}."


def at(service: Running, user: User, variable: str = "ANTHROPIC_AUTH_TOKEN", **more: str) -> dict[str, str]:
    """The two variables that the documentation names, and others."""
    return {"ANTHROPIC_BASE_URL": service.base, variable: user.key, **more}


def tool_results(service: Running, prompt: str) -> list[str]:
    """What the provider was told that tools gave, in the turns of this prompt; Claude Code adds lines of its own."""
    results: list[str] = []
    for body in service.heard(prompt):
        for message in body["messages"]:
            if message["role"] == "tool":
                results.append(_text(message["content"]))
            elif isinstance(message["content"], list):
                blocks = [block for block in message["content"] if block["type"] == "tool_result"]
                results += [_text(block["content"]) for block in blocks]
    return [result.partition("\n")[0] for result in results]


def spoken(body: dict[str, Any]) -> list[Any]:
    """The conversation in a body of any dialect, in order."""
    return body.get("messages") or body["input"]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def completed(result: Any) -> bool:
    return (result["subtype"], result["is_error"], result["num_turns"]) == ("success", False, 2)


def post(service: Running, user: User, path: str, body: object) -> int:
    """A request beside Claude Code's own; its status."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    headers = {"x-api-key": user.key, "content-type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


@pytest.mark.parametrize("plan", ["pro", "free"])
def test_a_turn_with_a_tool_and_no_model_set(penstock: Running, tmp_path: Path, plan: str) -> None:
    user = penstock.user(plan, f"claude-default-{plan}")
    prompt = PROMPT.format(user.name)
    result = claude(tmp_path, at(penstock, user), prompt)
    assert completed(result), result
    assert result["result"].startswith(AFTER_TOOL)
    assert tool_results(penstock, prompt) == ["simulated"], "what the shell printed, in the second request"
    first = penstock.heard(prompt)[0]
    best = {"pro": "claude-opus-4-6", "free": "claude-sonnet-4-6"}[plan]
    assert first["model"] == best, "the best model of the family, or of the nearest, that the plan has"
    assert {(arrival.path, arrival.status) for arrival in penstock.of(user)} == {("/api/v1/v1/messages", 200)}


def test_two_turns_with_a_tool_each(everywhere: Running, tmp_path: Path) -> None:
    """Over upstreams of all three dialects."""
    user = everywhere.user("pro", "claude-turns")
    first, second = PROMPT.format("claude-turn-1"), PROMPT.format("claude-turn-2")
    for prompt, options in ((first, ()), (second, ("--continue",))):
        result = claude(tmp_path, at(everywhere, user), prompt, "--model", "claude-sonnet-4.6", *options)
        assert completed(result), result
        assert result["result"].startswith(AFTER_TOOL)
    bodies = everywhere.heard(first)
    assert len(bodies) == 4, "two requests a turn, and the second turn has the first one in it"
    assert [second in json.dumps(body) for body in bodies] == [False, False, True, True]
    assert json.dumps(spoken(bodies[-1])).count('"simulated') == 2, "what the tool printed, in both turns"
    assert {arrival.status for arrival in everywhere.of(user)} == {200}


def test_a_turn_with_a_model_and_the_key_as_an_api_key(penstock: Running, tmp_path: Path) -> None:
    user = penstock.user("free", "claude-api-key")
    prompt = PROMPT.format(user.name)
    result = claude(tmp_path, at(penstock, user, "ANTHROPIC_API_KEY"), prompt, "--model", "claude-sonnet-4.6")
    assert completed(result), result
    assert tool_results(penstock, prompt) == ["simulated"]
    assert "x-api-key" in penstock.of(user)[0].headers
    assert {body["model"] for body in penstock.heard(prompt)} == {"claude-sonnet-4-6"}
    assert list(result["modelUsage"]) == ["claude-sonnet-4.6"]


def test_a_key_of_another_service_left_in_the_environment_does_no_harm(
    penstock: Running, tmp_path: Path
) -> None:
    user = penstock.user("free", "claude-both")
    settings = at(penstock, user, ANTHROPIC_API_KEY="sk-ant-api03-left-over")
    result = claude(tmp_path, settings, PROMPT.format(user.name))
    assert completed(result), result


@pytest.mark.parametrize("base", ["", "/api", "/api/v1"])
def test_any_of_the_bases_that_people_write(penstock: Running, tmp_path: Path, base: str) -> None:
    user = penstock.user("pro", f"claude-base{base.replace('/', '-')}")
    settings = at(penstock, user) | {"ANTHROPIC_BASE_URL": penstock.origin + base}
    result = claude(tmp_path, settings, PROMPT.format(user.name))
    assert completed(result), result


def test_the_request_goes_up_with_its_betas_and_without_what_is_ours(
    penstock: Running, tmp_path: Path
) -> None:
    user = penstock.user("pro", "claude-headers")
    prompt = PROMPT.format(user.name)
    claude(tmp_path, at(penstock, user), prompt)
    visit = next(visit for visit in penstock.visits if prompt.encode() in visit.body)
    headers = {name.decode(): value.decode() for name, value in visit.headers}
    came = penstock.of(user)[0].headers
    assert user.key not in str(headers)
    assert "x-claude-code-session-id" not in headers
    if penstock.lane == "messages":
        assert headers["anthropic-beta"] == came["anthropic-beta"]
        assert headers["anthropic-version"] == came["anthropic-version"]
    else:
        assert not [name for name in headers if name.startswith("anthropic")]


# ---- refusals: one clear line, and no minutes of retries


@pytest.mark.parametrize(
    ("plan", "model", "words"),
    [
        ("free", "claude-opus-4.6", "claude-opus-4.6 is not on your plan (free)"),
        ("one-a-day", "", DAILY_TEXT),
    ],
)
def test_a_refusal_is_shown_at_once(
    penstock: Running, tmp_path: Path, plan: str, model: str, words: str
) -> None:
    user = penstock.user(plan, f"claude-refused-{plan}")
    options = ("--model", model) if model else ()
    result = claude(tmp_path, at(penstock, user), PROMPT.format(user.name), *options)
    assert result["is_error"] is True
    assert words in result["result"]
    statuses = [arrival.status for arrival in penstock.of(user)]
    assert statuses == ([200, 429] if plan == "one-a-day" else [403])


def test_a_wrong_key_is_shown_at_once(penstock: Running, tmp_path: Path) -> None:
    stranger = User("claude-stranger", "sk-ps-nobody")
    before = len(penstock.of(stranger))
    result = claude(tmp_path, at(penstock, stranger), "Hello")
    assert result["is_error"] is True
    assert "This is not an API key of this service" in result["result"]
    assert [arrival.status for arrival in penstock.of(stranger)[before:]] == [401]


def test_one_too_many_at_a_time_waits_and_goes_on(penstock: Running, tmp_path: Path) -> None:
    user = penstock.user("one-at-a-time", "claude-waits")
    asked = {"model": "drill-hold", "max_tokens": 50, "messages": [{"role": "user", "content": user.word}]}
    with ThreadPoolExecutor(1) as pool:
        # It has the only slot until Claude Code has been refused.
        other = pool.submit(post, penstock, user, "/v1/messages", asked)
        penstock.until_heard(user.word)
        result = claude(tmp_path, at(penstock, user), PROMPT.format(user.name), "--model", "claude-haiku-4.5")
        assert other.result() == 200
    assert completed(result), result
    assert 429 in [arrival.status for arrival in penstock.of(user)]


# ---- side calls


def test_a_burst_of_token_counts(penstock: Running, tmp_path: Path) -> None:
    """``/context`` asks for two dozen counts at once; a plan for one request at a time answers all of them."""
    user = penstock.user("free", "claude-context")
    result = claude(tmp_path, at(penstock, user), "/context")
    assert result["is_error"] is False
    arrivals = penstock.of(user)
    assert len(arrivals) > 15
    assert {arrival.path for arrival in arrivals} == {"/api/v1/v1/messages/count_tokens"}
    assert {arrival.status for arrival in arrivals} == {200}


def test_many_counts_are_not_held_against_anyone(penstock: Running) -> None:
    user = penstock.user("free", "claude-many-contexts")
    counting = {"model": "claude-sonnet-4.6", "messages": [{"role": "user", "content": "Hello"}]}
    assert {post(penstock, user, "/v1/messages/count_tokens", counting) for _ in range(150)} == {200}
    assert post(penstock, user, "/v1/messages", counting | {"max_tokens": 10}) == 200


def test_model_discovery(penstock: Running, tmp_path: Path) -> None:
    user = penstock.user("pro", "claude-discovery")
    settings = at(penstock, user, CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1")
    result = claude(tmp_path, settings, PROMPT.format(user.name))
    assert completed(result), result
    asked = [arrival for arrival in penstock.of(user) if arrival.method == "GET"]
    assert [(arrival.path, arrival.status) for arrival in asked] == [("/api/v1/v1/models", 200)]


def test_what_model_discovery_reads(penstock: Running) -> None:
    """Ids that begin with ``claude``, a name to show, one page, and no redirect on the way."""
    user = penstock.user("pro", "claude-discovered")
    connection = http.client.HTTPConnection("127.0.0.1", penstock.port, timeout=60)
    connection.request("GET", "/api/v1/v1/models?limit=1000", headers={"authorization": f"Bearer {user.key}"})
    response = connection.getresponse()
    assert response.status == 200
    listed = json.load(response)
    connection.close()
    assert listed["has_more"] is False
    assert sorted(entry["id"] for entry in listed["data"]) == sorted(ON_PRO)
    assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
    for entry in listed["data"]:
        assert entry["type"] == "model"
        assert entry["display_name"]
        assert entry["created_at"].endswith("Z")
