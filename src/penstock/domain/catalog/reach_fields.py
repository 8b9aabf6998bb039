"""How a provider is reached, as the catalogue's document says it and as the database keeps it."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from penstock.core.base_url import split_base_url
from penstock.core.catalog import NO_SIGN_IN, STRAIGHT, Auth, Reach, TokenSettings, Upstream

KEPT_AS = "reach"
SIGN_IN = "sign_in"
"""Their names in the column of a provider's habits, none of which is called so."""

_SECRET = re.compile(r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|kept:[a-z0-9._-]+/pvk_[A-Za-z0-9]+)$")
_HOST = re.compile(r"^(\*|\.?[A-Za-z0-9:._-]+)$")
_NAME = re.compile(r"^[A-Za-z0-9._~-]+$")
_PLAIN = re.compile(r"^[A-Za-z0-9._~:-]*$")


class ReachEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of a provider in the document, in their order."""

    proxy: str = ""
    proxy_secret: str = ""
    no_proxy: tuple[str, ...] = ()
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    query: dict[str, str] = {}
    anthropic_version: str = ""
    sign_in: TokenSettings = NO_SIGN_IN


def reach_of(entry: ReachEntry, usual: Reach) -> Reach:
    """The record of what the document says; ``usual`` is what is so at the vendor."""
    found = Reach(
        entry.proxy or usual.proxy,
        entry.proxy_secret or usual.proxy_secret,
        entry.no_proxy or usual.no_proxy,
        entry.ca or usual.ca,
        entry.client_cert or usual.client_cert,
        entry.client_key or usual.client_key,
        tuple(entry.query.items()) or usual.query,
        entry.anthropic_version or usual.anthropic_version,
    )
    return STRAIGHT if found == STRAIGHT else found


_NEEDS: Mapping[str, tuple[str, ...]] = {"bedrock": ("region",), "google": (), "entra": ("tenant", "client")}
"""What each way to sign in by tokens has to be told."""


def wrong_sign_in(path: str, auth: Auth, given: TokenSettings, secret: str) -> Iterator[str]:
    """What is missing of what a way to sign in has to know, and what is of no use to it."""
    needs = _NEEDS.get(auth)
    if needs is None:
        if given != NO_SIGN_IN:
            yield f'{path}.sign_in: auth = "{auth}" needs nothing of this'
        return
    for name in needs:
        value: str = getattr(given, name)
        if not value:
            yield f'{path}.sign_in.{name}: required with auth = "{auth}"'
        elif not _NAME.match(value):
            yield f"{path}.sign_in.{name}: only letters, digits and . _ ~ - can stand here"
    if given.account and not given.account.startswith("file:"):
        yield f'{path}.sign_in.account: write "file:PATH"'
    if given.authority and _wrong_authority(given.authority):
        yield f"{path}.sign_in.authority: not an http or https URL without query"
    if secret and "secret" not in _TAKES[auth]:
        yield f'{path}.secret: auth = "{auth}" takes none: the token is got with what sign_in says'
    if not secret and "secret" in _TAKES[auth]:
        yield f'{path}.secret: required with auth = "{auth}": the client\'s secret'


_TAKES: Mapping[str, tuple[str, ...]] = {"bedrock": (), "google": (), "entra": ("secret",)}


def _wrong_authority(url: str) -> bool:
    try:
        split_base_url(url)
    except ValueError:
        return True
    return False


def wrong_reach(path: str, reach: Reach) -> Iterator[str]:
    """What is wrong with it, each in a line that begins with its place."""
    if reach.proxy not in {"", "env"}:
        wrong = _wrong_proxy(reach.proxy)
        if wrong:
            yield f"{path}.proxy: {wrong}"
    if reach.proxy_secret and not _SECRET.match(reach.proxy_secret):
        yield f'{path}.proxy_secret: write "env:NAME" or "file:PATH" of user:password, never these themselves'
    if reach.proxy in {"", "env"} and reach.proxy_secret:
        yield f"{path}.proxy_secret: there is no proxy of this provider's own"
    if reach.no_proxy and not reach.proxy:
        yield f"{path}.no_proxy: there is no proxy to go without"
    for at, host in enumerate(reach.no_proxy):
        if not _HOST.match(host):
            yield f'{path}.no_proxy[{at}]: "{host}" is no host, no ".domain" and not "*"'
    for name in ("ca", "client_cert", "client_key"):
        value: str = getattr(reach, name)
        if value and not (value.startswith("file:") and value != "file:"):
            yield f'{path}.{name}: write "file:PATH"'
    if reach.client_key and not reach.client_cert:
        yield f"{path}.client_key: a key without its client_cert"
    if reach.anthropic_version and not _NAME.match(reach.anthropic_version):
        yield f'{path}.anthropic_version: not a version, such as "vertex-2023-10-16"'
    for name, value in reach.query:
        if not _NAME.match(name) or not _PLAIN.match(value):
            yield f"{path}.query.{name}: only letters, digits and . _ ~ - can stand in a query here"


def _wrong_proxy(url: str) -> str:
    try:
        parts = split_base_url(url)
    except ValueError as error:
        if "@" in url:
            return "a proxy's address holds no user or password: write proxy_secret"
        return f'write "http://host:port" or "env" ({error})'
    if parts.scheme != "http" or parts.path:
        return 'write "http://host:port" or "env": a proxy is spoken to without TLS, and has no path'
    return ""


def kept(row: Upstream) -> dict[str, object]:
    """As the database keeps it, among the habits; nothing where all is as usual."""
    found: dict[str, object] = {}
    if row.reach != STRAIGHT:
        found[KEPT_AS] = msgspec.to_builtins(row.reach)
    if row.sign_in != NO_SIGN_IN:
        found[SIGN_IN] = msgspec.to_builtins(row.sign_in)
    return found


def parted(habits: Mapping[str, object]) -> tuple[dict[str, object], Reach, TokenSettings]:
    """The habits that the database keeps, and how the provider is reached and signed in to."""
    rest = dict(habits)
    reach, sign_in = rest.pop(KEPT_AS, None), rest.pop(SIGN_IN, None)
    return (
        rest,
        STRAIGHT if reach is None else msgspec.convert(reach, Reach),
        NO_SIGN_IN if sign_in is None else msgspec.convert(sign_in, TokenSettings),
    )


def document_fields(row: Upstream) -> dict[str, object]:
    """The fields of the document."""
    fields: dict[str, object] = msgspec.to_builtins(row.reach)
    if row.reach.query:
        fields["query"] = dict(row.reach.query)
    if row.sign_in != NO_SIGN_IN:
        fields["sign_in"] = msgspec.to_builtins(row.sign_in)
    return fields
