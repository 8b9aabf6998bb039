"""The Responses dialect (OpenAI; Codex speaks nothing else), under the names that every dialect has."""

from penstock.core.dialects.responses.decode_request import read_request
from penstock.core.dialects.responses.decode_response import Reader, read_reply
from penstock.core.dialects.responses.encode_request import write_request
from penstock.core.dialects.responses.encode_response import KEEPALIVE, Writer, error_frame, write_reply
from penstock.core.dialects.responses.passthrough import Meter, meter_reply
from penstock.core.dialects.upstream_error_text import error_text

NAME = "responses"

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
