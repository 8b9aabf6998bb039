"""Turns as a Chat request for one upstream: ``docs/translation.md`` section 2.2, row by row.

Deterministic, and the messages of one turn are a byte prefix of those of the next, because prompt caches depend on it:
nothing in a message depends on what comes after it. Only a marked prefix that is to be continued ends differently.
"""

from typing import assert_never

import msgspec
from msgspec import Raw

from penstock.core.dialects.chat import request_schema as wire
from penstock.core.dialects.chat.ask import answer_format, choice, reasoning, strict_fits, unforced
from penstock.core.dialects.chat.order import going_on, ordered, prefill
from penstock.core.dialects.chat.parts import document_text, image_url
from penstock.core.dialects.chat.think_tags import tagged
from penstock.core.dialects.openai.encode_request import BILLING, Json, Writing
from penstock.core.neutral.request import (
    Document,
    Image,
    Loss,
    Request,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from penstock.core.profile import Profile
from penstock.core.reasoning import signature
from penstock.core.reasoning.tool_call_signatures import SKIPPED, extra_of
from penstock.core.tools import call_ids
from penstock.errors import InvalidRequest

_encode = msgspec.json.Encoder().encode


def write_request(request: Request, *, model: str, profile: Profile) -> tuple[bytes, list[Loss]]:
    """The body for ``model`` (the upstream's own id), and what of the request it does not say.

    Raises ``InvalidRequest`` where the request cannot be said at all.
    """
    writing = _Writing(model, profile)
    body = writing.body(request)
    return _encode(body), writing.losses


class _Writing(Writing):
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
            body["tools"] = [self.tool(tool) for tool in request.tools]
        messages = ordered(self.messages(request.turns, asked.instruction), profile, self.lose)
        body["messages"] = messages
        if request.tools:
            chosen = choice(request)
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
        body.update(reasoning(request, profile, self.lose))
        if asked.format is not None:
            body["response_format"] = asked.format
        self.user(request, body)
        if profile.prefill == "continue":
            body |= going_on(messages)
        body["stream"] = request.stream
        if request.stream and profile.stream_options:
            every = {"continuous_usage_stats": True} if profile.continuous_usage else {}
            body["stream_options"] = {"include_usage": True, **every}
        return body

    def tool(self, tool: Tool) -> Json:
        function: Json = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.schema
        if tool.strict:
            if self.profile.strict_tools and strict_fits(tool.schema):
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

    def messages(self, turns: tuple[Turn, ...], instruction: str | None) -> list[Json]:
        messages: list[Json] = []
        leading = True
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
                    self.assistant(turn, messages, last=at == len(turns) - 1)
                case _:
                    assert_never(turn.role)
        if not any(message["role"] not in {"system", "developer"} for message in messages):
            raise InvalidRequest("messages must hold something besides instructions.", param="messages")
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
                if part.text.startswith(BILLING):
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
                case Thought() | ToolCall():
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
        mark = wire.TOOL_ERROR_MARK if result.is_error else ""
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
                case Text(text, cache):
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
            origin = signature.read(thought.signature) if thought.signature is not None else None
            if origin is not None and origin.model == self.model and origin.carrier:
                details += signature.entries(origin.carrier)
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
