"""Client families: which program calls, for the ledger, and whether it parses a native error object.

Plain HTTP callers get the documented error body with a string; SDKs lose the text of a string error, so callers that are
recognisably SDKs get the native object. ``X-Error-Format: native`` or ``simple`` decides over everything else.
"""

import msgspec

from penstock.core.catalog import ModelKind
from penstock.core.memo import Memo
from penstock.exchange import HeaderList


class ClientFamily(msgspec.Struct, frozen=True):
    """One kind of client: ``mark`` is looked for in the lower-cased user agent. ``chats``: it offers all that is listed
    as models to chat with. ``deviates``: it is known to send other shapes than a route's format has."""

    mark: bytes
    name: str
    native: bool
    chats: bool = False
    deviates: bool = False


CLIENT_FAMILIES = (
    ClientFamily(b"claude-cli/", "claude-code", True, chats=True),
    ClientFamily(b"claude-code/", "claude-code", True, chats=True),
    ClientFamily(b"codex", "codex", True, chats=True),
    ClientFamily(b"opencode/", "opencode", True),
    ClientFamily(b"litellm/", "litellm", True),
    ClientFamily(b"langchain", "langchain", True),
    ClientFamily(b"pydantic-ai/", "pydantic-ai", True),
    ClientFamily(b"ai-sdk", "ai-sdk", True),
    ClientFamily(b"anthropic/", "anthropic-sdk", True),
    ClientFamily(b"asyncanthropic/", "anthropic-sdk", True),
    ClientFamily(b"openai/", "openai-sdk", True),
    ClientFamily(b"asyncopenai/", "openai-sdk", True),
    ClientFamily(b"cline/", "cline", True),
    ClientFamily(b"roo-code/", "roo-code", True),
    ClientFamily(b"kilo-code/", "kilo-code", True),
    ClientFamily(b"zed/", "zed", True),
    ClientFamily(b"continue/", "continue", True),
    ClientFamily(b"aider", "aider", True),
    ClientFamily(b"cursor/", "cursor", True, deviates=True),
    ClientFamily(b"curl/", "curl", False),
    ClientFamily(b"wget/", "wget", False),
    ClientFamily(b"python-requests/", "python-requests", False),
    ClientFamily(b"python-httpx", "python-httpx", False),
    ClientFamily(b"aiohttp/", "aiohttp", False),
    ClientFamily(b"go-http-client/", "go", False),
    ClientFamily(b"node", "node", False),
    ClientFamily(b"mozilla/", "browser", False),
)
"""The first mark found wins. One line per client; ``native`` says that it parses its dialect's own error object."""

DEVIATING = frozenset(family.name for family in CLIENT_FAMILIES if family.deviates)
"""Names of the families whose bodies are looked at for what ``core/dialects/openai/deviations.py`` has in its table."""
UNKNOWN = ClientFamily(b"", "other", False)


def client_family(user_agent: bytes) -> ClientFamily:
    """The family of a user agent, ``UNKNOWN`` where no mark fits."""
    lowered = user_agent.lower()
    for family in CLIENT_FAMILIES:
        if family.mark in lowered:
            return family
    return UNKNOWN


_MAX_SEEN = 4096
_LONGEST_KEPT = 256


class ClientFamilies:
    """Looks up user agents and remembers them, since they are few."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: Memo[bytes, ClientFamily] = Memo(_MAX_SEEN)

    def of(self, user_agent: bytes | None) -> ClientFamily:
        """The family of a user agent."""
        if user_agent is None:
            return UNKNOWN
        family = self._seen.get(user_agent)
        if family is None:
            if len(user_agent) > _LONGEST_KEPT:
                return client_family(user_agent)
            family = self._seen.keep(user_agent, client_family(user_agent))
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

    def listed_kind(self, headers: HeaderList) -> ModelKind | None:
        """The one kind of model that the caller knows what to do with; None: every kind.

        Anthropic's API, which its callers' ``anthropic-version`` names, has models to chat with alone.
        """
        for name, value in headers:
            if name == b"anthropic-version" or (name == b"user-agent" and self.of(value).chats):
                return "chat"
        return None
