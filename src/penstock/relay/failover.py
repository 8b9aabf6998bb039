"""Failover: the attempts of one request in their order, until one is answered.

The next attempt is made after a failure of the provider, while there is time, and while the attempt's answer has not begun
towards the caller: what is raised as a ``ProviderError`` has sent nothing. A request that cannot be said to a later
upstream is not made there. Every failure is told to the operator, and counts against the circuit of its upstream model
unless a caller could bring it about.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from penstock.core.routing import Attempt
from penstock.errors import InvalidRequest, ProviderCredentials, ProviderError
from penstock.operations.metrics import Metrics
from penstock.relay.router import Router

log = logging.getLogger("penstock.relay.failover")

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")


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
        first: P,
        request: Q,
        *,
        prepare: Callable[[Q, Attempt], Awaitable[P]],
        send: Callable[[Q, Attempt, P], Awaitable[R]],
        left: Callable[[Q], float],
    ) -> R:
        """What ``send`` gives for the first attempt that does not fail.

        ``first`` is what ``prepare`` would give for the first of ``attempts``, which are one at least; ``left`` are the
        seconds for further ones. All three are called with ``request``. Raises the last ``ProviderError``, and what
        ``send`` raises besides.
        """
        failure: ProviderError | None = None
        prepared = first
        for attempt in attempts:
            if failure is not None:
                if left(request) <= 0:
                    break
                try:
                    prepared = await prepare(request, attempt)
                except InvalidRequest:
                    continue  # it cannot be said there; what failed before is what the caller is told
            self._router.sending(attempt, self._clock())
            try:
                return await send(request, attempt, prepared)
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
            },
        )
