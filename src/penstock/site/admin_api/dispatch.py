"""Dispatch of the admin API: a request read and checked, its operation called in one transaction, and answered as JSON.

A write with an ``Idempotency-Key`` is done once: the claim of the key, what is changed and the answer are one transaction.
``?dry_run=1`` does all of it and takes it back. Errors say what is wrong, with whose fault it is, in one flat object.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from penstock.core import api_key
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog_managers import ManagedElsewhere
from penstock.domain.catalog.toml_document import CatalogError
from penstock.domain.staff import idempotency
from penstock.domain.staff.idempotency import Claimed, KeptAnswer
from penstock.domain.staff.tokens import AdminToken
from penstock.domain.trail.entries import Actor
from penstock.errors import CallerError, InternalError, InvalidRequest, PenstockError, RequestTooLarge
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.access import AdminRates, admit
from penstock.site.admin_api.parity import BASE, PARITY, ParityRow

log = logging.getLogger("penstock.site.admin_api")

Query = TypeVar("Query", bound=msgspec.Struct)
Body = TypeVar("Body", bound=msgspec.Struct)
Item = TypeVar("Item")
_KEY_HEADER: Final = "idempotency-key"
_MAX_KEY: Final = 255
_NUL: Final = (b"\0", b"\\u0000")
"""What no database of ours stores, as it may stand in JSON."""
_encode = msgspec.json.Encoder().encode


class NotThere(CallerError):
    """There is no such thing, or no such route."""

    status = 404
    code = "not_found"


class InvalidCatalog(CallerError):
    """The document cannot be applied."""

    status = 422
    code = "invalid_catalog"


class ManagedByFile(CallerError):
    """What would be changed is managed by a file."""

    status = 409
    code = "managed_by_file"


class StaleRevision(CallerError):
    """The catalogue is not any more what ``If-Match`` says."""

    status = 412
    code = "stale_revision"


class ChangedMeanwhile(CallerError):
    """Somebody has changed the same at this moment."""

    status = 409
    code = "changed_meanwhile"


class WrongMethod(CallerError):
    """The route is not called by this method."""

    status = 405
    code = "method_not_allowed"


class AdminError(msgspec.Struct, frozen=True):
    """The body of an answer that is an error. ``fault`` says who can mend it: ``caller``, ``us`` or ``provider``."""

    error: str
    code: str
    fault: str
    field: str | None
    request_id: str


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No field at all."""


class Listed(msgspec.Struct, Generic[Item], frozen=True):
    """A page of a list. ``next`` goes into ``after`` for the page behind it, null at the end."""

    data: list[Item]
    next: str | None = None


class AdminCall(msgspec.Struct, Generic[Query, Body], frozen=True):
    """One call of an operation, read and admitted."""

    token: AdminToken
    actor: Actor
    path: Mapping[str, str]
    query: Query
    body: Body


class Bound(msgspec.Struct, Generic[Query, Body], frozen=True):
    """An operation with what does it, in the transaction that it is given."""

    handler: Callable[[AdminCall[Query, Body], AsyncConnection], Awaitable[object]]
    answer: Any
    query: type[Query]
    body: type[Body]


class BoundApart(msgspec.Struct, Generic[Query, Body], frozen=True):
    """The same of one that waits for somebody else in between, and so opens its own transactions."""

    handler: Callable[[AdminCall[Query, Body]], Awaitable[object]]
    answer: Any
    query: type[Query]
    body: type[Body]


BoundOperation = Bound[Any, Any] | BoundApart[Any, Any]


class _TakenBack(Exception):
    """What a dry run would have answered."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class AdminApi:
    """The ASGI application of all routes."""

    def __init__(self, context: AdminContext, operations: Mapping[str, BoundOperation]) -> None:
        """``operations`` has every row of the table that has a route, by its name."""
        self._context = context
        self._site = context.site
        settings = context.operation.settings
        self._rates = AdminRates(settings.admin_api_per_minute, context.site.clock)
        self._most_body = settings.admin_api_body
        self._keep_ms = int(settings.admin_api_answers * 1000)
        self.operations = operations
        self.rows = tuple(row for row in PARITY if row.route)

    @cached_property
    def app(self) -> Starlette:
        """The ASGI application, made with the site's."""
        return Starlette(
            routes=[self._route(row, self.operations[row.name]) for row in self.rows],
            exception_handlers={
                PenstockError: self._ours,
                HTTPException: self._http,
                ClientDisconnect: self._left,
                Exception: self._broken,
            },
        )

    def _route(self, row: ParityRow, bound: BoundOperation) -> Route:
        method, _, path = row.route.partition(" ")

        async def serve(request: Request) -> Response:
            return await self._serve(request, row, bound)

        return Route(BASE + path, serve, methods=[method])

    async def _serve(self, request: Request, row: ParityRow, bound: BoundOperation) -> Response:
        request_id = self._request_id(request)
        token, actor = await admit(request, self._context, row, self._rates, request_id)
        values = dict(request.query_params)
        dry_run = row.writes and _flag(values)
        body = await self._read(request)
        if "\0" in request.scope["path"] or any("\0" in text for text in values.values()) or _has_nul(body):
            raise InvalidRequest("The request has a character (NUL) in it that cannot be stored.")
        call: AdminCall[Any, Any] = AdminCall(
            token, actor, request.path_params, _converted(values, bound.query), _decoded(body, bound.body)
        )
        headers = {"x-request-id": request_id, "cache-control": "no-store"}
        try:
            if not row.writes and isinstance(bound, Bound):
                async with self._site.database.connect() as conn:
                    answer = await bound.handler(call, conn)
                    if row.scope == "catalog:read":
                        headers["etag"] = f'"{await catalog_store.revision(conn)}"'
                return _json(200, _encode(answer), headers)
            claimed = None if dry_run else _claim(request, token, body)
            matched = request.headers.get("if-match") if row.scope == "catalog:write" else None
            if isinstance(bound, Bound):
                kept = await self._write(call, bound, claimed, matched, dry_run=dry_run)
            elif dry_run:
                raise InvalidRequest("This cannot be tried without doing it.", param="dry_run")
            else:
                kept = await self._write_apart(call, bound, claimed)
        except CatalogError as error:
            raise _catalog_error(error) from error
        except IntegrityError as error:
            raise ChangedMeanwhile(
                "Somebody has changed the same at this moment. Look, and send it again."
            ) from error
        if not dry_run:
            self._context.operation.mail_queued()
            self._site.board.forget()
        return _json(kept.status, kept.body, headers)

    # ---- writes

    async def _write(
        self,
        call: AdminCall[Any, Any],
        bound: Bound[Any, Any],
        claimed: Claimed | None,
        matched: str | None,
        *,
        dry_run: bool,
    ) -> KeptAnswer:
        site = self._site
        acted = False
        try:
            async with site.database.transaction() as conn:
                if claimed is not None and (found := await self._claim(conn, claimed)) is not None:
                    return found
                await _match(matched, conn)
                acted = True
                answer = KeptAnswer(200, _encode(await bound.handler(call, conn)))
                if dry_run:
                    raise _TakenBack(answer.body)
                if claimed is not None:
                    await idempotency.keep_answer(conn, site.secrets_file, claimed, answer, site.entropy)
        except _TakenBack as taken:
            return KeptAnswer(200, taken.body)
        except (CallerError, CatalogError) as error:
            wrong = _catalog_error(error) if isinstance(error, CatalogError) else error
            if claimed is not None and acted:
                await self._keep_error(claimed, wrong, call.actor.request_id)
            raise wrong from error
        return answer

    async def _write_apart(
        self, call: AdminCall[Any, Any], bound: BoundApart[Any, Any], claimed: Claimed | None
    ) -> KeptAnswer:
        """What is no single transaction: the claim comes first, and stays where the server is stopped in between."""
        site = self._site
        if claimed is not None:
            async with site.database.transaction() as conn:
                if (found := await self._claim(conn, claimed)) is not None:
                    return found
        done = False
        try:
            answer = KeptAnswer(200, _encode(await bound.handler(call)))
            done = True
        finally:
            if claimed is not None and not done:
                async with site.database.transaction() as conn:
                    await idempotency.give_up(conn, claimed)
        if claimed is not None:
            async with site.database.transaction() as conn:
                await idempotency.keep_answer(conn, site.secrets_file, claimed, answer, site.entropy)
        return answer

    async def _claim(self, conn: AsyncConnection, claimed: Claimed) -> KeptAnswer | None:
        return await idempotency.claim(
            conn, self._site.secrets_file, claimed, now=self._site.now(), keep_ms=self._keep_ms
        )

    async def _keep_error(self, claimed: Claimed, error: PenstockError, request_id: str) -> None:
        answer = KeptAnswer(error.status, _encode(_told(error, request_id)))
        async with self._site.database.transaction() as conn:
            if await self._claim(conn, claimed) is None:
                await idempotency.keep_answer(
                    conn, self._site.secrets_file, claimed, answer, self._site.entropy
                )

    # ---- requests

    def _request_id(self, request: Request) -> str:
        request.state.request_id = id = api_key.identifier("adm", self._site.entropy(16))
        return id

    async def _read(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._most_body:
                raise RequestTooLarge(f"A body has at most {self._most_body} bytes (admin_api_body).")
        return bytes(body)

    # ---- errors

    async def _ours(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, PenstockError):
            raise error
        return self._refused(request, error)

    async def _http(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == 405:
            answer = self._refused(request, WrongMethod(f"This route is not called by {request.method}."))
            answer.headers["allow"] = ", ".join(self._allowed(request.scope))
            return answer
        return self._refused(request, NotThere("There is no such route; see /openapi.json."))

    def _allowed(self, scope: Scope) -> list[str]:
        """By which methods the path is called: each of them is a route of its own."""
        routes = [route for route in self.app.routes if route.matches(scope)[0] is not Match.NONE]
        return sorted(
            {method for route in routes if isinstance(route, Route) for method in route.methods or ()}
        )

    async def _left(self, _request: Request, _error: Exception) -> Response:
        return Response(status_code=400)  # which nobody hears

    async def _broken(self, request: Request, error: Exception) -> Response:
        log.error("a request to the admin API failed", exc_info=error)
        return self._refused(request, InternalError("Something went wrong here; the operator has been told."))

    def _refused(self, request: Request, error: PenstockError) -> Response:
        id: str = getattr(request.state, "request_id", "") or self._request_id(request)
        headers = {"x-request-id": id, "cache-control": "no-store"}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        if error.status == 401:
            headers["www-authenticate"] = "Bearer"
        return _json(error.status, _encode(_told(error, id)), headers)


def _told(error: PenstockError, request_id: str) -> AdminError:
    return AdminError(error.message, error.code, error.fault.value, error.param, request_id)


def _catalog_error(error: CatalogError) -> CallerError:
    text = "; ".join(error.problems)
    return ManagedByFile(text) if isinstance(error, ManagedElsewhere) else InvalidCatalog(text)


def _json(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    return Response(body, status, media_type="application/json", headers=dict(headers))


def _flag(values: dict[str, str]) -> bool:
    text = values.pop("dry_run", "")
    if text not in ("", "0", "1", "false", "true"):
        raise InvalidRequest("dry_run is 1 or 0.", param="dry_run")
    return text in ("1", "true")


def _has_nul(body: bytes) -> bool:
    return any(mark in body for mark in _NUL)


def _converted(values: dict[str, str], kind: type[Query]) -> Query:
    try:
        return msgspec.convert(values, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The query is not one of this route: {error}.", param=_field(error)) from None


def _decoded(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not one of this route: {error}.", param=_field(error)) from None


def _field(error: Exception) -> str | None:
    """The field that msgspec's text names."""
    _, there, path = str(error).partition(" - at `$.")
    return path.partition("`")[0] if there else None


def _claim(request: Request, token: AdminToken, body: bytes) -> Claimed | None:
    key = request.headers.get(_KEY_HEADER)
    if key is None:
        return None
    if not (0 < len(key) <= _MAX_KEY and key.isprintable() and key.isascii()):
        raise InvalidRequest(
            f"An Idempotency-Key has 1 to {_MAX_KEY} printable characters.", param=_KEY_HEADER
        )
    about = f"{request.method} {request.scope['path']}?{request.url.query}\n".encode()
    return Claimed(token.id, key, hashlib.sha256(about + body).digest())


async def _match(wanted: str | None, conn: AsyncConnection) -> None:
    if wanted is not None and wanted.strip('" ') not in ("*", str(await catalog_store.revision(conn))):
        raise StaleRevision(
            "The catalogue has changed since you looked: read it again, and send what you want of it."
        )
