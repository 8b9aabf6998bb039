"""The OAuth client: asks a provider for an address, with the authorization code flow and PKCE (RFC 6749, 7636), by Authlib.

What is taken from a provider is one thing: an e-mail address that the provider says it has verified. The answers come over
TLS from the addresses in the table or in the issuer's own configuration, so they need no signature of their own (OpenID
Connect Core 3.1.3.7). Its libraries are the extra ``oidc``; without them this module cannot be imported.
"""

from types import TracebackType
from typing import Any, Protocol, Self, cast

import msgspec
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError
from httpx2 import HTTPError

from penstock.errors import Unavailable
from penstock.site.oauth.providers import OAuthProvider, OAuthRefused

_JSON = {"accept": "application/json"}
SECONDS = 10.0
"""How long a provider may take for each of its answers."""


class Answer(Protocol):
    """The part of an HTTP answer that is read."""

    status_code: int

    def json(self) -> Any:
        """The body."""
        ...


class OAuthClient(Protocol):
    """The part of Authlib's client that is used."""

    async def __aenter__(self) -> Self:
        """Opened."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Closed."""
        ...

    def create_authorization_url(self, url: str, *, state: str, code_verifier: str) -> tuple[str, str]:
        """Where the browser is to go, and the state."""
        ...

    async def fetch_token(self, url: str, *, code: str, code_verifier: str) -> object:
        """The token for a code; the client keeps it."""
        ...

    async def request(
        self, method: str, url: str, *, withhold_token: bool, headers: dict[str, str]
    ) -> Answer:
        """A request, with the token unless it is withheld."""
        ...


class ProviderClient:
    """Asks the providers. One per process."""

    def __init__(self, providers: dict[str, OAuthProvider]) -> None:
        self.providers = providers
        self._found: dict[str, OAuthProvider] = {}

    async def begin(self, provider: OAuthProvider, back: str, state: str, verifier: str) -> str:
        """Where to send the browser. ``back`` is where it comes back to. Raises ``Unavailable``."""
        full = await self._full(provider)
        async with self._client(provider, back) as client:
            url, _ = client.create_authorization_url(full.authorize, state=state, code_verifier=verifier)
        return str(url)

    async def finish(self, provider: OAuthProvider, back: str, code: str, verifier: str) -> str:
        """The verified address of who came back with ``code``. Raises ``OAuthRefused``, ``Unavailable``."""
        full = await self._full(provider)
        async with self._client(provider, back) as client:
            try:
                await client.fetch_token(full.token, code=code, code_verifier=verifier)
                answer = await client.request("GET", full.emails, withhold_token=False, headers=_JSON)
                told = answer.json()
            except OAuthError as error:
                raise OAuthRefused(f"{provider.name} did not accept the sign-in. Begin again.") from error
            except (HTTPError, ValueError, RecursionError) as error:
                raise _away(provider) from error
        address = _verified(told) if answer.status_code == 200 else None
        if address is None:
            raise OAuthRefused(f"{provider.name} has no verified e-mail address of yours.")
        return address

    async def _full(self, provider: OAuthProvider) -> OAuthProvider:
        """The provider with its addresses, which an issuer tells itself; asked for once."""
        if not provider.issuer:
            return provider
        found = self._found.get(provider.id)
        if found is None:
            url = provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
            async with self._client(provider, "") as client:
                try:
                    told = (await client.request("GET", url, withhold_token=True, headers=_JSON)).json()
                    found = msgspec.structs.replace(
                        provider,
                        authorize=str(told["authorization_endpoint"]),
                        token=str(told["token_endpoint"]),
                        emails=str(told["userinfo_endpoint"]),
                    )
                except (HTTPError, ValueError, KeyError, TypeError, RecursionError) as error:
                    raise _away(provider) from error
            self._found[provider.id] = found
        return found

    def _client(self, provider: OAuthProvider, back: str) -> OAuthClient:
        client: object = AsyncOAuth2Client(
            client_id=provider.client,
            client_secret=provider.secret,
            scope=provider.scope,
            redirect_uri=back,
            code_challenge_method="S256",
            timeout=SECONDS,
            follow_redirects=False,
            trust_env=False,
        )
        return cast("OAuthClient", client)


def _away(provider: OAuthProvider) -> Unavailable:
    return Unavailable(f"{provider.name} does not answer at the moment; please try again.", retry_after=5)


def _verified(told: Any) -> str | None:
    """The address in a provider's answer: GitHub's list with the primary one, or the claims of OpenID Connect."""
    if isinstance(told, list):
        for entry in cast("list[Any]", told):
            mine = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
            if mine.get("primary") is True and mine.get("verified") is True:
                return str(mine.get("email") or "") or None
        return None
    if not isinstance(told, dict):
        return None
    claims = cast("dict[str, Any]", told)
    verified = claims.get("email_verified") in (True, "true")
    return str(claims.get("email") or "") or None if verified else None
