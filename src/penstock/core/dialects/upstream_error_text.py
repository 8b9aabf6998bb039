"""Error texts of upstreams: the text and the kind, out of the many shapes that error bodies have."""

import html
import re
from typing import cast

import msgspec

from penstock.core.body.nesting import nests_deeper
from penstock.core.body.value_limits import real
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.failure_classes.signs import class_of_code

_decode = msgspec.json.Decoder(float_hook=real).decode

_TITLE = re.compile(rb"<title[^<>]*>([^<]{1,300})</title", re.IGNORECASE)
_TITLE_WITHIN = 16 * 1024
_TEXT_KEYS = ("message", "error", "detail", "msg", "status_msg", "error_msg", "reason")
_DEPTH = 4
_STATUS_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_KINDS = frozenset(_STATUS_KINDS.values()) | {"api_error"}
# words in an error's type or code that say more than its shape
_WORDS = (
    ("rate_limit", "rate_limit_error"),
    ("rate limit", "rate_limit_error"),
    ("too_many_requests", "rate_limit_error"),
    ("overloaded", "overloaded_error"),
    ("insufficient_system_resource", "overloaded_error"),
    ("unavailable", "overloaded_error"),
    ("insufficient_quota", "billing_error"),
    ("context_length", "invalid_request_error"),
    ("invalid_request", "invalid_request_error"),
    ("badrequest", "invalid_request_error"),
    ("timeout", "timeout_error"),
)


def error_text(status: int, body: bytes) -> str | None:  # noqa: ARG001 - the same in every dialect; some may need it
    """The upstream's own message out of its error body, or None where it holds none (empty, HTML, other JSON).

    Takes ``{"error": {"message"}}``, ``{"error": "text"}``, ``{"message"}``, ``{"detail"}`` (also FastAPI's list of
    problems), an error object inside an array, and a body that is itself one line of plain text.
    """
    if nests_deeper(body):
        return None
    try:
        value: object = _decode(body)
    except (ValueError, RecursionError):
        return _plain_text(body)
    return words(value)


def page_title(body: bytes) -> str:
    """The title of an HTML page, '' where it is none, or has none."""
    found = _TITLE.search(body[:_TITLE_WITHIN]) if body.lstrip()[:1] == b"<" else None
    return html.unescape(found[1].decode("utf-8", "replace")).strip() if found else ""


def _plain_text(body: bytes) -> str | None:
    text = body.decode("utf-8", "replace").strip()
    return text if 0 < len(text) <= 500 and text[0] not in "<{[" and "\n" not in text else None


def words(value: object, depth: int = _DEPTH) -> str | None:
    """The message text inside decoded error JSON of any usual shape; None where there is none."""
    if isinstance(value, str):
        return value.strip() or None
    if depth == 0:
        return None
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        for key in _TEXT_KEYS:
            if key in members and (text := words(members[key], depth - 1)) is not None:
                return text
        return None
    if isinstance(value, list):
        texts = [
            text for item in cast("list[object]", value) if (text := _problem(item, depth - 1)) is not None
        ]
        return "; ".join(texts) or None
    return None


def _problem(item: object, depth: int) -> str | None:
    """One entry of FastAPI's ``detail`` list with the place it speaks of, or any other error object."""
    text = words(item, depth)
    if text is None or not isinstance(item, dict):
        return text
    place = cast("dict[str, object]", item).get("loc")
    if not isinstance(place, list):
        return text
    return f"{'.'.join(str(step) for step in cast('list[object]', place))}: {text}"


_CODE_KEYS = ("code", "type", "status", "status_code")
_CLASS_KINDS = {
    FailureClass.QUOTA: "billing_error",
    FailureClass.AUTH: "authentication_error",
    FailureClass.RATE: "rate_limit_error",
    FailureClass.OVERLOAD: "overloaded_error",
    FailureClass.MISSING: "not_found_error",
}


def codes_of(body: bytes) -> tuple[str, ...]:
    """The codes of an error body, as far as there are any: of the error, of what holds it, of MiniMax's ``base_resp``."""
    if nests_deeper(body):
        return ()
    try:
        value: object = _decode(body)
    except (ValueError, RecursionError):
        return ()
    return codes_in(value)


def codes_in(value: object) -> tuple[str, ...]:
    """The same of decoded error JSON."""
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    if not isinstance(value, dict):
        return ()
    members = cast("dict[str, object]", value)
    holders = [members]
    for key in ("error", "base_resp"):
        inner = members.get(key)
        if isinstance(inner, dict):
            holders.insert(0, cast("dict[str, object]", inner))
    codes = [holder.get(key) for holder in holders for key in _CODE_KEYS]
    # of the longest codes that are known none has more letters than this
    return tuple(str(code) for code in codes if isinstance(code, str | int) and len(str(code)) <= 64)


def kind_of(value: object) -> str:
    """The Anthropic error word that decoded error JSON comes to: by a code that is known, its own type, or its status."""
    for code in codes_in(value):
        kind = _CLASS_KINDS.get(class_of_code(code) or FailureClass.BROKEN)
        if kind is not None:
            return kind
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        inner = members.get("error")
        if isinstance(inner, dict):
            members = cast("dict[str, object]", inner)
        word = members.get("type")
        if isinstance(word, str) and word in _KINDS:
            return word
        for key in ("code", "status", "status_code", "type"):
            found = _kind_of_code(members.get(key))
            if found is not None:
                return found
    return "api_error"


def _kind_of_code(code: object) -> str | None:
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    if isinstance(code, int):
        return _STATUS_KINDS.get(code)
    if isinstance(code, str):
        lower = code.lower()
        return next((kind for word, kind in _WORDS if word in lower), None)
    return None
