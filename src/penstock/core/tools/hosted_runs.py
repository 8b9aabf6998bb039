"""Runs of tools that the provider ran, counted for the bill: out of a ``usage`` that says them, or by the tools' names."""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from penstock.core.neutral.usage import Special

_CLASSES: Final = {
    "web_search": "web_searches",
    "web_fetch": "web_fetches",
    "code_execution": "code_runs",
    "bash_code_execution": "code_runs",
    "text_editor_code_execution": "code_runs",
    "code_interpreter": "code_runs",
    "file_search": "file_searches",
}
"""The class that each tool's runs are counted in; any other's are ``other_tool_runs``."""
_SUFFIX: Final = "_requests"
_MOST: Final = 2**40
_members = msgspec.json.Decoder(dict[str, object]).decode


def read_tool_use(raw: Raw) -> dict[str, int] | None:
    """The runs of each tool by a ``server_tool_use``: ``{"web_search_requests": 2}``; None where there is none.

    Anthropic's SDK 2.12, ``ServerToolUsage``; OpenRouter's documentation, "Usage accounting"; read 2026-11-30.
    """
    if len(raw) <= len("null"):
        return None
    try:
        members = _members(raw)
    except (ValueError, RecursionError):
        return None
    return {
        name.removesuffix(_SUFFIX): value
        for name, value in members.items()
        if name.endswith(_SUFFIX)
        and isinstance(value, int)
        and not isinstance(value, bool)
        and 0 <= value <= _MOST
    }


def runs_of(names: Iterable[str]) -> dict[str, int]:
    """How often each name is there."""
    runs: dict[str, int] = {}
    for name in names:
        runs[name] = runs.get(name, 0) + 1
    return runs


def special_of(runs: dict[str, int], service_tier: str = "") -> Special | None:
    """The runs by their classes; None where there are none, and no tier."""
    counts: dict[str, int] = {}
    for name, number in runs.items():
        where = _CLASSES.get(name, "other_tool_runs")
        counts[where] = min(counts.get(where, 0) + number, _MOST)
    if not service_tier and not any(counts.values()):
        return None
    return Special(
        service_tier,
        web_searches=counts.get("web_searches", 0),
        web_fetches=counts.get("web_fetches", 0),
        code_runs=counts.get("code_runs", 0),
        file_searches=counts.get("file_searches", 0),
        other_tool_runs=counts.get("other_tool_runs", 0),
    )
