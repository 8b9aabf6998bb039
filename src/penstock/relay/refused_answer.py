"""Refused answers: what a model has said instead of an answer, kept while another model is asked in its place.

Where none of the others answers, the caller gets the refusal as it was.
"""

from collections.abc import Callable, Sequence

from penstock.core.dialects.interface import UpstreamSide
from penstock.core.neutral.fold import fold
from penstock.domain.catalog.catalog import Resolution
from penstock.errors import InvalidRequest, PenstockError
from penstock.relay.call import Call


class RefusedAnswer:
    """A refusal, and what the record of its call was then."""

    __slots__ = (
        "_answered_model",
        "_attempt",
        "_estimated",
        "_losses",
        "_route",
        "_selection",
        "_usage",
        "give",
    )

    def __init__(self, call: Call, give: Callable[[], float]) -> None:
        """``give`` has the caller get it, and says when that was."""
        self.give = give
        self._selection = call.selection
        self._attempt = call.attempt
        self._usage = call.usage
        self._estimated = call.estimated
        self._answered_model = call.answered_model
        self._losses = call.losses
        self._route = call.route

    def restore(self, call: Call) -> None:
        """This is the call's answer after all."""
        call.selection = self._selection
        call.attempt = self._attempt
        call.usage = self._usage
        call.estimated = self._estimated
        call.answered_model = self._answered_model
        call.losses = self._losses
        call.route = self._route


def answers_a_refusal(call: Call, wanted: Sequence[Resolution]) -> bool:
    """Whether a model is named that answers where this one refuses; ``wanted`` are those that the caller names."""
    if wanted and "refusal" in call.standing.caller.causes:
        return True
    return any("refusal" in each.on for each in call.standing.resolution.model.fallback)


def is_refusal(call: Call, body: bytes) -> bool:
    """Whether an upstream's whole answer is a refusal."""
    attempt = call.attempt
    upstream = call.standing.endpoint.upstreams[attempt.dialect]
    if not isinstance(upstream, UpstreamSide):
        return False
    return fold(upstream.decode_response(body, attempt.profile)).reason == "refusal"


def refused() -> PenstockError:
    """That the model will not answer, as trail and metrics have it."""
    error = InvalidRequest("The model refused to answer.")
    error.failure_class = "refusal"
    return error
