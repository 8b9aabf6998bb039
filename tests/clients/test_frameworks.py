"""What people build on the SDKs: LangChain, LiteLLM's client, pydantic-ai, the Vercel AI SDK and llm.

Each has a conversation with a tool and reads a stream, over a messages upstream and over a chat upstream.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from penstock.providers.simulator.script import AFTER_TOOL, OPENING
from tests.clients.installed import NODE, NODE_MODULES, QUIET, search_path
from tests.clients.interpreter import run_python
from tests.clients.running import Running, User

pytestmark = pytest.mark.xdist_group("frameworks")

HERE = Path(__file__).parent
MODEL = "claude-sonnet-4.6"
PYTHON = (
    "langchain-openai", "langchain-responses", "langchain-anthropic", "litellm-openai", "litellm-anthropic",
    "pydantic-ai-openai", "pydantic-ai-responses", "pydantic-ai-anthropic",
)  # fmt: skip
JAVASCRIPT = ("ai-sdk-responses", "ai-sdk-openai", "ai-sdk-anthropic", "ai-sdk-compatible")


def run(command: list[str], environ: dict[str, str], folder: Path) -> str:
    """What a program prints, in a home of its own and with no way out but to this machine."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": search_path(), "HOME": str(folder), **QUIET, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(folder: Path) -> dict[str, str]:
    """What a Python program that uses the packages installed apart finds in its environment."""
    return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LLM_USER_PATH": str(folder)}


def perform(language: str, service: Running, user: User, folder: Path) -> dict[str, Any]:
    """Have a program make all its calls."""
    given = json.dumps({"base": service.base, "key": user.key, "model": MODEL})
    if language == "python":
        program = HERE / "programs" / "framework_calls.py"
        return json.loads(run_python("frameworks", program, [given], python(folder), folder))
    # Node looks for packages beside and above the program.
    (folder / "node_modules").symlink_to(NODE_MODULES)
    program = folder / "ai_sdk_calls.mjs"
    program.write_text((HERE / "programs" / program.name).read_text("utf-8"))
    return json.loads(run([str(NODE), "--preserve-symlinks-main", str(program), given], {}, folder))


@pytest.fixture(scope="session")
def results(penstock: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each library got; each language's program has run once on this service."""
    user = penstock.user("pro", "frameworks")
    return {
        name: result
        for language in ("python", "javascript")
        for name, result in perform(language, penstock, user, tmp_path_factory.mktemp(language)).items()
    }


@pytest.mark.timeout(600)  # the first of them waits for two programs and their imports
@pytest.mark.parametrize("name", [*PYTHON, *JAVASCRIPT])
def test_a_library(penstock: Running, results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert result["tool"] == "weather"
    assert isinstance(result["arguments"]["city"], str)
    assert result["text"].startswith(AFTER_TOOL)
    assert result["streamed"].startswith(OPENING)
    assert result["tokens"] > 0
    heard = penstock.heard(f"(of-{name})")
    assert len(heard) == 3, "the question, the tool's result, the stream"
    assert "Sunny." in json.dumps(heard[1])


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["streamed", "whole"])
def test_llm(penstock: Running, tmp_path: Path, more: list[str]) -> None:
    user = penstock.user("pro", f"llm-{len(more)}")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {penstock.base}\n  api_key_name: ours\n"
    )
    program = "import runpy\nimport llm.cli\nrunpy.run_module('llm', run_name='__main__', alter_sys=True)"
    told = run_python(
        "frameworks",
        program,
        ["-m", "ours", "--key", user.key, *more, "Hello"],
        python(tmp_path),
        tmp_path,
    )
    assert told.startswith(OPENING)
    assert [arrival.status for arrival in penstock.of(user)] == [200]
