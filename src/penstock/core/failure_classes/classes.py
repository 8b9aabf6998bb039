"""The failure classes of upstreams: whose fault each is, and what is done about it.

``HANDLING`` says for each class who is asked next, whether the same upstream is asked again, what it votes against, and what
the caller is told. Choosing another upstream reads this table, never the signs by which a class is recognised.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from penstock.errors import (
    CallerError,
    ContextOverflow,
    Fault,
    InternalError,
    InvalidRequest,
    PenstockError,
    ProviderCredentials,
    ProviderCut,
    ProviderError,
    ProviderOverloaded,
    ProviderTimeout,
    ProviderUnreachable,
)


class FailureClass(StrEnum):
    """What kind of failure it is."""

    UNREACHABLE = "unreachable"
    """No connection, or no TLS."""
    STALE = "stale"
    """A kept connection that was closed before any byte."""
    BROKEN = "broken"
    """It answered with a fault of its own, broke off, or cannot be read."""
    OVERLOAD = "overload"
    """It has no capacity for anybody."""
    RATE = "rate"
    """It has had enough from this credential for now."""
    QUOTA = "quota"
    """The credential's credit or allowance is used up."""
    AUTH = "auth"
    """The credential is not taken."""
    MISSING = "missing"
    """It does not have the model, or not for us."""
    SLOW = "slow"
    """It kept silent for too long."""
    EMPTY = "empty"
    """A clean end with nothing in it."""
    TOO_LONG = "too_long"
    """The prompt does not fit the model."""
    REASONING_REJECTED = "reasoning_rejected"
    """Reasoning of the history was made elsewhere, or for another credential, and is not taken."""
    CALLER = "caller"
    """The request is wrong."""
    REFUSAL = "refusal"
    """The model, or a filter in front of it, will not answer."""
    GONE = "gone"
    """The caller left."""
    OURS = "ours"
    """A fault on our side."""


class Next(StrEnum):
    """Who else is asked, as long as nothing of an answer has gone to the caller."""

    NOBODY = "nobody"
    OTHER = "another provider"
    OTHER_THEN_KEY = "another provider, then another credential"
    KEY_THEN_OTHER = "another credential, then another provider"
    LARGER = "a model with a larger context, where one is allowed"


class Again(StrEnum):
    """Whether the same upstream is asked again, where there is nobody else."""

    NO = "no"
    AT_ONCE = "at once, on a new connection"
    SOON = "once, after 0.1 to 0.3 seconds"
    LATER = "once, after 0 to 0.5 seconds"
    RESTED = "once, after its retry-after of 2 seconds at most, or after 0.5 to 1.5 seconds"
    AT_RESET = "where its limit resets within 2 seconds"
    WAIT = "it is waited for"
    WITHOUT_REASONING = "once, without that reasoning"


class Against(StrEnum):
    """What the failure is held against."""

    NOTHING = "nothing"
    ORIGIN = "the address"
    TARGET = "the model there"
    CREDENTIAL = "the credential"
    ALLOWANCE = "the credential, for this model, until its limit resets"


class Handling(msgspec.Struct, frozen=True):
    """What is done about a class. ``error`` is what the caller is told where nobody else answers; None: the answer as it is.

    ``words``: in the upstream's own words. ``alive``: the failure shows that the upstream works. ``refunded``: it takes
    nothing from the caller's day, unless the caller has had output. ``maybe_billed``: the vendor may charge for it.
    """

    fault: Fault
    next: Next
    again: Again
    against: Against
    error: type[PenstockError] | None
    words: bool = False
    alive: bool = False
    refunded: bool = True
    maybe_billed: bool = False

    @property
    def status(self) -> int:
        """The caller's status."""
        return 200 if self.error is None else self.error.status

    @property
    def code(self) -> str:
        """The caller's code; '' where there is none."""
        return "" if self.error is None else self.error.code


_PROVIDER, _CALLER, _US = Fault.PROVIDER, Fault.CALLER, Fault.US

HANDLING: Mapping[FailureClass, Handling] = {
    FailureClass.UNREACHABLE: Handling(
        _PROVIDER, Next.OTHER, Again.SOON, Against.ORIGIN, ProviderUnreachable
    ),
    FailureClass.STALE: Handling(_PROVIDER, Next.NOBODY, Again.AT_ONCE, Against.NOTHING, ProviderCut),
    FailureClass.BROKEN: Handling(
        _PROVIDER, Next.OTHER, Again.LATER, Against.TARGET, ProviderError, maybe_billed=True
    ),
    FailureClass.OVERLOAD: Handling(
        _PROVIDER, Next.OTHER_THEN_KEY, Again.RESTED, Against.TARGET, ProviderOverloaded
    ),
    FailureClass.RATE: Handling(
        _PROVIDER, Next.KEY_THEN_OTHER, Again.AT_RESET, Against.ALLOWANCE, ProviderOverloaded, alive=True
    ),
    FailureClass.QUOTA: Handling(
        _PROVIDER, Next.KEY_THEN_OTHER, Again.NO, Against.CREDENTIAL, ProviderCredentials, alive=True
    ),
    FailureClass.AUTH: Handling(
        _PROVIDER, Next.KEY_THEN_OTHER, Again.NO, Against.CREDENTIAL, ProviderCredentials, alive=True
    ),
    FailureClass.MISSING: Handling(
        _PROVIDER, Next.OTHER, Again.NO, Against.TARGET, ProviderCredentials, alive=True
    ),
    FailureClass.SLOW: Handling(
        _PROVIDER, Next.OTHER, Again.WAIT, Against.TARGET, ProviderTimeout, maybe_billed=True
    ),
    FailureClass.EMPTY: Handling(_PROVIDER, Next.OTHER, Again.NO, Against.TARGET, None, maybe_billed=True),
    FailureClass.TOO_LONG: Handling(
        _CALLER, Next.LARGER, Again.NO, Against.NOTHING, ContextOverflow, words=True, alive=True
    ),
    FailureClass.REASONING_REJECTED: Handling(
        _CALLER, Next.NOBODY, Again.WITHOUT_REASONING, Against.NOTHING, InvalidRequest, words=True, alive=True
    ),
    FailureClass.CALLER: Handling(
        _CALLER, Next.NOBODY, Again.NO, Against.NOTHING, InvalidRequest, words=True, alive=True
    ),
    FailureClass.REFUSAL: Handling(
        _CALLER, Next.NOBODY, Again.NO, Against.NOTHING, None, alive=True, refunded=False, maybe_billed=True
    ),
    FailureClass.GONE: Handling(
        _CALLER, Next.NOBODY, Again.NO, Against.NOTHING, None, refunded=False, maybe_billed=True
    ),
    FailureClass.OURS: Handling(_US, Next.NOBODY, Again.NO, Against.NOTHING, InternalError),
}
"""What is done about each class, before any content has gone to the caller. Afterwards nobody else is asked, ever."""


def is_callers(found: FailureClass) -> bool:
    """Whether the caller is told of it as an error of its own."""
    error = HANDLING[found].error
    return error is not None and issubclass(error, CallerError)
