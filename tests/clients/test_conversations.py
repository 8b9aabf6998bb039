"""Conversations whose model changes at every turn, through every client: over providers of all three dialects, and back.

In each turn the model thinks, asks for a tool, and answers after its result, all of it streamed. A library has one process
for all of its conversations; what each provider was sent is looked at here.
"""

import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from penstock.providers.simulator.request import SimulatedDialect, read_request
from penstock.providers.simulator.script import AFTER_TOOL, compose_answer
from tests.clients.claude_code import claude
from tests.clients.codex import codex
from tests.clients.installed import NODE, NODE_MODULES, OPENCODE, python_path
from tests.clients.running import CHANGING, ECHOING, EVERY_LANE, Lane, Running, User
from tests.clients.test_frameworks import HERE, run
from tests.samples import sample

pytestmark = [pytest.mark.xdist_group("conversations"), pytest.mark.timeout(300)]

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
PACKAGES = {"conversations.py": "frameworks", "conversations_llama_index.py": "llama-index"}
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
    environ = {
        **python_path(PACKAGES[name]),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LLM_USER_PATH": str(folder),
    }
    return run([sys.executable, str(HERE / "programs" / name), told], environ, folder)


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
    answer = compose_answer(read_request(body, cast("SimulatedDialect", lane)), {"thinking": ""})
    return {block.signature for block in answer.blocks if block.kind == "thinking"}


def check(service: Running, name: str, start: Lane, *, requests: int = 2) -> None:
    """Each provider got the turns before its own, and no other's signatures."""
    bodies = sent(service, name)
    lanes = lanes_from(start)
    assert [lane for lane, _ in bodies] == [lane for lane in lanes for _ in range(requests)]
    made: dict[Lane, set[str]] = {lane: set() for lane in EVERY_LANE}
    for number, (lane, body) in enumerate(bodies):
        turn = number // requests
        for earlier in range(turn + 1):
            assert question(earlier, start) in body.decode(), (number, earlier)
        assert json.loads(body)["model"] == CHANGING[lane][1]
        assert json.loads(body)["stream"] is True
        foreign = set[str]().union(*(made[other] for other in EVERY_LANE if other != lane))
        assert [one for one in foreign if one in body.decode()] == []
        made[lane] |= signatures(lane, body)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", [name for names in LIBRARIES.values() for name in names])
def test_a_library(conversations: Conversations, changing: Running, name: str, start: Lane) -> None:
    told = conversations.of(name, start)
    assert isinstance(told, list), told["error"]
    for turn in told:
        assert turn["tool"] == "weather"
        assert isinstance(turn["arguments"]["city"], str)
        assert turn["text"].startswith(AFTER_TOOL)
    check(changing, f"from {start}? (of-{name})", start)
    _, last = sent(changing, f"from {start}? (of-{name})")[-1]
    assert last.count(b"Sunny.") == 4
