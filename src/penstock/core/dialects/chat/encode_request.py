"""Encodes a neutral request as a Chat request for one upstream: ``docs/translation.md``, row by row.

Deterministic, and the messages of one turn are a byte prefix of those of the next, because prompt caches depend on it:
nothing in a message depends on what comes after it. Only a marked prefix that is to be continued ends differently.
"""

from collections.abc import Sequence
from typing import assert_never, cast

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from penstock.core.dialects.chat.own_schemas import ONLY_SCHEMA
from penstock.core.dialects.openai.attachments import document_text, image_url
from penstock.core.dialects.openai.effort import BUDGETS, effort_for, nearest
from penstock.core.dialects.openai.encode_request import (
    TOOL_ERROR_MARK,
    Json,
    Lose,
    RequestEncoder,
    reasons_not,
)
from penstock.core.dialects.openai.scores import asks_scores
from penstock.core.dialects.openai.strict_schema import strict_fits
from penstock.core.neutral.request import (
    BILLING_PREFIX,
    Document,
    Hosted,
    Image,
    Loss,
    OutputFormat,
    Request,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from penstock.core.profile import Profile
from penstock.core.reasoning import signature
from penstock.core.reasoning.think_tags import tagged
from penstock.core.reasoning.tool_call_signatures import SKIPPED, extra_of
from penstock.core.tools import call_ids
from penstock.core.tools.hosted import told
from penstock.errors import InvalidRequest


class AnswerForm(msgspec.Struct, frozen=True):
    """How an answer's form is asked for: ``format`` is ``response_format``, ``instruction`` goes into the prompt."""

    format: dict[str, object] | None = None
    instruction: str | None = None


def answer_format(output: OutputFormat | None, profile: Profile, lose: Lose) -> AnswerForm:
    """The form of answer that ``output`` wants."""
    if output is None:
        return AnswerForm()
    if output.schema is None:
        return AnswerForm({"type": "json_object"})
    if not profile.json_schema:
        lose("output_config.format", "prompted")
        return AnswerForm({"type": "json_object"}, ONLY_SCHEMA + bytes(output.schema).decode())
    schema: dict[str, object] = {"name": output.name or "output"}
    if output.description is not None:
        schema["description"] = output.description
    schema["schema"] = output.schema
    if output.strict is not False and strict_fits(output.schema):
        schema["strict"] = True
    elif output.strict:
        lose("output_config.format.strict", "dropped")
    return AnswerForm({"type": "json_schema", "json_schema": schema})


def unforced(request: Request, profile: Profile, lose: Lose) -> Request:
    """The request without what excludes itself where a model that reasons cannot be made to call a tool.

    Where only ``auto`` is taken, ``none`` means that no tools are offered. Reasoning that nobody asked for gives way; of
    two wishes the forced call does.
    """
    tool_choice_for = request.tool_choice
    if not profile.forced_tools and tool_choice_for is not None and tool_choice_for.mode != "auto":
        if tool_choice_for.mode == "none":
            return replace(request, tools=(), tool_choice=None)
        lose("tool_choice", "auto")
        return replace(request, tool_choice=ToolChoice("auto"))
    if (
        profile.forced_while_thinking
        or tool_choice_for is None
        or tool_choice_for.mode not in {"any", "tool"}
    ):
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


def tool_choice_for(request: Request) -> str | dict[str, object] | None:
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


def reasoning_fields(request: Request, profile: Profile, lose: Lose) -> dict[str, object]:
    """The fields that ask for more or less reasoning."""
    thinking, effort = request.thinking, request.effort
    asked: dict[str, object] = {}
    if thinking is None and effort is None:
        return asked
    off = reasons_not(request) if thinking is None else thinking.mode == "disabled"
    # where there is an effort, that says it all but for turning it off
    if thinking is not None or off or not profile.reasoning_effort:
        asked = switch_fields(request, profile, off=off)
    if thinking is not None and effort is None and thinking.budget is not None:
        effort = effort_for(thinking.budget)
    if off:
        effort = "none"
    if profile.reasoning_effort:
        if effort is not None and not (off and asked):
            asked["reasoning_effort"] = known = nearest(effort, profile)
            if known != effort:
                lose("effort", "nearest")
        return asked
    if request.effort not in (None, "none"):
        lose("effort", "budget" if "thinking_budget" in asked else "switched" if asked else "dropped")
    elif request.effort is not None and not asked:
        lose("effort", "dropped")
    if thinking is not None and not asked:
        lose("thinking", "dropped")
    return asked


def switch_fields(request: Request, profile: Profile, *, off: bool) -> dict[str, object]:
    """The fields that turn reasoning on or ``off``; none where there is no switch."""
    thinking, effort = request.thinking, request.effort
    match profile.thinking_switch:
        case "thinking":
            # such a switch knows nothing between: what is hardly any is none
            off = off or (thinking is None and effort == "minimal")
            return {"thinking": {"type": "disabled" if off else "enabled"}}
        case "enable_thinking":
            if off:
                return {"enable_thinking": False}
            budget = None if thinking is None else thinking.budget
            if budget is None and effort is not None:
                budget = BUDGETS.get(effort)
            return {"enable_thinking": True, **({} if budget is None else {"thinking_budget": budget})}
        case "none":
            return {}
        case _:
            assert_never(profile.thinking_switch)


BRIDGE = "Understood."
"""What the assistant says between a tool's result and the user, where it has to say something there."""


def continue_final_message(messages: list[Json]) -> Json:
    """Fields that make vLLM and its like continue the last message."""
    last = messages[-1]
    if last["role"] != "assistant" or "tool_calls" in last:
        return {}
    return {"continue_final_message": True, "add_generation_prompt": False}


def prefill(message: Json, profile: Profile) -> None:
    """Ask that the answer go on from ``message``, the last one and an assistant's; only some upstreams can."""
    if profile.prefill == "none":
        raise InvalidRequest(
            "messages: this model cannot continue an assistant message; end with a user message.",
            param="messages",
        )
    message["content"] = str(message["content"]).rstrip()
    if profile.prefill != "continue":
        message[profile.prefill] = True


def ordered(messages: list[Json], profile: Profile, lose: Lose) -> list[Json]:
    """The messages in an order of roles that the upstream takes."""
    rows: list[Json] = []
    for message in messages:
        role = message["role"]
        before = rows[-1]["role"] if rows else None
        if profile.roles_alternate and role == before and role != "tool":
            lose("messages.role", "merged")
            rows[-1] = _merged(rows[-1], message)
            continue
        if not profile.user_after_tool and role == "user" and before == "tool":
            lose("messages.role", "bridged")
            rows.append({"role": "assistant", "content": BRIDGE})
        rows.append(message)
    return rows


def _merged(one: Json, other: Json) -> Json:
    """Two messages of one role as one; what both have is put together."""
    merged = dict(one)
    for name, value in other.items():
        have = merged.get(name)
        if name == "role":
            pass
        elif name == "content" and have is not None and value is not None:
            merged[name] = _joined(have, value)
        elif isinstance(have, str) and isinstance(value, str):
            merged[name] = have + value
        elif isinstance(have, list) and isinstance(value, list):
            merged[name] = [*cast("list[object]", have), *cast("list[object]", value)]
        elif value is not None:
            merged[name] = value
    return merged


def _joined(one: object, other: object) -> object:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    return [*_parts(one), *_parts(other)]


def _parts(content: object) -> list[object]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[object]", content)


_encode = msgspec.json.Encoder().encode


def encode_request(request: Request, *, model: str, profile: Profile) -> tuple[bytes, list[Loss]]:
    """The body for ``model`` (the upstream's own id), and what of the request it does not say.

    Raises ``InvalidRequest`` where the request cannot be said at all.
    """
    writing = RequestWriter(model, profile)
    body = writing.body(request)
    return _encode(body), writing.losses


class RequestWriter(RequestEncoder):
    """One request being written."""

    __slots__ = ()

    def body(self, request: Request) -> Json:
        """The whole body; what a prompt cache keys on comes first."""
        profile = self.profile
        if request.tools:
            request = unforced(request, profile, self.lose)
        body: Json = {"model": self.model}
        asked = answer_format(request.output, profile, self.lose)
        if request.tools:
            body["tools"] = self.tools(request.tools)
        messages, written = self.conversation(request.turns, asked.instruction)
        body["messages"] = written
        if request.tools:
            chosen = tool_choice_for(request)
            if chosen is not None:
                body["tool_choice"] = chosen
            self.parallel(request, body)
        self.limit(request, profile.max_tokens_field, body)
        self.sampling(request, body, top_k=profile.top_k)
        if request.stop:
            if profile.max_stop is not None and len(request.stop) > profile.max_stop:
                raise InvalidRequest(
                    f"stop_sequences: this model takes at most {profile.max_stop}.", param="stop_sequences"
                )
            body["stop"] = list(request.stop)
        asked_to_reason = reasoning_fields(request, profile, self.lose)
        body.update(asked_to_reason)
        if asked.format is not None:
            body["response_format"] = asked.format
        self.user(request, body)
        self.shared(request, body, body, metadata=False)
        if asks_scores(request, self.profile, self.lose):
            body["logprobs"] = True
            if request.top_logprobs:
                body["top_logprobs"] = request.top_logprobs
        if profile.prefill == "continue":
            body |= continue_final_message(messages)
        # a stream is read like any other answer where a whole one is wanted
        stream = request.stream or (
            profile.thinks_only_streamed and asked_to_reason.get("enable_thinking") is True
        )
        body["stream"] = stream
        if stream and profile.stream_options:
            every = {"continuous_usage_stats": True} if profile.continuous_usage else {}
            body["stream_options"] = {"include_usage": True, **every}
        return body

    def tools(self, tools: tuple[Tool, ...]) -> object:
        return [self.tool(tool) for tool in tools]

    def tool(self, tool: Tool) -> Json:
        function: Json = {"name": tool.name}
        fitted = self.fitted(tool)
        description = fitted.described(tool.description)
        if description is not None:
            function["description"] = description
        function["parameters"] = fitted.schema
        if tool.strict:
            if self.profile.strict_tools and strict_fits(fitted.schema):
                function["strict"] = True
            else:
                self.lose("tools.strict")
        written: Json = {"type": "function", "function": function}
        self.mark(tool, written)
        return written

    def mark(self, part: Text | Image | Document | Tool, written: Json) -> None:
        """Keep a cache mark where the upstream takes them as Anthropic or as OpenAI writes them."""
        if part.cache is not None and self.profile.cache_control:
            mark: Json = {"type": "ephemeral"}
            if part.cache == "1h":
                mark["ttl"] = "1h"
            written["cache_control"] = mark
        elif not isinstance(part, Tool):
            self.cache_mark(part, written)
        elif part.cache is not None:
            self.lose("cache_control")

    # ---- messages

    def conversation(self, turns: tuple[Turn, ...], instruction: str | None) -> tuple[list[Json], object]:
        """The last messages, from one of the assistant's on where there is one, and all of them to be encoded."""
        messages = self.messages(turns, instruction)
        check_messages(messages)
        messages = ordered(messages, self.profile, self.lose)
        return messages, messages

    def messages(
        self, turns: Sequence[Turn], instruction: str | None, *, leading: bool = True, ends: bool = True
    ) -> list[Json]:
        messages: list[Json] = []
        for at, turn in enumerate(turns):
            if leading and turn.role != "system":
                leading = False
                self.instruct(instruction, messages)
            match turn.role:
                case "system":
                    self.system(turn, messages, leading=leading)
                case "user":
                    self.user_turn(turn, messages)
                case "assistant":
                    self.assistant(turn, messages, last=ends and at == len(turns) - 1)
                case _:
                    assert_never(turn.role)
        return messages

    def instruct(self, instruction: str | None, messages: list[Json]) -> None:
        """Add what the answer's form needs said to the system prompt, the only one where there must be one."""
        if instruction is None:
            return
        if messages and isinstance(messages[-1]["content"], str):
            messages[-1]["content"] += "\n\n" + instruction
        else:
            messages.append({"role": self.profile.system_role, "content": instruction})

    def system(self, turn: Turn, messages: list[Json], *, leading: bool) -> None:
        texts: list[Text] = []
        for part in turn.parts:
            if isinstance(part, Text) and part.text:
                if part.text.startswith(BILLING_PREFIX):
                    # its hash changes with every request and would defeat every prompt cache
                    self.lose("system.billing_header")
                else:
                    texts.append(part)
        if not texts:
            return
        if leading or self.profile.system_anywhere:
            messages.append({"role": self.profile.system_role, "content": self.content(texts)})
            return
        self.lose("messages.system", "wrapped")
        wrapped = [Text(f"<system>\n{text.text}\n</system>", text.cache) for text in texts]
        messages.append({"role": "user", "content": self.content(wrapped)})

    def user_turn(self, turn: Turn, messages: list[Json]) -> None:
        """Tool messages first, as Chat wants them right after the calls; then all the rest as one user message."""
        rest: list[Text | Image | Document] = []
        for part in turn.parts:
            match part:
                case ToolResult():
                    messages.append(self.result(part, rest))
                case Text() | Image() | Document():
                    pass
                case Thought() | ToolCall() | Hosted():
                    self.lose("messages.user." + type(part).__name__.lower())
                case _:
                    assert_never(part)
        rest += [part for part in turn.parts if isinstance(part, Text | Image | Document)]
        if any(not isinstance(part, Text) or part.text for part in rest):
            messages.append({"role": "user", "content": self.content(rest)})

    def result(self, result: ToolResult, moved: list[Text | Image | Document]) -> Json:
        """A tool message; what it may not hold is appended to ``moved`` for the user message after it."""
        id = self.call_id(result.call_id)
        held: list[Text | Image | Document] = []
        for part in result.parts:
            if isinstance(part, Text) or (isinstance(part, Image) and self.profile.tool_images):
                held.append(part)
            elif isinstance(part, Document) and part.media_type == "text/plain":
                held.append(document_text(part))
            else:
                kind = "image" if isinstance(part, Image) else "document"
                self.lose(f"messages.tool_result.{kind}", "moved")
                label = f"[{kind} {len(moved) // 2 + 1} of the tool results, in the next user message]"
                held.append(Text(label))
                moved += [Text(f"[{kind} {len(moved) // 2 + 1}, from the result of tool call {id}]"), part]
        if result.cache is not None:
            self.lose("messages.tool_result.cache_control")
        if result.is_error:
            self.lose("messages.tool_result.is_error", "marked")
        mark = TOOL_ERROR_MARK if result.is_error else ""
        content: object
        if any(isinstance(part, Image) for part in held):
            content = self.parts([Text(mark), *held] if mark else held)
        else:
            content = mark + "\n".join(part.text for part in held if isinstance(part, Text))
        return {"role": "tool", "tool_call_id": id, "content": content}

    def assistant(self, turn: Turn, messages: list[Json], *, last: bool) -> None:
        texts: list[str] = []
        calls: list[Json] = []
        thoughts: list[Thought] = []
        extra: Raw | None = None  # of the next call
        for part in turn.parts:
            match part:
                case Text(text, cache, cites):
                    if cites:
                        self.lose("messages.citations")
                    if calls and text:
                        self.lose("messages.assistant.text", "before_tool_calls")
                    texts.append(text)
                    if cache is not None:
                        self.lose("messages.assistant.cache_control")
                case ToolCall():
                    calls.append(self.call(part, extra if calls or extra else self.unsigned))
                    extra = None
                case Thought():
                    own = extra_of(part) if self.unsigned else None
                    extra = extra if own is None else own
                    if own is None or part.text:
                        thoughts.append(part)
                case Hosted():
                    texts.append(f"{told(part)}\n")
                case Image() | Document() | ToolResult():
                    self.lose("messages.assistant." + type(part).__name__.lower())
                case _:
                    assert_never(part)
        text = "".join(texts)
        if self.profile.reasoning_field == "think_tags":
            thought = "".join(thought.text for thought in thoughts)
            text, thoughts = (tagged(thought, text) if thought else text), []
        carried = self.thoughts(thoughts, calling=bool(calls))
        if not text and not calls and not carried:
            return
        nothing = None if calls and self.profile.null_content else ""
        message: Json = {"role": "assistant", "content": text or nothing, **carried}
        if calls:
            message["tool_calls"] = calls
        elif last:
            prefill(message, self.profile)
        messages.append(message)

    def thoughts(self, thoughts: list[Thought], *, calling: bool) -> Json:
        """Earlier reasoning in the member where this upstream wants it back."""
        field = self.profile.reasoning_field
        if field in {"none", "think_tags"}:
            if thoughts:
                self.lose("messages.thinking")
            return {}
        text = "".join(thought.text for thought in thoughts)
        if any(thought.redacted is not None for thought in thoughts):
            self.lose("messages.redacted_thinking")
        carried: Json = {}
        if text or (calling and self.profile.reasoning_required):
            carried[field] = text
        details: list[Raw] = []
        for thought in thoughts:
            origin = signature.read_signature(thought.signature) if thought.signature is not None else None
            if origin is not None and origin.model == self.model and origin.carrier:
                details += signature.carried_entries(origin.carrier)
        if details:
            carried["reasoning_details"] = details
        return carried

    @property
    def unsigned(self) -> Raw | None:
        """What the first call of a message has where nothing else is known, if the upstream wants signatures there."""
        return SKIPPED if self.profile.call_signatures else None

    def call(self, call: ToolCall, extra: Raw | None) -> Json:
        if call.cache is not None:
            self.lose("messages.assistant.cache_control")
        arguments = call.arguments if call.arguments.strip() else "{}"
        written: Json = {
            "id": self.call_id(call.id),
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        }
        if extra is not None:
            written["extra_content"] = extra
        return written

    def call_id(self, id: str) -> str:
        own = call_ids.plain(call_ids.inward(id))
        length = self.profile.tool_id_length
        if length is not None:
            return call_ids.exact(own, length)
        return call_ids.shortened(own, self.profile.tool_id_limit)

    # ---- content

    def content(self, parts: list[Text | Image | Document] | list[Text]) -> object:
        """One string where that says it all, else a list of parts."""
        texts = [part for part in parts if isinstance(part, Text) and part.text]
        only_text = all(isinstance(part, Text) for part in parts)
        kept = self.profile.cache_control or self.profile.cache_breakpoints
        marked = kept and any(part.cache is not None for part in texts)
        if only_text and not marked and (len(texts) == 1 or self.profile.system_as_string):
            if any(part.cache is not None for part in texts):
                self.lose("cache_control")
            return "\n\n".join(part.text for part in texts)
        return self.parts(parts)

    def parts(self, parts: list[Text | Image | Document] | list[Text]) -> list[Json]:
        written: list[Json] = []
        for part in parts:
            match part:
                case Text(text):
                    item: Json = {"type": "text", "text": text}
                    if not text:
                        continue
                case Image():
                    item = {"type": "image_url", "image_url": image_url(part, urls=self.profile.image_urls)}
                case Document():
                    item = self.document(part)
                case _:
                    assert_never(part)
            self.mark(part, item)
            written.append(item)
        return written

    def document(self, document: Document) -> Json:
        if document.url is not None:
            raise InvalidRequest(
                "messages: this model takes documents as data only, not by URL.", param="messages"
            )
        if document.media_type == "text/plain":
            return {"type": "text", "text": document_text(document).text}
        file: Json = {
            "filename": document.title or "document.pdf",
            "file_data": f"data:{document.media_type};base64,{document.data}",
        }
        return {"type": "file", "file": file}


def check_messages(messages: list[Json]) -> None:
    if not any(message["role"] not in {"system", "developer"} for message in messages):
        raise InvalidRequest("messages must hold something besides instructions.", param="messages")
