"""Google's tokens: for a service account (a signed JWT, RFC 7523), for a person's credentials, from the metadata server.

Facts: developers.google.com/identity/protocols/oauth2/service-account and cloud.google.com/compute/docs/metadata, as stored
copies had them on 2026-11-30.
"""

import base64

import msgspec

from penstock.providers.tokens.exchange import TokenQuestion, Unusable, form, member_text, object_in

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
METADATA_HOST = "metadata.google.internal"
_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_GOOD_FOR = 3600
"""Seconds: the longest that Google takes."""

_encode = msgspec.json.Encoder().encode


def from_file(text: bytes, scope: str, now: float) -> TokenQuestion:
    """What is asked with a file of credentials: of a service account, or of a person (``authorized_user``).

    Raises ``Unusable``.
    """
    fields = object_in(text)
    match fields.get("type"):
        case "service_account":
            return _for_service_account(fields, scope or SCOPE, now)
        case "authorized_user":
            names = ("client_id", "client_secret", "refresh_token")
            given = {name: member_text(fields, name) for name in names}
            return form(_token_url(fields), {"grant_type": "refresh_token", **given})
        case kind:
            raise Unusable(f"credentials of the type {str(kind)[:40]!r} are not known here")


def from_metadata(host: str = "") -> TokenQuestion:
    """What is asked of the metadata server of a machine of Google's."""
    return TokenQuestion(
        b"GET", f"http://{host or METADATA_HOST}{_METADATA_PATH}", ((b"metadata-flavor", b"Google"),)
    )


def _token_url(fields: dict[str, object]) -> str:
    given = fields.get("token_uri")
    return given if isinstance(given, str) and given else _TOKEN_URL


def _for_service_account(fields: dict[str, object], scope: str, now: float) -> TokenQuestion:
    url = _token_url(fields)
    claims = {
        "iss": member_text(fields, "client_email"),
        "scope": scope,
        "aud": url,
        "iat": int(now),
        "exp": int(now) + _GOOD_FOR,
    }
    head = {"alg": "RS256", "typ": "JWT"}
    key_id = fields.get("private_key_id")
    if isinstance(key_id, str) and key_id:
        head["kid"] = key_id
    signed = _base64(_encode(head)) + b"." + _base64(_encode(claims))
    assertion = signed + b"." + _base64(_rs256(member_text(fields, "private_key").encode(), signed))
    return form(url, {"grant_type": _GRANT, "assertion": assertion.decode()})


def _rs256(private_key: bytes, data: bytes) -> bytes:
    """The signature of RFC 7518, section 3.3, by a key in PEM. Raises ``Unusable``."""
    # 2 MB of every server, which only one with a service account has a use for
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(private_key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("its private_key cannot be read") from None
    if not isinstance(key, RSAPrivateKey):
        raise Unusable("its private_key is not one of RSA")
    return key.sign(data, PKCS1v15(), SHA256())


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
