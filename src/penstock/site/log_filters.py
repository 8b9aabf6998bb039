"""Filters of the request log in the address of its page, and the log's rows as lines of a file."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request

from penstock.core.quoting import csv_cell
from penstock.domain.ledger.history import Receipt
from penstock.domain.ledger.request_log import REFUSED, Filter
from penstock.domain.ledger.request_order import ORDERS
from penstock.errors import InvalidRequest

OUTCOMES: Final = (
    ("", "all results"),
    ("completed", "completed"),
    ("failed", "not completed"),
    (REFUSED, "refused before a provider"),
    ("upstream_error", "provider failed"),
    ("client_gone", "the caller left"),
    ("ended_by_owner", "ended by you"),
)
"""What can be chosen of results."""
_NAMES: Final = (
    "model", "key", "outcome", "status", "code", "provider", "format", "client", "stream", "from", "to", "sort", "before",
)  # fmt: skip
_EPOCH: Final = date(1970, 1, 1)


def filter_of(request: Request, *, providers: bool) -> Filter:
    """The filter that an address means; ``providers``: that of a provider may be used. Raises ``InvalidRequest``."""
    query = request.query_params
    status = query.get("status", "")
    if status and not (status.isascii() and status.isdigit() and len(status) == 3):
        raise InvalidRequest("A status has three digits.", param="status")
    return Filter(
        model=query.get("model", "")[:128],
        key_id=query.get("key", "")[:40],
        outcome=query.get("outcome", "")[:32],
        status=int(status) if status else None,
        code=query.get("code", "")[:64],
        provider=query.get("provider", "")[:64] if providers else "",
        dialect=query.get("format", "")[:16],
        client=query.get("client", "")[:64],
        stream={"yes": True, "no": False}.get(query.get("stream", "")),
        first=_day(query.get("from", ""), "from"),
        last=_day(query.get("to", ""), "to"),
        oldest=query.get("sort", "") == "oldest",
        order=query.get("sort", "") if query.get("sort", "") in ORDERS else "",
        before=query.get("before", "")[:120],
    )


def query_of(request: Request, **changed: str) -> str:
    """The filter of the address, with some parts changed, as the query of another."""
    given = {name: changed.get(name, request.query_params.get(name, "")) for name in _NAMES}
    return urlencode({name: value for name, value in given.items() if value})


def _day(text: str, name: str) -> int | None:
    if not text:
        return None
    try:
        return (date.fromisoformat(text) - _EPOCH).days
    except ValueError as error:
        raise InvalidRequest("A day has the form 2026-12-31.", param=name) from error


# ---- the file


_TIME: Final = "time"
_FIELDS: Final = tuple(name for name in Receipt.__struct_fields__ if name not in {"created_at", "day"})


def csv_head(providers: bool) -> list[str]:
    """The names of the columns."""
    return [_TIME, "day", "key_name", *(name for name in _FIELDS if providers or name != "provider")]


def csv_row(row: Receipt, keys: Mapping[str, str], providers: bool) -> list[object]:
    """A request as a line: its time in ISO 8601 with its zone, its day as a date."""
    at = datetime.fromtimestamp(row.created_at / 1000, UTC).isoformat(timespec="milliseconds")
    on = date.fromordinal(_EPOCH.toordinal() + row.day).isoformat()
    rest = [getattr(row, name) for name in _FIELDS if providers or name != "provider"]
    return [csv_cell(value) for value in (at, on, keys.get(row.key_id, ""), *rest)]


def csv_lines(rows: Sequence[Sequence[object]]) -> bytes:
    """Lines of the file."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return out.getvalue().encode()
