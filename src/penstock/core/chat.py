"""The Chat dialect: what ``core/dialects.py`` needs of it, under the names that every dialect has."""

from penstock.core.chat_answer import write_reply
from penstock.core.chat_meter import Meter, meter_reply
from penstock.core.chat_read import read_request
from penstock.core.chat_reader import Reader, read_reply
from penstock.core.chat_write import write_request
from penstock.core.chat_writer import KEEPALIVE, Writer, error_frame
from penstock.core.failures import error_text

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
