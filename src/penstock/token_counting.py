"""Counting tokens for ``/messages/count_tokens``: exact, by an upstream that has a counter, or not at all."""

from collections.abc import Callable

from penstock.blame import ERROR_BODY_MOST, error_of, refusal
from penstock.core.dialects import DIALECTS
from penstock.core.envelope import Envelope
from penstock.domain.catalog import Resolution
from penstock.errors import TokensNotCountable
from penstock.switchboard import Switchboard
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure


class TokenCounter:
    """Asks upstreams that speak messages. Free, without a slot, and not in the ledger."""

    def __init__(
        self,
        client: UpstreamClient,
        switchboard: Switchboard,
        deadlines: Deadlines,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` is monotonic, in seconds."""
        self._client = client
        self._board = switchboard
        self._deadlines = deadlines
        self._clock = clock

    async def count(
        self, envelope: Envelope, resolution: Resolution, version: bytes, betas: bytes | None
    ) -> bytes:
        """The answer of an upstream that speaks messages, exact; free, without a slot, and not in the ledger.

        Raises ``TokensNotCountable`` where no such upstream serves the model: clients then estimate by themselves, while a
        false number would mislead them. An upstream's failure is a ``ProviderError``.
        """
        choice = self._board.choose(resolution, envelope, "messages", self._clock())
        attempt = next((attempt for attempt in choice.attempts if attempt.dialect == "messages"), None)
        if attempt is None:
            raise TokensNotCountable(
                f"Tokens of {choice.model.id} cannot be counted: its provider has no counter."
            )
        endpoint = self._board.endpoint(attempt)
        try:
            response = await self._client.send(
                endpoint.origin,
                b"POST",
                endpoint.path + b"/count_tokens",
                self._board.headers(attempt, version, betas),
                envelope.encode(attempt.model, drop=("max_tokens", "stream")),
                self._deadlines,
            )
        except UpstreamFailure as failure:
            raise error_of(failure) from failure
        try:
            if not 200 <= response.status < 300:
                error = await refusal(response, DIALECTS["messages"])
                if response.status == 404:
                    raise TokensNotCountable(
                        f"Tokens of {choice.model.id} cannot be counted: its provider has no counter."
                    )
                raise error
            return await response.read(ERROR_BODY_MOST)
        except UpstreamFailure as failure:
            raise error_of(failure) from failure
        finally:
            response.close()
