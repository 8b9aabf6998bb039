"""Commands that look: ``settings``, ``usage`` and ``doctor``; and ``secrets``, which turns the keys of the house."""

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from penstock.commands.installation import (
    HERE,
    CommandError,
    Place,
    answer,
    answer_json,
    day_named,
    moment,
    open_place,
    read_settings,
    table,
)
from penstock.commands.options import At
from penstock.domain.accounts import accounts
from penstock.domain.keys import management
from penstock.domain.ledger.usage import DayReport, RequestLine, day_report
from penstock.operations import doctor
from penstock.settings import environment, markdown, rows, shown
from penstock.store.secrets_file import Vault

secrets_app = App(name="secrets", help="The secrets file: peppers of API keys and keys of sealed copies.")


class _Setting(msgspec.Struct):
    value: str
    origin: str


class _Usage(msgspec.Struct):
    email: str
    plan: str
    day: str
    counted: int
    refunded: int
    limit: int
    requests: tuple[RequestLine, ...]


class _Rotated(msgspec.Struct):
    pepper: str
    seal: str
    resealed: int


def settings(
    *,
    markdown_: Annotated[bool, Parameter(name="--markdown", negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Show the settings in force and where each comes from, without passwords.

    Example: penstock settings --json

    Parameters
    ----------
    markdown_
        Print the table of docs/configuration.md instead.
    json
        Print {"name": {"value", "origin"}}.
    """
    if markdown_:
        answer(markdown().rstrip())
        return
    loaded = read_settings(place)
    found = {
        row.name: _Setting(shown(loaded.settings, row.name), loaded.origins.get(row.name, "default"))
        for row in rows()
    }
    if json:
        answer_json(found)
    else:
        answer(
            table(
                ("SETTING", "VALUE", "FROM"),
                [(name, it.value or "-", it.origin) for name, it in found.items()],
            )
        )


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
        f"{report.email} ({report.plan}), {report.day}: {report.counted} of {report.limit} requests counted, "
        f"{report.refunded} refunded."
    )
    if report.requests:
        lines = [
            (
                moment(line.at),
                line.id,
                line.model,
                str(line.status or "-"),
                line.outcome or line.state,
                _counts(line),
            )
            for line in report.requests
        ]
        answer(table(("AT (UTC)", "ID", "MODEL", "STATUS", "OUTCOME", "COUNTS"), lines))


def _counts(line: RequestLine) -> str:
    return f"refunded: {line.refund_reason}" if line.refund_reason else "yes" if line.counted else "no"


async def _usage(place: Place, email: str, day: int, label: str) -> _Usage:
    async with open_place(place) as store, store.database.connect() as conn:
        user = await accounts.user_by_email(conn, email)
        report: DayReport = await day_report(conn, user, day)
    return _Usage(
        user.email, user.plan_id, label, report.counted, report.refunded, report.limit, report.requests
    )


def examine(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> int:
    """Check the installation: settings, files, database, secrets, providers, clock. Exit code 1 when something fails.

    Example: penstock doctor

    Parameters
    ----------
    json
        Print {"ok", "findings": [{"level", "subject", "text", "mend"}]}.
    """
    flags = {} if place.data is None else {"data": str(place.data)}
    report = asyncio.run(doctor.examine(environment(), place.config, flags))
    if json:
        answer_json(report)
    else:
        for finding in report.findings:
            mend = f"\n{'':16}{finding.mend}" if finding.mend else ""
            answer(f"{finding.level:<5} {finding.subject:<10}{finding.text}{mend}")
    return 0 if report.ok else 1


@secrets_app.command
def make(file: Path) -> None:
    """Make a secrets file for an installation that does not have one yet, to be given to all its servers.

    Example: penstock secrets make secrets.json

    Parameters
    ----------
    file
        Where to write it; a file that exists is left as it is, and that is an error.
    """
    if file.exists():
        raise CommandError(f"{file} exists already; no secrets file is ever replaced")
    Vault.make(file, secrets.token_bytes)
    answer(f"Made {file}. Servers find it by PENSTOCK_SECRET_FILE; keep a copy apart from the database's.")


@secrets_app.command
def rotate(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """Put a new pepper and a new sealing key first; all keys go on working, running servers follow.

    Example: penstock secrets rotate

    Parameters
    ----------
    json
        Print {"pepper", "seal", "resealed"}.
    """
    done = asyncio.run(_rotate(place))
    if json:
        answer_json(done)
    else:
        answer(f"New pepper {done.pepper} and sealing key {done.seal}; {done.resealed} copies sealed anew.")
        answer("The old ones stay in the file: keys made with them need them. Back the file up now.")


async def _rotate(place: Place) -> _Rotated:
    async with open_place(place) as store:
        store.vault.rotate(secrets.token_bytes)
        async with store.database.transaction() as conn:
            resealed = await management.reseal_keys(conn, store.vault, secrets.token_bytes)
    return _Rotated(store.vault.pepper_id, store.vault.seal_id, resealed)
