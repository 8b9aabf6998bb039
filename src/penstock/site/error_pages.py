"""Error pages: the words of the API's errors, in a page."""

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.core.quoting import url_path
from penstock.errors import CallerError, PenstockError
from penstock.site.context import path_of, retry_headers
from penstock.site.pages import Pages
from penstock.site.session import SignInFirst

log = logging.getLogger("penstock.site")


class PageNotFound(CallerError):
    """There is no such page."""

    status = 404
    code = "page_not_found"


class ErrorPages:
    """What Starlette calls when a page cannot be made."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def ours(self, request: Request, error: Exception) -> Response:
        """An error of our own tree."""
        if not isinstance(error, PenstockError):
            raise error
        if isinstance(error, SignInFirst) and request.method in {"GET", "HEAD"}:
            wanted = url_path(path_of(request))
            return RedirectResponse(
                f"/signin?next={wanted}", status_code=303, headers={"cache-control": "no-store"}
            )
        return self._page(request, error.status, error.message, retry_headers(error))

    async def http(self, request: Request, error: Exception) -> Response:
        """No such page, or not by this method."""
        if not isinstance(error, HTTPException):
            raise error
        text = "There is no page here." if error.status_code == 404 else str(error.detail)
        return self._page(request, error.status_code, text, dict(error.headers or {}))

    async def left(self, _request: Request, _error: Exception) -> Response:
        """The browser has left before all of its form was there. Nothing failed, and nobody hears what we say."""
        return Response(status_code=400)

    async def broken(self, request: Request, error: Exception) -> Response:
        """A fault of ours."""
        log.error("a page failed", exc_info=error)
        return self._page(request, 500, "Something went wrong here; the operator has been told.", {})

    def _page(self, request: Request, status: int, text: str, headers: dict[str, str]) -> Response:
        return self._pages.render(
            request,
            "error.html",
            {"heading": HTTPStatus(status).phrase, "text": text},
            status=status,
            headers={"cache-control": "no-store", **headers},
        )
