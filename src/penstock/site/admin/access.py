"""Access to the admin pages: each with its permission, asked before anything else; what is refused is in the trail.

Whoever is not of the staff is told that there is no such page. Where the service is reached by https the staff need a second
factor, unless the operator has turned that off.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.domain.accounts import credentials
from penstock.domain.staff.roles import Permission, may, require
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError
from penstock.site.context import SiteContext
from penstock.site.error_pages import PageNotFound
from penstock.site.session import Viewer, address_of, signed_in

PageHandler = Callable[[Request], Awaitable[Response]]


class FactorMissing(CallerError):
    """Staff need a second factor here."""

    status = 403
    code = "second_factor_missing"


class AdminRoute(msgspec.Struct, frozen=True):
    """A page, and what its visitor must be allowed to do."""

    path: str
    handler: PageHandler
    permission: Permission
    methods: tuple[str, ...] = ("GET",)


def routes_of(context: SiteContext, pages: Sequence[AdminRoute], *, factor: bool) -> list[Route]:
    """The routes, each behind its permission. ``factor``: a second factor is wanted."""
    return [
        Route(page.path, _guarded(context, page, factor=factor), methods=list(page.methods)) for page in pages
    ]


def _guarded(context: SiteContext, page: AdminRoute, *, factor: bool) -> PageHandler:
    async def serve(request: Request) -> Response:
        viewer = signed_in(request)
        if not viewer.user.role:
            raise PageNotFound("There is no page here.")
        if factor:
            async with context.database.connect() as conn:
                kept = await credentials.credentials_of(conn, viewer.user.id)
            if not kept.second_factor:
                raise FactorMissing(
                    "The admin pages want a second factor. Set one up under Settings, and come back."
                )
        if not may(viewer.user.role, page.permission):
            await _note_refusal(request, context, viewer)
        require(viewer.user.role, page.permission)
        return await page.handler(request)

    return serve


async def _note_refusal(request: Request, context: SiteContext, viewer: Viewer) -> None:
    async with context.database.transaction() as conn:
        await entries.write(
            conn,
            actor_of(request, viewer),
            "page_refused",
            Subject("page", f"{request.method} {request.url.path}"),
            reason=f"role {viewer.user.role}",
            result="refused",
            now=context.now(),
            entropy=context.entropy,
        )


def actor_of(request: Request, viewer: Viewer) -> Actor:
    """Who acts by this request, for the trail."""
    agent = request.headers.get("user-agent", "")
    return Actor("user", viewer.user.id, viewer.user.email, address_of(request), agent)


def allows(viewer: Viewer, permission: Permission) -> bool:
    """Whether the one who looks may do that; a button that would be refused is not shown."""
    return may(viewer.user.role, permission)
