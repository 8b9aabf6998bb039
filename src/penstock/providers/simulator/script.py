"""The script of a simulated answer: the same for the same request, plainly no model's words, and legal for what was asked."""

import base64
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal, cast

import msgspec

from penstock.providers.simulator.request import Ask, JsonValue, OfferedTool
from penstock.providers.simulator.schema_filler import filler

Reason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]

OPENING = "This answer is simulated by Penstock; no model has read the question."
AFTER_TOOL = "This answer is simulated by Penstock; the tool's result has arrived and no model has read it."
THOUGHT = "This reasoning is simulated: the question is hashed, and the hash picks the words."
FREE_TEXT = 'simulated free text, "quoted"\nand on a second line'
REFUSED = "This refusal is simulated by Penstock."

_WORDS = (
    "water", "gate", "turbine", "river", "valley", "stone", "bridge", "meadow", "harbour", "lantern",
    "copper", "window", "garden", "signal", "mountain", "paper", "silver", "morning", "compass", "orchard",
    "velvet", "thunder", "island", "ribbon", "marble", "forest", "anchor", "ember", "canyon", "willow",
)  # fmt: skip

_PROGRAM = 'text(await tools.exec_command({cmd: "echo simulated"}))'
"""Codex's tool exec takes a program that uses other tools."""

# Harmless calls of tools that are widely known; any other tool gets the smallest arguments that its schema allows.
_HARMLESS: Mapping[str, Mapping[str, JsonValue]] = {
    "Glob": {"pattern": "*.md"},
    "Bash": {"command": "echo simulated", "description": "Print one word"},
    "exec_command": {"cmd": "echo simulated"},
    "functions__exec": {"input": _PROGRAM},
    "shell": {"command": ["echo", "simulated"]},
    "bash": {"command": "echo simulated", "description": "Print one word"},
}


class Block(msgspec.Struct, frozen=True):
    """One block of the answer; ``pieces`` are what it is streamed as (a call's are its arguments)."""

    kind: Literal["thinking", "text", "call"]
    pieces: tuple[str, ...]
    id: str = ""
    name: str = ""
    signature: str = ""
    namespace: str | None = None
    custom: bool = False
    """A call with free text in place of arguments."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)


class AnswerScript(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, before it is put into a dialect."""

    id: str
    model: str
    blocks: tuple[Block, ...]
    reason: Reason
    stop_sequence: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    usage: bool = True
    """Whether the answer has token counts."""


def compose_answer(ask: Ask, scenarios: Mapping[str, str]) -> AnswerScript:
    """The answer to ``ask`` under these scenarios."""
    seed = blake2b(
        f"{ask.model}\n{ask.text}\n{ask.tool_answered}".encode("utf-8", "surrogatepass"), digest_size=32
    ).digest()
    blocks: list[Block] = []
    if "thinking" in scenarios or (ask.thinks and "ok" not in scenarios):
        shown = _pieces(f"{THOUGHT} {_sentence(seed[::-1], 12)}") if ask.thinking_shown else ()
        blocks.append(Block("thinking", shown, signature=_signature(seed)))
    calls = _calls(ask, scenarios, seed)
    reason: Reason = "end_turn"
    stopped: str | None = None
    text = "" if calls and ask.choice in ("any", "tool") else _text(ask, scenarios, seed, calling=bool(calls))
    if "refusal" in scenarios:
        text, calls, reason = REFUSED, [], "refusal"
    cut = [(text.find(stop), stop) for stop in ask.stop if stop and stop in text]
    if cut:
        at, stopped = min(cut)
        text, calls, reason = text[:at], [], "stop_sequence"
    if text:
        blocks.append(Block("text", _chunks(text) if "huge" in scenarios else _pieces(text)))
    if calls:
        blocks.extend(calls)
        reason = "tool_use"
    spent = sum(len(block.pieces) for block in blocks)
    if ask.max_tokens is not None and spent > ask.max_tokens:
        blocks, spent = _within(blocks, ask.max_tokens), ask.max_tokens
        reason, stopped = "max_tokens", None
    return AnswerScript(
        id=seed[:12].hex(),
        model=ask.model,
        blocks=tuple(blocks),
        reason=reason,
        stop_sequence=stopped,
        input_tokens=ask.input_tokens,
        cached_tokens=ask.cached_tokens,
        output_tokens=max(spent, 1),
        reasoning_tokens=sum(len(block.pieces) for block in blocks if block.kind == "thinking"),
        usage="no-usage" not in scenarios,
    )


# ---- words


def _sentence(seed: bytes, words: int) -> str:
    chosen = [_WORDS[seed[index % len(seed)] % len(_WORDS)] for index in range(words)]
    return " ".join(chosen).capitalize() + "."


def _text(ask: Ask, scenarios: Mapping[str, str], seed: bytes, *, calling: bool) -> str:
    if "echo" in scenarios:
        return ask.text
    if "empty-text" in scenarios:
        return ""
    if "huge" in scenarios:
        kilobytes = number(scenarios["huge"], 1024)
        return OPENING + " " + "simulated text. " * (kilobytes * 64)
    if ask.output_schema is not None:
        return msgspec.json.encode(filler(ask.output_schema)).decode()
    if ask.json_wanted:
        return msgspec.json.encode({"simulated": True}).decode()
    if calling:
        return "A simulated call of a tool:"
    words = number(scenarios.get("words", ""), 20 + seed[0] % 30)
    opening = AFTER_TOOL if ask.tool_answered else OPENING
    return opening if words == 0 else f"{opening} {_sentence(seed, words)}"


def number(argument: str, default: int) -> int:
    """A scenario's argument as a count; the default where it is no number."""
    return int(argument) if argument.isascii() and argument.isdigit() and len(argument) < 8 else default


def _pieces(text: str) -> tuple[str, ...]:
    """The text word by word, each with the space before it: what stands for tokens here."""
    pieces: list[str] = []
    start = 0
    for at in range(1, len(text)):
        if text[at] == " " and text[at - 1] != " ":
            pieces.append(text[start:at])
            start = at
    if text:
        pieces.append(text[start:])
    return tuple(pieces)


def _chunks(text: str) -> tuple[str, ...]:
    return tuple(text[at : at + 16384] for at in range(0, len(text), 16384))


def _signature(seed: bytes) -> str:
    return base64.b64encode(b"simulated-" + seed).decode()


def _within(blocks: Sequence[Block], most: int) -> list[Block]:
    """The blocks cut off after ``most`` pieces."""
    kept: list[Block] = []
    for block in blocks:
        if most <= 0:
            break
        kept.append(msgspec.structs.replace(block, pieces=block.pieces[:most]))
        most -= len(block.pieces)
    return kept


# ---- tools


def _calls(ask: Ask, scenarios: Mapping[str, str], seed: bytes) -> list[Block]:
    if (
        not ask.tools
        or ask.choice == "none"
        or ask.tool_answered
        or scenarios.keys() & {"ok", "echo", "huge"}
    ):
        return []
    wanted = ask.choice_name or scenarios.get("tool")
    if wanted is not None:
        tools = [tool for tool in ask.tools if wanted in (tool.name, f"{tool.namespace}__{tool.name}")]
    else:
        count = max(number(scenarios.get("tools", ""), 1), 1) if ask.parallel else 1
        known = [tool for name in _HARMLESS for tool in ask.tools if tool.name == name]
        order = [*known, *(tool for tool in ask.tools if tool not in known)]
        tools = [order[index % len(order)] for index in range(count)]
    return [_call(tool, index, seed) for index, tool in enumerate(tools)]


def _call(tool: OfferedTool, index: int, seed: bytes) -> Block:
    id = f"{seed[12:20].hex()}{index:02d}"
    if tool.custom:
        text = _PROGRAM if tool.name == "exec" else FREE_TEXT
        return Block("call", _pieces(text), id=id, name=tool.name, namespace=tool.namespace, custom=True)
    value: JsonValue = filler(tool.schema)
    harmless = _HARMLESS.get(tool.name)
    required = tool.schema.get("required")
    if (
        harmless is not None
        and isinstance(required, list)
        and set(cast("list[str]", required)) <= harmless.keys()
    ):
        value = harmless
    arguments = msgspec.json.encode(value if isinstance(value, dict) else {}).decode()
    third = max(len(arguments) // 3, 1)
    pieces = tuple(arguments[at : at + third] for at in range(0, len(arguments), third))
    return Block("call", pieces, id=id, name=tool.name, namespace=tool.namespace)
