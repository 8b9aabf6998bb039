"""One question to an endpoint that gives tokens, and a token as it was given."""

from typing import cast
from urllib.parse import urlencode

import msgspec

from penstock.core.limits import Header
from penstock.providers.secrets import Secret

_FORM = (b"content-type", b"application/x-www-form-urlencoded")
_LEAST_SECONDS = 1


class Unusable(ValueError):
    """There is no token, in words for the operator that hold no secret."""


class TokenQuestion(msgspec.Struct, frozen=True):
    """What is sent. It may hold secrets, so it does not show itself."""

    method: bytes
    url: str
    headers: tuple[Header, ...] = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"TokenQuestion({self.url.partition('?')[0]})"


class Token(msgspec.Struct, frozen=True):
    """A token, and until when it is good, in epoch seconds."""

    secret: Secret
    expires_at: float


def form(url: str, fields: dict[str, str]) -> TokenQuestion:
    """A form that is posted."""
    return TokenQuestion(b"POST", url, (_FORM,), urlencode(fields).encode())


def token_in(body: bytes, now: float) -> Token:
    """The token of an answer as RFC 6749 section 5.1 has it. Raises ``Unusable``."""
    fields = object_in(body)
    given, seconds = fields.get("access_token"), fields.get("expires_in")
    if isinstance(seconds, str) and seconds.isdigit():
        seconds = int(seconds)
    if not isinstance(given, str) or not isinstance(seconds, int) or seconds < _LEAST_SECONDS:
        raise Unusable("the answer has no token, or no time for which it is good")
    try:
        return Token(Secret(given.rstrip(".")), now + seconds)
    except ValueError:
        raise Unusable("the token is not one that a header can hold") from None


def object_in(body: bytes) -> dict[str, object]:
    """A JSON object. Raises ``Unusable``."""
    try:
        value: object = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unusable("it is not a JSON object")
    return cast("dict[str, object]", value)


def member_text(fields: dict[str, object], name: str) -> str:
    """A member that has to be there. Raises ``Unusable``."""
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Unusable(f"it has no {name}")
    return value
