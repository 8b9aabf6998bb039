"""Audit trail of an account: what was done, by whom and from where, for its owner and the operator. Never a secret.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

from typing import Literal

import msgspec
from sqlalchemy import insert, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import audit

Action = Literal[
    "signed_up",
    "verified",
    "signed_in",
    "sign_in_failed",
    "signed_out",
    "session_ended",
    "password_changed",
    "password_reset",
    "email_changed",
    "second_factor_on",
    "second_factor_off",
    "recovery_code_used",
    "key_created",
    "key_shown",
    "key_changed",
    "key_rolled",
    "key_revoked",
    "plan_asked",
    "data_exported",
    "deletion_asked",
    "deletion_undone",
    "viewed_by_staff",
    "view_by_staff_ended",
    "capture_begun",
    "capture_ended",
]


class AuditEntry(msgspec.Struct, frozen=True):
    """One thing that was done. ``at`` is epoch milliseconds."""

    at: int
    action: Action
    about: str
    address: str


async def note(
    conn: AsyncConnection,
    user_id: str,
    action: Action,
    about: str,
    address: str,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    """Write down that ``action`` was done to the account from ``address``."""
    await conn.execute(
        insert(audit).values(
            id=api_key.identifier("aud", entropy(16)),
            at=now,
            user_id=user_id,
            action=action,
            about=about[:200],
            address=address[:64],
        )
    )


async def was_noted(conn: AsyncConnection, user_id: str, action: Action, about: str, *, since: int) -> bool:
    """Whether ``action`` was done to this of the account's since then (epoch milliseconds)."""
    columns = audit.c
    mine = (columns.user_id == user_id, columns.action == action, columns.about == about, columns.at >= since)
    return await conn.scalar(select(columns.id).where(*mine).limit(1)) is not None


async def audit_entries(
    conn: AsyncConnection, user_id: str, *, most: int = 50, after: int = 0, until: int | None = None
) -> list[AuditEntry]:
    """What was done lately, the newest first. ``after``: so many are left out; ``until``: what came later is, too."""
    rows = await conn.execute(
        select(audit.c.at, audit.c.action, audit.c.about, audit.c.address)
        .where(audit.c.user_id == user_id)
        .order_by(audit.c.at.desc(), audit.c.id)
        .where(true() if until is None else audit.c.at <= until)
        .limit(most)
        .offset(after)
    )
    return [AuditEntry(*row) for row in rows]
