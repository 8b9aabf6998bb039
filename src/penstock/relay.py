"""The life of a request: admit, choose, prepare, open, send, stream, settle.

``web/api`` has resolved who calls and what for; from here on there is one path for every dialect and every client. The
phases are methods of ``Relay`` in the order in which they happen. Nothing of the caller's goes to an upstream before the
ledger holds the request, and whatever happens after that ends in ``_settle``: the row is settled, the slot is free.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec

from penstock.aside import Aside
from penstock.blame import error_in_reply, error_of, refusal
from penstock.call import Call, Record, lane_for, meter, open_row, prepared_for, settlement, whole_answer
from penstock.core.dialects import DIALECTS, Prepared, translation_header
from penstock.core.limits import limit_headers
from penstock.core.recall import Thoughts
from penstock.core.route import Attempt
from penstock.core.turn import AnyEvent
from penstock.delivery import Delivery, OpenDeliveries, UpstreamBroke
from penstock.domain.ledger import Ledger
from penstock.domain.limits import Gate
from penstock.errors import (
    CallerError,
    CannotRecord,
    EndedByOwner,
    InternalError,
    InvalidRequest,
    PenstockError,
    ProviderCredentials,
    ProviderError,
)
from penstock.exchange import HeaderList
from penstock.metrics import Metrics
from penstock.pauses import going_on, may_be_paused, whole_turn
from penstock.switchboard import Switchboard
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure, UpstreamResponse

log = logging.getLogger("penstock.relay")

_EVENT_STREAM = b"text/event-stream; charset=utf-8"


class Timings(msgspec.Struct, frozen=True):
    """The relay's timers, in seconds, and the bounds of an answer: a whole one's bytes, and how often a turn may pause."""

    deadlines: Deadlines = Deadlines()
    head_hold: float = 20.0
    keepalive: float = 15.0
    max_reply: int = 64 * 1024 * 1024
    max_pauses: int = 8


class Relay:
    """Takes admitted calls through their phases. One per process; all its state is on one event loop."""

    def __init__(
        self,
        *,
        client: UpstreamClient,
        ledger: Ledger,
        gate: Gate,
        switchboard: Switchboard,
        metrics: Metrics,
        timings: Timings,
        aside: Aside,
        thoughts: Thoughts,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` is monotonic, in seconds."""
        self._client = client
        self._ledger = ledger
        self._gate = gate
        self._board = switchboard
        self._metrics = metrics
        self._timings = timings
        self._aside = aside
        self._thoughts = thoughts
        self._clock = clock
        self._open = OpenDeliveries(clock)
        self._calls: dict[str, Call] = {}

    # ---- admit

    async def run(self, call: Call) -> None:
        """Serve one call, to the end of its response.

        Raises the ``PenstockError`` the caller is to get; nothing has been sent to the caller in that case.
        """
        user = call.principal.user_id
        lease = await self._gate.enter(user, call.plan, call.request_id, call.now)
        call.delivered = lease.release
        call.task = asyncio.current_task()
        self._calls[call.request_id] = call
        try:
            choice = self._board.choose(call.resolution, call.envelope, call.dialect.name, self._clock())
            prepared = await self._prepare(call, choice.attempts[0])
            day = self._gate.count(lease, call.now)
            self._metrics.entered()
            await self._counted(call, prepared, Record(choice, day))
        except asyncio.CancelledError:
            stopped = call.stopped()  # while its body was prepared: nothing is counted yet
            if stopped is not None:
                raise stopped from None
            raise
        finally:
            del self._calls[call.request_id]
            lease.release()

    def end(self, user_id: str, request_id: str) -> bool:
        """End a running request of this user; whether there was one here. It counts, and its row says who ended it."""
        call = self._calls.get(request_id)
        if call is None or call.task is None or call.principal.user_id != user_id:
            return False
        call.ended = True
        call.task.cancel()
        return True

    # ---- prepare

    async def _prepare(self, call: Call, attempt: Attempt) -> Prepared:
        """The upstream's body; a request that cannot be said there fails here, before it counts."""
        if len(call.envelope.body) <= self._aside.above:
            return prepared_for(call, attempt, self._thoughts)
        return await self._aside.run(prepared_for, call, attempt, self._thoughts)

    # ---- open

    async def _counted(self, call: Call, prepared: Prepared, record: Record) -> None:
        """Record the request, send it, and settle it whatever happens."""
        user = call.principal.user_id
        try:
            await self._ledger.opened(open_row(call, record))
            await self._attempt(call, prepared, record)
        except CannotRecord:
            self._gate.refund(user, record.day)
            self._measure(call, record, "unrecorded")
            raise
        except PenstockError as error:
            self._failed(call, record, error)
            raise
        except asyncio.CancelledError:
            stopped = call.stopped()
            if stopped is not None:
                raise self._failed(call, record, stopped) from None
            record.outcome = "client_gone"
            if not record.contacted:
                record.refund_reason = "not_sent"
            self._settle(call, record)
            raise
        except Exception:
            record.outcome, record.status = "error", 500
            record.error_code = record.refund_reason = InternalError.code
            self._settle(call, record)
            raise
        else:
            self._settle(call, record)

    # ---- send

    async def _attempt(self, call: Call, prepared: Prepared, record: Record) -> None:
        """Try the attempts in order while nothing has gone to the caller."""
        attempts = record.choice.attempts
        failure: ProviderError | None = None
        for attempt in attempts:
            if attempt is not attempts[0]:
                if self._left(record) <= 0:
                    break
                try:
                    prepared = await self._prepare(call, attempt)
                except InvalidRequest:
                    continue  # it cannot be said there; what failed before is what the caller is told
            now = self._clock()
            record.begin(attempt, prepared.losses, now)
            self._board.sending(attempt, now)
            record.contacted = True
            try:
                await (self._stream if call.envelope.stream else self._whole)(call, attempt, prepared, record)
            except ProviderError as error:
                self._blame(call, attempt, error)
                failure = error
            else:
                return
        if failure is not None:
            raise failure

    def _left(self, record: Record) -> float:
        """Seconds left for further attempts: all of a request have one total."""
        return record.sent_at + self._timings.deadlines.total - self._clock()

    async def _post(
        self, call: Call, attempt: Attempt, prepared: Prepared, record: Record
    ) -> UpstreamResponse:
        """The upstream's good answer, as far as its head. Raises what the caller is to be told of any other."""
        board = self._board
        endpoint = board.endpoint(attempt)
        own = call.dialect.name == attempt.dialect
        deadlines = self._timings.deadlines
        if record.attempts > 1 or record.resumed:
            deadlines = replace(deadlines, total=self._left(record))
        try:
            response = await self._client.send(
                endpoint.origin,
                b"POST",
                endpoint.path,
                board.headers(attempt, call.version if own else None, call.betas if own else None),
                prepared.body,
                deadlines,
                stream=call.envelope.stream,
            )
        except UpstreamFailure as failure:
            raise error_of(failure) from failure
        if 200 <= response.status < 300:
            return response
        try:
            raise await refusal(response, DIALECTS[attempt.dialect], call.dialect.name)
        finally:
            response.close()

    # ---- stream

    async def _stream(self, call: Call, attempt: Attempt, prepared: Prepared, record: Record) -> None:
        exchange = call.exchange
        delivery = Delivery(
            exchange,
            delivered=call.delivered,
            begin=lambda: exchange.start(200, self._head(call, record, prepared, _EVENT_STREAM)),
            error_frame=lambda error, number: call.dialect.error_frame(error, call.request_id, number),
            keepalive_frame=call.dialect.KEEPALIVE,
            clock=self._clock,
            hold_until=call.started + self._timings.head_hold,
            keepalive=self._timings.keepalive,
        )
        self._open.add(delivery)
        exchange.watch(delivery)
        try:
            await self._deliver(call, attempt, prepared, record, delivery)
        except PenstockError as error:
            delivery.broke(error)
        except asyncio.CancelledError:
            # After the reply's end nobody waits for the upstream's any more; that is no loss of the caller.
            if delivery.done_at is None:
                stopped = call.stopped()
                if stopped is None:
                    raise
                delivery.broke(stopped)
        finally:
            exchange.watch(None)
            self._open.discard(delivery)
            meter(call, record, delivery.lane)
            record.first_byte_at = delivery.first_byte_at
        error = delivery.error
        if error is None:
            record.outcome, record.status = "completed", 200
            self._board.succeeded(attempt)
        elif not exchange.started:
            raise error
        else:
            # The caller has its error event. What was delivered counts; an error before any output does not.
            record.broke(error, output=delivery.lane is not None and delivery.lane.output_bytes > 0)
            if isinstance(error, ProviderError):
                self._blame(call, attempt, error)
            elif isinstance(error, CallerError) and not isinstance(error, EndedByOwner):
                self._gate.refused(call.principal.key_id, exchange.client)

    async def _deliver(
        self, call: Call, attempt: Attempt, prepared: Prepared, record: Record, delivery: Delivery
    ) -> None:
        response = await self._post(call, attempt, prepared, record)
        try:
            content_type = response.header(b"content-type") or b""
            lane = lane_for(call, attempt, content_type, record.choice.model.id, prepared)
            delivery.attach(response, lane)
            await response.stream(delivery.sink)
            while record.resumed < self._timings.max_pauses and (again := going_on(lane, prepared)):
                prepared = again
                response = await self._resume(call, attempt, prepared, record)
                delivery.attach(response, lane)
                await response.stream(delivery.sink)
            delivery.finish()
        except UpstreamBroke:
            delivery.broke()
        except UpstreamFailure as failure:
            delivery.broke(error_of(failure))
        finally:
            response.close()

    # ---- whole answers

    async def _whole(self, call: Call, attempt: Attempt, prepared: Prepared, record: Record) -> None:
        response = await self._post(call, attempt, prepared, record)
        try:
            body = await self._read(response)
        finally:
            response.close()
        events: list[AnyEvent] | None = None
        if may_be_paused(call, attempt, body):
            ask = partial(self._next_answer, call, attempt, record)
            events = await whole_turn(attempt, prepared, body, self._timings.max_pauses, ask)
        out, failed = whole_answer(call, record, prepared, body, events)
        if failed is not None:
            raise error_in_reply(failed, body)
        record.first_byte_at = self._clock()
        self._board.succeeded(attempt)
        call.exchange.start(200, self._head(call, record, prepared, b"application/json"))
        call.exchange.end(out)
        record.outcome, record.status = "completed", 200

    async def _read(self, response: UpstreamResponse) -> bytes:
        try:
            return await response.read(self._timings.max_reply)
        except UpstreamFailure as failure:
            raise error_of(failure) from failure

    # ---- turns that pause

    async def _resume(
        self, call: Call, attempt: Attempt, prepared: Prepared, record: Record
    ) -> UpstreamResponse:
        """The next answer of a turn that was paused; that it is refused is not the caller's fault."""
        record.resumed += 1
        try:
            return await self._post(call, attempt, prepared, record)
        except CallerError as error:
            raise ProviderError("The provider paused its answer and would not go on with it.") from error

    async def _next_answer(self, call: Call, attempt: Attempt, record: Record, prepared: Prepared) -> bytes:
        response = await self._resume(call, attempt, prepared, record)
        try:
            return await self._read(response)
        finally:
            response.close()

    # ---- the head of a good answer

    def _head(self, call: Call, record: Record, prepared: Prepared, content_type: bytes) -> HeaderList:
        request_id = call.request_id.encode()
        head: HeaderList = [(b"content-type", content_type), (b"x-request-id", request_id)]
        if call.dialect.name == "messages":
            head.append((b"request-id", request_id))
        if call.envelope.stream:
            head.append((b"cache-control", b"no-cache"))
            head.append((b"x-accel-buffering", b"no"))
        else:
            head.append((b"cache-control", b"no-store"))
        public = record.choice.model.id
        if public != call.envelope.model:
            head.append((b"x-penstock-model", public.encode()))
        if record.attempt.simulated:
            head.append((b"x-penstock-upstream", b"simulator"))
        if prepared.losses:
            head.append((b"x-penstock-translation", translation_header(prepared.losses).encode()))
        state = self._gate.state(call.principal.user_id, call.plan, call.now)
        head.extend(limit_headers(state, call.now, call.dialect.name))
        return head

    def _blame(self, call: Call, attempt: Attempt, error: ProviderError) -> None:
        """Tell the operator; and hold it against the provider's health, unless a caller could bring it about."""
        if not isinstance(error, ProviderCredentials):
            self._board.failed(attempt, self._clock())
        self._metrics.upstream_failed(attempt.provider, error.code)
        log.warning(
            "provider failed",
            extra={
                "request_id": call.request_id,
                "provider": attempt.provider,
                "upstream_model": attempt.model,
                "code": error.code,
            },
        )

    # ---- settle

    def _failed(self, call: Call, record: Record, error: PenstockError) -> PenstockError:
        """Settle a call that ends with this error in place of an answer."""
        record.broke(error, output=False)
        record.status = error.status
        self._settle(call, record)
        return error

    def _settle(self, call: Call, record: Record) -> None:
        """Always, and without waiting: the settlement is queued, the refund is done."""
        if record.refund_reason is not None:
            self._gate.refund(call.principal.user_id, record.day)
        self._ledger.settle(settlement(call, record, self._clock()))
        self._measure(call, record, record.outcome)

    def _measure(self, call: Call, record: Record, outcome: str) -> None:
        first = record.first_byte_at
        self._metrics.settled(
            record.choice.model.id,
            record.attempt.provider,
            outcome,
            input_tokens=record.usage.input or 0,
            output_tokens=record.usage.output or 0,
            first_byte=None if first is None else first - call.started,
        )
