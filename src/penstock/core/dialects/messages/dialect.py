"""The Messages dialect (Anthropic): its requests, its streams, its whole answers and its errors, under the common names."""

from penstock.core.dialects.messages.decode_request import decode_request
from penstock.core.dialects.messages.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.messages.encode_request import encode_request
from penstock.core.dialects.messages.encode_response import (
    KEEPALIVE,
    ResponseEncoder,
    encode_response,
    error_frame,
)
from penstock.core.dialects.messages.passthrough import Passthrough, passthrough_response
from penstock.core.dialects.upstream_error_text import error_text

NAME = "messages"

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
