"""The admin API put together: its groups of operations, and the path by which it is reached beside the pages."""

from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.capture_routes import CaptureRoutes
from penstock.site.admin_api.catalog_routes import CatalogRoutes
from penstock.site.admin_api.dispatch import AdminApi
from penstock.site.admin_api.notice_routes import NoticeRoutes
from penstock.site.admin_api.outward_routes import OutwardRoutes
from penstock.site.admin_api.parity import BASE
from penstock.site.admin_api.people_routes import PeopleRoutes
from penstock.site.admin_api.provider_key_routes import ProviderKeyRoutes
from penstock.site.admin_api.service_routes import ServiceRoutes


def admin_api(context: AdminContext) -> AdminApi:
    """All of it."""
    groups = (
        PeopleRoutes(context),
        CatalogRoutes(context),
        ProviderKeyRoutes(context),
        NoticeRoutes(context),
        CaptureRoutes(context),
        ServiceRoutes(context),
        OutwardRoutes(context),
    )
    return AdminApi(context, {name: bound for group in groups for name, bound in group.operations().items()})


class BesidePages:
    """What comes to the admin API goes there, before any cookie is looked at; all else to the pages."""

    def __init__(self, api: ASGIApp, pages: ASGIApp) -> None:
        self._api = api
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        path: str = scope.get("path", "")
        ours = scope["type"] == "http" and (path == BASE or path.startswith(f"{BASE}/"))
        await (self._api if ours else self._pages)(scope, receive, send)
