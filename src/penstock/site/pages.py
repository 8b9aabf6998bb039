"""Pages: the one template environment, and what every page is given."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from penstock.core.amounts import amount
from penstock.core.quoting import url_host, url_path
from penstock.domain.catalog.catalog import Catalog
from penstock.site.brand import Brand
from penstock.site.icons import icon
from penstock.site.notice_board import NoticeBoard
from penstock.site.oauth.providers import OAuthProvider
from penstock.site.session import Viewer, form_token_of, viewer_of

NO_STORE = {"cache-control": "no-store, private"}


class MenuEntry(msgspec.Struct, frozen=True):
    """An entry of a menu."""

    path: str
    name: str
    icon: str = ""
    also: tuple[str, ...] = ()
    """What the paths of its other pages begin with."""

    def holds(self, path: str) -> bool:
        """Whether a page is one of this place's."""
        ours = path == self.path or (path.startswith(f"{self.path}/") and self.path != "/admin")
        return ours or path.startswith(self.also)


PUBLIC = (
    MenuEntry("/models", "Models"),
    MenuEntry("/pricing", "Plans"),
    MenuEntry("/docs", "Docs"),
    MenuEntry("/status", "Status"),
)
"""The menu of the public pages."""

PRIVATE = (
    MenuEntry("/dashboard", "Overview", "gauge"),
    MenuEntry("/keys", "API keys", "key"),
    MenuEntry("/requests", "Requests", "rows"),
    MenuEntry("/usage", "Usage", "bars"),
    MenuEntry("/slots", "Live slots", "pulse"),
    MenuEntry("/playground", "Playground", "spark"),
    MenuEntry("/plan", "Plan", "steps"),
    MenuEntry("/settings", "Settings", "dial"),
)
"""The menu of who is signed in."""


ADMIN = (
    MenuEntry("/admin", "Overview", "gauge"),
    MenuEntry("/admin/live", "Live", "pulse"),
    MenuEntry("/admin/requests", "Requests", "rows"),
    MenuEntry("/admin/users", "Users", "people"),
    MenuEntry("/admin/plans", "Plans", "steps"),
    MenuEntry("/admin/models", "Models", "spark", ("/admin/catalog",)),
    MenuEntry("/admin/providers", "Providers", "plug"),
    MenuEntry("/admin/notices", "Notices", "flag"),
    MenuEntry("/admin/notifications", "Notifications", "bell"),
    MenuEntry("/admin/exports", "Exports", "out"),
    MenuEntry("/admin/mail", "Mail", "letter"),
    MenuEntry("/admin/staff", "Staff", "badge", ("/admin/tokens",)),
    MenuEntry("/admin/audit", "Audit", "book", ("/admin/changes",)),
    MenuEntry("/admin/captures", "Captures", "copy"),
    MenuEntry("/admin/settings", "Settings", "dial"),
    MenuEntry("/admin/jobs", "Jobs", "bars"),
)
"""The menu of the staff."""

_LOCAL = re.compile(r'(?<=\s)(href|action|src|data-poll)="/(?!/)')
"""Addresses of ours in the attributes of a page. No text has a quotation mark in it that is not escaped."""


class Pages:
    """Renders templates. One per process."""

    def __init__(
        self,
        *,
        brand: str,
        public_url: str,
        catalog: Callable[[], Catalog],
        signup: bool,
        mails_printed: bool,
        oauth: Mapping[str, OAuthProvider],
        look: Brand | None = None,
        board: NoticeBoard | None = None,
    ) -> None:
        """``oauth`` are the other ways in; ``mails_printed``: mails go to the console, where nobody else sees them.

        ``public_url`` has no slash at its end, or is '' where callers are told the address they used themselves.
        """
        self.public_url = public_url
        self.base_path = urlsplit(public_url).path
        """What every path of ours begins with towards browsers, '' for none; handlers and templates know nothing of it."""
        self._catalog = catalog
        self._board = board
        self._templates = Environment(
            loader=PackageLoader("penstock.site"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._shared: dict[str, object] = {
            "brand": brand,
            "look": look or Brand(brand),
            "public_places": PUBLIC,
            "private_places": PRIVATE,
            "admin_places": ADMIN,
            "signup": signup,
            "mails_printed": mails_printed,
            "federation": list(oauth.values()),
            "asset": _Assets(),
            "icon": icon,
            "base_path": self.base_path,
            "plan_ids": lambda: tuple(catalog().plans),
        }
        self._templates.filters.update(
            grouped=grouped,
            moment=moment_markup,
            day=day,
            ago=ago,
            date=date_of,
            seconds=seconds,
            compact=compact,
            url_path=url_path,
        )
        with_arguments: dict[str, Any] = {
            "lately": lately,
            "browser": browser,
            "paired": paired,
            "many": amount,
        }
        self._templates.filters.update(with_arguments)

    def origin(self, request: Request) -> str:
        """What callers put before ``/api/v1``."""
        return self.public_url or f"{request.url.scheme}://{url_host(request.url.netloc)}"

    def _captured_until(self, viewer: Viewer | None) -> int | None:
        """Until when what the viewer's account asks and gets is kept, of which everybody of it is told."""
        if viewer is None or self._board is None:
            return None
        return self._board.captured_until(viewer.user.id)

    def render(
        self,
        request: Request,
        template: str,
        context: Mapping[str, object] | None = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A page. What depends on who looks at it is never stored by anything in between."""
        viewer = viewer_of(request)
        page = self._templates.get_template(template).render(
            {
                **self._shared,
                "viewer": viewer,
                "path": request.url.path,
                "origin": self.origin(request),
                "base_url": f"{self.origin(request)}/api/v1",
                "simulated": self._catalog().simulated,
                "banners": () if self._board is None else self._board.banners(viewer and viewer.user.plan_id),
                "captured_until": self._captured_until(viewer),
                "form_token": form_token_of(request),
                "notice": request.query_params.get("notice", ""),
                "notices": NOTICES,
                **(context or {}),
            }
        )
        if self.base_path:
            page = _LOCAL.sub(rf'\1="{self.base_path}/', page)
        private = viewer is not None or request.method != "GET"
        kept = NO_STORE if private else {"cache-control": "no-cache", "vary": "cookie"}
        return HTMLResponse(page, status_code=status, headers={**kept, **(headers or {})})


NOTICES = {
    "signed-out": "You are signed out.",
    "password": "Your password has changed, and every other session has ended.",
    "email": "Your e-mail address has changed.",
    "session": "The session has ended.",
    "revoked": "The key is revoked. It stops working within seconds.",
    "key-changed": "The key is changed. Servers follow within seconds.",
    "saved": "Saved.",
    "asked": "The operator is being mailed. Your plan changes when they set it; you are mailed then.",
    "asked-nobody": "Your wish is kept, but no operator has an address here to be mailed at. Write to them yourself.",
    "kept": "Your account stays.",
    "factor-off": "The second factor is off.",
    "ended": "The request is being ended.",
    "admin-saved": "Done. It is in the audit log, and can be undone where that is said.",
    "catalog-saved": "Applied. Servers follow within seconds; the change can be undone for 30 days.",
    "provider-added": "The provider has answered and is added. Nothing is published yet: choose its models below.",
    "provider-saved": "Saved. Every server follows within seconds; the change can be undone for 30 days.",
    "provider-switched": "Said. Every server follows within seconds.",
    "undone": "The change is undone.",
    "captured": "Said. Every server follows within seconds.",
    "told": "It is told. Every server shows it within seconds.",
    "backfill-started": "What was settled then is sent, beside what is settled now.",
    "backfill-stopped": "Stopped. What has arrived stays there.",
    "outward-removed": "Removed. Nothing new goes there; the change can be undone for 30 days.",
    "rule-added": "Added. Events go by it from now on.",
    "sent-again": "It is sent again within seconds.",
    "mail-queued": "The mail is on its way, if the mail server takes it.",
    "resent": "A new code is on its way, if one can be sent to this address.",
}
"""What a page may be asked to say after a redirect; a name in the address, never a text."""


class _Assets:
    """``asset("app.css")``: the path of a static file, with a part that changes with its content."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        path = self._known.get(name)
        if path is None:
            content = files("penstock.site").joinpath("static", name).read_bytes()
            path = self._known[name] = f"/static/{name}?v={sha256(content).hexdigest()[:10]}"
        return path


def viewer_name(viewer: Viewer) -> str:
    """How a person is addressed where the whole address would not fit."""
    return viewer.user.email.partition("@")[0]


# ---- filters

NONE = "-"
"""What stands where there is no figure."""


def grouped(number: float | None) -> str:
    """``12,345``; a dash where there is none."""
    return NONE if number is None else f"{number:,.0f}"


_BROWSERS = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("SamsungBrowser", "Samsung Internet"), ("Firefox/", "Firefox"), ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl"), ("python", "Python"),
)  # fmt: skip
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip
"""What stands in the user agents of browsers, the more particular first, and how people call it."""


def browser(agent: str) -> str:
    """``Firefox on Windows``; what is not known is said as it came."""
    program = next((name for sign, name in _BROWSERS if sign in agent), "")
    system = next((name for sign, name in _SYSTEMS if sign in agent), "")
    if not program:
        return agent[:60] or "unknown"
    return f"{program} on {system}" if system else program


def compact(number: float | None) -> str:
    """``12.3k``, ``4.5M``."""
    if number is None:
        return NONE
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def moment_markup(at: int | None) -> Markup:
    """A point in time (epoch milliseconds) as a ``time`` element in UTC, which a script may turn into the reader's own zone."""
    if at is None:
        return Markup.escape(NONE)
    when = datetime.fromtimestamp(at / 1000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def day(number: int) -> str:
    """A UTC day number as ``2026-11-25``."""
    return datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")


def paired(values: Iterable[object]) -> list[tuple[object, object]]:
    """Each value, and what it is called: itself."""
    return [(value, value) for value in values]


def date_of(at: int | None) -> str:
    """The UTC day of a point in time (epoch milliseconds), as a form's field has it."""
    return "" if at is None else day(at // 86_400_000)


def lately(at: int, now: int) -> Markup:
    """How long ago something was, or how soon it will be, with the time itself where one looks for it."""
    when = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    gone = now - at
    if abs(gone) < 60_000:
        said = "within a minute" if gone < 0 else "just now"
    else:
        said = f"in {ago(-gone)}" if gone < 0 else f"{ago(gone)} ago"
    return Markup('<span title="{}">{}</span>').format(when, said)


def ago(milliseconds: int) -> str:
    """A length of time in its largest unit: ``3 min``."""
    left = max(0, milliseconds // 1000)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if left >= size:
            return f"{left // size} {unit}"
    return f"{left} s"


def seconds(milliseconds: int | None) -> str:
    """``420 ms``, ``1.42 s``."""
    if milliseconds is None:
        return NONE
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"
