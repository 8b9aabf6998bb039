"""Sessions of browsers: whose cookie a page is shown for, and whether what is sent to it comes from a form of ours.

A browser gets a random token in a cookie with the first form that it is shown. Forms carry a second token made from it, and
browsers say themselves where a request comes from; both are asked of every request that may change something. A token is
somebody's session once that somebody has signed in. API keys mean nothing here, and cookies nothing on the API's routes.
"""

import secrets
from collections.abc import Callable
from hmac import compare_digest
from urllib.parse import parse_qsl, urlsplit

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.domain.accounts import accounts, sessions
from penstock.domain.accounts.accounts import User
from penstock.domain.accounts.sessions import Lifetime, Session, digest_of, form_token, is_token, new_token
from penstock.domain.accounts.sign_in import Visitor
from penstock.domain.limits import network_of
from penstock.domain.staff import view_as
from penstock.domain.staff.roles import may
from penstock.errors import AccountLeaving, CallerError, InvalidRequest, RequestTooLarge
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database

FORM_FIELD = "form_token"
FORM_HEADER = "x-form-token"
MOST_FORM_BYTES = 64 * 1024
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({"same-origin", "none"})
_USUAL_PORTS = {"http": 80, "https": 443}
_VIEWED = "You see this account as its owner does, and change nothing. Stop viewing it first."
_NOT_VIEWED = (".csv", "/export", "/welcome")
"""What of an account's pages nobody sees but its owner: files to take away, and the page that shows the first key."""
_MOST_SHOWN = 200
"""How much of an address is repeated on a page, in characters."""
_OF_LEAVERS = frozenset({"/settings/stay", "/settings/sessions/end"})
"""What can be changed of an account that will be deleted."""


class ForeignForm(CallerError):
    """A request that may change something did not come from a form of ours."""

    status = 403
    code = "foreign_form"


class ViewedOnly(CallerError):
    """Staff see this account as its owner does, and change nothing by that."""

    status = 403
    code = "viewed_only"


class SignInFirst(CallerError):
    """The page is for who is signed in."""

    status = 401
    code = "sign_in_first"


class Viewer(msgspec.Struct, frozen=True):
    """Who is signed in, and by which session."""

    user: User
    session: Session
    staff: User | None = None
    """Who looks at the pages of ``user``, where that is a member of the staff."""


class Cookies(msgspec.Struct):
    """What a request's cookie says, and what the answer is to say. ``token`` '': the browser has none yet."""

    name: str
    secure: bool
    token: str
    viewer: Viewer | None = None
    pending: Session | None = None
    """A right password, with the second factor still missing."""
    fresh: str | None = None
    """A token to set with the answer; '' to take the cookie away."""
    public_origin: str = ""
    """Where the operator says that browsers find the pages, '' where nothing is said."""


class SessionMiddleware:
    """Looks up the session of each request to a page, and sets the cookie that a handler wanted."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        database: Database,
        lifetime: Lifetime,
        now: Callable[[], float],
        public_url: str,
        secrets_file: SecretsFile,
    ) -> None:
        """``now`` gives epoch seconds; ``public_url`` is '' where nobody said where browsers find the pages."""
        self._secrets_file = secrets_file
        self._app = app
        self._public_origin = _origin(public_url)
        # A cookie that is bound to its host has to be of all of its paths.
        self._secure_name = "__Secure-penstock" if urlsplit(public_url).path else "__Host-penstock"
        self._database = database
        self._lifetime = lifetime
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        cookies = _read(request, self._secure_name)
        cookies.public_origin = self._public_origin
        scope.setdefault("state", {})["cookies"] = cookies
        if cookies.token:
            await self._look_up(request, cookies)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and cookies.fresh is not None:
                MutableHeaders(scope=message).append("set-cookie", self._cookie(cookies))
            await send(message)

        await self._app(scope, receive, sending)

    async def _look_up(self, request: Request, cookies: Cookies) -> None:
        now = int(self._now() * 1000)
        async with self._database.connect() as conn:
            session = await sessions.find(conn, cookies.token, self._lifetime, now=now)
            user = None if session is None else await accounts.get_user(conn, session.user_id)
        if session is None or user is None or user.disabled_at is not None:
            return
        if session.stage == "password":
            cookies.pending = session
            return
        cookies.viewer = Viewer(user, session)
        if user.role and not _is_of_staff(request.url.path):
            await self._look_as(request, cookies, cookies.viewer, now)
        if sessions.wants_touch(session, now):
            async with self._database.transaction() as conn:
                await sessions.touch(conn, session, address_of(request), now=now)

    async def _look_as(self, request: Request, cookies: Cookies, staff: Viewer, now: int) -> None:
        """Where staff see the pages of an account: whose they are, decided here alone."""
        viewed = view_as.read(request.cookies.get(view_cookie(cookies), ""), self._secrets_file)
        if viewed is None or viewed.until <= now or viewed.session != staff.session.id:
            return
        if not may(staff.user.role, "view_as"):
            return
        async with self._database.connect() as conn:
            user = await accounts.user_by_id(conn, viewed.target)
        if user is not None:
            cookies.viewer = Viewer(user, staff.session, staff.user)

    def _cookie(self, cookies: Cookies) -> str:
        age = int(self._lifetime.longest / 1000) if cookies.fresh else 0
        secure = "; Secure" if cookies.secure else ""
        return f"{cookies.name}={cookies.fresh}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"


def cookies_of(request: Request) -> Cookies:
    """What the middleware has found."""
    return request.state.cookies


def viewer_of(request: Request) -> Viewer | None:
    """Who is signed in."""
    return cookies_of(request).viewer


def signed_in(request: Request) -> Viewer:
    """Who is signed in. Raises ``SignInFirst``; ``AccountLeaving`` for what an account that will be deleted may not change."""
    viewer = viewer_of(request)
    if viewer is None:
        raise SignInFirst("Sign in first.")
    if viewer.staff is not None and (not is_safe(request) or request.url.path.endswith(_NOT_VIEWED)):
        raise ViewedOnly(_VIEWED)
    leaving = viewer.user.leaving_at is not None
    if leaving and not is_safe(request) and request.url.path not in _OF_LEAVERS:
        raise AccountLeaving("This account is being deleted. Keep it first, under Settings.")
    return viewer


def token_of(request: Request) -> str:
    """The token of the browser, which gets its cookie with this answer where it has none."""
    cookies = cookies_of(request)
    token = cookies.fresh or cookies.token
    if not token:
        token = cookies.fresh = new_token(secrets.token_bytes)
    return token


def form_token_of(request: Request) -> str:
    """What a form on the page has to carry."""
    return form_token(token_of(request))


def visitor_of(request: Request) -> Visitor:
    """The browser, as far as sign-in knows it. One without a token has the digest '', under which nothing is ever kept."""
    cookies = cookies_of(request)
    address = address_of(request)
    token = cookies.fresh or cookies.token
    return Visitor(digest_of(token) if token else b"", address, network_of(address))


def address_of(request: Request) -> str:
    """Where the request comes from."""
    return "" if request.client is None else request.client.host


_MOST_FIELDS = 500
"""A form that has a box for each model has many."""


class SubmittedForm:
    """The fields of a form, each at most once."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """A field without the spaces around it; '' where it was not sent."""
        return self._fields.get(name, "").strip()

    def exact(self, name: str) -> str:
        """A field as it was typed: passwords."""
        return self._fields.get(name, "")

    def chosen(self, prefix: str) -> tuple[str, ...]:
        """What was ticked: the rest of the names of fields that begin so."""
        return tuple(name.removeprefix(prefix) for name in self._fields if name.startswith(prefix))


async def read_form(request: Request) -> SubmittedForm:
    """The form that was sent. Raises ``ForeignForm``, ``InvalidRequest``, ``RequestTooLarge``, ``ViewedOnly``."""
    viewer = viewer_of(request)
    if viewer is not None and viewer.staff is not None:
        raise ViewedOnly(_VIEWED)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM_BYTES:
            raise RequestTooLarge(f"A form has at most {MOST_FORM_BYTES >> 10} KiB.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidRequest("The form cannot be read.") from error
    fields = dict(pairs)
    _check_origin(request, request.headers.get(FORM_HEADER) or fields.get(FORM_FIELD, ""))
    return SubmittedForm(fields)


def view_cookie(cookies: Cookies) -> str:
    """The name of the cookie that says whose pages a member of the staff sees."""
    return f"{cookies.name}-view"


def _is_of_staff(path: str) -> bool:
    return path == "/admin" or path.startswith("/admin/")


def is_safe(request: Request) -> bool:
    """Whether the request changes nothing by its method."""
    return request.method in _SAFE


def _check_origin(request: Request, given: str) -> None:
    cookies = cookies_of(request)
    token = cookies.token
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if origin is not None and origin != "null" and not _is_ours(origin, cookies, request):
        asked = cookies.public_origin or request.headers.get("host", "")
        raise ForeignForm(
            f"This form was sent from {_shown(origin)}, and this service is at {_shown(asked)}. Open the page there. "
            "If that is not its address, its operator sets public_url."
        )
    foreign = site is not None and site not in _OURS
    if foreign or not token or not compare_digest(given.encode(), form_token(token).encode()):
        raise ForeignForm(
            "This form was opened too long ago, or in another place. Go back, load the page again, and send it once more."
        )


def _is_ours(origin: str, cookies: Cookies, request: Request) -> bool:
    """Whether a browser shows a page of ours there: at the operator's own address, or where the request was sent to.

    What a proxy makes of Host is its own affair, and often without the port.
    """
    found = _origin(origin)
    scheme = found.partition("://")[0]
    host = request.headers.get("host")
    return bool(found) and (
        found == cookies.public_origin or (host is not None and found == _origin(f"{scheme}://{host}"))
    )


def _origin(url: str) -> str:
    """Scheme, host and port in the one spelling that browsers have for them; '' for what has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if parts.scheme not in _USUAL_PORTS or not host:
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port in (None, _USUAL_PORTS[parts.scheme]) else f":{port}")


def _shown(address: str) -> str:
    """An address that somebody sent, as it may stand on a page."""
    return "".join(one if one.isprintable() else "?" for one in address[:_MOST_SHOWN])


def _read(request: Request, secure_name: str) -> Cookies:
    secure = request.url.scheme == "https"
    name = secure_name if secure else "penstock"
    token = request.cookies.get(name, "")
    return Cookies(name, secure, token if is_token(token) else "")
