"""How a Chat upstream is asked for tools, reasoning and a form of answer, each by the habits of its profile."""

from collections.abc import Callable
from typing import assert_never, cast

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from penstock.core.body.value_limits import real
from penstock.core.neutral.request import Effort, OutputFormat, Request, Thinking, ToolChoice
from penstock.core.profile import Profile

Lose = Callable[[str, str], None]
"""Takes a field and what became of it."""

_ONLY_SCHEMA = (
    "Answer with one JSON object and nothing else, with no code fence. It must fit this JSON Schema:\n"
)
_SCHEMA_MAPS = ("properties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "allOf", "oneOf")

_decode = msgspec.json.Decoder(float_hook=real).decode


class Form(msgspec.Struct, frozen=True):
    """How an answer's form is asked for: ``format`` is ``response_format``, ``instruction`` goes into the prompt."""

    format: dict[str, object] | None = None
    instruction: str | None = None


def answer_format(output: OutputFormat | None, profile: Profile, lose: Lose) -> Form:
    """The form of answer that ``output`` wants."""
    if output is None:
        return Form()
    if output.schema is None:
        return Form({"type": "json_object"})
    if not profile.json_schema:
        lose("output_config.format", "prompted")
        return Form({"type": "json_object"}, _ONLY_SCHEMA + bytes(output.schema).decode())
    schema: dict[str, object] = {"name": output.name or "output"}
    if output.description is not None:
        schema["description"] = output.description
    schema["schema"] = output.schema
    if output.strict is not False and strict_fits(output.schema):
        schema["strict"] = True
    elif output.strict:
        lose("output_config.format.strict", "dropped")
    return Form({"type": "json_schema", "json_schema": schema})


def unforced(request: Request, profile: Profile, lose: Lose) -> Request:
    """The request without what excludes itself where a model that reasons cannot be made to call a tool.

    Where only ``auto`` is taken, ``none`` means that no tools are offered. Reasoning that nobody asked for gives way; of
    two wishes the forced call does.
    """
    choice = request.tool_choice
    if not profile.forced_tools and choice is not None and choice.mode != "auto":
        if choice.mode == "none":
            return replace(request, tools=(), tool_choice=None)
        lose("tool_choice", "auto")
        return replace(request, tool_choice=ToolChoice("auto"))
    if profile.forced_while_thinking or choice is None or choice.mode not in {"any", "tool"}:
        return request
    thinking, effort = request.thinking, request.effort
    if (thinking is not None and thinking.mode == "disabled") or effort == "none":
        return request
    if thinking is not None or effort is not None:
        lose("tool_choice", "auto")
        return replace(request, tool_choice=ToolChoice("auto"))
    if profile.thinks_by_default:
        lose("effort", "disabled")
        return replace(request, thinking=Thinking("disabled"))
    return request


def choice(request: Request) -> str | dict[str, object] | None:
    """The ``tool_choice``, or None for none."""
    wanted = request.tool_choice
    if wanted is None:
        return None
    match wanted.mode:
        case "auto" | "none":
            return wanted.mode
        case "any":
            return "required"
        case "tool":
            return {"type": "function", "function": {"name": wanted.name or ""}}
        case _:
            assert_never(wanted.mode)


def reasoning(request: Request, profile: Profile, lose: Lose) -> dict[str, object]:
    """The fields that ask for more or less reasoning."""
    thinking = request.thinking
    effort = request.effort
    asked: dict[str, object] = {}
    if thinking is None and effort is None:
        return asked
    off = thinking is not None and thinking.mode == "disabled"
    if thinking is not None:
        match profile.thinking_switch:
            case "thinking":
                asked["thinking"] = {"type": "disabled" if off else "enabled"}
            case "enable_thinking":
                asked["enable_thinking"] = not off
                if thinking.budget is not None:
                    asked["thinking_budget"] = thinking.budget
            case "none":
                pass
            case _:
                assert_never(profile.thinking_switch)
    if off:
        effort = "none"
    elif effort is None and thinking is not None and thinking.budget is not None:
        effort = effort_for(thinking.budget)
    if profile.reasoning_effort:
        if effort is not None and not (off and profile.thinking_switch != "none"):
            asked["reasoning_effort"] = known = nearest(effort, profile)
            if known != effort:
                lose("effort", "nearest")
    else:
        if request.effort is not None:
            lose("effort", "dropped")
        if thinking is not None and not asked:
            lose("thinking", "dropped")
    return asked


_EFFORTS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def nearest(effort: Effort, profile: Profile) -> Effort:
    """The effort that the model knows and that is nearest to the one asked for."""
    least, most = _EFFORTS.index(profile.least_effort), _EFFORTS.index(profile.most_effort)
    return _EFFORTS[min(max(_EFFORTS.index(effort), least), most)]


def effort_for(budget: int) -> Effort:
    """The nearest effort for a budget in tokens."""
    if budget <= 2048:
        return "low"
    if budget <= 8192:
        return "medium"
    return "high" if budget <= 24576 else "xhigh"


def strict_fits(schema: Raw) -> bool:
    """Whether a schema is in the subset that strict mode takes: closed objects with every property required."""
    try:
        root: object = _decode(schema)
    except (ValueError, RecursionError):
        return False
    if not isinstance(root, dict):
        return False
    members = cast("dict[str, object]", root)
    return members.get("type") == "object" and _closed(members)


def _closed(value: object) -> bool:
    if not isinstance(value, dict):
        return True
    schema = cast("dict[str, object]", value)
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if schema.get("additionalProperties") is not False:
            return False
        if not isinstance(properties, dict) or not isinstance(required, list):
            return False
        if {*cast("dict[str, object]", properties)} != {*map(str, cast("list[object]", required))}:
            return False
    inner: list[object] = [schema["items"]] if "items" in schema else []
    for key in _SCHEMA_MAPS:
        members = schema.get(key)
        if isinstance(members, dict):
            inner += cast("dict[str, object]", members).values()
    for key in _SCHEMA_LISTS:
        variants = schema.get(key)
        if isinstance(variants, list):
            inner += cast("list[object]", variants)
    return all(_closed(item) for item in inner)
