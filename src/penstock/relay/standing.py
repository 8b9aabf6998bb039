"""Standing records: what requests of one caller, and those of one caller for one model, have in common, decided once.

``api/handler.py`` makes them, after it has looked at everything: a ``Caller`` of the key, its account and its plan, and a
``Standing`` of what a model's name means to that caller. They are kept with the headers that the requests share, and hold
while the revision is the one that they were made under (``core/revision.py``) and until their time is over. What differs
from request to request is not in them: the body, the slot, the count of the day, and which provider is tried first.

The revision advances when the catalogue, a key or its account, or a provider's secret has changed. What would make a
standing record wrong is a cause that does not advance it: tests/service/test_standing.py changes each one.
"""

from penstock.core.body.cost_fields import CostBounds
from penstock.core.catalog import Cause
from penstock.core.dialects.interface import ApiVersion, UpstreamFormat
from penstock.core.endpoints import Endpoint
from penstock.core.memo import Memo
from penstock.core.routing.candidates import Attempt
from penstock.domain.captures.orders import CaptureOrder
from penstock.domain.catalog.catalog import Plan, Resolution
from penstock.domain.keys.authentication import Principal
from penstock.domain.ledger.kinds import KnownKind
from penstock.relay.answer_head import NO_END, AnswerHead, ModelEnd
from penstock.relay.router import NO_ASKER, UpstreamAddress
from penstock.upstream import RequestHead

_MOST_LEGS = 16
_MOST_MODELS = 16
_MOST_HEADS = 32


class Leg:
    """One way to a provider, as far as it is the same for all requests: the format spoken there, and the request's head.

    ``head`` is None before the first request, and where each is signed as a whole.
    """

    __slots__ = ("address", "attempt", "head", "kind", "own", "upstream")

    def __init__(
        self,
        attempt: Attempt,
        upstream: UpstreamFormat,
        address: UpstreamAddress,
        kind: KnownKind,
        *,
        own: bool,
    ) -> None:
        """``own``: the provider speaks the caller's format; ``kind`` is what the ledger knows such requests by."""
        self.attempt = attempt
        self.upstream = upstream
        self.address = address
        self.kind = kind
        self.own = own
        self.head: RequestHead | None = None


class Caller:
    """Who calls an endpoint: the same for all requests that share their headers."""

    __slots__ = (
        "allowed",
        "asked",
        "asker",
        "bounds",
        "captured",
        "causes",
        "client",
        "endpoint",
        "patience",
        "plan",
        "principal",
        "revision",
        "standings",
        "strict",
        "until",
    )

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        principal: Principal,
        plan: Plan,
        bounds: CostBounds,
        client: str,
        strict: bool,
        patience: float | None,
        asked: ApiVersion,
        revision: int,
        until: float,
    ) -> None:
        """``until`` is when the key expires, in epoch seconds; ``asked`` is the API version that the caller means.

        ``client`` is the name of the client's family; ``strict``: what cannot be carried in full is refused.
        ``patience`` is how many seconds the client waits, where it says so.
        """
        self.endpoint = endpoint
        self.principal = principal
        self.plan = plan
        self.allowed = None if principal.models is None else frozenset(principal.models)
        """The models of the key, where it has a list of its own."""
        self.bounds = bounds
        self.client = client
        self.strict = strict
        self.patience = patience
        self.asked = asked
        self.revision = revision
        self.until = until
        self.asker = NO_ASKER
        """Who asks, for the choice of a provider."""
        self.causes: tuple[Cause, ...] = ("down",)
        """Why a further model that the caller names answers in place of the first."""
        self.captured: CaptureOrder | None = None
        """By which order the content of its requests is kept."""
        self.standings: Memo[str, Standing] = Memo(_MOST_MODELS)
        """By the model as the caller writes it."""


class Standing:
    """What a model's name means to a caller, and the ways on which it is served."""

    __slots__ = (
        "account_id",
        "actor_id",
        "caller",
        "end",
        "endpoint",
        "heads",
        "key_id",
        "legs",
        "plan",
        "resolution",
    )

    def __init__(self, caller: Caller, resolution: Resolution, end: ModelEnd = NO_END) -> None:
        """``end`` is when nothing serves the model any more, and what follows."""
        self.end = end
        self.caller = caller
        self.endpoint = caller.endpoint
        self.plan = caller.plan
        principal = caller.principal
        self.account_id = principal.account_id
        self.actor_id = None if principal.user_id == principal.account_id else principal.user_id
        """Who acts, where that is not the account itself."""
        self.key_id = caller.principal.key_id
        self.resolution = resolution
        self.legs: Memo[tuple[int, bool], Leg] = Memo(_MOST_LEGS)
        """By the attempt's identity, which the leg proves, and whether a stream is wanted."""
        self.heads: Memo[tuple[str, bool, bool, str, int, bytes | None], AnswerHead] = Memo(_MOST_HEADS)
        """Of answers: by the model that serves, stream or not, simulated or not, why, attempts, and who answers."""
