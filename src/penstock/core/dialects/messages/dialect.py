"""The Messages dialect (Anthropic): its requests, its streams, its whole answers and its errors, under the common names."""

from penstock.core.dialects.messages.decode_request import read_request
from penstock.core.dialects.messages.decode_response import Reader, read_reply
from penstock.core.dialects.messages.encode_request import write_request
from penstock.core.dialects.messages.encode_response import KEEPALIVE, Writer, error_frame, write_reply
from penstock.core.dialects.messages.passthrough import Meter, meter_reply
from penstock.core.dialects.upstream_error_text import error_text

NAME = "messages"

__all__ = [
    "KEEPALIVE",
    "NAME",
    "Meter",
    "Reader",
    "Writer",
    "error_frame",
    "error_text",
    "meter_reply",
    "read_reply",
    "read_request",
    "write_reply",
    "write_request",
]
