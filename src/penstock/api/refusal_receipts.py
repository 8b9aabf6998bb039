"""Refusal receipts: what is noted of a request with a key that was refused before any upstream was asked; and its trace."""

import re
from collections.abc import Callable
from typing import Final, Protocol

from penstock.api.authenticate import RequestCredentials
from penstock.core.api_key import is_well_formed
from penstock.core.endpoints import Endpoint
from penstock.core.neutral.usage import Usage
from penstock.domain.catalog.catalog import Plan
from penstock.domain.keys.authentication import Principal
from penstock.domain.ledger.refusals import HOLDERS_NAMED, Holder, Refusal, Refusals
from penstock.domain.limits import Gate
from penstock.errors import (
    Asked,
    CallerError,
    ConcurrentLimitReached,
    DailyLimitReached,
    Fault,
    InvalidKey,
    KeyConcurrentLimitReached,
    KeyDailyLimitReached,
    LimitReached,
    PenstockError,
    TooManyRefused,
)
from penstock.exchange import Exchange
from penstock.operations.tracing.records import RequestTraced
from penstock.operations.tracing.traces import Traces


class Refused(Protocol):
    """A request that is refused, as far as it is known."""

    @property
    def exchange(self) -> Exchange: ...

    @property
    def request_id(self) -> str: ...

    @property
    def endpoint(self) -> Endpoint | None: ...

    @property
    def now(self) -> float: ...

    @property
    def principal(self) -> Principal | None: ...

    @property
    def plan(self) -> Plan | None: ...


_FIELD: Final = re.compile(r"[a-z_.0-9\[\]]{1,80}")
_NOTHING: Final = Asked("")
_NO_USAGE: Final = Usage()


class RefusalReceipts:
    """Notes refusals. One per process."""

    def __init__(
        self, refusals: Refusals, gate: Gate, traces: Traces | None, now: Callable[[], float]
    ) -> None:
        """``now`` gives epoch seconds."""
        self._refusals = refusals
        self._gate = gate
        self._traces = traces
        self._now = now

    def address(self, visit: Refused) -> bytes:
        """Where its receipt is read; empty for who has no account here, or where no receipts are kept."""
        if visit.principal is None or not self._refusals.keeps:
            return b""
        return b"/requests/%b" % visit.request_id.encode()

    def note(self, visit: Refused, error: PenstockError) -> None:
        """Note it under the id that its answer carries. A key that was not looked up yet is, later and not by the request."""
        credentials = visit.exchange.shared_headers.read
        known = credentials if isinstance(credentials, RequestCredentials) else None
        if visit.principal is not None:
            self._refusals.note(self._refusal(visit, visit.principal, known, error))
        elif known is not None and is_well_formed(known.key) and not isinstance(error, InvalidKey):
            self._refusals.note_unnamed(known.key, self._refusal(visit, None, known, error))
        if self._traces is not None and visit.endpoint is not None:
            self._trace(self._traces, visit, visit.endpoint, known, error)

    def _trace(
        self,
        traces: Traces,
        visit: Refused,
        endpoint: Endpoint,
        credentials: RequestCredentials | None,
        error: PenstockError,
    ) -> None:
        """Have it traced, if it is one that is kept: our own faults are, of what callers have to mend a share."""
        parent, seconds = traces.parent(visit.exchange.header(b"traceparent")), self._now() - visit.now
        ours = error.fault is not Fault.CALLER
        if not traces.keeps(failed=ours, seconds=seconds, parent=parent):
            return
        asked, principal = error.asked or _NOTHING, visit.principal
        traces.take(
            RequestTraced(
                id=visit.request_id,
                parent=parent,
                route=endpoint.path,
                kind=endpoint.kind,
                model=asked.model,
                stream=bool(asked.stream),
                account_id="" if principal is None else principal.account_id,
                key_id="" if principal is None else principal.key_id,
                client="" if credentials is None else credentials.client,
                began=visit.now,
                seconds=seconds,
                status=error.status,
                outcome="error" if ours else "refused",
                error=error.code,
                counted=False,
                max_tokens=None,
                usage=_NO_USAGE,
                answered_model=None,
                attempts=(),
            )
        )

    def _refusal(
        self,
        visit: Refused,
        principal: Principal | None,
        credentials: RequestCredentials | None,
        error: PenstockError,
    ) -> Refusal:
        asked = error.asked or _NOTHING
        most, used = self._limit(visit, principal, error)
        holders = error.holders if isinstance(error, ConcurrentLimitReached) else ()
        return Refusal(
            id=visit.request_id,
            user_id="" if principal is None else principal.account_id,
            key_id="" if principal is None else principal.key_id,
            created_at=int(visit.now * 1000),
            status=error.status,
            code=error.code,
            dialect="" if visit.endpoint is None else visit.endpoint.name,
            model=asked.model,
            requested_model=asked.requested_model,
            stream=asked.stream,
            client="" if credentials is None else credentials.client,
            message=_kept_words(error),
            retry_after=error.retry_after,
            plan_id="" if principal is None else principal.plan_id,
            most=most,
            used=used,
            holders=tuple(Holder(id, int(since * 1000)) for id, since in holders[:HOLDERS_NAMED]),
        )

    def _limit(
        self, visit: Refused, principal: Principal | None, error: PenstockError
    ) -> tuple[int | None, int | None]:
        """The limit that was reached, and what was used of it."""
        plan = visit.plan
        if isinstance(error, TooManyRefused):
            return self._gate.refused_per_key, None
        if principal is None or plan is None:
            return None, None
        if not isinstance(error, KeyDailyLimitReached | KeyConcurrentLimitReached):
            plan = plan.of_account
        if isinstance(error, ConcurrentLimitReached):
            return plan.concurrent_requests, len(error.holders)
        if isinstance(error, DailyLimitReached):
            state = self._gate.state(principal.account_id, plan, visit.now)
            return state.limit, state.limit - state.remaining
        return None, None


def _kept_words(error: PenstockError) -> str:
    """What of an error's text is written down: all of what we say of ourselves, and of a request the field alone.

    The text of a caller's error may quote the request, or be the provider's, which may quote it too.
    """
    if not isinstance(error, CallerError) or isinstance(error, LimitReached):
        return error.message
    param = error.param or ""
    return f"It is about the field {param}." if _FIELD.fullmatch(param) else ""
