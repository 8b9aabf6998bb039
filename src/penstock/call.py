"""One request on its way through the relay: what it is, and what the ledger will be told of it."""

from penstock.core.dialects import Dialect
from penstock.core.envelope import Envelope
from penstock.core.turn import Loss, Usage
from penstock.domain.catalog import Plan, Resolution
from penstock.domain.keys import Principal
from penstock.exchange import Exchange
from penstock.switchboard import Choice


class Call:
    """One admitted request: who calls, what for, and where the answer goes."""

    __slots__ = (
        "betas",
        "client",
        "dialect",
        "envelope",
        "exchange",
        "now",
        "plan",
        "principal",
        "request_id",
        "resolution",
        "started",
        "strict",
        "version",
    )

    def __init__(  # noqa: PLR0913 - one record of a request, made in one place, with every part named
        self,
        exchange: Exchange,
        request_id: str,
        *,
        dialect: Dialect,
        principal: Principal,
        plan: Plan,
        envelope: Envelope,
        resolution: Resolution,
        client: str,
        now: float,
        started: float,
        strict: bool,
        version: bytes,
        betas: bytes | None,
    ) -> None:
        """``now`` is epoch seconds at receipt, ``started`` the monotonic clock then."""
        self.exchange = exchange
        self.request_id = request_id
        self.dialect = dialect
        self.principal = principal
        self.plan = plan
        self.envelope = envelope
        self.resolution = resolution
        self.client = client
        self.now = now
        self.started = started
        self.strict = strict
        self.version = version
        self.betas = betas


class Record:
    """What the ledger will be told when the request ends."""

    __slots__ = (
        "attempt",
        "attempts",
        "choice",
        "contacted",
        "day",
        "error_code",
        "estimated",
        "first_byte_at",
        "losses",
        "outcome",
        "refund_reason",
        "status",
        "usage",
    )

    def __init__(self, choice: Choice, day: int) -> None:
        self.choice = choice
        self.attempt = choice.attempts[0]
        self.day = day
        self.attempts = 0
        self.contacted = False
        self.outcome = "error"
        self.status: int | None = None
        self.error_code: str | None = None
        self.refund_reason: str | None = None
        self.usage = Usage()
        self.estimated = False
        self.first_byte_at: float | None = None
        self.losses: tuple[Loss, ...] = ()
