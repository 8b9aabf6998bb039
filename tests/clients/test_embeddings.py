"""Embeddings with real clients: the OpenAI SDKs in Python and JavaScript, LangChain, and the Vercel AI SDK."""

import json
import lzma
from collections.abc import Generator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from penstock.providers.simulator.embeddings import DIMENSIONS, vector
from tests.clients.installed import NODE, NODE_MODULES
from tests.clients.interpreter import run_python
from tests.clients.running import EMBEDDING, Running, User, running
from tests.clients.test_frameworks import HERE, python, run

pytestmark = [pytest.mark.xdist_group("frameworks"), pytest.mark.timeout(180)]

VOCABULARY = "fb374d419588a4632f3f557e76b4b70aebbca790"
"""The name under which tiktoken keeps the vocabulary o200k_base: LangChain sends the tokens of a text."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """A whole Penstock with an embedding model."""
    with running("chat", tmp_path_factory.mktemp("embeddings")) as service:
        yield service


@pytest.fixture(scope="module")
def user(service: Running) -> User:
    """Someone on a plan with an embedding model."""
    return service.user("embeddings", "embedder")


def given(service: Running, user: User, library: str = "") -> str:
    return json.dumps({"base": service.base, "key": user.key, "model": EMBEDDING, "library": library})


def near(numbers: list[float], text: str, dimensions: int = DIMENSIONS) -> bool:
    """Whether these are the simulator's for the text, as far as base64 carries them: 32 bits each."""
    return numbers == pytest.approx(vector(text, dimensions), abs=1e-6)


def test_openai_python(service: Running, user: User, tmp_path: Path) -> None:
    program = HERE / "programs" / "embedding_calls.py"
    result = json.loads(run_python("sdks", program, [given(service, user, "openai")], {}, tmp_path))
    hello = "(of-openai) Hello"
    for call in ("text", "floats"):
        assert result[call]["model"] == EMBEDDING
        (numbers,) = result[call]["vectors"]
        assert near(numbers, hello)
    assert [near(v, t) for v, t in zip(result["texts"]["vectors"], (hello, "there"), strict=True)] == [
        True,
        True,
    ]
    assert near(result["dimensions"]["vectors"][0], hello, 8)
    assert (len(result["tokens"]["vectors"]), result["tokens"]["tokens"]) == (2, 3)
    asked = service.heard("(of-openai)")
    assert [body.get("encoding_format") for body in asked] == [
        "base64",
        "base64",
        "float",
        "base64",
        "base64",
    ]
    assert {body["model"] for body in asked} == {"up-embedding"}
    assert (result["empty"]["class"], result["empty"]["param"]) == ("BadRequestError", "input")
    assert "input must not be empty" in result["empty"]["text"]
    assert "POST /chat/completions" in result["chat model"]["text"]
    assert (result["unknown"]["class"], result["unknown"]["code"]) == ("NotFoundError", "model_not_found")
    assert result["models"] == {EMBEDDING: "embedding", "claude-haiku-4.5": "chat"}


def test_langchain(service: Running, user: User, tmp_path: Path) -> None:
    """It cuts what is too long for the model into pieces, sends their token ids, and averages what comes back."""
    kept = files("penstock.tokens").joinpath("o200k_base.tiktoken.xz").read_bytes()
    (tmp_path / VOCABULARY).write_bytes(lzma.decompress(kept))
    environ = python(tmp_path) | {"TIKTOKEN_CACHE_DIR": str(tmp_path)}
    program = HERE / "programs" / "embedding_calls.py"
    told = run_python("frameworks", program, [given(service, user, "langchain")], environ, tmp_path)
    result = json.loads(told)
    documents = result["documents"]
    assert [len(numbers) for numbers in documents] == [16, 16, 16]
    assert documents[0] == result["query"]
    assert documents[0] != documents[1]
    for numbers in documents:
        assert sum(number * number for number in numbers) == pytest.approx(1, abs=1e-4)
    assert near(result["texts"][0], "(of-langchain) Hello")
    of_tokens = [body for body in service.heard('"dimensions":16') if isinstance(body["input"][0], list)]
    assert [len(ids) for ids in of_tokens[0]["input"]][:3] == [2, 2, 8191]
    assert len(of_tokens[0]["input"]) == 4


def test_javascript(service: Running, user: User, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    program = tmp_path / "embedding_calls.mjs"
    program.write_text((HERE / "programs" / program.name).read_text("utf-8"))
    node = [str(NODE), "--preserve-symlinks-main", str(program)]
    result: dict[str, Any] = json.loads(run([*node, given(service, user)], {}, tmp_path))
    sdk, hello = result["openai"], "(of-openai-js) Hello"
    assert near(sdk["text"]["vectors"][0], hello)
    assert near(sdk["floats"]["vectors"][0], hello)
    assert [near(v, t, 8) for v, t in zip(sdk["texts"]["vectors"], (hello, "there"), strict=True)] == [
        True,
        True,
    ]
    assert sdk["text"]["model"] == EMBEDDING
    assert (sdk["refused"]["status"], sdk["refused"]["param"]) == (400, "input")
    assert [body["encoding_format"] for body in service.heard("(of-openai-js)")] == [
        "base64",
        "base64",
        "float",
    ]
    for name in ("ai-sdk-openai", "ai-sdk-compatible"):
        hello = f"(of-{name}) Hello"
        assert near(result[name]["one"], hello)
        assert [near(v, t) for v, t in zip(result[name]["many"], (hello, "there"), strict=True)] == [
            True,
            True,
        ]
        assert result[name]["tokens"] > 0
    assert {arrival.status for arrival in service.of(user)} <= {200, 400, 404}
