"""The overview: the last day beside the usual one, and what needs somebody, each with the way to its mend."""

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.core.amounts import amount
from penstock.domain.notifications import staff_events
from penstock.domain.notifications.staff_events import StaffEvent
from penstock.domain.notifications.watch import SIGN_UPS
from penstock.domain.staff import overview
from penstock.domain.staff.overview import Day, Waiting
from penstock.site.admin.access import AdminRoute
from penstock.site.admin.context import AdminContext

_TROUBLED = 0.2
"""Of a provider's requests: from this share of failed ones on it needs somebody."""
_FEW = 5
"""Fewer requests than these say nothing of a provider."""


_ELSEWHERE: Final = frozenset({"mail.failing", "service.part_down", "ledger.difference", "model.sunset_near"})
"""Events that the overview tells of by itself, or that are for later."""
_EVENTS: Final = ("/admin/notifications", "Look at what lasts")
_PLACES: Final = {
    "export.failing": ("/admin/exports", "Look at the exports"),
    "trail.broken": ("/admin/audit", "Verify the trail"),
    "backup.old": ("/admin/jobs", "penstock backup"),
    "job.late": ("/admin/jobs", "Look at the jobs"),
}


class _Need(msgspec.Struct, frozen=True):
    """Something that needs somebody: how bad it is, what it is, and where it is mended."""

    level: str
    text: str
    path: str
    mend: str


class OverviewPages:
    """The first page of the staff."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [AdminRoute("/admin", self.overview, "read")]

    async def overview(self, request: Request) -> Response:
        """The page."""
        site = self._context.site
        now = site.now()
        async with site.database.connect() as conn:
            day = await overview.last_day(conn, now=now)
            waiting = await overview.waiting(conn, now=now)
            lasting = await staff_events.lasting_events(conn)
        return site.pages.render(
            request,
            "admin/overview.html",
            {
                "day": day,
                "needs": sorted(
                    self._needs(day, waiting) + _of_events(lasting), key=lambda it: it.level != "bad"
                ),
                "running": len(self._context.operation.running()),
                "served": self._served(),
            },
        )

    def _served(self) -> tuple[int, int]:
        catalog = self._context.site.catalog()
        models = list(catalog.models.values())
        return sum(1 for model in models if catalog.served(model)), len(models)

    def _needs(self, day: Day, waiting: Waiting) -> list[_Need]:
        """What needs somebody."""
        operation = self._context.operation
        needs = [
            _Need("bad", f"{part.name} does not work", "/admin/jobs", "Look at the parts")
            for part in operation.health.look()
            if not part.works
        ]
        if operation.health.differences:
            text = f"Yesterday's counts differ from the ledger in {amount(operation.health.differences, 'place')}"
            needs.append(_Need("bad", text, "/admin/jobs", "penstock reconcile"))
        needs += self._of_providers(day)
        needs += self._of_catalog()
        if waiting.mails_failing or waiting.mails_given_up:
            said = [_mails(waiting.mails_failing, "waits after a failure", "wait after a failure")]
            said += [_mails(waiting.mails_given_up, "was given up in a week", "were given up in a week")]
            text = ", ".join(part for part in said if part)
            text += f": {waiting.mail_error}" if waiting.mail_error else ""
            needs.append(
                _Need("bad" if waiting.mails_given_up else "warn", text, "/admin/mail", "Look at the mails")
            )
        if waiting.wishes:
            who = "One account asks" if waiting.wishes == 1 else f"{waiting.wishes} accounts ask"
            needs.append(_Need("warn", f"{who} for another plan", "/admin/users?state=wish", "Set plans"))
        return needs

    def _of_providers(self, day: Day) -> list[_Need]:
        needs: list[_Need] = []
        for it in day.providers:
            if it.refused:
                text = f"{it.provider} refused our credential {amount(it.refused, 'time')} in 24 hours"
                needs.append(_Need("bad", text, f"/admin/providers/{it.provider}", "Look at the provider"))
            elif it.requests >= _FEW and it.share >= _TROUBLED:
                text = f"{it.provider} failed {it.trouble} of {amount(it.requests, 'request')} in 24 hours"
                needs.append(_Need("bad", text, f"/admin/providers/{it.provider}", "Look at the provider"))
        return needs

    def _of_catalog(self) -> list[_Need]:
        settings = self._context.operation.settings
        catalog = self._context.site.catalog()
        needs: list[_Need] = []
        trouble = catalog.plan_trouble(settings.signup_plan) if settings.signup == "open" else None
        if trouble:
            needs.append(_Need("bad", trouble[0].upper() + trouble[1:], "/admin/plans", "Look at the plans"))
        if catalog.simulated:
            text = "No provider has a key: every answer is simulated"
            needs.append(_Need("warn", text, "/admin/providers", "Look at the providers"))
            return needs
        sold = {name for plan in catalog.plans.values() for name in plan.models}
        unserved = sorted(
            model.id for model in catalog.models.values() if model.id in sold and not catalog.served(model)
        )
        if unserved:
            few = ", ".join(unserved[:3]) + (" and more" if len(unserved) > 3 else "")
            many = amount(len(unserved), "model")
            text = f"Plans have {many} that no provider serves: {few}"
            needs.append(_Need("warn", text, "/admin/models?served=no", "Look at the models"))
        return needs


def _of_events(lasting: Sequence[StaffEvent]) -> list[_Need]:
    """What the staff are told of, and lasts."""
    return [
        _Need("bad" if it.severity == "critical" else "warn", it.text, *_place(it))
        for it in lasting
        if it.severity != "info" and it.event not in _ELSEWHERE
    ]


def _place(event: StaffEvent) -> tuple[str, str]:
    """Where it is looked at, and what that is called."""
    if event.event == "abuse.burst":
        if event.object == SIGN_UPS:
            return "/admin/users", "Look at the accounts"
        return f"/admin/users/{event.object}", "Look at the account"
    return _PLACES.get(event.event, _EVENTS)


def _mails(count: int, one: str, many: str) -> str:
    return "" if not count else f"one mail {one}" if count == 1 else f"{count} mails {many}"
