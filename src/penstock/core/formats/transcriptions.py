"""The formats of OpenAI's transcriptions and translations: a form with a recording goes in, its text comes out."""

from penstock.core.dialects.interface import CallerFormat, Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.multipart import form_rules, form_type, pass_form
from penstock.core.formats.streams import EVENT_STREAM, events

NAME = "transcriptions"


CALLER = CallerFormat(
    body=form_rules("The body must be multipart/form-data, with a file in it.", "file"), streams=EVENT_STREAM
)
_PASSING = Passing(
    pass_form, events(writes=True), WholeAnswers(("text", "segments"), plain=True, writes=True), writes=True
)
UPSTREAM = UpstreamFormat(
    path=lambda _model, _stream: b"/audio/transcriptions",
    error_text=error_text,
    passing=_PASSING,
    content_type=form_type,
)
TO_ENGLISH = UpstreamFormat(
    path=lambda _model, _stream: b"/audio/translations",
    error_text=error_text,
    passing=_PASSING,
    content_type=form_type,
)
"""The same in English, whatever was spoken."""
