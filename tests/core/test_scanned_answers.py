"""Whole answers that the scanner takes are metered and relayed as a decoder would have it."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Raw

from bench.mutations import Mutator
from penstock.core.body.python_scanner import scan_in_python
from penstock.core.body.scanner import Scanner, scan
from penstock.core.dialects.chat import response_schema
from penstock.core.dialects.chat.passthrough import passthrough_response
from penstock.core.dialects.chat.response_schema import Tokens, read_regular
from penstock.core.formats import embeddings

CHAT: list[Any] = [
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "up",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "é"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    },
    {"model": "up", "choices": [{"finish_reason": "error"}], "usage": {"prompt_tokens": 5}, "provider": "p"},
    {"model": "up", "choices": [], "usage": {}, "error": None},
    {"model": "pub", "choices": [{}], "usage": {"prompt_tokens": "5"}, "base_resp": {"status_code": 3}},
]
EMBEDDINGS: list[Any] = [
    {"object": "list", "model": "up", "data": [{"embedding": [0.5, -1e-3]}], "usage": {"prompt_tokens": 3}},
    {"model": "pub", "data": [{"embedding": "AAAA"}], "usage": {"total_tokens": 2, "prompt_tokens": "x"}},
    {"model": "up", "data": [{}]},
    {"data": [], "error": {"message": "no"}},
]


class Regular(msgspec.Struct):
    """What a regular answer of Chat is to a decoder."""

    model: str
    choices: Annotated[list[Raw], Meta(min_length=1)]
    usage: Tokens


decode_regular = msgspec.json.Decoder(Regular).decode
each_scanner = pytest.mark.parametrize("scanner", [scan, scan_in_python], ids=["built", "python"])


def damaged(seeds: list[Any]) -> Iterator[bytes]:
    mutator = Mutator(3)
    yield from (json.dumps(seed).encode() for seed in seeds)
    for at in range(200):
        yield mutator.broken(mutator.dumped(mutator.damaged(seeds[at % len(seeds)], seeds)))


def leave(data: bytes, start: int, end: int, rules: object) -> None:
    """A scanner that leaves every answer to the decoder."""


@each_scanner
def test_a_regular_answer_of_chat(scanner: Scanner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_schema, "scan", scanner)
    taken = 0
    for body in damaged(CHAT):
        found = read_regular(body)
        if found is not None:
            start, end, tokens = found
            regular = decode_regular(body)
            assert (json.loads(body[start:end]), tokens) == (regular.model, regular.usage)
            spliced = passthrough_response(body, model="our name")[0]
            assert json.loads(spliced) == {**json.loads(body), "model": "our name"}
            taken += 1
    assert taken > 10


@each_scanner
def test_an_answer_with_embeddings(scanner: Scanner, monkeypatch: pytest.MonkeyPatch) -> None:
    spliced = 0
    for body in damaged(EMBEDDINGS):
        for model in (None, "pub"):
            monkeypatch.setattr(embeddings, "scan", leave)
            decoded = embeddings.passthrough_response(body, model=model)
            monkeypatch.setattr(embeddings, "scan", scanner)
            assert embeddings.passthrough_response(body, model=model) == decoded, body
            spliced += decoded[0] not in (b"", body)
    assert spliced > 20


@pytest.mark.parametrize(
    ("seed", "relayed"),
    [(CHAT[0], passthrough_response), (EMBEDDINGS[0], embeddings.passthrough_response)],
    ids=["chat", "embeddings"],
)
def test_an_answer_that_has_our_name_already_is_not_copied(seed: dict[str, Any], relayed: Any) -> None:
    body = json.dumps({**seed, "model": "pub"}).encode()
    assert relayed(body, model="pub")[0] is body
    assert relayed(body, model=None)[0] is body
