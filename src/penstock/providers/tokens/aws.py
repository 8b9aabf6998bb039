"""Short-lived keys of Amazon Bedrock, made from IAM credentials: a query that is signed by Signature Version 4, as base64.

The key is what the vendor's own generator makes (github.com/aws/aws-bedrock-token-generator-python, read 2026-11-30);
nothing is asked of anybody for it. Where the credentials come from is asked: of a container's endpoint, or of the machine's
metadata (IMDSv2). Facts: docs.aws.amazon.com, "Create a signed AWS API request" and "Use IMDSv2", as stored copies had them.
"""

import base64
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

import msgspec

from penstock.core.limits import Header
from penstock.providers.secrets import Secret
from penstock.providers.tokens.exchange import Token, TokenQuestion, Unusable, member_text, object_in

METADATA = "http://169.254.169.254"
CONTAINER = "http://169.254.170.2"
LONGEST_KEY = 12 * 3600
"""Seconds for which a key may be good."""
NOTHING = sha256(b"").hexdigest()
"""The digest of an empty body."""

_HOST = "bedrock.amazonaws.com"
_SERVICE = "bedrock"
_PREFIX = "bedrock-api-key-"
_ALGORITHM = "AWS4-HMAC-SHA256"


class IamCredentials(msgspec.Struct, frozen=True):
    """Of IAM. ``session`` is b"" for those that last; ``expires_at`` is in epoch seconds, None for never."""

    key_id: str
    secret: bytes
    session: str = ""
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"IamCredentials({self.key_id})"


class Presigned(msgspec.Struct, frozen=True):
    """A request whose query is to be signed: for a service in a region, good for some seconds from ``now`` on."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    region: str
    service: str
    seconds: int
    now: float
    digest: str = NOTHING
    """Of the body, in hexadecimal."""


def signed_query(credentials: IamCredentials, request: Presigned) -> str:
    """The query of a request with its signature. The names in it are in the order that is signed."""
    stamp = datetime.fromtimestamp(request.now, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{request.region}/{request.service}/aws4_request"
    fields = {
        **request.query,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(request.seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session:
        fields["X-Amz-Security-Token"] = credentials.session
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(fields.items()))
    canonical = "\n".join(
        (request.method, request.path, query, f"host:{request.host}", "", "host", request.digest)
    )
    to_sign = "\n".join((_ALGORITHM, stamp, scope, sha256(canonical.encode()).hexdigest()))
    key = b"AWS4" + credentials.secret
    for part in (*scope.split("/"), to_sign):
        key = hmac.new(key, part.encode(), sha256).digest()
    return f"{query}&X-Amz-Signature={key.hex()}"


def bedrock_key(credentials: IamCredentials, region: str, now: float) -> Token:
    """A key of Bedrock in a region. Raises ``Unusable``."""
    seconds = LONGEST_KEY
    if credentials.expires_at is not None:
        seconds = min(seconds, int(credentials.expires_at - now))
    if seconds <= 0:
        raise Unusable("the credentials have expired")
    request = Presigned("POST", _HOST, "/", {"Action": "CallWithBearerToken"}, region, _SERVICE, seconds, now)
    address = f"{_HOST}/?{signed_query(credentials, request)}&Version=1"
    key = _PREFIX + base64.b64encode(address.encode()).decode()
    return Token(Secret(key), now + seconds)


def from_container(environ: Mapping[str, str], authorization: str) -> TokenQuestion | None:
    """What a container's endpoint is asked (ECS, EKS Pod Identity); None where the environment names none."""
    url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
    if relative:
        url = CONTAINER + relative
    if not url:
        return None
    headers: tuple[Header, ...] = ((b"authorization", authorization.encode()),) if authorization else ()
    return TokenQuestion(b"GET", url, headers)


def metadata_token(host: str = "") -> TokenQuestion:
    """The first thing that a machine's metadata is asked."""
    ttl = (b"x-aws-ec2-metadata-token-ttl-seconds", b"21600")
    return TokenQuestion(b"PUT", f"{host or METADATA}/latest/api/token", (ttl,))


def metadata_role(token: bytes, role: str = "", host: str = "") -> TokenQuestion:
    """What it is asked then: which role the machine has, and with its name the role's credentials."""
    url = f"{host or METADATA}/latest/meta-data/iam/security-credentials/{quote(role, safe='')}"
    return TokenQuestion(b"GET", url, ((b"x-aws-ec2-metadata-token", token),))


def credentials_in(body: bytes) -> IamCredentials:
    """The credentials of an answer. Raises ``Unusable``."""
    fields = object_in(body)
    expires = fields.get("Expiration")
    try:
        until = None if expires is None else datetime.fromisoformat(str(expires)).timestamp()
    except ValueError:
        raise Unusable("its Expiration is no time") from None
    session = fields.get("Token")
    return IamCredentials(
        member_text(fields, "AccessKeyId"),
        member_text(fields, "SecretAccessKey").encode(),
        session if isinstance(session, str) else "",
        until,
    )


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")
