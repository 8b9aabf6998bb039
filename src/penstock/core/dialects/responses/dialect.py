"""The Responses dialect (OpenAI; Codex speaks nothing else), under the names that every dialect has."""

from penstock.core.dialects.responses.decode_request import decode_request
from penstock.core.dialects.responses.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.responses.encode_request import encode_request
from penstock.core.dialects.responses.encode_response import (
    KEEPALIVE,
    ResponseEncoder,
    encode_response,
    error_frame,
)
from penstock.core.dialects.responses.passthrough import Passthrough, passthrough_response
from penstock.core.dialects.upstream_error_text import error_text

NAME = "responses"

__all__ = [
    "KEEPALIVE",
    "NAME",
    "Passthrough",
    "ResponseDecoder",
    "ResponseEncoder",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "error_frame",
    "error_text",
    "passthrough_response",
]
