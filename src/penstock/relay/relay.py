"""The life of a request: admit, choose, prepare, open, send, stream, settle.

``api/routes`` has resolved who calls and what for; from here on there is one path for every dialect and every client. The
phases are methods of ``Relay`` in the order in which they happen. Nothing of the caller's goes to an upstream before the
ledger holds the request, and whatever happens after that ends in ``_settle``: the row is settled, the slot is free.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import msgspec

from penstock.core.dialects.interface import NO_VERSION, Prepared
from penstock.core.dialects.prepare import translation_header
from penstock.core.limits import limit_headers
from penstock.core.neutral.events import AnyEvent
from penstock.core.reasoning.cache import ReasoningCache
from penstock.core.routing import Attempt
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.limits import Gate
from penstock.errors import (
    CallerError,
    CannotRecord,
    EndedByOwner,
    InternalError,
    PenstockError,
    ProviderError,
)
from penstock.exchange import NOSNIFF, HeaderList
from penstock.operations.metrics import Metrics
from penstock.relay.answer import lane_for, prepared_for, whole_answer
from penstock.relay.answer_memory import AnswerMemory, AnswerRoom
from penstock.relay.call import Call
from penstock.relay.continuation import continued_request, paused_decoder, whole_turn
from penstock.relay.failover import Failover
from penstock.relay.offload import Offload
from penstock.relay.record import Record, open_row, settlement
from penstock.relay.router import Router
from penstock.relay.stream import OpenStreams, ResponseStream, UpstreamBroke
from penstock.relay.upstream_errors import garbled_error, network_error, refused_error, reported_error
from penstock.relay.usage import note_model, note_stream
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure, UpstreamResponse

_EVENT_STREAM = b"text/event-stream; charset=utf-8"


class Timings(msgspec.Struct, frozen=True):
    """The relay's timers, in seconds, and the bounds of answers.

    Those are the bytes of a whole one, of all whole ones together, and how often a turn may pause.
    """

    deadlines: Deadlines = Deadlines()
    head_hold: float = 20.0
    keepalive: float = 15.0
    max_reply: int = 64 * 1024 * 1024
    max_replies: int = 512 * 1024 * 1024
    max_pauses: int = 8


class Relay:
    """Takes admitted calls through their phases. One per process; all its state is on one event loop."""

    def __init__(
        self,
        *,
        client: UpstreamClient,
        ledger: Ledger,
        gate: Gate,
        router: Router,
        metrics: Metrics,
        timings: Timings,
        offload: Offload,
        failover: Failover,
        reasoning: ReasoningCache,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` is monotonic, in seconds."""
        self._client = client
        self._ledger = ledger
        self._gate = gate
        self._router = router
        self._metrics = metrics
        self._timings = timings
        self._answers = AnswerMemory(timings.max_replies)
        self._offload = offload
        self._failover = failover
        self._reasoning = reasoning
        self._clock = clock
        self._open = OpenStreams(clock)
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
            choice = self._router.choose(call.resolution, call.envelope, call.endpoint, self._clock())
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
        if len(call.envelope.body) <= self._offload.above:
            return prepared_for(call, attempt, self._reasoning)
        return await self._offload.run(prepared_for, call, attempt, self._reasoning)

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

    async def _attempt(self, call: Call, first: Prepared, record: Record) -> None:
        """Make the attempts in their order while nothing has gone to the caller."""

        await self._failover.run(
            call.request_id,
            record.choice.attempts,
            first,
            (call, record),
            prepare=self._prepare_next,
            send=self._send,
            left=self._left,
        )

    def _prepare_next(self, request: tuple[Call, Record], attempt: Attempt) -> Awaitable[Prepared]:
        return self._prepare(request[0], attempt)

    def _send(self, request: tuple[Call, Record], attempt: Attempt, prepared: Prepared) -> Awaitable[None]:
        """Begin an attempt."""
        call, record = request
        record.begin(attempt, prepared.losses, self._clock())
        record.contacted = True
        return (self._stream if call.envelope.stream else self._whole)(call, attempt, prepared, record)

    def _left(self, request: tuple[Call, Record]) -> float:
        """Seconds left for further attempts: all of a request have one total."""
        return request[1].sent_at + self._timings.deadlines.total - self._clock()

    async def _post(
        self, call: Call, attempt: Attempt, prepared: Prepared, record: Record
    ) -> UpstreamResponse:
        """Send the request; returns the upstream's answer once its head is good. Raises the caller's error for any other."""
        upstream, router = call.endpoint.upstreams[attempt.dialect], self._router
        own = call.endpoint.name == attempt.dialect
        address = router.address(attempt, upstream.path(attempt.model, call.envelope.stream))
        asked = call.asked if own else NO_VERSION
        deadlines = self._timings.deadlines
        if record.attempts > 1 or record.resumed:
            deadlines = replace(deadlines, total=self._left((call, record)))
        try:
            response = await self._client.send(
                address.origin,
                b"POST",
                address.path,
                router.headers(attempt, upstream, asked, address, prepared.body),
                prepared.body,
                deadlines,
                stream=call.envelope.stream,
            )
        except UpstreamFailure as failure:
            raise network_error(failure) from failure
        if 200 <= response.status < 300:
            return response
        try:
            words = None if own else call.endpoint.caller.overflow_words
            raise await refused_error(response, upstream, words)
        finally:
            response.close()

    # ---- stream

    async def _stream(self, call: Call, attempt: Attempt, prepared: Prepared, record: Record) -> None:
        exchange, side = call.exchange, call.endpoint.side
        if side is None:
            raise TypeError(f"{call.endpoint.name} has no streams")
        stream = ResponseStream(
            exchange,
            delivered=call.delivered,
            begin=lambda: exchange.start(200, self._head(call, record, prepared, _EVENT_STREAM)),
            error_frame=lambda error, number: side.error_frame(error, call.request_id, number),
            keepalive_frame=side.keepalive,
            clock=self._clock,
            hold_until=call.started + self._timings.head_hold,
            keepalive=self._timings.keepalive,
        )
        self._open.add(stream)
        exchange.watch(stream)
        try:
            await self._deliver(call, attempt, prepared, record, stream)
        except PenstockError as error:
            stream.broke(error)
        except asyncio.CancelledError:
            # After the reply's end nobody waits for the upstream's any more; that is no loss of the caller.
            if stream.done_at is None:
                stopped = call.stopped()
                if stopped is None:
                    raise
                stream.broke(stopped)
        finally:
            exchange.watch(None)
            self._open.discard(stream)
            note_stream(call, record, stream.lane)
            record.first_byte_at = stream.first_byte_at
        error = stream.error
        if error is None:
            record.outcome, record.status = "completed", 200
            self._router.succeeded(attempt)
        elif not exchange.started:
            raise error
        else:
            # The caller has its error event. What was delivered counts; an error before any output does not.
            record.broke(error, output=stream.lane is not None and stream.lane.output_bytes > 0)
            if isinstance(error, ProviderError):
                self._failover.note(call.request_id, attempt, error)
            elif isinstance(error, CallerError) and not isinstance(error, EndedByOwner):
                self._gate.refused(call.principal.key_id, exchange.client)

    async def _deliver(
        self, call: Call, attempt: Attempt, prepared: Prepared, record: Record, stream: ResponseStream
    ) -> None:
        response = await self._post(call, attempt, prepared, record)
        try:
            content_type = response.header(b"content-type") or b""
            lane = lane_for(call, attempt, content_type, record.choice.model.id, prepared)
            stream.attach(response, lane)
            await response.stream(stream.sink)
            while record.resumed < self._timings.max_pauses and (again := continued_request(lane, prepared)):
                prepared = again
                response = await self._resume(call, attempt, prepared, record)
                stream.attach(response, lane)
                await response.stream(stream.sink)
            stream.finish()
        except UpstreamBroke:
            stream.broke()
        except UpstreamFailure as failure:
            stream.broke(network_error(failure))
        except RecursionError:  # where an answer is decoded or encoded: what it says is nested without end
            stream.broke(garbled_error())
        finally:
            response.close()

    # ---- whole answers

    async def _whole(self, call: Call, attempt: Attempt, prepared: Prepared, record: Record) -> None:
        room = AnswerRoom(self._answers)
        try:
            await self._give_whole(call, attempt, prepared, record, room)
        finally:
            room.leave()

    async def _give_whole(
        self, call: Call, attempt: Attempt, prepared: Prepared, record: Record, room: AnswerRoom
    ) -> None:
        response = await self._post(call, attempt, prepared, record)
        try:
            body = await self._read(response, room)
        finally:
            response.close()
        events: list[AnyEvent] | None = None
        try:
            decoder = paused_decoder(call, attempt, body)
            if decoder is not None:
                ask = partial(self._next_answer, call, attempt, record, room)
                events = await whole_turn(decoder, prepared, body, self._timings.max_pauses, ask)
            out, failed = whole_answer(call, record, prepared, body, events)
            if decoder is not None:
                note_model(record, decoder.answered)
        except RecursionError as error:
            raise garbled_error() from error
        if failed is not None:
            raise reported_error(failed)
        record.first_byte_at = self._clock()
        self._router.succeeded(attempt)
        call.exchange.start(200, self._head(call, record, prepared, b"application/json"))
        call.exchange.end(out)
        record.outcome, record.status = "completed", 200

    async def _read(self, response: UpstreamResponse, room: AnswerRoom) -> bytes:
        try:
            return await response.read(self._timings.max_reply, room.arrived)
        except UpstreamFailure as failure:
            raise network_error(failure) from failure

    # ---- turns that pause

    async def _resume(
        self, call: Call, attempt: Attempt, prepared: Prepared, record: Record
    ) -> UpstreamResponse:
        """Ask for the next answer of a paused turn. A refusal of it is not the caller's fault."""
        record.resumed += 1
        try:
            return await self._post(call, attempt, prepared, record)
        except CallerError as error:
            raise ProviderError("The provider paused its answer and would not go on with it.") from error

    async def _next_answer(
        self, call: Call, attempt: Attempt, record: Record, room: AnswerRoom, prepared: Prepared
    ) -> bytes:
        response = await self._resume(call, attempt, prepared, record)
        try:
            return await self._read(response, room)
        finally:
            response.close()

    # ---- the head of a good answer

    def _head(self, call: Call, record: Record, prepared: Prepared, content_type: bytes) -> HeaderList:
        request_id = call.request_id.encode()
        head: HeaderList = [(b"content-type", content_type), NOSNIFF, (b"x-request-id", request_id)]
        caller = call.endpoint.caller
        if caller.response_headers is not None:
            head.extend(caller.response_headers(request_id))
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
        head.extend(limit_headers(state, call.now))
        if caller.limit_headers is not None:
            head.extend(caller.limit_headers(state))
        return head

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
            by_another_model=record.answered_model is not None,
        )
