"""The Responses dialect (OpenAI; Codex speaks nothing else), under the names that every dialect has."""

from penstock.core.failures import error_text
from penstock.core.responses_answer import error_frame
from penstock.core.responses_meter import Meter, meter_reply
from penstock.core.responses_read import read_request
from penstock.core.responses_reader import Reader, read_reply
from penstock.core.responses_write import write_request
from penstock.core.responses_writer import KEEPALIVE, Writer, write_reply

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
