"""Requests, mails, the trail and its changes, settings and the parts of the service, for programs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.limits import day_of
from penstock.domain.ledger import refusals
from penstock.domain.ledger.refusals import Refusal
from penstock.domain.notifications.jobs import done_until
from penstock.domain.notifications.watch import BACKUP
from penstock.domain.staff import mails, overview, running, search, undo
from penstock.domain.staff.mails import SentMail
from penstock.domain.staff.overview import Day, Waiting
from penstock.domain.staff.search import Hit, RequestFilter, StaffAttempt, StaffRequest
from penstock.domain.trail import chain, changes, entries
from penstock.domain.trail.chain import Verdict
from penstock.domain.trail.changes import KeptChange
from penstock.domain.trail.entries import Entry, FieldValue, Subject, TrailFilter
from penstock.domain.trail.export import line_of
from penstock.errors import InvalidRequest
from penstock.operations.health import PartHealth
from penstock.settings.describe import rows as setting_rows
from penstock.settings.describe import shown_value
from penstock.site.admin.context import AdminContext, RunningRequest
from penstock.site.admin_api.dispatch import (
    AdminCall,
    Bound,
    BoundApart,
    BoundOperation,
    Listed,
    Nothing,
    NotThere,
)

Short = Annotated[str, Meta(max_length=320)]
PageSize = Annotated[int, Meta(ge=1, le=200, description="Rows of a page")]


class RequestsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests of a day (UTC, as 2026-11-25; today where it is left out)."""

    day: Annotated[str, Meta(max_length=10)] = ""
    account: Short = ""
    outcome: Short = ""
    provider: Short = ""
    model: Short = ""
    after: Short = ""
    limit: PageSize = 50


class RequestShown(msgspec.Struct, frozen=True):
    """A request that reached a provider with its attempts, or one that was refused."""

    request: StaffRequest | None
    refused: Refusal | None
    attempts: list[StaffAttempt] = []


class SearchWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address or its beginning, an id, a key, its beginning or its last four characters."""

    q: Annotated[str, Meta(max_length=400)]


class EndWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The account of the request."""

    account: Short


class Ended(msgspec.Struct, frozen=True):
    """Whether it ran."""

    ended: bool


class MailsShown(msgspec.Struct, frozen=True):
    """Mails that wait, and the newest of those that were sent or given up."""

    waiting: list[SentMail]
    newest: list[SentMail]


class Queued(msgspec.Struct, frozen=True):
    """The mail is on its way."""

    queued: bool = True


class TrailQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which entries; what is left out takes all."""

    actor: Short = ""
    action: Short = ""
    object_kind: Short = ""
    object_id: Short = ""
    address: Short = ""
    result: Short = ""
    after: Short = ""
    limit: PageSize = 50


class TrailEntry(msgspec.Struct, frozen=True):
    """An entry of the trail. ``seq`` null: it is not sealed yet."""

    id: str
    at: int
    actor_kind: str
    actor_id: str
    actor_name: str
    on_behalf_of: str
    address: str
    action: str
    object_kind: str
    object_id: str
    object_name: str
    before: dict[str, FieldValue]
    after: dict[str, FieldValue]
    reason: str
    request_id: str
    result: str
    seq: int | None


class ExportFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of the last entry that one has."""

    after: Annotated[int, Meta(ge=0, le=1 << 53)] = 0


class VerifyQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Only what came after the newest checkpoint."""

    from_checkpoint: bool = False


class ChangesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which changes; what is left out takes all."""

    object_kind: Short = ""
    object_id: Short = ""
    after: Short = ""
    limit: PageSize = 50


class ChangeShown(msgspec.Struct, frozen=True):
    """A change that was kept; what it undoes to is not shown, since a provider's own values may be in it."""

    id: str
    at: int
    operation: str
    actor_id: str
    actor_name: str
    object_kind: str
    object_id: str
    undone_at: int | None
    undone_by: str | None


class OperationShown(msgspec.Struct, frozen=True):
    """The changes of an operation, and why it cannot be undone ('': it can)."""

    changes: list[ChangeShown]
    why_not: str


class OverviewShown(msgspec.Struct, frozen=True):
    """The last 24 hours, what waits for somebody, and how many requests run here."""

    day: Day
    waiting: Waiting
    running: int


class SettingsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``set``: only what is not a default."""

    set: bool = False


class SettingShown(msgspec.Struct, frozen=True):
    """A setting: its value as it may be shown, and where that comes from ('': its default)."""

    name: str
    variable: str
    value: str
    source: str
    default: str


class JobsShown(msgspec.Struct, frozen=True):
    """The parts of this server, and how far the work behind the scenes has come. ``backup_at`` is the last ``penstock backup``;
    ``late`` are jobs of this server that have not come to their end for twice their time."""

    parts: list[PartHealth]
    owed: int
    differences: int | None
    checkpoint: int | None
    checkpoint_at: int | None
    unsealed: bool
    backup_at: int | None
    late: list[str]


class ServiceRoutes:
    """What is asked of requests, mails, the trail and the service."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def operations(self) -> Mapping[str, BoundOperation]:
        """Every operation by its name in the table."""
        return {
            "request_list": Bound(self.requests, Listed[StaffRequest], RequestsQuery, Nothing),
            "request_show": Bound(self.request, RequestShown, Nothing, Nothing),
            "search": Bound(self.search, Listed[Hit], Nothing, SearchWanted),
            "running_list": Bound(self.running, Listed[RunningRequest], Nothing, Nothing),
            "running_end": BoundApart(self.end, Ended, Nothing, EndWanted),
            "mail_list": Bound(self.mails, MailsShown, Nothing, Nothing),
            "mail_again": Bound(self.mail_again, Queued, Nothing, Nothing),
            "mail_test": Bound(self.mail_test, Queued, Nothing, Nothing),
            "trail_list": Bound(self.trail, Listed[TrailEntry], TrailQuery, Nothing),
            "trail_verify": Bound(self.verify, Verdict, VerifyQuery, Nothing),
            "trail_export": Bound(self.export, Listed[str], Nothing, ExportFrom),
            "change_list": Bound(self.changes, Listed[ChangeShown], ChangesQuery, Nothing),
            "change_show": Bound(self.change, OperationShown, Nothing, Nothing),
            "change_undo": Bound(self.undo, OperationShown, Nothing, Nothing),
            "overview": Bound(self.overview, OverviewShown, Nothing, Nothing),
            "setting_list": Bound(self.settings, Listed[SettingShown], SettingsQuery, Nothing),
            "job_list": Bound(self.jobs, JobsShown, Nothing, Nothing),
        }

    # ---- requests

    async def requests(
        self, call: AdminCall[RequestsQuery, Nothing], conn: AsyncConnection
    ) -> Listed[StaffRequest]:
        """The requests of a day, the newest first."""
        query = call.query
        today = day_of(self._site.clock())
        chosen = RequestFilter(
            _day(query.day) if query.day else today,
            query.account,
            query.outcome,
            query.provider,
            query.model,
            query.after,
        )
        rows, cursor = await search.requests_of_day(conn, chosen, query.limit)
        return Listed(rows, cursor or None)

    async def request(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> RequestShown:
        """One request of anybody."""
        id = call.path["id"]
        await self._site.refusals.flush()
        await self._site.attempts.flush()
        row = await search.find_request(conn, id)
        refused = None if row is not None else await refusals.find_any(conn, id)
        if row is None and refused is None:
            raise NotThere(
                "There is no such request. One that runs is here once it has run for some seconds."
            )
        return RequestShown(row, refused, [] if row is None else await search.attempts_of(conn, row))

    async def search(self, call: AdminCall[Nothing, SearchWanted], conn: AsyncConnection) -> Listed[Hit]:
        """What the text can mean. A whole key is digested and forgotten."""
        await self._site.refusals.flush()
        return Listed(await search.find(conn, self._site.secrets_file, call.body.q))

    async def running(
        self, _call: AdminCall[Nothing, Nothing], _conn: AsyncConnection
    ) -> Listed[RunningRequest]:
        """What this server serves, the oldest first."""
        return Listed(sorted(self._context.operation.running(), key=lambda it: it.since))

    async def end(self, call: AdminCall[Nothing, EndWanted]) -> Ended:
        """End a running request."""
        async with self._site.database.transaction() as conn:
            ended = await running.end_request(
                conn,
                self._site.gate,
                call.body.account,
                call.path["id"],
                call.actor,
                now=self._site.now(),
                entropy=self._site.entropy,
            )
        return Ended(ended)

    # ---- mails

    async def mails(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> MailsShown:
        """Mails that wait, and the newest others."""
        return MailsShown(await mails.waiting(conn), await mails.newest(conn))

    async def mail_again(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Queued:
        """Try a mail once more now."""
        await mails.try_again(
            conn, call.path["id"], call.actor, now=self._site.now(), entropy=self._site.entropy
        )
        return Queued()

    async def mail_test(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Queued:
        """Mail the person whom the token acts for."""
        await mails.queue_test(
            conn,
            self._site.secrets_file,
            self._site.sign_in.rules.brand,
            call.token.maker,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return Queued()

    # ---- the trail

    async def trail(self, call: AdminCall[TrailQuery, Nothing], conn: AsyncConnection) -> Listed[TrailEntry]:
        """Entries, the newest first."""
        query = call.query
        chosen = TrailFilter(
            query.actor,
            query.action,
            query.object_kind,
            query.object_id,
            query.address,
            query.result,
            query.after,
        )
        rows, cursor = await entries.page(conn, chosen, query.limit)
        return Listed([_entry(row) for row in rows], cursor or None)

    async def verify(self, call: AdminCall[VerifyQuery, Nothing], conn: AsyncConnection) -> Verdict:
        """Walk the chain."""
        return await chain.verify(conn, from_checkpoint=call.query.from_checkpoint)

    async def export(self, call: AdminCall[Nothing, ExportFrom], conn: AsyncConnection) -> Listed[str]:
        """Sealed entries as lines of the file that `penstock audit export` gives. That they are taken away is an entry, too."""
        rows = await chain.sealed_after(conn, call.body.after)
        if not call.body.after:
            await entries.write(
                conn,
                call.actor,
                "trail_exported",
                Subject("trail", ""),
                now=self._site.now(),
                entropy=self._site.entropy,
            )
        return Listed([line_of(row) for row in rows], str(rows[-1].seq) if rows else None)

    async def changes(
        self, call: AdminCall[ChangesQuery, Nothing], conn: AsyncConnection
    ) -> Listed[ChangeShown]:
        """Changes, the newest first."""
        query = call.query
        rows, cursor = await changes.page(
            conn,
            object_kind=query.object_kind,
            object_id=query.object_id,
            before=query.after,
            most=query.limit,
        )
        return Listed([_change(row) for row in rows], cursor or None)

    async def change(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> OperationShown:
        """One operation."""
        return await self._operation(conn, call.path["operation"])

    async def undo(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> OperationShown:
        """Undo an operation."""
        operation = call.path["operation"]
        await self._operation(conn, operation)
        await undo.take_back(
            conn,
            operation,
            call.token.standing,
            self._context.operation.kinds,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return await self._operation(conn, operation)

    async def _operation(self, conn: AsyncConnection, operation: str) -> OperationShown:
        found = await changes.of_operation(conn, operation)
        if not found:
            raise NotThere("There is no such change.")
        kinds = self._context.operation.kinds
        why_not = await undo.why_not(conn, operation, kinds, now=self._site.now())
        return OperationShown([_change(row) for row in found], why_not)

    # ---- the service

    async def overview(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> OverviewShown:
        """The last day, and what waits."""
        now = self._site.now()
        return OverviewShown(
            await overview.last_day(conn, now=now),
            await overview.waiting(conn, now=now),
            len(self._context.operation.running()),
        )

    async def settings(
        self, call: AdminCall[SettingsQuery, Nothing], _conn: AsyncConnection
    ) -> Listed[SettingShown]:
        """Every setting."""
        operation = self._context.operation
        found = [
            SettingShown(
                row.name,
                row.variable,
                shown_value(operation.settings, row.name),
                operation.origins.get(row.name, ""),
                row.default,
            )
            for row in setting_rows()
        ]
        return Listed([it for it in found if it.source or not call.query.set])

    async def jobs(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> JobsShown:
        """The parts of the service."""
        health, mark = self._context.operation.health, await chain.newest_checkpoint(conn)
        return JobsShown(
            health.look(),
            health.owed,
            health.differences,
            None if mark is None else mark.seq,
            None if mark is None else mark.at,
            await chain.any_unsealed(conn),
            await done_until(conn, BACKUP),
            sorted(health.jobs.late()),
        )


def _day(text: str) -> int:
    try:
        return day_of(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        raise InvalidRequest("This is not a day such as 2026-11-25.", param="day") from None


def _entry(row: Entry) -> TrailEntry:
    return TrailEntry(
        row.id,
        row.at,
        row.actor_kind,
        row.actor_id,
        row.actor_name,
        row.on_behalf_of,
        row.address,
        row.action,
        row.object_kind,
        row.object_id,
        row.object_name,
        {name: old for name, old, _ in row.changed},
        {name: new for name, _, new in row.changed},
        row.reason,
        row.request_id,
        row.result,
        row.seq,
    )


def _change(row: KeptChange) -> ChangeShown:
    return ChangeShown(
        row.id,
        row.at,
        row.operation,
        row.actor_id,
        row.actor_name,
        row.object_kind,
        row.object_id,
        row.undone_at,
        row.undone_by,
    )
