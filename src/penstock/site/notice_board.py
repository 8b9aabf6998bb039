"""The notice board: announcements, incidents and captures as pages show them, read again every few seconds."""

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.domain.announcements.announcements import Announcement, shown_announcements
from penstock.domain.announcements.incidents import Incident, recent_incidents
from penstock.domain.captures.orders import CaptureOrder, running_orders
from penstock.errors import DatabaseUnavailable
from penstock.store.sql.database import Database

BOARD_SECONDS = 10.0
"""How long what was read is shown."""
INCIDENT_DAYS = 90
"""How long an incident stays on the status page; as many days as that shows."""
_DAY_MS = 86_400_000


class NoticeBoard:
    """What one process knows of it. Where the database does not answer, what was known stays."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """``clock`` gives epoch seconds."""
        self._database = database
        self._clock = clock
        self._read_at = float("-inf")
        self._announcements: Sequence[Announcement] = ()
        self._orders: Sequence[CaptureOrder] = ()
        self.incidents: Sequence[Incident] = ()
        """The open ones first."""

    def banners(self, plan_id: str | None) -> list[str]:
        """The texts that somebody with this plan sees; None is somebody who is not signed in."""
        now = int(self._clock() * 1000)
        return [
            each.text
            for each in self._announcements
            if each.shown_until > now and each.plan_id in ("", plan_id)
        ]

    def captured_until(self, account_id: str) -> int | None:
        """Until when requests of the account are captured with their content, in epoch milliseconds; None where none are."""
        now = int(self._clock() * 1000)
        return max(
            (it.ends_at for it in self._orders if it.account_id == account_id and it.runs(now)), default=None
        )

    def open(self) -> list[Incident]:
        """The incidents that are not resolved."""
        return [each for each in self.incidents if each.resolved_at is None]

    def forget(self) -> None:
        """Have it read again at the next page: something was changed here."""
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read it again, if that is long ago."""
        at = self._clock()
        if at - self._read_at < BOARD_SECONDS:
            return
        self._read_at = at
        now = int(at * 1000)
        try:
            async with self._database.connect() as conn:
                self._orders = await running_orders(conn, now=now)
                self._announcements = await shown_announcements(conn, now=now)
                self.incidents = await recent_incidents(conn, since=now - INCIDENT_DAYS * _DAY_MS)
        except DatabaseUnavailable:
            pass


class FreshBoard:
    """Has the board read before a page is made."""

    def __init__(self, app: ASGIApp, *, board: NoticeBoard) -> None:
        self._app = app
        self._board = board

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not str(scope["path"]).startswith(_WITHOUT):
            await self._board.refresh()
        await self._app(scope, receive, send)


_WITHOUT = ("/static", "/healthz", "/readyz", "/metrics")
"""Paths that show nothing of it, some of which have to work without a database."""
