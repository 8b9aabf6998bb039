"""Completions, images, speech, transcriptions and moderations with OpenAI's SDKs in Python and JavaScript, and rerank.

Cohere's and Jina's rerank have the same path and body; it is called as their documentation has it, by plain HTTP.
"""

import json
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from penstock.providers.simulator.formats import wave
from tests.clients.installed import NODE, NODE_MODULES
from tests.clients.interpreter import run_python
from tests.clients.running import Running, User, running
from tests.clients.test_frameworks import HERE, run

pytestmark = [pytest.mark.xdist_group("frameworks"), pytest.mark.timeout(180)]

SOUND = "2564 bytes of sound"
SAID = "(simulated:"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """A whole Penstock with a model of each kind."""
    with running("chat", tmp_path_factory.mktemp("formats")) as service:
        yield service


@pytest.fixture(scope="module")
def user(service: Running) -> User:
    """Someone on a plan with them."""
    return service.user("formats", "caller")


def test_openai_python(service: Running, user: User, tmp_path: Path) -> None:
    program = HERE / "programs" / "format_calls.py"
    told: dict[str, Any] = json.loads(run_python("sdks", program, [service.base, user.key], {}, tmp_path))
    model, text = told["completion"]
    assert (model, SAID in text, SAID in told["completion stream"]) == ("codestral", True, True)
    assert told["image"][0].startswith("iVBORw0K")
    assert len(told["image"]) == 2
    assert told["image stream"] == ["image_generation.partial_image", "image_generation.completed"]
    for name in ("transcription", "transcription text", "translation"):
        assert SOUND in told[name]
    assert told["transcription stream"] == "transcript.text.done"
    assert (told["speech type"], told["speech"]) == ("audio/wav", len(wave("")))
    assert told["moderation"] == [True, False]
    assert told["refused"] == [400, "prompt"]


def test_openai_javascript(service: Running, user: User, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    program = tmp_path / "format_calls.mjs"
    program.write_text((HERE / "programs" / program.name).read_text("utf-8"))
    node = [str(NODE), "--preserve-symlinks-main", str(program), service.base, user.key]
    told: dict[str, Any] = json.loads(run(node, {}, tmp_path))
    model, text = told["completion"]
    assert (model, SAID in text, SAID in told["completion stream"]) == ("codestral", True, True)
    assert told["image"][0].startswith("iVBORw0K")
    assert SOUND in told["transcription"]
    assert told["transcription stream"][-1] == "transcript.text.done"
    assert told["speech"] == len(wave(""))
    assert (told["moderation"], told["refused"]) == ([True], [400, "prompt"])


def test_rerank_as_cohere_and_jina_have_it(service: Running, user: User) -> None:
    body = {
        "model": "rerank-v3.5",
        "query": "What turns a mill?",
        "documents": ["Stone lies still", "Water turns a mill", {"text": "A mill"}],
        "top_n": 2,
        "return_documents": True,
    }
    request = urllib.request.Request(
        f"{service.base}/rerank",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {user.key}", "content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        told = json.load(answer)
    assert [result["index"] for result in told["results"]] == [1, 2]
    assert told["results"][0]["document"] == "Water turns a mill"
    assert told["results"][0]["relevance_score"] > told["results"][1]["relevance_score"]
    assert told["meta"]["tokens"]["input_tokens"] > 0
