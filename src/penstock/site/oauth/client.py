"""The OAuth client: asks a provider for an address, with the authorization code flow and PKCE (RFC 6749, 7636), by Authlib.

What is taken from a provider is one thing: an e-mail address that the provider says it has verified, or of which it says
nothing where the operator vouches for it. The answers come over
TLS from the addresses in the table or in the issuer's own configuration, so they need no signature of their own (OpenID
Connect Core 3.1.3.7): no keys are fetched, and the algorithm that an ID token names is of no consequence. What it claims is
checked all the same, and the address must be of its subject.

A provider may lie. An answer has a bound of bytes and comes as it is, without compression; all answers of one step have a bound
of time together; what is found in an issuer's configuration is forgotten when a step fails. Its libraries are the extra
``oidc``; without them this module cannot be imported.
"""

import asyncio
import hmac
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from types import TracebackType
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

import msgspec
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError
from httpx2 import AsyncByteStream, AsyncHTTPTransport, HTTPError, ReadError, Request, Response

from penstock.errors import Unavailable
from penstock.site.oauth.providers import OAuthProvider, OAuthRefused, Vouched

_JSON = {"accept": "application/json"}
SECONDS = 10.0
"""How long a provider may be silent."""
STEP_SECONDS = 20.0
"""How long it may take for all answers of one step: to begin, or to finish."""
MOST_BYTES = 256 * 1024
"""How long one answer may be; GitHub's and Google's have a few hundred bytes."""
MOST_AT_ONCE = 64
"""How many sign-ins a process asks about at once; who comes then is asked to try again."""
FOUND_SECONDS = 3600.0
"""How long an issuer's configuration is believed."""
LEEWAY = 120
"""How far a provider's clock may be from ours, in seconds."""
LONGEST_ADDRESS = 2048
_MOST_GROUPS = 1000
_STRANGE = (
    HTTPError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    TimeoutError,
)
"""What asking fails with where an answer is none, or is not what it should be."""


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

    def create_authorization_url(
        self, url: str, *, state: str, code_verifier: str, **more: str
    ) -> tuple[str, str]:
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
        self._found: dict[str, tuple[OAuthProvider, float]] = {}
        """What issuers tell of themselves, and until when it is believed, by the monotonic clock."""
        self._asking = 0

    async def begin(self, provider: OAuthProvider, back: str, state: str, verifier: str) -> str:
        """Where to send the browser. ``back`` is where it comes back to. Raises ``Unavailable``."""
        async with self._step(provider):
            full = await self._full(provider)
            more = {"nonce": _nonce(verifier)} if provider.issuer else {}
            async with self._client(provider, back) as client:
                url, _ = client.create_authorization_url(
                    full.authorize, state=state, code_verifier=verifier, **more
                )
        return str(url)

    async def finish(self, provider: OAuthProvider, back: str, code: str, verifier: str) -> Vouched:
        """The verified address and the groups of who came back with ``code``. Raises ``OAuthRefused``, ``Unavailable``."""
        async with self._step(provider):
            full = await self._full(provider)
            async with self._client(provider, back) as client:
                token = await client.fetch_token(full.token, code=code, code_verifier=verifier)
                subject = _subject(provider, token, verifier) if provider.issuer else None
                answer = await client.request("GET", full.emails, withhold_token=False, headers=_JSON)
                told = answer.json()
            address = (
                _verified(told, subject, unsaid=provider.trusts_email) if answer.status_code == 200 else None
            )
            named = _groups(provider.groups_claim, told, token) if provider.issuer else None
        if address is None:
            raise OAuthRefused(f"{provider.name} has no verified e-mail address of yours.")
        return Vouched(address, named)

    @asynccontextmanager
    async def _step(self, provider: OAuthProvider) -> AsyncGenerator[None]:
        """All that is asked for one page. What fails in it is the provider's, whose configuration is then asked for anew."""
        if self._asking >= MOST_AT_ONCE:
            raise _away(provider)
        self._asking += 1
        try:
            async with asyncio.timeout(STEP_SECONDS):
                yield
        except OAuthError as error:
            self._found.pop(provider.id, None)
            raise OAuthRefused(f"{provider.name} did not accept the sign-in. Begin again.") from error
        except _STRANGE as error:
            self._found.pop(provider.id, None)
            raise _away(provider) from error
        finally:
            self._asking -= 1

    async def _full(self, provider: OAuthProvider) -> OAuthProvider:
        """The provider with its addresses, which an issuer tells itself. Raises ``_STRANGE``."""
        if not provider.issuer:
            return provider
        found, until = self._found.get(provider.id, (provider, 0.0))
        if time.monotonic() >= until:
            url = provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
            async with self._client(provider, "") as client:
                answer = await client.request("GET", url, withhold_token=True, headers=_JSON)
                told = answer.json()
            if answer.status_code != 200 or told["issuer"].rstrip("/") != provider.issuer.rstrip("/"):
                raise ValueError("the configuration of another issuer")
            found = msgspec.structs.replace(
                provider,
                authorize=_endpoint(provider, told["authorization_endpoint"]),
                token=_endpoint(provider, told["token_endpoint"]),
                emails=_endpoint(provider, told["userinfo_endpoint"]),
            )
            self._found[provider.id] = (found, time.monotonic() + FOUND_SECONDS)
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
            headers={"accept-encoding": "identity"},
            transport=BoundedTransport(trust_env=False),
        )
        return cast("OAuthClient", client)


class BoundedTransport(AsyncHTTPTransport):
    """HTTP whose answers end after ``MOST_BYTES``."""

    async def handle_async_request(self, request: Request) -> Response:
        """See httpx."""
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise ReadError("a compressed answer", request=request)
        stream = BoundedStream(cast("AsyncByteStream", response.stream), request)
        return Response(response.status_code, headers=response.headers, stream=stream)


class BoundedStream(AsyncByteStream):
    """A body that fails where it becomes too long."""

    def __init__(self, stream: AsyncByteStream, request: Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces."""
        left = MOST_BYTES
        async for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise ReadError("the answer is too long", request=self._request)
            yield piece

    async def aclose(self) -> None:
        """See httpx."""
        await self._stream.aclose()


def _away(provider: OAuthProvider) -> Unavailable:
    return Unavailable(f"{provider.name} does not answer at the moment; please try again.", retry_after=5)


def _endpoint(provider: OAuthProvider, told: Any) -> str:
    """An address that an issuer tells. It may be on another host, but not in the open where the issuer is not."""
    if (
        not isinstance(told, str)
        or len(told) > LONGEST_ADDRESS
        or not told.isascii()
        or not told.isprintable()
    ):
        raise ValueError("an endpoint is no address")
    parts = urlsplit(told)
    _ = parts.port  # ValueError where it is no port
    may = {"https"} if provider.issuer.startswith("https:") else {"https", "http"}
    if (
        parts.scheme not in may
        or not parts.hostname
        or parts.username is not None
        or " " in told
        or parts.fragment
    ):
        raise ValueError("an endpoint is no address that may be asked")
    return told


def _nonce(verifier: str) -> str:
    """What an ID token must repeat: of this sign-in alone."""
    return sha256(b"penstock nonce|" + verifier.encode()).hexdigest()


def _groups(claim: str, told: Any, token: Any) -> tuple[str, ...] | None:
    """The groups that are named, where the person's claims are or in the ID token; None where nothing is said of any.

    Raises ``_STRANGE``.
    """
    if not claim:
        return None
    _, payload, _ = token["id_token"].split(".")
    claimed = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=dict[str, Any])
    for source in (told, claimed):
        found = cast("dict[str, Any]", source).get(claim) if isinstance(source, dict) else None
        if isinstance(found, str):
            found = [found]
        if isinstance(found, list):
            names = cast("list[Any]", found)
            return tuple(name for name in names[:_MOST_GROUPS] if isinstance(name, str))
    return None


def _subject(provider: OAuthProvider, token: Any, verifier: str) -> str:
    """Whom the ID token is about, once its claims are checked (OpenID Connect Core 3.1.3.7). Raises ``_STRANGE``."""
    _, payload, _ = token["id_token"].split(".")
    claims = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_IdToken)
    audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    now = time.time()
    good = (
        claims.iss.rstrip("/") == provider.issuer.rstrip("/")
        and provider.client in audience
        and (claims.azp == provider.client or (claims.azp is None and len(audience) == 1))
        and claims.exp > now - LEEWAY
        and claims.iat < now + LEEWAY
        and hmac.compare_digest(claims.nonce.encode(), _nonce(verifier).encode())
        and 0 < len(claims.sub) <= 255
    )
    if not good:
        raise OAuthError("invalid_token", "the ID token is of another sign-in")
    return claims.sub


class _IdToken(msgspec.Struct, frozen=True):
    """The claims that are checked; ``exp`` and ``iat`` are epoch seconds."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    iat: int | float
    nonce: str
    azp: str | None = None


def _verified(told: Any, subject: str | None, *, unsaid: bool) -> str | None:
    """The address in a provider's answer: GitHub's list with the primary one, or the claims of OpenID Connect.

    ``unsaid``: it counts as verified where the provider says nothing of that (``email_verified`` is optional in OpenID Connect
    Core 5.1, and Microsoft Entra ID has none).
    """
    if isinstance(told, list):
        for entry in cast("list[Any]", told):
            mine = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
            if mine.get("primary") is True and mine.get("verified") is True:
                return _address(mine)
        return None
    if not isinstance(told, dict):
        return None
    claims = cast("dict[str, Any]", told)
    if subject is not None and claims.get("sub") != subject:
        return None
    verified = claims.get("email_verified")
    good = verified is True or verified == "true" or (unsaid and verified is None)
    return _address(claims) if good else None


def _address(told: dict[str, Any]) -> str | None:
    email = told.get("email")
    return email if isinstance(email, str) and email else None
