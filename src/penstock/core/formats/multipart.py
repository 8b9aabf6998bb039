"""Bodies of ``multipart/form-data`` (RFC 7578): read as far as their small fields, and written again with another model.

Files in them are stepped over and never decoded. The form is read more strictly than most servers do, so that no server finds
another form in the same bytes: the boundary occurs as a delimiter and nowhere else, and no field is there twice that says what
the request costs.
"""

import re

import msgspec
from msgspec import Raw

from penstock.core.body.cost_fields import CostRules, says_cost
from penstock.core.body.envelope import BodyRules, Envelope
from penstock.core.body.scan_rules import Form, Member, ScanRules
from penstock.core.dialects.prepare import passed_plainly
from penstock.errors import InvalidRequest

MAX_PARTS = 64
MAX_HEAD = 8 * 1024
"""Bytes of the headers of one part."""
MAX_MODEL_NAME = 256
"""Bytes of the model's name."""
FORM_SCAN = ScanRules((Member("model", Form.NAME, required=True),), wanted=1)
"""Where a form has its model, in the terms of an envelope. No scanner is ever asked: a form is no JSON."""

_CRLF = b"\r\n"
_BOUNDARY = re.compile(rb"(?:\r\n)?--([0-9A-Za-z'()+_,./:=?-]{1,70})[ \t]*\r\n")
_DISPOSITION = re.compile(
    rb'form-data((?:[ \t]*;[ \t]*[A-Za-z*_-]+=(?:"[^"\\\r\n]*(?:\\.[^"\\\r\n]*)*"|[^\s";]+))*)[ \t]*',
    re.IGNORECASE,
)
_PARAMETER = re.compile(rb';[ \t]*([A-Za-z*_-]+)=("[^"\\\r\n]*(?:\\.[^"\\\r\n]*)*"|[^\s";]+)')
_AFTER_DELIMITER = re.compile(rb"[ \t]*\r\n")
_ENCODINGS = frozenset((b"7bit", b"8bit", b"binary"))
_TRUE = frozenset((b"true", b"1"))
_TOKEN_SIGNS = re.compile(rb"[0-9A-Za-z'+_.-]+")
_AT = FORM_SCAN.places["model"]


class FormPart(msgspec.Struct, frozen=True):
    """One part: the field's name, whether it is a file, and where in the body its value begins and ends."""

    name: str
    is_file: bool
    start: int
    end: int


def read_parts(body: bytes) -> list[FormPart]:
    """The parts of a form. Raises ``InvalidRequest``."""
    opening = _BOUNDARY.match(body)
    if opening is None:
        raise InvalidRequest("The body must be multipart/form-data, with a file in it.")
    boundary = b"--" + opening.group(1)
    delimiter = _CRLF + boundary
    parts: list[FormPart] = []
    at = opening.end()
    while True:
        if len(parts) == MAX_PARTS:
            raise InvalidRequest(f"The form has more than {MAX_PARTS} parts.")
        end = body.find(delimiter, at - len(_CRLF))
        if end < 0:
            raise InvalidRequest("The form ends without its closing boundary.")
        parts.append(_part(body, at, end))
        after = end + len(delimiter)
        if body.startswith(b"--", after):
            break
        following = _AFTER_DELIMITER.match(body, after)
        if following is None:
            raise InvalidRequest("The form's boundary stands in the middle of a part.")
        at = following.end()
    if body.count(boundary) != len(parts) + 1:
        raise InvalidRequest("The form's boundary stands in the middle of a part.")
    return parts


def _part(body: bytes, start: int, end: int) -> FormPart:
    close = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEAD))
    if close < 0:
        raise InvalidRequest("A part of the form has no end of its headers, or too many of them.")
    found: tuple[str, bool] | None = None
    for line in body[start:close].split(_CRLF):
        name, colon, value = line.partition(b":")
        if not colon or b"\r" in line or b"\n" in line:
            raise InvalidRequest("A part of the form has a header that is none.")
        match name.strip().lower():
            case b"content-disposition" if found is None:
                found = _disposition(value.strip())
            case b"content-disposition":
                raise InvalidRequest("A part of the form has two names.")
            case b"content-transfer-encoding" if value.strip().lower() not in _ENCODINGS:
                raise InvalidRequest(
                    "Parts of the form must be sent as they are, without a transfer encoding."
                )
            case _:
                pass
    if found is None:
        raise InvalidRequest("A part of the form has no name.")
    return FormPart(*found, close + len(b"\r\n\r\n"), end)


def _disposition(value: bytes) -> tuple[str, bool]:
    """The field's name, and whether it is a file."""
    parameters = _DISPOSITION.fullmatch(value)
    given: dict[bytes, bytes] = {}
    for match in _PARAMETER.finditer(b"" if parameters is None else parameters.group(1)):
        name = match.group(1).lower()
        if name in given:
            raise InvalidRequest("A part of the form has two names.")
        given[name] = match.group(2)
    quoted = given.get(b"name", b"")
    plain = quoted[1:-1] if quoted.startswith(b'"') else quoted
    if not plain or b"\\" in plain or b"name*" in given:
        raise InvalidRequest("A part of the form has no name, or one that cannot be read.")
    try:
        return plain.decode(), b"filename" in given or b"filename*" in given
    except UnicodeDecodeError as error:
        raise InvalidRequest("The name of a part of the form is not valid UTF-8.") from error


def form_rules(refused: str, file: str) -> BodyRules:
    """What is checked of a form that has a file in the field ``file``; ``refused`` is told of any other body."""

    def check(fields: dict[str, Raw], counting: bool) -> tuple[int | None, bool]:  # noqa: ARG001 - as BodyRules calls it
        raise InvalidRequest(refused)

    def read(body: bytes) -> Envelope:
        return form_envelope(body, rules, file)

    rules = BodyRules(
        check=check,
        scan=FORM_SCAN,
        scanned=lambda _value: (None, True),
        turns="",
        attachments={},
        cost=CostRules((), frozenset(), tools=""),
        decoded=False,
        estimate_input=lambda _envelope: 0,
        form=read,
    )
    return rules


def form_envelope(body: bytes, rules: BodyRules, file: str) -> Envelope:
    """The envelope of a form that has a file in the field ``file``, or several in ``file[]``. Raises ``InvalidRequest``."""
    parts = read_parts(body)
    fields: dict[str, FormPart] = {}
    for part in parts:
        if part.name not in _OWN_FIELDS and says_cost(part.name) and not _is_one_answer(body, part):
            raise InvalidRequest(f"{part.name[:100]}: this is not taken in a form.", param=part.name[:100])
        if part.name in fields and part.name in _OWN_FIELDS | {file}:
            raise InvalidRequest(f"{part.name} is there twice.", param=part.name)
        fields.setdefault(part.name, part)
    model, stream = fields.get("model"), fields.get("stream")
    name = "" if model is None or model.is_file else _text(body, model)
    if model is None or not name.strip():
        raise InvalidRequest("model is required.", param="model")
    given = fields.get(file) or fields.get(f"{file}[]")
    if given is None or given.start >= given.end:
        raise InvalidRequest(f"{file} is required: a file that is not empty.", param=file)
    streams = stream is not None and _text(body, stream).strip().lower().encode() in _TRUE
    return Envelope(
        rules,
        body,
        name,
        streams,
        None,
        include_usage=True,
        spans=(0, len(body) - 1, model.start, model.end),
        decoded={},
    )


_OWN_FIELDS = frozenset(("model", "stream"))


def _is_one_answer(body: bytes, part: FormPart) -> bool:
    """Whether a field asks for what comes anyway."""
    return part.name == "n" and body[part.start : part.end].strip() == b"1"


def _text(body: bytes, part: FormPart) -> str:
    value = body[part.start : part.end]
    if len(value) > MAX_MODEL_NAME:
        raise InvalidRequest(f"{part.name} is longer than {MAX_MODEL_NAME} bytes.", param=part.name)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{part.name} is not valid UTF-8.", param=part.name) from error


def _with_model(envelope: Envelope, model: str) -> bytes:
    body, spans = envelope.body, envelope.spans
    if spans is None or model == envelope.model:
        return body
    whole = memoryview(body)
    return b"".join((whole[: spans[_AT]], model.encode(), whole[spans[_AT + 1] :]))


pass_form = passed_plainly(_with_model)
"""The caller's form for another model; nothing else of it is changed."""


def form_type(body: bytes) -> bytes:
    """The content type of a form: what its first line says that its boundary is."""
    opening = _BOUNDARY.match(body)
    boundary = b"" if opening is None else opening.group(1)
    if _TOKEN_SIGNS.fullmatch(boundary) is None:
        boundary = b'"%b"' % boundary
    return b"multipart/form-data; boundary=" + boundary
