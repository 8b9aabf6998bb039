"""Failover: the attempts of one request in their order, until one is answered.

The next attempt is made after a failure of the provider, while there is time, and while the attempt's answer has not begun
towards the caller: what is a ``ProviderError`` then has sent nothing. Every failure is told to the operator, and counts
against the circuit of its upstream model unless a caller could bring it about.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from penstock.core.routing import Attempt
from penstock.errors import ProviderCredentials, ProviderError
from penstock.operations.metrics import Metrics
from penstock.relay.router import Router

log = logging.getLogger("penstock.relay.failover")

R = TypeVar("R")


class Attempts:
    """The attempts of one request that are left, in their order."""

    __slots__ = ("_at", "_attempts")

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        """``attempts``: one at least."""
        self._attempts = attempts
        self._at = 0

    def next(self, seconds: float) -> Attempt | None:
        """The next one; None where there is none, or no time for a further one: ``seconds`` are left."""
        at = self._at
        if at >= len(self._attempts) or (at and seconds <= 0):
            return None
        self._at = at + 1
        return self._attempts[at]


class Failover:
    """Makes attempts, and keeps the operator and the circuit breakers informed. One per process."""

    __slots__ = ("_clock", "_metrics", "_router")

    def __init__(self, router: Router, metrics: Metrics, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds."""
        self._router = router
        self._metrics = metrics
        self._clock = clock

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
        order = Attempts(attempts)
        while (attempt := order.next(left())) is not None:
            self._router.sending(attempt, self._clock())
            try:
                return await send(attempt)
            except ProviderError as error:
                self.note(request_id, attempt, error)
                failure = error
        if failure is None:
            raise ValueError("no attempt to make")
        raise failure

    def note(self, request_id: str, attempt: Attempt, error: ProviderError) -> None:
        """Tell the operator; and count it against the circuit, unless a caller could bring it about."""
        if not isinstance(error, ProviderCredentials):
            self._router.failed(attempt, self._clock())
        self._metrics.upstream_failed(attempt.provider, error.code)
        log.warning(
            "provider failed",
            extra={
                "request_id": request_id,
                "provider": attempt.provider,
                "upstream_model": attempt.model,
                "code": error.code,
                "failure_class": error.failure_class,
            },
        )
