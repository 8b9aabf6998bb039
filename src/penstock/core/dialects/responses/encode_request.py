"""Encodes a neutral request as a Responses request for one upstream.

Deterministic, and the items of one turn are a byte prefix of those of the next. Nothing is stored there: ``store`` is
false, and reasoning is asked for in the encrypted form that can be sent back.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never, cast

import msgspec

from penstock.core.dialects.openai.effort import effort_for, nearest
from penstock.core.dialects.openai.encode_request import TOOL_ERROR_MARK, Json, RequestEncoder
from penstock.core.dialects.openai.scores import asks_scores
from penstock.core.dialects.openai.strict_schema import strict_fits
from penstock.core.dialects.responses.hosted_tools import is_from_here, item_of
from penstock.core.dialects.responses.request_schema import CALL_ID_LIMIT
from penstock.core.neutral.request import (
    BILLING_PREFIX,
    AnyPart,
    Document,
    Hosted,
    Image,
    Loss,
    OutputFormat,
    Request,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from penstock.core.profile import Profile
from penstock.core.reasoning.encrypted_reasoning import carrier_of
from penstock.core.tools import call_ids
from penstock.core.tools.hosted import told
from penstock.errors import InvalidRequest

_SCHEMA_NAME = "output"
_INSTRUCTING = ("system", "developer")

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
        body: Json = {"model": self.model}
        if request.tools or request.web_search:
            body["tools"] = self.tools(request)
        body["input"] = self.conversation(request.turns)
        if request.tools:
            self.choose(request, body)
        self.limit(request, "max_output_tokens", body)
        self.sampling(request, body, top_k=False)
        if request.stop:
            raise InvalidRequest("stop: this model takes no stop sequences.", param="stop")
        self.reason(request, body)
        text: Json = {} if request.output is None else {"format": self.form(request.output)}
        if text or (request.verbosity is not None and self.profile.verbosity):
            body["text"] = text
        self.user(request, body)
        self.shared(request, body, text, metadata=self.profile.metadata)
        if asks_scores(request, self.profile, self.lose):
            body["include"] = [*cast("list[str]", body.get("include", [])), "message.output_text.logprobs"]
            if request.top_logprobs:
                body["top_logprobs"] = request.top_logprobs
        body["store"] = False
        body["stream"] = request.stream
        return body

    def choose(self, request: Request, body: Json) -> None:
        wanted = request.tool_choice
        if wanted is not None and not self.profile.forced_tools and wanted.mode in ("any", "tool"):
            self.lose("tool_choice", "auto")
            body["tool_choice"] = "auto"
        elif wanted is not None:
            match wanted.mode:
                case "auto" | "none":
                    body["tool_choice"] = wanted.mode
                case "any":
                    body["tool_choice"] = "required"
                case "tool":
                    body["tool_choice"] = {"type": "function", "name": wanted.name}
                case _:
                    assert_never(wanted.mode)
        self.parallel(request, body)

    def reason(self, request: Request, body: Json) -> None:
        """Effort, and a summary of the reasoning where the caller wants to see it."""
        thinking, effort = request.thinking, request.effort
        thinks = thinking is not None and thinking.mode != "disabled"
        if not self.profile.reasoning_effort:
            if effort is not None:
                self.lose("effort")
            if thinking is not None:
                self.lose("thinking")
            return
        if self.profile.encrypted_reasoning:
            body["include"] = ["reasoning.encrypted_content"]
        if thinking is not None and thinking.mode == "disabled":
            effort = "none"
        elif effort is None and thinking is not None and thinking.budget is not None:
            effort = effort_for(thinking.budget)
            self.lose("thinking.budget_tokens", "effort")
        asked: Json = {}
        if effort is not None:
            asked["effort"] = known = nearest(effort, self.profile)
            if known != effort:
                self.lose("effort", "nearest")
        if thinks and thinking is not None and thinking.shown is not False:
            asked["summary"] = "auto"
        if asked:
            body["reasoning"] = asked

    def form(self, output: OutputFormat) -> Json:
        if output.schema is None:
            return {"type": "json_object"}
        form: Json = {"type": "json_schema", "name": output.name or _SCHEMA_NAME}
        if output.description is not None:
            form["description"] = output.description
        form["schema"] = output.schema
        form["strict"] = output.strict is not False and strict_fits(output.schema)
        if output.strict and not form["strict"]:
            self.lose("output_config.format.strict")
        return form

    def tools(self, request: Request) -> object:
        """All tools, as a list."""
        tools = [self.tool(tool) for tool in request.tools]
        if request.web_search:
            tools.append({"type": "web_search"})
        return tools

    def tool(self, tool: Tool) -> Json:
        """One tool."""
        written: Json = {"type": "function", "name": tool.name}
        fitted = self.fitted(tool)
        description = fitted.described(tool.description)
        if description is not None:
            written["description"] = description
        written["parameters"] = fitted.schema
        # strict unless told otherwise in this dialect, and then a schema outside the subset is refused
        written["strict"] = bool(tool.strict) and self.profile.strict_tools and strict_fits(fitted.schema)
        if tool.strict and not written["strict"]:
            self.lose("tools.strict")
        if tool.cache is not None:
            self.lose("cache_control")
        return written

    # ---- items

    def conversation(self, turns: Sequence[Turn]) -> object:
        """The items of all turns. Raises ``InvalidRequest``."""
        items = self.items(turns)
        check_items(items)
        return items

    def items(self, turns: Iterable[Turn]) -> list[Json]:
        """The items of some turns, each of which is written alone. Raises ``InvalidRequest``."""
        items: list[Json] = []
        for turn in turns:
            match turn.role:
                case "system":
                    self.system(turn, items)
                case "user":
                    self.user_turn(turn, items)
                case "assistant":
                    self.assistant(turn, items)
                case _:
                    assert_never(turn.role)
        return items

    def system(self, turn: Turn, items: list[Json]) -> None:
        texts: list[Text] = []
        for part in turn.parts:
            if isinstance(part, Text) and part.text:
                if part.text.startswith(BILLING_PREFIX):
                    # its hash changes with every request and would defeat every prompt cache
                    self.lose("system.billing_header")
                else:
                    texts.append(part)
        if texts:
            items.append(
                {"type": "message", "role": self.profile.system_role, "content": self.content(texts)}
            )

    def user_turn(self, turn: Turn, items: list[Json]) -> None:
        """The outputs of tools first, right after the calls; then all the rest as one message."""
        rest: list[Text | Image | Document] = []
        for part in turn.parts:
            match part:
                case ToolResult():
                    items.append(self.result(part))
                case Text() | Image() | Document():
                    rest.append(part)
                case Thought() | ToolCall() | Hosted():
                    self.lose("messages.user." + type(part).__name__.lower())
                case _:
                    assert_never(part)
        content = self.content(rest)
        if content:
            items.append({"type": "message", "role": "user", "content": content})

    def result(self, result: ToolResult) -> Json:
        """A tool's output; images and files stay in it."""
        if result.cache is not None:
            self.lose("messages.tool_result.cache_control")
        mark = TOOL_ERROR_MARK if result.is_error else ""
        if mark:
            self.lose("messages.tool_result.is_error", "marked")
        output: object
        if all(isinstance(part, Text) for part in result.parts):
            output = mark + "\n".join(part.text for part in result.parts if isinstance(part, Text))
        else:
            output = self.content([Text(mark), *result.parts])
        return {"type": "function_call_output", "call_id": self.call_id(result.call_id), "output": output}

    def assistant(self, turn: Turn, items: list[Json]) -> None:
        text: list[Text] = []
        for part in turn.parts:
            if isinstance(part, Text):
                if part.cache is not None:
                    self.lose("messages.assistant.cache_control")
                text.append(part)
                continue
            own = self.served(part) if isinstance(part, Hosted) else None
            if isinstance(part, Hosted) and own is None:
                text.append(Text(f"{told(part)}\n"))
                continue
            _say(text, items)
            text = []
            if own is None:
                self.spoken(part, items)
            else:
                items.append(own)
        _say(text, items)

    def served(self, hosted: Hosted) -> Json | None:
        """The item of what a tool of the provider did, where the upstream knows such; None where it is told as text."""
        if is_from_here(hosted):
            return item_of(hosted, hosted.id)
        if hosted.kind in ("search", "fetch") and self.profile.web_search == "mapped":
            return item_of(hosted, None)
        return None

    def spoken(self, part: AnyPart, items: list[Json]) -> None:
        match part:
            case ToolCall():
                if part.cache is not None:
                    self.lose("messages.assistant.cache_control")
                arguments = part.arguments if part.arguments.strip() else "{}"
                items.append(
                    {
                        "type": "function_call",
                        "call_id": self.call_id(part.id),
                        "name": part.name,
                        "arguments": arguments,
                    }
                )
            case Thought():
                self.thought(part, items)
            case Image() | Document() | ToolResult() | Text() | Hosted():
                self.lose("messages.assistant." + type(part).__name__.lower())
            case _:
                assert_never(part)

    def thought(self, thought: Thought, items: list[Json]) -> None:
        """Reasoning goes back to the model that made it, and to no other."""
        carrier = carrier_of(thought, self.model)
        if carrier is None:
            self.lose("messages.redacted_thinking" if thought.redacted is not None else "messages.thinking")
            return
        item: Json = {"type": "reasoning", "id": carrier.id, "summary": []}
        if thought.text and carrier.raw:
            item["content"] = [{"type": "reasoning_text", "text": thought.text}]
        elif thought.text:
            item["summary"] = [{"type": "summary_text", "text": thought.text}]
        if carrier.encrypted_content is not None:
            item["encrypted_content"] = carrier.encrypted_content
        items.append(item)

    def call_id(self, id: str) -> str:
        return call_ids.shortened(call_ids.plain(call_ids.inward(id)), CALL_ID_LIMIT)

    def content(self, parts: Iterable[Text | Image | Document]) -> list[Json]:
        written: list[Json] = []
        for part in parts:
            match part:
                case Text(text):
                    if not text:
                        continue
                    item: Json = {"type": "input_text", "text": text}
                case Image():
                    item = self.image(part)
                case Document():
                    item = _document(part)
                case _:
                    assert_never(part)
            self.cache_mark(part, item)
            written.append(item)
        return written

    def image(self, image: Image) -> Json:
        url = image.url
        if url is None:
            url = f"data:{image.media_type};base64,{image.data}"
        elif not self.profile.image_urls:
            raise InvalidRequest(
                "messages: this model takes images as base64 data only, not by URL.", param="messages"
            )
        return {"type": "input_image", "image_url": url, "detail": image.detail or "auto"}


def is_assistants(item: Json) -> bool:
    """Whether the assistant said it: its words, its reasoning, and its calls."""
    return item.get("role") == "assistant" or item["type"] not in ("message", "function_call_output")


def check_items(items: Iterable[Json]) -> None:
    """Raise ``InvalidRequest`` where these cannot be the last items of a request."""
    said = [item for item in items if item.get("role") not in _INSTRUCTING]
    if not said:
        raise InvalidRequest("messages must hold something besides instructions.", param="messages")
    if said[-1].get("role") == "assistant":
        raise InvalidRequest(
            "messages: this model cannot continue an assistant message; end with a user message.",
            param="messages",
        )


def _say(texts: list[Text], items: list[Json]) -> None:
    joined, annotations = "", list[Json]()
    for text in texts:
        end = len(joined) + len(text.text)
        annotations += [
            {
                "type": "url_citation",
                "start_index": len(joined),
                "end_index": end,
                "url": cited.url,
                "title": cited.title,
            }
            for cited in text.cites
        ]
        joined += text.text
    if joined:
        content: Json = {"type": "output_text", "text": joined, "annotations": annotations}
        items.append({"type": "message", "role": "assistant", "content": [content]})


def _document(document: Document) -> Json:
    if document.url is not None:
        file: Json = {"type": "input_file", "file_url": document.url}
        return file if document.title is None else {**file, "filename": document.title}
    if document.media_type == "text/plain":
        text = document.data or ""
        return {"type": "input_text", "text": f"{document.title}\n\n{text}" if document.title else text}
    return {
        "type": "input_file",
        "filename": document.title or "document.pdf",
        "file_data": f"data:{document.media_type};base64,{document.data}",
    }
