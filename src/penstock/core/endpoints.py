"""Endpoints that models are called by, one row each: the path, how a body is read, what it can be passed on to.

An endpoint of a dialect is translated where an upstream speaks another dialect. One without a dialect is passed through
only: its upstreams speak the same format, by the endpoint's own name in ``speaks``. ``api/routes`` makes the routes from
this table, and the relay takes a row with each call.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.catalog import ModelKind
from penstock.core.dialects.interface import CallerFormat, CallerSide, Dialect, UpstreamFormat, UpstreamSide
from penstock.core.dialects.registry import DIALECTS
from penstock.core.dialects.responses.dialect import COMPACTING
from penstock.core.formats import completions, embeddings, images, moderations, rerank, speech, transcriptions


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row. ``name`` is the format's word in the catalogue (``speaks``), in the ledger and in metrics.

    ``path`` is appended to our base URL. ``caller`` is what its callers speak, ``upstreams`` what can be sent to the
    providers that speak a format, by its name. ``side`` is the dialect's side towards callers, None where the endpoint is
    passed through only. ``kind`` is which models it calls. ``beside``: it is one more of a format that has a row already.
    ``typed``: answers are of the type that the provider says. ``repeats``: a request may be sent to the same place again
    after a failure; else only to another one, since the first may have been paid for.
    """

    name: str
    path: str
    caller: CallerFormat
    upstreams: Mapping[str, UpstreamFormat]
    side: CallerSide | None = None
    kind: ModelKind = "chat"
    beside: bool = False
    typed: bool = False
    repeats: bool = True

    @property
    def counting_path(self) -> str | None:
        """Where callers have the tokens of a request counted, in the dialects that have that."""
        upstream = self.upstreams.get(self.name)
        if not isinstance(upstream, UpstreamSide) or upstream.counter is None:
            return None
        return self.path + upstream.counter.path.decode()


SIDES: Mapping[str, UpstreamFormat] = {
    name: dialect.upstream for name, dialect in DIALECTS.items() if dialect.upstream is not None
}
"""What every endpoint of a dialect can be passed on to: all dialects that upstreams speak."""


def endpoint_of(dialect: Dialect, path: str) -> Endpoint:
    """The endpoint of a dialect that callers speak."""
    if dialect.caller is None:
        raise TypeError(f"{dialect.name} has no side towards callers")
    return Endpoint(dialect.name, path, dialect.caller, SIDES, dialect.caller)


def passed(
    path: str,
    name: str,
    caller: CallerFormat,
    upstream: UpstreamFormat,
    kind: ModelKind,
    *,
    beside: bool = False,
    repeats: bool = False,
) -> Endpoint:
    """The endpoint of a format without a dialect, whose answers are of whatever type the provider says."""
    return Endpoint(
        name, path, caller, {name: upstream}, kind=kind, beside=beside, typed=True, repeats=repeats
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    endpoint_of(DIALECTS["chat"], "/chat/completions"),
    endpoint_of(DIALECTS["messages"], "/messages"),
    endpoint_of(DIALECTS["responses"], "/responses"),
    Endpoint(
        "responses",
        "/responses/compact",
        COMPACTING,
        SIDES,
        COMPACTING,
        beside=True,
    ),
    Endpoint(
        embeddings.NAME,
        "/embeddings",
        embeddings.CALLER,
        {embeddings.NAME: embeddings.UPSTREAM},
        kind="embedding",
    ),
    passed("/completions", completions.NAME, completions.CALLER, completions.UPSTREAM, "completion"),
    passed("/images/generations", images.NAME, images.CALLER, images.UPSTREAM, "image"),
    passed("/images/edits", images.NAME, images.EDITS_CALLER, images.EDITS, "image", beside=True),
    passed(
        "/audio/transcriptions",
        transcriptions.NAME,
        transcriptions.CALLER,
        transcriptions.UPSTREAM,
        "transcription",
    ),
    passed(
        "/audio/translations",
        transcriptions.NAME,
        transcriptions.CALLER,
        transcriptions.TO_ENGLISH,
        "transcription",
        beside=True,
    ),
    passed("/audio/speech", speech.NAME, speech.CALLER, speech.UPSTREAM, "speech"),
    passed("/rerank", rerank.NAME, rerank.CALLER, rerank.UPSTREAM, "rerank", repeats=True),
    passed(
        "/moderations",
        moderations.NAME,
        moderations.CALLER,
        moderations.UPSTREAM,
        "moderation",
        repeats=True,
    ),
)

FORMATS: Mapping[str, UpstreamFormat] = {
    name: upstream for row in ENDPOINTS if not row.beside for name, upstream in row.upstreams.items()
}
"""What each word of ``speaks`` means, to us who call a provider."""


def formats_of(kind: ModelKind) -> Mapping[str, UpstreamFormat]:
    """What models of a kind can be called in, by its word of ``speaks``."""
    return {
        name: upstream
        for row in ENDPOINTS
        if row.kind == kind and not row.beside
        for name, upstream in row.upstreams.items()
    }


def paths_of(kind: ModelKind) -> tuple[str, ...]:
    """Where models of a kind are called."""
    return tuple(row.path for row in ENDPOINTS if row.kind == kind and not row.beside)
