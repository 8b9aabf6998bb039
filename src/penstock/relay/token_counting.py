"""Token counting, as ``/messages/count_tokens`` offers it: exact by an upstream that has a counter, an estimate elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.body.nesting import nests_deeper
from penstock.core.dialects.interface import ApiVersion, UpstreamSide
from penstock.core.endpoints import Endpoint
from penstock.core.routing.candidates import Attempt
from penstock.domain.catalog.catalog import Resolution
from penstock.relay.failover import Failover
from penstock.relay.router import Asker, Router
from penstock.relay.upstream_errors import MAX_ERROR_BODY, network_error, reads_refusal, refused_error
from penstock.tokens.estimator import Estimator
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure

_NO_COUNTER = frozenset((404, 405, 501))
"""What an upstream answers when it has no counter."""


class TokenCount(msgspec.Struct, frozen=True):
    """The ``body`` of the answer, and what it is."""

    body: bytes
    kind: Literal["exact", "estimated"]
    simulated: bool


class CountRequest(msgspec.Struct, frozen=True):
    """Whose tokens are to be counted: an admitted request of an endpoint that has a counter."""

    request_id: str
    user_id: str
    endpoint: Endpoint
    envelope: Envelope
    resolution: Resolution
    asked: ApiVersion
    asker: Asker
    """Who asks, for the choice."""


class _Counted(msgspec.Struct):
    input_tokens: int


class _CountingUser:
    """One user's counts: how many are here, running or waiting, and whether one may run that takes no common turn."""

    __slots__ = ("first_is_free", "here", "turns")

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self.turns = turns
        self.here = 0
        self.first_is_free = True


class CountingTurns:
    """Turns for counting: a limit for all and one for each user; the others wait, first come first served.

    A user's first does not wait for other users: it takes no turn of those that all have in common.
    """

    def __init__(self, *, most: int, most_of_user: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._most_of_user = most_of_user
        self._users: dict[str, _CountingUser] = {}

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncGenerator[None]:
        """Wait for a turn, and give it back at the end."""
        user = self._users.get(user_id)
        if user is None:
            user = self._users[user_id] = _CountingUser(asyncio.Semaphore(self._most_of_user))
        user.here += 1
        try:
            async with user.turns:
                if not user.first_is_free:
                    async with self._all:
                        yield
                    return
                user.first_is_free = False
                try:
                    yield
                finally:
                    user.first_is_free = True
        finally:
            user.here -= 1
            if not user.here:
                del self._users[user_id]


class TokenCounter:
    """Asks an upstream that has a counter, or estimates. Free, without a slot, and not in the ledger."""

    def __init__(
        self,
        *,
        client: UpstreamClient,
        router: Router,
        failover: Failover,
        estimator: Estimator,
        turns: CountingTurns,
        deadlines: Deadlines,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` is monotonic, in seconds."""
        self._client = client
        self._router = router
        self._failover = failover
        self._estimator = estimator
        self._turns = turns
        self._deadlines = deadlines
        self._clock = clock

    async def count(self, request: CountRequest) -> TokenCount:
        """Count once it is the user's turn; never 0, which would make clients believe that there is room.

        The upstreams that have a counter are asked in turn, as for any request. Raises the last one's ``ProviderError``,
        and the caller's error where one refuses the request.
        """
        async with self._turns.turn(request.user_id):
            began = self._clock()
            name, envelope = request.endpoint.name, request.envelope
            selection = self._router.select(
                request.resolution,
                envelope,
                request.endpoint,
                began,
                request.asker,
                request.asker.preference,
            )
            attempts = self._router.plan(selection, began)
            counters = [each for each in attempts if each.dialect == name]
            if counters:
                counted = await self._failover.run(
                    request.request_id,
                    counters,
                    send=partial(self._ask, request),
                    left=lambda: began + self._deadlines.total - self._clock(),
                )
                if counted is not None:
                    return counted
            served = counters[0] if counters else attempts[0]
            tokens = await self._estimator.estimate(envelope.fields, served.model, request.user_id)
            return TokenCount(b'{"input_tokens":%d}' % tokens, "estimated", served.simulated)

    async def _ask(self, request: CountRequest, attempt: Attempt) -> TokenCount | None:
        """The upstream's answer; None where it has no counter, or one that does not count."""
        upstream = request.endpoint.upstreams[attempt.dialect]
        if not isinstance(upstream, UpstreamSide) or upstream.counter is None:
            return None
        if attempt.upstream.reach.anthropic_version:  # it has no counter at this address
            return None
        path = upstream.path(attempt.model, False) + upstream.counter.path
        address = self._router.address(attempt, path)
        changes = upstream.counter.readable(request.envelope, attempt.profile, attempt.provider)
        body = request.envelope.encode(attempt.model, changes, upstream.counter.drop)
        await self._router.sign_in(attempt)
        try:
            response = await self._client.send(
                address.origin,
                b"POST",
                address.path,
                self._router.headers(attempt, upstream, request.asked, address, body),
                body,
                self._deadlines,
            )
        except UpstreamFailure as failure:
            raise network_error(failure) from failure
        try:
            if response.status in _NO_COUNTER:
                return None
            if not 200 <= response.status < 300:
                words = await response.read(MAX_ERROR_BODY) if reads_refusal(response.status) else b""
                raise refused_error(response, self._router.redacted(words), upstream, None, body)
            answer = await response.read(MAX_ERROR_BODY)
        except UpstreamFailure as failure:
            raise network_error(failure) from failure
        finally:
            response.close()
        if nests_deeper(answer):
            return None
        try:
            counted = msgspec.json.decode(answer, type=_Counted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return TokenCount(answer, "exact", attempt.simulated) if counted.input_tokens > 0 else None
