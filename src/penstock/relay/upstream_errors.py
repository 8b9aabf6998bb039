"""Error mapping: whose fault an upstream's failure is, and what the caller is told of it.

Which answer means what is one table, ``core/failure_classes``. What is the fault of the caller's request goes back with the
upstream's own words, because clients heal and compact by them. Everything else is the provider's failure, and the caller
gets our words: an upstream's words about credit and credentials are never a caller's error, whatever its status.
"""

from collections.abc import Callable
from typing import TypeVar

from penstock.core.catalog import Model
from penstock.core.dialects.context_overflow import Overflow, overflow_in
from penstock.core.dialects.finish_words import UNKNOWN_END
from penstock.core.dialects.interface import UpstreamFormat
from penstock.core.dialects.lanes import TOO_LONG
from penstock.core.dialects.upstream_error_text import codes_of, page_title
from penstock.core.failure_classes.classes import FailureClass, is_callers
from penstock.core.failure_classes.signs import SPOKEN, class_inside, class_of_refusal
from penstock.core.neutral.events import Failed
from penstock.errors import (
    ContextOverflow,
    InvalidRequest,
    ModelNotFound,
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
from penstock.operations.logs import hide
from penstock.relay.quotations import run_from, runs_in
from penstock.upstream import FailureReason, UpstreamFailure, UpstreamResponse

MAX_ERROR_BODY = 64 * 1024
"""Bytes read of an upstream's error body."""
_MAX_RETRY_AFTER = 60
"""Seconds; some clients give up at once when told to wait longer."""


T = TypeVar("T", bound=PenstockError)


def _classed(found: FailureClass, error: T) -> T:
    error.failure_class = found.value
    return error


def network_error(failure: UpstreamFailure) -> ProviderError:
    """A network failure in words for the caller."""
    match failure.reason:
        case FailureReason.CONNECT | FailureReason.TLS:
            error = ProviderUnreachable("The provider could not be reached.")
            return _classed(FailureClass.UNREACHABLE, error)
        case FailureReason.FIRST_BYTE_TIMEOUT | FailureReason.TOTAL_TIMEOUT:
            return _classed(FailureClass.SLOW, ProviderTimeout("The provider did not answer in time."))
        case FailureReason.IDLE_TIMEOUT:
            slow = ProviderTimeout("The provider fell silent before the reply was complete.")
            return _classed(FailureClass.SLOW, slow)
        case FailureReason.CUT:
            cut = ProviderCut("The provider closed the connection before the reply was complete.")
            return _classed(FailureClass.BROKEN, cut)
        case FailureReason.PROTOCOL | FailureReason.TOO_LARGE:
            return garbled_error()


def garbled_error() -> ProviderGarbled:
    """An answer that is none: of no protocol, no JSON, or nested without end."""
    return _classed(
        FailureClass.BROKEN, ProviderGarbled("The provider sent an answer that could not be read.")
    )


def empty_error() -> PenstockError:
    """An answer that ends well and has nothing in it."""
    return _classed(FailureClass.EMPTY, ProviderError("The provider's answer had nothing in it."))


def reported_error(failed: Failed | None, asked: bytes = b"", *, begun: bool = True) -> PenstockError:
    """What a lane met in an answer that had begun well, in words for the caller; the upstream's own stay with the operator.

    None: it met nothing, and the answer is not complete all the same. ``asked`` is the caller's own body. Where nothing
    of the answer has ``begun`` towards the caller, a prompt that is too long is the caller's to mend.
    """
    if failed is None or failed.truncated:
        return _classed(
            FailureClass.BROKEN, ProviderCut("The provider broke off before the reply was complete.")
        )
    if failed.garbled:
        return garbled_error()
    if failed.kind == TOO_LONG:
        error = ProviderError(
            "The answer is too long to be told in this format, whose end repeats all of it."
        )
        return _classed(FailureClass.OURS, error)
    if failed.kind == UNKNOWN_END:
        return _classed(
            FailureClass.BROKEN,
            ProviderError("The provider ended its answer with a word that is not known to mean a good end."),
        )
    too_long = overflow_in(failed.message, b"") is not None
    found = class_inside(failed.kind, failed.message, asked, too_long=too_long)
    if found is FailureClass.TOO_LONG and not begun:
        return _classed(found, ContextOverflow(failed.message))
    error = _failure(found, "The provider reported an error.")
    error.provider_said, error.provider_status = for_operator(failed.message, asked), 200
    return error


def reads_refusal(status: int) -> bool:
    """Whether the body of an answer with this error status is read, for what it says of the caller's request or of us."""
    return status in SPOKEN


def refused_error(
    response: UpstreamResponse,
    body: bytes,
    upstream: UpstreamFormat,
    overflow_words: Callable[[Overflow, str], str] | None,
    asked: bytes = b"",
) -> PenstockError:
    """What an upstream's error status means for the caller: whose fault it is decides.

    ``body`` is read where ``reads_refusal`` says so, and empty where it could not be. ``overflow_words`` tells the caller
    of a prompt that is too long; None: in the upstream's own words. ``asked`` is the caller's own body.
    """
    status = response.status
    said = upstream.error_text(status, body) if body else None
    overflow = overflow_in(said or "", body)
    found = class_of_refusal(status, codes_of(body), said or "", asked, too_long=overflow is not None)
    if not is_callers(found) and found is not FailureClass.REFUSAL:
        error = _failure(found, f"The provider failed with status {status}.", _retry_after(response))
        error.provider_said, error.provider_status = for_operator(said or "", asked), status
        return error
    text = said or "The provider refused the request as invalid."
    if found is FailureClass.TOO_LONG and overflow is not None and status != 413:
        told = text if overflow_words is None else overflow_words(overflow, text)
        return _classed(found, ContextOverflow(told))
    return _classed(found, RequestTooLarge(text) if status == 413 else InvalidRequest(text))


def said_to_operator(status: int, body: bytes, upstream: UpstreamFormat) -> str:
    """What the body of an error says; of a page, such as a load balancer sends, its title."""
    return upstream.error_text(status, body) or page_title(body)


def for_operator(said: str, asked: bytes) -> str:
    """A provider's words for the operator: short, on one line, without credentials, and without what the caller has written.

    A provider may repeat a part of the prompt. What of its text stands in the caller's body too is left out, from
    ``_REPEATED`` characters on; all of it, where the body is too large to look through.
    """
    text = hide(" ".join(said.split()))[:_LONGEST_SAID]  # a provider may repeat the key that it refuses
    if not text or len(asked) > MOST_LOOKED_THROUGH:
        return ""
    windows = [text[at : at + _REPEATED].encode() for at in range(len(text) - _REPEATED + 1)]
    repeated = runs_in(asked, windows)
    kept: list[str] = []
    at = 0
    while at < len(text):
        if at >= len(windows) or windows[at] not in repeated:
            kept.append(text[at])
            at += 1
            continue
        kept.append("(...)")
        at = run_from(asked, text, at, at + _REPEATED)
    return "".join(kept)


_LONGEST_SAID = 300
_REPEATED = 8
MOST_LOOKED_THROUGH = 256 * 1024
"""Bytes of a request with which a provider's words are compared; of a longer one none are kept."""


def not_passed_on(model: Model) -> ModelNotFound:
    """A provider does not have what a wildcard has passed on to it: whoever named it is to name another."""
    return ModelNotFound(
        f'There is no model "{model.id}": the provider does not have what {model.wildcard} passes on to it.',
        param="model",
    )


def _failure(found: FailureClass, otherwise: str, retry_after: int | None = None) -> ProviderError:
    """A failure of the provider that is no caller's, in our words."""
    match found:
        case FailureClass.QUOTA:
            error: ProviderError = ProviderCredentials(
                "This service's account at the provider is used up; the operator has been told."
            )
        case FailureClass.AUTH:
            error = ProviderCredentials(
                "The provider refused this service's credentials; the operator has been told."
            )
        case FailureClass.MISSING:
            error = ProviderCredentials("The provider does not have this model; the operator has been told.")
        case FailureClass.OVERLOAD | FailureClass.RATE:
            error = ProviderOverloaded("The provider is overloaded.", retry_after=retry_after)
        case _:
            error = ProviderError(otherwise)
    return _classed(found, error)


def _retry_after(response: UpstreamResponse) -> int | None:
    """The upstream's wish in whole seconds, as far as clients put up with it."""
    value = response.header(b"retry-after")
    if value is None or not value.isdigit():
        return None
    return max(1, min(int(value[:6]), _MAX_RETRY_AFTER))
