"""Error mapping: whose fault an upstream's failure is, and what the caller is told of it.

An upstream's 400, 413 and 422 are the fault of the caller's request. They go back with the upstream's own words, because
clients heal and compact by them. Everything else is the provider's failure, and the caller gets our words.
"""

from collections.abc import Callable

from penstock.core.dialects.context_overflow import Overflow, overflow_in
from penstock.core.dialects.interface import UpstreamFormat
from penstock.core.neutral.events import Failed
from penstock.errors import (
    ContextOverflow,
    InvalidRequest,
    PenstockError,
    ProviderCredentials,
    ProviderCut,
    ProviderError,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderTimeout,
    ProviderUnreachable,
    RequestTooLarge,
)
from penstock.upstream import FailureReason, UpstreamFailure, UpstreamResponse

MAX_ERROR_BODY = 64 * 1024
"""Bytes read of an upstream's error body."""
_MAX_RETRY_AFTER = 60
"""Seconds; some clients give up at once when told to wait longer."""


def network_error(failure: UpstreamFailure) -> ProviderError:
    """A network failure in words for the caller."""
    match failure.reason:
        case FailureReason.CONNECT | FailureReason.TLS:
            return ProviderUnreachable("The provider could not be reached.")
        case FailureReason.FIRST_BYTE_TIMEOUT | FailureReason.TOTAL_TIMEOUT:
            return ProviderTimeout("The provider did not answer in time.")
        case FailureReason.IDLE_TIMEOUT:
            return ProviderTimeout("The provider fell silent before the reply was complete.")
        case FailureReason.CUT:
            return ProviderCut("The provider closed the connection before the reply was complete.")
        case FailureReason.PROTOCOL | FailureReason.TOO_LARGE:
            return garbled_error()


def garbled_error() -> ProviderGarbled:
    """An answer that is none: of no protocol, no JSON, or nested without end."""
    return ProviderGarbled("The provider sent an answer that could not be read.")


def reported_error(failed: Failed | None) -> ProviderError:
    """What a lane met in an answer that had begun well, in words for the caller; the upstream's own stay with the operator.

    None: it met nothing, and the answer is not complete all the same.
    """
    if failed is None or failed.truncated:
        return ProviderCut("The provider broke off before the reply was complete.")
    if failed.garbled:
        return garbled_error()
    if failed.kind == "overloaded_error":
        return ProviderOverloaded("The provider is overloaded.")
    return ProviderError("The provider reported an error.")


async def refused_error(
    response: UpstreamResponse,
    upstream: UpstreamFormat,
    overflow_words: Callable[[Overflow, str], str] | None,
) -> PenstockError:
    """What an upstream's error status means for the caller: whose fault it is decides.

    ``overflow_words`` tells the caller of a prompt that is too long; None: in the upstream's own words.
    """
    status = response.status
    if status in (400, 413, 422):
        try:
            body = await response.read(MAX_ERROR_BODY)
        except UpstreamFailure as failure:
            return network_error(failure)
        text = upstream.error_text(status, body) or "The provider refused the request as invalid."
        if status == 413:
            return RequestTooLarge(text)
        overflow = overflow_in(text, body)
        if overflow is None:
            return InvalidRequest(text)
        return ContextOverflow(text if overflow_words is None else overflow_words(overflow, text))
    if status in (401, 403):
        return ProviderCredentials(
            "The provider refused this service's credentials; the operator has been told."
        )
    if status in (404, 405):
        return ProviderCredentials("The provider does not have this model; the operator has been told.")
    if status in (429, 503, 529):
        return ProviderOverloaded("The provider is overloaded.", retry_after=_retry_after(response))
    return ProviderError(f"The provider failed with status {status}.")


def _retry_after(response: UpstreamResponse) -> int | None:
    """The upstream's wish in whole seconds, as far as clients put up with it."""
    value = response.header(b"retry-after")
    if value is None or not value.isdigit():
        return None
    return max(1, min(int(value[:6]), _MAX_RETRY_AFTER))
