"""Counting tokens for ``/messages/count_tokens``: exact by an upstream that has a counter, an estimate elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.registry import DIALECTS
from penstock.core.routing import Attempt
from penstock.domain.catalog.catalog import Resolution
from penstock.relay.router import Router
from penstock.relay.upstream_errors import ERROR_BODY_MOST, network_error, refused_error
from penstock.tokens.estimator import Estimator
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure

_NO_COUNTER = frozenset((404, 405, 501))
"""What an upstream that speaks messages answers when it has no counter."""


class TokenCount(msgspec.Struct, frozen=True):
    """The ``body`` of the answer, and what it is."""

    body: bytes
    kind: Literal["exact", "estimated"]
    simulated: bool


class _Counted(msgspec.Struct):
    input_tokens: int


class CountingTurns:
    """Who may count now: so many at once, and so many of them of one user; the others wait, first come first served."""

    def __init__(self, *, most: int, most_of_user: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._most_of_user = most_of_user
        self._users: dict[str, tuple[asyncio.Semaphore, set[object]]] = {}

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncGenerator[None]:
        """Wait for a turn, and give it back at the end."""
        visitor = object()
        own, visitors = self._users.setdefault(user_id, (asyncio.Semaphore(self._most_of_user), set()))
        visitors.add(visitor)
        try:
            async with own, self._all:
                yield
        finally:
            visitors.remove(visitor)
            if not visitors:
                del self._users[user_id]


class TokenCounter:
    """Asks an upstream that speaks messages, or estimates. Free, without a slot, and not in the ledger."""

    def __init__(
        self,
        client: UpstreamClient,
        router: Router,
        estimator: Estimator,
        turns: CountingTurns,
        *,
        deadlines: Deadlines,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` is monotonic, in seconds."""
        self._client = client
        self._router = router
        self._estimator = estimator
        self._turns = turns
        self._deadlines = deadlines
        self._clock = clock

    async def count(
        self, user_id: str, envelope: Envelope, resolution: Resolution, version: bytes, betas: bytes | None
    ) -> TokenCount:
        """Count once it is the user's turn; never 0, which would make clients believe that there is room.

        An upstream's failure is a ``ProviderError``, its refusal of the request the caller's error.
        """
        async with self._turns.turn(user_id):
            choice = self._router.choose(resolution, envelope, "messages", self._clock())
            attempt = next((each for each in choice.attempts if each.dialect == "messages"), None)
            if attempt is not None:
                body = await self._ask(attempt, envelope, version, betas)
                if body is not None:
                    return TokenCount(body, "exact", attempt.simulated)
            served = attempt or choice.attempts[0]
            tokens = await self._estimator.estimate(envelope.fields, served.model)
            return TokenCount(b'{"input_tokens":%d}' % tokens, "estimated", served.simulated)

    async def _ask(
        self, attempt: Attempt, envelope: Envelope, version: bytes, betas: bytes | None
    ) -> bytes | None:
        """The upstream's answer; None where it has no counter, or one that does not count."""
        endpoint = self._router.endpoint(attempt)
        try:
            response = await self._client.send(
                endpoint.origin,
                b"POST",
                endpoint.path + b"/count_tokens",
                self._router.headers(attempt, version, betas),
                envelope.encode(attempt.model, drop=("max_tokens", "stream")),
                self._deadlines,
            )
        except UpstreamFailure as failure:
            raise network_error(failure) from failure
        try:
            if response.status in _NO_COUNTER:
                return None
            if not 200 <= response.status < 300:
                raise await refused_error(response, DIALECTS["messages"], "messages")
            body = await response.read(ERROR_BODY_MOST)
        except UpstreamFailure as failure:
            raise network_error(failure) from failure
        finally:
            response.close()
        try:
            counted = msgspec.json.decode(body, type=_Counted)
        except (msgspec.ValidationError, msgspec.DecodeError):
            return None
        return body if counted.input_tokens > 0 else None
