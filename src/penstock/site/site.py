"""The site: all pages put together, and the operator's endpoints for health, readiness and metrics."""

import hmac
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from penstock.errors import PenstockError
from penstock.operations.health import Health
from penstock.operations.metrics import SharedMetrics
from penstock.site.admin.admin_site import AdminSite
from penstock.site.admin_api.api import BesidePages
from penstock.site.admin_api.dispatch import AdminApi
from penstock.site.brand import BrandFiles
from penstock.site.context import SiteContext
from penstock.site.dashboard_pages import DashboardPages
from penstock.site.document_pages import DocumentPages
from penstock.site.error_pages import ErrorPages
from penstock.site.key_pages import KeyPages
from penstock.site.notice_board import FreshBoard
from penstock.site.oauth.pages import OAuthPages
from penstock.site.oauth.providers import OAuthAsking
from penstock.site.playground_pages import PlaygroundPages
from penstock.site.protection import BelowBasePath, Hsts, ReadableRequests, SecurityHeaders
from penstock.site.public_pages import PublicPages
from penstock.site.session import SessionMiddleware
from penstock.site.settings_pages import SettingsPages
from penstock.site.sign_in_pages import SignInPages
from penstock.site.usage_pages import UsagePages

_FOR_A_YEAR = b"public, max-age=31536000, immutable"
_ASKED_AGAIN = b"no-cache"
"""For what a script of ours imports: its address stays the same when its content changes."""


class Assets:
    """Static files. Those whose address changes with their content are kept for a year."""

    def __init__(self) -> None:
        self._files = StaticFiles(packages=[("penstock.site", "static")])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file."""
        named = b"v=" in scope.get("query_string", b"")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in {200, 304}:
                kept = _FOR_A_YEAR if named else _ASKED_AGAIN
                message["headers"] = [*message.get("headers", ()), (b"cache-control", kept)]
            await send(message)

        await self._files(scope, receive, sending)


class Site:
    """The pages of one serving process."""

    def __init__(  # noqa: PLR0913 - what the pages are made of, each named
        self,
        context: SiteContext,
        *,
        admin: AdminSite,
        admin_api: AdminApi,
        oauth: OAuthAsking,
        mail_queued: Callable[[], None],
        keep_keys: bool,
        texts: Path,
        brand: BrandFiles,
        metrics: SharedMetrics,
        metrics_token: str,
        ready: Callable[[], str],
        health: Health,
        hsts: Hsts,
    ) -> None:
        """``ready`` gives '' or why no traffic should come.

        ``texts`` is where the operator's own terms and the like are looked for.
        """
        self._context = context
        self._groups = (
            PublicPages(context, texts),
            DocumentPages(context),
            SignInPages(context),
            OAuthPages(context, oauth),
            DashboardPages(context, mail_queued),
            UsagePages(context),
            KeyPages(context, keep=keep_keys),
            PlaygroundPages(context),
            SettingsPages(context, mail_queued),
        )
        self._brand = brand
        self._admin = admin
        self.admin_api = admin_api
        self._metrics = metrics
        self._token = metrics_token
        self._ready = ready
        self._health = health
        self._hsts = hsts

    def app(self) -> Starlette:
        """The ASGI application."""
        context = self._context
        errors = ErrorPages(context.pages)
        app = Starlette(
            routes=[
                *(route for group in self._groups for route in group.routes()),
                *self._brand.routes(),
                *self._admin.routes(),
                Route("/healthz", self._alive),
                Route("/readyz", self._readiness),
                Route("/metrics", self._measurements),
                Mount("/static", Assets()),
            ],
            middleware=[
                Middleware(
                    SessionMiddleware,
                    database=context.database,
                    lifetime=context.lifetime,
                    now=context.clock,
                    public_url=context.pages.public_url,
                    secrets_file=context.secrets_file,
                ),
                Middleware(FreshBoard, board=context.board),
            ],
            exception_handlers={
                PenstockError: errors.ours,
                HTTPException: errors.http,
                ClientDisconnect: errors.left,
                Exception: errors.broken,
            },
        )
        # Outside of everything else, what answers for a failed page included.
        pages = ReadableRequests(app.build_middleware_stack())
        stack = SecurityHeaders(BesidePages(self.admin_api.app, pages), self._hsts)
        base_path = context.pages.base_path
        app.middleware_stack = BelowBasePath(stack, base_path) if base_path else stack
        return app

    async def _alive(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})

    async def _readiness(self, _request: Request) -> Response:
        """Names the parts that fail, and stays ready: they are every server's, so to send callers away helps none."""
        why_not = self._ready()
        failing = [f"{part.name} does not work\n" for part in self._health.look() if not part.works]
        return PlainTextResponse(
            f"{why_not or 'ready'}\n{''.join(failing)}",
            status_code=503 if why_not else 200,
            headers={"cache-control": "no-store"},
        )

    async def _measurements(self, request: Request) -> Response:
        """Open to loopback callers, and to those with the token; unknown to all others."""
        if not self._may_measure(request):
            return PlainTextResponse("Not Found\n", status_code=404)
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _may_measure(self, request: Request) -> bool:
        if self._token:
            given = request.headers.get("authorization", "")
            return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())
        # A proxy on this machine is a loopback caller too, but not the one who asks.
        forwarded = any(
            name in request.headers for name in ("forwarded", "x-forwarded-for", "via", "x-real-ip")
        )
        return not forwarded and request.client is not None and _loopback(request.client.host)


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
