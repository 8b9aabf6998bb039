"""Discovery: asks providers which models they have. It proposes nothing and changes nothing.

Only the addresses of the catalogue and of the provider table are asked, with the key that is theirs, and no redirect is
followed. A list may have pages, and may be odd; it is bounded in every direction.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Literal

import msgspec

from penstock.core.amounts import amount
from penstock.core.catalog import KEPT, DialectName, Upstream
from penstock.core.dialects.interface import NO_VERSION
from penstock.core.endpoints import FORMATS
from penstock.errors import ProviderCredentials
from penstock.operations.provider_access import place_of, signing_secret
from penstock.providers.auth import ToSign, sign
from penstock.providers.model_lists import Listed, read_page
from penstock.providers.secrets import Secret, Secrets
from penstock.providers.table import extra_headers
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure, UpstreamResponse

Outcome = Literal["works", "refused", "no money", "unreachable", "no model list"]
"""What asking came to. No model list is no failure: the provider may serve all the same."""

MOST_PAGES = 50
MOST_MODELS = 10_000
MOST_BYTES = 16 << 20
"""Of one page; OpenRouter's list has about two million."""
LIST_SECONDS = 20.0
"""How long a whole list may take."""
_WAIT = Deadlines(connect=5.0, first_byte=10.0, idle=10.0, total=15.0)


class Listing(msgspec.Struct, frozen=True):
    """What one provider said. ``text`` is for the operator; ``status`` is that of the last answer, None for none."""

    provider: str
    outcome: Outcome
    text: str
    models: tuple[Listed, ...] = ()
    status: int | None = None

    @property
    def works(self) -> bool:
        """The key is taken, and there is a list."""
        return self.outcome == "works"


async def ask_for_models(
    client: UpstreamClient,
    upstream: Upstream,
    secret: Secret | None,
    secrets: Secrets,
    *,
    seconds: float = LIST_SECONDS,
) -> Listing:
    """The models of one provider, by the first of its addresses that has a list; it takes ``seconds`` at most.

    ``secret`` signs the questions in, by a token where the provider wants one; ``secrets`` has that of a proxy.
    """
    try:
        async with asyncio.timeout(seconds):
            signing = await signing_secret(client, upstream, secret, secrets)
            return await _ask(client, upstream, signing, secrets)
    except ProviderCredentials as error:
        return Listing(upstream.id, "refused", f"it cannot be signed in to: {error.message}")
    except TimeoutError:
        return Listing(upstream.id, "unreachable", f"it did not give its list within {seconds:g} s")


async def ask_all(
    providers: Iterable[Upstream], secrets: Secrets, *, seconds: float = LIST_SECONDS
) -> tuple[Listing, ...]:
    """The models of each provider, all asked at once."""
    client = UpstreamClient()
    try:
        return tuple(
            await asyncio.gather(
                *(
                    ask_for_models(client, row, secrets.first(row.secrets), secrets, seconds=seconds)
                    for row in providers
                )
            )
        )
    finally:
        await client.close()


async def _ask(
    client: UpstreamClient, upstream: Upstream, secret: Secret | None, secrets: Secrets
) -> Listing:
    found = Listing(upstream.id, "no model list", "it has no address")
    addresses: dict[str, DialectName] = {}
    for dialect, url in upstream.speaks:
        addresses.setdefault(url.rstrip("/"), dialect)
    for url, dialect in addresses.items():
        found = await _list_at(client, upstream, secret, secrets, url, dialect)
        if found.outcome != "no model list":
            break
    return found


async def _list_at(
    client: UpstreamClient,
    upstream: Upstream,
    secret: Secret | None,
    secrets: Secrets,
    url: str,
    dialect: DialectName,
) -> Listing:
    try:
        origin, base = place_of(upstream, url, secrets)
    except ValueError as error:
        return Listing(upstream.id, "unreachable", f"its address cannot be used: {error}")
    version = FORMATS[dialect].version_headers
    about = (
        *extra_headers(upstream.kind),
        *(() if version is None else version(NO_VERSION, upstream.profile)),
    )
    models: dict[str, Listed] = {}
    query = ""
    for page_number in range(MOST_PAGES):
        path = "/models" + (f"?{query}" if query else "")
        signed = sign(upstream, secret, ToSign(b"GET", f"{url}{path}".encode(), about, b"", time.time()))
        try:
            response = await client.send(origin, b"GET", base + path.encode(), signed, b"", _WAIT)
        except UpstreamFailure as failure:
            return Listing(upstream.id, "unreachable", f"{origin.host} does not answer: {failure}")
        try:
            body = await response.read(MOST_BYTES)
        except UpstreamFailure as failure:
            return Listing(upstream.id, "unreachable", f"{origin.host} broke off: {failure}")
        finally:
            response.close()
        page = read_page(body) if response.status == 200 else None
        if page is None:
            if page_number:
                break  # a page that fails leaves those before it
            return _without_list(upstream, response, body)
        before = len(models)
        for model in page.models:
            models.setdefault(model.id, model)
        query = page.next_query
        if not query or len(models) == before or len(models) >= MOST_MODELS:
            break
    kept = tuple(models.values())[:MOST_MODELS]
    return Listing(upstream.id, "works", amount(len(kept), "model"), kept, 200)


def _named(upstream: Upstream) -> str:
    """Where the credential comes from that was refused: nobody needs to read the id of a kept key.

    '' where it was entered just now, or there is none.
    """
    known = next((name for name in upstream.secrets if name and not name.startswith(KEPT)), "")
    return known or (upstream.id if any(upstream.secrets) else "")


def _without_list(upstream: Upstream, response: UpstreamResponse, body: bytes) -> Listing:
    status = response.status
    outcome: Outcome = "no model list"
    text = f"it answers {status}, and no list of models" if body else f"it answers {status} with nothing"
    if status in (401, 403):
        known = _named(upstream)
        outcome, text = (
            "refused",
            f"it refuses the credential of {known} ({status})" if known else f"it answers {status}",
        )
    elif status == 402:
        outcome, text = "no money", "its account has no money (402)"
    elif status >= 500 or status == 429:
        outcome, text = "unreachable", f"it answers {status} at the moment"
    return Listing(upstream.id, outcome, text, status=status)
