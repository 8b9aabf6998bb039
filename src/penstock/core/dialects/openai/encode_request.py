"""The encoding that Chat and Responses requests have in common."""

import hashlib
from collections.abc import Callable
from typing import assert_never

from penstock.core.body.envelope import Envelope
from penstock.core.neutral.request import Document, Image, Loss, Request, Text, Tool
from penstock.core.profile import Profile
from penstock.core.tools.schema_subset import FittedSchema, fit_tool_schema
from penstock.errors import InvalidRequest

Json = dict[str, object]
"""An object about to be encoded; it never leaves the writing modules of its dialect."""

Lose = Callable[[str, str], None]
"""Takes a field and what became of it."""

_IDENTIFIER_LIMIT = 128
TOOL_ERROR_MARK = "[tool_error]\n"
"""Begins the result of a tool that failed, where the format has no field for that."""


def reasons_not(request: Request) -> bool:
    """Whether the caller asks for no reasoning."""
    thinking = request.thinking
    return request.effort == "none" or (thinking is not None and thinking.mode == "disabled")


_ONE = frozenset((b"1", b"1.0"))
_SAMPLING = (b'"temperature"', b'"top_p"')


def refused_sampling(envelope: Envelope, profile: Profile, *, reasons: bool) -> tuple[str, ...]:
    """The sampling fields of a body in one of OpenAI's formats that the model refuses; 1 is what it has anyway.

    ``reasons``: the caller has not asked for no reasoning.
    """
    if profile.sampling or not any(name in envelope.body for name in _SAMPLING):
        return ()
    if profile.sampling_without_reasoning and not reasons:
        return ()
    fields = envelope.fields
    named = (name for name in ("temperature", "top_p") if name in fields)
    return tuple(name for name in named if bytes(fields[name]) not in _ONE)


class RequestEncoder:
    """One request being written; losses are told once each."""

    __slots__ = ("_losses", "model", "profile")

    def __init__(self, model: str, profile: Profile) -> None:
        self.model = model
        self.profile = profile
        self._losses: dict[str, str] = {}

    @property
    def losses(self) -> list[Loss]:
        """What is not said."""
        return [Loss(field, outcome) for field, outcome in self._losses.items()]

    def lose(self, field: str, outcome: str = "dropped") -> None:
        """Note what became of a field."""
        self._losses.setdefault(field, outcome)

    def fitted(self, tool: Tool) -> FittedSchema:
        """The tool's schema as this upstream takes it."""
        fitted = fit_tool_schema(tool.schema, self.profile.tool_schemas)
        if fitted.changed:
            self.lose("tools.input_schema", "adapted")
        return fitted

    def limit(self, request: Request, field: str, body: Json) -> None:
        """The most tokens of an answer, in the field that this upstream has for it."""
        if request.max_tokens is not None:
            if request.max_tokens < 1:
                raise InvalidRequest("max_tokens must be at least 1 for this model.", param="max_tokens")
            body[field] = request.max_tokens

    def sampling(self, request: Request, body: Json, *, top_k: bool) -> None:
        """Temperature, top_p and top_k, as far as the upstream takes them."""
        taken = self.profile.sampling or (self.profile.sampling_without_reasoning and reasons_not(request))
        for name, value, known in (
            ("temperature", request.temperature, taken),
            ("top_p", request.top_p, taken),
            ("top_k", request.top_k, taken and top_k),
        ):
            if value is not None:
                if known:
                    body[name] = value
                else:
                    self.lose(name)

    def parallel(self, request: Request, body: Json) -> None:
        """One call at a time, where the upstream has a switch for it."""
        if request.parallel_tools is False:
            if self.profile.parallel_tool_calls:
                body["parallel_tool_calls"] = False
            else:
                self.lose("parallel_tool_calls")

    def cache_mark(self, part: Text | Image | Document, written: Json) -> None:
        """Keep a cache mark in OpenAI's form, where the model takes it. Its own 30 minutes stand for Anthropic's 5."""
        if part.cache is None:
            return
        if self.profile.cache_breakpoints:
            lasting = {"ttl": "12h"} if part.cache == "1h" else {}
            written["prompt_cache_breakpoint"] = {"mode": "explicit", **lasting}
        else:
            self.lose("cache_control")

    def shared(self, request: Request, body: Json, text: Json, *, metadata: bool) -> None:
        """What Chat and Responses have in the same words. ``text`` is where verbosity goes; ``metadata``: there may be some."""
        profile = self.profile
        if request.verbosity is not None and profile.verbosity:
            text["verbosity"] = request.verbosity
        for name, value, known in (
            ("verbosity", None if profile.verbosity else request.verbosity, False),
            ("metadata", request.metadata, metadata),
            ("service_tier", request.service_tier, profile.service_tier),
            ("prompt_cache_key", request.cache_key, profile.prompt_cache_key),
            ("prompt_cache_retention", request.cache_retention, profile.prompt_cache_key),
        ):
            if value is not None:
                if known:
                    body[name] = value
                else:
                    self.lose(name)

    def user(self, request: Request, body: Json) -> None:
        """Who the end user is, as a hash where the name is too long."""
        user = request.user
        if user is None:
            return
        _, _, name = user.partition("session_")
        if name and self.profile.prompt_cache_key and request.cache_key is None:
            # requests of one session of Claude Code's share their beginning, and find its cache by this
            body["prompt_cache_key"] = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
        match self.profile.user_field:
            case "none":
                self.lose("user")
            case "user" | "safety_identifier" as field:
                if len(user) > _IDENTIFIER_LIMIT:
                    self.lose("user", "hashed")
                    user = hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()
                body[field] = user
            case _:
                assert_never(self.profile.user_field)
