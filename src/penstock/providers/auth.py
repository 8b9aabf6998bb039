"""Authentication at providers: one function a scheme, named as the catalogue names it (``auth``).

A scheme sees all that a signature may have to cover: the secret, the method, the URL, the other headers, the body and the
time. Headers of a ``static`` scheme depend on the secret alone, so they are made once and kept. With ``tokens`` the secret is a
token that does not last (``operations/token_sources.py``); what the catalogue calls the secret is what the token is got with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from penstock.core.catalog import Upstream
from penstock.core.limits import Header
from penstock.providers.secrets import Secret


@dataclass(frozen=True, slots=True)
class ToSign:
    """One request as it is about to be sent. ``url`` is whole, ``now`` in epoch seconds."""

    method: bytes
    url: bytes
    headers: Sequence[Header]
    body: bytes
    now: float


@dataclass(frozen=True, slots=True)
class Auth:
    """One scheme. ``sign`` gives the headers that sign a request in; it is not asked where there is no secret."""

    sign: Callable[[Secret, ToSign], tuple[Header, ...]]
    static: bool = False
    tokens: bool = False


def _api_key(secret: Secret, request: ToSign) -> tuple[Header, ...]:  # noqa: ARG001 - the same in every scheme
    return ((b"x-api-key", secret.reveal()),)


def _azure_key(secret: Secret, request: ToSign) -> tuple[Header, ...]:  # noqa: ARG001 - the same in every scheme
    return ((b"api-key", secret.reveal()),)


def _bearer(secret: Secret, request: ToSign) -> tuple[Header, ...]:  # noqa: ARG001 - the same in every scheme
    return ((b"authorization", b"Bearer " + secret.reveal()),)


def _nothing(secret: Secret, request: ToSign) -> tuple[Header, ...]:  # noqa: ARG001 - the same in every scheme
    return ()


AUTH: Mapping[str, Auth] = {
    "x-api-key": Auth(_api_key, static=True),
    "bearer": Auth(_bearer, static=True),
    "api-key": Auth(_azure_key, static=True),
    "bedrock": Auth(_bearer, static=True, tokens=True),
    "google": Auth(_bearer, static=True, tokens=True),
    "entra": Auth(_bearer, static=True, tokens=True),
    "none": Auth(_nothing, static=True),
}


def sign(upstream: Upstream, secret: Secret | None, request: ToSign) -> tuple[Header, ...]:
    """All headers of a request to ``upstream``: those that sign it in, and ``request.headers``."""
    signed = () if secret is None else AUTH[upstream.auth].sign(secret, request)
    return (*signed, *request.headers)
