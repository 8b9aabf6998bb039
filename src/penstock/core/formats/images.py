"""The format of OpenAI's images: a text goes in, with images where they are to be changed, and images come out."""

from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.interface import CallerFormat, Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.multipart import form_rules, form_type, pass_form
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
EDITS_CALLER = CallerFormat(
    body=form_rules("The body must be multipart/form-data, with an image in it.", "image"),
    streams=EVENT_STREAM,
)
EDITS = UpstreamFormat(
    path=lambda _model, _stream: b"/images/edits",
    error_text=error_text,
    passing=Passing(pass_form, events(), WholeAnswers(("data",))),
    content_type=form_type,
)
"""The same of images that are given: a form with one, or several, and what is to be changed."""
