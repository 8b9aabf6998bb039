"""Who is calling: the client's family for the ledger, and whether it parses a native error object.

Plain HTTP callers get the documented error body with a string; SDKs lose the text of a string error, so callers that are
recognisably SDKs get the native object. ``X-Error-Format: native`` or ``simple`` decides over everything else.
"""

import msgspec

from penstock.exchange import HeaderList


class Family(msgspec.Struct, frozen=True):
    """One kind of client: ``mark`` is looked for in the lower-cased user agent."""

    mark: bytes
    name: str
    native: bool


FAMILIES = (
    Family(b"claude-cli/", "claude-code", True),
    Family(b"claude-code/", "claude-code", True),
    Family(b"codex", "codex", True),
    Family(b"opencode/", "opencode", True),
    Family(b"litellm/", "litellm", True),
    Family(b"langchain", "langchain", True),
    Family(b"pydantic-ai/", "pydantic-ai", True),
    Family(b"ai-sdk", "ai-sdk", True),
    Family(b"anthropic/", "anthropic-sdk", True),
    Family(b"asyncanthropic/", "anthropic-sdk", True),
    Family(b"openai/", "openai-sdk", True),
    Family(b"asyncopenai/", "openai-sdk", True),
    Family(b"cline/", "cline", True),
    Family(b"roo-code/", "roo-code", True),
    Family(b"kilo-code/", "kilo-code", True),
    Family(b"zed/", "zed", True),
    Family(b"continue/", "continue", True),
    Family(b"aider", "aider", True),
    Family(b"cursor/", "cursor", True),
    Family(b"curl/", "curl", False),
    Family(b"wget/", "wget", False),
    Family(b"python-requests/", "python-requests", False),
    Family(b"python-httpx", "python-httpx", False),
    Family(b"aiohttp/", "aiohttp", False),
    Family(b"go-http-client/", "go", False),
    Family(b"node", "node", False),
    Family(b"mozilla/", "browser", False),
)
"""The first mark found wins. One line per client; ``native`` says that it parses its dialect's own error object."""

UNKNOWN = Family(b"", "other", False)


def family_of(user_agent: bytes) -> Family:
    """The family of a user agent, ``UNKNOWN`` where no mark fits."""
    lowered = user_agent.lower()
    for family in FAMILIES:
        if family.mark in lowered:
            return family
    return UNKNOWN


_SEEN_MOST = 4096
_LONGEST_KEPT = 256


class Families:
    """Looks up user agents and remembers them, since they are few."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[bytes, Family] = {}

    def of(self, user_agent: bytes | None) -> Family:
        """The family of a user agent."""
        if user_agent is None:
            return UNKNOWN
        family = self._seen.get(user_agent)
        if family is None:
            if len(user_agent) > _LONGEST_KEPT:
                return family_of(user_agent)
            if len(self._seen) >= _SEEN_MOST:
                self._seen.clear()
            family = self._seen[user_agent] = family_of(user_agent)
        return family

    def parse_native(self, headers: HeaderList) -> bool:
        """Whether the caller that sent ``headers`` (lower-case names) parses a native error object."""
        agent: bytes | None = None
        stainless = False
        for name, value in headers:
            if name == b"x-error-format":
                word = value.strip().lower()
                if word in (b"native", b"simple"):
                    return word == b"native"
            elif name == b"user-agent":
                agent = value
            elif name.startswith(b"x-stainless-"):
                stainless = True
        return stainless or self.of(agent).native
