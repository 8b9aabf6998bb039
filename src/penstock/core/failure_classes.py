"""The failure classes of upstreams: how each is recognised, whose fault it is, and what is done about it.

Two tables. ``HANDLING`` says for each class who is asked next, whether the same upstream is asked again, what it votes
against, and what the caller is told. ``SIGNS`` says how a class is recognised: by status, by the vendor's code, by its
words. What no sign names goes by its status alone. Choosing another upstream reads the first table, never the second.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from penstock.core.dialects.context_overflow import overflow_in
from penstock.errors import (
    CallerError,
    ContextOverflow,
    Fault,
    InternalError,
    InvalidRequest,
    PenstockError,
    ProviderCredentials,
    ProviderCut,
    ProviderError,
    ProviderOverloaded,
    ProviderTimeout,
    ProviderUnreachable,
)


class FailureClass(StrEnum):
    """What kind of failure it is."""

    UNREACHABLE = "unreachable"
    """No connection, or no TLS."""
    STALE = "stale"
    """A kept connection that was closed before any byte."""
    BROKEN = "broken"
    """It answered with a fault of its own, broke off, or cannot be read."""
    OVERLOAD = "overload"
    """It has no capacity for anybody."""
    RATE = "rate"
    """It has had enough from this credential for now."""
    QUOTA = "quota"
    """The credential's credit or allowance is used up."""
    AUTH = "auth"
    """The credential is not taken."""
    MISSING = "missing"
    """It does not have the model, or not for us."""
    SLOW = "slow"
    """It kept silent for too long."""
    EMPTY = "empty"
    """A clean end with nothing in it."""
    TOO_LONG = "too_long"
    """The prompt does not fit the model."""
    REASONING_REJECTED = "reasoning_rejected"
    """Reasoning of the history was made elsewhere, or for another credential, and is not taken."""
    CALLER = "caller"
    """The request is wrong."""
    REFUSAL = "refusal"
    """The model, or a filter in front of it, will not answer."""
    GONE = "gone"
    """The caller left."""
    OURS = "ours"
    """A fault on our side."""


class Next(StrEnum):
    """Who else is asked, as long as nothing of an answer has gone to the caller."""

    NOBODY = "nobody"
    OTHER = "another provider"
    OTHER_THEN_KEY = "another provider, then another credential"
    KEY_THEN_OTHER = "another credential, then another provider"
    LARGER = "a model with a larger context, where one is allowed"


class Again(StrEnum):
    """Whether the same upstream is asked again, where there is nobody else."""

    NO = "no"
    AT_ONCE = "at once, on a new connection"
    SOON = "once, after 0.1 to 0.3 seconds"
    LATER = "once, after 0 to 0.5 seconds"
    RESTED = "once, after its retry-after of 2 seconds at most, or after 0.5 to 1.5 seconds"
    AT_RESET = "where its limit resets within 2 seconds"
    WAIT = "it is waited for"
    WITHOUT_REASONING = "once, without that reasoning"


class Against(StrEnum):
    """What the failure is held against."""

    NOTHING = "nothing"
    ORIGIN = "the address"
    TARGET = "the model there"
    CREDENTIAL = "the credential"
    ALLOWANCE = "the credential, for this model, until its limit resets"


class Handling(msgspec.Struct, frozen=True):
    """What is done about a class. ``error`` is what the caller is told where nobody else answers; None: the answer as it is.

    ``words``: in the upstream's own words. ``alive``: the failure shows that the upstream works. ``refunded``: it takes
    nothing from the caller's day, unless the caller has had output. ``maybe_billed``: the vendor may charge for it.
    """

    fault: Fault
    next: Next
    again: Again
    against: Against
    error: type[PenstockError] | None
    words: bool = False
    alive: bool = False
    refunded: bool = True
    maybe_billed: bool = False

    @property
    def status(self) -> int:
        """The caller's status."""
        return 200 if self.error is None else self.error.status

    @property
    def code(self) -> str:
        """The caller's code; '' where there is none."""
        return "" if self.error is None else self.error.code


_PROVIDER, _CALLER, _US = Fault.PROVIDER, Fault.CALLER, Fault.US

HANDLING: Mapping[FailureClass, Handling] = {
    FailureClass.UNREACHABLE: Handling(
        _PROVIDER, Next.OTHER, Again.SOON, Against.ORIGIN, ProviderUnreachable
    ),
    FailureClass.STALE: Handling(_PROVIDER, Next.NOBODY, Again.AT_ONCE, Against.NOTHING, ProviderCut),
    FailureClass.BROKEN: Handling(
        _PROVIDER, Next.OTHER, Again.LATER, Against.TARGET, ProviderError, maybe_billed=True
    ),
    FailureClass.OVERLOAD: Handling(
        _PROVIDER, Next.OTHER_THEN_KEY, Again.RESTED, Against.TARGET, ProviderOverloaded
    ),
    FailureClass.RATE: Handling(
        _PROVIDER, Next.KEY_THEN_OTHER, Again.AT_RESET, Against.ALLOWANCE, ProviderOverloaded, alive=True
    ),
    FailureClass.QUOTA: Handling(
        _PROVIDER, Next.KEY_THEN_OTHER, Again.NO, Against.CREDENTIAL, ProviderCredentials, alive=True
    ),
    FailureClass.AUTH: Handling(
        _PROVIDER, Next.KEY_THEN_OTHER, Again.NO, Against.CREDENTIAL, ProviderCredentials, alive=True
    ),
    FailureClass.MISSING: Handling(
        _PROVIDER, Next.OTHER, Again.NO, Against.TARGET, ProviderCredentials, alive=True
    ),
    FailureClass.SLOW: Handling(
        _PROVIDER, Next.OTHER, Again.WAIT, Against.TARGET, ProviderTimeout, maybe_billed=True
    ),
    FailureClass.EMPTY: Handling(_PROVIDER, Next.OTHER, Again.NO, Against.TARGET, None, maybe_billed=True),
    FailureClass.TOO_LONG: Handling(
        _CALLER, Next.LARGER, Again.NO, Against.NOTHING, ContextOverflow, words=True, alive=True
    ),
    FailureClass.REASONING_REJECTED: Handling(
        _CALLER, Next.NOBODY, Again.WITHOUT_REASONING, Against.NOTHING, InvalidRequest, words=True, alive=True
    ),
    FailureClass.CALLER: Handling(
        _CALLER, Next.NOBODY, Again.NO, Against.NOTHING, InvalidRequest, words=True, alive=True
    ),
    FailureClass.REFUSAL: Handling(
        _CALLER, Next.NOBODY, Again.NO, Against.NOTHING, None, alive=True, refunded=False, maybe_billed=True
    ),
    FailureClass.GONE: Handling(
        _CALLER, Next.NOBODY, Again.NO, Against.NOTHING, None, refunded=False, maybe_billed=True
    ),
    FailureClass.OURS: Handling(_US, Next.NOBODY, Again.NO, Against.NOTHING, InternalError),
}
"""What is done about each class, before any content has gone to the caller. Afterwards nobody else is asked, ever."""


# ---- how a class is recognised

INSIDE = 200
"""The status of an error that stands inside a good answer: an error object in its body, or an error event."""
_REFUSING = (400, 401, 402, 403, 429)
"""Statuses under which vendors speak of credentials and credit, at times; ``INSIDE`` besides."""
_ODD = (400, 403, 422)
_ANY = (*_REFUSING, 404, 413, 422, 500, 502, 503, 529)


class Sign(msgspec.Struct, frozen=True):
    """A class by one vendor's ``code`` (of an error's code, type or status), or by ``words`` of its message; in small letters.

    It counts under these ``statuses`` alone, and inside a good answer.
    """

    found: FailureClass
    statuses: tuple[int, ...]
    code: str
    words: str
    vendors: str
    source: str


_READ = "read 2026-11-30"
_ROUTING = "public threads of the last year"
_ALIBABA = f"help.aliyun.com/en/model-studio/error-code, {_READ}"
_MINIMAX = f"platform.minimax.io/docs/api-reference/errorcode, {_READ}"
_ZAI = f"docs.z.ai/api-reference/api-code, {_READ}"
_ZAI_CODES = ""
_OPENROUTER = f"openrouter.ai/docs/api/reference/errors-and-debugging, {_READ}"
_TOGETHER = f"docs.together.ai/docs/error-codes, {_READ}"
_DEEPSEEK = f"api-docs.deepseek.com/quick_start/error_codes, {_READ}"

_Q, _A, _M, _O, _R = (
    FailureClass.QUOTA,
    FailureClass.AUTH,
    FailureClass.MISSING,
    FailureClass.OVERLOAD,
    FailureClass.RATE,
)

SIGNS: tuple[Sign, ...] = (
    # ---- credit and allowances, by code
    Sign(_Q, _REFUSING, "insufficient_quota", "", "OpenAI, DashScope", _ALIBABA),
    Sign(_Q, _REFUSING, "credit_balance_exhausted", "", "gateways", _ROUTING),
    Sign(_Q, _REFUSING, "billing_hard_limit_reached", "", "OpenAI", _ROUTING),
    Sign(_Q, _REFUSING, "billing_not_active", "", "OpenAI", ""),
    Sign(_Q, _REFUSING, "usage_limit_reached", "", "OpenAI", _ROUTING),
    Sign(_Q, _REFUSING, "billing_error", "", "Anthropic", "Anthropic's SDK for Python 2.13, read 2026-11-30"),
    Sign(_Q, _REFUSING, "creditserror", "", "gateways", _ROUTING),
    Sign(_Q, _REFUSING, "exceeded_current_quota_error", "", "Moonshot", ""),
    Sign(_Q, _REFUSING, "arrearage", "", "DashScope", _ALIBABA),
    Sign(_Q, _REFUSING, "allocationquota.freetieronly", "", "DashScope", ""),
    Sign(_Q, _REFUSING, "insufficient_credits", "", "OpenRouter, xAI", ""),
    Sign(_Q, _REFUSING, "insufficient_balance", "", "gateways", _ROUTING),
    Sign(_Q, _REFUSING, "1113", "", "Z.ai: no balance", _ZAI_CODES),
    Sign(_Q, _REFUSING, "1308", "", "Z.ai: the plan's hours are used up", _ZAI_CODES),
    Sign(_Q, _REFUSING, "1309", "", "Z.ai: the plan has ended", _ZAI_CODES),
    Sign(_Q, _REFUSING, "1310", "", "Z.ai: the plan's week is used up", _ZAI_CODES),
    Sign(_Q, _REFUSING, "1008", "", "MiniMax: insufficient balance", _MINIMAX),
    Sign(_Q, _REFUSING, "2056", "", "MiniMax: the plan's allowance is used up", ""),
    # ---- by words
    Sign(_Q, _REFUSING, "", "credit balance is too low", "Anthropic", "portkey.ai/error-library, " + _READ),
    Sign(_Q, _REFUSING, "", "insufficient balance", "DeepSeek, Z.ai, Moonshot, MiniMax", _DEEPSEEK),
    Sign(_Q, _REFUSING, "", "exceeded your current quota", "OpenAI, Gemini", "docs.wandb.ai, " + _READ),
    Sign(_Q, _REFUSING, "", "exceeded the current quota", "Moonshot", ""),
    Sign(_Q, _REFUSING, "", "insufficient credits", "OpenRouter", _OPENROUTER),
    Sign(_Q, _REFUSING, "", "requires more credits", "OpenRouter", ""),
    Sign(_Q, _REFUSING, "", "account is in good standing", "DashScope", _ALIBABA),
    Sign(_Q, _REFUSING, "", "maximum allowed monthly spending limit", "Together", _TOGETHER),
    Sign(_Q, _REFUSING, "", "used all available credits", "xAI", ""),
    Sign(_Q, _REFUSING, "", "billing hard limit has been reached", "OpenAI", _ROUTING),
    Sign(_Q, _REFUSING, "", "account balance exhausted", "Z.ai", _ZAI),
    Sign(_Q, _REFUSING, "", "reached your specified api usage limits", "Anthropic", ""),
    # ---- credentials
    Sign(_A, _REFUSING, "invalid_api_key", "", "OpenAI, DashScope", _ALIBABA),
    Sign(_A, _REFUSING, "invalidapikey", "", "DashScope", _ALIBABA),
    Sign(_A, _REFUSING, "api_key_invalid", "", "Gemini", ""),
    Sign(_A, _REFUSING, "authentication_error", "", "Anthropic", "Anthropic's SDK for Python 2.13, read 2026-11-30"),
    Sign(_A, _REFUSING, "account_deactivated", "", "OpenAI", ""),
    Sign(_A, _REFUSING, "1004", "", "MiniMax: not authorized", _MINIMAX),
    Sign(_A, _REFUSING, "2049", "", "MiniMax: invalid key", ""),
    Sign(_A, _REFUSING, "1112", "", "Z.ai: the account is locked", _ZAI_CODES),
    Sign(_A, _REFUSING, "", "api key not valid", "Gemini, which answers 400", ""),
    Sign(_A, _REFUSING, "", "incorrect api key provided", "OpenAI; xAI, which answers 400", ""),
    Sign(_A, _REFUSING, "", "organization has been disabled", "Anthropic, which answers 400", ""),
    # ---- pace
    Sign(_R, _ANY, "rate_limit_exceeded", "", "OpenAI", ""),
    Sign(_R, _REFUSING, "1002", "", "MiniMax: rate limit", _MINIMAX),
    Sign(_R, _REFUSING, "1039", "", "MiniMax: token limit", _MINIMAX),
    Sign(_R, _REFUSING, "1041", "", "MiniMax: connections", _MINIMAX),
    Sign(_R, _REFUSING, "throttling.ratequota", "", "DashScope", _ALIBABA),
    Sign(_R, _REFUSING, "throttling.allocationquota", "", "DashScope", _ALIBABA),
    # ---- capacity
    Sign(_O, _ANY, "overloaded_error", "", "Anthropic", "Anthropic's SDK for Python 2.13, read 2026-11-30"),
    Sign(_O, _ANY, "server_is_overloaded", "", "OpenAI", _ROUTING),
    Sign(_O, _ANY, "engine_overloaded_error", "", "Moonshot", ""),
    Sign(_O, _REFUSING, "1312", "", "Z.ai: the model is overloaded", _ZAI_CODES),
    Sign(_O, _ODD, "", "is currently overloaded", "several, under 400 too", _ROUTING),
    Sign(_O, _ODD, "", "selected model is at capacity", "OpenAI", _ROUTING),
    # ---- models
    Sign(_M, _REFUSING, "model_not_found", "", "OpenAI, DashScope", _ALIBABA),
    Sign(_M, _REFUSING, "modelnotfound", "", "DashScope", _ALIBABA),
    Sign(_M, _REFUSING, "model_not_supported", "", "gateways", ""),
    Sign(_M, _REFUSING, "model_decommissioned", "", "Groq", ""),
    Sign(_M, _REFUSING, "1211", "", "Z.ai: no such model", _ZAI_CODES),
    Sign(_M, _ODD, "", "is not a valid model id", "OpenRouter", ""),
    # ---- reasoning that another made
    Sign(
        FailureClass.REASONING_REJECTED, _ODD, "invalid_encrypted_content", "", "OpenAI", _ROUTING
    ),
    Sign(
        FailureClass.REASONING_REJECTED, _ODD, "", "invalid `signature` in `thinking` block", "Anthropic",
        "nguyenphutrong/quotio#218, read 2026-11-30",
    ),
)  # fmt: skip
"""In their order; the first that fits counts. An empty source: by common report, not read in the vendor's own text."""

_CODES: Mapping[str, tuple[Sign, ...]] = {
    code: tuple(sign for sign in SIGNS if sign.code == code) for code in {sign.code for sign in SIGNS} if code
}
_WORDS = tuple(sign for sign in SIGNS if sign.words)

_STATUSES: Mapping[int, FailureClass] = {
    400: FailureClass.CALLER,
    401: FailureClass.AUTH,
    402: FailureClass.QUOTA,
    403: FailureClass.AUTH,
    404: FailureClass.MISSING,
    405: FailureClass.MISSING,
    413: FailureClass.CALLER,
    422: FailureClass.CALLER,
    429: FailureClass.RATE,
    503: FailureClass.OVERLOAD,
    529: FailureClass.OVERLOAD,
}
"""Every other status is ``BROKEN``."""
_KINDS: Mapping[str, FailureClass] = {
    "authentication_error": FailureClass.AUTH,
    "billing_error": FailureClass.QUOTA,
    "permission_error": FailureClass.AUTH,
    "not_found_error": FailureClass.MISSING,
    "rate_limit_error": FailureClass.RATE,
    "overloaded_error": FailureClass.OVERLOAD,
}
"""Of errors inside a good answer, by the kind that they come to; every other kind is ``BROKEN``."""
SPOKEN = frozenset(_REFUSING) | frozenset((413, 422))
"""Statuses whose body is read, because it may say what the status does not."""


def class_of_refusal(status: int, codes: Sequence[str], text: str, body: bytes, asked: bytes) -> FailureClass:
    """The class of an answer with an error's ``status``; ``codes`` and ``text`` are what its ``body`` says.

    ``asked`` is the caller's own body: a vendor's message may quote it, and words that stand there are no sign.
    """
    found = _signed(status, codes, text, asked)
    if found is not None:
        return found
    if status in (400, 403, 413, 422) and overflow_in(text, body) is not None:
        return FailureClass.TOO_LONG  # Together says so with 403
    return _STATUSES.get(status, FailureClass.BROKEN)


def class_inside(kind: str, text: str, asked: bytes) -> FailureClass:
    """The class of an error inside a good answer: ``kind`` is the word that it comes to, ``text`` its message."""
    found = _signed(INSIDE, (), text, asked)
    if found is None:
        found = _KINDS.get(kind)
    if found is None and overflow_in(text, b"") is not None:
        return FailureClass.TOO_LONG
    return found or FailureClass.BROKEN


def class_of_code(code: str) -> FailureClass | None:
    """The class that a vendor's code stands for; None for one that says nothing of a class."""
    found = _CODES.get(code.lower())
    return None if found is None else found[0].found


def _signed(status: int, codes: Sequence[str], text: str, asked: bytes) -> FailureClass | None:
    for code in codes:
        for sign in _CODES.get(code.lower(), ()):
            if status in sign.statuses:
                return sign.found
    lower = text.lower()
    for sign in _WORDS:
        if sign.words in lower and (status in sign.statuses or status == INSIDE):
            return None if sign.words.encode() in asked.lower() else sign.found
    return None


def is_callers(found: FailureClass) -> bool:
    """Whether the caller is told of it as an error of its own."""
    error = HANDLING[found].error
    return error is not None and issubclass(error, CallerError)
