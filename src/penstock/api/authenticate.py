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

    __slots__ = ("_version", "caller", "client", "key", "mark", "patience", "session", "strict", "wishes")

    def __init__(
        self,
        key: str,
        mark: bytes,
        client: str,
        *,
        strict: bool,
        patience: float | None = None,
        session: bytes = b"",
        wishes: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        """``client`` is the name of the client's family; ``strict``: what cannot be carried in full is refused.

        ``patience`` is how many seconds the client says that it waits for an answer, ``session`` what it calls the
        conversation. ``wishes`` are what it asks of the choice of a provider, and of further models, as it has written that.
        """
        self.key = key
        self.mark = mark
        self.client = client
        self.strict = strict
        self.patience = patience
        self.session = session
        self.wishes = wishes
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
        patience=_patience(exchange),
        session=_session(exchange),
        wishes=(
            exchange.header(b"x-penstock-provider") or b"",
            exchange.header(b"x-penstock-fallback-on") or b"",
        ),
    )
    exchange.shared_headers.read = sender
    return sender


def _patience(exchange: Exchange) -> float | None:
    """How long the client waits, by the headers that the vendors' SDKs send; None where it does not say."""
    found: list[float] = []
    for name in _TIMEOUTS:
        value = exchange.header(name)
        if value is not None and value.isdigit() and len(value) <= _LONGEST_TIMEOUT:
            found.append(float(value))
    return min((seconds for seconds in found if seconds > 0), default=None)


_TIMEOUTS = (b"x-stainless-read-timeout", b"x-stainless-timeout")
"""Seconds, of OpenAI's and Anthropic's SDKs in Python and in JavaScript."""
_LONGEST_TIMEOUT = 9
"""Digits."""


def _session(exchange: Exchange) -> bytes:
    """What the client calls the conversation, as OpenRouter, opencode and Claude Code have it; nothing where it does not."""
    for name in _SESSIONS:
        value = exchange.header(name)
        if value and len(value) <= _LONGEST_SESSION:
            return value
    return b""


_SESSIONS = (b"x-session-id", b"x-session-affinity", b"x-claude-code-session-id")
_LONGEST_SESSION = 256


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
