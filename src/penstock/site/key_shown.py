"""Key as snippets show it: with the beginning of the reader's own, so that they know which one to put in."""

from starlette.requests import Request

from penstock.core.api_key import KEY_PREFIX
from penstock.domain.keys import management
from penstock.site.context import SiteContext
from penstock.site.session import viewer_of

PLACEHOLDER = f"{KEY_PREFIX}YOUR-KEY"
"""What stands for a key where nobody is signed in."""


async def key_shown(context: SiteContext, request: Request) -> str:
    """``sk-ps-AbCdEf...YOUR-KEY``: of the working key that was used last, else of the newest."""
    viewer = viewer_of(request)
    if viewer is None:
        return PLACEHOLDER
    async with context.database.connect() as conn:
        keys = await management.working_keys(conn, viewer.user.id, now=context.now())
    own = [key for key in keys if not key.of_playground]
    if not own:
        return PLACEHOLDER
    newest = max(own, key=lambda key: (key.last_used_at or 0, key.created_at))
    return f"{newest.shown.partition('...')[0]}...YOUR-KEY"
