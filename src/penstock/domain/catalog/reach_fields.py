"""How a provider is reached, as the catalogue's document says it and as the database keeps it."""

import re
from collections.abc import Iterator, Mapping

import msgspec

from penstock.core.base_url import split_base_url
from penstock.core.catalog import STRAIGHT, Reach

KEPT_AS = "reach"
"""Its name in the column of a provider's habits, none of which is called so."""

_SECRET = re.compile(r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")
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


def reach_of(entry: ReachEntry) -> Reach:
    """The record of what the document says."""
    found = Reach(
        entry.proxy,
        entry.proxy_secret,
        entry.no_proxy,
        entry.ca,
        entry.client_cert,
        entry.client_key,
        tuple(entry.query.items()),
    )
    return STRAIGHT if found == STRAIGHT else found


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


def kept(reach: Reach) -> dict[str, object]:
    """As the database keeps it, among the habits; nothing where all is as usual."""
    return {} if reach == STRAIGHT else {KEPT_AS: msgspec.to_builtins(reach)}


def parted(habits: Mapping[str, object]) -> tuple[dict[str, object], Reach]:
    """The habits that the database keeps, and how the provider is reached."""
    rest = dict(habits)
    found = rest.pop(KEPT_AS, None)
    return rest, STRAIGHT if found is None else msgspec.convert(found, Reach)


def written(reach: Reach) -> dict[str, object]:
    """The fields of the document."""
    fields: dict[str, object] = msgspec.to_builtins(reach)
    if reach.query:
        fields["query"] = dict(reach.query)
    return fields
