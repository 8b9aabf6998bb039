"""Objects of exported receipts, put into a bucket that speaks S3, under names that tell what is in them.

A put is signed as its vendor's own links are: a query by Signature Version 4 (``providers/tokens/aws.py``), good for a few
minutes and for this one name. It goes the way of all that staff have us send (``operations/signed_post.py``).
"""

from typing import Final
from urllib.parse import quote

from penstock.domain.exports.places import Bucket
from penstock.domain.notifications.signed_address import host_of
from penstock.operations.signed_post import Outward, send_outward
from penstock.providers.tokens.aws import IamCredentials, Presigned, signed_query

_GOOD_SECONDS: Final = 300
_BODY: Final = "UNSIGNED-PAYLOAD"
"""What a link says of a body that it does not know; TLS keeps it whole."""


async def put_object(
    bucket: Bucket, name: str, body: bytes, where: Outward, *, kind: bytes, now: float, user_agent: str
) -> int:
    """Put an object of this content type; the status. ``now`` is epoch seconds. Raises ``NotTaken``."""
    place = bucket.place
    path = f"{quote(place.path.decode(), safe='/-_.~%')}/{quote(name, safe='/-_.~')}"
    request = Presigned(
        "PUT", host_of(place), path, {}, bucket.region, "s3", _GOOD_SECONDS, now, digest=_BODY
    )
    query = signed_query(IamCredentials(bucket.key_id, bucket.secret.encode()), request)
    headers = ((b"content-type", kind), (b"user-agent", user_agent.encode()))
    target = f"{path}?{query}".encode()
    return await send_outward(place, b"PUT", target, headers, body, where)
