"""The first key in clear: in the browser that has just verified the address of a new account, for ten minutes.

Whoever has verified a new address has no other way to come by the key at once. Any other browser, and this one later, sees a
key after the password alone. What allows it is a cookie for one page, sealed, and of use to one session.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.accounts.accounts import User
from penstock.domain.accounts.sessions import digest_of
from penstock.site.context import SiteContext
from penstock.site.session import Viewer, cookies_of
from penstock.store.secrets_file import SecretsFileError

SHOWN_MS = 10 * 60_000
NEW_MS = 86_400_000
"""How long after its sign-up an account is new."""
_COOKIE = "penstock_first_key"
_ABOUT = b"first key|cookie"


class _Permit(msgspec.Struct, frozen=True):
    """Which session may see it. ``until`` is epoch milliseconds."""

    session: bytes
    until: int


def allow_first_key(request: Request, response: Response, context: SiteContext, user: User) -> Response:
    """Let the session that ``response`` begins see the first key, if the account is new."""
    now, cookies = context.now(), cookies_of(request)
    if cookies.fresh and now - user.created_at <= NEW_MS:
        permit = msgspec.msgpack.encode(_Permit(digest_of(cookies.fresh), now + SHOWN_MS))
        sealed = context.secrets_file.seal(permit, _ABOUT, context.entropy)
        response.set_cookie(
            _COOKIE,
            urlsafe_b64encode(sealed).decode().rstrip("="),
            max_age=SHOWN_MS // 1000,
            path="/welcome",
            secure=cookies.secure,
            httponly=True,
            samesite="lax",
        )
    return response


def may_see_first_key(request: Request, context: SiteContext, viewer: Viewer) -> bool:
    """Whether this session began with the verification, minutes ago."""
    text = request.cookies.get(_COOKIE, "")
    try:
        sealed = urlsafe_b64decode(text.encode("ascii", "replace") + b"=" * (-len(text) % 4))
        permit = msgspec.msgpack.decode(context.secrets_file.unseal(sealed, _ABOUT), type=_Permit)
    except (NotBase64, SecretsFileError, msgspec.DecodeError):
        return False
    return permit.session == viewer.session.digest and context.now() < permit.until
