"""Microsoft Entra's tokens for a program that has a secret of its own: the grant of client credentials (RFC 6749 section 4.4).

Facts: learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, as a stored copy had it on 2026-11-30.
"""

from urllib.parse import quote

from penstock.providers.tokens.exchange import TokenQuestion, form

AUTHORITY = "https://login.microsoftonline.com"
SCOPE = "https://cognitiveservices.azure.com/.default"


def for_client(tenant: str, client: str, secret: bytes, scope: str, authority: str) -> TokenQuestion:
    """What is asked; ``scope`` and ``authority`` are the usual ones where they are ''."""
    return form(
        f"{authority or AUTHORITY}/{quote(tenant, safe='')}/oauth2/v2.0/token",
        {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": secret.decode(),
            "scope": scope or SCOPE,
        },
    )
