"""The formats of OpenAI's transcriptions and translations: a form with a recording goes in, its text comes out."""

from msgspec import Raw

from penstock.core.body.cost_fields import CostRules
from penstock.core.body.envelope import BodyRules, Envelope
from penstock.core.dialects.interface import CallerFormat, Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.multipart import FORM_SCAN, form_envelope, form_type, pass_form
from penstock.core.formats.streams import EVENT_STREAM, events
from penstock.errors import InvalidRequest

NAME = "transcriptions"


def _check(fields: dict[str, Raw], counting: bool) -> tuple[int | None, bool]:  # noqa: ARG001 - as BodyRules calls it
    raise InvalidRequest("The body must be multipart/form-data, with a file in it.")


def _read(body: bytes) -> Envelope:
    return form_envelope(body, _RULES, "file")


_RULES = BodyRules(
    check=_check,
    scan=FORM_SCAN,
    scanned=lambda _value: (None, True),
    turns="",
    attachments={},
    cost=CostRules((), frozenset(), tools=""),
    decoded=False,
    estimate_input=lambda _envelope: 0,
    form=_read,
)
CALLER = CallerFormat(body=_RULES, streams=EVENT_STREAM)
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
