"""The connection check, ``GET /doctor``: what of a client's request arrived here, for a person who looks for what went wrong.

Which header brought the key, whose plan it is and which models it may use, how far the client's clock is off, and, with
``?stream=true``, a few events with pauses between: all of them at once at the client means that something in between
holds streams back.
"""

import asyncio
from email.utils import parsedate_to_datetime

import msgspec

from penstock.domain.catalog.catalog import Plan
from penstock.exchange import Exchange

EVENTS = 4
PAUSE = 0.25
"""Seconds between the events of the stream; shorter than anybody waits, longer than a network does."""

_encode = msgspec.json.Encoder().encode


class ConnectionReport(msgspec.Struct, frozen=True):
    """What the answer says of a request. ``clock_skew`` is in seconds, positive where the client's clock is ahead."""

    key_header: str
    user_agent: str | None
    plan: str
    daily_requests: int
    concurrent_requests: int
    models: tuple[str, ...]
    server_time: int
    clock_skew: int | None
    streaming: str


def check_connection(exchange: Exchange, key: str, plan: Plan, models: tuple[str, ...], now: float) -> bytes:
    """The answer, as JSON. ``key`` is the one that was used, ``now`` in epoch seconds."""
    direct = exchange.header(b"x-api-key")
    agent = exchange.header(b"user-agent")
    return _encode(
        ConnectionReport(
            key_header="x-api-key"
            if direct is not None and direct.strip() == key.encode("latin-1")
            else "authorization",
            user_agent=None if agent is None else agent.decode("latin-1")[:200],
            plan=plan.id,
            daily_requests=plan.daily_requests,
            concurrent_requests=plan.concurrent_requests,
            models=models,
            server_time=int(now),
            clock_skew=_skew(exchange.header(b"date"), now),
            streaming="ask again with ?stream=true: the events should arrive one by one",
        )
    )


def wants_stream(exchange: Exchange) -> bool:
    """Whether the stream was asked for."""
    return b"stream=true" in exchange.query.split(b"&")


async def stream_check(exchange: Exchange) -> None:
    """Send the events; each says how many milliseconds after the first it was sent."""
    for at in range(EVENTS):
        if at:
            await asyncio.sleep(PAUSE)
        exchange.write(b'data: {"event":%d,"of":%d,"sent_ms":%d}\n\n' % (at + 1, EVENTS, at * PAUSE * 1000))
    exchange.end()


def _skew(date: bytes | None, now: float) -> int | None:
    try:
        return (
            None if date is None else round(parsedate_to_datetime(date.decode("latin-1")).timestamp() - now)
        )
    except (ValueError, OverflowError):
        return None
