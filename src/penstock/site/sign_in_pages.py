"""Pages of sign-up and sign-in: the code, the second factor, a forgotten password, sign-out."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.domain.accounts import accounts, one_time_codes, sessions
from penstock.domain.accounts.accounts import User
from penstock.domain.accounts.credentials import credentials_of
from penstock.domain.accounts.one_time_codes import WrongCode
from penstock.errors import CallerError, Overloaded
from penstock.site.context import SiteContext, go, next_path, retry_headers
from penstock.site.first_key import allow_first_key
from penstock.site.session import SubmittedForm, cookies_of, read_form, viewer_of, visitor_of
from penstock.site.start_session import start_session

T = TypeVar("T")
_FIELDS = ("email", "password", "code")
_NOT_KEPT = {"cache-control": "no-store"}


class SignInPages:
    """The pages of strangers. Each form is answered by itself with what was wrong, or by the next page."""

    def __init__(self, context: SiteContext) -> None:
        self._context = context
        self._sign_in = context.sign_in

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/signup", self.sign_up, methods=["GET", "POST"]),
            Route("/verify", self.verify, methods=["GET", "POST"]),
            Route("/verify/resend", self.resend_verification, methods=["POST"]),
            Route("/signin", self.sign_in, methods=["GET", "POST"]),
            Route("/signin/code", self.second_factor, methods=["GET", "POST"]),
            Route("/signout", self.sign_out, methods=["POST"]),
            Route("/setup", self.set_up, methods=["GET", "POST"]),
            Route("/forgot", self.forgot, methods=["GET", "POST"]),
            Route("/reset", self.reset, methods=["GET", "POST"]),
            Route("/reset/resend", self.resend_reset, methods=["POST"]),
        ]

    # ---- the first owner

    async def set_up(self, request: Request) -> Response:
        """Where a set-up link leads: whoever has it becomes the owner. The code stands behind the # of the address."""
        if request.method != "POST":
            return self._form(request, "account/setup.html")
        form = await read_form(request)
        try:
            user = await self._sign_in.set_up(
                form.text("code"),
                form.text("email"),
                form.exact("password"),
                visitor_of(request),
                now=self._context.now(),
            )
        except (CallerError, Overloaded) as error:
            return self._form(request, "account/setup.html", form, error)
        await start_session(request, self._context, user, "signed_in")
        return go("/admin")

    # ---- sign up

    async def sign_up(self, request: Request) -> Response:
        """The form, and what it makes: an account that waits for its code."""
        if request.method != "POST":
            return go("/dashboard") if viewer_of(request) else self._form(request, "account/signup.html")
        form = await read_form(request)
        try:
            await self._slowly(
                self._sign_in.sign_up(
                    form.text("email"), form.exact("password"), visitor_of(request), now=self._context.now()
                )
            )
        except (CallerError, Overloaded) as error:
            return self._form(request, "account/signup.html", form, error)
        return go("/verify")

    async def verify(self, request: Request) -> Response:
        """The code that shows that the address is read by who signs up."""
        async with self._context.database.connect() as conn:
            asked = await one_time_codes.asked(conn, visitor_of(request).digest, "verify")
        if asked is None:
            return go("/signup")
        error = None
        if request.method == "POST":
            form = await read_form(request)
            try:
                user = await self._sign_in.verify(
                    form.text("code"), visitor_of(request), now=self._context.now()
                )
            except CallerError as refused:
                error = refused
            else:
                await start_session(request, self._context, user, "signed_in")
                return allow_first_key(request, go("/welcome"), self._context, user)
        return self._code_form(request, asked.email, "/verify", "/signup", error)

    async def resend_verification(self, request: Request) -> Response:
        """Another code."""
        return await self._resend(request, "verify", "/verify")

    # ---- sign in

    async def sign_in(self, request: Request) -> Response:
        """The form, and what a right password leads to."""
        wanted = next_path(request.query_params.get("next", ""))
        if request.method != "POST":
            if viewer_of(request):
                return go(wanted)
            return self._form(request, "account/signin.html", more={"next": wanted})
        form = await read_form(request)
        wanted = next_path(form.text("next"))
        try:
            done = await self._slowly(
                self._sign_in.sign_in(
                    form.text("email"), form.exact("password"), visitor_of(request), now=self._context.now()
                )
            )
        except (CallerError, Overloaded) as error:
            return self._form(request, "account/signin.html", form, error, {"next": wanted})
        if done.wants == "verification":
            return go("/verify")
        if done.wants == "second_factor":
            await start_session(request, self._context, done.user, "password")
            return go(f"/signin/code?next={quote(wanted, safe='/')}")
        await start_session(request, self._context, done.user, "signed_in")
        return go(wanted)

    async def second_factor(self, request: Request) -> Response:
        """The code of the authenticator app, after the password."""
        pending = cookies_of(request).pending
        if pending is None:
            return go("/signin")
        wanted = next_path(request.query_params.get("next", ""))
        error: CallerError | None = None
        if request.method == "POST":
            form = await read_form(request)
            wanted = next_path(form.text("next"))
            try:
                good = await self._sign_in.second_factor(
                    pending.user_id, form.text("code"), visitor_of(request), now=self._context.now()
                )
            except CallerError as refused:
                good, error = False, refused
            if good:
                async with self._context.database.transaction() as conn:
                    user = await accounts.get_user(conn, pending.user_id)
                    await sessions.end(conn, pending)
                await start_session(request, self._context, user, "signed_in")
                return go(wanted)
            error = error or WrongCode("This is not the code that is shown now, or it was used before.")
        return self._context.pages.render(
            request,
            "account/factor.html",
            {"error": "" if error is None else error.message, "next": wanted},
            status=200 if error is None else error.status,
            headers={**_NOT_KEPT, **retry_headers(error)},
        )

    async def sign_out(self, request: Request) -> Response:
        """End this session."""
        await read_form(request)
        cookies = cookies_of(request)
        session = cookies.viewer.session if cookies.viewer else cookies.pending
        if session is not None:
            async with self._context.database.transaction() as conn:
                await sessions.end(conn, session)
        cookies.fresh = ""
        return go("/signin", "signed-out")

    # ---- a forgotten password

    async def forgot(self, request: Request) -> Response:
        """Ask for a code."""
        if request.method != "POST":
            return self._form(request, "account/forgot.html")
        form = await read_form(request)
        try:
            await self._slowly(
                self._sign_in.forgot(form.text("email"), visitor_of(request), now=self._context.now())
            )
        except CallerError as error:
            return self._form(request, "account/forgot.html", form, error)
        return go("/reset")

    async def reset(self, request: Request) -> Response:
        """The code and the new password."""
        async with self._context.database.connect() as conn:
            asked = await one_time_codes.asked(conn, visitor_of(request).digest, "reset")
        if asked is None:
            return go("/forgot")
        more = {"email": asked.email}
        if request.method != "POST":
            return self._form(request, "account/reset.html", more=more)
        form = await read_form(request)
        try:
            user = await self._slowly(
                self._sign_in.reset(
                    form.text("code"), form.exact("password"), visitor_of(request), now=self._context.now()
                )
            )
        except (CallerError, Overloaded) as error:
            return self._form(request, "account/reset.html", form, error, more)
        if await self._wants_second_factor(user):
            await start_session(request, self._context, user, "password")
            return go("/signin/code")
        await start_session(request, self._context, user, "signed_in")
        return go("/dashboard", "password")

    async def resend_reset(self, request: Request) -> Response:
        """Another code."""
        return await self._resend(request, "reset", "/reset")

    # ---- what they share

    async def _wants_second_factor(self, user: User) -> bool:
        async with self._context.database.connect() as conn:
            return (await credentials_of(conn, user.id)).second_factor

    async def _resend(self, request: Request, purpose: one_time_codes.Purpose, page: str) -> Response:
        await read_form(request)
        try:
            await self._slowly(self._sign_in.resend(purpose, visitor_of(request), now=self._context.now()))
        except WrongCode:
            return go(page)
        except CallerError as error:
            async with self._context.database.connect() as conn:
                asked = await one_time_codes.asked(conn, visitor_of(request).digest, purpose)
            email = "" if asked is None else asked.email
            if purpose == "reset":
                return self._form(request, "account/reset.html", None, error, {"email": email})
            return self._code_form(request, email, page, "/signup", error)
        return go(page, "resent")

    async def _slowly(self, work: Coroutine[None, None, T]) -> T:
        """The same answer after the same time, whatever was found: it is held back until the floor."""
        floor = asyncio.create_task(asyncio.sleep(self._context.answer_floor))
        try:
            return await work
        finally:
            await floor

    def _code_form(
        self, request: Request, email: str, action: str, again: str, error: CallerError | None
    ) -> Response:
        return self._context.pages.render(
            request,
            "account/verify.html",
            {
                "email": email,
                "action": action,
                "again": again,
                "error": "" if error is None else error.message,
            },
            status=200 if error is None else error.status,
            headers={**_NOT_KEPT, **retry_headers(error)},
        )

    def _form(
        self,
        request: Request,
        template: str,
        form: SubmittedForm | None = None,
        error: CallerError | Overloaded | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Response:
        """A form, again with what was wrong: beside its field, or above all."""
        errors = dict.fromkeys(_FIELDS, "")
        above = ""
        if error is not None:
            if error.param in errors and template != "account/signin.html":
                errors[error.param] = error.message
            else:
                above = error.message
        return self._context.pages.render(
            request,
            template,
            {
                "email": "" if form is None else form.text("email"),
                "errors": errors,
                "error": above,
                **(more or {}),
            },
            status=200 if error is None else error.status,
            headers={**_NOT_KEPT, **retry_headers(error)},
        )
