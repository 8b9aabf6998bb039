"""Pages of the playground: a workbench for requests to any chat model of the plan, in all three formats.

The page sends its requests to the same API as everybody, with a key of its own that lives for an hour in the page alone.
What is said there is kept by the browser (``static/playground/memory.js``) and never comes here but as a request.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.domain.keys.management import renew_playground_key
from penstock.site.context import SiteContext
from penstock.site.key_shown import key_shown
from penstock.site.pages import NO_STORE
from penstock.site.session import read_form, signed_in

SHOWN = (
    ("request", "Request"),
    ("answer", "Answer"),
    ("curl", "curl"),
    ("python", "Python"),
    ("javascript", "JavaScript"),
)
"""What the page shows of a request: the name of its place, and how it is called."""


class PlaygroundPages:
    """The playground, and what it asks of the site."""

    def __init__(self, context: SiteContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/playground", self.playground),
            Route("/playground/key", self.key, methods=["POST"]),
        ]

    async def playground(self, request: Request) -> Response:
        """A conversation with any chat model of the plan."""
        context = self._context
        user = signed_in(request).user
        more = {
            "models": context.catalog().offered(user.plan_id, kind="chat"),
            "shown": SHOWN,
            "key_shown": await key_shown(context, request),
        }
        return context.pages.render(request, "desk/playground.html", more)

    async def key(self, request: Request) -> Response:
        """A key for an hour, which the page alone holds: its requests go the way of all others, and count."""
        context = self._context
        user = signed_in(request).user
        await read_form(request)
        async with context.database.transaction() as conn:
            key = await renew_playground_key(
                conn, context.secrets_file, user.id, now=context.now(), entropy=context.entropy
            )
        return Response(key, media_type="text/plain", headers=NO_STORE)
