"""The trail for staff: read by filters, taken away as a file; and the changes of it, each with its undoing."""

from collections.abc import AsyncGenerator
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.domain.staff import undo
from penstock.domain.trail import chain, changes, entries
from penstock.domain.trail.entries import Subject
from penstock.domain.trail.export import line_of
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.context import go
from penstock.site.pages import NO_STORE
from penstock.site.session import read_form, signed_in
from penstock.site.turns import in_turns

_FILTERS = ("actor", "action", "object_kind", "object_id", "address", "result", "before")
"""What an address of the page may say, in the order of ``TrailFilter``."""


class TrailPages:
    """The pages under ``/admin/audit`` and ``/admin/changes``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/audit", self.audit, "read"),
            AdminRoute("/admin/audit/verify", self.verify, "read", ("POST",)),
            AdminRoute("/admin/audit.jsonl", self.export, "export"),
            AdminRoute("/admin/changes", self.changes, "read"),
            AdminRoute("/admin/changes/{operation}", self.change, "read"),
            AdminRoute("/admin/changes/{operation}/undo", self.undo, "people", ("POST",)),
        ]

    async def audit(self, request: Request) -> Response:
        """Entries, the newest first."""
        return await self._page(request, None)

    async def verify(self, request: Request) -> Response:
        """Walk the whole chain, and say what was found."""
        await read_form(request)
        async with self._site.database.connect() as conn:
            verdict = await chain.verify(conn)
        return await self._page(request, verdict)

    async def _page(self, request: Request, verdict: chain.Verdict | None) -> Response:
        site, query, viewer = self._site, request.query_params, signed_in(request)
        given = [query.get(name, "").strip()[:320] for name in _FILTERS]
        chosen = entries.TrailFilter(*given)
        async with site.database.connect() as conn:
            rows, cursor = await entries.page(conn, chosen)
            mark = await chain.newest_checkpoint(conn)
        kept = {name: value for name, value in query.items() if name != "before" and value}
        return site.pages.render(
            request,
            "admin/audit.html",
            {
                "rows": rows,
                "chosen": chosen,
                "older": urlencode({**kept, "before": cursor}) if cursor else "",
                "newest": urlencode(kept),
                "mark": mark,
                "verdict": verdict,
                "may_export": allows(viewer, "export"),
            },
        )

    async def export(self, request: Request) -> Response:
        """All of it, as JSON Lines with its hashes."""
        site = self._site
        async with site.database.transaction() as conn:
            await entries.write(
                conn,
                actor_of(request, signed_in(request)),
                "trail_exported",
                Subject("trail", ""),
                now=site.now(),
                entropy=site.entropy,
            )
        return StreamingResponse(
            self._lines(),
            media_type="application/jsonl; charset=utf-8",
            headers={**NO_STORE, "content-disposition": 'attachment; filename="trail.jsonl"'},
        )

    async def _lines(self) -> AsyncGenerator[bytes]:
        number = 0
        while True:
            async with self._site.database.connect() as conn:
                batch = await chain.sealed_after(conn, number)
            if not batch:
                return
            async for some in in_turns(batch):
                yield "".join(f"{line_of(entry)}\n" for entry in some).encode()
            number = batch[-1].seq or number

    # ---- changes

    async def changes(self, request: Request) -> Response:
        """Changes, the newest first."""
        site, query = self._site, request.query_params
        async with site.database.connect() as conn:
            rows, cursor = await changes.page(
                conn,
                object_kind=query.get("kind", "")[:24],
                object_id=query.get("id", "")[:200],
                before=query.get("before", ""),
            )
        kept = {name: value for name, value in query.items() if name != "before" and value}
        return site.pages.render(
            request,
            "admin/changes.html",
            {
                "rows": rows,
                "older": urlencode({**kept, "before": cursor}) if cursor else "",
                "now": site.now(),
            },
        )

    async def change(self, request: Request) -> Response:
        """All that one operation changed, to those who may make such changes, and what undoing it would do."""
        site, viewer = self._site, signed_in(request)
        operation: str = request.path_params["operation"]
        async with site.database.connect() as conn:
            found = await changes.of_operation(conn, operation)
            why_not = await undo.why_not(conn, operation, self._context.operation.kinds, now=site.now())
        return site.pages.render(
            request,
            "admin/change.html",
            {
                "rows": found,
                "operation": operation,
                "why_not": why_not,
                "may_see": bool(found) and undo.allowed(viewer.user.role, found),
            },
            status=200 if found else 404,
        )

    async def undo(self, request: Request) -> Response:
        """Take an operation back."""
        site, viewer = self._site, signed_in(request)
        await read_form(request)
        async with site.database.transaction() as conn:
            await undo.take_back(
                conn,
                request.path_params["operation"],
                viewer.user.role,
                self._context.operation.kinds,
                actor_of(request, viewer),
                now=site.now(),
                entropy=site.entropy,
            )
        return go("/admin/changes", "undone")
