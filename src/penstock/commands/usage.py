"""``penstock usage``: prints what an account used on a day."""

import asyncio
from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import (
    HERE,
    Installation,
    answer,
    answer_json,
    day_named,
    open_installation,
    table,
    utc_moment,
)
from penstock.commands.options import At
from penstock.core.amounts import amount
from penstock.domain.accounts import accounts
from penstock.domain.ledger.usage import DayReport, RequestLine, day_report


class _Usage(msgspec.Struct):
    email: str
    plan: str
    day: str
    counted: int
    refunded: int
    limit: int
    requests: tuple[RequestLine, ...]


def usage(
    *,
    email: str,
    day: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Show what an account used on a day (UTC).

    Example: penstock usage --email ann@example.com --day 2026-11-25

    Parameters
    ----------
    email
        Whose account.
    day
        The day as YYYY-MM-DD; by default today.
    json
        Print {"email", "plan", "day", "counted", "refunded", "limit", "requests"}.
    """
    number, label = day_named(day)
    report = asyncio.run(_usage(place, email, number, label))
    if json:
        answer_json(report)
        return
    answer(
        f"{report.email} ({report.plan}), {report.day}: {report.counted} of {amount(report.limit, 'request')} counted, "
        f"{report.refunded} refunded."
    )
    if report.requests:
        lines = [
            (
                utc_moment(line.at),
                line.id,
                line.model
                if line.answered_model is None
                else f"{line.model} (answered by {line.answered_model})",
                str(line.status or "-"),
                line.outcome or line.state,
                _counts(line),
            )
            for line in report.requests
        ]
        answer(table(("AT (UTC)", "ID", "MODEL", "STATUS", "OUTCOME", "COUNTS"), lines))


def _counts(line: RequestLine) -> str:
    return f"refunded: {line.refund_reason}" if line.refund_reason else "yes" if line.counted else "no"


async def _usage(place: Installation, email: str, day: int, label: str) -> _Usage:
    async with open_installation(place) as store, store.database.connect() as conn:
        user = await accounts.user_by_email(conn, email)
        report: DayReport = await day_report(conn, user, day)
    return _Usage(
        user.email, user.plan_id, label, report.counted, report.refunded, report.limit, report.requests
    )
