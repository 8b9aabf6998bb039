"""Every error Penstock answers with: its status, its code, whose fault it is, and its body for each audience.

The tree, in one picture::

    PenstockError
      CallerError                     4xx: the caller can mend it
        InvalidRequest 400:           ContextOverflow, PreviousResponseNotFound
        MissingKey, InvalidKey 401
        EmailNotVerified, AccountDisabled, AccountLeaving, AddressNotAllowed, ModelNotOnPlan 403
        RouteNotFound, ModelNotFound (ModelRetired) 404      MethodNotAllowed 405
        EndedByOwner 400              ReceiptTimeout 408            RequestTooLarge 413
        EncodedBody 415               UpgradeRefused 426            HeadersTooLarge 431
        LimitReached 429:             DailyLimitReached, ConcurrentLimitReached, TooManyRefused
      OurError                        500/503: we failed, or cannot take it now
        InternalError 500             Unavailable 503: Overloaded, Draining, CannotRecord,
                                                            DatabaseUnavailable, NoProvider
      ProviderError 502               the upstream failed, deadlines included:
        ProviderUnreachable, ProviderTimeout, ProviderCut, ProviderGarbled, ProviderOverloaded, ProviderCredentials

``kind`` is the type word of both native formats (Anthropic's list; OpenAI clients show it as it is), ``code`` is ours and
never changes once published. A message is written for the caller: it never holds a key, a prompt, or an upstream's
address.
"""

from enum import StrEnum

import msgspec


class Fault(StrEnum):
    """Who has to act for the request to succeed."""

    CALLER = "caller"
    US = "us"
    PROVIDER = "provider"


class OperatorError(Exception):
    """A command, or the start of the server, cannot go on; the text is for the operator. Never part of an answer."""

    exit_code = 1


class Asked(msgspec.Struct, frozen=True):
    """What a refused request had asked for, for its receipt. ``model`` is the public id that the name means, or ''."""

    requested_model: str
    model: str = ""
    stream: bool | None = None


class PenstockError(Exception):
    """An answer other than success. ``retry_after`` is in whole seconds; ``should_retry`` None leaves it to the client."""

    status = 500
    code = "internal_error"
    kind = "api_error"
    fault = Fault.US
    should_retry: bool | None = None
    failure_class = ""
    """What kind of failure of an upstream it is, in words of ``core/failure_classes``; '' for none."""
    provider_said = ""
    """What the provider has said of it, for the operator alone: it is no part of an answer."""
    provider_status: int | None = None
    """The status of the provider's answer, likewise; None where it gave none."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.asked: Asked | None = None
        """What the request asked for, where that is known."""


class CallerError(PenstockError):
    """The request cannot be served as it was sent."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"
    fault = Fault.CALLER


class InvalidRequest(CallerError):
    """The body, a header or a field is wrong; ``param`` names the field (``messages[2].content``)."""


class ContextOverflow(InvalidRequest):
    """The prompt does not fit the model; OpenAI's clients know the code, Claude Code the words."""

    code = "context_length_exceeded"


class PreviousResponseNotFound(InvalidRequest):
    """The request goes on from an answer that is not kept; by this code of OpenAI's, clients send all of the conversation."""

    code = "previous_response_not_found"


class MissingKey(CallerError):
    """No API key in ``x-api-key`` or ``Authorization``."""

    status = 401
    code = "missing_api_key"
    kind = "authentication_error"
    should_retry = False


class InvalidKey(CallerError):
    """The key is not one of ours, revoked, or expired."""

    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"
    should_retry = False


class EmailNotVerified(CallerError):
    """The key is good, but its owner's e-mail address is not verified yet."""

    status = 403
    code = "email_not_verified"
    kind = "permission_error"
    should_retry = False


class AccountDisabled(CallerError):
    """The operator has disabled the account."""

    status = 403
    code = "account_disabled"
    kind = "permission_error"
    should_retry = False


class AccountLeaving(CallerError):
    """The account will be deleted, as its owner asked, and is not used until that is undone."""

    status = 403
    code = "account_leaving"
    kind = "permission_error"
    should_retry = False


class AddressNotAllowed(CallerError):
    """The key may not be used from this address."""

    status = 403
    code = "address_not_allowed"
    kind = "permission_error"
    should_retry = False


class ModelNotOnPlan(CallerError):
    """The model exists, but the caller's plan or key does not have it."""

    status = 403
    code = "model_not_on_plan"
    kind = "permission_error"
    should_retry = False


class RouteNotFound(CallerError):
    """No such route."""

    status = 404
    code = "route_not_found"
    kind = "not_found_error"


class ModelNotFound(CallerError):
    """No such model in the catalogue."""

    status = 404
    code = "model_not_found"
    kind = "not_found_error"


class ModelRetired(ModelNotFound):
    """The model is served no more, from ``day`` (``YYYY-MM-DD``) on; ``successor`` takes its place, '' where none is named."""

    def __init__(self, message: str, *, day: str, successor: str) -> None:
        super().__init__(message, param="model")
        self.day = day
        self.successor = successor


class MethodNotAllowed(CallerError):
    """The route exists, but not with this method; ``allow`` lists those it has, as the header does."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class ReceiptTimeout(CallerError):
    """The request did not arrive within its receipt deadline."""

    status = 408
    code = "request_timeout"


class RequestTooLarge(CallerError):
    """The body is larger than ``PENSTOCK_MAX_BODY``."""

    status = 413
    code = "request_too_large"
    kind = "request_too_large"


class EncodedBody(CallerError):
    """The body has a ``Content-Encoding`` that is not taken; ``accepted`` are those that are."""

    status = 415
    code = "encoded_body"

    def __init__(self, message: str, *, accepted: str) -> None:
        super().__init__(message)
        self.accepted = accepted


class UpgradeRefused(CallerError):
    """The caller asked for another protocol on the connection; only HTTP is spoken here."""

    status = 426
    code = "upgrade_refused"


class HeadersTooLarge(CallerError):
    """The header block is larger than allowed."""

    status = 431
    code = "headers_too_large"


class EndedByOwner(CallerError):
    """The owner of the key has ended the request, on the page of what is running."""

    code = "ended_by_owner"
    should_retry = False


class LimitReached(CallerError):
    """One of the caller's own limits; nothing else ever answers 429."""

    status = 429
    code = "rate_limit_reached"
    kind = "rate_limit_error"


class DailyLimitReached(LimitReached):
    """The plan's requests of this UTC day are used up. Retrying before the reset is useless, and said so."""

    code = "daily_limit_reached"
    should_retry = False


class KeyDailyLimitReached(DailyLimitReached):
    """The key's own part of the day is used up, whatever its account has left."""

    code = "key_daily_limit_reached"


class ConcurrentLimitReached(LimitReached):
    """All of the plan's simultaneous requests are running; ``holders`` are their ids, and since when (epoch seconds)."""

    code = "concurrent_limit_reached"
    should_retry = True

    def __init__(
        self, message: str, *, retry_after: int | None = None, holders: tuple[tuple[str, float], ...] = ()
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.holders = holders


class KeyConcurrentLimitReached(ConcurrentLimitReached):
    """As many of the key's requests run as it may have at once, whatever its account has left."""

    code = "key_concurrent_limit_reached"


class TooManyRefused(LimitReached):
    """Too many refused requests from this key or address within a minute."""

    code = "too_many_refused_requests"


class OurError(PenstockError):
    """We failed, or cannot take the request now."""

    fault = Fault.US


class InternalError(OurError):
    """A bug of ours."""


class Unavailable(OurError):
    """Not now: 503 with ``retry-after``."""

    status = 503
    code = "overloaded"
    kind = "overloaded_error"


class Overloaded(Unavailable):
    """More work than we take at once."""


class Draining(Unavailable):
    """The server is shutting down."""

    code = "draining"


class CannotRecord(Unavailable):
    """The ledger cannot take the request, so it must not be sent."""

    code = "cannot_record"


class DatabaseUnavailable(Unavailable):
    """The database cannot be read or written now; never taken for a wrong key."""

    code = "database_unavailable"


class NoProvider(Unavailable):
    """No provider is set up, or none is healthy, for the model."""

    code = "no_provider"


class ProviderError(PenstockError):
    """The provider failed; the caller gets our words, never the provider's."""

    status = 502
    code = "provider_error"
    kind = "api_error"
    fault = Fault.PROVIDER


class ProviderUnreachable(ProviderError):
    """No connection to the provider, or not in time."""

    code = "provider_unreachable"


class ProviderTimeout(ProviderError):
    """The provider kept silent for longer than a deadline."""

    code = "provider_timeout"


class ProviderCut(ProviderError):
    """The provider's answer broke off."""

    code = "provider_cut"


class ProviderGarbled(ProviderError):
    """The provider's answer could not be read."""

    code = "provider_garbled"


class ProviderOverloaded(ProviderError):
    """The provider has no capacity now (its 429, 503 or 529)."""

    code = "provider_overloaded"
    kind = "overloaded_error"


class ProviderCredentials(ProviderError):
    """The provider refused the operator's credentials or model name; only the operator can mend it."""

    code = "provider_credentials"


class NativeDetail(msgspec.Struct, frozen=True):
    """The inner object of both native error formats."""

    type: str
    message: str
    code: str
    param: str | None


class NativeBody(msgspec.Struct, frozen=True):
    """One body that the Anthropic and the OpenAI SDKs both read in full: the measured ``hybrid_obj`` form."""

    type: str
    error: NativeDetail
    message: str
    request_id: str


class SimpleBody(msgspec.Struct, frozen=True):
    """The documented body for plain HTTP callers: ``error`` is a string."""

    error: str
    code: str
    request_id: str


_encode = msgspec.json.Encoder().encode


def native_body(error: PenstockError, request_id: str) -> bytes:
    """The error as JSON for clients that parse their dialect's own error object."""
    detail = NativeDetail(error.kind, error.message, error.code, error.param)
    return _encode(NativeBody("error", detail, error.message, request_id))


def simple_body(error: PenstockError, request_id: str) -> bytes:
    """The error as JSON in the documented form."""
    return _encode(SimpleBody(error.message, error.code, request_id))
