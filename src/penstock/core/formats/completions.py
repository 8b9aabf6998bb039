"""The format of OpenAI's older completions, a text that goes on: what editors call to fill in the middle of a file."""

from msgspec import Raw

from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.interface import Passing, UpstreamFormat
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.answers import WholeAnswers
from penstock.core.formats.requests import given, json_format, listed, pass_request
from penstock.core.formats.streams import EVENT_STREAM, events
from penstock.errors import InvalidRequest

NAME = "completions"
MAX_PROMPTS = 16
"""Prompts in one request: each is answered."""

_ORDINARY = frozenset(
    {
        "suffix", "temperature", "top_p", "top_k", "min_p", "stop", "seed", "logprobs", "echo", "frequency_penalty",
        "presence_penalty", "repetition_penalty", "logit_bias", "user", "stream_options", "metadata", "min_tokens",
    }
)  # fmt: skip
_STARTS = b'["'
_MANY = (b'"', b"[")


def _check(fields: dict[str, Raw]) -> None:
    prompt = given(fields, "prompt")
    if prompt[0] not in _STARTS:
        raise InvalidRequest("prompt must be a string, a list of strings, or token ids.", param="prompt")
    if prompt.startswith(b"[") and prompt[1:].lstrip().startswith(_MANY):
        listed(fields, "prompt", MAX_PROMPTS)


CALLER = json_format(
    _ORDINARY,
    Member("prompt", Form.NAME, required=True),
    _check,
    streams=EVENT_STREAM,
    limit="max_tokens",
)
UPSTREAM = UpstreamFormat(
    path=lambda _model, _stream: b"/completions",
    error_text=error_text,
    passing=Passing(pass_request, events(writes=True), WholeAnswers(("choices",), writes=True), writes=True),
)
