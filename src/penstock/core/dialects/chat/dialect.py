"""The Chat dialect: both of its sides, and what is checked of a Chat body before anything is decoded."""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import (
    MAX_MESSAGES,
    BodyRules,
    check_messages,
    decode_integer,
    decode_number,
    scanned_integer,
    typed,
    typed_as,
)
from penstock.core.body.request_scan import request_rules
from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.chat.cost_fields import COST
from penstock.core.dialects.chat.decode_request import decode_request
from penstock.core.dialects.chat.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.chat.encode_request import encode_request
from penstock.core.dialects.chat.encode_response import (
    KEEPALIVE,
    ResponseEncoder,
    encode_response,
    error_frame,
)
from penstock.core.dialects.chat.passthrough import MARKS, Passthrough, pass_request, passthrough_response
from penstock.core.dialects.chat.remembered_request import decode_remembered, encode_remembered
from penstock.core.dialects.chat.request_schema import CALL_ID_LIMIT
from penstock.core.dialects.chat.startup import says_nothing
from penstock.core.dialects.foreign_reasoning.chat import without_reasoning
from penstock.core.dialects.interface import CallerSide, Dialect, Passing, UpstreamSide
from penstock.core.dialects.openai.deviations import may_deviate, regular
from penstock.core.dialects.upstream_error_text import error_text
from penstock.errors import InvalidRequest


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


_decode_options = msgspec.json.Decoder(_StreamOptions | None).decode

_SCAN = request_rules(
    COST,
    wanted=(
        Member("model", Form.NAME, required=True),
        Member("messages", Form.TURNS, required=True),
        Member("max_completion_tokens", Form.POSITIVE),
        Member("max_tokens", Form.POSITIVE),
        Member("stream", Form.FLAG),
        Member("stream_options", Form.OPTIONS),
        Member("tools", Form.TOOLS),
    ),
    checked=(Member("temperature", Form.TEMPERATURE),),
    most=MAX_MESSAGES,
    marks=MARKS,
)


def _check(fields: dict[str, Raw], counting: bool) -> tuple[int | None, bool]:  # noqa: ARG001 - as BodyRules calls it
    temperature = typed(fields, "temperature", decode_number, "a number")
    if temperature is not None and not 0 <= temperature <= 2:
        raise InvalidRequest("temperature must be between 0 and 2.", param="temperature")
    max_tokens: int | None = None
    for name in ("max_completion_tokens", "max_tokens"):
        value = typed(fields, name, decode_integer, "an integer")
        if value is not None and value < 1:
            raise InvalidRequest(f"{name} must be at least 1.", param=name)
        max_tokens = value if max_tokens is None else max_tokens
    wanted = "an object whose include_usage is true or false"
    options = typed(fields, "stream_options", _decode_options, wanted)
    check_messages(fields)
    return max_tokens, options is not None and bool(options.include_usage)


def _scanned(value: Callable[[str], bytes]) -> tuple[int | None, bool]:
    max_tokens = scanned_integer(value("max_completion_tokens"))
    if max_tokens is None:
        max_tokens = scanned_integer(value("max_tokens"))
    given = value("stream_options")
    options = _decode_options(given) if given else None
    return max_tokens, options is not None and bool(options.include_usage)


CHAT = Dialect(
    "chat",
    caller=CallerSide(
        body=BodyRules(
            check=_check,
            scan=_SCAN,
            scanned=_scanned,
            cost=COST,
            turns="messages",
            attachments={"images": typed_as(b"image_url"), "documents": typed_as(b"file")},
            regular=regular,
            may_deviate=may_deviate,
        ),
        decode_request=decode_request,
        decode_remembered=decode_remembered,
        ResponseEncoder=ResponseEncoder,
        encode_response=encode_response,
        error_frame=error_frame,
        keepalive=KEEPALIVE,
        says_nothing=says_nothing,
        reply_id="chatcmpl-",
        words={
            "effort": "reasoning_effort",
            "output_config.format.strict": "response_format.json_schema.strict",
            "tools.strict": "tools.function.strict",
            "tools.input_schema": "tools.function.parameters",
        },
        search_field="web_search_options",
        call_id_limit=CALL_ID_LIMIT,
    ),
    upstream=UpstreamSide(
        path=lambda _model, _stream: b"/chat/completions",
        encode_request=encode_request,
        encode_remembered=encode_remembered,
        ResponseDecoder=ResponseDecoder,
        decode_response=decode_response,
        error_text=error_text,
        passing=Passing(pass_request, Passthrough, passthrough_response),
        without_reasoning=without_reasoning,
    ),
)
