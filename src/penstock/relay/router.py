"""The router: chooses who is asked, keeps what is known of upstreams, and knows each provider's address and secret.

One per process. The rule of choice and all that follows from outcomes is pure (``core/routing``); the router keeps what it
is applied to.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

import msgspec

from penstock.core.body.envelope import Envelope, Feature
from penstock.core.body.request_scan import ENCRYPTED
from penstock.core.catalog import DialectName, Model, ModelKind, Upstream
from penstock.core.dialects.context_overflow import Overflow
from penstock.core.dialects.interface import ApiVersion, UpstreamFormat
from penstock.core.endpoints import Endpoint
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.limits import Header
from penstock.core.memo import Memo
from penstock.core.routing.affinity import Affinity, beside_turns, conversation
from penstock.core.routing.automatic import Asking, KeptModels, automatic
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Attempt, Candidate, Group, UpstreamKey, Upstreams
from penstock.core.routing.choice import NOTHING, Choice, Need, Reason, choose, fitted, others
from penstock.core.routing.health import Health, UpstreamHealth
from penstock.core.routing.pace import Limits, stream_kind, whole_kind
from penstock.core.routing.preferences import OF_THE_MOMENT, Preference, Speed, narrowed
from penstock.core.routing.rules import RULES, RoutingRules
from penstock.domain.catalog.catalog import Catalog, Resolution
from penstock.errors import (
    ContextOverflow,
    InvalidRequest,
    ModelNotFound,
    NoProvider,
    PenstockError,
    ProviderCredentials,
)
from penstock.operations.reach import query_suffix, way_to
from penstock.operations.token_sources import TokenSources
from penstock.providers.auth import AUTH, ToSign, sign
from penstock.providers.secrets import Secret, Secrets
from penstock.providers.table import extra_headers
from penstock.relay.hosted import HOSTED
from penstock.relay.seals import ProviderAccount, Seals, readers_first, seals_of
from penstock.upstream import Origin, Way, parse_base_url

log = logging.getLogger("penstock.relay.router")

_MODEL = "{model}"
"""Where a base URL has the provider's own name of the model."""
_JSON = (b"content-type", b"application/json")
_AGENT = (b"user-agent", b"penstock")


class Selection(msgspec.Struct, frozen=True, gc=False):
    """The model that serves a request, who could be asked for it, and what is asked of them.

    ``only`` is the choice where there is one candidate, and what is known of it. ``wish`` is the conversation, where there
    are several and it is to stay with one. ``seals`` are what somebody has encrypted in it, where there are several.
    """

    model: Model
    board: Board
    need: Need = NOTHING
    only: Choice | None = None
    known: UpstreamHealth | None = None
    wish: Affinity | None = None
    seals: tuple[int, ...] = ()


class Asker(msgspec.Struct, frozen=True, gc=False):
    """Who asks, as far as it makes a difference to who answers. Decided once for the requests of a standing record.

    ``session`` is what the caller's headers call the conversation, ``requires`` are the tags that the plan demands, and
    ``preference`` is what plan and headers ask of the choice, together.
    """

    user: str = ""
    session: bytes = b""
    plan: str = ""
    client: str = ""
    requires: tuple[str, ...] = ()
    preference: Preference | None = None


NO_ASKER = Asker()


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
_MOST_BOARDS = 8192
"""Models that wildcards make are as many as their callers name; what is known of the idle is forgotten then."""
_MAX_KEPT = 256
"""Kept at most: callers choose version and betas."""


class Router:
    """Chooses attempts, keeps their health, and knows how to reach and sign them."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        secrets: Secrets,
        tokens: TokenSources,
        *,
        draw: Callable[[], float],
        now: Callable[[], float],
        rules: RoutingRules = RULES,
    ) -> None:
        """``catalog`` gives the current revision, ``draw`` a random number in [0, 1), ``now`` epoch seconds."""
        self._catalog = catalog
        self._secrets = secrets
        self._tokens = tokens
        self._draw = draw
        self.epoch = now
        self.health = Health(rules, draw=draw)
        self.alone: Memo[tuple[int, bool], Limits] = Memo(_MAX_KEPT)
        """What an attempt may take where there is nobody else: by the tokens that are asked for (-1: streamed), and by
        whether the model may think."""
        self._addresses: Memo[tuple[str, bytes, Way | None], UpstreamAddress] = Memo(_MAX_KEPT)
        self._boards: dict[tuple[str, DialectName], Board] = {}
        self._plain: dict[tuple[str, DialectName], _Plain] = {}
        self._narrow: Memo[tuple[str, DialectName, Preference], tuple[Group, Board]] = Memo(_MAX_KEPT)
        self._kept_models = KeptModels()
        self.seals = Seals()
        self._sealed: Memo[tuple[ProviderAccount, int], tuple[Group, Board]] = Memo(_MAX_KEPT)
        self.preferences = True
        """Whether callers may ask of the choice."""
        self.tells_provider = False
        """Whether answers say who gave them."""
        self._signed: Memo[tuple[UpstreamKey, DialectName, ApiVersion], _Signed] = Memo(_MAX_KEPT)

    def select(
        self,
        resolution: Resolution,
        envelope: Envelope,
        endpoint: Endpoint,
        now: float,
        asker: Asker = NO_ASKER,
        preference: Preference | None = None,
    ) -> Selection:
        """The model that serves this request, and who can be asked for it. ``now`` is monotonic.

        ``preference`` is all that is asked of the choice, that of ``asker`` included.

        Raises ``InvalidRequest`` when the model (or every model of an ``auto`` list) cannot take what is asked, and
        ``NoProvider`` when none is set up.
        """
        model, dialect = resolution.model, endpoint.name
        upstreams = self._catalog().upstreams
        plain = self._plain.get((model.id, dialect))
        asked = envelope.max_tokens or 0
        if (
            plain is not None
            and preference is None
            and plain.model is model
            and plain.upstreams is upstreams
            and len(envelope.body) // _SURE + asked <= plain.room
            and asked <= plain.longest
        ):
            if plain.selection.known is not None or plain.selection.board.group.size == 1:
                return plain.selection
            wish, board = _wish(model, envelope, asker), plain.selection.board
            if envelope.may_show(ENCRYPTED):
                return self._where_it_is_read(Selection(model, board, wish=wish), envelope)
            return plain.selection if wish is None else Selection(model, board, wish=wish)
        choosy = model.auto or any(target.lacks for target in model.targets)
        features = envelope.features() if choosy else frozenset[Feature]()
        need = Need(features, int(envelope.estimate_input() * _ESTIMATE), asked)
        if model.auto:
            model = self._automatic(resolution, need, envelope, endpoint, now, asker, preference)
        board = self._board(model, endpoint, upstreams)
        if not board.group.size:
            raise NoProvider(_nobody(model, upstreams), param="model")
        if preference is not None:
            board = self._narrowed(board, preference, endpoint, now)
            if not board.group.size:
                raise self._nobody_is_left(model, endpoint, upstreams, asker, preference)
        group = board.group
        can = fitted(board, need)
        if can is None:
            raise _unfit(model, board, need, endpoint)
        wish = None if group.size == 1 else _wish(model, envelope, asker)
        if choosy or preference is not None:
            return self._where_it_is_read(Selection(model, board, can, wish=wish), envelope)
        plain = Selection(model, board)
        if group.size == 1 and not group.limited:
            candidate = group.tiers[0].candidates[0]
            plain = Selection(
                model, board, NOTHING, Choice(candidate, Reason.ONLY), board.health_of(candidate)
            )
        self._plain[model.id, dialect] = _Plain(model, upstreams, plain, group.room, group.longest)
        if plain.known is not None:
            return plain
        return self._where_it_is_read(Selection(model, board, can, wish=wish), envelope)

    def _where_it_is_read(self, selection: Selection, envelope: Envelope) -> Selection:
        """The same, where those go first who can read what is encrypted in the request, if that is known."""
        if not envelope.may_show(ENCRYPTED):
            return selection
        seals = seals_of(envelope.body)
        if not seals:
            return selection
        reader, board = self.seals.reader(seals), selection.board
        group = board.group
        if reader is not None and group.size > 1:
            key = reader, id(group)
            known = self._sealed.get(key)
            if known is None or known[0] is not group:
                first = Board(readers_first(group, reader), self.health)
                known = self._sealed.keep(key, (group, first))
            board = known[1]
        return msgspec.structs.replace(selection, board=board, seals=seals)

    def kinds_of(self, providers: Iterable[str]) -> set[str]:
        """The kinds of those of these providers that are set up."""
        upstreams = self._catalog().upstreams
        return {upstreams[name].kind for name in providers if name in upstreams}

    def stand_in(
        self, name: str, plan: str, allowed: frozenset[str] | None, kind: ModelKind | None
    ) -> Resolution | None:
        """What the name of a further model means to a caller; None where our catalogue has none of that name.

        Raises ``ModelNotOnPlan`` and what else speaks against that model.
        """
        try:
            return self._catalog().resolve(name, plan, allowed, kind)
        except ModelNotFound:
            return None

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
        self,
        resolution: Resolution,
        need: Need,
        envelope: Envelope,
        endpoint: Endpoint,
        now: float,
        asker: Asker,
        preference: Preference | None,
    ) -> Model:
        """The model that an ``auto`` model chooses."""
        upstreams = self._catalog().upstreams

        def board_of(model: Model) -> Board:
            board = self._board(model, endpoint, upstreams)
            return board if preference is None else self._narrowed(board, preference, endpoint, now)

        def well(model: Model) -> bool | None:
            board = board_of(model)
            if fitted(board, need) is not need:
                return None
            return others(board, need, (), now)

        auto = resolution.model
        asked = Asking(
            need.features,
            need.prompt,
            envelope.max_tokens,
            envelope.stream,
            endpoint.name,
            asker.plan,
            asker.client,
        )
        wish = _wish(auto, envelope, asker)
        kept = "" if wish is None else self._kept_models.get(wish.key, now)
        chosen = automatic(auto, resolution.candidates, asked, well=well, kept=kept)
        if chosen is None:
            # none has the room that is estimated: the first that has the features, and may have
            chosen = automatic(
                auto,
                resolution.candidates,
                asked,
                well=lambda model: None if fitted(board_of(model), need) is None else False,
            )
        if chosen is None:
            said = ", ".join(sorted(need.features)) or f"about {need.prompt} tokens"
            raise InvalidRequest(f"No model of {auto.id} on your plan can take {said}.", param="model")
        if wish is not None:
            self._kept_models.keep(wish.key, chosen.model.id, now)
        return chosen.model

    # ---- what is asked of the choice

    def _narrowed(self, board: Board, preference: Preference, endpoint: Endpoint, now: float = 0.0) -> Board:
        """The board of those that are as is asked, in the order that is asked."""
        key = (board.group.model.id, endpoint.name, preference)
        known = self._narrow.get(key)
        if known is not None and known[0] is board.group:
            return known[1]

        def measured(candidate: Candidate) -> Speed:
            known = self.health.of(candidate.attempt)
            return Speed(known.faded(now, self.health.rules), known.rate)

        group = narrowed(
            board.group,
            preference,
            endpoint.name,
            measured,
        )
        made = Board(group, self.health)
        if preference.sort not in OF_THE_MOMENT:
            self._narrow.keep(key, (board.group, made))
        return made

    def _nobody_is_left(
        self, model: Model, endpoint: Endpoint, upstreams: Upstreams, asker: Asker, preference: Preference
    ) -> PenstockError:
        """Who asks too much: the plan, whose users can do nothing about it, or the caller."""
        board = self._board(model, endpoint, upstreams)
        if (
            asker.requires
            and not self._narrowed(board, Preference(requires=asker.requires), endpoint).group.size
        ):
            tags = ", ".join(asker.requires)
            return NoProvider(
                f"No provider of {model.id} is tagged {tags}, which your plan requires.", param="model"
            )
        return InvalidRequest(
            f"No provider of {model.id} is as you ask: {preference.demands}.", param="provider"
        )

    def _board(self, model: Model, endpoint: Endpoint, upstreams: Upstreams) -> Board:
        group = upstreams.group(model, endpoint.name, endpoint.upstreams)
        known = self._boards.get((model.id, endpoint.name))
        if known is None or known.group is not group:
            if len(self._boards) >= _MOST_BOARDS:
                self._boards.clear()
                self._plain.clear()
                self.health.forget_idle()
            known = self._boards[model.id, endpoint.name] = Board(group, self.health)
        return known

    def address(self, attempt: Attempt, suffix: bytes, *, stream: bool = False) -> UpstreamAddress:
        """Where an attempt is posted to; ``suffix`` is appended to the provider's base URL.

        Raises ``ProviderCredentials`` where there is no way to the provider.
        """
        upstream, base_url = attempt.upstream, attempt.url
        if _MODEL in base_url:
            base_url = base_url.replace(_MODEL, quote(attempt.model, safe=""))
        if upstream.reach.anthropic_version and attempt.dialect in HOSTED:
            suffix = b":streamRawPredict" if stream else b":rawPredict"
        way = way_to(upstream, base_url, self._secrets)
        suffix += query_suffix(upstream.reach)
        key = (base_url, suffix, way)
        found = self._addresses.get(key)
        if found is None:
            origin, base = parse_base_url(base_url, way)
            url = base_url.rstrip("/").encode() + suffix
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
        nothing is sent unsigned; and ``TokenPending`` where a token has to be fetched first.
        """
        row = attempt.upstream
        tokens = AUTH[row.auth].tokens
        secret = self._tokens.of(row).current() if tokens else self._secrets.get(attempt.secret)
        key = (attempt.key, attempt.dialect, asked)
        known = self._signed.get(key)
        if known is not None and known.secret is secret and known.upstream is row:
            return known.headers
        if secret is None and attempt.secret:
            log.error(
                "a provider's secret cannot be had", extra={"provider": row.id, "credential": attempt.key[2]}
            )
            raise ProviderCredentials("The service cannot sign in to this model's provider.")
        version = upstream.version_headers
        if known is not None and known.secret is not secret:
            self.health.renewed(self.health.of(attempt), 0.0)
        versions = () if version is None else version(asked, attempt.profile)
        content_type = _JSON if upstream.content_type is None else (_JSON[0], upstream.content_type(body))
        rest = (*extra_headers(row.kind), *versions, content_type, _AGENT)
        headers = sign(row, secret, ToSign(b"POST", address.url, rest, body, self.epoch()))
        if AUTH[row.auth].static and upstream.content_type is None:
            self._signed.keep(key, _Signed(row, secret, headers))
        return headers

    def simulated_address(self, base_url: str, path: bytes) -> UpstreamAddress:
        """Where a request goes for which a failure is played; ``base_url`` is the simulator's."""
        origin, base = parse_base_url(base_url)
        return UpstreamAddress(origin, base + path, base_url.encode() + path)

    def simulated_headers(self, scenario: bytes, upstream: UpstreamFormat, body: bytes) -> tuple[Header, ...]:
        """The headers of such a request: none that signs it in."""
        content_type = _JSON if upstream.content_type is None else (_JSON[0], upstream.content_type(body))
        return (content_type, _AGENT, (b"x-simulate", scenario))

    def keeps_headers(self, attempt: Attempt, upstream: UpstreamFormat) -> bool:
        """Whether the headers of an attempt are the same for every body, as long as its secret is."""
        auth = AUTH[attempt.upstream.auth]
        usual = upstream.content_type is None and not attempt.upstream.reach.anthropic_version
        return usual and auth.static and not auth.tokens

    def redacted(self, said: bytes) -> bytes:
        """A provider's words about a refusal, without any secret of ours."""
        return self._secrets.redacted(said)

    async def sign_in(self, attempt: Attempt) -> None:
        """Have what an attempt is signed with, where that has to be fetched. Raises ``ProviderCredentials``."""
        if AUTH[attempt.upstream.auth].tokens:
            await self._tokens.of(attempt.upstream).get()


def _nobody(model: Model, upstreams: Upstreams) -> str:
    if upstreams.switched is not None and any(target.provider in upstreams for target in model.targets):
        return f"The operator has taken the providers of {model.id} out of use for now."
    return f"No provider is set up for {model.id}."


def _wish(model: Model, envelope: Envelope, asker: Asker) -> Affinity | None:
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
    key = conversation(asker.user, model.id, asker.session, len(body), beside, beginning)
    if not key:
        return None
    asked = envelope.max_tokens or model.max_output_tokens or 0
    kind = stream_kind(len(body) // 4) if envelope.stream else whole_kind(asked)
    return Affinity(key, kind)


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
