"""Encodes a neutral request as a Messages request for one upstream.

Deterministic: the same request gives the same bytes, and the messages of turn N are a prefix of those of turn N + 1,
because prompt caches and preserved thinking depend on it. ``model``, ``system`` and ``tools`` come before ``messages``.
"""

from collections.abc import Callable, Sequence
from typing import Any, assert_never

import msgspec
from msgspec import Raw

from penstock.core.body.nesting import is_object
from penstock.core.dialects.messages.hosted_tools import raw_blocks
from penstock.core.dialects.messages.json_schema_subset import fit_schema
from penstock.core.dialects.messages.request_schema import CALL_ID_LIMIT
from penstock.core.dialects.openai.effort import nearest
from penstock.core.neutral.request import (
    BILLING_PREFIX,
    AnyPart,
    CacheTtl,
    Document,
    Effort,
    Hosted,
    Image,
    Loss,
    OutputFormat,
    Request,
    Role,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from penstock.core.profile import Profile
from penstock.core.reasoning import signature
from penstock.core.tools import call_ids
from penstock.core.tools.hosted import told
from penstock.core.tools.schema_subset import fit_tool_schema
from penstock.errors import InvalidRequest

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
    if off and profile.thinking_off == "none":
        lose("reasoning_effort", "nearest")
        return {"type": "adaptive"}, "low"
    if off:
        return {"type": profile.thinking_off}, None
    shown: Json = {}
    wanted_shown = None if asked is None else asked.shown
    if wanted_shown is None and profile.thoughts_hidden:
        wanted_shown = True  # who asks for reasoning in another dialect wants to see it
    if wanted_shown is not None:
        shown = {"display": "summarized" if wanted_shown else "omitted"}
    budget = None if asked is None else asked.budget
    if profile.thinking in ("adaptive", "effort"):
        if budget is not None and effort is None:
            lose("thinking.budget_tokens", "effort")
            effort = _effort_for(budget)
        kind = "adaptive" if profile.thinking == "adaptive" else "enabled"
        return {"type": kind, **shown}, _known_effort(effort, profile, lose)
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


def _known_effort(effort: Effort | None, profile: Profile, lose: Lose) -> Effort | None:
    """The nearest effort that the model knows."""
    if effort is None or not profile.efforts:
        return "low" if effort == "minimal" else effort
    known = nearest(effort, profile)
    if known != effort:
        lose("reasoning_effort", "nearest")
    return known


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


_encode = msgspec.json.Encoder().encode

_IMAGE_TYPES = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_SEARCH: Json = {"type": "web_search_20250305", "name": "web_search"}
_ONLY_JSON = "Answer with one JSON object and nothing else: no words around it and no code fence."
_ONLY_SCHEMA = (
    "Answer with one JSON object and nothing else, with no code fence. It must fit this JSON Schema:\n"
)


def encode_request(request: Request, *, model: str, profile: Profile) -> tuple[bytes, list[Loss]]:
    """The body for ``model`` (the upstream's own id) and what of the request it does not say.

    Raises ``InvalidRequest`` where the request cannot be said at all.
    """
    return RequestWriter(profile).request(request, model)


class RequestWriter:
    """One request being written; collects losses, each once and in order."""

    __slots__ = ("_ids", "_open", "_seen", "losses", "profile")

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.losses: dict[Loss, None] = {}
        self._ids: dict[str, str] = {}
        """By the id that a call came with, the one by which it, or the last of its name, went out."""
        self._seen: dict[str, int] = {}
        """How often an id has gone out, or was begun with."""
        self._open: dict[str, list[str]] = {}
        """The calls of the last reply that have no result yet, by the id that they came with."""

    def lose(self, field: str, outcome: str = "dropped") -> None:
        self.losses[Loss(field, outcome)] = None

    def request(self, request: Request, model: str) -> tuple[bytes, list[Loss]]:
        max_tokens = self.profile.default_max_tokens if request.max_tokens is None else request.max_tokens
        system, turns = _split_system(request.turns)
        blocks = [block for part in system if (block := self.system_block(part)) is not None]
        output = self.output(request.output, blocks)
        messages, written = self.conversation(turns)
        if not messages:
            raise InvalidRequest("messages must hold a message of the user.", param="messages")
        thinking, effort = thinking_for(request, self.profile, max_tokens, messages, self.lose)
        if not self.profile.forced_tools and _forces(request):
            self.lose("tool_choice", "auto")
            request = msgspec.structs.replace(request, tool_choice=ToolChoice("auto"))
        default = self.profile.thinks_by_default
        if _forces(request) and (default if thinking is None else thinking["type"] != "disabled"):
            # a call cannot be forced while it reasons, and the call is what the caller cannot do without
            self.lose("reasoning_effort", "disabled")
            thinking, effort = {"type": "disabled"} if default else None, None
        if effort is not None:
            output = {"effort": effort, **output}
        body: Json = {"model": model}
        if blocks:
            body["system"] = blocks
        if request.tools or request.web_search:
            body["tools"] = self.tools(request)
        body["messages"] = written
        body["max_tokens"] = max_tokens
        choice = self.tool_choice(request)
        if choice is not None:
            body["tool_choice"] = choice
        if thinking is not None:
            body["thinking"] = thinking
        if output:
            body["output_config"] = output
        self.sampling(request, body, thinks=thinking is not None and thinking["type"] != "disabled")
        stop = [text for text in request.stop if text.strip()]
        if len(stop) < len(request.stop):
            self.lose("stop", "reduced")
        if stop:
            body["stop_sequences"] = stop
        self.without(request)
        if request.user is not None:
            body["metadata"] = {"user_id": request.user}
        if request.stream or max_tokens > self.profile.longest_whole:
            body["stream"] = True
        return _encode(body), list(self.losses)

    def without(self, request: Request) -> None:
        """Tell of what OpenAI's formats have and this one has not."""
        for name, value in (
            ("verbosity", request.verbosity),
            ("service_tier", request.service_tier),
            ("prompt_cache_key", request.cache_key),
            ("prompt_cache_retention", request.cache_retention),
            ("metadata", request.metadata),
            ("logprobs", request.logprobs or None),
            ("top_logprobs", request.top_logprobs or None),
        ):
            if value is not None:
                self.lose(name)

    # ---- system

    def system_block(self, part: AnyPart) -> Json | None:
        if not isinstance(part, Text):
            raise InvalidRequest("A system message holds text only.", param="messages")
        if not part.text.strip() or (
            part.text.startswith(BILLING_PREFIX) and not self.profile.native_anthropic
        ):
            return None
        return _cached({"type": "text", "text": part.text}, part.cache)

    def output(self, output: OutputFormat | None, system: list[Json]) -> Json:
        """The ``output_config`` for a format; where there is none for it, an instruction is added to ``system``."""
        if output is None:
            return {}
        if output.schema is None:
            self.lose("response_format", "instructed")
            system.append({"type": "text", "text": _ONLY_JSON})
            return {}
        if not self.profile.structured_output:
            self.lose("response_format", "instructed")
            system.append({"type": "text", "text": _ONLY_SCHEMA + bytes(output.schema).decode()})
            return {}
        schema, changed = fit_schema(bytes(output.schema))
        if changed:
            self.lose("response_format.json_schema.schema", "adapted")
        return {"format": {"type": "json_schema", "schema": Raw(schema)}}

    # ---- messages

    def conversation(self, turns: list[Turn]) -> tuple[list[Json], object]:
        """The last messages, from one of the assistant's on where there is one, and all of them to be encoded."""
        messages = self.messages(turns)
        self.end(messages)
        return messages, messages

    def messages(self, turns: Sequence[Turn]) -> list[Json]:
        messages: list[Json] = []
        for role, parts in self.arranged(turns):
            if role == "assistant":
                self._open.clear()
            blocks = [block for part in parts for block in self.blocks(part)]
            if blocks:
                messages.append({"role": role, "content": blocks})
        return messages

    def end(self, messages: list[Json]) -> None:
        last = messages[-1] if messages else None
        if last is not None and last["role"] == "assistant" and last["content"][-1]["type"] == "text":
            # a reply to be continued may not end in white space
            last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()

    def arranged(self, turns: Sequence[Turn]) -> list[tuple[Role, list[AnyPart]]]:
        """The turns as messages: system turns kept or wrapped, tool results of one turn together and first."""
        rows: list[tuple[Role, list[AnyPart]]] = []
        joins = False  # whether the next user turn continues the row before it
        for at, turn in enumerate(turns):
            if turn.role == "system":
                texts = [part for part in turn.parts if isinstance(part, Text) and part.text.strip()]
                if not texts:
                    continue
                if self.profile.system_turns and _may_stand(turns, at):
                    if rows and rows[-1][0] == "system":
                        rows[-1][1].extend(texts)
                    else:
                        rows.append(("system", list[AnyPart](texts)))
                    continue
                self.lose("messages.system", "wrapped")
                wrapped = [Text(f"<system>\n{part.text}\n</system>", part.cache) for part in texts]
                if rows and rows[-1][0] == "user":
                    rows[-1][1].extend(wrapped)
                else:
                    rows.append(("user", list[AnyPart](wrapped)))
                joins = True
                continue
            has_results = any(isinstance(part, ToolResult) for part in turn.parts)
            joined = turn.role == "user" and bool(rows) and rows[-1][0] == "user" and (joins or has_results)
            if joined:
                rows[-1][1].extend(turn.parts)
            else:
                rows.append((turn.role, list(turn.parts)))
            joins = turn.role == "user" and (has_results or joined)
        for role, parts in rows:
            if role == "user":
                parts.sort(key=lambda part: not isinstance(part, ToolResult))
        return rows

    def blocks(self, part: AnyPart) -> list[Json]:
        """A part as blocks: what a tool of the provider did is two of them where that is its own, elsewhere text."""
        if isinstance(part, Hosted) and part.raw and (made := raw_blocks(part)):
            *before, last = made
            return [*before, _cached(last, part.cache)]
        block = self.block(part)
        return [] if block is None else [block]

    def block(self, part: AnyPart) -> Json | None:
        match part:
            case Hosted():
                return _cached({"type": "text", "text": told(part)}, part.cache)
            case Text(text, cache):
                return _cached({"type": "text", "text": text}, cache) if text.strip() else None
            case Image():
                return self.image(part)
            case Document():
                return self.document(part)
            case Thought():
                return self.thought(part)
            case ToolCall():
                return self.call(part)
            case ToolResult():
                return self.result(part)
            case _:
                assert_never(part)

    def image(self, image: Image) -> Json:
        if image.detail is not None and image.detail != "auto":
            self.lose("messages.image_url.detail")
        if image.url is not None:
            return _cached({"type": "image", "source": {"type": "url", "url": image.url}}, image.cache)
        if image.media_type not in _IMAGE_TYPES:
            raise InvalidRequest("An image must be JPEG, PNG, GIF or WebP for this model.", param="messages")
        source = {"type": "base64", "media_type": image.media_type, "data": image.data or ""}
        return _cached({"type": "image", "source": source}, image.cache)

    def document(self, document: Document) -> Json:
        media_type = document.media_type or ""
        if document.url is not None:
            source = {"type": "url", "url": document.url}
        elif media_type == "application/pdf":
            source = {"type": "base64", "media_type": media_type, "data": document.data or ""}
        elif media_type.startswith("text/"):
            source = {"type": "text", "media_type": "text/plain", "data": document.data or ""}
        else:
            raise InvalidRequest("A file must be a PDF or plain text for this model.", param="messages")
        block: Json = {"type": "document", "source": source}
        if document.title:
            block["title"] = document.title
        return _cached(block, document.cache)

    def thought(self, thought: Thought) -> Json | None:
        """Anthropic checks signatures, so only its own go there; others get the text and what was theirs."""
        if thought.redacted is not None:
            if signature.is_ours(thought.redacted):  # another provider's
                self.lose("messages.redacted_thinking")
                return None
            return {"type": "redacted_thinking", "data": thought.redacted}
        signed = thought.signature
        if self.profile.native_anthropic:
            if signed is None or signature.is_ours(signed):
                self.lose("messages.thinking")
                return None
        elif signed is None or signature.is_ours(signed):
            signed = ""
            if not thought.text:
                return None
        return {"type": "thinking", "thinking": thought.text, "signature": signed}

    def call(self, call: ToolCall) -> Json:
        """Ids are made legal, and unique in the request: some clients count ``call_0`` anew in every turn."""
        block: Json = {
            "type": "tool_use",
            "id": self.called(_legal_id(call.id)),
            "name": call.name,
            "input": self.arguments(call),
        }
        return _cached(block, call.cache)

    def called(self, id: str) -> str:
        """The id by which a call goes out: no two calls of a conversation may have one."""
        nth = self._seen.get(id, 0) + 1
        name = id if nth == 1 else call_ids.distinct(id, nth)
        while nth > 1 and name in self._seen:
            nth += 1
            name = call_ids.distinct(id, nth)
        self._seen[id] = nth
        self._seen.setdefault(name, 1)
        self._ids[id] = name
        self._open.setdefault(id, []).append(name)
        return name

    def answered(self, id: str) -> str:
        """The id of the call that a result is of: of several of one id the first that has none yet."""
        open_ones = self._open.get(id)
        if not open_ones:
            return self._ids.get(id, id)
        return open_ones[0] if len(open_ones) == 1 else open_ones.pop(0)

    def arguments(self, call: ToolCall) -> Raw:
        arguments = call.arguments.strip().encode()
        if not arguments:
            return Raw(b"{}")
        if not is_object(arguments):
            # a broken call of the past must not wedge the session
            self.lose("messages.tool_calls.function.arguments", "wrapped")
            return Raw(_encode({"__raw_arguments": call.arguments}))
        return Raw(arguments)

    def result(self, result: ToolResult) -> Json:
        id = _legal_id(result.call_id)
        block: Json = {"type": "tool_result", "tool_use_id": self.answered(id)}
        content = [inner for part in result.parts if (inner := self.block(part)) is not None]
        if content:
            block["content"] = content
        if result.is_error:
            block["is_error"] = True
        return _cached(block, result.cache)

    # ---- tools

    def tools(self, request: Request) -> object:
        tools = [self.tool(tool) for tool in request.tools]
        return [*tools, _SEARCH] if request.web_search else tools

    def tool(self, tool: Tool) -> Json:
        block: Json = {"name": tool.name}
        fitted = fit_tool_schema(tool.schema, self.profile.tool_schemas)
        schema, changed = bytes(fitted.schema), fitted.changed
        strict = bool(tool.strict) and self.profile.native_anthropic
        if strict:
            # strict tools are held to the same subset as structured output
            schema, narrowed = fit_schema(schema)
            changed = changed or narrowed
        description = fitted.described(tool.description)
        if description:
            block["description"] = description
        block["input_schema"] = Raw(schema)
        if changed:
            self.lose("tools.function.parameters", "adapted")
        if strict:
            block["strict"] = True
        elif tool.strict:
            self.lose("tools.function.strict")
        return _cached(block, tool.cache)

    def tool_choice(self, request: Request) -> Json | None:
        if not request.tools:
            return None
        choice = request.tool_choice
        mode = "auto" if choice is None else choice.mode
        if choice is None and request.parallel_tools is not False:
            return None
        block: Json = {"type": mode}
        if choice is not None and mode == "tool":
            block["name"] = choice.name
        if request.parallel_tools is False and mode != "none":
            block["disable_parallel_tool_use"] = True
        return block

    # ---- sampling

    def sampling(self, request: Request, body: Json, *, thinks: bool) -> None:
        """Temperature, top_p and top_k where the upstream takes them; while it thinks it takes only top_p.

        Of the two of which it takes one, what is 1 asks for nothing.
        """
        temperature = request.temperature
        if temperature is not None:
            if not self.profile.sampling or (thinks and temperature != 1):
                self.lose("temperature")
            elif temperature > 1:
                self.lose("temperature", f"clamped({temperature:g}->1)")
                body["temperature"] = 1
            else:
                body["temperature"] = temperature
        if request.top_p is not None:
            if self.profile.sampling and not (thinks and request.top_p < _LEAST_TOP_P):
                body["top_p"] = request.top_p
            else:
                self.lose("top_p")
        if self.profile.one_sampling and "temperature" in body and "top_p" in body:
            if body["top_p"] != 1 and body["temperature"] == 1:
                del body["temperature"]
            else:
                if body["top_p"] != 1:
                    self.lose("top_p")
                del body["top_p"]
        if request.top_k is not None:
            if self.profile.sampling and not thinks:
                body["top_k"] = request.top_k
            else:
                self.lose("top_k")


def _forces(request: Request) -> bool:
    choice = request.tool_choice
    return bool(request.tools) and choice is not None and choice.mode in ("any", "tool")


_LEAST_TOP_P = 0.95
"""What top_p must be at least while the model thinks."""


def _cached(block: Json, cache: CacheTtl | None) -> Json:
    if cache is not None:
        block["cache_control"] = (
            {"type": "ephemeral", "ttl": "1h"} if cache == "1h" else {"type": "ephemeral"}
        )
    return block


def _split_system(turns: tuple[Turn, ...]) -> tuple[list[AnyPart], list[Turn]]:
    """The parts of the leading system turns, and the other turns."""
    system: list[AnyPart] = []
    for at, turn in enumerate(turns):
        if turn.role != "system":
            return system, list(turns[at:])
        system.extend(turn.parts)
    return system, []


def _may_stand(turns: Sequence[Turn], at: int) -> bool:
    """Whether a system message may stand here: after the user's, and last or before the assistant's."""
    before = at - 1
    while before >= 0 and turns[before].role == "system":
        before -= 1
    after = at + 1
    while after < len(turns) and turns[after].role == "system":
        after += 1
    follows_user = before >= 0 and turns[before].role == "user"
    return follows_user and (after == len(turns) or turns[after].role == "assistant")


def _legal_id(id: str) -> str:
    return call_ids.outward(call_ids.inward(id), CALL_ID_LIMIT)
