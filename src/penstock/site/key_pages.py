"""Pages of API keys: made, shown again with the password, rolled with a grace period, revoked."""

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.domain.accounts import audit
from penstock.domain.accounts.accounts import User
from penstock.domain.keys import management
from penstock.domain.keys.management import NewKey
from penstock.errors import CallerError, Overloaded
from penstock.site.context import SiteContext, go, retry_headers
from penstock.site.key_form import GRACES, KeyFields, asked_grace, asked_key, fields_of_key, fields_sent
from penstock.site.session import SubmittedForm, address_of, read_form, signed_in, visitor_of
from penstock.site.snippets import first_commands


class KeyPages:
    """The pages of an account's keys."""

    def __init__(self, context: SiteContext, *, keep: bool) -> None:
        """``keep``: readable copies of keys are kept, so that they can be shown again."""
        self._context = context
        self._keep = keep

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/keys", self.keys, methods=["GET", "POST"]),
            Route("/keys/{id}/change", self.change, methods=["POST"]),
            Route("/keys/{id}/show", self.show, methods=["POST"]),
            Route("/keys/{id}/roll", self.roll, methods=["POST"]),
            Route("/keys/{id}/revoke", self.revoke, methods=["POST"]),
        ]

    async def keys(self, request: Request) -> Response:
        """All keys, and the form for another one."""
        if request.method != "POST":
            return await self._page(request)
        context = self._context
        user = signed_in(request).user
        form = await read_form(request)
        try:
            wish = asked_key(form, context.plan(user.plan_id))
            async with context.database.transaction() as conn:
                made = await management.create_key(
                    conn,
                    context.secrets_file,
                    user.id,
                    wish,
                    now=context.now(),
                    entropy=context.entropy,
                    keep=self._keep,
                )
                await self._note(request, conn, user, "key_created", made.name)
        except CallerError as error:
            return await self._page(request, error=error, form=form)
        return await self._page(request, made=made)

    async def change(self, request: Request) -> Response:
        """Another name, list, limit or end of a key."""
        context = self._context
        user = signed_in(request).user
        form = await read_form(request)
        id = request.path_params["id"]
        try:
            async with context.database.transaction() as conn:
                old = await management.get_key(conn, user.id, id)
                wish = asked_key(form, context.plan(user.plan_id), old)
                await management.change_key(conn, old, wish, now=context.now())
                await self._note(request, conn, user, "key_changed", wish.name or old.name)
        except CallerError as error:
            return await self._page(request, error=error, form=form, opened=id)
        return go("/keys", "key-changed")

    async def show(self, request: Request) -> Response:
        """The key itself, after the password."""
        context = self._context
        user = signed_in(request).user
        form = await read_form(request)
        id = request.path_params["id"]
        try:
            await context.sign_in.check_password(
                user, form.exact("password"), visitor_of(request), now=context.now()
            )
            async with context.database.transaction() as conn:
                row = await management.get_key(conn, user.id, id)
                key = await management.reveal_key(conn, context.secrets_file, user.id, id)
                await self._note(request, conn, user, "key_shown", row.name)
        except (CallerError, Overloaded) as error:
            return await self._page(request, error=error, opened=id)
        return await self._page(request, made=NewKey(id, row.name, key), again=True)

    async def roll(self, request: Request) -> Response:
        """A new key in place of an old one."""
        context = self._context
        user = signed_in(request).user
        form = await read_form(request)
        try:
            grace = asked_grace(form)
            async with context.database.transaction() as conn:
                old = await management.get_key(conn, user.id, request.path_params["id"])
                made = await management.roll_key(
                    conn,
                    context.secrets_file,
                    old,
                    grace=grace,
                    now=context.now(),
                    entropy=context.entropy,
                    keep=self._keep,
                )
                await self._note(request, conn, user, "key_rolled", old.name)
        except CallerError as error:
            return await self._page(request, error=error)
        return await self._page(request, made=made)

    async def revoke(self, request: Request) -> Response:
        """The end of a key."""
        context = self._context
        user = signed_in(request).user
        await read_form(request)
        try:
            async with context.database.transaction() as conn:
                row = await management.get_key(conn, user.id, request.path_params["id"])
                await management.revoke_key(conn, user.id, row.id, now=context.now())
                await self._note(request, conn, user, "key_revoked", row.name)
        except CallerError as error:
            return await self._page(request, error=error)
        return go("/keys", "revoked")

    # ---- what they share

    async def _page(
        self,
        request: Request,
        *,
        made: NewKey | None = None,
        again: bool = False,
        error: CallerError | Overloaded | None = None,
        form: SubmittedForm | None = None,
        opened: str = "",
    ) -> Response:
        """``form`` is what was filled in and refused, for the key ``opened`` or a new one; that key's part is open."""
        context, now = self._context, self._context.now()
        sent = KeyFields() if form is None else fields_sent(form)
        user = signed_in(request).user
        ended = request.query_params.get("ended") == "yes"
        async with context.database.connect() as conn:
            rows = [row for row in await management.list_keys(conn, user.id) if not row.of_playground]
        base = f"{context.pages.origin(request)}/api/v1"
        catalog = context.catalog()
        allowed = next((row.models for row in rows if made and row.id == made.id and row.models), None)
        offered = [
            model.id
            for model in catalog.offered(
                user.plan_id, None if allowed is None else frozenset(allowed), "chat"
            )
        ]
        working = [row for row in rows if row.works(now)]
        over = [row for row in rows if not row.works(now)]
        return context.pages.render(
            request,
            "desk/keys.html",
            {
                "rows": [
                    (
                        row,
                        row.works(now),
                        sent if form is not None and row.id == opened else fields_of_key(row),
                    )
                    for row in (*working, *(over if ended else ()))
                ],
                "over": len(over),
                "ended": ended,
                "opened": opened,
                "now": now,
                "models": [model.id for model in catalog.offered(user.plan_id)],
                "plan": context.plan(user.plan_id),
                "given": KeyFields() if opened else sent,
                "made": made,
                "again": again,
                "error": "" if error is None else error.message,
                "commands": first_commands(base, made.key, offered[0] if offered else None) if made else [],
                "graces": GRACES,
                "reveal": self._keep,
            },
            status=200 if error is None else error.status,
            headers=retry_headers(error),
        )

    async def _note(
        self, request: Request, conn: AsyncConnection, user: User, action: audit.Action, name: str
    ) -> None:
        context = self._context
        await audit.note(
            conn, user.id, action, name, address_of(request), now=context.now(), entropy=context.entropy
        )
