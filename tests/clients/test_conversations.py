"""Conversations whose model changes at every turn, through every client: over providers of all three dialects, and back.

In each turn the model thinks, asks for a tool, and answers after its result, all of it streamed. A library has one process
for all of its conversations; what each provider was sent is looked at here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.providers.simulator.request import read_request
from penstock.providers.simulator.script import AFTER_TOOL, compose_answer
from tests.clients.claude_code import claude
from tests.clients.codex import CONFIG, OPENAI_BASE_URL, codex
from tests.clients.installed import NODE, NODE_MODULES, OPENCODE
from tests.clients.interpreter import run_python
from tests.clients.running import CHANGING, ECHOING, EVERY_LANE, KNOWN_TO_CODEX, Lane, Running
from tests.clients.test_frameworks import HERE, python, run
from tests.samples import sample

pytestmark = [pytest.mark.xdist_group("frameworks"), pytest.mark.timeout(300)]

STARTS = sample(EVERY_LANE, 1)
"""The dialects of the providers that a conversation starts with; the others follow in turn."""
LIBRARIES = {
    "conversations.py": (
        "langchain-chat", "langchain-responses", "langchain-messages", "litellm-chat", "litellm-messages",
        "pydantic-ai-chat", "pydantic-ai-responses", "pydantic-ai-messages", "llm",
    ),
    "conversations_llama_index.py": ("llama-index-chat", "llama-index-responses", "llama-index-messages"),
    "conversations.mjs": (
        "ai-sdk-responses", "ai-sdk-chat", "ai-sdk-messages", "ai-sdk-compatible",
        "cline-compatible", "cline-openai", "cline-anthropic",
        "continue-chat", "continue-responses", "continue-messages",
    ),
}  # fmt: skip
PACKAGES = {
    "conversations.py": "frameworks",
    "conversations_llama_index.py": "llama-index",
    "conversations_aider.py": "aider",
}
FORGETFUL = ("cline-anthropic", "continue-messages")
"""These hand on no signature, so that their callers have none to send back; in the other formats we remember it for them."""
PATHS: dict[str, Lane] = {"messages": "messages", "completions": "chat", "responses": "responses"}


def lanes_from(start: Lane) -> list[Lane]:
    """All three, and the first again."""
    at = EVERY_LANE.index(start)
    return [*EVERY_LANE[at:], *EVERY_LANE[:at], start]


def program(name: str, given: dict[str, Any], folder: Path) -> str:
    """Have a program make all its calls; what it prints."""
    told = json.dumps(given)
    if name.endswith(".mjs"):
        # Node looks for packages beside and above the program.
        (folder / "node_modules").symlink_to(NODE_MODULES)
        copied = folder / name
        copied.write_text((HERE / "programs" / name).read_text("utf-8"))
        return run([str(NODE), "--preserve-symlinks-main", str(copied), told], {}, folder)
    return run_python(PACKAGES[name], HERE / "programs" / name, [told], python(folder), folder)


class Conversations:
    """What each library got; a program runs once for all its conversations that start in one way."""

    def __init__(self, service: Running, factory: pytest.TempPathFactory) -> None:
        self._service = service
        self._factory = factory
        self._told: dict[tuple[str, Lane], dict[str, Any]] = {}

    def of(self, name: str, start: Lane) -> Any:
        """The turns of a library's conversation."""
        (file,) = [file for file, names in LIBRARIES.items() if name in names]
        if (file, start) not in self._told:
            user = self._service.user("changing", f"{file.replace('.', '-')}-{start}")
            turns = [
                (CHANGING[lane][0], question(number, start)) for number, lane in enumerate(lanes_from(start))
            ]
            given = {"base": self._service.base, "key": user.key, "turns": turns}
            printed = program(file, given, self._factory.mktemp(start))
            self._told[file, start] = json.loads(printed.splitlines()[-1])  # LiteLLM prints before it
        return self._told[file, start][name]


@pytest.fixture(scope="session")
def conversations(changing: Running, tmp_path_factory: pytest.TempPathFactory) -> Conversations:
    """The libraries' conversations."""
    return Conversations(changing, tmp_path_factory)


def question(number: int, start: Lane) -> str:
    return f"Weather in city {number} from {start}?"


def sent(service: Running, name: str) -> list[tuple[Lane, bytes]]:
    """The requests of a conversation as they reached the providers, each with the dialect of its provider."""
    return [
        (PATHS[visit.path.rstrip("/").rpartition("/")[2]], visit.body)
        for visit in service.visits
        if name.encode() in visit.body
    ]


def signatures(lane: Lane, body: bytes) -> set[str]:
    """What the provider signed its thoughts with in its answer to this request."""
    answer = compose_answer(read_request(body, lane), {"thinking": ""})
    return {block.signature for block in answer.blocks if block.kind == "thinking"}


def offers_tools(body: bytes) -> bool:
    """Whether it is a turn of the conversation, and not a request for its title or its summary."""
    asked = json.loads(body)
    items = asked.get("input", ())
    return bool(asked.get("tools")) or any(item.get("type") == "additional_tools" for item in items)


def check(
    service: Running, name: str, start: Lane, models: Mapping[Lane, tuple[str, str]] = CHANGING
) -> bool:
    """Each provider got the turns before its own, and no other's signatures. Whether any got its own ones back."""
    bodies = [request for request in sent(service, name) if offers_tools(request[1])]
    each = 2  # requests a turn, for the tool and after it
    assert [lane for lane, _ in bodies] == [lane for lane in lanes_from(start) for _ in range(each)]
    made: dict[Lane, set[str]] = {lane: set() for lane in EVERY_LANE}
    back = False
    for number, (lane, body) in enumerate(bodies):
        text = body.decode()
        for earlier in range(number // each + 1):
            assert question(earlier, start) in text, (number, earlier)
        assert json.loads(body)["model"] == models[lane][1]
        assert json.loads(body)["stream"] is True
        for maker, signed in made.items():
            found = [signature for signature in signed if signature in text]
            assert not found or maker == lane, (number, maker)
            back |= bool(found)
        made[lane] |= signatures(lane, body)
    return back


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", [name for names in LIBRARIES.values() for name in names])
def test_a_library(conversations: Conversations, changing: Running, name: str, start: Lane) -> None:
    told = conversations.of(name, start)
    assert isinstance(told, list), told["error"]
    for turn in told:
        assert turn["tool"] == "weather"
        assert isinstance(turn["arguments"]["city"], str)
        assert turn["text"].startswith(AFTER_TOOL)
    assert check(changing, f"from {start}? (of-{name})", start) is (name not in FORGETFUL)
    _, last = sent(changing, f"from {start}? (of-{name})")[-1]
    assert last.count(b"Sunny.") == 4


@pytest.mark.parametrize("start", STARTS)
def test_claude_code(changing: Running, tmp_path: Path, start: Lane) -> None:
    user = changing.user("changing", f"changing-claude-{start}")
    settings = {"ANTHROPIC_BASE_URL": changing.base, "ANTHROPIC_AUTH_TOKEN": user.key}
    for number, lane in enumerate(lanes_from(start)):
        prompt = f"{question(number, start)} (of-claude)"
        options = ("--model", CHANGING[lane][0], *(("--continue",) if number else ()))
        result = claude(tmp_path, settings, prompt, *options)
        assert (result["is_error"], result["num_turns"]) == (False, 2), result
        assert result["result"].startswith(AFTER_TOOL)
    assert check(changing, f"from {start}? (of-claude)", start)
    assert {arrival.status for arrival in changing.of(user)} == {200}


CODEX = {
    "by-our-page": (CONFIG, CHANGING),
    "by-our-page-models-it-knows": (CONFIG, KNOWN_TO_CODEX),
    "in-place-of-openai-models-it-knows": (OPENAI_BASE_URL, KNOWN_TO_CODEX),
    "in-place-of-openai": (OPENAI_BASE_URL, CHANGING),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("way", sample(list(CODEX), 2))
def test_codex(changing: Running, tmp_path: Path, way: str, start: Lane) -> None:
    user = changing.user("changing", f"changing-codex-{way}-{start}")
    config, models = CODEX[way]
    for number, lane in enumerate(lanes_from(start)):
        prompt = f"{question(number, start)} (of-codex-{way})"
        resumed = ("resume", "--last") if number else ()
        model = models[lane][0]
        events = codex(tmp_path, changing.base, user.key, model, *resumed, prompt, config=config)
        assert events[-1]["type"] == "turn.completed", events
        assert "error" not in [event["type"] for event in events], "it is told of no second attempt"
        said = [event["item"] for event in events if event["type"] == "item.completed"]
        texts = [item["text"] for item in said if item["type"] == "agent_message"]
        assert texts[-1].startswith(AFTER_TOOL)
    assert check(changing, f"from {start}? (of-codex-{way})", start, models)
    _, last = sent(changing, f"from {start}? (of-codex-{way})")[-1]
    assert last.count(b"echo simulated") == 4
    arrivals = [(arrival.method, arrival.status) for arrival in changing.of(user)]
    turn = [("POST", 200), ("POST", 200)]
    # in place of OpenAI it asks for a WebSocket first, is told that there is none, and goes on at once
    assert arrivals == (turn if config is CONFIG else [("GET", 426), *turn]) * 4


OPENCODE_FORMATS = {
    "chat": "@ai-sdk/openai-compatible",
    "messages": "@ai-sdk/anthropic",
    "responses": "@ai-sdk/openai",
}
"""What opencode takes for each format; a session may change the format with the model."""


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("first", sample(list(OPENCODE_FORMATS), 1))
def test_opencode(changing: Running, tmp_path: Path, first: str, start: Lane) -> None:
    user = changing.user("changing", f"changing-opencode-{first}-{start}")
    models = [id for id, _ in (*CHANGING.values(), *ECHOING.values())]
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "small_model": f"chat/{ECHOING['chat'][0]}",
        "provider": {
            dialect: {
                "npm": package,
                "name": "Penstock",
                "options": {"baseURL": changing.base, "apiKey": user.key},
                "models": {id: {"name": id} for id in models},
            }
            for dialect, package in OPENCODE_FORMATS.items()
        },
    }
    work = tmp_path / "work"
    work.mkdir()
    (work / "opencode.json").write_text(json.dumps(settings))
    environ = {
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    }
    formats = [*OPENCODE_FORMATS, *OPENCODE_FORMATS, *OPENCODE_FORMATS]
    at = formats.index(first)
    for number, lane in enumerate(lanes_from(start)):
        prompt = f"{question(number, start)} (of-opencode-{first})"
        model = f"{formats[at + number]}/{CHANGING[lane][0]}"
        more = ["--continue"] if number else []
        out = run([str(OPENCODE), "run", "--format", "json", "--model", model, *more, prompt], environ, work)
        parts = [json.loads(line)["part"] for line in out.splitlines()]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        assert texts[-1].startswith(AFTER_TOOL)
        (used,) = [part for part in parts if part["type"] == "tool"]
        assert used["state"]["status"] == "completed"
    assert check(changing, f"from {start}? (of-opencode-{first})", start)
    assert {arrival.status for arrival in changing.of(user)} == {200}
    paths = {arrival.path for arrival in changing.of(user)}
    assert paths == {f"/api/v1/{path}" for path in ("chat/completions", "messages", "responses")}


@pytest.mark.parametrize("start", STARTS)
def test_aider(changing: Running, tmp_path: Path, start: Lane) -> None:
    """Aider has no tools; its models say in the text what is to be edited, and it edits."""
    user = changing.user("changing", f"changing-aider-{start}")
    lanes = lanes_from(start)
    turns = [(ECHOING[lane][0], question(number, start)) for number, lane in enumerate(lanes)]
    given = {"base": changing.base, "key": user.key, "turns": turns, "told": str(tmp_path / "told.json")}
    program("conversations_aider.py", given, tmp_path)
    told = json.loads((tmp_path / "told.json").read_text())
    assert sorted(told) == ["aider-anthropic", "aider-openai"]
    for name, conversation in told.items():
        assert isinstance(conversation, list), conversation["error"]
        for number, turn in enumerate(conversation):
            assert turn["said"]
            assert turn["notes"] == "".join(
                f"{line}\n" for line in ["begin", *(f"turn {at}" for at in range(number + 1))]
            )
        for number, lane in enumerate(lanes):
            assert sent(changing, f"{question(number, start)} (of-{name})")[0][0] == lane
    assert {arrival.status for arrival in changing.of(user)} == {200}
