"""Pages of sign-in through a provider: off to it, and back.

What has to be remembered meanwhile goes along in ``state``, sealed: which browser began, until when, and where it wanted to
go. A provider's answer is worth nothing in another browser, nor after ten minutes. The verifier of PKCE does not go along: it
is made anew of the token in the browser's cookie, so that whoever has ``state`` and ``code`` can do nothing with them.
"""

import hmac
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.core.api_key import base62
from penstock.errors import CallerError, PenstockError, Unavailable
from penstock.site.context import SiteContext, go, next_path, retry_headers
from penstock.site.error_pages import PageNotFound
from penstock.site.first_key import allow_first_key
from penstock.site.oauth.providers import OAuthAsking, OAuthProvider, OAuthRefused
from penstock.site.session import token_of, visitor_of
from penstock.site.start_session import start_session
from penstock.store.secrets_file import SecretsFileError

log = logging.getLogger("penstock.site.oauth")
STATE_MS = 10 * 60_000
_ABOUT = b"federation|state"


class _State(msgspec.Struct, frozen=True):
    """What goes along. ``until`` is epoch milliseconds."""

    provider: str
    visitor: bytes
    nonce: bytes
    until: int
    next: str


class OAuthPages:
    """The pages under ``/signin/with``."""

    def __init__(self, context: SiteContext, oauth: OAuthAsking) -> None:
        self._context = context
        self._oauth = oauth

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/signin/with/{provider}", self.begin),
            Route("/signin/with/{provider}/back", self.back),
        ]

    async def begin(self, request: Request) -> Response:
        """Off to the provider."""
        context, provider = self._context, self._provider(request)
        token = token_of(request)
        nonce = context.entropy(16)
        wanted = next_path(request.query_params.get("next", ""))
        state = _State(provider.id, visitor_of(request).digest, nonce, context.now() + STATE_MS, wanted)
        sealed = context.secrets_file.seal(msgspec.msgpack.encode(state), _ABOUT, context.entropy)
        try:
            url = await self._oauth.begin(
                provider,
                self._address(request, provider),
                urlsafe_b64encode(sealed).decode(),
                _verifier(token, nonce),
            )
        except Unavailable as error:
            return self._refused(request, error)
        return RedirectResponse(url, status_code=303, headers={"cache-control": "no-store"})

    async def back(self, request: Request) -> Response:
        """Back from the provider, with a code or without."""
        context, provider = self._context, self._provider(request)
        visitor = visitor_of(request)
        try:
            state = self._state(request.query_params.get("state", ""))
            if (
                state.provider != provider.id
                or state.visitor != visitor.digest
                or state.until < context.now()
            ):
                raise OAuthRefused("This sign-in was begun in another browser, or too long ago. Begin again.")
            code = request.query_params.get("code", "")
            if not code:
                raise OAuthRefused(f"The sign-in through {provider.name} was not completed.")
            verifier = _verifier(token_of(request), state.nonce)
            vouched = await self._oauth.finish(provider, self._address(request, provider), code, verifier)
            if provider.groups_claim and vouched.groups is None:
                log.info("the sign-in provider names no groups; roles stay", extra={"provider": provider.id})
            done = await context.sign_in.vouched(
                vouched.email, visitor, groups=vouched.groups, now=context.now()
            )
        except (CallerError, Unavailable) as error:
            return self._refused(request, error)
        if done.wants == "second_factor":
            await start_session(request, context, done.user, "password")
            return go("/signin/code")
        await start_session(request, context, done.user, "signed_in")
        there = go(state.next)
        return allow_first_key(request, there, context, done.user) if done.verified_now else there

    def _provider(self, request: Request) -> OAuthProvider:
        provider = self._oauth.providers.get(request.path_params["provider"])
        if provider is None:
            raise PageNotFound("There is no sign-in by this way here.")
        return provider

    def _address(self, request: Request, provider: OAuthProvider) -> str:
        return f"{self._context.pages.origin(request)}/signin/with/{provider.id}/back"

    def _state(self, text: str) -> _State:
        try:
            sealed = urlsafe_b64decode(text.encode("ascii", "replace"))
            return msgspec.msgpack.decode(self._context.secrets_file.unseal(sealed, _ABOUT), type=_State)
        except (NotBase64, SecretsFileError, msgspec.DecodeError) as error:
            raise OAuthRefused("This sign-in was not begun here. Begin again.") from error

    def _refused(self, request: Request, error: PenstockError) -> Response:
        return self._context.pages.render(
            request,
            "account/signin.html",
            {"email": "", "error": error.message, "next": "/dashboard"},
            status=error.status,
            headers={"cache-control": "no-store", **retry_headers(error)},
        )


def _verifier(token: str, nonce: bytes) -> str:
    """The verifier of PKCE (RFC 7636): another one each time, which only the browser with this token leads to."""
    digest = hmac.digest(token.encode(), b"penstock pkce verifier|" + nonce, "sha512")
    return base62(int.from_bytes(digest[:40]), 54)
