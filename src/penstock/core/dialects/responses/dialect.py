"""The Responses dialect: both of its sides, and what is checked of a Responses body before anything is decoded."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import (
    MAX_MESSAGES,
    BodyRules,
    decode_integer,
    decode_objects,
    invalid,
    scanned_integer,
    typed,
    typed_as,
)
from penstock.core.body.request_scan import request_rules
from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.foreign_reasoning.responses import without_reasoning
from penstock.core.dialects.interface import CallerSide, Dialect, Passing, UpstreamSide
from penstock.core.dialects.responses.cost_fields import COST
from penstock.core.dialects.responses.decode_request import decode_compact_request, decode_request
from penstock.core.dialects.responses.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.responses.encode_request import encode_request
from penstock.core.dialects.responses.encode_response import (
    KEEPALIVE,
    ResponseEncoder,
    encode_compacted,
    encode_response,
    error_frame,
)
from penstock.core.dialects.responses.passthrough import (
    MARKS,
    Passthrough,
    declines,
    pass_request,
    passthrough_response,
)
from penstock.core.dialects.responses.remembered_request import decode_remembered, encode_remembered
from penstock.core.dialects.responses.request_echo import asked, asked_to_compact
from penstock.core.dialects.responses.request_schema import CALL_ID_LIMIT
from penstock.core.dialects.responses.startup import says_nothing
from penstock.core.dialects.upstream_error_text import error_text
from penstock.errors import InvalidRequest, PreviousResponseNotFound

_QUOTE = b'"'[0]
_NULL = Raw(b"null")
_NOTHING = frozenset((b"null", b"false"))
_STORED = ("previous_response_id", "conversation", "background", "prompt")
"""Fields that only a service that stores conversations could serve."""
_REFERENCE = b'"item_reference"'
_SCAN = request_rules(
    COST,
    wanted=(
        Member("model", Form.NAME, required=True),
        Member("input", Form.ITEMS, required=True),
        Member("max_output_tokens", Form.WHOLE),
        Member("stream", Form.FLAG),
        Member("store"),
        Member("include"),
        Member("tools", Form.TOOLS),
    ),
    most=MAX_MESSAGES,
    marks=MARKS,
)


def _check(fields: dict[str, Raw], counting: bool) -> tuple[int | None, bool]:  # noqa: ARG001 - as BodyRules calls it
    max_tokens = typed(fields, "max_output_tokens", decode_integer, "an integer")
    _check_input(fields)
    return max_tokens, True


def _check_input(fields: dict[str, Raw]) -> None:
    """A string or a list of objects, and nothing in the request that refers to what would have to be stored here."""
    raw = fields.get("input")
    if raw is None or memoryview(raw)[0] not in b'"[':
        raise InvalidRequest("input must be a string or a list of items.", param="input")
    for name in _STORED:
        if bytes(fields.get(name, _NULL)) not in _NOTHING:
            refusal = PreviousResponseNotFound if name == "previous_response_id" else InvalidRequest
            raise refusal(
                f"{name}: nothing is stored here from one request to the next; send the whole input each time"
                ' (in clients: "store": false).',
                param=name,
            )
    if memoryview(raw)[0] == _QUOTE:
        return
    try:
        items = decode_objects(raw)
    except msgspec.ValidationError as error:
        raise invalid(error, "input") from error
    if len(items) > MAX_MESSAGES:
        raise InvalidRequest(f"input may hold at most {MAX_MESSAGES} items.", param="input")
    for at, item in enumerate(items):
        if bytes(item.get("type", _NULL)) == _REFERENCE or item.keys() == {"id"}:
            raise InvalidRequest(
                f"input[{at}]: nothing is stored here that an item could refer to; send the item itself"
                ' (in clients: "store": false).',
                param=f"input[{at}]",
            )


def _scanned(value: Callable[[str], bytes]) -> tuple[int | None, bool]:
    return scanned_integer(value("max_output_tokens")), True


_CALLER = CallerSide(
    body=BodyRules(
        check=_check,
        scan=_SCAN,
        scanned=_scanned,
        cost=COST,
        turns="input",
        attachments={"images": typed_as(b"input_image"), "documents": typed_as(b"input_file")},
    ),
    decode_request=decode_request,
    decode_remembered=decode_remembered,
    ResponseEncoder=ResponseEncoder,
    encode_response=encode_response,
    error_frame=error_frame,
    keepalive=KEEPALIVE,
    says_nothing=says_nothing,
    reply_id="resp_",
    words={
        "logprobs": "include",
        "effort": "reasoning.effort",
        "reasoning_effort": "reasoning.effort",
        "thinking": "reasoning.summary",
        "response_format": "text.format",
        "response_format.json_schema.schema": "text.format.schema",
        "output_config.format": "text.format",
        "output_config.format.strict": "text.format.strict",
        "tools.function.strict": "tools.strict",
        "tools.function.parameters": "tools.parameters",
        "tools.input_schema": "tools.parameters",
        "cache_control": "input.prompt_cache_breakpoint",
        "user": "safety_identifier",
        "verbosity": "text.verbosity",
        "messages.system": "input.developer",
        "messages.role": "input.role",
        "messages.thinking": "input.reasoning",
        "messages.citations": "input.annotations",
        "messages.server_tools": "input.(items of hosted tools)",
        "messages.redacted_thinking": "input.reasoning",
        "messages.image_url.detail": "input.input_image.detail",
        "messages.tool_calls.function.arguments": "input.function_call.arguments",
        "messages.tool_result.image": "input.function_call_output.input_image",
        "messages.tool_result.document": "input.function_call_output.input_file",
        "messages.tool_result.is_error": "input.function_call_output.output",
        "messages.tool_result.cache_control": "input.prompt_cache_breakpoint",
        "messages.assistant.text": "input.message",
        "messages.assistant.cache_control": "input.prompt_cache_breakpoint",
    },
    search_field="tools",
    call_id_limit=CALL_ID_LIMIT,
    asked=asked,
)
_UPSTREAM = UpstreamSide(
    path=lambda _model, _stream: b"/responses",
    encode_request=encode_request,
    encode_remembered=encode_remembered,
    ResponseDecoder=ResponseDecoder,
    decode_response=decode_response,
    error_text=error_text,
    passing=Passing(pass_request, Passthrough, passthrough_response, declines),
    wants_reasoning=False,
    without_reasoning=without_reasoning,
    searches=True,
)

RESPONSES = Dialect("responses", caller=_CALLER, upstream=_UPSTREAM)
COMPACTING = replace(
    _CALLER,
    decode_request=decode_compact_request,
    decode_remembered=None,
    encode_response=encode_compacted,
    asked=asked_to_compact,
    passes=False,
)
"""What those speak who post to ``/responses/compact``: every upstream's model writes the summary."""
