"""Captures, for programs: what is kept of whose requests, begun, ended, and read for a reason."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.captures import kept, orders
from penstock.domain.captures.kept import CaptureRead, CaptureShown
from penstock.domain.captures.orders import LONGEST_CAPTURE_DAYS, REASON_LIMIT, CaptureOrder
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.dispatch import AdminCall, Bound, BoundOperation, Listed, Nothing

_DAY_MS = 86_400_000
CaptureReason = Annotated[str, Meta(min_length=1, max_length=REASON_LIMIT)]
CaptureId = Annotated[str, Meta(max_length=64)]


class CaptureWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which account, of which of its keys ('': all), for how many days, and why."""

    account: CaptureId
    reason: CaptureReason
    key: CaptureId = ""
    days: Annotated[int, Meta(ge=1, le=LONGEST_CAPTURE_DAYS)] = 1


class ReadWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why it is read."""

    reason: CaptureReason


class CaptureRoutes:
    """What is done with captures."""

    def __init__(self, context: AdminContext) -> None:
        self._site = context.site
        self._settings = context.operation.settings

    def operations(self) -> Mapping[str, BoundOperation]:
        """Every operation by its name in the table."""
        return {
            "capture_list": Bound(self.list, Listed[CaptureOrder], Nothing, Nothing),
            "capture_begin": Bound(self.begin, CaptureOrder, Nothing, CaptureWanted),
            "capture_end": Bound(self.end, CaptureOrder, Nothing, Nothing),
            "capture_show": Bound(self.show, Listed[CaptureShown], Nothing, Nothing),
            "capture_read": Bound(self.read, CaptureRead, Nothing, ReadWanted),
        }

    async def list(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Listed[CaptureOrder]:
        """Orders that run, and those of which something may be kept."""
        since = self._site.now() - self._settings.capture_days * _DAY_MS
        return Listed(await orders.recent_orders(conn, since=since))

    async def begin(self, call: AdminCall[Nothing, CaptureWanted], conn: AsyncConnection) -> CaptureOrder:
        """Have requests kept."""
        orders.refuse_never(self._settings.captures)
        wanted = call.body
        return await orders.begin_capture(
            conn,
            wanted.account,
            wanted.key,
            wanted.reason,
            wanted.days,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def end(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> CaptureOrder:
        """Keep no more."""
        return await orders.end_capture(
            conn, call.path["id"], call.actor, now=self._site.now(), entropy=self._site.entropy
        )

    async def show(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Listed[CaptureShown]:
        """What was captured by an order."""
        return Listed(await kept.captures_of(conn, call.path["id"]))

    async def read(self, call: AdminCall[Nothing, ReadWanted], conn: AsyncConnection) -> CaptureRead:
        """The content of one request; the id is the request's."""
        return await kept.read_capture(
            conn,
            self._site.secrets_file,
            call.path["id"],
            call.body.reason,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
