"""The format of OpenAI's embeddings: what is checked of a request, and how a whole answer is passed through.

A request holds up to 32 MB of texts or token ids, an answer as much of vectors; neither is decoded. What ``input`` is can be
told from its bytes: its grammar has been checked when the top level was read, so a list that is nothing but digits and
commas is one of token ids.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from penstock.core.body.cost_fields import SHARED, CostRules
from penstock.core.body.envelope import BodyRules, Envelope
from penstock.core.body.nesting import nests_deeper
from penstock.core.body.request_scan import request_rules
from penstock.core.body.scan_rules import Form, Member, ScanRules
from penstock.core.body.scanner import BOUNDS_NESTING, scan
from penstock.core.body.splice import replace_once, replace_spans
from penstock.core.body.value_limits import real
from penstock.core.dialects.interface import CallerFormat, PassedAnswer, Passing, UpstreamFormat
from penstock.core.dialects.prepare import passed_plainly
from penstock.core.dialects.upstream_error_text import error_text, kind_of, words
from penstock.core.neutral.events import Failed, garbled
from penstock.core.neutral.usage import Usage
from penstock.errors import InvalidRequest

NAME = "embeddings"
"""The format's word in the catalogue (``speaks``), in the ledger and in metrics."""
MAX_INPUTS = 2048
"""Texts, or lists of token ids, in one request: OpenAI's documented limit."""

_WANTED = "input must be a string, a list of strings, a list of token ids, or a list of lists of token ids."
_BYTES_PER_TOKEN = 4
_SPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_QUOTE, _BRACKET = b'"['

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_name = msgspec.json.Decoder(str).decode
_decode_error = msgspec.json.Decoder(float_hook=real).decode


# ---- the request


def _check(fields: dict[str, Raw], counting: bool) -> tuple[int | None, bool]:  # noqa: ARG001 - as BodyRules calls it
    if bytes(fields.get("stream", Raw(b"false"))) == b"true":
        raise InvalidRequest("stream: embeddings are not streamed; leave it out.", param="stream")
    given = bytes(fields.get("input", Raw(b"null")))
    if given == b"null":
        raise InvalidRequest("input is required.", param="input")
    inputs = _count_inputs(given)
    if inputs is None:
        raise InvalidRequest(_WANTED, param="input")
    if not inputs:
        raise InvalidRequest("input must not be empty.", param="input")
    if inputs > MAX_INPUTS:
        raise InvalidRequest(
            f"input may hold at most {MAX_INPUTS} entries; split it into several requests.", param="input"
        )
    return None, False


def _count_inputs(given: bytes) -> int | None:
    """How many texts or lists of token ids ``input`` holds; None where it is none of what it may be."""
    if given[0] == _QUOTE:
        return int(len(given) > len(b'""'))
    if given[0] != _BRACKET:
        return None
    if b'"' in given:
        return _count_strings(given)
    brackets = given.translate(None, _DIGITS + _SPACE + b",")
    if brackets == b"[]":  # one list of token ids
        return int(len(given.translate(None, _SPACE)) > len(b"[]"))
    lists = len(brackets) // 2 - 1
    plain = given.translate(None, _SPACE)
    between = plain.startswith(b"[[") and plain.endswith(b"]]") and plain.count(b"],[") == lists - 1
    return lists if between and brackets == b"[" + b"[]" * lists + b"]" else None


def _count_strings(given: bytes) -> int | None:
    """How many strings a list holds; None where it holds anything else."""
    if b"\\" in given:
        given = given.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = given.count(b'"') // 2
    if strings > MAX_INPUTS:  # too many, whatever else is in it: no reason to take it apart
        return strings
    outside = b"".join(given.split(b'"')[::2])
    return strings if outside.translate(None, _SPACE + b",") == b"[]" else None


def _scanned(value: Callable[[str], bytes]) -> tuple[int | None, bool]:  # noqa: ARG001 - as BodyRules calls it
    return None, False


def _estimate_input(envelope: Envelope) -> int:
    """Input tokens: as many as there are token ids, or a quarter of the bytes of the texts."""
    given = envelope.value("input")
    if b'"' in given:
        return max(len(given) // _BYTES_PER_TOKEN, 1)
    return given.count(b",") + 1


pass_request = passed_plainly(lambda envelope, model: envelope.encode(model))
"""The caller's body for another model; nothing else of it is changed."""


# ---- the answer


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


_decode_counts = msgspec.json.Decoder(_Counts | None).decode


_REGULAR = ScanRules(
    (
        Member("model", Form.NAME, required=True),
        Member("data", Form.FILLED, required=True),
        Member("usage"),
        *map(Member, ("object", "id", "created", "provider")),
    ),
    wanted=3,
)
"""An answer with nothing unusual about it; its vectors are not looked into."""
_MODEL, _USAGE = _REGULAR.places["model"], _REGULAR.places["usage"]


def passthrough_response(body: bytes, *, model: str | None) -> PassedAnswer:
    """A whole answer to relay, with our ``model`` in place."""
    spans = scan(body, 0, len(body), _REGULAR)
    if spans is None or (not BOUNDS_NESTING and nests_deeper(body)):
        return _passthrough_decoded(body, model)
    usage = Usage(input=_input_tokens(body[spans[_USAGE] : spans[_USAGE + 1]] or b"null"), output=0)
    start, end = spans[_MODEL], spans[_MODEL + 1]
    named = body[start + 1 : end - 1].decode()
    public = None if model is None else _encode(model)
    if public is None or body[start:end] == public:
        return body, usage, None, named
    return replace_spans(body, [(start, end)], public), usage, None, named


def _passthrough_decoded(body: bytes, model: str | None) -> PassedAnswer:
    """The same for an answer that the scanner leaves: with an error, without a model, or written in an odd way."""
    try:
        if not body.isascii():
            body.decode()
        fields = None if nests_deeper(body) else _fields(body)
    except (ValueError, RecursionError):
        fields = None
    if fields is None:
        return b"", Usage(), garbled("the answer is not a JSON object"), ""
    failed = _failure_in(fields)
    if failed is not None:
        return b"", Usage(), failed, ""
    usage = Usage(input=_input_tokens(fields.get("usage", Raw(b"null"))), output=0)
    named = _model_of(fields)
    if model is None or named == model:
        return body, usage, None, named or ""
    public = _encode(model)
    out = None if named is None else replace_once(body, "model", named, public)
    return out or _encode({**fields, "model": Raw(public)}), usage, None, named or ""


def _failure_in(fields: dict[str, Raw]) -> Failed | None:
    error = bytes(fields.get("error", Raw(b"null")))
    if error != b"null":
        try:
            value: object = _decode_error(error)
        except (ValueError, RecursionError):
            value = None
        return Failed(kind_of(value), words(value) or "an error object without a message")
    data = bytes(fields.get("data", Raw(b"null")))
    return None if data[0] == _BRACKET else garbled("the answer has no list of embeddings")


def _input_tokens(usage: bytes | Raw) -> int | None:
    """The tokens that the upstream has counted; None where it says nothing that is understood."""
    try:
        counts = _decode_counts(usage)
    except msgspec.DecodeError:
        return None
    if counts is None:
        return None
    return counts.prompt_tokens or counts.total_tokens


def _model_of(fields: dict[str, Raw]) -> str | None:
    try:
        return _decode_name(fields.get("model", Raw(b"null")))
    except msgspec.DecodeError:
        return None


_COST = CostRules(
    SHARED,
    frozenset({"model", "input", "encoding_format", "dimensions", "user", "metadata"}),
    tools="",
)
CALLER = CallerFormat(
    body=BodyRules(
        check=_check,
        scan=request_rules(
            _COST,
            wanted=(
                Member("model", Form.NAME, required=True),
                Member("input", Form.TEXTS, required=True),
            ),
            most=MAX_INPUTS,
        ),
        scanned=_scanned,
        cost=_COST,
        turns="input",
        attachments={},
        decoded=False,
        estimate_input=_estimate_input,
    )
)
UPSTREAM = UpstreamFormat(
    path=lambda _model, _stream: b"/embeddings",
    error_text=error_text,
    passing=Passing(pass_request, None, passthrough_response),
)
