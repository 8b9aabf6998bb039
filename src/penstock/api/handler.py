"""The handler of the data plane: every request under ``/v1``, from the first header to the last error body.

A plain handler over ``Exchange``: no framework stands between the socket and the relay. It resolves the endpoint from the
route, the caller from the key, the model from the catalogue, and hands over to the relay; what comes back as an error
becomes an answer in the caller's form. Every answer carries a request id and the caller's limits.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from math import inf
from typing import Any

from penstock.api import connection_check
from penstock.api.authenticate import RequestCredentials, request_credentials
from penstock.api.body_memory import BodyMemory, Reservation
from penstock.api.client_families import DEVIATING, ClientFamilies
from penstock.api.error_responses import error_body, error_headers
from penstock.api.refusal_receipts import RefusalReceipts
from penstock.api.request_body import BodyReader
from penstock.api.routes import Route, endpoint_like, find_route
from penstock.api.web_socket import wants_web_socket
from penstock.core.body.cost_fields import CostBounds
from penstock.core.body.envelope import Envelope
from penstock.core.catalog import causes_named
from penstock.core.dialects.interface import NO_VERSION
from penstock.core.endpoints import Endpoint
from penstock.core.limits import LimitState, limit_headers
from penstock.core.revision import Revision
from penstock.core.routing.preferences import read_preference, with_tags
from penstock.domain.catalog.catalog import Catalog, Plan
from penstock.domain.catalog.models_endpoint import list_models, one_model, page_of
from penstock.domain.keys.authentication import Keyring, Principal, check
from penstock.domain.ledger.usage_endpoint import Question, question_of
from penstock.domain.limits import Gate
from penstock.errors import (
    Asked,
    CallerError,
    CannotRecord,
    EndedByOwner,
    InternalError,
    LimitReached,
    MethodNotAllowed,
    ModelNotFound,
    PenstockError,
    ReceiptTimeout,
    RouteNotFound,
    Unavailable,
    UpgradeRefused,
)
from penstock.exchange import NOSNIFF, Exchange, HeaderList
from penstock.operations.captures import Captures
from penstock.operations.metrics import Metrics
from penstock.relay.answer_head import model_end
from penstock.relay.call import Call
from penstock.relay.captured_exchange import captured_exchange
from penstock.relay.relay import Relay
from penstock.relay.router import Asker
from penstock.relay.standing import Caller, Standing
from penstock.relay.token_counting import CountRequest, TokenCount, TokenCounter

log = logging.getLogger("penstock.api")

_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")
_HELLO = b'{"service":"penstock","status":"ok"}'

_LONGEST_NAME_KEPT = 128
"""A longer name of a model is no model's, or an alias that is seldom used."""
_NOT_HELD_AGAINST = (LimitReached, ReceiptTimeout, EndedByOwner, UpgradeRefused)


def _broken() -> InternalError:
    """A fault of our own."""
    return InternalError("Something went wrong here; the operator has been told.")


class ApiRequest:
    """One request while it is handled: what is known of its caller so far, for the answer's headers and form."""

    __slots__ = ("endpoint", "exchange", "label", "now", "plan", "principal", "request_id", "stands")

    def __init__(
        self,
        exchange: Exchange,
        request_id: str,
        endpoint: Endpoint | None,
        now: float,
        caller: Caller | None = None,
    ) -> None:
        self.exchange = exchange
        self.request_id = request_id
        self.endpoint = endpoint
        self.label = "chat" if endpoint is None else endpoint.name
        """What metrics call it."""
        self.now = now
        self.principal: Principal | None = None
        self.plan: Plan | None = None
        self.stands = True
        """Whether it is known how the caller stands with all servers: else the answer has no limit headers."""
        if caller is not None:
            self.principal, self.plan = caller.principal, caller.plan


class Api:
    """The handler of the data plane. One per process."""

    def __init__(  # noqa: PLR0913 - the parts of the data plane meet here, each named
        self,
        *,
        relay: Relay,
        counter: TokenCounter,
        keyring: Keyring,
        gate: Gate,
        body_memory: BodyMemory,
        catalog: Callable[[], Catalog],
        metrics: Metrics,
        receipts: RefusalReceipts,
        usage: Callable[[str, Question], Awaitable[bytes]],
        reader: BodyReader,
        new_id: Callable[[], str],
        now: Callable[[], float],
        clock: Callable[[], float],
        revision: Revision,
        base_path: str,
        captures: Captures | None,
    ) -> None:
        """``now`` gives epoch seconds, ``clock`` monotonic seconds, ``new_id`` request ids, ``usage`` its answers.

        ``base_path`` is what paths of pages begin with. ``captures`` None: nothing is ever captured.
        """
        self._relay = relay
        self._counter = counter
        self._keyring = keyring
        self._gate = gate
        self._body_memory = body_memory
        self._catalog = catalog
        self._metrics = metrics
        self._receipts = receipts
        self._tell_usage = usage
        self._reader = reader
        self._new_id = new_id
        self._now = now
        self._clock = clock
        self._revision = revision
        self._base_path = base_path.encode()
        self._captures = captures
        self._families = ClientFamilies()

    def __call__(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """Answer one request: plainly where a standing record holds, else in the coroutine that this gives."""
        credentials = exchange.shared_headers.read
        if isinstance(credentials, RequestCredentials):
            caller = credentials.caller
            if (
                caller is not None
                and caller.revision == self._revision.number
                and self._clock() < self._keyring.trusted_until
                and self._now() < caller.until
            ):
                return self._again(exchange, caller)
        return self._first(exchange)

    def _again(self, exchange: Exchange, caller: Caller) -> Coroutine[Any, Any, None] | None:
        """A request like one before it, about whose caller nothing has changed."""
        request_id, now = self._new_id(), self._now()
        try:
            self._gate.check_door(caller.principal.key_id, exchange.client)
            self._keyring.touch(caller.principal.key_id)
            rest = self._generate(exchange, request_id, now, caller)
        except PenstockError as error:
            return self._refuse_once_known(
                ApiRequest(exchange, request_id, caller.endpoint, now, caller), error
            )
        except Exception:
            log.exception("internal error", extra={"request_id": request_id})
            return self._refuse_once_known(
                ApiRequest(exchange, request_id, caller.endpoint, now, caller), _broken()
            )
        else:
            if rest is not None:
                return self._later(ApiRequest(exchange, request_id, caller.endpoint, now, caller), rest)
        return None

    def _first(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """A request whose caller has to be looked at."""
        route, model_id = find_route(exchange.path)
        endpoint = endpoint_like(exchange.path) if route is None else route.endpoint
        visit = ApiRequest(exchange, self._new_id(), endpoint, self._now())
        return self._later(visit, partial(self._answer, visit, route, model_id))

    def reject(self, exchange: Exchange, error: PenstockError) -> None:
        """Answer a request that the server refused by the rules of the wire, before or instead of the handler."""
        route, _ = find_route(exchange.path)
        endpoint = endpoint_like(exchange.path) if route is None else route.endpoint
        visit = ApiRequest(exchange, self._new_id(), endpoint, self._now())
        visit.stands = not self._gate.shared or self._known(exchange) is None  # nobody can be asked here
        self._refuse(visit, error)

    # ---- routes

    async def _answer(self, visit: ApiRequest, route: Route | None, model_id: str | None) -> None:
        exchange = visit.exchange
        if route is None:
            raise RouteNotFound(f"There is no route {exchange.path[:200]}.")
        if exchange.method not in route.methods:
            if exchange.method == "GET" and wants_web_socket(exchange):
                raise UpgradeRefused("There are no web sockets here: send the request by POST, over HTTP.")
            allowed = ", ".join(route.methods)
            raise MethodNotAllowed(
                f"{exchange.method[:16]} is not allowed here; use {allowed}.", allow=allowed
            )
        endpoint = route.endpoint
        match route.action:
            case "hello":
                await self._learn(visit)
                self._reply(visit, _HELLO)
            case "models":
                await self._models(visit, model_id)
            case "usage":
                await self._usage(visit)
            case "check_connection":
                await self._check_connection(visit)
            case "generate" if endpoint is not None:
                caller = await self._caller(visit, endpoint)
                rest = self._generate(visit.exchange, visit.request_id, visit.now, caller)
                if rest is not None:
                    await rest()
            case "count_tokens" if endpoint is not None:
                await self._count_tokens(visit, endpoint)
            case "generate" | "count_tokens":
                raise TypeError(f"{route.path} has no endpoint")

    def _generate(
        self, exchange: Exchange, request_id: str, now: float, caller: Caller
    ) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """Read the body and hand over to the relay. Gives what does it where that has to wait."""
        started = self._clock()
        body = exchange.whole_body()
        if body is None:
            return partial(self._generate_later, exchange, request_id, now, caller, None, started)
        user_id, concurrent = caller.principal.account_id, caller.plan.concurrent_requests
        place = self._body_memory.hold(user_id, concurrent, len(body))
        try:
            envelope = self._reader.read_small(
                body, caller.endpoint.caller.body, caller.bounds, deviates=caller.client in DEVIATING
            )
            if envelope is not None:
                self._begin(exchange, request_id, now, caller, envelope, place, started)
                return None
        except BaseException:
            place.leave()
            raise
        place.leave()
        return partial(self._generate_later, exchange, request_id, now, caller, body, started)

    async def _generate_later(
        self,
        exchange: Exchange,
        request_id: str,
        now: float,
        caller: Caller,
        body: bytes | None,
        started: float,
    ) -> None:
        """The same for a body that is still on its way, or takes a thread to read."""
        principal, concurrent = caller.principal, caller.plan.concurrent_requests
        if body is None:
            place = self._body_memory.enter(exchange, principal, concurrent)
        else:
            place = self._body_memory.hold(principal.account_id, concurrent, len(body))
        try:
            if body is None:
                body = await exchange.body(place.arrived)
                place.shrink(len(body))
            envelope = await self._reader.read(
                body, caller.endpoint.caller.body, caller.bounds, deviates=caller.client in DEVIATING
            )
            self._begin(exchange, request_id, now, caller, envelope, place, started)
        except BaseException:
            place.leave()
            raise

    async def _later(self, visit: ApiRequest, rest: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What is left of a request; its errors become answers."""
        try:
            await rest()
        except PenstockError as error:
            self._note_refusal(visit, error)
            await self._learn(visit)
            self._refuse(visit, error)
        except Exception:
            log.exception("internal error", extra={"request_id": visit.request_id})
            await self._learn(visit)
            self._refuse(visit, _broken())

    def _refuse_once_known(self, visit: ApiRequest, error: PenstockError) -> Coroutine[Any, Any, None] | None:
        """Refuse: plainly where all that counts is here, else once it is known how the caller stands."""
        self._note_refusal(visit, error)
        if not self._gate.shared:
            self._refuse(visit, error)
            return None
        return self._refuse_later(visit, error)

    async def _refuse_later(self, visit: ApiRequest, error: PenstockError) -> None:
        await self._learn(visit)
        self._refuse(visit, error)

    async def _learn(self, visit: ApiRequest) -> None:
        """Ask how the caller stands with all servers, where others count too."""
        if self._gate.shared:
            principal = visit.principal or self._known(visit.exchange)
            plan = None if principal is None else self._plan_of(principal)
            own = None if plan is None else plan.own
            visit.stands = principal is None or await self._gate.refresh(principal.account_id, visit.now, own)

    def _begin(
        self,
        exchange: Exchange,
        request_id: str,
        now: float,
        caller: Caller,
        envelope: Envelope,
        place: Reservation,
        started: float,
    ) -> None:
        """Hand over to the relay. Raises what resolving the model raises."""
        standing = caller.standings.get(envelope.model)
        if standing is None:
            try:
                catalog = self._catalog()
                resolution = catalog.resolve(
                    envelope.model, caller.plan.id, caller.allowed, caller.endpoint.kind
                )
            except PenstockError as error:
                error.asked = Asked(envelope.model, stream=envelope.stream)
                raise
            standing = Standing(caller, resolution, model_end(catalog, resolution.model, self._base_path))
            if len(envelope.model) <= _LONGEST_NAME_KEPT:
                caller.standings.keep(envelope.model, standing)
        if caller.captured is not None:
            exchange = captured_exchange(exchange, self._captures, caller, request_id, now, envelope.body)
        self._relay.begin(
            self,
            exchange,
            standing,
            envelope,
            place,
            request_id=request_id,
            now=now,
            started=started,
        )

    # ---- what the relay tells

    def answered(self, call: Call) -> None:
        """The caller has had its answer, or as much of it as there was."""
        self._metrics.answered(call.standing.endpoint.name, 200)

    def refused(self, call: Call, error: PenstockError) -> None:
        """The call has ended with this error."""
        standing = call.standing
        visit = ApiRequest(call.exchange, call.request_id, standing.endpoint, call.now, standing.caller)
        envelope = call.envelope
        error.asked = Asked(envelope.model, standing.resolution.model.id, envelope.stream)
        self._note_refusal(visit, error)
        # The ledger has the others, from when they were counted.
        self._refuse(visit, error, recorded=call.day != 0 and not isinstance(error, CannotRecord))

    async def _count_tokens(self, visit: ApiRequest, endpoint: Endpoint) -> None:
        principal, plan = await self._admit(visit)
        self._gate.check_counting(principal.account_id)
        exchange = visit.exchange
        place = self._body_memory.enter(exchange, principal, plan.concurrent_requests)
        try:
            body = await exchange.body(place.arrived)
            place.shrink(len(body))
            counted = await self._count(visit, endpoint, principal, plan, body)
        finally:
            place.leave()
        await self._learn(visit)
        extra = [(b"x-penstock-token-count", counted.kind.encode())]
        if counted.simulated:
            extra.append((b"x-penstock-upstream", b"simulator"))
        self._reply(visit, counted.body, extra)

    async def _count(
        self, visit: ApiRequest, endpoint: Endpoint, principal: Principal, plan: Plan, body: bytes
    ) -> TokenCount:
        exchange = visit.exchange
        bounds = self._bounds(principal, plan)
        envelope = await self._reader.read(body, endpoint.caller.body, bounds, counting=True)
        asked = self._credentials(exchange).api_version(exchange, endpoint.caller)
        allowed = None if principal.models is None else frozenset(principal.models)
        resolution = self._catalog().resolve(envelope.model, plan.id, allowed, endpoint.kind)
        asker = self._asker(self._credentials(exchange), principal, plan)
        request = CountRequest(
            visit.request_id, principal.account_id, endpoint, envelope, resolution, asked, asker
        )
        return await self._counter.count(request)

    def _bounds(self, principal: Principal, plan: Plan) -> CostBounds:
        """What the caller may ask for: of other models only those of its plan and key."""
        allowed = None if principal.models is None else frozenset(principal.models)
        return self._reader.bounds(partial(self._catalog().holds, plan_id=plan.id, allowed=allowed))

    async def _models(self, visit: ApiRequest, model_id: str | None) -> None:
        principal, plan = await self._admit(visit)
        visit.stands = await self._gate.refresh(principal.account_id, visit.now, plan.own)
        allowed = None if principal.models is None else frozenset(principal.models)
        catalog = self._catalog()
        kind = self._families.listed_kind(visit.exchange.headers)
        if model_id is None:
            self._reply(visit, list_models(catalog, plan.id, allowed, page_of(visit.exchange.query), kind))
            return
        answer = one_model(catalog, plan.id, allowed, model_id, kind)
        if answer is None:
            raise ModelNotFound(catalog.not_found(model_id, plan.id, allowed, kind), param="model")
        self._reply(visit, answer)

    async def _usage(self, visit: ApiRequest) -> None:
        principal, _ = await self._admit(visit)
        self._gate.check_counting(principal.account_id, "questions about usage and tokens")
        asked = question_of(visit.exchange.query, visit.now)
        self._reply(visit, await self._tell_usage(principal.account_id, asked))

    async def _check_connection(self, visit: ApiRequest) -> None:
        principal, plan = await self._admit(visit)
        await self._learn(visit)
        exchange = visit.exchange
        if connection_check.wants_stream(exchange):
            head = self._head(visit)
            head[0] = (b"content-type", b"text/event-stream; charset=utf-8")
            exchange.start(200, [*head, (b"x-accel-buffering", b"no")])
            await connection_check.stream_check(exchange)
            self._metrics.answered(visit.label, 200)
            return
        allowed = None if principal.models is None else frozenset(principal.models)
        models = tuple(model.id for model in self._catalog().offered(plan.id, allowed))
        self._reply(
            visit,
            connection_check.check_connection(
                exchange, self._credentials(exchange).key, plan, models, visit.now
            ),
        )

    # ---- who calls

    async def _caller(self, visit: ApiRequest, endpoint: Endpoint) -> Caller:
        """Who calls this endpoint; kept for the next requests with these headers."""
        # before anything is looked up: what changes meanwhile makes this a record of the past
        revision = self._revision.number
        principal, plan = await self._admit(visit)
        credentials = self._credentials(visit.exchange)
        asked = NO_VERSION
        if endpoint.caller.api_version is not None:
            asked = credentials.api_version(visit.exchange, endpoint.caller)
        expires = principal.expires_at
        caller = Caller(
            endpoint=endpoint,
            principal=principal,
            plan=plan,
            bounds=self._bounds(principal, plan),
            client=credentials.client,
            strict=credentials.strict,
            patience=credentials.patience,
            asked=asked,
            revision=revision,
            until=inf if expires is None else expires / 1000,
        )
        if self._captures is not None:
            caller.captured = self._captures.order_for(principal.account_id, principal.key_id)
        caller.asker = self._asker(credentials, principal, plan)
        caller.causes = causes_named(credentials.wishes[1].decode("latin-1"))
        if self._keyring.remembered(credentials.mark) is principal:
            credentials.caller = caller
        return caller

    def _asker(self, credentials: RequestCredentials, principal: Principal, plan: Plan) -> Asker:
        """Who asks, for the choice of a provider. Raises ``InvalidRequest`` where that is asked which is not offered."""
        said, preference = credentials.wishes[0], None
        if said and self._relay.router.preferences:
            preference = read_preference(said, "X-Penstock-Provider")
        return Asker(
            principal.account_id,
            credentials.session,
            plan.id,
            credentials.client,
            plan.requires,
            with_tags(preference, plan.requires),
        )

    async def _admit(self, visit: ApiRequest) -> tuple[Principal, Plan]:
        """The caller and its plan, from the headers alone: nothing of the body is read for a caller without a key."""
        exchange, gate = visit.exchange, self._gate
        try:
            credentials = self._credentials(exchange)
            principal = self._keyring.remembered(credentials.mark) or await self._keyring.identify(
                credentials.key
            )
        except CallerError:
            # After the look-up, so that others behind the same address who have a key are not locked out with this one.
            gate.check_door(None, exchange.client)
            raise
        plan = self._plan_of(principal)
        if plan is None:
            log.error("user on a plan that is not in the catalogue", extra={"plan": principal.plan_id})
            raise Unavailable("Your plan is not set up; the operator has been told.", retry_after=30)
        visit.principal, visit.plan = principal, plan
        if plan.own is not None:
            await self._gate.refresh(principal.account_id, visit.now, plan.own)
        check(principal, exchange.client, visit.now)
        gate.check_door(principal.key_id, exchange.client)
        self._keyring.touch(principal.key_id)
        return principal, plan

    def _plan_of(self, principal: Principal) -> Plan | None:
        """The plan, narrowed by the key's own limits where it has any; None where the catalogue does not have it."""
        plan = self._catalog().plans.get(principal.plan_id)
        daily, concurrent = principal.daily_requests, principal.concurrent_requests
        if plan is None or (daily is None and concurrent is None):
            return plan
        return plan.for_key(principal.account_id, principal.key_id, daily, concurrent)

    def _credentials(self, exchange: Exchange) -> RequestCredentials:
        """Raises ``MissingKey`` or ``InvalidKey``."""
        return request_credentials(exchange, self._keyring.mark, self._families)

    def _refuse_and_note(self, visit: ApiRequest, error: PenstockError) -> None:
        self._note_refusal(visit, error)
        self._refuse(visit, error)

    def _note_refusal(self, visit: ApiRequest, error: PenstockError) -> None:
        """Refused requests are limited themselves; the caller's own 429 and a slow network are not refusals."""
        if isinstance(error, CallerError) and not isinstance(error, _NOT_HELD_AGAINST):
            key_id = None if visit.principal is None else visit.principal.key_id
            self._gate.refused(key_id, visit.exchange.client)

    # ---- answers

    def _reply(self, visit: ApiRequest, body: bytes, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
        head = self._head(visit)
        head.extend(extra)
        head.append((b"content-length", b"%d" % len(body)))
        visit.exchange.start(200, head)
        visit.exchange.end(body)
        self._metrics.answered(visit.label, 200)

    def _refuse(self, visit: ApiRequest, error: PenstockError, *, recorded: bool = False) -> None:
        """Answer with an error. What the ledger has not ``recorded`` is noted as refused, so that it has a receipt, too."""
        exchange = visit.exchange
        if exchange.lost:
            return
        if exchange.started:
            exchange.abort()
            return
        if visit.principal is None:
            visit.principal = self._known(exchange)
        head = self._head(visit)
        head.extend(error_headers(error, self._base_path, self._receipts.address(visit)))
        body = error_body(error, visit.request_id, self._families, exchange.headers)
        head.append((b"content-length", b"%d" % len(body)))
        exchange.start(error.status, head)
        exchange.end(body)
        self._metrics.answered(visit.label, error.status)
        if not recorded:
            self._receipts.note(visit, error)

    def _head(self, visit: ApiRequest) -> HeaderList:
        request_id = visit.request_id.encode()
        head: HeaderList = [_JSON, _NO_STORE, NOSNIFF, (b"x-request-id", request_id)]
        caller = None if visit.endpoint is None else visit.endpoint.caller
        if caller is not None and caller.response_headers is not None:
            head.extend(caller.response_headers(request_id))
        if not visit.stands:
            return head
        state = self._state(visit)
        head.extend(limit_headers(state, visit.now))
        if caller is not None and caller.limit_headers is not None:
            left = b"%d" % max(0, state.remaining)
            head.extend(caller.limit_headers(state.limit, state.reset, left))
        return head

    def _state(self, visit: ApiRequest) -> LimitState:
        """The caller's own limits, or for one without a key the window that guards the door."""
        principal = visit.principal or self._known(visit.exchange)
        plan = None if principal is None else self._plan_of(principal)
        if principal is None or plan is None:
            return self._gate.door_state(visit.exchange.client, visit.now)
        return self._gate.state(principal.account_id, plan, visit.now)

    def _known(self, exchange: Exchange) -> Principal | None:
        """The caller of a route that asks for no key, if its key was looked up a moment ago."""
        try:
            credentials = self._credentials(exchange)
        except CallerError:
            return None
        return self._keyring.remembered(credentials.mark)
