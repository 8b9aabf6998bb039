"""Failover: the attempts of one request, one at a time, until one is answered.

After a failure of the provider the next attempt is made while there is time, while no content has gone to the caller, and
while the model's budget of second attempts allows it. Who comes next is the choice of ``core/routing``, by what kind of
failure it was; where there is nobody else, some kinds are tried once more at the same place after a moment.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Self, TypeVar

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.catalog import Model
from penstock.core.failure_classes.classes import HANDLING, FailureClass
from penstock.core.routing.bounds.rate_headers import amounts_of
from penstock.core.routing.candidates import Attempt, Candidate
from penstock.core.routing.choice import Choice
from penstock.core.routing.health import Failure, UpstreamHealth
from penstock.core.routing.pace import Clocks, Limits, Size, stream_kind, whole_kind
from penstock.core.routing.retry_budget import second_try
from penstock.errors import PenstockError, ProviderError
from penstock.operations.metrics import Metrics
from penstock.operations.provider_refusals import ProviderRefusals
from penstock.relay.router import Router, Selection
from penstock.relay.trail import Trails
from penstock.upstream import UpstreamResponse

log = logging.getLogger("penstock.relay.failover")

R = TypeVar("R")


class Step(msgspec.Struct, frozen=True, gc=False):
    """The next attempt: whom, why, and after how many seconds."""

    candidate: Candidate
    reason: str
    wait: float = 0.0


class Parted(msgspec.Struct, frozen=True, gc=False):
    """An attempt that goes on without its request: of whom, since when, as what its time counts, and who has asked what."""

    known: UpstreamHealth
    sent_at: float
    kind: int
    user: str
    body: int


class Attempts:
    """The attempts of one request: who was asked, what came of it, and who is asked next."""

    __slots__ = (
        "_body",
        "_held",
        "_known",
        "_repeats",
        "_resort",
        "_router",
        "_selection",
        "_sent_at",
        "_slow",
        "_taken",
        "_tried",
        "_user",
        "probing",
        "reads",
        "size",
        "stream",
    )

    def __init__(
        self,
        router: Router,
        selection: Selection,
        user: str,
        body: bytes,
        size: Size,
        *,
        stream: bool,
        repeats: bool = True,
    ) -> None:
        """``body`` is what ``user`` asks, ``size`` how much that is; ``repeats``: it may be sent to the same place again."""
        self._router = router
        self._selection = selection
        self._user = user
        self._body = body
        self._known: UpstreamHealth | None = None
        self._tried: tuple[Candidate, ...] = ()
        self._held: tuple[Failure, ...] = ()
        self._taken = 0.0
        self._slow = False
        self._repeats = repeats
        self.reads = selection.seals
        """What whoever answers can read of the encrypted in the request."""
        self.size = size
        self.stream = stream

    def only(self) -> Candidate | None:
        """The one that is asked, where there is no other and nothing is known against it."""
        selection = self._selection
        known, choice = selection.known, selection.only
        return choice.candidate if choice is not None and known is not None and known.normal else None

    @property
    def began(self) -> float:
        """When the attempt that is made now, or was last, began; on the monotonic clock."""
        return self._sent_at

    def first(self, now: float, patience: float) -> Choice:
        """Who is asked first; ``patience`` are the seconds that the caller has."""
        return self._router.choose(self._selection, (), None, now=now, patience=patience)

    def begin(self, candidate: Candidate, now: float, *, resort: bool = False) -> None:
        """An attempt begins; ``resort``: it is a last one."""
        router, known = self._router, self._selection.known
        if known is None:
            known = router.health.of(candidate.attempt)
        self._known = known
        if known.normal:
            known.in_flight += 1
            known.asked += 1
            self.probing = False
        else:
            self.probing = router.health.sent(known, now, self.size.prompt)
        self._resort = resort
        self._sent_at = now
        self._tried += (candidate,)

    def apart(self, now: float) -> "AttemptsApart":
        """The same attempts, of which from now on nothing is held against anybody, or for."""
        self.leave(now)
        made = AttemptsApart(
            self._router,
            self._selection,
            self._user,
            self._body,
            self.size,
            stream=self.stream,
            repeats=self._repeats,
        )
        return made.after(self._tried, now)

    def limits(self, clocks: Clocks, now: float) -> Limits:
        """How long the attempt that begins may take."""
        router, selection, size = self._router, self._selection, self.size
        pace = selection.board.known.pace
        if selection.known is not None and size.prompt < _SMALL_PROMPT:
            # the prompt's length makes no difference, and pace makes none where there is nobody else
            key = (-1 if self.stream else size.asked, size.thinks)
            alone = router.alone.get(key)
            if alone is None:
                size = Size(0, size.asked, size.thinks)
                of = pace.stream_limits if self.stream else pace.whole_limits
                alone = router.alone.keep(key, of(size, clocks, other=False))
            return alone
        other = len(self._tried) < router.health.rules.most_attempts and router.others(
            selection, self._tried, now
        )
        if not self.stream:
            return pace.whole_limits(self.size, clocks, other=other)
        return pace.stream_limits(self.size, clocks, other=other)

    def patience(self) -> float:
        """How long a probe is waited for before its request goes on elsewhere, in seconds."""
        return self._selection.board.known.pace.probe_limit(self.kind)

    def beside(self, now: float, left: float) -> Step | None:
        """Who is asked beside the probe, which has had its time; None: nobody, and it is waited for."""
        if len(self._tried) >= self._router.health.rules.most_attempts or left <= 0:
            return None
        return self._next(FailureClass.SLOW, None, now, left, again=False)

    def part(self) -> "Parted | None":
        """The attempt that is made now goes on without its request, which gives it up."""
        known, self._known = self._known, None
        if known is None:
            return None
        return Parted(known, self._sent_at, self.kind, self._user, hash(self._body))

    def paced(self, response: UpstreamResponse, now: float) -> None:
        """The head of an answer is here: see now and then what it says is left of the upstream's limits."""
        known, router = self._known, self._router
        if known is not None and now - known.headroom.seen >= router.health.rules.headroom_every:
            router.health.paced(known, amounts_of(response.headers, router.epoch()), now)

    def content(self, now: float) -> None:
        """The first content is here, or all of a whole answer."""
        known, model, health = self._known, self._selection.board.known, self._router.health
        if known is None:
            return
        seconds = now - self._sent_at
        if known.local:
            health.crowded(known, self.kind, seconds, now)
        if seconds > health.rules.slow_least:
            self._slow = seconds > model.pace.slow_mark(self.kind)
        if self._selection.known is not None:
            model.unsampled += 1
            if model.unsampled % _SAMPLED:
                return
        health.timed(known, model.pace.add(self.kind, seconds, now), now)

    def succeeded(self, now: float) -> None:
        """The attempt was answered."""
        known, health, model = self._known, self._router.health, self._selection.board.known
        if known is None:
            return
        health.succeeded(known, self._sent_at, now, self._user, slow=self._slow)
        if self.reads:
            self._router.seals.learn(self.reads, self._tried[-1].attempt)
        if self._resort:
            model.last_resort.succeeded()
        if len(self._tried) == 1:
            if model.budget.tokens < health.rules.tokens:
                model.budget.earn()
            return
        model.budget.give_back(self._taken)
        health.answered((self._user, hash(self._body)), self._held, now)

    def generated(self, tokens: int, seconds: float) -> None:
        """The stream that has ended had so many tokens, which took so long from the first one on."""
        if self._known is not None:
            self._router.health.generated(self._known, tokens, seconds)

    def failed(self, found: FailureClass, told: float | None, now: float, left: float) -> Step | None:
        """The attempt has failed, and nothing of an answer has gone out: the next one, while ``left`` seconds are left.

        ``told`` is how long the upstream wishes to be left alone, in seconds.
        """
        health, was_probe = self._router.health, self.probing
        poison = health.is_poison(self._user, hash(self._body), now)
        self.count(found, told, now)
        self.leave(now)
        if len(self._tried) >= health.rules.most_attempts or left <= 0 or poison:
            return None
        step = self._next(found, told, now, left)
        if step is None or was_probe:
            return step
        taken = self._selection.board.known.budget.take(found)
        if taken is None:
            return None
        self._taken += taken
        return step

    def count(self, found: FailureClass, told: float | None, now: float) -> None:
        """The attempt has failed."""
        if self._known is not None:
            body = hash(self._body)
            failure = Failure(self._known, found, self._sent_at, now, self._user, body, told)
            if self._router.health.failed(failure):
                self._held += (failure,)

    def gone(self, now: float) -> None:
        """The caller has left before any content. Who has waited for long has found it slow."""
        if self._known is not None and now - self._sent_at >= self._selection.board.known.pace.slow_mark(
            self.kind
        ):
            self.count(FailureClass.SLOW, None, now)

    def leave(self, now: float) -> None:
        """The attempt is over, one way or another."""
        known, self._known = self._known, None
        if known is None:
            return
        if self.probing or not known.normal:
            self._router.health.left(known, now, probe=self.probing)
        else:
            known.in_flight -= 1

    def skip(self, candidate: Candidate, found: FailureClass, now: float, left: float) -> Step | None:
        """The request cannot be said to this one: the next, after the same failure."""
        self._tried += (candidate,)
        return self._next(found, None, now, left, again=False)

    def _next(
        self, found: FailureClass, told: float | None, now: float, left: float, *, again: bool = True
    ) -> Step | None:
        router, tried = self._router, self._tried
        choice = router.choose(self._selection, tried, found, now=now, patience=left)
        if choice.candidate is not None:
            return Step(choice.candidate, choice.reason)
        if not again or not self._repeats or not router.health.rules.asks_again:
            return None
        wait = second_try(HANDLING[found].again, told, router.draw())
        if wait is None or wait >= left or tried[-1] in tried[:-1]:
            return None
        return Step(tried[-1], choice.reason, wait)

    @property
    def kind(self) -> int:
        """The class of the request's size, by which its times are compared."""
        return stream_kind(self.size.prompt) if self.stream else whole_kind(self.size.asked)


class AttemptsApart(Attempts):
    """Attempts in a drill: what comes of them says nothing of a provider, and they use up nobody's budget."""

    __slots__ = ()

    def after(self, tried: tuple[Candidate, ...], now: float) -> Self:
        """Those that are made after these; the last of them may be on its way."""
        self._tried = tried
        self.probing = self._resort = False
        self._sent_at = now
        return self

    def apart(self, now: float) -> "AttemptsApart":  # noqa: ARG002 - as it is called
        """They are."""
        return self

    def begin(self, candidate: Candidate, now: float, *, resort: bool = False) -> None:  # noqa: ARG002 - likewise
        """An attempt begins."""
        self._sent_at = now
        self._tried += (candidate,)

    def failed(self, found: FailureClass, told: float | None, now: float, left: float) -> Step | None:
        """The next one, while ``left`` seconds are left."""
        if len(self._tried) >= self._router.health.rules.most_attempts or left <= 0:
            return None
        return self._next(found, told, now, left)


class Failover:
    """Tells the operator of failures, and makes the attempts of what takes no part in the votes. One per process."""

    __slots__ = ("_metrics", "_refusals", "trails")

    def __init__(self, metrics: Metrics, trails: Trails, refusals: ProviderRefusals | None = None) -> None:
        """``refusals`` has the operator told of what only an operator can mend."""
        self._metrics = metrics
        self.trails = trails
        self._refusals = refusals

    async def run(
        self,
        request_id: str,
        attempts: Sequence[Attempt],
        *,
        send: Callable[[Attempt], Awaitable[R]],
        left: Callable[[], float],
    ) -> R:
        """What ``send`` gives for the first of ``attempts`` that does not fail; they are one at least.

        ``left`` are the seconds for further ones. Raises the last ``ProviderError``, and what ``send`` raises besides.
        """
        failure: ProviderError | None = None
        for attempt in attempts:
            if failure is not None and left() <= 0:
                break
            try:
                return await send(attempt)
            except ProviderError as error:
                self.note(request_id, attempt, error)
                failure = error
        if failure is None:
            raise ValueError("no attempt to make")
        raise failure

    def note(self, request_id: str, attempt: Attempt, error: PenstockError) -> None:
        """Tell the operator."""
        self._metrics.upstream_failed(attempt.provider, error.code)
        status, text = error.provider_status, error.provider_said
        if self._refusals is not None:
            self._refusals.note(attempt.provider, attempt.model, error.failure_class, status, text)
        log.warning(
            "provider failed",
            extra={
                "request_id": request_id,
                "provider": attempt.provider,
                "upstream_model": attempt.model,
                "code": error.code,
                "failure_class": error.failure_class,
                "status": status,
                "error": text or None,
            },
        )


def class_of(error: PenstockError) -> FailureClass:
    """What kind of failure an error tells of."""
    if error.failure_class:
        return FailureClass(error.failure_class)
    return FailureClass.BROKEN if isinstance(error, ProviderError) else FailureClass.OURS


def refusal(choice: Choice) -> PenstockError:
    """What a caller is told for whom nobody is asked, because all are out: the true cause, and when to come again."""
    found = choice.found or FailureClass.BROKEN
    kind = HANDLING[found].error or ProviderError
    error = kind("No provider of this model is well at the moment.", retry_after=round(choice.retry_after))
    error.failure_class = found
    return error


def size_of(envelope: Envelope, model: Model) -> Size:
    """How much is asked. Where the body is small its length will do; where no length is asked for, the model's counts."""
    body = envelope.body
    prompt = len(body) // 4 if len(body) < _SMALL else envelope.estimate_input()
    asked = envelope.max_tokens or model.max_output_tokens or _USUAL_ANSWER
    return Size(prompt, asked, model.capabilities.thinking != "none")


_SAMPLED = 8
"""Of so many answers one tells the pace of a model whose provider is compared with no other."""
_SMALL_PROMPT = 2_000
"""Tokens; as many make no difference of half a second."""
_SMALL = 40_000
"""Bytes; what is in them makes no difference of a few seconds."""
_USUAL_ANSWER = 8_192
"""Tokens, where neither the request nor the catalogue says how long an answer may be."""
