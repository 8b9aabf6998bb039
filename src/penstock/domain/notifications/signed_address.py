"""Signed addresses: where something of ours is posted to, with the secret that proves that it is ours (Standard Webhooks).

Both are sealed at rest. The address is a secret, too: whoever knows that of a chat can write there. What may be shown of it is
its host.
"""

import base64
import hmac
from typing import Final

import msgspec

from penstock.core.base_url import BaseUrl, split_base_url
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import Entropy, SecretsFile

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
_SECRET_BYTES: Final = 32
LONGEST_URL: Final = 2000


class SignedAddress(msgspec.Struct, frozen=True):
    """An https URL and a secret, ``whsec_`` and base64."""

    url: str
    secret: str

    def __repr__(self) -> str:
        return "SignedAddress()"

    @property
    def place(self) -> BaseUrl:
        """Its parts, but for the query."""
        return split_base_url(self.url.partition("?")[0])

    @property
    def target(self) -> bytes:
        """Path and query, as they stand in a request."""
        _, query, asked = self.url.partition("?")
        return (self.place.path or b"/") + query.encode() + asked.encode()

    def headers(self, id: str, at: int, body: bytes) -> list[tuple[bytes, bytes]]:
        """What signs a message. ``at`` is epoch seconds; ``id`` is the same whenever the message is sent again."""
        key = base64.b64decode(self.secret.removeprefix(SECRET_PREFIX))
        signed = hmac.digest(key, f"{id}.{at}.".encode() + body, "sha256")
        return [
            (b"webhook-id", id.encode()),
            (b"webhook-timestamp", str(at).encode()),
            (b"webhook-signature", b"v1," + base64.b64encode(signed)),
        ]


def signed_address(url: str, entropy: Entropy) -> SignedAddress:
    """The address with a new secret. Raises ``InvalidRequest``, which never repeats the URL."""
    return SignedAddress(checked_url(url), SECRET_PREFIX + base64.b64encode(entropy(_SECRET_BYTES)).decode())


def checked_url(url: str) -> str:
    """An https URL that something may be sent to. Raises ``InvalidRequest``, which never repeats it."""
    url = url.strip()
    try:
        usable = 0 < len(url) <= LONGEST_URL and url.isascii() and url.isprintable() and "#" not in url
        place = split_base_url(url.partition("?")[0]) if usable and " " not in url else None
    except ValueError:
        place = None
    if place is None or place.scheme != "https":
        raise InvalidRequest("An address is an https URL without a user and without a fragment.", param="url")
    return url


def host_of(place: BaseUrl) -> str:
    """What may be shown of an address: its host, with the port where that is not the usual one."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return host if place.port == 443 else f"{host}:{place.port}"


def sealed_address(
    secrets_file: SecretsFile, address: SignedAddress, about: bytes, entropy: Entropy
) -> bytes:
    """The address as it is kept. ``about`` names the row that has it."""
    return secrets_file.seal(msgspec.json.encode(address), about, entropy)


def opened_address(secrets_file: SecretsFile, sealed: bytes, about: bytes) -> SignedAddress:
    """The address that was sealed. Raises ``SecretsFileError``."""
    return msgspec.json.decode(secrets_file.unseal(sealed, about), type=SignedAddress)
