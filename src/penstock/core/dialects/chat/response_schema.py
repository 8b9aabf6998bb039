"""Schema of a Chat chunk and of a whole Chat answer, read strictly where upstreams are regular and loosely where not."""

import json
import re
from typing import cast

import msgspec
from msgspec import Raw

from penstock.core.body.nesting import nests_deeper
from penstock.core.body.scan_rules import Form, Member, ScanRules
from penstock.core.body.scanner import BOUNDS_NESTING, scan
from penstock.core.body.value_limits import real
from penstock.core.dialects.finish_words import CHAT, failed_end
from penstock.core.dialects.openai.scores import Score, written_scores
from penstock.core.dialects.upstream_error_text import kind_of, words
from penstock.core.neutral.events import Failed
from penstock.core.neutral.usage import USUAL_TIERS, Special, Usage, special_or_none, unusual_tier
from penstock.core.tools.hosted_runs import read_tool_use, special_of

_MOST_TOKENS = 2**40


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """How the prompt was served."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    audio_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """What the completion was made of."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Usage in the forms that Chat upstreams send: OpenAI's, DeepSeek's cache hits, a top-level ``cached_tokens``."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    server_tool_use: Raw = Raw()
    num_search_queries: int | None = None


_NOT_DETAILED, _NOT_MADE_OF = PromptDetails(), CompletionDetails()
_USUAL = USUAL_TIERS | {None}


class Counts:
    """The usage of one answer, gathered from every chunk that has some.

    The last report of a number counts, not the first (some upstreams send a partial usage with the finish and the whole
    one after it). The numbers are kept as the upstream gave them, because Chat's prompt includes what came from the cache
    and ours does not: only the whole can be taken apart.
    """

    __slots__ = (
        "_cached",
        "_completion",
        "_prompt",
        "_reasoning",
        "_special",
        "_total",
        "_written",
        "service_tier",
    )

    def __init__(self, service_tier: str | None = None) -> None:
        self.service_tier = service_tier
        """That served the answer, where it names one."""
        self._special: Special | None = None
        self._prompt: int | None = None
        self._completion: int | None = None
        self._total: int | None = None
        self._cached: int | None = None
        self._written: int | None = None
        self._reasoning: int | None = None

    def add(self, tokens: Tokens) -> Usage:
        """Take a report; the counts as they stand, as a disjoint partition."""
        details = tokens.prompt_tokens_details or _NOT_DETAILED
        made = tokens.completion_tokens_details or _NOT_MADE_OF
        self._prompt = _known(tokens.prompt_tokens, tokens.input_tokens, self._prompt)
        self._completion = _known(tokens.completion_tokens, tokens.output_tokens, self._completion)
        self._total = _known(tokens.total_tokens, self._total)
        self._cached = _known(
            details.cached_tokens,
            tokens.prompt_cache_hit_tokens,
            tokens.cached_tokens,
            tokens.cache_read_input_tokens,
            self._cached,
        )
        self._written = _known(
            details.cache_write_tokens,
            details.cache_creation_tokens,
            tokens.cache_creation_input_tokens,
            self._written,
        )
        self._reasoning = _known(made.reasoning_tokens, self._reasoning)
        if (
            details.audio_tokens
            or made.audio_tokens
            or made.accepted_prediction_tokens
            or made.rejected_prediction_tokens
            or tokens.server_tool_use
            or tokens.num_search_queries
            or self.service_tier not in _USUAL
        ):
            self._special = self._specially(tokens, details, made) or self._special
        return self._usage()

    def _specially(self, tokens: Tokens, details: PromptDetails, made: CompletionDetails) -> Special | None:
        runs = read_tool_use(tokens.server_tool_use)
        if runs is None:  # Perplexity's
            runs = {"web_search": _known(tokens.num_search_queries, 0) or 0}
        return special_or_none(
            msgspec.structs.replace(
                special_of(runs, unusual_tier(self.service_tier)) or Special(),
                audio_input_tokens=_known(details.audio_tokens, 0) or 0,
                audio_output_tokens=_known(made.audio_tokens, 0) or 0,
                accepted_prediction_tokens=_known(made.accepted_prediction_tokens, 0) or 0,
                rejected_prediction_tokens=_known(made.rejected_prediction_tokens, 0) or 0,
            )
        )

    def _usage(self) -> Usage:
        fresh = self._prompt
        if fresh is not None:
            fresh = max(0, fresh - (self._cached or 0) - (self._written or 0))
        output = self._completion
        reasoning = self._reasoning
        # xAI counts reasoning beside the completion; the total gives it away
        if (
            output is not None
            and reasoning
            and self._prompt is not None
            and self._total == self._prompt + output + reasoning
        ):
            output += reasoning
        return Usage(
            input=fresh,
            output=output,
            cache_read=self._cached,
            cache_write=self._written,
            reasoning=reasoning,
            special=self._special,
        )


def _known(*values: int | None) -> int | None:
    for value in values:
        if value is not None and 0 <= value <= _MOST_TOKENS:  # anything else is no count
            return value
    return None


class Function(msgspec.Struct, frozen=True, gc=False):
    """The function of a call, whole or a fragment of it."""

    name: str | None = None
    arguments: str | None = None


class CallFragment(msgspec.Struct, frozen=True, gc=False):
    """A tool call, or the next piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: Raw = Raw()


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What a chunk adds; in a whole answer the message itself. ``reasoning_details`` stays JSON until it is needed."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Raw = Raw()
    refusal: str | None = None
    tool_calls: list[CallFragment] | None = None
    function_call: Function | None = None
    annotations: Raw = Raw()


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One alternative; only the first is ever read."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    stop_reason: str | int | None = None
    matched_stop: str | int | None = None
    usage: Tokens | None = None
    error: Raw = Raw()
    logprobs: Raw = Raw()


class BaseResp(msgspec.Struct, frozen=True, gc=False):
    """MiniMax's way to report an error inside a 200."""

    status_code: int | None = None
    status_msg: str | None = None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """One chunk of a stream, or a whole answer."""

    id: str | None = None
    model: str | None = None
    created: int | None = None
    choices: list[Choice] | None = None
    usage: Tokens | None = None
    error: Raw = Raw()
    base_resp: BaseResp | None = None
    service_tier: str | None = None


_strict = msgspec.json.Decoder(Chunk).decode
_any = msgspec.json.Decoder(float_hook=real).decode
_encode = msgspec.json.Encoder().encode
_HALF = re.compile("[\ud800-\udfff]")


def read_chunk(data: bytes) -> Chunk | None:
    """The chunk in ``data``; None where that is not a JSON object. Members of a wrong type count as absent."""
    if nests_deeper(data):
        return None
    try:
        return _strict(data)
    except (ValueError, RecursionError):
        value = read_loosely(data)
    return _chunk(cast("dict[str, object]", value)) if isinstance(value, dict) else None


_decode_tokens = msgspec.json.Decoder(Tokens).decode
_NAMES = (
    "id", "object", "created", "system_fingerprint", "provider", "prompt_filter_results", "prompt_logprobs",
    "prompt_token_ids", "kv_transfer_params", "citations", "search_results", "stats", "time_info", "x_groq", "metadata",
    "request_id",
)  # fmt: skip
"""What whole answers have besides, of no consequence for a meter."""
REGULAR = ScanRules(
    (
        Member("model", Form.NAME, required=True),
        Member("usage", Form.OBJECT, required=True),
        Member("service_tier"),
        Member("choices", Form.FILLED, required=True),
        *map(Member, _NAMES),
    ),
    wanted=3,
)
"""A whole answer with nothing unusual about it, as far as a meter reads it: its choices are not looked into."""
_MODEL, _USAGE, _TIER = (REGULAR.places[name] for name in ("model", "usage", "service_tier"))
_ERROR, _FINISH = b'"error"', b'"finish_reason"'
_GOOD = re.compile(rb'"finish_reason" ?: ?(?:"(?:stop|length|tool_calls|content_filter|function_call)"|null)')
"""The ends that need no reading, which are nearly all."""


def read_regular(body: bytes) -> tuple[int, int, Tokens, bytes] | None:
    """Where the name of the model lies in a whole answer that reports no error anywhere, its counts, and its tier as JSON.

    None for any other answer, which ``read_chunk`` has to look at.
    """
    if body.find(_ERROR) >= 0 or not _ends_well(body) or (not BOUNDS_NESTING and nests_deeper(body)):
        return None
    spans = scan(body, 0, len(body), REGULAR)
    if spans is None:
        return None
    try:
        tokens = _decode_tokens(body[spans[_USAGE] : spans[_USAGE + 1]])
    except ValueError:
        return None
    return spans[_MODEL], spans[_MODEL + 1], tokens, body[spans[_TIER] : spans[_TIER + 1]]


def read_string(data: bytes) -> str | None:
    """The string that JSON is; None for anything else."""
    return _str(read_loosely(data))


def _ends_well(body: bytes) -> bool:
    """Whether every finish reason in an answer is one of the usual ones."""
    at = body.find(_FINISH)
    while at >= 0:
        if _GOOD.match(body, at) is None:
            return False
        at = body.find(_FINISH, at + len(_FINISH))
    return True


def read_loosely(data: bytes) -> object:
    """Any JSON, or None. Half a surrogate pair, which servers that cut text by UTF-16 units send, becomes U+FFFD."""
    try:
        return _any(data)
    except (ValueError, RecursionError):
        pass
    try:
        text = json.dumps(json.loads(data.decode("utf-8", "replace")), ensure_ascii=False)
        return _any(_HALF.sub("\ufffd", text).encode())
    except (ValueError, RecursionError):
        return None


def failure_in(chunk: Chunk, data: bytes) -> Failed | None:
    """The error that a chunk reports instead of, or beside, a choice."""
    if present(chunk.error):
        error = read_loosely(bytes(chunk.error))
        return Failed(kind_of(error), words(error) or "an error object without a message")
    if chunk.base_resp is not None and chunk.base_resp.status_code:
        code = chunk.base_resp.status_code
        return Failed(kind_of({"code": code}), chunk.base_resp.status_msg or f"status {code}")
    if chunk.choices:
        first = chunk.choices[0]
        if present(first.error):
            error = read_loosely(bytes(first.error))
            return Failed(kind_of(error), words(error) or "an error object without a message")
        if first.finish_reason:
            return failed_end(CHAT, first.finish_reason)
    elif chunk.choices is None and chunk.usage is None:
        value = read_loosely(data)
        if isinstance(value, dict) and ("message" in value or "detail" in value or "msg" in value):
            text = words(cast("object", value))
            if text is not None:
                return Failed(kind_of(cast("object", value)), text)
    return None


class _Logprobs(msgspec.Struct):
    content: list[Score] | None = None
    refusal: list[Score] | None = None


_logprobs = msgspec.json.Decoder(_Logprobs).decode


def scores_of(raw: Raw) -> str:
    """The entries of a choice's ``logprobs`` as ``Scored`` has them; '' where there are none that can be read."""
    try:
        found = _logprobs(raw)
    except (ValueError, RecursionError):
        return ""
    return written_scores(found.content or found.refusal)


def present(raw: Raw) -> bool:
    """Whether a member was there and not null, false or an empty string."""
    return len(raw) > 0 and bytes(raw) not in {b"null", b"false", b'""', b"{}"}


# ---- loose reading: what a regular upstream never needs


def _chunk(value: dict[str, object]) -> Chunk:
    choices = _objects(value.get("choices"))
    return Chunk(
        id=_str(value.get("id")),
        model=_str(value.get("model")),
        created=_int(value.get("created")),
        choices=None if choices is None else [_choice(item) for item in choices],
        usage=_tokens(value.get("usage")),
        error=_raw(value.get("error")),
        base_resp=_base_resp(value.get("base_resp")),
        service_tier=_str(value.get("service_tier")),
    )


def _choice(value: dict[str, object]) -> Choice:
    return Choice(
        index=_int(value.get("index")),
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        finish_reason=_str(value.get("finish_reason")),
        native_finish_reason=_str(value.get("native_finish_reason")),
        stop_reason=_str(value.get("stop_reason")),
        matched_stop=_str(value.get("matched_stop")),
        usage=_tokens(value.get("usage")),
        error=_raw(value.get("error")),
        logprobs=_raw(value.get("logprobs")),
    )


def _delta(value: object) -> Delta | None:
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, object]", value)
    calls = _objects(members.get("tool_calls"))
    parts = _objects(members.get("content"))
    thinking, text = (None, _str(members.get("content"))) if parts is None else _parts(parts)
    return Delta(
        content=text,
        reasoning_content=_str(members.get("reasoning_content")) or thinking,
        reasoning=_str(members.get("reasoning")),
        reasoning_details=_raw(members.get("reasoning_details")),
        refusal=_str(members.get("refusal")),
        tool_calls=None if calls is None else [_fragment(item) for item in calls],
        function_call=_function(members.get("function_call")),
        annotations=_raw(members.get("annotations")),
    )


def _parts(content: list[dict[str, object]]) -> tuple[str, str]:
    """Thinking and text of Mistral's content lists: ``{type: thinking, thinking: [{text}]}`` and ``{type: text}``."""
    thinking: list[str] = []
    texts: list[str] = []
    for part in content:
        inner = part.get("thinking")
        if isinstance(inner, str):
            thinking.append(inner)
        elif (pieces := _objects(inner)) is not None:
            thinking += [_str(piece.get("text")) or "" for piece in pieces]
        else:
            texts.append(_str(part.get("text")) or "")
    return "".join(thinking), "".join(texts)


def _fragment(value: dict[str, object]) -> CallFragment:
    extra = _raw(value.get("extra_content"))
    return CallFragment(
        _int(value.get("index")), _str(value.get("id")), _function(value.get("function")), extra
    )


def _function(value: object) -> Function | None:
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, object]", value)
    arguments = members.get("arguments")
    if isinstance(arguments, dict):  # an object where the format wants its JSON text
        return Function(_str(members.get("name")), _encode(cast("object", arguments)).decode())
    return Function(_str(members.get("name")), _str(arguments))


def _tokens(value: object) -> Tokens | None:
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, object]", value)
    prompt = members.get("prompt_tokens_details")
    made = members.get("completion_tokens_details")
    given = cast("dict[str, object]", prompt) if isinstance(prompt, dict) else {}
    spent = cast("dict[str, object]", made) if isinstance(made, dict) else {}
    return Tokens(
        prompt_tokens=_int(members.get("prompt_tokens")),
        completion_tokens=_int(members.get("completion_tokens")),
        total_tokens=_int(members.get("total_tokens")),
        input_tokens=_int(members.get("input_tokens")),
        output_tokens=_int(members.get("output_tokens")),
        prompt_tokens_details=PromptDetails(
            _int(given.get("cached_tokens")),
            _int(given.get("cache_write_tokens")),
            _int(given.get("cache_creation_tokens")),
            _int(given.get("audio_tokens")),
        ),
        completion_tokens_details=CompletionDetails(
            _int(spent.get("reasoning_tokens")),
            _int(spent.get("audio_tokens")),
            _int(spent.get("accepted_prediction_tokens")),
            _int(spent.get("rejected_prediction_tokens")),
        ),
        prompt_cache_hit_tokens=_int(members.get("prompt_cache_hit_tokens")),
        cached_tokens=_int(members.get("cached_tokens")),
        cache_read_input_tokens=_int(members.get("cache_read_input_tokens")),
        cache_creation_input_tokens=_int(members.get("cache_creation_input_tokens")),
        server_tool_use=_raw(members.get("server_tool_use")),
        num_search_queries=_int(members.get("num_search_queries")),
    )


def _base_resp(value: object) -> BaseResp | None:
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, object]", value)
    return BaseResp(_int(members.get("status_code")), _str(members.get("status_msg")))


def _objects(value: object) -> list[dict[str, object]] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) else None


def _raw(value: object) -> Raw:
    return Raw() if value is None else Raw(_encode(value))
