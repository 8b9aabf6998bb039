"""Access to a provider outside of the relay, for checks: the way to its address, and what its requests are signed with."""

import time

from penstock.core.catalog import Upstream
from penstock.operations.reach import way_to
from penstock.operations.token_sources import TokenSources
from penstock.providers.auth import AUTH
from penstock.providers.secrets import Secret, Secrets
from penstock.upstream import Origin, UpstreamClient, parse_base_url


def place_of(upstream: Upstream, url: str, secrets: Secrets) -> tuple[Origin, bytes]:
    """The origin and the path of one of its base URLs.

    Raises ``ValueError`` where it is none, ``ProviderCredentials`` where its proxy cannot be signed in to.
    """
    return parse_base_url(url, way_to(upstream, url, secrets))


async def signing_secret(
    client: UpstreamClient, upstream: Upstream, secret: Secret | None, secrets: Secrets
) -> Secret | None:
    """What signs a request in: the secret, or the token that is got with it. Raises ``ProviderCredentials``."""
    if not AUTH[upstream.auth].tokens:
        return secret
    return await TokenSources(client, secrets, now=time.time).of(upstream).get()
