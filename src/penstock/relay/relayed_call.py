"""The life of a request: a state machine over one call, driven by plain calls from its caller's and its upstream's sockets.

The machine, in words. A call begins *entering*: it asks for one of its plan's slots. With a slot it is *preparing*: the
router chooses the attempts, and the body is written for the first upstream. Then the call is counted, its row is in the
ledger, and it is *sending*: an upstream has the request, and we wait for the head of its answer. A good head makes it
*awaiting content*: a stream flows through ``stream.py``, which holds what comes before the first content, and a whole answer
is gathered. With the first content of a stream, or all of a whole answer, it is *answering*. A turn that its upstream has
paused is sent again and is *sending* once more, and so is a request with reasoning that the upstream cannot read. Until it
is answering, a failure of the provider makes it *between attempts*: the next one is prepared and sent, also where the head
and keep-alives have gone to the caller meanwhile. While it is preparing it may have to wait for a place at an upstream, and
where all of its model have failed another model may stand in (``detour.py``). An attempt at a provider that was out is left
behind, to find out by itself, where it takes more than a moment (``probe.py``). Every way ends in *ended*: the row is settled,
the slot is free.

Four things end a call from outside, in any state: the caller leaves, the owner of the key ends it, the service stops, and a
fault of our own. What is waited for is given up then, and the sockets to the upstream are closed.

Where a state has to wait for something rare (a place in the queue, a thread for a large body, the disk), it waits in a task
of its own and goes on by the same plain calls.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum
from functools import partial
from math import inf
from typing import Any, TypeVar

from penstock.core.catalog import Cause
from penstock.core.dialects.interface import Lane, Prepared
from penstock.core.dialects.prepare import translation_header
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.bounds.capacity import Seat
from penstock.core.routing.candidates import Candidate
from penstock.core.routing.choice import Choice, Reason
from penstock.core.routing.pace import Limits
from penstock.domain.ledger.attempts import AttemptMade
from penstock.domain.ledger.rows import Row
from penstock.domain.limits import Lease
from penstock.errors import (
    CallerError,
    CannotRecord,
    ContextOverflow,
    Draining,
    EndedByOwner,
    InternalError,
    InvalidRequest,
    OurError,
    PenstockError,
    ProviderError,
)
from penstock.operations.token_sources import TokenPending
from penstock.relay.answer import (
    EMPTY_ANSWER,
    asked_of,
    lane_for,
    prepared_for,
    relieved,
    whole_answer,
)
from penstock.relay.answer_head import AnswerHead, answer_headers, ending_headers
from penstock.relay.answer_memory import AnswerRoom
from penstock.relay.call import Call
from penstock.relay.continuation import WholeTurn, continued_request, paused_decoder
from penstock.relay.detour import Detour
from penstock.relay.failover import Attempts, Step, class_of, refusal, size_of
from penstock.relay.further_models import StandIn, next_model
from penstock.relay.hosted import hosted_body
from penstock.relay.probe import LeftProbe, Probe
from penstock.relay.record import kind_of, measure, settle, trace
from penstock.relay.refused_answer import RefusedAnswer, answers_a_refusal, is_refusal, refused
from penstock.relay.relay_parts import Front, Place, RelayParts
from penstock.relay.retry_after import retry_after
from penstock.relay.standing import Leg
from penstock.relay.stream import ResponseStream, UpstreamBroke
from penstock.relay.upstream_errors import (
    MAX_ERROR_BODY,
    empty_error,
    garbled_error,
    network_error,
    not_passed_on,
    reads_refusal,
    refused_error,
    reported_error,
)
from penstock.relay.upstream_queue import FLEXIBLE_WEIGHT, crowded
from penstock.relay.usage import note_model, note_stream
from penstock.relay.wishes import wishes_of
from penstock.upstream import (
    Deadlines,
    FailureReason,
    HeadListener,
    Sending,
    UpstreamFailure,
    UpstreamResponse,
)

log = logging.getLogger("penstock.relay")

_LINGER = 2.0
"""Seconds an upstream may take to end its body after the dialect's own end, before its connection is given up."""
_TOLD_BY_STATUS = frozenset((401, 402, 403, 429))
"""Error statuses that say enough where their body does not arrive."""
_FLEXIBLE = b'"flex"'
_LATE = UpstreamFailure(FailureReason.FIRST_BYTE_TIMEOUT, "no content in time", sent=True)
_CAUSES: Mapping[str, Cause] = {
    FailureClass.TOO_LONG.value: "overflow",
    FailureClass.REFUSAL.value: "refusal",
}
"""Of what is no failure of the provider: why another model may answer."""
_STOPPED = "The service was stopped before the answer was complete. Send the request again."

T = TypeVar("T")


class State(Enum):
    """Where a call is."""

    ENTERING = "entering"
    PREPARING = "preparing"
    SENDING = "sending"
    AWAITING_CONTENT = "awaiting content"
    BETWEEN_ATTEMPTS = "between attempts"
    ANSWERING = "answering"
    ENDED = "ended"


ENTERING, PREPARING, SENDING, AWAITING_CONTENT, BETWEEN_ATTEMPTS, ANSWERING, ENDED = State


class RelayedCall(Call):
    """A call on its way. Every method that begins with no underscore is called from outside, and raises nothing."""

    __slots__ = (
        "_attempts",
        "_candidate",
        "_counted",
        "_detour",
        "_front",
        "_lease",
        "_leg",
        "_place",
        "_prepared",
        "_provider",
        "_relay",
        "_relieved",
        "_response",
        "_room",
        "_row",
        "_sending",
        "_state",
        "_stream",
        "_timer",
        "_told",
        "_turn",
        "_waiting",
        "_whole_by",
    )

    _relay: "RelayParts[RelayedCall]"
    _front: Front
    _place: Place
    _attempts: Attempts
    _candidate: Candidate
    """Who is asked first."""
    _prepared: Prepared
    """What was written for the upstream that is tried now."""
    _leg: Leg

    def serve(self, relay: "RelayParts[RelayedCall]", front: Front, place: Place) -> None:
        """Begin; the exchange is this call's from now on."""
        self._relay = relay
        self._front = front
        self._place = place
        self._lease: Lease | None = None
        self._counted = False
        self._waiting: asyncio.Task[None] | None = None
        self._sending: Sending | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told: float | None = None
        self._whole_by = inf
        self._response: UpstreamResponse | None = None
        self._stream: ResponseStream | None = None
        self._room: AnswerRoom | None = None
        self._row: Row | None = None
        self._turn: WholeTurn | None = None
        self._provider: bytes | None = None
        self._detour: Detour | None = None
        self._relieved = (
            False  # this attempt is made once more, without reasoning that its upstream cannot read
        )
        self._state = ENTERING
        relay.calls[self.request_id] = self
        self.exchange.own(self)
        self._do(self._enter)

    # ---- from outside

    def stand_apart(self, now: float) -> None:
        """A drill is played for this request: nothing that comes of it is held against a provider."""
        self._attempts = self._attempts.apart(now)

    def caller_left(self) -> None:
        """The caller is gone: nobody is told, and what was sent counts."""
        if self._state is not ENDED:
            self._give_up()
            self._do(self._abandon)

    def recalled(self) -> None:
        """The service stops, and can wait no longer."""
        self.stop(Draining(_STOPPED))

    def stop(self, error: EndedByOwner | Draining) -> None:
        """The owner of the key ends it, or the service stops: the caller is told."""
        if self._state is ENDED:
            return
        self._give_up()
        self._do(self._broke, error)

    def answered(self, response: UpstreamResponse) -> None:
        """The upstream's head is here."""
        self._do(self._take_head, response)

    def failed(self, failure: Exception) -> None:
        """The upstream has not answered; or our side has failed to ask it."""
        self._do(self._body_broke, failure)

    # ---- how all of it goes on

    def _do(self, step: Callable[..., None], *args: object) -> None:
        """Take a step; an error of it ends the attempt or the call."""
        try:
            step(*args)
        except PenstockError as error:
            self._do(self._broke, error)
        except RecursionError:  # where an answer is decoded or encoded: what it says is nested without end
            self._do(self._broke, garbled_error())
        except Exception:
            log.exception("internal error", extra={"request_id": self.request_id})
            self._crash()

    def _wait(self, wait: Callable[[], Coroutine[Any, Any, T]], then: Callable[[T], None]) -> None:
        """Go on with what the coroutine of ``wait`` gives, as the next step."""
        self._waiting = asyncio.create_task(self._waited(wait, then))

    async def _waited(self, wait: Callable[[], Coroutine[Any, Any, T]], then: Callable[[T], None]) -> None:
        try:
            found = await wait()
        except asyncio.CancelledError:
            if self._state is not ENDED:  # not by us: the loop is being closed
                self._waiting = None
                self.stop(Draining(_STOPPED))
            raise
        except PenstockError as error:
            self._waiting = None
            self._do(self._broke, error)
        except Exception:
            self._waiting = None
            log.exception("internal error", extra={"request_id": self.request_id})
            self._crash()
        else:
            self._waiting = None
            self._do(then, found)

    # ---- entering

    def _enter(self) -> None:
        standing, gate = self.standing, self._relay.gate
        lease = gate.try_enter(standing.account_id, standing.plan, self.request_id, self.now)
        if lease is None:
            if standing.plan.queue_seconds:
                self._enter_late()
            self._wait(
                lambda: gate.enter(standing.account_id, standing.plan, self.request_id, self.now),
                self._choose,
            )
        else:
            self._choose(lease)

    def _aside(self) -> Detour:
        """What is remembered of a call that does not go straight."""
        if self._detour is None:
            self._detour = Detour(self.standing.caller.asker.preference)
        return self._detour

    def _enter_late(self) -> None:
        """There is no slot yet: the caller of a stream gets comments while it waits for one."""
        relay, standing = self._relay, self.standing
        asker = standing.caller.asker
        try:
            self.selection = relay.router.select(
                standing.resolution,
                self.envelope,
                standing.endpoint,
                relay.clock(),
                asker,
                asker.preference,
            )
        except PenstockError:  # which is told when there is a slot
            return
        self._keep_alive()

    def _keep_alive(self) -> None:
        """Something is waited for before anybody is asked: the caller of a stream gets comments meanwhile."""
        if self.envelope.stream and self.standing.endpoint.side is not None:
            self.attempt = self.selection.board.group.tiers[0].candidates[0].attempt
            stream = self._aside().stream = self._response_stream()
            self._relay.streams.add(stream)

    def _stop_waiting(self) -> None:
        """Nothing is waited for any more."""
        if self._detour is not None:
            self._detour.stop_waiting(self._relay.queue, self._relay.streams)

    # ---- preparing

    def _choose(self, lease: Lease) -> None:
        """The call has its slot."""
        self._lease = lease
        self._state = PREPARING
        if self._detour is not None:
            self._stop_waiting()
        relay, standing, envelope = self._relay, self.standing, self.envelope
        asker = standing.caller.asker
        preference = asker.preference
        if envelope.decoded is not None:
            wishes = wishes_of(envelope, standing, relay.router)
            if wishes is not None:
                self.envelope = envelope = wishes.envelope
                detour, preference = self._aside(), wishes.preference
                detour.preference, detour.wanted = preference, wishes.models
        try:
            selection = relay.router.select(
                standing.resolution, envelope, standing.endpoint, relay.clock(), asker, preference
            )
        except ContextOverflow:
            candidate = self._other_model("overflow")
            if candidate is None:
                raise
            self._ask(candidate)
            return
        self.selection = selection
        self._attempts = Attempts(
            relay.router,
            selection,
            standing.account_id,
            envelope.body,
            size_of(envelope, selection.model),
            stream=envelope.stream,
            repeats=standing.endpoint.repeats,
        )
        only = self._attempts.only()
        if only is None:
            self._first(self._seconds_left())
        else:
            self.route = Reason.ONLY
            self._ask(only)

    def _first(self, patience: float) -> None:
        """Choose whom to ask first. Where all are out, the first may be back soon: ``patience`` says how long is waited."""
        relay = self._relay
        selection = self.selection
        board = selection.board
        limited = board.group.limited or board.health.bounded > 0
        if limited and relay.queue.waiting(selection.model.id):
            self._queue()
            return
        choice = self._attempts.first(relay.clock(), patience)
        if choice.wait is not None:
            self._pause(choice.wait, self._first, 0.0)
            return
        self.route = choice.reason
        candidate = choice.candidate
        if candidate is None:
            if choice.reason is Reason.FULL:
                self._queue()
                return
            candidate = self._other_model("down")
            if candidate is None:
                self._refuse(choice)
            else:
                self._ask(candidate)
            return
        if limited:
            self._sit(candidate)
            relay.queue.served_at_once(*self._share())
        self._ask(candidate)

    def _ask(self, candidate: Candidate) -> None:
        """Write what this one is sent first."""
        relay = self._relay
        self._candidate = candidate
        self.attempt = attempt = candidate.attempt
        if self._is_large():
            self._wait(lambda: relay.offload.run(prepared_for, self, attempt, relay.memories), self._open)
        else:
            # a request that cannot be said there fails here, before it counts
            self._open(prepared_for(self, attempt, relay.memories))

    # ---- other models, where all of one have failed

    def _other_model(self, cause: Cause) -> Candidate | None:
        """Have another model answer in place of this one: who is asked for it first; None: there is none."""
        relay, detour = self._relay, self._aside()
        now = relay.clock()
        found = next_model(self, detour, relay.router, cause, now)
        if found is None:
            return None
        self._stand_in(found)
        return found.candidate

    def _stand_in(self, found: StandIn) -> None:
        """Another model is asked from now on."""
        if self.contacted:
            self._attempts.leave(self._relay.clock())
        self.selection, self._attempts = found.selection, found.attempts
        self.route = Reason.FALLBACK_MODEL
        self._aside().stands_in = True
        self._sit(found.candidate)

    def _fall_back(self, failure: PenstockError) -> None:
        """All attempts have failed: another model is asked, or the caller is told of the first failure."""
        detour, candidate = self._aside(), None
        detour.failure = detour.failure or failure
        if isinstance(failure, ProviderError) and self._seconds_left() > 0:
            candidate = self._other_model("down" if detour.refused is None else "refusal")
        if candidate is None:
            self._fail(detour.failure)
        else:
            self._follow(Step(candidate, Reason.FALLBACK_MODEL), failure)

    # ---- places, where an upstream takes only so many requests at once

    def _sit(self, candidate: Candidate) -> None:
        """Take a place at an upstream, and leave the one that was taken before."""
        relay = self._relay
        capacities = relay.router.health.of(candidate.attempt).capacities
        self._aside().sit(Seat(capacities, relay.queue.stir) if capacities else None)

    def _share(self) -> tuple[str, float, float]:
        """Who asks, for how much, and by which weight, as the queue counts it."""
        size, weight = self._attempts.size, float(self.standing.plan.weight)
        if self._has_time():
            weight *= FLEXIBLE_WEIGHT
        return self.standing.account_id, float(size.prompt + size.asked), weight

    def _has_time(self) -> bool:
        """Whether the caller puts up with waiting, for a lower price."""
        return self.envelope.value("service_tier") == _FLEXIBLE

    def _queue(self) -> None:
        """All are full: wait until somebody leaves a place, in turn."""
        relay, model = self._relay, self.selection.model.id
        account, tokens, weight = self._share()
        places = self.selection.board.places()
        usual = self.selection.board.known.pace.usual(self._attempts.kind)
        most = relay.timings.queue_flexible if self._has_time() else relay.queue.most_seconds
        seconds = min(most, self._seconds_left() - usual)
        if seconds <= 0:
            raise crowded(model)  # there would be no time left for the answer
        self._aside().turn = relay.queue.join(model, account, tokens, weight, places, self._take_place)
        self._keep_alive()
        self._aside().queued_at = relay.clock()
        self._pause(seconds, self._waited_in_vain)

    def _take_place(self) -> bool:
        """Somebody has left a place. Whether it is of use."""
        relay = self._relay
        choice = self._attempts.first(relay.clock(), 0.0)
        candidate = choice.candidate
        if candidate is None:
            return False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        detour = self._aside()
        detour.turn = None  # which the queue itself takes out
        self._stop_waiting()
        waited = relay.clock() - detour.queued_at
        relay.metrics.queued(self.selection.model.listed, waited, served=True)
        self.route = choice.reason
        self._sit(candidate)
        self._do(self._ask, candidate)
        return True

    def _waited_in_vain(self) -> None:
        self._stop_waiting()
        waited = self._relay.clock() - self._aside().queued_at
        self._relay.metrics.queued(self.selection.model.listed, waited, served=False)
        raise crowded(self.selection.model.id)

    def _refuse(self, choice: Choice) -> None:
        """Nobody is asked, because all are out; the row says of whom it is."""
        self.attempt = self.selection.board.group.tiers[0].candidates[0].attempt
        self._count()
        raise refusal(choice)

    def _pause(self, seconds: float, step: Callable[..., None], *args: object) -> None:
        """Go on with a step later."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._resume_step, step, args)

    def _resume_step(self, step: Callable[..., None], args: tuple[object, ...]) -> None:
        self._timer = None
        self._do(step, *args)

    def _is_large(self) -> bool:
        """Whether the body is written in a thread, beside the streams of others."""
        return len(self.envelope.body) > self._relay.offload.above

    def _open(self, prepared: Prepared) -> None:
        """Count the call and record it, and send it."""
        self._count()
        ledger = self._relay.ledger
        if ledger.durable:
            self._prepared = prepared
            self._wait(ledger.synced, self._send_first)
        else:
            self._send(self._candidate, prepared)

    def _count(self) -> None:
        relay, lease = self._relay, self._lease
        if lease is None:
            raise RuntimeError("a call without a slot")
        self.day = relay.gate.count(lease, self.now)
        self._counted = True
        relay.metrics.entered()
        leg = self._leg = self._way()
        standing = self.standing
        self._row = relay.ledger.open(
            self.request_id,
            leg.kind,
            standing.account_id,
            standing.key_id,
            self.day,
            int(self.now * 1000),
            standing.actor_id,
        )

    def _way(self) -> Leg:
        """The way that the attempt goes."""
        standing, attempt, stream = self.standing, self.attempt, self.envelope.stream
        key = (id(attempt), stream)
        known = standing.legs.get(key)
        if known is not None and known.attempt is attempt:
            return known
        relay, endpoint = self._relay, standing.endpoint
        upstream, own = endpoint.upstreams[attempt.dialect], endpoint.name == attempt.dialect
        path = upstream.path(attempt.model, stream)
        kind = relay.ledger.kind(kind_of(self))
        drilled = relay.drills.scenario(standing.key_id, attempt.provider)
        if drilled is not None:
            self.stand_apart(relay.clock())
            address = relay.router.simulated_address(relay.drills.simulator, path)
            leg = Leg(attempt, upstream, address, kind, own=own)
            headers = relay.router.simulated_headers(drilled, upstream, self.envelope.body)
            leg.head = relay.client.head(address.origin, b"POST", address.path, headers)
            return leg
        address = relay.router.address(attempt, path, stream=stream)
        return standing.legs.keep(key, Leg(attempt, upstream, address, kind, own=own))

    def _send_first(self, _synced: None) -> None:
        self._send(self._candidate, self._prepared)

    def _note_failed(self, failure: PenstockError, response: UpstreamResponse | None) -> None:
        """Tell the operator, and the trail."""
        relay = self._relay
        relay.failover.note(self.request_id, self.attempt, failure)
        relay.failover.trails.failed(
            self, failure, response, began=self._attempts.began, now=relay.clock(), told=self._told
        )

    def _try_next(self, failure: PenstockError, response: UpstreamResponse | None) -> None:
        """The attempt has failed, and no content has gone to the caller: make the next one, or tell of this failure.

        ``response`` is as much as there was of its answer.
        """
        self._state = BETWEEN_ATTEMPTS
        relay = self._relay
        self._note_failed(failure, response)
        now, told = relay.clock(), self._told
        self._told = None
        if self._detour is not None and self._detour.stands_in:  # one attempt for each further model
            self._attempts.count(class_of(failure), told, now)
            self._attempts.leave(now)
            self._fall_back(failure)
            return
        step = self._attempts.failed(class_of(failure), told, now, self._seconds_left())
        if step is None:
            self._fall_back(failure)
        else:
            self._go_on(step, failure)

    def _go_on(self, step: Step, failure: PenstockError) -> None:
        """Take the next step, when it is time for it."""
        if self.selection.board.group.limited:
            self._sit(step.candidate)
        if step.wait > 0:
            self._pause(step.wait, self._follow, step, failure)
        else:
            self._follow(step, failure)

    def _asks_for_content(self) -> bool:
        """The answer has nothing in it. Whether another one is asked for, once; else the caller gets it, and has it back."""
        error, detour = empty_error(), self._aside()
        now = self._relay.clock()
        self._note_failed(error, self._response)
        step: Step | None = None
        if detour.empty or detour.stands_in:
            self._attempts.count(FailureClass.EMPTY, None, now)
            self._attempts.leave(now)
        else:
            step = self._attempts.failed(FailureClass.EMPTY, None, now, self._seconds_left())
            if step is None:
                candidate = self._other_model("down")
                step = None if candidate is None else Step(candidate, Reason.FALLBACK_MODEL)
        if step is None:
            self.had_nothing()
            return False
        detour.empty, detour.failure = True, error
        self._state = BETWEEN_ATTEMPTS
        self._close_response()
        if detour.stands_in:
            self._follow(step, error)
        else:
            self._go_on(step, error)
        return True

    def _follow(self, following: Step, failure: PenstockError) -> None:
        """Write what the next attempt sends, and send it. Where it cannot be said there, the one after it is next."""
        relay, attempt = self._relay, following.candidate.attempt
        relay.metrics.failed_over(self.attempt.provider, attempt.provider, class_of(failure).value)
        step: Step | None = following
        while step is not None:
            if self._is_large():
                self._wait(
                    partial(self._prepared_aside, step, failure),
                    lambda found: self._send_or_fail(found, failure),
                )
                return
            try:
                prepared = prepared_for(self, step.candidate.attempt, relay.memories)
            except InvalidRequest:
                step = self._skip(step, failure)  # what failed before is what the caller is told
                continue
            self.route = step.reason
            self._send(step.candidate, prepared)
            return
        self._fail(failure)

    def _skip(self, step: Step, failure: PenstockError) -> Step | None:
        """The request cannot be said to this one: the next."""
        following = self._attempts.skip(
            step.candidate, class_of(failure), self._relay.clock(), self._seconds_left()
        )
        if following is not None and self.selection.board.group.limited:
            self._sit(following.candidate)
        return following

    async def _prepared_aside(self, step: Step, failure: PenstockError) -> tuple[Step, Prepared] | None:
        """The next attempt that the request can be said to, and its body; from ``step`` on."""
        relay = self._relay
        following: Step | None = step
        while following is not None:
            attempt = following.candidate.attempt
            try:
                return following, await relay.offload.run(prepared_for, self, attempt, relay.memories)
            except InvalidRequest:
                following = self._skip(following, failure)
        return None

    def _send_or_fail(self, found: tuple[Step, Prepared] | None, failure: PenstockError) -> None:
        if found is None:
            self._fail(failure)
        else:
            step, prepared = found
            self.route = step.reason
            self._send(step.candidate, prepared)

    def _seconds_left(self) -> float:
        """For further attempts: all of a request have one total, and its client may give up before."""
        relay, patience = self._relay, self.standing.caller.patience
        now = relay.clock()
        left = min(self._whole_by, (self.sent_at or now) + relay.timings.deadlines.total) - now
        if patience is None:
            return left
        return min(left, self.started + patience - relay.router.health.rules.client_margin - now)

    # ---- sending

    def _send(self, candidate: Candidate, prepared: Prepared) -> None:
        """Begin an attempt."""
        relay, attempt = self._relay, candidate.attempt
        now = relay.clock()
        self._attempts.begin(candidate, now, resort=self.route == Reason.LAST_RESORT)
        self.begin_attempt(attempt, prepared.losses, now)
        self.contacted = True
        if self._detour is not None:
            self._detour.stop_probing()
        self._turn = None
        self._relieved = False
        if self._room is not None:
            self._room.leave()
        if self.envelope.stream:
            self._stream = stream = self._response_stream()
            if self._detour is not None or self.standing.resolution.model.fallback:
                stream.holds_refusals = self._may_be_refused()
            relay.streams.add(stream)
            self.exchange.watch(stream)
        if self._leg.attempt is not attempt:
            self._leg = self._way()
        if relay.router.tells_provider:
            self._provider = attempt.provider.encode()
        self._post(prepared)

    def _post(self, prepared: Prepared) -> None:
        """Send a body on the attempt's way."""
        self._state = SENDING
        self._prepared = prepared
        relay, leg, stream = self._relay, self._leg, self._stream
        now = relay.clock()
        limits = self._attempts.limits(relay.timings.clocks, now)
        if stream is not None:
            stream.content_by = now + limits.content
        if self.attempts == 1:
            self._whole_by = now + limits.whole
            if self.standing.caller.patience is None and not self._relieved and not self.resumed:
                deadlines = relay.first_deadlines(limits, self._attempts.size, stream=stream is not None)
            else:
                deadlines = self._deadlines_of(limits)
        else:
            deadlines = self._deadlines_of(limits)
        head, body = leg.head, prepared.body
        if head is None:
            body = hosted_body(body, leg.attempt)
            try:
                head = relay.head(self.standing, leg, body)
            except TokenPending as pending:
                self._wait(pending.source.get, lambda _token: self._post(prepared))
                return
        listener = self._probing() if self._attempts.probing else self
        self._sending = relay.client.begin(head, body, deadlines, listener, stream=stream is not None)

    def _probing(self) -> HeadListener:
        """What hears of an attempt at a provider that was out: it is left for another, if that takes more than a moment."""
        detour = self._aside()
        if detour.probe is None:
            probe = Probe(self.answered, self.failed, self._bytes_arrived, self._stream_ended)
            seconds = self._attempts.patience()
            probe.timer = asyncio.get_running_loop().call_later(seconds, self._do, self._leave_probe, probe)
            detour.probe = probe
        return detour.probe

    def _leave_probe(self, probe: Probe) -> None:
        """The probe has had its moment: ask another beside it, where there is one and no content has come."""
        relay, detour, stream = self._relay, self._aside(), self._stream
        probe.timer = None
        silent = stream is not None and stream.lane is not None and stream.first_byte_at is None
        if detour.probe is not probe or not (
            self._state is SENDING or (self._state is AWAITING_CONTENT and silent)
        ):
            return
        now = relay.clock()
        step = self._attempts.beside(now, self._seconds_left())
        part = None if step is None else self._attempts.part()
        if step is None or part is None:
            return
        error, attempt, prepared = network_error(_LATE), self.attempt, self._prepared
        relay.failover.trails.failed(self, error, self._response, began=part.sent_at, now=now)
        model, upstream = self.selection.model.id, self._leg.upstream

        def lane(response: UpstreamResponse) -> Lane:
            kind = response.header(b"content-type") or b""
            return lane_for(self, attempt, kind, model, prepared, relay.timings.max_stream_kept, relay.clock)

        probe.left = LeftProbe(
            part,
            health=relay.router.health,
            pace=self.selection.board.known.pace,
            upstream=upstream,
            lane_for=None if stream is None else lane,
            lane=None if stream is None else stream.lane,
            sending=self._sending,
            response=self._response,
            seat=detour.take_seat(),
            told=partial(relay.metrics.hedged, self.attempt.provider),
            most=relay.timings.max_reply,
            seconds=min(
                relay.router.health.rules.probe_held, inf if stream is None else stream.content_by - now
            ),
            clock=relay.clock,
        )
        self._sending = self._response = None
        self._note_stream()
        detour.probe = None
        self._state = BETWEEN_ATTEMPTS
        self._go_on(step, error)

    def _deadlines_of(self, limits: Limits) -> Deadlines:
        """Of an attempt for which not all of the time is left."""
        relay, left = self._relay, self._seconds_left()
        if self._stream is None:
            return relay.deadlines(limits.head, min(limits.content, left))
        total = min(relay.timings.deadlines.total, left)
        return relay.deadlines(limits.head, total, thinks=self._attempts.size.thinks)

    def _late(self) -> None:
        """No content in time."""
        self._give_up()
        self._do(self._broke, network_error(_LATE))

    def _take_head(self, response: UpstreamResponse) -> None:
        self._state = AWAITING_CONTENT
        self._sending = None
        self._response = response
        if self.attempts > 1:
            self._relay.failover.trails.headed(self, response)
        if self.selection.known is None:
            self._attempts.paced(response, self._relay.clock())
        status = response.status
        if 200 <= status < 300:
            if self._stream is not None:
                self._flow(response, self._stream)
            else:
                room = self._room
                if room is None:
                    room = self._room = AnswerRoom(self._relay.answers)
                response.gather(self._relay.timings.max_reply, room.arrived, self._whole_arrived)
        elif reads_refusal(status):
            response.gather(MAX_ERROR_BODY, None, self._refusal_arrived)
        else:
            trails, redacted = self._relay.failover.trails, self._relay.router.redacted
            self._response = None  # it goes on beside the call, for as long as it is heard
            self._refused(response, b"", trails.hear(self, response, self._leg.upstream, redacted))

    def _refusal_arrived(self, body: bytes | BaseException) -> None:
        response = self._response
        if response is not None and isinstance(body, bytes):
            self._do(self._refused, response, body)
        elif (
            response is not None and isinstance(body, UpstreamFailure) and response.status in _TOLD_BY_STATUS
        ):
            self._do(self._refused, response, b"")
        else:
            self._do(self._body_broke, body)

    def _refused(self, response: UpstreamResponse, body: bytes, said: str = "") -> None:
        """The upstream answers with an error's status. ``said`` is for the operator, where ``body`` was not read."""
        leg = self._leg
        words = None if leg.own else self.standing.endpoint.caller.overflow_words
        body = self._relay.router.redacted(body)
        error = refused_error(response, body, leg.upstream, words, self.envelope.body)
        self._told = retry_after(response, body, self._relay.router.epoch())
        error.provider_said = error.provider_said or said
        if error.failure_class == FailureClass.MISSING.value and self.selection.model.wildcard:
            error = not_passed_on(self.selection.model)
        elif self.resumed and isinstance(error, CallerError):
            error = ProviderError("The provider paused its answer and would not go on with it.")
        elif (
            isinstance(error, InvalidRequest) and error.failure_class == FailureClass.REASONING_REJECTED.value
        ):
            self._relieve(error)
            return
        raise error

    def _relieve(self, error: InvalidRequest) -> None:
        """The upstream cannot read reasoning in the request: ask once more without it."""
        if self._relieved:
            raise error
        self._relieved = True
        self._attempts.reads = ()
        work = partial(relieved, self, self._prepared, error.message)
        if self._is_large():
            self._wait(lambda: self._relay.offload.run(work), partial(self._ask_again, error))
        else:
            self._ask_again(error, work())

    def _ask_again(self, error: InvalidRequest, prepared: Prepared | None) -> None:
        if prepared is None:
            raise error
        self._close_response()
        self.losses = prepared.losses
        self._post(prepared)

    def _resume(self, prepared: Prepared) -> None:
        """Ask for the next answer of a paused turn. A refusal of it is not the caller's fault."""
        self._close_response()
        self.resumed += 1
        self._post(prepared)

    # ---- answering with a stream

    def _response_stream(self) -> ResponseStream:
        exchange, endpoint = self.exchange, self.standing.endpoint
        side = endpoint.side or endpoint.caller.streams
        if side is None:
            raise TypeError(f"{endpoint.name} has no streams")
        relay = self._relay
        return ResponseStream(
            exchange,
            side,
            self.request_id,
            delivered=self._free_slot,
            begin=self._start,
            clock=relay.clock,
            hold_until=self.started + relay.timings.head_hold,
            keepalive=relay.timings.keepalive,
            max_startup=relay.timings.max_startup,
            sent=self.envelope.body,
            late=self._late,
        )

    def _flow(self, response: UpstreamResponse, stream: ResponseStream) -> None:
        lane = stream.lane
        if lane is None:
            content_type = response.header(b"content-type") or b""
            lane = lane_for(
                self,
                self.attempt,
                content_type,
                self.selection.model.id,
                self._prepared,
                self._relay.timings.max_stream_kept,
                self._relay.clock,
            )
        stream.attach(response, lane)
        probe = None if self._detour is None else self._detour.probe
        if probe is None:
            response.deliver(self._bytes_arrived, self._stream_ended)
        else:
            response.deliver(probe.arrived, probe.ended)

    def _bytes_arrived(self, data: bytes) -> None:
        """Bytes of the upstream's stream; what this raises, ``_stream_ended`` gets."""
        stream = self._stream
        if stream is not None:
            stream.sink(data)
            if self._state is AWAITING_CONTENT and stream.first_byte_at is not None:
                self._state = ANSWERING
                self._attempts.content(stream.first_byte_at)
            if stream.done_at is not None or stream.empty or stream.refused:
                self._do(self._complete_stream, stream)

    def _stream_ended(self, error: BaseException | None) -> None:
        self._do(self._end_stream, error)

    def _end_stream(self, error: BaseException | None) -> None:
        """The upstream's body has ended, or broken off."""
        stream = self._stream
        if error is not None and not isinstance(error, UpstreamBroke):
            self._body_broke(error)
        if stream is None:
            return
        if error is not None:
            stream.broke()
            self._complete_stream(stream)
            return
        lane = stream.lane
        if lane is not None and self.resumed < self._relay.timings.max_pauses:
            again = continued_request(lane, self._prepared)
            if again is not None:
                self._resume(again)
                return
        stream.finish()
        self._complete_stream(stream)

    def _complete_stream(self, stream: ResponseStream) -> None:
        """The stream is over, one way or the other."""
        relay = self._relay
        self._note_stream()
        error = stream.error
        if error is None:
            if stream.empty:
                if self._asks_for_content():
                    return
                self.first_byte_at = stream.deliver()
            elif stream.refused:
                if self._asks_who_does_not_refuse(stream.deliver):
                    return
                self.first_byte_at = stream.deliver()
            response, self._response = self._response, None
            if response is not None:
                response.let_end(_LINGER)
            self.outcome, self.status = "completed", 200
            first = stream.first_byte_at
            if self._state is AWAITING_CONTENT and first is not None:
                self._attempts.content(first)
            if self.selection.known is None and first is not None:
                self._attempts.generated(self.usage.output or 0, relay.clock() - first)
            self._attempts.succeeded(relay.clock())
            self._end()
            return
        response = self._response
        self._close_response()
        if stream.first_byte_at is None and isinstance(error, ProviderError):
            self._try_next(error, response)
            return
        if not self.exchange.started:
            if error.failure_class:
                self._attempts.count(class_of(error), None, relay.clock())
            self._fail(error)
            return
        if isinstance(error, ProviderError):
            self._note_failed(error, response)
        if error.failure_class:
            self._attempts.count(class_of(error), None, relay.clock())
        self._tell(stream, error)

    def _tell(self, stream: ResponseStream, error: PenstockError) -> None:
        """Settle a call whose caller gets the error inside its stream."""
        stream.tell(error, asked_of(self, self.selection.model.id))
        # What was delivered counts; an error before any output does not.
        self.broke(error, output=stream.lane is not None and stream.lane.output_bytes > 0)
        if isinstance(error, CallerError) and not isinstance(error, EndedByOwner):
            self._relay.gate.refused(self.standing.key_id, self.exchange.client)
        self._end()

    def _note_stream(self) -> None:
        """Let go of the stream, and note what it has counted."""
        stream = self._stream
        if stream is None:
            return
        self._stream = None
        self.exchange.watch(None)
        self._relay.streams.discard(stream)
        note_stream(self, stream.lane)
        self.first_byte_at = stream.first_byte_at

    # ---- answering with a whole answer

    def _whole_arrived(self, body: bytes | BaseException) -> None:
        self._do(self._give_whole if isinstance(body, bytes) else self._body_broke, body)

    def _give_whole(self, body: bytes) -> None:
        relay, prepared, turn = self._relay, self._prepared, self._turn
        if turn is None:
            decoder = paused_decoder(self, self.attempt, body)
            if decoder is not None:
                turn = self._turn = WholeTurn(decoder, relay.timings.max_pauses)
        if turn is not None:
            again = turn.take(prepared, body)
            if again is not None:
                self._resume(again)
                return
        out, failed = whole_answer(self, prepared, body, relay.clock, None if turn is None else turn.events)
        if turn is not None:
            note_model(self, turn.answered)
        if failed is not None:
            if failed is not EMPTY_ANSWER:
                raise reported_error(failed, self.envelope.body, begun=False)
            if self._asks_for_content():
                return
        elif (
            (self._detour is not None or self.standing.resolution.model.fallback)
            and self._may_be_refused()
            and is_refusal(self, body)
            and self._asks_who_does_not_refuse(partial(self._give_at_once, out))
        ):
            return
        self.first_byte_at = now = relay.clock()
        self._attempts.content(now)
        self._attempts.succeeded(now)
        self._give_at_once(out)
        self._response = None
        self.outcome, self.status = "completed", 200
        self._end()

    def _give_at_once(self, out: bytes) -> float:
        """Give the caller a whole answer; when that was."""
        self._start()
        self._free_slot()
        self.exchange.end(out)
        return self._relay.clock()

    def _may_be_refused(self) -> bool:
        """Whether another model is to answer where this one refuses."""
        detour = self._detour
        return answers_a_refusal(self, () if detour is None else detour.wanted)

    def _asks_who_does_not_refuse(self, give: Callable[[], float]) -> bool:
        """The model refuses. Whether another is asked that may answer; where it does not, ``give`` gives the refusal."""
        relay, detour, attempts = self._relay, self._aside(), self._attempts
        now, error = relay.clock(), refused()
        found = next_model(self, detour, relay.router, "refusal", now)
        if found is None:
            return False
        attempts.content(now)
        attempts.succeeded(now)
        response, self._response = self._response, None
        relay.failover.trails.failed(self, error, response, began=attempts.began, now=now)
        if response is not None and self.envelope.stream:
            response.let_end(_LINGER)
        detour.refused = RefusedAnswer(self, give)
        self._stand_in(found)
        self._state = BETWEEN_ATTEMPTS
        self._follow(Step(found.candidate, Reason.FALLBACK_MODEL), error)
        return True

    def _give_refused(self, kept: RefusedAnswer) -> None:
        """No other model has answered: the caller gets what the first has said instead."""
        detour = self._aside()
        detour.refused, detour.stands_in = None, False
        kept.restore(self)
        self.first_byte_at = kept.give()
        self.outcome, self.status = "completed", 200
        self._end()

    # ---- the head of a good answer

    def _start(self) -> None:
        """Begin the response."""
        standing, stream, public = self.standing, self.envelope.stream, self.selection.model.id
        left, reset = self._relay.gate.left(standing.account_id, standing.plan, self.now)
        request_id, seconds = self.request_id.encode(), max(0, reset - int(self.now))
        model = None if public == self.envelope.model else public.encode()
        simulated = self.attempt.simulated
        if self.losses or self.attempts > 1 or standing.endpoint.typed:
            relay = self._relay
            response = self._response if standing.endpoint.typed else None
            timing = None
            if self.attempts > 1:
                timing = relay.failover.trails.timing(self, self._attempts.began, relay.clock())
            head = answer_headers(
                standing.endpoint,
                stream=stream,
                model=model,
                simulated=simulated,
                losses=translation_header(self.losses).encode() if self.losses else None,
                request_id=request_id,
                limit=standing.plan.daily_requests,
                reset=reset,
                left=b"%d" % left,
                seconds=b"%d" % seconds,
                route=(self.route, self.attempts),
                provider=self._provider,
                content_type=None if response is None else response.header(b"content-type") or b"",
                timing=timing,
                ending=ending_headers(standing.end, self.now),
            )
            self.exchange.start(200, head)
            return
        key = (public, stream, simulated, self.route, self.attempts, self._provider)
        known = standing.heads.get(key)
        if known is None or known.reset != reset:
            limit = standing.plan.daily_requests
            known = AnswerHead(
                standing.endpoint,
                stream=stream,
                model=model,
                simulated=simulated,
                limit=limit,
                reset=reset,
                route=(self.route, self.attempts),
                provider=self._provider,
                ending=ending_headers(standing.end, self.now),
            )
            standing.heads.keep(key, known)
        self.exchange.start_ready(known.fill(request_id, left, seconds))

    # ---- ended

    def _body_broke(self, error: object) -> None:
        """The upstream's body has broken off; or what was made of it on our side has."""
        match error:
            case UpstreamFailure():
                raise network_error(error)
            case BaseException():
                raise error
            case _:
                raise TypeError(f"{type(error).__name__} is no end of a body")

    def _broke(self, error: PenstockError) -> None:
        """The attempt has failed, or the call is refused or ended."""
        if self._state is ENDED:
            return
        stream = self._stream
        if stream is not None:
            stream.broke(error)
            self._complete_stream(stream)
            return
        response = self._response
        self._close_response()
        if isinstance(error, ProviderError) and self.contacted:
            self._try_next(error, response)
            return
        if self.contacted and error.failure_class:  # the caller's fault, found by an upstream that works
            self._attempts.count(class_of(error), None, self._relay.clock())
        self._fail(error)

    def _abandon(self) -> None:
        """Settle a call whose caller is gone."""
        if self._counted:
            self.outcome = "client_gone"
            if not self.contacted:
                self.refund_reason = "not_sent"
            elif self._state is not ANSWERING:
                self._attempts.gone(self._relay.clock())
            self._note_stream()
            self._settle()
        self._leave()
        self.exchange.release()

    def _end(self) -> None:
        """Settle a call whose response is complete."""
        self._settle()
        self._leave()
        self._front.answered(self)
        self.exchange.release()

    def _fail(self, error: PenstockError) -> None:
        """Settle a call that ends with this error in place of an answer; the caller is told in the way that is left."""
        kept = None if self._detour is None else self._detour.refused
        if kept is not None and not isinstance(error, EndedByOwner | OurError):
            self._give_refused(kept)
            return
        cause = _CAUSES.get(error.failure_class)
        if cause is not None and self.contacted and not self.exchange.started:
            began = self._attempts.began
            candidate = self._other_model(cause)
            if candidate is not None:
                relay = self._relay
                relay.failover.trails.failed(self, error, None, began=began, now=relay.clock())
                detour = self._aside()
                detour.failure = detour.failure or error
                self._follow(Step(candidate, Reason.FALLBACK_MODEL), error)
                return
            error = self._aside().failure or error
        if self.exchange.started:  # keep-alives alone have gone to the caller
            if self._counted:
                self._tell(self._response_stream(), error)
                return
            self._response_stream().tell(error, asked_of(self, self.selection.model.id))
            self._leave()
            self._front.answered(self)
            self.exchange.release()
            return
        if isinstance(error, CannotRecord) and self._counted:
            self._relay.gate.refund(self.standing.account_id, self.day, self.standing.plan.own)
            self._measure("unrecorded")
        elif self._counted:
            self.broke(error, output=False)
            self.status = error.status
            self._settle()
        self._leave()
        self._front.refused(self, error)
        self.exchange.release()

    def _crash(self) -> None:
        """End a call after a fault of our own."""
        if self._state is ENDED:
            return
        self._give_up()
        try:
            if self._counted:
                self._note_stream()
                self.outcome, self.status = "error", 500
                self.error_code = self.refund_reason = InternalError.code
                self._settle()
        finally:
            self._leave()
            self._front.refused(self, InternalError("Something went wrong here; the operator has been told."))
            self.exchange.release()

    def _settle(self) -> None:
        """Always, and without waiting: the settlement is queued, the refund is done."""
        relay = self._relay
        if self._detour is not None and self._detour.stands_in and self.outcome == "completed":
            self.answered_model = self.answered_model or self.selection.model.id
        if self.refund_reason is not None:
            relay.gate.refund(self.standing.account_id, self.day, self.standing.plan.own)
        made: list[AttemptMade] = []
        if self._row is not None:
            settle(relay.ledger, self._row, self, relay.clock())
            failed = self.outcome != "completed" or self.refund_reason is not None
            if self.attempts > 1 or (self.attempts and failed):
                made = relay.failover.trails.ended(self, began=self._attempts.began, now=relay.clock())
        if relay.traces is not None:
            began = self._attempts.began if self.attempts else self.started
            trace(relay.traces, self, made, relay.failover.trails, began, relay.clock())
        if relay.client_metrics is not None and self.attempts:
            measure(relay.client_metrics, self, made, self._attempts.began, relay.clock())
        self._measure(self.outcome)

    def _measure(self, outcome: str) -> None:
        first = self.first_byte_at
        self._relay.metrics.settled(
            self.selection.model.listed,
            self.attempt.provider,
            outcome,
            input_tokens=self.usage.input or 0,
            output_tokens=self.usage.output or 0,
            first_byte=None if first is None else first - self.started,
            first_content=None if first is None else first - self._attempts.began,
            reason=self.route if self.contacted else "",
            cached_tokens=self.usage.cache_read or 0,
            by_another_model=self.answered_model is not None,
        )

    def _leave(self) -> None:
        """Give back what the call has taken."""
        self._state = ENDED
        if self.contacted:
            self._attempts.leave(self._relay.clock())
        del self._relay.calls[self.request_id]
        self._free_slot()
        if self._detour is not None:
            self._detour.sit(None)
            self._detour.stop_probing()
            self._stop_waiting()
        if self._room is not None:
            self._room.leave()
        self._place.leave()

    def _free_slot(self) -> None:
        if self._lease is not None:
            self._lease.release()

    def _give_up(self) -> None:
        """Stop waiting, and close the sockets to the upstream."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is not None:
            self._sending.close()
            self._sending = None
        self._close_response()

    def _close_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()
