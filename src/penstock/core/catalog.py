"""Records of the catalogue: models with their targets, and providers as they are set up here."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from penstock.core.body.envelope import Feature
from penstock.core.profile import DEFAULT_PROFILE, Profile

DialectName = str
"""A word of ``speaks``: the name of a dialect, or of an endpoint that is passed through (``core/endpoints.py``)."""

Auth = Literal["x-api-key", "bearer", "api-key", "bedrock", "google", "entra", "none"]
ProfileValue = bool | int | str | None
"""The value of a profile's flag."""
Thinks = Literal["none", "budget", "adaptive"]
ModelKind = Literal[
    "chat", "embedding", "completion", "image", "transcription", "speech", "rerank", "moderation"
]
"""What a model is called for: each kind has endpoints of its own."""
UNMIXED: Mapping[ModelKind, str] = {
    "embedding": "vectors of different models do not mix",
    "rerank": "scores of different models do not mix",
    "moderation": "scores of different models do not mix",
}
"""The kinds whose answers mean something only beside others of the same model, and why: no other model ever serves them."""
DEFAULT_KIND: ModelKind = "chat"

# ---- what is offered


class Capabilities(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a model takes. ``thinking``: how it is asked to reason (not at all, with a budget of tokens, adaptively)."""

    vision: bool = False
    documents: bool = False
    tools: bool = True
    thinking: Thinks = "none"
    structured_output: bool = False


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a target costs, in dollars for a million tokens: for the choice among targets and models alone."""

    input: float
    output: float


Cause = Literal["down", "overflow", "refusal"]
"""When another model answers: all targets of the first are out or have failed, the prompt is too long, or it refuses."""


def causes_named(words: str) -> tuple[Cause, ...]:
    """The causes that a caller names, beside the one that needs no name."""
    more: tuple[Cause, ...] = ("overflow", "refusal")
    return ("down", *(cause for cause in more if cause in words))


class Fallback(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A model that answers in place of another."""

    model: str
    on: tuple[Cause, ...] = ("down",)


class When(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a request has to be for a rule of an ``auto`` model; None: that makes no difference."""

    tools: bool | None = None
    images: bool | None = None
    documents: bool | None = None
    stream: bool | None = None
    input_tokens_over: int | None = None
    input_tokens_under: int | None = None
    max_tokens_under: int | None = None
    dialect: str | None = None
    plan: str | None = None
    client: str | None = None


class AutoRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of an ``auto`` model: where a request is as ``when`` says, these models are chosen from, in this order."""

    when: When
    use: tuple[str, ...]


class Target(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One place where a model is served: ``model`` is the provider's own name for it.

    Lower ``priority`` is tried first; within one, targets share the requests by ``weight`` (0: only when the others
    fail). ``via`` narrows the dialects of the provider that serve this model, ``lacks`` names what it cannot do here.
    """

    provider: str
    model: str
    priority: int = 0
    weight: int = 1
    via: tuple[DialectName, ...] = ()
    lacks: tuple[Feature, ...] = ()
    context_tokens: int | None = None
    """How many tokens prompt and answer may have here, where that is fewer or more than the model's."""
    max_output_tokens: int | None = None
    """How many tokens an answer may have here at most."""
    in_flight: int | None = None
    """How many requests are sent here at once; None: any number."""
    tags: tuple[str, ...] = ()
    """What can be said of it, beside its provider's tags."""
    price: Price | None = None


class Model(msgspec.Struct, frozen=True):
    """One public model. ``auto`` names the models it chooses from, in order of preference; it has no targets then.

    The targets of a model whose answers do not mix with another's (``UNMIXED``) are places of one upstream model.
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    auto: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    context_tokens: int | None = None
    capabilities: Capabilities = Capabilities()
    created_at: int = 0
    """Milliseconds since the epoch."""
    kind: ModelKind = DEFAULT_KIND
    sticky: bool = True
    """Whether a conversation stays with one target, whose prompt cache knows it."""
    rules: tuple[AutoRule, ...] = ()
    """Of an ``auto`` model: the first that fits says from which models it chooses."""
    most_usd_per_million: Price | None = None
    """Of an ``auto`` model: it chooses none whose targets all cost more."""
    fallback: tuple[Fallback, ...] = ()
    """Which models answer in its place, in this order."""
    sunset: str = ""
    """The first day (``YYYY-MM-DD``, UTC) on which it is not served any more; '' where none is set."""
    successor: str = ""
    """The id of the model that takes its place, which whoever asks for it then is told; '' where none is named."""
    wildcard: str = ""
    """For what a wildcard passes on: the wildcard's id, under which plans, keys and metrics know it."""

    @property
    def listed(self) -> str:
        """The id by which plans, lists of keys and metrics know it."""
        return self.wildcard or self.id

    @property
    def chats(self) -> bool:
        """Whether it is a model to chat with."""
        return self.kind == DEFAULT_KIND


class Reach(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a provider is reached, where that is not straight and by the machine's own trust.

    ``proxy`` is ``http://host:port``, or ``env`` for what the environment says; ``proxy_secret`` refers to its
    ``user:password``, and ``no_proxy`` names hosts that are reached without it. ``ca``, ``client_cert`` and ``client_key``
    are ``file:PATH``: who may have signed the provider's certificate, and the certificate that we show. ``query`` goes to
    every request.
    """

    proxy: str = ""
    proxy_secret: str = ""
    no_proxy: tuple[str, ...] = ()
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    query: tuple[tuple[str, str], ...] = ()
    anthropic_version: str = ""
    """Goes into each body of Messages in place of the model, which is in the address then (Claude on Vertex)."""


STRAIGHT = Reach()


class TokenSettings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a way to sign in by tokens has to know besides the secret.

    ``region`` is Bedrock's; ``account`` (``file:PATH``) Google's file of credentials; ``tenant`` and ``client`` are Entra's.
    ``scope`` is what the token is for and ``authority`` who gives it, where that is not the usual.
    """

    region: str = ""
    account: str = ""
    tenant: str = ""
    client: str = ""
    scope: str = ""
    authority: str = ""


NO_SIGN_IN = TokenSettings()


KEPT = "kept:"
"""Begins the reference to a key that was entered here, ``kept:PROVIDER/ID``, beside ``env:NAME`` and ``file:PATH``."""


class Credential(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One way to sign in at a provider that has several. ``secret`` is a reference, as a provider's own is.

    The requests that a target gets are shared by ``weight`` (0: only when the others fail). ``group`` names the account
    at the provider whose limits count; '': an account of its own.
    """

    id: str
    secret: str
    weight: int = 1
    group: str = ""

    @property
    def account(self) -> str:
        """Whose limits count, among the credentials of one provider."""
        return self.group or self.id


class Upstream(msgspec.Struct, frozen=True):
    """One provider as it is set up here. ``speaks`` is ordered: the first dialect is the one to translate into.

    ``secret`` is a reference (``env:NAME``, ``file:PATH``), never a key itself; where there are several ``credentials``, it
    is ''. ``kind`` is the row of the provider table whose profile it has.
    """

    id: str
    kind: str
    speaks: tuple[tuple[DialectName, str], ...]
    auth: Auth = "bearer"
    secret: str = ""
    profile: Profile = DEFAULT_PROFILE
    model_profiles: tuple[tuple[str, Profile], ...] = ()
    habits: tuple[tuple[str, ProfileValue], ...] = ()
    """What the operator has changed of all these profiles, by the names of their flags."""
    reach: Reach = STRAIGHT
    sign_in: TokenSettings = NO_SIGN_IN
    credentials: tuple[Credential, ...] = ()
    tags: tuple[str, ...] = ()
    """What can be said of it: ``zdr``, ``no-train``, ``eu`` and the operator's own words."""
    in_flight: int | None = None
    """How many requests it is sent at once, all models together; None: any number."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The references to its secrets; one at least, which is '' where it needs none."""
        return tuple(each.secret for each in self.credentials) or (self.secret,)

    @property
    def references(self) -> tuple[str, ...]:
        """All of them, that to what its proxy wants to know included."""
        proxy = self.reach.proxy_secret
        return (*self.secrets, proxy) if proxy else self.secrets

    def url(self, dialect: DialectName) -> str | None:
        """The base URL of ``dialect`` here, without a slash at its end; None if it is not spoken."""
        for name, url in self.speaks:
            if name == dialect:
                return url
        return None

    def profile_of(self, model: str) -> Profile:
        """The profile of one of its models: the first pattern that fits, else the provider's own."""
        for pattern, profile in self.model_profiles:
            if fnmatchcase(model, pattern):
                return profile
        return self.profile


def with_profile_values(upstream: Upstream, habits: Mapping[str, object]) -> Upstream:
    """``upstream`` with these flags of its profiles, for all of its models. Raises ``msgspec.ValidationError``."""
    if not habits:
        return upstream
    given = msgspec.convert(habits, Profile)
    values: dict[str, ProfileValue] = {
        name: getattr(given, name) for name in Profile.__struct_fields__ if name in habits
    }
    return msgspec.structs.replace(
        upstream,
        profile=msgspec.structs.replace(upstream.profile, **values),
        model_profiles=tuple(
            (pattern, msgspec.structs.replace(profile, **values))
            for pattern, profile in upstream.model_profiles
        ),
        habits=tuple(values.items()),
    )


ANY = "*"
"""Ends the id of a wildcard, which passes on every name that begins as it does; in a target, what the ``*`` stood for."""


def is_wildcard(model_id: str) -> bool:
    """Whether an id of the catalogue is a wildcard, such as ``openai/*``."""
    return model_id.endswith(ANY)


def passed_on(wildcard: Model, name: str) -> Model:
    """The model that a wildcard makes of a name that begins as it does."""
    rest = name[len(wildcard.id) - 1 :]
    return msgspec.structs.replace(
        wildcard,
        id=name,
        name=name,
        wildcard=wildcard.id,
        targets=tuple(
            msgspec.structs.replace(target, model=target.model.replace(ANY, rest, 1))
            for target in wildcard.targets
        ),
    )


def lacking(model: Model) -> frozenset[Feature]:
    """What the model cannot do."""
    capabilities = model.capabilities
    lacks: list[Feature] = []
    if not capabilities.vision:
        lacks.append("images")
    if not capabilities.documents:
        lacks.append("documents")
    if not capabilities.tools:
        lacks.append("tools")
    return frozenset(lacks)


def is_same_model(name: str, other: str) -> bool:
    """Whether two providers' names are of one model: the same but for a vendor's prefix and for capitals."""
    return name.rpartition("/")[2].casefold() == other.rpartition("/")[2].casefold()
