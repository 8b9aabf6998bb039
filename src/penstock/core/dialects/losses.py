"""The table of losses: what does not cross between dialects in full. ``scripts/translation.py`` writes it into the docs.

What is not in it crosses exactly. Every ``Loss`` that decoding or encoding reports has its row here, and so has every
field that is refused because its loss would change what the caller receives or pays.
"""

from typing import Literal

import msgspec

LossOutcome = Literal["lossy", "dropped", "refused"]


class LossRow(msgspec.Struct, frozen=True):
    """What becomes of one field of a ``caller`` dialect towards an ``upstream`` dialect (``any``: the other ones).

    ``told`` is the outcome in ``X-Penstock-Translation``, '' for a refusal (a 400 that names the field).
    """

    caller: Literal["chat", "messages", "responses", "any"]
    upstream: Literal["chat", "messages", "responses", "any"]
    field: str
    outcome: LossOutcome
    told: str
    how: str


OTHER_FIELDS = "(any other top-level field)"
OTHER_MESSAGE_FIELDS = "messages.(any other field)"

_CHAT_TO_MESSAGES: tuple[tuple[str, LossOutcome, str, str], ...] = (
    ("n", "refused", "", "more than one answer"),
    ("modalities", "refused", "", "other than text"),
    ("audio", "refused", "", "audio output"),
    ("web_search_options", "refused", "", "where the provider's profile says so"),
    ("web_search_options", "dropped", "dropped", "a search that the model does not have"),
    ("web_search_options", "lossy", "mapped", "where the provider's profile says so: its own search, without the options"),
    ("messages.content.input_audio", "refused", "", "audio input"),
    ("messages.content.file.file_id", "refused", "", "files stored elsewhere"),
    ("messages.content.image_url", "refused", "", "other types than JPEG, PNG, GIF and WebP"),
    ("tool_choice", "lossy", "auto", "where the model cannot be forced"),
    ("temperature", "lossy", "clamped(x->1)", "above 1"),
    ("temperature", "dropped", "dropped", "where the model takes none, or while it reasons"),
    ("top_p", "dropped", "dropped", "where the model takes none or not beside temperature, or below 0.95 while it reasons"),
    ("top_k", "dropped", "dropped", "where the model takes none, or while it reasons"),
    ("stop", "lossy", "reduced", "entries of nothing but white space are left out"),
    ("reasoning_effort", "dropped", "dropped", "where the model cannot reason, or max_tokens is 1,024 or less"),
    ("reasoning_effort", "lossy", "nearest", "one that the model does not know"),
    ("reasoning_effort", "dropped", "disabled", "in a tool loop whose thoughts did not come back, or for a forced call"),
    ("thinking.budget_tokens", "lossy", "effort", "the nearest effort, where a model takes no budget"),
    ("response_format", "lossy", "instructed", "asked for in the system prompt"),
    ("response_format.json_schema.schema", "lossy", "adapted", "unsupported constraints become descriptions"),
    ("tools.custom", "lossy", "function", "a function with one string, custom again in the answer; its grammar is described"),
    ("tools.(any other type)", "lossy", "function", "one that has a name and parameters"),
    ("tools.(any other type)", "dropped", "dropped", "one that only a provider could run, unless a call is forced"),
    ("tools.function.strict", "dropped", "dropped", "where the model knows no strict tools"),
    ("tools.function.parameters", "lossy", "adapted", "what the model does not take at a schema's root is in the description"),
    ("tool_choice.allowed_tools", "lossy", "filtered", "the other tools are not offered"),
    ("messages.tool_calls.custom", "lossy", "function", "a function call with one string"),
    ("messages.tool_calls.function.arguments", "lossy", "wrapped", "text that is no JSON object, kept as text"),
    ("messages.refusal", "lossy", "text", "text of the assistant"),
    ("messages.content.refusal", "lossy", "text", "text of the assistant"),
    ("messages.system", "lossy", "wrapped", "in the middle: text of the user in <system>, in its place"),
    ("messages.thinking", "dropped", "dropped", "reasoning of other models, towards Anthropic; signatures of Google's"),
    ("messages.redacted_thinking", "dropped", "dropped", "readable by its maker only"),
    ("messages.prompt_cache_breakpoint", "lossy", "5m", "cache_control of 5 minutes"),
    ("messages.prompt_cache_breakpoint", "lossy", "1h", "cache_control of an hour, for 12 hours"),
    ("messages.image_url.detail", "dropped", "dropped", "there is one resolution"),
    ("messages.(parts of any other type)", "lossy", "text", "what they say, as text"),
    ("messages.(parts of any other type)", "dropped", "dropped", "data, or nothing that can be read"),
    ("verbosity", "dropped", "dropped", ""),
    ("service_tier", "dropped", "dropped", "any but auto"),
    ("prompt_cache_key", "dropped", "dropped", ""),
    ("prompt_cache_retention", "dropped", "dropped", ""),
    ("metadata", "dropped", "dropped", ""),
    (OTHER_MESSAGE_FIELDS, "dropped", "dropped", "name and the like"),
    ("logprobs", "dropped", "dropped", "Messages has none"),
    ("top_logprobs", "dropped", "dropped", "Messages has none"),
    (OTHER_FIELDS, "dropped", "dropped", "seed, penalties, logit_bias and the like"),
)  # fmt: skip

_MESSAGES_TO_CHAT: tuple[tuple[str, LossOutcome, str, str], ...] = (
    ("tool_choice", "refused", "", "a forced call of a tool that only its provider could run"),
    ("container", "dropped", "dropped", "code execution by the provider"),
    ("mcp_servers", "dropped", "dropped", "servers that the provider would call"),
    ("tools.(any other type)", "dropped", "dropped", "server tools, computer and browser toolsets, unless a call is forced"),
    ("tools.(any other type)", "lossy", "function", "one that has an input_schema"),
    ("tools.web_search", "dropped", "dropped", "a search that the model does not have, unless it is forced"),
    ("messages.(blocks of any other type)", "lossy", "text", "what they say, as text"),
    ("messages.(blocks of any other type)", "dropped", "dropped", "data, or nothing that can be read"),
    ("max_tokens", "refused", "", "0, which only warms a cache"),
    ("stop_sequences", "refused", "", "more than the model takes"),
    ("messages", "refused", "", "an assistant message to be continued, where the model cannot"),
    ("messages.content.source", "refused", "", "files of the Files API; URLs where the model takes data only"),
    ("messages.container_upload", "refused", "", "files of a container"),
    ("temperature", "dropped", "dropped", "where the model takes none"),
    ("top_p", "dropped", "dropped", "where the model takes none"),
    ("top_k", "dropped", "dropped", "where the model takes none"),
    ("metadata.user_id", "dropped", "dropped", "where the provider takes none"),
    ("metadata.user_id", "lossy", "hashed", "longer than the provider takes"),
    ("thinking", "dropped", "dropped", "where the model has no switch for it"),
    ("thinking.type", "lossy", "adaptive", "between_tools"),
    ("thinking.display", "dropped", "dropped", "other than summarized and omitted"),
    ("output_config.effort", "dropped", "dropped", "where the model has no effort"),
    ("output_config.effort", "lossy", "nearest", "one that the model does not know"),
    ("output_config.effort", "lossy", "switched", "where reasoning can only be on or off"),
    ("output_config.effort", "lossy", "budget", "a budget in tokens, where the model takes one"),
    ("output_config.effort", "dropped", "disabled", "a call is forced, and the model reasons unless told not to"),
    ("output_config.format", "lossy", "prompted", "the schema in the prompt, where the model takes none"),
    ("output_config.format.strict", "dropped", "dropped", "a schema outside the strict subset"),
    ("output_config.task_budget", "dropped", "dropped", ""),
    ("system.billing_header", "dropped", "dropped", "Claude Code's; it defeats prompt caches"),
    ("cache_control", "dropped", "dropped", "where the provider has no cache marks, or none for tools"),
    ("tools.type", "lossy", "synthesized", "bash, text editor and memory tools as functions"),
    ("tools.strict", "dropped", "dropped", "a schema outside the strict subset, or unknown to the model"),
    ("tools.input_schema", "lossy", "adapted", "what the model does not take of a schema is in the description"),
    ("tools.input_examples", "lossy", "described", "in the description"),
    ("tools.defer_loading", "lossy", "loaded", "the tool is offered at once"),
    ("tools.allowed_callers", "dropped", "dropped", ""),
    ("tools.eager_input_streaming", "dropped", "dropped", ""),
    ("tool_choice", "lossy", "auto", "where the model cannot be forced, or not while it reasons"),
    ("tool_choice.disable_parallel_tool_use", "dropped", "dropped", "where the model has no such switch"),
    ("messages.system", "lossy", "wrapped", "text of the user in <system>, where system must come first"),
    ("messages.role", "lossy", "merged", "messages of one role in a row are one, where the model's template wants that"),
    ("messages.role", "lossy", "bridged", "a word of the assistant between a tool's result and the user, where it must be"),
    ("messages.output_config", "dropped", "dropped", "settings of a system message"),
    ("messages.clear_at", "dropped", "dropped", "settings of a system message"),
    ("messages.tool_addition", "dropped", "dropped", "all tools are offered at once"),
    ("messages.tool_removal", "dropped", "dropped", "all tools are offered at once"),
    ("messages.fallback", "dropped", "dropped", ""),
    ("messages.compaction", "lossy", "text", ""),
    ("messages.server_tools", "lossy", "text", "what server tools did: title, address and text of what they found"),
    ("messages.citations", "dropped", "dropped", "of text in the history; of web pages not before Responses upstreams"),
    ("messages.search_result", "lossy", "text", "title, source and text"),
    ("messages.document.context", "dropped", "dropped", ""),
    ("messages.document.citations", "dropped", "dropped", ""),
    ("messages.document.content", "lossy", "flattened", "blocks of a document as one text"),
    ("messages.tool_reference", "lossy", "text", ""),
    ("messages.browser_state", "lossy", "text", ""),
    ("messages.tool_result.image", "lossy", "moved", "into the user message after the results"),
    ("messages.tool_result.document", "lossy", "moved", "into the user message after the results"),
    ("messages.tool_result.is_error", "lossy", "marked", "a first line that comes back as is_error"),
    ("messages.tool_result.cache_control", "dropped", "dropped", ""),
    ("messages.assistant.text", "lossy", "before_tool_calls", "text that stood after a call"),
    ("messages.assistant.cache_control", "dropped", "dropped", ""),
    ("messages.assistant.image", "dropped", "dropped", "only text and calls are an assistant's"),
    ("messages.assistant.document", "dropped", "dropped", "only text and calls are an assistant's"),
    ("messages.thinking", "dropped", "dropped", "where the model does not want earlier reasoning back"),
    ("messages.redacted_thinking", "dropped", "dropped", "readable by its maker only"),
    (OTHER_FIELDS, "dropped", "dropped", "context_management, speed, service_tier, betas and the like"),
)  # fmt: skip

_RESPONSES_TO_OTHERS: tuple[tuple[str, LossOutcome, str, str], ...] = (
    ("previous_response_id", "refused", "", "nothing is stored; towards Responses upstreams too"),
    ("conversation", "refused", "", "nothing is stored; towards Responses upstreams too"),
    ("background", "refused", "", "nothing is stored; towards Responses upstreams too"),
    ("prompt", "refused", "", "nothing is stored; towards Responses upstreams too"),
    ("input.item_reference", "refused", "", "nothing is stored; towards Responses upstreams too"),
    ("input.(compaction and the like)", "dropped", "dropped", "another provider's; a word in its place says so"),
    ("input.compaction", "lossy", "text", "ours, towards Responses upstreams: the summary that it holds"),
    ("input.input_audio", "refused", "", "audio input"),
    ("input.input_image.file_id", "refused", "", "files stored elsewhere"),
    ("input.input_image.image_url", "refused", "", "other types than JPEG, PNG, GIF and WebP"),
    ("input.input_file.file_id", "refused", "", "files stored elsewhere"),
    ("input.input_file.file_url", "refused", "", "where the model takes data only"),
    ("tool_choice", "refused", "", "a tool that the provider would run"),
    ("tools.(tool_search, local_shell, shell, apply_patch)", "lossy", "function", "its own item again in the answer"),
    ("tools.(any other type)", "lossy", "function", "one that has a name and parameters"),
    ("tools.(any other type)", "dropped", "dropped", "only the provider could run it: file_search, mcp and the like"),
    ("tools.web_search", "lossy", "mapped", "where the provider's profile says so: its own search, in Messages"),
    ("tools.web_search", "dropped", "dropped", "Codex always offers it; a provider's profile may refuse it instead"),
    ("tools.custom", "lossy", "function", "a function with one string, and custom_tool_call again in the answer"),
    ("tools.namespace", "lossy", "flattened", "one name for both, and both again in the answer"),
    ("tools.strict", "dropped", "dropped", "a schema outside the strict subset, or unknown to the model"),
    ("tools.parameters", "lossy", "adapted", "what the model does not take of a schema is in the description"),
    ("tools.defer_loading", "lossy", "loaded", "the tool is offered at once"),
    ("tools.allowed_callers", "dropped", "dropped", ""),
    ("tools.output_schema", "dropped", "dropped", ""),
    ("tool_choice", "lossy", "auto", "where the model cannot be forced, or not while it reasons"),
    ("tool_choice.allowed_tools", "lossy", "filtered", "the other tools are not offered"),
    ("parallel_tool_calls", "dropped", "dropped", "where the model has no such switch"),
    ("temperature", "lossy", "clamped(x->1)", "above 1, where the model takes no more"),
    ("temperature", "dropped", "dropped", "where the model takes none, or while it reasons"),
    ("top_p", "dropped", "dropped", "where the model takes none or not beside temperature, or below 0.95 while it reasons"),
    ("reasoning.effort", "lossy", "nearest", "one that the model does not know"),
    ("reasoning.effort", "lossy", "switched", "where reasoning can only be on or off"),
    ("reasoning.effort", "lossy", "budget", "a budget in tokens, where the model takes one"),
    ("reasoning.effort", "dropped", "dropped", "where the model cannot reason, or max_output_tokens is 1,024 or less"),
    ("reasoning.effort", "dropped", "disabled", "in a tool loop whose thoughts did not come back, or for a forced call"),
    ("reasoning.summary", "dropped", "dropped", "where the model has no switch for it"),
    ("reasoning.context", "dropped", "dropped", ""),
    ("reasoning.mode", "dropped", "dropped", ""),
    ("text.format", "lossy", "instructed", "asked for in the system prompt"),
    ("text.format", "lossy", "prompted", "the schema in the prompt, where the model takes none"),
    ("text.format.schema", "lossy", "adapted", "unsupported constraints become descriptions"),
    ("text.format.strict", "dropped", "dropped", "a schema outside the strict subset"),
    ("text.verbosity", "dropped", "dropped", "where the provider takes none"),
    ("service_tier", "dropped", "dropped", "where the provider takes none; auto is none"),
    ("prompt_cache_key", "dropped", "dropped", "where the provider takes none"),
    ("prompt_cache_retention", "dropped", "dropped", "where the provider takes none"),
    ("metadata", "dropped", "dropped", "Chat has it only for what is stored"),
    ("safety_identifier", "dropped", "dropped", "where the provider takes none"),
    ("safety_identifier", "lossy", "hashed", "longer than the provider takes"),
    ("store", "dropped", "dropped", "true; towards Responses upstreams too"),
    ("include", "dropped", "dropped", "all but reasoning.encrypted_content; log probabilities, where the model gives none"),
    ("top_logprobs", "dropped", "dropped", "where the model gives none, as no Messages upstream does"),
    ("input.additional_tools", "lossy", "hoisted", "offered from the beginning"),
    ("input.developer", "lossy", "wrapped", "in the middle: text of the user in <system>, in its place"),
    ("input.role", "lossy", "merged", "messages of one role in a row are one, where the model's template wants that"),
    ("input.role", "lossy", "bridged", "a word of the assistant between an output and the user, where it must be"),
    ("input.phase", "dropped", "dropped", ""),
    ("input.reasoning", "dropped", "dropped", "of other models, or where the model does not want it back"),
    ("input.reasoning.encrypted_content", "dropped", "dropped", "of another provider, with no text"),
    ("input.custom_tool_call", "lossy", "function", "a function call with one string"),
    ("input.function_call.arguments", "lossy", "wrapped", "text that is no JSON object, kept as text"),
    ("input.function_call_output.output", "lossy", "marked", "a first line that marks a failure"),
    ("input.function_call_output.input_image", "lossy", "moved", "into the user message after the outputs"),
    ("input.function_call_output.input_file", "lossy", "moved", "into the user message after the outputs"),
    ("input.content.refusal", "lossy", "text", "text of the assistant"),
    ("input.annotations", "dropped", "dropped", "citations in the history, towards Chat"),
    ("input.input_image.detail", "dropped", "dropped", "where there is one resolution"),
    ("input.message", "lossy", "before_tool_calls", "text that stood after a call"),
    ("input.prompt_cache_breakpoint", "lossy", "5m", "cache_control of 5 minutes"),
    ("input.prompt_cache_breakpoint", "lossy", "1h", "cache_control of an hour, for 12 hours"),
    ("input.prompt_cache_breakpoint", "dropped", "dropped", "where the provider has no cache marks"),
    ("input.(calls of tools that the caller runs)", "lossy", "function", "tool_search_call and the like, with their outputs"),
    ("input.(items of any other type)", "lossy", "text", "what they say, as text"),
    ("input.(items of any other type)", "dropped", "dropped", "data, or nothing that can be read"),
    ("input.(items of hosted tools)", "lossy", "text", "web_search_call, shell_call and the like: what they hold, or found"),
    ("input.(any other field)", "dropped", "dropped", "of a message"),
    (OTHER_FIELDS, "dropped", "dropped", "client_metadata, truncation and the like"),
)  # fmt: skip

_OTHERS_TO_RESPONSES: tuple[tuple[str, LossOutcome, str, str], ...] = (
    ("stop", "refused", "", "there are no stop sequences"),
    ("tools.web_search", "lossy", "mapped", "where the provider's profile says so: its own search"),
    ("max_tokens", "refused", "", "0, which only warms a cache"),
    ("messages", "refused", "", "an assistant message to be continued"),
    ("temperature", "dropped", "dropped", "where the model takes none"),
    ("top_p", "dropped", "dropped", "where the model takes none"),
    ("top_k", "dropped", "dropped", ""),
    ("effort", "dropped", "dropped", "where the model has none"),
    ("effort", "lossy", "nearest", "one that the model does not know"),
    ("thinking", "dropped", "dropped", "where the model has no effort"),
    ("thinking.budget_tokens", "lossy", "effort", "the nearest effort"),
    ("parallel_tool_calls", "dropped", "dropped", "where the model has no such switch"),
    ("output_config.format.strict", "dropped", "dropped", "a schema outside the strict subset"),
    ("tools.strict", "dropped", "dropped", "a schema outside the strict subset, or unknown to the model"),
    ("tools.input_schema", "lossy", "adapted", "what the model does not take of a schema is in the description"),
    ("tool_choice", "lossy", "auto", "where the model cannot be forced"),
    ("cache_control", "dropped", "dropped", "where the model has no cache marks, and of tools"),
    ("user", "dropped", "dropped", "where the provider takes none"),
    ("user", "lossy", "hashed", "longer than the provider takes"),
    ("logprobs", "dropped", "dropped", "where the model gives none while it reasons"),
    ("top_logprobs", "dropped", "dropped", "where the model gives none while it reasons"),
    ("verbosity", "dropped", "dropped", "where the provider takes none"),
    ("service_tier", "dropped", "dropped", "where the provider takes none"),
    ("prompt_cache_key", "dropped", "dropped", "where the provider takes none"),
    ("prompt_cache_retention", "dropped", "dropped", "where the provider takes none"),
    ("metadata", "dropped", "dropped", "where the provider takes none"),
    ("system.billing_header", "dropped", "dropped", "Claude Code's; it defeats prompt caches"),
    ("messages.thinking", "dropped", "dropped", "of other models"),
    ("messages.redacted_thinking", "dropped", "dropped", "readable by its maker only"),
    ("messages.tool_result.is_error", "lossy", "marked", "a first line that comes back as is_error"),
    ("messages.tool_result.cache_control", "dropped", "dropped", ""),
    ("messages.assistant.cache_control", "dropped", "dropped", ""),
)  # fmt: skip

LOSSES = (
    tuple(LossRow("chat", "messages", *row) for row in _CHAT_TO_MESSAGES)
    + tuple(LossRow("messages", "chat", *row) for row in _MESSAGES_TO_CHAT)
    + tuple(LossRow("responses", "any", *row) for row in _RESPONSES_TO_OTHERS)
    + tuple(LossRow("any", "responses", *row) for row in _OTHERS_TO_RESPONSES)
)


_SECTIONS = (
    ("chat", "messages", "## Chat callers of Messages upstreams"),
    ("messages", "chat", "## Messages callers of Chat upstreams"),
    ("responses", "any", "## Responses callers of Chat and Messages upstreams"),
    ("any", "responses", "## Responses upstreams"),
)


def losses_table(page: str) -> str:
    """A Markdown ``page`` with the rows, each table in the section of its heading and in place of what stood there."""
    for caller, upstream, heading in _SECTIONS:
        before, found, rest = page.partition(f"\n{heading}\n")
        if not found:
            raise ValueError(f"the page has no section {heading!r}")
        lines = rest.split("\n")
        start = next(at for at, line in enumerate(lines) if line.startswith("| field "))
        end = next(at for at, line in enumerate(lines) if at > start and not line.startswith("|"))
        rows = [row for row in LOSSES if (row.caller, row.upstream) == (caller, upstream)]
        lines[start + 2 : end] = [_line(row) for row in rows]
        page = before + found + "\n".join(lines)
    return page


def _line(row: LossRow) -> str:
    return f"| `{row.field}` | {row.outcome} | {f'`{row.told}`' if row.told else ''} | {row.how} |"
