"""Where a destination of exports is, with the secrets by which it takes something: sealed at rest, and never shown."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import msgspec

from penstock.core.base_url import BaseUrl, split_base_url
from penstock.domain.catalog.kept_keys import checked_key
from penstock.domain.notifications.signed_address import (
    LONGEST_URL,
    SignedAddress,
    checked_url,
    signed_address,
)
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import Entropy

_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_KEY_ID: Final = re.compile(r"[\x21-\x2e\x30-\x7e]{1,128}")
_HEADER: Final = re.compile(r"([a-z0-9-]{1,64})=([\x20-\x7e]{1,2000})")
_OURS: Final = frozenset(
    {"connection", "content-length", "content-type", "host", "transfer-encoding", "user-agent"}
)
_MOST_HEADERS: Final = 8


class DestinationWish(msgspec.Struct, frozen=True):
    """What a destination is to be: a webhook and a collector have an address, a bucket that and all that follows, a file
    none of it. ``secret`` is that of a bucket's key, or the headers that a collector asks for, ``NAME=VALUE,NAME=VALUE``."""

    name: str
    kind: str
    url: str = ""
    region: str = ""
    key_id: str = ""
    secret: str = ""
    shape: str = "receipts"

    def __repr__(self) -> str:
        return f"DestinationWish({self.kind})"


class Bucket(msgspec.Struct, frozen=True):
    """Where objects are put: an https URL with the bucket and what names begin with, and the keys of its vendor."""

    url: str
    region: str
    key_id: str
    secret: str

    def __repr__(self) -> str:
        return "Bucket()"

    @property
    def place(self) -> BaseUrl:
        """The parts of its URL."""
        return split_base_url(self.url)


class Endpoint(msgspec.Struct, frozen=True):
    """Where OTLP is posted to: the whole address, and the headers that it asks for."""

    url: str
    headers: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return "Endpoint()"

    @property
    def place(self) -> BaseUrl:
        """The parts of its URL."""
        return split_base_url(self.url)


Place = SignedAddress | Bucket | Endpoint


def checked_place(wish: DestinationWish, entropy: Entropy) -> Place | None:
    """Where a destination is to be; None for a file. Raises ``InvalidRequest``, which repeats no secret."""
    if bool(wish.url) != (wish.kind != "file"):
        raise InvalidRequest(
            "A webhook, a bucket and a collector have an address, a file has none.", param="url"
        )
    match wish.kind:
        case "webhook":
            return signed_address(wish.url, entropy)
        case "s3":
            return _bucket(wish)
        case "otlp":
            return Endpoint(_collector(wish.url), _headers(wish.secret))
        case _:
            return None


def _bucket(wish: DestinationWish) -> Bucket:
    """Raises ``InvalidRequest``, ``UnusableKey``, which repeat neither the address nor the secret."""
    url = checked_url(wish.url).rstrip("/")
    if "?" in url:
        raise InvalidRequest("The address of a bucket has no query.", param="url")
    if _REGION.fullmatch(wish.region) is None:
        raise InvalidRequest("A region is such as eu-central-1.", param="region")
    if _KEY_ID.fullmatch(wish.key_id) is None:
        raise InvalidRequest("This is no id of a key.", param="key_id")
    return Bucket(url, wish.region, wish.key_id, checked_key(wish.secret).decode())


def _collector(url: str) -> str:
    """One of your own may be asked without TLS. Raises ``InvalidRequest``, which does not repeat the address."""
    url = url.strip().rstrip("/")
    try:
        place = split_base_url(url) if len(url) <= LONGEST_URL else None
    except ValueError:
        place = None
    if place is None or not place.path:
        raise InvalidRequest(
            "The address of a collector is the whole of it, such as https://otlp.example.com/v1/traces.",
            param="url",
        )
    return url


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    """Headers as ``OTEL_EXPORTER_OTLP_HEADERS`` has them. Raises ``InvalidRequest``, which repeats none."""
    found: Mapping[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, value = part.partition("=")
        header = _HEADER.fullmatch(f"{name.strip().lower()}={unquote(value).strip()}")
        if header is None or header[1] in _OURS:
            raise InvalidRequest(
                "Headers of a collector are NAME=VALUE, with commas between them.", param="secret"
            )
        found = {**found, header[1]: header[2]}
    if len(found) > _MOST_HEADERS:
        raise InvalidRequest(f"A collector has at most {_MOST_HEADERS} headers.", param="secret")
    return tuple(found.items())
