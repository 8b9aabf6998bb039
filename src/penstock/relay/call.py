"""One admitted call: who calls, what for, and where the answer goes."""

import asyncio
from collections.abc import Callable

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.interface import ApiVersion
from penstock.core.endpoints import Endpoint
from penstock.domain.catalog.catalog import Plan, Resolution
from penstock.domain.keys.authentication import Principal
from penstock.errors import Draining, EndedByOwner
from penstock.exchange import Exchange

_ENDED = "The owner of the key has ended this request."
_STOPPED = "The service was stopped before the answer was complete. Send the request again."


def _nothing() -> None:
    """What there is to do before a slot is held."""


class Call:
    """One admitted request: who calls, what for, and where the answer goes."""

    __slots__ = (
        "asked",
        "client",
        "delivered",
        "ended",
        "endpoint",
        "envelope",
        "exchange",
        "now",
        "plan",
        "principal",
        "request_id",
        "resolution",
        "started",
        "strict",
        "task",
    )

    def __init__(  # noqa: PLR0913 - one record of a request, made in one place, with every part named
        self,
        exchange: Exchange,
        request_id: str,
        *,
        endpoint: Endpoint,
        principal: Principal,
        plan: Plan,
        envelope: Envelope,
        resolution: Resolution,
        client: str,
        now: float,
        started: float,
        strict: bool,
        asked: ApiVersion,
    ) -> None:
        """``now`` is epoch seconds at receipt, ``started`` the monotonic clock then, ``asked`` the API version meant."""
        self.exchange = exchange
        self.request_id = request_id
        self.endpoint = endpoint
        self.principal = principal
        self.plan = plan
        self.envelope = envelope
        self.resolution = resolution
        self.client = client
        self.now = now
        self.started = started
        self.strict = strict
        self.asked = asked
        self.ended = False
        """The owner has ended it."""
        self.task: asyncio.Task[object] | None = None
        """What serves it, while it runs."""
        self.delivered: Callable[[], None] = _nothing
        """Called when the caller has the whole answer; frees its slot."""

    def stopped(self) -> EndedByOwner | Draining | None:
        """The error that the caller gets for a cancelled call, or None. Where there is one, the cancellation is taken back."""
        stopped: EndedByOwner | Draining | None = None
        if self.ended:
            stopped = EndedByOwner(_ENDED)
        elif self.exchange.recalled and not self.exchange.lost:
            stopped = Draining(_STOPPED)
        if stopped is not None and self.task is not None:
            self.task.uncancel()
        return stopped
