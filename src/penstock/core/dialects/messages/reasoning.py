"""How a Messages upstream is asked to reason, by what its profile says it understands."""

from collections.abc import Callable
from typing import Any

from penstock.core.neutral.request import Effort, Request
from penstock.core.profile import Profile

Json = dict[str, Any]
"""An object about to be encoded; it never leaves the writer of a request."""

Lose = Callable[[str, str], None]
"""Takes a field and what became of it."""

_LEAST_BUDGET = 1024
_BUDGETS: dict[Effort, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32000,
    "max": 32000,
}


def thinking_for(
    request: Request, profile: Profile, max_tokens: int, messages: list[Json], lose: Lose
) -> tuple[Json | None, Effort | None]:
    """The ``thinking`` object, and the effort that goes into ``output_config``; ``messages`` are as they will be sent."""
    asked, effort = request.thinking, request.effort
    if asked is None and effort is None:
        return None, None
    off = effort == "none" or (asked is not None and asked.mode == "disabled")
    if profile.thinking == "none":
        if not off:
            lose("reasoning_effort", "dropped")
        return None, None
    if off:
        return {"type": "disabled"}, None
    shown: Json = {}
    wanted_shown = None if asked is None else asked.shown
    if wanted_shown is None and profile.thoughts_hidden:
        wanted_shown = True  # who asks for reasoning in another dialect wants to see it
    if wanted_shown is not None:
        shown = {"display": "summarized" if wanted_shown else "omitted"}
    budget = None if asked is None else asked.budget
    if profile.thinking == "adaptive":
        if budget is not None and effort is None:
            lose("thinking.budget_tokens", "effort")
            effort = _effort_for(budget)
        return {"type": "adaptive", **shown}, "low" if effort == "minimal" else effort
    if max_tokens <= _LEAST_BUDGET:
        lose("reasoning_effort", "dropped")
        return None, None
    if _mid_loop_without_thought(messages):
        # in this mode the turn that called the tool would have to begin with its own thought
        lose("reasoning_effort", "disabled")
        return None, None
    wanted = _BUDGETS[effort or "medium"] if budget is None else budget
    return {
        "type": "enabled",
        "budget_tokens": max(_LEAST_BUDGET, min(wanted, max_tokens - 1)),
        **shown,
    }, None


def _effort_for(budget: int) -> Effort:
    if budget <= 2048:
        return "low"
    if budget <= 8192:
        return "medium"
    return "high" if budget <= 24576 else "xhigh"


def _mid_loop_without_thought(messages: list[Json]) -> bool:
    """The last assistant message called a tool without a thought at its start, and the loop is still going."""
    if messages[-1]["role"] != "user" or messages[-1]["content"][0]["type"] != "tool_result":
        return False
    before = next((row for row in reversed(messages) if row["role"] == "assistant"), None)
    return before is not None and before["content"][0]["type"] not in ("thinking", "redacted_thinking")
