"""What a request asks for, read from its body and its headers."""

import re

from penstock.core.body.envelope import DialectName, Envelope, read_envelope
from penstock.core.body.value_limits import check_values
from penstock.errors import InvalidRequest
from penstock.exchange import Exchange
from penstock.relay.offload import Offload

_VERSION = re.compile(rb"\d{4}-\d{2}-\d{2}")
_DEFAULT_VERSION = b"2023-06-01"
_BETA = re.compile(rb"[\x21-\x2b\x2d-\x7e]{1,128}")
_BETAS_MOST = 4096


class BodyReader:
    """Checks bodies and reads their top level, large ones in a thread."""

    def __init__(self, offload: Offload, *, max_values: int) -> None:
        """``max_values`` bounds the objects, lists and members of one body."""
        self._offload = offload
        self._max_values = max_values

    async def read(self, body: bytes, dialect: DialectName, *, counting: bool = False) -> Envelope:
        """The body's envelope. Raises ``InvalidRequest``."""
        if len(body) <= self._offload.above:
            return self._read(body, dialect, counting=counting)
        return await self._offload.run(self._read, body, dialect, counting=counting)

    def _read(self, body: bytes, dialect: DialectName, *, counting: bool) -> Envelope:
        check_values(body, self._max_values)
        return read_envelope(body, dialect, counting=counting)


def api_version(exchange: Exchange) -> bytes:
    """The ``anthropic-version`` meant; raises ``InvalidRequest`` where it is no date."""
    version = exchange.header(b"anthropic-version")
    if version is None:
        return _DEFAULT_VERSION
    if _VERSION.fullmatch(version) is None:
        raise InvalidRequest(
            "anthropic-version must be a date such as 2023-06-01.", param="anthropic-version"
        )
    return version


def betas_of(exchange: Exchange) -> bytes | None:
    """All ``anthropic-beta`` names, joined; raises ``InvalidRequest`` where they are no names."""
    values = [value for name, value in exchange.headers if name == b"anthropic-beta" and value]
    if not values:
        return None
    betas = b",".join(values)
    names = [name.strip() for name in betas.split(b",")]
    if len(betas) > _BETAS_MOST or not all(_BETA.fullmatch(name) for name in names if name):
        raise InvalidRequest(
            "anthropic-beta must be a list of names separated by commas.", param="anthropic-beta"
        )
    return betas
