"""Accounts and keys that staff make, change and roll. A key is shown on the page that answers, and on no other."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import User
from penstock.domain.keys.management import KeyRow, NewKey
from penstock.domain.staff import people
from penstock.errors import CallerError
from penstock.site.admin.access import AdminRoute, actor_of
from penstock.site.admin.context import AdminContext
from penstock.site.context import go
from penstock.site.error_pages import PageNotFound
from penstock.site.key_form import GRACES, KeyFields, asked_grace, asked_key, fields_of_key, fields_sent
from penstock.site.session import SubmittedForm, read_form, signed_in


class AccountKeyPages:
    """What is made under ``/admin/users``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site
        self._keep_key = context.operation.settings.keys_reveal

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        both = ("GET", "POST")
        return [
            AdminRoute("/admin/users/new", self.new_account, "people", both),
            AdminRoute("/admin/users/{id}/keys/new", self.new_key, "people", both),
            AdminRoute("/admin/users/{id}/keys/{key}", self.key, "people", both),
            AdminRoute("/admin/users/{id}/keys/{key}/roll", self.roll, "people", ("POST",)),
        ]

    async def new_account(self, request: Request) -> Response:
        """An account with its first key, for somebody who has not signed up."""
        site = self._site
        if request.method != "POST":
            return self._account_form(request)
        form = await read_form(request)
        try:
            async with site.database.transaction() as conn:
                user, made = await people.make_account(
                    conn,
                    site.secrets_file,
                    form.text("email"),
                    actor_of(request, signed_in(request)),
                    plan=form.text("plan"),
                    verified=form.text("verified") == "yes",
                    keep_key=self._keep_key,
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return self._account_form(request, form, error)
        return self._shown(request, user, made, new_account=True)

    async def new_key(self, request: Request) -> Response:
        """Another key for an account."""
        site = self._site
        user = await self._user(request)
        if request.method != "POST":
            return self._key_form(request, user)
        form = await read_form(request)
        try:
            wish = asked_key(form, site.plan(user.plan_id))
            async with site.database.transaction() as conn:
                made = await people.make_key(
                    conn,
                    site.secrets_file,
                    user,
                    wish,
                    actor_of(request, signed_in(request)),
                    keep_key=self._keep_key,
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return self._key_form(request, user, form=form, error=error)
        return self._shown(request, user, made)

    async def key(self, request: Request) -> Response:
        """A key's name, models, addresses, limits and end; and the form that rolls it."""
        site = self._site
        user, old = await self._user(request), await self._key(request)
        if request.method != "POST":
            return self._key_form(request, user, old)
        form = await read_form(request)
        try:
            wish = asked_key(form, site.plan(user.plan_id), old)
            async with site.database.transaction() as conn:
                await people.change_key(
                    conn,
                    old,
                    wish,
                    actor_of(request, signed_in(request)),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return self._key_form(request, user, old, form=form, error=error)
        return go(f"/admin/users/{user.id}", "key-changed")

    async def roll(self, request: Request) -> Response:
        """A new key in the place of one."""
        site = self._site
        user, old = await self._user(request), await self._key(request)
        form = await read_form(request)
        try:
            grace = asked_grace(form)
            async with site.database.transaction() as conn:
                made = await people.roll_key(
                    conn,
                    site.secrets_file,
                    old,
                    actor_of(request, signed_in(request)),
                    grace=grace,
                    keep_key=self._keep_key,
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return self._key_form(request, user, old, error=error)
        return self._shown(request, user, made)

    # ---- what they share

    def _account_form(
        self, request: Request, form: SubmittedForm | None = None, error: CallerError | None = None
    ) -> Response:
        return self._site.pages.render(
            request,
            "admin/user_new.html",
            {
                "email": "" if form is None else form.text("email"),
                "plan": self._context.operation.settings.signup_plan if form is None else form.text("plan"),
                "verified": form is None or form.text("verified") == "yes",
                "error": "" if error is None else error.message,
            },
            status=200 if error is None else error.status,
        )

    def _key_form(
        self,
        request: Request,
        user: User,
        row: KeyRow | None = None,
        *,
        form: SubmittedForm | None = None,
        error: CallerError | None = None,
    ) -> Response:
        site = self._site
        held = KeyFields() if row is None else fields_of_key(row)
        return site.pages.render(
            request,
            "admin/key.html",
            {
                "user": user,
                "row": row,
                "works": row is not None and row.works(site.now()),
                "held": held if form is None else fields_sent(form),
                "plan": site.plan(user.plan_id),
                "models": [model.id for model in site.catalog().offered(user.plan_id)],
                "graces": GRACES,
                "error": "" if error is None else error.message,
            },
            status=200 if error is None else error.status,
        )

    def _shown(self, request: Request, user: User, made: NewKey, *, new_account: bool = False) -> Response:
        return self._site.pages.render(
            request, "admin/key_made.html", {"user": user, "made": made, "new_account": new_account}
        )

    async def _user(self, request: Request) -> User:
        async with self._site.database.connect() as conn:
            user = await accounts.user_by_id(conn, request.path_params["id"])
        if user is None:
            raise PageNotFound("There is no such account.")
        return user

    async def _key(self, request: Request) -> KeyRow:
        async with self._site.database.connect() as conn:
            key = await people.find_key(conn, request.path_params["key"])
        if key is None or key.user_id != request.path_params["id"]:
            raise PageNotFound("There is no such key.")
        return key
