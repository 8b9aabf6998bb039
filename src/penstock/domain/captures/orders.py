"""Orders to capture: for an account or one of its keys, by an owner, for a reason, until a day that is never far.

Every function takes a connection inside a transaction; times are epoch milliseconds.
"""

from typing import Final, Literal

import msgspec
from sqlalchemy import insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.accounts import audit
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError, InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import api_keys, capture_orders, users

LONGEST_CAPTURE_DAYS: Final = 30
REASON_LIMIT: Final = 500
_MOST_LISTED: Final = 200
_DAY_MS: Final = 86_400_000
CaptureAction = Literal["capture_begun", "capture_ended"]


class CapturesOff(CallerError):
    """The operator has ruled captures out (``captures = "never"``)."""

    status = 409
    code = "captures_off"


class NoCaptureOrder(CallerError):
    """There is no such order, or it has ended."""

    status = 404
    code = "no_such_capture"


class CaptureOrder(msgspec.Struct, frozen=True):
    """What is captured: of which account, of which of its keys ('': all), why, by whom, and until when."""

    id: str
    account_id: str
    key_id: str
    reason: str
    ordered_by: str
    created_at: int
    ends_at: int
    ended_at: int | None

    def runs(self, now: int) -> bool:
        """Whether requests are captured by it now."""
        return self.ended_at is None and self.ends_at > now


def refuse_never(captures: str) -> None:
    """Raise ``CapturesOff`` where the setting rules captures out."""
    if captures == "never":
        raise CapturesOff('Captures are ruled out here (captures = "never").')


async def begin_capture(
    conn: AsyncConnection,
    account_id: str,
    key_id: str,
    reason: str,
    days: int,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> CaptureOrder:
    """Have what the account, or one key of it, asks and gets kept from now on. Raises ``InvalidRequest``."""
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= REASON_LIMIT or not reason.isprintable():
        raise InvalidRequest(f"Say why, in 1 to {REASON_LIMIT} characters.", param="reason")
    if not 1 <= days <= LONGEST_CAPTURE_DAYS:
        raise InvalidRequest(f"A capture ends after 1 to {LONGEST_CAPTURE_DAYS} days.", param="days")
    if await conn.scalar(select(users.c.id).where(users.c.id == account_id)) is None:
        raise InvalidRequest("There is no such account.", param="account")
    of_account = (api_keys.c.id == key_id, api_keys.c.user_id == account_id)
    if key_id and await conn.scalar(select(api_keys.c.id).where(*of_account)) is None:
        raise InvalidRequest("The account has no such key.", param="key")
    if any(it.account_id == account_id and it.key_id == key_id for it in await running_orders(conn, now=now)):
        raise InvalidRequest("That is captured already; end it first.", param="key")
    id = api_key.identifier("cap", entropy(16))
    made = CaptureOrder(id, account_id, key_id, reason, actor.name[:320], now, now + days * _DAY_MS, None)
    await conn.execute(insert(capture_orders).values(**msgspec.structs.asdict(made)))
    await _note(conn, made, "capture_begun", actor, reason, {"key": key_id, "days": days}, now, entropy)
    return made


async def end_capture(
    conn: AsyncConnection, id: str, actor: Actor, *, now: int, entropy: Entropy
) -> CaptureOrder:
    """Capture no more by this order; what was kept stays as long as it would. Raises ``NoCaptureOrder``."""
    columns = capture_orders.c
    running = (columns.id == id, columns.ended_at.is_(None), columns.ends_at > now)
    ended = await conn.execute(update(capture_orders).where(*running).values(ended_at=now))
    if ended.rowcount == 0:
        raise NoCaptureOrder("There is no such capture, or it has ended.")
    (found,) = [CaptureOrder(*row) for row in await conn.execute(select(*_COLUMNS).where(columns.id == id))]
    await _note(conn, found, "capture_ended", actor, "", {"key": found.key_id}, now, entropy)
    return found


async def running_orders(conn: AsyncConnection, *, now: int) -> list[CaptureOrder]:
    """Those by which requests are captured now."""
    columns = capture_orders.c
    query = select(*_COLUMNS).where(columns.ended_at.is_(None), columns.ends_at > now)
    return [CaptureOrder(*row) for row in await conn.execute(query.order_by(columns.created_at, columns.id))]


async def recent_orders(conn: AsyncConnection, *, since: int) -> list[CaptureOrder]:
    """Those that run or have ended since, the newest first."""
    columns = capture_orders.c
    wanted = or_(columns.ended_at.is_(None), columns.ended_at >= since)
    query = select(*_COLUMNS).where(wanted, columns.ends_at >= since).order_by(columns.created_at.desc())
    return [CaptureOrder(*row) for row in await conn.execute(query.limit(_MOST_LISTED))]


async def _note(
    conn: AsyncConnection,
    order: CaptureOrder,
    action: CaptureAction,
    actor: Actor,
    reason: str,
    after: entries.Fields,
    now: int,
    entropy: Entropy,
) -> None:
    """In the trail, and in the account's own log, without the name of who has said so."""
    subject = Subject("capture", order.account_id, order.id)
    await entries.write(conn, actor, action, subject, after=after, reason=reason, now=now, entropy=entropy)
    await audit.note(conn, order.account_id, action, order.key_id, "", now=now, entropy=entropy)


_COLUMNS = tuple(capture_orders.c[name] for name in CaptureOrder.__struct_fields__)
