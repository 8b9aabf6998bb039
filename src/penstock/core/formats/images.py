"""The format of OpenAI's images: a text goes in, images come out, in base64 or as addresses."""

from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.interface import Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.requests import json_format, pass_request, text
from penstock.core.formats.streams import EVENT_STREAM, events

NAME = "images"

_ORDINARY = frozenset(
    {
        "size", "quality", "style", "background", "moderation", "output_format", "output_compression", "response_format",
        "partial_images", "user", "seed", "negative_prompt", "aspect_ratio",
    }
)  # fmt: skip

CALLER = json_format(
    _ORDINARY,
    Member("prompt", Form.NAME, required=True),
    lambda fields: text(fields, "prompt"),
    streams=EVENT_STREAM,
)
UPSTREAM = UpstreamFormat(
    path=lambda _model, _stream: b"/images/generations",
    error_text=error_text,
    passing=Passing(pass_request, events(), WholeAnswers(("data",))),
)
