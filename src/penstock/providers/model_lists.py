"""Vendors' lists of models (``GET /models``), read in every shape that they come in: pure functions on bytes.

There is no format but a custom. An entry is an object with ``id``, ``name`` or ``model``, or a string; the list lies under
``data`` or ``models``, or is the whole answer. What else an entry says is taken where it has the shape that its name
promises, and passed over where it has another: a list that is odd in one place is a list all the same.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import cast

import msgspec

from penstock.providers.known_models import Prices

LONGEST_NAME = 128
_PREFIXES = ("models/",)
"""What Google puts before a model's name."""


_CONTEXTS = (
    "context_length", "context_window", "max_context_length", "max_input_tokens", "max_model_len", "inputTokenLimit",
)  # fmt: skip
"""The members by which lists tell how many tokens a prompt may have."""


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model as its provider's list has it; None, '' and () are what the list does not say."""

    id: str
    name: str = ""
    context: int | None = None
    longest: int | None = None
    vision: bool | None = None
    documents: bool | None = None
    tools: bool | None = None
    word: str = ""
    """The list's word for what it is called for."""
    ends: str = ""
    """The first day on which it does not answer, as ``2026-12-11``."""
    successor: str = ""
    prices: Prices = Prices()


class ListPage(msgspec.Struct, frozen=True):
    """One answer: its models, and by which query the next one is asked for ('' where this is the last)."""

    models: tuple[Listed, ...]
    next_query: str = ""


def read_page(body: bytes) -> ListPage | None:
    """The models of an answer; None where it is no list of models."""
    try:
        answer: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    whole = _object(answer)
    entries: object = (
        cast("list[object]", answer) if isinstance(answer, list) else whole.get("data", whole.get("models"))
    )
    if not isinstance(entries, list):
        return None
    models = tuple(filter(None, map(_listed, cast("list[object]", entries))))
    if entries and not models:
        return None
    return ListPage(models, _next_query(whole, models))


def _next_query(whole: Mapping[str, object], models: tuple[Listed, ...]) -> str:
    """Anthropic's and Google's ways to say that there is more."""
    if whole.get("has_more") is True and models:
        last = whole.get("last_id")
        return f"after_id={_quoted(last if isinstance(last, str) else models[-1].id)}"
    token = whole.get("nextPageToken", whole.get("next_page_token"))
    return f"pageToken={_quoted(token)}" if isinstance(token, str) and token else ""


def _quoted(text: str) -> str:
    return "".join(
        c if (c.isalnum() and c.isascii()) or c in "-._~" else f"%{ord(c):02X}"
        for c in text[:256]
        if ord(c) < 256
    )


def _listed(entry: object) -> Listed | None:
    it = {"id": entry} if isinstance(entry, str) else _object(entry)
    name = next((v for k in ("id", "model", "name") if isinstance(v := it.get(k), str) and v), "")
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or not name.isascii() or " " in name:
        return None
    able, shape = _object(it.get("capabilities")), _object(it.get("architecture"))
    top = _object(it.get("top_provider"))
    inputs = _words(shape.get("input_modalities"))
    takes = _words(it.get("supported_parameters"))
    return Listed(
        id=name,
        name=_text(it, "display_name", "displayName") or (_text(it, "name") if "id" in it else ""),
        context=_whole(it, *_CONTEXTS),
        longest=_whole(it, "max_completion_tokens", "max_output_tokens", "max_tokens", "outputTokenLimit")
        or _whole(top, "max_completion_tokens"),
        vision=("image" in inputs) if inputs else _yes(able, "vision", "image_input"),
        documents=("file" in inputs) if inputs else _yes(able, "documents", "pdf_input"),
        tools=("tools" in takes) if takes else _yes(able, "function_calling", "tools"),
        word=_text(it, "type") if _text(it, "type") not in ("model", "base", "fine-tuned") else "",
        ends=_day(it, "shutdown_date", "retires_at", "deprecation", "expiration_date"),
        successor=_text(it, "successor", "replacement", "deprecation_replacement_model"),
        prices=_prices(_object(it.get("pricing"))),
    )  # fmt: skip


def _prices(told: Mapping[str, object]) -> Prices:
    """OpenRouter's prices: of one token, in units, as text."""

    def nanos(name: str) -> int | None:
        value = told.get(name)
        try:
            each = (
                float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
            )
        except ValueError:
            return None
        return round(each * 1e15) if 0 <= each < 1 else None

    if "prompt" not in told:
        return Prices()
    return Prices(nanos("prompt"), nanos("input_cache_read"), nanos("input_cache_write"), nanos("completion"))


def _object(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _words(value: object) -> frozenset[str]:
    return (
        frozenset(v for v in cast("list[object]", value) if isinstance(v, str))
        if isinstance(value, list)
        else frozenset()
    )


def _text(it: Mapping[str, object], *names: str) -> str:
    return next((v[:128] for name in names if isinstance(v := it.get(name), str) and v.isprintable()), "")


def _whole(it: Mapping[str, object], *names: str) -> int | None:
    """The first of the members that is a number of tokens."""
    for name in names:
        value = it.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 40:
            return value
    return None


def _yes(it: Mapping[str, object], *names: str) -> bool | None:
    """A capability: ``true``, or Anthropic's ``{"supported": true}``."""
    for name in names:
        value = it.get(name)
        if isinstance(value, bool):
            return value
        if isinstance(inner := _object(value).get("supported"), bool):
            return inner
    return None


def _day(it: Mapping[str, object], *names: str) -> str:
    """The day of the first member that is a date, an RFC 3339 instant or Unix seconds."""
    for text in _dates(it.get(name) for name in names):
        return text
    return ""


def _dates(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        try:
            if isinstance(value, str) and value:
                yield datetime.fromisoformat(value).date().isoformat()
            elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                yield datetime.fromtimestamp(value, UTC).date().isoformat()
        except (ValueError, OverflowError, OSError):
            continue
