"""Whole answers that are passed through: what is wrong with one, what it has counted, and our model's name in it."""

from dataclasses import dataclass

import msgspec
from msgspec import Raw

from penstock.core.body.nesting import nests_deeper
from penstock.core.body.splice import replace_once
from penstock.core.body.value_limits import real
from penstock.core.dialects.interface import PassedAnswer
from penstock.core.dialects.upstream_error_text import kind_of, words
from penstock.core.neutral.events import Failed, garbled
from penstock.core.neutral.usage import Usage

_NULL = Raw(b"null")
_WEB_PAGE = (b"<!doctype", b"<html")
_LONGEST_MARK = len(_WEB_PAGE[0])

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_name = msgspec.json.Decoder(str).decode
_decode_error = msgspec.json.Decoder(float_hook=real).decode


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class _Meta(msgspec.Struct):
    tokens: _Counts | None = None


_decode_counts = msgspec.json.Decoder(_Counts | None).decode
_decode_meta = msgspec.json.Decoder(_Meta | None).decode


@dataclass(frozen=True, slots=True)
class WholeAnswers:
    """How whole answers of a format are passed through.

    One of the members ``holds`` is in every answer in JSON. ``plain``: an answer may be something else than JSON, a text or a
    file, and goes on as it is. ``writes``: the model generates text, whose tokens count.
    """

    holds: tuple[str, ...]
    plain: bool = False
    writes: bool = False

    def __call__(self, body: bytes, *, model: str | None) -> PassedAnswer:
        """The answer with ``model`` (None: its own) in place."""
        if self.plain and not body.lstrip().startswith((b"{", b"[")):
            if not body:
                return b"", Usage(), garbled("the answer is empty"), ""
            if is_web_page(body):
                return b"", Usage(), garbled("the answer is a web page"), ""
            return body, self._counted(None), None, ""
        try:
            if not body.isascii():
                body.decode()
            fields = None if nests_deeper(body) else _fields(body)
        except (ValueError, RecursionError):
            fields = None
        if fields is None:
            return b"", Usage(), garbled("the answer is not a JSON object"), ""
        failed = failure_in(fields)
        if failed is None and all(bytes(fields.get(name, _NULL)) == b"null" for name in self.holds):
            failed = garbled(f"the answer has no {self.holds[0]}")
        if failed is not None:
            return b"", Usage(), failed, ""
        named = name_in(fields)
        return with_model(body, fields, named, model), self._counted(fields), None, named or ""

    def _counted(self, fields: dict[str, Raw] | None) -> Usage:
        usage = Usage() if fields is None else usage_in(fields)
        return usage if self.writes else msgspec.structs.replace(usage, output=usage.output or 0)


def is_web_page(body: bytes) -> bool:
    """Whether an answer begins like a page of some proxy."""
    return body.lstrip()[:_LONGEST_MARK].lower().startswith(_WEB_PAGE)


def failure_in(fields: dict[str, Raw]) -> Failed | None:
    """The error that stands in place of an answer, or of a part of it."""
    error = bytes(fields.get("error", _NULL))
    if error == b"null":
        return None
    try:
        value: object = _decode_error(error)
    except (ValueError, RecursionError):
        value = None
    return Failed(kind_of(value), words(value) or "an error object without a message")


def name_in(fields: dict[str, Raw]) -> str | None:
    """The model that an answer names."""
    try:
        return _decode_name(fields.get("model", _NULL))
    except msgspec.DecodeError:
        return None


def with_model(body: bytes, fields: dict[str, Raw], named: str | None, model: str | None) -> bytes:
    """An answer that names a model with ``model`` in its place; one that names none stays as it is."""
    if model is None or named is None or named == model:
        return body
    public = _encode(model)
    return replace_once(body, "model", named, public) or _encode({**fields, "model": Raw(public)})


def usage_in(fields: dict[str, Raw]) -> Usage:
    """The tokens that the upstream has counted, by whichever of the usual names."""
    try:
        counts = _decode_counts(fields.get("usage", _NULL))
        if counts is None:
            meta = _decode_meta(fields.get("meta", _NULL))
            counts = None if meta is None else meta.tokens
    except msgspec.DecodeError:
        counts = None
    if counts is None:
        return Usage()
    output = counts.completion_tokens if counts.output_tokens is None else counts.output_tokens
    read = counts.prompt_tokens or counts.input_tokens
    if read is None and counts.total_tokens is not None:
        read = max(counts.total_tokens - (output or 0), 0) or None
    return Usage(input=read, output=output)
