"""Accounts for staff: found, looked at, put on plans, verified, closed; their keys and sessions ended; seen as by their owner.

What takes something away is asked first: a page says what it will do and how much runs at the moment.
"""

from collections.abc import Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from penstock.core.amounts import amount
from penstock.core.limits import day_of
from penstock.domain.accounts import accounts, audit, plan_wishes, sessions
from penstock.domain.accounts.accounts import Changes, User
from penstock.domain.keys import management
from penstock.domain.ledger import history, rollups
from penstock.domain.staff import people, search, view_as
from penstock.domain.staff.people import Post
from penstock.domain.staff.search import PeopleFilter
from penstock.domain.trail import changes, entries
from penstock.errors import InvalidRequest
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext, ConfirmQuestion
from penstock.site.context import go
from penstock.site.error_pages import PageNotFound
from penstock.site.session import Viewer, cookies_of, read_form, signed_in, view_cookie

_DAYS = 28


class PeoplePages:
    """The pages under ``/admin/users``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site
        rules = context.site.sign_in.rules
        self._post = Post(context.site.secrets_file, rules.brand, rules.url)

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        both = ("GET", "POST")
        return [
            AdminRoute("/admin/users", self.people, "read"),
            AdminRoute("/admin/users/{id}", self.person, "read"),
            AdminRoute("/admin/users/{id}/plan", self.plan, "plan", both),
            AdminRoute("/admin/users/{id}/verify", self.verify, "verify", both),
            AdminRoute("/admin/users/{id}/disable", self.disable, "people", both),
            AdminRoute("/admin/users/{id}/enable", self.enable, "people", both),
            AdminRoute("/admin/users/{id}/delete", self.delete, "people", both),
            AdminRoute("/admin/users/{id}/keep", self.keep, "people", both),
            AdminRoute("/admin/users/{id}/sessions", self.end_sessions, "verify", both),
            AdminRoute("/admin/users/{id}/keys/{key}/revoke", self.revoke, "people", both),
            AdminRoute("/admin/users/{id}/view", self.view, "view_as", ("POST",)),
            AdminRoute("/admin/view/stop", self.stop_viewing, "read", ("POST",)),
        ]

    # ---- lists

    async def people(self, request: Request) -> Response:
        """Accounts in pages, by their addresses."""
        site, query = self._site, request.query_params
        state = query.get("state", "")
        chosen = PeopleFilter(
            begins=query.get("q", "").strip()[:320],
            plan=query.get("plan", ""),
            state=state if state in search.STATES else "",
            after=query.get("after", "")[:320],
        )
        async with site.database.connect() as conn:
            rows, cursor = await search.list_people(conn, chosen, today=day_of(site.clock()))
        return site.pages.render(
            request,
            "admin/users.html",
            {
                "rows": rows,
                "cursor": cursor,
                "chosen": chosen,
                "plans": list(site.catalog().plans),
                "states": search.STATES[1:],
                "may": partial(allows, signed_in(request)),
            },
        )

    async def person(self, request: Request) -> Response:
        """All of one account."""
        site, viewer = self._site, signed_in(request)
        user = await self._user(request)
        now, today = site.now(), day_of(site.clock())
        days = range(today - _DAYS + 1, today + 1)
        async with site.database.connect() as conn:
            used = await history.used_on(conn, user.id, today)
            sums = await rollups.sums(conn, user.id, days)
            errors = await rollups.errors(conn, user.id, days)
            keys = await management.list_keys(conn, user.id)
            open_sessions = await sessions.sessions_of(conn, user.id, site.lifetime, now=now)
            log = await audit.audit_entries(conn, user.id, most=20)
            made, _ = await changes.page(conn, object_kind="user", object_id=user.id, most=10)
            done, _ = await entries.page(conn, entries.TrailFilter(object_kind="user", object_id=user.id), 10)
            wish = await plan_wishes.wish_of(conn, user.id)
        return site.pages.render(
            request,
            "admin/user.html",
            {
                "user": user,
                "plan": site.plan(user.plan_id),
                "used": used,
                "sums": sums,
                "errors": errors,
                "running": len(site.gate.running(user.id)),
                "keys": [key for key in keys if not key.of_playground or key.works(now)],
                "sessions": open_sessions,
                "log": log,
                "made": made,
                "done": done,
                "wish": wish,
                "now": now,
                "may": partial(allows, viewer),
            },
        )

    # ---- what is done

    async def plan(self, request: Request) -> Response:
        """Put the account on another plan."""
        site = self._site
        user = await self._user(request)
        wanted = request.query_params.get("plan", "")
        if request.method == "POST":
            form = await read_form(request)
            viewer = signed_in(request)
            async with site.database.transaction() as conn:
                await people.change_and_tell(
                    conn,
                    user,
                    Changes(plan_id=form.text("plan")),
                    actor_of(request, viewer),
                    self._post,
                    reason=form.text("reason"),
                    now=site.now(),
                    entropy=site.entropy,
                )
            self._context.operation.mail_queued()
            return go(f"/admin/users/{user.id}", "admin-saved")
        plan = site.catalog().plans.get(wanted)
        if plan is None:
            raise InvalidRequest("There is no such plan.", param="plan")
        now = site.plan(user.plan_id)
        runs = amount(len(site.gate.running(user.id)), "request runs", "requests run")
        text = (
            f"From {now.id} ({now.daily_requests:,} requests a day, {now.concurrent_requests} at once) to {plan.id} "
            f"({plan.daily_requests:,} a day, {plan.concurrent_requests} at once). {runs} now, to the end. "
            f"Models that {now.id} has and {plan.id} has not: {_lost(now.models, plan.models)}. The owner is mailed."
        )
        question = ConfirmQuestion(f"Put {user.email} on {plan.id}", text, f"Put on {plan.id}", danger=False)
        return self._ask(request, user, question, {"plan": plan.id})

    async def verify(self, request: Request) -> Response:
        """Take the address as verified."""
        question = ConfirmQuestion(
            "Take the address as verified",
            "Its keys work from then on. Do it when you know that the person reads this mailbox.",
            "Verify",
            danger=False,
        )
        return await self._change(request, question, Changes(verified=True))

    async def disable(self, request: Request) -> Response:
        """Close the account."""
        user = await self._user(request)
        async with self._site.database.connect() as conn:
            hour = await rollups.sums(
                conn, user.id, range(day_of(self._site.clock()), day_of(self._site.clock()) + 1)
            )
        runs = amount(len(self._site.gate.running(user.id)), "request runs", "requests run")
        question = ConfirmQuestion(
            f"Disable {user.email}",
            f"Its keys answer 403 within seconds and its sessions end. {runs} at the moment and on to "
            f"their end; today it has sent {hour.requests:,}. You can enable it again at any time.",
            "Disable the account",
        )
        return await self._change(request, question, Changes(disabled=True))

    async def enable(self, request: Request) -> Response:
        """Open the account again."""
        question = ConfirmQuestion(
            "Enable the account", "Its keys work again within seconds.", "Enable", danger=False
        )
        return await self._change(request, question, Changes(disabled=False))

    async def delete(self, request: Request) -> Response:
        """Have the account deleted in a week, once its address was typed."""
        site, user = self._site, await self._user(request)
        async with site.database.connect() as conn:
            keys = await management.working_keys(conn, user.id, now=site.now())
        week = site.now() - people.DELETE_MS
        used = [key.name for key in keys if key.last_used_at is not None and key.last_used_at >= week]
        question = ConfirmQuestion(
            f"Delete {user.email}",
            "In seven days the account is gone, with its keys and its log; until then it can be kept. Its keys "
            f"({len(keys)}) stop working within seconds; used in the last seven days: {', '.join(used) or 'none'}. "
            "The owner is mailed.",
            "Delete in seven days",
            typed=user.email,
        )
        if request.method != "POST":
            return self._ask(request, user, question)
        form = await read_form(request)
        if form.text("typed").lower() != user.email.lower():
            return self._ask(request, user, question, error="This is not the address of the account.")
        async with site.database.transaction() as conn:
            await people.delete_and_tell(
                conn,
                user,
                actor_of(request, signed_in(request)),
                self._post,
                reason=form.text("reason"),
                now=site.now(),
                entropy=site.entropy,
            )
        self._context.operation.mail_queued()
        return go(f"/admin/users/{user.id}", "admin-saved")

    async def keep(self, request: Request) -> Response:
        """Keep the account after all."""
        site, user = self._site, await self._user(request)
        if request.method != "POST":
            question = ConfirmQuestion(
                f"Keep {user.email}", "It is not deleted, and its keys work again.", "Keep", danger=False
            )
            return self._ask(request, user, question)
        form = await read_form(request)
        async with site.database.transaction() as conn:
            await people.keep(
                conn,
                user,
                actor_of(request, signed_in(request)),
                reason=form.text("reason"),
                now=site.now(),
                entropy=site.entropy,
            )
        return go(f"/admin/users/{user.id}", "admin-saved")

    async def end_sessions(self, request: Request) -> Response:
        """Sign the person out everywhere."""
        site, user = self._site, await self._user(request)
        if request.method != "POST":
            question = ConfirmQuestion(
                f"Sign {user.email} out everywhere",
                "Every browser has to sign in again. Keys go on working.",
                "End all sessions",
                reason=False,
            )
            return self._ask(request, user, question)
        await read_form(request)
        async with site.database.transaction() as conn:
            await people.end_sessions(
                conn, user, actor_of(request, signed_in(request)), now=site.now(), entropy=site.entropy
            )
        return go(f"/admin/users/{user.id}", "session")

    async def revoke(self, request: Request) -> Response:
        """End a key."""
        site, user = self._site, await self._user(request)
        async with site.database.connect() as conn:
            key = await management.get_key(conn, user.id, request.path_params["key"])
        if request.method != "POST":
            last = "was never used" if key.last_used_at is None else "was last used at the time below"
            question = ConfirmQuestion(
                f"Revoke the key {key.name}",
                f"{key.shown} of {user.email} {last}. It stops working within seconds. Within ten minutes you can have it "
                "work again, unless the reason is leaked; it cannot be shown any more then.",
                "Revoke the key",
            )
            return self._ask(request, user, question, last_used=key.last_used_at)
        form = await read_form(request)
        async with site.database.transaction() as conn:
            await people.revoke_key(
                conn,
                key,
                actor_of(request, signed_in(request)),
                reason=form.text("reason"),
                now=site.now(),
                entropy=site.entropy,
            )
        return go(f"/admin/users/{user.id}", "revoked")

    # ---- seen as by its owner

    async def view(self, request: Request) -> Response:
        """See the account's pages as its owner does, for half an hour."""
        site, viewer, user = self._site, signed_in(request), await self._user(request)
        await read_form(request)
        async with site.database.transaction() as conn:
            value = await view_as.begin(
                conn,
                site.secrets_file,
                user,
                viewer.session.id,
                actor_of(request, viewer),
                now=site.now(),
                entropy=site.entropy,
            )
        return self._with_cookie(request, go("/dashboard"), value)

    async def stop_viewing(self, request: Request) -> Response:
        """No longer."""
        site, viewer = self._site, signed_in(request)
        await read_form(request)
        cookie = request.cookies.get(view_cookie(cookies_of(request)), "")
        seen = view_as.read(cookie, site.secrets_file)
        there = "/admin/users"
        if seen is not None and seen.session == viewer.session.id:
            async with site.database.transaction() as conn:
                user = await accounts.user_by_id(conn, seen.target)
                if user is not None:
                    there = f"/admin/users/{user.id}"
                    await view_as.end(
                        conn, user, actor_of(request, viewer), now=site.now(), entropy=site.entropy
                    )
        return self._with_cookie(request, go(there), "")

    def _with_cookie(self, request: Request, response: Response, value: str) -> Response:
        cookies = cookies_of(request)
        response.set_cookie(
            view_cookie(cookies),
            value,
            max_age=view_as.VIEW_MS // 1000 if value else 0,
            httponly=True,
            samesite="strict",
            secure=cookies.secure,
        )
        return response

    # ---- what they share

    async def _user(self, request: Request) -> User:
        async with self._site.database.connect() as conn:
            user = await accounts.user_by_id(conn, request.path_params["id"])
        if user is None:
            raise PageNotFound("There is no such account.")
        return user

    async def _change(self, request: Request, question: ConfirmQuestion, wanted: Changes) -> Response:
        site, user = self._site, await self._user(request)
        if request.method != "POST":
            return self._ask(request, user, question)
        form = await read_form(request)
        viewer: Viewer = signed_in(request)
        async with site.database.transaction() as conn:
            await people.change_and_tell(
                conn,
                user,
                wanted,
                actor_of(request, viewer),
                self._post,
                reason=form.text("reason"),
                now=site.now(),
                entropy=site.entropy,
            )
        return go(f"/admin/users/{user.id}", "admin-saved")

    def _ask(
        self,
        request: Request,
        user: User,
        question: ConfirmQuestion,
        hidden: Mapping[str, str] | None = None,
        *,
        last_used: int | None = None,
        error: str = "",
    ) -> Response:
        return self._site.pages.render(
            request,
            "admin/confirm.html",
            {
                "question": question,
                "hidden": hidden or {},
                "back": f"/admin/users/{user.id}",
                "last_used": last_used,
                "error": error,
            },
            status=400 if error else 200,
        )


def _lost(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    return ", ".join(name for name in before if name not in after) or "none"
