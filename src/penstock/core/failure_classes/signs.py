"""The signs of the failure classes: how each is recognised, by status, by a vendor's code, by its words.

What no sign names goes by its status alone. Vendors' words are looked for where they speak of such things, and count only
where the caller's own request does not hold the same: an echoed prompt switches no credential off.
"""

from collections.abc import Mapping, Sequence

import msgspec

from penstock.core.failure_classes.classes import FailureClass
from penstock.core.failure_classes.reasoning_refusals import refuses_reasoning

INSIDE = 200
"""The status of an error that stands inside a good answer: an error object in its body, or an error event."""
_REFUSING = (400, 401, 402, 403, 429)
"""Statuses under which vendors speak of credentials and credit, at times; ``INSIDE`` besides."""
_ODD = (400, 403, 422)
_REFUSED = (400,)
"""Content filters in front of a model answer so."""
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

_Q, _A, _M, _O, _R, _F = (
    FailureClass.QUOTA,
    FailureClass.AUTH,
    FailureClass.MISSING,
    FailureClass.OVERLOAD,
    FailureClass.RATE,
    FailureClass.REFUSAL,
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
    # ---- refusals
    Sign(_F, _REFUSED, "content_filter", "", "Azure OpenAI", ""),
    Sign(_F, _REFUSED, "content_policy_violation", "", "OpenAI", ""),
    Sign(_F, _REFUSED, "data_inspection_failed", "", "DashScope", _ALIBABA),
    Sign(_F, _REFUSED, "datainspectionfailed", "", "DashScope", _ALIBABA),
    # ---- models
    Sign(_M, _REFUSING, "model_not_found", "", "OpenAI, DashScope", _ALIBABA),
    Sign(_M, _REFUSING, "modelnotfound", "", "DashScope", _ALIBABA),
    Sign(_M, _REFUSING, "model_not_supported", "", "gateways", ""),
    Sign(_M, _REFUSING, "model_decommissioned", "", "Groq", ""),
    Sign(_M, _REFUSING, "1211", "", "Z.ai: no such model", _ZAI_CODES),
    Sign(_M, _ODD, "", "is not a valid model id", "OpenRouter", ""),
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


def class_of_refusal(
    status: int, codes: Sequence[str], text: str, asked: bytes, *, too_long: bool
) -> FailureClass:
    """The class of an answer with an error's ``status``; ``codes`` and ``text`` are what its body says.

    ``asked`` is the caller's own body: a vendor's message may quote it, and words that stand there are no sign.
    ``too_long``: the text speaks of a prompt that does not fit.
    """
    if status in _ODD and refuses_reasoning(text, codes):
        return FailureClass.REASONING_REJECTED
    found = _signed(status, codes, text, asked)
    if found is not None:
        return found
    if too_long and status in (400, 403, 413, 422):
        return FailureClass.TOO_LONG  # Together says so with 403
    return _STATUSES.get(status, FailureClass.BROKEN)


def class_inside(kind: str, text: str, asked: bytes, *, too_long: bool) -> FailureClass:
    """The class of an error inside a good answer: ``kind`` is the word that it comes to, ``text`` its message."""
    found = _signed(INSIDE, (), text, asked) or _KINDS.get(kind)
    if found is None and too_long:
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
