"""Further models: those that may answer where all providers of a call's model have failed, or none has room for its prompt."""

from collections.abc import Iterator

import msgspec

from penstock.core.catalog import Cause
from penstock.core.routing.candidates import Candidate
from penstock.domain.catalog.catalog import Resolution
from penstock.errors import PenstockError
from penstock.relay.call import Call
from penstock.relay.detour import Detour
from penstock.relay.failover import Attempts, size_of
from penstock.relay.router import Router, Selection


class StandIn(msgspec.Struct, frozen=True, gc=False):
    """A model that is asked in place of the first, and who is asked for it."""

    selection: Selection
    attempts: Attempts
    candidate: Candidate


def next_model(call: Call, detour: Detour, router: Router, cause: Cause, now: float) -> StandIn | None:
    """The next model that may answer for this cause, and can; None: there is none. ``now`` is monotonic."""
    standing = call.standing
    if detour.models is None:
        detour.models = list(_further_models(call, detour, router))
    while detour.models:
        resolution, causes = detour.models.pop(0)
        if cause not in causes:
            continue
        try:
            selection = router.select(
                resolution,
                call.envelope,
                standing.endpoint,
                now,
                standing.caller.asker,
                detour.preference,
            )
        except PenstockError:  # it cannot take this request, or has no provider
            continue
        attempts = Attempts(
            router,
            selection,
            standing.account_id,
            call.envelope.body,
            size_of(call.envelope, selection.model),
            stream=call.envelope.stream,
        )
        candidate = attempts.first(now, 0.0).candidate
        if candidate is not None:
            return StandIn(selection, attempts, candidate)
    return None


def _further_models(
    call: Call, detour: Detour, router: Router
) -> Iterator[tuple[Resolution, tuple[Cause, ...]]]:
    """The caller's own, then the operator's, each with the causes for which it answers."""
    standing = call.standing
    for wanted in detour.wanted:
        yield wanted, standing.caller.causes
    if detour.preference is not None and not detour.preference.allow_fallbacks:
        return
    for each in standing.resolution.model.fallback:
        try:
            found = router.stand_in(each.model, standing.plan.id, None, standing.endpoint.kind)
        except PenstockError:  # the plan does not have it
            continue
        if found is not None:
            yield found, each.on
