"""``penstock drill``: plays the failure of a provider for the requests of one key, and tells what its callers saw."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from penstock.commands.installation import (
    HERE,
    CommandError,
    Installation,
    answer,
    answer_json,
    open_installation,
    read_settings,
    table,
    tell,
)
from penstock.commands.options import At
from penstock.domain.catalog.catalog_store import load_document
from penstock.domain.keys.management import key_exists
from penstock.domain.ledger.outcomes import Outcome, outcomes_of_key
from penstock.operations.drill import FAULTS, LONGEST_DRILL, Drill, begin_drill, end_drill, read_drill
from penstock.providers.table import KINDS

_SETTLING = 3.0
"""Seconds after its end in which the last requests are still recorded."""


class _Report(msgspec.Struct):
    key: str
    provider: str
    fault: str
    seconds: int
    outcomes: list[Outcome]


def drill(
    *,
    key: str = "",
    provider: str = "",
    fault: str = "hang",
    seconds: int = 60,
    stop: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Play a failure of a provider, on this installation, for the requests of one key only; it ends by itself.

    Example: penstock drill --key key_0123 --provider anthropic --fault hang --seconds 60

    Parameters
    ----------
    key
        The id of the key, as `penstock key list` shows it.
    provider
        The provider that fails, by its id in the catalogue.
    fault
        What it does: hang, cut, cut-mid, hang-mid, error-in-stream, unfinished, garbage, html, empty, error-200, or a status
        (400, 401, 404, 429, 500, 503, 529).
    seconds
        How long, an hour at most. The command waits; interrupt it to end the drill.
    stop
        End the drill that runs.
    json
        Print {"key", "provider", "fault", "seconds", "outcomes"} at the end.
    """
    data = read_settings(place).settings.data
    if stop:
        _stop(data)
        return
    if fault not in FAULTS:
        raise CommandError(f"{fault!r} is no fault that can be played: {', '.join(FAULTS)}")
    if not 0 < seconds <= LONGEST_DRILL:
        raise CommandError(f"a drill runs from 1 to {LONGEST_DRILL} seconds")
    report = asyncio.run(_run(place, data, Drill(key, provider, fault, time.time() + seconds), seconds))
    if json:
        answer_json(report)
    elif not report.outcomes:
        answer("No request of this key has ended in this time.")
    else:
        lines = [
            (
                each.outcome,
                str(each.status or "-"),
                each.error_code or "-",
                str(each.requests),
                f"{each.attempts / each.requests:.2f}",
                f"{each.slowest_ms / 1000:.1f} s",
            )
            for each in report.outcomes
        ]
        answer(table(("OUTCOME", "STATUS", "CODE", "REQUESTS", "ATTEMPTS EACH", "SLOWEST"), lines))


def _stop(data: Path) -> None:
    running = read_drill(data, time.time())
    end_drill(data)
    answer("No drill was running." if running is None else f"The drill with {running.provider} is over.")


async def _run(place: Installation, data: Path, wanted: Drill, seconds: int) -> _Report:
    async with open_installation(place) as store:
        async with store.database.connect() as conn:
            if not await key_exists(conn, wanted.key_id):
                raise CommandError(f"there is no key with the id {wanted.key_id!r}; see penstock key list")
            document = await load_document(conn, KINDS)
        providers = [row.id for row in document.providers]
        if wanted.provider not in providers:
            raise CommandError(f"there is no provider {wanted.provider!r}; there are {', '.join(providers)}")
        since = int((wanted.until - seconds) * 1000)
        begin_drill(data, wanted)
        tell(
            f"penstock: for {seconds} s {wanted.provider} fails ({wanted.fault}) for this key alone; Ctrl-C ends it"
        )
        try:
            await asyncio.sleep(max(wanted.until - time.time(), 0.0))
        except asyncio.CancelledError:
            tell("penstock: ended early")
        finally:
            end_drill(data)
        await asyncio.sleep(min(_SETTLING, seconds))
        async with store.database.connect() as conn:
            outcomes = await outcomes_of_key(conn, wanted.key_id, since)
    return _Report(wanted.key_id, wanted.provider, wanted.fault, seconds, outcomes)
