"""The head of a good answer: written once for all requests of a standing record, round what differs from one to the next.

That is the request's id, how many requests the caller has left of the day, and the seconds until its end.
"""

import re
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote

import msgspec

from penstock.core.catalog import Model
from penstock.core.endpoints import Endpoint
from penstock.core.limits import limit_headers_of
from penstock.domain.catalog.catalog import Catalog
from penstock.exchange import NOSNIFF, HeaderList
from penstock.operations.model_endings import end_of
from penstock.operations.model_proposals import NOTICE_DAYS

_EVENT_STREAM = b"text/event-stream; charset=utf-8"
_JSON = b"application/json"
_FILE = b"application/octet-stream"
_HARMLESS = re.compile(
    rb"(?:audio/[a-z0-9.+-]+|text/(?:plain|event-stream|vtt)|application/(?:json|octet-stream|x-subrip|x-ndjson|ogg)"
    rb"|image/(?:png|jpeg|webp))(?:\s*;\s*[a-z0-9_-]+=\"?[a-z0-9._-]+\"?){0,4}",
    re.IGNORECASE,
)
_STATUS = b"HTTP/1.1 200 OK"
# no header can hold them
_ID, _LEFT, _SECONDS = b"\0i\0", b"\0l\0", b"\0s\0"


_IN_PATHS = "/:@+"
"""What an id may have in it that stands in a path as it is."""

Route = tuple[str, int]
"""Why the last attempt was made where it was, and how many were made."""
NO_ROUTE: Route = ("", 0)


def answer_headers(  # noqa: PLR0913 - what a head says
    endpoint: Endpoint,
    *,
    stream: bool,
    model: bytes | None,
    simulated: bool,
    losses: bytes | None,
    request_id: bytes,
    limit: int,
    reset: int,
    left: bytes,
    seconds: bytes,
    route: Route = NO_ROUTE,
    provider: bytes | None = None,
    content_type: bytes | None = None,
    timing: bytes | None = None,
    ending: HeaderList | None = None,
) -> HeaderList:
    """The headers of a good answer.

    ``model`` is told where the caller has called it otherwise, ``losses`` what could not be carried, each where there is
    one, ``provider`` who answers, and ``timing`` how long each attempt took.
    ``limit``, ``left`` and ``reset`` (Unix seconds) are the day's, ``seconds``
    those until its end. ``content_type`` is what the upstream says of its answer, in a format where that is not known
    beforehand. ``ending`` is what ``ending_headers`` gives for the model that was asked for.
    """
    caller = endpoint.caller
    head: HeaderList = [
        (b"content-type", media_type(content_type, stream=stream)),
        NOSNIFF,
        (b"x-request-id", request_id),
    ]
    if caller.response_headers is not None:
        head.extend(caller.response_headers(request_id))
    if stream:
        head.append((b"cache-control", b"no-cache"))
        head.append((b"x-accel-buffering", b"no"))
    else:
        head.append((b"cache-control", b"no-store"))
    if model is not None:
        head.append((b"x-penstock-model", model))
    if simulated:
        head.append((b"x-penstock-upstream", b"simulator"))
    reason, attempts = route
    if reason:
        head.append((b"x-penstock-attempts", b"%d" % attempts))
        head.append((b"x-penstock-route", reason.encode()))
    if provider is not None:
        head.append((b"x-penstock-provider", provider))
    if ending:
        head.extend(ending)
    if timing is not None:
        head.append((b"server-timing", timing))
    if losses is not None:
        head.append((b"x-penstock-translation", losses))
    head.extend(limit_headers_of(limit, reset, left, seconds))
    if caller.limit_headers is not None:
        head.extend(caller.limit_headers(limit, reset, left))
    return head


class ModelEnd(msgspec.Struct, frozen=True):
    """When a model ends (``YYYY-MM-DD``, '': on no day that is known), what follows, and what our paths begin with."""

    day: str = ""
    successor: str = ""
    base_path: str = ""


NO_END = ModelEnd()


def model_end(catalog: Catalog, model: Model, base_path: bytes) -> ModelEnd:
    """When a model of the catalogue ends."""
    return ModelEnd(end_of(catalog, model), model.successor, base_path.decode())


def ending_headers(end: ModelEnd, now: float) -> HeaderList:
    """What answers of a model say of its end: nothing until the notice begins (RFC 9745, RFC 8594, RFC 5829)."""
    if not end.day:
        return []
    ends = datetime.combine(date.fromisoformat(end.day), datetime.min.time(), UTC)
    noticed = int((ends - timedelta(days=NOTICE_DAYS)).timestamp())
    if now < noticed:
        return []
    head: HeaderList = [
        (b"deprecation", b"@%d" % noticed),
        (b"sunset", format_datetime(ends, usegmt=True).encode()),
    ]
    if end.successor:
        path = f"{end.base_path}/api/v1/models/{quote(end.successor, safe=_IN_PATHS)}"
        head.append((b"link", f'<{path}>; rel="successor-version"'.encode()))
        head.append((b"x-penstock-successor", end.successor.encode()))
    return head


def media_type(given: bytes | None, *, stream: bool) -> bytes:
    """The type of an answer: the upstream's, where that is one that no browser takes for a page, else a file of no type."""
    if given is None:
        return _EVENT_STREAM if stream else _JSON
    return given if _HARMLESS.fullmatch(given) is not None else _FILE


class AnswerHead:
    """The head of good answers without losses, but for what differs; good for one day."""

    __slots__ = ("_template", "reset")

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        stream: bool,
        model: bytes | None,
        simulated: bool,
        limit: int,
        reset: int,
        route: Route = NO_ROUTE,
        provider: bytes | None = None,
        ending: HeaderList | None = None,
    ) -> None:
        """As for ``answer_headers``."""
        self.reset = reset
        headers = answer_headers(
            endpoint,
            stream=stream,
            model=model,
            simulated=simulated,
            losses=None,
            request_id=_ID,
            limit=limit,
            reset=reset,
            left=_LEFT,
            seconds=_SECONDS,
            route=route,
            provider=provider,
            ending=ending,
        )
        lines = b"\r\n".join([_STATUS, *map(b": ".join, headers), b""])
        # each CR and each LF that a value brings in makes a line of its own
        if len(lines.splitlines()) != len(headers) + 1:
            raise ValueError("a response header holds a line break")
        lines = lines.replace(b"%", b"%%")
        for mark, form in ((_ID, b"%(id)b"), (_LEFT, b"%(left)d"), (_SECONDS, b"%(seconds)d")):
            lines = lines.replace(mark, form)
        self._template = lines

    def fill(self, request_id: bytes, left: int, seconds: int) -> bytes:
        """The head of one answer: the status line and the headers, each with its end."""
        return self._template % {b"id": request_id, b"left": left, b"seconds": seconds}
