"""Routes of the data plane: one for each row of ``core/endpoints.py``, and the few that are no endpoint."""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote

import msgspec

from penstock.core.endpoints import ENDPOINTS, Endpoint

PREFIXES = ("/api/v1", "/v1", "/api/v1/v1", "/v1/v1")
"""The same routes under each: Anthropic's SDKs and Claude Code append ``/v1/...`` to whatever base they are given."""


Action = Literal["generate", "count_tokens", "models", "usage", "check_connection", "hello"]
"""What a route does. A word, because looking a member of an ``Enum`` up costs a request more than its whole routing."""


class Route(msgspec.Struct, frozen=True):
    """One route. ``endpoint`` is whose request it takes, and in whose form it answers; None for none."""

    path: str
    action: Action
    methods: tuple[str, ...]
    endpoint: Endpoint | None = None


_HELLO = Route("/api/hello", "hello", ("GET", "HEAD"))
_MODELS = Route("/models", "models", ("GET", "HEAD"))

ROUTES: tuple[Route, ...] = (
    *(Route(row.path, "generate", ("POST",), row) for row in ENDPOINTS),
    *(
        Route(row.counting_path, "count_tokens", ("POST",), row)
        for row in ENDPOINTS
        if row.counting_path is not None
    ),
    _MODELS,
    Route("/usage", "usage", ("GET",)),
    Route("/doctor", "check_connection", ("GET",)),
    _HELLO,
    Route("", "hello", ("GET", "HEAD")),
    Route("/", "hello", ("GET", "HEAD")),
)
"""Each under every prefix; ``/models/{id}`` is the one with a parameter and follows ``/models``."""

_TABLE: Mapping[str, tuple[Route, None]] = {
    prefix + route.path: (route, None) for prefix in PREFIXES for route in ROUTES
} | {_HELLO.path: (_HELLO, None)}
_MODEL_PATHS = tuple(sorted((prefix + "/models/" for prefix in PREFIXES), key=len, reverse=True))


def owns(path: str) -> bool:
    """Whether a path belongs to the data plane: everything under ``/v1`` and ``/api``, known or not."""
    return path.startswith(("/api/", "/v1/")) or path in ("/v1", "/api")


def find_route(path: str) -> tuple[Route | None, str | None]:
    """The route of a path, and the id in ``.../models/{id}``; model ids may hold a slash."""
    found = _TABLE.get(path)
    if found is not None:
        return found
    for prefix in _MODEL_PATHS:
        if path.startswith(prefix) and len(path) > len(prefix):
            return _MODELS, unquote(path[len(prefix) :])
    return None, None


def endpoint_like(path: str) -> Endpoint | None:
    """Whose form an answer has on a path that is no route: that of the endpoint whose path is in it."""
    return next((row for row in ENDPOINTS if row.path in path), None)
