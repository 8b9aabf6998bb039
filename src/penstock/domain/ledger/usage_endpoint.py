"""``GET /usage``: what the account of a key has used, by day or hour, and where that is asked for by model and key."""

from datetime import UTC, date, datetime
from typing import Final, cast
from urllib.parse import parse_qsl

import msgspec

from penstock.core.limits import day_of
from penstock.domain.ledger.usage_report import MOST_DAYS, Span, refused_of, usage_of
from penstock.errors import InvalidRequest
from penstock.store.sql.database import Database

_EPOCH: Final = date(1970, 1, 1)
_LAST_DAY: Final = (date.max - _EPOCH).days
"""The day after it has no name."""
_GROUPS: Final = frozenset({"model", "key"})
_DAYS: Final = 7
_MOST_FIELDS: Final = 20
"""Days of a report that says nothing of them."""
_encode = msgspec.json.Encoder().encode


class _Usage(msgspec.Struct, omit_defaults=True):
    start: str
    requests: int
    counted: int
    failed: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    model: str | None = None
    key_id: str | None = None
    key_name: str | None = None
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    web_searches: int = 0
    web_fetches: int = 0
    code_runs: int = 0
    file_searches: int = 0
    other_tool_runs: int = 0


class _Refused(msgspec.Struct):
    start: str
    code: str
    requests: int


class _Answer(msgspec.Struct):
    object: str
    start: str
    end: str
    span: str
    data: list[_Usage]
    refused: list[_Refused]


class Question(msgspec.Struct, frozen=True):
    """What is asked for: days (UTC day numbers), by which span, and what is told apart."""

    days: range
    span: Span
    models: bool
    keys: bool


def question_of(query: bytes, now: float) -> Question:
    """The question that a query asks. ``now`` is epoch seconds. Raises ``InvalidRequest``."""
    try:
        given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise InvalidRequest(f"A question has at most {_MOST_FIELDS} parameters.") from None
    span = given.get("by", "day")
    if span not in MOST_DAYS:
        raise InvalidRequest("`by` is day or hour.", param="by")
    groups = {word for word in given.get("group", "").split(",") if word}
    if groups - _GROUPS:
        raise InvalidRequest("`group` is model, key, or both with a comma between.", param="group")
    last = _day(given, "to", day_of(now))
    first = _day(given, "from", last - _DAYS + 1)
    if not 0 <= last - first < MOST_DAYS[span]:
        raise InvalidRequest(
            f"From the first day to the last may be 1 to {MOST_DAYS[span]} days by {span}.", param="from"
        )
    return Question(range(first, last + 1), cast("Span", span), "model" in groups, "key" in groups)


async def usage_answer(database: Database, user_id: str, asked: Question) -> bytes:
    """The answer, as JSON. Raises ``DatabaseUnavailable``."""
    async with database.connect() as conn:
        rows = await usage_of(conn, user_id, asked.days, asked.span, models=asked.models, keys=asked.keys)
        refused = await refused_of(conn, user_id, asked.days, asked.span)
    return _encode(
        _Answer(
            "usage",
            _moment(asked.days.start * 24),
            _moment(asked.days.stop * 24),
            asked.span,
            [
                _Usage(
                    _moment(row.start),
                    row.requests,
                    row.counted,
                    row.failed,
                    row.input_tokens,
                    row.output_tokens,
                    row.cache_read_tokens,
                    row.cache_write_tokens,
                    row.model,
                    row.key_id,
                    row.key_name,
                    *(() if row.special is None else msgspec.structs.astuple(row.special)[1:]),
                )
                for row in rows
            ],
            [_Refused(_moment(row.start), row.code, row.requests) for row in refused],
        )
    )


def _day(given: dict[str, str], name: str, otherwise: int) -> int:
    text = given.get(name, "")
    if not text:
        return otherwise
    try:
        day = (date.fromisoformat(text) - _EPOCH).days
    except ValueError as error:
        raise InvalidRequest(f"`{name}` is a day such as 2026-12-31.", param=name) from error
    if not 0 <= day < _LAST_DAY:
        raise InvalidRequest(f"`{name}` is a day from 1970 on, such as 2026-12-31.", param=name)
    return day


def _moment(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
