"""The router: chooses the attempts of a request, keeps the circuit breakers, and knows each provider's address and secret.

One per process. The rule of choice is pure (``core/routing.py``); the router keeps what it is applied to.
"""

import logging
from collections.abc import Callable

import msgspec

from penstock.core.body.envelope import Envelope, Feature
from penstock.core.catalog import DialectName, Model, Upstream
from penstock.core.circuit_breaker import (
    CLOSED,
    CircuitKey,
    CircuitState,
    after_failure,
    after_probe,
    after_success,
)
from penstock.core.dialects.interface import ApiVersion, UpstreamFormat
from penstock.core.endpoints import Endpoint
from penstock.core.limits import Header
from penstock.core.memo import Memo
from penstock.core.routing import Attempt, Upstreams, automatic, plan
from penstock.domain.catalog.catalog import Catalog, Resolution
from penstock.errors import InvalidRequest, NoProvider, ProviderCredentials
from penstock.providers.auth import AUTH, ToSign, sign
from penstock.providers.secrets import Secret, Secrets
from penstock.providers.table import extra_headers
from penstock.upstream import Origin, parse_base_url

log = logging.getLogger("penstock.relay.router")

_JSON = (b"content-type", b"application/json")
_AGENT = (b"user-agent", b"penstock")


class Selection(msgspec.Struct, frozen=True):
    """The model that serves a request, and the attempts to make, best first, at least one."""

    model: Model
    attempts: tuple[Attempt, ...]


class UpstreamAddress(msgspec.Struct, frozen=True):
    """Where an attempt is posted to: ``path`` of ``origin``; ``url`` is the whole of it."""

    origin: Origin
    path: bytes
    url: bytes


class _Sole(msgspec.Struct, frozen=True):
    """The choice of a model that has one target with a closed circuit. It holds for one revision of the catalogue."""

    model: Model
    upstreams: Upstreams
    choice: Selection
    circuit: CircuitKey


class _Signed(msgspec.Struct, frozen=True):
    """An attempt's headers. They hold as long as the provider's row and its secret are the same objects."""

    upstream: Upstream
    secret: Secret | None
    headers: tuple[Header, ...]


_MAX_KEPT = 256
"""Kept at most: callers choose version and betas."""


class Router:
    """Chooses attempts, keeps their health, and knows how to reach and sign them."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        secrets: Secrets,
        *,
        draw: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """``catalog`` gives the current revision, ``draw`` a random number in [0, 1), ``now`` epoch seconds."""
        self._catalog = catalog
        self._secrets = secrets
        self._draw = draw
        self._now = now
        self._health: dict[CircuitKey, CircuitState] = {}
        self._addresses: Memo[tuple[str, bytes], UpstreamAddress] = Memo(_MAX_KEPT)
        self._sole: dict[tuple[str, DialectName], _Sole] = {}
        self._signed: Memo[tuple[CircuitKey, DialectName, ApiVersion], _Signed] = Memo(_MAX_KEPT)

    def choose(self, resolution: Resolution, envelope: Envelope, endpoint: Endpoint, now: float) -> Selection:
        """What serves this request. ``now`` is monotonic.

        Raises ``InvalidRequest`` when the model (or every model of an ``auto`` list) cannot take what is asked, and
        ``NoProvider`` when none is set up.
        """
        model, dialect, formats = resolution.model, endpoint.name, endpoint.upstreams
        upstreams = self._catalog().upstreams
        sole = self._sole.get((model.id, dialect))
        if (
            sole is not None
            and sole.model is model
            and sole.upstreams is upstreams
            and sole.circuit not in self._health
        ):
            return sole.choice
        choosy = model.auto or any(target.lacks for target in model.targets)
        features = envelope.features() if choosy else frozenset[Feature]()
        if model.auto:
            chosen = automatic(resolution.candidates, features)
            if chosen is None:
                asked = ", ".join(sorted(features))
                raise InvalidRequest(f"No model of {model.id} on your plan can take {asked}.", param="model")
            model = chosen
        attempts = plan(
            model,
            upstreams,
            self._health,
            features=features,
            dialect=dialect,
            formats=formats,
            now=now,
            spread=self._draw(),
        )
        if not attempts:
            if features and plan(
                model,
                upstreams,
                self._health,
                features=(),
                dialect=dialect,
                formats=formats,
                now=now,
                spread=0.0,
            ):
                asked = ", ".join(sorted(features))
                raise InvalidRequest(f"{model.id} cannot take {asked} here.", param="messages")
            raise NoProvider(f"No provider is set up for {model.id}.", param="model")
        choice = Selection(model, attempts)
        if not choosy and len(model.targets) == 1 and not attempts[0].probe:
            self._sole[model.id, dialect] = _Sole(model, upstreams, choice, attempts[0].key)
        return choice

    def address(self, attempt: Attempt, suffix: bytes) -> UpstreamAddress:
        """Where an attempt is posted to; ``suffix`` is appended to the provider's base URL."""
        key = (attempt.url, suffix)
        found = self._addresses.get(key)
        if found is None:
            origin, base = parse_base_url(attempt.url)
            url = attempt.url.rstrip("/").encode() + suffix
            found = self._addresses.keep(key, UpstreamAddress(origin, base + suffix, url))
        return found

    def headers(
        self,
        attempt: Attempt,
        upstream: UpstreamFormat,
        asked: ApiVersion,
        address: UpstreamAddress,
        body: bytes,
    ) -> tuple[Header, ...]:
        """The request's headers, credentials included; ``asked`` is the version of the API that its caller named.

        Nothing else of the caller's is among them. Raises ``ProviderCredentials`` when the secret is there no more:
        nothing is sent unsigned.
        """
        row = attempt.upstream
        secret = self._secrets.get(row.secret)
        key = (attempt.key, attempt.dialect, asked)
        known = self._signed.get(key)
        if known is not None and known.secret is secret and known.upstream is row:
            return known.headers
        if secret is None and row.secret:
            log.error("a provider's secret cannot be had", extra={"provider": row.id})
            raise ProviderCredentials("The service cannot sign in to this model's provider.")
        version = upstream.version_headers
        versions = () if version is None else version(asked, attempt.profile)
        rest = (*extra_headers(row.kind), *versions, _JSON, _AGENT)
        headers = sign(row, secret, ToSign(b"POST", address.url, rest, body, self._now()))
        if AUTH[row.auth].static:
            self._signed.keep(key, _Signed(row, secret, headers))
        return headers

    def keeps_headers(self, attempt: Attempt) -> bool:
        """Whether the headers of an attempt are the same for every body, as long as its secret is."""
        return AUTH[attempt.upstream.auth].static

    def sending(self, attempt: Attempt, now: float) -> None:
        """An attempt is about to be sent."""
        if attempt.probe:
            self._health[attempt.key] = after_probe(self._health.get(attempt.key, CLOSED), now)

    def succeeded(self, attempt: Attempt) -> None:
        """The attempt was answered."""
        health = self._health.get(attempt.key)
        if health is not None:
            self._health[attempt.key] = after_success(health)

    def failed(self, attempt: Attempt, now: float) -> None:
        """The provider failed the attempt."""
        self._health[attempt.key] = after_failure(self._health.get(attempt.key, CLOSED), now)
