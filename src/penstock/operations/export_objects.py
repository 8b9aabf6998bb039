"""Objects of exported receipts: JSON Lines, put into a bucket that speaks S3, under names that tell what is in them.

A put is signed as its vendor's own links are: a query by Signature Version 4 (``providers/tokens/aws.py``), good for a few
minutes and for this one name. It goes the way of all that staff have us send (``operations/signed_post.py``).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from penstock.domain.exports.destinations import Bucket, Destination
from penstock.domain.exports.settled import Slice
from penstock.domain.notifications.signed_address import host_of
from penstock.operations.signed_post import Outward, send_outward
from penstock.providers.tokens.aws import IamCredentials, Presigned, signed_query

_GOOD_SECONDS: Final = 300
_BODY: Final = "UNSIGNED-PAYLOAD"
"""What a link says of a body that it does not know; TLS keeps it whole."""


def name_of_object(destination: Destination, part: Slice) -> str:
    """``2027/01/15/dst_x-000000000001-000000000009.jsonl``: the same requests have the same name, whenever they are sent."""
    day = datetime.fromtimestamp(part.at / 1000, UTC).strftime("%Y/%m/%d")
    return f"{day}/{destination.id}-{part.first:012d}-{part.cursor:012d}.jsonl"


async def put_object(
    bucket: Bucket, name: str, lines: Sequence[bytes], where: Outward, *, now: float, user_agent: str
) -> int:
    """Put an object; the status. ``now`` is epoch seconds. Raises ``NotTaken``."""
    place = bucket.place
    path = f"{quote(place.path.decode(), safe='/-_.~%')}/{quote(name, safe='/-_.~')}"
    request = Presigned(
        "PUT", host_of(place), path, {}, bucket.region, "s3", _GOOD_SECONDS, now, digest=_BODY
    )
    query = signed_query(IamCredentials(bucket.key_id, bucket.secret.encode()), request)
    headers = ((b"content-type", b"application/x-ndjson"), (b"user-agent", user_agent.encode()))
    target = f"{path}?{query}".encode()
    return await send_outward(place, b"PUT", target, headers, b"".join(lines), where)
