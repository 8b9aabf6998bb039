"""The router: chooses who is asked, keeps what is known of upstreams, and knows each provider's address and secret.

One per process. The rule of choice and all that follows from outcomes is pure (``core/routing``); the router keeps what it
is applied to.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec

from penstock.core.body.envelope import Envelope, Feature
from penstock.core.catalog import DialectName, Model, Upstream
from penstock.core.dialects.context_overflow import Overflow
from penstock.core.dialects.interface import ApiVersion, UpstreamFormat
from penstock.core.endpoints import Endpoint
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.limits import Header
from penstock.core.memo import Memo
from penstock.core.routing.affinity import Wish, beside_turns, conversation
from penstock.core.routing.automatic import automatic
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Attempt, Candidate, UpstreamKey, Upstreams
from penstock.core.routing.choice import NOTHING, Choice, Need, Reason, choose, fitted, others
from penstock.core.routing.health import Health, UpstreamHealth
from penstock.core.routing.pace import Clocks, Limits, stream_kind, whole_kind
from penstock.core.routing.rules import RULES, RoutingRules
from penstock.domain.catalog.catalog import Catalog, Resolution
from penstock.errors import ContextOverflow, InvalidRequest, NoProvider, ProviderCredentials
from penstock.providers.auth import AUTH, ToSign, sign
from penstock.providers.secrets import Secret, Secrets
from penstock.providers.table import extra_headers
from penstock.upstream import Origin, parse_base_url

log = logging.getLogger("penstock.relay.router")

_JSON = (b"content-type", b"application/json")
_AGENT = (b"user-agent", b"penstock")


class Selection(msgspec.Struct, frozen=True, gc=False):
    """The model that serves a request, who could be asked for it, and what is asked of them.

    ``only`` is the choice where there is one candidate, and what is known of it. ``wish`` is the conversation, where there
    are several and it is to stay with one.
    """

    model: Model
    board: Board
    need: Need = NOTHING
    only: Choice | None = None
    known: UpstreamHealth | None = None
    wish: Wish | None = None


class UpstreamAddress(msgspec.Struct, frozen=True):
    """Where an attempt is posted to: ``path`` of ``origin``; ``url`` is the whole of it."""

    origin: Origin
    path: bytes
    url: bytes


class _Plain(msgspec.Struct, frozen=True, gc=False):
    """The selection where all of a model's targets can take what is asked. It holds for one revision of the catalogue."""

    model: Model
    upstreams: Upstreams
    selection: Selection
    room: int
    longest: int


class _Signed(msgspec.Struct, frozen=True):
    """An attempt's headers. They hold as long as the provider's row and its secret are the same objects."""

    upstream: Upstream
    secret: Secret | None
    headers: tuple[Header, ...]


_ESTIMATE = 1.1
"""How many tokens a prompt is taken for, by its estimate."""
_SURE = 2
"""No prompt has more tokens than one for so many of its bytes."""
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
        rules: RoutingRules = RULES,
    ) -> None:
        """``catalog`` gives the current revision, ``draw`` a random number in [0, 1), ``now`` epoch seconds."""
        self._catalog = catalog
        self._secrets = secrets
        self._draw = draw
        self.epoch = now
        self.health = Health(rules, draw=draw)
        self.alone: tuple[Clocks, Limits] = (Clocks(), Limits(0.0, 0.0, 0.0))
        """What an attempt may take where there is nobody else, by the settings that it follows from."""
        self._addresses: Memo[tuple[str, bytes], UpstreamAddress] = Memo(_MAX_KEPT)
        self._boards: dict[tuple[str, DialectName], Board] = {}
        self._plain: dict[tuple[str, DialectName], _Plain] = {}
        self._signed: Memo[tuple[UpstreamKey, DialectName, ApiVersion], _Signed] = Memo(_MAX_KEPT)

    def select(
        self,
        resolution: Resolution,
        envelope: Envelope,
        endpoint: Endpoint,
        now: float,
        *,
        user: str = "",
        session: bytes = b"",
    ) -> Selection:
        """The model that serves this request, and who can be asked for it. ``now`` is monotonic.

        ``session`` is what the caller's headers call the conversation of ``user``.

        Raises ``InvalidRequest`` when the model (or every model of an ``auto`` list) cannot take what is asked, and
        ``NoProvider`` when none is set up.
        """
        model, dialect = resolution.model, endpoint.name
        upstreams = self._catalog().upstreams
        plain = self._plain.get((model.id, dialect))
        asked = envelope.max_tokens or 0
        if (
            plain is not None
            and plain.model is model
            and plain.upstreams is upstreams
            and len(envelope.body) // _SURE + asked <= plain.room
            and asked <= plain.longest
        ):
            if plain.selection.known is not None:
                return plain.selection
            wish = _wish(model, envelope, user, session)
            return plain.selection if wish is None else Selection(model, plain.selection.board, wish=wish)
        choosy = model.auto or any(target.lacks for target in model.targets)
        features = envelope.features() if choosy else frozenset[Feature]()
        need = Need(features, int(envelope.estimate_input() * _ESTIMATE), asked)
        if model.auto:
            model = self._automatic(resolution, need, endpoint, upstreams, now)
        board = self._board(model, endpoint, upstreams)
        group = board.group
        if not group.size:
            raise NoProvider(f"No provider is set up for {model.id}.", param="model")
        can = fitted(board, need)
        if can is None:
            raise _unfit(model, board, need, endpoint)
        wish = None if group.size == 1 else _wish(model, envelope, user, session)
        if choosy:
            return Selection(model, board, can, wish=wish)
        plain = Selection(model, board)
        if group.size == 1:
            candidate = group.tiers[0].candidates[0]
            plain = Selection(
                model, board, NOTHING, Choice(candidate, Reason.ONLY), board.health_of(candidate)
            )
        self._plain[model.id, dialect] = _Plain(model, upstreams, plain, group.room, group.longest)
        return plain if group.size == 1 else Selection(model, board, can, wish=wish)

    def choose(
        self,
        selection: Selection,
        tried: Sequence[Candidate],
        failed: FailureClass | None,
        *,
        now: float,
        patience: float,
    ) -> Choice:
        """Who is asked next; ``failed`` is how the last of ``tried`` has failed, ``patience`` the seconds that are left."""
        known = selection.known
        if known is not None and selection.only is not None and known.normal and not tried:
            return selection.only
        board = selection.board
        choice = choose(
            board,
            selection.need,
            tried,
            failed,
            u=self._draw(),
            now=now,
            patience=patience,
            wish=selection.wish,
        )
        if choice.reason == Reason.LAST_RESORT and choice.wait is None:
            board.known.last_resort.asked(now, self.health.rules)
        return choice

    def others(self, selection: Selection, tried: Sequence[Candidate], now: float) -> bool:
        """Whether another one could be asked now."""
        return selection.known is None and others(selection.board, selection.need, tried, now)

    def plan(self, selection: Selection, now: float) -> tuple[Attempt, ...]:
        """Who is asked in turn for what takes no part in the votes; one at least."""
        tried: list[Candidate] = []
        failed: FailureClass | None = None
        while len(tried) < self.health.rules.most_attempts:
            choice = choose(
                selection.board,
                selection.need,
                tried,
                failed,
                u=self._draw(),
                now=now,
                patience=0.0,
                wish=selection.wish,
            )
            if choice.candidate is None:
                break
            tried.append(choice.candidate)
            failed = FailureClass.BROKEN
        if not tried:
            tried.append(selection.board.group.tiers[0].candidates[0])
        return tuple(candidate.attempt for candidate in tried)

    def draw(self) -> float:
        """A number in [0, 1)."""
        return self._draw()

    def _automatic(
        self, resolution: Resolution, need: Need, endpoint: Endpoint, upstreams: Upstreams, now: float
    ) -> Model:
        """The model that an ``auto`` model chooses."""

        def well(model: Model) -> bool | None:
            board = self._board(model, endpoint, upstreams)
            if fitted(board, need) is not need:
                return None
            return others(board, need, (), now)

        chosen = automatic(resolution.candidates, need.features, well=well)
        if chosen is None:
            # none has the room that is estimated: the first that has the features, and may have
            chosen = automatic(
                resolution.candidates,
                need.features,
                well=lambda model: (
                    None if fitted(self._board(model, endpoint, upstreams), need) is None else False
                ),
            )
        if chosen is None:
            asked = ", ".join(sorted(need.features)) or f"about {need.prompt} tokens"
            raise InvalidRequest(
                f"No model of {resolution.model.id} on your plan can take {asked}.", param="model"
            )
        return chosen

    def _board(self, model: Model, endpoint: Endpoint, upstreams: Upstreams) -> Board:
        group = upstreams.group(model, endpoint.name, endpoint.upstreams)
        known = self._boards.get((model.id, endpoint.name))
        if known is None or known.group is not group:
            known = self._boards[model.id, endpoint.name] = Board(group, self.health)
        return known

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
        if known is not None and known.secret is not secret:
            self.health.renewed(self.health.of(attempt), 0.0)
        versions = () if version is None else version(asked, attempt.profile)
        rest = (*extra_headers(row.kind), *versions, _JSON, _AGENT)
        headers = sign(row, secret, ToSign(b"POST", address.url, rest, body, self.epoch()))
        if AUTH[row.auth].static:
            self._signed.keep(key, _Signed(row, secret, headers))
        return headers

    def keeps_headers(self, attempt: Attempt) -> bool:
        """Whether the headers of an attempt are the same for every body, as long as its secret is."""
        return AUTH[attempt.upstream.auth].static


def _wish(model: Model, envelope: Envelope, user: str, session: bytes) -> Wish | None:
    """The conversation that a request belongs to; None where it makes no difference where it goes."""
    if not model.sticky:
        return None
    body, turns = envelope.body, envelope.rules.turns
    place = None if envelope.spans is None else envelope.rules.scan.places.get(turns)
    if envelope.spans is not None and place is not None:
        start, end = envelope.spans[place], envelope.spans[place + 1]
        beside, beginning = beside_turns(body, start, end), body[start : min(end, start + _BEGINNING)]
    else:
        fields = envelope.fields
        named = [b'"%b":%b' % (name.encode(), bytes(fields[name])) for name in _NAMING if name in fields]
        beside, beginning = b",".join(named), bytes(memoryview(fields.get(turns, b""))[:_BEGINNING])
    key = conversation(user, model.id, session, len(body), beside, beginning)
    if not key:
        return None
    asked = envelope.max_tokens or model.max_output_tokens or 0
    kind = stream_kind(len(body) // 4) if envelope.stream else whole_kind(asked)
    return Wish(key, kind)


_BEGINNING = 1024
_NAMING = ("prompt_cache_key", "session_id", "metadata")
"""Fields that may say which conversation it is."""


def _unfit(model: Model, board: Board, need: Need, endpoint: Endpoint) -> InvalidRequest:
    """Nobody can take what is asked."""
    if fitted(board, Need(need.features)) is None:
        asked = ", ".join(sorted(need.features))
        return InvalidRequest(f"{model.id} cannot take {asked} here.", param="messages")
    room = max(candidate.room or 0 for tier in board.group.tiers for candidate in tier.candidates)
    overflow = Overflow(need.prompt, room)
    said = f"This model's maximum context length is {room} tokens, and your request has about {need.prompt}."
    words = endpoint.caller.overflow_words
    return ContextOverflow(said if words is None else words(overflow, said), param="messages")
