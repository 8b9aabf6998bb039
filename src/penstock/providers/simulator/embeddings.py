"""The simulator's embeddings: unit vectors that are hashes of their inputs, the same for the same input, and of no meaning."""

import base64
import struct
from collections.abc import Mapping
from hashlib import shake_256
from math import sqrt
from typing import Literal, cast

import msgspec

from penstock.providers.simulator.request import JsonValue, Unreadable, decode_object

DIMENSIONS = 256
"""Numbers of a vector, where the request names none."""
_MAX_DIMENSIONS = 4096
_CHARACTERS_PER_TOKEN = 4
_DECIMALS = 8

_encode = msgspec.json.Encoder().encode


class EmbeddingAsk(msgspec.Struct, frozen=True):
    """The parts of a request that decide the answer: ``inputs`` are texts or lists of token ids."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int
    encoding: Literal["float", "base64"]

    @property
    def tokens(self) -> int:
        """How many tokens the inputs are, about."""
        return sum(
            max(len(each) // _CHARACTERS_PER_TOKEN, 1) if isinstance(each, str) else len(each)
            for each in self.inputs
        )


def read_embedding_request(body: bytes) -> EmbeddingAsk:
    """What the request asks. Raises ``Unreadable``."""
    fields = decode_object(body)
    model, dimensions = fields.get("model"), fields.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or not 0 < dimensions <= _MAX_DIMENSIONS):
        raise Unreadable(f"dimensions must be between 1 and {_MAX_DIMENSIONS}")
    return EmbeddingAsk(
        model=model if isinstance(model, str) else "simulator",
        inputs=_inputs(fields.get("input")),
        dimensions=DIMENSIONS if dimensions is None else dimensions,
        encoding="base64" if fields.get("encoding_format") == "base64" else "float",
    )


def _inputs(value: JsonValue) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(value, str):
        return (value,)
    entries = cast("list[JsonValue]", value) if isinstance(value, list) else []
    if entries and all(isinstance(entry, int) for entry in entries):
        return (tuple(cast("list[int]", entries)),)
    return tuple(
        tuple(cast("list[int]", entry)) if isinstance(entry, list) else str(entry) for entry in entries
    )


def embeddings_answer(ask: EmbeddingAsk, scenarios: Mapping[str, str]) -> bytes:
    """The answer as one JSON body."""
    answer: dict[str, JsonValue] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(vector(each, ask.dimensions), ask)}
            for index, each in enumerate(ask.inputs)
        ],
        "model": ask.model,
    }
    if "no-usage" not in scenarios:
        answer["usage"] = {"prompt_tokens": ask.tokens, "total_tokens": ask.tokens}
    return _encode(answer)


def vector(text: str | tuple[int, ...], dimensions: int) -> list[float]:
    """The unit vector of one input."""
    seed = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else _encode(text)
    drawn = struct.unpack(f"<{dimensions}h", shake_256(seed).digest(2 * dimensions))
    length = sqrt(sum(number * number for number in drawn)) or 1.0
    return [round(number / length, _DECIMALS) for number in drawn]


def _written(numbers: list[float], ask: EmbeddingAsk) -> JsonValue:
    if ask.encoding == "float":
        return numbers
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
