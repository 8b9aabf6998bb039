"""The official SDKs against a running service: every call over a messages upstream and over a chat upstream.

Each SDK is driven by a program of its own (``programs/``), which tells what happened as JSON. The expectations are the same
for every language, because the promises are.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from penstock.providers.simulator.script import AFTER_TOOL, OPENING
from tests.clients.installed import NODE, NODE_MODULES, python_path
from tests.clients.interpreter import interpreter
from tests.clients.running import ON_PRO, PNG, UPSTREAM_KEY, Running, User

pytestmark = pytest.mark.xdist_group("sdks")

HERE = Path(__file__).parent
PLANS = ("pro", "free", "drills", "one-a-day", "one-at-a-time")


class Sdk(msgspec.Struct, frozen=True):
    """One SDK of one language."""

    name: str
    program: str
    dialect: Literal["messages", "chat"]
    auth: Literal["x-api-key", "authorization"]
    agent: str

    @property
    def is_python(self) -> bool:
        return self.program.endswith(".py")


ANTHROPIC = [
    Sdk("anthropic-python", "anthropic_calls.py", "messages", "authorization", "Anthropic/Python 2."),
    Sdk("old-anthropic-python", "anthropic_calls.py", "messages", "x-api-key", "Anthropic/Python 0.125."),
    Sdk("anthropic-javascript", "anthropic_calls.mjs", "messages", "authorization", "Anthropic/JS"),
]
OPENAI = [
    Sdk("openai-python", "openai_calls.py", "chat", "authorization", "OpenAI/Python"),
    Sdk("openai-javascript", "openai_calls.mjs", "chat", "authorization", "OpenAI/JS"),
]


class Run:
    """What one SDK did on one service."""

    def __init__(self, sdk: Sdk, service: Running, users: dict[str, User], results: dict[str, Any]) -> None:
        self.sdk = sdk
        self.service = service
        self.users = users
        self._results = results

    def __getitem__(self, call: str) -> Any:
        return self._results[call]

    def refused(self, call: str) -> tuple[str, int | None, str]:
        """The class, status and text of the error that a call ended with."""
        result = self._results[call]
        assert "error" in result, result
        return result["error"], result.get("status"), result["text"]

    def last_heard(self, text: str) -> str:
        """The last body with this text that the provider got, as it was sent."""
        return json.dumps(self.service.heard(text)[-1])


def perform(sdk: Sdk, service: Running, folder: Path) -> Run:
    """Have a program make all its calls."""
    users = {plan: service.user(plan, f"{sdk.name}-{plan}") for plan in PLANS}
    given = {
        "base": service.base,
        "name": sdk.name,
        "keys": {plan: user.key for plan, user in users.items()},
        "held": users["one-at-a-time"].word,
        "png": PNG,
    }
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    program = HERE / "programs" / sdk.program
    told = json.dumps(given)
    if sdk.is_python:
        packages = "anthropic-old" if sdk.name.startswith("old-") else "sdks"
        done = interpreter(packages).run(program, [told], environ | python_path(packages), folder)
    else:
        # Node looks for packages beside the program.
        (folder / "node_modules").symlink_to(NODE_MODULES)
        copied = folder / sdk.program
        copied.write_bytes(program.read_bytes())
        command = [str(NODE), str(copied), told]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return Run(sdk, service, users, json.loads(done.stdout))


Perform = Callable[[Sdk], Run]


@pytest.fixture(scope="session")
def performed() -> dict[tuple[str, str], Run]:
    """What has been done so far; each program runs once on each service."""
    return {}


def _run(
    sdk: Sdk, service: Running, performed: dict[tuple[str, str], Run], factory: pytest.TempPathFactory
) -> Run:
    at = (sdk.name, service.lane)
    if at not in performed:
        performed[at] = perform(sdk, service, factory.mktemp(sdk.name))
    return performed[at]


def _name(sdk: Sdk) -> str:
    return sdk.name


@pytest.fixture(params=ANTHROPIC, ids=_name)
def anthropic(
    request: pytest.FixtureRequest,
    penstock: Running,
    performed: dict[tuple[str, str], Run],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    return _run(request.param, penstock, performed, tmp_path_factory)


@pytest.fixture(params=OPENAI, ids=_name)
def openai(
    request: pytest.FixtureRequest,
    penstock: Running,
    performed: dict[tuple[str, str], Run],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    return _run(request.param, penstock, performed, tmp_path_factory)


@pytest.fixture(params=[*ANTHROPIC, *OPENAI], ids=_name)
def sdk(
    request: pytest.FixtureRequest,
    penstock: Running,
    performed: dict[tuple[str, str], Run],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    return _run(request.param, penstock, performed, tmp_path_factory)


# ---- with the documented base URL


def test_it_calls_as_the_sdk_does_and_never_with_our_key_upstream(sdk: Run) -> None:
    arrival = sdk.service.of(sdk.users["pro"])[0]
    path = "/api/v1/v1/messages" if sdk.sdk.dialect == "messages" else "/api/v1/chat/completions"
    assert arrival.path == path
    assert arrival.headers["user-agent"].startswith(sdk.sdk.agent)
    assert sdk.sdk.auth in arrival.headers
    sent = b"".join(name + value for visit in sdk.service.visits for name, value in visit.headers)
    assert UPSTREAM_KEY.encode() in sent
    assert b"sk-ps-" not in sent
    assert b"stainless" not in sent


def test_an_answer(sdk: Run) -> None:
    answer = sdk["create"]
    assert answer["text"].startswith(OPENING)
    assert answer["model"] == "claude-sonnet-4.6", "the name that was asked for, not the provider's"
    assert answer["stop"] in ("end_turn", "stop")
    assert answer["input"] > 0
    assert answer["output"] > 20


def test_a_stream_brings_the_same_text_piece_by_piece(sdk: Run) -> None:
    streamed = sdk["stream"]
    assert streamed["text"] == sdk["create"]["text"]
    assert streamed["pieces"] > 20


def test_the_sdks_own_stream_helper(sdk: Run) -> None:
    final = sdk["helper"]
    assert final["text"] == final["streamed"] == sdk["create"]["text"]
    assert (final["model"], final["stop"]) == (sdk["create"]["model"], sdk["create"]["stop"])


def test_a_messages_stream_has_its_frame_and_its_counts(anthropic: Run) -> None:
    assert (anthropic["stream"]["first"], anthropic["stream"]["last"]) == ("message_start", "message_stop")
    assert anthropic["helper"]["output"] == anthropic["create"]["output"]


def test_a_chat_stream_tells_its_counts_to_those_who_ask(openai: Run) -> None:
    assert openai["stream_usage"] == {"usages": [openai["create"]["output"]], "last": 0}
    assert openai["stream"]["usages"] == []
    assert openai["stream"]["models"] == ["claude-sonnet-4.6"]
    assert openai["stream"]["stop"] == "stop"


def test_the_responses_format(openai: Run) -> None:
    whole, streamed = openai["responses"], openai["responses_streamed"]
    assert whole["text"] == openai["create"]["text"], "the provider has had the same question"
    assert (whole["model"], whole["status"]) == ("claude-sonnet-4.6", "completed")
    assert whole["output"] == openai["create"]["output"]
    assert streamed == {**whole, "streamed": whole["text"]}


# ---- tools


def test_a_tools_result_in_the_responses_format(openai: Run) -> None:
    first, second = openai["responses_tools"]["first"], openai["responses_tools"]["second"]
    assert [(made["name"], made["input"]) for made in first["calls"]] == [("weather", {"city": "simulated"})]
    assert second["text"].startswith(AFTER_TOOL)
    heard = openai.last_heard(f"Tools of responses for {openai.sdk.name}")
    assert f"weather of {openai.sdk.name}: 42" in heard
    assert heard.count(first["calls"][0]["id"]) == 2


@pytest.mark.parametrize("call", ["tools", "tools_streamed"])
def test_a_tool_is_called_and_its_result_arrives(sdk: Run, call: str) -> None:
    first, second = sdk[call]["first"], sdk[call]["second"]
    assert [(made["name"], made["input"]) for made in first["calls"]] == [("weather", {"city": "simulated"})]
    assert first["stop"] in ("tool_use", "tool_calls")
    assert second["text"].startswith(AFTER_TOOL)
    assert second["calls"] == []
    heard = sdk.last_heard(f"{'Tools' if call == 'tools' else 'Streamed tools'} for {sdk.sdk.name}")
    assert f"weather of {sdk.sdk.name}: 42" in heard
    assert heard.count(first["calls"][0]["id"]) == 2, "the call and its result name each other"


def test_parallel_tools_and_both_results(sdk: Run) -> None:
    first, second = sdk["parallel"]["first"], sdk["parallel"]["second"]
    assert [made["name"] for made in first["calls"]] == ["weather", "population"]
    assert len({made["id"] for made in first["calls"]}) == 2
    assert second["text"].startswith(AFTER_TOOL)
    heard = sdk.last_heard(f"Two tools for {sdk.sdk.name}")
    for made in first["calls"]:
        assert f"{made['name']} of {sdk.sdk.name}: 42" in heard
        assert heard.count(made["id"]) == 2


def test_thinking_comes_and_goes_back_with_the_tools_result(anthropic: Run) -> None:
    first, second = anthropic["thinking"]["first"], anthropic["thinking"]["second"]
    assert first["kinds"] == ["thinking", "text", "tool_use"]
    assert second["text"].startswith(AFTER_TOOL)
    assert "This reasoning is simulated" in anthropic.last_heard(f"Think for {anthropic.sdk.name}")


def test_an_answer_in_the_shape_of_a_schema(openai: Run) -> None:
    assert json.loads(openai["structured"]["text"]) == {"city": "simulated"}


def test_images_by_value_and_by_address(sdk: Run) -> None:
    assert sdk["images"]["text"].startswith(OPENING)
    heard = sdk.last_heard(f"Images of {sdk.sdk.name}")
    assert PNG in heard
    assert "https://images.example/cat.jpg" in heard, "passed on, not fetched"


# ---- lists and counts


def test_the_models_of_the_plan(sdk: Run) -> None:
    assert sorted(sdk["models"]["listed"]) == sorted(ON_PRO)
    assert sdk["models"]["one"] == "claude-haiku-4.5"


def test_tokens_are_counted_or_estimated(anthropic: Run) -> None:
    assert anthropic["count"]["tokens"] > 0


# ---- errors: the SDK's own class, and our text in it


@pytest.mark.parametrize(
    ("call", "kind", "status", "words"),
    [
        ("wrong_key", "AuthenticationError", 401, "This is not an API key of this service"),
        (
            "not_on_plan",
            "PermissionDeniedError",
            403,
            "claude-opus-4.6 is not on your plan (free); it is on: pro.",
        ),
        ("no_such_model", "NotFoundError", 404, "The models of your plan (pro): claude-opus-4.6,"),
        ("bad_field", "BadRequestError", 400, "messages must not be empty."),
        ("too_long", "BadRequestError", 400, "prompt is too long: 212345 tokens > 200000 maximum"),
        ("provider_fails", "InternalServerError", 502, "The provider failed with status 500."),
        ("stream_fails", "InternalServerError", 502, "The provider failed with status 500."),
        (
            "day_spent",
            "RateLimitError",
            429,
            "Daily request limit reached. Upgrade your plan for more requests.",
        ),
    ],
)
def test_an_error_is_typed_and_keeps_its_text(
    sdk: Run, call: str, kind: str, status: int, words: str
) -> None:
    found = sdk.refused(call)
    assert found[:2] == (kind, status)
    # one that has failed for its callers before is not asked for a while: the class of the error is the same
    assert words in found[2] or "No provider of this model is well" in found[2]


@pytest.mark.parametrize(
    ("call", "code", "param"),
    [
        ("wrong_key", "invalid_api_key", None),
        ("not_on_plan", "model_not_on_plan", "model"),
        ("no_such_model", "model_not_found", "model"),
        ("bad_field", "invalid_request", "messages"),
        ("day_spent", "daily_limit_reached", None),
        ("provider_fails", "provider_error", None),
    ],
)
def test_an_error_names_its_code_and_the_field(openai: Run, call: str, code: str, param: str | None) -> None:
    assert (openai[call]["code"], openai[call]["param"]) == (code, param)


def test_a_stream_that_breaks_is_an_error_and_not_an_end(sdk: Run) -> None:
    kind, _, text = sdk.refused("stream_breaks")
    assert kind in ("APIStatusError", "APIError")
    assert "The provider" in text


def test_a_spent_day_is_told_once_and_not_asked_again(sdk: Run) -> None:
    assert [arrival.status for arrival in sdk.service.of(sdk.users["one-a-day"])] == [200, 429]


def test_a_refusal_for_the_plan_is_not_asked_again(sdk: Run) -> None:
    assert [arrival.status for arrival in sdk.service.of(sdk.users["free"])] == [403]


def test_one_too_many_at_a_time_waits_and_gets_through(sdk: Run) -> None:
    assert [answer["text"][: len(OPENING)] for answer in sdk["at_once"]] == [OPENING, OPENING]
    statuses = [arrival.status for arrival in sdk.service.of(sdk.users["one-at-a-time"])]
    assert statuses.count(200) == 2
    assert statuses.count(429) == len(statuses) - 2 >= 1
