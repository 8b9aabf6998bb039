"""The format of OpenAI's moderations: texts and images go in, what is objectionable in each comes out."""

from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.interface import Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.requests import json_format, needs, pass_request

NAME = "moderations"

CALLER = json_format(frozenset(), Member("input", Form.TEXTS, required=True), needs("input"), most=2048)
UPSTREAM = UpstreamFormat(
    path=lambda _model, _stream: b"/moderations",
    error_text=error_text,
    passing=Passing(pass_request, None, WholeAnswers(("results",))),
)
