"""``penstock upstreams`` and ``penstock upstream``: shows who could be asked, and takes providers out of use and back."""

import asyncio
import re
import time
from secrets import token_bytes
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from penstock.commands.installation import (
    HERE,
    CommandError,
    Installation,
    answer,
    answer_json,
    cli_actor,
    now_ms,
    open_installation,
    table,
    utc_moment,
)
from penstock.commands.options import At
from penstock.commands.upstream_key import key_app
from penstock.core.routing.switches import Reach, Switch, SwitchState, named
from penstock.domain.catalog import catalog_store, upstream_state
from penstock.domain.staff import upstream_switches
from penstock.operations import upstream_test
from penstock.operations.first_start import Store
from penstock.operations.kept_keys import KeptKeys
from penstock.operations.upstream_report import LegReport, report
from penstock.operations.upstream_test import Tested
from penstock.operations.upstreams import VIEWS, worker_views
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.settings import environment

app = App(
    name="upstream", help="Show, test and steer providers: drain, disable, enable, reset; and their keys."
)
app.command(key_app)

_TIME = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
Json = Annotated[bool, Parameter(negative="")]


class _Upstreams(msgspec.Struct):
    workers: int
    upstreams: tuple[LegReport, ...]


class _Said(msgspec.Struct):
    upstream: str
    state: SwitchState
    until: int | None
    why: str
    reset: bool


class _Tests(msgspec.Struct):
    tests: list[Tested]


def upstreams(*, model: str = "", json: Json = False, place: At = HERE) -> None:
    """Show every provider's models: whether each is asked, why not, until when, and what it has failed with.

    Example: penstock upstreams --model claude-sonnet-4.6

    Parameters
    ----------
    model
        Only those that serve this public model.
    json
        Print {"workers", "upstreams"}.
    """
    found = asyncio.run(_report(place))
    if model:
        legs = tuple(leg for leg in found.upstreams if model in leg.models)
        if not legs:
            raise CommandError(f"no provider in the catalogue serves {model!r}")
        found = _Upstreams(found.workers, legs)
    _show(found, json=json)


@app.command
def show(upstream: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Show one provider, PROVIDER[/CREDENTIAL][:MODEL], with its last failures in its own words.

    Example: penstock upstream show anthropic/a

    Parameters
    ----------
    upstream
        Which: a provider, or one credential or model of it.
    json
        Print {"workers", "upstreams"}.
    """
    reach = _named(upstream)
    found = asyncio.run(_report(place))
    legs = tuple(leg for leg in found.upstreams if reach.means((leg.provider, leg.model, leg.credential)))
    if not legs:
        raise _unknown(reach)
    _show(_Upstreams(found.workers, legs), json=json)
    if json:
        return
    for leg in legs:
        for seen in leg.last:
            words = f"{seen.status or '-'} {seen.message or ''}".rstrip()
            answer(
                f"{utc_moment(seen.at)} {leg.name}: {seen.failure}: {words} {seen.upstream_request_id or ''}".rstrip()
            )


@app.command(name="test")
def try_out(upstream: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Send one small real request with each credential and model that is named; the provider may charge for it.

    What answers is put back into use at once: what was known against it is forgotten on every server.

    Example: penstock upstream test anthropic/a:claude-sonnet-4-6

    Parameters
    ----------
    upstream
        Which: a provider, or one credential or model of it.
    json
        Print {"tests"}.
    """
    tests = asyncio.run(_test(place, _named(upstream)))
    if json:
        answer_json(_Tests(tests))
    else:
        rows = [
            (it.upstream, "yes" if it.answers else "no", it.failure, f"{it.ms} ms", it.message)
            for it in tests
        ]
        answer(table(("UPSTREAM", "ANSWERS", "FAILURE", "TOOK", "IN ITS WORDS"), rows))
    if not all(it.answers for it in tests):
        raise CommandError("not all of them answer")


@app.command
def drain(
    upstream: str,
    /,
    *,
    duration: Annotated[str, Parameter(name="--for")] = "",
    why: str = "",
    json: Json = False,
    place: At = HERE,
) -> None:
    """Send no new requests there; what runs ends as it would have. Every server knows within `revision_poll` (2 s).

    Example: penstock upstream drain anthropic/a --for 2h --why "key is being rotated"

    Parameters
    ----------
    upstream
        Which: a provider, or one credential or model of it.
    duration
        For how long, such as 90s, 30m, 2h or 1d; without it until `enable`.
    why
        The reason, for whoever reads of it later.
    json
        Print {"upstream", "state", "until", "why", "reset"}.
    """
    _said(place, upstream, "drain", duration, why, json=json)


@app.command
def disable(
    upstream: str,
    /,
    *,
    duration: Annotated[str, Parameter(name="--for")] = "",
    why: str = "",
    json: Json = False,
    place: At = HERE,
) -> None:
    """Take it out of use: as `drain`, for what is not to come back by itself.

    Example: penstock upstream disable openrouter --why "contract ended"

    Parameters
    ----------
    upstream
        Which: a provider, or one credential or model of it.
    duration
        For how long, such as 90s, 30m, 2h or 1d; without it until `enable`.
    why
        The reason, for whoever reads of it later.
    json
        Print {"upstream", "state", "until", "why", "reset"}.
    """
    _said(place, upstream, "off", duration, why, json=json)


@app.command
def enable(upstream: str, /, *, why: str = "", json: Json = False, place: At = HERE) -> None:
    """Put back into use what was drained or disabled under the same name.

    Example: penstock upstream enable anthropic/a

    Parameters
    ----------
    upstream
        Which, as it was named then.
    why
        The reason, for whoever reads of it later.
    json
        Print {"upstream", "state", "until", "why", "reset"}.
    """
    _said(place, upstream, "on", "", why, json=json)


@app.command(name="reset")
def forget_health(upstream: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Forget what is known against it: it is asked again at once, as if it had never failed.

    Example: penstock upstream reset anthropic

    Parameters
    ----------
    upstream
        Which: a provider, or one credential or model of it.
    json
        Print {"upstream", "state", "until", "why", "reset"}.
    """
    said = asyncio.run(_reset(place, _named(upstream)))
    _tell(said, json=json)


# ---- what they do


def _named(text: str) -> Reach:
    try:
        return named(text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _unknown(reach: Reach) -> CommandError:
    return CommandError(f"no model of the catalogue is served by {reach}; see penstock upstreams")


async def _report(place: Installation) -> _Upstreams:
    async with open_installation(place) as store, store.database.connect() as conn:
        document = await catalog_store.load_document(conn, KINDS)
        switches = await upstream_state.all_said(conn)
        workers = worker_views(store.settings.data / VIEWS)
    return _Upstreams(len(workers), report(document.providers, document.models, switches, workers, now_ms()))


def _show(found: _Upstreams, *, json: bool) -> None:
    if json:
        answer_json(found)
        return
    rows = [
        (
            leg.name,
            leg.state,
            f"{leg.why}, as another process says" if leg.hinted else leg.why,
            utc_moment(leg.until),
            str(leg.asked),
            str(leg.in_flight) if leg.most is None else f"{leg.in_flight} of {leg.most}",
            ", ".join(f"{count} {failure}" for failure, count in leg.failures.items()),
            ", ".join(leg.models),
        )
        for leg in found.upstreams
    ]
    head = ("UPSTREAM", "STATE", "WHY", "UNTIL (UTC)", "ASKED", "RUNNING", "FAILED", "SERVES")
    answer(table(head, rows))
    if not found.workers:
        answer(
            "No server runs on this machine with this data directory, so nothing is known of their health."
        )


def _said(
    place: Installation, upstream: str, state: SwitchState, duration: str, why: str, *, json: bool
) -> None:
    until = None if not duration else now_ms() + 1000 * _seconds(duration)
    said = asyncio.run(_say(place, Switch(_named(upstream), state, until, why)))
    _tell(said, json=json)


def _seconds(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None or int(found[1]) == 0 or len(found[1]) > 6:
        raise CommandError(f"{text!r} is not a time such as 90s, 30m, 2h or 1d")
    return int(found[1]) * _SECONDS[found[2]]


async def _say(place: Installation, switch: Switch) -> Switch:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await upstream_switches.switch_upstream(
            conn, switch, KINDS, cli_actor(), now=now_ms(), entropy=token_bytes
        )


async def _reset(place: Installation, reach: Reach) -> Switch:
    async with open_installation(place) as store:
        return await _forget(store, reach)


async def _forget(store: Store, reach: Reach) -> Switch:
    """What is known against it is forgotten; what was said of it stays."""
    async with store.database.transaction() as conn:
        return await upstream_switches.forget_health(
            conn, reach, KINDS, cli_actor(), now=now_ms(), entropy=token_bytes
        )


def _tell(switch: Switch, *, json: bool) -> None:
    if json:
        answer_json(
            _Said(str(switch.reach), switch.state, switch.until, switch.why, switch.reset_at is not None)
        )
        return
    until = "" if switch.until is None else f" until {utc_moment(switch.until)} UTC"
    forgotten = ", and what was known against it is forgotten" if switch.reset_at is not None else ""
    answer(f"{switch.reach} is {upstream_switches.IN_WORDS[switch.state]}{until}{forgotten}.")


async def _test(place: Installation, reach: Reach) -> list[Tested]:
    secrets = Secrets(environment())
    async with open_installation(place) as store:
        async with store.database.connect() as conn:
            document = await catalog_store.load_document(conn, KINDS)
            await KeptKeys(store.secrets_file, secrets).open(conn, document.providers)
        tests = await upstream_test.tried(document, reach, secrets, time.time)
        if not tests:
            raise _unknown(reach)
        for each in tests:
            if each.answers:
                await _forget(store, named(each.upstream))
    return tests
