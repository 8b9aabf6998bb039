"""Request credentials: who sends a request, by its headers; read once for all requests of a connection that share them.

What was decided for such requests is kept here too: their standing records (``relay/standing.py``).
"""

from collections.abc import Callable

from penstock.api.client_families import ClientFamilies
from penstock.core.dialects.interface import NO_VERSION, ApiVersion, CallerFormat
from penstock.domain.keys.authentication import pick_key
from penstock.exchange import Exchange
from penstock.relay.standing import Caller


class RequestCredentials:
    """What the headers say of the caller. ``key`` is its API key, ``mark`` what the key ring knows that by."""

    __slots__ = ("_version", "caller", "client", "key", "mark", "strict")

    def __init__(self, key: str, mark: bytes, client: str, *, strict: bool) -> None:
        """``client`` is the name of the client's family; ``strict``: what cannot be carried in full is refused."""
        self.key = key
        self.mark = mark
        self.client = client
        self.strict = strict
        self.caller: Caller | None = None
        """What was decided for requests with these headers."""
        self._version: tuple[CallerFormat, ApiVersion] | None = None

    def api_version(self, exchange: Exchange, caller: CallerFormat) -> ApiVersion:
        """The version of the API that a caller of this format means. Raises ``InvalidRequest``."""
        if caller.api_version is None:
            return NO_VERSION
        known = self._version
        if known is None or known[0] is not caller:
            known = self._version = (caller, caller.api_version(exchange.headers))
        return known[1]


def request_credentials(
    exchange: Exchange, mark: Callable[[str], bytes], families: ClientFamilies
) -> RequestCredentials:
    """The sender of a request. Raises ``MissingKey`` or ``InvalidKey``."""
    known = exchange.shared_headers.read
    if isinstance(known, RequestCredentials):
        return known
    key = pick_key(_text(exchange.header(b"x-api-key")), _text(exchange.header(b"authorization")))
    sender = RequestCredentials(
        key,
        mark(key),
        families.of(exchange.header(b"user-agent")).name,
        strict=exchange.header(b"x-penstock-strict") == b"1",
    )
    exchange.shared_headers.read = sender
    return sender


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
