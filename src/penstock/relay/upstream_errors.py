"""Whose fault an upstream's failure is, and what the caller is told of it.

The caller's request is to blame for an upstream's 400, 413 and 422: those go back with the upstream's own words, because
clients heal and compact by them. Everything else is the provider's failure, and the caller gets our words.
"""

import msgspec

from penstock.core.dialects.context_overflow import overflow_in
from penstock.core.dialects.registry import Dialect
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

ERROR_BODY_MOST = 64 * 1024
"""Bytes read of an upstream's error body."""
_RETRY_AFTER_MOST = 60
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
            return ProviderGarbled("The provider sent an answer that could not be read.")


def reported_error(failed: Failed, body: bytes) -> ProviderError:
    """An error object or garbage inside a 200, in words for the caller; ``body`` tells the two apart."""
    if failed.kind == "overloaded_error":
        return ProviderOverloaded("The provider is overloaded.")
    if failed.truncated:
        return ProviderCut("The provider broke off before the reply was complete.")
    try:
        reported = _outline(body).error is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reported = False
    if reported:
        return ProviderError("The provider reported an error.")
    return ProviderGarbled("The provider sent an answer that could not be read.")


class _Outline(msgspec.Struct):
    """An answer as far as it tells an error object from anything else."""

    error: msgspec.Raw | None = None


_outline = msgspec.json.Decoder(_Outline).decode


async def refused_error(response: UpstreamResponse, dialect: Dialect, caller: str) -> PenstockError:
    """What an upstream's error status means for the caller: whose fault it is decides (DESIGN decision 3).

    ``dialect`` is the upstream's, ``caller`` the name of the caller's.
    """
    status = response.status
    if status in (400, 413, 422):
        try:
            body = await response.read(ERROR_BODY_MOST)
        except UpstreamFailure as failure:
            return network_error(failure)
        text = dialect.error_text(status, body) or "The provider refused the request as invalid."
        if status == 413:
            return RequestTooLarge(text)
        overflow = overflow_in(text, body)
        if overflow is None:
            return InvalidRequest(text)
        translated = caller == "messages" and dialect.name != caller
        return ContextOverflow(overflow.wording(text) if translated else text)
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
    return max(1, min(int(value[:6]), _RETRY_AFTER_MOST))
