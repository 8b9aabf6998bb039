"""Providers of sign-in, GitHub, Google or any of OpenID: which are configured, and what is asked of them.

``penstock.site.oauth.client`` does the asking; it is loaded only where a provider is configured.
"""

from typing import Protocol

import msgspec

from penstock.errors import CallerError
from penstock.settings import Settings


class OAuthRefused(CallerError):
    """The provider, or the person at it, did not vouch for an address; the text says why."""

    status = 403
    code = "federation_refused"


class OAuthProvider(msgspec.Struct, frozen=True):
    """Where one provider is reached. ``emails`` is what tells the address; ``issuer`` has them where they are ''."""

    id: str
    name: str
    client: str
    secret: str
    scope: str
    issuer: str = ""
    authorize: str = ""
    token: str = ""
    emails: str = ""
    trusts_email: bool = False
    """The operator vouches for addresses of which the provider does not say whether it has verified them."""
    groups_claim: str = ""
    """The claim that names a person's groups; '' where nobody asks for them."""


class Vouched(msgspec.Struct, frozen=True):
    """Who came back from a provider: a verified address, and the person's groups, None where the provider names none."""

    email: str
    groups: tuple[str, ...] | None = None


GITHUB = OAuthProvider(
    "github",
    "GitHub",
    "",
    "",
    "user:email",
    authorize="https://github.com/login/oauth/authorize",
    token="https://github.com/login/oauth/access_token",  # noqa: S106 - an address
    emails="https://api.github.com/user/emails",
)
GOOGLE = OAuthProvider("google", "Google", "", "", "openid email", issuer="https://accounts.google.com")
OIDC = OAuthProvider("oidc", "", "", "", "openid email")


class OAuthAsking(Protocol):
    """Asks the providers."""

    providers: dict[str, OAuthProvider]

    async def begin(self, provider: OAuthProvider, back: str, state: str, verifier: str) -> str:
        """Where to send the browser. ``back`` is where it comes back to. Raises ``Unavailable``."""
        ...

    async def finish(self, provider: OAuthProvider, back: str, code: str, verifier: str) -> Vouched:
        """The verified address and the groups of who came back with ``code``. Raises ``OAuthRefused``, ``Unavailable``."""
        ...


class NoOAuth:
    """Where no provider is configured: there is nobody to ask."""

    def __init__(self) -> None:
        self.providers: dict[str, OAuthProvider] = {}

    async def begin(self, provider: OAuthProvider, back: str, state: str, verifier: str) -> str:  # noqa: ARG002 - as of Federation
        raise OAuthRefused("There is no sign-in by this way here.")

    async def finish(self, provider: OAuthProvider, back: str, code: str, verifier: str) -> Vouched:  # noqa: ARG002 - as of Federation
        raise OAuthRefused("There is no sign-in by this way here.")


def providers_of(settings: Settings) -> dict[str, OAuthProvider]:
    """The providers that are configured."""
    change = msgspec.structs.replace
    found = [
        change(GITHUB, client=settings.github_client, secret=settings.github_secret),
        change(GOOGLE, client=settings.google_client, secret=settings.google_secret),
        change(
            OIDC,
            name=settings.oidc_name,
            client=settings.oidc_client,
            secret=settings.oidc_secret,
            issuer=settings.oidc_issuer,
            trusts_email=settings.oidc_trusts_email,
            groups_claim=settings.oidc_groups_claim,
        ),
    ]
    return {provider.id: provider for provider in found if provider.client}
