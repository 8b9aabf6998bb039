"""What stands before all pages: protective headers on every answer, and a 400 for requests that no page can be asked by."""

import re
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.errors import InvalidRequest

_HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
            b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_NUL = b"%00"
_COOKIE_PATH = re.compile(rb"(; *path=)(/[^;]*)", re.IGNORECASE)
_REFUSED = "This request has a character in it that no page has, or an origin that is none.\n"


class Hsts(msgspec.Struct, frozen=True):
    """For how many seconds browsers keep to https once they came by it, 0 to say nothing of it.

    ``always``: all come by it, whatever the nearest proxy says.
    """

    seconds: int
    always: bool


class SecurityHeaders:
    """Adds the same protective headers to every answer, the one for a page that failed included."""

    def __init__(self, app: ASGIApp, hsts: Hsts) -> None:
        self._app = app
        self._always = hsts.always
        self._hsts = ((b"strict-transport-security", b"max-age=%d" % hsts.seconds),) if hsts.seconds else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with the headers added to the response's own."""
        started = False
        known = self._always or scope.get("scheme") == "https"
        added = (*_HEADERS, *self._hsts) if known else _HEADERS

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            # Not even the page for failures could be made.
            if not started:
                await PlainTextResponse("Something went wrong here.\n", 500)(scope, receive, sending)
            raise


class BelowBasePath:
    """Puts the base path of the service before the addresses that answers' headers name; what is inside knows none."""

    def __init__(self, app: ASGIApp, base_path: str) -> None:
        """``base_path`` is such as ``/penstock``."""
        self._app = app
        self._base = base_path.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""

        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        # With this begins what Starlette makes of a path with a slash too many.
        here = f"{scope.get('scheme', 'http')}://{host}/".encode("latin-1")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = message.get("headers", ())
                message["headers"] = [(name, self._below(name, value, here)) for name, value in found]
            await send(message)

        await self._app(scope, receive, sending)

    def _below(self, name: bytes, value: bytes, here: bytes) -> bytes:
        if name == b"location" and value.startswith(here):
            return self._base + value[len(here) - 1 :]
        if name == b"location" and value.startswith(b"/") and not value.startswith(b"//"):
            return self._base + value
        if name == b"set-cookie":
            return _COOKIE_PATH.sub(lambda found: found[1] + self._base + found[2].rstrip(b"/"), value)
        return value


class ReadableRequests:
    """Refuses what no page can be asked by: NUL, which no database of ours stores, and origins that are none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or answer 400."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _readable(scope):
            await self._app(scope, _without_nul(receive), send)
        else:
            await PlainTextResponse(_REFUSED, 400, {"cache-control": "no-store"})(scope, receive, send)


def _readable(scope: Scope) -> bool:
    if "\0" in scope["path"] or _NUL in scope["query_string"]:
        return False
    try:
        urlsplit(Headers(scope=scope).get("origin", ""))
    except ValueError:
        return False
    return True


def _without_nul(receive: Receive) -> Receive:
    """The body, which is a form. Whoever reads a NUL in it gets ``InvalidRequest``."""
    end = b""

    async def receiving() -> Message:
        nonlocal end
        message = await receive()
        seen = end + message.get("body", b"")
        if _NUL in seen or b"\0" in seen:
            raise InvalidRequest("The form has a character in it that cannot be stored.")
        end = seen[-2:]
        return message

    return receiving
