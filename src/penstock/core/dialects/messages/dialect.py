"""The Messages dialect: both of its sides, what is checked of a Messages body, and Anthropic's headers."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Raw

from penstock.core.body.envelope import (
    MAX_MESSAGES,
    BodyRules,
    check_messages,
    decode_integer,
    decode_number,
    scanned_integer,
    typed,
    typed_as,
)
from penstock.core.body.request_scan import request_rules
from penstock.core.body.scan_rules import Form, Member
from penstock.core.dialects.context_overflow import Overflow
from penstock.core.dialects.foreign_reasoning.messages import (
    marked_frames,
    marked_whole,
    without_reasoning,
)
from penstock.core.dialects.interface import (
    ApiVersion,
    CallerSide,
    Dialect,
    Marking,
    Passing,
    PausedTurns,
    UpstreamCounter,
    UpstreamSide,
)
from penstock.core.dialects.messages.cost_fields import COST
from penstock.core.dialects.messages.decode_request import decode_request
from penstock.core.dialects.messages.decode_response import ResponseDecoder, decode_response
from penstock.core.dialects.messages.encode_request import encode_request
from penstock.core.dialects.messages.encode_response import (
    KEEPALIVE,
    ResponseEncoder,
    encode_response,
    error_frame,
)
from penstock.core.dialects.messages.passthrough import (
    MARKS,
    Passthrough,
    counted,
    pass_request,
    passthrough_response,
)
from penstock.core.dialects.messages.paused_turn import PausedTurnDecoder
from penstock.core.dialects.messages.remembered_request import decode_remembered, encode_remembered
from penstock.core.dialects.messages.startup import says_nothing
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.limits import Header
from penstock.core.profile import Profile
from penstock.errors import InvalidRequest

DEFAULT_VERSION = b"2023-06-01"
"""Meant where a caller names none, and sent to upstreams then; the newer version refuses sampling parameters."""

_VERSION = re.compile(rb"\d{4}-\d{2}-\d{2}")
_BETA = re.compile(rb"[\x21-\x2b\x2d-\x7e]{1,128}")
_MAX_BETAS = 4096
"""Bytes of all ``anthropic-beta`` headers."""
_SCAN = request_rules(
    COST,
    wanted=(
        Member("model", Form.NAME, required=True),
        Member("messages", Form.TURNS, required=True),
        Member("max_tokens", Form.NATURAL, required=True),
        Member("stream", Form.FLAG),
        Member("tools", Form.TOOLS),
    ),
    checked=(Member("temperature", Form.NUMBER),),
    most=MAX_MESSAGES,
    marks=MARKS,
)


def _check(fields: dict[str, Raw], counting: bool) -> tuple[int | None, bool]:
    typed(fields, "temperature", decode_number, "a number")
    max_tokens = typed(fields, "max_tokens", decode_integer, "an integer")
    if max_tokens is None:
        if not counting:
            raise InvalidRequest("max_tokens is required.", param="max_tokens")
    elif max_tokens < 0:
        raise InvalidRequest("max_tokens must not be negative.", param="max_tokens")
    check_messages(fields)
    return max_tokens, True


def _scanned(value: Callable[[str], bytes]) -> tuple[int | None, bool]:
    return scanned_integer(value("max_tokens")), True


def _api_version(headers: Sequence[Header]) -> ApiVersion:
    """The ``anthropic-version`` and all ``anthropic-beta`` names. Raises ``InvalidRequest`` where they are none."""
    version = DEFAULT_VERSION
    named: list[bytes] = []
    for name, value in headers:
        if name == b"anthropic-version":
            version = value
        elif name == b"anthropic-beta" and value:
            named.append(value)
    if _VERSION.fullmatch(version) is None:
        raise InvalidRequest(
            "anthropic-version must be a date such as 2023-06-01.", param="anthropic-version"
        )
    if not named:
        return ApiVersion(version)
    betas = b",".join(named)
    names = [name.strip() for name in betas.split(b",")]
    if len(betas) > _MAX_BETAS or not all(_BETA.fullmatch(name) for name in names if name):
        raise InvalidRequest(
            "anthropic-beta must be a list of names separated by commas.", param="anthropic-beta"
        )
    return ApiVersion(version, betas)


def _version_headers(asked: ApiVersion, profile: Profile) -> tuple[Header, ...]:
    """The caller's own version and betas, unchanged; but an upstream that has the old API alone is asked in that."""
    version = asked.version if asked.version and not profile.old_api else DEFAULT_VERSION
    if asked.betas:
        return ((b"anthropic-version", version), (b"anthropic-beta", asked.betas))
    return ((b"anthropic-version", version),)


def _response_headers(request_id: bytes) -> tuple[Header, ...]:
    return ((b"request-id", request_id),)


@lru_cache(maxsize=1024)
def _fixed_limit_headers(limit: int, reset: int) -> tuple[Header, Header]:
    instant = datetime.fromtimestamp(reset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return (
        (b"anthropic-ratelimit-requests-limit", b"%d" % limit),
        (b"anthropic-ratelimit-requests-reset", instant),
    )


def _limit_headers(limit: int, reset: int, left: bytes) -> tuple[Header, ...]:
    """``anthropic-ratelimit-requests-*``, whose reset is an RFC 3339 instant."""
    fixed = _fixed_limit_headers(limit, reset)
    return (*fixed, (b"anthropic-ratelimit-requests-remaining", left))


def _overflow_words(overflow: Overflow, said: str) -> str:
    """Claude Code makes room in a conversation when it reads Anthropic's own sentence."""
    return overflow.wording(said)


MESSAGES = Dialect(
    "messages",
    caller=CallerSide(
        body=BodyRules(
            check=_check,
            scan=_SCAN,
            scanned=_scanned,
            cost=COST,
            turns="messages",
            attachments={"images": typed_as(b"image"), "documents": typed_as(b"document")},
        ),
        decode_request=decode_request,
        decode_remembered=decode_remembered,
        ResponseEncoder=ResponseEncoder,
        encode_response=encode_response,
        error_frame=error_frame,
        keepalive=KEEPALIVE,
        says_nothing=says_nothing,
        reply_id="msg_",
        words={
            "effort": "output_config.effort",
            "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
            "stop": "stop_sequences",
            "user": "metadata.user_id",
        },
        search_field="tools",
        resumes_pauses=True,
        api_version=_api_version,
        response_headers=_response_headers,
        limit_headers=_limit_headers,
        overflow_words=_overflow_words,
    ),
    upstream=UpstreamSide(
        path=lambda _model, _stream: b"/messages",
        encode_request=encode_request,
        encode_remembered=encode_remembered,
        ResponseDecoder=ResponseDecoder,
        decode_response=decode_response,
        error_text=error_text,
        passing=Passing(
            pass_request, Passthrough, passthrough_response, marking=Marking(marked_frames, marked_whole)
        ),
        searches=True,
        version_headers=_version_headers,
        pauses=PausedTurns(PausedTurnDecoder, b'"pause_turn"'),
        counter=UpstreamCounter(b"/count_tokens", drop=("max_tokens", "stream"), readable=counted),
        without_reasoning=without_reasoning,
    ),
)
