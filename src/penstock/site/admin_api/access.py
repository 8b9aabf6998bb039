"""Access to the admin API: which token asks, what it may do, and how often; what is refused to it is in the trail.

Cookies mean nothing here, so no page of somebody else can have a browser of the staff call a route.
"""

from collections.abc import Callable

from starlette.requests import Request

from penstock.domain.staff import tokens
from penstock.domain.staff.roles import NotYourRole, require
from penstock.domain.staff.tokens import AdminToken, InvalidToken, ScopeMissing
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import LimitReached
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.parity import ParityRow
from penstock.site.session import address_of

_MOST_COUNTED = 10_000
"""Tokens that are counted at once; more are of a minute that is over."""


class MissingToken(InvalidToken):
    """No token was sent."""

    code = "missing_token"


class AdminRateReached(LimitReached):
    """The token has sent as many requests as it may in a minute."""

    code = "too_many_admin_requests"


class AdminRates:
    """How many requests each token has sent in this minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        """``clock`` gives epoch seconds."""
        self._most = per_minute
        self._clock = clock
        self._counts: dict[str, tuple[int, int]] = {}

    def count(self, token_id: str) -> None:
        """One more. Raises ``AdminRateReached``."""
        now = self._clock()
        minute = int(now // 60)
        if len(self._counts) > _MOST_COUNTED:
            self._counts.clear()
        at, count = self._counts.get(token_id, (minute, 0))
        count = count + 1 if at == minute else 1
        self._counts[token_id] = (minute, count)
        if count > self._most:
            raise AdminRateReached(
                f"This token may send {self._most} requests a minute.", retry_after=max(1, 60 - int(now % 60))
            )


async def admit(
    request: Request, context: AdminContext, row: ParityRow, rates: AdminRates, request_id: str
) -> tuple[AdminToken, Actor]:
    """Who asks for this operation, if they may. Raises what is answered to those who may not."""
    site = context.site
    address = address_of(request)
    async with site.database.connect() as conn:
        token = await tokens.token_behind(conn, site.secrets_file, _sent(request), address, now=site.now())
    rates.count(token.id)
    agent = request.headers.get("user-agent", "")
    actor = Actor("token", token.id, token.name, address, agent, token.maker_id, request_id)
    try:
        _check(token, row)
    except (ScopeMissing, NotYourRole) as error:
        async with site.database.transaction() as conn:
            await entries.write(
                conn,
                actor,
                "page_refused",
                Subject("page", f"{request.method} {request.scope['path']}"),
                reason=error.code,
                result="refused",
                now=site.now(),
                entropy=site.entropy,
            )
        raise
    if tokens.wants_use_noted(token, site.now()):
        async with site.database.transaction() as conn:
            await tokens.note_use(conn, token, now=site.now())
    return token, actor


def _sent(request: Request) -> str:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not sent.strip():
        raise MissingToken("Send a token of the admin API: Authorization: Bearer pa-ps-...")
    return sent.strip()


def _check(token: AdminToken, row: ParityRow) -> None:
    if row.scope is not None and not token.reaches(row.scope):
        raise ScopeMissing(f"This token was not made for {row.scope}; it has {', '.join(token.scopes)}.")
    if row.permission not in token.permissions:
        require(token.standing, row.permission)
        raise NotYourRole(
            f"Neither this token ({token.role}) nor its maker ({token.maker_role}) may do this."
        )
