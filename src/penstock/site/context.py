"""Context of the pages: the database, the catalogue, sign-in, and the rest that every group of pages works with."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.domain.accounts.sessions import Lifetime
from penstock.domain.accounts.sign_in import SignIn
from penstock.domain.catalog.catalog import Catalog, Plan
from penstock.domain.ledger.attempts import AttemptLog
from penstock.domain.ledger.refusals import Refusals
from penstock.domain.limits import Gate
from penstock.errors import PenstockError
from penstock.site.notice_board import NoticeBoard
from penstock.site.pages import Pages
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database


class SiteContext(msgspec.Struct, frozen=True):
    """The parts of the service that pages use. ``clock`` gives epoch seconds."""

    database: Database
    secrets_file: SecretsFile
    catalog: Callable[[], Catalog]
    gate: Gate
    refusals: Refusals
    attempts: AttemptLog
    sign_in: SignIn
    pages: Pages
    board: NoticeBoard
    lifetime: Lifetime
    entropy: Entropy
    clock: Callable[[], float]
    providers_told: bool
    """Whether people see which provider has answered."""
    answer_floor: float
    """Seconds below which what a stranger asks about an account is never answered."""

    def now(self) -> int:
        """Epoch milliseconds."""
        return int(self.clock() * 1000)

    def plan(self, plan_id: str) -> Plan:
        """The plan of an account; one that has gone from the catalogue allows nothing."""
        return self.catalog().plans.get(plan_id) or Plan(plan_id, plan_id, 0, 0, ())


def go(path: str, notice: str = "") -> Response:
    """On to another page, after a form."""
    query = f"?notice={notice}" if notice else ""
    return RedirectResponse(path + query, status_code=303, headers={"cache-control": "no-store"})


def retry_headers(error: PenstockError | None) -> dict[str, str]:
    """When to come again, for the headers of a page that says what was wrong."""
    wait = None if error is None else error.retry_after
    return {} if wait is None else {"retry-after": str(wait)}


def next_path(text: str) -> str:
    """Where to go after signing in: a path of ours, whatever was asked."""
    fine = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if fine and len(text) < 500 else "/dashboard"


def path_of(request: Request) -> str:
    """The page that was asked for, with its query."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")
