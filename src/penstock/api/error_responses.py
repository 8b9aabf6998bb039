"""Error responses: the headers of an error, and its body in the form that the caller's client parses."""

from math import inf

from penstock.api.client_families import ClientFamilies
from penstock.api.help_links import HELP
from penstock.errors import (
    EncodedBody,
    InvalidKey,
    LimitReached,
    MethodNotAllowed,
    ModelRetired,
    PenstockError,
    ProviderError,
    Unavailable,
    UpgradeRefused,
    native_body,
    simple_body,
)
from penstock.exchange import HeaderList
from penstock.relay.answer_head import ModelEnd, ending_headers

_RETRY_AFTER = b"5"
"""Seconds, where an error that passes says no better."""


def error_headers(error: PenstockError, base_path: bytes = b"", receipt: bytes = b"") -> HeaderList:
    """What an error's response has besides the headers of every answer; ``base_path`` is what our paths begin with.

    ``receipt`` is where the request's own page is, if it has one: it explains a limit better than any general page.
    """
    head: HeaderList = []
    if error.retry_after is not None:
        head.append((b"retry-after", b"%d" % error.retry_after))
    elif isinstance(error, Unavailable | ProviderError):
        head.append((b"retry-after", _RETRY_AFTER))
    if error.should_retry is not None:
        head.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    general = HELP.get(error.code, b"")
    page = receipt or general if isinstance(error, LimitReached) else general or receipt
    links = [b'<%b%b>; rel="help"' % (base_path, page)] if page else []
    if isinstance(error, ModelRetired):
        for name, value in ending_headers(ModelEnd(error.day, error.successor, base_path.decode()), inf):
            if name == b"link":
                links.append(value)
            else:
                head.append((name, value))
    if links:
        head.append((b"link", b", ".join(links)))
    if isinstance(error, MethodNotAllowed):
        head.append((b"allow", error.allow.encode()))
    if isinstance(error, EncodedBody):
        head.append((b"accept-encoding", error.accepted.encode()))
    if isinstance(error, UpgradeRefused):
        # RFC 9110 section 15.5.22 wants a protocol named. This one is what the caller has.
        head.append((b"upgrade", b"HTTP/1.1"))
    if isinstance(error, InvalidKey):
        head.append((b"www-authenticate", b"Bearer"))
    return head


def error_body(error: PenstockError, request_id: str, families: ClientFamilies, headers: HeaderList) -> bytes:
    """The error as the client that sent ``headers`` parses it: a native object, or the documented simple form."""
    render = native_body if families.parse_native(headers) else simple_body
    return render(error, request_id)
