"""The Messages dialect (Anthropic): its requests, its streams, its whole answers and its errors, under the common names."""

from penstock.core.failures import error_text
from penstock.core.messages_meter import Meter, meter_reply
from penstock.core.messages_read import read_request
from penstock.core.messages_reader import Reader, read_reply
from penstock.core.messages_write import write_request
from penstock.core.messages_writer import KEEPALIVE, Writer, error_frame, write_reply

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
