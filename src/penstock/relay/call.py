"""One request on its way through the relay: what it is, and what the ledger will be told of it."""

import asyncio
from collections.abc import Callable

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.lanes import EventDecoder, Lane, ObservedPassthrough, Translation
from penstock.core.dialects.messages.paused_turn import PausedTurnDecoder
from penstock.core.dialects.registry import DIALECTS, Dialect, Prepared, prepare, translation_header
from penstock.core.neutral.events import AnyEvent, Failed
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import Loss
from penstock.core.neutral.usage import Usage
from penstock.core.reasoning.cache import ReasoningCache, ReasoningRecorder, ReasoningScope
from penstock.core.reasoning.redact import Redaction
from penstock.core.routing import Attempt
from penstock.domain.catalog.catalog import Plan, Resolution
from penstock.domain.keys.authentication import Principal
from penstock.domain.ledger.ledger import OpenRow, Settlement
from penstock.errors import CallerError, Draining, EndedByOwner, OurError, PenstockError
from penstock.exchange import Exchange
from penstock.relay.router import Selection

_ENDED = "The owner of the key has ended this request."
_STOPPED = "The service was stopped before the answer was complete. Send the request again."
_REPLY_IDS = {"chat": "chatcmpl-", "messages": "msg_", "responses": "resp_"}


def _nothing() -> None:
    """What there is to do before a slot is held."""


class Call:
    """One admitted request: who calls, what for, and where the answer goes."""

    __slots__ = (
        "betas",
        "client",
        "delivered",
        "dialect",
        "ended",
        "envelope",
        "exchange",
        "now",
        "plan",
        "principal",
        "request_id",
        "resolution",
        "started",
        "strict",
        "task",
        "version",
    )

    def __init__(  # noqa: PLR0913 - one record of a request, made in one place, with every part named
        self,
        exchange: Exchange,
        request_id: str,
        *,
        dialect: Dialect,
        principal: Principal,
        plan: Plan,
        envelope: Envelope,
        resolution: Resolution,
        client: str,
        now: float,
        started: float,
        strict: bool,
        version: bytes | None,
        betas: bytes | None,
    ) -> None:
        """``now`` is epoch seconds at receipt, ``started`` the monotonic clock then."""
        self.exchange = exchange
        self.request_id = request_id
        self.dialect = dialect
        self.principal = principal
        self.plan = plan
        self.envelope = envelope
        self.resolution = resolution
        self.client = client
        self.now = now
        self.started = started
        self.strict = strict
        self.version = version
        self.betas = betas
        self.ended = False
        """The owner has ended it."""
        self.task: asyncio.Task[object] | None = None
        """What serves it, while it runs."""
        self.delivered: Callable[[], None] = _nothing
        """Called when the caller has the whole answer; frees its slot."""

    def stopped(self) -> EndedByOwner | Draining | None:
        """Why it was cancelled, where the caller is to be told: the cancellation is taken back then."""
        stopped: EndedByOwner | Draining | None = None
        if self.ended:
            stopped = EndedByOwner(_ENDED)
        elif self.exchange.recalled and not self.exchange.lost:
            stopped = Draining(_STOPPED)
        if stopped is not None and self.task is not None:
            self.task.uncancel()
        return stopped

    @property
    def reply_id(self) -> str:
        """The id of an answer that we write ourselves, in the form of the caller's dialect."""
        return _REPLY_IDS[self.dialect.name] + self.request_id.removeprefix("req_")


class Record:
    """What the ledger will be told when the request ends."""

    __slots__ = (
        "attempt",
        "attempts",
        "choice",
        "contacted",
        "day",
        "error_code",
        "estimated",
        "first_byte_at",
        "losses",
        "outcome",
        "refund_reason",
        "resumed",
        "sent_at",
        "status",
        "usage",
    )

    def __init__(self, choice: Selection, day: int) -> None:
        self.choice = choice
        self.attempt = choice.attempts[0]
        self.day = day
        self.attempts = 0
        self.resumed = 0
        """How often the upstream has paused its turn and was asked to go on."""
        self.sent_at = 0.0
        """When the first attempt began, on the monotonic clock."""
        self.contacted = False
        self.outcome = "error"
        self.status: int | None = None
        self.error_code: str | None = None
        self.refund_reason: str | None = None
        self.usage = Usage()
        self.estimated = False
        self.first_byte_at: float | None = None
        self.losses: tuple[Loss, ...] = ()

    def begin(self, attempt: Attempt, losses: tuple[Loss, ...], now: float) -> None:
        """The next attempt is made; what the last one reported is not of the answer that the caller gets."""
        if not self.attempts:
            self.sent_at = now
        self.attempt = attempt
        self.attempts += 1
        self.resumed = 0
        self.losses = losses
        self.usage = Usage()
        self.estimated = False
        self.first_byte_at = None

    def broke(self, error: PenstockError, *, output: bool) -> None:
        """The upstream failed or refused, or we stopped. Refunded unless the caller had ``output`` of it."""
        self.error_code = error.code
        self.status = 200
        if isinstance(error, EndedByOwner):
            self.outcome = "ended_by_owner"
            return
        if isinstance(error, CallerError):
            self.outcome, self.refund_reason = "refused", "provider_refused"
            return
        if isinstance(error, OurError):
            self.outcome = "error"
            self.refund_reason = None if output else error.code
            return
        self.outcome = "upstream_error"
        if not output:
            self.refund_reason = "no_output"


def prepared_for(call: Call, attempt: Attempt, thoughts: ReasoningCache) -> Prepared:
    """The body of a call as this attempt's upstream is to get it. Raises ``InvalidRequest`` where it cannot be said there."""
    return prepare(
        call.envelope,
        caller=call.dialect.name,
        upstream=attempt.dialect,
        model=attempt.model,
        profile=attempt.profile,
        strict=call.strict,
        recall=ReasoningScope(thoughts, call.principal.user_id, attempt.provider),
    )


def lane_for(call: Call, attempt: Attempt, content_type: bytes, public: str, prepared: Prepared) -> Lane:
    """Bytes where both sides speak the same dialect in the same form, events elsewhere. ``public``: the model's id."""
    upstream = DIALECTS[attempt.dialect]
    listener = None if prepared.recall is None else ReasoningRecorder(prepared.recall)
    if attempt.dialect == call.dialect.name and not content_type.startswith(b"application/json"):
        lane = call.dialect.Meter(model=public, withhold_usage=not call.envelope.include_usage)
        if listener is None:
            return lane
        return ObservedPassthrough(lane, upstream.Reader(profile=attempt.profile), listener)
    writer = call.dialect.Writer(
        model=public,
        reply_id=call.reply_id,
        created=int(call.now),
        include_usage=call.envelope.include_usage,
        input_estimate=call.envelope.estimate_input(),
    )
    reader: EventDecoder
    if attempt.dialect == "messages" and call.dialect.name != "messages":
        reader = PausedTurnDecoder(profile=attempt.profile)
    else:
        reader = upstream.Reader(profile=attempt.profile)
    return Translation(reader, writer, prepared.names, listener, hides_thoughts=prepared.hides_thoughts)


_BYTES_PER_TOKEN = 4


def meter(call: Call, record: Record, lane: Lane | None) -> None:
    """Note a stream's token counts; what the upstream left unknown is estimated from bytes, and marked."""
    if lane is None:
        return
    usage = lane.usage
    if not lane.done or not _counted(usage) or (not usage.output and lane.output_bytes):
        record.estimated = True
        usage = msgspec.structs.replace(
            usage,
            input=usage.input if _counted(usage) else call.envelope.estimate_input(),
            output=max(usage.output or 0, lane.output_bytes // _BYTES_PER_TOKEN),
        )
    record.usage = usage


def whole_answer(
    call: Call, record: Record, prepared: Prepared, body: bytes, events: list[AnyEvent] | None = None
) -> tuple[bytes, Failed | None]:
    """An upstream's whole answer as the caller gets it, its token counts noted; or what is wrong with it.

    ``events`` is what a translated answer says, where that is known already. Where the answer is written anew it has
    counts in it, because the SDKs rely on them: estimates if the upstream gave none.
    """
    public, attempt = record.choice.model.id, record.attempt
    if attempt.dialect == call.dialect.name:
        out, usage, failed = call.dialect.meter_reply(body, model=public)
        if failed is None:
            record.usage = _completed(call, record, usage, len(body))
            if prepared.recall is not None:
                _listen(prepared.recall, call.dialect.read_reply(body, attempt.profile))
        return out, failed
    if events is None:
        events = DIALECTS[attempt.dialect].read_reply(body, attempt.profile)
    if prepared.recall is not None:
        _listen(prepared.recall, events)
    events = prepared.names.restored(events)
    if prepared.hides_thoughts:
        events = Redaction().without_text(events)
    reply = fold(events)
    if reply.failure is not None:
        return b"", reply.failure
    record.usage = _completed(call, record, reply.usage, len(body))
    reply = msgspec.structs.replace(reply, usage=record.usage)
    out = call.dialect.write_reply(reply, model=public, reply_id=call.reply_id, created=int(call.now))
    return out, None


def _listen(recall: ReasoningScope, events: list[AnyEvent]) -> None:
    listener = ReasoningRecorder(recall)
    for event in events:
        listener.take(event)


def _completed(call: Call, record: Record, usage: Usage, length: int) -> Usage:
    """The counts of a whole answer, with estimates, and marked, where there are none; ``length`` is its body's in bytes."""
    if _counted(usage) and usage.output is not None:
        return usage
    record.estimated = True
    return msgspec.structs.replace(
        usage,
        input=usage.input if _counted(usage) else call.envelope.estimate_input(),
        output=usage.output or length // _BYTES_PER_TOKEN,
    )


def _counted(usage: Usage) -> bool:
    """Whether the upstream has counted what it read: no prompt has 0 tokens, though some say so of every one."""
    return usage.input is not None and bool(usage.input or usage.cache_read or usage.cache_write)


def open_row(call: Call, record: Record) -> OpenRow:
    """The ledger's row of a request that is about to be sent."""
    attempt = record.attempt
    return OpenRow(
        id=call.request_id,
        user_id=call.principal.user_id,
        key_id=call.principal.key_id,
        day=record.day,
        created_at=int(call.now * 1000),
        dialect=call.dialect.name,
        model=record.choice.model.id,
        requested_model=call.envelope.model[:128],
        stream=call.envelope.stream,
        client=call.client,
        provider=attempt.provider,
        upstream_model=attempt.model,
        upstream_dialect=attempt.dialect,
    )


def settlement(call: Call, record: Record, now: float) -> Settlement:
    """How the ledger is told that the request has ended, at ``now`` of the monotonic clock."""
    attempt = record.attempt
    first = record.first_byte_at
    return Settlement(
        id=call.request_id,
        status=record.status,
        outcome=record.outcome,
        counted=record.refund_reason is None,
        refund_reason=record.refund_reason,
        error_code=record.error_code,
        usage=record.usage,
        estimated=record.estimated,
        provider=attempt.provider,
        upstream_model=attempt.model,
        upstream_dialect=attempt.dialect,
        attempts=record.attempts,
        first_byte_ms=None if first is None else int((first - call.started) * 1000),
        total_ms=int((now - call.started) * 1000),
        translation=translation_header(record.losses) if record.losses else None,
    )
