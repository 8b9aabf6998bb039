"""Incidents and banners, for programs: what tells everybody of trouble and of what is new."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.announcements import announcements, incidents
from penstock.domain.announcements.announcements import ANNOUNCEMENT_LIMIT, LONGEST_DAYS, Announcement
from penstock.domain.announcements.incidents import TEXT_LIMIT, TITLE_LIMIT, Incident
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.dispatch import AdminCall, Bound, BoundOperation, Nothing
from penstock.site.notice_board import INCIDENT_DAYS

_DAY_MS = 86_400_000
IncidentText = Annotated[str, Meta(max_length=TEXT_LIMIT)]
StateName = Annotated[
    str, Meta(max_length=20, description="investigating, identified, monitoring or resolved")
]


class NoticesShown(msgspec.Struct, frozen=True):
    """Incidents that are open or of the last months, and the banners that are shown."""

    incidents: list[Incident]
    announcements: list[Announcement]


class IncidentOpened(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of trouble; ``models`` are public ids, none: the whole service."""

    title: Annotated[str, Meta(max_length=TITLE_LIMIT)]
    text: IncidentText
    state: StateName = "investigating"
    models: tuple[Annotated[str, Meta(max_length=200)], ...] = ()


class IncidentSaid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known now; the state ``resolved`` ends it."""

    state: StateName
    text: IncidentText


class Announced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A banner: for how many days, and to the accounts of which plan ('': everybody)."""

    text: Annotated[str, Meta(max_length=ANNOUNCEMENT_LIMIT)]
    days: Annotated[int, Meta(ge=1, le=LONGEST_DAYS)] = 7
    plan: Annotated[str, Meta(max_length=128)] = ""


class Withdrawn(msgspec.Struct, frozen=True):
    """The banner that is no longer shown."""

    id: str


class NoticeRoutes:
    """What is told to everybody."""

    def __init__(self, context: AdminContext) -> None:
        self._site = context.site

    def operations(self) -> Mapping[str, BoundOperation]:
        """Every operation by its name in the table."""
        return {
            "notice_list": Bound(self.notices, NoticesShown, Nothing, Nothing),
            "incident_open": Bound(self.open, Incident, Nothing, IncidentOpened),
            "incident_update": Bound(self.update, Incident, Nothing, IncidentSaid),
            "announce": Bound(self.announce, Announcement, Nothing, Announced),
            "announcement_withdraw": Bound(self.withdraw, Withdrawn, Nothing, Nothing),
        }

    async def notices(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> NoticesShown:
        """What is told."""
        now = self._site.now()
        return NoticesShown(
            await incidents.recent_incidents(conn, since=now - INCIDENT_DAYS * _DAY_MS),
            await announcements.shown_announcements(conn, now=now),
        )

    async def open(self, call: AdminCall[Nothing, IncidentOpened], conn: AsyncConnection) -> Incident:
        """Tell of trouble."""
        wanted = call.body
        return await incidents.open_incident(
            conn,
            wanted.title,
            wanted.text,
            wanted.models,
            call.actor,
            state=wanted.state,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def update(self, call: AdminCall[Nothing, IncidentSaid], conn: AsyncConnection) -> Incident:
        """Say more of an incident."""
        return await incidents.update_incident(
            conn,
            call.path["id"],
            call.body.state,
            call.body.text,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def announce(self, call: AdminCall[Nothing, Announced], conn: AsyncConnection) -> Announcement:
        """Show a banner."""
        wanted = call.body
        return await announcements.announce(
            conn,
            wanted.text,
            call.actor,
            plan_id=wanted.plan,
            days=wanted.days,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def withdraw(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Withdrawn:
        """Take a banner down."""
        id = call.path["id"]
        await announcements.withdraw(conn, id, call.actor, now=self._site.now(), entropy=self._site.entropy)
        return Withdrawn(id)
