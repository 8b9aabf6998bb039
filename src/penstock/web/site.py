"""The pages and the operator's endpoints: the landing page, health, readiness and metrics."""

import hmac
from collections.abc import Callable
from ipaddress import ip_address

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.domain.catalog import Catalog
from penstock.metrics import Metrics

_HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
            b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class SecurityHeaders:
    """Adds the same protective headers to every page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with the headers added to the response's own."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, sending)


class Site:
    """The pages of one serving process."""

    def __init__(
        self,
        *,
        brand: str,
        public_url: str,
        catalog: Callable[[], Catalog],
        metrics: Metrics,
        metrics_token: str,
        ready: Callable[[], str],
    ) -> None:
        """``public_url`` has no slash at its end, or is '' where callers are told the address they used themselves.

        ``ready`` gives '' or why no traffic should come.
        """
        self._brand = brand
        self._public_url = public_url
        self._catalog = catalog
        self._metrics = metrics
        self._token = metrics_token
        self._ready = ready
        self._templates = Environment(
            loader=PackageLoader("penstock.web"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
        )

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._home),
                Route("/healthz", self._alive),
                Route("/readyz", self._readiness),
                Route("/metrics", self._measurements),
                Mount("/static", StaticFiles(packages=[("penstock.web", "static")])),
            ],
            middleware=[Middleware(SecurityHeaders)],
        )

    async def _home(self, request: Request) -> Response:
        catalog = self._catalog()
        url = self._public_url or f"{request.url.scheme}://{request.url.netloc}"
        plans = list(catalog.plans.values())
        models = [model.id for model in catalog.models.values() if catalog.served(model)]
        page = self._templates.get_template("home.html").render(
            brand=self._brand,
            base_url=f"{url}/api/v1",
            simulated=catalog.simulated,
            models=models,
            first=next((model for plan in plans for model in plan.models if model in models), "MODEL"),
            plans=plans,
        )
        return HTMLResponse(page, headers={"cache-control": "no-cache"})

    async def _alive(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})

    async def _readiness(self, _request: Request) -> Response:
        why_not = self._ready()
        return PlainTextResponse(
            f"{why_not or 'ready'}\n",
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
