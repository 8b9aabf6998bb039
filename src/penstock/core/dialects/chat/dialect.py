"""The Chat dialect: what ``core/dialects/registry.py`` needs of it, under the names that every dialect has."""

from penstock.core.dialects.chat.decode_request import decode_request
from penstock.core.dialects.chat.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.chat.encode_request import encode_request
from penstock.core.dialects.chat.encode_response import (
    KEEPALIVE,
    ResponseEncoder,
    encode_response,
    error_frame,
)
from penstock.core.dialects.chat.passthrough import Passthrough, passthrough_response
from penstock.core.dialects.upstream_error_text import error_text

NAME = "chat"

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
