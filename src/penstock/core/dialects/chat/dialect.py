"""The Chat dialect: what ``core/dialects/registry.py`` needs of it, under the names that every dialect has."""

from penstock.core.dialects.chat.decode_request import read_request
from penstock.core.dialects.chat.decode_response import Reader, read_reply
from penstock.core.dialects.chat.encode_request import write_request
from penstock.core.dialects.chat.encode_response import KEEPALIVE, Writer, error_frame, write_reply
from penstock.core.dialects.chat.passthrough import Meter, meter_reply
from penstock.core.dialects.upstream_error_text import error_text

NAME = "chat"

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
