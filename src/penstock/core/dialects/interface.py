"""What a dialect is: a side towards callers and a side towards upstreams, each of them optional.

``CallerSide`` is what callers speak to us: their requests are decoded, our answers are encoded. ``UpstreamSide`` is what
we speak to a provider: requests are encoded, answers are decoded, or passed through where both sides speak the same. A
dialect without a caller's side serves upstreams alone. Each dialect makes its ``Dialect`` in ``dialects/<name>/dialect.py``
and is a line in ``dialects/registry.py``; nothing else in the source names one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import msgspec

from penstock.core.body.envelope import BodyRules, Envelope
from penstock.core.body.request_parts import RequestParts
from penstock.core.dialects.context_overflow import Overflow
from penstock.core.dialects.forms import Form
from penstock.core.dialects.translation_memory import (
    DecodedConversation,
    EncodedConversation,
    Shelf,
)
from penstock.core.limits import Header
from penstock.core.neutral.events import AnyEvent, Failed, Reply, StopReason
from penstock.core.neutral.request import Loss, Request
from penstock.core.neutral.usage import Usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.core.sse import MAX_ANSWER
from penstock.core.tools.names import NO_NAMES, ToolNames
from penstock.errors import PenstockError, ProviderCut

BROKEN_OFF = ProviderCut("The provider broke off its answer.")
"""What an encoder tells where an answer ends without its end."""


class Prepared(msgspec.Struct, frozen=True):
    """What goes to the upstream, what of the caller's request it does not say, and the way back for tool names.

    ``reasoning`` keeps the reply's reasoning, where the caller may not send it back; with ``hides_reasoning`` the caller
    gets reasoning without its text. ``may_pause``: the upstream was offered tools that it runs itself, so it may pause.
    ``translated``: although both sides speak the same dialect.
    """

    body: bytes
    losses: tuple[Loss, ...] = ()
    names: ToolNames = NO_NAMES
    reasoning: ReasoningScope | None = None
    hides_reasoning: bool = False
    may_pause: bool = False
    translated: bool = False
    mark: str = ""
    """What goes in front of signatures in the answer: whose they are. '' where they are told apart without."""


class Relieved(msgspec.Struct, frozen=True):
    """A body that an upstream refused, without the reasoning that it could not read, and what was left out."""

    body: bytes
    losses: tuple[Loss, ...]


class Asked(msgspec.Struct, frozen=True):
    """What an answer that we write has of its request.

    ``members`` are members of the answer as JSON text, each with a comma before it: what the request asked for, said once
    more. ``kept`` are items of the request that the answer repeats, parted by commas. ``compacts``: the answer is a summary
    that takes the conversation's place. ``model`` (its public id) and ``created`` (epoch seconds) are of the answer; ``clock``
    gives epoch seconds.
    """

    members: bytes = b""
    kept: bytes = b""
    compacts: bool = False
    model: str = ""
    created: int = 0
    clock: Callable[[], float] | None = None


NOTHING_ASKED = Asked()


# ---- streams on their way


class Lane(Protocol):
    """Upstream bytes in, caller bytes out; each return value ends at a frame boundary."""

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        ...

    @property
    def answered(self) -> str:
        """The model that the answer names, the last one where it names several; '' while it has named none."""
        ...

    @property
    def failure(self) -> Failed | None:
        """Set when the upstream broke off or reported an error; nothing of it was written, the relay has words of its own."""
        ...

    @property
    def done(self) -> bool:
        """The reply is complete, as far as the dialect has said it yet; something of its end may still follow."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing more will come out: the dialect's last word has been written, or ``failure`` is set."""
        ...

    @property
    def stop(self) -> StopReason | None:
        """Why the reply ended."""
        ...

    @property
    def started(self) -> bool:
        """A first real event has been seen."""
        ...

    @property
    def output_bytes(self) -> int:
        """Length of the generated text so far, for an estimate where the upstream gives no usage."""
        ...

    @property
    def sequence(self) -> int:
        """The number of the event that would come next, in the dialect that counts them."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        ...

    def feed_known(self, data: bytes, start: int, end: int) -> bytes | None:
        """The same for ``data[start:end]``, if that is whole frames of a form that ``feed`` has met, and for less.

        None where it is not; nothing is changed then, and ``feed`` has to get it.
        """
        ...

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end; sets ``failure`` when that came too early."""
        ...


class EventDecoder(Protocol):
    """Decodes one upstream stream into events."""

    @property
    def answered(self) -> str:
        """The model that the answer names, the last one where it names several; '' while it has named none."""
        ...

    def feed(self, data: bytes) -> list[AnyEvent]:
        """Events of these bytes."""
        ...

    def finish(self) -> list[AnyEvent]:
        """Events of the end."""
        ...

    def form_of(self, raw: bytes) -> Form | None:
        """The form of a frame that was fed last and alone, and became one piece of text, reasoning or arguments.

        Until anything else is fed, each frame of this form would become one such event with its own text, and change
        nothing here but what ``PausableDecoder.skipped`` does.
        """
        ...


class EventEncoder(Protocol):
    """Encodes events as one stream for a caller."""

    @property
    def sequence(self) -> int:
        """The number of the next event, in the dialect that counts them."""
        ...

    @property
    def kept(self) -> int:
        """Length of the answer so far, as far as it is kept, because the end of the stream says it again."""
        ...

    def write(self, events: list[AnyEvent]) -> bytes:
        """The frames of these events."""
        ...


class PausableDecoder(EventDecoder, Protocol):
    """Decodes the answers of a turn that its upstream may pause, however often, as one."""

    @property
    def paused(self) -> bool:
        """The upstream waits to be asked to go on."""
        ...

    def skipped(self, text: str) -> None:
        """A frame of the form of the last one, with this text, was not fed."""
        ...

    def whole(self, body: bytes) -> list[AnyEvent]:
        """The events of one whole answer."""
        ...

    def resume(self, request: bytes) -> bytes:
        """The body that lets the turn go on, where ``request`` was the last one's."""
        ...


# ---- towards callers


class MakeEncoder(Protocol):
    """Begins the encoding of one stream for a caller."""

    def __call__(
        self,
        *,
        model: str,
        reply_id: str,
        created: int,
        include_usage: bool,
        input_estimate: int,
        asked: Asked = NOTHING_ASKED,
    ) -> EventEncoder:
        """``created`` in Unix seconds, ``input_estimate`` in tokens."""
        ...


class EncodeResponse(Protocol):
    """Encodes a whole answer for a caller."""

    def __call__(
        self, reply: Reply, *, model: str, reply_id: str, created: int, asked: Asked = NOTHING_ASKED
    ) -> bytes:
        """``created`` in Unix seconds."""
        ...


class ErrorFrame(Protocol):
    """Encodes an error inside a stream, in place of the rest of it."""

    def __call__(
        self, error: PenstockError, request_id: str, sequence: int = 0, asked: Asked = NOTHING_ASKED
    ) -> bytes:
        """``sequence`` is the number of the event, in the dialect that counts them."""
        ...


class ApiVersion(msgspec.Struct, frozen=True, cache_hash=True):
    """The version of a vendor's API that a caller speaks: the values of the headers that say so, None for none."""

    version: bytes | None = None
    betas: bytes | None = None


NO_VERSION = ApiVersion()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamForm:
    """What we may say in a stream beside its answer. Without a ``keepalive`` nothing can stand in it, not even an error."""

    error_frame: ErrorFrame
    keepalive: bytes
    says_nothing: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerFormat:
    """What callers speak, as far as nothing has to be translated: what is checked of a body, and the answers' headers.

    ``api_version`` reads from a request's headers which version of the API its caller means. ``response_headers`` takes
    the request's id; ``limit_headers`` a limit, its reset in Unix seconds, and what is left of it as text.
    ``overflow_words`` tells a prompt that is too long as clients of the format know it, from what the upstream said. None:
    the format has nothing of the kind. ``streams`` is what stands in a stream beside the answer, in a format without a dialect
    that has streams.
    """

    body: BodyRules
    api_version: Callable[[Sequence[Header]], ApiVersion] | None = None
    response_headers: Callable[[bytes], tuple[Header, ...]] | None = None
    limit_headers: Callable[[int, int, bytes], tuple[Header, ...]] | None = None
    overflow_words: Callable[[Overflow, str], str] | None = None
    streams: "StreamForm | None" = None


DecodeRemembered: TypeAlias = Callable[[RequestParts, Shelf[DecodedConversation]], tuple[Request, list[Loss]]]
"""Decodes a body, cut in three, that goes on from an earlier one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSide(CallerFormat):
    """What a dialect is to those who call us.

    ``words`` names the fields that this dialect calls otherwise than an encoder does. ``call_id_limit`` is how long a
    tool call's id may be for callers who may not send reasoning back (it is kept for them by these ids); None: they do.
    ``search_field`` is where a caller asks for the provider's web search.
    ``says_nothing``: whether whole frames of a stream say nothing of its answer. ``resumes_pauses``: a caller gets a paused
    turn as it is and goes on with it. ``decode_remembered`` decodes a body that goes on from an earlier one; it raises
    ``InvalidRequest`` or ``ValueError`` where ``decode_request`` has to be asked. ``asked`` reads what an answer says of its
    request; None: nothing. ``passes``: what an upstream of the same dialect answers may go to the caller as it is.
    """

    decode_request: Callable[[bytes], tuple[Request, list[Loss]]]
    ResponseEncoder: MakeEncoder
    encode_response: EncodeResponse
    error_frame: ErrorFrame
    keepalive: bytes
    says_nothing: Callable[[bytes], bool]
    reply_id: str
    words: Mapping[str, str]
    search_field: str
    call_id_limit: int | None = None
    resumes_pauses: bool = False
    decode_remembered: DecodeRemembered | None = None
    asked: Callable[[Envelope], Asked] | None = None
    passes: bool = True


# ---- towards upstreams


class EncodeRemembered(Protocol):
    """Encodes a request that goes on from an earlier one: what ``EncodeRequest`` gives and raises."""

    def __call__(
        self, request: Request, *, model: str, profile: Profile, shelf: Shelf[EncodedConversation]
    ) -> tuple[bytes, list[Loss]]:
        """``shelf`` is what is remembered for this account, upstream, ``model`` and ``profile``."""
        ...


class EncodeRequest(Protocol):
    """Encodes a neutral request for one upstream: its body, and what that does not say."""

    def __call__(self, request: Request, *, model: str, profile: Profile) -> tuple[bytes, list[Loss]]:
        """``model`` is the upstream's own id. Raises ``InvalidRequest``."""
        ...


class MakeDecoder(Protocol):
    """Begins the decoding of one upstream stream."""

    def __call__(self, *, profile: Profile) -> EventDecoder:
        """``profile`` is the upstream's."""
        ...


class MakePausableDecoder(Protocol):
    """The same for a turn that the upstream may pause."""

    def __call__(self, *, profile: Profile, keeps: int = MAX_ANSWER) -> PausableDecoder:
        """``profile`` is the upstream's; of what the turn says ``keeps`` bytes are kept, and of a longer one nothing."""
        ...


class PassRequest(Protocol):
    """Prepares the caller's own body for an upstream of the same dialect, changing only what has to differ."""

    def __call__(
        self, envelope: Envelope, model: str, profile: Profile, reasoning: ReasoningScope | None
    ) -> Prepared:
        """``model`` is the upstream's own id. Raises ``InvalidRequest``."""
        ...


class MakePassthrough(Protocol):
    """Begins the pass-through of one same-dialect stream."""

    def __call__(self, *, model: str | None, withhold_usage: bool) -> Lane:
        """``model``: the public id to put in place of the upstream's, None to leave that."""
        ...


PassedAnswer: TypeAlias = tuple[bytes, Usage, Failed | None, str]
"""A whole answer passed through: the bytes to relay, the usage, what is wrong with it, and the model it names ('': none)."""


class PassthroughResponse(Protocol):
    """Passes a whole same-dialect answer through."""

    def __call__(self, body: bytes, *, model: str | None) -> PassedAnswer:
        """The answer with ``model`` (None: its own) in place."""
        ...


@dataclass(frozen=True, slots=True)
class Marking:
    """How an answer that is passed through gets a mark on its signatures: whole frames of a stream, and a whole answer."""

    frames: Callable[[bytes, str], bytes]
    whole: Callable[[bytes, str], bytes]


@dataclass(frozen=True, slots=True)
class Passing:
    """How what both sides speak is passed through: requests, streams (None: there are none), and whole answers.

    ``declines``: a request for something that an upstream of this profile has not, so that it is translated.
    ``marking`` is there in a dialect whose signatures do not say who made them. ``writes``: whole answers are text of the
    model's, in a format without a dialect.
    """

    request: PassRequest
    Stream: MakePassthrough | None
    response: PassthroughResponse
    declines: Callable[[Envelope, Profile], bool] | None = None
    marking: Marking | None = None
    writes: bool = False


@dataclass(frozen=True, slots=True)
class PausedTurns:
    """An upstream may pause a turn that runs tools of its own, to be asked to go on; ``mark`` stands in such an answer."""

    Decoder: MakePausableDecoder
    mark: bytes


@dataclass(frozen=True, slots=True)
class UpstreamCounter:
    """An upstream's own counter of tokens: what is appended to the path, and the fields that it does not take.

    ``readable`` gives the fields that have to differ before this profile and provider.
    """

    path: bytes
    drop: tuple[str, ...]
    readable: Callable[[Envelope, Profile, str], dict[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFormat:
    """What we speak to an upstream, as far as nothing has to be translated.

    ``path`` is appended to the provider's base URL and may depend on the upstream's model id and on whether a stream is
    wanted. ``error_text`` finds the vendor's own text in an error body. ``version_headers`` says which version of the API
    is meant, where the API has versions. Without ``passing`` every request is translated. ``content_type`` is that of a
    body, where bodies are not JSON.
    """

    path: Callable[[str, bool], bytes]
    error_text: Callable[[int, bytes], str | None]
    version_headers: Callable[[ApiVersion, Profile], tuple[Header, ...]] | None = None
    passing: Passing | None = None
    content_type: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSide(UpstreamFormat):
    """What a dialect is to us who call an upstream. ``searches``: it can be offered the provider's own web search.

    ``wants_reasoning``: a tool loop whose reasoning does not come back goes on worse there, or not at all, so it is
    remembered for callers that drop it. ``without_reasoning`` takes a body that was refused because of reasoning in it,
    and what the upstream said.
    """

    encode_request: EncodeRequest
    ResponseDecoder: MakeDecoder
    decode_response: Callable[[bytes, Profile], list[AnyEvent]]
    searches: bool = False
    wants_reasoning: bool = True
    pauses: PausedTurns | None = None
    counter: UpstreamCounter | None = None
    encode_remembered: EncodeRemembered | None = None
    without_reasoning: Callable[[bytes, str], Relieved | None] | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect. ``name`` is its word in the catalogue (``speaks``), in the ledger and in metrics."""

    name: str
    caller: CallerSide | None = None
    upstream: UpstreamSide | None = None
