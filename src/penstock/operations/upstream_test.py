"""Tests of upstreams: one small real request with each credential and model, as a caller's would be sent."""

import time
from collections.abc import Callable, Mapping

import msgspec

from penstock.core.catalog import Credential, ModelKind, Target, Upstream
from penstock.core.dialects.context_overflow import overflow_in
from penstock.core.dialects.interface import NO_VERSION
from penstock.core.dialects.upstream_error_text import codes_of
from penstock.core.endpoints import FORMATS, formats_of
from penstock.core.failure_classes.signs import class_of_refusal
from penstock.core.routing.switches import Reach
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.errors import ProviderCredentials
from penstock.operations.logs import hide
from penstock.operations.provider_access import place_of, signing_secret
from penstock.providers.auth import ToSign, sign
from penstock.providers.secrets import Secrets
from penstock.providers.table import extra_headers
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure

_WAIT = Deadlines(connect=5.0, first_byte=30.0, idle=30.0, total=60.0)
_MOST = 64 * 1024
_SAYING = [{"role": "user", "content": "Say OK."}]
_BODIES: Mapping[str, Callable[[str], object]] = {
    "chat": lambda model: {"model": model, "messages": _SAYING, "max_tokens": 16},
    "messages": lambda model: {"model": model, "messages": _SAYING, "max_tokens": 16},
    "responses": lambda model: {"model": model, "input": "Say OK.", "max_output_tokens": 16},
    "embeddings": lambda model: {"model": model, "input": "OK"},
}


class Tested(msgspec.Struct, frozen=True):
    """What came of one. ``failure`` is its class, '' where it ``answers``; ``message`` is the provider's own text."""

    upstream: str
    answers: bool
    failure: str
    status: int | None
    ms: int
    message: str


async def tried(
    document: CatalogDocument, reach: Reach, secrets: Secrets, now: Callable[[], float]
) -> list[Tested]:
    """Try all that are meant, one after the other. ``now`` gives epoch seconds."""
    rows = {row.id: row for row in document.providers}
    client = UpstreamClient()
    done: dict[str, Tested] = {}
    try:
        for model in document.models:
            for target in model.targets:
                row = rows.get(target.provider)
                if row is None or not row.speaks:
                    continue
                for credential in row.credentials or (None,):
                    id = "" if credential is None else credential.id
                    name = str(Reach(row.id, id, target.model))
                    if name not in done and reach.means((row.id, target.model, id)):
                        done[name] = await _ask(
                            client, name, row, credential, target, model.kind, secrets, now
                        )
    finally:
        await client.close()
    return list(done.values())


async def _ask(
    client: UpstreamClient,
    name: str,
    row: Upstream,
    credential: Credential | None,
    target: Target,
    kind: ModelKind,
    secrets: Secrets,
    now: Callable[[], float],
) -> Tested:
    reference = row.secret if credential is None else credential.secret
    problem = secrets.problem(reference)
    if problem is not None:
        return Tested(name, False, "auth", None, 0, problem)
    spoken = [
        each for each in row.speaks if each[0] in formats_of(kind) and each[0] in (target.via or FORMATS)
    ]
    if not spoken:
        return Tested(name, False, "missing", None, 0, f"it speaks nothing that {kind} models are called in")
    dialect, url = spoken[0]
    upstream = FORMATS[dialect]
    try:
        origin, base = place_of(row, url, secrets)
        signing = await signing_secret(client, row, secrets.get(reference), secrets)
    except ProviderCredentials as error:
        return Tested(name, False, "auth", None, 0, error.message)
    suffix = upstream.path(target.model, False)
    body = msgspec.json.encode(_BODIES[dialect](target.model))
    version = upstream.version_headers
    versions = () if version is None else version(NO_VERSION, row.profile_of(target.model))
    about = (*extra_headers(row.kind), *versions, (b"content-type", b"application/json"))
    request = ToSign(b"POST", url.rstrip("/").encode() + suffix, about, body, now())
    began = time.monotonic()
    try:
        response = await client.send(origin, b"POST", base + suffix, sign(row, signing, request), body, _WAIT)
        try:
            said = await response.read(_MOST)
        finally:
            response.close()
    except UpstreamFailure as failure:
        return Tested(name, False, "unreachable", None, _since(began), str(failure))
    if 200 <= response.status < 300:
        return Tested(name, True, "", response.status, _since(began), "")
    said = secrets.redacted(said)  # a provider may repeat the key that it refuses
    text = upstream.error_text(response.status, said) or ""
    too_long = overflow_in(text, said) is not None
    found = class_of_refusal(response.status, codes_of(said), text, body, too_long=too_long)
    return Tested(name, False, found.value, response.status, _since(began), hide(text)[:500])


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
