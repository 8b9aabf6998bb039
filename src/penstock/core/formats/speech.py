"""The format of OpenAI's speech: a text goes in, sound comes out as it is made, as a file or as events."""

from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.interface import Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.requests import json_format, pass_request, text
from penstock.core.formats.streams import BYTES, events

NAME = "speech"

CALLER = json_format(
    frozenset(
        {"voice", "instructions", "response_format", "stream_format", "language", "sample_rate", "user"}
    ),
    Member("input", Form.NAME, required=True),
    lambda fields: text(fields, "input"),
    streams=BYTES,
    always_streams=True,
)
UPSTREAM = UpstreamFormat(
    path=lambda _model, _stream: b"/audio/speech",
    error_text=error_text,
    # no answer of this format is JSON: what is there is an error, or nothing that is known
    passing=Passing(pass_request, events(), WholeAnswers(("audio",), plain=True)),
)
