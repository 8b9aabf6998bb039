"""The start of a session, the same for every way of signing in."""

from starlette.requests import Request

from penstock.domain.accounts import audit, sessions
from penstock.domain.accounts.accounts import User
from penstock.domain.accounts.sessions import Stage
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.site.context import SiteContext
from penstock.site.session import address_of, cookies_of


async def start_session(request: Request, context: SiteContext, user: User, stage: Stage) -> None:
    """A session with a token of its own: what the browser had before is worth nothing to whoever knows it."""
    now = context.now()
    cookies = cookies_of(request)
    token = sessions.new_token(context.entropy)
    agent = request.headers.get("user-agent", "")
    address = address_of(request)
    async with context.database.transaction() as conn:
        if cookies.viewer is not None:
            await sessions.end(conn, cookies.viewer.session)
        await sessions.start(
            conn, token, user.id, stage, now=now, address=address, agent=agent, entropy=context.entropy
        )
        if stage == "signed_in":
            await audit.note(conn, user.id, "signed_in", "", address, now=now, entropy=context.entropy)
            if user.role:
                actor = Actor("user", user.id, user.email, address, agent)
                subject = Subject("staff", user.id, user.email)
                await entries.write(conn, actor, "staff_signed_in", subject, now=now, entropy=context.entropy)
    cookies.fresh = token
