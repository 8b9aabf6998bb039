"""The admin site: its groups of pages put together, each page behind its permission."""

from starlette.routing import Route

from penstock.site.admin.access import AdminRoute, routes_of
from penstock.site.admin.account_key_pages import AccountKeyPages
from penstock.site.admin.capture_pages import CapturePages
from penstock.site.admin.catalog_pages import CatalogPages
from penstock.site.admin.context import AdminContext
from penstock.site.admin.notice_pages import NoticePages
from penstock.site.admin.notification_pages import NotificationPages
from penstock.site.admin.operation_pages import OperationPages
from penstock.site.admin.overview_pages import OverviewPages
from penstock.site.admin.people_pages import PeoplePages
from penstock.site.admin.provider_key_pages import ProviderKeyPages
from penstock.site.admin.provider_pages import ProviderPages
from penstock.site.admin.request_pages import RequestPages
from penstock.site.admin.staff_pages import StaffPages
from penstock.site.admin.token_pages import TokenPages
from penstock.site.admin.trail_pages import TrailPages


class AdminSite:
    """All pages under ``/admin``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._groups = (
            OverviewPages(context),
            AccountKeyPages(context),  # /admin/users/new is no account
            PeoplePages(context),
            RequestPages(context),
            ProviderPages(context),
            ProviderKeyPages(context),
            CatalogPages(context),
            StaffPages(context),
            TokenPages(context),
            TrailPages(context),
            OperationPages(context),
            NoticePages(context),
            CapturePages(context),
            NotificationPages(context),
        )

    def pages(self) -> list[AdminRoute]:
        """Every page with the permission that it wants."""
        return [page for group in self._groups for page in group.pages()]

    def routes(self) -> list[Route]:
        """The routes, guarded."""
        settings = self._context.operation.settings
        factor = settings.staff_factor and settings.public_url.startswith("https:")
        return routes_of(self._context.site, self.pages(), factor=factor)
