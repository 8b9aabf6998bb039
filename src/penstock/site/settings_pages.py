"""Pages of an account's settings: address, password, second factor, sessions, its data, and its end."""

import io
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec
from markupsafe import Markup
from pyotp.totp import TOTP
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.domain.accounts import accounts, audit, credentials, day_mails, one_time_codes, sessions
from penstock.domain.accounts.accounts import User
from penstock.domain.accounts.sessions import Session
from penstock.domain.captures.kept import captures_of_account
from penstock.domain.keys import management
from penstock.domain.keys.management import KeyRow
from penstock.domain.ledger import request_log
from penstock.domain.ledger.request_log import ROWS_OF_A_FILE, Filter
from penstock.domain.mail import messages, outbox
from penstock.domain.staff import membership
from penstock.errors import CallerError, DatabaseUnavailable, InvalidRequest, Overloaded
from penstock.site.context import SiteContext, go, retry_headers
from penstock.site.pages import NO_STORE
from penstock.site.session import address_of, read_form, signed_in, visitor_of
from penstock.site.turns import in_turns

UNDO_MS = 7 * 86_400_000
"""How long a deletion can be undone."""


_MOST_ENTRIES: Final = 10_000
"""Of what was done, the newest."""


class Export(msgspec.Struct, frozen=True):
    """All that is kept of an account but what there may be a great deal of, for its owner. Times are epoch milliseconds."""

    account: User
    keys: tuple[KeyRow, ...]
    sessions: list[Session]


class SettingsPages:
    """The pages under ``/settings``."""

    def __init__(self, context: SiteContext, mail_queued: Callable[[], None]) -> None:
        """``mail_queued`` is called after a mail was queued."""
        self._context = context
        self._mail_queued = mail_queued

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/settings", self.settings),
            Route("/settings/password", self.password, methods=["POST"]),
            Route("/settings/email", self.email, methods=["POST"]),
            Route("/settings/email/code", self.email_code, methods=["GET", "POST"]),
            Route("/settings/email/code/resend", self.email_resend, methods=["POST"]),
            Route("/settings/factor", self.factor_begin, methods=["POST"]),
            Route("/settings/factor/confirm", self.factor_confirm, methods=["POST"]),
            Route("/settings/factor/off", self.factor_off, methods=["POST"]),
            Route("/settings/sessions/end", self.end_session, methods=["POST"]),
            Route("/settings/mails", self.mails, methods=["POST"]),
            Route("/settings/export", self.export),
            Route("/settings/leave", self.leave, methods=["POST"]),
            Route("/settings/stay", self.stay, methods=["POST"]),
        ]

    async def settings(self, request: Request) -> Response:
        """Everything on one page."""
        return await self._page(request)

    # ---- password and address

    async def password(self, request: Request) -> Response:
        """Change the password."""
        viewer = signed_in(request)
        form = await read_form(request)
        sign_in, now, visitor = self._context.sign_in, self._context.now(), visitor_of(request)
        try:
            await sign_in.check_password(viewer.user, form.exact("current"), visitor, now=now)
            await sign_in.change_password(
                viewer.user, form.exact("password"), viewer.session.digest, visitor, now=now
            )
        except (CallerError, Overloaded) as error:
            return await self._page(request, error)
        return go("/settings", "password")

    async def email(self, request: Request) -> Response:
        """Ask for another address."""
        user = signed_in(request).user
        form = await read_form(request)
        sign_in, now, visitor = self._context.sign_in, self._context.now(), visitor_of(request)
        try:
            await sign_in.check_password(user, form.exact("current"), visitor, now=now)
            await sign_in.ask_new_email(user, form.text("email"), visitor, now=now)
        except (CallerError, Overloaded) as error:
            return await self._page(request, error)
        return go("/settings/email/code")

    async def email_code(self, request: Request) -> Response:
        """The code that was sent to the new address."""
        context = self._context
        user = signed_in(request).user
        async with context.database.connect() as conn:
            asked = await one_time_codes.asked(conn, visitor_of(request).digest, "new_email")
        if asked is None:
            return go("/settings")
        error = None
        if request.method == "POST":
            form = await read_form(request)
            try:
                await context.sign_in.confirm_new_email(
                    user, form.text("code"), visitor_of(request), now=context.now()
                )
            except CallerError as refused:
                error = refused
            else:
                return go("/settings", "email")
        return context.pages.render(
            request,
            "account/verify.html",
            {
                "email": asked.email,
                "action": "/settings/email/code",
                "again": "/settings",
                "error": "" if error is None else error.message,
            },
            status=200 if error is None else error.status,
            headers=retry_headers(error),
        )

    async def email_resend(self, request: Request) -> Response:
        """Another code."""
        signed_in(request)
        await read_form(request)
        try:
            await self._context.sign_in.resend("new_email", visitor_of(request), now=self._context.now())
        except CallerError as error:
            return await self._page(request, error)
        return go("/settings/email/code", "resent")

    # ---- the second factor

    async def factor_begin(self, request: Request) -> Response:
        """A new secret, shown as a picture for the app."""
        context = self._context
        user = signed_in(request).user
        form = await read_form(request)
        try:
            await context.sign_in.check_password(
                user, form.exact("current"), visitor_of(request), now=context.now()
            )
            async with context.database.transaction() as conn:
                if (await credentials.credentials_of(conn, user.id)).second_factor:
                    raise InvalidRequest("The second factor is on already.")
                secret = await credentials.begin_second_factor(
                    conn, context.secrets_file, user.id, entropy=context.entropy
                )
        except (CallerError, Overloaded) as error:
            return await self._page(request, error)
        return await self._page(request, secret=secret)

    async def factor_confirm(self, request: Request) -> Response:
        """The first code of the app: from now on it is wanted."""
        context, now = self._context, self._context.now()
        user = signed_in(request).user
        form = await read_form(request)
        recovery: list[str] = []
        async with context.database.transaction() as conn:
            kept = await credentials.credentials_of(conn, user.id)
            # the secret of one that is in use is shown to nobody, whatever they send
            secret = (
                None if kept.second_factor else credentials.secret_of(context.secrets_file, user.id, kept)
            )
            digits = form.text("code")
            right = not kept.second_factor and await credentials.use_second_factor(
                conn, context.secrets_file, user.id, digits, now=now
            )
            if right:
                recovery = await credentials.confirm_second_factor(
                    conn, user.id, now=now, entropy=context.entropy
                )
                await self._note(request, conn, user, "second_factor_on")
        if kept.second_factor:
            return await self._page(request, InvalidRequest("The second factor is on already.", param="code"))
        if not recovery:
            wrong = InvalidRequest("This is not the code that the app shows now.", param="code")
            return await self._page(request, wrong, secret=secret)
        return await self._page(request, recovery=recovery)

    async def factor_off(self, request: Request) -> Response:
        """No second factor any more."""
        context = self._context
        user = signed_in(request).user
        form = await read_form(request)
        try:
            await context.sign_in.check_password(
                user, form.exact("current"), visitor_of(request), now=context.now()
            )
        except (CallerError, Overloaded) as error:
            return await self._page(request, error)
        async with context.database.transaction() as conn:
            await credentials.drop_second_factor(conn, user.id)
            await self._note(request, conn, user, "second_factor_off")
        return go("/settings", "factor-off")

    # ---- sessions

    async def end_session(self, request: Request) -> Response:
        """End another session, or all others."""
        context = self._context
        viewer = signed_in(request)
        form = await read_form(request)
        async with context.database.transaction() as conn:
            if form.text("id") == "others":
                await sessions.end_all(conn, viewer.user.id, but=viewer.session.digest)
            else:
                await sessions.end_by_id(conn, viewer.user.id, form.text("id"))
            await self._note(request, conn, viewer.user, "session_ended")
        return go("/settings", "session")

    # ---- data, and the end

    async def export(self, request: Request) -> Response:
        """All that is kept of the account, as JSON."""
        context, now = self._context, self._context.now()
        user = signed_in(request).user
        with suppress(DatabaseUnavailable):
            await context.refusals.flush()
        async with context.database.connect() as conn:
            export = Export(
                account=user,
                keys=await management.list_keys(conn, user.id),
                sessions=[
                    msgspec.structs.replace(session, digest=b"")
                    for session in await sessions.sessions_of(conn, user.id, context.lifetime, now=now)
                ],
            )
        async with context.database.transaction() as conn:
            await self._note(request, conn, user, "data_exported")
        return StreamingResponse(
            self._exported(user.id, export, now),
            media_type="application/json",
            headers={**NO_STORE, "content-disposition": 'attachment; filename="account.json"'},
        )

    async def _exported(self, user_id: str, export: Export, now: int) -> AsyncGenerator[bytes]:
        """The file, a few lines at a time: others have their turn between them, and nothing is kept."""
        head = msgspec.json.format(msgspec.json.encode(export), indent=2)
        yield head.removesuffix(b"\n}") + b',\n  "audit": ['
        between, known = b"\n    ", 0
        while known < _MOST_ENTRIES:
            async with self._context.database.connect() as conn:
                done = await audit.audit_entries(conn, user_id, most=ROWS_OF_A_FILE, after=known, until=now)
            async for few in in_turns(done):
                yield between + b",\n    ".join(map(msgspec.json.encode, few))
                between = b",\n    "
            known += len(done)
            if len(done) < ROWS_OF_A_FILE:
                break
        yield b'\n  ],\n  "requests": ['
        chosen, between = Filter(), b"\n    "
        while True:
            async with self._context.database.connect() as conn:
                rows, cursor = await request_log.page(conn, user_id, chosen, ROWS_OF_A_FILE)
            async for some in in_turns(rows):
                yield between + b",\n    ".join(map(msgspec.json.encode, some))
                between = b",\n    "
            if not cursor:
                break
            chosen = Filter(before=cursor)
        yield b'\n  ],\n  "captures": ['
        between, after = b"\n    ", ""
        while True:
            async with self._context.database.connect() as conn:
                kept = await captures_of_account(conn, self._context.secrets_file, user_id, after=after)
            if not kept:
                break
            yield between + b",\n    ".join(map(msgspec.json.encode, kept))
            between, after = b",\n    ", kept[-1].request_id
        yield b"\n  ]\n}\n"

    async def leave(self, request: Request) -> Response:
        """Have the account deleted, in a week; until then it is of no use, and its other sessions are over."""
        context, now = self._context, self._context.now()
        viewer = signed_in(request)
        user = viewer.user
        form = await read_form(request)
        try:
            await context.sign_in.check_password(user, form.exact("current"), visitor_of(request), now=now)
        except (CallerError, Overloaded) as error:
            return await self._page(request, error)
        at = now + UNDO_MS
        rules = context.sign_in.rules
        async with context.database.transaction() as conn:
            try:
                await membership.lock(conn)
                await membership.check_owner_stays(conn, user)
            except CallerError as error:
                return await self._page(request, error)
            await accounts.set_leaving(conn, user.id, at)
            await sessions.end_all(conn, user.id, but=viewer.session.digest)
            until = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")
            mail = messages.deletion(rules.brand, user.email, rules.url, until)
            await outbox.queue(conn, context.secrets_file, mail, now=now, entropy=context.entropy)
            await self._note(request, conn, user, "deletion_asked")
        self._mail_queued()
        return go("/settings")

    async def stay(self, request: Request) -> Response:
        """Keep the account after all."""
        user = signed_in(request).user
        await read_form(request)
        async with self._context.database.transaction() as conn:
            await accounts.set_leaving(conn, user.id, None)
            await self._note(request, conn, user, "deletion_undone")
        return go("/settings", "kept")

    async def mails(self, request: Request) -> Response:
        """Whether to mail when most of a day is used."""
        user = signed_in(request).user
        form = await read_form(request)
        async with self._context.database.transaction() as conn:
            await day_mails.want(conn, user.id, form.text("day") == "yes")
        return go("/settings", "saved")

    # ---- what they share

    async def _page(
        self,
        request: Request,
        error: CallerError | Overloaded | None = None,
        *,
        secret: str | None = None,
        recovery: list[str] | None = None,
    ) -> Response:
        context, now = self._context, self._context.now()
        viewer = signed_in(request)
        async with context.database.connect() as conn:
            kept = await credentials.credentials_of(conn, viewer.user.id)
            left = await credentials.recovery_codes_left(conn, viewer.user.id)
            open_sessions = await sessions.sessions_of(conn, viewer.user.id, context.lifetime, now=now)
            done = await audit.audit_entries(conn, viewer.user.id, most=20)
            mailed = await day_mails.wanted(conn, viewer.user.id)
        return context.pages.render(
            request,
            "desk/settings.html",
            {
                "error": "" if error is None else error.message,
                "has_password": kept.password is not None,
                "factor": kept.second_factor,
                "recovery_left": left,
                "secret": secret,
                "picture": None if secret is None else self._picture(secret, viewer.user.email),
                "recovery": recovery,
                "sessions": open_sessions,
                "audit": done,
                "mailed": mailed,
                "shares": day_mails.SHARES,
            },
            status=200 if error is None else error.status,
            headers=retry_headers(error),
        )

    def _picture(self, secret: str, email: str) -> Markup:
        """The secret as a QR code, drawn as SVG."""
        import segno  # noqa: PLC0415 - only where a second factor is set up

        uri = TOTP(secret).provisioning_uri(name=email, issuer_name=self._context.sign_in.rules.brand)
        out = io.BytesIO()
        segno.make(uri, error="m").save(
            out, kind="svg", xmldecl=False, svgns=True, scale=4, border=2, dark="#000", light="#fff"
        )
        return Markup(out.getvalue().decode())  # noqa: S704 - drawn here; nothing of a person's is in it as text

    async def _note(self, request: Request, conn: AsyncConnection, user: User, action: audit.Action) -> None:
        context = self._context
        await audit.note(
            conn, user.id, action, "", address_of(request), now=context.now(), entropy=context.entropy
        )
