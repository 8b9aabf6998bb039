"""One search over accounts, keys and requests, for staff: what was typed says by its form what it can be.

A full key is digested and forgotten: it is in no address, no log and no answer. Lists are in pages by their order, never by
counting rows.
"""

import re
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Row, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.api_key import is_well_formed, start_of
from penstock.core.failure_classes.classes import FailureClass
from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import BadEmail
from penstock.domain.ledger import attempts
from penstock.domain.ledger.entries import entries, of_some_day
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.schema import (
    api_keys,
    kinds,
    plan_wishes,
    refusals,
    requests,
    staff,
    usage_days,
    users,
)

ROWS_PER_PAGE: Final = 50
_MOST_HITS: Final = 20


class Hit(msgspec.Struct, frozen=True):
    """Something that was found: where its page is, what it is called, and why it is a hit."""

    path: str
    name: str
    what: str


class Person(msgspec.Struct, frozen=True):
    """A row of the list of accounts. Times are epoch milliseconds; ``used`` counts today."""

    id: str
    email: str
    canonical: str
    plan_id: str
    created_at: int
    verified_at: int | None
    disabled_at: int | None
    leaving_at: int | None
    role: str | None
    used: int | None
    wish: str | None


class PeopleFilter(msgspec.Struct, frozen=True):
    """Which accounts to list. ``after`` is the mailbox of the last one shown."""

    begins: str = ""
    plan: str = ""
    state: str = ""
    after: str = ""


class StaffRequest(msgspec.Struct, frozen=True):
    """A request of anybody, as staff see it. Times are milliseconds."""

    id: str
    user_id: str
    actor_id: str | None
    key_id: str
    day: int
    created_at: int
    state: str
    dialect: str
    model: str
    requested_model: str
    stream: bool
    client: str
    provider: str
    upstream_model: str
    upstream_dialect: str
    credential: str | None
    reason: str | None
    attempts: int
    status: int | None
    outcome: str | None
    counted: bool
    refund_reason: str | None
    error_code: str | None
    estimated: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    first_byte_ms: int | None
    total_ms: int | None
    translation: str | None
    answered_model: str | None
    upstream_request_id: str | None
    service_tier: str | None


_REQUESTS = select(*(entries.c[name] for name in StaffRequest.__struct_fields__))


async def find(conn: AsyncConnection, secrets_file: SecretsFile, text: str) -> list[Hit]:
    """What the text can mean: a request's, an account's or a key's id, an address or its beginning, a key or its end."""
    text = text.strip()
    if not text:
        return []
    if is_well_formed(text):
        rows = await conn.execute(
            _KEYS.where(api_keys.c.digest.in_(secrets_file.digests(text))).limit(_MOST_HITS)
        )
        return [_key_hit(row, "the key that was typed") for row in rows]
    hits: list[Hit] = []
    if text.startswith("req_"):
        if await find_request(conn, text) is not None:
            hits.append(Hit(f"/admin/requests/{text}", text, "a request"))
        elif await conn.scalar(select(refusals.c.id).where(refusals.c.id == text)) is not None:
            hits.append(Hit(f"/admin/requests/{text}", text, "a refused request"))
        return hits
    if text.startswith("usr_"):
        user = await accounts.user_by_id(conn, text)
        return [] if user is None else [Hit(f"/admin/users/{user.id}", user.email, "the account of this id")]
    if text.startswith("key_"):
        rows = await conn.execute(_KEYS.where(api_keys.c.id == text))
        return [_key_hit(row, "the key of this id") for row in rows]
    if text.startswith("sk-ps-"):
        prefix = start_of(text.partition("...")[0].partition("\u2026")[0])
        rows = await conn.execute(
            _KEYS.where(func.substr(api_keys.c.prefix, 1, len(prefix)) == prefix).limit(_MOST_HITS)
        )
        return [_key_hit(row, "a key that begins so") for row in rows]
    if len(text) == 4 and text.isalnum():
        rows = await conn.execute(_KEYS.where(api_keys.c.last4 == text).limit(_MOST_HITS))
        hits += [_key_hit(row, "a key that ends so") for row in rows]
    people, _ = await list_people(conn, PeopleFilter(begins=text), today=0, most=_MOST_HITS)
    hits += [Hit(f"/admin/users/{it.id}", it.email, "an account") for it in people]
    return hits


_KEYS = select(api_keys.c.user_id, api_keys.c.name, users.c.email).join_from(
    api_keys, users, api_keys.c.user_id == users.c.id
)


def _key_hit(row: Row[*tuple[Any, ...]], what: str) -> Hit:
    return Hit(f"/admin/users/{row[0]}", f"{row[2]}, key {row[1]}", what)


# ---- accounts

STATES: Final = ("", "open", "unverified", "disabled", "leaving", "staff", "wish")


async def list_people(
    conn: AsyncConnection, chosen: PeopleFilter, *, today: int, most: int = ROWS_PER_PAGE
) -> tuple[list[Person], str]:
    """Accounts in the order of their mailboxes, with what they used ``today`` (UTC day number), and the next cursor."""
    columns = users.c
    query = (
        select(
            columns.id,
            columns.email,
            columns.email_canonical,
            columns.plan_id,
            columns.created_at,
            columns.verified_at,
            columns.disabled_at,
            columns.leaving_at,
            staff.c.role,
            usage_days.c.used,
            plan_wishes.c.plan_id,
        )
        .select_from(
            users.outerjoin(staff, staff.c.user_id == columns.id)
            .outerjoin(usage_days, and_(usage_days.c.user_id == columns.id, usage_days.c.day == today))
            .outerjoin(plan_wishes, plan_wishes.c.user_id == columns.id)
        )
        .order_by(columns.email_canonical)
        .limit(most + 1)
    )
    if chosen.begins:
        begins = _beginning(chosen.begins)
        # Not a range: what is next to what differs with a database's collation.
        query = query.where(func.substr(columns.email_canonical, 1, len(begins)) == begins)
    if chosen.plan:
        query = query.where(columns.plan_id == chosen.plan)
    match chosen.state:
        case "open":
            query = query.where(columns.verified_at.is_not(None), columns.disabled_at.is_(None))
        case "unverified":
            query = query.where(columns.verified_at.is_(None))
        case "disabled":
            query = query.where(columns.disabled_at.is_not(None))
        case "leaving":
            query = query.where(columns.leaving_at.is_not(None))
        case "staff":
            query = query.where(staff.c.role.is_not(None))
        case "wish":
            query = query.where(plan_wishes.c.plan_id.is_not(None))
        case _:
            pass
    if chosen.after:
        query = query.where(columns.email_canonical > chosen.after)
    found = [Person(*row) for row in await conn.execute(query)]
    if len(found) <= most:
        return found, ""
    return found[:most], found[most - 1].canonical


def _beginning(text: str) -> str:
    """The beginning of a mailbox: a whole address as it is looked up, of others the letters."""
    if "@" in text:
        try:
            return accounts.mailbox_of(text)
        except BadEmail:
            pass
    return text.lower()


async def plan_counts(conn: AsyncConnection) -> dict[str, int]:
    """How many accounts each plan has."""
    rows = await conn.execute(select(users.c.plan_id, func.count()).group_by(users.c.plan_id))
    return {row[0]: int(row[1]) for row in rows}


# ---- requests


async def find_request(conn: AsyncConnection, id: str) -> StaffRequest | None:
    """A request that reached an upstream, whoever's it is."""
    row = (await conn.execute(_REQUESTS.where(entries.c.id == id, of_some_day(entries.c.day)))).one_or_none()
    return None if row is None else StaffRequest(*row)


class StaffAttempt(msgspec.Struct, frozen=True):
    """An attempt of a request, as staff see it; ``domain/ledger/attempts.py`` says what the fields are.

    Of a lone attempt nothing is kept but its request's row: when it began is not known, nor what the provider has said.
    """

    number: int
    provider: str
    credential: str
    upstream_model: str
    upstream_dialect: str
    reason: str
    failure: str
    status: int | None
    upstream_request_id: str | None
    started_ms: int | None
    first_ms: int | None
    ended_ms: int | None
    retry_after_ms: int | None
    maybe_billed: bool
    message: str | None


async def attempts_of(conn: AsyncConnection, row: StaffRequest) -> list[StaffAttempt]:
    """The attempts of a request that has ended, in their order, with the provider's own words where these are kept."""
    made = await attempts.find(conn, row.id, row.day)
    if made:
        return [msgspec.convert(each, StaffAttempt, from_attributes=True) for each in made]
    if row.attempts != 1 or row.outcome is None:
        return []
    completed = row.outcome == "completed"
    return [
        StaffAttempt(
            number=1,
            provider=row.provider,
            credential=row.credential or "",
            upstream_model=row.upstream_model,
            upstream_dialect=row.upstream_dialect,
            reason=row.reason or "",
            failure=attempts.UNFAILED.get(row.outcome, FailureClass.OURS.value),
            status=200 if completed else None,
            upstream_request_id=row.upstream_request_id,
            started_ms=None,
            first_ms=row.first_byte_ms,
            ended_ms=row.total_ms,
            retry_after_ms=None,
            maybe_billed=False,
            message=None,
        )
    ]


class RequestFilter(msgspec.Struct, frozen=True):
    """Which requests of a day to list. ``before`` is the ``cursor`` of the last one shown, and stays on the day of that one."""

    day: int
    user_id: str = ""
    outcome: str = ""
    provider: str = ""
    model: str = ""
    before: str = ""


async def requests_of_day(
    conn: AsyncConnection, chosen: RequestFilter, most: int = ROWS_PER_PAGE
) -> tuple[list[StaffRequest], str]:
    """The requests of one day (UTC day number), the newest first, and the next cursor. Raises ``InvalidRequest``."""
    columns = requests.c
    place = _place(chosen.before) if chosen.before else None
    wanted: list[ColumnElement[bool]] = [columns.day == (chosen.day if place is None else place.day)]
    if chosen.user_id:
        wanted.append(columns.user_id == chosen.user_id)
    words: list[ColumnElement[bool]] = []
    if chosen.outcome == "failed":
        words.append(and_(kinds.c.state == "settled", kinds.c.outcome != "completed"))
    elif chosen.outcome == "running":
        words.append(kinds.c.state == "open")
    elif chosen.outcome:
        words.append(kinds.c.outcome == chosen.outcome)
    if chosen.provider:
        words.append(kinds.c.provider == chosen.provider)
    if chosen.model:
        words.append(kinds.c.model == chosen.model)
    if words:
        wanted.append(columns.kind.in_(select(kinds.c.id).where(*words)))
    if place is not None:
        same = and_(columns.created_at == place.at, columns.id < place.id)
        wanted.append(or_(columns.created_at < place.at, same))
    # A day is walked with little in hand: what is shown is read of the page's rows alone.
    newest = (
        select(columns.day, columns.id)
        .where(*wanted)
        .order_by(columns.created_at.desc(), columns.id.desc())
        .limit(most + 1)
        .subquery()
    )
    rows = await conn.execute(
        _REQUESTS.join(newest, and_(entries.c.day == newest.c.day, entries.c.id == newest.c.id)).order_by(
            entries.c.created_at.desc(), entries.c.id.desc()
        )
    )
    found = [StaffRequest(*row) for row in rows]
    if len(found) <= most:
        return found, ""
    last = found[most - 1]
    day = chosen.day if place is None else place.day
    return found[:most], f"{day}.{last.created_at}.{last.id}"


class _Place(msgspec.Struct, frozen=True):
    """Where a page of the list ends."""

    day: int
    at: int
    id: str


_PLACE: Final = re.compile(r"([0-9]{1,6})\.([0-9]{1,15})\.(.*)", re.DOTALL)


def _place(cursor: str) -> _Place:
    """What a cursor says. Raises ``InvalidRequest``."""
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise InvalidRequest("This is not a page of the list.", param="before")
    return _Place(int(found[1]), int(found[2]), found[3])


async def emails_of(conn: AsyncConnection, ids: set[str]) -> dict[str, str]:
    """The addresses of accounts."""
    if not ids:
        return {}
    rows = await conn.execute(select(users.c.id, users.c.email).where(users.c.id.in_(ids)))
    return {row[0]: row[1] for row in rows}
