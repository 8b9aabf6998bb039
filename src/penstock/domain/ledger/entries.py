"""Entries: the rows of the request log as readers see them, each with the words of its kind.

``entries`` is read as a table would be; databases merge it into the statement around it. Its state is ``open``, ``settled``,
or ``refused`` of a request that reached no upstream: it has no outcome, and is in no count and no sum.
"""

from sqlalchemy import ColumnElement, func, select

from penstock.store.sql.schema import SPECIAL, kinds, requests

_OWN = (
    "id",
    "user_id",
    "key_id",
    "day",
    "created_at",
    "kind",
    "boot",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "first_byte_ms",
    "total_ms",
    "translation",
    "answered_model",
    "account_id",
    "actor_id",
    "upstream_request_id",
    "service_tier",
    "cost",
    "charge",
    *SPECIAL,
)

entries = (
    select(
        *(requests.c[name] for name in _OWN),
        func.coalesce(requests.c.requested_model, kinds.c.model).label("requested_model"),
        *(column for column in kinds.columns if column is not kinds.c.id),
    )
    .join_from(requests, kinds, requests.c.kind == kinds.c.id)
    .subquery("entries")
)


def of_some_day(day: ColumnElement[int]) -> ColumnElement[bool]:
    """That ``day`` is one that has rows: a look-up by id alone is one in each of them, since the day leads the key."""
    days = select(func.min(requests.c.day).label("day")).cte("days", recursive=True)
    later = select(func.min(requests.c.day)).where(requests.c.day > days.c.day).scalar_subquery()
    days = days.union_all(select(later).where(days.c.day.is_not(None)))
    return day.in_(select(days.c.day).where(days.c.day.is_not(None)))
